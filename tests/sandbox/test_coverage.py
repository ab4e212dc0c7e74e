# SPDX-License-Identifier: Apache-2.0
"""bench/coverage.py: what a workload does under strace, told from what mrunc does, and the table that is checked in."""
import json
import os
import re
import runpy
import shutil
import subprocess

import pytest

import mrunc  # noqa: F401  registers the package
from mrunc.sandbox.seccomp import policy

from conftest import ROOT, become, copy_tool

TOOL = runpy.run_path(os.path.join(ROOT, "bench", "coverage.py"))
with open(os.path.join(ROOT, "docs", "coverage-x86_64.json")) as _stream:
    TABLE = json.load(_stream)


def test_only_the_workload_is_counted():
    log = """10 execve("/usr/bin/python3", ...) = 0
10 mount("a") = 0
10 clone3({...} => {pidfd=[4]}, 88) = 11
11 setns(3, 0 <unfinished ...>
11 <... setns resumed>) = 0
11 execveat(4, "", ...) = 0
11 wait4(-1, NULL) = 12
12 execve("/usr/bin/sh", ["sh", "= -1 E)"], 0x1 /* 4 vars */) = 0
12 unshare(CLONE_NEWUSER) = -1 EPERM (Operation not permitted)
12 mmap(NULL, 8192, ...) = 0x7f12
12 read(0,  <unfinished ...>
13 getpid() = 13
12 <... read resumed>"x", 1) = 1
12 exit_group(0) = ?
12 +++ exited with 0 +++
10 ptrace(1) = 0
"""
    seen, errnos = TOOL["parse"](log.splitlines())
    assert seen == {"execve": [1, 0], "unshare": [0, 1], "mmap": [1, 0], "getpid": [1, 0], "read": [1, 0], "exit_group": [1, 0]}
    assert dict(errnos) == {"unshare": {"EPERM"}}


def test_a_call_without_a_rule_would_be_named():
    assert {"read", "mknodat", "socket", "prlimit64"} <= TOOL["may_pass"]()
    assert not {"mount", "unshare", "keyctl", "io_uring_setup"} & TOOL["may_pass"]()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the table is of x86_64")
def test_the_table_is_of_the_suite_and_nothing_in_it_passed_that_is_refused():
    rows = runpy.run_path(os.path.join(ROOT, "tests", "sandbox", "test_workloads.py"))
    assert TABLE["programs"] == len(rows["SHELL"]) + len(rows["PYTHON"])
    assert re.match(r"\d{4}-\d\d-\d\d$", TABLE["date"]) and TABLE["kernel"]
    allowed = TOOL["may_pass"]()
    assert {name for name, row in TABLE["calls"].items() if row["succeeded"]} <= allowed
    assert set(TABLE["calls"]) <= set(policy.numbers("x86_64").NR)
    assert TABLE["never_made"] == sorted(allowed - set(TABLE["calls"])), "run: bench/coverage.py --suite"


def test_each_candidate_has_its_argument():
    with open(os.path.join(ROOT, "docs", "coverage.md")) as stream:
        rows = re.findall(r"^\| (`.*?`) \| (.+?) \| (.+?) \|$", stream.read(), re.M)
    named = [name for calls, _, _ in rows for name in re.findall(r"`(\w+)`", calls)]
    assert sorted(named) == TABLE["never_made"]


def test_a_workload_is_traced_from_outside(inside):
    assert shutil.which("strace"), "strace is not installed: apt-get install strace"
    folder = os.path.join(inside.scratch, "tool")
    os.mkdir(folder)
    copy_tool(folder)
    for name in ("bench", "tests", "docs"):
        shutil.copytree(os.path.join(ROOT, name), os.path.join(folder, name), ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
    done = subprocess.run(["/usr/bin/python3", folder + "/bench/coverage.py", "--json", "--", "sh", "-c", "unshare -U true; exit 3"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, preexec_fn=become(inside.who),
                          cwd=inside.scratch, timeout=120)
    report = json.loads(done.stdout)
    assert done.returncode == 0 and report["status"] == 3 and report["passed_without_a_rule"] == [], done.stderr
    assert report["calls"]["unshare"] == [0, 1] and report["calls"]["execve"][0] >= 2 and "mount" not in report["calls"]
