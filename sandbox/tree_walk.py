# SPDX-License-Identifier: Apache-2.0
"""Walks a tree that a hostile program made, when the program is gone: below one descriptor, without following anything, with a
bounded number of open descriptors however deep it is.

What is read is evidence and nothing else; no name of it is ever used on the host but below a descriptor of ours.
"""
import os
import stat

from .host import kind_of

#: So many directories are held open at a time; a tree may be as deep as it has inodes.
HELD = 48
#: Longer paths are counted and not listed: a list of nested ones would grow with the square of the depth.
LONGEST_PATH = 4096


class Entry:
    """One file.  path: bytes relative to the walk's root, b"" for the root; name: its last part; found: os.stat_result; parent:
    fd of its directory, valid until the walk goes on."""

    __slots__ = ("path", "name", "found", "parent")

    def __init__(self, path, name, found, parent):
        self.path, self.name, self.found, self.parent = path, name, found, parent

    @property
    def kind(self):
        """As host.kind_of."""
        return kind_of(self.found.st_mode)

    @property
    def directory(self):
        """Whether it is one."""
        return stat.S_ISDIR(self.found.st_mode)


class _Level:
    __slots__ = ("fd", "identity", "path", "names")

    def __init__(self, fd, path):
        found = os.fstat(fd)
        self.fd, self.identity, self.path = fd, (found.st_dev, found.st_ino), path
        self.names = sorted(os.listdir(fd), reverse=True)
        self.names = [os.fsencode(name) for name in self.names]


class Walk:
    """Iterates over the Entries below (and with) `root` (fd), parents before children, names in byte order.

    skip: mount points (relative paths) that are walked on their own.  too_long, unreadable: counts, valid afterwards.
    """

    def __init__(self, root, skip=()):
        self.root, self.skip = root, frozenset(skip)
        self.too_long = self.unreadable = 0
        self.levels = []

    def __iter__(self):
        yield Entry(b"", b".", os.fstat(self.root), self.root)
        try:
            self._descend(self.root, b".", b"")
            while self.levels:
                level = self.levels[-1]
                if not level.names:
                    self._ascend()
                    continue
                name = level.names.pop()
                path = level.path + b"/" + name if level.path else name
                if path in self.skip:
                    continue
                found = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
                if len(path) > LONGEST_PATH:
                    self.too_long += 1
                else:
                    yield Entry(path, name, found, level.fd)
                if stat.S_ISDIR(found.st_mode):
                    self._descend(level.fd, name, path[:LONGEST_PATH + 1])
        finally:
            for level in self.levels:
                if level.fd >= 0:
                    os.close(level.fd)
            self.levels = []

    def _descend(self, parent, name, path):
        try:
            fd = open_as_owner(parent, name, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            self.unreadable += 1
            return
        self.levels.append(_Level(fd, path))
        if len(self.levels) > HELD and self.levels[-HELD - 1].fd >= 0:
            old = self.levels[-HELD - 1]
            os.close(old.fd)
            old.fd = -1

    def _ascend(self):
        level = self.levels.pop()
        if self.levels and self.levels[-1].fd < 0:
            above = self.levels[-1]
            # Everybody who could rename a directory is dead; that it is the same one is checked all the same.
            above.fd = os.open(b"..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=level.fd)
            found = os.fstat(above.fd)
            if (found.st_dev, found.st_ino) != above.identity:
                raise OSError(116, "a directory moved while it was read")
        os.close(level.fd)


def open_as_owner(parent, name, flags):
    """Opens `name` below `parent` (fd) without following a link, also where its owner, who we may be, took the mode bits away.

    The tree is ours alone by now, so lending a bit changes nothing that anybody else sees.  From a file it is taken back, because
    it may have another name that is still to be read; a directory has none, and what lies in it needs the bit.  Raises OSError.
    """
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(name, flags, dir_fd=parent)
    except PermissionError:
        if name == b".":
            raise
        mode = stat.S_IMODE(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
        os.chmod(name, 0o700, dir_fd=parent)  # lstat said that it is no link, and nobody is left to change that
        try:
            return os.open(name, flags, dir_fd=parent)
        finally:
            if not flags & os.O_DIRECTORY:
                os.chmod(name, mode, dir_fd=parent)
