# SPDX-License-Identifier: Apache-2.0
"""Puts the rows of a result into words: calls, processes, quantities.

Takes rows of any shape, since the file may come from anywhere. Nothing here is escaped; the caller
does that.
"""
import re

from ...sandbox.result.verdict import signal_name
from ...sandbox.controls import LEFT_OUT

#: Deepest level of the process tree; deeper processes are shown at this level.
DEEPEST = 24
#: Kinds of changes to files, in the order shown.
WAYS = ("added", "modified", "deleted")
#: Characters shown of a text; an argument may have 128 KiB.
LONGEST = 600
CONSTANT = re.compile(r"^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*(\|[A-Z0-9_x]+)*$")


def clipped(text, most=LONGEST):
    """Returns a text; the middle of a long one is left out."""
    if len(text) <= most:
        return text
    return "%s ... (%d characters left out) ... %s" % (text[:most * 2 // 3], len(text) - most,
                                                       text[-most // 3:])


def call(row):
    """Returns a refused call as in C: `ptrace(request=PTRACE_ATTACH, pid=1)`."""
    arguments = row.get("args")
    if not isinstance(arguments, dict):
        return "%s(...)" % row.get("syscall", "?")
    return clipped("%s(%s)" % (row.get("syscall", "?"), ", ".join(
        "%s=%s" % (name, value_text(value)) for name, value in arguments.items())))


def value_text(value, depth=0):
    """Returns an argument: numbers and constants as they are, text quoted, structures in braces."""
    if isinstance(value, dict):
        if list(value) == ["unreadable"]:
            return "<unreadable: %s>" % value["unreadable"]
        if depth > 4:
            return "{...}"
        return "{%s}" % ", ".join("%s=%s" % (name, value_text(item, depth + 1))
                                  for name, item in value.items())
    if isinstance(value, list):
        return "[...]" if depth > 4 else "[%s]" % ", ".join(
            value_text(item, depth + 1) for item in value[:64])
    if isinstance(value, str):
        return value if CONSTANT.match(value) else '"%s"' % value
    if isinstance(value, int) and not isinstance(value, bool) and value > 0xffff:
        return "%#x" % value
    return "NULL" if value is None else str(value)


def command(argv):
    """Returns a command line, quoted enough to be pasted."""
    words = []
    for word in argv or ():
        plain = re.sub(r"[/_.:=-]", "", word)
        words.append(word if plain.isalnum() or plain == "" and word else
                     "'%s'" % word.replace("'", "'\\''"))
    return clipped(" ".join(words))


def size(count):
    """Returns bytes as text: `1.5 MiB`."""
    if count is None:
        return "-"
    for unit, scale in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= scale:
            return "%.*f %s" % (0 if count >= 100 * scale else 1, count / scale, unit)
    return "%d B" % count


def seconds(count):
    """Returns a time as text: `1.25 s`, `12 ms`, `3 min 5 s`."""
    if count is None:
        return "-"
    if count >= 60:
        return "%d min %d s" % divmod(round(count), 60)
    if count >= 1:
        return "%.2f s" % count
    return "%.1f ms" % (count * 1000) if count < 0.00995 else "%d ms" % round(count * 1000)


def many(count, word, words=None):
    """Returns a count and a noun: `1 process`, `2 processes`."""
    return "%d %s" % (count, word if count == 1 else words or word + "s")


def ending(result):
    """Returns how a run ended, in a few words."""
    if result["reason"] in ("setup", "exec"):
        return "never started"
    if result.get("signal") is not None:
        return "killed by %s" % signal_name(result["signal"])
    code = result.get("exit_code")
    return result["reason"] if code is None else "exit status %s" % code


def failure(row):
    """Returns how an executed program failed; "" if it did not, or that is unknown."""
    if row.get("signal"):
        return "killed by %s" % signal_name(row["signal"])
    return "exit status %s" % row["exit_code"] if row.get("exit_code") else ""


def tree(rows):
    """Returns [(depth, row, again)] of the executed programs; each row is there once.

    A child stands below the program that its parent ran at the time. A program that a process
    executed later stands below its earlier one (`again`).
    """
    order = sorted(range(len(rows)), key=lambda number: (rows[number].get("started_s") or 0,
                                                         number))
    latest, below, tops, again = {}, {}, [], set()
    for number in order:
        row = rows[number]
        if row.get("pid") == 0:  # several programs counted together
            tops.append(number)
            continue
        above = latest.get(row.get("pid"))
        if above is not None and _over(rows[above], row):
            above = None  # the pid of an ended process was reused
        if above is not None:
            again.add(number)
        else:
            above = latest.get(row.get("parent"))
        (tops if above is None else below.setdefault(above, [])).append(number)
        latest[row.get("pid")] = number
    out, pending = [], [(0, number) for number in reversed(tops)]
    while pending:
        depth, number = pending.pop()
        out.append((min(depth, DEEPEST), rows[number], number in again))
        pending += [(depth + 1, child) for child in reversed(below.get(number, ()))]
    return out


def executed(rows):
    """Returns how many programs the rows stand for."""
    return sum(row.get("count") or 1 for row in rows)


def _over(before, row):
    ended, started = before.get("ended_s"), row.get("started_s")
    return ended is not None and started is not None and ended < started


def top_refused(rows, most):
    """Returns [(count, call, errno)] of all processes together, the most frequent first."""
    counts = {}
    for row in rows:
        key = call(row), str(row.get("errno"))
        counts[key] = counts.get(key, 0) + (row.get("count") or 0)
    return [(count,) + key for key, count in sorted(counts.items(),
                                                    key=lambda item: (-item[1], item[0]))][:most]


def used(usage):
    """Returns [(what, how much)] of what was measured, as text."""
    cpu = None if usage.get("user_s") is None else usage["user_s"] + (usage.get("system_s") or 0)
    rows = [("time", seconds, usage.get("wall_s")), ("processor", seconds, cpu),
            ("memory", size, usage.get("memory_peak_bytes")),
            ("largest process", size, usage.get("max_rss_bytes")),
            ("processes", str, usage.get("processes_peak")),
            ("read", size, usage.get("read_bytes")), ("written", size, usage.get("write_bytes"))]
    return [(what, words(value)) for what, words, value in rows if value is not None]


def left_out(controls):
    """Returns the names of the controls that --unsafe-without left out."""
    return [row["name"] for row in controls if row["how"].startswith(LEFT_OUT)]


def receipt(controls):
    """Returns three lists of rows of the controls.

    They are: asked for and in force; asked for or left out, and not in force; in force, but not
    asked for.
    """
    without = left_out(controls)
    return ([row for row in controls if row["asked"] and row["in_force"]],
            [row for row in controls if not row["in_force"] and
             (row["asked"] or row["name"] in without)],
            [row for row in controls if row["in_force"] and not row["asked"]])


def summary(changes, omitted=None):
    """Returns one line: how many files were added, modified and deleted.

    changes: rows of a result
    omitted: its `changes_omitted`
    """
    counts = {}
    for row in changes:
        counts[row["change"]] = counts.get(row["change"], 0) + 1
    words = ["%d %s" % (counts[word], word) for word in WAYS if word in counts]
    if omitted and omitted["count"]:
        words.append("%d more not listed" % omitted["count"])
    return ", ".join(words) or "nothing"
