# SPDX-License-Identifier: Apache-2.0
"""How much processor time the whole sandbox has used, where no cgroup counts it: the sum over its processes.

Read through the sandbox's own /proc, opened from outside before anything runs: it lists the processes of its pid namespace
and no others, and the workload can neither unmount it nor hide in it (whoever made the user namespace may see all in it,
proc(5) hidepid, ptrace(2)).  Without one (--proc none, the process tier) the caller's /proc, and the descendants of pid 1
in it, and of the supervisor where that adopts the orphans.

What a process has used goes over to its parent when that waits for it.  Nobody gets it where the parent ignores SIGCHLD:
then what was last seen of it is kept.  So the sum never says too much, up to a process that is reaped between two looks
of one reading, and too little by what such an orphaned process used after it was last seen, and by the clock tick that
stat(5) rounds to, up to 20 ms for each process.
"""
import os
import time

from ..controls import Control
from ..errors import SandboxError, stage
from ..proc import read
from ..part import Part

#: Seconds between two readings; the share of one processor that reading may cost where there are
#: many processes; and of the time, where reading waits: for a processor, or for a lock that a
#: program holds.
INTERVAL, SHARE, WAITED = 0.02, 0.05, 0.2
SIGKILL = 9


def open_proc(pid, own):
    """A descriptor of the directory to read.  pid: of the sandbox's init at the gate; own: whether the sandbox has a /proc.

    Raises OSError.
    """
    return os.open("/proc/%d/root/proc" % pid if own else "/proc",
                   os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


class MeterPart(Part):
    """Measures the processor time of a run, and keeps its limit.

    group: cgroup.ControlGroup, reaper: reaper.Reaper of the run, or None.
    meter: Meter or GroupMeter from the gate on; None where samples alone ask for what can't be had.
    watchdog: watchdog.Watchdog or None.
    """

    def __init__(self, group, reaper):
        self.group, self.reaper, self.meter, self.watchdog = group, reaper, None, None

    def ready(self, run):
        """Makes the meter before the gate opens: the program inside is not asked."""
        try:
            self.meter = self.make(run)
        except SandboxError as error:
            if run.plan.spec.cpu_time is not None:
                raise
            run.result.notes.append("no samples: %s" % error.line())

    def make(self, run):
        """Returns the meter.  Raises SandboxError."""
        if self.group is not None and self.group.group is not None:
            return GroupMeter(self.group.group)
        own = run.plan.tier.own_tree and run.plan.spec.proc != "none"
        adopter = None if self.reaper is None else os.getpid()
        with stage("processor time", "Meter"):
            proc = run.held.keep(open_proc(run.pid, own))
            return Meter(proc, 1 if own else run.pid, own, adopter)

    def before_program(self, run):
        """Starts the watchdog, and adds the limit to the receipt: the first reading was made."""
        if self.meter is None:
            return
        with stage("start", "watchdog"):
            self.watchdog = self.meter.watchdog(run, self.reaper)
        if self.watchdog is not None:
            run.processes.add(self.watchdog.end)
        if run.plan.spec.cpu_time is not None:
            run.result.controls.append(self.meter.control().as_dict())

    def watch(self, run, supervision):
        """Reads again and again whether the time is used up."""
        if run.plan.spec.cpu_time is not None:
            supervision.schedule(lambda: self._look(supervision), self.meter.interval)

    def _look(self, supervision):
        """Ends the program when all has been used.

        It is asked twice: a process that is reaped while one looks shows twice.
        """
        if supervision.ending or supervision.over:
            return
        most = supervision.spec.cpu_time
        if self.meter.read() >= most and self.meter.read() >= most:
            supervision.outcome.cpu_deadline = True
            supervision.ask_to_end()
        else:
            supervision.schedule(lambda: self._look(supervision), self.meter.interval)

    def program_ended(self, supervision):
        """Notices that the watchdog has kept the deadline."""
        outcome = supervision.outcome
        if self.watchdog is None or supervision.ending or outcome.status not in (None, SIGKILL):
            return
        if time.monotonic() >= supervision.begun + supervision.spec.timeout:
            outcome.deadline = supervision.ending = True
            supervision.due = []

    def finish(self, run, result, outcome):
        """Tells what was read last."""
        if self.meter is not None:
            outcome.measured.append(self.meter.split)


def pause(begun, share):
    """Seconds until the next reading.  begun: time.monotonic() and time.process_time() before the last; share: of one
    processor."""
    return max((time.process_time() - begun[1]) / share, (time.monotonic() - begun[0]) / WAITED)


class Meter:
    """proc: descriptor from open_proc; init: the number of the sandbox's pid 1 there; own: whether it is the sandbox's;
    adopter: the number of the process to which its orphans go, None where that is pid 1.

    split: seconds used since the meter was made, (user, system), as of the last reading; resident: pages in memory then;
    interval: seconds until the next one.
    """

    def __init__(self, proc, init, own, adopter=None):
        """Takes what is used so far, mrunc's own set-up, as zero.  Raises OSError where it can't be read."""
        self.proc, self.init, self.own, self.adopter = proc, init, own, adopter
        self.tick = os.sysconf("SC_CLK_TCK")
        self.seen = {}  # pid -> (start, user, system)
        self.strangers = {}  # pid -> start, of the adopter's children that are not the sandbox's
        if adopter is not None:
            self.strangers = dict((pid, row[0]) for pid, row in self._rows().items()
                                  if row[5] == adopter and pid != init)
        self.vanished, self.base = (0, 0), (0, 0)
        self.split = (0.0, 0.0)
        self.resident, self.page = 0, os.sysconf("SC_PAGE_SIZE")
        self.interval = INTERVAL
        self.base = self._look()
        if init not in self.seen:
            raise OSError(2, "pid 1 of the sandbox is not there", "/proc")

    def control(self):
        """The line of the receipt: the first reading has been made."""
        return Control("limits.cpu-time", True, True, "the supervisor adds up %s every %d ms" % (
            "the processes of the pid namespace" if self.own else "the descendants of pid 1",
            INTERVAL * 1000))

    def watchdog(self, run, reaper):
        """Returns the watchdog.Watchdog of a launch.Run with a deadline, else None.  Raises OSError.

        Before Linux 5.2 there is no pidfd; the lock that a reading may wait for is younger.  execve(2)
        """
        if run.plan.spec.timeout is None or run.pidfd < 0:
            return None
        from .watchdog import Watchdog
        made = Watchdog(run, reaper)
        if self.adopter is not None:
            self.strangers[made.pid] = (self._stat(str(made.pid)) or (None,))[0]
        return made

    def read(self):
        """Seconds used since the meter was made, user and system together."""
        begun = time.monotonic(), time.process_time()
        user, system = self._look()
        user, system = (user - self.base[0]) / self.tick, (system - self.base[1]) / self.tick
        self.split = max(self.split, (user, system), key=sum)
        self.interval = max(INTERVAL, pause(begun, SHARE))
        return user + system

    def sample(self):
        """(seconds used so far, bytes of memory, processes without pid 1).  The memory is the sum of the resident sets: pages
        that processes share count several times.  Raises OSError."""
        used = self.read()
        if self.init not in self.seen:
            raise OSError(3, "the sandbox has ended")
        return used, self.resident * self.page, len(self.seen) - 1

    def _look(self):
        """Reads every process of the sandbox; returns what they and the dead have used, (user, system), in ticks."""
        rows = self._rows()
        members = rows if self.own else self._descendants(rows)
        found = dict((pid, rows[pid][:3]) for pid in members)
        dead = [row for pid, row in self.seen.items() if found.get(pid, (None,))[0] != row[0]]
        self.vanished = _add(self.vanished, *[row[1:] for row in dead])
        self.seen = found
        self.resident = sum(rows[pid][6] for pid in members)
        # What the dead were last seen with and what was handed on are both too little, and partly
        # the same.
        handed_on = _add((0, 0), *[rows[pid][3:5] for pid in members])
        return _add(max(self.vanished, handed_on, key=sum), *[row[1:] for row in found.values()])

    def _rows(self):
        """{pid: _stat} of all processes."""
        rows = {}
        for name in os.listdir(self.proc):
            row = self._stat(name) if name.isdigit() else None
            if row is not None:
                rows[int(name)] = row
        return rows

    def _descendants(self, rows):
        """The numbers of pid 1 and all that come from it.  Once in, always in: an orphan is read while it changes hands."""
        children, out = {}, set()
        for pid, row in rows.items():
            children.setdefault(row[5], []).append(pid)
        pending = [self.init] if self.init in rows else []
        pending += [pid for pid, row in self.seen.items() if pid in rows and rows[pid][0] == row[0]]
        pending += [pid for pid in children.get(self.adopter, ())
                    if self.strangers.get(pid) != rows[pid][0]]
        while pending:
            pid = pending.pop()
            if pid not in out:
                out.add(pid)
                pending += children.get(pid, ())
        return out

    def _stat(self, name):
        """(start, user, system, user and system of the children waited for, parent, resident pages), times in ticks; None where
        it is gone.  proc_pid_stat(5)"""
        try:
            fields = read(name + "/stat", self.proc, first=4096).rpartition(b")")[2].split()
        except OSError:
            return None
        return tuple(int(fields[number]) for number in (19, 11, 12, 13, 14, 1, 21))


class GroupMeter:
    """Where a control group counts: exactly, and everything that was ever in it.  group: cgroup.Group."""

    interval, split = INTERVAL, (0.0, 0.0)

    def __init__(self, group):
        self.group = group

    def control(self):
        """The line of the receipt."""
        return Control("limits.cpu-time", True, True,
                       "cgroup v2, cpu.stat, read every %d ms" % (INTERVAL * 1000))

    def watchdog(self, run, reaper):
        """Returns None: to read the group's files waits for nobody."""

    def read(self):
        """Seconds used since the gate opened, user and system together."""
        return self.group.cpu_seconds()

    def sample(self):
        """As Meter.sample; the memory with cached files, threads and pid 1 among the processes.  None: the controller is not
        on."""
        return self.read(), self.group.number("memory.current"), self.group.number("pids.current")


def _add(*pairs):
    return sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
