# SPDX-License-Identifier: Apache-2.0
"""Turns the names of system calls into Python functions, with one error check.

Every call goes through syscall(2) by number. glibc's own wrappers are avoided: setresuid and the
like signal every thread that glibc believes to exist (nptl/setxid.c), and after clone3 those
threads do not exist. Many of the calls also have no wrapper in older libcs. dlopen(NULL) finds the
libc of the interpreter, glibc or musl. ctypes.util.find_library would start helper processes.

All private C modules of CPython that mrunc uses are in this file, each with the public module as a
fallback. A start with the public ones takes so many times as long (Python 3.13, 40 interleaved
rounds of `run -- true`):

                         python3 mrunc.py   python3 -I -S mrunc.py
    signal and socket    1.23               1.30 to 1.36             tables of enums
    ctypes               1.03 to 1.14       1.13 to 1.16             a package
"""
import os
import struct

try:
    import _signal
except ImportError:
    import signal as _signal
try:
    import _socket
except ImportError:
    import socket as _socket

sockets = _socket
signals = _signal
#: Without those that C libraries reserve and never let a program block: 32 and 33, musl 34 too.
SIGNALS = [number for number in range(1, 65) if number not in (32, 33, 34)]

#: FUNCFLAG_CDECL, PYTHONAPI, USE_ERRNO.  PYTHONAPI keeps the interpreter lock across the call, so
#: the child of clone3 owns it.
_FLAGS = 0x1 | 0x4 | 0x8


def bare():
    """Returns the needed parts of ctypes from its C module; the package costs ten times as much.

    Returns (types by code of the struct module, function factory, get_errno, addressof, sizeof).
    The module is private to CPython. Raises ImportError, AttributeError or TypeError if it is not
    as in 3.6 to 3.13.
    """
    import _ctypes

    class Function(_ctypes.CFuncPtr):
        """syscall(2)."""
        _flags_ = _FLAGS
        _restype_ = type(_ctypes._SimpleCData)("c_long", (_ctypes._SimpleCData,), {"_type_": "l"})

    types = dict((code, type(_ctypes._SimpleCData)("c_" + code, (_ctypes._SimpleCData,),
                                                   {"_type_": code}))
                 for code in "iILzPc")
    types["l"] = Function._restype_
    address = _ctypes.dlsym(_ctypes.dlopen(None, 0), "syscall")
    return types, lambda: Function(address), _ctypes.get_errno, _ctypes.addressof, _ctypes.sizeof


def public():
    """Returns what `bare` returns, from ctypes."""
    import ctypes
    types = {"i": ctypes.c_int, "I": ctypes.c_uint, "l": ctypes.c_long, "L": ctypes.c_ulong,
             "z": ctypes.c_char_p, "P": ctypes.c_void_p, "c": ctypes.c_char}
    libc = ctypes.PyDLL(None, use_errno=True)

    def function():
        made = libc["syscall"]
        made.restype = ctypes.c_long
        return made
    return types, function, ctypes.get_errno, ctypes.addressof, ctypes.sizeof


try:
    _types, function, get_errno, _addressof, sizeof = bare()
except (ImportError, AttributeError, TypeError):
    _types, function, get_errno, _addressof, sizeof = public()

c_int, c_uint, c_long, c_ulong = _types["i"], _types["I"], _types["l"], _types["L"]
c_bytes, c_pointer, c_char = _types["z"], _types["P"], _types["c"]
c_size = c_ulong

MACHINE = os.uname().machine
BITS = sizeof(c_pointer) * 8
#: The architecture whose numbers and filters are used, or None if mrunc has none.  Also None for a
#: 32-bit interpreter: its calls would have another architecture than the program's.
ARCH = MACHINE if MACHINE in ("x86_64", "aarch64") and BITS == 64 else None

#: The architecture of the table of numbers: a tool that makes no call works on any machine.
TABLE = ARCH or "x86_64"

if TABLE == "aarch64":
    from .nr_aarch64 import NR
else:
    from .nr_x86_64 import NR

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000


def number(name):
    """Returns the number of a system call, or -1 if this architecture lacks it."""
    return NR.get(name, -1)


def bind(name, *argtypes):
    """Returns a function that makes one system call.

    name: of the call.
    argtypes: ctypes types of its arguments. c_pointer takes None, an address, a Buffer, and bytes
        that the kernel only reads.

    The function returns an int. It raises OSError(errno, text, name) if the kernel returns -1, and
    ENOSYS if this architecture lacks the call.
    """
    known, syscall = number(name), function()
    syscall.argtypes = (c_long,) + argtypes

    def call(*arguments):
        result = syscall(known, *arguments)
        if result == -1:
            code = get_errno()
            raise OSError(code, os.strerror(code), name)
        return result
    return call


def answers(calls):
    """Probes system calls with harmless arguments; returns the errno of each, 0 for success.

    calls: [(name, arguments)], each argument an int or None for a null pointer.
    """
    syscall, out = function(), []
    for name, arguments in calls:
        out.append(get_errno() if syscall(number(name), *arguments) == -1 else 0)
    return out


class Buffer:
    """Memory that the kernel may write to.  It is an argument of system calls, by its address.

    room: bytearray.
    raw: its contents as bytes.

    A ctypes array would do the same, but making an array type for each size takes 50 us and 3 kB.
    """

    __slots__ = ("room", "held", "_as_parameter_")

    def __init__(self, room):
        # `held` keeps the room at its address.
        self.room, self.held = room, c_char.from_buffer(room)
        self._as_parameter_ = c_pointer(_addressof(self.held))

    @property
    def raw(self):
        """Returns the contents as bytes."""
        return bytes(self.room)


def addressof(made):
    """Returns the address of a Buffer."""
    return made._as_parameter_.value


def buffer(init, size=None):
    """Returns a Buffer, of zeros or of given bytes.

    init: the number of zeros, or bytes.
    size: of the memory for bytes; one more than there are unless given.
    """
    if isinstance(init, int):
        return Buffer(bytearray(init))
    return Buffer(bytearray(init) + bytes(1 if size is None else size - len(init)))


def string_array(strings):
    """Returns a NULL-terminated char *[] as execve(2) takes it, a Buffer.

    strings: list of bytes.

    The kernel reads it later: keep a reference while it is in use.
    """
    words = [buffer(string) for string in strings]
    made = buffer(struct.pack("=%dQ" % (len(words) + 1),
                              *[addressof(word) for word in words] + [0]))
    made.held = made.held, words
    return made
