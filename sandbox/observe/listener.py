# SPDX-License-Identifier: Apache-2.0
"""The listener: system calls that the filter asks about instead of answering itself.

As its last step but one the child attaches the filter, sends the listener over the control socket
and executes init.  These calls are under the filter, so they must be allowed (plan/listening.py).
The supervisor receives each call, looks at it, and answers it.  A refused call is refused, whatever
was read from memory.  CONTINUE is answered only for numbers that were named when the listener was
made, and the policy refuses none of them.  seccomp_unotify(2)
"""
import os

from ...syscalls import seccomp, seccomp_notify

#: The words that go with the listener over the control socket.
KILLABLE, PLAIN, REFUSED = b"Lkillable", b"Lplain", b"Lerrno="
EINVAL, EBUSY = 22, 16


class Handover:
    """The child's side.

    filter: as of seccomp.prepare; parcel: seccomp_notify.Parcel, after `prepare`.
    """

    def __init__(self, program):
        """program: bytes of the filter that asks."""
        self.filter, self.parcel = seccomp.prepare(program), None

    def prepare(self, fd):
        """Makes every buffer.  fd: of the control socket."""
        self.parcel = seccomp_notify.Parcel(fd, (KILLABLE, PLAIN))

    def attach(self, sock):
        """Attaches the filter and sends its listener.  Returns whether it did.

        If this process can't have a listener, nothing is attached, and the supervisor has the
        errno.  Raises OSError if the listener can't be sent.
        """
        try:
            listener, killable = seccomp_notify.attach_with_listener(self.filter)
        except OSError as error:
            sock.send(REFUSED + b"%d" % (error.errno or 0))
            return False
        self.parcel.send(KILLABLE if killable else PLAIN, listener)
        return True  # the listener itself is close-on-exec


class Listener:
    """The supervisor's side.

    fd: the listener's descriptor.
    killable: whether no signal but a fatal one interrupts a waiting call.
    continued: the numbers that `go_on` may let through; nothing refuses them.
    synchronous: whether caller and supervisor take turns on one processor.
    """

    def __init__(self, fd, killable, continued=()):
        self.fd, self.killable, self.continued = fd, killable, frozenset(continued)
        self.synchronous = seccomp_notify.wake_on_one_processor(fd)
        self._request = bytearray(seccomp_notify.REQUEST)
        self._response = bytearray(seccomp_notify.RESPONSE)

    def is_one(self):
        """Whether /proc says that the descriptor is a listener."""
        try:
            return os.readlink("/proc/self/fd/%d" % self.fd) == seccomp_notify.LINK
        except OSError:
            return False

    def receive(self):
        """Returns (id, thread's pid, number, AUDIT_ARCH, six arguments), or None if it is gone.

        Call it once for each POLLIN, and never after POLLHUP: no process is left then.
        """
        return seccomp_notify.receive(self.fd, self._request)

    def valid(self, ident):
        """Whether the call still waits.  Memory that was read counts only if it does afterwards."""
        return seccomp_notify.is_valid(self.fd, ident)

    def refuse(self, ident, number):
        """Answers with an errno.  Returns whether it arrived before a signal or the end."""
        if not 0 < number < 4096:
            raise ValueError("no errno: %d" % number)
        return seccomp_notify.answer(self.fd, self._response, ident, number)

    def go_on(self, ident, number):
        """Lets the kernel carry out a call.  number: the system call's.  Returns as `refuse`."""
        if number not in self.continued:
            raise ValueError("system call %d may not be continued" % number)
        return seccomp_notify.answer(self.fd, self._response, ident, 0, seccomp_notify.CONTINUE)


def unavailable(number):
    """Returns a phrase for the errno with which the kernel refused a listener."""
    if number == EINVAL:
        return "this kernel does not have it: Linux 5.0"
    if number == EBUSY:
        return "an outer filter (another sandbox?) has the only listener already"
    return "%s: an outer filter (a container?) forbids it" % os.strerror(number)
