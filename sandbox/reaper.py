# SPDX-License-Identifier: Apache-2.0
"""The end of a sandbox without a pid namespace: who is left is found and killed, and signals find the program.

From Landlock ABI 6 on init does it: its kill(-1) reaches everything in the domain at once, also when the supervisor has
been killed.  Behind that, and alone below ABI 6, stands the supervisor: as the subreaper it becomes the parent of each
process that loses its own.
"""
import os
import select
import time

from ..syscalls import process

SIGKILL, ESRCH = 9, 3
WALL = 0x40000000  # __WALL: children that end without SIGCHLD, too
#: A program that forks without a pause could outrun a sweep below ABI 6 for ever.
PATIENCE = 5.0
#: Where no descriptor tells of an end, one looks again after so many seconds.
LOOK_AGAIN = 0.002


class Reaper:
    """filters: how many seccomp filters a process of the sandbox has, which tells it from the caller's other children."""

    def __init__(self, filters, scoped):
        """Becomes the subreaper.  scoped: init may and will signal the program."""
        self.filters, self.scoped = filters, scoped
        self.before = process.get_child_subreaper()
        self.init, self.signal_init, self.workload, self.leader, self.born = 0, None, -1, 0, 0
        process.set_child_subreaper(1)

    def begin(self, init, signal_init):
        """init, signal_init: of launch.Run.  Raises OSError."""
        self.init, self.signal_init = init, signal_init
        self.born = process_row(init)[2]

    def release(self):
        """Gives the attribute back."""
        process.set_child_subreaper(self.before)
        if self.workload >= 0:
            os.close(self.workload)

    def signal(self, number):
        """Sends a signal to the program's process group: by init, or where the filter keeps init from it, directly."""
        if self.scoped:
            self.signal_init(number)
        elif self._find_workload():
            process.pidfd_kill(self.workload, 0)  # ESRCH when init has reaped it: the number may be another's
            process.kill(-self.leader, number)

    def stop(self):
        """Kills the program where init can't.  Init reports its end as usual."""
        if not self.scoped:
            try:
                self.signal(SIGKILL)
            except OSError:
                pass  # it has ended

    def _find_workload(self):
        """Its pidfd: the eldest child of init (what else is init's was made by the program, with CLONE_PARENT)."""
        if self.workload < 0:
            children = sorted((start, pid) for pid, parent, start in processes() if parent == self.init)
            if children:
                fd = handle(children[0][1])
                if parent_of(children[0][1]) == self.init:
                    self.workload, self.leader = fd, children[0][1]
                else:
                    os.close(fd)
        return self.workload >= 0

    def sweep(self):
        """Kills and reaps until no process of the sandbox is a child of ours; each has us for its parent in the end.
        Returns the pids of those that were still there after PATIENCE seconds."""
        ends = time.monotonic() + PATIENCE
        while True:
            ours, others = self._members()
            if not ours or time.monotonic() > ends:
                return sorted(pid for pid, _, _ in ours + others)
            for pid, _, _ in ours:
                process.kill(pid, SIGKILL)  # a child's pid is its own until it is waited for
            for row in others:
                _kill_other(row)
            for pid, _, _ in ours:
                self._wait(pid, ends)

    def kill(self):
        """Kills all that is there now, and waits for nothing.  Never raises."""
        try:
            for row in sum(self._members(), []):
                _kill_other(row)
        except OSError:
            pass

    def _wait(self, pid, ends):
        try:
            fd = process.pidfd_open(pid)
        except OSError:
            while not process.has_ended(pid) and time.monotonic() < ends:
                time.sleep(LOOK_AGAIN)
            os.waitpid(pid, WALL | os.WNOHANG)
            return
        try:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            if poll.poll(max(0.0, ends - time.monotonic()) * 1000 + 1):
                os.waitpid(pid, WALL | os.WNOHANG)
        finally:
            os.close(fd)

    def _members(self):
        """The rows of our children that are the sandbox's, and of all that come from them: generation by generation, a long
        line of descent would outlast any patience."""
        own, rows, below = os.getpid(), processes(), {}
        for row in rows:
            below.setdefault(row[1], []).append(row)
        ours = [row for row in below.get(own, ()) if row[2] >= self.born and self._is_of_the_sandbox(row[0])]
        line, known = list(ours), set(row[0] for row in ours)
        for row in line:  # which grows meanwhile; numbers that are given anew while one looks can lead in a circle
            for child in below.get(row[0], ()):
                if child[0] not in known:
                    known.add(child[0])
                    line.append(child)
        return ours, line[len(ours):]

    def _is_of_the_sandbox(self, pid):
        """No process can shed a filter.  The caller may have children of other kinds (exec from a shell); those that it had
        already, older than init, may have filters of their own."""
        try:
            with open("/proc/%d/status" % pid, errors="surrogateescape") as stream:
                status = dict(line.split(":", 1) for line in stream if line.startswith(("Seccomp", "NoNewPrivs")))
        except OSError:
            return False
        if "Seccomp" not in status:
            return False
        return status["NoNewPrivs"].strip() == "1" and int(status.get("Seccomp_filters", "0")) >= self.filters


def processes():
    """[(pid, parent's pid, start time)] of all that /proc shows.  proc_pid_stat(5)"""
    out = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                out.append(process_row(name))
            except OSError:
                continue
    return out


def _kill_other(row):
    """Kills a process that is no child of ours, if it still is the one of the row.  One that can't be told from a later one
    with its number is killed when it has become our child."""
    try:
        fd = handle(row[0])
    except OSError:
        return
    try:
        if process_row(row[0])[2] == row[2]:
            process.pidfd_kill(fd, SIGKILL)
    except OSError:
        pass
    finally:
        os.close(fd)


def process_row(pid):
    """(pid, parent's pid, start time).  Raises OSError."""
    with open("/proc/%s/stat" % pid, errors="surrogateescape") as stream:
        fields = stream.read().rpartition(")")[2].split()
    return int(pid), int(fields[1]), int(fields[19])


def handle(pid):
    """A descriptor that signals can be sent through: a pidfd, or where pidfd_open is hidden, the directory in /proc."""
    try:
        return process.pidfd_open(pid)
    except OSError as error:
        if error.errno == ESRCH:
            raise
        return os.open("/proc/%d" % pid, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def parent_of(pid):
    """The parent's pid, or 0."""
    return ([parent for number, parent, _ in processes() if number == pid] + [0])[0]
