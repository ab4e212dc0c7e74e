# SPDX-License-Identifier: Apache-2.0
"""Looking into the memory of a process that waits for its system call to be answered.

What is read there is evidence only: whoever shares that memory can change it at any time.  The kernel's permission check is
ptrace's; a program can refuse it in the tiers without a user namespace (PR_SET_DUMPABLE 0).
"""
import errno
import os

from ...syscalls.process import PAGE, Reader

_TOP = 1 << 63


class Peek:
    """One for a supervisor: `of(pid)` is the function that `decode` wants."""

    def __init__(self):
        self._reader = Reader()

    def of(self, pid):
        """peek(address, size) for a process or thread id as the supervisor sees it.

        It returns size bytes, fewer where the memory ends within, and raises OSError where not even the first can be read:
        EFAULT, EPERM, ESRCH and what else process_vm_readv(2) says.
        """
        def peek(address, size):
            return self.read(pid, address, size)
        return peek

    def read(self, pid, address, size):
        """As the function that `of` returns."""
        out = b""
        while size > 0:
            # A hole anywhere makes a whole element fail, so each page is an element of its own.
            here = min(size, PAGE - address % PAGE)
            try:
                part = self._piece(pid, address, here)
            except OSError:
                if out:
                    return out
                raise
            out += part
            if len(part) < here:
                return out
            address, size = address + here, size - here
        return out

    def _piece(self, pid, address, size):
        if not 0 < address < _TOP:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        try:
            return self._reader.read(pid, address, size)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM):  # EPERM: also what an outer filter may say
                raise
            found = _by_file(pid, address, size)
            if not found:
                raise
            return found


def _by_file(pid, address, size):
    """The same by /proc/PID/mem, opened anew each time: after an exec an old descriptor reads nothing."""
    try:
        fd = os.open("/proc/%d/mem" % pid, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.pread(fd, size, address)
    except OSError:
        return b""
    finally:
        os.close(fd)
