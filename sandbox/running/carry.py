# SPDX-License-Identifier: Apache-2.0
"""Carries bytes between the caller's descriptors and the program's, in one poll loop.

A Flow is one direction. Nothing ever blocks: if a reader stops, the pipe fills, and the source is
not read any more. So the writer waits as it would without mrunc. Each end learns what happens at
the other. The end of a source is passed on once all of it is delivered. If the sink is lost, the
source is closed, which its writer sees as EPIPE.
"""
import fcntl
import os
import select

from ...syscalls.process import splice
from ...syscalls.libc import sockets

CHUNK = 65536
#: Bytes that may wait for a reader before the source is not read any more.
BACKLOG = 1 << 18
READABLE = select.POLLIN | select.POLLHUP | select.POLLERR
GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL
FIFO, REGULAR, BLOCK, SOCKET = 0o010000, 0o100000, 0o060000, 0o140000
#: Bytes that splice moves at once, and the size of a private pipe that carries much.
PIPE = 1 << 20
#: Moves of one flow before the others have their turn.
TURNS = 16
SEEK_CUR, MSG_DONTWAIT, FIONREAD, F_SETPIPE_SZ = 1, 0x40, 0x541B, 1031
#: Errors of splice(2) for a file with O_APPEND, a file system without it, a kernel or a filter.
NO_SPLICE = (1, 22, 38, 95)  # EPERM EINVAL ENOSYS EOPNOTSUPP
EPIPE, ECONNRESET = 32, 104


class Flow:
    """One direction.

    source, sink: descriptors to wait for.
    read: returns the next bytes of the source, b"" at its end; os.read by default.
    write: takes bytes for the sink and returns how many it took; os.write by default.
    budget: output_limit.Budget or None.
    backlog: bytes that may wait here.
    most: bytes of one write.
    moved: bytes that were delivered.
    error: errno of a sink that was lost for another reason than its reader's end, or 0.
    last: every possible writer is dead, so an empty source has ended.
    """

    def __init__(self, source, sink, write=None, budget=None, backlog=BACKLOG, most=CHUNK):
        self.source, self.sink, self.budget = source, sink, budget
        self.backlog, self.most = backlog, most
        self.read = lambda: os.read(source, CHUNK)
        self.write = write or (lambda data: os.write(sink, data))
        self.data, self.moved, self.error = bytearray(), 0, 0
        self.source_open = self.sink_open = True
        self.last = False

    @property
    def room(self):
        """Returns whether the source is to be read."""
        return self.source_open and len(self.data) < self.backlog

    def wanted(self):
        """Returns {fd: poll events} to wait for.

        A sink is watched also without data, to notice a reader that goes away.
        """
        out = {}
        if self.room:
            out[self.source] = select.POLLIN
        if self.sink_open:
            out[self.sink] = out.get(self.sink, 0) | (select.POLLOUT if self.data else 0)
        return out

    def serve(self, events):
        """Moves as much as possible.  events: {fd: poll events}."""
        if self.room and events.get(self.source, 0) & READABLE:
            self.pull()
        while self.last and self.room:
            self.pull()
        if self.sink_open and self.data:
            self.push()
        elif self.sink_open and events.get(self.sink, 0) & GONE:
            self.lost()

    def pull(self):
        """Reads once from the source."""
        try:
            data = self.read()
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
        """Writes once to the sink."""
        try:
            count = self.write(bytes(self.data[:self.most]))
            del self.data[:count]
            self.moved += count
        except BlockingIOError:
            pass
        except OSError as error:
            self.failed(error)

    def failed(self, error):
        """Handles an OSError of the sink."""
        if error.errno not in (EPIPE, ECONNRESET):
            self.error = error.errno
        self.lost()

    def ended(self):
        """Notes that the source has ended."""
        self.source_open = False

    def lost(self):
        """Notes that the sink takes nothing any more."""
        self.data.clear()
        self.source_open = self.sink_open = False

    @property
    def busy(self):
        """Returns whether something is left to deliver, or may come."""
        return self.source_open or bool(self.data)

    def close(self):
        """Closes what it made of the caller's descriptors."""


class Spliced(Flow):
    """A Flow by splice(2), with a private pipe at one end; by read and write where that fails.

    pipe: our end of it, which grows when much comes.
    lets_go: whether to close the caller's descriptor when the other end is gone, so that its other
        end learns it.
    full: whether to wait for the sink; else for the source.
    """

    def __init__(self, source, sink, pipe, budget=None):
        Flow.__init__(self, source, sink, budget=budget)
        self.pipe, self.splices = pipe, True
        self.full = self.enlarged = self.lets_go = False

    def wanted(self):
        """Returns {fd: poll events}, as Flow.

        Only one end is waited for: the other may be ready all the time.
        """
        if not self.splices:
            return Flow.wanted(self)
        out = {}
        if self.source_open:
            out[self.sink] = select.POLLOUT if self.full else 0
            if not self.full:
                out[self.source] = select.POLLIN
        return out

    def serve(self, events):
        """Moves as much as possible, as Flow."""
        if not self.splices:
            Flow.serve(self, events)
            return
        at_sink = events.get(self.sink, 0)
        if self.source_open and (self.last or events.get(self.source, 0) & READABLE or
                                 at_sink & select.POLLOUT):
            self.move()
        if self.source_open and self.splices and at_sink & GONE:
            self.lost()

    def move(self):
        """Moves what the source has."""
        for _ in range(TURNS):
            try:
                count = splice(self.source, self.sink, PIPE)
            except BlockingIOError:
                return self._wait()
            except OSError as error:
                if error.errno not in NO_SPLICE:
                    return self.failed(error)
                self.splices = False
                return self.copy()
            if not count:
                return self.ended()
            self.moved += count
            if not self.enlarged and self.moved >= CHUNK:
                self.enlarge()
        return None

    def _wait(self):
        """Chooses the end to wait for: the source is empty, or the sink is full."""
        self.full = self.always_ready or waiting(self.source) > 0
        if self.last and not self.full:
            self.ended()

    always_ready = False

    def enlarge(self):
        """Makes the pipe larger, for fewer moves.

        Not before there is something to move: the kernel bounds the pipes of a user together.
        """
        self.enlarged = True
        try:
            fcntl.fcntl(self.pipe, F_SETPIPE_SZ, PIPE)
        except OSError:
            pass  # EPERM: the user has so many already

    def copy(self):
        """Changes from splice to read and write."""


class Outward(Spliced):
    """Carries a stream of the program to a descriptor of the caller."""

    def __init__(self, pipe, fd, budget=None):
        Spliced.__init__(self, pipe, fd, pipe, budget)
        self.given, self.writer = fd, None
        kind = os.fstat(fd).st_mode & 0o170000
        appends = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
        # With a budget everything is read at once: the reader must not decide how much is counted.
        if kind not in (FIFO, REGULAR, BLOCK) or appends and kind != FIFO or budget is not None:
            self.splices = False
            self.copy()

    def copy(self):
        """Changes to read and write, as Spliced."""
        from .writer import Writer  # for what splice refuses
        os.set_blocking(self.source, False)
        self.writer = Writer(self.given)
        self.sink, self.write = self.writer.fd, self.writer.write

    def push(self):
        """Writes once; releases the caller's end after the last byte."""
        Flow.push(self)
        if not self.source_open and not self.data and self.sink_open:
            self._let_go()

    def ended(self):
        """Notes the source's end, as Flow."""
        Flow.ended(self)
        if not self.data:
            self._let_go()

    def _let_go(self):
        """Releases the caller's pipe, so that its reader learns that the program writes no more.

        Never 2, which mrunc's own messages need.
        """
        if self.lets_go and self.given != 2:
            self.sink_open = False  # its number is free now, and soon another file's
            self.close()
            become_null(self.given)

    def lost(self):
        """Closes the read end, so that the program gets EPIPE.

        The descriptor keeps its number: no other file may get it.
        """
        Flow.lost(self)
        become_null(self.source)

    def close(self):
        """Closes its writer, as Flow."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None


class Inward(Spliced):
    """Carries the caller's stdin to the program.

    At its end, or when no reader is left, the program's pipe gets an end of file, and a writer to
    the caller's stdin gets EPIPE. Bytes of a file that the program has not read are given back by
    the file's offset.

    writes_there: whether what the program writes moves the same offset.
    """

    def __init__(self, fd, pipe, reader):
        """fd: of the caller.
        pipe, reader: write and read end of the private pipe.

        The reader becomes ours. It is closed now if its presence would hide that no other reader is
        left.
        """
        Spliced.__init__(self, fd, pipe, pipe)
        self.given, self.socket, self.reopened, self.reader = fd, None, -1, reader
        kind = os.fstat(fd).st_mode & 0o170000
        self.always_ready = self.full = kind in (REGULAR, BLOCK)
        if not self.always_ready:
            os.close(reader)
            self.reader = -1
        if kind not in (FIFO, REGULAR, BLOCK):
            self.splices = False
            self.copy()

    def copy(self):
        """Changes to read and write, as Spliced."""
        os.set_blocking(self.sink, False)
        self.backlog = 1  # bytes that are read ahead are lost to the caller's next program
        kind = os.fstat(self.given).st_mode & 0o170000
        if kind == SOCKET:
            self.socket = sockets.socket(fileno=os.dup(self.given))
            self.read = lambda: self.socket.recv(CHUNK, MSG_DONTWAIT)
        elif kind == FIFO:
            # A new open file description: O_NONBLOCK on the caller's would change it for every
            # process that shares it.
            try:
                self.reopened = os.open("/proc/self/fd/%d" % self.given,
                                        os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                self.source = self.reopened
                self.read = lambda: os.read(self.reopened, CHUNK)
            except OSError:
                pass

    def push(self):
        """Writes once; passes the end on after the last byte."""
        Flow.push(self)
        if not self.source_open and not self.data and self.sink_open:
            self.lost()

    def ended(self):
        """Notes the end of the caller's stdin."""
        Flow.ended(self)
        if not self.data:
            self.lost()

    def lost(self):
        """Gives the program an end of file, and a writer to the caller's stdin EPIPE."""
        left = len(self.data)
        Flow.lost(self)
        become_null(self.sink)
        self.close_source()
        if not self.always_ready:
            if self.lets_go:
                become_null(self.given)
        elif left:
            self._give_back(left)

    def close_source(self):
        """Closes what it made of the caller's descriptor."""
        if self.reopened >= 0:
            os.close(self.reopened)
            self.reopened = -1
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    writes_there = False

    def _give_back(self, count):
        if self.writes_there:
            return
        try:
            os.lseek(self.given, -count, SEEK_CUR)
        except OSError:
            pass

    def close(self):
        """Gives back the bytes that the program has not read."""
        self.close_source()
        if self.reader >= 0:
            left = min(waiting(self.reader), self.moved) + len(self.data)
            os.close(self.reader)
            self.reader = -1
            self.data.clear()
            if left:
                self._give_back(left)


def waiting(fd):
    """Returns how many bytes wait in a pipe."""
    return int.from_bytes(fcntl.ioctl(fd, FIONREAD, b"\0\0\0\0"), "little")


def writes_there(given):
    """Returns whether 1 or 2 may be the same open file as 0.

    given: three descriptors of the caller.

    Then the offset must not be set back to before what they wrote.
    """
    flags = [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in given]
    found = os.fstat(given[0])
    return flags[0] & os.O_ACCMODE == os.O_RDWR and any([
        flags[number] == flags[0] and os.path.samestat(found, os.fstat(given[number]))
        for number in (1, 2)])


def become_null(fd):
    """Points a descriptor to /dev/null and keeps its number."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, fd, inheritable=False)
    os.close(null)


class Carrier:
    """Flows that belong together.

    flows: all of them.
    outward: those to the caller, which go on to the end.
    errors: [(number, errno)] of the caller's 0, 1 and 2 that did not take or give everything; known
    once it is closed.
    """

    flows = outward = errors = ()
    is_last = False

    def last(self):
        """Tells the flows that every possible writer inside is dead."""
        self.is_last = True
        for flow in self.outward:
            flow.last = True

    def serve(self, events, over):
        """Moves as much as possible.

        events: {fd: poll events}.
        over: whether the program has ended.
        """
        for flow in self.outward if over else self.flows:
            flow.serve(events)

    def wait(self):
        """Returns the seconds until something is due, or None."""
        return None

    def close(self):
        """Closes and restores everything."""

    def resize(self):
        """Takes on the new size of the caller's terminal."""

    def give_back(self):
        """Restores the caller's terminal while this process is stopped.  Never raises."""

    def take(self):
        """Takes the caller's terminal again."""


class Streams(Carrier):
    """The private pipes of one run."""

    def __init__(self, given, pipes, reader, budget, lets_go):
        """given: three descriptors of the caller.
        pipes: {number: our end}.
        reader: the other end of 0's pipe, or -1.
        budget: output_limit.Budget or None.
        lets_go: as Spliced.
        """
        self.errors, self.numbers = [], {}
        for number, fd in sorted(pipes.items()):
            flow = Outward(fd, given[number], budget) if number else Inward(given[0], fd, reader)
            flow.lets_go = lets_go
            flow.writes_there = not number and writes_there(given)
            self.numbers[flow] = number
            self.flows += (flow,)
        self.outward = tuple(flow for flow in self.flows if self.numbers[flow])

    def close(self):
        """Closes all flows and pipes.  Never raises."""
        for flow in self.flows:
            if flow.error:
                self.errors.append((self.numbers[flow], flow.error))
            try:
                flow.close()
            except OSError:
                pass
            os.close(flow.pipe)
        self.flows = self.outward = ()
