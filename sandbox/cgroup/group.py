# SPDX-License-Identifier: Apache-2.0
"""Makes, locks, limits, enters, watches, kills, reads and removes a sandbox's control group.

The limits are on the group of the processes itself: before Linux 6.11 pids.events counts in the
group of the process that forks. The directory's lock says that the run lives. A group whose lock is
free was left by a crash. cgroup-v2.rst
"""
import errno
import os
import select
import time

from . import place as cgroup_place
from .limits import named
from .place import write
from ..caller import option
from ..errors import SandboxError, stage
from ..proc import text
from ..part import Part

SIGKILL = 9
LOCK = 2 | 4  # LOCK_EX | LOCK_NB
#: Seconds.  An uninterruptible process is waited for so long, then left to the next run's sweep.
END_DEADLINE = 10.0
NAME_TRIES = 20
#: Seconds between two readings of memory.stat while the limit is being touched.
SAMPLE_EVERY = 0.05


class Group:
    """One group, made and locked.

    place: place.Place.
    path: its directory.
    fd: of the directory, for CLONE_INTO_CGROUP.
    notes: {control: why it can't be in force}, of those that --best-effort names.
    mechanism: how the child was put into it.
    settings: [limits.Setting] that were written.
    before: (user, system) in microseconds that the set-up used.
    split: {kind: bytes} of the memory when it was the most.
    evidence: dict of `finish`, None before.
    """

    def __init__(self, place, notes=()):
        self.place, self.notes, self.evidence = place, dict(notes), None
        self.mechanism = "CLONE_INTO_CGROUP"
        self.settings, self.before, self.split = [], (0, 0), {}
        self.path, self.fd = _make(place)

    # -- before the start ------------------------------------------------------------------------

    def limit(self, settings, best_effort=()):
        """Writes each limit and reads it back.

        settings: [limits.Setting].
        best_effort: names of controls that may fail.

        Raises SandboxError (125) for any other that fails.
        """
        for setting in settings:
            if setting.control in self.notes:
                continue
            try:
                write(os.path.join(self.path, setting.file), setting.value)
                got = text(os.path.join(self.path, setting.file))
                why = None if setting.shown_by(got) else "%s reads %r, not %r" % (
                    setting.file, got.strip(), setting.value)
            except OSError as error:
                if error.errno == errno.ENOENT and setting.file == "memory.swap.max" and \
                        not _swap():
                    continue  # no swap accounting in this kernel, and no swap
                why = "%s %s: %s" % (setting.file, setting.value, error.strerror)
            if why is None:
                self.settings.append(setting)
            elif setting.control in best_effort:
                self.notes[setting.control] = why
                self.settings = [other for other in self.settings
                                 if other.control != setting.control]
            else:
                raise SandboxError("limits", named(setting.control), reason=why,
                                   control=setting.control, remedy="%s runs without this limit" %
                                   option("best_effort", setting.control))

    def take(self, pid):
        """Moves a process in that could not be born in the group.  Raises OSError.

        pid: of a process that has done nothing yet.
        """
        write(os.path.join(self.path, "cgroup.procs"), "%d" % pid)
        self.mechanism = "moved in before it ran anything"

    def holds(self, control, pid):
        """Reads a limit back; returns (whether it is in force, the evidence).

        control: its name.
        pid: of a process that must be in this group.
        """
        if control in self.notes:
            return False, self.notes[control]
        settings = [setting for setting in self.settings if setting.control == control]
        try:
            inside = "%d" % pid in text(os.path.join(self.path, "cgroup.procs")).split()
            own = cgroup_place.own_group(text("/proc/%d/cgroup" % pid)) or ""
            values = [(setting, text(os.path.join(self.path, setting.file)).strip())
                      for setting in settings]
        except OSError as error:
            return False, "%s: %s" % (error.filename, error.strerror)
        if not inside or os.path.basename(own) != os.path.basename(self.path):
            return False, "pid 1 of the sandbox is not in the group"
        wrong = [(setting, value) for setting, value in values if not setting.shown_by(value)]
        shown = ", ".join("%s %s" % (setting.file, value.replace("\n", "; "))
                          for setting, value in wrong or values)
        how = "cgroup v2, %s (%s)" % (shown or "no file", self.mechanism)
        return bool(values) and not wrong, how

    def start_counting(self):
        """Counts processor time from here on: what the set-up used is not the program's."""
        self.before = self._cpu()

    # -- while it runs ---------------------------------------------------------------------------

    def _cpu(self):
        counts = self.counts("cpu.stat")
        return counts.get("user_usec", 0), counts.get("system_usec", 0)

    def cpu_seconds(self):
        """Returns the group's processor time since `start_counting`, user and system, in seconds.
        """
        return (sum(self._cpu()) - sum(self.before)) / 1e6

    def counts(self, name):
        """Returns {key: int} of a file of `KEY VALUE` lines; {} without the file."""
        try:
            lines = [line.split() for line in text(os.path.join(self.path, name)).splitlines()]
            return dict((line[0], int(line[1])) for line in lines if len(line) == 2)
        except (OSError, ValueError):
            return {}

    def number(self, name):
        """Returns the number in a file; None if it says max or does not exist."""
        try:
            return int(text(os.path.join(self.path, name)))
        except (OSError, ValueError):
            return None

    def sample(self):
        """Remembers how the memory is made up when it is the most so far."""
        counts = self.counts("memory.stat")
        seen = dict((key, counts.get(key, 0))
                    for key in ("anon", "file", "shmem", "kernel", "sock"))
        most = sum(self.split.values()) - self.split.get("shmem", 0)
        if counts and sum(seen.values()) - seen["shmem"] >= most:
            self.split = seen

    # -- the end ---------------------------------------------------------------------------------

    def kill(self):
        """Kills everything in the group, also what is being forked meanwhile.  Never raises."""
        try:
            if any(setting.file == "cpu.max" for setting in self.settings):
                write(os.path.join(self.path, "cpu.max"), "max")  # dying takes a processor, too
        except OSError:
            pass
        try:
            write(os.path.join(self.path, "cgroup.kill"), "1")  # Linux 5.14
        except OSError as error:
            if error.errno == errno.ENOENT and os.path.exists(self.path):
                self._kill_frozen()

    def _kill_frozen(self):
        """Freezes the group and kills it, before Linux 5.14.

        SIGKILL ends frozen processes, too. It is thawed at the end, or a process that enters it
        later would hang.
        """
        end = time.monotonic() + END_DEADLINE
        try:
            write(os.path.join(self.path, "cgroup.freeze"), "1")
            while not self.wait_empty(0) and time.monotonic() < end:
                for pid in text(os.path.join(self.path, "cgroup.procs")).split():
                    # 0 is a process outside our pid namespace; kill(0) would reach ourselves.
                    if pid != "0":
                        _signal(int(pid))
                self.wait_empty(0.01)
        except OSError:
            pass
        try:
            write(os.path.join(self.path, "cgroup.freeze"), "0")
        except OSError:
            pass

    def wait_empty(self, seconds):
        """Waits up to so many seconds; returns whether nothing is in the group or below it."""
        end = time.monotonic() + seconds
        try:
            fd = os.open(os.path.join(self.path, "cgroup.events"), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return True
        try:
            poll = select.poll()
            poll.register(fd, select.POLLPRI)
            while b"populated 1" in os.pread(fd, 256, 0):
                left = end - time.monotonic()
                if left <= 0:
                    return False
                poll.poll(left * 1000 + 1)
            return True
        finally:
            os.close(fd)

    def finish(self):
        """Kills what is left, waits for its end and reads the evidence.  Never raises."""
        if self.evidence is not None:
            return
        self.kill()
        self.wait_empty(END_DEADLINE)
        self.evidence = self._read_evidence()

    def killed(self):
        """Returns whether the kernel killed something in it for memory, after `finish`."""
        return bool((self.evidence or {}).get("oom_kill"))

    def memory_error(self, error):
        """Returns the SandboxError for a set-up that ran out of memory.  error: what it raised."""
        asked = [setting.value for setting in self.settings if setting.file == "memory.max"]
        return SandboxError("limits", option("memory", "".join(asked)), control="limits.memory",
                            remedy="allow it more memory, written like 256M",
                            reason="the set-up itself was killed for memory (%s)" % error)

    def _read_evidence(self):
        memory, cpu = self.counts("memory.events"), self.counts("cpu.stat")
        found = {"oom": memory.get("oom"), "oom_kill": memory.get("oom_kill"),
                 "memory_max": memory.get("max"), "memory_peak": self.number("memory.peak"),
                 "pids_max": self.counts("pids.events").get("max"),
                 "pids_peak": self.number("pids.peak"), "split": self.split,
                 "throttled": cpu.get("nr_throttled"), "throttled_usec": cpu.get("throttled_usec"),
                 "user_s": None, "system_s": None, "read_bytes": None, "write_bytes": None}
        if "user_usec" in cpu:
            found["user_s"] = (cpu["user_usec"] - self.before[0]) / 1e6
            found["system_s"] = (cpu["system_usec"] - self.before[1]) / 1e6
        try:
            words = text(os.path.join(self.path, "io.stat")).split()
        except OSError:
            return found
        for key, name in (("read_bytes", "rbytes="), ("write_bytes", "wbytes=")):
            found[key] = sum(int(word[len(name):]) for word in words if word.startswith(name))
        return found

    def remove(self):
        """Removes the group and everything below it.  Returns whether it is gone."""
        self.finish()
        gone = _remove(self)
        try:
            os.close(self.fd)
        except OSError:
            pass
        if self.place.ours:
            try:
                os.rmdir(self.place.directory)  # EBUSY while others run in it
            except OSError:
                pass
        return gone


class ControlGroup(Part):
    """The control group of a run.

    group: Group; None before it is made, and if --best-effort leaves nothing to limit.
    """

    tells = True

    def __init__(self):
        self.group = None

    def before_child(self, run):
        """Makes the group with its limits: the child is born in it."""
        plan = run.plan
        self.group, run.lacking = enter(plan.group, plan.spec.best_effort, run.lacking)
        if self.group is None:
            run.parts.remove(self)
            return {}
        run.held.add(self.group.remove)
        return {"group": self.group.fd}

    def child_started(self, run, child):
        """Moves a child in that could not be born in it."""
        if child.moved:
            with stage("control group", "take"):
                self.group.take(run.pid)

    def limits(self):
        """Returns the group, which reads back its limits."""
        return self.group

    def before_program(self, run):
        """Leaves out of the processor time what the set-up has used."""
        self.group.start_counting()

    def watch(self, run, supervision):
        """Looks at the memory whenever its limit is touched."""
        supervision.listeners.append(Watch(self.group))

    def kill_all(self):
        """Kills everything in the group; forks can't outrun it."""
        if self.group is not None:
            self.group.kill()

    def finish(self, run, result, outcome):
        """Passes on what the group has counted."""
        outcome.counted = self.group.evidence

    def explain(self, error):
        """Returns the error of a set-up that was killed for memory."""
        killed = self.group is not None and self.group.killed()
        return self.group.memory_error(error) if killed else error


def enter(settings, best_effort, notes):
    """Makes the group of a sandbox with its limits.

    settings: [limits.Setting].
    best_effort: names of controls that may fail.
    notes: {control: why it can't be in force}, as known so far.

    Returns (Group, notes); (None, notes) if --best-effort leaves nothing to limit. Raises
    SandboxError (125) and leaves nothing behind.
    """
    place, _, found = cgroup_place.choose(settings, best_effort)
    notes = dict(notes, **found)
    if place is None:
        return None, notes
    group = None
    try:
        sweep(place.directory)
        group = Group(place, notes)
        group.limit(settings, best_effort)
    except BaseException as error:
        if group is not None:
            group.remove()
        if isinstance(error, OSError):
            raise SandboxError("limits", "control group", error.errno,
                               "%s: %s" % (error.filename, error.strerror))
        raise
    return group, group.notes


def _make(place):
    """Makes and locks a group; returns (path, descriptor).  Raises OSError."""
    import fcntl
    for _ in range(NAME_TRIES):
        path = os.path.join(place.directory, "mrunc-%d-%s" % (os.getpid(), os.urandom(4).hex()))
        os.mkdir(path, 0o755)
        # Between mkdir and flock a sweep of another run may take it for a leftover.
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, LOCK)
            if os.path.samestat(os.stat(path), os.fstat(fd)):
                return path, fd
        except OSError:
            pass
        os.close(fd)
    raise OSError(errno.EBUSY, "another process removes them", place.directory)


def sweep(directory):
    """Removes the groups of crashed runs, whose locks are free.  Returns how many.

    directory: of a Place.
    """
    import fcntl
    count = 0
    for name in os.listdir(directory):
        head, _, rest = name.partition("-")
        pid, _, random = rest.partition("-")
        if head != "mrunc" or not pid.isdigit() or len(random) != 8:
            continue
        path = os.path.join(directory, name)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(fd, LOCK)
        except OSError:  # its run lives
            os.close(fd)
            continue
        left = Group.__new__(Group)
        left.path, left.fd, left.evidence, left.settings = path, fd, {}, []
        left.kill()
        count += _remove(left)
        os.close(fd)
    return count


def _remove(group):
    """Removes a group's directories; tries again while the kernel still takes a process out."""
    end = time.monotonic() + END_DEADLINE
    while True:
        group.wait_empty(max(0.0, end - time.monotonic()))
        try:
            os.rmdir(group.path)
            return True
        except FileNotFoundError:
            return True
        except OSError:
            if time.monotonic() > end:
                return False
        for below, _, _ in os.walk(group.path, topdown=False):
            if below != group.path:
                try:
                    os.rmdir(below)
                except OSError:
                    pass
        time.sleep(0.002)


def _signal(pid):
    try:
        os.kill(pid, SIGKILL)
    except OSError:
        pass


def _swap():
    """Returns whether this host has swap, in use or not."""
    try:
        return len(text("/proc/swaps").splitlines()) > 1
    except OSError:
        return True


class Watch:
    """Reads the memory whenever its limit is touched, while the program runs."""

    def __init__(self, group):
        self.group, self.due = group, 0.0
        try:
            self.fd = os.open(os.path.join(group.path, "memory.events"), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self.fd = -1
            return
        os.read(self.fd, 512)  # an event is a change since the last read

    def wanted(self):
        """Returns {fd: poll events} to wait for."""
        return {self.fd: select.POLLPRI} if self.fd >= 0 else {}

    def wait(self):
        """Returns None: nothing is ever due."""

    def serve(self, events):
        """Handles {fd: poll events}."""
        if self.fd >= 0 and self.fd in events:
            os.pread(self.fd, 512, 0)
            if time.monotonic() >= self.due:
                self.group.sample()
                self.due = time.monotonic() + SAMPLE_EVERY

    def close(self):
        """Closes its descriptor."""
        if self.fd >= 0:
            os.close(self.fd)
