# SPDX-License-Identifier: Apache-2.0
"""Writes what only the supervisor can write for its child: id maps, out-of-memory score."""
import os

from ...syscalls import process
from ..errors import remedies, SandboxError
from .child import write_file

#: Killed before everything else when memory runs out.  proc_pid_oom_score_adj(5)
FIRST = 1000


def id_maps(pid, plan, host_uid, host_gid):
    """Writes the maps of the child's user namespace.

    Returns the link of that namespace.  Raises SandboxError.
    """
    base = "/proc/%d/" % pid
    try:
        namespace = os.readlink(base + "ns/user")
        # Root leaves setgroups allowed, so that the child can drop the caller's groups.
        if not plan.root:
            write_file(base + "setgroups", b"deny")
        write_file(base + "uid_map", b"%d %d 1" % (plan.uid, host_uid))
        write_file(base + "gid_map", b"%d %d 1" % (plan.gid, host_gid))
    except OSError as error:
        raise SandboxError("identity", "writing the id maps", error.errno, control="uidmap",
                           remedy=remedies().line(remedies().capabilities_cause(error.errno)))
    return namespace


def first_to_be_killed(pid):
    """Makes the child, and all that comes from it, the first that the kernel kills for memory.

    Raising the score needs no right.  With CAP_SYS_RESOURCE the writer also sets the lowest score
    that the child may write (fs/proc/base.c, __set_oom_adj).  Without it, the sandbox's read-only
    /proc keeps the score.  Raises SandboxError.
    """
    try:
        write_file("/proc/%d/oom_score_adj" % pid, b"%d" % FIRST)
    except OSError as error:
        raise SandboxError("limits", "oom_score_adj", error.errno, control="limits.oom", remedy=remedies().line(
            "ids-effective" if remedies().ids_effective(error.errno) else None))


def allow_core_limit():
    """Raises the supervisor's hard RLIMIT_CORE from 0 to 1 where that is allowed.

    The child can't.  The gate says whether the limit holds.
    """
    if process.get_limit("core")[1] == 0:
        try:
            process.set_limit("core", 0, 1)
        except OSError:
            pass
