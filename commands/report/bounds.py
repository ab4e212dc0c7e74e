# SPDX-License-Identifier: Apache-2.0
"""A result of whatever size, cut to what can be checked and shown in a second or two: a hostile program decides how much it has
others note."""
from . import story

#: Of each list so many rows are taken, and so many values in them; the same for all that stands in no list.
ROWS, VALUES = 10000, 150000
#: No value lies deeper; Python 3.15 reads what is nested a hundred thousand times.
DEPTH = 1000
#: Characters of one text.  A path has at most 4096 bytes; of an argument less is shown.
TEXT = 8192
#: No size or time is larger, nor the sum of a vector of lengths that a hostile program chose.
LARGEST = 1 << 96
#: A number with more digits than any number in a result has: reading it would take time that grows with the square.
LONGEST_NUMBER = 64
_DIGITS = bytes(0x30 if byte in b"0123456789." else 0x20 for byte in range(256))


def loads(data):
    """The JSON in bytes.  Raises ValueError, RecursionError."""
    import json
    kinds = {}
    if b"0" * (LONGEST_NUMBER + 1) in data.translate(_DIGITS):  # in a name, perhaps: looking at each number costs a second
        kinds = {"parse_int": _short(int), "parse_float": _short(float)}
    return json.loads(data.decode("utf-8"), parse_constant=_short(None), **kinds)


def _short(kind):
    def read(text):
        if kind is None or len(text) > LONGEST_NUMBER:
            raise ValueError("a number that is none")
        return kind(text)
    return read


def cut(result):
    """Cuts it in place and returns [sentence]: what was left out.  Raises ValueError for a number that is none, and where too
    much stands in no list; RecursionError."""
    out, walk, rest = [], _Walk(), VALUES
    for name in list(result):
        value = result[name]
        if isinstance(value, list):
            kept = walk.rows(value)
            if kept < len(value):
                out.append("only the first %d of %d rows of %s are read here; numbers and techniques are theirs" % (
                    kept, len(value), story.clipped(name, 40)))
                del value[kept:]
        else:
            rest = walk.value(result, name, rest)
            if rest < 0:
                raise ValueError("more than %d values beside its lists" % VALUES)
    if walk.clipped:
        out.append("%s longer than %d characters: the middle is left out here" % (
            "%d texts are" % walk.clipped if walk.clipped > 1 else "a text is", TEXT))
    return out


class _Walk:
    """clipped: how many texts were too long."""

    def __init__(self):
        self.clipped = 0

    def rows(self, rows):
        """How many rows of a list can be taken."""
        left = VALUES
        for number in range(min(len(rows), ROWS)):
            left = self.value(rows, number, left)
            if left < 0:
                return number
        return min(len(rows), ROWS)

    def value(self, holder, key, left):
        """What is left of a number of values after holder[key] and all in it; less than 0: there are more."""
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
                pending += [(value, name, depth + 1) for name in (value if isinstance(value, dict) else range(len(value)))]
            elif value is not None and not -LARGEST <= value <= LARGEST:
                raise ValueError("a number that is none")
        return left

    def _clip(self, text):
        self.clipped += 1
        return story.clipped(text, TEXT)
