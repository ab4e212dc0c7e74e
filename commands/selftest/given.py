# SPDX-License-Identifier: Apache-2.0
"""Gives a sandbox objects as descriptors 0 and 2, and looks whether they were changed.

The answers of the probes are not trusted: the objects are examined.
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
    """Holds a private file to read, and a log to append to.

    stdin: descriptor
    stderr: descriptor
    facts: what the probes are told
    checks: ((probe id, function that returns whether the object was changed), ...), in the order in
        which they must be called
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
        if taken:  # else the next checks, which open the file for writing, wait for the lease
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
        """Returns whether the file, opened again, can't be locked."""
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
        """Returns what was written to standard error, as text."""
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
    """Holds a terminal as stdin, and as stderr a pipe with another program's line.

    The attributes are those of Files.
    """

    def __init__(self, prefix):
        import termios  # some Pythons lack it, and the other probes don't need it
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
        """Returns what came through the pipe, read once."""
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
        """Returns what was written to standard error, as text."""
        return self._all().replace(LINE, b"", 1).decode("utf-8", "replace")

    def close(self):
        """Closes everything."""
        for fd in (self.master, self.stdin, self.read, self.stderr):
            os.close(fd)


def testify(checks, found, asked):
    """Replaces the answers of the probes by what the objects show.

    checks: as in Files
    found: {probe id: Outcome}, changed
    asked: ids of the probes that were run
    """
    for name, changed in checks:
        if name not in asked:
            continue
        if changed():
            found[name] = Outcome(REACHED, "the caller's own object is changed")
        elif name in found and found[name].kind == REACHED:
            found[name] = Outcome(BLOCKED, "done to another object; the caller's is unchanged")
