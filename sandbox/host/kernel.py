# SPDX-License-Identifier: Apache-2.0
"""Tells which optional features this kernel has, looked up once per process.

There is no `if kernel` elsewhere.
"""
import os

from ...syscalls import landlock, libc
from ..controls import CONTROLS

#: (feature, first kernel, what is lost without it)
TABLE = (
    ("landlock", "5.19 (ABI 2)", "the second layer under the mounts"),
    ("landlock-signals", "6.12 (ABI 6)",
     "the workload can send signals to pid 1, which ignores or forwards them"),
    ("timens", "5.6", "the host's uptime is visible"),
    ("mount_setattr", "5.12",
     "mounts are restricted one by one; a root caller's sources aren't mapped to their owner: --rw "
     "is refused, and any file that others may not read; no --overlay"),
    ("mount API", "5.2",
     "mounts are made and restricted by mount(2); the sandbox's id must reach a root caller's "
     "sources by path; and the losses without mount_setattr"),
    ("close_range", "5.11 (CLOSE_RANGE_CLOEXEC)", "nothing: each inherited descriptor is marked"),
    ("openat2", "5.6",
     "a trace has no digests; paths are walked one component at a time, over no link"),
    ("clone3", "5.3", "nothing: the child is made by clone"),
    ("pidfd_open", "5.3",
     "nothing: a child is known by its pid, which is its own until it is waited for"),
    ("pidfd_send_signal", "5.1",
     "signals go to the pid, which is the child's until it is waited for; without a control group "
     "only pid 1 is killed at a deadline"),
    ("into-cgroup", "5.7", "nothing: the child is moved into its group before it does anything"),
)


EPERM, EBADF, EINVAL = 1, 9, 22
#: The calls of the mount API; one without the others is of no use.
MOUNT_API = ("open_tree", "move_mount", "fsopen", "fsconfig", "fsmount")
#: System calls with a fallback: (name, harmless probe arguments, errnos that show that it exists).
CALLS = (
    ("clone3", (None, 0), (EINVAL, EPERM)),
    ("pidfd_open", (-1, 0), (EINVAL,)),
    ("pidfd_send_signal", (-1, 0, None, 0), (EBADF,)),
    ("openat2", (-1, None, None, 0), (EINVAL, EPERM)),
    ("open_tree", (-1, None, 0xffffffff), (EINVAL,)),
    ("move_mount", (-1, None, -1, None, 0xffffffff), (EINVAL, EPERM)),
    ("fsopen", (None, 0xffffffff), (EINVAL, EPERM)),
    ("fsconfig", (-1, 0, None, None, 0), (EINVAL,)),
    ("fsmount", (-1, 0xffffffff, 0), (EINVAL, EPERM)),
    ("mount_setattr", (-1, None, 0, None, 0), (EINVAL,)),
    # CLOSE_RANGE_CLOEXEC, on a descriptor that no process has
    ("close_range", (0x7fffffff, 0x7fffffff, 4), (0,)),
)
#: What a kernel without Landlock says: not built in; not in its lsm= list.
ENOSYS, EOPNOTSUPP = 38, 95
#: What clone3 says where it does not know CLONE_INTO_CGROUP: EINVAL, E2BIG; or where it is not
#: there.
NO_INTO_CGROUP = (22, 7, ENOSYS)


def _is_there(path):
    """Returns whether a path exists.

    Only ENOENT means that the kernel lacks it. Any other error will show where it is used.
    """
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    except OSError:
        pass
    return True


class Features:
    """What this kernel has.

    landlock_abi: int, 0 for none.
    landlock_off: whether Landlock is built in but not in the lsm= list.
    landlock_refused: errno with which an outer filter refuses Landlock, or None.
    timens: whether it has time namespaces.
    missing: names of CALLS that are missing.
    mount_api: whether it has all calls of MOUNT_API.
    mount_setattr: whether it has that and the mount API.
    cloexec_range: whether close_range can mark descriptors.
    """

    __slots__ = ("landlock_abi", "landlock_off", "landlock_refused", "timens", "missing",
                 "mount_api", "mount_setattr", "cloexec_range")

    def __init__(self):
        self.landlock_abi, self.landlock_off, self.landlock_refused = 0, False, None
        try:
            self.landlock_abi = landlock.version()
        except OSError as error:
            self.landlock_off = error.errno == EOPNOTSUPP
            if error.errno not in (ENOSYS, EOPNOTSUPP):
                self.landlock_refused = error.errno
        self.timens = _is_there("/proc/self/ns/time")
        self.missing = missing()
        gone = set(map(feature, self.missing))
        self.mount_api = "mount API" not in gone
        self.mount_setattr = self.mount_api and "mount_setattr" not in gone
        self.cloexec_range = "close_range" not in gone

    def fallback(self, control):
        """Returns what the receipt adds for a control that a fallback enforces, else ""."""
        gone = set(map(feature, self.missing))
        ways = [(name, way) for name, way in CONTROLS[control].other_ways if name in gone]
        if not ways:
            return ""
        since = dict((row[0], row[1].partition(" ")[0]) for row in TABLE)
        said = sorted(set(way for _, way in ways))
        return "; %s: no %s (Linux %s)" % (", ".join(said), ", ".join(name for name, _ in ways),
                                           ", ".join(since[name] for name, _ in ways))

    def lacks(self, control):
        """Returns why this kernel lacks a control, or None."""
        if self.landlock_refused is not None and control in ("landlock", "landlock-signals"):
            return None
        if not CONTROLS[control].kernel(self):
            if self.landlock_off and control != "timens":
                return "this kernel does not have it: Landlock is not in its lsm= list"
            since = [row[1] for row in TABLE if row[0] == control][0]
            return "this kernel does not have it: Linux %s" % since
        return None

    def refused(self, control):
        """Returns what refuses a control that the kernel may have, or None."""
        if self.landlock_refused is None or control not in ("landlock", "landlock-signals"):
            return None
        return "landlock_create_ruleset: %s: an outer filter (a container?) forbids it" % \
            os.strerror(self.landlock_refused)


def feature(call):
    """Returns the row of TABLE that a call of CALLS belongs to."""
    return "mount API" if call in MOUNT_API else call


def missing():
    """Returns the names of CALLS that the kernel lacks or an outer filter hides.

    Looked up once.
    """
    if not _MISSING:
        said = libc.answers([row[:2] for row in CALLS])
        _MISSING.append(tuple(row[0] for row, number in zip(CALLS, said) if number not in row[2]))
    return _MISSING[0]


_MISSING = []
