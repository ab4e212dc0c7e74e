# SPDX-License-Identifier: Apache-2.0
"""Bounded reading of another process's memory, for the decoders: through one function, and never more than BUDGET bytes."""
import errno
import struct

#: For one call: a path, and an argument vector of 32 entries with its pointers.
BUDGET = 4096 + 32 * (2048 + 8) + 1024
PAGE = 4096
_PIECE = 256


class Unreadable(Exception):
    """What an argument points to can't be told.  reason: an errno's name; begin: what could be read of a text."""

    def __init__(self, reason, begin=""):
        Exception.__init__(self, reason)
        self.reason, self.begin = reason, begin

    def value(self):
        """As the argument's value."""
        return {"unreadable": self.reason, "begins": self.begin} if self.begin else {"unreadable": self.reason}


class Memory:
    """The memory of one call.  peek(address, size): bytes, fewer where it ends, or OSError."""

    def __init__(self, peek):
        self.peek, self.left = peek, BUDGET

    def _read(self, address, size):
        if address >> 64:
            raise Unreadable("EFAULT")
        if size > self.left:
            raise Unreadable("E2BIG")
        self.left -= size
        try:
            return self.peek(address, size)[:size]
        except OSError as error:
            raise Unreadable(errno.errorcode.get(error.errno, str(error.errno)))

    def bytes(self, address, size):
        """Exactly so many bytes.  Raises Unreadable: EFAULT where the memory ends before, E2BIG beyond the budget."""
        found = self._read(address, size) if size else b""
        if len(found) < size:
            raise Unreadable("EFAULT")
        return found

    def fields(self, form, address):
        """A struct by its format (struct module)."""
        return struct.unpack(form, self.bytes(address, struct.calcsize(form)))

    def word(self, address, size):
        """An unsigned number of so many bytes."""
        return int.from_bytes(self.bytes(address, size), "little")

    def text(self, address, limit):
        """A C string as text, at most so many bytes of it: one that is longer ends in "..."."""
        data, whole = self.string(address, limit)
        return shown(data) + ("" if whole else "...")

    def string(self, address, limit):
        """(bytes of a C string, whether that is all of it); at most so many.

        Read up to page borders, so that a string at the end of the mapped memory is whole.
        """
        out = b""
        while len(out) < limit:
            here = address + len(out)
            size = min(limit - len(out), PAGE - here % PAGE, _PIECE if not out else PAGE)
            try:
                part = self._read(here, size)
            except Unreadable as error:
                raise Unreadable(error.reason, shown(out))
            end = part.find(b"\0")
            if end >= 0:
                return out + part[:end], True
            out += part
            if len(part) < size:
                raise Unreadable("EFAULT", shown(out))
        return out, False


def shown(data):
    """Bytes as text; what is no UTF-8 is shown as \\xNN."""
    return data.decode("utf-8", "backslashreplace")
