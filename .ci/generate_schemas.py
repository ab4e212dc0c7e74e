# SPDX-License-Identifier: Apache-2.0
"""Writes docs/*.schema.json and the table of reasons in docs/result.md.

Their sources are schema.py and reasons.py in sandbox/result.

    python3 .ci/generate_schemas.py [--check]
"""
import json
import os
import sys

from generated import HERE, project, settle

PAGE = os.path.join("docs", "result.md")
BEGIN, END = "<!-- reasons: begin -->\n", "<!-- reasons: end -->\n"


def made():
    """Yields (path, text) of each file."""
    schema, reasons = project("sandbox.result.schema"), project("sandbox.result.reasons")
    yield "docs/result.schema.json", json.dumps(schema.result_schema(), indent=2) + "\n"
    yield "docs/ledger.schema.json", json.dumps(schema.ledger_schema(), indent=2) + "\n"
    with open(os.path.join(HERE, PAGE), encoding="utf-8") as stream:
        before, rest = stream.read().split(BEGIN)
    rows = "".join("| `%s` | %s |\n" % (name, words) for name, (words, _) in reasons.REASONS.items())
    yield PAGE, before + BEGIN + "| reason | why the run ended |\n|---|---|\n" + rows + END + rest.split(END)[1]


if __name__ == "__main__":
    sys.exit(max(settle(path, text, "make docs") for path, text in made()))
