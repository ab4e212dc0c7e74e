# SPDX-License-Identifier: Apache-2.0
"""What a sandbox can't do to its host, proved against the kernel's own controllers, as root and as a delegated user.

Each attack is bounded.  While it runs, a timer of 10 ms in this process, the host's, is never late by more than half a
second; afterwards the verdict is right, and no group is left: a group with a process in it can't be removed.
"""
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import mrunc  # noqa: F401  registers the package
from conftest import ROOT, USER, need
from mrunc.sandbox.cgroup import group as cgroup, place
from outer_filter import EINVAL, behind

pytestmark = pytest.mark.vm(cgroup="v2")

MIB = 1 << 20
TICK, LATE = 0.01, 0.5
LIMIT = ["--memory", "128M"]
#: As many as where the caller's own soft limit is high.
FILES = ["--rlimit", "nofile=4096"]
#: Asked for 1 GiB, each in its own way; a program that gets it exits 0.
PREAMBLE = "import mmap, os, socket\nMIB = 1 << 20\nchunk = bytes(range(1, 256)) * (MIB // 255 + 1)\nchunk = chunk[:MIB]\n"
BOMBS = {
    "heap": "kept = []\nfor i in range(1024):\n    kept.append(bytearray(chunk))\n",
    "tmpfs": "with open('/tmp/big', 'wb', 0) as stream:\n    for i in range(1024):\n        stream.write(chunk)\n",
    "shm": "for name in ('/dev/shm/a', '/tmp/b', '/root/c', '/box/d'):\n    with open(name, 'wb', 0) as stream:\n"
           "        for i in range(250):\n            stream.write(chunk)\n",
    "memfd": "fd = os.memfd_create('x')\nfor i in range(1024):\n    os.write(fd, chunk)\n",
    "shared": "areas = [mmap.mmap(-1, 128 * MIB) for i in range(8)]\nfor area in areas:\n    for i in range(128):\n"
              "        area.write(chunk)\n",
    "children": "for i in range(8):\n    if os.fork() == 0:\n        kept = [bytearray(chunk) for i in range(128)]\n        "
                "os.read(os.pipe()[0], 1)\nfor i in range(8):\n    os.wait()\n",
    "sockets": "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))\nkept = []\n"
               "for i in range(2000):\n    for one in socket.socketpair():\n        kept.append(one)\n"
               "        one.setblocking(False)\n        try:\n            while True:\n                one.send(chunk[:65536])\n"
               "        except BlockingIOError:\n            pass\n",
}


@pytest.fixture
def sandbox(inside):
    """The Inside of this virtual machine's user alone: another user has no group here."""
    if inside.who == "user" and os.geteuid() == 0:
        pytest.skip("each user has a virtual machine of its own")
    return inside


def groups():
    """{path} of all groups of mrunc's."""
    found = set()
    for folder, names, _ in os.walk(mount()):
        found |= {os.path.join(folder, name) for name in names if name.startswith("mrunc") and name != place.LEAF}
    return found


def mount():
    """Where cgroup2 is mounted."""
    return place.Host.read().mounts[0][0]


class Timer(threading.Thread):
    """Measures how late this process is woken."""

    def __init__(self):
        threading.Thread.__init__(self)
        self.worst, self.done = 0.0, threading.Event()

    def run(self):
        while not self.done.is_set():
            begun = time.monotonic()
            time.sleep(TICK)
            self.worst = max(self.worst, time.monotonic() - begun - TICK)


@contextlib.contextmanager
def unharmed():
    """The host stays responsive meanwhile, and nothing is left afterwards."""
    assert not groups()
    timer = Timer()
    timer.start()
    try:
        yield timer
    finally:
        timer.done.set()
        timer.join()
    print("worst lateness %.3f s" % timer.worst)
    assert timer.worst <= LATE
    assert not groups()


def running(sandbox, *argv, **settings):
    """Starts a run and returns (process, its group's path) when it is in force and the program has said a word."""
    options = settings.pop("options")
    process = subprocess.Popen(sandbox.command(*argv, options=options), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, cwd=sandbox.scratch, **settings)
    line = process.stdout.readline()
    assert line == b"started\n", (line, process.communicate())
    found = [path for path in groups() if os.path.basename(path).startswith("mrunc-%d-" % process.pid)]
    assert len(found) == 1, found
    return process, found[0]


def python(code):
    return ["/usr/bin/python3", "-I", "-S", "-c", code]


def usage(path, name, key):
    return cgroup_table(path, name)[key]


def cgroup_table(path, name):
    with open(os.path.join(path, name)) as stream:
        return {line.split()[0]: int(line.split()[1]) for line in stream}


def said(done):
    """The lines on stderr but those about what this kernel lacks."""
    return [line for line in done.err.splitlines() if not line.startswith("mrunc: note: without ")]


def peak(result, controller):
    """What a result says of memory.peak or pids.peak; None, and only then, where this kernel has no such file."""
    value = result["usage"]["memory_peak_bytes" if controller == "memory" else "processes_peak"]
    with open("/proc/self/cgroup") as stream:
        own = stream.read().rstrip("\n").rpartition(":")[2]
    assert (value is not None) == os.path.exists("%s%s/%s.peak" % (mount(), own, controller)), (controller, value)
    return value


# Memory

@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.whoever] * (kind != "heap")) for kind in sorted(BOMBS)])
def test_a_memory_bomb_ends_as_oom(sandbox, kind):
    with unharmed():
        done = sandbox.python(PREAMBLE + BOMBS[kind] + "print('got it all')", options=LIMIT + FILES)
    result = done.result
    assert (done.rc, result["reason"], result["returncode"], result["signal"]) == (137, "oom", 137, 9), done
    assert "got it all" not in done.out
    assert result["detail"].startswith("killed for memory: the limit of 128M was reached") and "--memory" in result["advice"]
    assert [words.rpartition(" ")[0] for words in result["evidence"][:2]] == [
        "the control group, memory.events: oom", "the control group, memory.events: oom_kill"], result["evidence"]
    assert said(done)[0].startswith("mrunc: killed for memory: the limit of 128M was reached"), done
    assert result["limits_hit"] == {"memory": 128 * MIB} and result["usage"]["oom_kill_events"] > 0
    assert peak(result, "memory") is None or 100 * MIB < peak(result, "memory") <= 128 * MIB


@pytest.mark.whoever
def test_what_the_memory_was_is_told(sandbox):
    """Seen while the limit is touched; cached files are no reason to be killed."""
    done = sandbox.python(PREAMBLE + BOMBS["tmpfs"], options=LIMIT)
    assert done.result["reason"] == "oom"
    seen = done.result["usage"]
    assert seen["memory_max_events"] > 0
    assert seen["memory_file_bytes"] is None or seen["memory_file_bytes"] > seen["memory_anon_bytes"], seen


@pytest.mark.whoever
def test_a_program_within_its_memory_ends_by_itself(sandbox):
    with unharmed():
        done = sandbox.python(PREAMBLE + "kept = [bytearray(chunk) for i in range(40)]\nprint(len(kept))", options=LIMIT)
    assert (done.rc, done.out, said(done), done.result["reason"]) == (0, "40\n", [], "exited"), done
    assert done.result["limits_hit"] == {}
    assert peak(done.result, "memory") is None or 40 * MIB < peak(done.result, "memory") < 128 * MIB


@pytest.mark.whoever
def test_a_program_that_kills_itself_is_no_oom(sandbox):
    done = sandbox.python("import os; os.kill(os.getpid(), 9)", options=LIMIT)
    assert (done.rc, done.result["reason"], done.result["limits_hit"]) == (137, "signal", {}), done


def test_a_limit_too_small_for_the_set_up_runs_nothing(sandbox):
    with unharmed():
        done = sandbox.run("/bin/echo", "ran", options=["--memory", "256K"])
    assert (done.rc, done.out, done.result["reason"]) == (125, "", "setup"), done
    assert done.err.startswith("mrunc: limits: --memory 262144: the set-up itself was killed for memory"), done


# Processes

@pytest.mark.whoever
def test_a_fork_bomb_is_refused_at_the_limit_each_time(sandbox):
    code = ("import os, sys\nmade = refused = 0\nr, w = os.pipe()\nfor i in range(1000):\n    try:\n        pid = os.fork()\n"
            "    except OSError:\n        refused += 1\n        continue\n    if pid == 0:\n        os.read(r, 1)\n"
            "        os._exit(0)\n    made += 1\nprint(made, refused, flush=True)\nos._exit(1 if refused else 0)\n")
    with unharmed():
        done = sandbox.python(code, options=["--pids", "64"])
    assert (done.rc, done.out) == (1, "62 938\n"), done
    result = done.result
    assert (result["reason"], result["limits_hit"], result["exit_code"]) == ("pids-max", {"pids": 64}, 1)
    assert "the control group, pids.events: max 938" in result["evidence"] and result["advice"] == "allow more with --pids"
    assert peak(result, "pids") in (None, 64) and result["usage"]["pids_max_events"] == 938
    assert "64" in done.err and "--pids" in done.err


@pytest.mark.whoever
def test_a_fork_bomb_that_never_ends_is_gone_at_the_deadline(sandbox):
    code = "import os\nfor i in range(12):\n    try:\n        os.fork()\n    except OSError:\n        pass\nwhile True:\n    pass\n"
    with unharmed():
        done = sandbox.python(code, options=["--pids", "64", "--cpus", "1", "--timeout", "6", "--grace", "0"])
    assert (done.rc, done.result["reason"]) == (124, "timeout-wall"), done
    assert done.result["limits_hit"]["pids"] == 64 and peak(done.result, "pids") in (None, 64)


def test_zombies_count_and_go(sandbox):
    code = ("import os\nrefused = 0\nfor i in range(300):\n    try:\n        pid = os.fork()\n    except OSError:\n"
            "        refused += 1\n        continue\n    if pid == 0:\n        os._exit(0)\nprint(refused, flush=True)\nos._exit(3)\n")
    with unharmed():
        done = sandbox.python(code, options=["--pids", "64"])
    assert (done.rc, done.out, done.result["reason"]) == (3, "238\n", "pids-max"), done


@pytest.mark.whoever
def test_a_program_that_copes_with_the_limit_ends_by_itself(sandbox):
    code = ("import os\nfor i in range(100):\n    try:\n        pid = os.fork()\n    except OSError:\n        break\n"
            "    if pid == 0:\n        os.read(os.pipe()[0], 1)\nos._exit(0)\n")
    done = sandbox.python(code, options=["--pids", "20"])
    assert (done.rc, said(done), done.result["reason"], done.result["limits_hit"]) == (0, [], "exited", {"pids": 20}), done


@pytest.mark.whoever
def test_descriptors_run_out_inside_alone(sandbox):
    code = ("import os, resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))\nfor i in range(8):\n"
            "    if os.fork() == 0:\n        break\nkept = []\ntry:\n    while True:\n        kept.append(os.open('/dev/null', 0))\n"
            "except OSError as error:\n    print(error.errno, len(kept) > 4000, flush=True)\n")
    with unharmed():
        done = sandbox.python(code + "try:\n    while True:\n        os.wait()\nexcept OSError:\n    pass\n", options=["--pids", "64", *LIMIT, *FILES])
        with open("/dev/null"):
            pass
    assert (done.rc, done.out, done.result["reason"]) == (0, "24 True\n" * 9, "exited"), done


# Processor

@pytest.mark.whoever
def test_two_busy_loops_get_half_a_processor(sandbox):
    code = "import os\nprint('started', flush=True)\nos.fork()\nwhile True:\n    pass\n"
    with unharmed():
        process, path = running(sandbox, *python(code), options=["--cpus", "0.5"])
        try:
            time.sleep(0.5)  # into the regular course: the first period may be whole
            begun, used = time.monotonic(), usage(path, "cpu.stat", "usage_usec")
            time.sleep(6)
            share = (usage(path, "cpu.stat", "usage_usec") - used) / 1e6 / (time.monotonic() - begun)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()
    print("share %.3f" % share)
    assert 0.45 <= share <= 0.55


def test_what_was_throttled_is_told(sandbox):
    code = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end:\n    pass\n"
    done = sandbox.python(code, options=["--cpus", "0.25"])
    assert (done.rc, done.result["reason"], done.result["limits_hit"]) == (0, "exited", {"cpus": 0.25}), done
    seen = done.result["usage"]
    assert seen["throttled_s"] > 0 and seen["user_s"] + seen["system_s"] >= 0.5
    assert seen["wall_s"] > 1.5


@pytest.mark.whoever
def test_orphans_count_as_used_time(sandbox):
    """A double fork escapes wait4; the group's clock sees it."""
    code = ("import os, time\nr, w = os.pipe()\nif os.fork() == 0:\n    if os.fork():\n        os._exit(0)\n"
            "    end = time.process_time() + 0.5\n    while time.process_time() < end:\n        pass\n    os._exit(0)\n"
            "os.close(w)\nos.wait()\nos.read(r, 1)\n")
    done = sandbox.python(code, options=["--cpus", "2"])
    assert done.rc == 0 and done.result["usage"]["user_s"] + done.result["usage"]["system_s"] >= 0.5, done


# Disks

@pytest.fixture
def on_disk():
    """A directory on the disk, an ordinary user's."""
    path = os.path.join(ROOT, "written-%d" % os.getpid())
    os.mkdir(path)
    if os.geteuid() == 0:
        os.chown(path, USER, USER)
    yield path
    subprocess.run(["rm", "-rf", path], check=True)


FLOOD = ("import os, time\nbegun = time.monotonic()\nfd = os.open('/out/' + os.urandom(4).hex(), os.O_CREAT | os.O_WRONLY, 0o600)\n"
         "for i in range(%d):\n    os.write(fd, b'x' * (1 << 20))\n    os.fsync(fd)\nprint(time.monotonic() - begun)\n")


def test_a_write_flood_is_held_to_its_rate(sandbox, on_disk):
    """A new file each: one that was written without a limit a moment ago is charged to whoever did that, for a while."""
    if sandbox.who == "root":
        need("mount_setattr")  # or there is no --rw for root
    with unharmed():
        free = sandbox.python(FLOOD % 16, options=["--rw", on_disk + ":/out"])
        done = sandbox.python(FLOOD % 16, options=["--rw", on_disk + ":/out", "--io-write", "4M"])
    assert (free.rc, done.rc) == (0, 0), (free, done)
    rate = 16 / float(done.out)
    print("%.2f MiB/s under a limit of 4, %.2f MiB/s without" % (rate, 16 / float(free.out)))
    assert rate <= 4.4 and 16 / float(free.out) > 8
    assert done.result["usage"]["write_bytes"] >= 16 * MIB
    row = [row for row in done.result["controls"] if row["name"] == "limits.io"][0]
    assert row["in_force"] and "wbps=4194304" in row["how"]


def test_a_tmpfs_has_no_disk_to_limit(sandbox):
    done = sandbox.run("/bin/echo", "ran", options=["--io-read", "/dev/shm:1M"])
    assert (done.rc, done.out) == (125, "") and "lies on tmpfs, which has no disk of its own" in done.err, done
    done = sandbox.run("/bin/echo", "ran", options=["--io-read", "/dev/shm:1M", "--best-effort", "limits.io", *LIMIT])
    assert (done.rc, done.out) == (0, "ran\n"), done
    rows = dict((row["name"], row) for row in done.result["controls"])
    assert rows["limits.memory"]["in_force"] and not rows["limits.io"]["in_force"] and "tmpfs" in rows["limits.io"]["how"]


# The group itself

def test_the_sandbox_is_in_its_group_and_cannot_see_where(sandbox):
    with unharmed():
        process, path = running(sandbox, "/bin/sh", "-c", "echo started; cat /proc/self/cgroup; sleep 60", options=LIMIT)
        try:
            with open(os.path.join(path, "cgroup.procs")) as stream:
                assert len(stream.read().split()) >= 2
            assert process.stdout.readline() == b"0::/\n"
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


def test_every_limit_names_its_mechanism(sandbox):
    options = [*LIMIT, "--pids", "20", "--cpus", "0.5", "--require", "limits.memory,limits.pids,limits.cpu"]
    done = sandbox.run("/bin/true", options=options)
    assert done.rc == 0, done
    how = dict((row["name"], row["how"]) for row in done.result["controls"] if row["in_force"])
    assert how["limits.memory"] == "cgroup v2, memory.max 134217728, memory.swap.max 0, memory.oom.group 1 (CLONE_INTO_CGROUP)"
    assert "pids.max 20" in how["limits.pids"] and "cpu.max 50000 100000" in how["limits.cpu"]


@pytest.mark.parametrize("number, killed", [(signal.SIGKILL, True), (signal.SIGTERM, False), (signal.SIGHUP, False)])
def test_nothing_is_left_when_the_supervisor_is_ended(sandbox, number, killed):
    """After SIGKILL nobody can remove the group: the next run does."""
    process, path = running(sandbox, "/bin/sh", "-c", "echo started; exec sleep 60", options=LIMIT)
    process.send_signal(number)
    process.communicate()
    if killed:
        assert os.path.isdir(path)
        assert sandbox.run("/bin/true", options=LIMIT).rc == 0
    assert not groups()


def test_a_run_that_lives_is_not_swept(sandbox):
    process, path = running(sandbox, "/bin/sh", "-c", "echo started; exec sleep 60", options=LIMIT)
    try:
        assert sandbox.run("/bin/true", options=LIMIT).rc == 0
        assert os.path.isdir(path) and process.poll() is None
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert not groups()


@pytest.mark.needs("landlock")
def test_in_the_process_tier_the_group_ends_what_the_program_leaves_behind(sandbox):
    """There is no pid namespace; a daemon in a session of its own is gone all the same."""
    done = sandbox.run("/bin/sh", "-c", "setsid sleep 100 & exit 3", options=["--tier", "process", *LIMIT])
    assert (done.rc, done.result["reason"]) == (3, "exited"), done
    assert not groups()
    done = sandbox.python(PREAMBLE + BOMBS["heap"], options=["--tier", "process", *LIMIT])
    assert (done.rc, done.result["reason"]) == (137, "oom"), done


def test_a_failing_set_up_leaves_no_group(sandbox):
    done = sandbox.run("/no/such/program", options=LIMIT)
    assert done.rc == 127 and not groups(), done


def test_many_at_a_time_each_have_their_own(sandbox):
    commands = [sandbox.command("/bin/sh", "-c", "exit %d" % number, options=[*LIMIT, "--pids", "20"]) for number in range(8)]
    processes = [subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=sandbox.scratch) for command in commands]
    assert [process.wait() for process in processes] == list(range(8))
    assert not groups()


def test_a_kernel_without_clone_into_cgroup_moves_the_child_in_first(sandbox):
    """Its clone3 says EINVAL; the cgroup namespace is then unshared after the move, or its root would be elsewhere."""
    report = os.path.join(sandbox.scratch, "report.json")
    command = [*behind(sandbox, ("clone3", 1, 88, EINVAL)),
               *sandbox.command("/bin/cat", "/proc/self/cgroup", options=["--report", report, *LIMIT])]
    done = sandbox.outside(command)
    assert (done.returncode, done.stdout) == (0, "0::/\n"), done
    with open(report) as stream:
        text = stream.read()
    os.unlink(report)
    assert "(moved in before it ran anything)" in text and not groups()


def test_without_cgroup_kill_a_group_is_frozen_killed_and_thawed(sandbox):
    group = cgroup.Group(place.find(place.Host.read(), {"pids"}))
    code = "import os\nprint('started', flush=True)\nfor i in range(4):\n    os.fork()\nwhile True:\n    pass\n"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        group.take(process.pid)
        assert process.stdout.readline() == b"started\n"
        group._kill_frozen()
        assert process.wait() == -9 and group.wait_empty(10)
        with open(os.path.join(group.path, "cgroup.freeze")) as stream:
            assert stream.read() == "0\n"
    finally:
        process.kill()
        process.stdout.close()
        assert group.remove()
    assert not groups()
