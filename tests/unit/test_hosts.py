# SPDX-License-Identifier: Apache-2.0
"""docs/hosts.md is what a run of all virtual machines wrote: each is there, nothing failed, and what was skipped has its reason."""
import itertools
import os
import re

from conftest import KERNEL, ROOT

COLUMNS = ["arch", "kernel", "user", "tier", "Landlock ABI", "limits", "selftest", "passed", "failed", "skipped", "date"]
ABI = {"5.10": "none", "6.1": "2", "6.12": "6", "7.3": "11"}


def page():
    with open(os.path.join(ROOT, "docs", "hosts.md")) as stream:
        return stream.read()


def rows():
    """[{column: text}]"""
    lines = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in page().splitlines() if line.startswith("|")]
    assert lines[0] == COLUMNS and set(lines[1]) == {"---"}
    return [dict(zip(COLUMNS, line)) for line in lines[2:]]


def test_each_host_is_there_once_and_in_order_or_said_to_be_missing():
    there = [" ".join((row["arch"], row["kernel"], row["user"])) for row in rows()]
    absent = re.findall(r"^Not run yet: (.*)\.$", page(), re.M)
    absent = absent[0].split(", ") if absent else []
    every = [" ".join(host) for host in itertools.product(("x86_64", "aarch64"), ABI, ("root", "tester"))]
    assert there == [host for host in every if host not in absent] and there and set(absent) <= set(every)


def test_every_row_says_that_all_holds_there():
    for row in rows():
        assert (row["tier"], row["Landlock ABI"], row["limits"]) == ("full", ABI[row["kernel"]], "memory cpu pids io"), row
        assert int(row["passed"]) > 100 and row["failed"] == "0", row
        probes, reached = re.match(r"(\d+) probes, (\d+) reached$", row["selftest"]).groups()
        assert int(probes) > 380 and int(reached) <= 12, row
        assert re.match(r"20\d\d-\d\d-\d\d$", row["date"]), row


def test_what_was_skipped_is_what_the_kernel_lacks_by_name():
    told = {}
    for name, since, places in re.findall(r"^- this kernel lacks ([\w.-]+): Linux ([\d.]+): (.*)$", page(), re.M):
        assert KERNEL[name][0] == since
        for kernel, host, number in re.findall(r"(\S+ (\S+) \S+) \((\d+)\)", places):
            assert [int(word) for word in host.split(".")] < [int(word) for word in since.split(".")], places
            told[kernel] = told.get(kernel, 0) + int(number)
    for row in rows():
        assert int(row["skipped"]) == told.get("%s %s %s" % (row["arch"], row["kernel"], row["user"]), 0), row
