# SPDX-License-Identifier: Apache-2.0
"""Carries out the operations of base_tree.py, in the child, below a directory descriptor of the new root, which is the current
directory, too.

Until pivot_root an absolute link in our own tree would lead into the caller's, so every path is walked with RESOLVE_IN_ROOT;
but for the plain ones, on whose way there is nothing but directories that were just made.
"""
import os

from ...syscalls import mount
from .default import INODES, NODEV, NOSUID, RO

CHUNK = 1 << 20
#: Each takes 60 KiB of the kernel's memory that no control group counts, and one of kernel.pty.max.
MOST_TERMINALS = 128
#: No destination leads over a link; one that does by now was put into a source's directory by somebody else.
OVER_NO_LINK = mount.RESOLVE_IN_ROOT | mount.RESOLVE_NO_MAGICLINKS | mount.RESOLVE_NO_SYMLINKS


def stand_in(features):
    """The module that stands in for mount_setattr (Linux 5.12), or None where the kernel has it."""
    if features.mount_setattr:
        return None
    from . import remount
    return remount


class Tree:
    """The new tree while it is built.  root: fd of its root mount; sources: (kind, dst) -> fd of `taken`; copies: Source -> fd
    of the open file; uppers: overlay.Uppers, or None where there is no overlay; detached: whether mounts can be detached;
    remount: that module where there is no mount_setattr, else None."""

    def __init__(self, root, sources, copies, uppers=None, remount=None, detached=True):
        self.root, self.sources, self.copies, self.uppers, self.remount = root, sources, copies, uppers, remount
        self.detached = detached
        self.held = None  # (path, fd) of the last parent: neighbours follow each other
        self.plain = False

    def apply(self, op, plain=False):
        """Does one operation.  plain: of base_tree.plain_places.  Raises OSError."""
        self.plain = plain
        getattr(self, "_" + op.kind.replace("-", "_"))(op)

    def close(self):
        """Lets go of the last parent."""
        if self.held is not None:
            os.close(self.held[1])
            self.held = None

    def _parent(self, path):
        """(descriptor, name) of a path of the new tree."""
        if self.plain:
            return self.root, path[1:]
        folder, _, name = path.rpartition(b"/")
        if not folder:
            return self.root, name
        if self.held is None or self.held[0] != folder:
            self.close()
            self.held = folder, mount.open_in_root(self.root, folder, resolve=OVER_NO_LINK)
        return self.held[1], name

    def attach(self, tree, path, attributes=0, recursive=True):
        """Adds MOUNT_ATTR_* bits to what was `taken`, moves it to a path of the new tree, and closes it."""
        if attributes and self.remount is None:
            mount.mount_setattr(tree, attributes, recursive)
        before = self.remount.table() if attributes and self.remount is not None else None
        try:
            if self.detached:
                mount.move_mount(tree, *self._parent(path))
                self._covered(path)
            else:
                self._at(path, mount.mount_bind, b"/proc/self/fd/%d" % tree, recursive)
        finally:
            os.close(tree)
        if before is not None:
            self.remount.restrict(self.root, before, attributes)

    def _covered(self, path):
        if self.held is not None and not path.startswith(self.held[0] + b"/"):
            self.close()  # it may lie under what has been mounted

    def _at(self, path, call, *arguments):
        """call(*arguments, place), a mount(2), where a link would not be followed."""
        parent, name = self._parent(path)
        if self.plain:
            call(*arguments, name)
        else:
            target = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                call(*arguments, b"/proc/self/fd/%d" % target)
            finally:
                os.close(target)
        self._covered(path)

    def _new(self, op, kind, options, flags=None):
        self._at(op.dst, mount.mount_new, kind, op.flags if flags is None else flags, options)

    def _show(self, op, recursive):
        """What lies at the source of an operation, whose path still leads through the caller's tree."""
        before = None if self.remount is None else self.remount.table()
        self._at(op.dst, mount.mount_bind, op.src, recursive)
        if before is not None:
            self.remount.restrict(self.root, before, op.flags)
        else:
            parent, name = self._parent(op.dst)
            mount.mount_setattr(parent, op.flags, recursive, name=name)

    def _directory(self, op):
        parent, name = self._parent(op.dst)
        try:
            os.mkdir(name, op.options["mode"], dir_fd=parent)
        except FileExistsError:
            pass

    def _create(self, op, mode):
        parent, name = self._parent(op.dst)
        return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode, dir_fd=parent)

    def _file(self, op):
        if not op.src:  # most are mount points
            parent, name = self._parent(op.dst)
            os.mknod(name, op.options["mode"], dir_fd=parent)
            return
        fd = self._create(op, op.options["mode"])
        try:
            write_all(fd, op.src)
        finally:
            os.close(fd)

    def _symlink(self, op):
        parent, name = self._parent(op.dst)
        os.symlink(op.src, name, dir_fd=parent)

    def _copy(self, op):
        copied, fd = self.copies[op.options["source"]], self._create(op, 0o700)
        try:
            os.lseek(copied, 0, os.SEEK_SET)  # one source may be copied to several places
            while True:
                data = os.read(copied, CHUNK)
                if not data:
                    break
                write_all(fd, data)
            os.fchmod(fd, 0o755)
        finally:
            os.close(fd)

    def _tmpfs(self, op):
        self._new(op, b"tmpfs", joined(tmpfs_options(op)), op.flags & ~RO)

    def _bind(self, op):
        if not op.options["user"]:
            return self._show(op, True)
        tree = self.sources.pop((op.kind, op.dst))
        locked = op.options["user"] and not op.options.get("taken_here") and self.remount is None  # by the supervisor
        self.attach(tree, op.dst, 0 if locked else op.flags)

    def _cover(self, op):
        # Bound over a file of a tree that is not ours to write; what is bound needs no name any more.
        name = b".cover"
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, op.options["mode"],
                     dir_fd=self.root)
        try:
            write_all(fd, op.src)
        finally:
            os.close(fd)
        tree = taken(name, self.detached, self.root, recursive=False)
        self.attach(tree, op.dst, op.flags, recursive=False)
        os.unlink(name, dir_fd=self.root)

    def _overlay(self, op):
        tree = self.sources.pop((op.kind, op.dst))
        if op.options.get("taken_here"):
            mount.mount_setattr(tree, RO | NOSUID | NODEV)
        self.attach(self.uppers.mount(self.root, op, tree), op.dst)

    def _device(self, op):
        # Not nodev: opening would be EACCES.  Read-only does not hinder reading or writing a device.
        self._show(op, False)

    def _proc(self, op):
        words = [b"hidepid=2"] if op.options.get("hidepid", True) else []
        self._new(op, b"proc", b",".join(words + ([b"subset=pid"] if op.options["subset"] else [])))

    def _devpts(self, op):
        self._new(op, b"devpts", b"ptmxmode=0666,mode=0620,max=%d" % MOST_TERMINALS)

    def _mask_file(self, op):
        self._show(op, False)

    def _mask_directory(self, op):
        self._new(op, b"tmpfs", b"size=4096,nr_inodes=2,mode=0555")

    def _read_only(self, op):
        target = mount.open_in_root(self.root, op.dst)
        try:
            tree = taken(b".", self.detached, target)
        finally:
            os.close(target)
        self.attach(tree, op.dst, op.flags)


def tmpfs_options(op):
    """[(key, value)] of a tmpfs operation, bytes."""
    owner = op.options.get("owner")
    owners = [(b"uid", b"%d" % owner[0]), (b"gid", b"%d" % owner[1])] if owner else []
    return owners + [(b"size", b"%d" % op.options["size"]), (b"nr_inodes", b"%d" % INODES),
                     (b"mode", b"%o" % op.options["mode"])]


def taken(path, detached, directory=None, recursive=True):
    """What lies at a path (bytes; no link is followed at its end), to be shown elsewhere: a detached clone of the mount (fd);
    where there is no such thing (Linux before 5.2), the place itself."""
    if detached:
        return mount.open_tree(path, recursive, mount.AT_FDCWD if directory is None else directory)
    return os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)


def new_root(op, detached):
    """The first operation's mount (fd), over "/", writable still: stages makes it read-only at the end."""
    flags, options = op.flags & ~RO, tmpfs_options(op)
    if detached:
        root = mount.new_filesystem(b"tmpfs", flags, options)
        mount.move_mount(root)
        return root
    mount.mount_new(b"tmpfs", flags, joined(options), b"/", b"none")  # as a detached one is called
    # "/" is still what lies below; ".." goes up to what lies over it.  fs/namei.c, handle_dots
    return os.open(b"/..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def joined(options):
    """The options of mount(2): [(key, value)] of bytes, None for a flag."""
    return b",".join(key if value is None else b"%s=%s" % (key, value) for key, value in options)


def write_all(fd, data):
    """Writes all of `data` (bytes)."""
    done = os.write(fd, data)
    while done < len(data):
        done += os.write(fd, memoryview(data)[done:])
