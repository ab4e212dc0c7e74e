# SPDX-License-Identifier: Apache-2.0
"""Walks a tree that a hostile program made, when the program is gone: below one descriptor, without following anything, with a
bounded number of open descriptors however deep it is, and in bounded memory however many names a directory has.

What is read is evidence and nothing else; no name of it is ever used on the host but below a descriptor of ours.
"""
import os
import stat

from ..host.facts import kind_of
from ...syscalls.files import directory_room, next_names, open_beneath

#: So many directories are held open at a time; a tree may be as deep as it has inodes.
HELD = 48
#: Longer paths are counted and not listed: a list of nested ones would grow with the square of the depth.
LONGEST_PATH = 4096
QUIET = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Entry:
    """One file.  path: bytes relative to the walk's root, b"" for the root; name: its last part; found: os.stat_result; parent:
    fd of its directory, valid until the walk goes on; ours: whether the tree is, and mode bits may be lent."""

    __slots__ = ("path", "name", "found", "parent", "ours")

    def __init__(self, path, name, found, parent, ours=True):
        self.path, self.name, self.found, self.parent, self.ours = path, name, found, parent, ours

    def open(self, flags=os.O_RDONLY):
        """A descriptor of it, never through a link.  Raises OSError."""
        if self.ours:
            return _open_as_owner(self, flags)
        return os.open(self.name, flags | QUIET, dir_fd=self.parent)

    @property
    def kind(self):
        """As host.kind_of."""
        return kind_of(self.found.st_mode)

    @property
    def directory(self):
        """Whether it is one."""
        return stat.S_ISDIR(self.found.st_mode)


class _Level:
    """A directory that is being read, a part at a time.  path: None where it is too long; start: where in the directory the
    part begins; names: of the part, None where it has to be read again; done: how many of them have been taken."""

    __slots__ = ("fd", "device", "inode", "path", "start", "names", "done")

    def __init__(self, fd, path, room):
        """fd: taken over, also where OSError is raised."""
        try:
            found = os.fstat(fd)
            self.fd, self.device, self.inode, self.path = fd, found.st_dev, found.st_ino, path
            self.start, self.names, self.done = 0, sorted(next_names(fd, room)), 0
        except OSError:
            os.close(fd)
            raise

    def next_name(self, room):
        """The next name, None after the last one.  Raises OSError."""
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
        """Keeps the place and nothing else, while something far below is read."""
        os.close(self.fd)
        self.fd, self.names = -1, None


class Walk:
    """Iterates over the Entries below (and with) `root` (fd), parents before children; names in byte order, where a directory
    has no more of them than one part holds.

    skip: {relative path of a mount point, which is walked on its own: number of the inode that the mount lies on, None while it
    is mounted}; ours: as of Entry.  too_long, unreadable, and moved, [path] of `skip` where something else was found or
    nothing, are valid afterwards.
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
                # By name alone a program could put something of its own there: who moves a directory moves the mounts in it.
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
            self.levels.append(_Level(entry.open(os.O_RDONLY | os.O_DIRECTORY), entry.path, self.room))
        except OSError:
            self.unreadable += 1
            return
        if len(self.levels) > HELD and self.levels[-HELD - 1].fd >= 0:
            self.levels[-HELD - 1].let_go()

    def _ascend(self):
        level = self.levels.pop()
        if self.levels and self.levels[-1].fd < 0:
            above = self.levels[-1]
            # Everybody who could rename a directory is dead; that it is the same one is checked all the same.
            above.fd = os.open(b"..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=level.fd)
            found = os.fstat(above.fd)
            if (found.st_dev, found.st_ino) != (above.device, above.inode):
                raise OSError(116, "a directory moved while it was read")
        os.close(level.fd)


def covered(root, paths):
    """{path: number of the inode that a mount lies on} for those of the mount points `paths` (relative) that lie in the file
    system of the directory `root` (fd) itself.  Raises OSError."""
    out, device = {}, os.fstat(root).st_dev
    for path in paths:
        folder, name = os.path.split(path)
        try:
            fd = open_beneath(root, folder, os.O_PATH | os.O_DIRECTORY)
        except OSError:
            continue  # below a directory of the host that is closed to us, and not in this file system
        try:
            if os.fstat(fd).st_dev == device:
                # What a directory lists is what lies under the mount.  readdir(3); scandir takes a descriptor from 3.7 on
                out.update((path, entry.inode()) for entry in os.scandir(b"/proc/self/fd/%d" % fd) if entry.name == name)
        finally:
            os.close(fd)
    return out


def _open_as_owner(entry, flags):
    """Opens an entry also where its owner, who we may be, took the mode bits away.

    The tree is ours alone by now, so lending a bit changes nothing that anybody else sees.  From a file it is taken back,
    because it may have another name that is still to be read; a directory has none, and what lies in it needs the bit.
    """
    mode = stat.S_IMODE(entry.found.st_mode)
    need = 0o500 if entry.directory else 0o400
    if mode & need == need:
        return os.open(entry.name, flags | QUIET, dir_fd=entry.parent)
    if entry.name == b".":  # without the right to search it has no name in itself
        os.fchmod(entry.parent, mode | need)
    else:  # by name, which would follow a link: lstat said that it is none, and nobody is left to change that
        os.chmod(entry.name, mode | need, dir_fd=entry.parent)
    try:
        return os.open(entry.name, flags | QUIET, dir_fd=entry.parent)
    finally:
        if not entry.directory:
            os.chmod(entry.name, mode, dir_fd=entry.parent)
