# SPDX-License-Identifier: Apache-2.0
"""Makes the summary of `-v`: what ended the program, what it tried, changed and used."""
from ..report import story

#: How many refused calls are listed, and how many programs and changes.
TRIED, LISTED = 5, 20


def lines(result):
    """Returns the summary of a Result as a list of str."""
    out = ["ended: %s%s" % (result.detail, "; " + result.advice if result.advice else "")]
    out += ["  %s" % words for words in result.evidence]
    out += _tried(result.refused) + _executed(result.processes)
    out += _changed(result.changes, result.changes_omitted)
    out.append("used: %s" % ", ".join("%s %s" % row for row in story.used(result.usage)))
    held, missing, _ = story.receipt(result.controls)
    out.append("in force: %d of %d that were asked for: %s" % (
        len(held), len(held) + len(missing), " ".join(row["name"] for row in held)))
    return out + ["not in force: %s: %s" % (row["name"], row["how"]) for row in missing]


def _tried(rows):
    if rows is None:
        return ["tried: refused calls were not recorded; --report FILE records them"]
    top = story.top_refused(rows, TRIED)
    count = sum(row["count"] for row in rows)
    out = ["tried: %s" % (story.many(count, "refused call")
                          if count else "nothing that was refused")]
    out += ["  %dx %s = %s" % row for row in top]
    kinds = len(story.top_refused(rows, len(rows)))
    return out + (["  and %s more" % story.many(kinds - len(top), "kind")] if kinds > len(top)
                  else [])


def _executed(rows):
    if rows is None:
        return []
    out = ["executed: %s" % story.many(story.executed(rows), "program")]
    out += ["  %s%s%s" % ("  " * depth, story.command(row["argv"]) or row["path"],
                          "" if row["confirmed"] else " (asked for, not seen to run)")
            for depth, row, _ in story.tree(rows)[:LISTED]]
    return out + (["  and %d more; --report FILE has all" % (len(rows) - LISTED)]
                  if len(rows) > LISTED else [])


def _changed(rows, omitted):
    if rows is None:
        return ["changed: not looked at; --changes FILE does"]
    out = ["changed: %s" % story.summary(rows, omitted)]
    out += ["  %-8s %-9s %s" % (row["change"], row["kind"], row["path"]) for row in rows[:LISTED]]
    return out + (["  and %d more; --changes FILE lists all" % (len(rows) - LISTED)]
                  if len(rows) > LISTED else [])
