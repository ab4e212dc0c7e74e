# SPDX-License-Identifier: Apache-2.0
"""Makes errors of a set-up that failed in the child, and of an exec that the kernel refused."""
import os

from ...syscalls import process
from . import child
from .. import vantage
from ..caller import library, option
from ..errors import ENOSYS, NOT_EXECUTABLE, NOT_FOUND, remedies, SandboxError, show, USAGE

EPERM, ENOENT, EAGAIN, EACCES, ENODEV, EMFILE, ENOSPC, EROFS = 1, 2, 11, 13, 19, 24, 28, 30
EOPNOTSUPP = 95


def child_error(packet, plan):
    """Returns the SandboxError for an error packet of child.report.

    plan: what that child was to set up.
    """
    stage, number, what, text, status = show(packet[1:]).split("\0")
    number, status = int(number), int(status)
    if stage == "exec":
        return SandboxError("exec", what, number or None, reason="", status=status,
                            remedy=not_started(status, number))
    step = child.STAGES.get(stage)
    cause, words = child_cause(step, what, number)
    remedy = remedies().line(cause, **words)
    if number == EMFILE:
        remedy = "allow it more files with %s" % option("rlimit", "nofile=N")
    if step is child.directory and plan.spec.chdir is not None:
        return SandboxError(stage, option("chdir", os.fsdecode(plan.cwd)), number, status=USAGE,
                            remedy="the directory must exist inside; %s makes one" %
                                   option("tmpfs"))
    return SandboxError(stage, what, number or None, reason=text or None, remedy=remedy,
                        control=step and step.control, status=status)


def child_cause(step, what, number):
    """Returns (cause of remedies.py or None, words) for a step of the child that failed.

    step: of child.STAGES, or None before the first one; what: a path or a call; number: the errno.
    """
    if step is child.populate:
        if what == "/proc" and number == EPERM:
            return "proc-masked", {}
        if number in (ENODEV, EOPNOTSUPP):
            return "overlay", {}
        if number == ENOSPC:
            return "no-space", {}
    if step is child.open_sources and number == EACCES and what:
        return "unreachable", {}
    if step is child.userns_limit and number in (ENOENT, EROFS):
        return "proc-sys", {}
    if number == ENOSYS:
        return "kernel-old", {}
    if number == process.ETOOMANYREFS:
        return "in-flight", {}
    if step in (child.time_namespace, child.nested_userns) and number == ENOSPC:
        return remedies().namespace_cause(number)
    if step is child.nested_userns and number == EPERM and \
            vantage.sysctl("kernel.unprivileged_userns_clone") == "0":
        return remedies().namespace_cause(number)
    if step is not None and step.needs_capabilities and number in (EPERM, EACCES):
        return remedies().capabilities_cause(), {}
    return None, {}


def exec_error(number, name):
    """Returns the SandboxError for an errno of the program's execve(2)."""
    status, text = NOT_EXECUTABLE, os.strerror(number)
    if number in (2, 20):
        status, text = NOT_FOUND, "not found inside"
    elif number == 7:
        status, text = USAGE, "the arguments and the environment are too long together"
    elif number == 8:
        text = "not a program and not a script with a #! line"
    remedy = not_started(status, number)
    if number == 8:
        remedy = "a script without that line is given to its interpreter: " + (
            "['sh', FILE]" if library() else "-- sh FILE")
    return SandboxError("exec", "%s: %s" % (show(name), text), number, reason="", remedy=remedy,
                        status=status)


def not_started(status, number):
    """Returns the remedy for a program that was not executed, or None.

    A command line gets one for its own files (commands/run).
    """
    if number == EAGAIN:
        return "allow it more processes with %s" % option("rlimit", "nproc=N")
    if status == NOT_FOUND and library():
        return "copy brings a file of the host in, as /box/NAME; ro a directory with what it " \
               "needs, at its own place"
    return None
