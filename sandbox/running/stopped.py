# SPDX-License-Identifier: Apache-2.0
"""Whether a sandbox does nothing because it was stopped (SIGSTOP, SIGTSTP, SIGTTIN): asked when a deadline is reached."""
import os

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
        return [int(word) for task in tasks for word in _read("/proc/%d/task/%s/children" % (pid, task)).split()]
    except OSError:
        return []


def _state(pid):
    """Of `status`, where a name has no line end.  `stat` may wait for a process that executes a program: on newer kernels
    (seen on 6.18.44) it takes exec_update_lock, under which execve(2) frees the old memory, as slowly as a program likes."""
    try:
        return _read("/proc/%d/status" % pid).partition(b"\nState:")[2].split(None, 1)[0]
    except (OSError, IndexError):
        return b""


def _read(path):
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 65536)
    finally:
        os.close(fd)
