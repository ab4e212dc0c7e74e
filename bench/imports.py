# SPDX-License-Identifier: Apache-2.0
"""Measures what a plain run imports.

    python3 bench/imports.py [--quick] [--rounds N] [--json FILE]

Times are medians of `-X importtime` over the rounds, each module's own part; they are dearer than without the option, and good
for comparing modules with each other.
"""
import json
import os
import re
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import measure  # noqa: E402

#: The last that is imported before there is a child, which others are imported beside.
LAST = "mrunc.sandbox.seccomp.shipped_bytes"


def imported(python=None, words=("run", "--", "/bin/true")):
    """[(module, its own microseconds)] in the order in which they are done, without the bare interpreter's."""
    def rows(command):
        done = subprocess.run([python or measure.PYTHON, "-I", "-S", "-X", "importtime", *command], stderr=subprocess.PIPE,
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, universal_newlines=True, timeout=120)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return re.findall(r"^import time: +(\d+) \| +\d+ \| +(\S+)$", done.stderr, re.M)
    bare = {name for _, name in rows(["-c", "pass"])}
    return [(name, int(own)) for own, name in rows([measure.DOOR, *words]) if name not in bare]


def ours(rows):
    """The names of our own modules among the rows; the table of another architecture goes by the name of x86_64's."""
    return [re.sub(r"\.nr_\w+$", ".nr_x86_64", name) for name, _ in rows if name.startswith("mrunc.")]


def main():
    asked = measure.arguments(__doc__)
    measure.compiled()
    rounds = asked.rounds or (5 if asked.quick else 30)
    samples, order = {}, []
    for _ in range(rounds):
        rows = imported()
        order = [name for name, _ in rows]
        for name, own in rows:
            samples.setdefault(name, []).append(own)
    cost = {name: statistics.median(samples[name]) for name in order}
    at = order.index(LAST) + 1
    if asked.json:
        with open(asked.json, "w") as out:
            json.dump({"bench": "imports", "host": measure.host(), "us": cost}, out, indent=1)
    print("| module | own us | clone3 |\n|---|---|---|")
    for number, name in enumerate(order):
        print("| %s | %d | %s |" % (name, cost[name], "before" if number < at else "after"))
    print("| %d modules, %d of ours | %.1f ms before, %.1f ms after | |" % (
        len(order), len(ours([(name, 0) for name in order])), sum(cost[name] for name in order[:at]) / 1000,
        sum(cost[name] for name in order[at:]) / 1000))
    return 0


if __name__ == "__main__":
    sys.exit(main())
