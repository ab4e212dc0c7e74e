# SPDX-License-Identifier: Apache-2.0
"""The listener of a seccomp filter: attaching one, handing it on, and its ioctls.  seccomp_unotify(2)"""
import fcntl
import struct

from .libc import addressof, bind, buffer, c_int, c_pointer
from .seccomp import FLAG_NEW_LISTENER, attach

EINVAL, ENOENT, EINTR = 22, 2, 4
#: A target that waits for its answer can be killed, and is not disturbed by other signals.  Linux 5.19
FLAG_WAIT_KILLABLE_RECV = 32
MSG_NOSIGNAL = 0x4000
SOL_SOCKET, SCM_RIGHTS = 1, 1
#: linux/seccomp.h.  ID_VALID has the direction bits that it had before Linux 5.8: every kernel still takes them.
_RECV, _SEND, _ID_VALID, _SET_FLAGS = 0xc0502100, 0xc0182101, 0x80082102, 0x40082104
_SYNC_WAKE_UP = 1
CONTINUE = 1

#: What /proc/PID/fd says of a listener.
LINK = "anon_inode:seccomp notify"

_sendmsg = bind("sendmsg", c_int, c_pointer, c_int)
#: id, pid, flags, nr, arch, instruction pointer, six arguments
_NOTIFICATION, _ANSWER, _IDENT = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI"), struct.Struct("=Q")
_ZERO = bytes(_NOTIFICATION.size)


def attach_with_listener(prepared):
    """Attaches a prepared filter (seccomp.prepare): (listener, whether a waiting target can only be killed).  The listener is
    close-on-exec.

    EINVAL: Linux before 5.0; EBUSY: another filter has a listener already; EPERM: an outer filter forbids it.
    """
    try:
        return attach(prepared, FLAG_NEW_LISTENER | FLAG_WAIT_KILLABLE_RECV), True
    except OSError as error:
        if error.errno != EINVAL:
            raise
    return attach(prepared, FLAG_NEW_LISTENER), False


class Parcel:
    """One message that carries a descriptor, made before a filter is in force: sending it is sendmsg(2) and nothing else.

    fd: a socket's descriptor; words: the texts (bytes) one of which goes with it.
    """

    def __init__(self, fd, words):
        self.fd, self.messages = fd, {}
        self.control = buffer(struct.pack("=Qiiixxxx", 20, SOL_SOCKET, SCM_RIGHTS, -1), 24)
        for word in words:
            data = buffer(word, len(word))
            vector = buffer(struct.pack("=QQ", addressof(data), len(word)), 16)
            header = buffer(struct.pack("=QIxxxxQQQQixxxx", 0, 0, addressof(vector), 1, addressof(self.control), 24, 0), 56)
            self.messages[word] = header, vector, data

    def send(self, word, carried):
        """Sends the text and the descriptor.  Raises OSError: ETOOMANYREFS, too many descriptors on their way."""
        struct.pack_into("=i", self.control.room, 16, carried)
        _sendmsg(self.fd, self.messages[word][0], MSG_NOSIGNAL)


def receive(fd, request):
    """One notification, into `request` (a bytearray of REQUEST bytes, zeroed here: the kernel refuses a dirty one).

    Returns (id, pid of the thread as seen from here, number, AUDIT_ARCH word, six arguments), or None where it is gone
    again.  Only after POLLIN: with nothing queued it blocks, on old kernels also when nobody is left.
    """
    request[:] = _ZERO
    try:
        fcntl.ioctl(fd, _RECV, request, True)
    except OSError as error:
        if error.errno in (ENOENT, EINTR):
            return None
        raise
    call = _NOTIFICATION.unpack_from(request)
    return call[0], call[1], call[3], call[4], call[6:]


def answer(fd, response, ident, number, flags=0):
    """Answers a notification with -number, or with CONTINUE in flags.  response: a bytearray of RESPONSE bytes.

    Returns False where nobody waits for it any more: the target died, or a signal interrupted the call.
    """
    _ANSWER.pack_into(response, 0, ident, 0, -number, flags)
    try:
        fcntl.ioctl(fd, _SEND, response, True)
    except OSError as error:
        if error.errno in (ENOENT, EINTR):
            return False
        raise
    return True


def is_valid(fd, ident):
    """Whether the target still waits: what was read from its memory before this was its own."""
    try:
        fcntl.ioctl(fd, _ID_VALID, _IDENT.pack(ident))
    except OSError as error:
        if error.errno != ENOENT:
            raise
        return False
    return True


def wake_on_one_processor(fd):
    """Has the kernel run both sides on one processor, which is much faster.  Returns whether it can: Linux 6.6"""
    try:
        fcntl.ioctl(fd, _SET_FLAGS, _SYNC_WAKE_UP)
    except OSError:
        return False
    return True


REQUEST, RESPONSE = _NOTIFICATION.size, _ANSWER.size
