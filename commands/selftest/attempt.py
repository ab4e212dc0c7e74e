# SPDX-License-Identifier: Apache-2.0
"""What came of a deed that hostile code tries: the outcomes, and the few ways to try it that most probes share.

A deed returns an Outcome or raises OSError, which is `blocked`.  Three rules, each from a wrong reading: an errno that the
kernel gives after its permission check means reached; opening for writing is not everywhere the check; and what was never
seen to be reached anywhere proves nothing.
"""
import errno
import os

from ...syscalls.raw import ARCH, addressof, buffer, call, execute, int80, low_memory, wide

__all__ = ["ARCH", "addressof", "buffer", "call", "execute", "int80", "low_memory", "wide", "BLOCKED", "KILLED",
           "INVISIBLE",
           "REACHED", "ERROR", "SKIPPED", "Outcome", "Unsuitable", "asks", "blocked", "invisible", "opens", "reached", "reads",
           "lists", "exists", "first_line", "child_exits", "mounts"]

BLOCKED, KILLED, INVISIBLE, REACHED, ERROR, SKIPPED = "blocked", "killed", "invisible", "REACHED", "error", "skipped"
KINDS = (BLOCKED, KILLED, INVISIBLE, REACHED, ERROR, SKIPPED)
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ENXIO, errno.ENODEV)


class Outcome:
    """kind: of KINDS; detail: text; errno: int or None."""

    __slots__ = ("kind", "detail", "errno")

    def __init__(self, kind, detail="", errno=None):
        self.kind, self.detail, self.errno = kind, detail, errno


class Unsuitable(Exception):
    """The probe has no meaning here (another architecture, nothing planted outside): not counted."""


def reached(detail="done"):
    """It was done, or the kernel's permission check let it through."""
    return Outcome(REACHED, detail)


def blocked(detail, number=None):
    """It was refused."""
    return Outcome(BLOCKED, detail, number)


def invisible(detail="not there"):
    """There is nothing of the kind to be seen."""
    return Outcome(INVISIBLE, detail)


def refusal(error):
    """The Outcome of an OSError."""
    name = errno.errorcode.get(error.errno, str(error.errno))
    what = error.filename if isinstance(error.filename, str) else os.fsdecode(error.filename or b"")
    return Outcome(BLOCKED, "%s%s" % (what + ": " if what else "", name), error.errno)


def asks(what, *arguments, **options):
    """A deed: one system call.  after=: errnos that come behind the permission check; close=True: it gives a descriptor."""
    after = options.get("after", ())

    def deed(facts):
        words = [word(facts) if callable(word) else word for word in arguments]
        try:
            result = call(what, *words)
        except OSError as error:
            if error.errno in after:
                return reached("the kernel was asked: %s" % errno.errorcode.get(error.errno, error.errno))
            raise
        if options.get("close"):
            os.close(result)
        return reached("returned %d" % result)
    return deed


def opens(flags, *paths):
    """A deed: opening any of some paths with these flags, without reading or writing."""
    def deed(facts):
        outcome = invisible("%s: not there" % paths[0])
        for path in paths:
            try:
                fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno not in GONE:
                    outcome = refusal(error)
                continue
            os.close(fd)
            return reached("%s opens%s" % (path, "" if flags & 3 == os.O_RDONLY else " for writing"))
        return outcome
    return deed


def reads(path, telling=None):
    """A deed: reading the first kilobytes of a file.  telling: function(text, facts) -> what it tells, or "" for nothing."""
    def deed(facts):
        try:
            text = first_bytes(path).decode("utf-8", "replace")
        except OSError as error:
            if error.errno in GONE:
                return invisible("%s: not there" % path)
            raise
        if not text:
            return invisible("%s is empty" % path)
        told = telling(text, facts) if telling else "%s can be read" % path
        return reached(told) if told else invisible("%s tells nothing" % path)
    return deed


def lists(path, ignored=()):
    """A deed: a directory that holds something."""
    def deed(facts):
        try:
            names = [name for name in os.listdir(path) if name not in ignored]
        except OSError as error:
            if error.errno in GONE:
                return invisible("%s: not there" % path)
            raise
        return reached("%s holds %d names" % (path, len(names))) if names else invisible("%s is empty" % path)
    return deed


def exists(*paths):
    """A deed: a path that is there."""
    def deed(facts):
        found = [path for path in paths if os.path.lexists(path)]
        return reached("%s is there" % found[0]) if found else invisible("%s: not there" % paths[0])
    return deed


def first_bytes(path, size=16384):
    """The beginning of a file, as bytes."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.read(fd, size)
    finally:
        os.close(fd)


def first_line(path):
    """The first line of a file, as text."""
    return first_bytes(path).split(b"\n")[0].decode("utf-8", "replace")


def child_exits(deed):
    """Runs a function in a child of its own and returns (wait status, first 64 KiB that it wrote to the descriptor given)."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = deed(write) or 0
        except OSError as error:
            status = 100 + min(error.errno or 0, 140)
        finally:
            os._exit(status)
    os.close(write)
    data = b""
    while len(data) < 65536:
        part = os.read(read, 65536)
        if not part:
            break
        data += part
    os.close(read)
    return os.waitpid(pid, 0)[1], data


def mounts():
    """[(root, mount point, set of options, optional fields, type, source, super options)] of /proc/self/mountinfo."""
    out = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
        for line in stream:
            head, _, tail = line.rstrip("\n").partition(" - ")
            fields, last = head.split(" "), tail.split(" ")
            out.append((fields[3], fields[4], set(fields[5].split(",")), fields[6:], last[0], last[1], last[2]))
    return out


def domain_name():
    """The NIS domain name: the last field of uname(2), which os.uname leaves out."""
    fields = buffer(6 * 65)
    call("uname", fields)
    return fields.raw[5 * 65:].partition(b"\0")[0].decode("utf-8", "replace")
