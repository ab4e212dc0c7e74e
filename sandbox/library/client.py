# SPDX-License-Identifier: Apache-2.0
"""Starts launchers (service/launcher.py) and hands requests over to them.

There is one launcher for each process, interpreter, identity and everything that the calling thread
hands on to its children (surroundings.py).  There are more where a request needs one to itself
(`alone`) or inside a scope of the user's systemd manager.  A forked host finds none of its parent's
and starts its own.
"""
import atexit
import errno
import fcntl
import marshal
import os
import socket
import subprocess
import sys
import threading
import time

from ..caller import door
from ..cgroup import scope as cgroup_scope
from ..errors import remedies, SandboxError
from ..result.result import Result
from .streams import NO_DESCRIPTOR
from .surroundings import surroundings

#: Python 3.8.  tempfile has many imports, and a lock that a fork doesn't wait for.
MEMFD = getattr(os, "memfd_create", None)
if MEMFD is None:
    import tempfile

#: The names of the host's environment that a request may depend on.
ENVIRONMENT = ("PATH", "TERM", "TMPDIR", "MRUNC_ID_RANGE")
#: Bytes.  A longer dict goes by a file, which this packet announces.
PACKET = 60000
LONG = b"@"
#: Makes recv return the length of the next packet.  Room for the longest one, in each of many
#: threads, would make the C library's heap grow.
LENGTH = socket.MSG_PEEK | socket.MSG_TRUNC
#: How many launchers for one run at a time may wait for the next one.
IDLE = 4
#: How many keys (`_key`) have launchers: a process may change its rights or limits before each run.
MOST_KEYS = 8
#: Seconds to wait for the end of a sandbox that was killed.
SETTLE = 10.0
SIGKILL = 9


class Host:
    """The launchers of this process.

    links: {_key: Link}.
    idle: {_key: [Link]}, those for one run at a time, most recently used last.
    """

    def __init__(self):
        self.pid, self.lock, self.links, self.idle = os.getpid(), threading.Lock(), {}, {}

    def forget(self):
        """Closes all.  In a forked child: the parent's launchers are not ours."""
        idle = [link for links in self.idle.values() for link in links]
        for link in list(self.links.values()) + idle:
            link.close()


_hosts, _ended = {}, []


def _at_exit():
    own = _hosts.pop(os.getpid(), None)
    if own is not None:
        own.forget()


def host():
    """Returns the Host of this process."""
    pid = os.getpid()
    if pid not in _hosts:
        _hosts.setdefault(pid, Host())
        if not _ended:
            _ended.append(atexit.register(_at_exit))
        for other in [other for other in list(_hosts) if other != pid]:
            stale = _hosts.pop(other, None)
            if stale is not None:
                stale.forget()
    return _hosts[pid]


class Link:
    """One launcher.

    sock: socket to it; used: monotonic time of the last request; pid: its pid.
    shows: whether /proc showed this process its namespaces when it was started.
    """

    def __init__(self, python, before):
        """Starts it.

        before: words of a command line that starts the rest of itself.  Raises SandboxError.
        """
        ours, theirs = pair()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)  # it checks each sender
        words = before + [python, "-I", "-S", door(), "run", "--spec-fd", "%d" % theirs.fileno()]
        try:
            process = subprocess.Popen(
                words, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
            code = process.wait()  # its child is the launcher
        except OSError as error:
            ours.close()
            raise not_started(words, error)
        finally:
            theirs.close()
        pid = b"" if code else ours.recv(16)
        if not pid:
            ours.close()
            raise no_answer(words, code)
        self.sock, self.used, self.pid = ours, time.monotonic(), int(pid)
        self.shows = self._is_shown()

    def _is_shown(self):
        try:
            os.stat("/proc/%d/ns/mnt" % self.pid)
        except OSError as error:  # if it has ended, sending will say so
            return error.errno not in (errno.EACCES, errno.EPERM)
        return True

    def is_right(self):
        """Whether it has no more rights than this thread, as far as only the kernel can say.

        A process that has entered a Landlock domain, say, can't see outside any more.
        """
        return not self.shows or self._is_shown()

    def send(self, packet, fds):
        """Hands one request over.  Returns whether the launcher takes it.  Raises OSError."""
        try:
            try:
                self.sock.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, b"".join(
                    fd.to_bytes(4, "little") for fd in fds))], socket.MSG_NOSIGNAL)
            except OSError as error:
                if error.errno != errno.ETOOMANYREFS:
                    raise
                from ...syscalls import process  # ctypes, for this rare case alone
                process.send(self.sock, packet, fds)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def close(self):
        """Closes the socket; the launcher ends if no other process holds it."""
        self.sock.close()

    def __del__(self):
        if hasattr(self, "sock"):
            self.sock.close()


def not_started(words, error):
    """Returns the SandboxError for a command that could not be started.

    words: its command line; error: OSError.
    """
    return SandboxError("launcher", os.fsdecode(words[0]), error.errno,
                        remedy=_another(words) if error.filename else None)


def no_answer(words, status):
    """Returns the SandboxError for a command that said nothing.  status: as of Popen.returncode."""
    reason = "exit status %d" % status if status >= 0 else "signal %d" % -status
    return SandboxError("launcher",
                        "%s: ended without an answer" % " ".join(map(os.fsdecode, words)),
                        reason=reason, remedy=_another(words))


def _another(words):
    if words[1] == "-I":  # the command is the interpreter itself
        return "python= must name an interpreter, Python 3.6 or newer, that may read %s" % door()
    return None


class Call:
    """One request that has been handed over.

    channel: socket to the launcher.
    giver: called with whether the request is done, when the launcher is needed no more, or None.
    link: Link of the launcher.
    started: what the launcher said when the program began, {"pid"} or {"pool"}, or None.
    predicted: the Result without its usage if the program exits with 0, or None.
    words: packets that were read and are not yet understood; KeyboardInterrupt may come any time.
    """

    def __init__(self, channel, giver, link):
        self.channel, self.giver, self.link, self.words = channel, giver, link, []
        self.started = self.predicted = self.answer = None
        self.pid = os.getpid()

    @property
    def is_own(self):
        """Whether this process made it.  A forked copy's end is not the sandbox's."""
        return self.pid == os.getpid()

    def take(self):
        """Takes one packet of the launcher.  Returns the answer when it is complete, else None.

        The answer is a dict with `result`, a Result, or with `error`.  Raises SandboxError if the
        launcher has died, BlockingIOError if the channel does not block and has no packet.
        """
        if self.answer is None:
            self._read()
            self._understand()
        if self.answer is not None:
            self.close(True)
        return self.answer

    def _read(self):
        """Adds one packet to `words`.  Raises OSError."""
        if self.words and self.words[-1][:1] != b"+":
            if self.words[-1][:1] != b"\0":
                return  # an interrupt came before it was understood
            self.words.pop()  # or before it was read
        size = self._receive(bytearray(1), 1, LENGTH)
        self.words.append(bytearray(size))
        if size:
            self._receive(self.words[-1])

    def _receive(self, *arguments):
        """Returns what recv_into does, also when the launcher has ended meanwhile.

        ECONNRESET comes once, if the launcher left a packet unread; its own packets come after.
        """
        try:
            return self.channel.recv_into(*arguments)
        except ConnectionResetError:
            return self.channel.recv_into(*arguments)

    def _understand(self):
        """Takes the packets in `words`, if they are complete.  Raises SandboxError."""
        kind = self.words[-1][:1]
        if kind == b"+":
            return
        if not kind:
            self.close()
            raise SandboxError("launcher", "ended without an answer",
                               reason="it was killed, or a mistake of its own ended it")
        said = marshal.loads(b"".join([memoryview(word)[1:] for word in self.words]))
        if kind == b">":
            self.started = said
        elif kind == b"~":
            self.predicted = Result(**said["result"])
        elif kind == b"=":
            self.predicted.usage = said
            self.answer = {"result": self.predicted}
        else:
            self.answer = dict(said, result=Result(**said["result"])) if "result" in said else said
        self.words = []

    def say(self, word):
        """Sends the launcher one packet.  Never raises."""
        try:
            self.channel.send(word, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            pass

    def kill(self):
        """Kills the sandbox; the answer comes as usual."""
        self.say(b"k")

    def close(self, done=False):
        """Closes the channel, which kills the sandbox.  done: it has ended already."""
        if self.channel.fileno() >= 0:
            try:
                if self.is_own and not done:
                    self.channel.shutdown(socket.SHUT_RDWR)  # a forked process may hold a copy
            except OSError:
                pass
            self.channel.close()
            if self.giver is not None:
                self.giver(done)


def pair():
    """Returns two ends of a SOCK_SEQPACKET pair.

    None is 0, 1 or 2: if the host has closed these, others use their numbers.
    """
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if min(end.fileno() for end in ends) > 2:
        return ends
    out = []
    for end in ends:
        with end:
            fd = fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3)
            out.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fd))
    return tuple(out)


def submit(request, stdio, python=None, alone=False, scope=None, link=None):
    """Hands a request (dict) to a launcher and returns a Call.

    stdio: the program's three file descriptors.
    python: the interpreter, default this one.
    alone: whether the request gets a launcher to itself.
    scope: controls that need a systemd scope (`request.scope`), or None.
    link: the only Link that may serve it; if that launcher has ended, None is returned.
    Raises SandboxError.
    """
    request["alone"] = alone
    packet, files, cwd = marshal.dumps(request, 2), [], -1
    try:
        ours, theirs = pair()
    except OSError as error:
        raise _not_handed_over(error)
    try:
        fds = [theirs.fileno()] + list(stdio)
        if link is None:
            try:
                cwd = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError:
                cwd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            fds.append(cwd)
        if len(packet) > PACKET:
            files.append(_nameless_file())
            files[0].write(packet)
            files[0].seek(0)
            packet = LONG
            fds.append(files[0].fileno())
        if link is None:
            shares = alone or bool(request["options"].get("unsafe_without"))
            link, giver = _deliver(packet, fds, _key(python, scope, shares), alone)
        elif link.sock.fileno() >= 0 and link.send(packet, fds):
            giver = None
        else:
            ours.close()
            return None
        return Call(ours, giver, link)
    except OSError as error:
        ours.close()
        raise _not_handed_over(error)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        if cwd >= 0:
            os.close(cwd)
        for stream in files:
            stream.close()


def _nameless_file():
    """Returns a file without a name: in memory, before Python 3.8 in TMPDIR.  Raises OSError."""
    if MEMFD is None:
        return tempfile.TemporaryFile()
    return open(MEMFD("mrunc-request"), "w+b")


def _not_handed_over(error):
    remedy = NO_DESCRIPTOR if error.errno == errno.EMFILE else None
    if error.errno == errno.ETOOMANYREFS:
        remedy = remedies().line("in-flight")
    return SandboxError("launcher", "handing the request over", error.errno, remedy=remedy)


def _key(python, scope, shares=False):
    """Returns what distinguishes the launchers of a process.  shares: as of `surroundings.view`."""
    return (python or sys.executable or "python3", os.getresuid(), os.getresgid(), scope,
            tuple(os.getgroups()), surroundings(shares))


def _deliver(packet, fds, key, alone):
    """Sends a packet to a launcher, and starts one if there is none or it has died.

    Returns (Link, Call.giver).  Raises SandboxError, OSError.
    """
    own = host()
    if alone:
        return _deliver_alone(own, packet, fds, key)
    for _ in range(3):
        link = own.links.get(key)
        while link is not None and not link.is_right():  # it may be another thread's
            key += (link.pid,)
            link = own.links.get(key)
        if link is None:
            with own.lock:
                link = own.links.get(key)
                if link is None:
                    link = own.links[key] = Link(key[0], _before(key[3]))
                    while len(own.links) > MOST_KEYS:  # a Call keeps its Link open
                        del own.links[min((other for other in own.links if other != key),
                                          key=lambda it: own.links[it].used)]
        link.used = time.monotonic()
        if link.send(packet, fds):
            return link, None
        with own.lock:
            if own.links.get(key) is link:
                del own.links[key]
                link.close()
    raise SandboxError("launcher", "ends again and again", reason="three of them have")


def _deliver_alone(own, packet, fds, key):
    """As _deliver, to a launcher that serves no other request meanwhile."""
    while True:
        with own.lock:
            idle = own.idle[key] = own.idle.pop(key, [])
            while idle and not idle[-1].is_right():
                idle.pop().close()
            link = idle.pop() if idle else None
            while len(own.idle) > MOST_KEYS:
                for other in own.idle.pop(next(iter(own.idle))):
                    other.close()
        fresh = link is None
        link = link or Link(key[0], _before(key[3]))
        if link.send(packet, fds):
            break
        link.close()
        if fresh:
            raise SandboxError("launcher", "ended without an answer")

    def give_back(done):
        with own.lock:
            idle = own.idle.get(key)
            if done and own.pid == os.getpid() and idle is not None and len(idle) < IDLE:
                idle.append(link)
                return
        link.close()
    return link, give_back


def _before(scope):
    """Returns the words before a launcher's command line that put it into a systemd scope."""
    return [] if scope is None else cgroup_scope.prefix(scope, [], os.environ)
