# SPDX-License-Identifier: Apache-2.0
"""Measures the processor time of a sandbox without a control group, process by process.

The sandbox's own /proc is opened from outside before anything runs. It lists only the processes of
its pid namespace. The program can neither unmount it nor hide in it: the maker of the user
namespace may see every process in it (proc(5) hidepid, ptrace(2)). Without such a /proc (--proc
none, the process tier) the caller's /proc is read: the descendants of pid 1, and of the supervisor
if it adopts the orphans.

A process's time goes to its parent when that waits for it. It goes nowhere if the parent ignores
SIGCHLD: then the last value that was seen counts. So the sum is never too large, except for a
process that is reaped between two looks of one reading. It is too small by what such an orphan used
after it was last seen, and by the clock tick of stat(5), up to 20 ms for each process.
"""
import os
import time

from ..controls import Control
from ..errors import SandboxError, stage
from ..proc import read
from ..part import Part

#: Seconds between two readings.
INTERVAL = 0.02
#: The share of one processor that reading may cost, if there are many processes; and of the time,
#: if a reading waits for a processor or for a lock that a program holds.
SHARE, WAITED = 0.05, 0.2
SIGKILL = 9


def open_proc(pid, own):
    """Opens the /proc to read and returns its descriptor.  Raises OSError.

    pid: of the sandbox's init, at the gate.
    own: whether the sandbox has a /proc.
    """
    return os.open("/proc/%d/root/proc" % pid if own else "/proc",
                   os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


class MeterPart(Part):
    """Measures the processor time of a run, and enforces its limit.

    group: cgroup.group.ControlGroup of the run, or None.
    reaper: reaper.Reaper of the run, or None.
    meter: Meter or GroupMeter from the gate on; None if only samples asked and nothing can be read.
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
        """Schedules the readings."""
        if run.plan.spec.cpu_time is not None:
            supervision.schedule(lambda: self._look(supervision), self.meter.interval)

    def _look(self, supervision):
        """Ends the program if the time is used up.

        It reads twice: a process that is reaped during a reading may count double.
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
        """Notices that the watchdog has enforced the deadline."""
        outcome = supervision.outcome
        if self.watchdog is None or supervision.ending or outcome.status not in (None, SIGKILL):
            return
        if time.monotonic() >= supervision.begun + supervision.spec.timeout:
            outcome.deadline = supervision.ending = True
            supervision.due = []

    def finish(self, run, result, outcome):
        """Passes on the last reading."""
        if self.meter is not None:
            outcome.measured.append(self.meter.split)


def pause(begun, share):
    """Returns the seconds until the next reading.

    begun: time.monotonic() and time.process_time() before the last one.
    share: of one processor that reading may cost.
    """
    return max((time.process_time() - begun[1]) / share, (time.monotonic() - begun[0]) / WAITED)


class Meter:
    """Adds up the processor time of a sandbox's processes.

    proc: descriptor of `open_proc`.
    init: the number of the sandbox's pid 1 there.
    own: whether it is the sandbox's own /proc.
    adopter: pid of the process that gets the sandbox's orphans; None if that is pid 1.
    split: (user, system) in seconds since the meter was made, as of the last reading.
    resident: pages in memory at the last reading.
    interval: seconds until the next reading.
    """

    def __init__(self, proc, init, own, adopter=None):
        """Starts to count at the present use, mrunc's own set-up.  Raises OSError."""
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
        """Returns the receipt's Control: the first reading has been made."""
        return Control("limits.cpu-time", True, True, "the supervisor adds up %s every %d ms" % (
            "the processes of the pid namespace" if self.own else "the descendants of pid 1",
            INTERVAL * 1000))

    def watchdog(self, run, reaper):
        """Returns the watchdog.Watchdog of a run with a deadline, else None.  Raises OSError.

        run: launch.run.Run.
        reaper: reaper.Reaper or None.

        Before Linux 5.2 there is no pidfd, but the lock that a reading may wait for is younger.
        execve(2)
        """
        if run.plan.spec.timeout is None or run.pidfd < 0:
            return None
        from .watchdog import Watchdog
        made = Watchdog(run, reaper)
        if self.adopter is not None:
            self.strangers[made.pid] = (self._stat(str(made.pid)) or (None,))[0]
        return made

    def read(self):
        """Returns the seconds used since the meter was made, user and system together."""
        begun = time.monotonic(), time.process_time()
        user, system = self._look()
        user, system = (user - self.base[0]) / self.tick, (system - self.base[1]) / self.tick
        self.split = max(self.split, (user, system), key=sum)
        self.interval = max(INTERVAL, pause(begun, SHARE))
        return user + system

    def sample(self):
        """Returns (seconds used, bytes of memory, processes without pid 1).

        The memory is the sum of the resident sets: shared pages count several times. Raises
        OSError: ESRCH if the sandbox has ended.
        """
        used = self.read()
        if self.init not in self.seen:
            raise OSError(3, "the sandbox has ended")
        return used, self.resident * self.page, len(self.seen) - 1

    def _look(self):
        """Reads every process; returns the ticks of the living and the dead, (user, system)."""
        rows = self._rows()
        members = rows if self.own else self._descendants(rows)
        found = dict((pid, rows[pid][:3]) for pid in members)
        dead = [row for pid, row in self.seen.items() if found.get(pid, (None,))[0] != row[0]]
        self.vanished = _add(self.vanished, *[row[1:] for row in dead])
        self.seen = found
        self.resident = sum(rows[pid][6] for pid in members)
        # The last values of the dead, and the values that parents got from their children: both
        # are too small, and partly the same.
        handed_on = _add((0, 0), *[rows[pid][3:5] for pid in members])
        return _add(max(self.vanished, handed_on, key=sum), *[row[1:] for row in found.values()])

    def _rows(self):
        """Returns {pid: _stat} of all processes."""
        rows = {}
        for name in os.listdir(self.proc):
            row = self._stat(name) if name.isdigit() else None
            if row is not None:
                rows[int(name)] = row
        return rows

    def _descendants(self, rows):
        """Returns the numbers of pid 1 and its descendants.

        A member stays one: an orphan may be read while it changes parents.
        """
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
        """Returns a row of numbers for a process, or None if it is gone.  proc_pid_stat(5)

        The row: start, user, system, user and system of the reaped children, parent, resident
        pages. Times are in ticks.
        """
        try:
            fields = read(name + "/stat", self.proc, first=4096).rpartition(b")")[2].split()
        except OSError:
            return None
        return tuple(int(fields[number]) for number in (19, 11, 12, 13, 14, 1, 21))


class GroupMeter:
    """Reads the processor time from a control group, which counts exactly.

    group: cgroup.group.Group.
    """

    interval, split = INTERVAL, (0.0, 0.0)

    def __init__(self, group):
        self.group = group

    def control(self):
        """Returns the receipt's Control."""
        return Control("limits.cpu-time", True, True,
                       "cgroup v2, cpu.stat, read every %d ms" % (INTERVAL * 1000))

    def watchdog(self, run, reaper):
        """Returns None: a read of the group's files never waits."""

    def read(self):
        """Returns the seconds used since the gate opened, user and system together."""
        return self.group.cpu_seconds()

    def sample(self):
        """Returns (seconds used, bytes of memory, tasks), as `Meter.sample`.

        The memory includes cached files, the tasks include threads and pid 1. Each is None if its
        controller is off.
        """
        return self.read(), self.group.number("memory.current"), self.group.number("pids.current")


def _add(*pairs):
    return sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
