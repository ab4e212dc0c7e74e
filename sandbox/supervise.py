# SPDX-License-Identifier: Apache-2.0
"""While the program runs: one poll over the control socket, the signals, the terminal and the deadline."""
import os
import select
import time

from ..syscalls import libc
from . import init
from .verdict import Evidence

FORWARDED = (1, 2, 3, 10, 12, 15)  # HUP INT QUIT USR1 USR2 TERM
SIGWINCH, SIGTERM, SIGKILL, SIGTSTP = 28, 15, 9, 20
#: SIGTSTP is taken and dropped: stopping the supervisor would stop neither the program nor its deadline.
WATCHED = FORWARDED + (SIGWINCH, SIGTSTP)
#: After "stop" init reports the workload's end with its usage; one that can't is killed without.
STOP_DEADLINE = 2.0
INSISTENCE = 3


def receive(sock, signals, deadline):
    """The next packet before the gate: ("packet", bytes, fd or None), ("interrupted", signal, None), ("late", ...)."""
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    poll.register(signals, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return "late", None, None
        ready = [fd for fd, _ in poll.poll(left * 1000 + 1)]
        if signals in ready:
            number = read_signal(signals)
            if number in (1, 2, 3, 15):
                return "interrupted", number, None
        if sock.fileno() in ready:
            sockets = libc.sockets
            packet, control, _, _ = sock.recvmsg(8192, sockets.CMSG_SPACE(4), sockets.MSG_CMSG_CLOEXEC)
            fd = int.from_bytes(control[0][2][:4], "little") if control else None
            return "packet", packet, fd


def read_signal(fd):
    """The number of one pending signal, or 0."""
    try:
        data = os.read(fd, 128)
    except OSError:
        return 0
    return int.from_bytes(data[:4], "little")


class Outcome:
    """How it ended.  status: wait status or None; rusage; exec_errno; deadline: it was reached; insisted: signal; failure:
    what went wrong in the supervisor itself, a sentence or None."""

    def __init__(self, spec):
        self.spec, self.status, self.rusage, self.exec_errno = spec, None, None, None
        self.deadline, self.insisted, self.failure = False, 0, None

    def evidence(self, init_status, counted=None):
        """A verdict.Evidence.  init_status: the wait status of the sandbox's pid 1; counted: cgroup.Group.evidence."""
        spec = self.spec
        return Evidence(group=counted, memory=spec.memory, cpus=spec.cpus, pids=spec.pids,
                        status=self.status, init_status=init_status, policy=self.spec.seccomp, insisted=self.insisted,
                        deadline=self.spec.timeout if self.deadline else None, failure=self.failure)


class Supervision:
    """The loop.  run: launch.Run past the gate; outcome: what it fills in."""

    def __init__(self, run, outcome):
        self.run, self.sock, self.spec = run, run.sock, run.plan.spec
        self.outcome = outcome
        self.begun = time.monotonic()
        self.next_step, self.at = None, None
        self.insistence = 0
        self.terminal = self.feed = self.watch = None
        if self.spec.timeout is not None:
            self._schedule(self._ask_to_end, self.spec.timeout)

    def _schedule(self, step, seconds):
        self.next_step, self.at = step, time.monotonic() + seconds

    def until_the_end(self):
        """Serves everything until init leaves."""
        poll = select.poll()
        poll.register(self.sock.fileno(), select.POLLIN)
        poll.register(self.run.signals, select.POLLIN)
        if self.run.terminal is not None:
            from .terminal import Terminal
            self.terminal = Terminal(self.run.terminal, poll)
        if self.run.stdin >= 0:
            from .feed import Feed
            self.feed = Feed(self.run.stdin)
        if self.run.group is not None:
            from .cgroup import Watch
            self.watch = Watch(self.run.group, poll)
        try:
            while True:
                if self.feed is not None:
                    self.feed.prepare(poll)
                events = dict(poll.poll(self._wait()))
                if self.feed is not None:
                    self.feed.serve(events)
                if self.terminal is not None:
                    self.terminal.serve(events)
                if self.watch is not None:
                    self.watch.serve(events)
                if self.run.signals in events:
                    self._signal(read_signal(self.run.signals))
                if self.sock.fileno() in events and self._record():
                    break
                if self.at is not None and time.monotonic() >= self.at:
                    step, self.next_step, self.at = self.next_step, None, None
                    step()
        finally:
            for helper in (self.terminal, self.feed, self.watch):
                if helper is not None:
                    helper.close()

    def _wait(self):
        """Milliseconds until the next thing is due, or None."""
        due = [] if self.at is None else [max(0.0, self.at - time.monotonic())]
        if self.terminal is not None:
            self.terminal.prepare()
            due += [] if self.terminal.wait() is None else [self.terminal.wait()]
        return min(due) * 1000 + 1 if due else None

    def _record(self):
        """Takes one packet of init; True at the end.  An exec error is followed by one about init's own stub: not ours."""
        try:
            packet = self.sock.recv(256)
        except ConnectionResetError:  # init left a "stop" unread; its last record is still behind this error
            return False
        if not packet:
            return True
        value, rusage = init.parse_record(packet)
        if value < 0:
            self.outcome.exec_errno = -value
        else:
            self.outcome.status, self.outcome.rusage = value, rusage
        return True

    def _signal(self, number):
        if number == SIGWINCH:
            if self.terminal is not None:
                self.terminal.resize()
            return
        if number not in FORWARDED:
            return
        self.insistence += number in (2, 3, 15)
        if number in (2, 3, 15) and self.insistence >= INSISTENCE:
            self.outcome.insisted = number
            self._stop()
        else:
            self._send(number)

    def _send(self, number):
        try:
            self.run.signal(number)
        except OSError:
            pass

    def _ask_to_end(self):
        """The deadline: SIGTERM, and the grace time."""
        self.outcome.deadline = True
        self._send(SIGTERM)
        self._schedule(self._stop, self.spec.grace)

    def _stop(self):
        """Init kills the workload and still reports what it used."""
        try:
            self.sock.send(init.STOP)
        except OSError:
            pass
        if self.run.reaper is not None:
            self.run.reaper.stop()
        self._schedule(self._kill, STOP_DEADLINE)

    def _kill(self):
        self._send(SIGKILL)
