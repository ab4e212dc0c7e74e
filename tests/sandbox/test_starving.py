# SPDX-License-Identifier: Apache-2.0
"""The end of a sandbox whose program keeps pid 1 from the processor, without which pid 1 can't take its namespace apart."""
import os
import re
import secrets
import select
import signal
import subprocess
import time

import pytest

from conftest import become

#: Pid 1 gets what is left of one processor; LOOPS processes leave nothing.  They begin all at once, when the last is there.
STARVE = """
import ctypes, os, sys
import signal
for number in (1, 2, 3, 15): signal.signal(number, signal.SIG_IGN)
cpus = sorted(os.sched_getaffinity(0))
read, write = os.pipe()
for number in range(%d):
    if os.fork() == 0:
        os.close(write)
        if number %% 3 == 0: os.setsid()
        if number %% 3 == 1: os.setpgid(0, 0)
        try: os.sched_setaffinity(0, cpus[:1] if number %% 4 else cpus)
        except OSError: pass
        os.read(read, 1)
        while True: pass
refused = []
for pid in 1, os.getppid():
    for deed, words in (("sched_setscheduler", (pid, os.SCHED_IDLE, os.sched_param(0))), ("sched_setaffinity", (pid, cpus[:1])),
                        ("setpriority", (os.PRIO_PROCESS, pid, 19))):
        try: getattr(os, deed)(*words)
        except OSError: refused.append(deed)
print("starving", len(refused), sys.argv[1], flush=True)
os.close(write)
while True: pass
"""
LOOPS = 400
#: Seconds after the deadline plus grace in which everything must have ended.
BOUND = 1.5
#: Where the promise does not hold, as SECURITY.md says: without a pid namespace, the processes that an ordinary user's
#: supervisor must kill share the processors with it.  Of six runs two took 2.5 and 2.9 s, the others 0.9 s.
LATER = {("user", "process tier"): 5.0}
#: The same where the processor is emulated, at about a tenth of the speed.
EMULATED_BOUND = 6.0
#: A policy keeps the program from pid 1; where none does, its processes must go all the same.
WAYS = {
    "plain": [],
    "no filter": ["-q", "--unsafe-without", "seccomp,landlock,landlock-signals"],
    "no /proc": ["-q", "--unsafe-without", "seccomp", "--proc", "none"],
    "process tier": ["--tier", "process"],
}


#: Seconds in which a machine that starves must still have come to what a test waits for.
PATIENCE = 60


@pytest.fixture
def nonce():
    """Yields a word for the command line of all that a test starts, and ends what has it."""
    word = "nonce-" + secrets.token_hex(8)
    yield word
    begun = time.monotonic()
    while having(word):
        assert time.monotonic() - begun < PATIENCE
        for pid in having(word):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.05)


def having(nonce):
    """{pid: command line} of the processes with the nonce in it, zombies left out."""
    found = {}
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                with open("/proc/%s/cmdline" % pid, "rb") as stream:
                    words = stream.read()
            except OSError:
                continue
            if nonce.encode() in words:
                found[int(pid)] = words
    return found


def alive(nonce):
    """The pids of the program: the processes with the nonce, the tool and its pid 1 left out."""
    return [pid for pid, words in having(nonce).items() if b"mrunc.py" not in words]


def start(inside, *argv, options=(), **settings):
    """Starts the tool, as the caller, with a pipe for its output."""
    return subprocess.Popen(
        inside.command(*argv, options=options), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        cwd=inside.scratch, preexec_fn=become(inside.who), **settings)


def first_line(process):
    """What a program prints first, in one write."""
    assert select.select([process.stdout], [], [], PATIENCE)[0], "no line came"
    return process.stdout.readline().decode()


def starved(inside, nonce, options):
    """The tool, with a program that starves pid 1 already."""
    process = start(inside, "/usr/bin/python3", "-I", "-S", "-c", STARVE % LOOPS, nonce,
                    options=options, stdin=subprocess.DEVNULL)
    word, refused, _ = first_line(process).split()
    expected = 0 if "--unsafe-without" in options else 6
    assert (word, int(refused)) == ("starving", expected), (word, refused)
    return process


def gone(nonce, seconds):
    """Seconds until no process has the nonce but the tool itself, or None after so many.

    It waits for their ends: looking again and again would take a processor from the tool.
    """
    begun = time.monotonic()
    while True:
        found = alive(nonce)
        if not found:
            return time.monotonic() - begun
        if not all_end(found, begun + seconds):
            return None


def all_end(pids, deadline):
    """Whether all these processes end before a time.monotonic()."""
    poll, fds = select.poll(), set()
    try:
        for pid in pids:
            try:
                fds.add(os.pidfd_open(pid))
            except ProcessLookupError:
                pass
        for fd in fds:
            poll.register(fd, select.POLLIN)
        while fds:
            ready = poll.poll(max(0, deadline - time.monotonic()) * 1000)
            if not ready:
                return False
            for fd, _ in ready:
                poll.unregister(fd)
                fds.remove(fd)
                os.close(fd)
        return True
    finally:
        for fd in fds:
            os.close(fd)


def interrupt(process):
    """Sends SIGINT and waits until the tool has read it: the kernel merges two pending ones."""
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    while pending(process.pid) & 1 << signal.SIGINT - 1:
        assert time.monotonic() - begun < PATIENCE, "the tool reads no signal"
        time.sleep(0.01)


def pending(pid):
    """The set of signals that wait for a process."""
    with open("/proc/%d/status" % pid) as stream:
        return int(re.search("^ShdPnd:\\s*(\\w+)", stream.read(), re.M).group(1), 16)


@pytest.mark.parametrize("way", WAYS)
def test_end_comes_in_time_though_pid_1_starves(inside, nonce, way):
    """Without a filter pid 1 itself may take longer: the host's other work is then before it, too."""
    process = starved(inside, nonce, ["--timeout", "3", "--grace", "0.2", *WAYS[way]])
    begun = time.monotonic()
    took = gone(nonce, PATIENCE)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 124
    assert took is not None and took < 3.2 + LATER.get((inside.who, way), BOUND), took
    if way == "plain":
        assert gone(nonce, 0) is not None and time.monotonic() - begun < 3.2 + BOUND


@pytest.mark.parametrize("way", ["plain", "no filter"])
def test_third_interrupt_ends_it_though_pid_1_starves(inside, nonce, way):
    process = starved(inside, nonce, WAYS[way])
    interrupt(process)
    interrupt(process)
    process.send_signal(signal.SIGINT)
    took = gone(nonce, PATIENCE)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert took is not None and took < BOUND, took


def test_nothing_outlives_a_killed_supervisor(inside, nonce):
    """After SIGKILL nothing helps pid 1: it must get the processor by itself."""
    process = starved(inside, nonce, [])
    process.kill()
    process.wait(PATIENCE)
    process.stdout.close()
    took = gone(nonce, PATIENCE)
    assert took is not None and took < 2.0, took


@pytest.mark.vm
def test_group_ends_in_time_though_pid_1_starves(inside, nonce):
    """With a control group; machines without hardware help are slow, so there are fewer loops."""
    options = ["--timeout", "12", "--grace", "0.2", "--pids", "200", "--memory", "300M"]
    done = inside.run("/usr/bin/python3", "-I", "-S", "-c", STARVE % 40, nonce, options=options)
    assert (done.rc, done.out.split()[:1]) == (124, ["starving"]), done
    assert done.result["usage"]["wall_s"] < 12.2 + EMULATED_BOUND, done.result["usage"]
    assert alive(nonce) == []


EXECUTING = """
import mmap, os
size = 800 << 20
memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(15)  # MADV_NOHUGEPAGE
for at in range(0, size, 1 << 20):
    memory[at:at + (1 << 20)] = b"x" * (1 << 20)
for _ in range(8 * os.cpu_count()):
    os.posix_spawn("/bin/sh", ["sh", "-c", "trap '' TERM; while :; do :; done"], {})
os.setpriority(os.PRIO_PROCESS, 0, 19)
print("ready", flush=True)
os.execv("/bin/sleep", ["sleep", "1000"])
"""
READERS = {"plain": [], "report": ["--report"], "cpu-time": ["--cpu-time", "300s"], "process tier": ["--tier", "process"],
           "no /proc": ["--proc", "none"], "process tier, cpu-time": ["--tier", "process", "--cpu-time", "300s"]}


@pytest.mark.once
@pytest.mark.parametrize("reader", READERS)
def test_a_deadline_does_not_wait_for_a_program_that_executes(inside, reader):
    """execve(2) frees the old memory under a lock that /proc/PID/stat waits for, and at nice 19 among others that takes long."""
    options = list(READERS[reader])
    if reader == "report":
        options.append(os.path.join(inside.scratch, "executing.json"))
    done = inside.outside(inside.command("/usr/bin/python3", "-I", "-S", "-c", EXECUTING, options=[
        "--timeout", "4s", "--grace", "0", "-v", *options]))
    assert (done.returncode, done.stdout) == (124, "ready\n"), done
    assert "the time limit of 4 s was reached" in done.stderr, done
    assert float(re.search(r"used: time ([0-9.]+) s", done.stderr).group(1)) < 4 + BOUND, done


def test_a_watchdog_holds_nothing_open_and_ends_with_the_supervisor(inside, nonce):
    """A reader that waits for the end of the caller's pipe waits for the run alone."""
    tool = start(inside, "/bin/sh", "-c", "echo up; exec cat", nonce, stdin=subprocess.PIPE,
                 options=["--timeout", "600s", "--cpu-time", "300s"])
    assert first_line(tool) == "up\n"
    begun = time.monotonic()
    while True:  # each closes first what it had of the tool
        watchdogs = [(pid, links) for pid, links in children(tool.pid)
                     if len(links) == 1 and "pidfd" in links[0]]
        if watchdogs:
            break
        assert time.monotonic() - begun < PATIENCE, children(tool.pid)
        time.sleep(0.01)
    (watchdog, _), = watchdogs
    held = os.open("/proc/%d" % watchdog, os.O_RDONLY)
    try:
        tool.kill()
        tool.communicate(timeout=60)
        begun = time.monotonic()
        while os.access("status", os.R_OK, dir_fd=held):
            assert time.monotonic() < begun + 10
            time.sleep(0.01)
    finally:
        os.close(held)


def children(pid):
    """[(pid, targets of its descriptors)] of the children of a process in our pid namespace."""
    found = []
    with open("/proc/%d/task/%d/children" % (pid, pid)) as stream:
        words = stream.read().split()
    for word in words:
        try:
            if os.stat("/proc/%s/ns/pid" % word).st_ino == os.stat("/proc/self/ns/pid").st_ino:
                folder = "/proc/%s/fd/" % word
                links = [os.readlink(folder + name) for name in os.listdir(folder)]
                found.append((int(word), links))
        except FileNotFoundError:
            pass
    return found
