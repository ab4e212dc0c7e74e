# SPDX-License-Identifier: Apache-2.0
"""A program that runs in a sandbox while its host does something else; also for asyncio."""
import os
import select
import subprocess
import threading
import time

from ..errors import SandboxError, usage
from . import client
from .request import ask, finished, overflowed, settle
from .streams import exchange

SIGKILL, SIGTERM = 9, 15
FORWARDED = (1, 2, 3, 10, 12, 15)  # HUP INT QUIT USR1 USR2 TERM


class Process:
    """A program in a sandbox that lives no longer than this object and its process.

    args: list, as given.
    stdin, stdout, stderr: files of the pipes, or None.
    pid: of the sandbox's pid 1 on the host.
    result: the Result, None while it runs.
    Several threads may wait for it.
    """

    def __init__(self, argv, streams, python, options):
        self._lock = threading.Lock()
        self.args, self.result, self._streams, self._error = list(argv), None, streams, None
        try:
            self._call = ask(argv, streams, python, options, tell=True)
            streams.handed_over()
            try:
                while self._call.started is None:
                    answer = self._call.take()
                    if answer is not None:  # it has ended, or nothing ran
                        self._take(answer)
                        break
            except BaseException:
                settle(self._call)
                raise
        except BaseException:
            streams.close()
            raise
        self.pid = (self._call.started or {}).get("pid")
        self.stdin, self.stdout, self.stderr = [self._file(number) for number in range(3)]

    def _file(self, number):
        fd = self._streams.ours.pop(number, None)
        if fd is None:
            return None
        os.set_blocking(fd, True)
        mode = "r" if number else "w"
        if self._streams.text:
            return open(fd, mode, encoding="utf-8", errors="replace")
        return open(fd, mode + "b", -1 if number else 0)

    def _take(self, answer):
        self.result = finished(answer)

    @property
    def returncode(self):
        """The Result's returncode; None while the program runs."""
        return None if self.result is None else self.result.returncode

    def poll(self):
        """Returns the returncode, None while it runs.  Raises SandboxError if the launcher died."""
        while self.result is None:
            self._raise()
            if not _readable(self._call.channel, 0):
                break
            self._receive()
        return self.returncode

    def _receive(self):
        """Takes one packet if there is one: another thread may have taken it."""
        with self._lock:
            self._raise()
            try:
                if self.result is None and _readable(self._call.channel, 0):
                    answer = self._call.take()
                    if answer is not None:
                        self._take(answer)
            except SandboxError as error:
                self._error = error
                raise

    def _heard(self, waits):
        """Takes one packet.  Returns the answer if it is complete.  waits: whether to wait."""
        if waits:
            _readable(self._call.channel, None)
        self._receive()
        return self._call.answer

    def _raise(self):
        if self._error is not None:
            raise self._error

    def wait(self, timeout=None):
        """Waits for the end and returns the returncode.

        timeout: seconds.  Raises subprocess.TimeoutExpired, and the program runs on; SandboxError
        if the launcher died.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while self.result is None:
            self._raise()
            left = None if end is None else end - time.monotonic()
            if not _readable(self._call.channel, left):
                raise subprocess.TimeoutExpired(self.args, timeout)
            self._receive()
        return self.returncode

    def communicate(self, input=None, timeout=None):
        """Feeds the input, reads to the end, waits.  Returns (stdout, stderr).

        input: bytes, or str with text; timeout: seconds.  Both outputs together are bounded as the
        captured output of `mrunc.run` is; what the caller reads from the files is not.  Raises
        subprocess.TimeoutExpired, SandboxError.
        """
        if input is not None and self.stdin is None:
            raise usage("input", "stdin is no pipe")
        streams = self._streams
        for number, stream in enumerate((self.stdin, self.stdout, self.stderr)):
            if stream is not None and not stream.closed:
                if number == 0:
                    stream.flush()
                streams.adopt(number, os.dup(stream.fileno()))
                stream.close()
        if 0 in streams.ours and streams.input is None:
            given = (input or "").encode() if streams.text else bytes(input or b"")
            streams.input = memoryview(given)
            streams.feed()
        end = None if timeout is None else time.monotonic() + timeout
        self._raise()
        if self.result is None:
            if exchange(self._call, streams, end, self._heard) is None:
                raise subprocess.TimeoutExpired(self.args, timeout)
        streams.last()
        streams.close()
        output = streams.output(1), streams.output(2)
        if streams.exceeded:
            overflowed(self.result, streams)
        return output

    def send_signal(self, number):
        """Sends the program HUP INT QUIT USR1 USR2 or TERM; SIGKILL ends the sandbox."""
        if self.result is not None:
            return
        if number == SIGKILL:
            self._call.kill()
        elif number in FORWARDED:
            self._call.say(b"s" + bytes([number]))
        else:
            raise usage("signal %d" % number,
                        "a sandbox takes HUP INT QUIT USR1 USR2 TERM and KILL")

    def terminate(self):
        """Sends the program SIGTERM."""
        self.send_signal(SIGTERM)

    def kill(self):
        """Kills the sandbox and everything in it."""
        self.send_signal(SIGKILL)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        own = self._call.is_own
        if kind is not None and own:
            self.kill()
        for stream in (self.stdout, self.stderr, self.stdin):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass
        if kind is None:
            self.wait()
        elif self.result is None and own:
            settle(self._call)

    def __del__(self):
        for held in (getattr(self, "_call", None), getattr(self, "_streams", None)):
            if held is not None:
                held.close()


def _readable(channel, seconds):
    if channel.fileno() < 0:  # the answer is complete
        return True
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    return bool(poll.poll(None if seconds is None else max(0.0, seconds) * 1000))


async def exchange_async(call, streams):
    """As streams.exchange, by the readers and writers of asyncio's event loop.

    Cancelled, it kills the sandbox and waits for its end.
    """
    import asyncio  # an optional way to wait
    loop = asyncio.get_event_loop()
    done, watched, channel = loop.create_future(), {}, call.channel.fileno()

    def handle(function, *arguments):
        try:
            answer = function(*arguments)
            if function == streams.serve and streams.exceeded:
                call.kill()
            if function == call.take and answer is not None and not done.done():
                done.set_result((answer, None))
        except BlockingIOError:
            pass
        except BaseException as error:  # not the future's: nobody would retrieve a cancelled one's
            if not done.done():
                done.set_result((None, error))
        if done.done():  # at once: take has closed the channel, and its number may be used again
            loop.remove_reader(channel)
            watch({})
        else:
            watch(streams.wanted())

    def watch(wanted):
        for fd in set(watched) - set(wanted):
            (loop.remove_reader if watched.pop(fd) == select.POLLIN else loop.remove_writer)(fd)
        for fd in set(wanted) - set(watched):
            watched[fd] = wanted[fd]
            add = loop.add_reader if wanted[fd] == select.POLLIN else loop.add_writer
            add(fd, handle, streams.serve, fd)
    call.channel.setblocking(False)
    loop.add_reader(channel, handle, call.take)
    watch(streams.wanted())
    try:
        try:
            answer, error = await asyncio.shield(done)
        except asyncio.CancelledError:
            call.kill()
            try:
                await asyncio.wait([done], timeout=client.SETTLE)
            finally:
                if not done.done():
                    loop.remove_reader(channel)
                    call.close()
            raise
    finally:
        if not done.done():
            loop.remove_reader(channel)
            watch({})
            done.cancel()
    if error is not None:
        raise error
    streams.last()
    return answer


async def wait_async(streams, submit):
    """As request.wait, in the running event loop of asyncio."""
    try:
        call = submit()
        streams.handed_over()
        return await exchange_async(call, streams)
    finally:
        streams.close()
