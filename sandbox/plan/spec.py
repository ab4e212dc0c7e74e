# SPDX-License-Identifier: Apache-2.0
"""What was asked for: every option with its default, checked whole before anything happens.

Nothing here touches the host; what depends on it (does a source exist?) is the plan's business.
"""
import os

from ..controls import CONTROLS
from ..errors import nearest, raw, show, usage
from ..tiers import NAMES as TIERS

GIB, MIB = 1 << 30, 1 << 20
#: The longest single argument or environment string that exec takes, with its NUL.  execve(2): MAX_ARG_STRLEN
LONGEST_STRING = 131072
RLIMITS = ("cpu fsize data stack core rss nproc nofile memlock as locks sigpending msgqueue nice rtprio "
           "rttime").split()
RLIMIT_INFINITY = (1 << 64) - 1
#: What goes with a control that is left out: sethostname would be the host's, and without no_new_privs a filter or a
#: Landlock domain takes a capability.
PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GRACE = 0.5
PLAIN_TERMS = ("xterm", "xterm-256color", "screen", "screen-256color", "tmux", "tmux-256color", "linux", "vt100", "vt220",
               "rxvt", "rxvt-unicode", "rxvt-unicode-256color", "dumb", "ansi", "alacritty", "xterm-kitty", "foot")


class Spec:
    """A checked request.  Paths and strings for the kernel are bytes; sizes are bytes, times are seconds.

    argv: list of bytes; ro, rw: (source, destination) pairs; copy: the same, destination None for /box/NAME;
    here, tty, follow_links: bool; tmpfs: (destination, size); chdir, hostname: bytes or None; env: dict of bytes; user:
    (uid, gid) or None; cap_add: set of capability numbers; rlimit: dict name -> (soft, hard); rootfs: the tree's path or
    None; timeout,
    cpu_time, grace: seconds or None; max_output: bytes or None; proc: "pid", "full" or "none"; changes,
    harden: bool; export: path or None; overlay: list of places inside, / for the whole tree; writable: (place inside, size)
    pairs; seccomp: a policy's name or a path, as
    text; seccomp_add: list of `NAME[: CONDITION]`;
    tier: tuple of tier names, the first that this host can run is taken; unsafe_without: frozenset of control names;
    memory: bytes, cpus: processors, pids: a number, or None; io_read, io_write: (device or None, bytes per second) pairs;
    best_effort, require: frozensets of control names; ledger: True, False or "if-possible" (a policy may keep it away);
    seccomp_action: "errno", "kill" or None; samples: whether what it uses is noted while it runs, which --report
    asks for; trace: frozenset of what is recorded: "exec".
    """

    __slots__ = ("argv", "ro", "rw", "copy", "here", "tmpfs", "chdir", "env", "hostname", "user", "cap_add", "rlimit",
                 "rootfs", "timeout", "cpu_time", "grace", "max_output", "proc", "harden", "writable", "overlay", "changes",
                 "export", "tty", "seccomp", "seccomp_add", "tier", "unsafe_without", "memory", "cpus", "pids", "io_read",
                 "io_write", "best_effort", "require", "ledger", "seccomp_action", "samples", "trace", "learn",
                 "follow_links")

    def __init__(self, argv, ro=(), rw=(), copy=(), here=False, tmpfs=(), chdir=None, env=None, hostname=None,
                 user=None, cap_add=(), rlimit=(), rootfs=None, timeout=None, cpu_time=None, grace=GRACE, max_output=None,
                 proc=None, harden=False, writable=(), overlay=(), changes=False, export=None, tty=False, seccomp=None,
                 seccomp_add=(), tier=(), unsafe_without=(), memory=None, cpus=None, pids=None, io_read=(), io_write=(),
                 best_effort=(), require=(), ledger=False, seccomp_action=None, samples=False, trace=(),
                 follow_links=False, environ=None):
        """Options as on the command line, as text or as Python values (pairs, numbers, dicts).  argv: None where `begin` names
        the program later; environ: the caller's environment, for `--env NAME` and TERM.  Raises SandboxError with exit status
        2."""
        environ = os.environ if environ is None else environ
        self.argv = [] if argv is None else _argv(argv)
        self.ro = _each("bind", ro, "ro")
        self.rw = _each("bind", rw, "rw")
        self.copy = _each("copy", copy, "copy")
        self.overlay = _overlay(overlay)
        self.changes, self.export = _switch(changes, "changes"), None if export is None else _one("export", export)
        self.here, self.tty, self.samples = _switch(here, "here"), _switch(tty, "tty"), _switch(samples, "samples")
        self.follow_links = _switch(follow_links, "follow_links")
        self.tmpfs = _each("tmpfs", tmpfs, "tmpfs")
        self.rootfs = None if rootfs is None else _bytes(rootfs, "rootfs")
        self.harden, self.writable = _switch(harden, "harden"), _each("tmpfs", writable, "writable")
        self.chdir = None if chdir is None else _one("inside", _bytes(chdir, "chdir"), "chdir")
        self.hostname = None if hostname is None else _one("hostname", hostname)
        self.user = None if user is None else _one("user", user)
        self.cap_add = frozenset(_each("capability", cap_add, "cap_add"))
        self.rlimit = dict(_each("rlimit", list(rlimit.items()) if isinstance(rlimit, dict) else rlimit, "rlimit"))
        self.timeout = None if timeout is None else _amount("duration", timeout, "timeout")
        self.cpu_time = None if cpu_time is None else _amount("duration", cpu_time, "cpu_time")
        self.max_output = None if max_output is None else _amount("size", max_output, "max_output")
        self.grace = GRACE if grace == GRACE else _amount("duration", grace, "grace", zero=True)
        self.proc = _choice(proc, ("full", "none"), "proc") or "pid"
        self.unsafe_without = frozenset(_controls(unsafe_without))
        self.memory = self.cpus = self.pids = None
        self.io_read = self.io_write = ()
        self.best_effort = self.require = frozenset()
        if (memory, cpus, pids) != (None, None, None) or io_read or io_write or best_effort or require:
            from . import limits
            limits.check(self, memory, cpus, pids, io_read, io_write, best_effort, require)
        self.seccomp = "default" if seccomp is None else _policy(seccomp)
        self.seccomp_add = [_addition(value) for value in _list(seccomp_add, "seccomp_add")]
        self.tier = _tiers(tier)
        self.ledger = ledger if ledger == "if-possible" else _switch(ledger, "ledger")
        self.trace = frozenset(_choice(word, ("exec",), "trace") for word in _list(trace, "trace"))
        self.seccomp_action = _choice(seccomp_action, ("errno", "kill"), "seccomp_action")
        self.learn = None  # or "record", "verify": of `policy learn` alone, since no option may open the filter
        if "seccomp" in self.unsafe_without and (seccomp is not None or self.seccomp_add):
            raise mistake("unsafe_without", "seccomp",
                          "contradicts " + _option("seccomp" if seccomp is not None else "seccomp_add"))
        self.env = _environment(env, environ, self.home)
        places = [destination for _, destination in self.ro + self.rw]
        places += [destination for destination, _ in self.tmpfs + self.writable]
        if self.here:
            places.append(b"/box")
        for place in places:
            if places.count(place) > 1:
                raise usage(show(place), "named twice as a destination")
        if self.harden or self.writable:
            from ..tree import harden as hardening
            hardening.check(self, seccomp)
            self.seccomp = hardening.POLICY

    def again(self, argv):
        """The same request for another program, as of the constructor.  Raises SandboxError (2)."""
        other = Spec.__new__(Spec)
        for name in Spec.__slots__:
            setattr(other, name, getattr(self, name))
        other.argv = [] if argv is None else _argv(argv)
        return other

    def begin(self, argv, env, timeout, environ):
        """What a warm sandbox is used for, as of the constructor.  Returns the variables, dict of bytes, that it adds to the
        environment.  Raises SandboxError (2)."""
        self.argv = _argv(argv)
        if timeout is not None:
            self.timeout = _amount("duration", timeout, "timeout")
        return dict(_variables(env, environ)) if env else {}

    @property
    def wants_group(self):
        """Whether a limit was asked for that a control group enforces."""
        return (self.memory, self.cpus, self.pids) != (None, None, None) or bool(self.io_read or self.io_write)

    @property
    def home(self):
        """The home directory inside."""
        return b"/root" if self.user is None or self.user[0] == 0 else b"/home/user"


#: What the library's options are called.
NAMES = Spec.__init__.__code__.co_varnames[2:Spec.__init__.__code__.co_argcount - 1]


def known(options):
    """Refuses names that are no option's.  Raises SandboxError (2)."""
    unknown = sorted(set(options).difference(NAMES))
    if unknown:
        raise usage("unknown option %s%s" % (unknown[0], nearest(unknown[0], NAMES)), remedy="help(mrunc.run) lists them")


def _switch(value, name):
    if value not in (True, False, None):
        raise usage("%s=%r" % (name, value), "it is True or False")
    return bool(value)


def _overlay(value):
    if value in (True, False, None):
        value = ["/"] if value else []
    return [b"/" if place in (True, "/", b"/") else _one("destination_inside", _bytes(place, "overlay"), "overlay")
            for place in _list(value, "overlay")]


def _option(name, *value, **typed):
    """As of door, which only a mistake needs; what is not an option's is named as it is."""
    from ..caller import option
    return option(name, *value, **typed) if name in NAMES else " ".join((name,) + value)


def mistake(name, value, reason, remedy=None):
    """A SandboxError (2) about an option as whoever called us wrote it.  name: as Python has it; value: text, or as given."""
    return usage(_option(name, value), reason, remedy)


def _env(data):
    import shlex
    return _option("env", show(data), typed=shlex.quote(show(data)))


def _amount(kind, value, name, **how):
    from .. import units
    return getattr(units, kind)(value, name, **how)


def _one(kind, value, *name):
    """A checked value of an option that most runs do without: the module of these is loaded where one is given."""
    from . import values
    return getattr(values, kind)(value, *name)


def _each(kind, given, name):
    return [_one(kind, value, name) for value in _list(given, name)]


def _list(value, name):
    if isinstance(value, (str, bytes, dict)):
        return [value]
    try:
        return list(value or ())
    except TypeError:
        raise mistake(name, value, "it is text, or a list")


def pair(value, name, shape):
    """The two parts of a value that is a tuple or list.  Raises SandboxError (2)."""
    if len(value) != 2:
        raise usage("%s %r" % (_option(name), value), "a pair is " + shape)
    return value


def _bytes(value, name):
    try:
        data = os.fsencode(value)
    except TypeError:
        raise usage("%s %r" % (_option(name), value), "not a path or text")
    except UnicodeEncodeError:  # an ASCII locale and text that did not come from the command line
        data = raw(value)
    if b"\0" in data:
        raise mistake(name, show(data.replace(b"\0", b"\\0")), "holds a NUL byte")
    return data


def _argv(argv):
    if isinstance(argv, (str, bytes)):
        raise usage("the command", "must be a list of arguments, not one text")
    out = [_bytes(word, "argument") for word in argv]
    if not out:
        raise usage("no command", "nothing to run", "it follows the options: run [options] -- CMD [ARG...]")
    for number, word in enumerate(out):
        if len(word) >= LONGEST_STRING:
            raise usage("argument %d" % number, "%d bytes long; the kernel takes at most %d" %
                        (len(word), LONGEST_STRING - 1), "put it into a file and bring it in with " + _option("copy"))
    return out


def _policy(value):
    text = show(_bytes(value, "seccomp"))
    if not text:
        raise usage(_option("seccomp"), "the name is empty")
    return text


def _addition(value):
    text = " ".join(show(_bytes(value, "seccomp_add")).split())
    if not text:
        raise usage(_option("seccomp_add"), "expected NAME or 'NAME: CONDITION'")
    return text


def _choice(value, choices, name):
    if value is None or value in choices:
        return value
    raise mistake(name, value, "it is one of: " + ", ".join(choices))


def _tiers(value):
    names = tuple(name for part in _list(value, "tier") for name in str(part).replace(",", " ").split())
    for name in names:
        if name not in TIERS:
            raise mistake("tier", name, "no such tier", "the tiers are: " + " ".join(TIERS))
        if names.count(name) > 1:
            raise mistake("tier", name, "named twice")
    return names or ("full",)


def _controls(value):
    names = []
    for part in _list(value, "unsafe_without"):
        names += [name for name in str(part).replace(",", " ").split()]
    for name in names:
        if name not in CONTROLS:
            raise mistake("unsafe_without", name, "no such control", "the names are: " + " ".join(CONTROLS))
        row = CONTROLS[name]
        needed = [other for other in row.needed_by if other not in names]
        if needed:
            raise mistake("unsafe_without", name, "%s can't be had without it" % ", ".join(needed),
                        "leave them out too: " + _option("unsafe_without", ",".join((name,) + row.needed_by)))
        if not row.removable:
            raise mistake("unsafe_without", name, "everything else stands on it, it can't be left out")
    return names


def _environment(env, environ, home):
    term = environ.get("TERM", "")
    out = {b"PATH": PATH, b"HOME": home, b"LANG": b"C.UTF-8", b"TERM": _bytes(term, "TERM") if term in PLAIN_TERMS
           else b"dumb"}
    out.update(_variables(env, environ))
    return out


def _variables(env, environ):
    """(name, value) pairs of bytes."""
    pairs = list(env.items()) if isinstance(env, dict) else [None] * 0
    for word in () if isinstance(env, dict) else _list(env, "env"):
        if isinstance(word, (tuple, list)):
            pairs.append(pair(word, "env", "(name, value)"))
            continue
        text = _bytes(word, "env")
        name, equals, value = text.partition(b"=")
        if not equals:
            value = environ.get(show(name)) if name else b""
            if value is None:
                raise usage(_env(name), "the caller's environment has no such variable", "to set it: " + _env(name + b"=VALUE"))
        pairs.append((name, value))
    for name, value in pairs:
        name, value = _bytes(name, "env"), _bytes(value, "env")
        if not name or b"=" in name:
            raise usage(_env(name), "a variable needs a name without =")
        if len(name) + len(value) + 2 >= LONGEST_STRING:
            raise usage(_env(name), "longer than the kernel takes (%d bytes)" % (LONGEST_STRING - 1))
        yield name, value
