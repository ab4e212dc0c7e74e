# SPDX-License-Identifier: Apache-2.0
"""Carries out the operations of base_tree.py, in the child, below a directory descriptor of the new root.

Until pivot_root an absolute link in our own tree would lead into the caller's, so every path is walked with
RESOLVE_IN_ROOT.
"""
from ..syscalls.system import os
from ..syscalls import mount
from .base_tree import INODES, NODEV, NOEXEC, NOSUID, RO

CHUNK = 1 << 20


class Tree:
    """The new tree while it is built.  root: fd of its root mount; sources: src -> detached mount fd; copies: src -> fd
    of the open file; uppers: overlay.Uppers, or None where there is no overlay; remount: that module where there is no
    mount_setattr, else None."""

    def __init__(self, root, sources, copies, uppers=None, remount=None):
        self.root, self.sources, self.copies, self.uppers, self.remount = root, sources, copies, uppers, remount
        self.held = None  # (path, fd) of the last parent: neighbours follow each other

    def apply(self, op):
        """Does one operation.  Raises OSError."""
        getattr(self, "_" + op.kind.replace("-", "_"))(op)

    def close(self):
        """Lets go of the last parent."""
        if self.held is not None:
            os.close(self.held[1])
            self.held = None

    def _parent(self, path):
        """(descriptor, name) of a path of the new tree."""
        folder, _, name = path.rpartition(b"/")
        if not folder:
            return self.root, name
        if self.held is None or self.held[0] != folder:
            self.close()
            self.held = folder, mount.open_in_root(self.root, folder)
        return self.held[1], name

    def attach(self, tree, path, attributes=0, recursive=True):
        """Adds MOUNT_ATTR_* bits to a detached mount, moves it to a path of the new tree, and closes it."""
        if attributes and self.remount is None:
            mount.mount_setattr(tree, attributes, recursive)
        before = self.remount.table() if attributes and self.remount is not None else None
        try:
            mount.move_mount(tree, *self._parent(path))
        finally:
            os.close(tree)
        if self.held is not None and not path.startswith(self.held[0] + b"/"):
            self.close()  # it may lie under what has been mounted
        if before is not None:
            self.remount.restrict(self.root, before, attributes)

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
        fd = self._create(op, 0o700)
        try:
            os.lseek(self.copies[op.src], 0, os.SEEK_SET)  # one source may be copied to several places
            while True:
                data = os.read(self.copies[op.src], CHUNK)
                if not data:
                    break
                write_all(fd, data)
            os.fchmod(fd, 0o755)
        finally:
            os.close(fd)

    def _tmpfs(self, op):
        self.attach(new_tmpfs(op), op.dst)

    def _bind(self, op):
        tree = self.sources.pop((op.kind, op.dst))
        locked = op.options["user"] and not op.options.get("by_path") and self.remount is None  # by the supervisor
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
        tree = mount.open_tree(name, False, self.root)
        self.attach(tree, op.dst, op.flags, recursive=False)
        os.unlink(name, dir_fd=self.root)

    def _overlay(self, op):
        tree = self.sources.pop((op.kind, op.dst))
        if op.options.get("by_path"):
            mount.mount_setattr(tree, RO | NOSUID | NODEV)
        self.attach(self.uppers.mount(self.root, op, tree), op.dst)

    def _device(self, op):
        tree = self.sources.pop((op.kind, op.dst))
        # Not nodev: opening would be EACCES.  Read-only does not hinder reading or writing a device.
        self.attach(tree, op.dst, op.flags, recursive=False)

    def _proc(self, op):
        options = [(b"hidepid", b"2")] if op.options.get("hidepid", True) else []
        options += [(b"subset", b"pid")] if op.options["subset"] else []
        self.attach(mount.new_filesystem(b"proc", op.flags, options), op.dst)

    def _devpts(self, op):
        options = [(b"ptmxmode", b"0666"), (b"mode", b"0620")]
        self.attach(mount.new_filesystem(b"devpts", op.flags, options), op.dst)

    def _mask_file(self, op):
        tree = self.sources.pop((op.kind, op.dst))
        self.attach(tree, op.dst, op.flags, recursive=False)

    def _mask_directory(self, op):
        tree = mount.new_filesystem(b"tmpfs", NOSUID | NODEV | NOEXEC, [(b"size", b"4096"), (b"nr_inodes", b"2"),
                                                                        (b"mode", b"0555")])
        self.attach(tree, op.dst, RO)

    def _read_only(self, op):
        target = mount.open_in_root(self.root, op.dst)
        try:
            tree = mount.open_tree(b"", True, target)
        finally:
            os.close(target)
        self.attach(tree, op.dst, op.flags)


def new_tmpfs(op):
    """The detached mount (fd) of a tmpfs operation, writable still: stages.seal makes read-only what shall be."""
    owner = op.options.get("owner")
    owners = [(b"uid", b"%d" % owner[0]), (b"gid", b"%d" % owner[1])] if owner else []
    return mount.new_filesystem(b"tmpfs", op.flags & ~RO, owners + [
        (b"size", b"%d" % op.options["size"]), (b"nr_inodes", b"%d" % INODES),
                                                     (b"mode", b"%o" % op.options["mode"])])


def write_all(fd, data):
    """Writes all of `data` (bytes)."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]
