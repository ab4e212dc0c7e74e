# SPDX-License-Identifier: Apache-2.0
"""The parent's story: from a plan to a finished Result.

Everything the child will need is made here, before clone3.  Whatever fails before the program is
released is a SandboxError, and nothing of the workload has run; after it, a Result says so.  What
is optional is a part (parts.py): it is called at each moment of the story.
"""
import os
import time

from ...syscalls import caps, libc, process, seccomp
from . import idmap, parts, provisions
from .child import Child, set_up, stages
from ..running import ending
from .. import init, tiers
from ..plan import plan as planning
from ..errors import CANNOT_CONTAIN, remedies, SandboxError, show, stage, USAGE
from ..host.kernel import Features, NO_INTO_CGROUP
from ..host.facts import Host
from .provisions import Held
from ..running.stdio import NOTHING, Stdio, complain
from ..tree.mounting import stand_in
from ..plan.spec import Spec

SIGKILL, MSG_DONTWAIT = 9, 0x40
#: Seconds.  A child that hangs before the gate (a dead network file system among the sources) must
#: not hang us.
SETUP_DEADLINE = 60.0
#: As struct timeval: an init that takes nothing of a long go for so long is stopped or dead.
SEND_DEADLINE = (10).to_bytes(8, "little") + bytes(8)


def prepare(spec, environ=None):
    """Returns the Plan for a Spec on this host, without any effect on it.  Raises SandboxError."""
    environ = os.environ if environ is None else environ
    planning.check_machine()
    with stage("host", "read"):
        host = Host.read(environ)
    ranges = []
    if host.uid == 0:
        wanted = idmap.wanted_range(environ)
        with stage("host", "read_map"):
            maps = [idmap.read_map("/proc/self/" + name) for name in ("uid_map", "gid_map")]
        ranges = idmap.candidates(wanted, *maps)
    tier, notes = choose_tier(spec)
    plan = planning.make(spec, host, ranges, tier)
    plan.warnings = notes + plan.warnings
    return plan


def choose_tier(spec):
    """Returns (Tier, [line for the user]) for a Spec.

    That is the tier which it names, or of several the first that this host can run.  Raises
    SandboxError: exit 2 where no named tier can express the options, 125 where this host can run
    none.
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
    raise SandboxError("tier", "none of %s can be had" % ", ".join(spec.tier),
                       reason="; ".join(notes), remedy=possible and possible.remedy,
                       status=CANNOT_CONTAIN if possible else USAGE)


def runnable(name):
    """Returns whether this host can run a tier: (True, None) or (False, SandboxError).

    Sets a whole sandbox up, reads it back at the gate, and ends it there: nothing runs in it.
    Raises SandboxError only when it is interrupted.
    """
    try:
        rehearse(prepare(Spec(["true"], tier=name)))
    except SandboxError as error:
        if error.status > 128:
            raise
        return error.stage == "exec", None if error.stage == "exec" else error
    return True, None


def rehearse(plan):
    """Sets the sandbox up to the gate, reads it back, and ends it there.

    Raises SandboxError as a launch would.
    """
    run = Run(plan)
    try:
        run.start()
        run.wait_until_ready()
        run.read_back()
    finally:
        run.close()


def launch(plan, stream=None, lets_go=False):
    """Runs the plan and returns a Result.  Raises SandboxError when nothing ran.

    stream: ledger_stream.Stream for the ledger's lines, or None; lets_go: 0 and 1 of this process
    may lead to /dev/null afterwards.
    """
    with stage("start", "Run"):
        run = Run(plan, stream)
    run.lets_go = lets_go
    try:
        with stage("start"):
            child = run.prepare()
            run.start_child(child)
        run.wait_until_ready()
        run.read_back()
        run.release()
    except BaseException as error:
        raise run.abandon(error)
    from ..running import supervise  # loaded while the child was busy
    return run.conclude(supervise.until_the_end(run))


class Run:
    """One sandbox from its first descriptor to its last.

    stdio: where the caller's stdin, stdout and stderr are.
    own_pipes: which of them were made for this run alone.
    host_pid: of the process that they belong to, None: this one.
    lets_go: nobody else in this process uses them.
    parts: [part.Part], the optional features of this run.
    held: what is given back at the end, when the processes have ended.
    processes: steps that end the processes, last first.
    places: stdio.Stdio, what the workload gets instead, or None where that comes later.
    identity: (host uid, host gid).
    copies: {Source: fd} of what is copied in.
    facts: what the child says of itself; lacking: {control: why it can't be}.
    pid, pidfd: of init; signals: descriptor to read the caller's signals from.
    result: result.Result, None until there is a child.
    """

    stdio, own_pipes, host_pid, lets_go = (0, 1, 2), (), None, False

    def __init__(self, plan, stream=None, features=None):
        self.plan, self.features = plan, features or Features()
        self.held, self.processes = Held(), Held()
        self.held.add(plan.release)
        self.parts = parts.wanted(plan, stream)
        self.identity, self.places, self.signals, self.ignored = plan.caller, None, -1, []
        self.pid, self.pidfd, self.sock, self.begun = 0, -1, None, 0.0
        self.copies, self.facts, self.lacking, self.expected = {}, {}, plan.group_notes, None
        self.judged = self.ended = False
        self.init_status, self.init_usage = 0, None
        self.ending = self.result = None

    # -- before the child ------------------------------------------------------------------------

    def start(self):
        """Makes everything ready and creates the child.  Raises SandboxError, OSError."""
        self.start_child(self.prepare())

    def prepare(self):
        """Does all that can fail without a child.  Returns the Child."""
        plan, held = self.plan, self.held
        self.identity = provisions.host_id(plan, held)
        if plan.tier.real_id:
            from ..plan import real_id
            real_id.settle(plan, self.identity)
        self.copies = provisions.open_copies(plan, held)
        for part in self.parts:
            part.prepare(self)
        trees = provisions.open_trees(plan, self.features, self.identity, held)
        with stage("init image", "image"):
            image = self.make_image()
        self.take_places()
        filters = [seccomp.prepare(program) for _, program in plan.filters]
        with stage("control socket", "control_pair"):
            self.sock, theirs = process.control_pair()
        held.add(self.sock.close)
        held.add(theirs.close)
        with stage("signals", "take_signals"):
            self.take_signals()
        if "core" in plan.limits:
            provisions.allow_core_limit()
        for_child = {"group": -1, "handover": None}
        for part in list(self.parts):
            for_child.update(part.before_child(self))
        supervisor, last_cap = os.getpid(), caps.last_capability()
        with stage("start", "stat"):
            userns = os.stat("/proc/self/ns/user").st_ino
        return Child(
            plan=plan, steps=stages(plan), identity=self.identity, sock=theirs,
            supervisor=supervisor, parent_end=self.sock, features=self.features, image=image,
            last_cap=last_cap, trees=trees, copies=self.copies, filters=filters, userns=userns,
            boot=provisions.boot_offsets(), ignored=self.ignored,
            places=NOTHING if self.places is None else self.places.places(),
            uppers=provisions.uppers(plan, self.features), remount=stand_in(self.features),
            inherited=None if self.features.cloexec_range else process.inheritable(), **for_child)

    def make_image(self):
        """Returns init's image (fd)."""
        return self.held.keep(process.sealed_program(init.image(libc.ARCH, self.room())))

    def room(self):
        """Returns the bytes of memory in init for what comes through the gate."""
        return init.room(self.plan.spec.argv, self.plan.environment())

    def take_places(self):
        """Makes what takes the places of the caller's 0, 1 and 2."""
        spec = self.plan.spec
        with stage("descriptors", "Stdio"):
            self.places = Stdio(self.stdio, self.own_pipes, spec.tty, spec.max_output,
                                self.identity if self.plan.root else None)
        self.held.add(self.places.abandon)
        if self.places.has_terminal:
            self.parts.append(parts.terminal())

    def take_signals(self):
        """Blocks every signal; the caller's are read from a descriptor."""
        self.signals, self.ignored = provisions.take_signals(self.held)

    def heed_signals(self):
        """Raises SandboxError if the caller's signals say that nothing is to run."""
        from ..running import supervise  # for the process tier alone
        number = supervise.read_signal(self.signals) if self.signals >= 0 else 0
        if number in supervise.ENDING:
            raise interrupted(number)

    # -- the child -------------------------------------------------------------------------------

    def start_child(self, child):
        """Creates the child, and does for it what only its parent can.  Raises SandboxError."""
        plan = self.plan
        started, self.begun = time.time(), time.monotonic()
        self.pid, self.pidfd = clone(child)
        if self.pid == 0:
            set_up(child)  # never returns
        self.processes.add(self._end_init)
        if self.pidfd >= 0:
            self.held.keep(self.pidfd)
        for part in self.parts:
            part.child_started(self, child)
        if plan.tier.userns:
            self.facts["outer-userns"] = idmap.id_maps(self.pid, plan, *self.identity)
        if not plan.left_out("limits.oom"):
            provisions.first_to_be_killed(self.pid)
        self._send(b"maps")  # the child has waited for it; what it does not wait for comes after
        child.sock.close()
        if self.places is not None:
            self.places.release()
        from ..result.result import Result, now_utc  # here, as what follows: the child is busy
        self.result = Result().planned(plan)
        self.result.started = now_utc(started)

    def wait_until_ready(self):
        """Waits until init is ready.  Raises SandboxError."""
        from . import gate  # noqa: F401 - on another processor the child is busy
        from ..running import supervise
        while True:
            late = self.begun + SETUP_DEADLINE
            with stage("gate", "receive"):
                kind, packet, fd = supervise.receive(self.sock, self.signals, late, self.awaited)
            if kind == "interrupted":
                raise interrupted(packet)
            if kind == "late":
                raise not_ready()
            if kind == "call":
                self.admit(packet)
            elif self.take(packet, fd):
                return

    @property
    def awaited(self):
        """A descriptor that a part waits for before the gate, or -1."""
        for part in self.parts:
            if part.awaited >= 0:
                return part.awaited
        return -1

    def admit(self, events):
        """Serves `awaited`.  events: of poll.  Raises SandboxError."""
        for part in self.parts:
            if part.awaited >= 0:
                part.admit(events, self.pid)
                return

    def take(self, packet, fd):
        """Takes one packet of the set-up, with the descriptor that came along or None.

        Returns whether init is ready.  Raises SandboxError.
        """
        taken = [part.packet(self, packet, fd) for part in self.parts]
        if fd is not None and not any(taken):
            self.held.keep(fd)
        if packet[:1] == b"E" and len(packet) > 4:
            from .failures import child_error
            raise child_error(packet, self.plan)
        if packet[:1] == b"F" and len(packet) > 4:
            text = show(packet[1:])
            self.facts.update(item.split("=", 1) for item in text.split("\0") if "=" in item)
            from . import gate  # loaded while the child was busy
            with stage("gate", "read"):
                # while the child becomes init
                self.expected = gate.Expected(self.plan, self.places)
        elif not packet:
            raise self._lost()
        return fd is None and len(packet) == 4 and init.parse_record(packet)[0] == init.READY

    # -- the gate --------------------------------------------------------------------------------

    def read_back(self):
        """Reads back what is in force while init waits: the receipt.  Raises SandboxError."""
        from . import gate  # loaded while the child was busy
        for part in list(self.parts):
            part.ready(self)
        scope = self.features.landlock_abi >= 6 and not self.plan.left_out("landlock-signals")
        limits = [part.limits() for part in self.parts if part.limits() is not None]
        with stage("gate", "check"):
            receipt = gate.check(self.plan, self.pid, self.facts, self.features, self.identity,
                                 1 + scope, limits[0] if limits else None, self.lacking,
                                 self.expected)
        self.result.controls = [control.as_dict() for control in receipt]
        self.expected = None  # there may be hundreds of us in one process

    def release(self):
        """Opens the gate: init learns what it is to start.  Raises SandboxError."""
        for part in self.parts:
            part.before_program(self)
        self.plan.release()
        self.send_go()
        self.facts = {"cpu": self.facts["cpu"]} if "cpu" in self.facts else {}

    def send_go(self):
        """Sends init the program.  From here on it runs."""
        self.send_all([os.fsencode(self.facts.get("program", ""))], ())

    def send_all(self, paths, fds):
        """Sends what is to be executed: the first of these paths that is there; fds: 0, 1 and 2."""
        packets = init.go(paths, self.plan.spec.argv, self.plan.environment(),
                          self.places.kinds[0] == "terminal")
        if len(packets) > 1:  # more than the socket holds is taken by an init that runs, or by none
            sockets = libc.sockets
            self.sock.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDTIMEO, SEND_DEADLINE)
        for packet in packets[:-1]:
            self._send(packet)
        self._send(packets[-1], fds)

    def _send(self, word, fds=()):
        try:
            if process.send(self.sock, word, fds) == len(word):
                return
        except OSError as error:
            raise self._lost(error)
        raise self._lost()

    def _lost(self, error=None):
        if error is not None and error.errno == process.ETOOMANYREFS:
            return SandboxError("start", "handing descriptors over", error.errno,
                                remedy=remedies().line("in-flight"))
        return SandboxError("start", "the child ended before the gate",
                            getattr(error, "errno", None))

    # -- while it runs ---------------------------------------------------------------------------

    def signal(self, number):
        """Sends a signal to the program; SIGKILL is init's own.  Raises OSError."""
        if number == SIGKILL or not any([part.signal(number) for part in self.parts]):
            self.signal_init(number)

    def pause(self, number):
        """Sends SIGSTOP or SIGCONT to the program: init would be stopped.  Raises OSError."""
        if not any([part.signal(number) for part in self.parts]):
            self.sock.send(bytes([number]), MSG_DONTWAIT)

    def signal_init(self, number):
        """Sends a signal to init.  Raises OSError.

        By its pid where there is no other way: that is its own until it is waited for.
        """
        if self.pidfd >= 0 and "pidfd_send_signal" not in self.features.missing:
            process.pidfd_kill(self.pidfd, number)
        elif self.pid > 0:
            process.kill(self.pid, number)

    def stop(self):
        """Kills everything but init, which has been told to report the end."""
        self.ending = self.ending or ending.Ending()
        self.ending.kill_others(self)
        for part in self.parts:
            part.stop()

    def kill_all(self):
        """Kills everything inside.  Returns the seconds after which to look again."""
        self.ending = self.ending or ending.Ending()
        self.ending.look(self)
        return self.ending.wait()

    def has_ended(self, events):
        """Whether init has ended.  events: {fd: events} of a poll."""
        self.ended = self.pidfd in events if self.pidfd >= 0 else process.has_ended(self.pid)
        return self.ended

    # -- the end ---------------------------------------------------------------------------------

    def judge(self, outcome):
        """Takes the verdict as soon as the program's end is known.

        Returns whether nothing but the usage can change when pid 1 has ended.
        """
        open_ended = outcome.status is None or outcome.exec_errno is not None or \
            "cpu" in self.plan.limits or any(part.tells for part in self.parts)
        self.judged = not open_ended
        if self.judged:
            self.result.take(outcome.verdict(0, self.plan.limits))
        return self.judged

    def conclude(self, outcome):
        """Undoes everything and returns the Result.

        Raises SandboxError where the program could not be executed.
        """
        result = self.result
        for part in self.parts:
            part.over(self)
        self.close()
        result.usage["wall_s"] = round(time.monotonic() - self.begun, 6)
        for part in self.parts:
            part.finish(self, result, outcome)
        if outcome.exec_errno is not None:
            from .failures import exec_error
            raise exec_error(outcome.exec_errno, self.plan.spec.argv[0])
        if outcome.rusage is not None:
            result.used(outcome.rusage, outcome.measured + self._cpu_of_init())
        if outcome.counted is not None:
            result.counted(outcome.counted)
        if not self.judged:
            result.take(outcome.verdict(self.init_status, self.plan.limits, result.refused))
        complain(result, outcome.errors)
        return result

    def _cpu_of_init(self):
        """[(user, system)] that pid 1 had waited for when it ended, without mrunc's own set-up."""
        if self.init_usage is None or "cpu" not in self.facts:
            return []
        user, system = [float(number) for number in self.facts["cpu"].split()]
        return [(max(0.0, self.init_usage.ru_utime - user),
                 max(0.0, self.init_usage.ru_stime - system))]

    def abandon(self, error):
        """Undoes everything because of an error before the gate; returns what is to be raised."""
        self.close()
        for part in self.parts:
            error = part.explain(error)
        return error

    def close(self):
        """Ends the sandbox if it still is there, and undoes everything.  Never raises."""
        self.processes.release()
        self.held.release()

    def _end_init(self):
        """Kills pid 1 with everything inside, and waits for it."""
        if not self.ended:
            ending.finish(self)
        pid, self.pid = self.pid, 0
        self.init_status, self.init_usage = process.wait(pid)


def clone(child):
    """Returns (pid, pidfd) of a child in its namespaces; (0, -1) in the child.

    It is born in its control group where there is one and the kernel can do that.  Raises
    SandboxError.
    """
    flags = 0
    for _, _, flag in child.plan.namespaces:
        flags |= flag
    try:
        if child.group < 0:
            return process.clone3(flags)
        try:
            return process.clone3(flags, child.group)
        except OSError as error:
            if error.errno not in NO_INTO_CGROUP:
                raise
        child.moved = True
        return process.clone3(flags & ~process.CLONE_NEWCGROUP)
    except OSError as error:
        cause, words = remedies().namespace_cause(error.errno)
        raise SandboxError("namespaces", error.filename or "clone3", error.errno, control="userns",
                           remedy=remedies().line(cause, **words))


def interrupted(number):
    """Returns the SandboxError for a signal of the caller's before the program."""
    return SandboxError("start", "interrupted", reason="nothing was run", status=128 + number)


def not_ready():
    """Returns the SandboxError for a set-up that takes too long."""
    return SandboxError("start", "the sandbox is not ready after %d s" % SETUP_DEADLINE)
