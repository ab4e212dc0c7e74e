# SPDX-License-Identifier: Apache-2.0
"""What `selftest` says: the table by danger, the misses by name, JSON and JUnit, and the exit status."""
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
    "kernel surface": "a part of the kernel is within reach that no program here needs",
    "information": "hostile code learns something about the host",
    "limits": "hostile code can use up what others need",
}
COLUMNS = (BLOCKED, KILLED, INVISIBLE, REACHED, ERROR, SKIPPED)
SCHEMA = 1


def status_of(rows):
    """0: nothing of host integrity was reached or went wrong, and every other miss is declared; else 1."""
    return 1 if any(row.missed() and not row.declared for row in rows) else 0


def counted(rows):
    """Without those that prove nothing: never seen to be reached anywhere, and not reached here."""
    return [row for row in rows if row.missed() or row.probe.id not in UNPROVEN]


def counts(rows):
    """{danger: {column: number}}."""
    out = {}
    for row in counted(rows):
        out.setdefault(row.probe.danger, dict.fromkeys(COLUMNS, 0))[row.outcome.kind] += 1
    return out


def tell(rows, values, options, tier):
    """Prints and writes what was asked for; returns the exit status."""
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
    """The table and the misses, for people."""
    table = counts(rows)
    yield "%-15s %7s  %s" % ("", "probes", "  ".join("%9s" % name for name in COLUMNS))
    for danger in DANGERS:
        if danger in table:
            row = table[danger]
            yield "%-15s %7d  %s" % (danger, sum(row.values()), "  ".join("%9s" % (row[name] or "-") for name in COLUMNS))
    bad = [row for row in rows if row.missed() and not row.declared]
    known = [row for row in rows if row.declared]
    for row in sorted(bad, key=lambda row: DANGERS.index(row.probe.danger)):
        yield ""
        yield "%s %s: %s" % (row.outcome.kind, row.probe.id, row.probe.title)
        yield "    %s%s" % (escaped(row.outcome.detail), "  [%s]" % row.probe.reference if row.probe.reference else "")
        if row.outcome.kind == REACHED:
            yield "    %s; what stops it: %s" % (MEANING[row.probe.danger], row.probe.layers)
        else:
            yield "    could not be tried, which is no proof of anything"
    if known:
        yield ""
        yield "known and declared (SECURITY.md):"
        for row in known:
            yield "  %s %s: %s" % (row.probe.id, row.probe.title, escaped(row.outcome.detail))
    unproven = [row.probe.id for row in rows if row not in counted(rows)]
    if unproven:
        yield ""
        yield "not counted, never seen to be reached anywhere: %s" % " ".join(unproven)
    yield ""
    yield verdict(rows, current)


def verdict(rows, current=False):
    """One line."""
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
        return "NOT CONTAINED: %d of %d probes against the host's integrity were reached or failed" % (
            len(host), len([row for row in rows if row.probe.danger == HOST and row.outcome.kind != SKIPPED]))
    return "the host is not reached, but %d of %d probes were or failed that should not" % (len(bad), tried)


def as_dict(rows, values, options, tier):
    """The JSON object."""
    system = os.uname()
    return {"schema": SCHEMA, "version": version, "kernel": system.release, "machine": system.machine, "uid": os.getuid(),
            "current": bool(values.get("current")), "tier": None if values.get("current") else tier,
            "harden": bool(values.get("harden")), "options": list(options), "counts": counts(rows),
            "verdict": verdict(rows, values.get("current")), "exit_status": status_of(rows),
            "unproven": [row.probe.id for row in rows if row not in counted(rows)], "probes": [row.as_dict() for row in rows]}


def junit(rows):
    """The JUnit report, one suite per danger."""
    out = ['<?xml version="1.0" encoding="UTF-8"?>', '<testsuites name="mrunc selftest">']
    for danger in DANGERS:
        suite = [row for row in rows if row.probe.danger == danger]
        if not suite:
            continue
        bad = [row for row in suite if row.missed() and not row.declared]
        out.append('<testsuite name="%s" tests="%d" failures="%d" errors="%d" skipped="%d">' % (
            danger, len(suite), len([row for row in bad if row.outcome.kind == REACHED]),
            len([row for row in bad if row.outcome.kind == ERROR]), len([row for row in suite if row.outcome.kind == SKIPPED])))
        for row in suite:
            name = '<testcase classname="mrunc.%s" name="%s %s"' % (row.probe.group, row.probe.id, _xml(row.probe.title))
            detail = _xml(escaped(row.outcome.detail))
            if row.outcome.kind == SKIPPED:
                out.append('%s><skipped message="%s"/></testcase>' % (name, detail))
            elif row in bad:
                kind = "failure" if row.outcome.kind == REACHED else "error"
                out.append('%s><%s message="%s"/></testcase>' % (name, kind, detail))
            elif row.declared:
                out.append('%s><system-out>declared: %s</system-out></testcase>' % (name, _xml(row.declared)))
            else:
                out.append(name + "/>")
        out.append("</testsuite>")
    return "\n".join(out + ["</testsuites>", ""])


def _xml(text):
    for char, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(char, name)
    return "".join(char if 32 <= ord(char) and not 0xd800 <= ord(char) < 0xe000 and ord(char) not in (0xfffe, 0xffff) else "?"
                   for char in text)
