# SPDX-License-Identifier: Apache-2.0
"""The ledger: what a program tried and was refused, exactly, whatever it does to hide it."""
import json
import os

import pytest

import mrunc  # noqa: F401  registers the package

pytestmark = pytest.mark.needs("listener")

CALLS = """
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    result = getattr(libc, name)(*arguments)
    print(name, result, ctypes.get_errno(), flush=True)
"""
THREE = CALLS + """
for _ in range(3): call("mount", b"here", b"/tmp", b"tmpfs", 0, None)
call("unshare", 0x10000000)
call("ptrace", 16, 1, None, None)
"""


def ledger_of(inside, code, options=(), **settings):
    """(Finished, [the file's lines]) of Python code inside with the ledger on."""
    path = os.path.join(inside.scratch, "ledger.jsonl")
    done = inside.python(code, options=["--ledger", path, *options], **settings)
    with open(path) as stream:
        return done, [json.loads(line) for line in stream]


def brief(rows, *names):
    """[(name, ...)] of the rows."""
    return [tuple(row[name] for name in names or ("syscall", "errno", "count")) for row in rows]


def control(done, name="ledger"):
    return [row for row in done.result["controls"] if row["name"] == name][0]


@pytest.mark.also_vm
@pytest.mark.parametrize("tier", ["full", pytest.param("process", marks=pytest.mark.needs("landlock"))])
def test_each_refused_call_is_recorded_and_refused_as_without(inside, tier):
    plain = inside.outside(inside.command("/usr/bin/python3", "-I", "-S", "-c", THREE, options=["--tier", tier]))
    done, lines = ledger_of(inside, THREE, ["--tier", tier])
    assert done.out == plain.stdout and "mount -1 1\n" * 3 in done.out
    assert control(done)["asked"] and control(done)["in_force"]
    assert control(done, "seccomp")["in_force"] and "asking a listener" in control(done, "seccomp")["how"]
    rows = done.result["refused"]
    assert brief(rows) == [("mount", "EPERM", 3), ("unshare", "EPERM", 1), ("ptrace", "EPERM", 1)]
    assert rows[0]["args"] == {"source": "here", "target": "/tmp", "fstype": "tmpfs", "flags": 0, "data": 0}
    assert {row["exe"] for row in rows} == {os.path.realpath("/usr/bin/python3")} and len({row["pid"] for row in rows}) == 1
    assert 0 < rows[0]["first_s"] <= rows[0]["last_s"] <= rows[1]["first_s"] <= done.result["usage"]["wall_s"]
    last = {line["syscall"]: line for line in lines}
    assert all(line["event"] == "refused" and line["schema"] == 1 for line in lines)
    assert [dict(row, schema=1, event="refused") for row in rows] == list(last.values())


@pytest.mark.also_vm
@pytest.mark.parametrize("tier", ["full", pytest.param("process", marks=pytest.mark.needs("landlock"))])
def test_a_report_alone_records_them_too(inside, tier):
    done = inside.python(THREE, options=["--tier", tier])
    assert brief(done.result["refused"]) == [("mount", "EPERM", 3), ("unshare", "EPERM", 1), ("ptrace", "EPERM", 1)]
    assert control(done)["asked"] and control(done)["in_force"] and done.err == ""


def test_with_a_report_alone_a_policy_that_kills_ends_one_process_as_without(inside):
    script = "python3 -c 'import ctypes; ctypes.CDLL(None).ptrace(16, 1, 0, 0)'; unshare -U true; echo status $?"
    plain = inside.outside(inside.command("sh", "-c", script, options=["--seccomp", "strict"]))
    done = inside.run("sh", "-c", script, options=["--seccomp", "strict"])
    assert (done.rc, done.out) == (plain.returncode, plain.stdout) == (0, "status 1\n")
    assert brief(done.result["refused"]) == [("unshare", "EPERM", 1)]
    done = inside.run("sh", "-c", script, options=["--seccomp", "strict", "--ledger", "/dev/null"])
    assert (done.rc, done.out) == (159, "") and brief(done.result["refused"]) == [("ptrace", "SIGKILL", 1)]


def test_a_report_without_a_filter_has_a_note_instead(inside):
    done = inside.run("/bin/echo", "ran", options=["--unsafe-without", "seccomp"])
    assert (done.rc, done.out) == (0, "ran\n") and "mrunc: no ledger: without seccomp no filter asks\n" in done.err
    assert done.result["refused"] is None and "no ledger: without seccomp no filter asks" in done.result["notes"]
    assert not control(done)["asked"] and not control(done)["in_force"]


def test_a_policy_that_cannot_ask_keeps_a_report_s_ledger_away_and_nothing_else(monkeypatch):
    from mrunc.sandbox.seccomp import arms
    from mrunc.sandbox.host import facts
    from mrunc.sandbox.plan import plan
    from mrunc.sandbox.errors import SandboxError
    from mrunc.sandbox.plan.spec import Spec
    here, additions = facts.Host.read(), ["clone3"]
    assert plan.make(Spec(["true"], seccomp_add=additions, ledger="if-possible"), here).listening.record
    monkeypatch.setattr(arms, "LONGEST", 10)
    made = plan.make(Spec(["true"], seccomp_add=additions, ledger="if-possible"), here)
    assert made.listening is None and made.filters and not made.controls["ledger"]
    assert "no ledger: policy default + clone3: too long with its other answers" in made.warnings[-1]
    for asked in (dict(ledger=True), dict(ledger="if-possible", trace="exec"), dict(ledger="if-possible", seccomp_action="kill")):
        with pytest.raises(SandboxError):
            plan.make(Spec(["true"], seccomp_add=additions, **asked), here)


def test_number_minus_one_is_answered_without_asking(inside):
    """What a tracer or an outer filter took away has this number: there may be nobody yet to ask."""
    done = inside.python("""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.syscall(-1), ctypes.get_errno())
print(libc.syscall(600), ctypes.get_errno())
""")
    assert done.out == "-1 38\n-1 38\n"
    assert brief(done.result["refused"]) == [("syscall_600", "ENOSYS", 1)]


def test_a_burst_of_one_call_has_a_line_each_time_its_count_has_grown_tenfold(inside):
    """However many of them were answered in one turn of the supervision."""
    done, lines = ledger_of(inside, "import ctypes\nfor _ in range(12345): ctypes.CDLL(None).unshare(0x10000000)")
    assert brief(done.result["refused"]) == [("unshare", "EPERM", 12345)]
    counts = [line["count"] for line in lines]
    assert counts[0] >= 1 and counts[-1] == 12345 and len(counts) <= 6
    assert all(later >= 10 * before for before, later in zip(counts, counts[1:-1]))


def test_what_lies_in_registers_that_a_call_does_not_take_is_no_address():
    from mrunc.sandbox.observe.ledger import _may_point
    stray = 0x7FFC00001234
    assert not _may_point("setns", (3, 0x40000000, stray, stray, stray, stray)), "ints alone, and what was left in the others"
    assert not _may_point("setns", (0xFFFFFFFF, 0, 0, 0, 0, 0)), "-1"
    assert _may_point("acct", (stray, 0, 0, 0, 0, 0)) and not _may_point("acct", (0, stray, 0, 0, 0, 0))
    assert _may_point("syscall_600", (0, 0, 0, 0, 0, stray)), "of what is not known every register counts"
