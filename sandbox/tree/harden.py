# SPDX-License-Identifier: Apache-2.0
"""--harden: makes the tree read-only; no file can be both written and executed.

The planned operations are changed as data.  The child and the gate treat them like any others.
What is left to hostile code are interpreters: a script needs no permission to execute
(SECURITY.md).
"""
from .operations import NODEV, NOEXEC, NOSUID, RO, Root, Tmpfs


def writable_mounts(spec):
    """Returns [Operation] of --writable: what may be written may never be executed."""
    return [Tmpfs(place, size, 0o1777 if place in (b"/tmp", b"/dev/shm") else 0o755,
                  NOSUID | NODEV | NOEXEC, user=True, kept=True) for place, size in spec.writable]


def apply(operations, tty):
    """Returns the operations as --harden has them.  Changes the flags of those that are given.

    tty: whether the sandbox has a terminal of its own.
    """
    out = []
    for op in operations:
        if op.dst == b"/dev/tty" and not tty:
            continue
        if isinstance(op, Tmpfs) and not isinstance(op, Root) and not op.kept:
            op.flags |= RO
        elif op.rw:
            op.flags |= NOEXEC
        out.append(op)
    return out
