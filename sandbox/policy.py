# SPDX-License-Identifier: Apache-2.0
"""The shipped system call policies: frozen filters for the launch, models and reasons for the tools.

The launch calls `program` and `setid_program` and gets bytes; nothing is compiled, nor is the compiler imported. The
tools call `policy` and `decisions`, which read the tables (`policy_tables`).
"""

NAMES = ("default", "strict", "process", "process-nosignal", "debug")
ARCHES = ("x86_64", "aarch64")
#: Those that kill for some calls of the architecture.
KILLING = ("strict",)

X32_BIT = 0x40000000  # __X32_SYSCALL_BIT; asm/unistd.h of x86


# What the launch needs

def program(name, arch):
    """The frozen filter of a policy, as the bytes of a struct sock_filter array.

    name: one of NAMES ("process-nosignal": `process` for kernels below Landlock ABI 6, where the filter must refuse
    signals). arch: "x86_64" or "aarch64", as os.uname().machine says.

    Raises ValueError for an unknown name, KeyError for an architecture without filters.
    """
    _known(name)
    return _frozen(name, arch)


def digest(name, arch):
    """The SHA-256 of a policy's program in hex, written down with it: computing it would cost a start 2 ms."""
    from . import frozen
    return frozen.DIGESTS[arch, name]


def setid_program(arch):
    """The frozen second filter for sandboxes that can write a host directory: refuses set-id mode bits.

    It lets everything else through, so that it can stand beside any policy, also one from a file.
    Raises KeyError for an architecture without filters.
    """
    return _frozen("setid", arch)


def asking_program(name, arch, setid):
    """The frozen filter of a policy whose refusals ask the ledger's listener: the same tree with other leaves. A foreign
    architecture is still killed, quiet calls (policy_arms) are refused as ever. setid: `setid_program` is part of it.
    Errors as `program`."""
    _known(name)
    return _armed(name + ("+setid" if setid else "") + "+ledger", arch)


def killing_program(name, arch):
    """(the frozen filter of a policy that kills where it refuses a call of high risk (policy_arms), its SHA-256). Errors as
    `program`."""
    from . import frozen_arms
    _known(name)
    return _armed(name + "+kill", arch), frozen_arms.DIGESTS[arch, name + "+kill"]


def _known(name):
    if name not in NAMES:
        raise ValueError("no system call policy is called %r: there are %s" % (name, ", ".join(NAMES)))


def _frozen(name, arch):
    from . import frozen
    return _bytes(frozen.PROGRAMS, name, arch)


def _armed(name, arch):
    from . import frozen_arms
    return _bytes(frozen_arms.PROGRAMS, name, arch)


def _bytes(programs, name, arch):
    if arch not in ARCHES:
        raise KeyError("no system call filter for architecture %r: there are %s" % (arch, ", ".join(ARCHES)))
    return bytes.fromhex(programs[arch, name])


# What the tools need

def numbers(arch):
    """The table of an architecture, as of syscalls.numbers: NR, AUDIT_ARCH, LAST. KeyError for an unknown one."""
    from ..syscalls.numbers import table
    return table(arch)


def decisions(name, arch):
    """{system call: (rule, reason)} by ascending number, for every call that the architecture has.

    A rule is as in policy_tables: an action (allow, kill, an errno name), or a tuple of (action, test, ...).
    Raises ValueError for an unknown policy.
    """
    from . import policy_tables
    if name not in NAMES:
        raise ValueError("no system call policy is called %r: there are %s" % (name, ", ".join(NAMES)))
    rules = _rules(policy_tables.DEFAULT)
    changed = _rules(policy_tables.POLICIES[name])
    if set(changed) - set(rules):
        raise ValueError("policy %s changes calls that the default doesn't name: %s"
                         % (name, " ".join(sorted(set(changed) - set(rules)))))
    rules.update(changed)
    table = numbers(arch).NR
    return {call: rules[call] for call in sorted(table, key=table.get) if call in rules}


def groups(name, arch):
    """[(rule, reason, [system call, ...])] in the order of the tables, by purpose: as `decisions`, to be read."""
    from . import policy_tables
    left, out = decisions(name, arch), []
    changed = _rules(policy_tables.POLICIES[name])
    for rows in (policy_tables.DEFAULT, policy_tables.POLICIES[name]):
        for rule, reason, names in rows:
            calls = [call for call in names.split() if call in left and (rows is not policy_tables.DEFAULT
                                                                        or call not in changed)]
            if calls:
                out.append((rule, reason, calls))
    return out


def policy(name, arch):
    """The model of a policy (seccomp_bpf.Policy), from which `program` was compiled. Errors as `decisions`."""
    from .. import seccomp_bpf
    table = numbers(arch)
    rules = {table.NR[call]: _model(rule) for call, (rule, _) in decisions(name, arch).items()}
    return seccomp_bpf.Policy(table.AUDIT_ARCH, _action("ENOSYS"), rules)


def setid_policy(arch):
    """The model of `setid_program`."""
    from .. import seccomp_bpf
    from . import policy_tables
    table = numbers(arch)
    rules = {table.NR[call]: _model(rule) for call, (rule, _) in _rules(policy_tables.SET_ID).items()
             if call in table.NR}
    # A policy that lets x32 numbers pass would otherwise let chmod pass under its x32 number.
    rules[X32_BIT, 0xFFFFFFFF] = _action("ENOSYS")
    return seccomp_bpf.Policy(table.AUDIT_ARCH, seccomp_bpf.ALLOW, rules)


def _rules(rows):
    """{system call: (rule, reason)}. ValueError for a name twice or one that no architecture has."""
    known = set().union(*(numbers(arch).NR for arch in ARCHES))
    rules = {}
    for rule, reason, names in rows:
        for call in names.split():
            if call not in known:
                raise ValueError("system call %r exists on no architecture" % call)
            if call in rules:
                raise ValueError("system call %r has two rows" % call)
            rules[call] = rule, reason
    return rules


def _model(rule):
    from .. import seccomp_bpf
    if isinstance(rule, str):
        return _action(rule)
    return [(_action(entry[0]), [seccomp_bpf.Condition(*test) for test in entry[1:]]) for entry in rule]


def _action(text):
    import errno
    from .. import seccomp_bpf
    if text in ("allow", "kill"):
        return seccomp_bpf.ALLOW if text == "allow" else seccomp_bpf.KILL_PROCESS
    return seccomp_bpf.errno(getattr(errno, text))
