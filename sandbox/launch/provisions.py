# SPDX-License-Identifier: Apache-2.0
"""Takes what a run needs before its child exists: sources, a host id, blocked signals.

Everything taken is written down in a Held at the moment it is taken.  So whatever fails next, all
of it is given back.
"""
import os
import time

from ...syscalls import libc, process
from . import idmap
from .child import write_file
from .. import init
from ..errors import ENOSYS, remedies, SandboxError, stage
from ..proc import read
from ..tree import sockets

#: The score of what is killed before everything else for memory.  proc_pid_oom_score_adj(5)
KILLED_FIRST = 1000


class Held:
    """Holds the clean-up steps of a run, carried out in reverse order.

    late: list that gets the descriptors to be closed after the result was told, or None.
    """

    __slots__ = ("steps", "late")

    def __init__(self):
        self.steps, self.late = [], None

    def add(self, function, *arguments):
        """Writes a step down: a function and its arguments."""
        self.steps.append((function, arguments))

    def keep(self, fd):
        """Writes down that a descriptor is to be closed; returns it."""
        self.add(os.close, fd)
        return fd

    def drop(self, function, *arguments):
        """Forgets a step."""
        self.steps.remove((function, arguments))

    def release(self):
        """Carries out every step, whatever the others did.

        Raises nothing of a step's own; but a signal that is let through again may raise.
        """
        interrupted = None
        while self.steps:
            function, arguments = self.steps.pop()
            if function is os.close and self.late is not None:
                self.late.append(arguments[0])
                continue
            try:
                function(*arguments)
            except BaseException as error:  # every other step is tried all the same
                if not isinstance(error, Exception):
                    interrupted = error
        if interrupted is not None:
            raise interrupted


def host_id(plan, held):
    """Takes (uid, gid) of the host for a plan's program.  Raises SandboxError."""
    if not plan.root:
        return plan.caller
    taken = idmap.HostId(plan.id_ranges)
    held.add(taken.release)
    return taken.number, taken.number


def open_copies(plan, held):
    """Opens what is to be copied in: {Source: fd}.  Raises SandboxError."""
    copies = {}
    for op in plan.operations:
        if op.source is not None and not op.is_mount:
            with stage("copy", "open"):
                copies[op.source] = held.keep(op.source.open(os.O_RDONLY | os.O_NONBLOCK))
    return copies


def open_trees(plan, features, identity, held):
    """Opens the user's sources: {(kind, dst): fd}.  Raises SandboxError.

    A privileged caller's are opened with its rights, mapped to their owner and locked.  Any other
    caller's are taken by the child, as is everybody's where mounts can't be detached.
    """
    trees, known = {}, {}
    with stage("sources"):
        sockets.refuse(plan.system_trees())
    try:
        for op in plan.operations:
            if op.source is None or not op.is_mount:
                continue
            from ..tree.sources import idmapped_tree, refuse_sockets, refuse_unmapped, \
                unmapped_tree
            with stage("sources"):
                if op.user:
                    refuse_sockets(op.source)
                if plan.root and not features.mount_api:
                    refuse_unmapped(op, features)
                elif plan.root:
                    if plan.tier.userns and features.mount_setattr:
                        tree = idmapped_tree(op, identity, known)
                    else:
                        tree = unmapped_tree(op, features)
                    trees[op] = held.keep(tree)
    finally:
        for fd in known.values():
            os.close(fd)
    return trees


def uppers(plan, features):
    """Makes what mounts the overlays of a plan in the child, or None.  Raises SandboxError."""
    if not plan.spec.overlay:
        return None
    if not features.mount_setattr:
        raise SandboxError("overlay", "mount_setattr", ENOSYS, control="mounts",
                           remedy=remedies().line("overlay"))
    from ..tree.overlay import Uppers
    return Uppers()


def take_signals(held):
    """Blocks every signal, so that none is lost before init listens.

    Returns (descriptor to read them from, [number] of those that this process ignores).
    """
    signals = libc.signals
    ignored = ignored_signals()
    before = signals.pthread_sigmask(signals.SIG_BLOCK, libc.SIGNALS)
    held.add(signals.pthread_sigmask, signals.SIG_SETMASK, before)
    # Some callers ignore it: then nobody could be waited for, and no usage would be known.
    signals.signal(signals.SIGCHLD, signals.SIG_DFL)
    watched = [number for number in init.WATCHED if number not in ignored]
    return held.keep(process.signal_descriptor(watched)), ignored


def boot_offsets():
    """Returns offsets (bytes) that let a time namespace's clocks start near zero.

    time_namespaces(7)
    """
    monotonic = time.clock_gettime(1)  # CLOCK_MONOTONIC
    boot = time.clock_gettime(7)  # CLOCK_BOOTTIME
    return b"monotonic -%d 0\nboottime -%d 0\n" % (int(monotonic), int(boot))


def ignored_signals():
    """Returns the numbers of the signals that this process ignores.

    Python ignores SIGPIPE and SIGXFSZ itself, nohup SIGHUP.
    """
    status = read("/proc/self/status")
    mask = int(status.partition(b"\nSigIgn:")[2].split(None, 1)[0], 16)
    return [number for number in range(1, 65) if mask >> (number - 1) & 1]


def first_to_be_killed(pid):
    """Makes the child, and all that comes from it, the first that the kernel kills for memory.

    Raising the score needs no right.  With CAP_SYS_RESOURCE the writer also sets the lowest score
    that the child may write (fs/proc/base.c, __set_oom_adj).  Without it, the sandbox's read-only
    /proc keeps the score.  Raises SandboxError.
    """
    try:
        write_file("/proc/%d/oom_score_adj" % pid, b"%d" % KILLED_FIRST)
    except OSError as error:
        raise SandboxError("limits", "oom_score_adj", error.errno, control="limits.oom",
                           remedy=remedies().line("ids-effective")
                           if remedies().ids_effective(error.errno) else None)


def allow_core_limit():
    """Raises the supervisor's hard RLIMIT_CORE from 0 to 1 where that is allowed.

    The child can't.  The gate says whether the limit holds.
    """
    if process.get_limit("core")[1] == 0:
        try:
            process.set_limit("core", 0, 1)
        except OSError:
            pass
