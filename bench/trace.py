# SPDX-License-Identifier: Apache-2.0
"""What --trace exec costs: executing /bin/true from the inside, beside the same without it and with the ledger alone.

    python3 bench/trace.py [--quick] [--rounds N] [--json FILE]

Three sandboxes stand at the same time and take turns, in an order drawn anew for each round.  The program inside starts and
reaps /bin/true (vfork and execve, as libc's posix_spawn does) and tells how long that took; the ratio is of one round.
"""
import os
import random
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import measure  # noqa: E402
import page  # noqa: E402
from measure import DOOR, PYTHON  # noqa: E402

WAYS = {"plain": (), "ledger": ("--ledger", os.devnull), "trace": ("--trace", "exec")}
#: Executions of one block; all of a run are less than the burst that is answered at full speed.
BLOCK = 40
WORKER = """
import os, sys, time
for line in sys.stdin:
    begun = time.perf_counter_ns()
    for _ in range(int(line)):
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    print(time.perf_counter_ns() - begun, flush=True)
"""


def started(options):
    """A sandbox whose program waits for numbers."""
    words = [PYTHON, "-I", "-S", DOOR, "run", "-q", *options, "--", "/usr/bin/python3", "-I", "-S", "-c", WORKER]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True)


def block(process, count):
    """ns of one execution, of so many."""
    process.stdin.write("%d\n" % count)
    process.stdin.flush()
    return int(process.stdout.readline()) / count


def measured(rounds):
    """{way: spread of ns, way + " / plain": spread of the ratio}"""
    processes = {way: started(options) for way, options in WAYS.items()}
    try:
        taken = {way: [] for way in WAYS}
        for process in processes.values():
            block(process, BLOCK)
        for _ in range(rounds):
            for way in random.sample(list(WAYS), len(WAYS)):
                measure.quiet()
                taken[way].append(block(processes[way], BLOCK))
    finally:
        for process in processes.values():
            process.stdin.close()
            process.wait()
            process.stdout.close()
    out = {way: measure.spread(values) for way, values in taken.items()}
    for way in ("ledger", "trace"):
        out[way + " / plain"] = measure.spread([one / plain for one, plain in zip(taken[way], taken["plain"])])
    return out


def main():
    asked = measure.arguments(__doc__)
    measure.compiled()
    measure.urgent()
    result = {"bench": "trace", "host": measure.host()}
    result.update(measured(asked.rounds or (15 if asked.quick else 100)))
    measure.finish(result, asked.json)
    print(page.alone(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
