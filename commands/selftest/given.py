# SPDX-License-Identifier: Apache-2.0
"""What `selftest` gives a sandbox as descriptors 0 and 2, and what became of these objects.

Nothing that the probes say is believed here: the objects are looked at.
"""
import errno
import fcntl
import os
import struct
import tempfile

from .attempt import BLOCKED, Outcome, REACHED

LINE = b"planted\n"
NODUMP, GETFLAGS = 0x40, 0x80086601
F_GETSIG, F_OFD_SETLK, F_GETPIPE_SZ, TIOCGEXCL = 11, 37, 1032, 0x80045440
LOCK = struct.pack("=hhxxxxqqixxxx", fcntl.F_WRLCK, 0, 0, 0, 0)


class Files:
    """A private file to read, and a log to append to.

    stdin, stderr: descriptors.
    facts: what the probes are told.
    checks: ((probe id, function() -> whether the object was changed), ...), in the order in which
        they must be called.
    """

    def __init__(self, prefix):
        self.paths, self.stdin, self.stderr = [], None, None
        self.facts = {"input": True, "log": True, "stderr_file": True}
        try:
            self.stdin = self._file(prefix, os.O_RDONLY)
            self.stderr = self._file(prefix, os.O_WRONLY | os.O_APPEND)
        except BaseException:
            self.close()
            raise
        self.checks = (
            ("F15", lambda: fcntl.fcntl(self.stdin, F_GETSIG)),
            ("F20", self._leased),
            ("F10", lambda: os.fstat(self.stdin).st_mode & 0o7777 != 0o600),
            ("F11", lambda: os.fstat(self.stdin).st_mtime == 1),
            ("F12", lambda: "user.mrunc-selftest" in os.listxattr(self.stdin)),
            ("F13", self._flagged),
            ("F14", lambda: fcntl.fcntl(self.stdin, fcntl.F_GETFL) & os.O_NONBLOCK),
            ("F16", self._locked),
            ("F17", self._record_locked),
            ("F18", lambda: self._read(0).startswith(b"chan")),
            ("F19", lambda: len(self._read(0)) < len(LINE)),
            ("F21", lambda: not self._read(1).startswith(LINE)),
        )

    def _file(self, prefix, flags):
        fd, path = tempfile.mkstemp(prefix=prefix)
        self.paths.append(path)
        os.write(fd, LINE)
        os.close(fd)
        return os.open(path, flags | os.O_CLOEXEC)

    def _read(self, number):
        with open(self.paths[number], "rb") as stream:
            return stream.read(65536)

    def _leased(self):
        taken = fcntl.fcntl(self.stdin, fcntl.F_GETLEASE) != fcntl.F_UNLCK
        if taken:  # the next checks open the file for writing, and would wait for the lease
            fcntl.fcntl(self.stdin, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return taken

    def _flagged(self):
        flags = bytearray(8)
        try:
            fcntl.ioctl(self.stdin, GETFLAGS, flags)
        except OSError:
            return False  # a file system without them
        return struct.unpack_from("=I", flags)[0] & NODUMP

    def _refused(self, lock):
        """Whether somebody who opens the file anew can't lock it."""
        fd = os.open(self.paths[0], os.O_RDWR | os.O_CLOEXEC)
        try:
            lock(fd)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            return True
        finally:
            os.close(fd)
        return False

    def _locked(self):
        return self._refused(lambda fd: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB))

    def _record_locked(self):
        return self._refused(lambda fd: fcntl.fcntl(fd, F_OFD_SETLK, LOCK))

    def give_to(self, uid):
        """Makes a user the owner of the objects."""
        for path in self.paths:
            os.chown(path, uid, uid)

    def said(self):
        """What was written to standard error, as text."""
        data = self._read(1)
        return data[len(LINE) if data.startswith(LINE) else 0:].decode("utf-8", "replace")

    def close(self):
        """Closes and removes everything."""
        for fd in (self.stdin, self.stderr):
            if fd is not None:
                os.close(fd)
        for path in self.paths:
            os.unlink(path)


class Terminal:
    """A terminal as standard input; as standard error a pipe that holds another program's line.

    Attributes as in Files.
    """

    def __init__(self, prefix):
        import termios  # here: a Python of another distribution can lack it, and the other probes need none
        self.termios = termios
        self.master, self.stdin = os.openpty()
        self.read, self.stderr = os.pipe()
        self.facts = {"terminal": True, "pipe": True}
        os.set_blocking(self.read, False)
        os.write(self.stderr, LINE)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("=4H", 24, 80, 0, 0))
        self.before, self.mode, self.data = self._modes(), os.fstat(self.stdin).st_mode, None
        self.size = fcntl.fcntl(self.read, F_GETPIPE_SZ)
        self.checks = (
            ("F30", lambda: self._window() != (24, 80)),
            ("F31", lambda: self._modes() != self.before),
            ("F32", self._alone),
            ("F33", lambda: os.fstat(self.stdin).st_mode != self.mode),
            ("F34", lambda: fcntl.fcntl(self.stdin, fcntl.F_GETFL) & os.O_NONBLOCK),
            ("F35", lambda: fcntl.fcntl(self.read, F_GETPIPE_SZ) != self.size),
            ("F36", lambda: not self._all().startswith(LINE)),
        )

    def _modes(self):
        return self.termios.tcgetattr(self.stdin)[:4]

    def _window(self):
        size = bytearray(8)
        fcntl.ioctl(self.master, self.termios.TIOCGWINSZ, size)
        return struct.unpack_from("=2H", size)

    def _alone(self):
        answer = bytearray(4)
        fcntl.ioctl(self.stdin, TIOCGEXCL, answer)
        return any(answer)

    def _all(self):
        """What came through the pipe, read once."""
        if self.data is None:
            try:
                self.data = os.read(self.read, 65536)
            except BlockingIOError:
                self.data = b""
        return self.data

    def give_to(self, uid):
        """Makes a user the owner of the objects."""
        for fd in (self.stdin, self.stderr):
            os.chown(fd, uid, -1)

    def said(self):
        """What was written to standard error, as text."""
        return self._all().replace(LINE, b"", 1).decode("utf-8", "replace")

    def close(self):
        """Closes everything."""
        for fd in (self.master, self.stdin, self.read, self.stderr):
            os.close(fd)


def testify(checks, found, asked):
    """Puts what the objects show in the place of what the probes said.

    checks: as in Files.
    found: {probe id: Outcome}; it is changed.
    asked: ids of the probes that were run.
    """
    for name, changed in checks:
        if name not in asked:
            continue
        if changed():
            found[name] = Outcome(REACHED, "the caller's own object is changed")
        elif name in found and found[name].kind == REACHED:
            found[name] = Outcome(BLOCKED, "done to another object; the caller's is as it was")
