# SPDX-License-Identifier: Apache-2.0
"""What a plain run imports, and what that costs, held against the budget in bench/imports.json.

    python3 bench/imports.py [--quick] [--rounds N] [--json FILE]

Times are medians of `-X importtime` over the rounds, each module's own part; they are dearer than without the option, and good
for comparing modules with each other.  The budget is counts alone: the names, before clone3 and after it.  Exit status 1: a
module that is not in the budget, or one of the budget that is no longer imported.
"""
import json
import os
import re
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import measure  # noqa: E402

BUDGET = os.path.join(os.path.dirname(os.path.abspath(__file__)), "imports.json")
#: The last that is imported before there is a child, which others are imported beside.
LAST = "mrunc.sandbox.frozen"


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


def budget():
    """{"before": [module], "after": [module]}"""
    with open(BUDGET) as stream:
        return json.load(stream)


def split(names):
    """The names in two lists: before clone3, and after it."""
    at = names.index(LAST) + 1
    return names[:at], names[at:]


def verdicts(names):
    """[sentence] on what the budget does not know, and on what it has for nothing.  names: our own modules."""
    wrong = []
    for phase, found in zip(("before", "after"), split(names)):
        known = budget()[phase]
        wrong += ["%s is imported %s clone3, and not in the budget" % (name, phase) for name in found if name not in known]
        wrong += ["%s is in the budget %s clone3, and not imported" % (name, phase) for name in known if name not in found]
    return wrong


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
    wrong = verdicts(ours([(name, 0) for name in order]))
    if asked.json:
        with open(asked.json, "w") as out:
            json.dump({"bench": "imports", "host": measure.host(), "us": cost, "wrong": wrong}, out, indent=1)
    print("| module | own us | clone3 |\n|---|---|---|")
    for number, name in enumerate(order):
        print("| %s | %d | %s |" % (name, cost[name], "before" if number < at else "after"))
    print("| %d modules, %d of ours | %.1f ms before, %.1f ms after | |" % (
        len(order), len(ours([(name, 0) for name in order])), sum(cost[name] for name in order[:at]) / 1000,
        sum(cost[name] for name in order[at:]) / 1000))
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
