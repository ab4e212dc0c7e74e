# SPDX-License-Identifier: Apache-2.0
"""Serves a run while its program runs: init's records, signals, carried bytes, deadlines."""
import os
import select
import time

from ...syscalls import libc, process
from .. import init
from ..init import FORWARDED, SIGCONT, SIGSTOP, SIGTSTP, SIGWINCH
from .loop import Loop
from ..result.verdict import Evidence, judge

SIGTERM, SIGKILL = 15, 9
#: The caller's signals that end a run before its program: HUP INT QUIT TERM.
ENDING = (1, 2, 3, 15)
#: Seconds.  After "stop" init reports the workload's end with its usage.  An init that does not is
#: killed with everything else.  So a deadline is kept within 1.5 s.
STOP_DEADLINE = 0.5
#: The number of SIGINT, SIGQUIT and SIGTERM that end the sandbox.
INSISTENCE = 3
#: Seconds between two looks for the end of init before Linux 5.2, where no descriptor tells it.
LOOK_AGAIN = 0.002
#: Seconds.  If a deadline or a limit ended the run, output not read for so long is dropped.
DRAIN_SECONDS = 2.0


def receive(sock, signals, deadline, listener=-1):
    """Waits for the next packet before the gate.

    listener: a descriptor that is waited for too, or -1.  Returns ("packet", bytes, fd or None),
    ("interrupted", signal, None), ("call", events of the listener, None) or ("late", None, None).
    """
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    poll.register(signals, select.POLLIN)
    if listener >= 0:
        poll.register(listener, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return "late", None, None
        ready = dict(poll.poll(left * 1000 + 1))
        if signals in ready:
            number = read_signal(signals)
            if number in ENDING:
                return "interrupted", number, None
        if sock.fileno() in ready:
            return ("packet",) + take_packet(sock)
        if listener in ready:
            return "call", ready[listener], None


def take_packet(sock):
    """Takes one packet of the child or of init: (bytes, fd or None)."""
    sockets = libc.sockets
    packet, control, _, _ = sock.recvmsg(8192, sockets.CMSG_SPACE(4), sockets.MSG_CMSG_CLOEXEC)
    return packet, int.from_bytes(control[0][2][:4], "little") if control else None


def read_signal(fd):
    """Returns the number of one pending signal, or 0."""
    try:
        data = os.read(fd, 128)
    except OSError:
        return 0
    return int.from_bytes(data[:4], "little")


def until_the_end(run):
    """Serves a run past its gate until its end.  Returns the Outcome whatever happens."""
    outcome = Outcome(run.plan.spec)
    try:
        Supervision(run, outcome).until_the_end()
    except Exception as error:  # of any kind: something has run, and the result must say so
        outcome.failed(error)
    return outcome


class Outcome:
    """How a run ended.

    status, rusage: wait status and usage of the program, or None.
    exec_errno: why it could not be executed, or None.
    deadline, cpu_deadline, overflow: whether the time, the processor time, the output was used up.
    stopped: whether all its processes were stopped then.
    forbidden: whether a call of high risk ended it; forbidden_call: (name, arguments, why) or None.
    insisted: the signal of the caller that ended it, or 0.
    passed_on: {signal: how often} of those that the program got from the caller.
    failure: what went wrong in the supervisor itself, a sentence or None.
    measured: [(user, system)] in seconds: what parts know of the whole sandbox's processor time.
    counted: what a control group counted (cgroup.Group.evidence), or None.
    errors: [(number, errno)] of the caller's 0, 1 and 2 that did not take or give everything.
    """

    def __init__(self, spec):
        self.spec, self.status, self.rusage, self.exec_errno = spec, None, None, None
        self.deadline = self.cpu_deadline = self.overflow = self.forbidden = False
        self.forbidden_call = None
        self.insisted, self.failure = 0, None
        self.passed_on, self.stopped = {}, False
        self.measured, self.counted, self.errors = [], None, []

    def is_like(self, other):
        """Whether nothing but the usage differs."""
        rusage, self.rusage = self.rusage, other.rusage
        try:
            return self.__dict__ == other.__dict__
        finally:
            self.rusage = rusage

    def failed(self, error):
        """The supervisor itself failed while the program ran."""
        self.failure = "the supervisor failed while the program ran: %r" % error

    def verdict(self, init_status, limits=None, refused=None):
        """Returns the verdict.Verdict on the evidence."""
        return judge(self.evidence(init_status, limits, refused))

    def evidence(self, init_status, limits=None, refused=None):
        """Returns a verdict.Evidence.

        init_status: the wait status of the sandbox's pid 1; limits: plan.limits; refused: the
        ledger's rows, or None.
        """
        spec, limits = self.spec, limits or {}
        return Evidence(group=self.counted, memory=spec.memory, cpus=spec.cpus, pids=spec.pids,
                        status=self.status, init_status=init_status, policy=spec.seccomp,
                        insisted=self.insisted, failure=self.failure,
                        deadline=spec.timeout if self.deadline else None,
                        cpu_deadline=spec.cpu_time if self.cpu_deadline else None,
                        overflow=spec.max_output if self.overflow else None,
                        forbidden=self.forbidden_call, rlimits=limits, passed_on=self.passed_on,
                        stopped=self.stopped, refused=None if refused is None else len(refused),
                        cpu_time=spec.cpu_time if "cpu" not in spec.rlimit else None,
                        cpu_used=None if self.rusage is None else
                        self.rusage.ru_utime + self.rusage.ru_stime)


class Supervision:
    """One run, as a member of a loop.

    run: launch.Run past the gate.
    outcome: what it fills in.
    carriers: [carry.Carrier], which carry bytes between the caller and the program.
    listeners: what else is served while it runs: wanted(), wait(), serve(events), close().
    ending: the program is being ended; over: it has ended; given_up: its output is not waited for.
    """

    def __init__(self, run, outcome):
        self.run, self.sock, self.spec = run, run.sock, run.plan.spec
        self.outcome = outcome
        self.due = []  # (monotonic time, step)
        self.insistence = 0
        self.carriers, self.listeners = [], []
        self.ending = self.over = self.given_up = False
        self.error, self.begun = None, time.monotonic()
        if self.spec.timeout is not None:
            self.schedule(self._wall_deadline, self.spec.timeout)

    def schedule(self, step, seconds):
        """Calls a function when so many seconds have passed."""
        self.due.append((time.monotonic() + seconds, step))

    def until_the_end(self):
        """Serves everything until the program has ended and the caller has got its output."""
        loop = Loop()
        try:
            self.begin()
            loop.add(self)
            while not self.done:
                loop.turn()
        finally:
            self.close()
        if self.error is not None:
            raise self.error

    def begin(self):
        """Begins to carry bytes and to serve the parts.  Raises OSError."""
        run = self.run
        for part in run.parts:
            part.watch(run, self)
        carrier = run.places.start(run.lets_go)
        if carrier is not None:
            self.carriers.append(carrier)

    def close(self):
        """Gives back what `begin` took; clears the timers.

        Their callbacks would keep this object alive.
        """
        for helper in self.carriers + self.listeners:
            helper.close()
        for carrier in self.carriers:
            self.outcome.errors += carrier.errors
        self.carriers, self.listeners, self.due = [], [], []

    # -- as a member of a loop.Loop --------------------------------------------------------------

    @property
    def done(self):
        """Whether there is nothing left to serve."""
        return self.error is not None or self.over and not self._undelivered()

    def failed(self, error):
        """Takes an exception of our own, which ends the run."""
        self.error = error

    def wanted(self):
        """Returns {fd: events} to wait for now."""
        wanted = {}
        if self.run.signals >= 0:
            wanted[self.run.signals] = select.POLLIN
        if not self.over:
            wanted[self.sock.fileno()] = select.POLLIN
        elif not all(carrier.is_last for carrier in self.carriers):
            if self.run.pidfd >= 0:
                wanted[self.run.pidfd] = select.POLLIN
        for listener in self.listeners:
            wanted.update(listener.wanted())
        for carrier in self.carriers:
            for flow in carrier.outward if self.over else carrier.flows:
                for fd, events in flow.wanted().items():
                    wanted[fd] = wanted.get(fd, 0) | events
        return wanted

    def serve(self, events):
        """Serves these events, {fd: events}, and calls what is due."""
        if self.over and self.run.has_ended(events):
            for carrier in self.carriers:
                carrier.last()
        for carrier in self.carriers:
            carrier.serve(events, self.over)
        for listener in self.listeners:
            listener.serve(events)
        if not self.over and self.sock.fileno() in events and self._record():
            self._ended()
        if self.run.signals in events:  # after the end it is about our wait for a reader
            self.signal(read_signal(self.run.signals))
        for part in self.run.parts:
            part.served(self)
        self._run_due()

    def wait(self):
        """Returns the seconds until something is due, or None."""
        now = time.monotonic()
        due = [at - now for at, _ in self.due]
        for helper in self.carriers + self.listeners:
            wait = helper.wait()
            if wait is not None:
                due.append(wait)
        if self.over and self.run.pidfd < 0:
            due.append(LOOK_AGAIN)
        return max(0.0, min(due)) if due else None

    def _run_due(self):
        now = time.monotonic()
        steps = [item for item in self.due if item[0] <= now]
        self.due = [item for item in self.due if item[0] > now]
        for _, step in steps:
            step()

    # -- the end ---------------------------------------------------------------------------------

    def _ended(self):
        """The program has ended: kills pid 1 and with it everything else.

        What is still in the pipes is the rest of the output.
        """
        self.over = True
        self._send(SIGKILL)
        for part in self.run.parts:
            part.program_ended(self)
        if self.ending:
            self.wait_for_reader()

    def _undelivered(self):
        return not self.given_up and any(
            flow.busy for carrier in self.carriers for flow in carrier.outward)

    def wait_for_reader(self, before=None):
        """Gives the output up if its reader takes nothing more.

        For a run that was cut off; any other waits for the reader, as a program would.
        """
        moved = sum(flow.moved for carrier in self.carriers for flow in carrier.outward)
        if moved == before:
            self.given_up = True
        else:
            self.schedule(lambda: self.wait_for_reader(moved), DRAIN_SECONDS)

    def _record(self):
        """Takes one packet of init.  Returns whether it was the last one.

        After an exec error comes the end of the process that failed: that is not the program.
        """
        try:
            packet = self.sock.recv(256)
        except ConnectionResetError:  # init left a "stop" unread; its last record comes after that
            return False
        if not packet:
            return True
        value, rusage = init.parse_record(packet)
        if value < 0:
            self.outcome.exec_errno = -value
        else:
            self.outcome.status, self.outcome.rusage = value, rusage
        return True

    def signal(self, number):
        """Forwards a signal; the third SIGINT, SIGQUIT or SIGTERM ends the sandbox."""
        if number == SIGWINCH:
            for carrier in self.carriers:
                carrier.resize()
            return
        if number == SIGTSTP:
            self.suspend(False)
        elif number == SIGCONT:
            self._resume()
        if number not in FORWARDED:
            return
        if self.over:
            self.given_up = self.given_up or number in (2, 3, 15)
            return
        self.insistence += number in (2, 3, 15)
        if number in (2, 3, 15) and self.insistence >= INSISTENCE:
            self.outcome.insisted = number
            self.stop()
        else:
            self.outcome.passed_on[number] = self.outcome.passed_on.get(number, 0) + 1
            self._send(number)

    def suspend(self, whole_group):
        """Stops the program and this process until SIGCONT.  Deadlines are wall time: they go on.

        whole_group: with all others of its job, as a terminal does.  Where no shell would continue
        this process, the kernel does not stop it.
        """
        if self.over:
            return
        self._pause(SIGSTOP)
        for carrier in self.carriers:
            carrier.give_back()
        signals = libc.signals
        process.kill(0 if whole_group else os.getpid(), SIGTSTP)
        signals.pthread_sigmask(signals.SIG_UNBLOCK, [SIGTSTP])  # it is stopped here
        signals.pthread_sigmask(signals.SIG_BLOCK, [SIGTSTP])
        self._resume()

    def _resume(self):
        for carrier in self.carriers:
            carrier.take()
        if not self.over:
            self._pause(SIGCONT)

    def _pause(self, number):
        try:
            self.run.pause(number)
        except OSError:
            pass

    def _send(self, number):
        try:
            self.run.signal(number)
        except OSError:
            pass

    def kill_for_caller(self):
        """Ends the sandbox at once, without asking the program."""
        if not self.over:
            self.outcome.insisted = self.outcome.insisted or SIGKILL
            self.stop()
        self.given_up = True

    def _wall_deadline(self):
        if self.over:
            self.given_up = True
        elif not self.ending:
            from .stopped import all_stopped  # for a deadline that has passed
            self.outcome.deadline, self.outcome.stopped = True, all_stopped(self.run.pid)
            self.ask_to_end()

    def ask_to_end(self):
        """Sends SIGTERM, and ends the sandbox after the grace time."""
        self.ending = True
        self._send(SIGTERM)
        self.schedule(self.stop, self.spec.grace)

    def stop(self):
        """Ends the sandbox: init kills the program and reports its usage, all else dies here."""
        self.ending = True
        if self.over:
            return
        try:
            self.sock.send(init.STOP)
        except OSError:
            pass
        self.run.stop()
        self.schedule(self._kill, STOP_DEADLINE)

    def _kill(self):
        """Kills everything: init has not answered."""
        if not self.over:
            self.schedule(self._kill, self.run.kill_all())
