# SPDX-License-Identifier: Apache-2.0
"""Executed BPF instructions per system call: our compiler on docker's profile and on mrunc's default.

    python3 bench/bpf.py [--json]

length: instructions. all: mean over all calls that the architecture has. mix: mean over the measured mix. Both with
arguments 0. worst: over all numbers and argument corners. The mix was traced on x86_64; aarch64 takes it by name,
without the calls that it doesn't have. libseccomp's output (linear, and CTL_OPTIMIZE=2) stands beside it where
python3-seccomp can be imported. Counts are exact; for what they are worth in time see docs.
"""
import itertools
import json
import os
import runpy
import sys
import tempfile

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if HERE not in sys.path:
    sys.path.insert(0, HERE)

import mrunc  # noqa: E402,F401
from mrunc import seccomp_bpf  # noqa: E402
from mrunc.sandbox.seccomp import policy  # noqa: E402

_FREEZE = runpy.run_path(os.path.join(HERE, ".ci", "freeze_filters.py"))
mix, weights = _FREEZE["mix"], _FREEZE["weights"]

TARGETS = {  # (profile, arch): length, all, mix, worst
    ("docker", "x86_64"): (90, 10.2, 6.3, 18), ("docker", "aarch64"): (89, 10.1, 7.6, 16),
    ("default", "x86_64"): (305, 11.8, 7.9, 56), ("default", "aarch64"): (305, 11.4, 9.2, 56),
    ("reference", "x86_64"): (115, 10.8, 6.5, 18), ("reference", "aarch64"): (105, 10.3, 8.2, 16),
}
OPS = {"EQ": "==", "NE": "!=", "LT": "<", "LE": "<=", "GT": ">", "GE": ">="}
#: Tested by argument in the default, plainly allowed in the reference.
ADDITIONS = """mknod mknodat seccomp prlimit64 setrlimit fcntl madvise prctl kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo
pidfd_open get_robust_list sched_setparam sched_setscheduler sched_setattr sched_setaffinity setpriority ioprio_set sendto
recvfrom sendmsg recvmsg sendmmsg recvmmsg setsockopt getsockopt mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify
mq_getsetattr""".split()


def _condition(text):
    """A test of docs/peers/*.json ("arg0 MASKED_EQ 1 -> 0"); their arguments are all ints."""
    words = text.split()
    arg = int(words[0][3:])
    if words[1] == "MASKED_EQ":
        return seccomp_bpf.Condition(arg, "&==", int(words[4]), int(words[2]))
    return seccomp_bpf.Condition(arg, OPS[words[1]], int(words[2]))


def profile(name, arch):
    """docker's or podman's default profile as a model; ENOSYS above the last known number, as runc adds."""
    with open(os.path.join(HERE, "docs", "peers", name + ".json")) as data:
        data = json.load(data)
    import errno
    table, rules = policy.numbers(arch), {}
    for key, names in data[arch].items():
        action = (seccomp_bpf.ALLOW if key in ("allow", "conditional")
                  else seccomp_bpf.errno(getattr(errno, key[len("errno_"):])))
        for call in names:
            rules.setdefault(table.NR[call], action)
    default = seccomp_bpf.errno(getattr(errno, data["default"]))
    for call, alternatives in data[arch]["conditional"].items():
        refused = [getattr(errno, key[6:]) for key in data[arch] if key[:6] == "errno_" and call in data[arch][key]]
        rule = [(seccomp_bpf.ALLOW, [_condition(test) for test in tests]) for tests in alternatives]
        rules[table.NR[call]] = rule + [(seccomp_bpf.errno(refused[0]) if refused else default, [])]
    rules[table.LAST + 1, 0xFFFFFFFF] = seccomp_bpf.errno(errno.ENOSYS)
    return seccomp_bpf.Policy(table.AUDIT_ARCH, default, rules)


def reference(arch):
    """The default without what it tests by argument beyond the reference, of ioctl three requests alone."""
    model, table = policy.policy("default", arch), policy.numbers(arch)
    for call in ADDITIONS:
        if call in table.NR:
            model.rules[table.NR[call]] = seccomp_bpf.ALLOW
    eperm, condition = seccomp_bpf.errno(1), seccomp_bpf.Condition
    model.rules[table.NR["ioctl"]] = [(seccomp_bpf.ALLOW, [condition(1, "<", 0x5412)])] + [
        (eperm, [condition(1, "==", request)]) for request in (0x5412, 0x541C, 0x5423)] + [(seccomp_bpf.ALLOW, [])]
    return model


def corner_values(rule):
    """{argument: values} around every constant of a rule (a list of (action, conditions)): itself, +-1, 0, all ones,
    single bits of masks."""
    values = {}
    for _, tests in () if isinstance(rule, int) else rule:
        for arg, _, value, mask, wide in tests:
            found = values.setdefault(arg, {0, 1, 0xFFFFFFFF})
            found.update((value, value + 1, value - 1, value ^ 0x80000000))
            if mask is not None:
                found.update((mask, value | (~mask & 0xFFFFFFFF), mask & ~value))
                found.update(1 << bit for bit in range(64) if mask >> bit & 1)
            if wide:
                found.update((value ^ (1 << 32), value + (1 << 32), value - (1 << 32)))
    return {arg: sorted(value & (1 << 64) - 1 for value in found) for arg, found in values.items()}


def corners(rule):
    """All argument vectors of `corner_values`, each also with the upper halves changed."""
    values, out = corner_values(rule), []
    for chosen in itertools.product(*values.values()):
        for upper in (0, 1 << 32, 0xFFFFFFFF << 32):
            args = [0] * 6
            for arg, value in zip(values, chosen):
                args[arg] = value ^ upper
            out.append(tuple(args))
    return out if values else out[:1]


def figures(program, model, arch):
    """{"length", "all", "mix", "worst"} of program bytes, which implement `model`."""
    table, code = policy.numbers(arch), seccomp_bpf.decode(program)

    def steps(nr, args=(0,) * 6):
        return seccomp_bpf.run(code, nr, table.AUDIT_ARCH, args)[1]

    calls = list(table.NR.values())
    worst = max(steps(nr, args) for nr in list(range(1024)) + [0x40000000, 0x40000200, 0xFFFFFFFF]
                for args in corners(model.rules.get(nr, 0)))
    return {"length": len(code), "all": sum(map(steps, calls)) / len(calls),
            "mix": sum(share * steps(nr) for nr, share in mix(table.NR).items()), "worst": worst}


def libseccomp(model, arch, optimize):
    """libseccomp's program for a model, None without python3-seccomp. It has no ENOSYS tail, and what no tested rule of
    a call matches gets the default, as libseccomp lets an untested rule override the tested ones."""
    sys.path.append("/usr/lib/python3/dist-packages")  # where Debian's is, also for a virtual environment of its python3
    try:
        import seccomp
    except ImportError:
        return None
    finally:
        sys.path.pop()
    table = policy.numbers(arch)

    def action(value):
        return seccomp.ALLOW if value == seccomp_bpf.ALLOW else seccomp.ERRNO(value & 0xFFFF)

    made = seccomp.SyscallFilter(action(model.default))
    made.set_attr(seccomp.Attr.CTL_OPTIMIZE, optimize)
    if arch != os.uname().machine:
        made.add_arch(getattr(seccomp.Arch, arch.upper()))
        made.remove_arch(seccomp.Arch.NATIVE)
    signs = {"==": seccomp.EQ, "!=": seccomp.NE, "<": seccomp.LT, "<=": seccomp.LE, ">": seccomp.GT, ">=": seccomp.GE}
    for call, nr in table.NR.items():
        rule = model.rules.get(nr, model.default)
        for value, tests in [(rule, ())] if isinstance(rule, int) else rule:
            if value != model.default and (tests or isinstance(rule, int)):
                made.add_rule(action(value), call, *(
                    seccomp.Arg(arg, seccomp.MASKED_EQ, mask, wanted) if mask is not None
                    else seccomp.Arg(arg, signs[op], wanted) for arg, op, wanted, mask, _ in tests))
    with tempfile.TemporaryFile() as out:
        made.export_bpf(out)
        out.seek(0)
        return out.read()


def main():
    rows = []
    for arch in policy.ARCHES:
        often = weights(policy.numbers(arch).NR)
        for name, model in (("docker", profile("docker", arch)), ("podman", profile("podman", arch)),
                            ("reference", reference(arch)), ("default", policy.policy("default", arch))):
            ways = [("mrunc", seccomp_bpf.compile_policy(model, often)),
                    ("mrunc midpoint", seccomp_bpf.compile_policy(model))]
            if name in ("docker", "podman"):
                ways += [("libseccomp", libseccomp(model, arch, 1)), ("libseccomp -O2", libseccomp(model, arch, 2))]
            for way, program in ways:
                if program is not None:
                    rows.append(dict(figures(program, model, arch), profile=name, arch=arch, compiler=way))
    if "--json" in sys.argv[1:]:
        print(json.dumps(rows, indent=1))
        return 0
    missed = 0
    print("%-10s %-8s %-15s %6s %6s %6s %6s  %s" % ("profile", "arch", "compiler", "length", "all", "mix", "worst", "target"))
    for row in rows:
        target = TARGETS.get((row["profile"], row["arch"])) if row["compiler"] == "mrunc" else None
        found = tuple(round(row[key], 2) for key in ("length", "all", "mix", "worst"))
        verdict = ""
        if target:
            held = all(value <= limit for value, limit in zip(found, target))
            missed += not held
            verdict = "%s <= %d/%s/%s/%d" % (("held" if held else "MISSED",) + target)
        print("%-10s %-8s %-15s %6d %6.2f %6.2f %6d  %s"
              % ((row["profile"], row["arch"], row["compiler"]) + found + (verdict,)))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
