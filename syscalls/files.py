# SPDX-License-Identifier: Apache-2.0
"""Reads and renames names of files, as the standard library does not."""
from .libc import bind, buffer, c_bytes, c_int, c_pointer, c_uint

RENAME_NOREPLACE = 1
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
