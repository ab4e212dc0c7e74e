# SPDX-License-Identifier: Apache-2.0
"""Defines the request: every option with its default, checked before anything happens.

Nothing here touches the host. The plan checks what depends on it, such as whether a source exists.
"""
import os

from .. import units
from ..errors import nearest, show, usage
from . import values

#: Seconds between the request to end and SIGKILL.
GRACE = 0.5


class Spec:
    """A checked request.

    Paths and strings for the kernel are bytes, sizes are bytes, times are seconds.

    argv: the program and its arguments.
    ro, rw: [(source, destination)].
    copy: [(source, destination)].
    here, tty, follow_links, changes, harden: bool.
    tmpfs: [(destination, size)].
    chdir, hostname, rootfs, export: bytes or None.
    env: {name: value}.
    user: (uid, gid) or None.
    cap_add: frozenset of capability numbers.
    rlimit: {name: (soft, hard)}.
    timeout, cpu_time: None for no limit.
    grace: time between the request to end and SIGKILL.
    max_output: of stdout and stderr together, or None.
    proc: "pid", "full" or "none".
    overlay: [place inside], / for the whole tree.
    writable: [(place inside, size)].
    seccomp: a policy's name or path, as text.
    seccomp_add: [`NAME[: CONDITION]`].
    seccomp_action: "errno", "kill" or None.
    tier: names; the first that this host can run is taken.
    unsafe_without, best_effort, require: frozensets of control names.
    memory: or None.
    cpus: number of processors, or None.
    pids: number of processes, or None.
    io_read, io_write: [(device or None, bytes per second)].
    ledger: True, False or "if-possible" (a policy may prevent it).
    samples: whether the use is sampled while it runs.
    trace: frozenset of recorded events: "exec".
    learn: "record" or "verify", of `policy learn` alone; else None.
    """

    __slots__ = ("argv", "ro", "rw", "copy", "here", "tmpfs", "chdir", "env", "hostname", "user",
                 "cap_add", "rlimit", "rootfs", "timeout", "cpu_time", "grace", "max_output",
                 "proc", "harden", "writable", "overlay", "changes", "export", "tty", "seccomp",
                 "seccomp_add", "tier", "unsafe_without", "memory", "cpus", "pids", "io_read",
                 "io_write", "best_effort", "require", "ledger", "seccomp_action", "samples",
                 "trace", "learn", "follow_links")

    def __init__(self, argv, ro=(), rw=(), copy=(), here=False, tmpfs=(), chdir=None, env=None,
                 hostname=None, user=None, cap_add=(), rlimit=(), rootfs=None, timeout=None,
                 cpu_time=None, grace=GRACE, max_output=None, proc=None, harden=False, writable=(),
                 overlay=(), changes=False, export=None, tty=False, seccomp=None, seccomp_add=(),
                 tier=(), unsafe_without=(), memory=None, cpus=None, pids=None, io_read=(),
                 io_write=(), best_effort=(), require=(), ledger=False, seccomp_action=None,
                 samples=False, trace=(), follow_links=False, environ=None):
        """Takes options as on the command line, as text or as Python values.

        argv: None if `begin` names the program later.
        environ: the caller's environment, for `--env NAME` and TERM.

        Raises SandboxError (exit 2).
        """
        environ = os.environ if environ is None else environ
        optional = values.optional
        self.argv = [] if argv is None else values.command(argv)
        self.ro = values.each(values.bind, ro, "ro")
        self.rw = values.each(values.bind, rw, "rw")
        self.copy = values.each(values.copy, copy, "copy")
        self.here = values.switch(here, "here")
        self.follow_links = values.switch(follow_links, "follow_links")
        self.tmpfs = values.each(values.tmpfs, tmpfs, "tmpfs")
        self.rootfs = optional(values.as_bytes, rootfs, "rootfs")
        self.overlay = values.overlay(overlay)
        self.harden = values.switch(harden, "harden")
        self.writable = values.each(values.tmpfs, writable, "writable")
        self.changes = values.switch(changes, "changes")
        self.export = optional(values.export, export, "export")
        self.chdir = optional(values.inside, chdir, "chdir")
        self.hostname = optional(values.hostname, hostname, "hostname")
        self.user = optional(values.user, user, "user")
        self.cap_add = frozenset(values.each(values.capability, cap_add, "cap_add"))
        if isinstance(rlimit, dict):
            rlimit = list(rlimit.items())
        self.rlimit = dict(values.each(values.rlimit, rlimit, "rlimit"))
        self.timeout = optional(units.duration, timeout, "timeout")
        self.cpu_time = optional(units.duration, cpu_time, "cpu_time")
        self.grace = units.duration(grace, "grace", zero=True)
        self.max_output = optional(units.size, max_output, "max_output")
        self.memory = optional(values.memory, memory, "memory")
        self.cpus = optional(values.cpus, cpus, "cpus")
        self.pids = optional(values.pids, pids, "pids")
        self.io_read = values.rates(io_read, "io_read")
        self.io_write = values.rates(io_write, "io_write")
        self.proc = values.choice(proc, ("full", "none"), "proc") or "pid"
        self.tty = values.switch(tty, "tty")
        self.seccomp = "default" if seccomp is None else values.policy(seccomp)
        self.seccomp_add = values.each(values.addition, seccomp_add, "seccomp_add")
        self.seccomp_action = values.choice(seccomp_action, ("errno", "kill"), "seccomp_action")
        self.tier = values.tiers(tier)
        self.unsafe_without = frozenset(values.left_out(unsafe_without))
        self.best_effort = frozenset(values.controls(best_effort, "best_effort"))
        self.require = frozenset(values.controls(require, "require"))
        self.ledger = ledger if ledger == "if-possible" else values.switch(ledger, "ledger")
        self.trace = frozenset(values.choice(word, ("exec",), "trace")
                               for word in values.listed(trace, "trace"))
        self.samples = values.switch(samples, "samples")
        self.learn = None  # or "record", "verify": of `policy learn` alone
        self.env = values.environment(env, environ, self.home)
        self._check_together(seccomp)
        if self.harden:
            self.seccomp = values.HARDENED_POLICY
            self.seccomp_action = self.seccomp_action or "kill"

    def _check_together(self, seccomp):
        """Refuses options that contradict each other.  Raises SandboxError (exit 2)."""
        if "seccomp" in self.unsafe_without and (seccomp is not None or self.seccomp_add):
            name = "seccomp" if seccomp is not None else "seccomp_add"
            raise values.mistake("unsafe_without", "seccomp", "contradicts " + values.named(name))
        if "hostname" in self.unsafe_without and self.hostname is not None:
            raise values.mistake("unsafe_without", "hostname",
                                 "contradicts " + values.named("hostname"))
        places = [destination for _, destination in self.ro + self.rw]
        places += [destination for destination, _ in self.tmpfs + self.writable]
        if self.here:
            places.append(b"/box")
        for place in places:
            if places.count(place) > 1:
                raise usage(show(place), "named twice as a destination")
        values.check_controls(self)
        values.check_hardening(self, seccomp)

    def again(self, argv):
        """Returns the same request for another program.  Raises SandboxError (exit 2).

        argv: as of the constructor.
        """
        other = Spec.__new__(Spec)
        for name in Spec.__slots__:
            setattr(other, name, getattr(self, name))
        other.argv = [] if argv is None else values.command(argv)
        return other

    def begin(self, argv, env, timeout, environ):
        """Gives a warm sandbox its program.  Arguments as of the constructor.

        Returns the variables that it adds to the environment, {name: value} in bytes. Raises
        SandboxError (exit 2).
        """
        self.argv = values.command(argv)
        if timeout is not None:
            self.timeout = units.duration(timeout, "timeout")
        return dict(values.variables(env, environ)) if env else {}

    @property
    def wants_group(self):
        """Returns whether a limit was asked for that a control group enforces."""
        return (self.memory, self.cpus,
                self.pids) != (None, None, None) or bool(self.io_read or self.io_write)

    @property
    def home(self):
        """Returns the home directory inside."""
        return b"/root" if self.user is None or self.user[0] == 0 else b"/home/user"


#: The names of the library's options.
NAMES = Spec.__init__.__code__.co_varnames[2:Spec.__init__.__code__.co_argcount - 1]


def known(options):
    """Refuses names of unknown options.  Raises SandboxError (exit 2)."""
    unknown = sorted(set(options).difference(NAMES))
    if unknown:
        raise usage("unknown option %s%s" % (unknown[0], nearest(unknown[0], NAMES)),
                    remedy="help(mrunc.run) lists them")
