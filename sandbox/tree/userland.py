# SPDX-License-Identifier: Apache-2.0
"""--rootfs: shows a tree's top-level entries in the place of the host's /usr and /etc.

Each is bound by itself onto our own tmpfs root, because mount points may be made nowhere else.
/proc, /sys, /dev, /tmp, /box, /run and the home stay ours.  /etc is the tree's; files in it that
name the host or its network are covered by ours.
"""
import os
import shlex

from .operations import NODEV, NOSUID, RO, Bind, Cover, Directory, File, Symlink, Tmpfs
from ..caller import option, program_name
from ..errors import show, usage
from ..host.facts import kind_of
from .user_mounts import open_source

#: Top-level names that a tree can't bring: ours stand there.
OURS = (b"proc", b"sys", b"dev", b"tmp", b"box", b"run", b".landlock", b".cover")
#: Of our own files, those that name the host.  The tree keeps its users and everything else.
COVERED = ("hosts", "hostname", "resolv.conf")
MOST_ENTRIES = 256


class Userland:
    """Holds what was found in a tree.

    top: its Source
    entries: [(name, kind, link's target or None, Source or None)] of its top level
    covered: the names of COVERED that its /etc has
    var_tmp: whether its /var/tmp is a directory
    """

    __slots__ = ("top", "entries", "covered", "var_tmp")

    def __init__(self, spec, held):
        """Opens the tree of spec.rootfs as it is now.

        held: list that gets each Source.  Raises SandboxError (exit 2) for a tree that can't be
        used.
        """
        shown = show(spec.rootfs)
        self.top = open_source(spec.rootfs, "rootfs", spec, held)
        if not self.top.directory:
            raise usage(option("rootfs", shown),
                        "is a %s; a directory is needed" % kind_of(self.top.found.st_mode),
                        "%s rootfs build DIR --from %s makes one" %
                        (program_name(), shlex.quote(shown)))
        if os.path.samestat(self.top.found, os.stat("/")):
            raise usage(option("rootfs", shown), "is the host's own root",
                        "without %s its programs are there" % option("rootfs"))
        try:
            listing = self.top.open(os.O_RDONLY | os.O_DIRECTORY)
            try:
                names = sorted(os.fsencode(name) for name in os.listdir(listing))
            finally:
                os.close(listing)
            if len(names) > MOST_ENTRIES:
                raise usage(option("rootfs", shown),
                            "holds %d entries; a root file system has a few" % len(names))
            self.entries = [self._entry(name, shown, held) for name in names]
        except OSError as error:
            raise usage(option("rootfs", shown), error.strerror)
        kinds = dict((name, kind) for name, kind, _, _ in self.entries)
        self.covered = [name for name in COVERED if kinds.get(b"etc") == "directory" and
                        self._is("file", b"etc", name.encode())]
        self.var_tmp = kinds.get(b"var") == "directory" and \
            self._is("directory", b"var", b"tmp")

    def _entry(self, name, shown, held):
        """Returns the entry of a name at the top level; what is to be bound is opened."""
        mode = self.top.mode_of(name)
        kind = "nothing any more" if mode is None else kind_of(mode)
        if kind == "link":
            return name, kind, os.readlink(name, dir_fd=self.top.fd), None
        if name in OURS:
            return name, kind, None, None
        if kind not in ("file", "directory"):
            raise usage(option("rootfs", shown), "/%s is a %s" % (show(name), kind), "remove it")
        source = self.top.below(name)
        held.append(source)
        return name, kind, None, source

    def _is(self, kind, *steps):
        """Returns whether a path of the tree is a "file" or a "directory", and no link."""
        mode = self.top.mode_of(*steps)
        return mode is not None and kind_of(mode) == kind


def operations(userland, own_files, home):
    """Returns [Operation] of the tree's part.

    userland: Userland; own_files: of default.own_files; home: the home directory inside (bytes).
    """
    ops, seen = [], set()
    for name, kind, target, source in userland.entries:
        if name in OURS or name == home.split(b"/")[1]:
            continue
        place = b"/" + name
        seen.add(name)
        if kind == "link":
            ops.append(Symlink(place, target))
            continue
        ops.append(Directory(place) if source.directory else File(place))
        ops.append(Bind(place, RO | NOSUID | NODEV, source=source, top=True,
                        owner=(userland.top.found.st_uid, userland.top.found.st_gid)))
    for name in (b"usr", b"etc", b"var", b"srv", b"mnt", b"opt"):
        if name not in seen:
            ops.append(Directory(b"/" + name))
    if b"etc" not in seen:
        ops += [File(b"/etc/" + name.encode(), content) for name, content in own_files]
    if b"var" not in seen:
        ops += [Symlink(b"/var/tmp", b"/tmp"), Symlink(b"/var/run", b"/run")]
    ops += [Cover(b"/etc/" + name.encode(), content)
            for name, content in own_files if name in userland.covered]
    if userland.var_tmp:
        ops.append(Tmpfs(b"/var/tmp", 1 << 30, 0o1777))
    return ops
