# SPDX-License-Identifier: Apache-2.0
"""Names of files: listed in pieces, renamed over nothing, and opened and removed below a directory.

What takes a directory's descriptor goes over no symlink and to no place outside: for trees that
somebody else may have made, and may be changing while they are looked at.
"""
import errno
import os

from . import mount
from .libc import bind, buffer, c_bytes, c_int, c_pointer, c_uint

RENAME_NOREPLACE = 1
O_PATH_DIRECTORY = mount.O_PATH_DIRECTORY
NO_LINKS = mount.RESOLVE_BENEATH | mount.RESOLVE_NO_SYMLINKS | mount.RESOLVE_NO_MAGICLINKS
#: So many bytes of a directory are read at a time; an entry has at most 280.
DIRECTORY_ROOM = 32768

_getdents64 = bind("getdents64", c_int, c_pointer, c_uint)
_renameat2 = bind("renameat2", c_int, c_bytes, c_int, c_bytes, c_uint)


def directory_room():
    """A buffer for `next_names`."""
    return buffer(DIRECTORY_ROOM)


def next_names(fd, room):
    """The next names (list of bytes) in a directory opened for reading, in its own order; [] at its end.  getdents64(2)

    room: of `directory_room`.  A program can put a million names into one directory: they never lie in memory together.
    """
    while True:
        size = _getdents64(fd, room, DIRECTORY_ROOM)
        data, place, out = bytes(room.room[:size]), 0, []
        while place < size:
            name = data[place + 19:data.index(b"\0", place + 19)]
            if name not in (b".", b".."):
                out.append(name)
            place += data[place + 16] | data[place + 17] << 8
        if out or not size:
            return out


def rename_exclusive(directory, old, new):
    """Renames `old` to `new` (bytes) below the directory (fd), and never over anything.  renameat2(2), Linux 3.15

    EEXIST: `new` is there; EINVAL: the file system does not know the flag.
    """
    _renameat2(directory, old, directory, new, RENAME_NOREPLACE)


def open_beneath(root, path, flags, mode=0):
    """A descriptor of `path` (bytes, relative, b"" for the directory itself) below the directory `root` (fd).

    Raises OSError: ELOOP or ENOTDIR where a component is a symlink, EXDEV or EINVAL where it would lead out.
    """
    return mount.open_in_root(root, path or b".", flags | os.O_NOFOLLOW, mode, NO_LINKS)


def names(fd):
    """The names (bytes) in the directory behind a descriptor, sorted."""
    return sorted(os.fsencode(name) for name in os.listdir(fd))


def remove(parent, name):
    """Removes `name` (bytes) below the directory `parent` (fd): a file, a link, or a whole tree.  Raises OSError."""
    try:
        os.unlink(name, dir_fd=parent)
        return
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
    top = os.open(name, O_PATH_DIRECTORY, dir_fd=parent)
    try:
        pending, found = [b""], []
        while pending:
            path = pending.pop()
            found.append(path)
            pending += _empty(top, path)
        for path in reversed(found[1:]):
            holder = open_beneath(top, os.path.dirname(path), O_PATH_DIRECTORY)
            try:
                os.rmdir(os.path.basename(path), dir_fd=holder)
            finally:
                os.close(holder)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _empty(top, path):
    """Removes what is no directory from a directory; returns the directories in it."""
    fd = open_beneath(top, path, O_PATH_DIRECTORY)
    try:
        os.chmod("/proc/self/fd/%d" % fd, 0o700)  # ours; its mode may bar us
        listing = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
        try:
            inner = names(listing)
        finally:
            os.close(listing)
        out = []
        for name in inner:
            try:
                os.unlink(name, dir_fd=fd)
            except OSError as error:
                if error.errno not in (errno.EISDIR, errno.EPERM):
                    raise
                out.append(os.path.join(path, name))
        return out
    finally:
        os.close(fd)
