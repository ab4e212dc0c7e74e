# SPDX-License-Identifier: Apache-2.0
"""Shows a result as text: 80 columns, colours if asked for, control characters visible."""
from . import story, techniques
from ...sandbox.result.reasons import REASONS
from ..output import escaped

WIDTH = 80
#: How many rows of a list are shown; --html shows more, and the file has all.
MOST = 40
#: How many controls are shown; a run has about forty.
MOST_CONTROLS = 200
#: Characters of a text that takes several lines.
LONGEST = 2000
COLOURS = {"ok": "32", "warn": "33", "bad": "31", "head": "1", "faint": "2"}


def text(result, colour=False):
    """Returns the report as text. colour: whether it may have colours."""
    out = Lines(colour)
    _head(out, result)
    _techniques(out, result)
    _refused(out, result)
    _processes(out, result)
    _changes(out, result)
    _samples(out, result)
    _receipt(out, result)
    return "\n".join(out.lines) + "\n"


class Lines:
    """Collects lines. colour: whether they may have colours."""

    def __init__(self, colour):
        self.lines, self.colour = [], colour

    def add(self, line, kind=None):
        """Adds one line; a long one is cut."""
        line = escaped(line)
        if len(line) > WIDTH:
            line = line[:WIDTH - 3] + "..."
        self.lines.append("\x1b[%sm%s\x1b[0m" % (COLOURS[kind], line) if kind and
                          self.colour else line)

    def head(self, words):
        """Adds a heading."""
        self.lines.append("")
        self.add(words, "head")

    def fill(self, head, words, kind=None, indent=11):
        """Adds a text over as many lines as it needs; the first starts with a head."""
        line = "%-*s" % (indent, head)
        for word in escaped(story.clipped(words, LONGEST)).split(" "):
            while len(word) > WIDTH - indent:
                if line.strip():
                    self.add(line.rstrip(), kind)
                    line = ""
                self.add(" " * indent + word[:WIDTH - indent], kind)
                word, line = word[WIDTH - indent:], " " * indent
            if len(line) + len(word) > WIDTH:
                self.add(line.rstrip(), kind)
                line = " " * indent
            line += word + " "
        if line.strip():
            self.add(line.rstrip(), kind)

    def rest(self, shown, rows, what):
        """Adds how many rows are not shown."""
        if len(rows) > shown:
            self.add("  and %s more" % story.many(len(rows) - shown, what), "faint")


def _head(out, result):
    serious = REASONS.get(result["reason"], ("", "warn"))[1]
    out.add("mrunc %s: %s" % (result["version"], result["reason"]), serious)
    out.fill("", result["detail"], indent=2)
    for words in result.get("left_out", ()):
        out.fill("", "cut: %s" % words, "bad", 2)
    for words in result["evidence"][:MOST]:
        out.fill("", "evidence: %s" % words, indent=2)
    without = story.left_out(result["controls"])
    if without:
        out.fill("", "weakened: without %s, as --unsafe-without asked" % ", ".join(without), "bad",
                 2)
    if result["advice"]:
        out.fill("", "advice: %s" % result["advice"], indent=2)
    out.lines.append("")
    out.fill("command", story.command(result["argv"]))
    out.fill("ended", "%s, mrunc's own status %d" % (story.ending(result), result["returncode"]))
    if result["started"]:
        out.fill("started", result["started"])
    out.fill("ran on", "Linux %s %s, tier %s" % (result["kernel"] or "?", result["machine"] or "",
                                                 result["tier"]))
    if result["policy"]:
        out.fill("policy", "%s, sha256 %s" % (result["policy"]["name"], result["policy"]["sha256"]))
    used = story.used(result["usage"])
    if used:
        out.fill("used", ", ".join("%s %s" % row for row in used))
    for name, value in sorted(result["limits_hit"].items())[:MOST]:
        out.fill("limit hit", "%s %s" % (name, value))
    for note in result["notes"][:MOST]:
        out.fill("note", note)


def _techniques(out, result):
    found = techniques.all_of(result)
    if not found:
        return
    out.head("Techniques that rows fit (MITRE ATT&CK)")
    for identity, name in sorted(found):
        sources = found[identity, name]
        out.add("  %-10s %-46.46s %s" % (identity, name,
                                         ", ".join("%d %s" % (sources[source], source)
                                                   for source in sources)))


def _refused(out, result):
    rows = result["refused"]
    if rows is None:
        return
    out.head("Refused attempts: %d" % sum(row["count"] for row in rows)
             if rows else "Refused attempts: none")
    left = MOST
    for identity, name, found in techniques.grouped(rows, "refused"):
        if left <= 0:
            break
        out.add("  %s" % (" ".join(part for part in (identity, name) if part) or "Others"), "head")
        for row, _ in found[:left]:
            out.add("%7dx %s = %s" % (row["count"], story.call(row), row["errno"]))
            out.add("         %s [%s] at %s" % (story.clipped(row["exe"] or "?", 50), row["pid"],
                                                     story.seconds(row["first_s"])), "faint")
        left -= len(found)
    out.rest(MOST, rows, "refused call")


def _processes(out, result):
    rows = result["processes"]
    if rows is None:
        return
    out.head("Programs executed: %d" % story.executed(rows))
    for depth, row, again in story.tree(rows)[:MOST]:
        lasted = ""
        if row["ended_s"] is not None and row["started_s"] is not None:
            lasted = " for " + story.seconds(row["ended_s"] - row["started_s"])
        ended = story.failure(row)
        times = "  %s%s%s" % (story.seconds(row["started_s"]), lasted, ended and ", " + ended)
        line = "  %s%s[%s] %s" % ("  " * min(depth, 12), "= " if again else "", row["pid"],
                                  story.command(row["argv"]) or row["exe"] or row.get("path") or
                                  "?")
        line = escaped(line)
        room = WIDTH - len(times)
        out.add((line if len(line) <= room else line[:room - 3] + "...") + times)
    out.rest(MOST, rows, "program")


def _changes(out, result):
    rows = result["changes"]
    if rows is None:
        return
    out.head("Changes: %s" % story.summary(rows, result["changes_omitted"]))
    for row in rows[:MOST]:
        found = techniques.of(row, "changes")
        out.add("  %-8s %-9s %s%s" % (row["change"], row["kind"], row["path"],
                                      "  (%s)" % found[0].technique if found and found[0].technique
                                      else ""))
    out.rest(MOST, rows, "change")


def _samples(out, result):
    rows = result["samples"]
    if not any(row["memory_bytes"] or row["processes"] for row in rows or ()):  # too short
        return
    out.head("While it ran: %s" % story.many(len(rows), "sample"))
    for name, key, words in (("memory", "memory_bytes", story.size),
                             ("processes", "processes", str)):
        known = [(row[key], row["t_s"]) for row in rows if row[key] is not None]
        if known:
            most, when = max(known, key=lambda item: (item[0], -item[1]))
            out.add("  %-10s %s at most, %s in" % (name, words(most), story.seconds(when)))


def _receipt(out, result):
    held, missing, _ = story.receipt(result["controls"])
    if not result["controls"]:
        return
    out.head("In force, read back from the kernel: %d of %d "
             "asked for" % (len(held), len(held) + len(missing)))
    for row in missing[:MOST_CONTROLS]:
        out.fill("  NOT", "%s: %s" % (row["name"], row["how"]), "bad", 6)
    for row in held[:max(0, MOST_CONTROLS - len(missing))]:
        out.fill("  %-17s" % story.clipped(row["name"], 60), row["how"], indent=20)
    out.rest(MOST_CONTROLS, missing + held, "control")
