# SPDX-License-Identifier: Apache-2.0
"""Tells whether a sandbox did nothing because it was stopped: SIGSTOP, SIGTSTP or SIGTTIN."""
import os

from .ending import children, opened, status

#: Processes that are looked at; a sandbox with more counts as not stopped.
MOST = 4096


def all_stopped(init):
    """Returns whether processes exist below pid 1 of a sandbox and all of them are stopped.

    init: its number outside.

    Never raises: False if /proc does not tell.
    """
    pending, count = [init], -1
    while pending:
        directory = opened("/proc/%d" % pending.pop())
        count += 1
        state = status(directory).partition(b"\nState:")[2].split(None, 1)[:1]
        pending += children(directory)
        if directory >= 0:
            os.close(directory)
        if count > MOST or count and state != [b"T"]:
            return False
    return count > 0
