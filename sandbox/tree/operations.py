# SPDX-License-Identifier: Apache-2.0
"""Holds the operations that build the tree inside: plain data, one class for each kind.

A class says in one place how its operation is made, printed, opened by Landlock and read back at
the gate.  It calls no kernel: `make` names one call of a mounting.Tree and its arguments.
"""
from ...syscalls import landlock
from ...syscalls.mount import (MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID,
                              MOUNT_ATTR_RDONLY)
from ..errors import show
from ..units import human

RO, NOSUID, NODEV, NOEXEC = (MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV,
                             MOUNT_ATTR_NOEXEC)
FLAGS = ((RO, "ro"), (NOSUID, "nosuid"), (NODEV, "nodev"), (NOEXEC, "noexec"))
#: The most inodes of a tmpfs: its size limits contents only, not what inodes cost the kernel.
INODES = 100000
#: Each takes 60 KiB of kernel memory that no control group counts, and one of kernel.pty.max.
MOST_TERMINALS = 128
READ = landlock.READ_FILE | landlock.READ_DIR
#: All that changes a tree, except making devices.
WRITE = (landlock.WRITE_FILE | landlock.REMOVE_DIR | landlock.REMOVE_FILE | landlock.MAKE_DIR |
         landlock.MAKE_REG | landlock.MAKE_SOCK | landlock.MAKE_FIFO | landlock.MAKE_SYM |
         landlock.REFER | landlock.TRUNCATE)


class Operation:
    """One step of building the tree.

    Attributes of every class, some of them constant:
    dst: absolute path inside (bytes)
    kind: the name in printed plans
    flags: MOUNT_ATTR_* bits of a mount
    is_mount: whether mountinfo shows it
    directory: whether a directory lies at dst afterwards
    src: source path or link target (bytes), or None
    content: what a file holds (bytes), or None
    source: the source.Source of something that the user named, or None
    user: whether the user named it
    system: whether it shows a directory of the host that the user did not name
    rw: whether the program writes to the host through it
    writable: whether the program can write there, and not to the host
    sealed: whether it becomes read-only only when everything has been made
    gives_way: whether a mount of the user at the same place replaces it
    late: whether it comes after everything that is not late
    shown: names of the attributes that the JSON object of a printed plan has
    """

    __slots__ = ("dst",)
    kind, flags, is_mount, directory = "", 0, False, False
    content = source = None
    user = system = rw = gives_way = late = False
    shown = ()

    def __init__(self, dst):
        self.dst = dst

    @property
    def src(self):
        """None, but for kinds with a source or a target."""
        return None

    @property
    def sealed(self):
        """False: read-only from the beginning, or never."""
        return False

    @property
    def writable(self):
        """False: the program can't write there, or writes to the host."""
        return False

    def make(self, tree):
        """Makes it in the new tree, in the child.  tree: mounting.Tree.  Raises OSError."""
        raise NotImplementedError

    def rights(self):
        """Returns Landlock's rights at and below dst, for every ABI; 0 for no rule of its own."""
        return 0

    def mounts(self, host_mounts):
        """Returns {mount point: set of flag words} that mountinfo must show.

        host_mounts: rows of host.mount_points, of the host.
        """
        return {self.dst: set(self.words())} if self.is_mount else {}

    def super_options(self, page):
        """Returns [word] that the last field of its mountinfo row must hold.

        page: bytes of a memory page.
        """
        return []

    def words(self):
        """Returns the mount flags as mountinfo writes them."""
        return [word for bit, word in FLAGS if self.flags & bit]

    def line(self):
        """Returns the line of --print-plan."""
        flags = " (%s)" % ",".join(self.words()) if self.flags else ""
        return "%-14s %-28s %s%s" % (self.kind, show(self.dst), self.detail(), flags)

    def detail(self):
        """Returns the part of that line between the place and the flags."""
        return "" if self.src is None else show(self.src)

    def as_dict(self):
        """Returns the JSON object of --print-plan --json, as a dict."""
        out = {"kind": self.kind, "dst": show(self.dst), "flags": self.words()}
        src = self.src if self.content is None else self.content
        if src is not None:
            out["src"] = show(src)
        out.update(self.fields())
        if self.source is not None:
            out["inode"] = self.source.inode
        return out

    def fields(self):
        """Returns [(key, value)] of the JSON object that only this kind has."""
        return [(name, getattr(self, name)) for name in self.shown]


class Directory(Operation):
    """A directory on the new root, or one that is there already."""

    __slots__ = ("mode",)
    kind, directory, shown = "directory", True, ("mode",)

    def __init__(self, dst, mode=0o755):
        self.dst, self.mode = dst, mode

    def make(self, tree):
        tree.directory(self.dst, self.mode)


class File(Operation):
    """A file of mrunc's own; an empty one is a mount point most of the time."""

    __slots__ = ("content", "mode")
    kind, gives_way, shown = "file", True, ("mode",)

    def __init__(self, dst, content=b"", mode=0o644):
        self.dst, self.content, self.mode = dst, content, mode

    def make(self, tree):
        tree.file(self.dst, self.content, self.mode)

    def detail(self):
        return "%d bytes" % len(self.content)


class Symlink(Operation):
    """A symbolic link to `src`."""

    __slots__ = ("src",)
    kind = "symlink"

    def __init__(self, dst, src):
        self.dst, self.src = dst, src

    def make(self, tree):
        tree.symlink(self.dst, self.src)


class Copy(Operation):
    """A copy of a file of the host, which may be executed."""

    __slots__ = ("src", "source", "size")
    kind, shown = "copy", ("size",)

    def __init__(self, dst, source):
        self.dst, self.src, self.source = dst, source.path, source
        self.size = source.found.st_size

    def make(self, tree):
        tree.copy(self.dst, self.source)

    def rights(self):
        return landlock.READ_FILE | landlock.EXECUTE


class Mount(Operation):
    """An operation that mountinfo shows."""

    __slots__ = ()
    is_mount = True


class Tmpfs(Mount):
    """An empty file system in memory.

    size: bytes
    mode: of its top directory
    user: whether --tmpfs or --writable asked for it
    kept: whether it stays writable under --harden
    owner: (uid, gid) of its top directory, or None for those of the mounting process
    """

    __slots__ = ("flags", "size", "mode", "user", "kept", "owner")
    kind, directory, gives_way = "tmpfs", True, True
    shown = ("size", "mode", "user")

    def __init__(self, dst, size, mode=0o755, flags=NOSUID | NODEV, user=False, kept=False):
        self.dst, self.flags, self.size, self.mode = dst, flags, size, mode
        self.user, self.kept, self.owner = user, kept, None

    @property
    def sealed(self):
        """Whether it is read-only: copies are written into it first."""
        return bool(self.flags & RO)

    @property
    def writable(self):
        """Whether it is writable: nothing of it is the host's."""
        return not self.flags & RO

    def options(self):
        """Returns [(key, value)] for mount(2) or fsconfig(2), bytes."""
        owners = [(b"uid", b"%d" % self.owner[0]), (b"gid", b"%d" % self.owner[1])] \
            if self.owner else []
        return owners + [(b"size", b"%d" % self.size), (b"nr_inodes", b"%d" % INODES),
                         (b"mode", b"%o" % self.mode)]

    def make(self, tree):
        tree.new(self.dst, b"tmpfs", self.flags & ~RO, self.options())

    def rights(self):
        return tree_rights(self.flags)

    def super_options(self, page):
        """Returns what the kernel tells: sizes rounded up, no default mode.  mm/shmem.c"""
        size = -(-self.size // page) * page
        mode = [b"mode=%o" % self.mode] if self.mode != 0o1777 else []
        return [b"size=%dk" % (size >> 10), b"nr_inodes=%d" % INODES] + mode

    def detail(self):
        return "at most %s, %d inodes" % (human(self.size), INODES)

    def fields(self):
        return Mount.fields(self) + [("writable", True)] * self.kept


class Root(Tmpfs):
    """The new root: the first operation.  mounting.new_root makes it, over the caller's "/"."""

    __slots__ = ()
    sealed = writable = gives_way = False  # the last step of all makes it read-only

    def __init__(self, size=16 << 20):
        Tmpfs.__init__(self, b"/", size, 0o755, NOSUID | NODEV | NOEXEC)

    def rights(self):
        """Returns the right to list: no rule opens a file directly below the root."""
        return landlock.READ_DIR


class Bind(Mount):
    """A file or directory of the host, with the mounts below it.

    Without `source` it is one of the system's own, shown by its path at the same path.
    owner: (uid, gid) to which root's sources are mapped
    top: whether it is an entry of a --rootfs tree
    """

    __slots__ = ("flags", "src", "directory", "source", "rw", "user", "system", "owner", "top")
    kind, gives_way, shown = "bind", True, ("directory", "rw", "user")

    def __init__(self, dst, flags, directory=True, source=None, rw=False, owner=None, top=False):
        self.dst, self.flags, self.source, self.rw, self.top = dst, flags, source, rw, top
        if source is None:
            self.src, self.directory, self.owner = dst, directory, owner
        else:
            self.src, self.directory = source.path, source.directory
            self.owner = owner or (source.found.st_uid, source.found.st_gid)
        self.user = source is not None
        self.system = source is None and directory

    def make(self, tree):
        if self.source is None:
            tree.show(self.dst, self.src, self.flags, True)
        else:
            fd, locked = tree.take(self)
            tree.attach(fd, self.dst, 0 if locked else self.flags)

    def rights(self):
        rights = tree_rights(self.flags)
        return rights if self.directory else rights & landlock.FILE_RIGHTS

    def mounts(self, host_mounts):
        """Returns its own mount point and those of the mounts below the source."""
        flags, source = set(self.words()), self.src.rstrip(b"/") + b"/"
        out = {self.dst: flags}
        for row in host_mounts:
            if row.point.startswith(source) and row.point != b"/":
                out[self.dst + b"/" + row.point[len(source):]] = set(flags)
        return out

    def fields(self):
        owner = [("owner", self.owner)] * self.user
        return Mount.fields(self) + owner + [("top", True)] * self.top


class Overlay(Mount):
    """A directory of the host that can be changed, while nothing reaches the host.

    It takes the place of a Bind.
    size: bytes that changes may take
    user, system, owner, top: of the Bind
    """

    __slots__ = ("src", "source", "user", "system", "owner", "top", "size")
    kind, flags, directory, writable = "overlay", NOSUID | NODEV, True, True
    shown = ("directory", "rw", "user")

    def __init__(self, bind, source, size):
        """bind: the Bind whose place it takes; source: its Source; size: bytes."""
        self.dst, self.src, self.source, self.size = bind.dst, bind.src, source, size
        self.user, self.system, self.top = bind.user, bind.system, bind.top
        self.owner = bind.owner or (source.found.st_uid, source.found.st_gid)

    def make(self, tree):
        fd, locked = tree.take(self)
        tree.overlay(self.dst, fd, 0 if locked else RO | NOSUID | NODEV, self.size, self.flags)

    def rights(self):
        return tree_rights(self.flags)

    def detail(self):
        return "%s, changed in at most %s" % (show(self.src), human(self.size))

    def fields(self):
        return Mount.fields(self) + [("system", True)] * self.system + \
            [("owner", self.owner)] + [("top", True)] * self.top + [("size", self.size)]


class Cover(Mount):
    """A file of mrunc's own, over one of a tree that must not be written."""

    __slots__ = ("content", "mode")
    kind, flags, gives_way = "cover", RO | NOSUID | NODEV | NOEXEC, True
    shown = ("mode",)

    def __init__(self, dst, content, mode=0o644):
        self.dst, self.content, self.mode = dst, content, mode

    def make(self, tree):
        tree.cover(self.dst, self.content, self.mode, self.flags)

    def detail(self):
        return "%d bytes" % len(self.content)


class Device(Mount):
    """A device of the host, at the same path.

    Not nodev: opening it would be EACCES.  Read-only hinders neither reading nor writing a device.
    """

    __slots__ = ("src",)
    kind, flags = "device", RO | NOSUID | NOEXEC

    def __init__(self, dst, src=None):
        self.dst, self.src = dst, src or dst

    def make(self, tree):
        tree.show(self.dst, self.src, self.flags, False)


class Devpts(Mount):
    """The sandbox's own terminals."""

    __slots__ = ()
    kind, flags, directory = "devpts", NOSUID | NOEXEC, True

    def options(self):
        """Returns [(key, value)] for mount(2) or fsconfig(2), bytes."""
        return [(b"ptmxmode", b"0666"), (b"mode", b"0620"), (b"max", b"%d" % MOST_TERMINALS)]

    def make(self, tree):
        tree.new(self.dst, b"devpts", self.flags, self.options())


class Proc(Mount):
    """A /proc of the sandbox's own.

    Read-only, also where no Landlock is: a program could lower its oom_score_adj.
    subset: whether it shows processes only
    hidepid: whether it hides processes that the reader may not trace.  proc(5)
    """

    __slots__ = ("subset", "hidepid")
    kind, flags, shown = "proc", RO | NOSUID | NODEV | NOEXEC, ("subset",)
    directory = late = True

    def __init__(self, subset=True, hidepid=True):
        self.dst, self.subset, self.hidepid = b"/proc", subset, hidepid

    def options(self):
        """Returns [(key, value)] for mount(2) or fsconfig(2), bytes."""
        return ([(b"hidepid", b"2")] if self.hidepid else []) + \
            ([(b"subset", b"pid")] if self.subset else [])

    def make(self, tree):
        tree.new(self.dst, b"proc", self.flags, self.options())

    def rights(self):
        return READ

    def hides(self, kind, words):
        """Returns whether a mount hides other processes, as the control `proc` demands.

        That does not depend on this operation's own hidepid.  kind, words: file system and super
        block options of its mountinfo row.
        """
        return kind == b"proc" and (b"hidepid=invisible" in words or b"hidepid=2" in words) and \
            (b"subset=pid" in words or not self.subset)

    def detail(self):
        return "hidepid=2" + (",subset=pid" if self.subset else "")

    def fields(self):
        return Mount.fields(self) + [("hidepid", False)] * (not self.hidepid)


class MaskFile(Device):
    """The host's /dev/null over a file of /proc."""

    __slots__ = ()
    kind, late = "mask-file", True

    def __init__(self, dst):
        Device.__init__(self, dst, b"/dev/null")


class MaskDirectory(Mount):
    """An empty directory over one of /proc."""

    __slots__ = ()
    kind, flags, directory, late = "mask-directory", RO | NOSUID | NODEV | NOEXEC, True, True

    def make(self, tree):
        tree.new(self.dst, b"tmpfs", self.flags, [
            (b"size", b"4096"), (b"nr_inodes", b"2"), (b"mode", b"0555")])


class ReadOnly(Mount):
    """A directory of /proc bound onto itself, read-only."""

    __slots__ = ()
    kind, flags, directory, late = "read-only", RO | NOSUID | NODEV | NOEXEC, True, True

    def make(self, tree):
        tree.again(self.dst, self.flags)


#: Files of a whole /proc that tell of the host or act on it: --proc full masks them.
MASKED_FILES = (
    "kcore", "keys", "key-users", "timer_list", "sched_debug", "slabinfo", "vmallocinfo",
    "kallsyms", "modules", "config.gz", "cmdline", "partitions", "interrupts", "kmsg",
    "sysrq-trigger", "softirqs", "pagetypeinfo", "kpagecount", "kpageflags", "kpagecgroup",
    "latency_stats", "mtrr", "iomem", "ioports", "diskstats", "bootconfig", "mdstat", "swaps")
MASKED_DIRECTORIES = ("acpi", "asound", "bus", "driver", "fs", "irq", "scsi", "dynamic_debug")


def proc_masks(present):
    """Returns [Operation] over parts of a whole /proc.

    present: the names in the host's /proc (set of str).
    """
    files = [MaskFile(b"/proc/" + name.encode()) for name in MASKED_FILES if name in present]
    directories = [MaskDirectory(b"/proc/" + name.encode())
                   for name in MASKED_DIRECTORIES if name in present]
    return files + directories + [ReadOnly(b"/proc/sys")] * ("sys" in present)


def tree_rights(flags):
    """Returns Landlock's rights below a mount.  flags: MOUNT_ATTR_* bits."""
    return READ | (0 if flags & NOEXEC else landlock.EXECUTE) | (0 if flags & RO else WRITE)


def plain_places(operations):
    """Returns [bool]: for each operation whether its place can be reached by name alone.

    It can if above it there are only directories of our own root that earlier operations made,
    with no mount over them.  A mount's own place must be such a directory or file, too.
    """
    own, holders, made, out = {b""}, set(), {}, [False]  # holders: of directories in own
    for op in operations[1:]:
        parent = op.dst.rpartition(b"/")[0]
        plain = parent in own
        if op.is_mount:
            plain = plain and made.get(op.dst) in (Directory, File)
            own.discard(op.dst)
            if op.dst in holders:
                own = set(path for path in own if not path.startswith(op.dst + b"/"))
        elif plain and made.setdefault(op.dst, type(op)) is Directory:
            own.add(op.dst)
            holders.add(parent)
        out.append(plain)
    return out
