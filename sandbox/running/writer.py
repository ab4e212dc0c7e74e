# SPDX-License-Identifier: Apache-2.0
"""Writes to a descriptor of the caller and never blocks on it.

A terminal that nobody reads, or that the program has stopped, must not outlast a deadline.
"""
import fcntl
import os

FIFO = 0o010000
MSG_DONTWAIT, MSG_NOSIGNAL = 0x40, 0x4000


class Writer:
    """Writes to one descriptor without blocking.

    fd: a non-blocking descriptor of the same terminal or pipe, or the given one if that can't
        block.

    If possible the file is opened again: O_NONBLOCK on the caller's open file description would
    change it for every process that shares it. If it can't be opened (another user's terminal,
    after su), the flag is set on the caller's until `give_back`. Another user's pipe gets its bytes
    by splice(2) from a private pipe, without the flag. A socket gets the flag with each write.
    """

    __slots__ = ("fd", "given", "flags", "socket", "pipe")

    def __init__(self, fd):
        self.fd = self.given = fd
        self.flags = self.socket = self.pipe = None
        kind = os.fstat(fd).st_mode & 0o170000
        if kind == 0o140000:
            self.socket = _calls().sockets.socket(fileno=os.dup(fd))
        if kind != FIFO and not os.isatty(fd):
            return
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        try:
            self.fd = os.open("/proc/self/fd/%d" % fd,
                              os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            self.pipe = _pipe_to(fd) if kind == FIFO else None
            if self.pipe is None and not flags & os.O_NONBLOCK:
                self.flags = flags
                self.take()

    def write(self, data):
        """Writes what fits and returns how many bytes that were.

        Raises OSError: BlockingIOError if nothing fits.
        """
        if self.socket is not None:
            return self.socket.send(data, MSG_DONTWAIT | MSG_NOSIGNAL)
        return os.write(self.fd, data) if self.pipe is None else self._through(data)

    def _through(self, data):
        splice = _calls().splice
        read, write = self.pipe
        count, moved = os.write(write, data), 0
        try:
            while moved < count:
                moved += splice(read, self.given, count - moved)
        except BlockingIOError:
            if not moved:
                raise
        finally:
            if moved < count:
                os.read(read, count - moved)
        return moved

    def take(self):
        """Sets O_NONBLOCK if that is needed: a shell may have cleared it meanwhile."""
        if self.flags is not None:
            fcntl.fcntl(self.given, fcntl.F_SETFL, self.flags | os.O_NONBLOCK)

    def give_back(self):
        """Restores the flags of the caller's descriptor."""
        if self.flags is not None:
            fcntl.fcntl(self.given, fcntl.F_SETFL, self.flags)

    def close(self):
        """Closes and restores everything."""
        if self.socket is not None:
            self.socket.close()
        if self.fd != self.given:
            os.close(self.fd)
        for fd in self.pipe or ():
            os.close(fd)
        self.give_back()


def _calls():
    """Returns the module syscalls.process, imported late: help needs no system call."""
    from ...syscalls import process
    return process


def _pipe_to(fd):
    """Returns the ends of an empty pipe that can be spliced to a descriptor, or None."""
    try:
        splice = _calls().splice
    except ImportError:  # a Python without ctypes, which the doctor must be able to say
        return None
    ends = os.pipe()
    os.set_blocking(ends[1], False)  # the kernel gives a user with many pipes small ones
    try:
        splice(ends[0], fd, 1)
    except BlockingIOError:
        return ends
    except OSError:
        pass
    for end in ends:
        os.close(end)
    return None
