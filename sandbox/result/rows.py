# SPDX-License-Identifier: Apache-2.0
"""The rows of `changes` in a result, as JSON text in bounded memory.

The program decides how many there would be, and dicts take three times as much memory.
"""
from json import dumps, loads

#: How many rows are kept, and how many bytes of their JSON.
MOST_ROWS, MOST_BYTES = 100000, 16 << 20


class Rows:
    """A sequence of dicts.

    texts: [bytes], one row each.
    size: the bytes of all of them that were added.
    """

    __hash__ = None

    def __init__(self, texts=()):
        self.texts, self.size = list(texts), 0

    def add(self, row):
        """Takes a dict if there is room.  Returns whether there was."""
        if len(self.texts) >= MOST_ROWS:
            return False
        text = dumps(row).encode("ascii")
        if self.size + len(text) > MOST_BYTES:
            return False
        self.texts.append(text)
        self.size += len(text)
        return True

    def sort(self, key):
        """Sorts the rows.  key: function of a row."""
        self.texts.sort(key=lambda text: key(loads(text.decode("ascii"))))

    def __len__(self):
        return len(self.texts)

    def __iter__(self):
        return (loads(text.decode("ascii")) for text in self.texts)

    def __getitem__(self, place):
        if isinstance(place, slice):
            return list(Rows(self.texts[place]))
        return loads(self.texts[place].decode("ascii"))

    def __eq__(self, other):
        return len(self) == len(other) and all(one == two for one, two in zip(self, other))

    def __repr__(self):
        return "<Rows: %d>" % len(self)
