# SPDX-License-Identifier: Apache-2.0
"""Sandboxes of a launcher that are made before a program is known: pools, and the spare.

Each waits at its gate, read back.  It is used for one program and never again, and no program has
run in it before.

A pool is made by a request with `pool` and `size`.  It lives as long as its channel; `>` tells its
number when it is full.  A request with `pool`, the number, and `argv` uses a sandbox of it, or the
next one that is ready, and is answered as any other.

The spare is one sandbox for a run like the last two, so that repeated identical runs pay for
set-up once.  Before it is used, everything that its plan was made of is checked (plans.py), and
any change ends it.  It holds no descriptor of the host's.
"""
import marshal
import os
import time
from select import POLLERR, POLLIN, POLLPRI

from ..errors import SandboxError
from .jobs import Spare, WARM, Warm, control_groups, refuse

#: Seconds from the last use of a pool until the next sandbox is made, if it still has some.  It
#: should not take the processor of a run that somebody waits for.
QUIET = 0.004
#: Seconds.  A spare is made if a run is repeated so soon, and waits so long.
IDLE = 2.0
#: Seconds until the next spare after one that could not be made.
REST = 60.0
#: A spare is made beside at most so many runs, with at least so many descriptors and host ids.
FEW_RUNS, DESCRIPTORS, IDS = 4, 256, 1024


def serve(launcher, channel, stdio, cwd, request):
    """Serves a request with `pool`; all descriptors become ours."""
    pool = None if "size" in request else launcher.pools.get(request["pool"])
    if pool is not None:
        pool.use(channel, stdio, request)
        return
    for fd in stdio:
        os.close(fd)
    if "size" in request:
        Pool(launcher, channel, cwd, request).begin()
    else:
        channel.close()  # the host's pool was closed meanwhile


class Pool:
    """A number of warm sandboxes with the same options.

    channel: socket to the host; its end is the pool's end.
    cwd: descriptor of the directory that relative paths among the options start from.
    warm, coming: the jobs that wait, and those being made.
    waiting: [(channel, stdio, request)] that have no sandbox yet.
    due: monotonic time to make the next sandbox, or None.
    ending: once it is closed, the jobs that have not ended yet; before, None.
    """

    def __init__(self, launcher, channel, cwd, request):
        self.launcher, self.channel, self.cwd, self.request = launcher, channel, cwd, request
        self.number, self.size = launcher.next_pool(), request["size"]
        self.warm, self.coming, self.waiting = [], set(), []
        self.full, self.due, self.ending = False, None, None

    def begin(self):
        """Makes the first sandboxes."""
        self.launcher.pools[self.number] = self
        self.launcher.loop.add(self)
        self._later(0)

    # -- as a member of the loop -----------------------------------------------------------------

    def wanted(self):
        """Returns {fd: poll events}: the host only closes the channel."""
        return {self.channel.fileno(): POLLIN}

    def wait(self):
        """Returns the seconds until a sandbox is to be made, or None."""
        return None if self.due is None else max(0.0, self.due - time.monotonic())

    def serve(self, events):
        """Makes one sandbox, or closes the pool."""
        if events:
            self.close()
        elif self.due is not None and self.due <= time.monotonic():
            self.due = None
            if self._lacks():
                self._make()
                if self.ending is None and self._lacks():
                    self._later(0)

    def failed(self, error):
        """Closes the pool after a mistake of the launcher's own: the host gets no answer."""
        self.close()

    def _lacks(self):
        return len(self.warm) + len(self.coming) < self.size

    def _later(self, seconds):
        self.due = time.monotonic() + seconds
        self.launcher.loop.ask(self)

    def _make(self):
        job = Warm(self.launcher, self)
        self.coming.add(job)
        job.begin(self.cwd)

    # -- the sandboxes ---------------------------------------------------------------------------

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
        """Takes a job that waits at its gate."""
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
        """Forgets a job that has ended unused.

        None is made in its place before the next use: it may fail again and again.
        """
        self.coming.discard(job)
        if self.ending is not None:
            self.ending.discard(job)
            self._closed()
        elif job in self.warm:
            self.warm.remove(job)
        elif self.waiting:
            channel, stdio, _ = self.waiting.pop(0)
            refuse(channel, stdio, error)
        elif not self.full:
            self.channel.send(b"." + marshal.dumps({"error": vars(error)}, 2))
            self.close()

    def close(self):
        """Ends the sandboxes that wait, then closes the channel; runs go on."""
        if self.launcher.pools.pop(self.number, None) is None:
            return
        self.launcher.loop.remove(self)
        os.close(self.cwd)
        self.ending = set(self.warm) | self.coming
        waiting, self.waiting = self.waiting, []
        for channel, stdio, _ in waiting:
            refuse(channel, stdio,
                   SandboxError("start", "the pool was closed", reason="nothing was run"))
        self.warm, self.coming = [], set()
        for job in list(self.ending):
            job.cancel()
            self.launcher.loop.ask(job)
        self._closed()

    def _closed(self):
        if not self.ending:
            self.channel.close()


class Spares:
    """The spare of a launcher: at most one.

    job: the Spare, or None.
    wanted_key: of the plan (plans.Plans) that the next one is made of; due: when, monotonic.
    until: monotonic time at which the spare ends unused, None before it is ready.
    last, last_at: key and end of the last run.
    not_before: monotonic time before which none is made.
    mounts: descriptor that tells of a change of the mount table, -1 while none waits.
    """

    request = None  # as of Pool: the spare gets its plan otherwise

    def __init__(self, launcher):
        self.launcher, self.job = launcher, None
        self.wanted_key, self.due, self.until = None, None, None
        self.last, self.last_at, self.not_before, self.mounts = None, 0.0, 0.0, -1

    # -- as a member of the loop -----------------------------------------------------------------

    def wanted(self):
        """Returns {fd: poll events}: of the mount table, while a spare waits."""
        return {self.mounts: POLLPRI | POLLERR} if self.mounts >= 0 else {}

    def wait(self):
        """Returns the seconds until one is to be made or has waited too long, or None."""
        at = self.due if self.job is None else self.until
        return None if at is None else max(0.0, at - time.monotonic())

    def serve(self, events):
        """Makes a spare, or ends it."""
        now = time.monotonic()
        if self.job is None and self.due is not None and self.due <= now:
            self.due = None
            if not self.launcher.leaving:
                self._make(self.wanted_key)
        elif self.job is not None and (events or self.until is not None and self.until <= now):
            self.drop()

    def failed(self, error):
        """Makes no more spares after a mistake of the launcher's own."""
        self.not_before = float("inf")
        self.drop()

    # -- runs ------------------------------------------------------------------------------------

    def ran(self, key):
        """Notes that a run has ended which a spare could have served.  key: of plans.Plans."""
        now, launcher = time.monotonic(), self.launcher
        again = key == self.last and now - self.last_at < IDLE
        self.last, self.last_at = key, now
        if again and self.job is None and now >= self.not_before and not launcher.leaving and \
                len(launcher.jobs) <= FEW_RUNS and launcher.most >= DESCRIPTORS:
            self.wanted_key, self.due = key, now
            launcher.loop.ask(self)

    def take(self, channel, stdio, request):
        """Returns whether the spare serves a request, whose descriptors then become ours."""
        job = self.job
        if job is None or job.waiting is not None or request["tell"] or request["alone"] or \
                self.launcher.plans.key(request) != job.key:
            return False
        if not self._is_right(job):
            self.drop()
            return False
        if job.state is WARM:
            self._forget()
            job.use(channel, stdio, request)
        else:
            job.waiting = channel, stdio, request
        return True

    def _is_right(self, job):
        """Whether the same sandbox would be made now."""
        return self.launcher.plans.holds(job.key) is job.known and control_groups() == job.groups

    # -- the spare -------------------------------------------------------------------------------

    def _make(self, key):
        known = self.launcher.plans.holds(key)
        if known is None or known[0].root and sum(n for _, n in known[0].id_ranges) < IDS:
            return
        self.job, self.until = Spare(self.launcher, self, key, known), None
        self.job.begin()

    def ready(self, job):
        """Takes the job that waits at its gate."""
        if job is not self.job:  # given up while it was made
            job.cancel()
        elif job.waiting is None:
            self.until = time.monotonic() + IDLE
            self.mounts = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
            self.launcher.loop.ask(self)
        elif self._is_right(job):
            waiting, job.waiting = job.waiting, None
            self._forget()
            job.use(*waiting)
        else:
            self.drop()

    def lost(self, job, error):
        """Forgets a job that has ended unused; what waits for it gets an ordinary run."""
        if job is self.job:
            if self.until is None:  # it never was ready
                self.not_before = time.monotonic() + REST
            self._forget()
        if job.waiting is not None:
            waiting, job.waiting = job.waiting, None
            self.launcher.begin(*waiting)

    def drop(self):
        """Ends the spare unused."""
        job = self._forget()
        if job is not None:
            job.cancel()
            self.launcher.loop.ask(job)

    def _forget(self):
        job, self.job, self.until = self.job, None, None
        if self.mounts >= 0:
            mounts, self.mounts = self.mounts, -1
            self.launcher.loop.ask(self)
            os.close(mounts)
        return job
