# SPDX-License-Identifier: Apache-2.0
"""The verdict: each piece of evidence gives its reason, and none is overruled by a number alone."""
import pytest

from mrunc.sandbox import verdict
from mrunc.sandbox.verdict import Evidence, judge

KILLED = 9


def ends(**given):
    found = judge(Evidence(**given))
    return found.reason, found.returncode


@pytest.mark.parametrize("given, wanted", [
    (dict(status=0), ("exited", 0)),
    (dict(status=3 << 8), ("exited", 3)),
    (dict(status=137 << 8), ("exited", 137)),
    (dict(status=KILLED), ("signal", 137)),
    (dict(status=31), ("seccomp", 159)),
    (dict(status=159 << 8), ("exited", 159)),
    (dict(init_status=KILLED), ("lost", 137)),
    (dict(status=KILLED, deadline=2.0), ("timeout-wall", 124)),
    (dict(status=0, deadline=2.0), ("timeout-wall", 124)),
    (dict(init_status=KILLED, deadline=2.0), ("timeout-wall", 124)),
    (dict(status=KILLED, insisted=2), ("killed-by-caller", 130)),
    (dict(status=0, init_status=KILLED, failure="the supervisor failed"), ("lost", 0)),
])
def test_the_reason_is_what_the_evidence_says(given, wanted):
    assert ends(**given) == wanted


def test_the_status_is_kept_beside_the_reason():
    found = judge(Evidence(status=KILLED, deadline=2.0))
    assert (found.signal, found.exit_code, found.limits_hit) == (9, None, {"timeout": 2.0})
    found = judge(Evidence(status=3 << 8))
    assert (found.signal, found.exit_code, found.limits_hit) == (None, 3, {})
    assert judge(Evidence(init_status=125 << 8)).exit_code is None, "pid 1's exit code is not the program's"


def test_a_sigsys_names_the_policy_that_sent_it():
    assert "another architecture" in judge(Evidence(status=31)).detail
    assert "policy strict" in judge(Evidence(status=31, policy="strict")).detail


def test_what_mrunc_ended_is_told_and_what_the_program_did_is_not():
    told = {reason for reason, _ in (ends(status=0), ends(status=1 << 8), ends(status=KILLED))}
    assert not told & verdict.TOLD
    assert {"timeout-wall", "seccomp", "killed-by-caller", "lost"} <= verdict.TOLD


def test_evidence_of_an_unknown_kind_is_a_mistake_of_ours():
    with pytest.raises(TypeError):
        Evidence(statu=1)
