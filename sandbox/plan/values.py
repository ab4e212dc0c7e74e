# SPDX-License-Identifier: Apache-2.0
"""Checks and converts the values of options: text or Python values in, values of a Spec out.

Nothing here touches the host. Every function raises SandboxError (exit 2) for a mistake, and names
the option as the caller wrote it. `name` is the option's in Python.
"""
import os

from .. import units
from ..caller import option
from ..controls import BEST_EFFORT, CONTROLS
from ..errors import raw, show, usage
from ..tiers import NAMES as TIERS
from ...syscalls.caps import NAMES as CAPABILITIES

GIB = 1 << 30
#: Bytes of the longest argument or environment string of exec, its NUL included.
#: execve(2): MAX_ARG_STRLEN
LONGEST_STRING = 131072
RLIMITS = ("cpu fsize data stack core rss nproc nofile memlock as locks sigpending msgqueue nice "
           "rtprio rttime").split()
RLIMIT_INFINITY = (1 << 64) - 1
PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PLAIN_TERMS = ("xterm", "xterm-256color", "screen", "screen-256color", "tmux", "tmux-256color",
               "linux", "vt100", "vt220", "rxvt", "rxvt-unicode", "rxvt-unicode-256color", "dumb",
               "ansi", "alacritty", "xterm-kitty", "foot")
#: Pid 1 of the sandbox and the program.
FEWEST_PIDS = 2
#: PID_MAX_LIMIT of the kernel on 64 bits.
MOST_PIDS = 4194304
#: cpu.max takes no quota below a millisecond, of a period of 100.
FEWEST_CPUS, MOST_CPUS = 0.01, 100000.0
#: Bytes per second: the smallest rate that io.max takes.
LOWEST_RATE = 2
#: The policy that --harden brings.
HARDENED_POLICY = "strict"
#: Names in messages that are no options.
NO_OPTIONS = ("argument", "TERM")


def named(name, *value, **typed):
    """Returns an option as the caller wrote it (caller.option); another name as it is."""
    return option(name, *value, **typed) if name not in NO_OPTIONS else " ".join((name,) + value)


def mistake(name, value, reason, remedy=None):
    """Returns a SandboxError (exit 2) about an option as the caller wrote it.

    name: as Python has it.
    value: text, or as given.
    """
    return usage(named(name, value), reason, remedy)


def switch(value, name):
    """Returns a bool."""
    if value not in (True, False, None):
        raise usage("%s=%r" % (name, value), "it is True or False")
    return bool(value)


def listed(value, name):
    """Returns a list: a single text, bytes or dict counts as a list of one."""
    if isinstance(value, (str, bytes, dict)):
        return [value]
    try:
        return list(value or ())
    except TypeError:
        raise mistake(name, value, "it is text, or a list")


def pair(value, name, shape):
    """Returns the two parts of a tuple or list.

    shape: what they are, for the message.
    """
    if len(value) != 2:
        raise usage("%s %r" % (named(name), value), "a pair is " + shape)
    return value


def as_bytes(value, name):
    """Returns the bytes of a path or text without a NUL."""
    try:
        data = os.fsencode(value)
    except TypeError:
        raise usage("%s %r" % (named(name), value), "not a path or text")
    except UnicodeEncodeError:  # an ASCII locale and text that did not come from the command line
        data = raw(value)
    if b"\0" in data:
        raise mistake(name, show(data.replace(b"\0", b"\\0")), "holds a NUL byte")
    return data


def choice(value, choices, name):
    """Returns one of `choices`, or None."""
    if value is None or value in choices:
        return value
    raise mistake(name, value, "it is one of: " + ", ".join(choices))


def optional(check, value, name):
    """Returns a checked value, or None."""
    return None if value is None else check(value, name)


def each(check, given, name):
    """Returns [checked value] of an option that may be given several times."""
    return [check(value, name) for value in listed(given, name)]


def command(argv):
    """Returns the program and its arguments as a list of bytes."""
    if isinstance(argv, (str, bytes)):
        raise usage("the command", "must be a list of arguments, not one text")
    out = [as_bytes(word, "argument") for word in argv]
    if not out:
        raise usage("no command", "nothing to run",
                    "it follows the options: run [options] -- CMD [ARG...]")
    for number, word in enumerate(out):
        if len(word) >= LONGEST_STRING:
            raise usage("argument %d" % number, "%d bytes long; the kernel takes at most %d" %
                        (len(word), LONGEST_STRING - 1),
                        "put it into a file and bring it in with " + named("copy"))
    return out


def overlay(value):
    """Returns [place inside as bytes] of --overlay, / for the whole tree."""
    if value in (True, False, None):
        value = ["/"] if value else []
    return [b"/" if place in (True, "/", b"/") else destination_inside(place, "overlay")
            for place in listed(value, "overlay")]


def policy(value):
    """Returns the name or path of a system call policy, as text."""
    text = show(as_bytes(value, "seccomp"))
    if not text:
        raise usage(named("seccomp"), "the name is empty")
    return text


def addition(value, name):
    """Returns a rule of --seccomp-add with single blanks, as text."""
    text = " ".join(show(as_bytes(value, name)).split())
    if not text:
        raise usage(named(name), "expected NAME or 'NAME: CONDITION'")
    return text


def tiers(value):
    """Returns a tuple of tier names, ("full",) unless given."""
    names = tuple(name for part in listed(value, "tier")
                  for name in str(part).replace(",", " ").split())
    for name in names:
        if name not in TIERS:
            raise mistake("tier", name, "no such tier", "the tiers are: " + " ".join(TIERS))
        if names.count(name) > 1:
            raise mistake("tier", name, "named twice")
    return names or ("full",)


def left_out(value):
    """Returns [control] of --unsafe-without, checked together."""
    names = controls(value, "unsafe_without")
    for name in names:
        row = CONTROLS[name]
        needed = [other for other in row.needed_by if other not in names]
        if needed:
            raise mistake("unsafe_without", name, "%s can't be had without it" % ", ".join(needed),
                          "leave them out too: " +
                          named("unsafe_without", ",".join((name,) + row.needed_by)))
        if not row.removable:
            raise mistake("unsafe_without", name,
                          "everything else stands on it, it can't be left out")
    return names


def _env(data):
    import shlex
    return named("env", show(data), typed=shlex.quote(show(data)))


def environment(env, environ, home):
    """Returns the whole environment inside, {name: value} in bytes."""
    term = environ.get("TERM", "")
    out = {b"PATH": PATH, b"HOME": home, b"LANG": b"C.UTF-8",
           b"TERM": as_bytes(term, "TERM") if term in PLAIN_TERMS else b"dumb"}
    out.update(variables(env, environ))
    return out


def variables(env, environ):
    """Yields (name, value) of --env, in bytes."""
    pairs = list(env.items()) if isinstance(env, dict) else [None] * 0
    for word in () if isinstance(env, dict) else listed(env, "env"):
        if isinstance(word, (tuple, list)):
            pairs.append(pair(word, "env", "(name, value)"))
            continue
        text = as_bytes(word, "env")
        name, equals, value = text.partition(b"=")
        if not equals:
            value = environ.get(show(name)) if name else b""
            if value is None:
                raise usage(_env(name), "the caller's environment has no such variable",
                            "to set it: " + _env(name + b"=VALUE"))
        pairs.append((name, value))
    for name, value in pairs:
        name, value = as_bytes(name, "env"), as_bytes(value, "env")
        if not name or b"=" in name:
            raise usage(_env(name), "a variable needs a name without =")
        if len(name) + len(value) + 2 >= LONGEST_STRING:
            raise usage(_env(name),
                        "longer than the kernel takes (%d bytes)" % (LONGEST_STRING - 1))
        yield name, value


def export(value, name):
    """Returns the path of --export as bytes, without slashes at its end."""
    path = as_bytes(value, "export").rstrip(b"/")
    if not path:
        raise mistake("export", show(as_bytes(value, "export")),
                      "name a directory of its own, or a file in .tar")
    return path


def split_pair(text):
    """Returns the parts of `SRC[:DST]` (bytes); `\\:` stands for a colon in a path."""
    parts, current, i = [], bytearray(), 0
    while i < len(text):
        char = text[i:i + 1]
        if char == b"\\" and text[i + 1:i + 2] in (b":", b"\\"):
            current += text[i + 1:i + 2]
            i += 2
            continue
        if char == b":":
            parts.append(bytes(current))
            current = bytearray()
        else:
            current += char
        i += 1
    parts.append(bytes(current))
    return parts


def _pair(value, name):
    if isinstance(value, (tuple, list)):
        source, destination = pair(value, name, "(source, destination)")
        return as_bytes(source, name), None if destination is None else as_bytes(destination, name)
    text = as_bytes(value, name)
    parts = split_pair(text)
    if len(parts) > 2:
        raise mistake(name, show(text), "more than one colon", "write a colon in a path as \\:")
    if not parts[0]:
        raise mistake(name, show(text), "the source is empty")
    if len(parts) == 2 and not parts[1]:
        raise mistake(name, show(text), "the destination is empty")
    return parts[0], parts[1] if len(parts) == 2 else None


def inside(value, name):
    """Returns a path inside the sandbox, normalised, as bytes."""
    path = as_bytes(value, name)
    if not path.startswith(b"/"):
        raise mistake(name, show(path), "a path inside the sandbox must be absolute")
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise mistake(name, show(path), "a path inside the sandbox can't hold ..")
    if any(len(part) > 255 for part in parts) or len(path) > 4000:
        raise mistake(name, show(path[:60]) + "...", "the path is too long")
    return b"/" + b"/".join(parts)


def destination_inside(value, name):
    """Returns a path inside, as bytes, that may show something of the caller."""
    path = inside(value, name)
    top = path.split(b"/")[1]
    if path == b"/":
        raise mistake(name, "/", "the root itself can't be a destination")
    if top in (b"proc", b"sys", b"dev") and path != b"/dev/shm":
        raise mistake(name, show(path), "/proc, /sys and /dev are mrunc's own")
    return path


def bind(value, name):
    """Returns (source, place inside), as bytes, of --ro or --rw."""
    source, destination = _pair(value, name)
    if destination is None:
        place = source if source.startswith(b"/") else os.path.join(_cwd(name), source)
        destination = os.path.normpath(place)
    return source, destination_inside(destination, name)


def _cwd(name):
    try:
        return os.getcwdb()
    except OSError as error:
        raise usage("%s with a relative path" % named(name),
                    "the current directory is gone (%s)" % error.strerror)


def copy(value, name):
    """Returns (source, place inside), as bytes, of --copy."""
    source, destination = _pair(value, name)
    if destination is None:
        base = os.path.basename(os.path.normpath(source))
        if base in (b"", b".", b".."):
            raise mistake(name, show(source), "a file is copied; this names a directory")
        destination = b"/box/" + base
    return source, destination_inside(destination, name)


def tmpfs(value, name):
    """Returns (place inside as bytes, size in bytes) of --tmpfs or --writable."""
    if isinstance(value, (tuple, list)):
        destination, size = pair(value, name, "(path, size)")
        destination = as_bytes(destination, name)
    else:
        text = as_bytes(value, name)
        destination, equals, size = text.rpartition(b"=")
        if not equals:
            destination, size = text, GIB
        else:
            size = show(size)
    return destination_inside(destination, name), units.size(size, name, show(destination))


def hostname(value, name):
    """Returns a host name as bytes."""
    name = as_bytes(value, "hostname")
    allowed = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-."
    if not 0 < len(name) <= 64 or name.strip(allowed):
        raise mistake("hostname", show(name), "1 to 64 letters, digits, dots and hyphens")
    return name


def user(value, name):
    """Returns (uid, gid) inside."""
    if isinstance(value, (tuple, list)):
        parts = list(value)
    elif isinstance(value, int):
        parts = [value]
    else:
        parts = show(as_bytes(value, "user")).split(":")
    try:
        ids = [int(part) for part in parts]
        if any(isinstance(part, str) and not part.isdigit() for part in parts):
            raise ValueError
    except (ValueError, TypeError):
        raise mistake("user", value, "write it as numbers: UID or UID:GID")
    if not 1 <= len(ids) <= 2 or 65534 in ids or \
            any(not 0 <= number < 0xffffffff for number in ids):
        raise mistake("user", value, "ids are 0 to 4294967294, but not 65534 (nobody)")
    return ids[0], ids[-1]


def capability(value, name):
    """Returns the number of a capability that may be given."""
    plain = str(value).lower()
    plain = plain[4:] if plain.startswith("cap_") else plain
    if plain not in CAPABILITIES:
        raise mistake(name, value, "no such capability", "the names are those of capabilities(7)")
    if plain == "sys_admin":
        raise mistake(name, value, "CAP_SYS_ADMIN is never given: it can undo the mounts")
    return CAPABILITIES.index(plain)


def rlimit(value, option):
    """Returns (name, (soft, hard)) of a resource limit."""
    if isinstance(value, (tuple, list)):
        name, limit = pair(value, option, "(name, value)")
    else:
        name, equals, limit = show(as_bytes(value, option)).partition("=")
        if not equals:
            raise mistake(option, name, "write it as NAME=VALUE or NAME=SOFT:HARD")
    name = str(name).lower()
    name = name[7:] if name.startswith("rlimit_") else name
    if name not in RLIMITS:
        raise mistake(option, name, "no such limit", "the names are: " + " ".join(RLIMITS))
    if name == "core":
        raise mistake(option, "core",
                      "core dumps are always off: the host's handler would get them, at any limit "
                      "but 1")
    parts = limit if isinstance(limit, (tuple, list)) else str(limit).split(":")
    if not 1 <= len(parts) <= 2:
        raise mistake(option, "%s=%s" % (name, limit), "write it as VALUE or SOFT:HARD")
    values = [_rlimit_value(name, part) for part in parts]
    if values[0] > values[-1]:
        raise mistake(option, "%s=%s" % (name, limit), "the soft limit is above the hard one")
    return name, (values[0], values[-1])


def _rlimit_value(name, value):
    if str(value).lower() in ("unlimited", "infinity"):
        return RLIMIT_INFINITY
    if name in ("fsize", "data", "stack", "rss", "memlock", "as", "msgqueue"):
        return units.size(value, "rlimit", name)
    try:
        number = int(str(value))
        if not 0 <= number < 1 << 63:
            raise ValueError
    except ValueError:
        raise mistake("rlimit", "%s=%s" % (name, value), "a whole number, or unlimited")
    return number


def _numbers(value, name):
    """Returns [value]; a single number counts as a list of one."""
    return [value] if isinstance(value, (int, float)) else listed(value, name)


def controls(value, asking):
    """Returns [control] of --best-effort or --require."""
    names = []
    for part in _numbers(value, asking):
        names += str(part).replace(",", " ").split()
    for name in names:
        if name not in CONTROLS:
            near = "limits." + name if "limits." + name in CONTROLS else None
            raise usage(option(asking, name),
                        "no such control%s" % (" (did you mean %s?)" % near if near else ""),
                        "the names are: " + " ".join(CONTROLS))
    return names


def cpus(value, name):
    """Returns a number of processors."""
    try:
        number = float(value)
        if isinstance(value, bool) or not FEWEST_CPUS <= number <= MOST_CPUS:
            raise ValueError
    except (ValueError, TypeError, OverflowError):
        raise usage(option(name, value),
                    "a number of processors, %g at least, such as 0.5 or 2" % FEWEST_CPUS)
    return number


def pids(value, name):
    """Returns a number of processes, pid 1 of the sandbox included."""
    try:
        number = int(str(value))
        if isinstance(value, bool) or not FEWEST_PIDS <= number <= MOST_PIDS:
            raise ValueError
    except ValueError:
        raise usage(option(name, value),
                    "a whole number from %d to %d; pid 1 of the sandbox is one of them" %
                    (FEWEST_PIDS, MOST_PIDS))
    return number


def rates(value, name):
    """Returns [(device as bytes or None, bytes per second)] of --io-read or --io-write."""
    return [_rate(each, name) for each in _numbers(value, name)]


def _rate(value, name):
    """Returns (device as bytes or None, bytes per second) of `[DEV:]BPS`, a pair, or a number."""
    if isinstance(value, (tuple, list)) and len(value) == 2:
        device, rate = value
    elif isinstance(value, (str, bytes)):
        device, colon, rate = os.fsdecode(value).rpartition(":")
        device = device if colon else None
        if colon and not device:
            raise usage(option(name, os.fsdecode(value)), "the device is empty")
    else:
        device, rate = None, value
    number = units.size(rate, name)
    if number < LOWEST_RATE:
        raise usage(option(name, rate), "the smallest rate is %d bytes per second" % LOWEST_RATE)
    if device is None:
        return None, number
    return as_bytes(device, name), number


def memory(value, name):
    """Returns the bytes of a memory limit, a page at least."""
    size = units.size(value, name)
    if size < os.sysconf("SC_PAGE_SIZE"):
        text = str(value).strip()
        bare = not text.strip("0123456789.")
        raise usage(option(name, value), "less than a page",
                    "a number without a unit is bytes; for megabytes write %sM" % text if bare
                    else "write it like 256M or 1.5G")
    return size


def check_controls(spec):
    """Refuses what --best-effort and --require can't name in this Spec."""
    for name in spec.best_effort:
        if name not in BEST_EFFORT:
            raise usage(option("best_effort", name), "it is never done without",
                        "these can be: " + " ".join(BEST_EFFORT))
    for name in spec.require:
        for other in ("best_effort", "unsafe_without"):
            if name in getattr(spec, other):
                raise usage(option("require", name), "contradicts " + option(other, name))
        options = CONTROLS[name].options
        if options and not any(getattr(spec, attribute) for attribute in options):
            raise usage(option("require", name), "nothing asks for it",
                        "give " + " or ".join(map(option, options)))


def check_hardening(spec, seccomp):
    """Refuses options that contradict --harden.

    seccomp: the policy that was named, or None.
    """
    if not spec.harden:
        if spec.writable:
            raise usage(option("writable"),
                        "goes with %s, where nothing else is writable" % option("harden"),
                        "without it: " + option("tmpfs", "PATH[=SIZE]"))
        return
    if spec.unsafe_without:
        raise usage(option("harden"), "contradicts " + option("unsafe_without"))
    if spec.proc == "full":
        raise usage(option("harden"),
                    "contradicts %s, which shows and takes more than programs need" %
                    option("proc", "full"))
    if spec.overlay:
        raise usage(option("harden"),
                    "contradicts %s: nothing of the tree is to be changed" % option("overlay"))
    if spec.tmpfs:
        raise usage(option("harden"),
                    "contradicts %s, which may execute what is written there" % option("tmpfs"),
                    "a writable place that may not: " + option("writable", "PATH[=SIZE]"))
    if seccomp not in (None, HARDENED_POLICY):
        raise usage(option("harden"), "contradicts %s: it brings the policy %s" %
                    (option("seccomp", seccomp), HARDENED_POLICY),
                    "one call more: " + option("seccomp_add", "RULE"))
    for place, _ in spec.writable:
        for _, destination in spec.copy:
            if destination.startswith(place + b"/"):
                raise usage(option("copy"),
                            "the copy may execute, and %s may not hold such a file" %
                            option("writable", show(place)),
                            "choose another destination for it")
