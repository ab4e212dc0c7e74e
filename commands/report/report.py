# SPDX-License-Identifier: Apache-2.0
"""`mrunc report`: a result (--report FILE) for people, as text or as one page of HTML.

The file may come from anywhere: it is read with bounds, held to the schema, and everything in it is shown as text.
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
    Option("--html", "html", "FILE", "write one page that needs nothing else: no script, no address outside; - is stdout",
           GROUP),
    Option("--json", "json", None, "the result as JSON, with the techniques that its rows may stand for", GROUP),
    Option("-h --help", "help", None, "this text", GROUP),
)
ACTIONS = ()
USAGE = "report RESULT.json [options]"
EXIT = (("0", "done"), ("2", "the file is no result, or can't be read"))
#: A result with a million changes has some 300 MiB; who has that reads it with other tools.
LONGEST = 64 << 20
#: Each costs some 100 bytes of memory.
MOST_VALUES = 4000000


def help_text():
    """The help of report."""
    about = ("Shows the result that run --report FILE wrote; - is stdin.",
             "Whatever stands in it is shown as text.")
    return help.text(USAGE, ((GROUP, OPTIONS),), about, exits=EXIT)


def main(argv):
    """argv: list of str after the verb.  Returns the exit status."""
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
                    "%s run --report FILE -- CMD writes one; then: %s %s" % (program_name(), program_name(), USAGE))
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
    """Whether stdout takes colours.  https://no-color.org"""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb" and os.isatty(1)


def with_techniques(result):
    """The result with a list `techniques`: [{id, name, refused, processes, changes}]."""
    from . import techniques
    found = techniques.all_of(result)
    return dict(result, techniques=[
        dict({"id": identity, "name": name}, **dict((source, found[identity, name].get(source, 0))
                                                    for source in ("refused", "processes", "changes")))
        for identity, name in sorted(found)])


def read(path):
    """The result in a file, as a dict that holds to the schema, and `left_out`: [sentence], what was too much to read here.

    path: "-" for stdin.  Raises SandboxError, exit 2."""
    data = _bytes_of(path)
    if sum(data.count(sign) for sign in (b",", b"[", b"{")) > MOST_VALUES:
        raise _no_result(path, "more than %d values" % MOST_VALUES)
    try:
        result = bounds.loads(data)
        left_out = bounds.cut(result) if isinstance(result, dict) else []
    except RecursionError:
        raise _no_result(path, "nested too deep")
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are
        raise _no_result(path, "no JSON: %s" % str(error)[:120])
    for where, wrong in schema.mistakes(result, schema.RESULT, closed=False):
        raise _no_result(path, "%s %s" % (where[:80] or "it", wrong[:80]))
    if result["schema"] != 1:
        raise _no_result(path, "of schema %d, and this mrunc knows 1" % result["schema"])
    for name, shape in schema.FIELDS.items():
        result.setdefault(name, [] if name in ("notes", "evidence") else {} if name == "limits_hit" else None)
    result["left_out"] = left_out  # not of the schema: of this reading
    return result


def _bytes_of(path):
    """At most LONGEST bytes of a file."""
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
    return usage("%s is no result" % ("stdin" if path == "-" else path), why, "%s run --report FILE -- CMD writes one" %
                 program_name(), "report")


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
