# SPDX-License-Identifier: Apache-2.0
"""What a pidfd tells of a process that has ended.  linux/pidfd.h"""
import fcntl
import struct

ESRCH = 3
PIDFD_GET_INFO, PIDFD_INFO_EXIT = 0xC040FF0B, 8
#: struct pidfd_info: mask first, exit_code last
_PIDFD_INFO = struct.Struct("=Q52xi")


def status(pidfd):
    """The wait status of the ended process behind a pidfd, when its parent has taken it; None before.  PIDFD_GET_INFO, 6.15

    OSError (ENOTTY, ESRCH): a kernel that tells it to nobody but the parent.
    """
    info = bytearray(_PIDFD_INFO.pack(PIDFD_INFO_EXIT, 0))
    try:
        fcntl.ioctl(pidfd, PIDFD_GET_INFO, info, True)
    except OSError as error:
        # Linux 6.15 to 6.18 look for the status first and for the process afterwards: taken in between, it has neither
        if error.errno != ESRCH:
            raise
        fcntl.ioctl(pidfd, PIDFD_GET_INFO, info, True)
    mask, found = _PIDFD_INFO.unpack(info)
    return found if mask & PIDFD_INFO_EXIT else None
