# SPDX-License-Identifier: Apache-2.0
"""What a run gives back, in which order, and which optional features it takes up."""
import inspect
import os
import re

import pytest

import mrunc  # noqa: F401  registers the package
from mrunc.sandbox import part
from mrunc.sandbox.errors import SandboxError, stage
from mrunc.sandbox.launch import parts, provisions, run as launch
from mrunc.sandbox.plan.spec import Spec
from test_layout import arrows, imported, room_of


def wanted(**options):
    """Names of the classes of the parts that a Spec with these options wants."""
    plan = launch.prepare(Spec(["true"], **options))
    try:
        return [type(each).__name__ for each in parts.wanted(plan)]
    finally:
        plan.release()


def test_a_plain_run_has_no_part():
    assert wanted() == []
    assert not {name for name in imported("/usr/bin/python3", "run", "--", "/bin/true") if re.search(
        r"sandbox\.(part|observe|changes|cgroup|running\.(cputime|reaper|terminal))\b", name)}


@pytest.mark.parametrize("options, names", [
    ({"changes": True}, ["Aftermath"]),
    ({"ledger": True}, ["ListenerPart"]),
    ({"cpu_time": 1}, ["MeterPart"]),
    ({"samples": True}, ["MeterPart", "SamplerPart"]),
    ({"max_output": 1}, ["OutputLimit"]),
    ({"changes": True, "ledger": True, "cpu_time": 1}, ["ListenerPart", "Aftermath", "MeterPart"]),
    pytest.param({"tier": "process"}, ["PrivatePart", "Reaper"], marks=pytest.mark.needs("landlock")),
])
def test_an_option_brings_its_part(options, names):
    assert wanted(**options) == names


def test_the_run_imports_no_feature():
    features = {"sandbox.part", "sandbox.launch.private"} | {
        "sandbox.running." + name for name in ("cputime", "output_limit", "reaper", "sampling",
                                               "terminal", "watchdog")}
    for module in ("launch.run", "launch.provisions", "running.supervise", "running.ending"):
        found = {target for start, target, _ in arrows() if start == "sandbox." + module}
        assert not found & features, module
        assert not {name for name in found if room_of(name) in ("observe", "changes", "cgroup")}


def test_parts_override_nothing_but_hooks():
    hooks = {name for name in vars(part.Part) if not name.startswith("_")}
    called = inspect.getsource(launch) + inspect.getsource(launch.ending) + inspect.getsource(
        __import__("mrunc.sandbox.running.supervise", fromlist=["x"]))
    assert hooks == {name for name in hooks if re.search(r"\bpart\.%s\b" % name, called)}


def test_what_is_held_goes_back_in_reverse_order_whatever_fails():
    held, done = provisions.Held(), []

    def step(name, error=None):
        done.append(name)
        if error is not None:
            raise error
    held.add(step, 1)
    held.add(step, 2, OSError(5, "no"))
    held.add(step, 3, KeyboardInterrupt())
    held.add(step, 4, ValueError())
    held.add(step, 5)
    held.drop(step, 5)
    with pytest.raises(KeyboardInterrupt):
        held.release()
    assert done == [4, 3, 2, 1]
    held.release()
    assert done == [4, 3, 2, 1]


def test_what_may_be_closed_late_is_handed_on():
    held, (read, write) = provisions.Held(), os.pipe()
    held.late = []
    assert held.keep(read) == read and held.keep(write) == write
    held.release()
    assert held.late == [write, read]
    for fd in held.late:
        os.close(fd)


def test_a_stage_names_the_file_the_call_or_what_was_done():
    for error, what in ((OSError(2, "No such file or directory", "/x"), "/x"),
                        (OSError(2, "No such file or directory", b"/x"), "/x"),
                        (OSError(2, "No such file or directory"), "opening")):
        with pytest.raises(SandboxError) as caught:
            with stage("gate", "opening"):
                raise error
        assert caught.value.line() == "gate: %s: No such file or directory" % what
        assert caught.value.errno == 2
    with pytest.raises(ZeroDivisionError):
        with stage("gate"):
            raise ZeroDivisionError
