# SPDX-License-Identifier: Apache-2.0
"""What a set-up that failed in the child, or an exec that the kernel refused, is called."""
from ..syscalls.system import os
from .errors import NOT_EXECUTABLE, NOT_FOUND, USAGE, SandboxError

EAGAIN, EMFILE = 11, 24
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
        return SandboxError("exec", what, number or None, reason="", remedy=not_started(status, number), status=status)
    from . import remedies
    from .door import option
    cause, words = remedies.child_cause(stage, what, number)
    remedy = "allow it more files with %s" % option("rlimit", "nofile=N") if number == EMFILE else remedies.line(cause, **words)
    if stage == "directory" and plan.spec.chdir is not None:
        return SandboxError("directory", option("chdir", os.fsdecode(plan.cwd)), number, status=USAGE,
                            remedy="the directory must exist inside; %s makes one" % option("tmpfs"))
    return SandboxError(stage, what, number or None, reason=text or None, remedy=remedy,
                        control=STAGE_CONTROLS.get(stage), status=status)


def exec_error(number, name):
    """The SandboxError for an errno with which the kernel refused to execute the workload."""
    status, text = NOT_EXECUTABLE, os.strerror(number)
    if number in (2, 20):
        status, text = NOT_FOUND, "not found inside"
    elif number == 7:
        status, text = USAGE, "the arguments and the environment are too long together"
    elif number == 8:
        text = "not a program and not a script with a #! line"
    remedy = not_started(status, number)
    if number == 8:
        from .door import library
        remedy = "a script without that line is given to its interpreter: " + ("['sh', FILE]" if library() else "-- sh FILE")
    return SandboxError("exec", "%s: %s" % (name.decode("utf-8", "surrogateescape"), text), number, reason="", remedy=remedy,
                        status=status)


def not_started(status, number):
    """The remedy for a program that was not executed, or None.  A command line gets one for its own files (commands/run)."""
    from .door import library, option
    if number == EAGAIN:
        return "allow it more processes with %s" % option("rlimit", "nproc=N")
    if status == NOT_FOUND and library():
        return "copy brings a file of the host in, as /box/NAME; ro a directory with what it needs, at its own place"
    return None
