# SPDX-License-Identifier: Apache-2.0
"""Opening, reading and removing below a directory descriptor, over no symlink and to no place outside.

For trees that somebody else may have made, and may be changing while they are looked at.
"""
import errno
import os

from ..syscalls import mount
from .features import has_openat2

O_PATH_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NO_LINKS = mount.RESOLVE_BENEATH | mount.RESOLVE_NO_SYMLINKS | mount.RESOLVE_NO_MAGICLINKS


def open_beneath(root, path, flags, mode=0):
    """A descriptor of `path` (bytes, relative, b"" for the directory itself) below the directory `root` (fd).

    Raises OSError: ELOOP or ENOTDIR where a component is a symlink, EXDEV or EINVAL where it would lead out.
    """
    path = path or b"."
    if has_openat2():
        return mount.open_in_root(root, path, flags | os.O_NOFOLLOW, mode, NO_LINKS)
    return walk_beneath(root, path, flags, mode)


def walk_beneath(root, path, flags, mode=0):
    """The same without openat2(2): one component at a time, each opened without following a link."""
    steps = [step for step in path.split(b"/") if step not in (b"", b".")]
    if path.startswith(b"/") or b".." in steps:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    current = os.dup(root)
    try:
        for step in steps[:-1]:
            following = os.open(step, O_PATH_DIRECTORY, dir_fd=current)
            os.close(current)
            current = following
        return os.open(steps[-1] if steps else b".", flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=current)
    finally:
        os.close(current)


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
