# SPDX-License-Identifier: Apache-2.0
"""Reads another process's memory for the decoders, at most BUDGET bytes for a call."""
import errno
import struct

#: Bytes for one call: a path, and an argument vector of 32 entries with its pointers.
BUDGET = 4096 + 32 * (2048 + 8) + 1024
PAGE = 4096
_PIECE = 256


class Unreadable(Exception):
    """An argument points to memory that can't be read.

    reason: an errno's name.
    begin: the part of a text that could be read.
    """

    def __init__(self, reason, begin=""):
        Exception.__init__(self, reason)
        self.reason, self.begin = reason, begin

    def value(self):
        """Returns it as the argument's value."""
        out = {"unreadable": self.reason}
        return dict(out, begins=self.begin) if self.begin else out


class Memory:
    """The memory of one call.

    left: bytes that may still be read.
    """

    def __init__(self, peek):
        """peek: function of (address, size) that returns bytes, fewer at the end of the memory.

        It raises OSError if it can read none.
        """
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
        """Returns exactly `size` bytes.

        Raises Unreadable: EFAULT if the memory ends before, E2BIG beyond the budget.
        """
        found = self._read(address, size) if size else b""
        if len(found) < size:
            raise Unreadable("EFAULT")
        return found

    def fields(self, form, address):
        """Returns the values of a struct.  form: of the struct module.  Raises Unreadable."""
        return struct.unpack(form, self.bytes(address, struct.calcsize(form)))

    def word(self, address, size):
        """Returns an unsigned number of `size` bytes.  Raises Unreadable."""
        return int.from_bytes(self.bytes(address, size), "little")

    def text(self, address, limit):
        """Returns a C string as text; if it is longer than `limit` bytes, it ends in "..."."""
        data, whole = self.string(address, limit)
        return shown(data) + ("" if whole else "...")

    def string(self, address, limit):
        """Returns (bytes of a C string, whether that is all), at most `limit` bytes.

        It is read up to page borders, so that a string at the end of the memory is read whole.
        Raises Unreadable.
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
    """Returns bytes as text; a byte that is no UTF-8 is shown as \\xNN."""
    return data.decode("utf-8", "backslashreplace")
