# SPDX-License-Identifier: Apache-2.0
"""The life of a sandbox's control group: made and locked, limited, entered, watched, killed, read, removed.

The limits sit on the very group that the processes are in: before Linux 6.11 pids.events counts in the group of the one who
forks.  The directory's lock says that the run lives; a group whose lock can be had was left by a crash.  cgroup-v2.rst
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
#: How long the end may take: an uninterruptible process is waited for, then left to the next run's
#: sweep.
END_DEADLINE = 10.0
NAME_TRIES = 20
#: At most so often the split of the memory is read while the limit is being touched.
SAMPLE_EVERY = 0.05


class Group:
    """One group, made and locked.  path; fd: its directory, for CLONE_INTO_CGROUP; place; notes: {control: why it could not
    be}, of --best-effort; mechanism: how it was entered; evidence: dict, read at the end, None before."""

    def __init__(self, place, notes=()):
        self.place, self.notes, self.mechanism, self.evidence = place, dict(notes), "CLONE_INTO_CGROUP", None
        self.settings, self.before, self.split = [], (0, 0), {}
        self.path, self.fd = _make(place)

    # -- before the start ----------------------------------------------------------------------------------------

    def limit(self, settings, best_effort=()):
        """Writes each limit and reads it back.  Raises SandboxError (125) for one that can't be."""
        for setting in settings:
            if setting.control in self.notes:
                continue
            try:
                write(os.path.join(self.path, setting.file), setting.value)
                got = text(os.path.join(self.path, setting.file))
                why = None if setting.shown_by(got) else "%s reads %r, not %r" % (setting.file, got.strip(), setting.value)
            except OSError as error:
                if error.errno == errno.ENOENT and setting.file == "memory.swap.max" and not _swap():
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
                                   control=setting.control,
                                   remedy="%s runs without this limit" %
                                   option("best_effort", setting.control))

    def take(self, pid):
        """Moves a process in that could not be cloned into the group; it must not have done anything yet.  Raises OSError."""
        write(os.path.join(self.path, "cgroup.procs"), "%d" % pid)
        self.mechanism = "moved in before it ran anything"

    def holds(self, control, pid):
        """(in force?, how): the files read back, and that the process really is in this group."""
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
        return bool(values) and not wrong, "cgroup v2, %s (%s)" % (shown or "no file", self.mechanism)

    def start_counting(self):
        """From here on, the processor time is the program's: what the set-up used is left out."""
        self.before = self._cpu()

    # -- while it runs -------------------------------------------------------------------------------------------

    def _cpu(self):
        counts = self.counts("cpu.stat")
        return counts.get("user_usec", 0), counts.get("system_usec", 0)

    def cpu_seconds(self):
        """Processor time of everything in the group since start_counting, in seconds: user and system together."""
        return (sum(self._cpu()) - sum(self.before)) / 1e6

    def counts(self, name):
        """{key: int} of a file of `KEY VALUE` lines; empty where the kernel or the controller does not have it."""
        try:
            lines = [line.split() for line in text(os.path.join(self.path, name)).splitlines()]
            return dict((line[0], int(line[1])) for line in lines if len(line) == 2)
        except (OSError, ValueError):
            return {}

    def number(self, name):
        """A file of one number, None where there is none (or it says max)."""
        try:
            return int(text(os.path.join(self.path, name)))
        except (OSError, ValueError):
            return None

    def sample(self):
        """Remembers how the memory is made up when it is the most so far."""
        counts = self.counts("memory.stat")
        seen = dict((key, counts.get(key, 0))
                    for key in ("anon", "file", "shmem", "kernel", "sock"))
        if counts and sum(seen.values()) - seen["shmem"] >= sum(self.split.values()) - self.split.get("shmem", 0):
            self.split = seen

    # -- the end -------------------------------------------------------------------------------------------------

    def kill(self):
        """Ends everything in it, also what is being forked meanwhile.  Never raises."""
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
        """SIGKILL ends the frozen too; thawed at the end, or whoever enters the group later would hang."""
        end = time.monotonic() + END_DEADLINE
        try:
            write(os.path.join(self.path, "cgroup.freeze"), "1")
            while not self.wait_empty(0) and time.monotonic() < end:
                for pid in text(os.path.join(self.path, "cgroup.procs")).split():
                    # A process outside our pid namespace; kill(0) would be ourselves.
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
        """Whether nothing is in the group or below it, waiting that long for it."""
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
        """Kills what is left, waits until nothing is there, and reads the evidence.  Never raises."""
        if self.evidence is not None:
            return
        self.kill()
        self.wait_empty(END_DEADLINE)
        self.evidence = self._read_evidence()

    def killed(self):
        """Whether the kernel killed something in it for memory, at the end."""
        return bool((self.evidence or {}).get("oom_kill"))

    def too_small(self, error):
        """What stands for an error of the set-up that ran out of memory."""
        asked = [setting.value for setting in self.settings if setting.file == "memory.max"]
        return SandboxError("limits", option("memory", "".join(asked)), control="limits.memory",
                            remedy="allow it more memory, written like 256M",
                            reason="the set-up itself was killed for memory (%s)" % error)

    def _read_evidence(self):
        memory, pids, cpu = self.counts("memory.events"), self.counts("pids.events"), self.counts("cpu.stat")
        found = {"oom": memory.get("oom"), "oom_kill": memory.get("oom_kill"),
                 "memory_max": memory.get("max"),
                 "pids_max": pids.get("max"), "memory_peak": self.number("memory.peak"),
                 "pids_peak": self.number("pids.peak"),
                 "throttled": cpu.get("nr_throttled"), "throttled_usec": cpu.get("throttled_usec"),
                 "split": self.split,
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
        """Removes the group, with what is below it.  Whether it is gone."""
        self.finish()
        gone = _remove(self)
        try:
            os.close(self.fd)
        except OSError:
            pass
        if self.place.ours:
            try:
                # The last one turns off the light; EBUSY where others run.
                os.rmdir(self.place.directory)
            except OSError:
                pass
        return gone


class ControlGroup(Part):
    """The control group of a run.

    group: Group; None before it is made, and where --best-effort leaves nothing to limit.
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
        """Kills everything in the group, which forks can't outrun."""
        if self.group is not None:
            self.group.kill()

    def finish(self, run, result, outcome):
        """Tells what the group has counted."""
        outcome.counted = self.group.evidence

    def explain(self, error):
        """Returns the error of a set-up that was killed for memory."""
        killed = self.group is not None and self.group.killed()
        return self.group.too_small(error) if killed else error


def enter(settings, best_effort, notes):
    """The Group for a sandbox with its limits in force, or None where --best-effort leaves nothing to limit; and the notes
    {control: why it could not be}.  Raises SandboxError (125); nothing is left then."""
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
    """(path, descriptor) of a new, locked group.  Raises OSError."""
    import fcntl
    for _ in range(NAME_TRIES):
        path = os.path.join(place.directory, "mrunc-%d-%s" % (os.getpid(), os.urandom(4).hex()))
        os.mkdir(path, 0o755)
        # Between mkdir and flock a sweeper may take it for a leftover.
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
    """Removes what crashed runs left: every group of ours whose lock can be had.  Returns how many."""
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
    """rmdir, again while the kernel still takes the last process out of the group."""
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
    """Whether this host has swap, in use or not."""
    try:
        return len(text("/proc/swaps").splitlines()) > 1
    except OSError:
        return True


class Watch:
    """While the program runs: looks at the memory whenever the limit is touched."""

    def __init__(self, group):
        self.group, self.due = group, 0.0
        try:
            self.fd = os.open(os.path.join(group.path, "memory.events"), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self.fd = -1
            return
        os.read(self.fd, 512)  # an event is a change since the last read

    def wanted(self):
        """{fd: events} to wait for."""
        return {self.fd: select.POLLPRI} if self.fd >= 0 else {}

    def wait(self):
        """Nothing is ever due."""

    def serve(self, events):
        """Takes what poll said: {fd: event}."""
        if self.fd >= 0 and self.fd in events:
            os.pread(self.fd, 512, 0)
            if time.monotonic() >= self.due:
                self.group.sample()
                self.due = time.monotonic() + SAMPLE_EVERY

    def close(self):
        """Ends it."""
        if self.fd >= 0:
            os.close(self.fd)
