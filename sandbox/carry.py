# SPDX-License-Identifier: Apache-2.0
"""Bytes on their way between the caller's descriptors and the workload's, through the supervisor's one poll.

A Flow is one direction.  Nothing ever blocks: a reader that takes nothing fills the backlog, and then the source is not
read any more, so that the writer waits as it would without us.  What goes wrong at one end is told to the other: the end
of a source when all of it has been handed over, a lost sink by closing the source, which the workload sees as EPIPE.
"""
import os
import select

from .writer import Writer

CHUNK = 65536
#: So much may wait for a reader before the other side is not read any more.
BACKLOG = 1 << 18
READABLE = select.POLLIN | select.POLLHUP | select.POLLERR
GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL


class Budget:
    """How many bytes all flows of a run may carry together.  exceeded: more came, and was dropped."""

    __slots__ = ("left", "exceeded")

    def __init__(self, size):
        self.left, self.exceeded = size, False

    def take(self, data):
        """The part of the data (bytes) that is still within the budget."""
        self.exceeded = self.exceeded or len(data) > self.left
        data = data[:self.left]
        self.left -= len(data)
        return data


class Flow:
    """One direction.  source, sink: non-blocking descriptors; write: what hands bytes to the sink and returns how many it
    took, os.write by default; budget: a Budget or None; backlog: bytes; most: the size of one write.  moved: bytes that
    were handed over."""

    def __init__(self, source, sink, write=None, budget=None, backlog=BACKLOG, most=CHUNK):
        self.source, self.sink, self.budget = source, sink, budget
        self.backlog, self.most = backlog, most
        self.write = write or (lambda data: os.write(sink, data))
        self.data, self.moved = bytearray(), 0
        self.source_open = self.sink_open = True
        self.last = False  # whoever could write is dead: a source that is empty has ended

    @property
    def room(self):
        """Whether the source is to be read."""
        return self.source_open and len(self.data) < self.backlog

    def wanted(self):
        """{fd: poll events} to wait for.  A sink is watched also without data: a reader that goes away is noticed then."""
        out = {}
        if self.room:
            out[self.source] = select.POLLIN
        if self.sink_open:
            out[self.sink] = out.get(self.sink, 0) | (select.POLLOUT if self.data else 0)
        return out

    def serve(self, events):
        """Moves what can be moved.  events: dict fd -> poll events."""
        if self.room and events.get(self.source, 0) & READABLE:
            self.pull()
        while self.last and self.room:
            self.pull()
        if self.sink_open and self.data:
            self.push()
        elif self.sink_open and events.get(self.sink, 0) & GONE:
            self.lost()

    def pull(self):
        """Reads once."""
        try:
            data = os.read(self.source, CHUNK)
        except BlockingIOError:
            if self.last:
                self.ended()
            return
        except OSError:  # EIO: the last user of a pty is gone
            data = b""
        if not data:
            self.ended()
            return
        self.data += data if self.budget is None else self.budget.take(data)
        if self.budget is not None and self.budget.exceeded:
            self.ended()

    def push(self):
        """Writes once."""
        try:
            count = self.write(bytes(self.data[:self.most]))
            del self.data[:count]
            self.moved += count
        except BlockingIOError:
            pass
        except OSError:
            self.lost()

    def ended(self):
        """The source gives nothing any more."""
        self.source_open = False

    def lost(self):
        """The sink takes nothing any more."""
        self.data.clear()
        self.source_open = self.sink_open = False

    @property
    def busy(self):
        """Whether there is, or may be, something left to hand over."""
        return self.source_open or bool(self.data)


class Carrier:
    """Flows that belong together.  flows: all of them; outward: those to the caller, which go on to the end."""

    flows = outward = ()
    is_last = False

    def last(self):
        """Whoever could write inside is dead."""
        self.is_last = True
        for flow in self.outward:
            flow.last = True

    def serve(self, events, over):
        """Moves what can be moved.  events: dict fd -> poll events; over: the workload has ended."""
        for flow in self.outward if over else self.flows:
            flow.serve(events)

    def wait(self):
        """Seconds until something is due, or None."""
        return None

    def close(self):
        """Gives everything back."""


class Output(Carrier):
    """The workload's stdout and stderr, by way of pipes of our own.

    Made before the child is: `theirs` is {1: fd, 2: fd}, the ends that take the places of its 1 and 2.  Where both lead
    to one file it is one pipe, so that what was written first arrives first.
    """

    def __init__(self, budget, stdio=(0, 1, 2)):
        """budget: of both together; stdio: where the caller's descriptors are.  Raises OSError."""
        self.budget, self.pipes, self.theirs, self.writers = budget, {}, {}, []
        for fd in (1, 2):
            if fd == 2 and os.path.samestat(os.fstat(stdio[1]), os.fstat(stdio[2])):
                self.theirs[2] = self.theirs[1]
                continue
            self.pipes[fd], self.theirs[fd] = os.pipe()
            os.set_blocking(self.pipes[fd], False)

    def release(self):
        """Closes the child's ends in this process: only then does the workload's end show."""
        for fd in set(self.theirs.values()):
            os.close(fd)
        self.theirs = {}

    def start(self, stdio=(0, 1, 2)):
        """Makes the flows, after the child has been made.  stdio: where the caller's descriptors are."""
        for fd, pipe in self.pipes.items():
            writer = Writer(stdio[fd])
            self.writers.append(writer)
            self.flows += (Carried(pipe, writer.fd, writer.write, self.budget),)
        self.outward = self.flows

    def close(self):
        """Gives the caller's descriptors their flags back."""
        for writer in self.writers:
            writer.close()
        self.writers = []

    def abandon(self):
        """Closes what is open of the pipes."""
        self.release()
        for fd in self.pipes.values():
            os.close(fd)
        self.pipes = {}


class Carried(Flow):
    """A stream of the workload's; a reader that goes away closes it, so that the workload gets EPIPE as usual."""

    def lost(self):
        """Without a read end there is EPIPE.  The number stays ours, so that nobody else gets it."""
        Flow.lost(self)
        become_null(self.source)


def become_null(fd):
    """Closes what the descriptor leads to and keeps its number."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, fd, inheritable=False)
    os.close(null)
