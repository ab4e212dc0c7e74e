# SPDX-License-Identifier: Apache-2.0
"""Makes a result one HTML page without scripts, links, or styles of others.

Text from inside the sandbox only enters through `show`, which escapes markup and makes visible what
a browser would hide or reorder. The page's content security policy blocks scripts and loading even
if that failed.
"""
from . import story, techniques
from ...sandbox.result.reasons import REASONS
from . import charts
from ..output import escaped
from .style import STYLE
from ...sandbox.version import __version__

#: How many rows of a list are shown; the file has all.
MOST = 1000
MARKUP = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}


def page(result):
    """Returns the page as text. result: as report.read returns it."""
    title = "mrunc: %s" % (story.command(result["argv"]) or "no command")
    parts = [_head(title), "<body><main>", _hero(result), _tiles(result), _techniques(result),
             _charts(result), _processes(result), _refused(result), _changes(result),
             _receipt(result), _notes(result), "<footer>Written by mrunc %s from the result of a "
             "run. Names, arguments and paths come from the program; invisible characters are "
             "written as " '<i class="esc">\\x1b</i>.</footer>' % show(__version__),
             "</main></body></html>"]
    return "\n".join(part for part in parts if part) + "\n"


def show(text, most=story.LONGEST):
    """Returns text as HTML; markup and invisible or deceiving characters are written out."""
    out = []
    for char in story.clipped(str(text), most):
        seen = escaped(char)
        if seen == char:
            out.append(MARKUP.get(char, char))
        else:
            out.append('<i class="esc">%s</i>' % seen)
    return "".join(out)


def code(text, most=story.LONGEST):
    """Returns text as HTML in a terminal's font; text beside it can't reorder it."""
    return "<code>%s</code>" % show(text, most)


def _head(title):
    import base64
    import hashlib
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    return ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
            "'sha256-%s'; base-uri 'none'; form-action 'none'\">\n"
            '<meta name="referrer" content="no-referrer"><meta name="robots" content="noindex">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark">\n'
            "<title>%s</title>\n<style>%s</style></head>" % (digest, show(title, 120), STYLE))


def _hero(result):
    kind = REASONS.get(result["reason"], ("", "warn"))[1]
    why = [("" if number else "Evidence", words)
           for number, words in enumerate(result["evidence"][:MOST])]
    without = story.left_out(result["controls"])
    why += [("Weakened",
             "without %s, as --unsafe-without asked" % ", ".join(without))] if without else []
    why += [("Cut", words) for words in result.get("left_out", ())]
    why += [("Advice", result["advice"])] if result["advice"] else []
    why = '<dl class="seen">%s</dl>' % "".join(
        "<dt>%s</dt><dd>%s</dd>" % (name, show(_sentence(words))) for name, words in why)
    kernel = " ".join(part for part in ("Linux", result["kernel"], result["machine"]) if part)
    rows = [("started", result["started"]),
            ("lasted", story.seconds(result["usage"].get("wall_s"))), ("tier", result["tier"]),
            ("kernel", kernel), ("policy", result["policy"] and result["policy"]["name"]),
            ("mrunc", result["version"])]
    rows += [("limit hit", "%s %s" % item) for item in sorted(result["limits_hit"].items())]
    return ('<p class="brand">mrunc report</p><header class="card hero %s"><div class="verdict">'
            '<span class="pill %s">%s</span><span class="soft">%s</span></div><h1>%s</h1>%s'
            '<code class="cmd">%s</code><dl class="meta">%s</dl></header>' % (
                kind, kind, show(result["reason"]),
                "never started" if result["stage"] else "exit status %d" % result["returncode"],
                show(_sentence(result["detail"])), why, show(story.command(result["argv"])),
                "".join("<div><dt>%s</dt><dd>%s</dd></div>" % (name, show(value))
                        for name, value in rows if value not in (None, "-"))))


def _sentence(text):
    """Returns a text with a capital first letter."""
    return text[:1].upper() + text[1:]


def _tiles(result):
    usage, held = result["usage"], story.receipt(result["controls"])
    cpu = None if usage.get("user_s") is None else usage["user_s"] + (usage.get("system_s") or 0)
    memory = usage.get("memory_peak_bytes")
    samples = [row["memory_bytes"] for row in result["samples"] or ()
               if row["memory_bytes"] is not None]
    if memory is None and samples:
        memory = max(samples + [usage.get("max_rss_bytes") or 0])
    elif memory is None:
        memory = usage.get("max_rss_bytes")
    tiles = [(story.seconds(usage.get("wall_s")), "from start to end", ""),
             (story.seconds(cpu), "processor time", ""), (story.size(memory), "peak memory", "")]
    if result["processes"] is not None:
        tiles.append((_grouped(story.executed(result["processes"])), "programs run", ""))
    if result["refused"] is not None:
        count = sum(row["count"] for row in result["refused"])
        tiles.append((_grouped(count), "refused attempts", "warn" if count else ""))
    if result["changes"] is not None:
        omitted = (result["changes_omitted"] or {"count": 0})["count"]
        tiles.append((_grouped(len(result["changes"]) + omitted), "changes", ""))
    asked = len(held[0]) + len(held[1])
    if asked:
        tiles.append(("%d / %d" % (len(held[0]), asked), "controls in force",
                      "bad" if held[1] else ""))
    return '<section class="tiles" aria-label="Key figures">%s</section>' % "".join(
        '<div class="tile %s"><b>%s</b><span>%s</span></div>' % (kind, show(value), words)
        for value, words, kind in tiles if value != "-")


def _grouped(count):
    return "{:,}".format(count)


def _card(title, lead, body, name):
    return '<section class="card" id="%s"><h2>%s</h2><p class="lead">%s</p>%s</section>' % (
        name, title, lead, body)


def _techniques(result):
    found = techniques.all_of(result)
    if not found:
        return ""
    chip = '<span class="chip"><span class="tid">%s</span>%s<span class="n">%s</span></span>'
    chips = "".join(chip % (
        show(identity), show(name),
        show(", ".join("%d %s" % (sources[source], WORDS[source]) for source in sources)))
        for (identity, name), sources in sorted(found.items()))
    return _card("Techniques that rows fit", "Techniques of MITRE ATT&amp;CK that rows of this "
                 "report fit. They are hints, no verdict: an installer does some of this, too.",
                 '<div class="chips">%s</div>' % chips, "techniques")


WORDS = {"refused": "refused", "processes": "executed", "changes": "changed"}


def _charts(result):
    samples = result["samples"] or []
    end = max([row["t_s"] for row in samples] + [result["usage"].get("wall_s") or 0])
    out = []
    for title, points, words, base in (
            ("Processors in use", charts.processors(samples), "{:.3g}".format, 1),
            ("Memory", charts.series(samples, "memory_bytes"),
             lambda value: story.size(int(value)) if value else "0", 1024),
            ("Processes", charts.series(samples, "processes"), "{:.3g}".format, 1)):
        if len(points) > 1:
            when, most = max(points, key=lambda point: (point[1], -point[0]))
            head = "<h3>%s<span class=\"n\">at most %s, at %s</span></h3>" % (
                title, show(words(most)), show(charts.clock(when)))
            out.append('<div class="chart">%s%s</div>' % (
                head, charts.line_chart(points, end, words, base)))
    if not out:
        return ""
    lead = "%s while the program ran." % show(story.many(len(samples), "sample"))
    if result["usage"].get("memory_peak_bytes") is None:
        lead += " Memory is the sum of the processes' resident sets: shared pages count again."
    return _card("While it ran", lead,
                 '<div class="charts">%s</div>' % "".join(out), "usage")


def _chips_of(row, source):
    found = [rule for rule in techniques.of(row, source) if rule.technique]
    return "".join(' <span class="tid" title="%s">%s</span>' % (
        show("%s: %s" % (rule.name, rule.reason)), show(rule.technique)) for rule in found[:3])


def _processes(result):
    rows = result["processes"]
    if rows is None:
        return ""
    end = max([result["usage"].get("wall_s") or 0] + [
        value for row in rows for value in (row["started_s"], row["ended_s"]) if value is not None])
    body = []
    for depth, row, again in story.tree(rows)[:MOST]:
        start = row["started_s"] or 0
        stop = end if row["ended_s"] is None else row["ended_s"]
        details = [show(row["exe"] or row.get("path") or "?", 200)]
        if row.get("uid"):
            details.append("uid %s" % show(row["uid"]))
        if row.get("cwd"):
            details.append("in %s" % show(row["cwd"], 200))
        if story.failure(row):
            details.append('<span class="no">%s</span>' % show(story.failure(row)))
        if row.get("sha256"):
            details.append("sha256 %s" % show(row["sha256"], 64))
        elif row.get("sha256_missing"):
            details.append("not read: %s" % show(row["sha256_missing"], 80))
        if row.get("confirmed") is False:
            details.append("asked for, not seen to run")
        if (row.get("count") or 1) > 1:
            details.append("%s times" % show(row["count"]))
        kin = "twig%s" % (" kin d%d" % depth if depth else "")
        body.append('<tr><td><div class="%s">%s<code>%s</code>%s<br>'
                    '<span class="n m">%s</span></div></td><td class="num">%s</td>'
                    '<td class="num">%s</td><td class="num">%s</td>'
                    '<td class="lane">%s</td></tr>' % (
                        kin, '<span class="n">then </span>' if again else "",
                        show(story.command(row["argv"]) or row["exe"] or row.get("path") or "?"),
                        _chips_of(row, "processes"), " &middot; ".join(details), show(row["pid"]),
                        show(story.seconds(row["started_s"])),
                        show("-" if row["ended_s"] is None
                             else story.seconds(max(0, stop - start))),
                        charts.lane(start, stop, end)))
    table = ('<table><thead><tr><th>Program</th><th class="num">pid</th>'
             '<th class="num">started</th><th class="num">ran for</th><th class="lane">0 to %s</th>'
             '</tr></thead><tbody>%s</tbody></table>' % (show(charts.clock(end)), "".join(body)))
    return _card("Programs it executed", "As they were requested and observed; a hostile program "
                 "can blur this evidence.", table + _cut(len(rows), "program") if rows else "None.",
                 "processes")


def _cut(count, what):
    return '<p class="cut">%s not shown; the result has all.</p>' % show(
        story.many(count - MOST, what)) if count > MOST else ""


def _refused(result):
    rows = result["refused"]
    if rows is None:
        return ""
    left, groups = MOST, []
    for identity, name, found in techniques.grouped(rows, "refused"):
        lines = "".join('<tr><td class="num">%s&times;</td><td>%s</td><td class="err">%s</td>'
                        '<td>%s <span class="n">[%s]</span></td><td class="num">%s</td></tr>' % (
                            _grouped(row["count"]), code(story.call(row)), show(row["errno"], 40),
                            code(row["exe"] or "?", 120), show(row["pid"]), show(_when(row)))
                        for row, _ in found[:max(0, left)])
        left -= len(found)
        if not lines:
            break
        why = "; ".join(sorted(set(reason for _, reason in found if reason)))
        if why and why.split()[0] not in [row["syscall"] for row, _ in found]:
            why = _sentence(why)
        groups.append('<tbody><tr class="group"><th colspan="5"><h3>%s%s '
                      '<span class="n">%s</span></h3>%s</th></tr>%s</tbody>' % (
            '<span class="tid">%s</span>' % show(identity) if identity else "",
            show(name or "Others"),
            show(story.many(sum(row["count"] for row, _ in found), "attempt")),
            '<p class="why">%s.</p>' % show(why) if why else "", lines))
    table = ('<table class="fixed"><thead><tr><th class="num w1">times</th><th>call</th>'
             '<th class="w2">answer</th><th class="w3">program [pid]</th>'
             '<th class="num w4">when</th></tr></thead>%s</table>' % "".join(groups))
    return _card("Refused calls", "Calls that the filter answered with an error; none of them had "
                 "an effect.", table + _cut(len(rows), "call") if rows else "None.", "refused")


def _when(row):
    first, last = row["first_s"], row["last_s"]
    if row["count"] < 2 or story.seconds(first) == story.seconds(last):
        return story.seconds(first)
    return "%s to %s" % (story.seconds(first), story.seconds(last))


def _changes(result):
    rows = result["changes"]
    if rows is None:
        return ""
    body = []
    for row in rows[:MOST]:
        details = [form % show(row[key], most) for key, form, most in (
            ("magic", "%s", 60), ("target", "to <code>%s</code>", 200),
            ("sha256", '<span class="m">sha256 %s</span>', 64), ("sha256_missing", "not read: %s",
                                                                 80))
            if row.get(key)]
        kind = row["change"] if row["change"] in ("added", "modified", "deleted") else ""
        body.append('<tr><td><span class="tag %s">%s</span></td><td>%s%s<br>'
                    '<span class="n">%s</span></td><td class="nw">%s</td><td class="num m">%s</td>'
                    '<td class="num">%s</td></tr>' % (
                        kind, show(row["change"], 20), code(row["path"]), _chips_of(row, "changes"),
                        " &middot; ".join(details), show(row["kind"], 20),
                        show(row.get("mode", ""), 8), show(story.size(row["size"]))
                        if "size" in row else ""))
    table = ('<table><thead><tr><th></th><th>path</th><th>kind</th><th class="num">mode</th>'
             '<th class="num">size</th></tr></thead><tbody>%s</tbody></table>' % "".join(body))
    return _card("What it changed",
                 show(story.summary(rows, result["changes_omitted"]).capitalize()) +
                 ".", table + _cut(len(rows), "change") if rows else "", "changes")


def _receipt(result):
    if not result["controls"]:
        return _card("Receipt", "Nothing ran.", "", "receipt") if result["stage"] else ""
    held, missing, _ = story.receipt(result["controls"])
    body = "".join('<tr><td class="nw m">%s</td><td>%s</td><td>%s</td><td>%s</td></tr>' % (
        show(row["name"], 60), "yes" if row["asked"] else '<span class="soft">no</span>',
        '<span class="yes">&#10003; yes</span>' if row["in_force"] else
        '<span class="no">&#10007; NO</span>' if row in missing else '<span class="soft">-</span>',
        show(row["how"])) for row in missing + [row for row in result["controls"]
                                                if row not in missing])
    policy = result["policy"]
    lead = "%d of %d controls that were asked for were in force, as read back from the kernel " \
           "before the program started." % (len(held), len(held) + len(missing))
    if policy:
        lead += ' System call policy <b>%s</b>, sha256 <span class="m">%s</span>.' % (
            show(policy["name"]), show(policy["sha256"], 64))
    return _card("Receipt", lead, '<table class="facts"><thead><tr><th>control</th><th>asked</th>'
                 "<th>in force</th><th>how it was read back</th></tr></thead><tbody>%s</tbody>"
                 "</table>" % body, "receipt")


def _notes(result):
    if not result["notes"]:
        return ""
    return _card("Notes", "Messages of the run.", "".join(
        "<p>%s</p>" % show(note) for note in result["notes"][:MOST]), "notes")
