# SPDX-License-Identifier: Apache-2.0
"""The tables of system call numbers, for those who look many up or want a number's name.

A run knows the few names that it needs, and finds these in the text itself (libc.number): to make a table of it costs more.
"""


class Table:
    """Of one architecture.  NR: {name: number}, by ascending number; AUDIT_ARCH; LAST: the highest number."""

    __slots__ = ("NR", "AUDIT_ARCH", "LAST")

    def __init__(self, text):
        self.NR = dict((name, int(number)) for name, number in map(str.split, text.CALLS.strip().split("\n")))
        self.AUDIT_ARCH, self.LAST = text.AUDIT_ARCH, text.LAST


_tables = {}


def table(arch):
    """The Table of an architecture.  KeyError for one that has none."""
    if arch not in _tables:
        if arch == "x86_64":
            from . import nr_x86_64 as text
        elif arch == "aarch64":
            from . import nr_aarch64 as text
        else:
            raise KeyError("no system call table for architecture %r" % (arch,))
        _tables[arch] = Table(text)
    return _tables[arch]


def native():
    """That of the calls which libc.bind makes."""
    from .libc import TABLE
    return table(TABLE)
