# SPDX-License-Identifier: Apache-2.0
"""One sandbox of a launcher, from the request to the answer: a member of its loop.

No job holds up the others: neither a child that hangs before the gate, nor a pid 1 that does not
die, nor a host that does not read its answer.  Only the part from the plan to clone3 runs in one
go, because the program's descriptors then stand in the places of 0, 1 and 2.
"""
import marshal
import os
import time
from select import POLLIN, POLLOUT

from ...syscalls import process
from ..errors import SandboxError
from ..launch import run as launch
from ..proc import read
from ..running import supervise
from ..running.ending import Ending
from .runs import Later, Served

SETUP, WARM, RUNS, ENDS, ANSWERS = "setup", "warm", "runs", "ends", "answers"
SIGKILL = 9
#: Bytes of an answer's part.  On some hosts a send buffer takes no longer packet.
PART = 60000


class Job:
    """One run of a launcher.

    launcher: launcher.Launcher.
    channel: socket to the host, or None while no host waits for the sandbox.
    stdio: the program's three file descriptors; they are closed by the job.
    request: dict.
    state: SETUP, WARM, RUNS, ENDS or ANSWERS.
    likely: the Outcome that the host was told as predicted, or None.
    predicted: whether that prediction still holds.
    controls: the predicted result's controls, by marshal.
    parts: packets that the host has not taken yet.
    heard: whether the host may still say something.
    key: of the plan (plans.Plans), while a spare could serve a run like this, or None.
    """

    def __init__(self, launcher, channel, stdio, request):
        self.launcher, self.channel, self.stdio, self.request = launcher, channel, stdio, request
        self.state, self.run, self.supervision, self.outcome = SETUP, None, None, None
        self.likely, self.predicted, self.controls = None, False, None
        self.error, self.parts, self.heard = None, [], channel is not None
        self.key = None

    def begin(self, cwd=-1):
        """Makes the plan, creates the child and joins the loop, unless it was answered at once.

        cwd: descriptor of the host's directory, or -1 where nothing depends on it.
        """
        self.launcher.jobs.add(self)
        try:
            os.chdir("/" if cwd < 0 else cwd)
        except OSError:  # the host itself may not enter it
            os.chdir("/")
        try:
            self.run = self.make_run(self.plan())
            self.run.start()
        except Exception as error:
            self._fail(error)
        finally:
            os.chdir("/")
        if self in self.launcher.jobs:
            self.launcher.loop.add(self)

    def plan(self):
        """Returns the Plan.  Raises SandboxError."""
        plan = self.launcher.plan(self.request)
        self.key = self.launcher.plans.used
        return plan

    def make_run(self, plan):
        """Returns the launch.Run."""
        return Served(plan, self.launcher, self.stdio, self.request.get("own", ()))

    # -- as a member of the loop -----------------------------------------------------------------

    def wanted(self):
        """Returns {fd: poll events} that the state waits for."""
        wanted = {}
        if self.state is SETUP or self.state is WARM:
            wanted[self.run.sock.fileno()] = POLLIN
            if self.state is SETUP and self.run.awaited >= 0:
                wanted[self.run.awaited] = POLLIN
        elif self.state is RUNS:
            wanted = self.supervision.wanted()
        elif self.state is ENDS:
            if self.run.pidfd >= 0:
                wanted[self.run.pidfd] = POLLIN
        if self.heard or self.parts:
            events = (POLLIN if self.heard else 0) | (POLLOUT if self.parts else 0)
            wanted[self.channel.fileno()] = events
        return wanted

    def wait(self):
        """Returns the seconds until the job must be served without an event, or None."""
        if self.state is SETUP:
            return max(0.0, self.run.begun + launch.SETUP_DEADLINE - time.monotonic())
        if self.state is ENDS:
            return supervise.LOOK_AGAIN if self.run.pidfd < 0 else self.run.ending.wait()
        return self.supervision.wait() if self.state is RUNS else None

    def serve(self, events):
        """Serves {fd: poll events}."""
        if self.heard and events.get(self.channel.fileno(), 0) & ~POLLOUT:
            self._hear()
        if self.state is SETUP:
            self._set_up(events)
        elif self.state is WARM:
            if events:  # a waiting init has nothing to say: it has ended
                self.state = SETUP
                self._fail(SandboxError("start", "the sandbox ended before it was used",
                                        reason="nothing was run"))
        elif self.state is RUNS:
            self.supervision.serve(events)
            if self.supervision.done:
                self._over()
                # Most often pid 1 has ended by now, and the loop need not turn once more.
                if self.state is ENDS and process.has_ended(self.run.pid):
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
        """Ends the run because of a mistake of the launcher's own; the result says so."""
        self.launcher.loop.add(self)
        self._fail(error)
        self.launcher.loop.ask(self)

    # -- the states ------------------------------------------------------------------------------

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
        """Lets the program begin: everything is in force, and init waits."""
        self.run.release()
        self._runs()

    def _runs(self):
        self.outcome = supervise.Outcome(self.run.plan.spec)
        self.supervision = supervise.Supervision(self.run, self.outcome)
        self.state = RUNS
        self.supervision.begin()
        if self.request["tell"] or self.request["alone"]:
            self.key = None  # no spare serves such a run
        self._close_stdio(self.run.places.carried())
        tell, self.request = self.request["tell"], None
        if tell:
            self._say(b">", {"pid": self.run.pid})
        self._predict()

    def _predict(self):
        """Sends the host the result without its usage, as if the program ended with 0.

        That is what programs most often do.  It is sent while they run.
        """
        result = self.run.result
        self.likely = supervise.Outcome(self.run.plan.spec)
        self.likely.status = 0
        if self.run.judge(self.likely):
            self._say(b"~", {"result": dict(result.as_dict(), usage=None)})
            # By marshal they take a third of the memory, and there may be hundreds of jobs.
            self.predicted, self.controls = True, marshal.dumps(result.controls, 2)
            result.controls = []

    def _take_back(self):
        """Drops the prediction: the run ended otherwise."""
        if self.predicted:
            self.run.result.controls = marshal.loads(self.controls)
            self.controls, self.predicted = None, False
        self.run.judge(self.outcome)

    def _over(self):
        self.supervision.close()
        if self.supervision.error is not None:
            self.outcome.failed(self.supervision.error)
        self._end()

    def _fail(self, error):
        """Ends the job: nothing ran, or the launcher failed while it did."""
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
        """Kills what is left; the rest is done when pid 1 has ended."""
        if self.run is not None and self.run.pid > 0:
            self.state = ENDS
            self.run.ending = self.run.ending or Ending()
            try:
                if self.supervision is None or not self.supervision.over:  # else it was killed
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
                answer, self.predicted = {"error": vars(error)}, False
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
            return result.usage if self.predicted else {"result": result.packed()}
        except SandboxError as error:  # not kept: its traceback refers to this job
            self.predicted = False
            return {"error": vars(error)}

    def answer(self, answer):
        """Sends the host the answer, or the usage that its prediction lacks."""
        self._say(b"=" if self.predicted else b".", answer)

    def _say(self, kind, word):
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
        self.error = None  # its traceback refers to this job: only a collection would free both

    def _close_stdio(self, kept=()):
        """Closes the program's descriptors.  kept: the numbers of those that are still carried."""
        for number, fd in enumerate(self.stdio):
            if number not in kept:
                os.close(fd)
        self.stdio = tuple(fd for number, fd in enumerate(self.stdio) if number in kept)

    # -- the host --------------------------------------------------------------------------------

    def _hear(self):
        """Takes one packet of the host: a signal, or that the sandbox is to be killed."""
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
        """Kills the sandbox for the host; its result says that the caller did it."""
        if self.state is SETUP:
            self._fail(killed())
        elif self.state is RUNS:
            self.supervision.kill_for_caller()


class Warm(Job):
    """A sandbox that waits at its gate for a program, and later the one run in it.

    keeper: pools.Pool or pools.Spares, told when it is ready and when it has ended unused.
    """

    def __init__(self, launcher, keeper):
        Job.__init__(self, launcher, None, (), keeper.request)
        self.keeper = keeper

    def plan(self):
        """Returns the Plan.  Raises SandboxError."""
        return self.launcher.plan(self.request)

    def make_run(self, plan):
        """Returns the launch.Run."""
        return Later(plan, self.launcher)

    def ready(self):
        """Tells the keeper that it waits for a program."""
        self.state = WARM
        try:
            self.keeper.ready(self)
        except Exception:
            if self.state is WARM:  # nobody has taken it
                self.state = SETUP
            raise

    def cancel(self):
        """Kills the sandbox, as Job does."""
        if self.state is WARM:
            self.state = SETUP
        Job.cancel(self)

    def use(self, channel, stdio, request):
        """Runs the program of a request; its descriptors become the job's."""
        self.channel, self.stdio, self.request, self.heard = channel, stdio, request, True
        try:
            self.run.take_over(request, stdio)
            self.run.release()
            self.run.describe()
            self._runs()
        except Exception as error:
            self.state = SETUP if self.outcome is None else self.state
            self._fail(error)
        self.launcher.loop.ask(self)

    def answer(self, answer):
        """Sends the host the answer; without a host, tells the keeper that nothing ran."""
        if self.channel is not None:
            Job.answer(self, answer)
            return
        error = self.error or SandboxError("start", "the sandbox ended before it was used")
        self._leave()
        self.keeper.lost(self, error)


class Spare(Warm):
    """A sandbox that was made in case that the last run is repeated.

    key, known: the key of plans.Plans and what it knew by it: (Plan, Facts).
    groups: the control groups that it was made in.
    waiting: (channel, stdio, request) that came while it was made, or None.
    asked: (channel, stdio, request) that uses it, or None.
    """

    def __init__(self, launcher, spares, key, known):
        Warm.__init__(self, launcher, spares)
        self.key, self.known, self.groups = key, known, control_groups()
        self.waiting, self.asked, self.cancelled = None, None, False

    def plan(self):
        """Returns the known Plan, without a program."""
        return self.known[0].again(None)

    def use(self, channel, stdio, request):
        """Runs the program of a request, as Warm does."""
        self.asked = channel, stdio, request
        Warm.use(self, channel, stdio, dict(request, env=None, timeout=None))

    def cancel(self):
        """Kills the sandbox, as Job does; no other run begins in its place."""
        self.cancelled = True
        Warm.cancel(self)

    def _conclude(self):
        """Where nothing has run, an ordinary run does it, or says why it can't."""
        unused = self.asked is not None and not self.run.gone and self.outcome is None
        if unused and self.cancelled:
            self.error = killed()
        if self.asked is None or self.cancelled:
            Warm._conclude(self)
        elif unused:
            self._give_up()
            self.launcher.begin(*self.asked)
        elif self.outcome is not None and self.outcome.exec_errno is not None and \
                not self.outcome.insisted:
            channel, _, request = self.asked
            try:
                self.run.conclude(self.outcome)
            except SandboxError as error:
                self._close_stdio()
                parts, self.parts = self.parts, []
                self._give_up()
                Diagnosis(self.launcher, channel, request, error, parts).begin()
        else:
            Warm._conclude(self)

    def _give_up(self):
        self.run.close()
        self.channel, self.stdio, self.key = None, (), None
        self._leave()
        self.run.close_late()


class Diagnosis(Job):
    """An ordinary sandbox that runs nothing: asked why a spare could not execute a program.

    reason: the SandboxError for the answer if this one finds no other.
    parts: packets that the host has not taken yet.
    """

    def __init__(self, launcher, channel, request, reason, parts):
        Job.__init__(self, launcher, channel, (), request)
        self.reason, self.parts = reason, parts

    def make_run(self, plan):
        """Returns the launch.Run."""
        return Served(plan, self.launcher, (self.launcher.null,) * 3)

    def ready(self):
        """Ends it: this sandbox has found the program."""
        self._fail(self.reason)


def refuse(channel, stdio, error):
    """Answers a request that no sandbox will serve, and closes its descriptors.

    channel: socket to the host; stdio: file descriptors; error: SandboxError.
    """
    try:
        channel.send(b"." + marshal.dumps({"error": vars(error)}, 2))
    except OSError:  # the host has gone or does not read
        pass
    for fd in stdio:
        os.close(fd)
    channel.close()


def killed():
    """Returns the SandboxError for a sandbox that the host killed before anything ran."""
    return SandboxError("start", "killed by the caller", reason="nothing was run",
                        status=128 + SIGKILL)


def control_groups():
    """Returns the control groups of this process, as bytes of /proc, or None.

    The children that it creates begin in the same.
    """
    try:
        return read("/proc/self/cgroup")
    except OSError:
        return None
