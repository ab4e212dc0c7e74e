# SPDX-License-Identifier: Apache-2.0
"""Many sandboxes, and sandboxes that do their worst: the host stays usable meanwhile, and has nothing left of them after.

Each storm is bounded in size and time, and says how far it got: one that did not blow is a failure.
"""
import errno
import fcntl
import glob
import json
import os
import re
import secrets
import select
import struct
import subprocess
import sys
import threading
import time

import pytest

from conftest import DEADLINE, PYTHON, USER, become

#: How late a 10 ms timer of a process beside the sandbox may ever be.
LATE = 0.5
TICK = 0.01
F_OFD_SETLK = 37


class Timer:
    """A 10 ms timer in a thread of this process.  ticks: how often it came; worst: how late at most, in seconds."""

    def __enter__(self):
        self.ticks, self.worst, self.over = 0, 0.0, False
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        return self

    def _run(self):
        while not self.over:
            due = time.monotonic() + TICK
            select.select([], [], [], TICK)
            self.worst = max(self.worst, time.monotonic() - due)
            self.ticks += 1

    def __exit__(self, *rest):
        self.over = True
        self.thread.join()


def alive(nonce):
    """The pids of processes that carry the nonce in their arguments."""
    out = []
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                with open("/proc/%s/cmdline" % pid, "rb") as stream:
                    if nonce.encode() in stream.read():
                        out.append(int(pid))
            except OSError:
                pass
    return out


class Host:
    """What a sandbox could leave on it, of the sandboxes of one range of ids.  (Other suites may run beside this one.)"""

    def __init__(self, inside, count):
        self.first = 2000000000 + 64 * (int.from_bytes(os.urandom(2), "little") % 1000)
        self.count, self.ids = count, set(range(self.first, self.first + count))
        if inside.who == "user":
            self.ids = {os.geteuid() or USER}
        self.environ = dict(os.environ, MRUNC_ID_RANGE="%d:%d" % (self.first, count))
        self.before = self.state()

    def state(self):
        """(mounts, files, control groups, own descriptors)"""
        with open("/proc/self/mountinfo") as stream:
            mounts = [line for line in stream if re.search(r"mrunc(?!-[a-z]+-)|uid=%d\b" % self.first, line)]
        files = [path for top in ("/tmp", "/var/tmp", "/dev/shm", "/run", "/run/mrunc") for path in glob.glob(top + "/*")
                 if not re.search("/mrunc-[a-z]+-|/tmp[a-z0-9_]{8}$", path) and (self._uid(path) in self.ids or top == "/run/mrunc")]
        groups = [os.path.join(place, name) for place, names, _ in os.walk("/sys/fs/cgroup") for name in names
                  if name.startswith("mrunc-%d-" % os.getpid())]
        return sorted(mounts), sorted(files), sorted(groups), len(os.listdir("/proc/self/fd"))

    def processes(self):
        """[(pid, state)] of the processes with one of the ids; a zombie is its parent's."""
        out = []
        for name in os.listdir("/proc"):
            try:
                with open("/proc/%s/status" % int(name), errors="replace") as stream:  # the owner of /proc/PID may be root
                    status = dict(line.rstrip("\n").split(":\t", 1) for line in stream if ":\t" in line)
            except (OSError, ValueError):
                continue
            if int(status["Uid"].split()[0]) in self.ids and status["State"][0] not in "ZX":
                out.append((name, status["State"]))
        return out

    @staticmethod
    def _uid(path):
        try:
            return os.lstat(path).st_uid
        except OSError:
            return None

    def assert_clean(self):
        """As it was, but for the lock file, in which every id is free again; and no process has one of the ids."""
        mounts, files, groups, descriptors = self.state()
        assert (mounts, groups, descriptors) == (self.before[0], self.before[2], self.before[3])
        assert set(files) - set(self.before[1]) <= {"/run/mrunc/ids"}
        if self.first in self.ids:
            assert self.processes() == []
            with open("/run/mrunc/ids", "r+b") as stream:
                for number in self.ids:
                    fcntl.fcntl(stream, F_OFD_SETLK, struct.pack("=hhxxxxqqixxxx", fcntl.F_WRLCK, 0, number, 1, 0))


#: Runs sandboxes one after the other in one process, so that whatever one leaves behind adds up.
MANY = r"""
import json, os, sys
sys.path.insert(0, sys.argv[1])
import mrunc
from mrunc.sandbox.launch import run as launch
from mrunc.sandbox.plan.spec import Spec
def one(n):
    kind = n %% 5
    try:
        if kind == 0: return launch.launch(launch.prepare(Spec(["/bin/true"]))).returncode
        if kind == 1: return launch.launch(launch.prepare(Spec(["/bin/sh", "-c", "setsid sleep 1000 & exit 3", sys.argv[2]]))).returncode
        if kind == 2: return launch.launch(launch.prepare(Spec(["/nowhere"]))).returncode
        if kind == 3: return launch.launch(launch.prepare(Spec(["/bin/true"], max_output=10, cpu_time=5))).returncode
        return launch.launch(launch.prepare(Spec(["/bin/true"], chdir="/not/there"))).returncode
    except mrunc.SandboxError as error:
        return -error.status
def count():
    with open("/proc/self/status") as stream:
        threads = [line.split()[1] for line in stream if line.startswith("Threads")]
    return len(os.listdir("/proc/self/fd")), threads
for n in range(5): one(n)
before = count()
codes = [one(n) for n in range(%d)]
same = count() == before
try: left = os.waitpid(-1, os.WNOHANG)
except ChildProcessError: left = "no child"
print(json.dumps([sorted((code, codes.count(code)) for code in set(codes)), same, left]))
"""


def test_500_sandboxes_in_a_row_leave_nothing(inside):
    host, nonce = Host(inside, 1), "nonce-" + secrets.token_hex(8)
    done = inside.outside([PYTHON, "-I", "-S", "-c", MANY % 500, os.path.dirname(inside.tool), nonce], env=host.environ)
    assert done.returncode == 0, done
    assert json.loads(done.stdout) == [[[-127, 100], [-2, 100], [0, 200], [3, 100]], True, "no child"], done
    assert alive(nonce) == []
    host.assert_clean()


def test_20_sandboxes_at_a_time_leave_nothing(inside):
    host, nonce = Host(inside, 20), "nonce-" + secrets.token_hex(8)
    for script, rc in (("read x; exit $x", 7), ("setsid sleep 1000 & read x; kill -9 $$", 137)):
        for _ in range(2):
            runs = [subprocess.Popen(inside.command("/bin/sh", "-c", "echo ready; " + script, nonce), stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=inside.scratch, env=host.environ,
                                     preexec_fn=become(inside.who)) for _ in range(20)]
            assert [run.stdout.readline() for run in runs] == [b"ready\n"] * 20, "all are there at the same time"
            answers = [run.communicate(b"7\n", timeout=DEADLINE) for run in runs]
            assert answers == [(b"", b"")] * 20 and [run.returncode for run in runs] == [rc] * 20, answers
    assert alive(nonce) == []
    host.assert_clean()


def test_sandboxes_whose_supervisors_are_killed_leave_nothing(inside):
    host, nonce = Host(inside, 20), "nonce-" + secrets.token_hex(8)
    runs = [subprocess.Popen(inside.command("/bin/sh", "-c", "setsid sleep 1000 & echo ready; sleep 1000", nonce),
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=inside.scratch, env=host.environ,
                             preexec_fn=become(inside.who)) for _ in range(20)]
    assert [run.stdout.readline() for run in runs] == [b"ready\n"] * 20
    for run in runs:
        run.kill()
    for run in runs:
        assert run.stdout.read() == b""  # the end of the last process that could write
        run.stdout.close()
        run.wait()
    ends = time.monotonic() + DEADLINE  # the pipe closes a little before the process is gone
    while alive(nonce) or inside.who == "root" and host.processes():
        assert time.monotonic() < ends, (alive(nonce), host.processes())
        select.select([], [], [], TICK)
    host.assert_clean()


START = "import errno, json, os, resource, signal, sys, threading, time\n"
#: name -> (code, options, exit status, what the printed JSON must show)
STORMS = {
    "fork bomb": ("""
made = refused = 0
for _ in range(4096):
    try:
        if os.fork() == 0:
            signal.pause()
        made += 1
    except BlockingIOError:
        refused += 1
print(json.dumps([made, refused]))""", [], 0, lambda got: 400 < got[0] < 512 and got[0] + got[1] == 4096),
    "fork bomb that forks on": ("""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("[1]", flush=True)
while True:
    try: os.fork()
    except BlockingIOError: pass""", ["--timeout", "1s", "--grace", "100ms"], 124, lambda got: got == [1]),
    "threads": ("""
made = 0
try:
    for _ in range(4096):
        threading.Thread(target=signal.pause, daemon=True).start()
        made += 1
except RuntimeError: pass
print(json.dumps([made]), flush=True)
os._exit(0)""", [], 0, lambda got: 400 < got[0] < 512),
    "full file systems": ("""
out = {}
block = b"x" * (1 << 20)
for place in ("/tmp", "/box", "/dev/shm", os.environ["HOME"]):
    written = 0
    try:
        with open(place + "/fill", "wb", buffering=0) as stream:
            while written < 1 << 30: written += stream.write(block)
    except OSError as error:
        out[place] = [written >> 20, error.errno]
print(json.dumps([out]))""", ["--tmpfs", "/tmp=48M", "--tmpfs", "/box=48M", "--tmpfs", "/dev/shm=48M", "--tmpfs", "/root=48M"], 0,
                          lambda got: got == [dict.fromkeys(("/tmp", "/box", "/dev/shm", "/root"), [47, errno.ENOSPC])] or
                          got == [dict.fromkeys(("/tmp", "/box", "/dev/shm", "/root"), [48, errno.ENOSPC])]),
    "no inode left": ("""
made, error = 0, None
try:
    while made < 200000:
        os.mknod("/tmp/%d" % made)
        made += 1
except OSError as problem: error = problem.errno
print(json.dumps([made, error]))""", [], 0, lambda got: 90000 < got[0] <= 100000 and got[1] == errno.ENOSPC),
    "no descriptor left": ("""
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
made, error = [], None
try:
    while len(made) < 10000: made += os.pipe()
except OSError as problem: error = problem.errno
try: resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
except (OSError, ValueError): refused = True
print(json.dumps([len(made), error, refused]))""", ["--rlimit", "nofile=4096"], 0, lambda got: 4000 < got[0] < 4096 and got[1:] == [errno.EMFILE, True]),
    "zombies": ("""
made = 0
try:
    while made < 4096:
        if os.fork() == 0: os._exit(0)
        made += 1
except BlockingIOError: pass
print(json.dumps([made]))""", [], 0, lambda got: 400 < got[0] < 512),
    "orphans that end": ("""
for _ in range(500):
    pid = os.fork()
    if not pid:
        os.fork()
        os._exit(0)
    os.waitpid(pid, 0)
print("[1]")""", [], 0, lambda got: got == [1]),
    "orphans that outlive": ("""
for _ in range(100):
    if os.fork() == 0:
        os.setsid()
        for number in (1, 2, 3, 15): signal.signal(number, signal.SIG_IGN)
        if os.fork() == 0:
            while True: time.sleep(1000)
        while True: time.sleep(1000)
print("[1]")""", [], 0, lambda got: got == [1]),
    "a pipe held after the end": ("""
print("[1]", flush=True)
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    while True: time.sleep(1000)""", [], 0, lambda got: got == [1]),
    "a leader that is gone": ("""
import ctypes
print("[1]", flush=True)
def forever():
    while True: time.sleep(1000)
threading.Thread(target=forever).start()
ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)""", ["--timeout", "500ms", "--grace", "100ms"], 124,
                              lambda got: got == [1]),
    "all stopped": ("""
for _ in range(50):
    if os.fork() == 0:
        while True: time.sleep(1000)
print("[1]", flush=True)
os.kill(-1, signal.SIGSTOP)
os.kill(os.getpid(), signal.SIGSTOP)""", ["--timeout", "500ms", "--grace", "100ms"], 124, lambda got: got == [1]),
    "all stopped, and a last word wanted": ("""
print("[1]", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)""", ["--cpu-time", "1s", "--timeout", "300ms", "--grace", "0"], 124, lambda got: got == [1]),
    "signals to pid 1": ("""
print("[1]", flush=True)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
for _ in range(8): os.fork()
while True:
    for number in (10, 10, 15, 17, 29, 34, 64):
        try: os.kill(1, number)
        except OSError: pass""", ["-q", "--unsafe-without", "landlock-signals", "--timeout", "1s", "--grace", "100ms"], 124,
                         lambda got: got == [1]),
    "signals to everybody": ("""
print("[1]", flush=True)
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
for _ in range(6): os.fork()
while True:
    for number in (10, 15, 17, 29, 64): os.kill(-1, number)""", ["--timeout", "1s", "--grace", "100ms"], 124, lambda got: got == [1]),
}


@pytest.mark.parametrize("storm", STORMS)
def test_a_storm_stays_inside(inside, storm):
    code, options, rc, blew = STORMS[storm]
    host, nonce = Host(inside, 1), "nonce-" + secrets.token_hex(8)
    with Timer() as timer:
        done = inside.run("/usr/bin/python3", "-I", "-S", "-c", START + code, nonce, options=options, env=host.environ)
    assert done.rc == rc, done
    assert blew(json.loads(done.out.splitlines()[0])), done
    assert alive(nonce) == []
    assert timer.ticks > 3 and timer.worst < LATE, "a timer outside came %.3f s late" % timer.worst
    host.assert_clean()


@pytest.mark.parametrize("options,rc", [(["--timeout", "1s", "--grace", "0"], 124), (["--max-output", "256M"], 137),
                                        (["--tty", "--max-output", "16M"], 137)])
def test_a_flood_of_output_stays_where_it_is(inside, options, rc):
    """To a reader that takes all of it; the timer is that reader's own process."""
    host = Host(inside, 1)
    process = subprocess.Popen(inside.command("/usr/bin/yes", "x" * 4000, options=options), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=inside.scratch, env=host.environ,
                               preexec_fn=become(inside.who))
    size = 0
    with Timer() as timer:
        while True:
            data = os.read(process.stdout.fileno(), 1 << 20)
            if not data:
                break
            size += len(data)
    process.stdout.close()
    assert process.wait(DEADLINE) == rc, process.stderr.read()
    process.stderr.close()
    assert size > 1 << 20 and (rc == 124 or size == int(options[-1][:-1]) << 20)
    assert timer.ticks > 3 and timer.worst < LATE, "a timer outside came %.3f s late" % timer.worst
    host.assert_clean()


def test_the_timer_would_show_a_host_that_stands_still():
    """The positive control: this process itself is stopped for longer than is allowed."""
    with Timer() as timer:
        waker = subprocess.Popen([sys.executable, "-c", "import os, signal, sys, time; os.kill(%d, signal.SIGSTOP); "
                                  "time.sleep(%f); os.kill(%d, signal.SIGCONT)" % (os.getpid(), 2 * LATE, os.getpid())])
        waker.wait(DEADLINE)
    assert timer.worst > LATE


def test_what_is_left_would_show(inside_as_root):
    """The positive control: a file, a descriptor, a process and a lock, each left behind on purpose."""
    host = Host(inside_as_root, 1)
    assert inside_as_root.run("true").rc == 0  # makes the lock file
    host.assert_clean()
    path = "/tmp/left-%s" % secrets.token_hex(6)
    with open(path, "w"):
        with pytest.raises(AssertionError):
            host.assert_clean()  # the descriptor
        os.chown(path, host.first, host.first)
    with pytest.raises(AssertionError):
        host.assert_clean()
    os.unlink(path)
    with subprocess.Popen(["sleep", "1000"], preexec_fn=lambda: os.setresuid(host.first, host.first, host.first)) as left:
        with pytest.raises(AssertionError):
            host.assert_clean()
        left.kill()
    holder = os.open("/run/mrunc/ids", os.O_RDWR | os.O_CLOEXEC)
    fcntl.fcntl(holder, F_OFD_SETLK, struct.pack("=hhxxxxqqixxxx", fcntl.F_WRLCK, 0, host.first, 1, 0))
    host.before = host.state()
    with pytest.raises(BlockingIOError):
        host.assert_clean()
    os.close(holder)
