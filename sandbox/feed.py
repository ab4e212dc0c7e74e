# SPDX-License-Identifier: Apache-2.0
"""A private pipe between the caller's stdin and the workload's, where the caller's own would be a way out.

A pipe can be opened again through /proc/self/fd by whoever owns it, for the other direction too, and Landlock has no rule
for pipes.  An ordinary user's sandbox runs under the user's id: in `producer | sh` it could write commands into the pipe
that this `sh` reads.  So it gets a pipe of its own, and the supervisor copies.  As with ssh, a piped stdin is read ahead.
"""
import fcntl
import os

from .carry import Carrier, Flow, become_null


class Feed(Carrier):
    """Copies the caller's stdin, which is the descriptor `stdin`, into the pipe whose write end is `pipe` (fd)."""

    def __init__(self, pipe, stdin=0):
        os.set_blocking(pipe, False)
        try:  # a description of our own: the flag on the caller's would change it for everybody who shares it
            source = os.open("/proc/self/fd/%d" % stdin, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            source = fcntl.fcntl(stdin, fcntl.F_DUPFD_CLOEXEC, 3)
        self.flows = (Copied(source, pipe, backlog=1),)

    def close(self):
        """Stops; the pipe's write end is closed by its owner."""
        os.close(self.flows[0].source)


class Copied(Flow):
    """stdin on its way; at its end, or when nobody reads any more, the workload's pipe gets an end of file."""

    def push(self):
        """The end comes after the last byte."""
        Flow.push(self)
        if not self.source_open and not self.data and self.sink_open:
            self.lost()

    def ended(self):
        """End of file on the caller's side."""
        Flow.ended(self)
        if not self.data:
            self.lost()

    def lost(self):
        """End of file for the workload."""
        Flow.lost(self)
        become_null(self.sink)
