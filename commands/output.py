# SPDX-License-Identifier: Apache-2.0
"""Writes messages for people, straight to the file descriptor.

A name from a hostile archive may hold any byte, and the interpreter's own streams may be closed or
ASCII-only (LC_ALL=C on Python 3.6).
"""
import select
from ..sandbox.errors import show

#: Milliseconds to wait for the reader of a full, non-blocking descriptor.
PATIENCE_MS = 2000


def escaped(text):
    """Returns text (str or bytes) with control characters and undecodable bytes made visible."""
    out = []
    for char in show(text):
        code = ord(char)
        if 0xdc80 <= code <= 0xdcff:
            out.append("\\x%02x" % (code - 0xdc00))
        elif code < 32 or 127 <= code < 160:
            out.append({9: "\\t", 10: "\\n", 13: "\\r"}.get(code, "\\x%02x" % code))
        elif code in _DECEIVING or 0xd800 <= code < 0xe000:
            out.append("\\u%04x" % code)
        elif 0xe0000 <= code < 0xe1000:  # tags: text that no terminal shows
            out.append("\\U%08x" % code)
        else:
            out.append(char)
    return "".join(out)


#: Direction overrides and invisible separators: they make a line read differently from what it
#: says.
_DECEIVING = frozenset(list(range(0x200b, 0x2010)) + list(range(0x2028, 0x202f)) +
                       list(range(0x2060, 0x2070)) + list(range(0xfff9, 0xfffc)) +
                       [0xad, 0x034f, 0x061c, 0x115f, 0x1160, 0x180e, 0x3164, 0xfeff, 0xffa0])


def write(fd, text):
    """Writes all of a str to a file descriptor. Raises OSError as write_bytes."""
    write_bytes(fd, text.encode("utf-8", "backslashreplace"))


def write_pieces(fd, pieces):
    """Writes an iterable of str to a file descriptor. Raises OSError as write_bytes."""
    _write_all(fd, (piece.encode("utf-8", "backslashreplace") for piece in pieces))


def write_bytes(fd, data):
    """Writes all of the bytes to a file descriptor.

    Raises OSError; BlockingIOError if nobody reads for 2 s: the program may have filled a terminal
    or
    made a shared description non-blocking, and must not hold mrunc for ever.
    """
    _write_all(fd, [data])


def _write_all(fd, pieces):
    from ..sandbox.running.writer import Writer
    writer, poll = Writer(fd), select.poll()
    try:
        poll.register(writer.fd, select.POLLOUT)
        for data in pieces:
            while data:
                if not poll.poll(PATIENCE_MS):
                    raise BlockingIOError(11, "nobody reads")
                try:
                    data = data[writer.write(data):]
                except BlockingIOError:
                    pass
    finally:
        writer.close()


def say(text):
    """Writes one line to stderr with the prefix `mrunc: `; errors are ignored."""
    try:
        write(2, "mrunc: %s\n" % escaped(text))
    except OSError:
        pass  # nobody can be told


def complain(error):
    """Writes a SandboxError to stderr, with its remedy on a second line."""
    say(error.line())
    if error.remedy:
        say("remedy: %s" % error.remedy)
