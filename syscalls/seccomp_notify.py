# SPDX-License-Identifier: Apache-2.0
"""Attaches a seccomp listener, hands it on and serves its ioctls.  seccomp_unotify(2)"""
import fcntl
import struct

from .libc import addressof, bind, buffer, c_int, c_pointer
from .seccomp import FLAG_NEW_LISTENER, attach

EINVAL, ENOENT, EINTR = 22, 2, 4
#: A target that waits for its answer can be killed, and is not disturbed by other signals.  Linux
#: 5.19
FLAG_WAIT_KILLABLE_RECV = 32
MSG_NOSIGNAL = 0x4000
SOL_SOCKET, SCM_RIGHTS = 1, 1
#: linux/seccomp.h.  ID_VALID has the direction bits that it had before Linux 5.8: every kernel
#: still takes them.
_RECV, _SEND, _ID_VALID, _SET_FLAGS = 0xc0502100, 0xc0182101, 0x80082102, 0x40082104
_SYNC_WAKE_UP = 1
CONTINUE = 1

#: What /proc/PID/fd says of a listener.
LINK = "anon_inode:seccomp notify"

_sendmsg = bind("sendmsg", c_int, c_pointer, c_int)
#: id, pid, flags, nr, arch, instruction pointer, six arguments
_NOTIFICATION, _ANSWER = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
_IDENT = struct.Struct("=Q")
_ZERO = bytes(_NOTIFICATION.size)


def attach_with_listener(prepared):
    """Attaches a filter with a listener.

    prepared: of `seccomp.prepare`.

    Returns (descriptor of the listener, close-on-exec; whether only SIGKILL disturbs a waiting
    target). Raises OSError: EINVAL before Linux 5.0; EBUSY if another filter has a listener; EPERM
    if an outer filter forbids it.
    """
    try:
        return attach(prepared, FLAG_NEW_LISTENER | FLAG_WAIT_KILLABLE_RECV), True
    except OSError as error:
        if error.errno != EINVAL:
            raise
    return attach(prepared, FLAG_NEW_LISTENER), False


class Parcel:
    """A message with a descriptor, made before a filter is in force: sending is one sendmsg(2).

    fd: descriptor of a socket.
    words: the texts (bytes), one of which goes with it.
    """

    def __init__(self, fd, words):
        self.fd, self.messages = fd, {}
        self.control = buffer(struct.pack("=Qiiixxxx", 20, SOL_SOCKET, SCM_RIGHTS, -1), 24)
        for word in words:
            data = buffer(word, len(word))
            vector = buffer(struct.pack("=QQ", addressof(data), len(word)), 16)
            header = buffer(struct.pack("=QIxxxxQQQQixxxx", 0, 0, addressof(vector), 1,
                                        addressof(self.control), 24, 0), 56)
            self.messages[word] = header, vector, data

    def send(self, word, carried):
        """Sends a text and a descriptor.

        Raises OSError: ETOOMANYREFS if too many descriptors are in flight.
        """
        struct.pack_into("=i", self.control.room, 16, carried)
        _sendmsg(self.fd, self.messages[word][0], MSG_NOSIGNAL)


def receive(fd, request):
    """Reads one notification.

    fd: the listener.
    request: bytearray of REQUEST bytes. It is zeroed here, since the kernel refuses any other.

    Returns (id, pid of the thread as seen from here, number, AUDIT_ARCH word, six arguments), or
    None if it is gone again. Call it only after POLLIN: with nothing queued it blocks, on old
    kernels also if no target is left. Raises OSError.
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
    """Answers a notification.

    fd: the listener.
    response: bytearray of RESPONSE bytes.
    ident: id of the notification.
    number: errno that the call returns, or 0.
    flags: CONTINUE lets the kernel make the call.

    Returns False if the target died, or if a signal interrupted the call. Raises OSError.
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
    """Returns whether the target still waits, so what was read of its memory is its own.

    fd: the listener.
    ident: id of the notification.
    """
    try:
        fcntl.ioctl(fd, _ID_VALID, _IDENT.pack(ident))
    except OSError as error:
        if error.errno != ENOENT:
            raise
        return False
    return True


def wake_on_one_processor(fd):
    """Makes the kernel run both sides on one processor, which is much faster.

    Returns whether it can: Linux 6.6.
    """
    try:
        fcntl.ioctl(fd, _SET_FLAGS, _SYNC_WAKE_UP)
    except OSError:
        return False
    return True


REQUEST, RESPONSE = _NOTIFICATION.size, _ANSWER.size
