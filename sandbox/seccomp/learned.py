# SPDX-License-Identifier: Apache-2.0
"""Turns the observed calls of a trusted program into the smallest policy that allows them.

An observed call passes. A call in HELD passes only with the observed arguments. If the default
policy decides by argument and all observations keep to its tests, the policy has these tests. So it
allows nothing that the default refuses, except in lines that say so.
"""
from . import arms, choose, policy
from .tables import HOLDING_CORE
from ... import seccomp_bpf as bpf

#: {call: the arguments whose values the policy keeps}.  All are int for the kernel, which a filter
#: can see.
HELD = {"ioctl": (1,), "socket": (0, 1), "clone": (0,), "prctl": (0,), "fcntl": (1,)}
#: Different values of one call that are kept.  With more, any value passes that the default policy
#: allows: they are probably data.  Not for clone and socket, where any value would mean all kinds
#: of processes and sockets.
MOST_VALUES = 32
WIDENED = ("ioctl", "prctl", "fcntl")
#: The answer to other values of a call in HELD: the kernel's for an unknown value; for clone its
#: answer to a process without the right.
OTHERWISE = {"ioctl": "ENOTTY", "socket": "EAFNOSUPPORT", "clone": "EPERM", "prctl": "EINVAL",
             "fcntl": "EINVAL"}
#: Refused with ENOSYS while learning, as by the default policy: no filter can see what they do.
#: libc and libuv have another way.
BLIND = tuple(arms.BLIND[0][1].split())
#: Allowed by every learned policy: (call, the condition that is enough or None).  The calls by
#: which mrunc's pid 1 starts and ends the program, those of --ledger's hand-over, the return from
#: signals, of which a run may have seen none, and read, which every program needs and which would
#: cost the listener most.
BASE = tuple((call, enough) for call, _, enough in choose.STARTER if call != "ioctl") + tuple(
    (call, None) for call in ("sendmsg", "sendto", "brk", "mmap", "munmap", "futex", "rt_sigreturn",
                              "restart_syscall", "read"))
#: The answer to calls without a rule.
DEFAULT = "ENOSYS"
#: Command lines that are kept.
MOST_RUNS = 20


class Learned:
    """Observations.

    calls: {name: {values: how often}}; values is the tuple of a call in HELD, and None for any.
    outside: names of calls that the default decides by argument and that were seen beyond it.
    runs: how many.
    lines: the runs' command lines, the last at the end.
    """

    __slots__ = ("calls", "outside", "runs", "lines")

    def __init__(self, runs=0, lines=()):
        self.calls, self.outside, self.runs, self.lines = {}, set(), runs, list(lines)

    def see(self, call, values, count=1):
        """Adds an observation.

        call: name.
        values: as of `calls`.
        count: how often.
        """
        seen = self.calls.setdefault(call, {})
        seen[values] = seen.get(values, 0) + count

    def merge(self, other):
        """Adds all observations of another Learned."""
        for call, seen in other.calls.items():
            for values, count in seen.items():
                self.see(call, values, count)
        self.outside |= other.outside
        self.runs += other.runs
        self.lines = (self.lines +
                      [line for line in other.lines if line not in self.lines])[-MOST_RUNS:]

    def wide(self, call):
        """Returns whether a call's values are not kept, or not any more."""
        seen = self.calls.get(call, {})
        return call not in HELD or None in seen or call in WIDENED and len(seen) > MOST_VALUES


class Judge:
    """Tells what the default policy answers to a call."""

    def __init__(self, arch):
        self.rules, self.table = policy.decisions("default", arch), policy.numbers(arch)
        self._code = bpf.decode(policy.exported("default", arch))

    def rule(self, call):
        """Returns the rule of a call's row; "allow" for a call of another architecture."""
        if call not in self.table.NR:
            return "allow"
        rule = self.rules.get(call, (DEFAULT, ""))[0]
        if isinstance(rule, tuple):  # with a policy file, a second filter keeps RLIMIT_CORE
            rule = tuple(entry for entry in rule if (call, entry) not in HOLDING_CORE)
        return "allow" if rule == (("allow",),) else rule

    def tested(self, call):
        """Returns the indices of the arguments that decide, in order."""
        rule = self.rule(call)
        if isinstance(rule, str):
            return ()
        return tuple(sorted({test[0] for entry in rule for test in entry[1:]}))

    def allows(self, call, args):
        """Returns whether a call passes.

        args: {index: value}; the others are 0.
        """
        if call not in self.table.NR:  # of another architecture
            return True
        vector = tuple(args.get(index, 0) for index in range(6))
        return bpf.run(self._code, self.table.NR[call], self.table.AUDIT_ARCH,
                       vector)[0] == bpf.ALLOW

    def refuses(self, call):
        """Returns the errno's name for a call that never passes, else None."""
        rule = self.rule(call)
        return rule if isinstance(rule, str) and rule != "allow" else None
