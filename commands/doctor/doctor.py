# SPDX-License-Identifier: Apache-2.0
"""`mrunc doctor`: which tier would run here, and what to do about the rest."""
from ...sandbox.caller import program_name
from ...sandbox.errors import usage
from .. import help
from ..options import Option, parse
from ..output import escaped, write
from .finding import MISSING, OK, WEAK
from . import examine

GROUP = "Options of doctor"
OPTIONS = (
    Option("-v --verbose", "verbose", None, "also the evidence of what is well", GROUP),
    Option("--json", "json", None, "JSON", GROUP),
    Option("-h --help", "help", None, "this text", GROUP),
)
ACTIONS = ()
EXIT = (("0", "the full tier would run"), ("1", "a weaker tier would run"), ("3", "none would"))
WIDTH, INDENT = 112, 10


def help_text():
    """The help of doctor."""
    about = ("Tries what mrunc needs here, each thing in a process that is thrown away.",)
    return help.text("doctor [options]", ((GROUP, OPTIONS),), about, exits=EXIT)


def main(argv):
    """argv: list of str after the verb.  Returns the exit status."""
    values, words = parse(argv, OPTIONS, "doctor")
    if values.get("help"):
        write(1, help_text())
        return 0
    if words:
        raise usage("doctor takes no word: %s" % words[0], remedy="%s doctor --help" % program_name())
    report = examine.examine()
    if values.get("json"):
        import json
        write(1, json.dumps(report, indent=2) + "\n")
    else:
        write(1, "".join(escaped(line) + "\n" for line in lines(report, values.get("verbose"))))
    return examine.exit_status(report)


def lines(report, verbose=False):
    """The report for people."""
    host = report["host"]
    yield report["line"]
    yield "%s, Linux %s %s, %s, mrunc %s" % (host["system"], host["kernel"], host["machine"],
                                             "root" if host["uid"] == 0 else "uid %d" % host["uid"], report["version"])
    good = [row for row in report["findings"] if row["state"] == OK]
    if verbose:
        for row in good:
            yield "%-9s%-28s %s" % (OK, row["name"], row["evidence"])
    else:
        for line in wrapped(OK, ", ".join(row["name"] for row in good)):
            yield line
    idle = [row for row in report["findings"] if row["evidence"].startswith("not tried")]
    told = {}
    for state in (MISSING, WEAK):
        for row in report["findings"]:
            if row["state"] == state and row not in idle:
                for line in wrapped(state, "%s: %s" % (row["name"], row["evidence"])):
                    yield line
                for line in wrapped("", "effect: %s" % row["without"]):
                    yield line
                for line in remedy_lines(row, told):
                    yield line
        if idle and state == MISSING:
            for line in wrapped(MISSING, "%s: not tried, each needs a user namespace" % ", ".join(row["name"] for row in idle)):
                yield line
    if report["tier"] != "full" or verbose:
        for name, tier in report["tiers"].items():
            for line in wrapped("tier", "%s: %s" % (name, "runs" if tier["runs"] else tier["reason"])):
                yield line


def remedy_lines(row, told):
    """A remedy, once; told: {why: name of the finding that it stood under}."""
    remedy = row["remedy"]
    if not remedy:
        return
    if remedy["why"] in told:
        yield " " * INDENT + "remedy: as for %s" % told[remedy["why"]]
        return
    told[remedy["why"]] = row["name"]
    for line in wrapped("", "remedy: %s" % remedy["why"]):
        yield line
    for choice in (remedy, remedy["narrower"]):
        if choice is None:
            continue
        if choice is not remedy:
            for line in wrapped("", choice["why"]):
                yield line
        for command in choice["commands"]:
            yield " " * (INDENT + 2) + command
        if choice is remedy and remedy["warning"]:
            for line in wrapped("", "careful: %s" % remedy["warning"]):
                yield line


def wrapped(head, text):
    """Lines of at most WIDTH columns, the first one with a head."""
    line = "%-*s" % (INDENT - 1, head)
    for word in text.split():
        if len(line) + len(word) + 1 > WIDTH and line.strip():
            yield line
            line = " " * (INDENT - 1)
        line += " " + word
    yield line
