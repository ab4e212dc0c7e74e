# SPDX-License-Identifier: Apache-2.0
"""Opening, reading and removing below a directory descriptor, over no symlink and to no place outside.

For trees that somebody else may have made, and may be changing while they are looked at.
"""
import errno
import os

from . import mount

O_PATH_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NO_LINKS = mount.RESOLVE_BENEATH | mount.RESOLVE_NO_SYMLINKS | mount.RESOLVE_NO_MAGICLINKS


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
