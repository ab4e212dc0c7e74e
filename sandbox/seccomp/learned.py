# SPDX-License-Identifier: Apache-2.0
"""What a trusted program was seen to call, as the smallest policy that lets it: observations, their merging, and the text.

A call that was seen passes; of those in HELD only with the arguments that were seen.  What the default policy decides by
argument keeps its tests if everything seen keeps to them, so a learned policy lets nothing pass that the default refuses,
but for lines that say so.
"""
from . import arms, choose, policy
from .tables import HOLDING_CORE
from ... import seccomp_bpf as bpf

#: call: the arguments whose values the policy holds on to.  All are int for the kernel: scalars,
#: which a filter sees.
HELD = {"ioctl": (1,), "socket": (0, 1), "clone": (0,), "prctl": (0,), "fcntl": (1,)}
#: So many different values of one call; then it passes with any that the default policy lets pass,
#: as the values are data more likely than a choice.  Never of clone and socket, where that would be
#: all kinds of processes and sockets.
MOST_VALUES = 32
WIDENED = ("ioctl", "prctl", "fcntl")
#: What a call in HELD gets for other values: what the kernel says to one that it doesn't know; for
#: clone, to one without the right to it.
OTHERWISE = {"ioctl": "ENOTTY", "socket": "EAFNOSUPPORT", "clone": "EPERM", "prctl": "EINVAL",
             "fcntl": "EINVAL"}
#: Refused while learning as by the default policy, ENOSYS: no filter can see into them, so that one
#: that lets them pass holds nothing.  libc and libuv have another way.
BLIND = tuple(arms.BLIND[0][1].split())
#: With every learned policy: what mrunc's pid 1 needs to start and end the program, what the
#: hand-over of --ledger does behind the filter, how the kernel comes back from signals, of which a
#: run may have seen none, and read, without which no program is and which learning would mostly
#: wait for.  (call, the condition that is enough or None)
BASE = tuple((call, enough) for call, _, enough in choose.STARTER if call != "ioctl") + tuple(
    (call, None) for call in ("sendmsg", "sendto", "brk", "mmap", "munmap", "futex", "rt_sigreturn",
                              "restart_syscall", "read"))
#: The answer to calls without a rule.
DEFAULT = "ENOSYS"
#: Command lines that are kept.
MOST_RUNS = 20


class Learned:
    """Observations.  calls: {name: {values: how often}}, where values is the tuple of a call in HELD, and None for any;
    outside: {name} of calls that the default decides by argument and that were seen beyond it; runs: how many; lines: the
    runs' command lines, the last at the end."""

    __slots__ = ("calls", "outside", "runs", "lines")

    def __init__(self, runs=0, lines=()):
        self.calls, self.outside, self.runs, self.lines = {}, set(), runs, list(lines)

    def see(self, call, values, count=1):
        """Adds an observation."""
        seen = self.calls.setdefault(call, {})
        seen[values] = seen.get(values, 0) + count

    def merge(self, other):
        """Adds all of another's."""
        for call, seen in other.calls.items():
            for values, count in seen.items():
                self.see(call, values, count)
        self.outside |= other.outside
        self.runs += other.runs
        self.lines = (self.lines +
                      [line for line in other.lines if line not in self.lines])[-MOST_RUNS:]

    def wide(self, call):
        """Whether a call's values aren't held on to (any more)."""
        seen = self.calls.get(call, {})
        return call not in HELD or None in seen or call in WIDENED and len(seen) > MOST_VALUES


class Judge:
    """What the default policy says to a call, by number and arguments."""

    def __init__(self, arch):
        self.rules, self.table = policy.decisions("default", arch), policy.numbers(arch)
        self._code = bpf.decode(policy.exported("default", arch))

    def rule(self, call):
        """Its row's rule; "allow" for a call of another architecture."""
        if call not in self.table.NR:
            return "allow"
        rule = self.rules.get(call, (DEFAULT, ""))[0]
        if isinstance(rule, tuple):  # RLIMIT_CORE is held by the filter beside a policy file
            rule = tuple(entry for entry in rule if (call, entry) not in HOLDING_CORE)
        return "allow" if rule == (("allow",),) else rule

    def tested(self, call):
        """The indices of the arguments that decide, in order."""
        rule = self.rule(call)
        return () if isinstance(rule, str) else tuple(sorted({test[0] for entry in rule for test in entry[1:]}))

    def allows(self, call, args):
        """args: {index: value}; the others are 0."""
        if call not in self.table.NR:  # of another architecture
            return True
        vector = tuple(args.get(index, 0) for index in range(6))
        return bpf.run(self._code, self.table.NR[call], self.table.AUDIT_ARCH,
                       vector)[0] == bpf.ALLOW

    def refuses(self, call):
        """The answer, an errno's name, to a call that it never lets pass; else None."""
        rule = self.rule(call)
        return rule if isinstance(rule, str) and rule != "allow" else None
