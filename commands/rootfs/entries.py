# SPDX-License-Identifier: Apache-2.0
"""Defines the entries that every source of a root file system is turned into."""
from ...sandbox.errors import SandboxError, show

#: Longest name and path that can be made and opened. limits.h: NAME_MAX 255, PATH_MAX 4096
LONGEST_NAME, LONGEST_PATH = 255, 4000
#: Kinds that are never made.  A FIFO or a socket would let two sandboxes on one tree talk to each
#: other.
NEVER = ("character device", "block device", "FIFO", "socket")
#: Kinds of what a source could not or must not give.
UNREADABLE = "not readable by everybody"
CLOSED = "in a directory that not everybody may search: name the file to include it"
STRANGE = "an interpreter that no package owns: name it to include it"
NOT_TAKEN = ("unreadable", UNREADABLE, CLOSED, STRANGE, "other file system")
FINDINGS = 1


class Entry:
    """Holds one entry.

    kind: file, directory, symlink, hardlink, whiteout, opaque, or one of NEVER or NOT_TAKEN
    name: bytes, as the source has it
    mode: permission bits
    size: bytes
    mtime: whole seconds
    target: of a link, bytes
    read: function read(n) -> bytes, of a file
    xattrs: names (bytes) of its extended attributes
    """

    __slots__ = ("kind", "name", "mode", "size", "mtime", "target", "read", "xattrs")

    def __init__(self, kind, name, mode=0o755, size=0, mtime=0, target=None, read=None, xattrs=()):
        self.kind, self.name, self.mode, self.size, self.mtime = kind, name, mode, size, mtime
        self.target, self.read, self.xattrs = target, read, xattrs


def refused(name, why, remedy=None):
    """Returns the SandboxError (exit status 1) that refuses a whole source. name: bytes or str."""
    shown = show(name)
    if len(shown) > 300:
        shown = shown[:300] + "..."
    return SandboxError("rootfs", shown, reason=why, remedy=remedy, status=FINDINGS)


def steps_of(name):
    """Returns the components (list of bytes) of an entry's name.

    Raises SandboxError for a name that leads out of the tree or can't be made.
    """
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
    """Returns whether a symlink at a path (list of components) climbs above the tree's top.

    An absolute target starts at that top: there the tree's programs see it.
    """
    depth = 0 if target.startswith(b"/") else len(steps) - 1
    for step in target.split(b"/"):
        if step == b"..":
            depth -= 1
            if depth < 0:
                return True
        elif step not in (b"", b"."):
            depth += 1
    return False
