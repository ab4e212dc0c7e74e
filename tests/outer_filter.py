# SPDX-License-Identifier: Apache-2.0
"""An outer seccomp filter round a start of mrunc: what an older kernel, a container runtime or another sandbox would answer."""
import os
import struct

FILTER = r"""
import os, sys
sys.path.insert(0, %r)
import mrunc
from mrunc.syscalls import process, seccomp
process.set_no_new_privs()
seccomp.attach(seccomp.prepare(bytes.fromhex(sys.argv[1])))
os.execv(sys.argv[2], sys.argv[2:])
"""
EPERM, EACCES, EINVAL, EBUSY, ENOSPC, ENOSYS, EUSERS, EOPNOTSUPP = (0x50000 | n for n in (1, 13, 22, 16, 28, 38, 87, 95))
KILL = 0x80000000
HAS = 0x45
MOUNT_API = ("open_tree", "move_mount", "fsopen", "fsconfig", "fsmount")
#: What older kernels (and filters of container runtimes: EPERM) answer.
NO_PIDFD = [("pidfd_open", ENOSYS), ("pidfd_send_signal", ENOSYS), ("clone", 0, 0x1000, EINVAL, HAS)]  # CLONE_PIDFD
HIDDEN = {
    "clone3": [("clone3", ENOSYS)],
    "openat2": [("openat2", ENOSYS)],
    "pidfd_open": [("pidfd_open", ENOSYS)],
    "pidfd_send_signal": [("pidfd_send_signal", ENOSYS)],
    "any pidfd": [("clone3", ENOSYS)] + NO_PIDFD,
    "mount_setattr": [("mount_setattr", ENOSYS)],
    "mount_setattr forbidden": [("mount_setattr", EPERM)],
    **{call: [(call, ENOSYS)] for call in MOUNT_API},
    "mount API": [(call, ENOSYS) for call in MOUNT_API],
    "mount API forbidden": [(call, EPERM) for call in MOUNT_API],
    "close_range": [("close_range", ENOSYS)],
    "CLOSE_RANGE_CLOEXEC": [("close_range", 2, 4, EINVAL)],
    "all of them": [(call, ENOSYS) for call in (*MOUNT_API, "mount_setattr", "close_range", "clone3", "openat2")]
    + NO_PIDFD,
}
#: RHEL 8's: no Landlock either, and no listener for a filter.
HIDDEN["Linux 4.18"] = HIDDEN["all of them"] + [("landlock_create_ruleset", ENOSYS), ("seccomp", 1, 8, EINVAL, HAS),
                                                ("seccomp", 0, 3, EINVAL)]


def behind(inside, *rules):
    """A wrap with an outer seccomp filter.  rules: of `program`."""
    from conftest import PYTHON
    return [PYTHON, "-I", "-S", "-c", FILTER % os.path.dirname(inside.tool), program(rules).hex()]


def go_behind(*rules):
    """Puts this process behind such a filter, for good, and all that it starts."""
    from mrunc.syscalls import process, seccomp
    os.environ["LIBMOUNT_FORCE_MOUNT2"] = "always"  # mount(8) takes all of the newer API or none
    process.set_no_new_privs()
    seccomp.attach(seccomp.prepare(program(rules)))


def program(rules):
    """The filter's bytes.  rules: (call, answer), (call, argument, value, answer), or the latter with HAS: for each argument
    with a bit of the value."""
    import mrunc  # noqa: F401 - gives its parts their names
    from mrunc.syscalls.libc import number
    rows = []
    for rule in rules:
        call, argument, value, action, test = (rule[0], None, 0, rule[1], 0) if len(rule) == 2 else (*rule, 0x15)[:5]
        rows += [(0x20, 0, 0, 0), (0x15, 0, 1 if argument is None else 3, number(call))]
        if argument is not None:
            rows += [(0x20, 0, 0, 16 + 8 * argument), (test, 0, 1, value)]
        rows.append((0x06, 0, 0, action))
    rows.append((0x06, 0, 0, 0x7fff0000))
    return b"".join(struct.pack("=HBBI", *row) for row in rows)


def hidden(*arguments):
    """In place of a bound system call: it is not there."""
    raise OSError(38, os.strerror(38))
