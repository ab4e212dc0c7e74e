# SPDX-License-Identifier: Apache-2.0
"""Makes models with reasons of the shipped policies, from tables.py.

The tools ask for these. The programs of shipped.py were compiled from them.
"""
from ...syscalls.numbers import table as numbers
from .shipped import ARCHES, check_name, NAMES  # noqa: F401 (callers take NAMES from here)
from . import tables
from ... import seccomp_bpf

#: SECCOMP_RET_ERRNO with errno 0: the caller sees success, and the kernel does nothing.
PRETEND = 0x00050000
X32_BIT = 0x40000000  # __X32_SYSCALL_BIT; asm/unistd.h of x86


def decisions(name, arch):
    """Returns {system call: (rule, reason)} of a policy, by ascending number.

    name: one of NAMES.
    arch: "x86_64" or "aarch64".

    It has every call that the architecture has. A rule is as in tables.py: an action (allow, kill,
    pretend, an errno name), or a tuple of (action, test, ...). Raises ValueError for an unknown
    policy.
    """
    check_name(name)
    rules = _rules(tables.DEFAULT)
    changed = _rules(tables.POLICIES[name])
    if set(changed) - set(rules):
        raise ValueError("policy %s changes calls that the default doesn't name: %s"
                         % (name, " ".join(sorted(set(changed) - set(rules)))))
    rules.update(changed)
    table = numbers(arch).NR
    return {call: rules[call] for call in sorted(table, key=table.get) if call in rules}


def groups(name, arch):
    """Returns [(rule, reason, [system call, ...])] by purpose, in the order of the tables.

    Arguments and errors as `decisions`.
    """
    left, out = decisions(name, arch), []
    changed = _rules(tables.POLICIES[name])
    for rows in (tables.DEFAULT, tables.POLICIES[name]):
        for rule, reason, names in rows:
            calls = [call for call in names.split() if call in left and (rows is not tables.DEFAULT
                                                                        or call not in changed)]
            if calls:
                out.append((rule, reason, calls))
    return out


def policy(name, arch):
    """Returns the model of a policy, a seccomp_bpf.Policy.  Arguments and errors as `decisions`."""
    table = numbers(arch)
    rules = {table.NR[call]: _model(rule) for call, (rule, _) in decisions(name, arch).items()}
    return seccomp_bpf.Policy(table.AUDIT_ARCH, _action("ENOSYS"), rules)


def exported(name, arch):
    """Returns the program of a policy as `export` writes it.

    Without the rules that keep RLIMIT_CORE: outside of mrunc it is not 1. Arguments and errors as
    `decisions`.
    """
    model, table, rows = policy(name, arch), numbers(arch), decisions(name, arch)
    for call, _ in tables.HOLDING_CORE:
        rule = tuple(entry for entry in rows[call][0] if (call, entry) not in tables.HOLDING_CORE)
        model.rules[table.NR[call]] = _model("allow" if rule == (("allow",),) else rule)
    return seccomp_bpf.compile_policy(model)


def setid_policy(arch):
    """Returns the model of `shipped.setid_program`."""
    return _beside(tables.SET_ID, arch)


def core_policy(arch):
    """Returns the model of `shipped.core_program`."""
    return _beside(tables.CORE, arch)


def _beside(rows, arch):
    """Returns a filter that allows everything but what its rows refuse."""
    table = numbers(arch)
    rules = {table.NR[call]: _model(rule) for call, (rule, _) in _rules(rows).items()
             if call in table.NR}
    # A policy that lets x32 numbers pass would otherwise let chmod pass under its x32 number.
    rules[X32_BIT, 0xFFFFFFFF] = _action("ENOSYS")
    return seccomp_bpf.Policy(table.AUDIT_ARCH, seccomp_bpf.ALLOW, rules)


def _rules(rows):
    """Returns {system call: (rule, reason)}.

    Raises ValueError for a name with two rows, and for one that no architecture has.
    """
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
    if isinstance(rule, str):
        return _action(rule)
    return [(_action(entry[0]), [seccomp_bpf.Condition(*test) for test in entry[1:]])
            for entry in rule]


def _action(text):
    import errno
    known = {"allow": seccomp_bpf.ALLOW, "kill": seccomp_bpf.KILL_PROCESS, "pretend": PRETEND}
    if text in known:
        return known[text]
    return seccomp_bpf.errno(getattr(errno, text))
