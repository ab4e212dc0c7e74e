# SPDX-License-Identifier: Apache-2.0
"""Holds the system calls of a plain run's set-up to their table."""
import json
import os
import sys

import pytest

from conftest import ROOT

sys.path.insert(0, os.path.join(ROOT, "bench"))

import calls  # noqa: E402


@pytest.fixture(scope="module")
def traced():
    return calls.measured()


def test_the_set_up_makes_no_call_that_its_table_does_not_name_and_none_more_often(traced):
    assert calls.verdicts(*traced) == []


def test_the_trace_sees_all_three_stories(traced):
    found, sizes = traced
    assert found["supervisor"]["clone3"] == 2 and found["child"]["execveat"] == 1 and found["init"]["write"] == 1
    assert found["child"]["pivot_root"] == 1 and found["child"]["mount"] == sizes["mount"] > 10


def test_a_call_too_many_and_a_call_too_new_are_noticed(traced):
    found, sizes = traced
    more = {process: dict(counts) for process, counts in found.items()}
    more["child"]["clone3"] = 1
    more["supervisor"]["memfd_create"] += 1
    assert calls.verdicts(more, sizes) == ["supervisor makes 2 memfd_create, the table allows 1",
                                           "child makes clone3 (1 times), which no row names"]


def test_each_row_says_why_and_stands_once():
    with open(calls.TABLE) as stream:
        rows = json.load(stream)["rows"]
    assert all(row["process"] in calls.PROCESSES and row["why"] for row in rows)
    assert len({(row["process"], row["call"]) for row in rows}) == len(rows)
