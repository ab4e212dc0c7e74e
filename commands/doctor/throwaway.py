# SPDX-License-Identifier: Apache-2.0
"""Runs a function in a child process, so that nothing it changes or leaves open stays.

It forks: only for a process with one thread, as the command line is, never for a library's host.
"""
import json
import os
import select
import time

from ...sandbox.errors import SandboxError
from ...syscalls import process

#: Seconds to wait: a function may hang (a dead network file system, a stopped tracer).
PATIENCE = 30.0
SIGKILL = 9


class Outcome:
    """Holds the outcome of a function; it is true if the function returned.

    value: what the function returned, None if it failed
    errno: int or None
    call: the system call or file that failed
    text: why it failed, "" if it did not
    stage: of a SandboxError
    remedy: of a SandboxError
    """

    __slots__ = ("value", "errno", "call", "text", "stage", "remedy")

    def __init__(self, value=None, errno=None, call="", text="", stage="", remedy=None):
        self.value, self.errno, self.call = value, errno, call
        self.text, self.stage, self.remedy = text, stage, remedy

    def __bool__(self):
        return not self.text

    def phrase(self):
        """Returns `call: why`."""
        return ": ".join(part for part in (self.call, self.text) if part)


def attempt(function, *arguments):
    """Returns the Outcome of `function(*arguments)` in a child process.

    What it returns must be fit for JSON. Raises OSError if no child can be made.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            process.set_parent_death_signal(SIGKILL)
            _send_outcome(write, function, arguments)
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
        return Outcome(text="killed by signal %d%s" % (
            number, " (an outer system call filter)" if number == 31 else ""))
    return Outcome(**json.loads(data.decode("ascii")))


def _send_outcome(fd, function, arguments):
    """Calls the function and writes its Outcome as JSON."""
    out = {}
    try:
        out["value"] = function(*arguments)
    except OSError as error:
        name = error.filename or ""
        call = os.fsdecode(name) if isinstance(name, (str, bytes)) else repr(name)
        out.update(errno=error.errno, call=call, text=error.strerror or str(error) or "failed")
    except SandboxError as error:
        out.update(errno=error.errno, call=error.what or "", text=error.reason or "failed",
                   stage=error.stage, remedy=error.remedy)
    except BaseException as error:
        out.update(text="%s: %s" % (type(error).__name__, error))
    data = json.dumps(out).encode("ascii")
    while data:
        data = data[os.write(fd, data):]


def in_namespaces(flags, function, *arguments):
    """Returns the result of `function` as root of a new user namespace.

    flags: CLONE_NEW* bits of further namespaces

    Call it within `attempt`. Raises OSError of clone3, of the id maps, or of the function.
    """
    ours, theirs = process.control_pair()
    pid, _ = process.clone3(process.CLONE_NEWUSER | flags)
    if pid == 0:
        try:
            ours.close()
            if theirs.recv(8) == b"maps":
                process.set_identity(0, 0, groups=False)
                process.set_parent_death_signal(SIGKILL)
                _send_outcome(theirs.fileno(), function, arguments)
        finally:
            os._exit(0)
    theirs.close()
    base = "/proc/%d/" % pid
    for name, text in (("setgroups", "deny"), ("uid_map", "0 %d 1" % os.geteuid()),
                       ("gid_map", "0 %d 1" % os.getegid())):
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
