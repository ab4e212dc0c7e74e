# SPDX-License-Identifier: Apache-2.0
"""Learns a policy: the filter asks about every call, and each is noted and let through.

The filter does not ask about the hand-over of the listener.  Learning is for a trusted program:
calls that the policy would refuse are carried out.  The other layers are as in any run, and a file
on the host still gets no set-id mode.  Only the numbers that come with a call are noted; the
program's memory is not read.
"""
import errno
import select
import time

from ...syscalls.libc import ARCH
from ...syscalls.numbers import native
from ..errors import SandboxError
from ..seccomp import learned, learned_text
from .hearing import Hearing, ListenerPart
from .ledger import SLICE, SOON

NR = native().NR
#: Values of one call that are kept, if they are never widened; answers of the default policy.
MOST_KEPT, MOST_ANSWERS = 1000, 4096
#: How many numbers without a name are noted.
MOST_UNKNOWN = 20
_WORD = 0xFFFFFFFF


class LearningPart(ListenerPart):
    """The listener of a run that learns."""

    def make(self, listening, packet, fd):
        """Returns the Lesson for what the child has sent."""
        return Lesson(listening, packet, fd)


class Lesson(Hearing):
    """The listener of a run that learns.  learner: Learner."""

    def __init__(self, listening, packet, fd):
        Hearing.__init__(self, listening, packet, fd)
        if self.listener is None:
            raise SandboxError("learning", "no listener", reason=self.notes["ledger"],
                               control="seccomp")
        blind = {NR[call] for call in learned.BLIND if call in NR}
        self.listener.continued = frozenset(NR.values()) - blind
        self.learner = Learner(self.listener)

    def start(self, run, stream):
        """Returns the Learner, a member of the supervision."""
        return self.learner

    def tell(self, result, outcome):
        """Adds what was learned to the result."""
        result.learned = self.learner.found(outcome.spec.argv)
        result.notes += self.learner.notes()


class Learner:
    """Lets calls go on and notes them: a member of the supervision.

    seen: {number: {values, or None: count}}.
    outside: numbers of calls that the default policy would have refused.
    crowded: numbers with more than MOST_KEPT values; unknown: numbers without a name.
    answers: {(number, values): whether the default policy allows it}.
    gone: how many calls were interrupted.
    """

    killed = None

    def __init__(self, listener):
        """listener: listener.Listener."""
        self.listener, self.over, self.last_call, self.gone = listener, False, 0.0, 0
        self.names = dict((number, name) for name, number in NR.items())
        self.judge = learned.Judge(ARCH)
        self.held = dict((NR[call], indices) for call, indices in learned.HELD.items())
        self.tested = dict((NR[call], self.judge.tested(call)) for call in self.judge.rules
                           if call in NR and call not in learned.HELD and self.judge.tested(call))
        self.seen = {}
        self.outside, self.crowded, self.unknown, self.answers = set(), set(), set(), {}
        self.poll = select.poll()
        self.poll.register(listener.fd, select.POLLIN)

    def wanted(self):
        """Returns {fd: poll events}."""
        return {} if self.over else {self.listener.fd: select.POLLIN}

    def wait(self):
        """Returns None: nothing is due at a time."""
        return None

    def close(self):
        """Does nothing: the listener is closed when the sandbox has ended."""

    def serve(self, events):
        """Answers waiting calls, for ledger.SLICE seconds at most."""
        event = events.get(self.listener.fd, 0)
        if event & select.POLLIN:
            self._answer_all(time.monotonic())
        elif event & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
            self.over = True  # another RECV would block for ever on old kernels

    def _answer_all(self, now):
        ends = now + SLICE
        while True:
            busy = now - self.last_call < SOON
            self._answer()
            now = self.last_call = time.monotonic()
            if now >= ends or not busy:
                return
            ready = self.poll.poll(1)
            if not ready:
                return
            if not ready[0][1] & select.POLLIN:
                self.over = True
                return

    def _answer(self):
        call = self.listener.receive()
        if call is None:
            self.gone += 1
            return
        ident, _, number, _, arguments = call
        if number not in self.listener.continued:
            self.listener.refuse(ident, errno.ENOSYS)
            if len(self.unknown) < MOST_UNKNOWN:
                self.unknown.add(number)
            return
        try:
            if self.listener.go_on(ident, number):
                self._note(number, arguments)
            else:
                self.gone += 1
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise SandboxError("learning", "letting a call go on",
                               reason="this kernel does not have it: Linux 5.5")

    def _note(self, number, arguments):
        seen = self.seen.get(number)
        if seen is None:
            seen = self.seen[number] = {}
        indices = self.held.get(number)
        values = None if indices is None else tuple(arguments[index] & _WORD for index in indices)
        if values in seen or len(seen) < MOST_KEPT:
            seen[values] = seen.get(values, 0) + 1
        else:
            self.crowded.add(number)
        if number in self.tested and number not in self.outside:
            self._ask_default(number, arguments)

    def _ask_default(self, number, arguments):
        """Asks the default policy about a call that it decides by the arguments."""
        key = number, tuple(arguments[index] for index in self.tested[number])
        if key not in self.answers:
            if len(self.answers) >= MOST_ANSWERS:
                self.answers.clear()
            self.answers[key] = self.judge.allows(self.names[number], dict(enumerate(arguments)))
        if not self.answers[key]:
            self.outside.add(number)

    def found(self, argv):
        """Returns the learned.Learned of this run.  argv: its command line."""
        out = learned.Learned(1, [learned_text.shown(argv)])
        for number, seen in self.seen.items():
            for values, count in seen.items():
                out.see(self.names[number], values, count)
        out.outside = {self.names[number] for number in self.outside}
        return out

    def notes(self):
        """Returns [sentence] about what the policy will not hold."""
        out = []
        if self.gone:
            out.append("%d call%s interrupted while waiting to be noted, by a signal or the "
                       "caller's end: what failed for that reason should be run again" % (
                           self.gone, "s were" if self.gone > 1 else " was"))
        if self.crowded:
            out.append("more than %d different values of %s: the rest is not in the policy" % (
                MOST_KEPT, ", ".join(sorted(self.names[number] for number in self.crowded))))
        if self.unknown:
            out.append("system calls without a name were refused: %s" %
                       " ".join(map(str, sorted(self.unknown))))
        return out
