# SPDX-License-Identifier: Apache-2.0
"""Warm sandboxes of a launcher: made, read back and waiting at the gate before anyone has said what they are to run.

Each is used for one program and never again, and no program has run in it before.  The next one is made when the host has
been quiet for a moment, so that it does not take the processor of a run that somebody waits for.

A request with `pool` and `size` makes a pool, which lives as long as its channel; `>` tells its number when it is full.  One
with `pool`, the number, and `argv` uses a sandbox of it, or the next one that is ready, and is answered as any other.
"""
import marshal
import os
import time

from .. import init
from ..errors import SandboxError, USAGE
from .job import Job, SETUP
from .launcher import Served, error_as_dict
from ..result.result import now_utc
from ..running.stdio import open_pty

WARM = "warm"
POLLIN = 1
#: More than the kernel takes of arguments and environment in any case.  execve(2): 3/4 of 8 MiB; what is not used costs nothing
ROOM = 8 << 20
#: From the last use of a pool to the making of the next sandbox, where there still are some.
QUIET = 0.004


def serve(launcher, channel, stdio, cwd, request):
    """Takes a request; the descriptors become ours."""
    if "size" in request:
        for fd in set(stdio):
            os.close(fd)
        Pool(launcher, channel, cwd, request).begin()
        return
    pool = launcher.pools.get(request["pool"])
    if pool is not None:
        pool.use(channel, stdio, request)
        return
    channel.close()  # the host's pool was closed meanwhile
    for fd in set(stdio):
        os.close(fd)


class Pool:
    """cwd: descriptor of the directory that relative paths among the options start from."""

    def __init__(self, launcher, channel, cwd, request):
        self.launcher, self.channel, self.cwd, self.request = launcher, channel, cwd, request
        self.number, self.size = launcher.next_pool(), request["size"]
        self.warm, self.coming, self.waiting = [], set(), []
        self.full, self.due = False, None
        self.ending = None  # once it is closed: the sandboxes that have not gone yet

    def begin(self):
        """Makes the first sandboxes."""
        self.launcher.pools[self.number] = self
        self.launcher.loop.add(self)
        self._later(0)

    # -- as a member of the loop ---------------------------------------------------------------------------------

    def wanted(self):
        """{fd: events}: the host says nothing more; that it closes is all that can come."""
        return {self.channel.fileno(): POLLIN}

    def wait(self):
        """Seconds until a sandbox is to be made, or None."""
        return None if self.due is None else max(0.0, self.due - time.monotonic())

    def serve(self, events):
        """Makes one sandbox, or ends."""
        if events:
            self.close()
        elif self.due is not None and self.due <= time.monotonic():
            self.due = None
            if len(self.warm) + len(self.coming) < self.size:
                self._make()
                if self.ending is None and len(self.warm) + len(self.coming) < self.size:
                    self._later(0)

    def failed(self, error):
        """A mistake of our own: without an answer the host knows."""
        self.close()

    def _later(self, seconds):
        self.due = time.monotonic() + seconds
        self.launcher.loop.ask(self)

    def _make(self):
        job = Warm(self.launcher, self)
        self.coming.add(job)
        self.launcher.jobs.add(job)
        job.start(self.cwd)
        if job in self.launcher.jobs:
            self.launcher.loop.add(job)

    # -- the sandboxes ---------------------------------------------------------------------------------------------

    def use(self, channel, stdio, request):
        """Runs a program in a warm sandbox, now or as soon as there is one."""
        if self.warm:
            self.warm.pop(0).use(channel, stdio, request)
            self._later(QUIET)
            return
        self.waiting.append((channel, stdio, request))
        if len(self.coming) < len(self.waiting):
            self._make()

    def ready(self, job):
        """One more waits at its gate."""
        self.coming.discard(job)
        if self.waiting:
            job.use(*self.waiting.pop(0))
            self._later(QUIET)
            return
        self.warm.append(job)
        if not self.full and len(self.warm) == self.size:
            self.full = True
            self.channel.send(b">" + marshal.dumps({"pool": self.number}, 2))

    def lost(self, job, error):
        """One has ended unused.  None is made in its place before somebody asks: it may fail again and again."""
        self.coming.discard(job)
        if self.ending is not None:
            self.ending.discard(job)
            self._gone()
        elif job in self.warm:
            self.warm.remove(job)
        elif self.waiting:
            Refused(self.launcher, *self.waiting.pop(0)).answer({"error": error_as_dict(error)})
        elif not self.full:
            self.channel.send(b"." + marshal.dumps({"error": error_as_dict(error)}, 2))
            self.close()

    def close(self):
        """What waits ends unused, and when it has gone the host learns it; what runs goes on."""
        if self.launcher.pools.pop(self.number, None) is None:
            return
        self.launcher.loop.remove(self)
        os.close(self.cwd)
        self.ending = set(self.warm) | self.coming
        waiting, self.waiting = self.waiting, []
        for channel, stdio, request in waiting:
            Refused(self.launcher, channel, stdio, request).answer({"error": error_as_dict(
                SandboxError("start", "the pool was closed", reason="nothing was run"))})
        self.warm, self.coming = [], set()
        for job in list(self.ending):
            job.cancel()
            self.launcher.loop.ask(job)
        self._gone()

    def _gone(self):
        if not self.ending:
            self.channel.close()


class Refused(Job):
    """A request that no sandbox will serve: all that is left is its answer."""

    def answer(self, answer):
        """The only word to the host; one that does not read it has gone."""
        try:
            self.channel.send(b"." + marshal.dumps(answer, 2))
        except OSError:
            pass
        self._close_stdio()
        self.channel.close()


class Warm(Job):
    """One warm sandbox, and later the one run in it."""

    def __init__(self, launcher, pool):
        Job.__init__(self, launcher, None, (), pool.request)
        self.pool = pool

    def plan(self):
        """The Plan.  Raises SandboxError."""
        return self.launcher.plan(self.request)

    def make_run(self, plan):
        """The launch.Run."""
        return Later(plan, self.launcher)

    def ready(self):
        """It waits for its program."""
        self.state = WARM
        try:
            self.pool.ready(self)
        except Exception:
            if self.state is WARM:  # it is nobody's
                self.state = SETUP
            raise

    def wanted(self):
        """{fd: events}."""
        return {self.run.sock.fileno(): POLLIN} if self.state is WARM else Job.wanted(self)

    def serve(self, events):
        """Does what is to be done about these events; a waiting init has nothing to say but its end."""
        if self.state is not WARM:
            Job.serve(self, events)
        elif events:
            self.state = SETUP
            self._fail(SandboxError("start", "the sandbox ended before it was used", reason="nothing was run"))

    def cancel(self):
        """As of Job."""
        if self.state is WARM:
            self.state = SETUP
        Job.cancel(self)

    def use(self, channel, stdio, request):
        """Lets it go with a program."""
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
        """The last word, to the host or to the pool."""
        if self.channel is not None:
            Job.answer(self, answer)
            return
        error = self.error or SandboxError("start", "the sandbox ended before it was used")
        self._leave()
        self.pool.lost(self, error)


class Later(Served):
    """A run that learns at the gate what its program is and where 0, 1 and 2 lead."""

    def __init__(self, plan, launcher):
        Served.__init__(self, plan, launcher, (launcher.null,) * 3)
        self.lent, self.begins = [], False

    def take_places(self):
        """As of launch.Run, once the program is known."""
        if self.begins:
            Served.take_places(self)

    def take_over(self, request, stdio):
        """Takes what there is to be run.  Raises SandboxError, OSError."""
        self.begins, self.stdio, self.own_pipes = True, tuple(stdio), request.get("own", ())
        plan = self.plan
        plan.env.update(plan.spec.begin(request["argv"], request["env"], request["timeout"], request["environ"]))
        self.take_places()
        self._lend()
        self.begun_at, self.begun = time.time(), time.monotonic()

    def _lend(self):
        """Opens what the program gets of the sandbox's own: no program has run in it, and init can be looked into."""
        inside, slave = "/proc/%d/root/dev/" % self.pid, -1
        if self.places.has_terminal:
            master, slave = open_pty(inside + "pts/ptmx")
            self.lent.append(slave)
            self.take(b"Tterminal", master)  # as if the child had sent it
            self.parts[-1].ready(self)  # the terminal's, which came last
        self.three = []
        for kind, value in self.places.places():
            if kind == "null":
                value = os.open(inside + "null", value | os.O_CLOEXEC)
                self.lent.append(value)
            self.three.append(slave if kind == "terminal" else value)

    def describe(self):
        """What the result says of the request, while the program begins."""
        self.result.argv = [os.fsdecode(word) for word in self.plan.spec.argv]
        self.result.started = now_utc(self.begun_at)

    def send_go(self):
        """Sends init the program, and where 0, 1 and 2 lead."""
        name, search = self.plan.spec.argv[0], self.plan.env[b"PATH"]
        places = search.split(b":") if b"/" not in name and name else []
        tried = len(search) + len(places) * (len(name) + 10)  # known before the paths are made: they may be gigabytes
        argv, environment = self.plan.spec.argv, self.plan.environment()
        if init.room(argv, environment) + tried > ROOM:
            raise SandboxError("exec", "the arguments and the environment are too long together", 7, status=USAGE)
        paths = [os.path.join(place or b".", name) for place in places] or [name]
        self.send_all(paths, self.three)
        self.places.release()
        self._close_lent()

    def _close_lent(self):
        while self.lent:
            os.close(self.lent.pop())

    def close(self):
        """As of launch.Run."""
        self._close_lent()
        Served.close(self)

    def room(self):
        """As for a program of any length."""
        return ROOM
