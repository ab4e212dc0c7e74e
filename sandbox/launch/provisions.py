# SPDX-License-Identifier: Apache-2.0
"""What a run needs before its child exists: descriptors, copies, mapped sources, a host id, blocked signals.

Everything taken is written down in `undo` at the moment it is taken, so whatever fails next, all of it is given back.
"""
import os
import time

from ...syscalls import libc, process
from . import idmap
from ..errors import ENOSYS, SandboxError, step
from ..host.facts import whole
from ..running.stdio import Stdio

FORWARDED = (1, 2, 3, 10, 12, 15)  # HUP INT QUIT USR1 USR2 TERM
SIGWINCH, SIGTSTP, SIGCONT, SIGSTOP = 28, 20, 18, 19
WATCHED = FORWARDED + (SIGWINCH, SIGTSTP, SIGCONT)


class Provisions:
    """The part of a run that comes before clone3.  plan: Plan; features: Features; undo: [(function, arguments)], last
    first; stdio: where the caller's stdin, stdout and stderr are; own_pipes: which of them were made for this run alone;
    places: stdio.Stdio, what the workload gets instead, or None where that comes later."""

    stdio, own_pipes, places = (0, 1, 2), (), None

    def __init__(self, plan, features):
        self.plan, self.features = plan, features
        self.undo = [(plan.release, ())]
        self.identity = plan.caller
        self.signals, self.ignored = -1, []
        self.reaper = self.aftermath = None

    def _keep(self, fd):
        self.undo.append((os.close, (fd,)))
        return fd

    def _close_now(self, fd):
        self.undo.remove((os.close, (fd,)))
        os.close(fd)

    def _take_places(self):
        """Makes what takes the places of the caller's 0, 1 and 2."""
        spec = self.plan.spec
        self.places = step("descriptors", Stdio, self.stdio, self.own_pipes, spec.tty, spec.max_output,
                           self.identity if self.plan.root else None)
        self.undo.append((self.places.abandon, ()))

    def _host_id(self):
        if not self.plan.root:
            return self.plan.caller
        taken = idmap.HostId(self.plan.id_ranges)
        self.undo.append((taken.release, ()))
        return taken.number, taken.number

    def _open_copies(self):
        copies = {}
        for op in self.plan.operations:
            if op.kind == "copy":
                source = op.options["source"]
                copies[source] = self._keep(step("copy", source.open, os.O_RDONLY | os.O_NONBLOCK))
        return copies

    def _private_directory(self, copies):
        """What the process tier has instead of a tree; and instead of a pid namespace, a reaper."""
        from . import gate
        from ..tree import process_tier
        from .private import PrivateDirectory
        from ..running.reaper import Reaper
        plan = self.plan
        private = PrivateDirectory(os.path.dirname(plan.home), self.identity, plan.id_ranges or [(plan.caller[0], 1)])
        self.private = private
        self.undo.append((private.remove, ()))
        process_tier.settle(plan, private.path)
        for op in plan.operations:
            private.copy(op.dst, copies[op.options["source"]])
        if not plan.left_out("sweep"):
            self.reaper = Reaper((gate.own_filters() or 0) + len(plan.filters), self.features.landlock_abi >= 6)
            self.undo.append((self.reaper.release, ()))

    def _open_trees(self):
        """The user's sources.  A privileged caller's are opened with its rights, mapped to their owner and locked; any
        other caller's are taken by the child, as is everybody's where mounts can't be detached."""
        trees, known = {}, {}
        from ..tree import sockets
        step("sources", sockets.refuse, self.plan.system_trees())
        try:
            for op in self.plan.operations:
                system = op.options.get("system")
                if op.kind in ("bind", "overlay") and (op.options["user"] or system):
                    from ..tree.sources import idmapped_tree, refuse_sockets, refuse_unmapped, \
                        unmapped_tree
                    if not system:
                        step("sources", refuse_sockets, op.options["source"])
                    if self.plan.root and not self.features.mount_api:
                        step("sources", refuse_unmapped, op, self.features)
                    elif self.plan.root:
                        make = idmapped_tree if self.plan.tier.userns and self.features.mount_setattr else unmapped_tree
                        trees[op.kind, op.dst] = self._keep(step("sources", make, op, self.features, self.identity, known))
        finally:
            for fd in known.values():
                os.close(fd)
        return trees

    def _take_signals(self):
        """Blocks every signal: none is lost before init listens, and ours are read from a descriptor."""
        signals = libc.signals
        self.ignored = ignored_signals()
        before = signals.pthread_sigmask(signals.SIG_BLOCK, libc.SIGNALS)
        self.undo.append((signals.pthread_sigmask, (signals.SIG_SETMASK, before)))
        signals.signal(signals.SIGCHLD, signals.SIG_DFL)  # ignored by some callers: then the usage would be lost
        self.signals = self._keep(process.signal_descriptor([n for n in WATCHED if n not in self.ignored]))

    def _prepare_aftermath(self):
        if self.plan.watched:
            from ..changes.aftermath import Aftermath
            self.aftermath = Aftermath(self.plan)
            self.undo.append((self.aftermath.discard, ()))

    def _overlays(self):
        if not self.plan.spec.overlay:
            return None
        if not self.features.mount_setattr:
            from ..remedies import line
            raise SandboxError("overlay", "mount_setattr", ENOSYS, control="mounts", remedy=line("overlay"))
        from ..tree.overlay import Uppers
        return Uppers()


def boot_offsets():
    """What makes the clocks of a time namespace start near zero.  time_namespaces(7)"""
    monotonic = time.clock_gettime(1)  # CLOCK_MONOTONIC
    boot = time.clock_gettime(7)  # CLOCK_BOOTTIME
    return b"monotonic -%d 0\nboottime -%d 0\n" % (int(monotonic), int(boot))


def ignored_signals():
    """The numbers of the signals that this process ignores: Python's SIGPIPE and SIGXFSZ, nohup's SIGHUP, ..."""
    mask = int(whole("/proc/self/status").partition(b"\nSigIgn:")[2].split(None, 1)[0], 16)
    return [number for number in range(1, 65) if mask >> (number - 1) & 1]
