# SPDX-License-Identifier: Apache-2.0
"""The launcher: a small process that serves all sandboxes of one host process, N at once, with one poll.

The host starts `python -I -S mrunc.py run --spec-fd N` at its first sandbox and is never forked for one (threads, heap,
secrets).  The launcher is nobody's child, so that the host's own waiting for children never meets it; it ends everything
and leaves when the host has ended, however that came, by the socket's end of file and by the host's pidfd.

What goes over the socket N (SOCK_SEQPACKET): the launcher's pid, to the host. Then one packet for each sandbox, a dict by
marshal, with the descriptors of a channel, the program's stdin, stdout and stderr, the host's directory (but for a warm
sandbox, which has its own), and where the dict is too long for a packet, a file with it (a request with `pool` is about warm
sandboxes: warm.py). Over the channel comes back: `>` and a dict when the program has been started, where `tell` asks for it;
`~` and a dict with a `result` but for its usage, which comes true if the program ends well; `=`, that usage, if it has come
true, or else `.`, a dict with `result` or `error`. What is too long for a packet comes in parts, `+` being all but the last. To
the launcher: `k`, kill it; `s` and one byte, a signal for the program. A channel that is closed kills it, too. marshal reads
what only the two ends have written; no byte of it is the program's.

Whoever has given up rights that the launcher still has (a worker that was forked, say) may hold the socket all the same: the
kernel says with each packet who sent it, and only the host process is served, while it has the launcher's own identity.
"""
import errno
import marshal
import os
import resource

from ...syscalls import libc, process
from .. import init
from ..launch import provisions, run as launch
from ..errors import SandboxError, usage
from ..host.kernel import Features
from ..proc import read
from ..running.loop import Loop
from ..plan.spec import Spec, known
from .plans import Plans

SIGKILL, POLLIN, ESRCH = 9, 1, 3
ENDING = (1, 2, 3, 15)  # HUP INT QUIT TERM: whoever sends one to the launcher wants it gone
PACKET = 1 << 16
#: Stands for a dict that is in a file.
LONG = b"@"
#: A part of an answer; longer than the send buffer's share of some hosts it must not be.
PART = 60000
PAIRS = ("ro", "rw", "copy", "tmpfs", "writable", "env")
#: What one request may bring: while these are held back for it, no sandbox can leave the launcher deaf.
MOST_FDS = 6
#: unix(7), struct ucred: pid, uid, gid.
SCM_CREDENTIALS, CREDENTIALS_SIZE = 2, 12
#: How long the launcher waits for its sandboxes' ends when the host has gone.
PATIENCE = 10.0
#: Where no descriptor tells of the host's end, one looks again after so many seconds.
LOOK_AGAIN = 0.25
#: Few runs want more room in init than the first step; images of so many sizes are kept.
ROOM_STEP, MOST_IMAGES = 1 << 16, 4


def serve(number):
    """The whole life of a launcher.  number: of the socket, as text.  Returns the exit status.  Raises SandboxError."""
    try:
        fd, sockets = int(number), libc.sockets
        os.set_inheritable(fd, False)
        sock = sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET, 0, fd)
    except (ValueError, OSError, OverflowError):
        raise usage("--spec-fd %s" % number, "not an open descriptor")
    host, pid = Host(os.getppid()), os.fork()
    if pid:
        sock.send(b"%d" % pid)
        return 0
    launcher = Launcher(sock, host)
    try:
        launcher.run()
    finally:
        os._exit(0)


class Host:
    """The process that we serve.  pid; fd: its pidfd, or -1 before Linux 5.3: then its directory in /proc, which is never
    another process's, is looked at again and again.  Raises OSError."""

    def __init__(self, pid):
        self.pid = pid
        try:
            self.fd, self.place = process.pidfd_open(pid), -1
        except OSError as error:
            if error.errno == ESRCH:
                raise
            self.fd, self.place = -1, os.open("/proc/%d" % pid, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def has_ended(self, events):
        """Whether it has.  events: {fd: events} of a poll."""
        if self.fd >= 0:
            return self.fd in events
        try:
            return read("stat", self.place, first=4096).rpartition(b") ")[2][:1] in b"ZX"
        except OSError:
            return True


class Launcher:
    """sock: the host's socket; host: Host."""

    def __init__(self, sock, host):
        self.sock, self.host, self.loop, self.jobs, self.pools = sock, host, Loop(), set(), {}
        self.features, self.leaving = Features(), False
        self.null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self.pool_number, self.plans, self.images = 0, Plans(), {}
        self.spares = self.warm = None  # and the module about pools
        self.take_back()
        self.most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self.allow(self.most - MOST_FDS)
        signals = libc.signals
        self.ignored = provisions.ignored_signals()
        signals.pthread_sigmask(signals.SIG_BLOCK, libc.SIGNALS)
        signals.signal(signals.SIGCHLD, signals.SIG_DFL)
        self.signals = process.signal_descriptor(ENDING)

    def run(self):
        """Serves until the host has gone."""
        from . import spare, warm  # and what they need: without descriptors nothing can be loaded
        self.spares, self.warm = spare.Spares(self), warm
        for member in (self, self.spares):
            self.loop.add(member)
        while not self.leaving or self.jobs:
            self.loop.turn()

    # -- as a member of the loop ---------------------------------------------------------------------------------

    def wanted(self):
        """{fd: events}."""
        if self.leaving:
            return {}
        return dict.fromkeys([self.sock.fileno(), self.signals] + [self.host.fd] * (self.host.fd >= 0), POLLIN)

    def wait(self):
        """Seconds until it leaves without its sandboxes, when it is leaving; or until it looks for the host again."""
        return PATIENCE if self.leaving else None if self.host.fd >= 0 else LOOK_AGAIN

    def serve(self, events):
        """Takes a request, or notices the host's end."""
        if self.leaving:
            os._exit(0)
        if self.host.has_ended(events) or self.signals in events:
            self.leave()
        elif self.sock.fileno() in events:
            self.receive()

    def failed(self, error):
        """A request that can't be read is the end: both sides are ours."""
        self.leave()

    def leave(self):
        """The host has gone: nothing of it stays."""
        self.leaving = True
        self.sock.close()
        for pool in list(self.pools.values()):
            pool.close()
        for job in list(self.jobs):
            job.cancel()
            self.loop.ask(job)

    def receive(self):
        """Takes one packet of the host and begins what it asks for."""
        sockets = libc.sockets
        self.allow(self.most)
        try:
            packet, control, _, _ = self.sock.recvmsg(
                PACKET, sockets.CMSG_SPACE(4 * 8) + sockets.CMSG_SPACE(CREDENTIALS_SIZE), sockets.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            packet = b""
        self.allow(self.most - MOST_FDS)
        if not packet:
            return self.leave()
        data = dict([(kind, data) for _, kind, data in control])
        fds, sender = words(data.get(sockets.SCM_RIGHTS, b"")), words(data.get(SCM_CREDENTIALS, b""))
        if sender != [self.host.pid, os.getuid(), os.getgid()]:
            return self.refuse(fds, sender)
        if packet == LONG:
            with open(fds.pop(), "rb") as stream:
                packet = stream.read()
        channel, stdio, cwd = fds[0], fds[1:4], fds[4] if len(fds) > 4 else -1
        request, host = marshal.loads(packet), sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET, 0, channel)
        host.setblocking(False)
        if max(fds) >= self.most - MOST_FDS:  # the last ones, which are for taking a request and no sandbox
            if cwd >= 0:
                os.close(cwd)
            return self.warm.Refused(self, host, stdio, request).answer({"error": error_as_dict(
                SandboxError("launcher", "taking one more request", errno.EMFILE))})
        if "pool" in request:
            return self.warm.serve(self, host, stdio, cwd, request)
        if not self.spares.take(host, stdio, request):
            self.begin(host, stdio, request, cwd)
        if cwd >= 0:
            os.close(cwd)
        return None

    def refuse(self, fds, sender):
        """Answers a request of somebody else's.  Nothing of it is read: whoever gave up rights did so for a reason."""
        sockets = libc.sockets
        try:
            channel = sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET, 0, *fds[:1])
            channel.setblocking(False)
        except OSError:  # it is no socket, which Python before 3.7 does not ask
            for fd in fds:
                os.close(fd)
            return
        self.warm.Refused(self, channel, fds[1:], {"alone": False}).answer({"error": error_as_dict(SandboxError(
            "launcher", "the request", reason="made by somebody else: pid, uid and gid %s" % " ".join(map(str, sender))))})

    def begin(self, channel, stdio, request, cwd=-1):
        """Begins an ordinary run.  cwd: descriptor of the host's directory, -1 where nothing depends on it."""
        from .job import Job
        job = Job(self, channel, stdio, request)
        self.jobs.add(job)
        job.start(cwd)
        if job in self.jobs:  # and not answered already
            self.loop.add(job)
            if self.leaving:  # it was to have a spare that has ended
                job.cancel()
                self.loop.ask(job)

    def allow(self, descriptors):
        """How many of them this process may have."""
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(0, descriptors), self.most))

    def next_pool(self):
        """A number that no pool of this launcher had before: a late request must not meet another pool's sandboxes."""
        self.pool_number += 1
        return self.pool_number

    # -- what a run's beginning needs of the process -------------------------------------------------------------

    def plan(self, request):
        """The Plan for a request.  Raises SandboxError."""
        return self.plans.plan(request, self._new_plan)

    def _new_plan(self, request):
        options = request["options"]
        known(options)
        for name in PAIRS:  # pairs come as lists
            if isinstance(options.get(name), list):
                options[name] = [tuple(item) if isinstance(item, list) else item for item in options[name]]
        return launch.prepare(Spec(request.get("argv"), environ=request["environ"], **options), request["environ"])

    def image(self, room):
        """Init's image (fd) with at least so many bytes of room.  It is sealed, so that all may execute the same one."""
        room = -(-room // ROOM_STEP) * ROOM_STEP
        if room not in self.images:
            if len(self.images) >= MOST_IMAGES:
                os.close(self.images.pop(next(iter(self.images))))
            self.images[room] = process.sealed_program(init.image(libc.ARCH, room))
        return self.images[room]

    def take_back(self):
        """0, 1 and 2 lead nowhere."""
        for number in range(3):
            os.dup2(self.null, number)


class Served(launch.Run):
    """A run in a process that has its signals blocked for good, and the caller's descriptors beside 0, 1 and 2."""

    def __init__(self, plan, launcher, stdio, own_pipes=()):
        self.stdio, self.own_pipes, self.of_launcher = tuple(stdio), own_pipes, launcher
        self.lets_go = True
        self.host_pid = None if plan.spec.tty else launcher.host.pid
        launch.Run.__init__(self, plan, None, launcher.features)
        self.held.late = []

    def take_signals(self):
        """The launcher has blocked them for good."""
        self.ignored = self.of_launcher.ignored

    def make_image(self):
        """Returns init's image (fd), which the launcher keeps."""
        return self.of_launcher.image(self.room())

    def read_back(self):
        """As of launch.Run.  Taking the mounts down is half of what the end of pid 1 waits for: where all of them are the
        system's own or the sandbox's, they go with this descriptor, right after the answer."""
        launch.Run.read_back(self)
        spec = self.plan.spec
        if any(part.limits() is not None for part in self.parts):  # a group goes when all have ended
            return
        if not (spec.ro or spec.rw or spec.here or spec.overlay or spec.rootfs):
            try:
                self.held.keep(os.open("/proc/%d/ns/mnt" % self.pid, os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                pass

    def close_late(self):
        """Closes what could wait for the answer."""
        while self.held.late:
            os.close(self.held.late.pop())


def words(data):
    """The numbers of a control message: descriptors, a struct ucred."""
    return memoryview(data).cast("I").tolist()


def error_as_dict(error):
    """A SandboxError on its way to the host."""
    return {"stage": error.stage, "what": error.what, "errno": error.errno, "reason": error.reason, "remedy": error.remedy,
            "control": error.control, "status": error.status}
