# SPDX-License-Identifier: Apache-2.0
"""The process of a thread that made a call, and its executable.  Evidence, never a decision."""
import os

from ..proc import read

#: Bytes of a path that are kept.
LONGEST = 1024
#: How many threads are remembered; then all are forgotten.
MOST = 4096


class Origins:
    """Remembers threads by pid and start time: a pid may be given out again.

    threads: {thread's pid: (start time, pid of the process inside)}.
    """

    def __init__(self):
        self.threads = {}

    def of(self, thread):
        """Returns (pid inside, path of the executable or None) of a thread.

        thread: its pid as seen from here.  The pid inside is the process's own, 0 if /proc does
        not tell.  Start time and path are read each time: exec changes only the path.
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
    """Returns it in clock ticks since boot, b"" if it has ended.  proc_pid_stat(5), field 22"""
    try:
        return read("/proc/%d/stat" % thread, first=4096).rpartition(b")")[2].split()[19]
    except (OSError, IndexError):
        return b""


def _process(thread):
    """Returns the process's pid inside, or 0.  proc_pid_status(5): NStgid, Linux 4.1"""
    try:
        for line in read("/proc/%d/status" % thread, first=4096).split(b"\n"):
            if line.startswith(b"NStgid:"):
                return int(line.split()[-1])
    except (OSError, ValueError, IndexError):
        pass
    return 0
