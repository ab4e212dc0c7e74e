# SPDX-License-Identifier: Apache-2.0
"""--harden: the whole tree read-only, and for files write xor execute.

The planned operations are changed as data; the child and the gate then treat them like any others.  What is left to hostile
code are interpreters: a script needs no permission to execute (SECURITY.md).
"""
from ..caller import option
from ..errors import show, usage
from .default import NODEV, NOEXEC, NOSUID, RO, tmpfs

POLICY = "strict"


def check(spec, seccomp):
    """Raises SandboxError (exit 2) for options that contradict --harden.  seccomp: the policy that was named, or None."""
    if not spec.harden:
        if spec.writable:
            raise usage(option("writable"), "goes with %s, where nothing else is writable" % option("harden"),
                        "without it: " + option("tmpfs", "PATH[=SIZE]"))
        return
    if spec.unsafe_without:
        raise usage(option("harden"), "contradicts " + option("unsafe_without"))
    if spec.proc == "full":
        raise usage(option("harden"), "contradicts %s, which shows and takes more than programs need" % option("proc", "full"))
    if spec.overlay:
        raise usage(option("harden"), "contradicts %s: nothing of the tree is to be changed" % option("overlay"))
    if spec.tmpfs:
        raise usage(option("harden"), "contradicts %s, which may execute what is written there" % option("tmpfs"),
                    "a writable place that may not: " + option("writable", "PATH[=SIZE]"))
    if seccomp not in (None, POLICY):
        raise usage(option("harden"), "contradicts %s: it brings the policy %s" % (option("seccomp", seccomp), POLICY),
                    "one call more: " + option("seccomp_add", "RULE"))
    if spec.seccomp_action is None:
        spec.seccomp_action = "kill"
    for place, _ in spec.writable:
        for _, destination in spec.copy:
            if destination.startswith(place + b"/"):
                shown = show(place)
                raise usage(option("copy"), "the copy may execute, and %s may not hold such a file" % option("writable", shown),
                            "choose another destination for it")


def writable_mounts(spec):
    """[Operation] of --writable: what may be written may never be executed."""
    out = []
    for place, size in spec.writable:
        operation = tmpfs(place, size, 0o1777 if place in (b"/tmp", b"/dev/shm") else 0o755, NOSUID | NODEV | NOEXEC)
        operation.options["user"] = operation.options["writable"] = True
        out.append(operation)
    return out


def apply(operations, tty):
    """The operations as --harden has them.  tty: whether the sandbox has a terminal of its own."""
    out = []
    for op in operations:
        if op.dst == b"/dev/tty" and not tty:
            continue
        if op.kind == "tmpfs" and op.dst != b"/" and not op.options.get("writable"):
            op.flags |= RO
        elif op.kind == "bind" and op.options["rw"]:
            op.flags |= NOEXEC
        out.append(op)
    return out
