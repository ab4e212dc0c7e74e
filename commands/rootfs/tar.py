# SPDX-License-Identifier: Apache-2.0
"""Reads a tar as a stream of entries.

Sources: pax(1) (POSIX.1-2017); GNU tar's manual, "Basic Tar Format". Where formats contradict each
other, it reads as Go's archive/tar does, which container tools use. Python's tarfile is not used:
it extracts by path, guesses at damaged headers, and differs from Python 3.6 to 3.14. Here a header
that is not exactly understood refuses the archive.
"""
from .entries import Entry, refused

BLOCK = 512
MOST_PAX, MOST_LONG_NAME, MOST_IN_A_ROW = 1 << 20, 1 << 16, 16
KINDS = {b"1": "hardlink", b"2": "symlink", b"3": "character device", b"4": "block device",
         b"5": "directory", b"6": "FIFO"}
FILES = (b"0", b"\0", b"7")
XATTRS = (b"SCHILY.xattr.", b"LIBARCHIVE.xattr.")
#: Keys that a global pax header must not set: they would change every later entry.
PER_ENTRY = (b"path", b"linkpath", b"size")


def entries(stream, shown, end_needed=True):
    """Yields Entry; the content of a file must be read before the next entry is asked for.

    stream: streams.Stream
    shown: the archive's name, for messages
    end_needed: whether an archive without its end mark or last padding counts as cut off; umoci's
        insert writes neither, and a layer's digest shows that it is whole

    Raises SandboxError.
    """
    pax, long_name, long_link, row = {}, None, None, 0
    while True:
        header = stream.read(BLOCK)
        if not header and not end_needed and not row:
            return
        if len(header) < BLOCK:
            raise refused(shown, "the archive is cut off")
        if not header.strip(b"\0"):
            if row:
                raise refused(shown, "an extended header without its entry")
            return
        _check_sum(header, shown)
        kind, size = header[156:157], _number(header[124:136], shown, "size")
        if kind in (b"x", b"g", b"L", b"K"):
            row += 1
            if row > MOST_IN_A_ROW:
                raise refused(shown, "too many extended headers in a row")
            most = MOST_PAX if kind in (b"x", b"g") else MOST_LONG_NAME
            if size > most:
                raise refused(shown, "an extended header of %d bytes (at most %d)" % (size, most))
            data = stream.read(size)
            if len(data) < size or stream.skip(-size % BLOCK) < -size % BLOCK:
                raise refused(shown, "the archive is cut off")
            if kind == b"x":
                pax.update(_records(data, shown))
            elif kind == b"g":
                bad = [key for key in _records(data, shown) if key in PER_ENTRY or
                       key.startswith(b"GNU.sparse.")]
                if bad:
                    raise refused(shown,
                                  "a global header sets %s" % bad[0].decode("ascii",
                                                                            "backslashreplace"))
            elif kind == b"L":
                long_name = data.split(b"\0")[0]
            else:
                long_link = data.split(b"\0")[0]
            continue
        entry = _entry(header, kind, size, pax, long_name, long_link, shown)
        pax, long_name, long_link, row = {}, None, None, 0
        if entry is None:  # a volume's label
            if stream.skip(size + -size % BLOCK) < size + -size % BLOCK:
                raise refused(shown, "the archive is cut off")
            continue
        content = _Content(stream, entry.size if entry.kind == "file" else 0, shown, end_needed)
        entry.read = content.read if entry.kind == "file" else None
        yield entry
        content.finish()


class _Content:
    """Is the content of one file."""

    def __init__(self, stream, size, shown, padded):
        self.stream, self.left, self.padding = stream, size, -size % BLOCK
        self.shown, self.padded = shown, padded

    def read(self, size):
        data = self.stream.read(min(size, self.left))
        if self.left and not data:
            raise refused(self.shown, "the archive is cut off")
        self.left -= len(data)
        return data

    def finish(self):
        rest = self.left + self.padding
        if self.stream.skip(rest) < (rest if self.padded else self.left):
            raise refused(self.shown, "the archive is cut off")


def _entry(header, kind, size, pax, long_name, long_link, shown):
    name, target = header[:100].split(b"\0")[0], header[157:257].split(b"\0")[0]
    if header[257:263] == b"ustar\0":
        prefix = header[345:500].split(b"\0")[0]
        name = prefix + b"/" + name if prefix else name
    name = pax.get(b"path", name if long_name is None else long_name)
    target = pax.get(b"linkpath", target if long_link is None else long_link)
    if b"size" in pax:
        size = _decimal(pax[b"size"], name)
    if kind == b"S" or any(key.startswith(b"GNU.sparse.") for key in pax):
        raise refused(name, "a sparse file of GNU tar's", "make the archive without --sparse (-S)")
    if kind == b"V":
        return None
    if kind in FILES:
        what = "directory" if name.endswith(b"/") and kind != b"7" else "file"
    elif kind in KINDS:
        what = KINDS[kind]
    else:
        raise refused(name, "an entry of the unknown type %r" % kind.decode("latin-1"))
    if what == "directory" and kind != b"5" and size:
        raise refused(name, "a directory with content")
    mtime = _number(header[136:148], name, "time", signed=True)
    if b"mtime" in pax:
        mtime = _decimal(pax[b"mtime"].split(b".")[0].lstrip(b"-") or b"0", name) * (
            -1 if pax[b"mtime"].startswith(b"-") else 1)
    xattrs = [key[len(start):] for start in XATTRS for key in pax if key.startswith(start)]
    xattrs += [b"security.selinux"] if b"RHT.security.selinux" in pax else []
    mode = _number(header[100:108], name, "mode") & 0o7777
    return Entry(what, name, mode, size if what == "file" else 0, mtime,
                 target if what in ("symlink", "hardlink") else None, None, sorted(set(xattrs)))


def _check_sum(header, shown):
    plain, want = header[:148] + b" " * 8 + header[156:], _number(header[148:156], shown,
                                                                  "checksum")
    total = sum(plain)
    # Some old tars added signed bytes (GNU tar's manual).
    if total != want and total - 256 * sum(1 for byte in plain if byte > 127) != want:
        raise refused(shown, "not a tar archive, or a damaged one")


def _number(field, name, what, signed=False):
    """Returns a number of a header: octal, or base-256 if the first bit is set."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & (1 << len(field) * 8 - 1) - 1
        if field[0] & 0x40:
            if signed:
                return -1  # before 1970; the exact second does not matter
            raise refused(name, "a header with a negative %s" % what)
        if value >= 1 << 63 and not signed:
            raise refused(name, "a header with an impossible %s" % what)
        return value
    digits = field.split(b"\0")[0].strip(b" ")
    if digits.strip(b"01234567"):
        if signed:
            return 0
        raise refused(name, "a header with a %s that is no number" % what)
    return int(digits or b"0", 8)


def _decimal(digits, name):
    if not digits or digits.strip(b"0123456789") or len(digits) > 18:
        raise refused(name, "an extended header with an invalid number")
    return int(digits)


def _records(data, shown):
    """Returns {key: value} of a pax header: `LENGTH KEY=VALUE\\n`."""
    out, place = {}, 0
    while place < len(data):
        blank = data.find(b" ", place, place + 20)
        digits = data[place:blank] if blank > 0 else b""
        if not digits or digits.strip(b"0123456789"):
            raise refused(shown, "a damaged extended header")
        end = place + int(digits)
        equals = data.find(b"=", blank, end)
        if end > len(data) or end <= blank + 1 or equals < 0 or data[end - 1:end] != b"\n":
            raise refused(shown, "a damaged extended header")
        key, value = data[blank + 1:equals], data[equals + 1:end - 1]
        if not key or b"\0" in key or key in (b"path",
                                              b"linkpath") and (b"\0" in value or not value):
            raise refused(shown, "a damaged extended header")
        out[key] = value
        place = end
    return out
