# SPDX-License-Identifier: Apache-2.0
"""Where the time of a start goes, and the processor time of many: what the targets that do not hold are made of.

    python3 bench/phases.py [--quick] [--rounds N] [--json FILE]

Three profiles.  A plain run of the command line and a run in a warm sandbox of mrunc.Pool, each in phases that follow each
other, as bench/stamped.py notes them; and the processor time that one sandbox of a long row costs, by who spends it: the host's
process, the launcher, the sandbox's own processes with the program, and the rest of the machine, which is the kernel's threads
that take namespaces apart, if nobody else is about.
"""
import os
import resource
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import measure  # noqa: E402
import page  # noqa: E402
import rivals as others  # noqa: E402
from measure import PYTHON  # noqa: E402

import mrunc  # noqa: E402
from mrunc.sandbox.library import client  # noqa: E402

STAMPED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stamped.py")
TRUE = [os.path.realpath("/bin/true")]
#: What is called as a phase in stamped.py -> what it is.
COMMAND_LINE = [
    ("begin", "Python, to the first line of a script"), ("first line", "importing modules, reading the options"),
    ("plan", "the plan, and preparing the child"), ("clone3", "clone3 with all namespaces"),
    ("child's set-up", "the child's set-up, until init waits; four modules are loaded meanwhile"),
    ("reading back", "reading back what is in force"), ("program", "the program, from its release to its end"),
    ("end", "the end of pid 1 and of the namespaces, the result"), ("leaving", "leaving Python")]
WARM = [
    ("begin", "the host: its request, and waking the launcher"),
    ("launcher", "the launcher: checking the caller, finding the program"),
    ("program", "init wakes, the program runs, the launcher is told of its end"),
    ("end of pid 1", "the end of pid 1 and of the namespaces"), ("result", "the launcher: reaping, usage"),
    ("back to the host", "the answer, waking the host, the Result")]


def notes(path):
    """{phase: ns} of the notes in a file, which is removed."""
    with open(path) as stream:
        found = {name: int(at) for at, _, name in (line.rstrip("\n").partition(" ") for line in stream)}
    os.unlink(path)
    return found


def in_phases(found, phases, begun, ended):
    """[ns] of each phase, from its own note to the next one's."""
    at = [begun if name == "begin" else found[name] for name, _ in phases] + [ended]
    return [after - before for before, after in zip(at, at[1:])]


class Stamped:
    """Runs with notes.  samples: {"command line", "warm"} -> [[ns of each phase]]."""

    def __init__(self, place):
        self.path, self.samples = os.path.join(place, "stamps"), {"command line": [], "warm": []}
        measure.ENVIRONMENT["STAMPS"] = os.environ["STAMPS"] = self.path
        python = os.path.join(place, "python3")  # another path has a launcher of its own
        os.symlink(PYTHON, python)
        door, client.door = client.door, lambda: STAMPED
        try:
            self.pool = mrunc.Pool(2, python=python)
        finally:
            client.door = door
        self.null = open(os.devnull, "r+b", buffering=0)

    def command_line(self):
        """A job for measure.interleaved."""
        begun = time.monotonic_ns()
        taken, status = measure.once([PYTHON, "-I", "-S", STAMPED, "run"])
        if status:
            raise RuntimeError("wait status %d" % status)
        self.samples["command line"].append(in_phases(notes(self.path), COMMAND_LINE, begun, begun + taken))
        return taken

    def warm(self):
        """A job for measure.interleaved."""
        begun = time.monotonic_ns()
        result = self.pool.run(TRUE, stdin=self.null, stdout=self.null, stderr=self.null)
        ended = time.monotonic_ns()
        if result.returncode:
            raise RuntimeError("exit status %d" % result.returncode)
        time.sleep(0.03)  # the next one is made meanwhile
        self.samples["warm"].append(in_phases(notes(self.path), WARM, begun, ended))
        return ended - begun

    def plain(self):
        """A job for measure.interleaved."""
        begun = time.monotonic_ns()
        subprocess.run(TRUE, stdin=self.null, stdout=self.null, stderr=self.null, env=measure.ENVIRONMENT)
        return time.monotonic_ns() - begun

    def close(self):
        """Ends the pool."""
        self.pool.close()
        self.null.close()


def on_processor(pid):
    """Nanoseconds that a process of one thread has been on a processor."""
    with open("/proc/%d/schedstat" % pid) as stream:
        return int(stream.read().split()[0])


def of_children(pid):
    """Nanoseconds of what a process has waited for, and of what that had waited for."""
    with open("/proc/%d/stat" % pid) as stream:
        fields = stream.read().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) * (10 ** 9 // os.sysconf("SC_CLK_TCK"))


def of_machine():
    """Nanoseconds that the machine's processors were not idle."""
    with open("/proc/stat") as stream:
        fields = [int(word) for word in stream.readline().split()[1:]]
    return (sum(fields[:8]) - fields[3] - fields[4] - fields[7]) * (10 ** 9 // os.sysconf("SC_CLK_TCK"))


def row_of(number, call, launcher):
    """{"host", "launcher", "sandbox", "rest", "wall"}: ns for each of `number` calls.  launcher: function -> pid or None."""
    call()
    pid = launcher()

    def now():
        own = resource.getrusage(resource.RUSAGE_CHILDREN)
        children = int((own.ru_utime + own.ru_stime) * 1e9) if pid is None else of_children(pid)
        return time.process_time_ns(), 0 if pid is None else on_processor(pid), children, of_machine(), time.monotonic_ns()
    before = now()
    for _ in range(number):
        call()
    host, its_own, children, machine, wall = [(after - first) / number for first, after in zip(before, now())]
    return {"host": host, "launcher": its_own, "sandbox": children, "rest": max(0.0, machine - host - its_own - children),
            "wall": wall}


def processor_time(place, number):
    """{way: row_of}."""
    null = open(os.devnull, "r+b", buffering=0)
    streams = {"stdin": null, "stdout": null, "stderr": null}

    def launcher():
        for pid, _ in measure.descendants(os.getpid()):
            with open("/proc/%d/cmdline" % pid) as stream:
                if measure.DOOR in stream.read().split("\0"):
                    return pid
        raise RuntimeError("no launcher")

    def finished(result):
        if result.returncode:
            raise RuntimeError("exit status %d" % result.returncode)
    rows = {}
    with mrunc.Pool(2, python=PYTHON) as pool:
        rows["mrunc.Pool.run"] = row_of(number, lambda: finished(pool.run(TRUE, **streams)), launcher)
    for rival in others.rivals(place):
        if rival.name in ("bwrap + filter", "bwrap, few mounts + filter") and not rival.missing():
            argv = rival.argv(TRUE)
            rows[rival.name] = row_of(number, lambda argv=argv: measure.once(argv), lambda: None)
    rows["plain"] = row_of(number, lambda: measure.once(TRUE), lambda: None)
    null.close()
    return rows


def main():
    asked = measure.arguments(__doc__)
    measure.urgent()
    measure.compiled()
    place, rounds = measure.scratch(), asked.rounds or (12 if asked.quick else 100)
    result = {"bench": "phases", "host": measure.host(), "rounds": rounds}
    measure.adopt()
    stamped = Stamped(place)
    try:
        samples = measure.interleaved(rounds, {
            "command line": stamped.command_line, "warm": stamped.warm, "plain": stamped.plain})
    finally:
        stamped.close()
    result["whole"] = {name: measure.summary(found) for name, found in samples.items()}
    result["phases"] = {name: [measure.spread(list(column)) for column in zip(*found[1:])]
                        for name, found in stamped.samples.items()}
    result["processor"] = processor_time(place, rounds * 3)
    measure.finish(result, asked.json)
    print(page.alone(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
