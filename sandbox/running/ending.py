# SPDX-License-Identifier: Apache-2.0
"""Kills a sandbox that does not end by itself, every process and not only pid 1.

Pid 1 takes its namespace apart, and needs a processor for that. A program that keeps it from one
would go on meanwhile. So the supervisor kills the control group, or without one every process that
it finds in the sandbox, again and again until pid 1 has ended. No process number is trusted: each
process is opened first, and killed through its descriptor if it belongs to the sandbox.
pid_namespaces(7), pidfd_send_signal(2)
"""
import os
import select
import time

from ..proc import read
from ...syscalls import process

SIGKILL = 9
#: Seconds until the first look at an end that should have come by itself, and the longest pause
#: between two looks.
FIRST, LONGEST = 0.05, 1.0
#: Seconds between two looks where no descriptor tells of an end.
LOOK_AGAIN = 0.002
#: Processes that are looked at.  RLIMIT_NPROC is 512 unless it was raised.
MOST = 1 << 16
#: Processes that are looked at together, and descriptors held of others that wait.
BATCH, MOST_HELD = 32, 96
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Ending:
    """Decides when and how a sandbox is killed until it has ended.

    It does not keep the launch.run.Run, which keeps it.
    """

    def __init__(self):
        self.proc, self.pause, self.first = -1, FIRST, True
        self.due = time.monotonic() + FIRST

    def wait(self):
        """Returns the seconds until the next look."""
        return max(0.0, self.due - time.monotonic())

    def serve(self, run):
        """Looks if a look is due."""
        if self.due <= time.monotonic():
            self.look(run)

    def kill_others(self, run):
        """Kills everything but pid 1, which then gets a processor and reports the end.

        Never raises.
        """
        with Urgent():
            self._kill_others(run)

    def _kill_others(self, run):
        if self.first and run.plan.tier.own_tree and run.plan.spec.proc != "none":
            self.proc = own_proc(run.pid)
            if self.proc >= 0:
                run.held.keep(self.proc)
        if self.proc >= 0:
            kill_listed(self.proc)
        # The sandbox's /proc hides a process whose program only root may read.  proc(5), hidepid
        if self.proc < 0 or not self.first:
            kill_below(run.pid)
        self.first = False

    def look(self, run):
        """Kills everything that exists now.  Never raises."""
        if run.pid <= 0:
            return
        with Urgent():
            for part in run.parts:
                part.kill_all()
            try:
                run.signal_init(SIGKILL)
            except OSError:
                pass
            give_processors(run.pid)
            self._kill_others(run)
            for part in run.parts:
                part.kill_orphans()
        self.pause = min(2 * self.pause, LONGEST)
        self.due = time.monotonic() + self.pause


class Urgent:
    """Puts this process before what it is to kill, as far as it may: root's supervisor alone.

    Among hundreds of loops the next turn comes after more than half a second.  setpriority(2)
    """

    def __enter__(self):
        self.usual = os.getpriority(os.PRIO_PROCESS, 0)
        try:
            os.setpriority(os.PRIO_PROCESS, 0, -20)
        except OSError:
            pass

    def __exit__(self, *_):
        try:
            os.setpriority(os.PRIO_PROCESS, 0, self.usual)
        except OSError:
            pass


def give_processors(pid):
    """Gives a process our processors, scheduling class and priority.  Never raises.

    pid: of a process that is to end.

    Leaving SCHED_IDLE takes CAP_SYS_NICE. So a busy host can delay the end of a process that an
    ordinary user's program has put there, if no filter prevented that. sched_setscheduler(2)
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
    """Kills pid 1 and waits for its end.  Never raises.

    run: launch.run.Run.
    """
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
    """Returns whether pid 1 has ended, after waiting up to so many seconds."""
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
    """Returns a descriptor of the sandbox's own /proc, or -1.

    init: pid 1's number in our /proc.

    Until pivot_root the root of pid 1 is the host's, and so is its /proc, which lists every process
    of the host. So it is used only if its number 1 and `init` are in one pid namespace, and that is
    not ours. pid_namespaces(7)
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
    """Kills all processes in a sandbox's own /proc but pid 1.

    proc: its descriptor.

    It lists only the processes of its pid namespace, so everything opened there is the sandbox's.
    Linux 5.1
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
    """Kills all descendants of a process, found in our own /proc.

    root: pid 1 of a sandbox, or a child; it must not be reaped meanwhile.

    A number stays a process's own while its directory in /proc, opened before, still answers. So a
    process that names a parent which answers afterwards is its child. The next look finds processes
    that lose their parent meanwhile.
    """
    # (number, directory, children that are still to be looked at)
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
    """Returns the numbers of a process's children, the eldest first; [] if it has ended.

    directory: descriptor of its directory in /proc.

    Needs CONFIG_PROC_CHILDREN. proc_pid_task(5)
    """
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
    """Returns `status` of a process, b"" if it was reaped.  proc_pid_status(5)

    directory: descriptor of its directory in /proc.

    A read of `stat` may wait for a process that executes a program: on newer kernels (seen on
    6.18.44) it takes exec_update_lock, under which execve(2) frees the old memory, as slowly as a
    program likes.
    """
    try:
        return read("status", directory, first=1 << 16) if directory >= 0 else b""
    except OSError:
        return b""


def parent(directory):
    """Returns the number of a process's parent, -1 if it was reaped.

    directory: descriptor of its directory in /proc.
    """
    words = status(directory).partition(b"\nPPid:")[2].split(None, 1)
    return int(words[0]) if words else -1


def opened(path, directory=None):
    """Returns a descriptor of a directory, -1 if it does not exist."""
    try:
        return os.open(path, DIRECTORY, dir_fd=directory)
    except OSError:
        return -1


def kill(fd):
    """Kills the process behind a directory of /proc and closes the descriptor."""
    try:
        process.pidfd_kill(fd, SIGKILL)
    except OSError:
        pass
    os.close(fd)
