# SPDX-License-Identifier: Apache-2.0
"""A child in new namespaces by clone(2): for Linux before 5.3, and under filters that hide clone3."""
import struct

from .libc import bind, buffer, c_pointer, c_ulong
from .process import CLONE_PIDFD, SIGCHLD, pidfd_open

#: flags, stack, parent_tid; the order of the other two differs between architectures, and they are not used.
_clone = bind("clone", c_ulong, c_ulong, c_pointer, c_ulong, c_ulong)


def child(namespaces):
    """As process.clone3 without a control group: (pid, pidfd), and (0, -1) in the child.

    With no stack of its own the child goes on where the parent is, on a copy, as after fork(2).  The pidfd comes with the call
    (Linux 5.2; older kernels ignore the flag), or by pidfd_open, or is -1.
    """
    pidfd = buffer(struct.pack("=i", -1), 4)
    try:
        pid = _clone(namespaces | CLONE_PIDFD | SIGCHLD, 0, pidfd, 0, 0)
    except OSError as error:
        if error.errno != 22:
            raise
        pid = _clone(namespaces | SIGCHLD, 0, None, 0, 0)
    if pid == 0:
        return 0, -1
    number = struct.unpack("=i", pidfd.raw)[0]
    if number < 0:
        try:
            number = pidfd_open(pid)
        except OSError:
            pass
    return pid, number
