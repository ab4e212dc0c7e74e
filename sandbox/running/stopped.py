# SPDX-License-Identifier: Apache-2.0
"""Whether a sandbox does nothing because it was stopped (SIGSTOP, SIGTSTP, SIGTTIN): asked when a deadline is reached."""
import os

from ..proc import read

#: Bytes of one file that are looked at.
FIRST = 1 << 16
#: A sandbox with more processes is not looked through.
MOST = 4096


def all_stopped(init):
    """Whether there are processes below pid 1 of the sandbox, and all of them are stopped.  init: its number outside.  Never
    raises: where /proc does not tell, they are not."""
    pending, count = _children(init), 0
    while pending:
        pid, count = pending.pop(), count + 1
        if count > MOST or _state(pid) != b"T":
            return False
        pending += _children(pid)
    return count > 0


def _children(pid):
    """Needs CONFIG_PROC_CHILDREN.  proc_pid_task(5)"""
    try:
        tasks = os.listdir("/proc/%d/task" % pid)
        return [int(word) for task in tasks
                for word in read("/proc/%d/task/%s/children" % (pid, task), first=FIRST).split()]
    except OSError:
        return []


def _state(pid):
    """Of `status`, where a name has no line end.  `stat` may wait for a process that executes a program: on newer kernels
    (seen on 6.18.44) it takes exec_update_lock, under which execve(2) frees the old memory, as slowly as a program likes."""
    try:
        status = read("/proc/%d/status" % pid, first=FIRST)
        return status.partition(b"\nState:")[2].split(None, 1)[0]
    except (OSError, IndexError):
        return b""
