# SPDX-License-Identifier: Apache-2.0
"""The host's ends of a program's stdin, stdout and stderr, and the wait for the answer."""
import codecs
import errno
import fcntl
import io
import os
import select
import stat
import subprocess
import sys
import time

from ..errors import SandboxError, usage

PIPE, STDOUT, DEVNULL = subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL
#: Bytes of one read or write.
CHUNK = 1 << 16
#: Reads of one pipe before others have their turn: a program may write as fast as we read.
MOST_CHUNKS = 16
#: Bytes of memory that both outputs together may take, where max_output is not the bound.
MOST_OUTPUT = 64 << 20
#: Bytes of text that are decoded at once: many short texts would take more memory.
BLOCK = 1 << 20
#: Added to a str, it makes sys.getsizeof tell the bytes of each character.
PADDING = "\0" * 128
#: The remedy for EMFILE.
NO_DESCRIPTOR = ("close files that are no longer needed, or allow more (resource.RLIMIT_NOFILE, "
                 "ulimit -n)")


class Kept:
    """The captured part of one output."""

    def __init__(self, text):
        """text: whether it becomes str: UTF-8, universal newlines, U+FFFD for other bytes."""
        self.data, self.pieces, self.length, self.width = bytearray(), [], 0, 1
        self.decoder = None
        if text:
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            self.decoder = io.IncrementalNewlineDecoder(decoder, True)

    @property
    def size(self):
        """Bytes of memory that it takes in one piece.

        A str takes 1, 2 or 4 bytes for each of its characters: what the widest one needs.
        """
        return self.length * self.width + len(self.data)

    def add(self, data, room):
        """Takes more output.  Returns whether all was taken.

        data: bytes; room: bytes by which `size` may grow, or None.
        """
        before, whole = self.size, room is None or len(data) <= room
        self.data += data if whole else data[:room]
        if self.decoder is None or len(self.data) < BLOCK:
            return whole
        return self._decode(None if room is None else before + room) and whole

    def _decode(self, most, final=False):
        piece = self.decoder.decode(bytes(self.data), final)
        self.data.clear()
        padded = piece + PADDING
        length = self.length + len(piece)
        width = max(self.width, sys.getsizeof(padded) // len(padded))
        if most is not None and length * width > most:
            return False
        self.pieces.append(piece)
        self.length, self.width = length, width
        return True

    def output(self, most):
        """Returns (bytes or str, whether it is all).

        most: what `size` may become by decoding the rest, or None.
        """
        if self.decoder is None:
            return bytes(self.data), True
        whole = self._decode(most, True)
        self.pieces = ["".join(self.pieces)]
        return self.pieces[0], whole


class Streams:
    """The three ends of the program and those of this process.

    theirs: the program's three file descriptors.
    ours: {0, 1 or 2: descriptor of a pipe's other end}.
    input: memoryview of what is still to be fed, or None.
    got: {1 or 2: Kept}, the captured output.
    most: bytes of memory that it may take, or None.
    exceeded: whether more came; then nothing more is read or fed.
    """

    def __init__(self, stdin, stdout, stderr, input=None, capture_output=False, text=False,
                 most=None):
        """Opens the ends, as subprocess.run does.

        most: bytes of memory for captured output, or None: any number.  Raises SandboxError: 2 for
        a mistake, 125 if this process has no descriptor left.
        """
        self.text, self.ours, self.got, self._to_close, self._null = text, {}, {}, [], -1
        self.most, self.exceeded = most, False
        if input is not None:
            if stdin is not None:
                raise usage("stdin and input", "both name what the program reads")
            if isinstance(input, str) != bool(text):
                raise usage("input", "text with text=True, bytes without")
            stdin, input = PIPE, input.encode() if text else bytes(input)
        if capture_output:
            if stdout is not None or stderr is not None:
                raise usage("capture_output", "takes the places of stdout and stderr")
            stdout = stderr = PIPE
        self.input = None if input is None else memoryview(input)
        if stdin == STDOUT or stdout == STDOUT:
            raise usage("STDOUT", "is for stderr")
        try:
            self.theirs = [self._end(value, number) for number, value in enumerate((stdin, stdout))]
            self.theirs.append(self.theirs[1] if stderr == STDOUT else self._end(stderr, 2))
            for fd in set(self.theirs):
                if stat.S_ISDIR(os.fstat(fd).st_mode):
                    raise usage("descriptor %d is a directory" % fd,
                                "the program could leave through it")
        except OSError as error:
            self.close()
            raise SandboxError("streams", "the host's ends", error.errno,
                               remedy=NO_DESCRIPTOR if error.errno == errno.EMFILE else None)
        except BaseException:
            self.close()
            raise

    def _end(self, value, number):
        if value == PIPE:
            read, write = high_pipe()
            self._to_close.append(write if number else read)
            self.ours[number] = read if number else write
            if number:
                self.got[number] = Kept(self.text)
            return self._to_close[-1]
        if value is None:
            try:
                os.fstat(number)
                return number
            except OSError:  # the host has closed it
                value = DEVNULL
        if value == DEVNULL:
            if self._null < 0:
                self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
                self._to_close.append(self._null)
            return self._null
        if isinstance(value, int):
            return value
        try:
            return value.fileno()
        except (AttributeError, OSError, ValueError):
            raise usage("%r" % (value,), "is no descriptor and no file that has one")

    @property
    def own(self):
        """The numbers of the program's ends that are pipes made for this run alone."""
        return [number for number, fd in enumerate(self.theirs)
                if fd in self._to_close and fd != self._null]

    def handed_over(self):
        """Closes the program's ends, which the launcher has now, and feeds the first input."""
        while self._to_close:
            os.close(self._to_close.pop())
        for fd in self.ours.values():
            os.set_blocking(fd, False)
        if self.input is not None:
            self.feed()

    def adopt(self, number, fd):
        """Takes over this process's end of a pipe.  number: 0, 1 or 2; fd: descriptor."""
        os.set_blocking(fd, False)
        self.ours[number] = fd
        if number:
            self.got.setdefault(number, Kept(self.text))

    def feed(self):
        """Writes as much input as the pipe takes; closes it at the end or if nobody reads."""
        fd = self.ours[0]
        try:
            while self.input:
                self.input = self.input[os.write(fd, self.input[:CHUNK]):]
        except BlockingIOError:
            return
        except BrokenPipeError:
            pass
        os.close(self.ours.pop(0))

    def pull(self, number):
        """Reads what is in pipe 1 or 2; closes it at its end.  Returns whether anything came."""
        fd, some = self.ours[number], False
        try:
            for _ in range(MOST_CHUNKS):
                data = os.read(fd, CHUNK)
                if not data:
                    os.close(self.ours.pop(number))
                    return some
                some = True
                if not self.got[number].add(data, self._room()):
                    self.exceeded = True
                    return some
                if len(data) < 4096:
                    return some  # most often there is no more, and poll would say so
        except BlockingIOError:
            pass
        return some

    def _room(self):
        """Returns how many bytes of memory captured output may still take, or None."""
        if self.most is None:
            return None
        return max(0, self.most - sum([kept.size for kept in self.got.values()]))

    def serve(self, fd):
        """Feeds or reads one of our ends, a descriptor that poll reported."""
        for number, own in list(self.ours.items()):
            if own == fd:
                self.pull(number) if number else self.feed()

    def wanted(self):
        """Returns {fd: poll events} of our ends that are to be served."""
        return {} if self.exceeded else dict(
            (fd, select.POLLIN if number else select.POLLOUT) for number, fd in self.ours.items()
            if number or self.input is not None)

    def last(self):
        """Reads the rest of the output: the program has ended."""
        for number in [number for number in self.ours if number]:
            while number in self.ours and not self.exceeded and self.pull(number):
                pass

    def output(self, number):
        """Returns the captured output 1 or 2, bytes or str; None if it was not captured."""
        if number not in self.got:
            return None
        kept, room = self.got[number], self._room()
        data, whole = kept.output(None if room is None else kept.size + room)
        self.exceeded = self.exceeded or not whole
        return data

    def close(self):
        """Closes all descriptors that are open."""
        for fd in list(self.ours.values()) + self._to_close:
            os.close(fd)
        self.ours, self._to_close = {}, []


def exchange(call, streams, end=None, heard=None):
    """Feeds and reads until the answer of a client.Call is complete.

    end: monotonic time at which None is returned.
    heard: takes the place of call.take if other threads take, too (popen.Process._heard).
    Returns the answer (client.Call.take).  Raises SandboxError.
    """
    answer, channel, before = call.answer, call.channel.fileno(), {}
    if answer is None and (streams.ours or end is not None):
        poll = select.poll()
        poll.register(channel, select.POLLIN)
    while answer is None and (streams.ours or end is not None):
        wanted = streams.wanted()
        for fd in set(before) - set(wanted):
            poll.unregister(fd)
        for fd in set(wanted) - set(before):
            poll.register(fd, wanted[fd])
        before = wanted
        ready = poll.poll(None if end is None else max(0.0, end - time.monotonic()) * 1000)
        if not ready and end is not None:
            return None
        for fd, _ in ready:
            if fd == channel:
                heard(False) if heard else call.take()
            else:
                if not streams.exceeded:  # nothing of theirs is waited for any more
                    streams.serve(fd)
                    if streams.exceeded:
                        call.kill()
        answer = call.answer  # which another thread may have taken
        late = end is not None and time.monotonic() >= end
        if answer is None and late and channel not in [fd for fd, _ in ready]:
            return None
    while answer is None:
        answer = heard(True) if heard else call.take()
    streams.last()
    return answer


def high_pipe():
    """Returns a pipe whose ends are not 0, 1 or 2: the host may have closed these."""
    ends = os.pipe()
    if min(ends) > 2:
        return ends
    out = tuple(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in ends)
    for fd in ends:
        os.close(fd)
    return out
