# SPDX-License-Identifier: Apache-2.0
"""One libc handle, one error check, and `bind`, which turns a system call's name into a Python function.

Every call goes through syscall(2) by number.  glibc's own wrappers are avoided on purpose: setresuid and friends signal
every thread that glibc believes to exist (nptl/setxid.c), and after clone3 those threads are not there; and many of
the calls used here have no wrapper in older libcs.  dlopen(NULL) finds the libc that the interpreter itself runs on,
glibc or musl; ctypes.util.find_library would start helper processes.

All private C modules of CPython that mrunc uses are here, each with the public module to fall
back on.  A start with the public ones takes so many times as long (Python 3.13, 40 interleaved
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
#: All but those that C libraries keep for themselves and let nobody block: 32 and 33, musl 34 too.
SIGNALS = [number for number in range(1, 65) if number not in (32, 33, 34)]

#: cdecl; PYTHONAPI keeps the interpreter lock across the call: the child of clone3 is then the owner of it; USE_ERRNO.
_FLAGS = 0x1 | 0x4 | 0x8


def bare():
    """What is needed of ctypes, taken from the C module that it is made of: the package costs ten times as much to import.

    Returns (types by code of the struct module, function factory, get_errno, addressof, sizeof).  The module is CPython's own
    business: raises ImportError, AttributeError or TypeError where it isn't what it has been from 3.6 to 3.13.
    """
    import _ctypes

    class Function(_ctypes.CFuncPtr):
        """syscall(2)."""
        _flags_ = _FLAGS
        _restype_ = type(_ctypes._SimpleCData)("c_long", (_ctypes._SimpleCData,), {"_type_": "l"})

    types = dict((code, type(_ctypes._SimpleCData)("c_" + code, (_ctypes._SimpleCData,), {"_type_": code}))
                 for code in "iILzPc")
    types["l"] = Function._restype_
    address = _ctypes.dlsym(_ctypes.dlopen(None, 0), "syscall")
    return types, lambda: Function(address), _ctypes.get_errno, _ctypes.addressof, _ctypes.sizeof


def public():
    """The same from ctypes itself."""
    import ctypes
    types = {"i": ctypes.c_int, "I": ctypes.c_uint, "l": ctypes.c_long, "L": ctypes.c_ulong, "z": ctypes.c_char_p,
             "P": ctypes.c_void_p, "c": ctypes.c_char}
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
#: The architecture whose numbers and filters are used, or None where mrunc has none (a 32-bit interpreter included: its
#: calls would arrive under another architecture than the workload's).
ARCH = MACHINE if MACHINE in ("x86_64", "aarch64") and BITS == 64 else None

#: That whose numbers are asked for: a tool that makes no call works on any machine.
TABLE = ARCH or "x86_64"

if TABLE == "aarch64":
    from .nr_aarch64 import NR
else:
    from .nr_x86_64 import NR

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000


def number(name):
    """The number of a system call, -1 where this architecture has no such call."""
    return NR.get(name, -1)


def bind(name, *argtypes):
    """A function that makes the system call `name` with arguments of these ctypes types.

    c_pointer takes None, an address, `buffer` objects, and bytes that the kernel only reads.  Returns: callable(*args) ->
    int; raises OSError(errno, text, name) where the kernel returns -1, and ENOSYS where the call does not exist on this
    architecture.
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
    """[errno, 0 for none] of system calls that are no deed: (name, integer arguments and None for a null pointer)."""
    syscall, out = function(), []
    for name, arguments in calls:
        out.append(get_errno() if syscall(number(name), *arguments) == -1 else 0)
    return out


class Buffer:
    """Memory that the kernel may write to, an argument of system calls by its address.  room: bytearray; raw: its contents.

    An array of ctypes would be the same; but the type of each size is another, and takes 50 us and 3 kB to make.
    """

    __slots__ = ("room", "held", "_as_parameter_")

    def __init__(self, room):
        self.room, self.held = room, c_char.from_buffer(room)  # as long as it is held, the room stays where it is
        self._as_parameter_ = c_pointer(_addressof(self.held))

    @property
    def raw(self):
        """The bytes."""
        return bytes(self.room)


def addressof(made):
    """Where a Buffer lies."""
    return made._as_parameter_.value


def buffer(init, size=None):
    """A Buffer: zeroed, of so many bytes, or holding the bytes `init` in `size` bytes (one more than there are unless said)."""
    if isinstance(init, int):
        return Buffer(bytearray(init))
    return Buffer(bytearray(init) + bytes(1 if size is None else size - len(init)))


def string_array(strings):
    """A NULL-terminated char *[] of byte strings (Buffer), as execve(2) takes them; keep a reference while it is in use."""
    words = [buffer(string) for string in strings]
    made = buffer(struct.pack("=%dQ" % (len(words) + 1), *[addressof(word) for word in words] + [0]))
    made.held = made.held, words
    return made
