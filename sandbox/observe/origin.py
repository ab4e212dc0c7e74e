# SPDX-License-Identifier: Apache-2.0
"""Who made a call: the process of a thread, and its executable, as /proc says.  Evidence, never a decision."""
import os

from ..proc import read

#: Bytes of a path that are kept.
LONGEST = 1024
#: So many threads are remembered; then the memory starts anew.
MOST = 4096


class Origins:
    """Remembers threads by pid and start time, so that a pid which the kernel gives out again is another one."""

    def __init__(self):
        self.threads = {}  # thread's pid -> (start time, pid of the process inside)

    def of(self, thread):
        """(pid inside, path of the executable or None) of a thread, by its pid as seen from here.

        The pid is the process's own, as it sees itself; 0 where /proc does not tell.  Each call looks again at the start time
        and at the path: exec changes the one and not the other.
        """
        started = _start_time(thread)
        known = self.threads.get(thread)
        if known is None or known[0] != started:
            known = started, _process(thread)
            if len(self.threads) >= MOST:
                self.threads.clear()
            self.threads[thread] = known
        try:
            path = os.readlink("/proc/%d/exe" % thread)
        except OSError:
            path = None
        return known[1], path if path is None or len(path) <= LONGEST else path[:LONGEST] + "..."


def _start_time(thread):
    """In clock ticks since boot, b"" where it is gone.  proc_pid_stat(5), field 22"""
    try:
        return read("/proc/%d/stat" % thread, first=4096).rpartition(b")")[2].split()[19]
    except (OSError, IndexError):
        return b""


def _process(thread):
    """The thread group's id in the innermost pid namespace, or 0.  proc_pid_status(5): NStgid, Linux 4.1"""
    try:
        for line in read("/proc/%d/status" % thread, first=4096).split(b"\n"):
            if line.startswith(b"NStgid:"):
                return int(line.split()[-1])
    except (OSError, ValueError, IndexError):
        pass
    return 0
