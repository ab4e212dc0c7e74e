# SPDX-License-Identifier: Apache-2.0
"""What the ledger costs: allowed calls, refused calls beside the least that a supervisor in C can do, and floods of them.

    python3 bench/ledger.py [--quick] [--rounds N] [--flood N] [--paced SECONDS] [--json FILE]

The program is bench/worker.c, the supervisor in C bench/supervisor.c.  Allowed calls: two sandboxes, one with the ledger,
take turns.  Refused calls: new sandboxes in each round, since only the first 20,000 of each are answered at full speed.
Floods: once with that pace taken off, which is the most that memory and counts can be asked for (--flood calls), and once as it
is shipped, for so many seconds after the burst, where the supervisor's share of a processor is read.
"""
import json
import os
import random
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import burn  # noqa: E402
import measure  # noqa: E402
import page  # noqa: E402
from measure import DOOR, PYTHON  # noqa: E402

from mrunc.sandbox.observe.ledger import BURST, PACE  # noqa: E402

ALLOWED, REFUSED = ("plain", "file"), ("numbers", "denied")
#: Calls of one refused block: with the warming up less than the burst.
BLOCK, WARM = 12000, 500
#: [(kind, threads)]
FLOODS = [("numbers", 1), ("numbers", 4), ("various", 4)]
#: Pairs of sandboxes: how memory happens to lie differs from one process to the next.
PAIRS = 3
#: The command line with a bucket that never empties.
UNPACED = """
import functools, sys
sys.path.insert(0, %r)
import mrunc
from mrunc.sandbox.observe import ledger
ledger.Ledger = functools.partial(ledger.Ledger, burst=1 << 40)
mrunc.main(sys.argv[1:], leave=True)
"""


def sandboxed(program, *options, python=(DOOR,)):
    """The command line of a sandbox for the worker."""
    return [PYTHON, "-I", "-S", *python, "run", *options, "--ro", os.path.dirname(program), "--", program]


def allowed(program, rounds, pairs=PAIRS):
    """{kind: spread of the cost with / without}, per call of processor time."""
    ratios = {kind: [] for kind in ALLOWED}
    for _ in range(pairs):
        found = {"without": burn.Worker(sandboxed(program)),
                 "with": burn.Worker(sandboxed(program, "--ledger", os.devnull))}
        try:
            counts = {(name, kind): burn.calibrated(found["without"], kind, burn.CALLS) for name in found for kind in ALLOWED}
            for row in burn.turns(found, ALLOWED, counts, max(1, rounds // pairs)):
                for kind in ALLOWED:
                    ratios[kind].append(row["with", kind][1] / row["without", kind][1])
        finally:
            for worker in found.values():
                worker.close()
    return {kind: measure.spread(found) for kind, found in ratios.items()}


def refused(program, supervisor, rounds):
    """{kind: {"plain", "supervisor", "ledger": spread of ns per call, "ratio": spread of ledger / supervisor}}."""
    ways = {"plain": sandboxed(program), "supervisor": [supervisor, program],
            "ledger": sandboxed(program, "--ledger", os.devnull)}
    taken = {kind: {name: [] for name in ways} for kind in REFUSED}
    draw, order = random.Random(8), [(kind, name) for kind in REFUSED for name in ways]
    for _ in range(rounds):
        draw.shuffle(order)
        for kind, name in order:
            worker = burn.Worker(ways[name])
            try:
                worker.calls(kind, WARM)
                wall, _, count = worker.calls(kind, BLOCK)
            finally:
                worker.close()
            if count != BLOCK:
                raise RuntimeError("%s: %d of %d calls were refused" % (name, count, BLOCK))
            taken[kind][name].append(wall / BLOCK)
    out = {}
    for kind, row in taken.items():
        out[kind] = {name: measure.spread(found) for name, found in row.items()}
        out[kind]["ratio"] = measure.spread([own / its for own, its in zip(row["ledger"], row["supervisor"])])
    return out


def supervisor_of(worker):
    """{"cpu_ns", "peak_kb"} of the command line's process."""
    pid = worker.process.pid
    with open("/proc/%d/schedstat" % pid) as stream:
        cpu = int(stream.read().split()[0])
    with open("/proc/%d/status" % pid) as stream:
        peak, = [int(line.split()[1]) for line in stream if line.startswith("VmHWM:")]
    return {"cpu_ns": cpu, "peak_kb": peak}


def flood(program, kind, threads, count, paced):
    """One flood and what the ledger says of it.  paced: as shipped, `count` calls after the burst."""
    folder = measure.scratch()
    report, lines = folder + "/report.json", folder + "/ledger.jsonl"
    python = (DOOR,) if paced else ("-c", UNPACED % measure.HERE)
    worker = burn.Worker(sandboxed(program, "--report", report, "--ledger", lines, python=python))
    try:
        made = refused = 0
        if paced:
            made = BURST + PACE // 2  # what the bucket has gained meanwhile is gone, too
            refused = worker.calls(kind, made, threads)[2]
        before, begun = supervisor_of(worker), time.monotonic()
        refused += worker.calls(kind, count, threads)[2]
        seconds, after = time.monotonic() - begun, supervisor_of(worker)
        made += count
    finally:
        worker.close()
    with open(report) as stream:
        rows = json.load(stream)["refused"]
    rows = [row for row in rows if row["syscall"] == "setns"]
    return {"kind": kind, "threads": threads, "paced": paced, "made": made, "refused": refused, "seconds": round(seconds, 2),
            "counted": sum(row["count"] for row in rows), "interrupted": sum(row["interrupted"] for row in rows),
            "records": len(rows), "peak_kb": after["peak_kb"], "file_bytes": os.path.getsize(lines),
            "share": (after["cpu_ns"] - before["cpu_ns"]) / 1e9 / seconds}


def measured(rounds, block_rounds, count, seconds):
    """The result, as --json writes it."""
    measure.compiled()
    folder = measure.scratch()
    program, supervisor = measure.program(folder), measure.program(folder, "supervisor")
    result = {"bench": "ledger", "host": measure.host(), "missing": {}, "block": BLOCK, "burst": BURST, "pace": PACE}
    result["allowed"] = allowed(program, rounds)
    result["refused"] = refused(program, supervisor, block_rounds)
    result["floods"] = [flood(program, kind, threads, count, False) for kind, threads in FLOODS] + \
        [flood(program, kind, threads, int(seconds * PACE), True) for kind, threads in FLOODS[:2]]
    return result


def main():
    def more(parser):
        parser.add_argument("--flood", type=int, help="calls of each flood without the pace")
        parser.add_argument("--paced", type=float, help="seconds of each flood with it")
    asked = measure.arguments(__doc__, more)
    measure.urgent()
    result = measured(asked.rounds or (12 if asked.quick else 90), asked.rounds or (3 if asked.quick else 15),
                      asked.flood or (50000 if asked.quick else 1000000), asked.paced or (3 if asked.quick else 15))
    measure.finish(result, asked.json)
    print(page.alone(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
