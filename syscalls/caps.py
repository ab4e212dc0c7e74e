# SPDX-License-Identifier: Apache-2.0
"""Capability sets and securebits.  capabilities(7)"""
import struct

from .libc import bind, c_int, c_pointer, c_ulong

PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_GET_SECUREBITS, PR_SET_SECUREBITS, PR_CAP_AMBIENT = 23, 24, 27, 28, 47
PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_CLEAR_ALL = 2, 4
#: NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE on, KEEP_CAPS off, all four locked.
SECUREBITS_LOCKED = 0xef
VERSION_3 = 0x20080522

NAMES = ("chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service "
         "net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct "
         "sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control "
         "setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf "
         "checkpoint_restore").split()

_prctl = bind("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_capset = bind("capset", c_pointer, c_pointer)


def last_capability():
    """The highest capability number that this kernel knows.  The kernel answers EINVAL above it."""
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
    """prctl(PR_SET_SECUREBITS).  EPERM: no CAP_SETPCAP, or a locked bit would change."""
    _prctl(PR_SET_SECUREBITS, bits, 0, 0, 0)


def get_securebits():
    """prctl(PR_GET_SECUREBITS)."""
    return _prctl(PR_GET_SECUREBITS, 0, 0, 0, 0)


def drop_bounding(keep, last):
    """Drops every capability from 0 to `last` but those in the bit mask `keep` from the bounding set.  EPERM: no
    CAP_SETPCAP."""
    for number in range(last + 1):
        if not keep >> number & 1:
            _prctl(PR_CAPBSET_DROP, number, 0, 0, 0)


def set_capabilities(permitted, inheritable=0):
    """Makes permitted and effective one bit mask, inheritable another.  EPERM: not a subset of what was permitted, or
    inheritable holds one that the bounding set has lost.  capset(2)"""
    low, high, inh_low, inh_high = (permitted & 0xffffffff, permitted >> 32, inheritable & 0xffffffff, inheritable >> 32)
    _capset(struct.pack("=Ii", VERSION_3, 0), struct.pack("=6I", low, low, inh_low, high, high, inh_high))


def set_ambient(mask):
    """Makes the ambient set exactly the bit mask.  EPERM: not permitted and inheritable, or raising is locked."""
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for number in range(64):
        if mask >> number & 1:
            _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0)
