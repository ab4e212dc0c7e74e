# SPDX-License-Identifier: Apache-2.0
"""The end of a sandbox that does not end by itself: everything inside is killed, and not pid 1 alone.

Pid 1 takes its namespace apart, and needs a processor for it.  A program that keeps it from one would go on as long as
that lasts.  So the supervisor kills the control group, or without one every process that it finds in the sandbox, again
and again until pid 1 has ended.  No number is trusted: each process is opened first, and killed through what was opened
if that belongs to the sandbox.  pid_namespaces(7), pidfd_send_signal(2)
"""
import os
import select
import time

from ..proc import read
from ...syscalls import process

SIGKILL = 9
#: Seconds until the first look at an end that should have come by itself, which then come more
#: seldom.
FIRST, LONGEST = 0.05, 1.0
#: Where no descriptor tells of an end, one looks again after so many seconds.
LOOK_AGAIN = 0.002
#: A sandbox cannot have more: RLIMIT_NPROC is 512 unless it was raised.
MOST = 1 << 16
#: So many are looked at together, and so many descriptors held of others whose turn comes.
BATCH, MOST_HELD = 32, 96
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Ending:
    """When and how a sandbox is killed until it has ended.  It does not hold the launch.Run, which holds it."""

    def __init__(self):
        self.proc, self.pause, self.first = -1, FIRST, True
        self.due = time.monotonic() + FIRST

    def wait(self):
        """Seconds until the next look is due."""
        return max(0.0, self.due - time.monotonic())

    def serve(self, run):
        """Looks, if that is due."""
        if self.due <= time.monotonic():
            self.look(run)

    def spare_init(self, run):
        """Kills everything but pid 1, which then gets a processor and reports the end.  Never raises."""
        if self.first and run.plan.tier.own_tree and run.plan.spec.proc != "none":
            self.proc = own_proc(run.pid)
            if self.proc >= 0:
                run.held.keep(self.proc)
        if self.proc >= 0:
            kill_listed(self.proc)
        # It hides a process whose program only root may read.  proc(5), hidepid.
        if self.proc < 0 or not self.first:
            kill_below(run.pid)
        self.first = False

    def look(self, run):
        """Kills everything that is there now.  Never raises."""
        if run.pid <= 0:
            return
        for part in run.parts:
            part.kill_all()
        try:
            run.signal_init(SIGKILL)
        except OSError:
            pass
        give_way(run.pid)
        self.spare_init(run)
        for part in run.parts:
            part.kill_orphans()
        self.pause = min(2 * self.pause, LONGEST)
        self.due = time.monotonic() + self.pause


def give_way(pid):
    """Gives a process that is to end our processors, class and priority, as far as we may.  Never raises.

    Out of SCHED_IDLE it comes with CAP_SYS_NICE alone; a busy host can hold up the end of one that an ordinary user's
    program has put there, if no filter kept it from that.  sched_setscheduler(2)
    """
    for change, arguments in ((os.sched_setaffinity, (pid, os.sched_getaffinity(0))),
                              (os.sched_setscheduler, (pid, os.SCHED_OTHER, os.sched_param(0))),
                              (os.setpriority,
                               (os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0)))):
        try:
            change(*arguments)
        except OSError:
            pass


def finish(run):
    """Kills pid 1 and waits for its end.  Never raises."""
    try:
        run.signal_init(SIGKILL)
    except OSError:
        try:
            process.kill(run.pid, SIGKILL)
        except OSError:
            try:
                run.sock.close()
            except OSError:
                pass
    ending = run.ending or Ending()
    while not _has_ended(run, ending.wait()):
        ending.serve(run)


def _has_ended(run, seconds):
    """Whether pid 1 has ended, waiting so long for it."""
    if run.pidfd >= 0:
        poll = select.poll()
        poll.register(run.pidfd, select.POLLIN)
        try:
            return bool(poll.poll(seconds * 1000 + 1))
        except OSError:
            pass
    until = time.monotonic() + seconds
    while True:
        try:
            if process.has_ended(run.pid):
                return True
        except OSError:  # it is no child of ours any more
            return True
        if time.monotonic() >= until:
            return False
        time.sleep(LOOK_AGAIN)


def own_proc(init):
    """A descriptor of the sandbox's own /proc, -1 where that can't be had.  init: pid 1's number in our /proc.

    Until pivot_root the root of pid 1 is the host's, and so is its /proc, which lists every process of the host.  So it
    is taken only if its number 1 and `init` are in one pid namespace that is not ours.  pid_namespaces(7)
    """
    proc = opened("/proc/%d/root/proc" % init)
    if proc < 0:
        return -1
    try:
        theirs, ours = os.stat("/proc/%d/ns/pid" % init), os.stat("/proc/self/ns/pid")
        first = os.stat("1/ns/pid", dir_fd=proc)
        same = (first.st_dev, first.st_ino) == (theirs.st_dev, theirs.st_ino)
        if same and (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino):
            return proc
    except OSError:
        pass
    os.close(proc)
    return -1


def kill_listed(proc):
    """Kills all that a sandbox's own /proc lists, but for pid 1.  proc: its descriptor.

    It shows the processes of its pid namespace and no others, so what is opened there is the sandbox's.  Linux 5.1
    """
    try:
        names = os.listdir(proc)
    except OSError:
        return
    for name in names:
        if name.isdigit() and name != "1":
            fd = opened(name, proc)
            if fd >= 0:
                kill(fd)


def kill_below(root):
    """Kills all that descends from a process, looked for in our own /proc.  root: the number of one that is not waited for
    meanwhile: pid 1 of a sandbox, or a child.

    A number is its process's own while a directory of /proc that was opened before still answers.  So who names a parent
    that answers afterwards is its child.  What loses its parent meanwhile is found by the next look.
    """
    # Number, directory, those of its children to look at.
    seen, held = {root}, [(root, opened("/proc/%d" % root), None)]
    while held:
        pid, directory, left = held.pop()
        left = children(directory) if left is None else left
        some, left = [child for child in left[:BATCH] if child not in seen], left[BATCH:]
        found = [(child, fd, parent(fd))
                 for child, fd in [(child, opened("/proc/%d" % child)) for child in some]]
        still = pid == root or parent(directory) >= 0
        below = []
        for child, fd, above in found:
            if above == root or above == pid and still:
                seen.add(child)
                below.append((child, fd, None))
            elif fd >= 0:
                os.close(fd)
        if left:
            held.append((pid, directory, left))
        elif pid != root:
            kill(directory)
        elif directory >= 0:
            os.close(directory)
        if len(held) < MOST_HELD and len(seen) < MOST:
            held += below
        else:
            for _, fd, _ in below:
                kill(fd)


def children(directory):
    """The numbers of the children of the process behind a directory of /proc, the eldest first; [] where it has ended.  Needs
    CONFIG_PROC_CHILDREN.  proc_pid_task(5)"""
    found = []
    tasks = opened("task", directory) if directory >= 0 else -1
    if tasks >= 0:
        try:
            for task in os.listdir(tasks):
                found += read(task + "/children", tasks, first=1 << 16).split()
        except OSError:
            pass
        os.close(tasks)
    return [int(word) for word in found]


def status(directory):
    """`status` of the process behind a directory of /proc, b"" where it has been waited for.  proc_pid_status(5)

    `stat` may wait for a process that executes a program: on newer kernels (seen on 6.18.44) it takes exec_update_lock, under
    which execve(2) frees the old memory, as slowly as a program likes.
    """
    try:
        return read("status", directory, first=1 << 16) if directory >= 0 else b""
    except OSError:
        return b""


def parent(directory):
    """The number of its parent, -1 where it has been waited for."""
    words = status(directory).partition(b"\nPPid:")[2].split(None, 1)
    return int(words[0]) if words else -1


def opened(path, directory=None):
    """A descriptor of the directory, -1 where there is none."""
    try:
        return os.open(path, DIRECTORY, dir_fd=directory)
    except OSError:
        return -1


def kill(fd):
    """SIGKILL to the process behind a directory of /proc, which is closed."""
    try:
        process.pidfd_kill(fd, SIGKILL)
    except OSError:
        pass
    os.close(fd)
