#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/hosts.md from the results of .ci/vm: one folder for each machine and user.

    RESULTS=build/hosts .ci/vm all; python3 .ci/hosts.py build/hosts
"""
import collections
import itertools
import json
import os
import re
import sys
import xml.etree.ElementTree

from generated import HERE

TARGET = os.path.join(HERE, "docs", "hosts.md")
MACHINES, KERNELS, USERS = ("x86_64", "aarch64"), ("5.10", "6.1", "6.12", "7.3"), ("root", "tester")
COLUMNS = ("arch", "kernel", "user", "tier", "Landlock ABI", "limits", "selftest", "passed", "failed", "skipped", "date")
TEXT = """# Hosts

On which hosts was mrunc tested? The hosts are virtual machines (QEMU, without KVM) with Debian's
kernels. In each, the tests marked `vm` ran twice: as root, and as an ordinary user with a delegated
cgroup. `make vm-all` runs them all and writes this page.

- *tier*, *Landlock ABI* and *limits* are the findings of `mrunc doctor` on that host.
- *selftest* is the number of probes of `mrunc selftest`, and of those that reached something.
  [SECURITY.md](../SECURITY.md) declares each of the latter.
- *user* is `root` or the ordinary user `tester`.

%s
%s
## What was skipped

These tests need a feature that the kernel does not have:

%s

## Older kernels

Nothing ran on Linux before 5.10. `make hidden` emulates older kernels instead. It runs the same
tests on the present kernel behind filters. The filters answer as if a newer call did not exist:
clone3, openat2, pidfds, close_range, mount_setattr or the mount API of 5.2.

`make hidden` hides one call at a time. Then it hides all of them, Landlock and the listeners of
filters, as on Linux 4.18. `.ci/run` does the latter each time.
"""


def cell(folder):
    """(the row as {column: text}, Counter of reasons why tests were skipped) of one machine and user."""
    def read(name):
        with open(os.path.join(folder, name)) as stream:
            return json.load(stream)
    suite = next(xml.etree.ElementTree.parse(os.path.join(folder, "junit.xml")).getroot().iter("testsuite"))
    count = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    doctor, selftest = read("doctor.json"), read("selftest.json")
    found = {row["name"]: row["evidence"] for row in doctor["findings"]}
    probes = [number for counts in selftest["counts"].values() for number in counts.items()]
    row = {
        "arch": doctor["host"]["machine"],
        "kernel": ".".join(doctor["host"]["kernel"].split(".")[:2]),
        "user": os.path.basename(folder).split("-")[2],
        "tier": doctor["tier"],
        "Landlock ABI": (re.match(r"ABI (\d+)", found["landlock"]) or [None, "none"])[1],
        "limits": found["cgroup"].split(" in ")[0],
        "selftest": "%d probes, %d reached" % (sum(number for _, number in probes),
                                               sum(number for kind, number in probes if kind == "REACHED")),
        "passed": count["tests"] - count["failures"] - count["errors"] - count["skipped"],
        "failed": count["failures"] + count["errors"],
        "skipped": count["skipped"],
        "date": suite.get("timestamp")[:10],
    }
    return row, collections.Counter(mark.get("message") for mark in suite.iter("skipped"))


def order(row):
    return row["arch"] != "x86_64", [int(word) for word in row["kernel"].split(".")], row["user"]


def page(results):
    """The text of docs/hosts.md."""
    folders = [os.path.join(results, name) for name in os.listdir(results) if name.count("-") == 2]  # not the odd ones
    cells = sorted((cell(folder) for folder in folders if os.path.exists(os.path.join(folder, "junit.xml"))),
                   key=lambda pair: order(pair[0]))
    lines = ["| %s |" % " | ".join(COLUMNS), "|" + "---|" * len(COLUMNS)]
    lines += ["| %s |" % " | ".join(str(row[name]) for name in COLUMNS) for row, _ in cells]
    why = collections.OrderedDict()
    for row, reasons in cells:
        for reason, number in sorted(reasons.items()):
            why.setdefault(reason, []).append("%s %s %s (%d)" % (row["arch"], row["kernel"], row["user"], number))
    there = {(row["arch"], row["kernel"], row["user"]) for row, _ in cells}
    absent = [" ".join(host) for host in itertools.product(MACHINES, KERNELS, USERS) if host not in there]
    skipped = ["- %s: %s" % (reason, ", ".join(places)) for reason, places in why.items()]
    return TEXT % ("\n".join(lines), absent and "\nNot run yet: %s.\n" % ", ".join(absent) or "", "\n".join(skipped) or "None.")


if __name__ == "__main__":
    text = page(sys.argv[1])
    with open(TARGET, "w") as target:
        target.write(text)
