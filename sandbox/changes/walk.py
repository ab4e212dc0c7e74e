# SPDX-License-Identifier: Apache-2.0
"""Walks a tree that a hostile program made, when the program is dead.

It stays below one descriptor and follows no link.  It holds a bounded number of descriptors,
however deep the tree is, and bounded memory, however many names a directory has.  Names from it are
used on the host only below a descriptor of ours.
"""
import errno
import os
import stat

from ...syscalls.files import directory_room, next_names, open_beneath
from ..host.facts import kind_of

#: How many directories are held open at a time; a tree may be as deep as it has inodes.
HELD = 48
#: Bytes.  Longer paths are only counted: a list of them would grow with the square of the depth.
LONGEST_PATH = 4096
QUIET = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Entry:
    """One file of the tree.

    path: bytes relative to the walk's root, b"" for the root.
    name: its last part.
    found: os.stat_result.
    parent: descriptor of its directory, valid until the walk goes on.
    ours: whether the tree is ours, so that mode bits may be added for a moment.
    """

    __slots__ = ("path", "name", "found", "parent", "ours")

    def __init__(self, path, name, found, parent, ours=True):
        self.path, self.name, self.found, self.parent, self.ours = path, name, found, parent, ours

    def open(self, flags=os.O_RDONLY):
        """Returns a descriptor of it, never through a link.  Raises OSError."""
        if self.ours:
            return _open_as_owner(self, flags)
        return os.open(self.name, flags | QUIET, dir_fd=self.parent)

    @property
    def kind(self):
        """As of host.kind_of."""
        return kind_of(self.found.st_mode)

    @property
    def directory(self):
        """Whether it is a directory."""
        return stat.S_ISDIR(self.found.st_mode)


class _Level:
    """A directory that is being read, a part of its names at a time.

    fd: -1 while something far below is read.
    path: relative to the root, None if it is too long.
    start: where in the directory the part begins.
    names: of the part, None if it must be read again; done: how many of them have been taken.
    """

    __slots__ = ("fd", "device", "inode", "path", "start", "names", "done")

    def __init__(self, fd, path, room):
        """fd: taken over, also if OSError is raised."""
        try:
            found = os.fstat(fd)
            self.fd, self.device, self.inode, self.path = fd, found.st_dev, found.st_ino, path
            self.start, self.names, self.done = 0, sorted(next_names(fd, room)), 0
        except OSError:
            os.close(fd)
            raise

    def next_name(self, room):
        """Returns the next name, None after the last one.  Raises OSError."""
        if self.names is None:
            os.lseek(self.fd, self.start, os.SEEK_SET)
            self.names = sorted(next_names(self.fd, room))
        if self.done == len(self.names) and self.names:
            self.start = os.lseek(self.fd, 0, os.SEEK_CUR)
            self.names, self.done = sorted(next_names(self.fd, room)), 0
        if not self.names:
            return None
        self.done += 1
        return self.names[self.done - 1]

    def let_go(self):
        """Closes the directory and keeps the position in it."""
        os.close(self.fd)
        self.fd, self.names = -1, None


class Walk:
    """Iterates over the Entries below and including a root, parents before children.

    Names come in byte order if one part holds all names of the directory.

    root: descriptor of the directory.
    skip: {relative path of a mount point, walked on its own: inode that the mount lies on, None
        while it is mounted}.
    ours: as of Entry.

    After the walk:
    too_long, unreadable: how many paths were too long, and directories unreadable.
    moved: [path] of `skip` where something else or nothing was found.
    """

    def __init__(self, root, skip=(), ours=True):
        self.root, self.skip, self.ours = root, dict(skip), ours
        self.moved = sorted(self.skip)
        self.too_long = self.unreadable = 0
        self.levels, self.room = [], directory_room()

    def __iter__(self):
        top = Entry(b"", b".", os.fstat(self.root), self.root, self.ours)
        device = top.found.st_dev
        yield top
        try:
            self._descend(top)
            while self.levels:
                level = self.levels[-1]
                name = level.next_name(self.room)
                if name is None:
                    self._ascend()
                    continue
                path = level.path and level.path + b"/" + name if level.path != b"" else name
                if path is not None and len(path) > LONGEST_PATH:
                    path = None
                if path in self.skip and self.skip[path] is None:
                    continue
                found = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
                # The name is not enough: a program that moves a directory moves the mounts in it.
                if path in self.skip and found.st_ino == self.skip[path]:
                    self.moved.remove(path)
                    continue
                if self.ours and found.st_dev != device:
                    self.unreadable += 1
                    continue
                entry = Entry(path, name, found, level.fd, self.ours)
                if path is None:
                    self.too_long += 1
                else:
                    yield entry
                if entry.directory:
                    self._descend(entry)
        finally:
            for level in self.levels:
                if level.fd >= 0:
                    os.close(level.fd)
            self.levels = []

    def _descend(self, entry):
        try:
            fd = entry.open(os.O_RDONLY | os.O_DIRECTORY)
            self.levels.append(_Level(fd, entry.path, self.room))
        except OSError:
            self.unreadable += 1
            return
        if len(self.levels) > HELD and self.levels[-HELD - 1].fd >= 0:
            self.levels[-HELD - 1].let_go()

    def _ascend(self):
        level = self.levels.pop()
        if self.levels and self.levels[-1].fd < 0:
            above = self.levels[-1]
            # Everybody who could rename a directory is dead; it is checked all the same.
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            above.fd = os.open(b"..", flags, dir_fd=level.fd)
            found = os.fstat(above.fd)
            if (found.st_dev, found.st_ino) != (above.device, above.inode):
                raise OSError(errno.ESTALE, "a directory moved while it was read")
        os.close(level.fd)


def covered(root, paths):
    """Returns {path: inode that a mount lies on} of mount points in one file system.

    root: descriptor of a directory in that file system; paths: of mount points, relative to it.
    Raises OSError.
    """
    out, device = {}, os.fstat(root).st_dev
    for path in paths:
        folder, name = os.path.split(path)
        try:
            fd = open_beneath(root, folder, os.O_PATH | os.O_DIRECTORY)
        except OSError:
            continue  # below a directory of the host that is closed to us: another file system
        try:
            if os.fstat(fd).st_dev == device:
                # A directory lists what lies under the mount.  readdir(3); os.scandir takes a
                # descriptor since Python 3.7.
                entries = os.scandir(b"/proc/self/fd/%d" % fd)
                out.update((path, entry.inode()) for entry in entries if entry.name == name)
        finally:
            os.close(fd)
    return out


def _open_as_owner(entry, flags):
    """Opens an entry even if its owner, who may be this process's user, took the mode bits away.

    The tree is ours alone by now, so nobody else sees the bit.  It is taken back from a file, which
    may have another name that is still to be read.  A directory has none, and reading in it needs
    the bit.
    """
    mode = stat.S_IMODE(entry.found.st_mode)
    need = 0o500 if entry.directory else 0o400
    if mode & need == need:
        return os.open(entry.name, flags | QUIET, dir_fd=entry.parent)
    if entry.name == b".":  # a directory that can't be searched has no name in itself
        os.fchmod(entry.parent, mode | need)
    else:  # a link would be followed, but lstat found none, and nobody is left to change that
        os.chmod(entry.name, mode | need, dir_fd=entry.parent)
    try:
        return os.open(entry.name, flags | QUIET, dir_fd=entry.parent)
    finally:
        if not entry.directory:
            os.chmod(entry.name, mode, dir_fd=entry.parent)
