# SPDX-License-Identifier: Apache-2.0
"""The values of those options that most runs do without: places, sizes, ids, limits.  Loaded where one is given."""
import os

from .. import units
from ..errors import show, usage
from .spec import GIB, RLIMITS, RLIMIT_INFINITY, _bytes, _option, mistake, pair


def export(value):
    path = _bytes(value, "export").rstrip(b"/")
    if not path:
        raise mistake("export", show(_bytes(value, "export")),
                      "name a directory of its own, or a file in .tar")
    return path


def split_pair(text):
    """`SRC[:DST]` (bytes), `\\:` for a colon in a path, as (source, destination or None)."""
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
        return _bytes(source, name), None if destination is None else _bytes(destination, name)
    text = _bytes(value, name)
    parts = split_pair(text)
    if len(parts) > 2:
        raise mistake(name, show(text), "more than one colon", "write a colon in a path as \\:")
    if not parts[0]:
        raise mistake(name, show(text), "the source is empty")
    if len(parts) == 2 and not parts[1]:
        raise mistake(name, show(text), "the destination is empty")
    return parts[0], parts[1] if len(parts) == 2 else None


def inside(path, name):
    """A path inside the sandbox, normalised."""
    if not path.startswith(b"/"):
        raise mistake(name, show(path), "a path inside the sandbox must be absolute")
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise mistake(name, show(path), "a path inside the sandbox can't hold ..")
    if any(len(part) > 255 for part in parts) or len(path) > 4000:
        raise mistake(name, show(path[:60]) + "...", "the path is too long")
    return b"/" + b"/".join(parts)


def destination_inside(path, name):
    path = inside(path, name)
    top = path.split(b"/")[1]
    if path == b"/":
        raise mistake(name, "/", "the root itself can't be a destination")
    if top in (b"proc", b"sys") or path == b"/dev" or path.startswith(b"/dev/") and path != b"/dev/shm":
        raise mistake(name, show(path), "/proc, /sys and /dev are mrunc's own")
    return path


def bind(value, name):
    source, destination = _pair(value, name)
    if destination is None:
        if not source.startswith(b"/"):
            source_in = os.path.join(_cwd(name), source)
            return source, destination_inside(os.path.normpath(source_in), name)
        return source, destination_inside(os.path.normpath(source), name)
    return source, destination_inside(destination, name)


def _cwd(name):
    try:
        return os.getcwdb()
    except OSError as error:
        raise usage("%s with a relative path" % _option(name), "the current directory is gone (%s)" % error.strerror)


def copy(value, name):
    source, destination = _pair(value, name)
    if destination is None:
        base = os.path.basename(os.path.normpath(source))
        if base in (b"", b".", b".."):
            raise mistake(name, show(source), "a file is copied; this names a directory")
        destination = b"/box/" + base
    return source, destination_inside(destination, name)


def tmpfs(value, name):
    if isinstance(value, (tuple, list)):
        destination, size = pair(value, name, "(path, size)")
        destination = _bytes(destination, name)
    else:
        text = _bytes(value, name)
        destination, equals, size = text.rpartition(b"=")
        if not equals:
            destination, size = text, GIB
        else:
            size = show(size)
    return destination_inside(destination, name), units.size(size, name, show(destination))


def hostname(value):
    name = _bytes(value, "hostname")
    if not 0 < len(name) <= 64 or name.strip(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-."):
        raise mistake("hostname", show(name), "1 to 64 letters, digits, dots and hyphens")
    return name


def user(value):
    if isinstance(value, (tuple, list)):
        parts = list(value)
    elif isinstance(value, int):
        parts = [value]
    else:
        parts = show(_bytes(value, "user")).split(":")
    try:
        ids = [int(part) for part in parts]
        if any(isinstance(part, str) and not part.isdigit() for part in parts):
            raise ValueError
    except (ValueError, TypeError):
        raise mistake("user", value, "write it as numbers: UID or UID:GID")
    if not 1 <= len(ids) <= 2 or any(not 0 <= number < 0xffffffff for number in ids) or 65534 in ids:
        raise mistake("user", value, "ids are 0 to 4294967294, but not 65534 (nobody)")
    return ids[0], ids[-1]


def capability(value, name):
    from ...syscalls.caps import NAMES
    plain = str(value).lower()
    plain = plain[4:] if plain.startswith("cap_") else plain
    if plain not in NAMES:
        raise mistake(name, value, "no such capability", "the names are those of capabilities(7)")
    if plain == "sys_admin":
        raise mistake(name, value, "CAP_SYS_ADMIN is never given: it can undo the mounts")
    return NAMES.index(plain)


def rlimit(value, option):
    if isinstance(value, (tuple, list)):
        name, limit = pair(value, option, "(name, value)")
    else:
        name, equals, limit = show(_bytes(value, option)).partition("=")
        if not equals:
            raise mistake(option, name, "write it as NAME=VALUE or NAME=SOFT:HARD")
    name = str(name).lower()
    name = name[7:] if name.startswith("rlimit_") else name
    if name not in RLIMITS:
        raise mistake(option, name, "no such limit", "the names are: " + " ".join(RLIMITS))
    if name == "core":
        raise mistake(option, "core", "core dumps are always off: the host's handler would get them, at any limit but 1")
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
