# SPDX-License-Identifier: Apache-2.0
"""Tests that the mutants of `make mutants` fit the product: one place and tests for each."""
import collections
import os
import sys

import pytest

from conftest import ROOT

sys.path.insert(0, os.path.join(ROOT, "tests", "mutants"))

import run  # noqa: E402

MUTANTS = run.mutants()
TEXTS = run.sources()
TESTS = run.test_files()


def test_mutants_are_many_and_have_a_name_each():
    count = collections.Counter(mutant.name for mutant in MUTANTS)
    assert len(count) >= 120 and set(count.values()) == {1}


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_mutant_fits_the_product(mutant):
    place, = run.places(mutant, TEXTS) or ["nowhere"]
    assert place in TEXTS, "the line has changed: change the mutant, or drop it with its line"
    assert mutant.new != mutant.old and mutant.true and mutant.tests
    compile(TEXTS[place].replace(mutant.old, mutant.new), place, "exec")
    assert {test.partition("[")[0] for test in mutant.tests} <= set(TESTS)


def test_a_block_that_is_no_mutant_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("# words\n[one]\n- if a:\n-     b\n+ c\ntest: test_x[root]\n"
                                    "true: it is so\nas: user\n")
    one, = run.mutants(str(tmp_path))
    assert (one.name, one.old, one.new, one.tests, one.true, one.user) == (
        "a/one", "if a:\n    b", "c", ["test_x[root]"], "it is so", True)
    for line in ("- before any name\n", "[one]\nwords\n", "[one]\nas: root\n"):
        (tmp_path / "a.txt").write_text(line)
        with pytest.raises(ValueError):
            run.mutants(str(tmp_path))
