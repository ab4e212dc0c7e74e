# SPDX-License-Identifier: Apache-2.0
"""The ledger's file: JSON lines, written while the program runs, never waited for."""
import select
from json import dumps

from ..result.result import SCHEMA
from ..running.writer import Writer

#: Bytes that wait for a slow reader.  More lines are dropped, and the last line says how many.
BACKLOG = 4 << 20
#: Milliseconds that a reader gets for the rest at the end.
PATIENCE_MS = 2000


class Stream:
    """Lines for one file.

    error: the OSError that ended it, or None.
    pending: [bytes] to be written; size: their length; dropped: how many lines were too many.
    """

    def __init__(self, fd, show=None):
        """fd: of the file, which stays the caller's; show: called when the program begins."""
        self.writer, self.show = Writer(fd), show
        self.pending, self.size, self.dropped, self.error = [], 0, 0, None

    def begin(self):
        """Gives the file its name, if that was put off."""
        show, self.show = self.show, None
        if show is not None:
            try:
                show()
            except OSError as error:
                self.error = error

    def add(self, event, row):
        """Appends a line.  event: a word; row: dict of what json can write."""
        if self.error is not None:
            return
        line = (dumps(dict({"schema": SCHEMA, "event": event}, **row)) + "\n").encode("ascii")
        if self.size + len(line) > BACKLOG:
            self.dropped += 1
            return
        self.pending.append(line)
        self.size += len(line)

    def wanted(self):
        """Returns {fd: poll events}."""
        return {self.writer.fd: select.POLLOUT} if self.pending else {}

    def serve(self, events=()):
        """Writes as much as the file takes."""
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
        """Writes the rest, as long as somebody reads."""
        if self.dropped:
            self.size = 0
            self.add("capped", {"dropped_lines": self.dropped})
        poll = select.poll()
        poll.register(self.writer.fd, select.POLLOUT)
        self.serve()
        while self.pending and poll.poll(PATIENCE_MS):
            self.serve()
        self.writer.close()
