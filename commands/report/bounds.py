# SPDX-License-Identifier: Apache-2.0
"""Cuts a result of any size to what can be checked and shown in a second or two.

A hostile program decides how much is recorded about it.
"""
from . import story

#: Most rows of a list, and most values in them; as many values may lie outside lists.
ROWS, VALUES = 10000, 150000
#: Deepest nesting; Python 3.15 reads 100,000 levels.
DEPTH = 1000
#: Characters of one text. A path has at most 4096 bytes; less is shown of an argument.
TEXT = 8192
#: Largest number: no size, time or sum of lengths is larger.
LARGEST = 1 << 96
#: Most digits of a number: reading one takes time that grows with the square.
LONGEST_NUMBER = 64
_DIGITS = bytes(0x30 if byte in b"0123456789." else 0x20 for byte in range(256))


def loads(data):
    """Returns the value of JSON. data: bytes. Raises ValueError, RecursionError."""
    import json
    kinds = {}
    # Only then each number is checked, which takes a second: the digits may be in a name.
    if b"0" * (LONGEST_NUMBER + 1) in data.translate(_DIGITS):
        kinds = {"parse_int": _short(int), "parse_float": _short(float)}
    return json.loads(data.decode("utf-8"), parse_constant=_short(None), **kinds)


def _short(kind):
    def read(text):
        if kind is None or len(text) > LONGEST_NUMBER:
            raise ValueError("an invalid number")
        return kind(text)
    return read


def cut(result):
    """Cuts a result in place and returns [sentence]: what was left out.

    Raises ValueError for an invalid number and for too many values outside lists; RecursionError.
    """
    out, walk, rest = [], _Walk(), VALUES
    for name in list(result):
        value = result[name]
        if isinstance(value, list):
            kept = walk.rows(value)
            if kept < len(value):
                out.append("only the first %d of %d rows of %s were read; numbers and techniques "
                           "count these" % (kept, len(value), story.clipped(name, 40)))
                del value[kept:]
        else:
            rest = walk.value(result, name, rest)
            if rest < 0:
                raise ValueError("more than %d values outside lists" % VALUES)
    if walk.clipped:
        out.append("%s longer than %d characters: the middle is left out" % (
            "%d texts are" % walk.clipped if walk.clipped > 1 else "a text is", TEXT))
    return out


class _Walk:
    """Walks through values. clipped: how many texts were too long."""

    def __init__(self):
        self.clipped = 0

    def rows(self, rows):
        """Returns how many rows of a list can be taken."""
        left = VALUES
        for number in range(min(len(rows), ROWS)):
            left = self.value(rows, number, left)
            if left < 0:
                return number
        return min(len(rows), ROWS)

    def value(self, holder, key, left):
        """Returns `left` minus the values in holder[key]; less than 0 if there are more."""
        pending = [(holder, key, 0)]
        while pending:
            holder, key, depth = pending.pop()
            if depth > DEPTH:
                raise RecursionError
            value, left = holder[key], left - 1
            if isinstance(value, str):
                if len(value) > TEXT:
                    holder[key] = self._clip(value)
            elif isinstance(value, (list, dict)):
                if len(value) + len(pending) > left:
                    return -1
                if isinstance(value, dict):
                    for name in [name for name in value if len(name) > TEXT]:
                        value[self._clip(name)] = value.pop(name)
                keys = value if isinstance(value, dict) else range(len(value))
                pending += [(value, name, depth + 1) for name in keys]
            elif value is not None and not -LARGEST <= value <= LARGEST:
                raise ValueError("an invalid number")
        return left

    def _clip(self, text):
        self.clipped += 1
        return story.clipped(text, TEXT)
