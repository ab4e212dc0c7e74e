# SPDX-License-Identifier: Apache-2.0
"""Finds the table of system call numbers of an architecture."""
from . import nr_aarch64, nr_x86_64

TABLES = {"x86_64": nr_x86_64, "aarch64": nr_aarch64}


def table(arch):
    """Returns the module nr_<arch>.

    Its names: NR, {name: number} in ascending order; AUDIT_ARCH; LAST, the highest number. Raises
    KeyError for an architecture without a table.
    """
    if arch not in TABLES:
        raise KeyError("no system call table for architecture %r" % (arch,))
    return TABLES[arch]


def native():
    """Returns the table of the calls that `libc.bind` makes."""
    from .libc import TABLE  # here: tables of numbers need no ctypes
    return table(TABLE)
