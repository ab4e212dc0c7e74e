# SPDX-License-Identifier: Apache-2.0
"""Takes the listener that a child hands over, for receipt, ledger, trace and result."""
from select import POLLIN

from ...syscalls import process
from ...syscalls.landlock import WRITE_FILE
from ...syscalls.libc import ARCH, number as number_of
from ..errors import SandboxError, stage
from ..part import Part
from ..seccomp import arms
from . import listener
from .ledger import Ledger
from .peek import Peek

#: Characters of a call's arguments in a sentence.
LONGEST = 200


class ListenerPart(Part):
    """The listener of a run, as a part.

    hearing: Hearing, once the child has handed the listener over.
    member: the Ledger, once the program runs, or None.
    """

    tells = True

    def __init__(self, stream):
        """stream: ledger_stream.Stream for the ledger's lines, or None."""
        self.stream, self.hearing, self.member = stream, None, None

    def before_child(self, run):
        """Prepares the filter that asks, which the child attaches in place of the others."""
        return {"handover": listener.Handover(run.plan.listening.program)}

    def make(self, listening, packet, fd):
        """Returns the Hearing for what the child has sent."""
        return Hearing(listening, packet, fd)

    def packet(self, run, packet, fd):
        """Takes the listener, or the errno because of which there is none."""
        if packet[:1] != b"L":
            return False
        plan = run.plan
        if fd is not None:
            run.held.keep(fd)
        limit = plan.limits.get("nofile")
        if limit and not plan.root:  # child.limits has left it to us
            with stage("limits", "set_limit"):
                process.set_limit("nofile", limit[0], limit[1], run.pid)
        with stage("listener", "Hearing"):
            self.hearing = self.make(plan.listening, packet, fd)
        self.awaited = self.hearing.awaited  # init's own exec waits for `admit`
        run.facts.update(self.hearing.facts)
        run.lacking = dict(run.lacking, **self.hearing.notes)
        return fd is not None

    def admit(self, events, pid):
        """Lets the child execute init."""
        self.hearing.admit(events, pid)
        self.awaited = self.hearing.awaited

    def watch(self, run, supervision):
        """Answers the calls that ask."""
        if self.hearing.listener is not None:
            self.member = self.hearing.start(run, self.stream)
            supervision.listeners.append(self.member)

    def served(self, supervision):
        """Ends the sandbox for a call of high risk, which waits for its answer and dies there."""
        outcome = supervision.outcome
        if self.member is not None and self.member.killed is not None and not outcome.forbidden:
            outcome.forbidden = True
            supervision.stop()

    def finish(self, run, result, outcome):
        """Adds what was recorded to the result."""
        self.hearing.tell(result, outcome)


class Hearing:
    """The listener of one run and what is recorded with it.

    listener: listener.Listener, or None if this process can't have one.
    facts, notes: for the gate.
    awaited: its descriptor while the child's exec of init waits for `admit`, else -1.
    ledger, trace: Ledger and trace.Trace, once the program runs, or None.
    """

    def __init__(self, listening, packet, fd):
        """Takes what the child has sent: a packet (a word of listener.py) and a descriptor or None.

        Raises OSError if the descriptor is no listener.
        """
        self.listening, self.listener, self.ledger, self.trace = listening, None, None, None
        self.awaited, self.facts, self.notes = -1, {}, {}
        if fd is None:
            why = listener.unavailable(int(packet[len(listener.REFUSED):]))
            self.notes = {"ledger": why, "trace": why}
            return
        self.listener = listener.Listener(fd, packet == listener.KILLABLE, listening.trace)
        if not self.listener.is_one():
            raise OSError(9, "is no listener", "descriptor")
        self.facts["listener"] = "a listener, %s, %s" % (
            "waiting calls undisturbed by signals" if self.listener.killable else
            "signals interrupt waiting calls",
            "woken on one processor" if self.listener.synchronous else "no synchronous wake-up")
        self.awaited = fd if listening.trace else -1

    def admit(self, events, child):
        """Lets the child execute init: the one call that is traced before the gate.

        events: of poll; child: its pid.  Raises SandboxError.
        """
        if not events & POLLIN:  # no process is left under the filter; the control socket says why
            self.awaited = -1
            return
        call = self.listener.receive()
        if call is None:  # a signal interrupted it; it comes again
            return
        ident, thread, number, arch, _ = call
        if (thread, number, arch) != (child, number_of("execveat"), self.listening.audit_arch):
            raise SandboxError("listener", "an unexpected call %d before the gate" % number)
        try:
            if self.listener.go_on(ident, number):
                self.awaited = -1
        except OSError as error:
            if error.errno != listener.EINVAL:
                raise
            raise SandboxError("listener", "letting a call go on", control="trace",
                               reason="this kernel does not have it: Linux 5.5")

    def start(self, run, stream):
        """Returns the Ledger, a member of the supervision.

        run: launch.Run past the gate; stream: ledger_stream.Stream for its lines, or None.
        """
        plan = run.plan
        if stream is not None:
            stream.begin()
        # While the program starts, and not while it waits for its first answer.
        from ..decode.call import decode
        decode(ARCH, number_of("mount"), (0,) * 6, None)
        peek = Peek()
        answers = arms.Answers(self.listening.programs, self.listening.audit_arch)
        self.ledger = Ledger(self.listener, self.listening, answers, run.begun, decode, peek.read,
                             stream if self.listening.record else None)
        if self.listening.trace:
            from .trace import Trace  # for --trace alone
            places = None if plan.tier.own_tree else [
                path for path, rights in plan.landlock_rules if rights & WRITE_FILE]
            self.trace = self.ledger.trace = Trace(self.listener, run.begun, peek.read, run.pid,
                                                   self.ledger.stream, places)
        return self.ledger

    def tell(self, result, outcome):
        """Adds the rows to a Result, and to the Outcome the call that ended the run."""
        ledger = self.ledger
        if ledger is None:
            return
        if self.listening.record:
            result.refused = ledger.rows()
        if self.trace is not None:
            result.processes = self.trace.rows(outcome.status)
            result.notes += self.trace.notes()
        if ledger.rest:
            result.notes.append(
                "the ledger was full: %d calls of %s are counted, and not described" % (
                    sum(record.count for record in ledger.rest.values()),
                    ", ".join(sorted(record.syscall for record in ledger.rest.values()))))
        if ledger.gone:
            result.notes.append("%d calls that ask were taken back before they could be looked at: "
                                "a signal came, or the caller died" % ledger.gone)
        if ledger.killed is not None:
            record = ledger.killed
            text = ", ".join("%s=%s" % item for item in record.args.items())
            killing = outcome.spec.seccomp_action == "kill"
            why = arms.why_high_risk(record.syscall) if killing else None
            text = text[:LONGEST] + ("..." if text[LONGEST:] else "")
            outcome.forbidden_call = record.syscall, text, why
