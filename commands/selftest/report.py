# SPDX-License-Identifier: Apache-2.0
"""Reports a selftest: table, misses, JSON, JUnit, and the exit status."""
import json
import os

from ...sandbox.version import __version__ as version
from ...sandbox.errors import SandboxError
from ..output import escaped, write
from .attempt import BLOCKED, ERROR, INVISIBLE, KILLED, REACHED, SKIPPED
from .declared import UNPROVEN
from .probe import DANGERS, HOST

MEANING = {
    "host integrity": "hostile code could change the host, or act on it",
    "kernel surface": "a part of the kernel can be reached that no program here needs",
    "information": "hostile code learns something about the host",
    "limits": "hostile code can use up resources of others",
}
COLUMNS = (BLOCKED, KILLED, INVISIBLE, REACHED, ERROR, SKIPPED)
SCHEMA = 1


def status_of(rows):
    """Returns 0 if every miss is declared and none is of host integrity, else 1."""
    return 1 if any(row.missed() and not row.declared for row in rows) else 0


def counted(rows):
    """Returns the rows that prove something: reached, or not in UNPROVEN."""
    return [row for row in rows if row.missed() or row.probe.id not in UNPROVEN]


def counts(rows):
    """Returns {danger: {column: number}}."""
    out = {}
    for row in counted(rows):
        out.setdefault(row.probe.danger, dict.fromkeys(COLUMNS, 0))[row.outcome.kind] += 1
    return out


def tell(rows, values, options, tier):
    """Prints and writes what was asked for; returns the exit status.

    rows: [selftest.Row]
    values: dict of options by dest
    options: the options of run
    tier: name

    Raises SandboxError.
    """
    status = status_of(rows)
    if values.get("junit"):
        try:
            with open(values["junit"], "w", encoding="utf-8") as stream:
                stream.write(junit(rows))
        except OSError as error:
            raise SandboxError("selftest", "--junit %s" % values["junit"], error.errno)
    if values.get("json"):
        write(1, json.dumps(as_dict(rows, values, options, tier), indent=2) + "\n")
    else:
        for line in lines(rows, values.get("current")):
            write(1, line + "\n")
    return status


def lines(rows, current=False):
    """Yields the table and the misses, for people."""
    table = counts(rows)
    yield "%-15s %7s  %s" % ("", "probes", "  ".join("%9s" % name for name in COLUMNS))
    for danger in DANGERS:
        if danger in table:
            row = table[danger]
            yield "%-15s %7d  %s" % (danger, sum(row.values()),
                                     "  ".join("%9s" % (row[name] or "-") for name in COLUMNS))
    bad = [row for row in rows if row.missed() and not row.declared]
    known = [row for row in rows if row.declared]
    for row in sorted(bad, key=lambda row: DANGERS.index(row.probe.danger)):
        yield ""
        yield "%s %s: %s" % (row.outcome.kind, row.probe.id, row.probe.title)
        yield "    %s%s" % (escaped(row.outcome.detail), "  [%s]" % row.probe.reference
                            if row.probe.reference else "")
        if row.outcome.kind == REACHED:
            yield "    %s; what stops it: %s" % (MEANING[row.probe.danger], row.probe.layers)
        else:
            yield "    could not be tried, which proves nothing"
    if known:
        yield ""
        yield "known and declared (SECURITY.md):"
        for row in known:
            yield "  %s %s: %s" % (row.probe.id, row.probe.title, escaped(row.outcome.detail))
    unproven = [row.probe.id for row in rows if row not in counted(rows)]
    if unproven:
        yield ""
        yield "not counted, never reached anywhere: %s" % " ".join(unproven)
    yield ""
    yield verdict(rows, current)


def verdict(rows, current=False):
    """Returns the verdict in one line."""
    bad = [row for row in rows if row.missed() and not row.declared]
    host = [row for row in bad if row.probe.danger == HOST]
    tried = len([row for row in counted(rows) if row.outcome.kind != SKIPPED])
    if not tried:
        return "nothing was tried"
    if not bad:
        declared = len([row for row in rows if row.declared])
        return "contained: %d probes, none of them reached the host%s" % (
            tried, ", %d declared misses" % declared if declared else "")
    if host:
        tried = [row for row in rows if row.probe.danger == HOST and row.outcome.kind != SKIPPED]
        return "NOT CONTAINED: %d of %d probes against the host's integrity were reached or " \
            "failed" % (len(host), len(tried))
    return "the host was not reached, but %d of %d probes were reached or failed" % (
        len(bad), tried)


def as_dict(rows, values, options, tier):
    """Returns the JSON object."""
    system = os.uname()
    return {"schema": SCHEMA, "version": version, "kernel": system.release,
            "machine": system.machine, "uid": os.getuid(),
            "current": bool(values.get("current")), "tier": None if values.get("current") else tier,
            "harden": bool(values.get("harden")), "options": list(options), "counts": counts(rows),
            "verdict": verdict(rows, values.get("current")), "exit_status": status_of(rows),
            "unproven": [row.probe.id for row in rows if row not in counted(rows)],
            "probes": [row.as_dict() for row in rows]}


def junit(rows):
    """Returns the JUnit report, one suite per danger."""
    out = ['<?xml version="1.0" encoding="UTF-8"?>', '<testsuites name="mrunc selftest">']
    for danger in DANGERS:
        suite = [row for row in rows if row.probe.danger == danger]
        if not suite:
            continue
        bad = [row for row in suite if row.missed() and not row.declared]
        out.append('<testsuite name="%s" tests="%d" failures="%d" errors="%d" skipped="%d">' % (
            danger, len(suite), len([row for row in bad if row.outcome.kind == REACHED]),
            len([row for row in bad if row.outcome.kind == ERROR]),
            len([row for row in suite if row.outcome.kind == SKIPPED])))
        for row in suite:
            name = '<testcase classname="mrunc.%s" name="%s %s"' % (
                row.probe.group, row.probe.id, _xml(row.probe.title))
            detail = _xml(escaped(row.outcome.detail))
            if row.outcome.kind == SKIPPED:
                out.append('%s><skipped message="%s"/></testcase>' % (name, detail))
            elif row in bad:
                kind = "failure" if row.outcome.kind == REACHED else "error"
                out.append('%s><%s message="%s"/></testcase>' % (name, kind, detail))
            elif row.declared:
                out.append('%s><system-out>declared: %s</system-out></testcase>' %
                           (name, _xml(row.declared)))
            else:
                out.append(name + "/>")
        out.append("</testsuite>")
    return "\n".join(out + ["</testsuites>", ""])


def _xml(text):
    for char, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(char, name)
    return "".join("?" if ord(char) < 32 or 0xd800 <= ord(char) < 0xe000 or
                   ord(char) in (0xfffe, 0xffff) else char for char in text)
