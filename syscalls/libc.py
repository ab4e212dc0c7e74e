# SPDX-License-Identifier: Apache-2.0
"""One libc handle, one error check, and `bind`, which turns a system call's name into a Python function.

Every call goes through syscall(2) by number.  glibc's own wrappers are avoided on purpose: setresuid and friends signal
every thread that glibc believes to exist (nptl/setxid.c), and after clone3 those threads are not there; and many of
the calls used here have no wrapper in older libcs.  `CDLL(None)` finds the libc that the interpreter itself runs on,
glibc or musl; ctypes.util.find_library would start helper processes.
"""
import ctypes
import os

# The C modules behind `signal` and `socket` cost a tenth of the public ones (enum tables); an interpreter that does not
# have them under these names still works.
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

MACHINE = os.uname().machine
BITS = ctypes.sizeof(ctypes.c_void_p) * 8
#: The architecture whose numbers and filters are used, or None where mrunc has none (a 32-bit interpreter included: its
#: calls would arrive under another architecture than the workload's).
ARCH = MACHINE if MACHINE in ("x86_64", "aarch64") and BITS == 64 else None

if ARCH == "aarch64":
    from .nr_aarch64 import NR
else:
    from .nr_x86_64 import NR

# PyDLL keeps the interpreter lock across the call: the child of clone3 is then the owner of it.
_libc = ctypes.PyDLL(None, use_errno=True)

c_int, c_uint, c_long, c_ulong, c_size = ctypes.c_int, ctypes.c_uint, ctypes.c_long, ctypes.c_ulong, ctypes.c_size_t
c_bytes, c_pointer = ctypes.c_char_p, ctypes.c_void_p
buffer, addressof = ctypes.create_string_buffer, ctypes.addressof

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000


def _check(result, function, arguments):
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), function.call)
    return result


def bind(name, *argtypes):
    """A function that makes the system call `name` with arguments of these ctypes types.

    Returns: callable(*args) -> int; raises OSError(errno, text, name) where the kernel returns -1, and ENOSYS where the
    call does not exist on this architecture.
    """
    number = NR.get(name, -1)
    function = _libc["syscall"]
    function.restype = c_long
    function.argtypes = (c_long,) + argtypes
    function.errcheck = _check
    function.call = name

    def call(*arguments):
        return function(number, *arguments)
    return call


def string_array(strings):
    """A NULL-terminated char *[] of byte strings, as execve(2) takes them; keep a reference while it is in use."""
    return (c_bytes * (len(strings) + 1))(*(list(strings) + [None]))
