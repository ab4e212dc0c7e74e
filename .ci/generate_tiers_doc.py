# SPDX-License-Identifier: Apache-2.0
"""Writes the table of sandbox/tiers.py between the marks in docs/tiers.md.

    python3 .ci/generate_tiers_doc.py [--check]
"""
import os
import sys
import textwrap

from generated import HERE, project, settle

TARGET = os.path.join(HERE, "docs", "tiers.md")
BEGIN, END = "<!-- tiers: begin -->\n", "<!-- tiers: end -->\n"


def chapters():
    """Lines of Markdown: a chapter for each weaker tier."""
    tiers, controls = project("sandbox.tiers"), project("sandbox.controls")
    for tier in list(tiers.TIERS.values())[1:]:
        yield "## What `%s` does not hold" % tier.name
        yield ""
        for sentence in tier.not_held:
            yield textwrap.fill("- " + sentence, 100, subsequent_indent="  ", break_on_hyphens=False)
        yield ""
        yield "| missing control | what it does in the full tier | why it is missing |"
        yield "|---|---|---|"
        for lacks, where in ((tier.lacks, ""), (tier.lacks_without_scope, " (Landlock ABI below 6)"),
                             (tier.lacks_for_user, " (an ordinary user)")):
            for name, why in lacks.items():
                yield "| `%s`%s | %s | %s |" % (name, where, controls.CONTROLS[name].what, why)
        yield ""
        yield "| refused option | why | use instead |"
        yield "|---|---|---|"
        for option, _, reason, remedy in tier.refuses:
            remedy = "`%s`" % remedy if remedy and remedy.startswith("--") else remedy or ""
            yield "| `%s` | %s | %s |" % (option, reason, remedy)
        vital = ", ".join("`%s`" % name for name in sorted(tier.vital))
        yield "| `--unsafe-without` of %s | the other controls depend on it | |" % vital
        yield ""


def text():
    """The whole of docs/tiers.md with fresh chapters."""
    with open(TARGET, encoding="utf-8") as stream:
        before, rest = stream.read().split(BEGIN)
    return before + BEGIN + "\n" + "\n".join(chapters()) + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    sys.exit(settle("docs/tiers.md", text(), "make docs"))
