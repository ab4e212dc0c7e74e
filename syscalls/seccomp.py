# SPDX-License-Identifier: Apache-2.0
"""seccomp(2)."""
import struct

from .libc import addressof, bind, buffer, c_pointer, c_uint

SECCOMP_SET_MODE_FILTER = 1

_seccomp = bind("seccomp", c_uint, c_uint, c_pointer)


def prepare(program):
    """Puts a filter where seccomp(2) can read it.  program: bytes of 8-byte sock_filter records.  Returns an object to
    hand to `attach`; make it before the filter is in force, since making it allocates."""
    code = buffer(program, len(program))
    fprog = buffer(struct.pack("=HxxxxxxQ", len(program) // 8, addressof(code)), 16)
    return fprog, code


def attach(prepared):
    """Attaches a prepared filter to this thread.  EACCES: no no_new_privs; EINVAL: the kernel rejects the program;
    ENOMEM: filters too long in all; 524: the JIT's memory is used up.  seccomp(2), Linux 3.17"""
    _seccomp(SECCOMP_SET_MODE_FILTER, 0, prepared[0])
