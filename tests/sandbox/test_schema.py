# SPDX-License-Identifier: Apache-2.0
"""The published schemas: made from one table, valid by another implementation, and neither lax nor stricter than the results."""
import copy
import json
import os
import subprocess

import pytest

import mrunc  # noqa: F401  registers the package
from conftest import PYTHON, ROOT
from mrunc.sandbox.result import reasons, result, schema

#: What the checker knows, and what only says something to people.
KNOWN = {"type", "enum", "const", "minimum", "maximum", "properties", "required", "items", "oneOf"}
WORDS = {"$schema", "$id", "title", "description"}

ROW = {"syscall": "ptrace", "args": {"request": "PTRACE_ATTACH", "pid": 1, "addr": 0, "data": {"unreadable": "EPERM"}},
       "errno": "EPERM", "count": 3, "pid": 4, "exe": "/box/sample", "first_s": 0.1, "last_s": 0.2, "interrupted": 0}
PROCESS = {"pid": 2, "parent": 1, "exe": "/usr/bin/sh", "argv": ["sh", "-c", "id"], "cwd": "/box", "uid": 0, "started_s": 0.01,
           "ended_s": None, "sha256": None, "confirmed": True, "count": 1}
SAMPLE = {"t_s": 0.0, "cpu_s": 0.0, "memory_bytes": 4096, "processes": 1}


def sample_result(**changed):
    """A result as as_dict makes it."""
    made = result.Result(argv=["sample"], reason="exited", detail="exited with status 0", returncode=0, exit_code=0).as_dict()
    made.update(changed)
    return made


def keywords(node):
    """Every keyword in a schema."""
    for word, value in node.items():
        yield word
        inner = value.values() if word == "properties" else value if word == "oneOf" else [value] if word == "items" else ()
        for child in inner:
            yield from keywords(child)


@pytest.mark.parametrize("made", [schema.result_schema(), schema.ledger_schema()])
def test_the_checker_knows_every_keyword_that_the_schemas_use(made):
    assert set(keywords(made)) <= KNOWN | WORDS


def test_the_files_are_made_from_the_table():
    done = subprocess.run([PYTHON, os.path.join(ROOT, ".ci", "docs.py"), "--check"], stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_table_has_every_field_and_every_measure():
    assert list(schema.FIELDS) == list(result.FIELDS)
    assert list(schema.FIELDS["usage"]["properties"]) == list(result.USAGE)
    assert result.TOLD < set(reasons.REASONS)


def test_an_empty_result_and_a_full_one_are_results():
    assert list(schema.mistakes(sample_result(), schema.RESULT)) == []
    full = sample_result(refused=[ROW], processes=[PROCESS], samples=[SAMPLE], unheard_of={"a": [1]})
    assert list(schema.mistakes(full, schema.RESULT)) == []


WRONG = [
    (dict(reason="bored"), "reason"), (dict(returncode=256), "returncode"), (dict(returncode=True), "returncode"),
    (dict(argv="sample"), "argv"), (dict(argv=["a", 1]), "argv[1]"), (dict(usage={}), "usage"), (dict(controls=None), "controls"),
    (dict(refused=[dict(ROW, count=-1)]), "refused[0].count"), (dict(processes=[{"pid": 1}]), "processes[0]"),
    (dict(samples=[dict(SAMPLE, t_s="0")]), "samples[0].t_s"), (dict(detail=None), "detail"),
    (dict(policy={"name": "x"}), "policy"), (dict(changes=[{"path": "/x", "change": "moved", "kind": "file"}]),
                                              "changes[0].change"),
]


@pytest.mark.parametrize("changed, where", WRONG)
def test_what_is_no_result_is_named(changed, where):
    assert [place for place, _ in schema.mistakes(sample_result(**changed), schema.RESULT)][0] == where


def test_a_reader_lets_the_words_of_a_newer_version_pass():
    assert list(schema.mistakes(sample_result(reason="bored"), schema.RESULT, closed=False)) == []


def test_nesting_is_bounded():
    deep = sample_result()
    deep["more"] = inner = {}
    for _ in range(schema.DEEPEST + 2):
        inner["x"] = inner = {}
    assert [words for _, words in schema.mistakes(deep, schema.RESULT)] == ["nested too deep"]


LINES = [dict(ROW, schema=1, event="refused"), dict(PROCESS, schema=1, event="exec"), {"schema": 1, "event": "exit", "pid": 2}]


def test_lines_of_the_ledger_have_their_form():
    for line in LINES:
        assert list(schema.mistakes(line, schema.LEDGER)) == []
        assert list(schema.mistakes(dict(line, event="bored"), schema.LEDGER))
        missing = copy.copy(line)
        del missing["pid"]
        assert list(schema.mistakes(missing, schema.LEDGER))


def test_another_implementation_agrees(inside, tmp_path):
    """Debian's python3-jsonschema, on results of runs and on what is no result."""
    report = inside.run("sh", "-c", "echo > x", options=["--changes", os.path.join(inside.scratch, "changes")]).result
    failed = inside.run("no-such-program").result
    assert report["changes"] and failed["reason"] == "exec"
    full = sample_result(refused=[ROW], processes=[PROCESS], samples=[SAMPLE])
    cases = {"result": [[report, True], [failed, True], [full, True]] + [[sample_result(**changed), False] for changed, _ in WRONG],
             "ledger": [[line, True] for line in LINES] + [[dict(line, event="bored"), False] for line in LINES]}
    (tmp_path / "cases").write_text(json.dumps(cases))
    code = ("import json, sys, jsonschema\n"
            "for name, cases in json.load(open(sys.argv[1])).items():\n"
            "    schema = json.load(open('%s/docs/%s.schema.json' % (sys.argv[2], name)))\n"
            "    jsonschema.Draft202012Validator.check_schema(schema)\n"
            "    check = jsonschema.Draft202012Validator(schema)\n"
            "    for number, (case, good) in enumerate(cases):\n"
            "        found = [error.message for error in check.iter_errors(case)]\n"
            "        assert bool(found) != good, (name, number, found)\n"
            "print('agreed')\n")
    done = subprocess.run(["/usr/bin/python3", "-c", code, str(tmp_path / "cases"), ROOT], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True)
    assert done.stdout == "agreed\n", done.stderr
