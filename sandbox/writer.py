# SPDX-License-Identifier: Apache-2.0
"""Writing to a descriptor of the caller's without ever being held by it: a terminal that nobody reads, or that the program
has stopped, must not outlast a deadline."""
import fcntl
import os

MSG_DONTWAIT, MSG_NOSIGNAL = 0x40, 0x4000


class Writer:
    """fd: a non-blocking descriptor of the same terminal or pipe, or the descriptor itself where it can't block.

    A description of our own where the file can be opened again, since the flag on the caller's changes it for everybody who
    shares it; where it can't (a terminal of another user, after su), that flag until `give_back`.
    A socket is asked not to block for each write of its own.
    """

    __slots__ = ("fd", "given", "flags", "socket")

    def __init__(self, fd):
        self.fd = self.given = fd
        self.flags = self.socket = None
        kind = os.fstat(fd).st_mode & 0o170000
        if kind == 0o140000:
            from ..syscalls.libc import sockets  # rare, and help needs no system call
            self.socket = sockets.socket(fileno=os.dup(fd))
        if kind != 0o010000 and not os.isatty(fd):
            return
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        try:
            self.fd = os.open("/proc/self/fd/%d" % fd, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            if not flags & os.O_NONBLOCK:
                self.flags = flags
                self.take()

    def write(self, data):
        """Hands over what goes; returns how many bytes that were.  Raises OSError: BlockingIOError where nothing goes."""
        if self.socket is not None:
            return self.socket.send(data, MSG_DONTWAIT | MSG_NOSIGNAL)
        return os.write(self.fd, data)

    def take(self):
        """Sets the flag where it is needed: a shell may have cleared it meanwhile."""
        if self.flags is not None:
            fcntl.fcntl(self.given, fcntl.F_SETFL, self.flags | os.O_NONBLOCK)

    def give_back(self):
        """Gives the caller's descriptor its flag back."""
        if self.flags is not None:
            fcntl.fcntl(self.given, fcntl.F_SETFL, self.flags)

    def close(self):
        """Gives everything back."""
        if self.socket is not None:
            self.socket.close()
        if self.fd != self.given:
            os.close(self.fd)
        self.give_back()
