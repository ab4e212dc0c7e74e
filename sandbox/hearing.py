# SPDX-License-Identifier: Apache-2.0
"""What a run does with the listener that its child hands over: receipt, ledger, and what the result gets of it."""
from . import notify, policy_arms
from .arms import Answers
from .ledger import Ledger
from ..syscalls.libc import ARCH, NR

#: Of a call's arguments in a sentence.
LONGEST = 200


class Hearing:
    """listener: notify.Listener, or None where this process can't have one.  facts, notes: for the gate."""

    def __init__(self, listening, packet, fd):
        """packet: what came with the descriptor, a word of notify.  Raises OSError for a descriptor that is no listener."""
        self.listening, self.listener, self.ledger = listening, None, None
        self.facts, self.notes = {}, {}
        if fd is None:
            self.notes["ledger"] = notify.unavailable(int(packet[len(notify.REFUSED):]))
            return
        self.listener = notify.Listener(fd, packet == notify.KILLABLE)
        if not self.listener.is_one():
            raise OSError(9, "is no listener", "descriptor")
        self.facts["listener"] = "a listener, %s, %s" % (
            "waiting calls undisturbed by signals" if self.listener.killable else "signals interrupt waiting calls",
            "woken on one processor" if self.listener.synchronous else "no synchronous wake-up")

    def start(self, begun, stream):
        """The Ledger, a member of the supervision.  begun: monotonic time of the result's `started`; stream: for its lines, or
        None."""
        if stream is not None:
            stream.begin()
        # The tables are loaded now, while the program starts, and not while it waits for its first answer.
        from .decode import decode
        from .peek import Peek
        decode(ARCH, NR["mount"], (0,) * 6, None)
        self.ledger = Ledger(self.listener, self.listening, Answers(self.listening.programs, self.listening.audit_arch), begun,
                             decode, Peek().read, stream if self.listening.record else None)
        return self.ledger

    def tell(self, result, outcome):
        """Gives the result its rows, and the outcome the call that ended it."""
        ledger = self.ledger
        if ledger is None:
            return
        if self.listening.record:
            result.refused = ledger.rows()
        if ledger.rest:
            result.notes.append("the ledger was full: %d calls of %s are counted, and not described" % (
                sum(record.count for record in ledger.rest.values()),
                ", ".join(sorted(record.syscall for record in ledger.rest.values()))))
        if ledger.gone:
            result.notes.append("%d calls that ask were taken back before they could be looked at: a signal came, or the caller"
                                " died" % ledger.gone)
        if ledger.killed is not None:
            record = ledger.killed
            text = ", ".join("%s=%s" % item for item in record.args.items())
            why = policy_arms.reason(record.syscall) if outcome.spec.seccomp_action == "kill" else None
            outcome.forbidden_call = record.syscall, text[:LONGEST] + ("..." if text[LONGEST:] else ""), why
