# SPDX-License-Identifier: Apache-2.0
"""Puts the table of `mrunc policy diff default --against all --markdown` between the marks in docs/policy.md.

    python3 .ci/generate_policy_doc.py [--check]
"""
import os
import subprocess
import sys

from generated import HERE, settle

TARGET = os.path.join(HERE, "docs", "policy.md")
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"


def text():
    """The whole of docs/policy.md with a fresh table."""
    with open(TARGET, encoding="utf-8") as stream:
        before, rest = stream.read().split(BEGIN)
    table = subprocess.check_output([sys.executable, "-I", "-S", os.path.join(HERE, "mrunc.py"), "policy", "diff", "default",
                                     "--against", "all", "--markdown"], universal_newlines=True)
    return before + BEGIN + "\n" + table + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    sys.exit(settle("docs/policy.md", text(), "make docs"))
