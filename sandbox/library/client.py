# SPDX-License-Identifier: Apache-2.0
"""The host's end of the launchers (launcher.py): starting them, one for all threads, and handing requests over.

There is one launcher for each process, interpreter, identity and everything that the calling thread
hands on to its children (surroundings.py). There are more where a request needs one to itself
(`alone`) or inside a scope of the user's systemd manager. A forked host finds none of its parent's
and starts its own.
"""
import atexit
import errno
import marshal
import os
import socket
import subprocess
import sys
import threading
import time

from ..caller import door
from ..errors import SandboxError
from ..result.result import Result
from .surroundings import surroundings

#: Python 3.8.  tempfile has many imports, and a lock that a fork doesn't wait for.
MEMFD = getattr(os, "memfd_create", None)
if MEMFD is None:
    import tempfile

#: Of the host's environment, what a request may depend on.
ENVIRONMENT = ("PATH", "TERM", "TMPDIR", "MRUNC_ID_RANGE")
#: A dict that is longer goes by a file.
PACKET = 60000
LONG = b"@"
#: Asks how long the next packet is: room for the longest, in each of many threads, is what the C library's heap would grow by.
LENGTH = socket.MSG_PEEK | socket.MSG_TRUNC
#: Launchers for one run at a time that wait for the next one; more are ended.
IDLE = 4
#: A process whose rights or limits are others before each run has no more than so many launchers for later runs.
MOST_KEYS = 8
SETTLE = 10.0
SIGKILL = 9


class Host:
    """What this process has of launchers.  links: by `_key`; idle: lists of those for one run at a time, used last the last."""

    def __init__(self):
        self.pid, self.lock, self.links, self.idle = os.getpid(), threading.Lock(), {}, {}

    def forget(self):
        """Lets go of all.  In a forked child: the parent's launchers are not ours."""
        for link in list(self.links.values()) + [link for idle in self.idle.values() for link in idle]:
            link.close()


_hosts, _ended = {}, []


def _at_exit():
    own = _hosts.pop(os.getpid(), None)
    if own is not None:
        own.forget()


def host():
    """The Host of this process."""
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
    """One launcher."""

    def __init__(self, python, before):
        """Starts it.  before: words of a command line that starts the rest of itself.  Raises SandboxError."""
        ours, theirs = pair()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)  # the launcher serves no one but who it is itself
        words = before + [python, "-I", "-S", door(), "run", "--spec-fd", "%d" % theirs.fileno()]
        try:
            process = subprocess.Popen(words, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, start_new_session=True)
            code = process.wait()  # what stays is its child
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
        except OSError as error:  # of one that has ended, sending tells
            return error.errno not in (errno.EACCES, errno.EPERM)
        return True

    def is_right(self):
        """Whether it has no more rights than this thread, as far as only the kernel knows: whoever has entered a Landlock
        domain, say, is no more shown what is outside of it."""
        return not self.shows or self._is_shown()

    def send(self, packet, fds):
        """Hands one request over; returns whether the launcher is there.  Raises OSError."""
        try:
            try:
                self.sock.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, b"".join(
                    fd.to_bytes(4, "little") for fd in fds))], socket.MSG_NOSIGNAL)
            except OSError as error:
                if error.errno != errno.ETOOMANYREFS:
                    raise
                from ...syscalls import process
                process.send(self.sock, packet, fds)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def close(self):
        """Lets go of it; if no one else holds it, it ends."""
        self.sock.close()

    def __del__(self):
        if hasattr(self, "sock"):
            self.sock.close()


def not_started(words, error):
    """The SandboxError for one of ours that an OSError kept from starting.  words: its command line."""
    return SandboxError("launcher", os.fsdecode(words[0]), error.errno, remedy=_another(words) if error.filename else None)


def no_answer(words, status):
    """The SandboxError for one that was started and said nothing.  status: as Popen has it."""
    return SandboxError("launcher", "%s: ended without an answer" % " ".join(map(os.fsdecode, words)), remedy=_another(words),
                        reason="exit status %d" % status if status >= 0 else "signal %d" % -status)


def _another(words):
    if words[1] == "-I":  # what is started is the interpreter itself
        return "python= must name an interpreter, Python 3.6 or newer, that may read %s" % door()
    return None


class Call:
    """One request that has been handed over.  channel: socket; started: what the launcher said at the start, where it was to;
    foretold: the Result but for its usage, if the program ends well.

    KeyboardInterrupt may come at any time: what has been read and not yet understood stays in `words`."""

    def __init__(self, channel, giver, link):
        self.channel, self.giver, self.link, self.words, self.started = channel, giver, link, [], None
        self.foretold = self.answer = None
        self.pid = os.getpid()

    @property
    def is_own(self):
        """Whether this process made it; a forked one has a copy, and its end is not the sandbox's."""
        return self.pid == os.getpid()

    def take(self):
        """Takes one packet of the launcher; returns the answer when it is complete, else None.  Raises SandboxError where
        the launcher has died, BlockingIOError where there is none yet."""
        if self.answer is None:
            self._read()
            self._understand()
        if self.answer is not None:
            self.close(True)
        return self.answer

    def _read(self):
        """Has one more of the launcher's packets in `words`.  Raises OSError."""
        if self.words and self.words[-1][:1] != b"+":
            if self.words[-1][:1] != b"\0":
                return  # an interrupt came before it was understood
            self.words.pop()  # or before it was read
        size = self._receive(bytearray(1), 1, LENGTH)
        self.words.append(bytearray(size))
        if size:
            self._receive(self.words[-1])

    def _receive(self, *arguments):
        """Returns what recv_into does; the launcher may end meanwhile.

        ECONNRESET is told once, where it left a word of ours unread; what it said is behind that."""
        try:
            return self.channel.recv_into(*arguments)
        except ConnectionResetError:
            return self.channel.recv_into(*arguments)

    def _understand(self):
        """Takes what is in `words`, if it is complete.  Raises SandboxError."""
        kind = self.words[-1][:1]
        if kind == b"+":
            return
        if not kind:
            self.close()
            raise SandboxError("launcher", "ended without an answer", reason="it was killed, or a mistake of its own ended it")
        said = marshal.loads(b"".join([memoryview(word)[1:] for word in self.words]))
        if kind == b">":
            self.started = said
        elif kind == b"~":
            self.foretold = Result(**said["result"])
        elif kind == b"=":
            self.foretold.usage = said
            self.answer = {"result": self.foretold}
        else:
            self.answer = dict(said, result=Result(**said["result"])) if "result" in said else said
        self.words = []

    def say(self, word):
        """One word to the launcher; never raises."""
        try:
            self.channel.send(word, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            pass

    def kill(self):
        """Ends the sandbox; the answer comes as usual."""
        self.say(b"k")

    def close(self, done=False):
        """Lets go: a sandbox that still is there is killed."""
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
    """Two ends of a SOCK_SEQPACKET pair, none of them 0, 1 or 2: where the host has closed these, others use them."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if min(end.fileno() for end in ends) > 2:
        return ends
    import fcntl
    out = []
    for end in ends:
        with end:
            out.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3)))
    return tuple(out)


def submit(request, stdio, python=None, alone=False, scope=None, link=None):
    """Hands a request (dict) to a launcher and returns a Call.

    stdio: three descriptors; alone: it gets a launcher to itself; scope: what `before` is to be made of, or None; link: the
    one launcher that it is for; then None is returned where that one has ended.  Raises SandboxError.
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
            shares = alone or bool(request["options"].get("unsafe_without"))  # the tier process is alone
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
    """Returns a file that ends with its last descriptor: of memory, before Python 3.8 in TMPDIR.

    Raises OSError."""
    if MEMFD is None:
        return tempfile.TemporaryFile()
    return open(MEMFD("mrunc-request"), "w+b")


def _not_handed_over(error):
    from .streams import NO_DESCRIPTOR
    remedy = NO_DESCRIPTOR if error.errno == errno.EMFILE else None
    if error.errno == errno.ETOOMANYREFS:
        from .. import remedies
        remedy = remedies.line("in-flight")
    return SandboxError("launcher", "handing the request over", error.errno, remedy=remedy)


def _key(python, scope, shares=False):
    """What the launchers of a process differ in.  shares: as of `view`."""
    return (python or sys.executable or "python3", os.getresuid(), os.getresgid(), scope,
            tuple(os.getgroups()), surroundings(shares))


def _deliver(packet, fds, key, alone):
    """(Link, what is to be called at the end) of the launcher that has taken the request: one that has died is replaced."""
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
                    while len(own.links) > MOST_KEYS:  # its Calls hold one that is still in use
                        del own.links[min((other for other in own.links if other != key), key=lambda it: own.links[it].used)]
        link.used = time.monotonic()
        if link.send(packet, fds):
            return link, None
        with own.lock:
            if own.links.get(key) is link:
                del own.links[key]
                link.close()
    raise SandboxError("launcher", "ends again and again", reason="three of them have")


def _deliver_alone(own, packet, fds, key):
    link = None
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
    """What goes before the launcher's command line where a limit needs a group that the user's systemd manager makes."""
    if scope is None:
        return []
    from ..cgroup import scope as cgroup_scope
    return cgroup_scope.prefix(scope, [], os.environ)
