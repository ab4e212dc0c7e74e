# SPDX-License-Identifier: Apache-2.0
"""Reads the memory of a process that waits for its system call to be answered.

What is read is evidence only: the threads of that process can change it at any time.  The kernel
checks permission as ptrace(2) does.  In the tiers without a user namespace a program can refuse it
(PR_SET_DUMPABLE 0).
"""
import errno
import os

from ...syscalls.process import PAGE, Reader

_TOP = 1 << 63


class Peek:
    """The memory of other processes."""

    def __init__(self):
        self._reader = Reader()

    def read(self, pid, address, size):
        """Returns size bytes, fewer if the memory ends within.

        pid: of a process or thread as this process sees it.  Raises OSError if not even the first
        byte can be read: EFAULT, EPERM, ESRCH and the others of process_vm_readv(2).
        """
        out = b""
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
            if error.errno not in (errno.ENOSYS, errno.EPERM):  # EPERM: maybe an outer filter's
                raise
            found = _by_file(pid, address, size)
            if not found:
                raise
            return found


def _by_file(pid, address, size):
    """Reads by /proc/PID/mem, opened each time: after an exec an old descriptor reads nothing."""
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
