# SPDX-License-Identifier: Apache-2.0
"""The launcher: a small process that serves all sandboxes of one host process with one poll.

The host starts `python -I -S mrunc.py run --spec-fd N` at its first sandbox, and is never forked
for one: it may have threads, a large heap, secrets.  The launcher is nobody's child, so that the
host does not meet it when it waits for children.  It kills everything and exits when the host has
ended, which it learns from the socket's end of file and from the host's pidfd.

Over the socket N (SOCK_SEQPACKET) goes:

    to the host      the launcher's pid, once
    to the launcher  one packet for each sandbox: a dict by marshal, with file descriptors: of a
                     channel, the program's stdin, stdout and stderr, the host's directory (not for
                     a sandbox of a pool), and a file with the dict if it is too long for a packet.
                     A request with `pool` is described in pools.py

Over the channel goes, to the host:

    >  a dict, when the program has been started, if `tell` asks for it
    ~  a dict with `result`, without its usage: predicted, the result if the program exits with 0
    =  that usage, if the prediction has come true
    .  else a dict with `result` or `error`
    +  a part of one of these, all but the last of it

and to the launcher:

    k  kill the sandbox
    s  and one byte: send the program this signal

The end of a channel kills its sandbox, too.  marshal reads only what these two processes have
written, and no byte of the program's.

A process that has given up rights which the launcher still has, such as a forked worker, may hold
the socket all the same.  The kernel says with each packet who sent it.  Only the host process is
served, and only while it has the launcher's own identity.
"""
import errno
import marshal
import os
import resource
from select import POLLIN

from ...syscalls import libc, process
from .. import init
from ..errors import SandboxError, usage
from ..host.kernel import Features
from ..launch import provisions, run as launch
from ..plan.spec import Spec, known
from ..proc import read
from ..running.loop import Loop
from . import pools
from .jobs import Job, refuse
from .plans import Plans

#: The signals that end the launcher: HUP INT QUIT TERM.
ENDING = (1, 2, 3, 15)
#: Bytes.
PACKET = 1 << 16
#: The packet whose dict is in a file.
LONG = b"@"
#: Options that are lists of pairs.
PAIRS = ("ro", "rw", "copy", "tmpfs", "writable", "env")
#: File descriptors that a request may bring.  So many are kept free to take the next one.
MOST_FDS = 6
#: unix(7), struct ucred: pid, uid, gid.
SCM_CREDENTIALS, CREDENTIALS_SIZE = 2, 12
#: Seconds that the launcher waits for its sandboxes' ends when the host has ended.
PATIENCE = 10.0
#: Seconds between two looks at a host of which there is no pidfd.
LOOK_AGAIN = 0.25
#: Bytes by which images of init differ in their room, and how many are kept.
ROOM_STEP, MOST_IMAGES = 1 << 16, 4


def serve(number):
    """Runs a launcher until its host has ended.

    number: the socket's file descriptor, as text.  Returns 0 in the process that was started; the
    launcher itself, its child, never returns.  Raises SandboxError.
    """
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
    """The process that the launcher serves.

    pid: its pid.
    fd: its pidfd, or -1 before Linux 5.3.
    place: then a descriptor of its directory in /proc, which never becomes another process's.
    """

    def __init__(self, pid):
        """Raises OSError if there is no such process."""
        self.pid = pid
        try:
            self.fd, self.place = process.pidfd_open(pid), -1
        except OSError as error:
            if error.errno == errno.ESRCH:
                raise
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            self.fd, self.place = -1, os.open("/proc/%d" % pid, flags)

    def has_ended(self, events):
        """Whether it has ended.  events: {fd: poll events}."""
        if self.fd >= 0:
            return self.fd in events
        try:
            return read("stat", self.place, first=4096).rpartition(b") ")[2][:1] in b"ZX"
        except OSError:
            return True


class Launcher:
    """The launcher's process: its socket, and everything that its runs share.

    sock, host: of the host; host is a Host.
    jobs: {jobs.Job}, the sandboxes; pools: {number: pools.Pool}; spares: pools.Spares.
    plans: plans.Plans.
    null: descriptor of /dev/null.
    ignored: the signals that the host ignores.
    most: the hard limit of file descriptors.
    leaving: whether the host has ended.
    """

    def __init__(self, sock, host):
        self.sock, self.host, self.loop, self.jobs, self.pools = sock, host, Loop(), set(), {}
        self.features, self.leaving = Features(), False
        self.null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self.pool_number, self.plans, self.images = 0, Plans(), {}
        self.spares = pools.Spares(self)
        for number in range(3):
            os.dup2(self.null, number)
        self.most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self._allow(self.most - MOST_FDS)
        signals = libc.signals
        self.ignored = provisions.ignored_signals()
        signals.pthread_sigmask(signals.SIG_BLOCK, libc.SIGNALS)
        signals.signal(signals.SIGCHLD, signals.SIG_DFL)
        self.signals = process.signal_descriptor(ENDING)

    def run(self):
        """Serves until the host has ended."""
        self.loop.add(self)
        self.loop.add(self.spares)
        while not self.leaving or self.jobs:
            self.loop.turn()

    # -- as a member of the loop -----------------------------------------------------------------

    def wanted(self):
        """Returns {fd: poll events}."""
        if self.leaving:
            return {}
        fds = [self.sock.fileno(), self.signals] + [self.host.fd] * (self.host.fd >= 0)
        return dict.fromkeys(fds, POLLIN)

    def wait(self):
        """Returns the seconds until `serve` has something to do without an event, or None."""
        return PATIENCE if self.leaving else None if self.host.fd >= 0 else LOOK_AGAIN

    def serve(self, events):
        """Takes a request, or notices the host's end.

        Exits when the sandboxes have not ended PATIENCE seconds after the host.
        """
        if self.leaving:
            os._exit(0)
        if self.host.has_ended(events) or self.signals in events:
            self.leave()
        elif self.sock.fileno() in events:
            self.receive()

    def failed(self, error):
        """Leaves: a request that can't be read is a mistake of mrunc's own."""
        self.leave()

    def leave(self):
        """Kills all sandboxes: the host has ended."""
        self.leaving = True
        self.sock.close()
        for pool in list(self.pools.values()):
            pool.close()
        for job in list(self.jobs):
            self._cancel(job)

    def _cancel(self, job):
        job.cancel()
        self.loop.ask(job)

    def receive(self):
        """Takes one packet of the host and begins what it asks for.  Raises OSError, ValueError."""
        sockets = libc.sockets
        self._allow(self.most)
        try:
            packet, control, _, _ = self.sock.recvmsg(
                PACKET, sockets.CMSG_SPACE(4 * 8) + sockets.CMSG_SPACE(CREDENTIALS_SIZE),
                sockets.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            packet = b""
        self._allow(self.most - MOST_FDS)
        if not packet:
            self.leave()
            return
        data = dict([(kind, data) for _, kind, data in control])
        fds = numbers(data.get(sockets.SCM_RIGHTS, b""))
        sender = numbers(data.get(SCM_CREDENTIALS, b""))
        if sender != [self.host.pid, os.getuid(), os.getgid()]:
            self._refuse_sender(fds, sender)
            return
        if packet == LONG:
            with open(fds.pop(), "rb") as stream:
                packet = stream.read()
        channel, stdio, cwd = fds[0], fds[1:4], fds[4] if len(fds) > 4 else -1
        request = marshal.loads(packet)
        host = sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET, 0, channel)
        host.setblocking(False)
        if max(fds) >= self.most - MOST_FDS:  # these are for taking a request, not for a sandbox
            if cwd >= 0:
                os.close(cwd)
            refuse(host, stdio, SandboxError("launcher", "taking one more request", errno.EMFILE))
        elif "pool" in request:
            pools.serve(self, host, stdio, cwd, request)
        else:
            if not self.spares.take(host, stdio, request):
                self.begin(host, stdio, request, cwd)
            if cwd >= 0:
                os.close(cwd)

    def _refuse_sender(self, fds, sender):
        """Answers a packet of another process's, without reading it.

        A process that gave up rights must not get the launcher's.
        """
        sockets = libc.sockets
        try:
            channel = sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET, 0, *fds[:1])
            channel.setblocking(False)
        except OSError:  # it is no socket, which Python before 3.7 does not ask
            for fd in fds:
                os.close(fd)
            return
        refuse(channel, fds[1:], SandboxError(
            "launcher", "the request", reason="made by somebody else: pid, uid and gid %s" %
            " ".join(map(str, sender))))

    def begin(self, channel, stdio, request, cwd=-1):
        """Begins an ordinary run.

        channel: socket to the host; stdio: three descriptors; request: dict; cwd: descriptor of
        the host's directory, or -1 where nothing depends on it.
        """
        job = Job(self, channel, stdio, request)
        job.begin(cwd)
        if job in self.jobs and self.leaving:  # it takes the place of a spare that was killed
            self._cancel(job)

    def _allow(self, descriptors):
        """Sets how many file descriptors this process may have."""
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(0, descriptors), self.most))

    def next_pool(self):
        """Returns a number that no pool had before: a late request must not reach another pool."""
        self.pool_number += 1
        return self.pool_number

    # -- what runs share -------------------------------------------------------------------------

    def plan(self, request):
        """Returns the Plan for a request.  Raises SandboxError."""
        return self.plans.plan(request, self._new_plan)

    def _new_plan(self, request):
        options = request["options"]
        known(options)
        for name in PAIRS:  # marshal's lists of what were tuples
            if isinstance(options.get(name), list):
                options[name] = [tuple(item) if isinstance(item, list) else item
                                 for item in options[name]]
        spec = Spec(request.get("argv"), environ=request["environ"], **options)
        return launch.prepare(spec, request["environ"])

    def image(self, room):
        """Returns the descriptor of an image of init with at least so many bytes of room.

        It is sealed, so that all sandboxes may execute the same one.  Raises OSError.
        """
        room = -(-room // ROOM_STEP) * ROOM_STEP
        if room not in self.images:
            if len(self.images) >= MOST_IMAGES:
                os.close(self.images.pop(next(iter(self.images))))
            self.images[room] = process.sealed_program(init.image(libc.ARCH, room))
        return self.images[room]


def numbers(data):
    """Returns the numbers of a control message: descriptors, or a struct ucred."""
    return memoryview(data).cast("I").tolist()
