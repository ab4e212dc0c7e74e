# SPDX-License-Identifier: Apache-2.0
"""seccomp(2)."""
import struct

from .libc import addressof, bind, buffer, c_pointer, c_uint

SECCOMP_SET_MODE_FILTER, SECCOMP_GET_ACTION_AVAIL = 1, 2
FLAG_NEW_LISTENER = 8
EINVAL, EOPNOTSUPP = 22, 95
#: kill thread, trap, errno, trace, allow: Linux 3.5
FIRST_ACTIONS = (0, 0x30000, 0x50000, 0x7ff00000, 0x7fff0000)

_seccomp = bind("seccomp", c_uint, c_uint, c_pointer)


def prepare(program):
    """Puts a filter where seccomp(2) can read it.  program: bytes of 8-byte sock_filter records.  Returns an object to
    hand to `attach`; make it before the filter is in force, since making it allocates."""
    code = buffer(program, len(program))
    fprog = buffer(struct.pack("=HxxxxxxQ", len(program) // 8, addressof(code)), 16)
    return fprog, code


def attach(prepared, flags=0):
    """Attaches a prepared filter to this thread.  Returns the listener's descriptor with FLAG_NEW_LISTENER (5.0), else 0.

    EACCES: no no_new_privs; EINVAL: the kernel rejects the program; ENOMEM: filters too long in all; 524: the JIT's
    memory is used up; EBUSY: another filter has a listener already.  seccomp(2), Linux 3.17
    """
    return _seccomp(SECCOMP_SET_MODE_FILTER, flags, prepared[0])


def action_available(action):
    """Whether this kernel knows a filter action (SECCOMP_RET_*, without data).  It would kill for another.

    SECCOMP_GET_ACTION_AVAIL, Linux 4.14; before, nothing but the first five actions can be relied on.
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
