# SPDX-License-Identifier: Apache-2.0
"""Defines the outcomes of a probe, and the actions that most probes share.

An action returns an Outcome or raises OSError, which counts as blocked. Three rules: an errno that
the kernel gives after its permission check means reached; opening for writing is not always the
check; a probe that was never reached anywhere proves nothing.
"""
import errno
import os

from ...syscalls.raw import ARCH, addressof, buffer, call, execute, int80, low_memory, wide

__all__ = ["ARCH", "addressof", "buffer", "call", "execute", "int80", "low_memory", "wide",
           "BLOCKED", "KILLED", "INVISIBLE",
           "REACHED", "ERROR", "SKIPPED", "Outcome", "Unsuitable", "asks", "blocked", "invisible",
           "opens", "reached", "reads", "lists", "exists", "first_line", "child_exits", "mounts"]

KINDS = ("blocked", "killed", "invisible", "REACHED", "error", "skipped")
BLOCKED, KILLED, INVISIBLE, REACHED, ERROR, SKIPPED = KINDS
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ENXIO, errno.ENODEV)


class Outcome:
    """Holds the outcome of a probe.

    kind: of KINDS
    detail: str
    errno: int or None
    """

    __slots__ = ("kind", "detail", "errno")

    def __init__(self, kind, detail="", errno=None):
        self.kind, self.detail, self.errno = kind, detail, errno


class Unsuitable(Exception):
    """The probe has no meaning here, and is not counted."""


def reached(detail="done"):
    """Returns the Outcome of a success, or of a passed permission check."""
    return Outcome(REACHED, detail)


def blocked(detail, number=None):
    """Returns the Outcome of a refusal.

    number: errno or None
    """
    return Outcome(BLOCKED, detail, number)


def invisible(detail="not there"):
    """Returns the Outcome if there is nothing to be seen."""
    return Outcome(INVISIBLE, detail)


def refusal(error):
    """Returns the Outcome of an OSError."""
    name = errno.errorcode.get(error.errno, str(error.errno))
    what = error.filename if isinstance(error.filename, str) else os.fsdecode(error.filename or b"")
    return Outcome(BLOCKED, "%s%s" % (what + ": " if what else "", name), error.errno)


def asks(what, *arguments, **options):
    """Returns an action that makes one system call.

    what: name of the call
    arguments: values, or functions of the facts
    after: errnos that come after the permission check
    close: whether the call returns a descriptor
    """
    after = options.get("after", ())

    def action(facts):
        words = [word(facts) if callable(word) else word for word in arguments]
        try:
            result = call(what, *words)
        except OSError as error:
            if error.errno in after:
                return reached("the kernel was asked: %s" %
                               errno.errorcode.get(error.errno, error.errno))
            raise
        if options.get("close"):
            os.close(result)
        return reached("returned %d" % result)
    return action


def opens(flags, *paths):
    """Returns an action that opens any of some paths, without reading or writing."""
    def action(facts):
        outcome = invisible("%s: not there" % paths[0])
        for path in paths:
            try:
                fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno not in GONE:
                    outcome = refusal(error)
                continue
            os.close(fd)
            return reached("%s opens%s" % (path, "" if flags & 3 == os.O_RDONLY
                                           else " for writing"))
        return outcome
    return action


def reads(path, telling=None):
    """Returns an action that reads the start of a file.

    path: str
    telling: function (text, facts) that returns what the file tells, or ""
    """
    def action(facts):
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
    return action


def lists(path, ignored=()):
    """Returns an action that looks for names in a directory."""
    def action(facts):
        try:
            names = [name for name in os.listdir(path) if name not in ignored]
        except OSError as error:
            if error.errno in GONE:
                return invisible("%s: not there" % path)
            raise
        if names:
            return reached("%s holds %d names" % (path, len(names)))
        return invisible("%s is empty" % path)
    return action


def exists(*paths):
    """Returns an action that looks for a path."""
    def action(facts):
        found = [path for path in paths if os.path.lexists(path)]
        return reached("%s is there" % found[0]) if found else invisible("%s: not there" % paths[0])
    return action


def first_bytes(path, size=16384):
    """Returns the start of a file, as bytes. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.read(fd, size)
    finally:
        os.close(fd)


def first_line(path):
    """Returns the first line of a file, as text. Raises OSError."""
    return first_bytes(path).split(b"\n")[0].decode("utf-8", "replace")


def child_exits(action):
    """Returns (wait status, output) of a function in a child process.

    action: function of a descriptor; the first 64 KiB that it writes there are the output
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = action(write) or 0
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
    """Returns the rows of /proc/self/mountinfo.

    Each is (root, mount point, set of options, optional fields, type, source, super options).
    """
    out = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
        for line in stream:
            head, _, tail = line.rstrip("\n").partition(" - ")
            fields, last = head.split(" "), tail.split(" ")
            out.append((fields[3], fields[4], set(fields[5].split(",")), fields[6:], last[0],
                        last[1], last[2]))
    return out


def domain_name():
    """Returns the NIS domain name: the last field of uname(2), which os.uname lacks."""
    fields = buffer(6 * 65)
    call("uname", fields)
    return fields.raw[5 * 65:].partition(b"\0")[0].decode("utf-8", "replace")
