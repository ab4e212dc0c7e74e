# SPDX-License-Identifier: Apache-2.0
"""The one sandbox that a launcher has ready for a run like the last two: made, read back and waiting at its gate.

Who runs the same again and again waits for the making no more than once.  A spare is made of the plan that the launcher knows,
after a second run with the same options, and has never run anything; it is used once, by a run that would get the very same
sandbox: what the plan was made of is looked at anew (unchanged.py), and whatever has changed since the spare was made ends the
spare.  It holds no descriptor of the host's, and ends when nobody has wanted it for a moment or a mount comes or goes.
"""
import os
import time

from ..errors import SandboxError
from ..proc import read
from .job import Job, killed
from .launcher import Served
from .warm import Later, WARM, Warm

POLLPRI, POLLERR = 2, 8
#: So long a spare waits, and so near to each other two runs must be for one to be made.
IDLE = 2.0
#: After one that could not be made.
REST = 60.0
#: No spare is made beside more runs than these, with fewer descriptors, or of fewer host ids: others may need what it holds.
FEW_RUNS, DESCRIPTORS, IDS = 4, 256, 1024


class Spares:
    """What one launcher has of them: at most one.  As a warm.Pool to its warm sandboxes."""

    request = {"alone": False, "tell": False}

    def __init__(self, launcher):
        self.launcher, self.job, self.wanted_key, self.due, self.until = launcher, None, None, None, None
        self.last, self.last_at, self.not_before, self.mounts = None, 0.0, 0.0, -1

    # -- as a member of the loop ---------------------------------------------------------------------------------

    def wanted(self):
        """{fd: events}: of the mount table, while one waits."""
        return {self.mounts: POLLPRI | POLLERR} if self.mounts >= 0 else {}

    def wait(self):
        """Seconds until one is to be made or has waited too long, or None."""
        at = self.due if self.job is None else self.until
        return None if at is None else max(0.0, at - time.monotonic())

    def serve(self, events):
        """Makes one, or ends it."""
        now = time.monotonic()
        if self.job is None and self.due is not None and self.due <= now:
            self.due = None
            if not self.launcher.leaving:
                self._make(self.wanted_key)
        elif self.job is not None and (events or self.until is not None and self.until <= now):
            self.drop()

    def failed(self, error):
        """A mistake of our own: there are none any more."""
        self.not_before = float("inf")
        self.drop()

    # -- runs ----------------------------------------------------------------------------------------------------

    def key(self, job):
        """What stands for runs that one spare can serve as well as another, or None.  job: a Job that has been planned."""
        usable = job.key is not None and not job.request["tell"] and not job.request["alone"]
        return job.key if usable else None

    def ran(self, key):
        """One has ended that a spare could have served."""
        now, again = time.monotonic(), key == self.last
        again = again and now - self.last_at < IDLE
        self.last, self.last_at = key, now
        launcher = self.launcher
        if again and self.job is None and now >= self.not_before and not launcher.leaving and \
                len(launcher.jobs) <= FEW_RUNS and launcher.most >= DESCRIPTORS:
            self.wanted_key, self.due = key, now
            launcher.loop.ask(self)

    def take(self, channel, stdio, request):
        """Serves a request with the spare, the descriptors becoming ours; returns whether it does."""
        job = self.job
        if job is None or job.waiting is not None or request["tell"] or request["alone"] or \
                self.launcher.plans.key(request) != job.key:
            return False
        if not self._is_right(job):
            self.drop()
            return False
        if job.state is WARM:
            self._forget()
            job.use(channel, stdio, dict(request, env=None, timeout=None))
        else:
            job.waiting = channel, stdio, request
        return True

    def _is_right(self, job):
        """Whether the same sandbox would be made now."""
        return self.launcher.plans.holds(job.key) is job.known and _group() == job.group

    # -- the one -------------------------------------------------------------------------------------------------

    def _make(self, key):
        launcher = self.launcher
        known = launcher.plans.holds(key)
        if known is None or known[0].root and sum(count for _, count in known[0].id_ranges) < IDS:
            return
        self.job, self.until = Spare(launcher, self, key, known), None
        job = self.job
        launcher.jobs.add(job)
        job.start()
        if job in launcher.jobs:
            launcher.loop.add(job)

    def ready(self, job):
        """It waits at its gate."""
        if job is not self.job:  # given up while it was made
            job.cancel()
        elif job.waiting is None:
            self.until = time.monotonic() + IDLE
            self.mounts = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
            self.launcher.loop.ask(self)
        elif self._is_right(job):
            (channel, stdio, request), job.waiting = job.waiting, None
            self._forget()
            job.use(channel, stdio, dict(request, env=None, timeout=None))
        else:
            self.drop()

    def lost(self, job, error):
        """It has ended unused."""
        if job is self.job:
            if self.until is None:  # it never was ready
                self.not_before = time.monotonic() + REST
            self._forget()
        if job.waiting is not None:
            (channel, stdio, request), job.waiting = job.waiting, None
            self.launcher.begin(channel, stdio, request)

    def drop(self):
        """Ends it unused."""
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


class Spare(Warm):
    """One spare.  key; known: the launcher's (Plan, Facts) of it; group: of what control groups it is; waiting: the (channel,
    stdio, request) that has come while it was made."""

    def __init__(self, launcher, spares, key, known):
        Warm.__init__(self, launcher, spares)
        self.key, self.known, self.group, self.waiting, self.asked = key, known, _group(), None, None
        self.cancelled = False

    def plan(self):
        """The Plan, without a program."""
        return self.known[0].again(None)

    def make_run(self, plan):
        """The launch.Run."""
        return Lent(plan, self.launcher)

    def use(self, channel, stdio, request):
        """As of Warm."""
        self.asked = channel, stdio, request
        Warm.use(self, channel, stdio, request)

    def cancel(self):
        """As of Job, and nothing begins in its place."""
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
        elif self.outcome is not None and self.outcome.exec_errno is not None and not self.outcome.insisted:
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


class Lent(Later):
    """gone: whether the program may have begun."""

    gone = False

    def send_go(self):
        """As of Later."""
        Later.send_go(self)
        self.gone = True


class Diagnosis(Job):
    """A program could not be executed: an ordinary sandbox is asked why, which runs nothing.  error: what is said where that
    finds nothing; parts: what the host has not taken yet."""

    def __init__(self, launcher, channel, request, error, parts):
        Job.__init__(self, launcher, channel, (), request)
        self.reason, self.parts = error, parts

    def begin(self):
        """Starts it."""
        self.launcher.jobs.add(self)
        self.start()
        if self in self.launcher.jobs:
            self.launcher.loop.add(self)

    def make_run(self, plan):
        """The launch.Run."""
        return Served(plan, self.launcher, (self.launcher.null,) * 3)

    def ready(self):
        """It was found after all."""
        self._fail(self.reason)


def _group():
    """The control groups of this process, as text; its children's are the same."""
    try:
        return read("/proc/self/cgroup")
    except OSError:
        return None
