# SPDX-License-Identifier: Apache-2.0
"""The parent's story: from a plan to a finished Result.

Everything the child will need is made here, before clone3.  Whatever fails before the gate opens is a SandboxError and
nothing of the workload has run; after it, a Result says so.  Each step of the clean-up stands alone.
"""
import os
import time

from ...syscalls import caps, libc, process, seccomp
from . import child as stages, child_files, idmap
from ..running import ending
from .. import init, tiers
from ..plan import plan as planning
from ..errors import CANNOT_CONTAIN, SandboxError, USAGE, show, step
from ..host.kernel import Features, NO_INTO_CGROUP
from ..host.facts import Host
from .provisions import Provisions, boot_offsets
from ..running.stdio import NOTHING

SIGKILL, MSG_DONTWAIT = 9, 0x40
#: A child that hangs before the gate (a dead network file system among the sources) must not hang us.
SETUP_DEADLINE = 60.0
#: As struct timeval: an init that takes nothing of a long go for so long is stopped or dead.
SEND_DEADLINE = (10).to_bytes(8, "little") + bytes(8)


def prepare(spec, environ=None):
    """The Plan for a Spec on this host, without any effect on it.  Raises SandboxError."""
    environ = os.environ if environ is None else environ
    planning.check_machine()
    host = step("host", Host.read, environ)
    ranges = []
    if host.uid == 0:
        ranges = idmap.candidates(idmap.wanted_range(environ), *[step("host", idmap.read_map, "/proc/self/" + name)
                                                                 for name in ("uid_map", "gid_map")])
    tier, notes = choose_tier(spec)
    plan = planning.make(spec, host, ranges, tier)
    plan.warnings = notes + plan.warnings
    return plan


def choose_tier(spec):
    """(Tier, [line for the user]) for a Spec: the tier that it names, or of several the first that this host can run.

    Raises SandboxError: exit 2 where no named tier can express the options, 125 where this host can run none.
    """
    if len(spec.tier) == 1:
        tier = tiers.TIERS[spec.tier[0]]
        error = tiers.refusal(tier, spec)
        if error is not None:
            raise error
        return tier, []
    notes, possible = [], None
    for name in spec.tier:
        error = tiers.refusal(tiers.TIERS[name], spec)
        if error is None:
            fine, error = runnable(name)
            if fine:
                return tiers.TIERS[name], notes + ["running in the %s tier" % name] if notes else []
            possible = possible or error
        notes.append("tier %s is passed over: %s" % (name, error.line()))
    raise SandboxError("tier", "none of %s can be had" % ", ".join(spec.tier), reason="; ".join(notes),
                       remedy=possible and possible.remedy, status=CANNOT_CONTAIN if possible else USAGE)


def runnable(name):
    """Whether this host can run a tier: (True, None) or (False, SandboxError).  Sets a whole sandbox up, reads it back at
    the gate, and ends it there: nothing runs in it.  Raises SandboxError only when it is interrupted."""
    from ..plan.spec import Spec
    try:
        rehearse(prepare(Spec(["true"], tier=name)))
    except SandboxError as error:
        if error.status > 128:
            raise
        return error.stage == "exec", None if error.stage == "exec" else error
    return True, None


def rehearse(plan):
    """Sets the sandbox up to the gate, reads it back, and ends it there.  Raises SandboxError as a launch would."""
    run = Run(plan)
    try:
        run.start()
        run.meet_at_the_gate()
    finally:
        run.abandon()


def launch(plan, stream=None, lets_go=False):
    """Runs the plan and returns a Result.  stream: ledger_stream.Stream for the ledger's lines, or None; lets_go: 0 and 1 of
    this process may lead to /dev/null afterwards.  Raises SandboxError when nothing ran."""
    run = step("start", Run, plan)
    run.stream, run.lets_go = stream, lets_go
    try:
        step("start", run.start)
        run.meet_at_the_gate()
        run.let_go()
    except BaseException as error:
        raise run.given_up(error)
    return run.finish()


class Run(Provisions):
    """One sandbox from its first descriptor to its last."""

    host_pid = None  # of the process that the caller's descriptors belong to, where that is another one
    lets_go = False  # whether nobody else in this process uses the caller's descriptors

    def __init__(self, plan, features=None):
        Provisions.__init__(self, plan, features or Features())
        self.pid, self.pidfd, self.sock, self.terminal, self.meter, self.sampler = 0, -1, None, None, None, None
        self.facts, self.init_status, self.init_usage, self.own = {}, 0, None, None
        self.group, self.group_notes, self.watchdog = None, plan.group_notes, None
        self.survivors, self.uppers, self.private = [], {}, None
        self.hearing = self.stream = self.proxy = None
        self.judged = self.ended = False
        self.ending = None
        self.late = None  # descriptors that need not be closed before the result is told, where there is such a list
        self.result = None  # until the child has been made

    def room(self):
        """Bytes of memory in init for what comes through the gate."""
        return init.room(self.plan.spec.argv, self.plan.environment())

    def _image(self):
        return self._keep(process.sealed_program(init.image(libc.ARCH, self.room())))

    # -- before the child ----------------------------------------------------------------------------------------

    def start(self):
        """Makes everything ready and creates the child."""
        plan = self.plan
        host_uid, host_gid = self._host_id()
        self.identity = (host_uid, host_gid)
        if plan.tier.real_id:
            from ..plan import real_id
            real_id.settle(plan, self.identity)
        self._prepare_aftermath()
        copies = self._open_copies()
        if not plan.tier.own_tree:
            self._private_directory(copies)
        trees = self._open_trees()
        self.image = step("init image", self._image)
        self._take_places()
        filters = [seccomp.prepare(program) for _, program in plan.filters]
        self.sock, theirs = step("control socket", process.control_pair)
        self.undo += [(self.sock.close, ()), (theirs.close, ())]
        step("signals", self._take_signals)
        if "core" in plan.limits:
            child_files.allow_core_limit()
        if plan.group:
            from ..cgroup import group
            self.group, self.group_notes = group.enter(plan.group, plan.spec.best_effort, plan.group_notes)
            if self.group is not None:
                self.undo.append((self.group.remove, ()))
        child = stages.Child(
            plan=plan, steps=stages.stages(plan), identity=self.identity, sock=theirs, supervisor=os.getpid(),
            parent_end=self.sock, features=self.features, image=self.image, last_cap=caps.last_capability(), trees=trees,
            copies=copies, filters=filters, userns=step("start", os.stat, "/proc/self/ns/user").st_ino,
            boot=boot_offsets(), ignored=self.ignored, places=NOTHING if self.places is None else self.places.places(),
            group=-1 if self.group is None else self.group.fd, uppers=self._overlays(),
            remount=self.features.remount(), handover=self._handover(),
            inherited=None if self.features.cloexec_range else process.inheritable())
        flags = 0
        for _, _, flag in plan.namespaces:
            flags |= flag
        started, self.begun = time.time(), time.monotonic()
        try:
            self.pid, self.pidfd = self._clone(flags, child)
        except OSError as error:
            from .. import remedies
            cause, words = remedies.namespace_cause(error.errno)
            raise SandboxError("namespaces", error.filename or "clone3", error.errno, control="userns",
                               remedy=remedies.line(cause, **words))
        if self.pid == 0:
            stages.run(child)
        if self.pidfd >= 0:
            self._keep(self.pidfd)
        if self.reaper is not None:
            step("start", self.reaper.begin, self.pid, self.signal_init)
        if child.moved:
            step("control group", self.group.take, self.pid)
        if plan.tier.userns:
            self.facts["outer-userns"] = child_files.id_maps(self.pid, plan, host_uid, host_gid)
        if not plan.left_out("limits.oom"):
            child_files.first_to_be_killed(self.pid)
        self._send(b"maps")  # the child has waited for it; what it does not wait for comes after
        theirs.close()
        if self.places is not None:
            self.places.release()
        from ..result.result import Result, now_utc  # here, as what follows: the child is busy
        self.result = Result().planned(plan)
        self.result.started = now_utc(started)

    def _clone(self, flags, child):
        """(pid, pidfd), born in its control group where there is one and the kernel can."""
        if self.group is None:
            return process.clone3(flags)
        try:
            return process.clone3(flags, self.group.fd)
        except OSError as error:
            if error.errno not in NO_INTO_CGROUP:
                raise
        child.moved = True
        return process.clone3(flags & ~process.CLONE_NEWCGROUP)

    def signal(self, number):
        """Sends a signal to the program, by init or directly; SIGKILL is init's own."""
        if self.reaper is None or number == SIGKILL:
            self.signal_init(number)
        else:
            self.reaper.signal(number)

    def pause(self, number):
        """Sends SIGSTOP or SIGCONT to the program, which would stop init itself."""
        if self.reaper is None or self.reaper.scoped:
            self.sock.send(bytes([number]), MSG_DONTWAIT)
        else:
            self.reaper.signal(number)

    def signal_init(self, number):
        """Sends a signal to init: by its pid where there is no other way, which is its own until it is waited for."""
        if self.pidfd >= 0 and "pidfd_send_signal" not in self.features.missing:
            process.pidfd_kill(self.pidfd, number)
        elif self.pid > 0:
            process.kill(self.pid, number)

    def stop(self):
        """Kills everything but init, which has been told to report the end."""
        self.ending = self.ending or ending.Ending()
        self.ending.spare_init(self)
        if self.reaper is not None:
            self.reaper.stop()

    def kill_all(self):
        """Kills everything inside; returns the seconds after which it is to be done again if pid 1 still is there."""
        self.ending = self.ending or ending.Ending()
        self.ending.look(self)
        return self.ending.wait()

    def has_ended(self, events):
        """Whether init has ended.  events: {fd: events} of a poll."""
        self.ended = self.pidfd in events if self.pidfd >= 0 else process.has_ended(self.pid)
        return self.ended

    def _send(self, word, fds=()):
        try:
            if process.send(self.sock, word, fds) == len(word):
                return
        except OSError as error:
            raise self._lost(error)
        raise self._lost()

    def _lost(self, error=None):
        if error is not None and error.errno == process.ETOOMANYREFS:
            from .. import remedies
            return SandboxError("start", "handing descriptors over", error.errno, remedy=remedies.line("in-flight"))
        return SandboxError("start", "the child ended before the gate", getattr(error, "errno", None))

    # -- the gate ------------------------------------------------------------------------------------------------

    def meet_at_the_gate(self):
        """Waits until init is ready and reads back what is in force.  Raises SandboxError."""
        from . import gate  # noqa: F401
        from ..running import supervise
        from ..result import verdict  # noqa: F401 - here, since the child is busy now, on another processor
        while True:
            late = self.begun + SETUP_DEADLINE
            kind, packet, fd = step("gate", supervise.receive, self.sock, self.signals, late, self.awaited)
            if kind == "interrupted":
                raise SandboxError("start", "interrupted", reason="nothing was run", status=128 + packet)
            if kind == "late":
                raise SandboxError("start", "the sandbox is not ready after %d s" % SETUP_DEADLINE)
            if kind == "call":
                self.hearing.admit(packet, self.pid)
            elif self.take(packet, fd):
                break
        self.read_back()

    @property
    def awaited(self):
        """The listener's descriptor, where init's own exec waits for `hearing.admit`; else -1."""
        return -1 if self.hearing is None else self.hearing.awaited

    def take(self, packet, fd):
        """Takes one packet of the set-up, with the descriptor that came along.  Returns whether init is ready; raises
        SandboxError."""
        if packet[:1] == b"L" and self.plan.listening is not None:
            self._hear(packet, fd)
        elif fd is not None and packet[:1] == b"O":
            self.uppers[packet[1:]] = fd
        elif fd is not None:
            self.terminal = self._keep(fd)
        if packet[:1] == b"E" and len(packet) > 4:
            from .failures import child_error
            raise child_error(packet, self.plan)
        if packet[:1] == b"F" and len(packet) > 4:
            text = show(packet[1:])
            self.facts.update(item.split("=", 1) for item in text.split("\0") if "=" in item)
            from . import gate
            self.own = step("gate", gate.Own, self.plan, self.places)  # while the child becomes init
        elif not packet:
            raise self._lost()
        return fd is None and len(packet) == 4 and init.parse_record(packet)[0] == init.READY

    def read_back(self):
        """What is in force while init waits.  Raises SandboxError."""
        from . import gate
        if self.places is not None and self.places.has_terminal:
            self._prepare_terminal()
        self.own.terminal = self.terminal
        held = 1 + (self.features.landlock_abi >= 6 and not self.plan.left_out("landlock-signals"))
        self._count_cpu()
        self.result.controls = [control.as_dict() for control in step(
            "gate", gate.check, self.plan, self.pid, self.facts, self.features, self.identity, held, self.group,
            self.group_notes, self.own)]
        self.own = None  # there may be hundreds of us in one process
        if self.plan.spec.cpu_time is not None:
            self.result.controls.append(self.meter.control().as_dict())

    def _prepare_terminal(self):
        """While init waits: a program that asks at once gets an answer."""
        if self.terminal is None:
            raise SandboxError("descriptors", "the child did not hand over its terminal")
        from ..running.terminal import Terminal
        self.proxy = step("descriptors", Terminal, self.terminal, self.places, self.host_pid)

    def _handover(self):
        if self.plan.listening is None:
            return None
        from ..observe import listener
        return listener.Handover(self.plan.listening.program)

    def _hear(self, packet, fd):
        if fd is not None:
            self._keep(fd)
        limit = self.plan.limits.get("nofile")
        if limit and not self.plan.root:  # stages.limits has left it to us
            step("limits", process.set_limit, "nofile", limit[0], limit[1], self.pid)
        if self.plan.spec.learn == "record":
            from ..observe.learning import Lesson as Hearing
        else:
            from ..observe.hearing import Hearing
        self.hearing = step("listener", Hearing, self.plan.listening, packet, fd)
        self.facts.update(self.hearing.facts)
        if self.reaper is not None and "listener" in self.facts:
            self.reaper.filters += 1 - len(self.plan.filters)  # one then stands for all
        self.group_notes = dict(self.group_notes, **self.hearing.notes)

    def let_go(self):
        """Opens the gate: init learns what it is to start."""
        if self.group is not None:
            self.group.start_counting()
        if self.aftermath is not None:
            self.aftermath.remember(self.pid, self.uppers)
        self.plan.release()
        if self.meter is not None:
            self.watchdog = step("start", self.meter.watchdog, self)
        self._send_go([os.fsencode(self.facts.get("program", ""))], ())
        if self.aftermath is not None:
            self.undo.remove((self.aftermath.discard, ()))
        self.facts = {"cpu": self.facts["cpu"]} if "cpu" in self.facts else {}

    def _send_go(self, paths, fds):
        self._send_all(init.go(paths, self.plan.spec.argv, self.plan.environment(), self.places.kinds[0] == "terminal"), fds)

    def _send_all(self, packets, fds):
        if len(packets) > 1:  # more than the socket holds is taken by an init that runs, or by none
            sockets = libc.sockets
            self.sock.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDTIMEO, SEND_DEADLINE)
        for packet in packets[:-1]:
            self._send(packet)
        self._send(packets[-1], fds)

    def _count_cpu(self):
        """The meter of --cpu-time and of the samples; before the gate opens, since whoever runs inside is not asked."""
        if self.plan.spec.cpu_time is None and not self.plan.spec.samples:
            return
        from ..running import cputime
        try:
            self.meter = cputime.meter(self)
        except SandboxError as error:
            if self.plan.spec.cpu_time is not None:
                raise
            self.result.notes.append("no samples: %s" % error.line())
            return
        if self.plan.spec.samples:
            from ..running.sampling import Sampler
            self.sampler = Sampler(self.meter)

    # -- after the gate ------------------------------------------------------------------------------------------

    def finish(self):
        """Waits for the end, and returns the Result whatever happens: something has run."""
        from ..running import supervise
        outcome = supervise.Outcome(self.plan.spec)
        try:
            supervise.Supervision(self, outcome).until_the_end()
        except Exception as error:  # of any kind: something has run, and the result must say so
            outcome.failed(error)
        return self.conclude(outcome)

    def judge(self, outcome):
        """Takes the verdict as early as the program's end is known.  Returns whether only the usage may still be another when
        pid 1 has ended."""
        others = (self.group, self.hearing, self.aftermath, self.reaper, self.private, self.sampler, outcome.exec_errno)
        timed = "cpu" in self.plan.limits  # then the verdict depends on the usage
        self.judged = outcome.status is not None and not timed and all(other is None for other in others)
        if self.judged:
            from ..result import verdict
            self.result.take(verdict.judge(outcome.evidence(0, self.plan.limits)))
        return self.judged

    def conclude(self, outcome):
        """The Result of a run that is over, when everything has been undone.  Raises SandboxError where the program could not
        be executed."""
        result = self.result
        if self.aftermath is not None:
            self.aftermath.listen()
        self.abandon()
        if self.hearing is not None:
            self.hearing.tell(result, outcome)
        result.usage["wall_s"] = round(time.monotonic() - self.begun, 6)
        if outcome.exec_errno is not None:
            if self.aftermath is not None:
                self.aftermath.discard()
            from .failures import exec_error
            raise exec_error(outcome.exec_errno, self.plan.spec.argv[0])
        if outcome.rusage is not None:
            result.used(outcome.rusage, self._whole_cpu())
        counted = None if self.group is None else self.group.evidence
        if counted is not None:
            result.counted(counted)
        if not self.judged:
            from ..result import verdict
            result.take(verdict.judge(outcome.evidence(self.init_status, self.plan.limits, counted, result.refused)))
        if self.survivors:
            result.notes.append("these processes of the program could not be ended: %s" % " ".join(map(str, self.survivors)))
        if self.private is not None and self.private.left:
            result.notes.append("%s could not be removed" % os.fsdecode(self.private.path))
        if self.aftermath is not None:
            self.aftermath.collect(result)
        self.places.complain(result)
        return result

    def _whole_cpu(self):
        """[(user, system)]: what pid 1 had waited for when it ended, without mrunc's own set-up, which it was before; and
        what the meter saw."""
        known = [] if self.meter is None else [self.meter.split]
        if self.init_usage is not None and "cpu" in self.facts:
            user, system = [float(number) for number in self.facts["cpu"].split()]
            known.append((max(0.0, self.init_usage.ru_utime - user), max(0.0, self.init_usage.ru_stime - system)))
        return known

    def given_up(self, error):
        """Undoes everything because of an error before the gate; returns what is to be raised."""
        self.abandon()
        return self.group.too_small(error) if self.group is not None and self.group.killed() else error

    def abandon(self):
        """Ends the sandbox if it still is there, and undoes everything.  Never raises; every step is tried."""
        if self.pid > 0:
            if not self.ended:
                ending.finish(self)
            if self.watchdog is not None:  # while the number of pid 1 is its own
                self.watchdog.end()
            try:
                self.init_status, self.init_usage = process.wait(self.pid)
            except OSError:
                pass
            self.pid = 0
            if self.reaper is not None:
                try:
                    if self.group is not None:
                        self.group.kill()  # all at once, which forks can't outrun
                    self.survivors = self.reaper.sweep()
                except OSError:
                    pass
        while self.undo:
            function, arguments = self.undo.pop()
            if function is os.close and self.late is not None:
                self.late.append(arguments[0])
                continue
            try:
                function(*arguments)
            except OSError:
                pass
