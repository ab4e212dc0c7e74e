# SPDX-License-Identifier: Apache-2.0
"""File names: what the standard library does not pass on."""
from .libc import bind, c_bytes, c_int, c_uint

RENAME_NOREPLACE = 1

_renameat2 = bind("renameat2", c_int, c_bytes, c_int, c_bytes, c_uint)


def rename_exclusive(directory, old, new):
    """Renames `old` to `new` (bytes) below the directory (fd), and never over anything.  renameat2(2), Linux 3.15

    EEXIST: `new` is there; EINVAL: the file system does not know the flag.
    """
    _renameat2(directory, old, directory, new, RENAME_NOREPLACE)
