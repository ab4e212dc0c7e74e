# SPDX-License-Identifier: Apache-2.0
"""What every source of a root file system is turned into: a stream of entries; and how one is refused."""
from ...sandbox.errors import SandboxError, show

#: Longer names than these can't be reached by a path, or made at all.  limits.h: PATH_MAX, NAME_MAX
LONGEST_NAME, LONGEST_PATH = 255, 4000
#: Kinds that are never made.  A FIFO or a socket would let two sandboxes on one tree talk to each other.
NEVER = ("character device", "block device", "FIFO", "socket")
#: What a source could not or must not give.
UNREADABLE = "not readable by everybody"
CLOSED = "in a directory that not everybody may search: name it to have it"
STRANGE = "an interpreter that no package owns: name it to have it"
NOT_TAKEN = ("unreadable", UNREADABLE, CLOSED, STRANGE, "other file system")
FINDINGS = 1


class Entry:
    """One entry.  kind: file, directory, symlink, hardlink, whiteout, opaque, or one of NEVER or NOT_TAKEN; name: bytes as the
    source has it; mode: permission bits; size: bytes; mtime: whole seconds; target: of a link, bytes; read: read(n) ->
    bytes, of a file; xattrs: names (bytes) of its extended attributes."""

    __slots__ = ("kind", "name", "mode", "size", "mtime", "target", "read", "xattrs")

    def __init__(self, kind, name, mode=0o755, size=0, mtime=0, target=None, read=None, xattrs=()):
        self.kind, self.name, self.mode, self.size, self.mtime = kind, name, mode, size, mtime
        self.target, self.read, self.xattrs = target, read, xattrs


def refused(name, why, remedy=None):
    """A SandboxError (exit status 1): the whole source is refused.  name: bytes or text."""
    shown = show(name)
    if len(shown) > 300:
        shown = shown[:300] + "..."
    return SandboxError("rootfs", shown, reason=why, remedy=remedy, status=FINDINGS)


def steps_of(name):
    """The components (list of bytes) of an entry's name.  Raises SandboxError for one that leads out or can't be made."""
    if name.startswith(b"/"):
        raise refused(name, "an absolute name")
    if b"\0" in name:
        raise refused(name.replace(b"\0", b"\\0"), "a name with a NUL byte")
    if not name:
        raise refused("an entry", "has no name")
    steps = [step for step in name.split(b"/") if step not in (b"", b".")]
    if b".." in steps:
        raise refused(name, "a name with ..")
    if len(name) > LONGEST_PATH or any(len(step) > LONGEST_NAME for step in steps):
        raise refused(name, "the name is too long")
    return steps


def leads_out(steps, target):
    """Whether a symlink at a path (list of components) climbs above the tree's root.  An absolute target starts at that
    root: it is where the tree's programs will see it."""
    depth = 0 if target.startswith(b"/") else len(steps) - 1
    for step in target.split(b"/"):
        if step == b"..":
            depth -= 1
            if depth < 0:
                return True
        elif step not in (b"", b"."):
            depth += 1
    return False
