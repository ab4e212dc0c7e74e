# SPDX-License-Identifier: Apache-2.0
"""Restricts mounts by remounting, where mount_setattr(2) is missing or hidden.

That is before Linux 5.12, and under filters that hide the call.  A detached mount can't be
remounted.  So it is attached first and restricted then; nobody but the child lives between.

MS_REMOUNT reaches one mount and not those below it.  It clears the flags that the call does not
repeat, and fails with EPERM for a locked one.  So each new mount is found in mountinfo, opened, and
keeps the flags that it has.  The gate reads all of them back.  mount(2)
"""
import errno
import os

from ...syscalls import mount
from ..proc import mounts

#: Of statvfs(3), and the same in MS_* and MOUNT_ATTR_*: read-only, nosuid, nodev, noexec.
KEPT = 0xf


def restrict(root, before, attributes):
    """Adds MOUNT_ATTR_* bits to every mount that was not there before, and makes it private.

    root: fd of the new tree's root; before: the table() of that time.  Needs the caller's /proc.
    Raises OSError; EBUSY where a new mount covers another one.  The covered one can't be reached,
    and would be there again without the upper one.
    """
    new = dict((number, row) for number, row in table().items() if number not in before)
    for number, (parent, point) in new.items():
        for other, (below, place) in new.items():
            if (below == number and place == point) or \
                    (below == parent and point.startswith(place + b"/")):
                raise OSError(errno.EBUSY, "one mount covers another", point)
        fd = mount.open_in_root(root, point)
        try:
            path = b"/proc/self/fd/%d" % fd
            mount.make_private(path)
            add(path, attributes)
        finally:
            os.close(fd)


def add(path, attributes):
    """Adds MOUNT_ATTR_* bits to the one mount whose root is at a path.

    path: bytes.  Access times stay as they are.  Raises OSError.
    """
    mount.remount(path, os.statvfs(path).f_flag & KEPT | attributes)


def table():
    """Returns {id: (id of the mount that it is mounted on, mount point)}.  Raises OSError."""
    return dict((row.number, (row.parent, row.point)) for row in mounts())
