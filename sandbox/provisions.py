# SPDX-License-Identifier: Apache-2.0
"""What a run needs before its child exists: descriptors, copies, mapped sources, a host id, blocked signals.

Everything taken is written down in `undo` at the moment it is taken, so whatever fails next, all of it is given back.
"""
import time

from ..syscalls.system import os
from ..syscalls import landlock, libc, process
from . import idmap
from .errors import ENOSYS, SandboxError, step
from .host import whole

FORWARDED = (1, 2, 3, 10, 12, 15)  # HUP INT QUIT USR1 USR2 TERM
SIGWINCH, SIGTSTP = 28, 20
#: SIGTSTP is taken and dropped: stopping the supervisor would stop neither the program nor its deadline.
WATCHED = FORWARDED + (SIGWINCH, SIGTSTP)


class Provisions:
    """The part of a run that comes before clone3.  plan: Plan; features: Features; undo: [(function, arguments)], last
    first; stdio: where the caller's stdin, stdout and stderr are once the child has been made; until then they are 0, 1, 2."""

    stdio = (0, 1, 2)

    def __init__(self, plan, features):
        self.plan, self.features = plan, features
        self.undo = [(plan.release, ())]
        self.identity = plan.caller
        self.signals, self.stdin, self.ignored = -1, -1, []
        self.budget = self.output = self.reaper = self.aftermath = None

    def _keep(self, fd):
        self.undo.append((os.close, (fd,)))
        return fd

    def _close_now(self, fd):
        self.undo.remove((os.close, (fd,)))
        os.close(fd)

    def _private_stdin(self):
        """The read end for the workload, -1 where it may hold the caller's stdin itself."""
        if self.plan.spec.tty or not needs_feed(self.plan.root, self.stdio[0]):
            return -1
        read, self.stdin = os.pipe()
        self._keep(self.stdin)
        return self._keep(read)

    def _carried_output(self):
        """{fd: pipe end} for the workload's 1 and 2 where --max-output counts what they get; a pty is counted as it is."""
        if self.plan.spec.max_output is None:
            return {}
        from . import carry
        self.budget = carry.Budget(self.plan.spec.max_output)
        if self.plan.spec.tty:
            return {}
        self.output = step("output", carry.Output, self.budget, self.stdio)
        self.undo.append((self.output.abandon, ()))
        return dict(self.output.theirs)

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
        from . import gate, host_tree
        from .private import PrivateDirectory
        from .reaper import Reaper
        plan = self.plan
        host_tree.refuse_datagrams()
        private = PrivateDirectory(os.path.dirname(plan.home), self.identity, plan.id_ranges or [(plan.caller[0], 1)])
        self.private = private
        self.undo.append((private.remove, ()))
        host_tree.settle(plan, private.path)
        for op in plan.operations:
            private.copy(op.dst, copies[op.options["source"]])
        if not plan.left_out("sweep"):
            self.reaper = Reaper((gate.own_filters() or 0) + len(plan.filters), self.features.landlock_abi >= 6)
            self.undo.append((self.reaper.release, ()))

    def _open_trees(self):
        """The user's sources.  A privileged caller's are opened with its rights, mapped to their owner and locked; any
        other caller's are taken by the child, as is everybody's where mounts can't be detached."""
        trees, known = {}, {}
        from . import host_sockets
        step("sources", host_sockets.refuse, self.plan.system_trees())
        try:
            for op in self.plan.operations:
                system = op.options.get("system")
                if op.kind in ("bind", "overlay") and (op.options["user"] or system):
                    from .sources import idmapped_tree, refuse_sockets, refuse_unmapped, unmapped_tree
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
            from .aftermath import Aftermath
            self.aftermath = Aftermath(self.plan)
            self.undo.append((self.aftermath.discard, ()))

    def _overlays(self):
        if not self.plan.spec.overlay:
            return None
        if not self.features.mount_setattr:
            from .remedies import line
            raise SandboxError("overlay", "mount_setattr", ENOSYS, control="mounts", remedy=line("overlay"))
        from .overlay import Uppers
        return Uppers()


def needs_feed(root, stdin=0):
    """Whether the workload must not hold this stdin itself (feed.py).  root: the sandbox runs under an id of its own."""
    try:
        return not root and os.fstat(stdin).st_mode & 0o170000 == 0o010000
    except OSError:
        return False


def boot_offsets():
    """What makes the clocks of a time namespace start near zero.  time_namespaces(7)"""
    monotonic = time.clock_gettime(1)  # CLOCK_MONOTONIC
    boot = time.clock_gettime(7)  # CLOCK_BOOTTIME
    return b"monotonic -%d 0\nboottime -%d 0\n" % (int(monotonic), int(boot))


def ignored_signals():
    """The numbers of the signals that this process ignores: Python's SIGPIPE and SIGXFSZ, nohup's SIGHUP, ..."""
    mask = int(whole("/proc/self/status").partition(b"\nSigIgn:")[2].split(None, 1)[0], 16)
    return [number for number in range(1, 65) if mask >> (number - 1) & 1]


def stdio_rights(carried):
    """[(fd, Landlock rights)] for 0, 1, 2 that are not carried and where they are files or terminals: opening /dev/stderr
    gives no more than the descriptor already does.  Pipes and sockets need no rule."""
    import fcntl
    out = []
    for fd in set((0, 1, 2)) - set(carried):
        try:
            mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
            kind = os.fstat(fd).st_mode & 0o170000
        except OSError:
            continue
        if kind in (0o100000, 0o020000):
            out.append((fd, (0 if mode == os.O_WRONLY else landlock.READ_FILE) |
                        (0 if mode == os.O_RDONLY else landlock.WRITE_FILE)))
    return out
