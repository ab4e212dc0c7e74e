# SPDX-License-Identifier: Apache-2.0
"""Plants things outside that a probe must not find, and removes them afterwards."""
import binascii
import errno
import os
import socket
import struct
import subprocess
import tempfile
import time

from .attempt import buffer, call, domain_name
from .given import Files, Terminal, testify

IPC_CREAT, IPC_EXCL, IPC_RMID = 0o1000, 0o2000, 0


class Plants:
    """Is a context manager that plants things.

    terminal: whether a terminal and a pipe are given as descriptors 0 and 2, and nothing else is
        planted; else two files
    facts: what the probes are told
    environ: the environment for the sandbox's caller
    descriptors: to be inherited
    given: the objects for descriptors 0 and 2, or None
    """

    def __init__(self, terminal=False):
        self.facts, self.environ, self.descriptors, self.undo = {}, dict(os.environ), [], []
        self.terminal, self.given = terminal, None
        self.name = "mrunc-selftest-" + binascii.hexlify(os.urandom(6)).decode()

    def __enter__(self):
        try:
            self.facts.update(supervisor=os.getpid(), hostname=os.uname().nodename,
                              domainname=domain_name())
            for plant in (self._give,) + (() if self.terminal else (
                    self._seen, self._terminals, self._number, self._variable, self._files,
                    self._sockets, self._system_v, self._queue, self._key, self._descriptor)):
                try:
                    plant()
                except OSError:
                    pass  # the probe is skipped
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *ignored):
        while self.undo:
            function, arguments = self.undo.pop()
            try:
                function(*arguments)
            except OSError:
                pass

    def stdio(self):
        """Returns {stdin, stderr} for subprocess."""
        if self.given:
            return {"stdin": self.given.stdin, "stderr": self.given.stderr}
        return dict.fromkeys(("stdin", "stderr"), subprocess.DEVNULL)

    def said(self):
        """Returns what was written to standard error, as text."""
        return self.given.said() if self.given else ""

    def testify(self, found, asked):
        """Judges the probes of descriptors 0 and 2 by the objects.

        found: {probe id: Outcome}, changed
        asked: ids of the probes that were run
        """
        if self.given:
            testify(self.given.checks, found, asked)

    def _give(self):
        self.given = (Terminal if self.terminal else Files)(self.name)
        self._later(self.given.close)
        self.facts.update(self.given.facts)

    def _later(self, function, *arguments):
        self.undo.append((function, arguments))

    def _seen(self):
        clock = buffer(16)
        call("clock_gettime", 7, clock)
        seconds, rest = struct.unpack("=qq", clock.raw)
        self.facts["boottime"] = seconds + rest / 1e9, time.time()
        self.facts["ns"] = dict((name,
                                 int(os.readlink("/proc/self/ns/" +
                                                 name).partition("[")[2].rstrip("]")))
                                for name in os.listdir("/proc/self/ns")
                                if not name.endswith("_for_children"))

    def _terminals(self):
        self.facts["devpts"] = os.stat("/dev/pts/ptmx").st_dev

    def _number(self):
        fd = call("pidfd_open", os.getpid(), 0)
        self.facts["pidfs"] = os.fstat(fd).st_ino
        os.close(fd)

    def _variable(self):
        name = self.name.upper().replace("-", "_")
        self.environ[name] = "secret"
        self.facts["environ"] = name

    def _files(self):
        for fact, folder in (("tmp", "/tmp"), ("devshm", "/dev/shm")):
            fd, path = tempfile.mkstemp(prefix=self.name, dir=folder)
            self._later(os.unlink, path)
            os.write(fd, b"planted\n")
            os.fchmod(fd, 0o644)
            os.close(fd)
            self.facts[fact] = path

    def _sockets(self):
        path = "/tmp/%s.socket" % self.name
        for fact, family, address in (("abstract", socket.AF_UNIX, "\0" + self.name),
                                      ("socket", socket.AF_UNIX, path),
                                      ("tcp", socket.AF_INET, ("127.0.0.1", 0))):
            server = socket.socket(family)
            self._later(server.close)
            server.bind(address)
            server.listen(8)
            self.facts[fact] = {"tcp": server.getsockname()[1], "socket": path}.get(fact, self.name)
            if fact == "socket":
                self._later(os.unlink, path)
                os.chmod(path, 0o666)

    def _system_v(self):
        for fact, get, control, more in (("shm", "shmget", ("shmctl",), (4096,)),
                                         ("sem", "semget", ("semctl", 0), (1,)),
                                         ("msg", "msgget", ("msgctl",), ())):
            key = struct.unpack("=I", os.urandom(4))[0] & 0x7fffffff | 1
            number = call(get, key, *more + (IPC_CREAT | IPC_EXCL | 0o666,))
            self._later(call, control[0], number, *control[1:] + (IPC_RMID, 0))
            self.facts[fact] = key

    def _queue(self):
        fd = call("mq_open", self.name.encode(), os.O_CREAT | os.O_EXCL | os.O_RDONLY, 0o644, None)
        self._later(call, "mq_unlink", self.name.encode())
        os.close(fd)
        self.facts["queue"] = self.name

    def _key(self):
        key = call("add_key", b"user", self.name.encode(), b"planted", 7, -4)
        self._later(call, "keyctl", 9, key, -4)
        try:
            call("keyctl", 5, key, 0x3f3f0000)  # every process of the user can find it
        except OSError as error:
            if error.errno != errno.EACCES:
                raise
        self.facts["key"] = self.name

    def _descriptor(self):
        fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        self._later(os.close, fd)
        ours, theirs = socket.socketpair()
        self._later(ours.close)
        self._later(theirs.close)
        self.descriptors += [fd, theirs.fileno()]
