# SPDX-License-Identifier: Apache-2.0
"""Limits on hosts whose controllers belong to cgroup v1: held where v2 has the controller, refused by name where it has not,
and a refusal leaves nothing."""
import os

import pytest

LIMITS = {"memory": ("limits.memory", ["--memory", "64M"]), "pids": ("limits.pids", ["--pids", "20"]),
          "cpu": ("limits.cpu", ["--cpus", "0.5"])}
UNIFIED = "/sys/fs/cgroup/unified"


@pytest.fixture
def held():
    """{controller} that cgroup v2 has here."""
    try:
        with open(os.path.join(UNIFIED, "cgroup.controllers")) as stream:
            return set(stream.read().split())
    except FileNotFoundError:
        return set()


def groups():
    """[path] of every group of mrunc's."""
    return [os.path.join(place, name) for place, names, _ in os.walk("/sys/fs/cgroup") for name in names
            if name.startswith("mrunc")]


@pytest.mark.vm(cgroup="hybrid")
@pytest.mark.vm(cgroup="v1")
@pytest.mark.parametrize("controller", sorted(LIMITS))
def test_a_limit_is_held_or_refused_by_name(inside, held, controller):
    control, options = LIMITS[controller]
    done = inside.run("/bin/echo", "ran", options=options)
    if controller in held:
        rows = {row["name"]: row for row in done.result["controls"]}
        assert (done.rc, done.out, rows[control]["in_force"]) == (0, "ran\n", True), done
    else:
        assert (done.rc, done.out) == (125, ""), done
        assert done.err.startswith("mrunc: limits: --") and "cgroup v1" in done.err.splitlines()[0], done
        assert "mrunc: remedy: " in done.err and "--best-effort %s" % control in done.err, done
    assert groups() == []


@pytest.mark.vm(cgroup="hybrid")
@pytest.mark.vm(cgroup="v1")
def test_with_best_effort_the_rest_is_held(inside, held):
    options = [word for _, words in LIMITS.values() for word in words] + \
        ["--best-effort", ",".join(control for control, _ in LIMITS.values())]
    done = inside.run("/bin/echo", "ran", options=options)
    rows = {row["name"]: row for row in done.result["controls"]}
    assert (done.rc, done.out) == (0, "ran\n"), done
    for controller, (control, _) in LIMITS.items():
        assert rows[control]["in_force"] == (controller in held), rows[control]
    assert groups() == []


@pytest.mark.vm(cgroup="hybrid")
@pytest.mark.vm(cgroup="v1")
def test_a_refusal_of_one_among_several_leaves_no_group(inside):
    done = inside.run("/bin/echo", "ran", options=[word for _, words in LIMITS.values() for word in words])
    assert (done.rc, done.out) == (125, "") and groups() == [], done
