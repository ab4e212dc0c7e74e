# SPDX-License-Identifier: Apache-2.0
"""Reads in /proc about a process that waits for its answer.  Evidence, never a decision."""
import os

from ..decode.memory import shown
from ..proc import read

#: Bytes of a command line that are read, and arguments that are kept of it.
LINE, WORDS = 8192, 32


class Seen:
    """What /proc says of a process.

    process, parent: pids as the supervisor sees them.
    pid: its own, inside.
    uid: as the supervisor sees it.
    started: clock ticks since boot.
    image: distinguishes one program of the process from the next; None if it can't be seen.
    """

    __slots__ = ("process", "parent", "pid", "uid", "started", "image")

    def __init__(self, process, parent, pid, uid, started):
        self.process, self.parent, self.pid = process, parent, pid
        self.uid, self.started = uid, started
        self.image = None


def look(thread, known):
    """Returns the Seen of a thread's process, or None if /proc does not tell.

    known: {process: Seen}; of a known process pid and uid are not read again.
    """
    try:
        numbers = _stat(thread)
        before = known.get(thread)
        if before is not None and before.started == numbers[19]:
            out = Seen(thread, int(numbers[1]), before.pid, before.uid, numbers[19])
        else:
            status = read("/proc/%d/status" % thread, first=16384)
            process = int(_field(status, b"Tgid"))
            numbers = numbers if process == thread else _stat(process)
            pid = (_field(status, b"NStgid") or b"%d" % process).split()[-1]
            uid = _field(status, b"Uid").split()[1]
            out = Seen(process, int(numbers[1]), int(pid), int(uid), numbers[19])
    except (OSError, ValueError, IndexError):
        return None
    try:
        # Field 28, where the stack starts: 0 without the right to know.  proc_pid_stat(5)
        if int(numbers[25]):
            running = os.stat("/proc/%d/exe" % out.process)
            out.image = running.st_dev, running.st_ino, numbers[25]
    except (OSError, ValueError, IndexError):
        pass
    return out


def inside(process):
    """Returns the pid that a process has inside, or None.  process: its pid here."""
    try:
        return int(_field(read("/proc/%d/status" % process, first=16384), b"NStgid").split()[-1])
    except (OSError, ValueError, IndexError):
        return None


def _stat(thread):
    """Returns the fields of proc_pid_stat(5) from the third on.  Raises OSError."""
    return read("/proc/%d/stat" % thread, first=4096).rpartition(b")")[2].split()


def _field(status, name):
    """Returns a field of proc_pid_status(5), b"" if there is none."""
    at = status.find(b"\n" + name + b":")
    return status[at + len(name) + 2:status.find(b"\n", at + 1)] if at >= 0 else b""


def target(process, name):
    """Returns where a link of /proc/PID leads, b"" if that can't be told."""
    try:
        return os.readlink(b"/proc/%d/%s" % (process, name))
    except OSError:
        return b""


def link(process, name):
    """Returns the same as text, or None."""
    return shown(target(process, name)) or None


def command_line(process):
    """Returns [argument], as text, of the program that a process runs, or None."""
    try:
        data = read("/proc/%d/cmdline" % process, first=LINE)
    except OSError:
        return None
    if not data:
        return None
    words = (data[:-1] if data[-1:] == b"\0" else data).split(b"\0")
    out = [shown(word) for word in words[:WORDS]]
    return out + ["..."] if len(data) == LINE or len(words) > WORDS else out


def uid_map(process):
    """Returns [(first inside, first here, count)] of a process's user namespace."""
    try:
        lines = read("/proc/%d/uid_map" % process, first=4096).splitlines()
        return [tuple(int(number) for number in line.split()) for line in lines]
    except (OSError, ValueError):
        return []
