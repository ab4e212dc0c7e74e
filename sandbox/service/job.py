# SPDX-License-Identifier: Apache-2.0
"""One sandbox of a launcher, from the request to the answer, as a member of its loop.

Nothing waits for one sandbox alone: a child that hangs before the gate, a pid 1 that does not die, a host that does not read
its answer hold up themselves.  What does run in one go, with the program's descriptors in the places of 0, 1 and 2, is from
the plan to clone3.
"""
import marshal
import os
import time

from ...syscalls import process
from ..launch import run as launch
from ..running import supervise
from ..running.ending import Ending
from ..errors import SandboxError
from .launcher import PART, SIGKILL, Served, error_as_dict

SETUP, RUNS, ENDS, ANSWERS = "setup", "runs", "ends", "answers"
POLLIN, POLLOUT = 1, 4


class Job:
    """launcher: Launcher; channel: socket to the host; stdio: three descriptors; request: dict."""

    def __init__(self, launcher, channel, stdio, request):
        self.launcher, self.channel, self.stdio, self.request = launcher, channel, stdio, request
        self.state, self.run, self.supervision, self.outcome = SETUP, None, None, None
        self.likely = None  # supervise.Outcome of the end that the host was told of beforehand
        self.foretold, self.controls = False, None  # whether that answer still holds; its controls, by marshal
        self.error, self.parts, self.heard = None, [], channel is not None
        self.key = None  # of unchanged.Plans, while a spare could serve runs like this

    def start(self, cwd=-1):
        """Makes the plan and creates the child.  cwd: descriptor of the host's directory, or -1: nothing depends on it."""
        try:
            os.chdir("/" if cwd < 0 else cwd)
        except OSError:  # one that the host itself may not enter
            os.chdir("/")
        try:
            self.run = self.make_run(self.plan())
            self.run.start()
        except Exception as error:
            self._fail(error)
        finally:
            os.chdir("/")

    def plan(self):
        """The Plan.  Raises SandboxError."""
        plan = self.launcher.plan(self.request)
        self.key = self.launcher.plans.used
        return plan

    def make_run(self, plan):
        """The launch.Run."""
        return Served(plan, self.launcher, self.stdio, self.request.get("own", ()))

    # -- as a member of the loop ---------------------------------------------------------------------------------

    def wanted(self):
        """{fd: events}."""
        wanted = {}
        if self.state is SETUP:
            wanted[self.run.sock.fileno()] = POLLIN
            if self.run.awaited >= 0:
                wanted[self.run.awaited] = POLLIN
        elif self.state is RUNS:
            wanted = self.supervision.wanted()
        elif self.state is ENDS:
            if self.run.pidfd >= 0:
                wanted[self.run.pidfd] = POLLIN
        if self.heard or self.parts:
            wanted[self.channel.fileno()] = (POLLIN if self.heard else 0) | (POLLOUT if self.parts else 0)
        return wanted

    def wait(self):
        """Seconds until the next thing is due, or None."""
        if self.state is SETUP:
            return max(0.0, self.run.begun + launch.SETUP_DEADLINE - time.monotonic())
        if self.state is ENDS:
            return supervise.LOOK_AGAIN if self.run.pidfd < 0 else self.run.ending.wait()
        return self.supervision.wait() if self.state is RUNS else None

    def serve(self, events):
        """Does what is to be done about these events."""
        if self.heard and events.get(self.channel.fileno(), 0) & ~POLLOUT:
            self._hear()
        if self.state is SETUP:
            self._set_up(events)
        elif self.state is RUNS:
            self.supervision.serve(events)
            if self.supervision.done:
                self._over()
                if self.state is ENDS and process.has_ended(self.run.pid):  # it most often has: without another turn
                    self.run.ended = True
                    self._conclude()
        elif self.state is ENDS:
            if self.run.has_ended(events):
                self._conclude()
            else:
                self.run.ending.serve(self.run)
        if self.parts:
            self._send()

    def failed(self, error):
        """A mistake of the launcher's own: the run ends, and its result says so."""
        self.launcher.loop.add(self)
        self._fail(error)
        self.launcher.loop.ask(self)

    # -- the states ----------------------------------------------------------------------------------------------

    def _set_up(self, events):
        run = self.run
        try:
            if run.sock.fileno() in events:
                packet, fd = supervise.take_packet(run.sock)
                if run.take(packet, fd):
                    run.read_back()
                    self.ready()
            elif run.awaited in events:
                run.admit(events[run.awaited])
            elif not self.wait():
                raise launch.not_ready()
        except Exception as error:
            self._fail(error)

    def ready(self):
        """Everything is in force, and init waits."""
        self.run.release()
        self._runs()

    def _runs(self):
        self.outcome = supervise.Outcome(self.run.plan.spec)
        self.supervision = supervise.Supervision(self.run, self.outcome)
        self.state = RUNS
        self.supervision.begin()
        self.key = self.launcher.spares.key(self)
        self._close_stdio(self.run.places.carried())
        tell, self.request = self.request["tell"], {"alone": self.request["alone"]}
        if tell:
            self._say(b">", {"pid": self.run.pid})
        self._foretell()

    def _foretell(self):
        """Tells the host the answer, but for the usage, as if the program had ended well, which it most often does: while
        others work."""
        result = self.run.result
        self.likely = supervise.Outcome(self.run.plan.spec)
        self.likely.status = 0
        if self.run.judge(self.likely):
            self._say(b"~", {"result": dict(result.as_dict(), usage=None)})
            self.foretold, self.controls = True, marshal.dumps(result.controls, 2)
            result.controls = []  # a third of the size there, and a launcher may hold hundreds of them

    def _take_back(self):
        """It ended otherwise."""
        if self.foretold:
            self.run.result.controls, self.controls, self.foretold = marshal.loads(self.controls), None, False
        self.run.judge(self.outcome)

    def _over(self):
        self.supervision.close()
        if self.supervision.error is not None:
            self.outcome.failed(self.supervision.error)
        self._end()

    def _fail(self, error):
        """Nothing ran, or the launcher failed while it did."""
        if self.outcome is None:
            self.error = error if isinstance(error, SandboxError) else SandboxError(
                "start", "%s: %s" % (type(error).__name__, error), getattr(error, "errno", None))
        else:
            self.outcome.failed(error)
            self.supervision.close()
        if self.state is SETUP or self.state is RUNS:
            self._end()
        else:
            self._leave()

    def _end(self):
        """Kills what is left; the rest is done when pid 1 has gone."""
        if self.run is not None and self.run.pid > 0:
            self.state = ENDS
            self.run.ending = self.run.ending or Ending()
            try:
                if self.supervision is None or not self.supervision.over:  # or it has been done
                    self.run.signal_init(SIGKILL)
            except OSError:
                pass
            if self.outcome is not None and not self.outcome.is_like(self.likely):
                self._take_back()
        else:
            self._conclude()

    def _conclude(self):
        self.state = ANSWERS
        try:
            if self.error is not None:
                error = self.error if self.run is None else self.run.abandon(self.error)
                answer, self.foretold = {"error": error_as_dict(error)}, False
            else:
                answer = self._concluded()
            self._close_stdio()
            self.answer(answer)
        finally:
            if self.run is not None:
                self.run.close_late()

    def _concluded(self):
        try:
            result = self.run.conclude(self.outcome)
            return result.usage if self.foretold else {"result": result.packed()}
        except SandboxError as error:  # kept nowhere: its traceback leads back here
            self.foretold = False
            return {"error": error_as_dict(error)}

    def answer(self, answer):
        """The last word to the host, or the rest of what it knows already."""
        self._say(b"=" if self.foretold else b".", answer)

    def _say(self, kind, word):
        """One word to the host."""
        data = marshal.dumps(word, 2)
        pieces = [data[i:i + PART] for i in range(0, len(data), PART)]
        self.parts += [b"+" + piece for piece in pieces[:-1]] + [kind + pieces[-1]]
        self._send()

    def _send(self):
        try:
            while self.parts:
                self.channel.send(self.parts[0])
                del self.parts[0]
        except BlockingIOError:
            return
        except OSError:  # the host does not listen any more
            self.parts = []
        if self.state is ANSWERS:
            self._leave()

    def _leave(self):
        self.launcher.loop.remove(self)
        self.launcher.jobs.discard(self)
        self._close_stdio()
        if self.channel is not None:
            self.channel.close()
        if self.key is not None and self.error is None:
            self.launcher.spares.ran(self.key)
        self.error = None  # its traceback leads back here: garbage that only a collection would find

    def _close_stdio(self, kept=()):
        """kept: the numbers of those that are carried until the end."""
        for number, fd in enumerate(self.stdio):
            if number not in kept:
                os.close(fd)
        self.stdio = tuple(fd for number, fd in enumerate(self.stdio) if number in kept)

    # -- the host ------------------------------------------------------------------------------------------------

    def _hear(self):
        """One word of the host."""
        try:
            word = self.channel.recv(16)
        except BlockingIOError:
            return
        except OSError:
            word = b""
        if word[:1] == b"s" and self.state is RUNS:
            try:
                self.run.signal(word[1])
            except OSError:
                pass
        elif word[:1] in (b"k", b""):
            self.heard = bool(word)
            self.cancel()

    def cancel(self):
        """The host wants it gone: at once, and its result says who it was."""
        if self.state is SETUP:
            self._fail(killed())
        elif self.state is RUNS:
            self.supervision.kill_for_caller()


def killed():
    """What is told where nothing has run because the host wanted it gone."""
    return SandboxError("start", "killed by the caller", reason="nothing was run", status=128 + SIGKILL)
