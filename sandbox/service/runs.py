# SPDX-License-Identifier: Apache-2.0
"""Runs inside a launcher: launch.Run without a process of its own."""
import os
import time

from .. import init
from ..errors import SandboxError, USAGE
from ..launch import run as launch
from ..result.result import now_utc
from ..running.stdio import open_pty

#: Bytes.  More than the kernel takes of arguments and environment: 3/4 of 8 MiB, execve(2).  Memory
#: that is not used costs nothing.
ROOM = 8 << 20


class Served(launch.Run):
    """A run in a process that blocks all signals and has the caller's stdio elsewhere than at 0."""

    lets_go = True

    def __init__(self, plan, launcher, stdio, own_pipes=()):
        self.stdio, self.own_pipes, self.of_launcher = tuple(stdio), own_pipes, launcher
        self.host_pid = None if plan.spec.tty else launcher.host.pid
        launch.Run.__init__(self, plan, None, launcher.features)
        self.held.late = []

    def take_signals(self):
        """Nothing is to be blocked: the launcher has done it."""
        self.ignored = self.of_launcher.ignored

    def make_image(self):
        """Returns the file descriptor of init's image, which the launcher keeps."""
        return self.of_launcher.image(self.room())

    def read_back(self):
        """As launch.Run does.  Then keeps the mount namespace until the answer is sent, if it may.

        Unmounting takes half of the time that pid 1 needs to end.  With this descriptor it happens
        after the answer.  Sources of the user's must be unmounted before it, and a control group
        can be removed only when all processes have ended.
        """
        launch.Run.read_back(self)
        spec = self.plan.spec
        if any(part.limits() is not None for part in self.parts):
            return
        if not (spec.ro or spec.rw or spec.here or spec.overlay or spec.rootfs):
            try:
                self.held.keep(os.open("/proc/%d/ns/mnt" % self.pid, os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                pass

    def close_late(self):
        """Closes the descriptors that were kept until the answer was sent."""
        while self.held.late:
            os.close(self.held.late.pop())


class Later(Served):
    """A run that learns at the gate what its program is and where 0, 1 and 2 lead.

    gone: whether the program may have begun.
    """

    gone = False

    def __init__(self, plan, launcher):
        Served.__init__(self, plan, launcher, (launcher.null,) * 3)
        self.lent, self.begins = [], False

    def take_places(self):
        """As launch.Run does, but only once the program is known."""
        if self.begins:
            Served.take_places(self)

    def take_over(self, request, stdio):
        """Takes the program from a request, with its three descriptors.

        Raises SandboxError, OSError.
        """
        self.begins, self.stdio, self.own_pipes = True, tuple(stdio), request.get("own", ())
        plan = self.plan
        plan.env.update(plan.spec.begin(request["argv"], request["env"], request["timeout"],
                                        request["environ"]))
        self.take_places()
        self._lend()
        self.begun_at, self.begun = time.time(), time.monotonic()

    def _lend(self):
        """Opens the sandbox's own terminal and /dev/null for the program.

        /proc shows init's root: no program has run, and init is still dumpable.
        """
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
        """Writes program and start into the result, while the program begins."""
        self.result.argv = [os.fsdecode(word) for word in self.plan.spec.argv]
        self.result.started = now_utc(self.begun_at)

    def send_go(self):
        """Sends init the program, and where 0, 1 and 2 lead.  Raises SandboxError, OSError."""
        argv, environment = self.plan.spec.argv, self.plan.environment()
        name, search = argv[0], self.plan.env[b"PATH"]
        places = search.split(b":") if b"/" not in name and name else []
        # Computed before the paths are made: they may take gigabytes.
        tried = len(search) + len(places) * (len(name) + 10)
        if init.room(argv, environment) + tried > ROOM:
            raise SandboxError("exec", "the arguments and the environment are too long together", 7,
                               status=USAGE)
        paths = [os.path.join(place or b".", name) for place in places] or [name]
        self.send_all(paths, self.three)
        self.places.release()
        self._close_lent()
        self.gone = True

    def _close_lent(self):
        while self.lent:
            os.close(self.lent.pop())

    def close(self):
        """As launch.Run does."""
        self._close_lent()
        Served.close(self)

    def room(self):
        """Returns the bytes of room for a program of any length."""
        return ROOM
