# SPDX-License-Identifier: Apache-2.0
"""Puts the table of `mrunc policy diff default --against all --markdown` between the marks in docs/policy.md.

    python3 .ci/generate_policy_doc.py [--check]
"""
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TARGET = os.path.join(HERE, "docs", "policy.md")
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"


def text():
    """The whole of docs/policy.md with a fresh table."""
    with open(TARGET, encoding="utf-8") as stream:
        before, rest = stream.read().split(BEGIN)
    table = subprocess.check_output([sys.executable, "-I", "-S", os.path.join(HERE, "mrunc.py"), "policy", "diff", "default",
                                     "--against", "all", "--markdown"], universal_newlines=True)
    return before + BEGIN + "\n" + table + "\n" + END + rest.split(END)[1]


def main():
    made = text()
    with open(TARGET, encoding="utf-8") as stream:
        if stream.read() == made:
            return 0
    if "--check" in sys.argv[1:]:
        print("docs/policy.md is behind the tables: make docs", file=sys.stderr)
        return 1
    with open(TARGET, "w", encoding="utf-8") as out:
        out.write(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
