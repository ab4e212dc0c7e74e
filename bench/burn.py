# SPDX-License-Identifier: Apache-2.0
"""What a sandbox costs while the program runs: a CPU burn, and loops of system calls under everybody's filters.

    python3 bench/burn.py [--quick] [--rounds N] [--seconds S] [--json FILE]

The program is bench/worker.c, compiled static; one copy of it waits outside and one in each sandbox.  They take turns in
slices of some 50 ms (burn) and 5 ms (calls), in an order drawn anew in each round, and each slice is compared with the
one outside of the same round: what else the machine does hits both.  --seconds: how long the burn inside is in all.
--rounds: of the calls, and of the burn unless --seconds.
"""
import itertools
import os
import random
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import measure  # noqa: E402
import page  # noqa: E402
import rivals as others  # noqa: E402
import targets  # noqa: E402

KINDS = ("plain", "file", "tested", "denied")
#: Of these it is asked whether one filter costs more than another, which takes so many times as many rounds.
CLOSE, TIMES = ("plain", "file"), 8
SLICE, CALLS = 50e6, 5e6
#: In at most so many batches, each with processes of its own and at least so many rounds, the calls are measured.
BATCHES, ROUNDS = 40, 5
#: gVisor's own clocks count what its kernel says a process used; there the time on the wall is what is known.
BY_WALL = ("runsc",)
LEFT_OUT = {"mrunc without seccomp": "seccomp", "mrunc without caps": "caps,securebits"}


class Worker:
    """The program in one place, waiting for work."""

    def __init__(self, argv, apart=False):
        words, fds = measure.opened(others.fresh(argv))
        self.process = subprocess.Popen(others.apart(words) if apart else words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, pass_fds=fds, env=measure.ENVIRONMENT)
        for fd in fds:
            os.close(fd)

    def work(self, kind, count):
        """(wall ns, cpu ns) of `count` times `kind`.  Raises RuntimeError where it has ended."""
        return self.calls(kind, count)[:2]

    def calls(self, kind, count, threads=1):
        """(wall ns, cpu ns, how many were refused with EPERM), by so many threads."""
        try:
            self.process.stdin.write(b"%s %d %d\n" % (kind.encode(), count, threads))
            self.process.stdin.flush()
            wall, cpu, refused = self.process.stdout.readline().split()
        except (BrokenPipeError, ValueError):
            raise RuntimeError("it ended with status %s" % self.process.wait())
        return int(wall), int(cpu), int(refused)

    def close(self):
        for stream in (self.process.stdin, self.process.stdout):
            try:
                stream.close()
            except BrokenPipeError:
                pass
        self.process.wait()


def workers(place, program):
    """({name: Worker}, {name: why not}), outside first."""
    folder = os.path.dirname(program)
    found, missing = {"outside": Worker([program])}, {}
    rows = {rival.name: rival for rival in others.rivals(place, [folder])}
    base = rows["mrunc run"].argv([program])
    commands = {"mrunc": (base, False)}
    for name, controls in LEFT_OUT.items():
        at = base.index("run") + 1
        commands[name] = (base[:at] + ["--unsafe-without", controls] + base[at:], False)
    for name in ("bwrap, few mounts", "bwrap, few mounts + filter", "bwrap, few mounts + libseccomp", "crun + docker",
                 "runc + docker", "firejail", "systemd-nspawn", "runsc", "nsjail", "minijail0"):
        if name in rows:
            if rows[name].missing():
                missing[name] = rows[name].missing()
            else:
                commands[name.replace(", few mounts", "")] = rows[name].argv([program]), rows[name].apart
    for name, (argv, apart) in commands.items():
        worker = Worker(argv, apart)
        try:
            worker.work("burn", 1000)
            found[name] = worker
        except RuntimeError as error:
            missing[name] = "does not run here: %s" % error
            worker.close()
    return found, missing


def calibrated(worker, kind, wanted):
    """How often `kind` is done in `wanted` ns: by the fastest of a few tries."""
    count = 2000
    while True:
        taken = min(worker.work(kind, count)[0] for _ in range(3))
        if taken > wanted / 8:
            return max(1, int(count * wanted / taken))
        count *= 4


def turns(found, kinds, counts, rounds):
    """Yields {(name, kind): (wall, cpu) per unit of work} of each round."""
    draw, order = random.Random(8), [(name, kind) for name in found for kind in kinds]
    for number in range(rounds + 1):
        draw.shuffle(order)
        row = {}
        for name, kind in order:
            count = counts[name, kind]
            wall, cpu = found[name].work(kind, count)
            row[name, kind] = (wall / count, cpu / count)
        if number:  # the first one warms up
            yield row


def burnt(found, seconds, rounds):
    """{name: {"wall", "cpu": spread of inside / outside, "seconds"}}: what has less in force gets a quarter of the time."""
    count = calibrated(found["outside"], "burn", SLICE)
    names = [name for name in ("mrunc", *LEFT_OUT, "bwrap + filter") if name in found]
    by_time = not rounds
    rounds = rounds or int(seconds / (SLICE / 1e9))
    ratios = {name: {"wall": [], "cpu": []} for name in names}
    spent = {name: 0.0 for name in names}

    def more(some, number):
        used = {name: found[name] for name in ["outside", *some]}
        counts = {(name, "burn"): count for name in used}
        for row in turns(used, ["burn"], counts, max(1, number)):
            for name in some:
                for place, clock in enumerate(("wall", "cpu")):
                    ratios[name][clock].append(row[name, "burn"][place] / row["outside", "burn"][place])
                spent[name] += row[name, "burn"][0] * count / 1e9
    more(["mrunc"], rounds - rounds // 4)
    more(names, rounds // 4)
    while by_time and spent["mrunc"] < seconds:  # the slices were shorter than they were meant to be
        more(["mrunc"], 20)
    return {name: {"wall": measure.spread(ratios[name]["wall"]), "cpu": measure.spread(ratios[name]["cpu"]),
                   "seconds": round(spent[name], 1)} for name in names}


def called(start, rounds):
    """{name: {kind: {"ns": spread, "extra", "ratio": spread of the difference and the ratio to outside, "beside": spread of
    what mrunc takes more in the same round}}}: of the medians of batches, since where a process lies in memory is worth some ns
    per call for as long as it lives.  start() gives fresh {name: Worker}."""
    batches = max(1, min(BATCHES, rounds // ROUNDS))
    each, counts = {}, {}
    for _ in range(batches):
        found = start()
        try:
            for name in found:
                for kind in KINDS:
                    if (name, kind) not in counts:
                        count = calibrated(found["outside"], kind, CALLS)
                        counts[name, kind] = max(1, count // 20) if name in BY_WALL else count
            batch = {pair: {"ns": [], "extra": [], "ratio": [], "beside": []} for pair in counts if pair[0] in found}
            near = {name: worker for name, worker in found.items() if name in ("outside", "mrunc") or targets.is_peers(name)}
            for row in itertools.chain(turns(found, KINDS, counts, rounds // batches),
                                       turns(near, CLOSE, counts, TIMES * rounds // batches)):
                for name, kind in row:
                    lists, clock = batch[name, kind], 0 if name in BY_WALL else 1
                    own, outside = row[name, kind][clock], row["outside", kind][clock]
                    for key, value in (("ns", own), ("extra", own - outside), ("ratio", own / outside),
                                       ("beside", row["mrunc", kind][clock] - own)):
                        lists[key].append(value)
        finally:
            for worker in found.values():
                worker.close()
        for pair, lists in batch.items():
            for key, values in lists.items():
                each.setdefault(pair, {}).setdefault(key, []).append(statistics.median(values))
    return {name: {kind: {key: measure.spread(values) for key, values in each[name, kind].items()} for kind in KINDS}
            for name in found}


def measured(seconds, rounds, call_rounds):
    """The result, as --json writes it."""
    measure.compiled()
    place, folder = measure.scratch(), measure.scratch()
    program = measure.program(folder)
    found, missing = workers(place, program)
    result = {"bench": "burn", "host": measure.host(), "program": "C, gcc -O2 -static"}
    try:
        result["burn"] = burnt(found, seconds, rounds)
    finally:
        for worker in found.values():
            worker.close()
    result["calls"] = called(lambda: workers(measure.scratch(), program)[0], call_rounds)
    result["missing"] = missing
    return result


def main():
    asked = measure.arguments(__doc__, lambda parser: parser.add_argument("--seconds", type=float))
    measure.urgent()
    result = measured(asked.seconds or (5 if asked.quick else 60), None if asked.seconds else asked.rounds,
                      asked.rounds or (30 if asked.quick else 200))
    measure.finish(result, asked.json)
    print(page.alone(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
