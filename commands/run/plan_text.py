# SPDX-License-Identifier: Apache-2.0
"""Shows a plan as text and as JSON: --print-plan."""
from ...sandbox.errors import show
from ...sandbox.seccomp.shipped import digest_of
from ...syscalls import landlock


def describe(plan):
    """Yields the lines of a plan for people."""
    spec, text = plan.spec, show
    who = "host id %d:%d (the caller's own)" % plan.caller
    if plan.root:
        who = "one of the host ids " + ", ".join(
            "%d..%d" % (first, first + count - 1) for first, count in plan.id_ranges)
    yield "command       %s" % " ".join(text(word) for word in spec.argv)
    yield "tier          %s: %s" % (plan.tier.name, plan.tier.summary)
    inside = "inside and outside:" if plan.tier.real_id else "%d:%d inside is" % (plan.uid,
                                                                                  plan.gid)
    yield "identity      %s %s" % (inside, who)
    namespaces = [name for _, name, _ in plan.namespaces]
    if not plan.left_out("timens") and "timens" not in plan.lacks:
        namespaces.append("time (where the kernel has it)")
    yield "namespaces    %s%s" % (" ".join(namespaces) or "none",
                                  ", and a second user namespace" if plan.nested else "")
    yield "directory     %s" % text(plan.cwd)
    yield "host name     %s" % ("the host's" if "hostname" in plan.lacks else text(plan.hostname))
    yield "environment   %s" % " ".join("%s=%s" % (text(k), text(v))
                                        for k, v in sorted(plan.env.items()))
    yield "limits        %s" % " ".join("%s=%s:%s" % (k, v[0], v[1])
                                        for k, v in sorted(plan.limits.items()))
    if plan.group:
        yield "control group %s" % "; ".join("%s %s" % (setting.file, setting.value)
                                             for setting in plan.group)
    yield "capabilities  %s" % (hex(plan.cap_mask) if plan.cap_mask else "none")
    yield "filters       %s" % (" ".join(
        "%s (%d instructions, sha256 %s)" % (name, len(program) // 8, digest_of(program)[:16])
        for name, program in plan.filters) or "none")
    if plan.listening is not None:
        yield "listener      %s" % plan.listening.describe()
    deadlines = ["%g s%s" % row for row in ((spec.timeout, ""),
                                            (spec.cpu_time, " of processor time"))
                 if row[0] is not None]
    yield "deadline      %s" % (" or ".join(deadlines) + ", grace %g s" % spec.grace
                                if deadlines else "none")
    if spec.max_output is not None:
        yield "output        at most %d bytes" % spec.max_output
    yield "controls      %s" % " ".join(name for name, asked in plan.controls.items() if asked)
    if spec.unsafe_without:
        yield "LEFT OUT      %s" % " ".join(sorted(spec.unsafe_without))
    yield "file system"
    for op in plan.operations:
        yield "  " + op.line()
    if plan.tier.own_tree:
        yield "  read-only      /"
    for path, rights in () if plan.tier.own_tree else plan.landlock_rules:
        yield "  %-14s %s" % (landlock.describe(rights), text(path))


def as_dict(plan):
    """Returns the JSON object of --print-plan --json."""
    spec, text = plan.spec, show
    return {
        "schema": 1, "argv": [text(word) for word in spec.argv], "tier": plan.tier.name,
        "identity": {"uid": plan.uid, "gid": plan.gid,
                     "host_ranges": [list(r) for r in plan.id_ranges],
                     "caller": list(plan.caller), "unprivileged_host_id": plan.root},
        "namespaces": [name for _, name, _ in plan.namespaces], "nested_userns": plan.nested,
        "cwd": text(plan.cwd), "hostname": text(plan.hostname),
        "env": dict((text(k), text(v)) for k, v in plan.env.items()),
        "limits": dict((k, list(v)) for k, v in plan.limits.items()), "capabilities": plan.cap_mask,
        "group": [setting.as_dict() for setting in plan.group],
        "filters": [{"name": name, "instructions": len(program) // 8, "sha256": digest_of(program)}
                    for name, program in plan.filters],
        "listener": None if plan.listening is None else plan.listening.as_dict(),
        "timeout": spec.timeout, "cpu_time": spec.cpu_time, "max_output": spec.max_output,
        "grace": spec.grace,
        "proc": spec.proc, "tty": spec.tty,
        "controls": [{"name": name, "asked": asked} for name, asked in plan.controls.items()],
        "operations": [op.as_dict() for op in plan.operations],
        "landlock": [{"path": text(path), "rights": rights}
                     for path, rights in plan.landlock_rules],
        "mounts": dict((text(path), sorted(flags)) for path, flags in plan.mounts.items()),
    }
