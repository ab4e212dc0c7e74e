# SPDX-License-Identifier: Apache-2.0
"""The ledger's file: JSON lines, written while the program runs, never waited for."""
import select
from json import dumps  # before anything runs

from ..result.result import SCHEMA
from ..running.writer import Writer

#: What a reader that takes nothing may leave in memory; more is dropped, and the last line says so.
BACKLOG = 4 << 20
#: At the end a reader gets this long.
PATIENCE_MS = 2000


class Stream:
    """fd: the file's descriptor, which stays the caller's; show: called when the program is let go.  error: the OSError that
    ended it, or None."""

    def __init__(self, fd, show=None):
        self.writer, self.show = Writer(fd), show
        self.pending, self.size, self.dropped, self.error = [], 0, 0, None

    def begin(self):
        """Shows the file under its name, where it has one."""
        show, self.show = self.show, None
        if show is not None:
            try:
                show()
            except OSError as error:
                self.error = error

    def add(self, event, row):
        """Appends a line.  row: dict of what json can write."""
        if self.error is not None:
            return
        line = (dumps(dict({"schema": SCHEMA, "event": event}, **row)) + "\n").encode("ascii")
        if self.size + len(line) > BACKLOG:
            self.dropped += 1
            return
        self.pending.append(line)
        self.size += len(line)

    def wanted(self):
        """{fd: events}"""
        return {self.writer.fd: select.POLLOUT} if self.pending else {}

    def serve(self, events=()):
        """Writes what goes."""
        while self.pending and self.error is None:
            data = b"".join(self.pending)
            try:
                done = self.writer.write(data)
            except BlockingIOError:
                self.pending = [data]
                return
            except OSError as error:
                self.error, self.pending = error, []
                return
            self.size -= done
            self.pending = [data[done:]] if done < len(data) else []

    def close(self):
        """Writes the rest, for as long as somebody reads."""
        if self.dropped:
            self.size = 0
            self.add("capped", {"dropped_lines": self.dropped})
        poll = select.poll()
        poll.register(self.writer.fd, select.POLLOUT)
        self.serve()
        while self.pending and poll.poll(PATIENCE_MS):
            self.serve()
        self.writer.close()
