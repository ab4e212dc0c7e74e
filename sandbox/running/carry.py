# SPDX-License-Identifier: Apache-2.0
"""Bytes between the caller's descriptors and the workload's, through the supervisor's one poll.

A Flow is one direction.  Nothing ever blocks: a reader that takes nothing fills the pipe, and then the
source is not read any more, so that the writer waits as it would without us.  What goes wrong at one end
is told to the other: the end of a source when all of it has been handed over, a lost sink by closing the
source, which its writer sees as EPIPE.
"""
import fcntl
import os
import select

from ...syscalls.splice import splice

CHUNK = 65536
#: So much may wait for a reader before the other side is not read any more.
BACKLOG = 1 << 18
READABLE = select.POLLIN | select.POLLHUP | select.POLLERR
GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL
FIFO, REGULAR, BLOCK, SOCKET = 0o010000, 0o100000, 0o060000, 0o140000
#: The most that splice moves at once, and the size of a private pipe that much goes through.
PIPE = 1 << 20
#: So many moves of one flow before others have their turn.
TURNS = 16
SEEK_CUR, MSG_DONTWAIT, FIONREAD, F_SETPIPE_SZ = 1, 0x40, 0x541B, 1031
#: splice(2) is refused: by a file with O_APPEND, a file system without it, a kernel or a filter.
NO_SPLICE = (1, 22, 38, 95)  # EPERM EINVAL ENOSYS EOPNOTSUPP
EPIPE, ECONNRESET = 32, 104


class Flow:
    """One direction.

    source, sink: descriptors to wait for
    read: returns what there is of the source, b"" at its end; os.read by default
    write: hands bytes to the sink and returns how many it took; os.write by default
    budget: a Budget or None
    backlog: bytes that may wait here
    most: the size of one write
    moved: bytes that were handed over
    error: errno of a sink that was lost other than by its reader's end, or 0
    """

    def __init__(self, source, sink, write=None, budget=None, backlog=BACKLOG, most=CHUNK):
        self.source, self.sink, self.budget = source, sink, budget
        self.backlog, self.most = backlog, most
        self.read = lambda: os.read(source, CHUNK)
        self.write = write or (lambda data: os.write(sink, data))
        self.data, self.moved, self.error = bytearray(), 0, 0
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
        """Writes once."""
        try:
            count = self.write(bytes(self.data[:self.most]))
            del self.data[:count]
            self.moved += count
        except BlockingIOError:
            pass
        except OSError as error:
            self.failed(error)

    def failed(self, error):
        """The sink refuses what it is given.  error: OSError"""
        if error.errno not in (EPIPE, ECONNRESET):
            self.error = error.errno
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

    def close(self):
        """Gives back what it made of the caller's descriptors."""


class Spliced(Flow):
    """A Flow with a pipe of ours at one end, by splice(2); by reading and writing where that is refused.

    pipe: our end of it, which becomes larger when much comes
    lets_go: the caller's descriptor is closed when the other end has gone, so that its other end learns it
    full: whether the sink is waited for, or the source
    """

    def __init__(self, source, sink, pipe, budget=None):
        Flow.__init__(self, source, sink, budget=budget)
        self.pipe, self.splices, self.full, self.enlarged, self.lets_go = pipe, True, False, False, False

    def wanted(self):
        """As of Flow.  Only one end is waited for: the other one may be ready all the time."""
        if not self.splices:
            return Flow.wanted(self)
        out = {}
        if self.source_open:
            out[self.sink] = select.POLLOUT if self.full else 0
            if not self.full:
                out[self.source] = select.POLLIN
        return out

    def serve(self, events):
        """As of Flow."""
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
        """Moves what there is."""
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
        """Nothing moves: the source is empty, or the sink is full."""
        self.full = self.always_ready or waiting(self.source) > 0
        if self.last and not self.full:
            self.ended()

    always_ready = False

    def enlarge(self):
        """Fewer and larger moves.  Not before there is something to move: a user's pipes have a bound together."""
        self.enlarged = True
        try:
            fcntl.fcntl(self.pipe, F_SETPIPE_SZ, PIPE)
        except OSError:
            pass  # EPERM: the user has so many already

    def copy(self):
        """From now on it is read and written."""


class Outward(Spliced):
    """A stream of the workload's to a descriptor of the caller's."""

    def __init__(self, pipe, fd, budget=None):
        Spliced.__init__(self, pipe, fd, pipe, budget)
        self.given, self.writer = fd, None
        kind = os.fstat(fd).st_mode & 0o170000
        appends = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
        # What a budget counts is read at once: how much is written does not depend on the reader.
        if kind not in (FIFO, REGULAR, BLOCK) or appends and kind != FIFO or budget is not None:
            self.splices = False
            self.copy()

    def copy(self):
        """As of Spliced."""
        from .writer import Writer
        os.set_blocking(self.source, False)
        self.writer = Writer(self.given)
        self.sink, self.write = self.writer.fd, self.writer.write

    def push(self):
        """The caller's end is let go when all has been handed over."""
        Flow.push(self)
        if not self.source_open and not self.data and self.sink_open:
            self._let_go()

    def ended(self):
        """As of Flow."""
        Flow.ended(self)
        if not self.data:
            self._let_go()

    def _let_go(self):
        """Whoever reads the caller's pipe learns now that the program writes no more.  2 is for our own messages."""
        if self.lets_go and self.given != 2:
            self.sink_open = False  # its number is free now, and soon another file's
            self.close()
            become_null(self.given)

    def lost(self):
        """Without a read end there is EPIPE.  The number stays ours, so that nobody else gets it."""
        Flow.lost(self)
        become_null(self.source)

    def close(self):
        """As of Flow."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None


class Inward(Spliced):
    """The caller's stdin to the workload's.

    At its end, or when nobody reads any more, the workload's pipe gets an end of file, and who writes to the
    caller's a broken pipe.  What nobody has read of a file is given back by the file's offset.
    """

    def __init__(self, fd, pipe, reader):
        """fd: the caller's; pipe, reader: the two ends of the private pipe.  The reader becomes ours; it is closed now where
        its presence would hide that nobody else reads."""
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
        """As of Spliced."""
        os.set_blocking(self.sink, False)
        self.backlog = 1  # what is read ahead is lost to the caller's next program
        kind = os.fstat(self.given).st_mode & 0o170000
        if kind == SOCKET:
            from ...syscalls.libc import sockets
            self.socket = sockets.socket(fileno=os.dup(self.given))
            self.read = lambda: self.socket.recv(CHUNK, MSG_DONTWAIT)
        elif kind == FIFO:
            # A description of our own: the flag on the caller's would change it for everybody who
            # shares it.
            try:
                self.reopened = os.open("/proc/self/fd/%d" % self.given,
                                        os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                self.source = self.reopened
                self.read = lambda: os.read(self.reopened, CHUNK)
            except OSError:
                pass

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
        """End of file for the workload, a broken pipe for who writes to the caller's."""
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
        """Closes what was made of the caller's descriptor."""
        if self.reopened >= 0:
            os.close(self.reopened)
            self.reopened = -1
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    #: Whether what the program writes moves the same offset.
    writes_there = False

    def _give_back(self, count):
        if self.writes_there:
            return
        try:
            os.lseek(self.given, -count, SEEK_CUR)
        except OSError:
            pass

    def close(self):
        """What the program has not read is the next one's."""
        self.close_source()
        if self.reader >= 0:
            left = min(waiting(self.reader), self.moved) + len(self.data)
            os.close(self.reader)
            self.reader = -1
            self.data.clear()
            if left:
                self._give_back(left)


def waiting(fd):
    """How many bytes wait in a pipe."""
    return int.from_bytes(fcntl.ioctl(fd, FIONREAD, b"\0\0\0\0"), "little")


def writes_there(given):
    """Whether 1 or 2 may be 0's open file: given back, its offset would lie before what they wrote."""
    flags = [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in given]
    found = os.fstat(given[0])
    return flags[0] & os.O_ACCMODE == os.O_RDWR and any([
        flags[number] == flags[0] and os.path.samestat(found, os.fstat(given[number]))
        for number in (1, 2)])


def become_null(fd):
    """Closes what the descriptor leads to and keeps its number."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, fd, inheritable=False)
    os.close(null)


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

    def resize(self):
        """The caller's terminal has another size."""

    def give_back(self):
        """Gives the caller's terminal back while this process is stopped.  Never raises."""

    def take(self):
        """Takes the caller's terminal again."""


class Streams(Carrier):
    """The private pipes of one run.  errors: [(1 or 2, errno)] of what could not be handed over."""

    def __init__(self, given, pipes, reader, budget, lets_go):
        """given: three descriptors of the caller's; pipes: {number: our end}; reader: the other end of 0's, or -1."""
        self.errors, self.numbers = [], {}
        for number, fd in sorted(pipes.items()):
            flow = Outward(fd, given[number], budget) if number else Inward(given[0], fd, reader)
            flow.lets_go = lets_go
            flow.writes_there = not number and writes_there(given)
            self.numbers[flow] = number
            self.flows += (flow,)
        self.outward = tuple(flow for flow in self.flows if self.numbers[flow])

    def close(self):
        """As of Carrier.  Never raises."""
        for flow in self.flows:
            if flow.error:
                self.errors.append((self.numbers[flow], flow.error))
            try:
                flow.close()
            except OSError:
                pass
            os.close(flow.pipe)
        self.flows = self.outward = ()
