# SPDX-License-Identifier: Apache-2.0
"""The file system as one ordered list of plain operations, and the destination checks that need no privilege.

An operation only says what shall be there; mounting.py does it.  Mount points are only ever made on our own tmpfs.
"""
import os

from ...syscalls.mount import MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, \
    MOUNT_ATTR_RDONLY

RO, NOSUID, NODEV, NOEXEC = MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC
INODES = 100000
DEVICES = tuple(b"/dev/" + name for name in (b"null", b"zero", b"full", b"random", b"urandom", b"tty"))
#: The kinds, and which of them are mounts of their own.
MOUNTS = ("tmpfs", "bind", "overlay", "device", "proc", "devpts", "mask-file", "mask-directory", "read-only", "cover")
KINDS = MOUNTS + ("directory", "file", "symlink", "copy")


class Operation:
    """One step.  kind: of KINDS; dst: absolute path inside (bytes); src: source path, link target or content (bytes);
    flags: MOUNT_ATTR_* bits; options: dict (size, mode, directory, user, rw, owner, inode)."""

    __slots__ = ("kind", "dst", "src", "flags", "options")

    def __init__(self, kind, dst, src=None, flags=0, **options):
        self.kind, self.dst, self.src, self.flags, self.options = kind, dst, src, flags, options

    def words(self):
        """Mount flags as mountinfo writes them."""
        return [word for bit, word in ((RO, "ro"), (NOSUID, "nosuid"), (NODEV, "nodev"), (NOEXEC, "noexec"))
                if self.flags & bit]


def tmpfs(dst, size, mode=0o755, flags=NOSUID | NODEV):
    """A writable tmpfs operation."""
    return Operation("tmpfs", dst, flags=flags, size=size, mode=mode, user=False)


def plain_places(operations):
    """[bool]: for each operation whether its place can be reached by name alone, since above it there are only directories of
    our own root that operations before it have made, with no mount over them; a mount's own place must be such a directory or
    file, too."""
    own, made, out = {b""}, {}, [False]
    for op in operations[1:]:
        plain = op.dst.rpartition(b"/")[0] in own
        if op.kind in MOUNTS:
            plain = plain and made.get(op.dst) in ("directory", "file")
            if op.dst in own:
                own = set(path for path in own if path != op.dst and not path.startswith(op.dst + b"/"))
        elif plain and made.setdefault(op.dst, op.kind) == "directory":
            own.add(op.dst)
        out.append(plain)
    return out


def host_userland(host, own_files):
    """[Operation] of the host's programs, and of an /etc without its secrets."""
    ops = []
    add = ops.append
    for name in ("usr", "etc", "var", "var/lib", "srv", "mnt", "opt", "home", "root", "lib"):
        if name != "lib" or name not in host.layout:
            add(Operation("directory", b"/" + name.encode(), mode=0o755))
    add(Operation("symlink", b"/var/tmp", b"/tmp"))
    add(Operation("symlink", b"/var/run", b"/run"))
    add(Operation("bind", b"/usr", b"/usr", RO | NOSUID | NODEV, directory=True, rw=False, user=False))
    for name, target in sorted(host.layout.items()):
        path = b"/" + name.encode()
        if target:
            add(Operation("symlink", path, target))
        else:
            add(Operation("directory", path, mode=0o755))
            add(Operation("bind", path, path, RO | NOSUID | NODEV, directory=True, rw=False, user=False))
    for store in host.stores:
        for part in (os.path.dirname(store), store):
            if part not in (b"/", b"/opt"):  # those are there
                add(Operation("directory", part, mode=0o755))
        add(Operation("bind", store, store, RO | NOSUID | NODEV, directory=True, rw=False, user=False))
    add(Operation("directory", b"/etc/ssl", mode=0o755))
    for name, content in own_files:
        add(Operation("file", b"/etc/" + name.encode(), content, mode=0o644))
    add(Operation("symlink", b"/etc/mtab", b"/proc/self/mounts"))
    for path, directory in host.etc:
        add(Operation("directory" if directory else "file", path, None if directory else b"", mode=0o755 if directory
                      else 0o644))
        add(Operation("bind", path, path, RO | NOSUID | NODEV | NOEXEC, directory=directory, rw=False, user=False))
    return ops


def base(host, own_files, proc, home, skip_subset=False, userland=None):
    """The default tree, root first: [Operation].  host: facts; own_files: of etc.own_files; proc: pid, full, none; userland:
    the operations that take the place of the host's programs, of rootfs_run."""
    ops = [Operation("tmpfs", b"/", flags=NOSUID | NODEV | NOEXEC, size=16 << 20, mode=0o755, user=False)]
    add = ops.append
    for name in ("proc", "sys", "dev", "dev/shm", "tmp", "box", "run"):
        add(Operation("directory", b"/" + name.encode(), mode=0o755))
    # Outside every Landlock rule: that it cannot be opened is the proof that a domain is in force.
    add(Operation("file", b"/.landlock", b"", mode=0o444))
    ops += host_userland(host, own_files) if userland is None else userland
    for part in (os.path.dirname(home), home):
        if part != b"/":
            add(Operation("directory", part, mode=0o755))
    for part in ("devices", "devices/system", "devices/system/cpu"):
        add(Operation("directory", b"/sys/" + part.encode(), mode=0o755))
    for name, content in sorted(host.cpu.items()):
        add(Operation("file", b"/sys/devices/system/cpu/" + name.encode(), content, mode=0o444))
    for path in DEVICES:
        add(Operation("file", path, b"", mode=0o666))
        add(Operation("device", path, path, RO | NOSUID | NOEXEC))
    for name, target in ((b"fd", b"/proc/self/fd"), (b"stdin", b"/proc/self/fd/0"), (b"stdout", b"/proc/self/fd/1"),
                         (b"stderr", b"/proc/self/fd/2")):
        add(Operation("symlink", b"/dev/" + name, target))
    add(Operation("directory", b"/dev/pts", mode=0o755))
    add(Operation("symlink", b"/dev/ptmx", b"pts/ptmx"))
    add(Operation("devpts", b"/dev/pts", flags=NOSUID | NOEXEC))
    add(tmpfs(b"/tmp", 1 << 30, 0o1777))
    add(tmpfs(b"/box", 1 << 30))
    add(tmpfs(home, 256 << 20, 0o700))
    add(tmpfs(b"/dev/shm", 256 << 20, 0o1777, NOSUID | NODEV | NOEXEC))
    if proc != "none":
        # Read-only: what Landlock would refuse, too, where there is one.  A program could lower its oom_score_adj.
        add(Operation("proc", b"/proc", flags=RO | NOSUID | NODEV | NOEXEC, subset=proc == "pid" and not skip_subset))
    if proc == "full":
        from ..host.facts import PROC_MASKED_DIRECTORIES, PROC_MASKED_FILES
        for name in PROC_MASKED_FILES:
            if name in host.proc:
                add(Operation("mask-file", b"/proc/" + name.encode(), b"/dev/null", RO | NOSUID | NOEXEC))
        for name in PROC_MASKED_DIRECTORIES:
            if name in host.proc:
                add(Operation("mask-directory", b"/proc/" + name.encode(), flags=RO | NOSUID | NODEV | NOEXEC))
        if "sys" in host.proc:
            add(Operation("read-only", b"/proc/sys", flags=RO | NOSUID | NODEV | NOEXEC))
    return ops
