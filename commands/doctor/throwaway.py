# SPDX-License-Identifier: Apache-2.0
"""A deed tried in a child that is thrown away: what it changes, whatever ends it and what it leaves open goes with it.

For a process with one thread that nothing of value lives in (the command line), never for a library's host.
"""
import json
import os
import select
import time

from ...sandbox.errors import SandboxError
from ...syscalls import process

#: A deed that hangs (a dead network file system, a stopped tracer) must not hang the caller.
PATIENCE = 30.0
SIGKILL = 9


class Outcome:
    """value: what the deed returned, None where it failed; errno: int or None; call: the system call or file that failed;
    text: why it failed, "" where it did not; stage, remedy: of a SandboxError."""

    __slots__ = ("value", "errno", "call", "text", "stage", "remedy")

    def __init__(self, value=None, errno=None, call="", text="", stage="", remedy=None):
        self.value, self.errno, self.call, self.text, self.stage, self.remedy = value, errno, call, text, stage, remedy

    def __bool__(self):
        return not self.text

    def phrase(self):
        """`call: why`."""
        return ": ".join(part for part in (self.call, self.text) if part)


def attempt(deed, *arguments):
    """The Outcome of `deed(*arguments)` in a child of its own.  What it returns must be JSON's.  Raises OSError where no
    child can be made."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            process.set_parent_death_signal(SIGKILL)
            _tell(write, deed, arguments)
        finally:
            os._exit(0)
    os.close(write)
    data, end = b"", time.monotonic() + PATIENCE
    try:
        while True:
            left = end - time.monotonic()
            if left <= 0 or not select.select([read], [], [], left)[0]:
                os.kill(pid, SIGKILL)
                return Outcome(text="no answer within %d s" % PATIENCE)
            part = os.read(read, 65536)
            if not part:
                break
            data += part
    finally:
        os.close(read)
        status = os.waitpid(pid, 0)[1]
    if not data:
        number = status & 127
        return Outcome(text="killed by signal %d%s" % (number, " (an outer system call filter)" if number == 31 else ""))
    return Outcome(**json.loads(data.decode("ascii")))


def _tell(fd, deed, arguments):
    """Does the deed and writes what came of it."""
    out = {}
    try:
        out["value"] = deed(*arguments)
    except OSError as error:
        name = error.filename or ""
        out.update(errno=error.errno, call=os.fsdecode(name) if isinstance(name, (str, bytes)) else repr(name),
                   text=error.strerror or str(error) or "failed")
    except SandboxError as error:
        out.update(errno=error.errno, call=error.what or "", text=error.reason or "failed", stage=error.stage,
                   remedy=error.remedy)
    except BaseException as error:
        out.update(text="%s: %s" % (type(error).__name__, error))
    data = json.dumps(out).encode("ascii")
    while data:
        data = data[os.write(fd, data):]


def in_namespaces(flags, deed, *arguments):
    """What `deed` returns as root of a new user namespace and of the namespaces in `flags` (CLONE_NEW* bits).

    Call it within `attempt`.  Raises OSError: of clone3, of the id maps, or of the deed.
    """
    ours, theirs = process.control_pair()
    pid, _ = process.clone3(process.CLONE_NEWUSER | flags)
    if pid == 0:
        try:
            ours.close()
            if theirs.recv(8) == b"maps":
                process.set_identity(0, 0, groups=False)
                process.set_parent_death_signal(SIGKILL)
                _tell(theirs.fileno(), deed, arguments)
        finally:
            os._exit(0)
    theirs.close()
    base = "/proc/%d/" % pid
    for name, text in (("setgroups", "deny"), ("uid_map", "0 %d 1" % os.geteuid()), ("gid_map", "0 %d 1" % os.getegid())):
        with open(base + name, "w") as stream:
            stream.write(text)
    ours.send(b"maps")
    data = ours.recv(1 << 16)
    status = os.waitpid(pid, 0)[1]
    if not data:
        raise OSError(0, "killed by signal %d" % (status & 127))
    outcome = Outcome(**json.loads(data.decode("ascii")))
    if not outcome:
        raise OSError(outcome.errno or 0, outcome.text, outcome.call)
    return outcome.value
