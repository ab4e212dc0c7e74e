# SPDX-License-Identifier: Apache-2.0
"""Attaches seccomp filters.  seccomp(2)"""
import struct

from .libc import addressof, bind, buffer, c_pointer, c_uint

SECCOMP_SET_MODE_FILTER, SECCOMP_GET_ACTION_AVAIL = 1, 2
FLAG_NEW_LISTENER = 8
EINVAL, EOPNOTSUPP = 22, 95
#: kill thread, trap, errno, trace, allow: Linux 3.5
FIRST_ACTIONS = (0, 0x30000, 0x50000, 0x7ff00000, 0x7fff0000)

_seccomp = bind("seccomp", c_uint, c_uint, c_pointer)


def prepare(program):
    """Puts a filter where seccomp(2) can read it; returns an object for `attach`.

    program: bytes of 8-byte sock_filter records.

    Call it before a filter is in force: it allocates memory.
    """
    code = buffer(program, len(program))
    fprog = buffer(struct.pack("=HxxxxxxQ", len(program) // 8, addressof(code)), 16)
    return fprog, code


def attach(prepared, flags=0):
    """Attaches a prepared filter to this thread.  seccomp(2), Linux 3.17

    prepared: of `prepare`.
    flags: SECCOMP_FILTER_FLAG_*.

    Returns the listener's descriptor with FLAG_NEW_LISTENER (Linux 5.0), else 0. Raises OSError:
    EACCES without no_new_privs; EINVAL if the kernel rejects the program; ENOMEM if all filters
    together are too long; 524 if the JIT has no memory left; EBUSY if another filter has a
    listener.
    """
    return _seccomp(SECCOMP_SET_MODE_FILTER, flags, prepared[0])


def action_available(action):
    """Returns whether this kernel knows a filter action.  For any other it would kill.

    action: SECCOMP_RET_*, without data.

    SECCOMP_GET_ACTION_AVAIL, Linux 4.14. Before, only the first five actions are certain.
    """
    word = buffer(struct.pack("=I", action), 4)
    try:
        _seccomp(SECCOMP_GET_ACTION_AVAIL, 0, addressof(word))
    except OSError as error:
        if error.errno == EINVAL:
            return action in FIRST_ACTIONS
        if error.errno == EOPNOTSUPP:
            return False
        raise
    return True
