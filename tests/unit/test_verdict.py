# SPDX-License-Identifier: Apache-2.0
"""The verdict: each piece of evidence gives its reason, and none is overruled by a number alone."""
import pytest

from mrunc.sandbox.result.result import TOLD
from mrunc.sandbox.result.verdict import Evidence, judge

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
    (dict(init_status=125 << 8), ("lost", 137)),
    (dict(init_status=0, failure="the supervisor failed"), ("lost", 137)),
    (dict(status=KILLED, deadline=2.0), ("timeout-wall", 124)),
    (dict(status=0, deadline=2.0), ("timeout-wall", 124)),
    (dict(init_status=KILLED, deadline=2.0), ("timeout-wall", 124)),
    (dict(status=KILLED, cpu_deadline=2.0), ("timeout-cpu", 124)),
    (dict(status=0, cpu_deadline=2.0, deadline=3.0), ("timeout-wall", 124)),
    (dict(status=KILLED, overflow=100), ("output-limit", 137)),
    (dict(status=24, rlimits={"cpu": (1, 2)}, cpu_used=0.98), ("rlimit-cpu", 152)),
    (dict(status=24, rlimits={"cpu": (1, 2)}, cpu_used=0.1), ("signal", 152)),
    (dict(status=24, rlimits={"cpu": (1, 2)}), ("signal", 152)),
    (dict(status=24, rlimits={}, cpu_used=9.0), ("signal", 152)),
    (dict(status=KILLED, rlimits={"cpu": (1, 2)}, cpu_used=1.1), ("signal", 137)),
    (dict(status=KILLED, rlimits={"cpu": (1, 2)}, cpu_used=2.1), ("rlimit-cpu", 137)),
    (dict(status=24, rlimits={"cpu": (4, 5)}, cpu_used=4.0, cpu_time=1.5), ("timeout-cpu", 124)),
    (dict(status=25, rlimits={"fsize": (10, 10)}), ("file-size", 153)),
    (dict(status=25, rlimits={"fsize": (1 << 64, 1 << 64)}), ("signal", 153)),
    (dict(status=25), ("signal", 153)),
    (dict(status=KILLED, insisted=2), ("killed-by-caller", 130)),
    (dict(status=KILLED, forbidden=("bpf", "cmd=0", None)), ("seccomp", 159)),
    (dict(status=KILLED, forbidden=("bpf", "cmd=0", None), deadline=2.0), ("seccomp", 159)),
    (dict(status=KILLED, forbidden=("bpf", "cmd=0", None), insisted=2, overflow=1), ("seccomp", 159)),
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
    assert not told & TOLD
    assert {"timeout-wall", "seccomp", "killed-by-caller", "lost"} <= TOLD


def test_evidence_of_an_unknown_kind_is_a_mistake_of_ours():
    with pytest.raises(TypeError):
        Evidence(statu=1)


@pytest.mark.parametrize("given", [
    dict(status=1 << 8), dict(status=KILLED), dict(status=11), dict(status=31), dict(status=31, policy="p"), dict(init_status=KILLED),
    dict(init_status=125 << 8), dict(init_status=0, failure="the supervisor failed"), dict(status=KILLED, deadline=2.0),
    dict(status=KILLED, deadline=2.0, stopped=True), dict(status=KILLED, cpu_deadline=2.0), dict(status=KILLED, overflow=100),
    dict(status=24, rlimits={"cpu": (1, 2)}, cpu_used=0.98), dict(status=25, rlimits={"fsize": (10, 10)}),
    dict(status=KILLED, insisted=2), dict(status=KILLED, insisted=KILLED), dict(status=15, passed_on={15: 1}),
    dict(status=KILLED, forbidden=("bpf", "cmd=BPF_PROG_LOAD", None)), dict(status=KILLED, group=dict(oom=1, oom_kill=2), memory=1 << 20),
    dict(status=KILLED, group=dict(oom_kill=2)), dict(status=0, group=dict(oom_kill=2)), dict(status=1 << 8, group=dict(pids_max=3)),
    dict(status=1 << 8, refused=0), dict(status=1 << 8, refused=2), dict(status=127 << 8)])
def test_every_end_but_success_has_evidence_and_advice_in_one_sentence(given):
    found = judge(Evidence(**given))
    assert found.advice and "\n" not in found.advice and len(found.advice) < 100 and not found.advice.endswith(".")
    assert found.evidence and all(isinstance(words, str) for words in found.evidence)


def test_a_success_needs_no_advice():
    found = judge(Evidence(status=0))
    assert (found.advice, found.evidence) == (None, ["pid 1 of the sandbox: the program exited with status 0"])


def test_the_evidence_says_who_saw_what():
    group = dict(oom=1, oom_kill=2, pids_max=3, throttled=4)
    assert judge(Evidence(status=9 | 128, group=group, memory=1 << 20, passed_on={15: 2, 1: 1})).evidence == [
        "mrunc got SIGHUP and passed it on", "mrunc got SIGTERM 2 times and passed it on",
        "the control group, memory.events: oom 1", "the control group, memory.events: oom_kill 2",
        "the control group, pids.events: max 3", "the control group, cpu.stat: nr_throttled 4",
        "pid 1 of the sandbox: the program was killed by SIGKILL, dumping core"]


# What a control group counted

def counted(**changed):
    found = dict(oom=0, oom_kill=0, memory_max=0, pids_max=0, throttled=0, split={})
    found.update(changed)
    return found


OOM = counted(oom=1, oom_kill=2)
MEMORY = 128 << 20


@pytest.mark.parametrize("given, wanted", [
    (dict(status=KILLED, group=OOM, memory=MEMORY), ("oom", 137)),
    (dict(init_status=KILLED, group=OOM, memory=MEMORY), ("oom", 137)),
    (dict(status=KILLED, group=counted(memory_max=90), memory=MEMORY), ("signal", 137)),
    (dict(init_status=KILLED, group=counted(), memory=MEMORY), ("lost", 137)),
    (dict(status=0, group=OOM, memory=MEMORY), ("exited", 0)),
    (dict(status=15, group=OOM, memory=MEMORY), ("signal", 143)),
    (dict(status=137 << 8, group=OOM, memory=MEMORY), ("exited", 137)),
    (dict(init_status=KILLED, group=OOM, memory=MEMORY, deadline=2.0), ("timeout-wall", 124)),
    (dict(init_status=KILLED, group=OOM, memory=MEMORY, insisted=2), ("killed-by-caller", 130)),
    (dict(status=2 << 8, group=counted(pids_max=3), pids=20), ("pids-max", 2)),
    (dict(status=6, group=counted(pids_max=3), pids=20), ("pids-max", 134)),
    (dict(status=0, group=counted(pids_max=3), pids=20), ("exited", 0)),
    (dict(status=2 << 8, group=counted(), pids=20), ("exited", 2)),
    (dict(status=31, group=counted(pids_max=3), pids=20), ("seccomp", 159)),
    (dict(status=KILLED, group=counted(oom_kill=2, oom=1, pids_max=3), memory=MEMORY, pids=20), ("oom", 137)),
    (dict(status=0, deadline=2.0, group=counted(pids_max=3), pids=20), ("timeout-wall", 124)),
])
def test_what_the_group_counted_decides_where_the_status_agrees(given, wanted):
    assert ends(**given) == wanted


def test_limits_that_were_hit_are_told_whatever_the_reason():
    found = judge(Evidence(status=0, deadline=2.0, memory=MEMORY, cpus=0.5, pids=20,
                           group=counted(oom=1, throttled=4, pids_max=9)))
    assert found.limits_hit == {"timeout": 2.0, "memory": MEMORY, "cpus": 0.5, "pids": 20}
    assert judge(Evidence(status=0, memory=MEMORY, group=counted(memory_max=5))).limits_hit == {}, "touched is not hit"
    assert judge(Evidence(status=0, group=counted(oom=1, oom_kill=1, pids_max=1))).limits_hit == {}, "not our limits"


def test_an_oom_says_whose_memory_ran_out_and_what_filled_it():
    split = {"anon": 4 << 20, "file": 100 << 20, "shmem": 90 << 20, "kernel": 1000, "sock": 0}
    found = judge(Evidence(status=KILLED, memory=MEMORY, group=counted(oom=1, oom_kill=2, split=split)))
    assert found.detail == ("killed for memory: the limit of 128M was reached (4 MiB of programs, 90 MiB of files in memory, "
                            "10 MiB of cached files)")
    assert found.advice == "allow more with memory"
    found = judge(Evidence(status=KILLED, memory=MEMORY, group=counted(oom_kill=1)))
    assert found.detail == "killed because the host ran out of memory" and found.limits_hit == {}
    assert judge(Evidence(status=0, memory=MEMORY, group=OOM)).detail == \
        "exited with status 0; a process in it was killed for memory"


def test_a_program_that_ran_into_the_limit_on_processes_is_told_how_often():
    found = judge(Evidence(status=2 << 8, pids=20, group=counted(pids_max=1)))
    assert found.detail == "exited with status 2, after the limit of 20 on processes and threads had refused one"
    found = judge(Evidence(status=6, pids=20, group=counted(pids_max=7)))
    assert found.detail == "killed by SIGABRT, after the limit of 20 on processes and threads had refused 7"
    assert found.advice == "allow more with pids"
