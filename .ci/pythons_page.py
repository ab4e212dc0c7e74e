#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/pythons.md from .ci/every_python's results: a folder for each Python and user.

    python3 .ci/pythons_page.py build/pythons
"""
import collections
import json
import os
import re
import sys
import xml.etree.ElementTree

from generated import HERE

TARGET = os.path.join(HERE, "docs", "pythons.md")
#: What a full run has.
EVERY = ["3.%d root" % number for number in range(6, 16)] + ["3.6 user", "3.15 user", "musl root"]
COLUMNS = ("Python", "user", "pytest", "passed", "failed", "skipped", "seconds", "date")
TEXT = """# Pythons

Under which Pythons was mrunc tested? `make pythons` runs a part of the suite under each of them and
writes this page. `.ci/every_python` names that part: policies and their compiler, containment, the
ends of runs, the terminal, the ledger. The same Python runs pytest, the tool and the library. Every
run of the suite also tries the five ways of use and the self-test under every Python
(`tests/sandbox/test_ways.py`).

- *user*: `root` ran the tests for root and for an ordinary user, `user` for that user alone.
- *musl* in a version: CPython of Debian's source, linked with musl instead of glibc as Alpine's is,
  and without zlib. `make musl` builds it.

%s
%s
## What was skipped

%s
"""


def run(folder):
    """(the row as {column: text}, Counter of reasons why tests were skipped) of one Python and user."""
    suite = next(xml.etree.ElementTree.parse(os.path.join(folder, "junit.xml")).getroot().iter("testsuite"))
    with open(os.path.join(folder, "python.json")) as stream:
        told = json.load(stream)
    count = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    row = {
        "Python": told["python"], "user": told["who"], "pytest": told["pytest"],
        "passed": count["tests"] - count["failures"] - count["errors"] - count["skipped"],
        "failed": count["failures"] + count["errors"],
        "skipped": count["skipped"],
        "seconds": round(float(suite.get("time"))),
        "date": suite.get("timestamp")[:10],
    }
    reasons = collections.Counter(mark.get("message") for mark in suite.iter("skipped"))
    if told["without"]:
        reasons["not run, since its termios asks for a newer C library: test_" + ", test_".join(told["without"])] = 0
    return row, reasons


def kind(version):
    """"3.6" or "musl"."""
    return version.partition("-")[2] or version.rpartition(".")[0]


def order(row):
    version, _, libc = row["Python"].partition("-")
    return libc, [int(word) for word in version.split(".")], row["user"]


def page(results):
    """The text of docs/pythons.md."""
    runs = sorted((run(os.path.join(results, name)) for name in os.listdir(results)), key=lambda pair: order(pair[0]))
    lines = ["| %s |" % " | ".join(COLUMNS), "|" + "---|" * len(COLUMNS)]
    lines += ["| %s |" % " | ".join(str(row[name]) for name in COLUMNS) for row, _ in runs]
    there = {"%s %s" % (kind(row["Python"]), row["user"]) for row, _ in runs}
    absent = [name for name in EVERY if name not in there]
    why = collections.OrderedDict()
    for row, reasons in runs:
        for reason, number in sorted(reasons.items()):
            why.setdefault(reason, []).append("%s %s%s" % (row["Python"], row["user"], " (%d)" % number if number else ""))
    skipped = ["- %s: %s" % (re.sub(r"\s+", " ", reason), ", ".join(places)) for reason, places in why.items()]
    rest = "\nNot run yet: %s.\n" % ", ".join(absent) if absent else ""
    return TEXT % ("\n".join(lines), rest, "\n".join(skipped or ["Nothing."]))


if __name__ == "__main__":
    text = page(sys.argv[1])
    with open(TARGET, "w") as target:
        target.write(text)
