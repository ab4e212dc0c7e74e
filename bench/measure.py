# SPDX-License-Identifier: Apache-2.0
"""What the measurements of time and memory share: how a process is timed, how a quiet moment is awaited, what the machine
is, and how figures become text.

Times are nanoseconds of CLOCK_MONOTONIC in the JSON's samples, and milliseconds or microseconds, as named, in tables.
"""
import argparse
import datetime
import glob
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if HERE not in sys.path:
    sys.path.insert(0, HERE)
#: The interpreter under test: a virtual environment's own base, which is what `python3` means on a host.
PYTHON = os.path.realpath(sys.executable)
DOOR = os.path.join(HERE, "mrunc.py")
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/",
               "TERM": "dumb"}
SLEEP = os.path.realpath("/usr/bin/sleep")
#: The worker's kinds of work.
CALLS = {"plain": "`getppid`", "file": "`read` of 1 byte", "tested": "`personality` (argument tested)",
         "denied": "`acct` of a path (refused)", "numbers": "`setns` (refused)", "various": "`setns`, no two alike"}
NULL = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1, 2)]


def arguments(doc, *more):
    """The command line that all have: --quick, --rounds, --json FILE.  more: functions that add to the parser."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a minute instead of several; the figures are rough")
    parser.add_argument("--rounds", type=int, help="so many rounds instead")
    parser.add_argument("--json", metavar="FILE", help="write what was measured")
    for add in more:
        add(parser)
    return parser.parse_args()


def compiled():
    """Writes the tool's bytecode where that is allowed: whoever runs it twice has it."""
    subprocess.run([PYTHON, "-m", "compileall", "-q"] + [os.path.join(HERE, name) for name in (
        "mrunc.py", "seccomp_bpf.py", "syscalls", "sandbox", "commands")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def scratch():
    """A directory that everybody can enter, removed at the end of the process."""
    place = tempfile.TemporaryDirectory(prefix="mrunc-bench-")
    os.chmod(place.name, 0o755)
    scratch.kept.append(place)
    return place.name


scratch.kept = []


def program(place, name="worker"):
    """Compiles bench/NAME.c into a directory; its path.  Raises RuntimeError where there is no C compiler."""
    path = os.path.join(place, name)
    try:
        subprocess.run(["gcc", "-O2", "-static", "-pthread", "-o", path, os.path.join(HERE, "bench", name + ".c")], check=True,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError:
        raise RuntimeError("gcc is not installed: apt-get install gcc libc6-dev")
    except subprocess.CalledProcessError as error:
        raise RuntimeError("gcc failed: %s" % error.stdout.decode("utf-8", "replace").strip()[-300:])
    return path


# Time

def opened(argv):
    """(argv with numbers, [descriptors]): each word `FD:PATH` becomes the number of PATH, opened afresh."""
    words, fds = [], []
    for word in argv:
        if word.startswith("FD:"):
            fd = os.open(word[3:], os.O_RDONLY)
            os.set_inheritable(fd, True)
            fds.append(fd)
            word = str(fd)
        words.append(word)
    return words, fds


def start(argv):
    """Starts a command with 0, 1 and 2 at /dev/null; its pid."""
    words, fds = opened(argv)
    try:
        return os.posix_spawn(words[0], words, ENVIRONMENT, file_actions=NULL)
    finally:
        for fd in fds:
            os.close(fd)


def once(argv):
    """(ns from before the start until it is reaped, wait status).  Its files are opened before the clock starts."""
    words, fds = opened(argv)
    begun = time.perf_counter_ns()
    _, status = os.waitpid(os.posix_spawn(words[0], words, ENVIRONMENT, file_actions=NULL), 0)
    ended = time.perf_counter_ns()
    for fd in fds:
        os.close(fd)
    return ended - begun, status


def running():
    """How many tasks the kernel runs or would like to, this one included."""
    with open("/proc/stat") as stream:
        for line in stream:
            if line.startswith("procs_running"):
                return int(line.split()[1])
    return 1


def quiet(limit=0.05):
    """Waits until nobody else runs, at most `limit` seconds; whether that came true."""
    late = time.monotonic() + limit
    while True:
        time.sleep(0.002)  # what the last sample left behind is taken away by the kernel in the background
        if running() <= 1:
            return True
        if time.monotonic() > late:
            return False


def urgent():
    """Before others on a shared machine, where that is allowed; the nice value then.  What is started inherits it."""
    try:
        return os.nice(-15 - os.nice(0))
    except OSError:
        return os.nice(0)


def interleaved(rounds, jobs, budget=None):
    """Runs each job once in each round, in an order drawn anew.  jobs: {name: function -> ns}; budget: seconds after which no
    further round begins.  Returns {name: [(ns, quiet before?)]}, without the first round, which only warms up."""
    samples, begun = {name: [] for name in jobs}, time.monotonic()
    draw, names = random.Random(8), list(jobs)
    for number in range(rounds + 1):
        if budget and number > 3 and time.monotonic() - begun > budget:
            break
        draw.shuffle(names)
        for name in names:
            calm = quiet()
            taken = jobs[name]()
            if number:
                samples[name].append((taken, calm))
    return samples


def summary(samples):
    """{"median", "min", "p90", "clean", "samples"} in ns of [(ns, quiet?)]: of the quiet ones where there are enough."""
    clean = [taken for taken, calm in samples if calm]
    used = sorted(clean if len(clean) >= max(10, len(samples) // 3) else [taken for taken, _ in samples])
    return {"median": int(statistics.median(used)), "min": used[0], "p90": used[int(len(used) * 0.9)], "clean": len(clean),
            "samples": len(samples)}


def spread(values):
    """{"median", "low", "high", "samples"}: the median with its 95 % interval, by drawing again 1,000 times."""
    draw, medians = random.Random(8), []
    for _ in range(1000):
        medians.append(statistics.median(draw.choices(values, k=len(values))))
    medians.sort()
    return {"median": statistics.median(values), "low": medians[24], "high": medians[974], "samples": len(values)}


# Memory and descriptors

def adopt():
    """What loses its parent below this process becomes its child (PR_SET_CHILD_SUBREAPER): mrunc's launcher is nobody's child,
    and `descendants` finds it then."""
    from mrunc.syscalls import libc
    libc.bind("prctl", *[libc.c_ulong] * 5)(36, 1, 0, 0, 0)


def memory(pid):
    """{"rss", "pss"} of a process in kB; zeros where it has gone."""
    try:
        with open("/proc/%d/smaps_rollup" % pid) as stream:
            fields = dict(line.split(":", 1) for line in stream.read().splitlines()[1:])
        return {"rss": int(fields["Rss"].split()[0]), "pss": int(fields["Pss"].split()[0])}
    except (OSError, KeyError):
        return {"rss": 0, "pss": 0}


def descriptors(pid):
    """How many a process has open."""
    try:
        return len(os.listdir("/proc/%d/fd" % pid))
    except OSError:
        return 0


def descendants(pid):
    """[(pid, its program's path)] of all processes below one, sorted."""
    parents = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path) as stream:
                parents[int(path.split("/")[2])] = int(stream.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, rest = [], [pid]
    while rest:
        parent = rest.pop()
        below = [each for each, whose in parents.items() if whose == parent]
        rest += below
        found += below
    out = []
    for each in sorted(found):
        try:
            out.append((each, os.readlink("/proc/%d/exe" % each)))
        except OSError:
            continue  # it has gone, or it is a zombie
    return out


# The machine

def host():
    """What a reader must know to judge the figures."""
    def first(path, key=None):
        try:
            with open(path) as stream:
                for line in stream:
                    if key is None or line.startswith(key):
                        return line.partition(":")[2].strip() if key else line.strip()
        except OSError:
            pass
        return ""
    release = dict(line.strip().split("=", 1) for line in open("/etc/os-release") if "=" in line) \
        if os.path.exists("/etc/os-release") else {}
    revision = subprocess.run(["git", "-C", HERE, "describe", "--always", "--dirty"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, universal_newlines=True).stdout.strip() \
        if os.path.isdir(os.path.join(HERE, ".git")) and shutil.which("git") else ""
    with open("/proc/self/mountinfo") as stream:
        mounts = len(stream.readlines())
    return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "kernel": os.uname().release, "machine": os.uname().machine, "cpus": len(os.sched_getaffinity(0)),
            "model": first("/proc/cpuinfo", "model name"), "virtual": "hypervisor" in first("/proc/cpuinfo", "flags").split(),
            "memory_mb": int(first("/proc/meminfo", "MemTotal").split()[0]) >> 10,
            "distribution": release.get("PRETTY_NAME", "").strip('"'), "python": sys.version.split()[0], "uid": os.getuid(),
            "load": list(os.getloadavg()), "mounts": mounts, "nice": os.nice(0), "revision": revision}


def finish(result, path):
    """Adds the load at the end and writes the JSON where that was asked for."""
    result["host"]["load_after"] = list(os.getloadavg())
    if path:
        with open(path, "w") as out:
            json.dump(result, out, indent=1)
            out.write("\n")


# Text

def milliseconds(ns):
    return "%.2f" % (ns / 1e6)


def table(head, rows):
    """A Markdown table."""
    return "\n".join(["| %s |" % " | ".join(head), "|" + "---|" * len(head)] + [
        "| %s |" % " | ".join(str(cell) for cell in row) for row in rows])
