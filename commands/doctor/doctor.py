# SPDX-License-Identifier: Apache-2.0
"""Runs `mrunc doctor`: prints which tier runs here, what is missing, and the remedies."""
from ...sandbox.caller import program_name
from ...sandbox.errors import usage
from .. import help
from ..options import Option, parse
from ..output import escaped, write
from .finding import MISSING, OK, WEAK
from . import examine

GROUP = "Options of doctor"
OPTIONS = (
    Option("-v --verbose", "verbose", None, "show the evidence of what works, too", GROUP),
    Option("--json", "json", None, "print JSON", GROUP),
    Option("-h --help", "help", None, "show this text", GROUP),
)
ACTIONS = ()
EXIT = (("0", "the full tier runs"), ("1", "only a weaker tier runs"), ("3", "no tier runs"))
INDENT = 10


def help_text():
    """Returns the help of doctor."""
    about = ("Tries what mrunc needs of this host, each check in its own child process.",)
    return help.text("doctor [options]", ((GROUP, OPTIONS),), about, exits=EXIT)


def main(argv):
    """Runs the verb doctor. argv: list of str after the verb. Returns the exit status."""
    values, words = parse(argv, OPTIONS, "doctor")
    if values.get("help"):
        write(1, help_text())
        return 0
    if words:
        raise usage("doctor takes no arguments: %s" % words[0],
                    remedy="%s doctor --help" % program_name())
    report = examine.examine()
    if values.get("json"):
        import json
        write(1, json.dumps(report, indent=2) + "\n")
    else:
        write(1, "".join(escaped(line) + "\n" for line in lines(report, values.get("verbose"))))
    return examine.exit_status(report)


def lines(report, verbose=False):
    """Yields the lines of a report (a dict of examine.py) for people."""
    host = report["host"]
    yield report["line"]
    yield "%s, Linux %s %s, %s, mrunc %s" % (
        host["system"], host["kernel"], host["machine"],
        "root" if host["uid"] == 0 else "uid %d" % host["uid"], report["version"])
    good = [row for row in report["findings"] if row["state"] == OK]
    if verbose:
        for row in good:
            yield "%-9s%-28s %s" % (OK, row["name"], row["evidence"])
    else:
        yield from wrapped(OK, ", ".join(row["name"] for row in good))
    untried = [row for row in report["findings"] if row["evidence"].startswith("not tried")]
    shown = {}
    for state in (MISSING, WEAK):
        for row in report["findings"]:
            if row["state"] == state and row not in untried:
                yield from wrapped(state, "%s: %s" % (row["name"], row["evidence"]))
                yield from wrapped("", "effect: %s" % row["without"])
                yield from remedy_lines(row, shown)
        if untried and state == MISSING:
            yield from wrapped(MISSING, "%s: not tried, each needs a user namespace" % ", ".join(
                row["name"] for row in untried))
    if report["tier"] != "full" or verbose:
        for name, tier in report["tiers"].items():
            yield from wrapped("tier", "%s: %s" % (
                name, "runs" if tier["runs"] else tier["reason"]))


def remedy_lines(row, shown):
    """Yields the lines of a finding's remedy, in full only the first time.

    row: a finding as a dict
    shown: {why: name of the finding that it was shown for}, updated
    """
    remedy = row["remedy"]
    if not remedy:
        return
    if remedy["why"] in shown:
        yield " " * INDENT + "remedy: as for %s" % shown[remedy["why"]]
        return
    shown[remedy["why"]] = row["name"]
    narrower = remedy["narrower"]
    yield from wrapped("", "remedy: %s" % remedy["why"])
    for command in remedy["commands"]:
        yield " " * (INDENT + 2) + command
    if remedy["warning"]:
        yield from wrapped("", "careful: %s" % remedy["warning"])
    if narrower is not None:
        yield from wrapped("", narrower["why"])
        for command in narrower["commands"]:
            yield " " * (INDENT + 2) + command


def wrapped(head, text):
    """Returns the lines of a text that stands beside a head."""
    return help.wrapped(text, "%-*s" % (INDENT, head), " " * INDENT)
