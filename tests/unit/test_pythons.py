# SPDX-License-Identifier: Apache-2.0
"""docs/pythons.md is what a run by every Python wrote: each version is there, nothing failed, and what was skipped is what an old
Python lacks."""
import os
import re

from conftest import ROOT

COLUMNS = ["Python", "user", "pytest", "passed", "failed", "skipped", "seconds", "date"]


def page():
    with open(os.path.join(ROOT, "docs", "pythons.md")) as stream:
        return stream.read()


def rows():
    """[{column: text}]"""
    lines = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in page().splitlines() if line.startswith("|")]
    assert lines[0] == COLUMNS and set(lines[1]) == {"---"}
    return [dict(zip(COLUMNS, line)) for line in lines[2:]]


def minor(version):
    return tuple(int(part) for part in version.split("-")[0].split(".")[:2])


def test_each_python_is_there_once_and_in_order_and_musl_last():
    there = [(row["Python"].partition("-")[2], [int(part) for part in row["Python"].split("-")[0].split(".")], row["user"])
             for row in rows()]
    assert there == sorted(there) and len({str(key) for key in there}) == len(there)


def test_each_version_is_there_or_said_to_be_missing():
    every = ["3.%d root" % number for number in range(6, 16)] + ["3.6 user", "3.15 user", "musl root"]
    there = {"%s %s" % (row["Python"].partition("-")[2] or row["Python"].rpartition(".")[0], row["user"]) for row in rows()}
    absent = re.findall(r"^Not run yet: (.*)\.$", page(), re.M)
    assert [name for name in every if name not in there] == (absent[0].split(", ") if absent else [])
    assert there and there <= set(every)


def test_every_row_says_that_all_holds_there():
    for row in rows():
        assert row["failed"] == "0" and int(row["passed"]) > 1000, row
        assert int(row["pytest"].split(".")[0]) >= 7 and int(row["seconds"]) > 0, row
        assert re.match(r"20\d\d-\d\d-\d\d$", row["date"]), row


def test_what_was_skipped_is_what_an_old_python_lacks_by_name_or_for_root():
    told = {}
    for since, places in re.findall(r"^- (?:this Python lacks [^:]+: 3\.(\d+)|root: [^:]+): (.*)$", page(), re.M):
        for version, user, number in re.findall(r"(\S+) (\S+) \((\d+)\)", places):
            assert minor(version) < (3, int(since)) if since else user == "user", places
            told[version, user] = told.get((version, user), 0) + int(number)
    for row in rows():
        assert int(row["skipped"]) == told.get((row["Python"], row["user"]), 0), row
