# SPDX-License-Identifier: Apache-2.0
"""Makes and enters Landlock domains.  landlock(7), Documentation/userspace-api/landlock.rst"""
import os
import struct

from .libc import bind, c_int, c_pointer, c_size, c_uint

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 0x1, 0x2, 0x4, 0x8
REMOVE_DIR, REMOVE_FILE, MAKE_CHAR, MAKE_DIR, MAKE_REG = 0x10, 0x20, 0x40, 0x80, 0x100
MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = 0x200, 0x400, 0x800, 0x1000
REFER, TRUNCATE, IOCTL_DEV = 0x2000, 0x4000, 0x8000
SCOPE_ABSTRACT_UNIX_SOCKET, SCOPE_SIGNAL = 1, 2
#: Rights that a rule on a file, not a directory, may hold.
FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV

_create_ruleset = bind("landlock_create_ruleset", c_pointer, c_size, c_uint)
_add_rule = bind("landlock_add_rule", c_int, c_int, c_pointer, c_uint)
_restrict_self = bind("landlock_restrict_self", c_int, c_uint)


def version():
    """Returns the Landlock ABI of this kernel, 1 or more.

    Raises OSError: ENOSYS if the kernel has no Landlock; EOPNOTSUPP if it is not in the lsm= list.
    """
    return _create_ruleset(None, 0, 1)


def abi():
    """Returns `version`, or 0 on a kernel without Landlock."""
    try:
        return version()
    except OSError:
        return 0


def handled_rights(version):
    """Returns the file system rights of an ABI, a bit mask.

    ABI 1: Linux 5.13; 2 (REFER): 5.19; 3 (TRUNCATE): 6.2; 5 (IOCTL_DEV): 6.10.
    """
    return 0x1fff | (REFER if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0) | \
        (IOCTL_DEV if version >= 5 else 0)


def describe(rights):
    """Returns the rights over contents as words: read, write, execute, joined by commas.

    The rights over names come with write.
    """
    words = ((READ_FILE, "read"), (WRITE_FILE, "write"), (EXECUTE, "execute"))
    return ",".join(word for right, word in words if rights & right)


def create_ruleset(version, rights=0, tcp=False, scopes=0):
    """Makes a ruleset and returns its descriptor, close-on-exec.

    version: the ABI of this kernel, which decides how long the structure may be.
    rights: bit mask of the file system rights that are refused unless a rule allows them.
    tcp: whether bind and connect are refused (ABI 4, Linux 6.7).
    scopes: SCOPE_* bits (ABI 6, Linux 6.12).

    Raises OSError: EINVAL for a right that the kernel does not know; ENOMSG if nothing is handled.
    """
    attr = struct.pack("=3Q", rights, 3 if tcp and version >= 4 else 0,
                       scopes if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    return _create_ruleset(attr, size, 0)


def allow_beneath(ruleset, fd, rights):
    """Allows rights on a file, or below a directory.

    ruleset: descriptor of the ruleset.
    fd: descriptor of the file or directory.
    rights: bit mask.

    Raises OSError: EBADFD for a pipe or socket; EINVAL for rights that the ruleset does not handle,
    or for directory rights on a file.
    """
    _add_rule(ruleset, 1, struct.pack("=Qi", rights, fd), 0)


def allow_path(ruleset, path, rights):
    """Allows rights as `allow_beneath`, on a path (bytes)."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        allow_beneath(ruleset, fd, rights)
    finally:
        os.close(fd)


def restrict_self(ruleset):
    """Enters the domain of a ruleset (descriptor).  mount(2) is then EPERM.

    Raises OSError: EPERM without no_new_privs; E2BIG in 16 domains already.
    """
    _restrict_self(ruleset, 0)
