# SPDX-License-Identifier: Apache-2.0
"""Replaces the caller's descriptors 0, 1 and 2: the program gets none of them.

A holder of a descriptor can change the mode, times, flags and locks of its file, and open it again
through /proc/self/fd with other rights. So a private pipe carries a file, pipe or socket, a
terminal becomes a terminal of the sandbox's own, and /dev/null is opened anew inside.
"""
import fcntl
import os

from ..errors import CANNOT_CONTAIN

NULL_DEVICE = os.makedev(1, 3)
CHARACTERS = 0o020000
#: Major number of terminals below /dev/pts.  Documentation/admin-guide/devices.txt
PTS_MAJOR = 136
TIOCGDEV, TIOCGPTN, TIOCSPTLCK = 0x80045432, 0x80045430, 0x40045431
#: Opens the slave without its path.  Linux 4.13
TIOCGPTPEER = 0x5441
NAMES = ("stdin", "stdout", "stderr")
#: The places of a warm sandbox before its program comes: /dev/null, for reading and writing.
NOTHING = [("null", os.O_RDWR)] * 3


class Stdio:
    """The program's 0, 1 and 2.

    given: three descriptors of the caller.
    kinds: for each "pipe", "null", "terminal", or "own", a pipe that was made for this run alone.
    theirs: {number: fd} for the program's places, until `release`.
    budget: output_limit.Budget of 1 and 2, or None.
    """

    def __init__(self, given, own=(), tty=False, max_output=None, owner=None):
        """own: which of the three were made for this run.
        tty: whether all are the terminal.
        max_output: bytes, or None.
        owner: (uid, gid) that the pipes are given to, or None.

        Raises OSError.
        """
        self.given, self.kinds, self.theirs, self.ours, self.ids = tuple(given), [], {}, {}, {}
        self.budget, main = None, None
        if max_output is not None:
            from .output_limit import Budget
            self.budget = Budget(max_output)
        for number, fd in enumerate(self.given):
            kind = "terminal" if tty else _kind(fd)
            if kind == "terminal" and not tty:
                device = fcntl.ioctl(fd, TIOCGDEV, b"\0\0\0\0")
                main = main or device
                kind = "terminal" if device == main else "pipe"  # there is one private terminal
            elif kind == "pipe" and number in own and not (number and self.budget):
                kind = "own"
            self.kinds.append(kind)
        try:
            for number, kind in enumerate(self.kinds):
                if kind == "pipe":
                    self._pipe(number)
                elif kind == "own":
                    self.theirs[number] = os.dup(self.given[number])
            for number, fd in self.theirs.items():
                if owner is not None:
                    os.fchown(fd, *owner)  # or it could not open /dev/stdout
                found = os.fstat(fd)
                self.ids[number] = found.st_dev, found.st_ino
        except BaseException:
            self.abandon()
            raise

    def _pipe(self, number):
        if number == 2 and self.kinds[1] == "pipe" and self._same(1, 2):
            self.theirs[2] = os.dup(self.theirs[1])
            return
        read, write = os.pipe()
        self.theirs[number], self.ours[number] = (write, read) if number else (read, write)

    def _same(self, one, other):
        """Returns whether two streams must keep their order: both lead to one open file."""
        fds = self.given[one], self.given[other]
        return os.path.samestat(*map(os.fstat, fds)) and \
            len(set(fcntl.fcntl(fd, fcntl.F_GETFL) for fd in fds)) == 1

    @property
    def has_terminal(self):
        """Returns whether one of the three is the private terminal."""
        return "terminal" in self.kinds

    def places(self):
        """Returns the child's places, [(kind, value)].

        ("pipe", fd), ("null", access mode) or ("terminal", None).
        """
        return [("null", fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE) if kind == "null" else
                ("terminal", None) if kind == "terminal" else ("pipe", self.theirs[number])
                for number, (kind, fd) in enumerate(zip(self.kinds, self.given))]

    def release(self):
        """Closes the child's ends in this process: only then is the program's end noticed."""
        reader = self.theirs.pop(0, None) if 0 in self.ours else None
        for fd in self.theirs.values():
            os.close(fd)
        self.theirs = {} if reader is None else {0: reader}

    def start(self, lets_go):
        """Returns the carry.Carrier of the pipes, or None without pipes.

        lets_go: whether 0 and 1 may be closed when one end is gone: nothing else in this process
            uses them.

        Call it after the child was made.
        """
        if self.ours:
            from .carry import Streams
            made = Streams(self.given, self.ours, self.theirs.pop(0, -1), self.budget, lets_go)
            self.ours = {}  # not before: if that fails, `abandon` closes them
            return made
        return None

    def carried(self):
        """Returns the numbers of those that are carried to the end."""
        return [number for number, kind in enumerate(self.kinds) if kind in ("pipe", "terminal")]

    def abandon(self):
        """Closes the pipes."""
        for fd in list(self.theirs.values()) + list(self.ours.values()):
            os.close(fd)
        self.theirs, self.ours = {}, {}

    def holds(self, pid, terminal):
        """Compares 0, 1 and 2 of a process with these; returns (whether they fit, the evidence).

        pid: of the process.
        terminal: fd of the pty's master, or -1.
        """
        right, words = True, []
        for number, kind in enumerate(self.kinds):
            found = os.stat("/proc/%d/fd/%d" % (pid, number))
            if kind == "terminal":
                index = int.from_bytes(fcntl.ioctl(terminal, TIOCGPTN, b"\0\0\0\0"), "little")
                fits = found.st_mode & 0o170000 == CHARACTERS and \
                    found.st_rdev == os.makedev(PTS_MAJOR, index)
            elif kind == "null":
                fits = is_null(found)
            else:
                fits = self.ids[number] == (found.st_dev, found.st_ino)
            right = right and fits
            what = {"null": "/dev/null", "own": "a pipe of this run"}.get(kind, "a private " + kind)
            words.append("%d %s" % (number, what if fits else "NOT OURS"))
        return right, ", ".join(words)


def complain(result, errors):
    """Makes it no success that the caller's descriptors refused to take or give something.

    result: Result; errors: of supervise.Outcome.
    """
    for number, error in errors:
        deed = "written" if number else "read"
        sentence = "%s could not be %s: %s" % (NAMES[number], deed, os.strerror(error))
        result.notes.append(sentence)
        if result.returncode == 0:
            result.returncode, result.detail = CANNOT_CONTAIN, sentence


def open_pty(ptmx):
    """Opens a new terminal; returns (master, slave).  Raises OSError.

    ptmx: path of the device in the devpts to use.
    """
    master = os.open(ptmx, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(master, TIOCSPTLCK, b"\0\0\0\0")
    return master, fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def is_null(found):
    """Returns whether an os.stat_result is of the null device."""
    return found.st_mode & 0o170000 == CHARACTERS and found.st_rdev == NULL_DEVICE


def all_null(pid):
    """Returns what `Stdio.holds` returns, for a sandbox that waits for its program."""
    right = all([is_null(os.stat("/proc/%d/fd/%d" % (pid, number))) for number in range(3)])
    return right, "0, 1 and 2 /dev/null until the program comes" if right else "0, 1 or 2 NOT OURS"


def _kind(fd):
    found = os.fstat(fd)
    if is_null(found):
        return "null"
    return "terminal" if os.isatty(fd) else "pipe"
