# SPDX-License-Identifier: Apache-2.0
"""Sandboxes per second from one parent, 1, 2, 8 and 64 at once, and whether the ten thousandth costs what the tenth did.

    python3 bench/throughput.py [--quick] [--rounds N] [--total N] [--seconds S] [--json FILE]

One process runs them all: /bin/true by mrunc.run from as many threads as are wanted at once, by mrunc.Pool, and beside them
bwrap by posix_spawn and waitpid, which is the cheapest way to start a program from Python.  A round has one block of each,
in an order drawn anew, so that all see the same machine.  After each round memory and descriptors of the process and of
the launcher are read.  At the end the old process takes turns with one that has just begun: what is left of the machine's noise
then hits both.  --total: sandboxes of mrunc.run in all; --seconds: no further round begins after so many.
"""
import gc
import os
import random
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import measure  # noqa: E402
import page  # noqa: E402
import rivals as others  # noqa: E402
from measure import PYTHON  # noqa: E402

import mrunc  # noqa: E402
from mrunc.sandbox.service.pools import IDLE  # noqa: E402

TRUE = [os.path.realpath("/bin/true")]
AT_ONCE = (1, 2, 8, 64)
SELF = os.getpid()
#: What may come and go without being a leak: the allocator's rounding, in kB.
ROUNDING = 256


class Threads:
    """Blocks of calls of one function from several threads."""

    def __init__(self, call):
        self.call = call

    def block(self, at_once, number):
        """(seconds, median ns of one call) of `number` calls, `at_once` at a time."""
        taken, left, lock, wrong = [], [number], threading.Lock(), []

        def loop():
            while True:
                with lock:
                    if not left[0] or wrong:
                        return
                    left[0] -= 1
                begun = time.perf_counter_ns()
                try:
                    code = self.call().returncode
                except Exception as error:  # of any kind: the block must end, and say why
                    code = error
                taken.append(time.perf_counter_ns() - begun)
                if code != 0:
                    wrong.append(code)
        threads = [threading.Thread(target=loop) for _ in range(at_once)]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ended = time.monotonic()
        if wrong:
            raise RuntimeError("a sandbox ended with %r" % wrong[0])
        return ended - begun, int(statistics.median(taken))


class Spawned:
    """Blocks of a command line by posix_spawn, from one thread."""

    def __init__(self, argv):
        self.argv = argv

    def block(self, at_once, number):
        begun, taken, running = time.monotonic(), [], {}
        started = 0
        while started < number or running:
            while started < number and len(running) < at_once:
                at = time.perf_counter_ns()
                running[measure.start(self.argv)] = at
                started += 1
            pid, status = os.waitpid(-1, 0)
            if pid in running:
                taken.append(time.perf_counter_ns() - running.pop(pid))
                if status != 0:
                    raise RuntimeError("wait status %d" % status)
        return time.monotonic() - begun, int(statistics.median(taken))


class Pooled:
    """Blocks of calls of a Pool that is ready when the clock starts, and gone afterwards."""

    def __init__(self, streams):
        self.streams = streams

    def block(self, at_once, number):
        with mrunc.Pool(min(2 * at_once, 16), python=PYTHON) as pool:
            return Threads(lambda: pool.run(TRUE, **self.streams)).block(at_once, number)


def held():
    """{"pss" in kB, "descriptors", "processes"} of this process and what lies below it, when nothing changes any more."""
    gc.collect()
    time.sleep(IDLE + 0.1)  # what the launcher has ready for the next run is gone then
    before, same, late = None, 0, time.monotonic() + 10
    while same < 5 and time.monotonic() < late:
        time.sleep(0.1)
        found = [pid for pid, _ in measure.descendants(SELF)]
        same = same + 1 if found == before else 0
        before = found
    pids = [SELF] + found
    return {"rss": sum(measure.memory(pid)["rss"] for pid in pids), "descriptors": sum(map(measure.descriptors, pids)),
            "processes": len(pids)}


class Young:
    """Another process that runs blocks of mrunc.run, one at a time."""

    def __init__(self):
        self.process = subprocess.Popen([PYTHON, os.path.abspath(__file__), "--young"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, universal_newlines=True)

    def block(self, number):
        self.process.stdin.write("%d\n" % number)
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def young():
    """The other side: reads how many, writes the median."""
    with open(os.devnull, "r+b", buffering=0) as null:
        way = Threads(lambda: mrunc.run(TRUE, python=PYTHON, stdin=null, stdout=null, stderr=null))
        for line in sys.stdin:
            print(way.block(1, int(line))[1], flush=True)


def aged(way, pairs, number):
    """The spread of the old process' median call beside a young one's."""
    other, ratios, draw = Young(), [], random.Random(8)
    try:
        other.block(10)
        way.block(1, 10)
        for _ in range(pairs):
            if draw.random() < 0.5:
                mine = way.block(1, number)[1]
                ratios.append(mine / other.block(number))
            else:
                its = other.block(number)
                ratios.append(way.block(1, number)[1] / its)
    finally:
        other.close()
    return measure.spread(ratios)


def measured(total, rounds, seconds, pairs):
    """The result, as --json writes it."""
    measure.compiled()
    measure.adopt()
    place, draw = measure.scratch(), random.Random(8)
    result = {"bench": "throughput", "host": measure.host(), "missing": {}}
    null = open(os.devnull, "r+b", buffering=0)
    streams = {"stdin": null, "stdout": null, "stderr": null}
    ways = {"mrunc.run": Threads(lambda: mrunc.run(TRUE, python=PYTHON, **streams)), "mrunc.Pool": Pooled(streams)}
    for rival in others.rivals(place):
        if rival.name in ("bwrap + filter", "bwrap, few mounts + filter"):
            if rival.missing():
                result["missing"][rival.name] = rival.missing()
            else:
                ways[rival.name] = Spawned(rival.argv(TRUE))
    ways["plain"] = Spawned(TRUE)
    per_block = max(1, total // rounds // len(AT_ONCE))
    number = {name: per_block if name == "mrunc.run" else max(1, min(per_block, 100)) for name in ways}
    rates = {name: {count: [] for count in AT_ONCE} for name in ways}
    alone = {name: [] for name in ways}
    states, begun, done = [], time.monotonic(), 0
    try:
        for way in ways.values():
            way.block(1, 10)
        blocks = [(name, count) for name in ways for count in AT_ONCE]
        for _ in range(rounds):
            if states and time.monotonic() - begun > seconds:
                break
            draw.shuffle(blocks)
            for name, count in blocks:
                measure.quiet()
                taken, median = ways[name].block(count, number[name])
                rates[name][count].append(number[name] / taken)
                if count == 1:
                    alone[name].append(median)
            done += len(AT_ONCE) * number["mrunc.run"]
            states.append(held())
        result["growth"] = growth(states, alone, done)
        result["growth"]["aged"] = aged(ways["mrunc.run"], pairs, max(2, min(10, per_block)))
    finally:
        null.close()
    result["cells"] = {name: {str(count): dict(measure.spread(found), best=max(found)) for count, found in row.items()}
                       for name, row in rates.items()}
    result["alone_ns"], result["states"] = alone, states
    return result


def growth(states, alone, done):
    """What changed from the first rounds to the last."""
    third = max(1, len(states) // 3)

    def later(name):
        return statistics.median(alone[name][-third:]) / statistics.median(alone[name][:third])
    beside = "bwrap + filter" if "bwrap + filter" in alone else "plain"
    first, last = states[len(states) // 3], states[-1]  # until then threads and arenas are made
    return {"sandboxes": done, "late_to_early": later("mrunc.run"), "beside": beside, "late_to_early_beside": later(beside),
            "memory_kb": last["rss"] - first["rss"], "memory_allowed_kb": ROUNDING,
            "descriptors": last["descriptors"] - first["descriptors"], "processes": last["processes"] - first["processes"],
            "rss_kb": last["rss"]}


def main():
    def more(parser):
        parser.add_argument("--total", type=int, help="sandboxes of mrunc.run in all")
        parser.add_argument("--seconds", type=float, help="no further round begins after so many")
        parser.add_argument("--pairs", type=int, help="of blocks that the old process and a new one run in the end")
    if sys.argv[1:] == ["--young"]:
        return young()
    asked = measure.arguments(__doc__, more)
    measure.urgent()
    result = measured(asked.total or (800 if asked.quick else 10000), asked.rounds or (4 if asked.quick else 10),
                      asked.seconds or 240, asked.pairs or (10 if asked.quick else 240))
    measure.finish(result, asked.json)
    print(page.alone(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
