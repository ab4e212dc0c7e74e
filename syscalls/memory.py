# SPDX-License-Identifier: Apache-2.0
"""Another process's memory.  process_vm_readv(2), Linux 3.2"""
import struct

from .libc import addressof, bind, buffer, c_int, c_pointer, c_ulong

PAGE = 4096
_IOVEC = struct.Struct("=QQ").pack_into
_readv = bind("process_vm_readv", c_int, c_pointer, c_ulong, c_pointer, c_ulong, c_ulong)


class Reader:
    """Reads up to a page of a process's memory into one buffer that is made once; for one thread."""

    def __init__(self):
        self._page = buffer(PAGE)
        self._here = addressof(self._page)
        self._own, self._other = buffer(16), buffer(16)
        self._at = addressof(self._own), addressof(self._other)

    def read(self, pid, address, size):
        """size bytes (at most PAGE) at an address of a process or thread; fewer where its memory ends.

        EPERM: no right (ptrace(2), "Ptrace access mode checking"); EFAULT: nothing is mapped there; ESRCH: it is gone;
        ENOSYS: a kernel without the call.
        """
        _IOVEC(self._own.room, 0, self._here, size)
        _IOVEC(self._other.room, 0, address, size)
        own, other = self._at
        count = _readv(pid, own, 1, other, 1, 0)
        return bytes(memoryview(self._page.room)[:count])
