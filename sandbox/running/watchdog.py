# SPDX-License-Identifier: Apache-2.0
"""Keeps the wall deadline of a run whose processor time is read from /proc.

On newer kernels (seen on 6.18.44) a read of /proc/PID/stat waits for a process in execve(2), which
can be as slow as it likes.  The supervisor has one loop, so all of it waits.  The watchdog is a
process that never reads such a file.  If the supervisor has not ended the sandbox in time, the
watchdog does; that ends the read, too.
"""
import os
import select
import time

from ...syscalls import process
from . import ending

SIGKILL = 9
#: Seconds after the deadline and the grace time: STOP_DEADLINE of supervise.py, and a little.
PATIENCE = 0.75


class Watchdog:
    """pid: its number."""

    def __init__(self, run, reaper):
        """Starts it.  Raises OSError.

        run: launch.Run before the gate opens, with a pidfd; reaper: reaper.Reaper of it, or None.
        """
        supervisor, spec = os.getpid(), run.plan.spec
        self.pid, pidfd = process.clone3(0)
        if self.pid == 0:
            try:
                _watch(run, reaper, supervisor, spec.timeout + spec.grace + PATIENCE)
            finally:
                _wait_to_be_killed(supervisor)
        if pidfd >= 0:
            os.close(pidfd)

    def end(self):
        """Ends it and waits for that.  Never raises."""
        try:
            process.kill(self.pid, SIGKILL)  # a child's pid is its own until it is waited for
            os.waitpid(self.pid, 0)
        except OSError:
            pass


def _wait_to_be_killed(supervisor):
    """Waits until it is killed.

    Where SIGCHLD is ignored, the number of a watchdog that ended would be free for others.
    """
    poll = select.poll()
    while os.getppid() == supervisor:
        poll.poll(1000)
    os._exit(0)


def _watch(run, reaper, supervisor, seconds):
    """Does the work of the watchdog.

    It imports nothing, and closes each descriptor whose end somebody waits for.
    """
    process.set_parent_death_signal(SIGKILL)
    kept = {run.pidfd}
    if reaper is not None:
        kept.update(reaper.strangers.values())
        reaper.strangers[os.getpid()] = -1
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if fd not in kept:
            try:
                os.close(fd)
            except OSError:
                pass  # that of the listing
    poll = select.poll()
    poll.register(run.pidfd, select.POLLIN)
    if os.getppid() != supervisor or poll.poll(seconds * 1000):
        return
    ending.finish(run)
    # Without a pid namespace others outlive init, until the supervisor is back.
    while reaper is not None:
        reaper.kill_orphans()
        time.sleep(ending.FIRST)
