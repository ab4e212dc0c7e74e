# SPDX-License-Identifier: Apache-2.0
"""Makes the listener of a learning run: its filter asks about all calls but the hand-over's."""
import errno

from ... import seccomp_bpf as bpf
from ...syscalls.libc import ARCH
from ...syscalls.numbers import native
from ..errors import usage
from ..seccomp import arms, learned, learned_text, policy

NR = native().NR
OPEN = "learning: system calls pass to the kernel and are noted"


class Learning:
    """What the listener is for, as listening.Listening.

    program: bytes of the filter that asks.
    """

    record, kill, trace = False, frozenset(), frozenset()

    def __init__(self, others):
        """others: [program] that stay in force beside it."""
        self.program = arms.combine(others + [asking()], arms.unchanged)

    def describe(self):
        """Returns one line for people."""
        return "every call but the hand-over's: noted, and let go on"

    def as_dict(self):
        """Returns the JSON object of --print-plan."""
        return {"learn": True, "instructions": len(self.program) // 8}


def arm(plan):
    """Gives a Plan its `listening` in place of a policy.  Raises SandboxError (exit 2)."""
    if not plan.tier.own_tree:
        raise usage("learning in the %s tier" % plan.tier.name, "it stands on its own policy")
    plan.spec.seccomp = "learning"  # the policy's name if a foreign architecture's call is killed
    plan.lacks = dict(plan.lacks, seccomp=OPEN, ledger=OPEN)
    plan.listening = Learning([program for _, program in plan.filters])


def asking():
    """Returns the program that asks about all calls but learned.BASE, and refuses learned.BLIND."""
    rules = {}
    for call, enough in learned.BASE:
        rules[NR[call]] = bpf.ALLOW if enough is None else [
            (bpf.ALLOW, learned_text.conditions_of(call, enough))]
    rules.update((NR[call], bpf.errno(errno.ENOSYS)) for call in learned.BLIND if call in NR)
    return bpf.compile_policy(bpf.Policy(policy.numbers(ARCH).AUDIT_ARCH, bpf.NOTIFY, rules))
