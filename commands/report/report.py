# SPDX-License-Identifier: Apache-2.0
"""Runs `mrunc report`: shows a result (--report FILE) as text or as one HTML page.

The file may come from anywhere: it is read with bounds, checked against the schema, and all of it
is shown as plain text.
"""
import os

from ...sandbox.caller import program_name
from ...sandbox.errors import usage
from .. import help
from ..options import Option, parse
from ..output import write
from . import bounds
from ...sandbox.result import schema

GROUP = "Options of report"
OPTIONS = (
    Option("--html", "html", "FILE", "write one self-contained page, without scripts and links; - "
           "is stdout", GROUP),
    Option("--json", "json", None, "print the result as JSON, with the ATT&CK techniques that its "
           "rows fit", GROUP),
    Option("-h --help", "help", None, "show this text", GROUP),
)
ACTIONS = ()
USAGE = "report RESULT.json [options]"
EXIT = (("0", "the report was written"), ("2", "the file is not a result, or can't be read"))
#: Bytes of a file. A result with a million changes has about 300 MiB and needs other tools.
LONGEST = 64 << 20
#: Each takes about 100 bytes of memory.
MOST_VALUES = 4000000


def help_text():
    """Returns the help of report."""
    about = ("Shows the result that run --report FILE wrote; - is stdin.",
             "All of it is shown as plain text.")
    return help.text(USAGE, ((GROUP, OPTIONS),), about, exits=EXIT)


def main(argv):
    """Runs the verb report. argv: list of str after the verb. Returns the exit status."""
    values, words = parse(argv, OPTIONS, "report")
    if not values.get("help") and len(words) > 1:  # options may follow the file
        more, rest = parse(words[1:], OPTIONS, "report")
        values.update(more)
        words = words[:1] + rest
    if values.get("help"):
        write(1, help_text())
        return 0
    if len(words) != 1:
        raise usage("report takes one file", "%d are given" % len(words) if words else None,
                    "%s run --report FILE -- CMD writes one; then: %s %s" % (
                        program_name(), program_name(), USAGE))
    result = read(words[0])
    if values.get("html") is not None:
        from . import html
        return _write_page(values["html"], html.page(result))
    if values.get("json"):
        import json
        write(1, json.dumps(with_techniques(result), indent=2) + "\n")
        return 0
    from . import text
    write(1, text.text(result, colour()))
    return 0


def colour():
    """Returns whether stdout takes colours. https://no-color.org"""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM",
                                                             "dumb") != "dumb" and os.isatty(1)


def with_techniques(result):
    """Returns the result with a list `techniques`: [{id, name, refused, processes, changes}]."""
    from . import techniques
    rows = []
    for (identity, name), sources in sorted(techniques.all_of(result).items()):
        row = {"id": identity, "name": name}
        row.update((source, sources.get(source, 0)) for source in ("refused", "processes",
                                                                   "changes"))
        rows.append(row)
    return dict(result, techniques=rows)


def read(path):
    """Returns the result in a file, as a dict that fits the schema.

    path: "-" for stdin

    It has one key more, `left_out`: [sentence] about what was too much to read. Raises SandboxError
    (exit status 2).
    """
    data = _bytes_of(path)
    if sum(data.count(sign) for sign in (b",", b"[", b"{")) > MOST_VALUES:
        raise _no_result(path, "more than %d values" % MOST_VALUES)
    try:
        result = bounds.loads(data)
        left_out = bounds.cut(result) if isinstance(result, dict) else []
    except RecursionError:
        raise _no_result(path, "nested too deeply")
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError, too
        raise _no_result(path, "not JSON: %s" % str(error)[:120])
    for where, wrong in schema.mistakes(result, schema.RESULT, closed=False):
        raise _no_result(path, "%s %s" % (where[:80] or "it", wrong[:80]))
    if result["schema"] != 1:
        raise _no_result(path, "of schema %d; this mrunc reads 1" % result["schema"])
    for name, shape in schema.FIELDS.items():
        result.setdefault(name, [] if name in ("notes", "evidence") else {} if name == "limits_hit"
                          else None)
    result["left_out"] = left_out  # not in the schema
    return result


def _bytes_of(path):
    """Returns at most LONGEST bytes of a file. Raises SandboxError."""
    try:
        fd = 0 if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            parts, left = [], LONGEST + 1
            while left:
                part = os.read(fd, min(left, 1 << 20))
                if not part:
                    break
                parts.append(part)
                left -= len(part)
        finally:
            if fd:
                os.close(fd)
    except (OSError, ValueError) as error:
        raise usage(path, getattr(error, "strerror", None) or str(error), stage="report")
    if not left:
        raise _no_result(path, "longer than %d MiB" % (LONGEST >> 20))
    return b"".join(parts)


def _no_result(path, why):
    return usage("%s is no result" % ("stdin" if path == "-" else path), why,
                 "%s run --report FILE -- CMD writes one" % program_name(), "report")


def _write_page(path, page):
    if path == "-":
        write(1, page)
        return 0
    from ..output_file import OutputFile
    output = OutputFile("--html", path, {})
    wrong = output.write_text(page)
    if wrong:
        raise wrong
    return 0
