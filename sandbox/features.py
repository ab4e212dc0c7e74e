# SPDX-License-Identifier: Apache-2.0
"""What this kernel has of the things that mrunc can do without.  Looked up once per process; no `if kernel` elsewhere."""
from ..syscalls.system import os
from ..syscalls import landlock, mount, process

#: (feature, since, what is lost without it)
TABLE = (
    ("landlock", "5.19 (ABI 2)", "the second layer under the mounts"),
    ("landlock-signals", "6.12 (ABI 6)", "the workload can send signals to pid 1, which ignores or forwards them"),
    ("timens", "5.6", "the host's uptime is visible"),
    ("mount_setattr", "5.12", "mounts are restricted one by one (remount.py); a root caller's sources aren't mapped to their "
                              "owner: --rw is refused, and what isn't for everybody to read; no --overlay"),
    ("close_range", "5.11 (CLOSE_RANGE_CLOEXEC)", "nothing: each inherited descriptor is marked"),
    ("openat2", "5.6", "nothing: `rootfs` walks one component at a time, without following links"),
    ("into-cgroup", "5.7", "nothing: the child is moved into its group before it does anything"),
)


#: Of the system calls, those that a run has a way round for.
WAYS_ROUND = ("mount_setattr", "close_range")
#: What a kernel without Landlock says: not built in; not in its lsm= list.
ENOSYS, EOPNOTSUPP = 38, 95
#: What clone3 says where it does not know CLONE_INTO_CGROUP: EINVAL, E2BIG.
NO_INTO_CGROUP = (22, 7)


def _is_there(path):
    """Only ENOENT says that the kernel does not have it; anything else will show where it is used."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    except OSError:
        pass
    return True


class Features:
    """landlock_abi: int, 0 for none; landlock_off: built in, but not in the lsm= list; landlock_refused: the errno with which
    something else keeps it from us, or None; timens, mount_setattr, cloexec_range: bool."""

    __slots__ = ("landlock_abi", "landlock_off", "landlock_refused", "timens", "mount_setattr", "cloexec_range")

    def __init__(self):
        self.landlock_abi, self.landlock_off, self.landlock_refused = 0, False, None
        try:
            self.landlock_abi = landlock.version()
        except OSError as error:
            self.landlock_off = error.errno == EOPNOTSUPP
            if error.errno not in (ENOSYS, EOPNOTSUPP):
                self.landlock_refused = error.errno
        self.timens = _is_there("/proc/self/ns/time")
        self.mount_setattr, self.cloexec_range = mount.has_setattr(), process.has_cloexec_range()

    def remount(self):
        """The module that stands in for mount_setattr, or None."""
        if self.mount_setattr:
            return None
        from . import remount
        return remount

    def lacks(self, control):
        """A phrase where this kernel lacks the control, else None."""
        if self.landlock_refused is not None and control in ("landlock", "landlock-signals"):
            return None
        missing = {"landlock": self.landlock_abi < 2, "landlock-signals": self.landlock_abi < 6,
                   "timens": not self.timens}
        if missing.get(control):
            if self.landlock_off and control != "timens":
                return "this kernel does not have it: Landlock is not in its lsm= list"
            since = [row[1] for row in TABLE if row[0] == control][0]
            return "this kernel does not have it: Linux %s" % since
        return None

    def refused(self, control):
        """A phrase where the kernel may have the control and something keeps it from us, else None."""
        if self.landlock_refused is None or control not in ("landlock", "landlock-signals"):
            return None
        return "landlock_create_ruleset: %s: an outer filter (a container?) forbids it" % os.strerror(self.landlock_refused)


def has_openat2():
    """Whether openat2(2) is there: it may be older than the kernel, or hidden by an outer filter.  Looked up once."""
    if not _OPENAT2:
        try:
            os.close(mount.open_in_root(-100, b"/", resolve=0))  # -100: AT_FDCWD
            _OPENAT2.append(True)
        except OSError:
            _OPENAT2.append(False)
    return _OPENAT2[0]


_OPENAT2 = []
