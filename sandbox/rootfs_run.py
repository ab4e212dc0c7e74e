# SPDX-License-Identifier: Apache-2.0
"""`run --rootfs DIR`: the tree's own top-level entries in the place of the host's /usr and /etc.

Each is bound by itself onto our own tmpfs root, because mount points may be made nowhere else: /proc, /sys, /dev, /tmp, /box,
/run and the home stay ours.  /etc is the tree's, with what names the host or its network covered by ours.
"""
import os
import shlex
import stat

from .door import option, program_name
from .errors import usage
from .host import kind_of
from .base_tree import NODEV, NOEXEC, NOSUID, RO, Operation, tmpfs

OURS = (b"proc", b"sys", b"dev", b"tmp", b"box", b"run", b".landlock", b".cover")
#: Of our own files, those that say who the host is; the tree keeps its users and everything else.
COVERED = ("hosts", "hostname", "resolv.conf")
MOST_ENTRIES = 256


class Userland:
    """The facts of a tree.  path: bytes; inode: (device, inode) of its top; owner: (uid, gid); entries: [(name, kind, link's
    target, (device, inode))]; covered: names in /etc; var_tmp: whether /var/tmp is a directory of the tree."""

    __slots__ = ("path", "inode", "owner", "entries", "covered", "var_tmp")

    def __init__(self, path):
        """Reads the tree as it is now.  Raises SandboxError, exit 2."""
        shown = path.decode("utf-8", "surrogateescape")
        try:
            self.path = os.path.realpath(path)
            found = os.stat(self.path)
            if not stat.S_ISDIR(found.st_mode):
                raise usage(option("rootfs", shown), "is a %s; a directory is needed" % kind_of(found.st_mode),
                            "%s rootfs build DIR --from %s makes one" % (program_name(), shlex.quote(shown)))
            if os.path.samestat(found, os.stat("/")):
                raise usage(option("rootfs", shown), "is the host's own root",
                            "without %s its programs are there" % option("rootfs"))
            self.inode, self.owner = (found.st_dev, found.st_ino), (found.st_uid, found.st_gid)
            names = sorted(os.listdir(self.path))
            if len(names) > MOST_ENTRIES:
                raise usage(option("rootfs", shown), "holds %d entries; a root file system has a few" % len(names))
            self.entries = [self._entry(name, shown) for name in names]
        except OSError as error:
            raise usage(option("rootfs", shown), error.strerror)
        kinds = dict((name, kind) for name, kind, _, _ in self.entries)
        self.covered = [name for name in COVERED if kinds.get(b"etc") == "directory" and
                        self._lies(b"etc/" + name.encode(), stat.S_ISREG)]
        self.var_tmp = kinds.get(b"var") == "directory" and self._lies(b"var/tmp", stat.S_ISDIR)

    def _entry(self, name, shown):
        place = os.path.join(self.path, name)
        found = os.lstat(place)
        kind = kind_of(found.st_mode)
        if kind not in ("file", "directory", "link") and name not in OURS:
            raise usage(option("rootfs", shown), "/%s is a %s" % (name.decode("utf-8", "surrogateescape"), kind), "remove it")
        return name, kind, os.readlink(place) if kind == "link" else None, (found.st_dev, found.st_ino)

    def _lies(self, name, test):
        try:
            return test(os.lstat(os.path.join(self.path, name)).st_mode)
        except OSError:
            return False


def operations(userland, own_files, home):
    """[Operation] of the tree's part.  own_files: of etc.own_files; home: the home directory inside (bytes)."""
    ops, seen = [], set()
    for name, kind, target, inode in userland.entries:
        if name in OURS or name == home.split(b"/")[1]:
            continue
        place = b"/" + name
        seen.add(name)
        if kind == "link":
            ops.append(Operation("symlink", place, target))
            continue
        directory = kind == "directory"
        ops.append(Operation("directory", place, mode=0o755) if directory else Operation("file", place, b"", mode=0o644))
        ops.append(Operation("bind", place, os.path.join(userland.path, name), RO | NOSUID | NODEV, directory=directory,
                             rw=False, user=True, owner=userland.owner, inode=inode, top=userland.inode))
    for name in (b"usr", b"etc", b"var", b"srv", b"mnt", b"opt"):
        if name not in seen:
            ops.append(Operation("directory", b"/" + name, mode=0o755))
    if b"etc" not in seen:
        ops += [Operation("file", b"/etc/" + name.encode(), content, mode=0o644) for name, content in own_files]
    if b"var" not in seen:
        ops += [Operation("symlink", b"/var/tmp", b"/tmp"), Operation("symlink", b"/var/run", b"/run")]
    ops += [Operation("cover", b"/etc/" + name.encode(), content, RO | NOSUID | NODEV | NOEXEC, mode=0o644)
            for name, content in own_files if name in userland.covered]
    if userland.var_tmp:
        ops.append(tmpfs(b"/var/tmp", 1 << 30, 0o1777))
    return ops
