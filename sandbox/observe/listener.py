# SPDX-License-Identifier: Apache-2.0
"""The listener: system calls that the filter asks about instead of answering itself.

The child attaches the filter as its last deed but one, sends the listener over the control socket, and executes init; all
of it under the filter, so that these calls must be allowed (`listening.py` makes sure).  The supervisor receives each call,
looks at it, and answers it.  A refused call is refused, whatever was read from the target's memory: CONTINUE is for numbers
alone that were named when the listener was made, and none of them may be one that the policy refuses.
"""
import os

from ...syscalls import seccomp, seccomp_notify

#: The words that come with the listener over the control socket.
KILLABLE, PLAIN, REFUSED = b"Lkillable", b"Lplain", b"Lerrno="
EINVAL, EBUSY = 22, 16


class Handover:
    """The child's side.  program: bytes of the filter that asks."""

    def __init__(self, program):
        self.filter, self.parcel = seccomp.prepare(program), None

    def prepare(self, fd):
        """Makes every buffer; fd: the control socket's descriptor."""
        self.parcel = seccomp_notify.Parcel(fd, (KILLABLE, PLAIN))

    def attach(self, sock):
        """Attaches the filter and sends its listener.  Returns False where this process can't have one: nothing is attached
        then, and the supervisor has been told the errno.  Raises OSError where it can't be sent."""
        try:
            listener, killable = seccomp_notify.attach_with_listener(self.filter)
        except OSError as error:
            sock.send(REFUSED + b"%d" % (error.errno or 0))
            return False
        self.parcel.send(KILLABLE if killable else PLAIN, listener)
        return True  # the listener itself is close-on-exec


class Listener:
    """The supervisor's side.

    fd: the listener; killable: whether a waiting target is undisturbed by signals; continued: the numbers that `go_on` may
    let through, and which nothing refuses.
    """

    def __init__(self, fd, killable, continued=()):
        self.fd, self.killable, self.continued = fd, killable, frozenset(continued)
        self.synchronous = seccomp_notify.wake_on_one_processor(fd)
        self._request, self._response = bytearray(seccomp_notify.REQUEST), bytearray(seccomp_notify.RESPONSE)

    def is_one(self):
        """Whether the descriptor is a listener, by what /proc says of it."""
        try:
            return os.readlink("/proc/self/fd/%d" % self.fd) == seccomp_notify.LINK
        except OSError:
            return False

    def receive(self):
        """(id, thread's pid, number, AUDIT_ARCH word, six arguments), or None where the call is gone again.

        Only after POLLIN, and once for each; never after POLLHUP, which says that nobody is left under the filter.
        """
        return seccomp_notify.receive(self.fd, self._request)

    def valid(self, ident):
        """Whether the call still waits.  What was read of the target's memory counts only if it does afterwards."""
        return seccomp_notify.is_valid(self.fd, ident)

    def refuse(self, ident, number):
        """Answers with an errno.  Returns whether it arrived: no, where the target died or a signal came first."""
        if not 0 < number < 4096:
            raise ValueError("no errno: %d" % number)
        return seccomp_notify.answer(self.fd, self._response, ident, number)

    def go_on(self, ident, number):
        """Lets the kernel carry out a call that nothing refuses.  number: the system call's.  Returns as `refuse`."""
        if number not in self.continued:
            raise ValueError("system call %d may not be continued" % number)
        return seccomp_notify.answer(self.fd, self._response, ident, 0, seccomp_notify.CONTINUE)


def unavailable(number):
    """A phrase for the errno with which the kernel refused a listener."""
    if number == EINVAL:
        return "this kernel does not have it: Linux 5.0"
    if number == EBUSY:
        return "an outer filter (another sandbox?) has the only listener already"
    return "%s: an outer filter (a container?) forbids it" % os.strerror(number)
