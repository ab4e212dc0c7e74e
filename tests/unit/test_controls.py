# SPDX-License-Identifier: Apache-2.0
"""The table of controls: what its rows name is there, under that name, and nothing is beside it."""
import re

import pytest

import mrunc  # noqa: F401  registers the package
from mrunc.sandbox import controls, tiers
from mrunc.sandbox.host import kernel
from mrunc.sandbox.launch import child, gate
from mrunc.sandbox.controls import CONTROLS
from mrunc.sandbox.plan.spec import Spec
from mrunc.syscalls import process

ROWS = pytest.mark.parametrize("row", CONTROLS.values(), ids=list(CONTROLS))


def test_each_row_is_read_back_and_each_reader_has_a_row():
    assert {row.read for row in CONTROLS.values()} == set(gate.READERS)


@ROWS
def test_a_row_has_documented_parts_only(row):
    documented = re.findall(r"^ *(\w+): ", controls.Row.__doc__, re.M)
    defaults = {name for name in vars(controls.Row) if not name.startswith("_")}
    assert set(vars(row)) | defaults == set(documented)


@pytest.mark.parametrize("step", child.STAGES.values(), ids=list(child.STAGES))
def test_an_optional_step_is_in_each_tier_that_has_its_control(step):
    assert step.control in CONTROLS or step.control in (None, "limits")
    for name in tiers.NAMES if step.optional else ():
        if step.control not in tiers.TIERS[name].lacks:
            assert child.TIERS[name].count(step) == 1, name


def test_what_may_be_left_out_as_a_whole_step():
    assert [step.control for step in child.STAGES.values() if step.optional] == [
        "timens", "parent-death", "session", "userns-limit", "root-ro", "hostname", "nnp", "landlock"]


@ROWS
def test_a_row_names_tiers_controls_options_and_features_that_exist(row):
    for part in (row.lacks, row.lacks_without_scope, row.lacks_for_user, row.vital):
        assert set(part) <= set(tiers.NAMES)
    assert set(row.needed_by) <= set(CONTROLS) - {row.name}
    assert all(hasattr(Spec(["true"], environ={}), option) for option in row.options)
    assert {feature for feature, _ in row.other_ways} <= {feature for feature, _, _ in kernel.TABLE}


def test_a_control_that_a_kernel_can_lack_says_since_when_it_is_there():
    found = kernel.Features()
    found.landlock_abi, found.landlock_off, found.landlock_refused, found.timens = 0, False, None, False
    lacking = {name: found.lacks(name) for name in CONTROLS if found.lacks(name)}
    assert set(lacking) == {"landlock", "landlock-signals", "timens"}
    assert all(re.search(r"Linux \d+\.\d+", why) for why in lacking.values()), lacking


def test_each_namespace_of_clone3_belongs_to_one_control():
    kinds = [row.kind for row in CONTROLS.values() if row.kind]
    assert sorted(kinds) == sorted([kind for kind, _ in process.NAMESPACES] + ["time"])


def test_what_a_row_asks_is_left_out_by_name_and_by_what_a_tier_lacks():
    class Asking:
        lacks, root, cap_mask, writes_host_files, listening, group, group_notes = {}, True, 0, True, None, [], {}
        spec = Spec(["true"], environ={}, unsafe_without="netns")

        def left_out(self, name):
            return name in self.spec.unsafe_without
    plan = Asking()
    found = controls.asked(plan)
    assert list(found) == list(CONTROLS) and all(isinstance(asked, bool) for asked in found.values())
    assert [name for name, asked in found.items() if not asked] == \
        ["netns", "limits.rlimit", *controls.GROUP_LIMITS, "ledger", "trace"]
    plan.lacks, plan.group_notes = {"caps": "why"}, {"limits.io": "why"}
    found = controls.asked(plan)
    assert not found["caps"] and found["limits.io"]
