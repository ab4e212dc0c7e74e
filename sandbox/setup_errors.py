# SPDX-License-Identifier: Apache-2.0
"""What a set-up that failed in the child, or an exec that the kernel refused, is called."""
from ..syscalls.system import os
from .errors import NOT_EXECUTABLE, NOT_FOUND, USAGE, SandboxError

STAGE_CONTROLS = {
    "cgroup namespace": "cgroupns",
    "identity": "uidmap", "time namespace": "timens", "parent death": "parent-death", "user namespace limit":
    "userns-limit", "propagation": "propagation", "sources": "mounts", "new root": "mounts", "file system": "mounts",
    "pivot_root": "mounts", "read-only places": "mounts", "root read-only": "root-ro", "host name": "hostname",
    "second user namespace": "userns-nested", "limits": "limits", "landlock rules": "landlock", "landlock": "landlock",
    "capabilities": "caps", "file identity": "uidmap", "rights": "caps",
    "no_new_privs": "nnp", "init": "seccomp"}


def child_error(packet, plan):
    """The SandboxError for an error packet of stages.report, of a child that was to set up this plan."""
    stage, number, what, text, status = packet[1:].decode("utf-8", "surrogateescape").split("\0")
    number, status = int(number), int(status)
    if stage == "exec":
        return SandboxError("exec", what, number or None, reason="", status=status)
    from . import remedies
    cause, words = remedies.child_cause(stage, what, number)
    remedy = remedies.line(cause, **words)
    from .door import option
    if stage == "directory" and plan.spec.chdir is not None:
        return SandboxError("directory", option("chdir", os.fsdecode(plan.cwd)), number, status=USAGE,
                            remedy="the directory must exist inside; %s makes one" % option("tmpfs"))
    return SandboxError(stage, what, number or None, reason=text or None, remedy=remedy,
                        control=STAGE_CONTROLS.get(stage), status=status)


def exec_error(number, name):
    """(status, phrase) for an errno with which the kernel refused to execute the workload."""
    shown = name.decode("utf-8", "surrogateescape")
    if number in (2, 20):
        return NOT_FOUND, "%s: not found inside" % shown
    if number == 8:
        return NOT_EXECUTABLE, "%s: not a program and not a script with a #! line" % shown
    if number == 7:
        return USAGE, "%s: the arguments and the environment are too long together" % shown
    return NOT_EXECUTABLE, "%s: %s" % (shown, os.strerror(number))
