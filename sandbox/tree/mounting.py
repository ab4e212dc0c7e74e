# SPDX-License-Identifier: Apache-2.0
"""Makes the operations' places and mounts, in the child, below a descriptor of the new root.

The new root is the current directory, too.  Until pivot_root an absolute link in our own tree would
lead into the caller's, so paths are walked with RESOLVE_IN_ROOT; but for the plain ones, on whose
way there is nothing but directories that were just made.
"""
import os

from ...syscalls import mount
from .operations import RO

CHUNK = 1 << 20
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
#: No destination leads over a link.  One that does by now was put there by somebody else.
OVER_NO_LINK = mount.RESOLVE_IN_ROOT | mount.RESOLVE_NO_MAGICLINKS | mount.RESOLVE_NO_SYMLINKS


def stand_in(features):
    """Returns the module to use in the place of mount_setattr (Linux 5.12), or None."""
    if features.mount_setattr:
        return None
    from . import remount
    return remount


class Tree:
    """Builds the new tree: the calls that an operation's `make` uses.

    root: fd of its root mount
    trees: Operation -> fd of `taken`, restricted by the supervisor if mount_setattr is there
    own: the same of those that the child took and that have their own flags still
    copies: Source -> fd of the open file
    uppers: overlay.Uppers, or None where there is no overlay
    remount: that module where there is no mount_setattr, else None
    detached: whether mounts can be detached
    """

    def __init__(self, root, trees, own, copies, uppers=None, remount=None, detached=True):
        self.root, self.trees, self.own, self.copies = root, trees, own, copies
        self.uppers, self.remount, self.detached = uppers, remount, detached
        self.held = None  # (path, fd) of the last parent: neighbours follow each other
        self.plain = False

    def apply(self, op, plain=False):
        """Makes one operation.  plain: of operations.plain_places.  Raises OSError."""
        self.plain = plain
        op.make(self)

    def close(self):
        """Lets go of the last parent."""
        if self.held is not None:
            os.close(self.held[1])
            self.held = None

    def _parent(self, path):
        """Returns (descriptor of the parent, name) of a path of the new tree."""
        if self.plain:
            return self.root, path[1:]
        folder, _, name = path.rpartition(b"/")
        if not folder:
            return self.root, name
        if self.held is None or self.held[0] != folder:
            self.close()
            self.held = folder, mount.open_in_root(self.root, folder, resolve=OVER_NO_LINK)
        return self.held[1], name

    def directory(self, path, mode):
        """Makes a directory, unless there is one."""
        parent, name = self._parent(path)
        try:
            os.mkdir(name, mode, dir_fd=parent)
        except FileExistsError:
            pass

    def file(self, path, content, mode):
        """Makes a file."""
        if not content:  # most are mount points
            parent, name = self._parent(path)
            os.mknod(name, mode, dir_fd=parent)
            return
        fd = self._create(path, mode)
        try:
            write_all(fd, content)
        finally:
            os.close(fd)

    def symlink(self, path, target):
        """Makes a symbolic link."""
        parent, name = self._parent(path)
        os.symlink(target, name, dir_fd=parent)

    def copy(self, path, source):
        """Copies what a Source holds into a file that may be executed."""
        copied, fd = self.copies[source], self._create(path, 0o700)
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

    def new(self, path, kind, flags, options):
        """Mounts a new file system.  options: [(key, value)] of bytes."""
        self._at(path, mount.mount_new, kind, flags, joined(options))

    def show(self, path, source, attributes, recursive):
        """Shows what lies at `source`, a path that still leads through the caller's tree."""
        before = None if self.remount is None else self.remount.table()
        self._at(path, mount.mount_bind, source, recursive)
        if before is not None:
            self.remount.restrict(self.root, before, attributes)
        else:
            parent, name = self._parent(path)
            mount.mount_setattr(parent, attributes, recursive, name=name)

    def take(self, op):
        """Returns (fd of `taken`, whether it has its flags already) for an operation."""
        if op in self.own:
            return self.own.pop(op), False
        return self.trees.pop(op), self.remount is None

    def attach(self, tree, path, attributes=0, recursive=True):
        """Adds MOUNT_ATTR_* bits to what was `taken`, moves it to a path, and closes it."""
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

    def again(self, path, attributes):
        """Binds what lies at a path onto itself, with MOUNT_ATTR_* bits."""
        target = mount.open_in_root(self.root, path)
        try:
            tree = taken(b".", self.detached, target)
        finally:
            os.close(target)
        self.attach(tree, path, attributes)

    def cover(self, path, content, mode, attributes):
        """Binds a file of mrunc's own over one of a tree that must not be written."""
        name = b".cover"  # what is bound needs no name any more
        fd = os.open(name, NEW_FILE, mode, dir_fd=self.root)
        try:
            write_all(fd, content)
        finally:
            os.close(fd)
        tree = taken(name, self.detached, self.root, recursive=False)
        self.attach(tree, path, attributes, recursive=False)
        os.unlink(name, dir_fd=self.root)

    def overlay(self, path, lower, attributes, size, flags):
        """Mounts an overlay.

        lower: fd of `taken`, which first gets the bits in `attributes`; size: bytes of the upper
        layer; flags: MOUNT_ATTR_* bits of the overlay.
        """
        if attributes:
            mount.mount_setattr(lower, attributes)
        self.attach(self.uppers.mount(self.root, path, lower, size, flags), path)

    def _covered(self, path):
        if self.held is not None and not path.startswith(self.held[0] + b"/"):
            self.close()  # it may lie under what has been mounted

    def _at(self, path, call, *arguments):
        """Calls call(*arguments, place), a mount(2), with a place that follows no link."""
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

    def _create(self, path, mode):
        parent, name = self._parent(path)
        return os.open(name, NEW_FILE, mode, dir_fd=parent)


def taken(path, detached, directory=None, recursive=True):
    """Takes what lies at a path (bytes), to be shown elsewhere; no link is followed at its end.

    Returns the fd of a detached clone of the mount, or before Linux 5.2 of the place itself.
    """
    if detached:
        return mount.open_tree(path, recursive, mount.AT_FDCWD if directory is None else directory)
    return os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)


def new_root(op, detached):
    """Mounts an operations.Root over "/", writable still; returns its fd.  Raises OSError."""
    flags, options = op.flags & ~RO, op.options()
    if detached:
        root = mount.new_filesystem(b"tmpfs", flags, options)
        mount.move_mount(root)
        return root
    mount.mount_new(b"tmpfs", flags, joined(options), b"/", b"none")  # as a detached one is called
    # "/" is still what lies below; ".." goes up to what lies over it.  fs/namei.c, handle_dots
    return os.open(b"/..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def joined(options):
    """Returns the options of mount(2) as bytes.  options: [(key, value)], None for a flag."""
    return b",".join(key if value is None else b"%s=%s" % (key, value) for key, value in options)


def write_all(fd, data):
    """Writes all of `data` (bytes)."""
    done = os.write(fd, data)
    while done < len(data):
        done += os.write(fd, memoryview(data)[done:])
