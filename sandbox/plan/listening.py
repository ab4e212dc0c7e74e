# SPDX-License-Identifier: Apache-2.0
"""Plans the listener: which calls ask it, and which kill.  Data and bytes only.

With the ledger every refused call asks, except the quiet ones. With --seccomp-action kill alone,
calls of high risk ask. With --trace exec the allowed calls of TRACED ask too. The calls that are
refused, and their errnos, are the same in all cases.
"""
from ..seccomp import arms, policy, shipped as shipped_filters
from ..caller import option
from ..errors import SandboxError, usage
from ...syscalls.libc import ARCH
from ...syscalls.numbers import native

NR = native().NR
_FDS = range(3, 9)  # launch/child.become_init
_SOME = 0x7FFC0A0B1000
#: What the child calls with the filter in force until init runs, beside filters.STARTER: it would
#: wait for an answer that nobody can give yet.  (call, argument vectors)
HANDOVER = (("sendmsg", [(fd, _SOME, 0x4000) for fd in _FDS]),
            ("sendto", [(fd, _SOME, 9, 0, 0, 0) for fd in _FDS]),
            ("brk", [(_SOME,)]), ("mmap", [(0, 1 << 20, 3, 0x22, 0xFFFFFFFFFFFFFFFF, 0)]),
            ("munmap", [(_SOME, 1 << 20)]),
            ("futex", [(_SOME, 0x81, 1, 0, 0, 0)]))
#: Calls that --trace exec asks about if the policy allows them: the execution, and the first call
#: of most new programs.
TRACED = ("execve", "execveat", "set_tid_address")


class Listening:
    """What the listener is for.

    program: bytes of the filter that asks.
    programs: the filters that it stands for, the policy first.
    record: whether refused calls are recorded.
    trace: frozenset of the numbers whose allowed calls ask.
    kill, quiet: frozensets of numbers.
    audit_arch: int.
    """

    __slots__ = ("program", "programs", "record", "trace", "kill", "quiet", "audit_arch")

    def __init__(self, record, kill, quiet, audit_arch):
        self.program, self.programs = b"", []
        self.record, self.kill, self.quiet, self.audit_arch = record, kill, quiet, audit_arch
        self.trace = frozenset()

    def describe(self):
        """Returns one line for people."""
        parts = ["each refused call but " +
                 " ".join(self._names(self.quiet))] if self.record else []
        if self.trace:
            parts.append("allowed calls of " + " ".join(self._names(self.trace)))
        if self.kill:
            parts.append("kills for " + " ".join(self._names(self.kill)))
        return "; ".join(parts)

    def as_dict(self):
        """Returns the JSON object of --print-plan."""
        return {"record": self.record, "trace": self._names(self.trace),
                "kill": self._names(self.kill),
                "quiet": self._names(self.quiet) if self.record else [],
                "instructions": len(self.program) // 8}

    def how(self, listener, tier):
        """Returns the receipt's phrase.

        listener: what it can do, or why there is none.
        tier: Tier.
        """
        blind = "" if tier.userns else \
            "; a program that makes itself undumpable hides what its pointers point to"
        return "%s; not recorded: %s%s" % (listener, " ".join(self._names(self.quiet)), blind)

    @staticmethod
    def _names(numbers):
        return sorted(name for name, number in NR.items() if number in numbers)


def arm(plan):
    """Gives a Plan its `listening`, and its policy the leaves that kill.

    Raises SandboxError (exit 2).
    """
    spec = plan.spec
    named = [name for name, _ in plan.filters if name not in shipped_filters.BESIDE]
    if not named:
        if spec.ledger is True or spec.seccomp_action is not None or spec.trace:
            raise usage(option("ledger" if spec.ledger is True else "trace" if spec.trace
                               else "seccomp_action"),
                        "contradicts " + option("unsafe_without", "seccomp"))
        if spec.ledger:
            plan.warnings.append("no ledger: without seccomp no filter asks")
        return
    traced = spec.trace and not plan.left_out("trace")
    if plan.left_out("ledger") and not traced:
        return
    out = Listening(bool(spec.ledger) and not plan.left_out("ledger"),
                    arms.numbers_of(arms.HIGH_RISK, NR) if spec.seccomp_action == "kill" and not
                    plan.left_out("ledger") else frozenset(),
                    arms.numbers_of(arms.QUIET if spec.learn is None else arms.BLIND, NR),
                    policy.numbers(ARCH).AUDIT_ARCH)
    if traced:
        out.trace = frozenset(NR[name] for name in TRACED)
    if not (out.record or out.trace or out.kill):
        return
    # A shipped policy allows the calls of HANDOVER.
    shipped = spec.learn is None and named[0] in policy.NAMES and \
        plan.policy_digest == shipped_filters.digest(named[0], ARCH)
    missing = []
    if not shipped and (out.record or traced):
        missing = _refused(plan.filters[0][1], out.audit_arch)
    try:
        if missing:
            from ..seccomp.choose import to_add  # compiler and readers: 5 ms
            raise usage(option("ledger") if out.record else option("trace", "exec"),
                        "policy %s refuses %s, over which the listener is handed over" %
                        (named[0], ", ".join(missing)),
                        "allow them: " + to_add(missing), stage="policy")
        _compose(plan, out, named[0])
    except SandboxError as error:
        if not out.record or spec.ledger is True:
            raise
        plan.warnings.append("no ledger: " + error.reason)
        out.record = False
        if not (out.trace or out.kill):
            return
        if out.trace and missing:
            raise
        _compose(plan, out, named[0])
    plan.listening = out


def _compose(plan, out, name):
    """Gives a Listening its programs, and the policy the leaves that kill.

    Raises SandboxError (exit 2).
    """
    try:
        plain = [program for _, program in plan.filters]
        if out.kill:
            killing = arms.combine(plain[:1], arms.killing(out.audit_arch, out.kill))
            plan.filters[0] = name, killing
            plan.policy_digest = shipped_filters.digest_of(killing)
        out.programs = [program for _, program in plan.filters]
        if out.record:
            # A listener's kill ends the whole sandbox, the filter's one process: a report alone
            # changes nothing.
            spared = not out.kill and plan.spec.ledger is not True
            # Composed from the plain policy: what kills is refused there, and asks like the rest.
            out.program = arms.combine(plain, arms.asking_but(
                out.audit_arch, out.quiet, arms.KILL if spared else arms.NOTIFY))
        else:
            out.program = arms.combine(out.programs, arms.asking_about(out.audit_arch, out.kill)
                                       if out.kill else arms.unchanged)
        if out.trace:
            out.program = arms.combine([out.program],
                                       arms.asking_when_allowed(out.audit_arch, out.trace))
    except ValueError as error:
        asked = ("ledger",) if out.record else ("trace",
                                                "exec") if out.trace else ("seccomp_action", "kill")
        raise usage(option(*asked), "policy %s: %s" % (name, error), stage="policy")


def _refused(program, audit_arch):
    """Returns the calls of HANDOVER that a program refuses."""
    from ... import seccomp_bpf as bpf  # for --seccomp-action and --trace alone
    code = bpf.decode(program)
    return [call for call, vectors in HANDOVER if any(
        bpf.run(code, NR[call], audit_arch,
                vector + (0,) * (6 - len(vector)))[0] & arms.ACTION not in (arms.ALLOW, arms.LOG)
        for vector in vectors)]
