# SPDX-License-Identifier: Apache-2.0
"""Writing to a descriptor of the caller's without ever being held by it: a terminal that nobody reads, or that the program
has stopped, must not outlast a deadline."""
import fcntl
import os


class Writer:
    """fd: a non-blocking descriptor of the same terminal or pipe, or the descriptor itself where it can't block.

    A description of our own where the file can be opened again, since the flag on the caller's changes it for everybody who
    shares it; where it can't (a terminal of another user, after su), that flag until `close`.
    """

    __slots__ = ("fd", "given", "flags")

    def __init__(self, fd):
        self.fd = self.given = fd
        self.flags = None
        if not os.isatty(fd) and os.fstat(fd).st_mode & 0o170000 != 0o010000:
            return
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        try:
            self.fd = os.open("/proc/self/fd/%d" % fd, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            if not flags & os.O_NONBLOCK:
                self.flags = flags
                fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_NONBLOCK)

    def close(self):
        """Gives the caller's descriptor its flag back."""
        if self.fd != self.given:
            os.close(self.fd)
        elif self.flags is not None:
            fcntl.fcntl(self.given, fcntl.F_SETFL, self.flags)
