# SPDX-License-Identifier: Apache-2.0
"""Lists, renames, opens and removes files below a directory's descriptor.

Other programs may have made these trees, and may change them meanwhile. So no symbolic link is
followed, and no path leads out of the directory.
"""
import errno
import os

from . import mount
from .libc import bind, buffer, c_bytes, c_int, c_pointer, c_uint

RENAME_NOREPLACE = 1
O_PATH_DIRECTORY = mount.O_PATH_DIRECTORY
NO_LINKS = mount.RESOLVE_BENEATH | mount.RESOLVE_NO_SYMLINKS | mount.RESOLVE_NO_MAGICLINKS
#: Bytes of a directory that are read at a time.  An entry has at most 280.
DIRECTORY_ROOM = 32768

_getdents64 = bind("getdents64", c_int, c_pointer, c_uint)
_renameat2 = bind("renameat2", c_int, c_bytes, c_int, c_bytes, c_uint)


def directory_room():
    """Returns a buffer for `next_names`."""
    return buffer(DIRECTORY_ROOM)


def next_names(fd, room):
    """Returns the next names of a directory, a list of bytes; [] at its end.  getdents64(2)

    fd: the directory, opened for reading.
    room: of `directory_room`.

    The names come in the directory's own order, without "." and "..". A program can put a million
    names into one directory: they never lie in memory together. Raises OSError.
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
    """Renames a file and never replaces another.  renameat2(2), Linux 3.15

    directory: descriptor of the directory.
    old, new: names in it, bytes.

    Raises OSError: EEXIST if `new` exists; EINVAL if the file system lacks RENAME_NOREPLACE.
    """
    _renameat2(directory, old, directory, new, RENAME_NOREPLACE)


def open_beneath(root, path, flags, mode=0):
    """Opens a path below a directory and returns the descriptor.

    root: descriptor of the directory.
    path: relative, bytes; b"" for the directory itself.
    flags, mode: as of open(2).

    Raises OSError: ELOOP or ENOTDIR if a component is a symbolic link; EXDEV or EINVAL if the path
    leads out.
    """
    return mount.open_in_root(root, path or b".", flags | os.O_NOFOLLOW, mode, NO_LINKS)


def names(fd):
    """Returns the names in a directory (descriptor) as sorted bytes."""
    return sorted(os.fsencode(name) for name in os.listdir(fd))


def remove(parent, name):
    """Removes a file, a link or a whole tree.

    parent: descriptor of the directory that holds it.
    name: bytes.

    Raises OSError.
    """
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
    """Removes everything but directories from a directory; returns the paths of these."""
    fd = open_beneath(top, path, O_PATH_DIRECTORY)
    try:
        os.chmod("/proc/self/fd/%d" % fd, 0o700)  # its mode may keep even its owner out
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
