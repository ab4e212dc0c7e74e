# SPDX-License-Identifier: Apache-2.0
"""Opening below a directory one component at a time: for Linux before 5.6, and under filters that hide openat2."""
import errno
import os


O_PATH_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
S_IFMT, S_IFLNK = 0o170000, 0o120000


def open_below(root, path, flags, mode=0):
    """As mount.open_in_root, but over no link at all, and without "..": each component is opened without following.

    Raises OSError: ELOOP or ENOTDIR where a component is a symlink, EXDEV for "..".
    """
    steps = [step for step in path.split(b"/") if step not in (b"", b".")]
    if b".." in steps:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    current = os.dup(root)
    try:
        for step in steps[:-1]:
            following = os.open(step, O_PATH_DIRECTORY, dir_fd=current)
            os.close(current)
            current = following
        fd = os.open(steps[-1] if steps else b".", flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=current)
    finally:
        os.close(current)
    if flags & os.O_PATH and not flags & os.O_NOFOLLOW and os.fstat(fd).st_mode & S_IFMT == S_IFLNK:
        os.close(fd)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return fd
