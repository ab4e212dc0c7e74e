# SPDX-License-Identifier: Apache-2.0
"""`-v`: a few lines at the end for people, and nothing else than without it."""
import os
import re

from mrunc.commands.run import summary
from mrunc.sandbox.result.result import Result
from test_schema import ROW, sample_result


def test_the_summary_says_what_ended_it_what_it_tried_changed_and_used():
    rows = [dict(ROW, syscall="call%d" % number, count=number, pid=pid) for number in range(1, 8) for pid in (2, 3)]
    controls = [{"name": "seccomp", "asked": True, "in_force": True, "how": "Seccomp: 2"},
                {"name": "timens", "asked": True, "in_force": False, "how": "this kernel does not have it"},
                {"name": "sweep", "asked": False, "in_force": False, "how": "pid 1 does"}]
    made = Result(**sample_result(detail="killed by SIGSEGV", advice="look", evidence=["pid 1 said so"], refused=rows, changes=[],
                                  controls=controls, usage={"wall_s": 2.5, "user_s": 0.25, "system_s": 0.25, "max_rss_bytes": 3 << 20}))
    lines = summary.lines(made)
    arguments = '(request=PTRACE_ATTACH, pid=1, addr=0, data=<unreadable: EPERM>) = EPERM'
    assert lines == [
        "ended: killed by SIGSEGV; look", "  pid 1 said so", "tried: 56 refused calls"] + [
        "  %dx call%d%s" % (2 * number, number, arguments) for number in (7, 6, 5, 4, 3)] + ["  and 2 kinds more"] + [
        "changed: nothing", "used: time 2.50 s, processor 500 ms, largest process 3.0 MiB", "in force: 1 of 2 that were asked for: seccomp",
        "not in force: timens: this kernel does not have it"]


def test_what_nobody_looked_at_is_told_as_that():
    lines = summary.lines(Result(**sample_result()))
    assert "tried: refused calls were not recorded; --report FILE records them" in lines and "changed: not looked at; --changes FILE does" in lines
    assert "tried: nothing that was refused" in summary.lines(Result(**sample_result(refused=[])))


def test_a_run_is_summed_up_in_a_few_lines_and_nothing_else_changes(inside):
    ledger, script = os.path.join(inside.scratch, "ledger"), "touch \"$(printf 'a\\nb')\"; unshare -U true 2>/dev/null; exit 3"
    options = ["--ledger", ledger, "--changes", os.path.join(inside.scratch, "changes")]
    plain = inside.run("sh", "-c", script, options=options)
    done = inside.run("sh", "-c", script, options=["-v", *options])
    assert (done.rc, done.out, plain.rc, plain.err) == (3, "", 3, ""), (done, plain)
    lines = [re.sub("^mrunc: ", "", line) for line in done.err.splitlines()]
    assert len(lines) < 20 and all(line.startswith("mrunc: ") for line in done.err.splitlines())
    assert lines[:2] == ["tier full", "starting sh -c %s" % script.replace("\n", "\\n")]
    for words in ("ended: exited with status 3; see whether one of the refused calls is behind it", "tried: 1 refused call",
                  "  1x unshare(flags=CLONE_NEWUSER) = EPERM", "changed: 1 added", "  added    file      /box/a\\nb"):
        assert words in lines, done
    assert done.result["policy"] == plain.result["policy"] and done.result["refused"][0]["args"] == plain.result["refused"][0]["args"]
    assert [(row["name"], row["asked"], row["in_force"]) for row in done.result["controls"]] == [
        (row["name"], row["asked"], row["in_force"]) for row in plain.result["controls"]]
    bare = inside.run("true", options=["-v"])
    assert bare.result["policy"] == inside.run("true").result["policy"] and bare.result["refused"] == []


def test_quiet_and_verbose_are_no_matter_of_the_sandbox():
    """Neither is an option of the spec."""
    from mrunc.commands.run.run import NOT_SPEC
    assert {"quiet", "verbose"} <= set(NOT_SPEC)
