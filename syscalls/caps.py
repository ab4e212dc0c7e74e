# SPDX-License-Identifier: Apache-2.0
"""Sets and reads capability sets and securebits.  capabilities(7)"""
import struct

from .libc import bind, c_int, c_pointer, c_ulong

PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_CAP_AMBIENT = 23, 24, 47
PR_GET_SECUREBITS, PR_SET_SECUREBITS = 27, 28
PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_CLEAR_ALL = 2, 4
#: NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE on, KEEP_CAPS off, all four locked.
SECUREBITS_LOCKED = 0xef
VERSION_3 = 0x20080522

#: In the order of their numbers.  linux/capability.h
NAMES = """
    chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable
    net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio
    sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time
    sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog
    wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore
""".split()

_prctl = bind("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_capset = bind("capset", c_pointer, c_pointer)


def last_capability():
    """Returns the highest capability number that this kernel knows.

    The kernel answers PR_CAPBSET_READ with EINVAL above it.
    """
    number = len(NAMES) - 1
    while number < 63:  # a set has so many; a filter may answer for ever
        try:
            _prctl(PR_CAPBSET_READ, number + 1, 0, 0, 0)
            number += 1
        except OSError:
            break
    while number:
        try:
            _prctl(PR_CAPBSET_READ, number, 0, 0, 0)
            return number
        except OSError:
            number -= 1
    return number


def set_securebits(bits):
    """Sets the securebits, an int.  prctl(PR_SET_SECUREBITS)

    Raises OSError: EPERM without CAP_SETPCAP, or if a locked bit would change.
    """
    _prctl(PR_SET_SECUREBITS, bits, 0, 0, 0)


def get_securebits():
    """Returns the securebits, an int.  prctl(PR_GET_SECUREBITS)"""
    return _prctl(PR_GET_SECUREBITS, 0, 0, 0, 0)


def drop_bounding(keep, last):
    """Drops capabilities from the bounding set.  prctl(PR_CAPBSET_DROP)

    keep: bit mask of the capabilities that stay.
    last: the highest number, as of `last_capability`.

    Raises OSError: EPERM without CAP_SETPCAP.
    """
    for number in range(last + 1):
        if not keep >> number & 1:
            _prctl(PR_CAPBSET_DROP, number, 0, 0, 0)


def set_capabilities(permitted, inheritable=0):
    """Sets the permitted, effective and inheritable sets.  capset(2)

    permitted: bit mask, also for the effective set.
    inheritable: bit mask.

    Raises OSError: EPERM if permitted is no subset of the old permitted set, or if inheritable has
    a capability that the bounding set lacks.
    """
    low, high, inh_low, inh_high = (permitted & 0xffffffff, permitted >> 32,
                                    inheritable & 0xffffffff, inheritable >> 32)
    _capset(struct.pack("=Ii", VERSION_3, 0),
            struct.pack("=6I", low, low, inh_low, high, high, inh_high))


def set_ambient(mask):
    """Makes the ambient set equal to a bit mask.  prctl(PR_CAP_AMBIENT), Linux 4.3

    Raises OSError: EPERM if one is not both permitted and inheritable, or if a securebit forbids
    it.
    """
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for number in range(64):
        if mask >> number & 1:
            _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0)
