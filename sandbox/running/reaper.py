# SPDX-License-Identifier: Apache-2.0
"""Ends a sandbox without a pid namespace, and signals its program.

From Landlock ABI 6 on init does it: its kill(-1) reaches everything in the domain at once, also if
the supervisor has been killed.  The supervisor does it again, and alone below ABI 6: as the
subreaper it becomes the parent of each process that loses its own.
"""
import os
import select
import time

from ...syscalls import process
from .ending import BATCH, LOOK_AGAIN, children, kill, kill_below, opened, parent, status
from ..errors import stage
from ..host.facts import own_filters
from ..part import Part

SIGKILL, ESRCH = 9, 3
WALL = 0x40000000  # __WALL: children that end without SIGCHLD, too
#: Seconds.  Below ABI 6 a program that forks without a pause could outrun a sweep for ever.
PATIENCE = 5.0


class Reaper(Part):
    """Ends a run without a pid namespace.

    filters: how many seccomp filters a process of the sandbox has, which tells it from the caller's
    other children.
    scoped: init may and will signal the program.
    strangers: {pid: directory in /proc of a child of the caller's, -1: not held}.
    group: cgroup.ControlGroup of the run, or None.
    """

    tells = True

    def __init__(self, group=None):
        self.group, self.filters, self.scoped = group, 0, False
        self.own, self.strangers, self.before = os.getpid(), {}, 0
        self.init, self.workload, self.leader = 0, -1, 0
        self.survivors = []

    def prepare(self, run):
        """Becomes the subreaper."""
        self.filters = (own_filters() or 0) + len(run.plan.filters)
        self.scoped = run.features.landlock_abi >= 6
        self.before = process.get_child_subreaper()
        process.set_child_subreaper(1)
        run.held.add(self.release)
        run.processes.add(self.end)

    def child_started(self, run, child):
        """Notes which children are the caller's own."""
        self.init = run.pid
        with stage("start", "begin"):
            for pid, directory in listed():
                if pid != self.init and parent(directory) == self.own:
                    held = len(self.strangers) < BATCH
                    self.strangers[pid] = os.dup(directory) if held else -1

    def packet(self, run, packet, fd):
        """Knows how many filters there are: a listener's one stands for all."""
        if packet[:1] == b"L" and "listener" in run.facts:
            self.filters += 1 - len(run.plan.filters)
        return False

    def release(self):
        """Gives the attribute back."""
        process.set_child_subreaper(self.before)
        for fd in [self.workload] + list(self.strangers.values()):
            if fd >= 0:
                os.close(fd)

    def signal(self, number):
        """Sends a signal to the program's process group where the filter keeps init from it."""
        if self.scoped:
            return False
        if self._find_workload():
            # ESRCH when init has reaped it: the number may be another's.
            process.pidfd_kill(self.workload, 0)
            process.kill(-self.leader, number)
        return True

    def stop(self):
        """Kills the program where init can't.  Init reports its end as usual."""
        if not self.scoped:
            try:
                self.signal(SIGKILL)
            except OSError:
                pass  # it has ended

    def _find_workload(self):
        """Opens the program: the eldest child of init.  Returns whether there is one.

        Any other child of init was made by the program, with CLONE_PARENT.
        """
        if self.workload < 0:
            directory = opened("/proc/%d" % self.init)
            for pid in children(directory)[:1]:
                fd = handle(pid)
                if parent_of(pid) == self.init:
                    self.workload, self.leader = fd, pid
                else:
                    os.close(fd)
            if directory >= 0:
                os.close(directory)
        return self.workload >= 0

    def end(self):
        """Kills what is left when init has been waited for."""
        if self.init:
            if self.group is not None:
                self.group.kill_all()
            self.survivors = self.sweep()

    def finish(self, run, result, outcome):
        """Tells what could not be killed."""
        if self.survivors:
            result.notes.append("these processes of the program could not be ended: %s" %
                                " ".join(map(str, self.survivors)))

    def sweep(self):
        """Kills and reaps until no process of the sandbox is a child of the supervisor.

        In the end each has the supervisor for its parent.  Returns the pids of those that were
        still there after PATIENCE seconds.
        """
        ends = time.monotonic() + PATIENCE
        while True:
            ours = self.members()
            if not ours or time.monotonic() > ends:
                return sorted(ours)
            for pid in ours:
                # Generation by generation, a long line of descent would outlast any patience.
                kill_below(pid)
                process.kill(pid, SIGKILL)  # a child's pid is its own until it is waited for
            for pid in ours:
                self._wait(pid, ends)

    def kill_orphans(self):
        """Kills all that is there now, and waits for nothing."""
        try:
            for pid in self.members():
                directory = opened("/proc/%d" % pid)
                if self._is_of_the_sandbox(pid, directory):
                    kill_below(pid)
                    kill(directory)
                elif directory >= 0:
                    os.close(directory)
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

    def members(self):
        """Returns the numbers of the supervisor's children that are the sandbox's."""
        return [pid for pid, directory in listed() if self._is_of_the_sandbox(pid, directory)]

    def _is_of_the_sandbox(self, pid, directory):
        """Returns whether a child of the supervisor is the sandbox's: no process can shed a filter.

        The caller may have children of other kinds (exec from a shell). Those from before init may
        have filters of their own.
        """
        if parent(directory) != self.own:
            return False
        if pid in self.strangers and (self.strangers[pid] < 0 or status(self.strangers[pid])):
            return False
        rows = dict(line.split(b":", 1) for line in status(directory).splitlines()
                    if line.startswith((b"Seccomp", b"NoNewPrivs")))
        if b"Seccomp" not in rows or b"NoNewPrivs" not in rows:
            return False
        filters = int(rows.get(b"Seccomp_filters", b"0"))
        return rows[b"NoNewPrivs"].strip() == b"1" and filters >= self.filters


def listed():
    """Yields (pid, descriptor of its directory) of all processes that /proc shows.

    The descriptor is open until the next one is asked for.
    """
    for name in os.listdir("/proc"):
        directory = opened("/proc/" + name) if name.isdigit() else -1
        if directory >= 0:
            try:
                yield int(name), directory
            finally:
                os.close(directory)


def handle(pid):
    """Returns a descriptor that signals can be sent through.

    That is a pidfd, or where pidfd_open is hidden, the directory in /proc.
    """
    try:
        return process.pidfd_open(pid)
    except OSError as error:
        if error.errno == ESRCH:
            raise
        return os.open("/proc/%d" % pid, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def parent_of(pid):
    """Returns the parent's pid, or -1."""
    directory = opened("/proc/%d" % pid)
    try:
        return parent(directory)
    finally:
        if directory >= 0:
            os.close(directory)
