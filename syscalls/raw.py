# SPDX-License-Identifier: Apache-2.0
"""Makes any system call as hostile code does, and runs machine code, for `selftest`."""
import ctypes
import mmap
import os

from .libc import ARCH, addressof, buffer, function, number

__all__ = ["ARCH", "addressof", "buffer", "call", "execute", "int80", "low_memory", "wide"]

MAP_32BIT = 0x40
_syscall = function()


def _word(value):
    if isinstance(value, int):
        return ctypes.c_long(value)
    if value is None:
        return ctypes.c_long(0)
    if isinstance(value, bytes):
        return ctypes.c_char_p(value)
    return value


def call(what, *arguments):
    """Makes one system call and returns an int.

    what: its name or number.
    arguments: int, bytes, None (0) or Buffer.

    Raises OSError(errno, text, name); ENOSYS for a name that this architecture lacks.
    """
    known = what if isinstance(what, int) else number(what)
    result = _syscall(ctypes.c_long(known), *[_word(argument) for argument in arguments])
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(what))
    return result


def wide(number):
    """Returns a number with bit 32 set.  The kernel drops the upper half of an int."""
    return number | 1 << 32


def _code(code, flags):
    area = mmap.mmap(-1, max(4096, len(code)), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | flags,
                     prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    area.write(code)
    return area, ctypes.addressof(ctypes.c_char.from_buffer(area))


def execute(code, *arguments):
    """Runs machine code (bytes) as a C function of longs and returns its result."""
    area, address = _code(code, 0)
    return ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_long] * len(arguments))(address)(*arguments)


#: push rbx; eax, ebx, ecx, edx = arguments; int 0x80; sign-extend; pop rbx; ret
_INT80 = bytes(bytearray((0x53, 0x89, 0xf8, 0x89, 0xf3, 0x49, 0x89, 0xd0, 0x89, 0xca, 0x44, 0x89,
                          0xc1, 0xcd, 0x80, 0x48, 0x98, 0x5b, 0xc3)))


def int80(number, first=0, second=0, third=0):
    """Makes a 32-bit system call from 64-bit code; returns the kernel's value, also -errno."""
    return execute(_INT80, number, first, second, third)


def low_memory(data):
    """Returns (object that keeps it, address below 4 GiB) of a copy of the bytes.

    A 32-bit call can point only there.
    """
    return _code(data, MAP_32BIT)
