# SPDX-License-Identifier: Apache-2.0
"""Names of files, and whose they are: what the standard library does not pass on."""
import os

from .libc import bind, c_bytes, c_int, c_pointer, c_uint

RENAME_NOREPLACE = 1

_setgroups = bind("setgroups", c_int, c_pointer)
_setfsuid = bind("setfsuid", c_uint)
_setfsgid = bind("setfsgid", c_uint)
_renameat2 = bind("renameat2", c_int, c_bytes, c_int, c_bytes, c_uint)


def rename_exclusive(directory, old, new):
    """Renames `old` to `new` (bytes) below the directory (fd), and never over anything.  renameat2(2), Linux 3.15

    EEXIST: `new` is there; EINVAL: the file system does not know the flag.
    """
    _renameat2(directory, old, directory, new, RENAME_NOREPLACE)


def set_file_identity(uid, gid):
    """Makes uid and gid those by which files are opened and made, and drops the supplementary groups.  Capabilities over
    files go with it.  setfsuid(2)

    EPERM: it had no effect (the call itself never says so), or setgroups is not allowed.
    """
    _setgroups(0, None)
    nobody = 0xffffffff  # is no id, and asks for the present one
    for change, number in ((_setfsgid, gid), (_setfsuid, uid)):
        change(number)
        if change(nobody) & 0xffffffff != number:
            raise OSError(1, os.strerror(1), "setfsuid")
