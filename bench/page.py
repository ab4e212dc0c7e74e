# SPDX-License-Identifier: Apache-2.0
"""docs/benchmarks.md: what the measurements wrote as JSON, as tables, a chart, and the targets with what was reached.

    python3 bench/page.py --check FILE...            prints `target | reached | holds` from these JSON files
    python3 bench/page.py --write FOLDER FILE...     writes FOLDER/benchmarks.md and benchmarks.svg
"""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from measure import milliseconds, table  # noqa: E402

#: The worker's kinds of work.
CALLS = {"plain": "`getppid`", "file": "`read` of 1 byte", "tested": "`personality` (argument tested)",
         "denied": "`acct` of a path (refused)", "numbers": "`setns` (refused)", "various": "`setns`, no two alike"}
PYTHON = "python3 -I -S -c 'import ctypes'"


# The targets: each a function of {bench: result} -> (reached, as text; whether it holds).  KeyError: not measured.

def median(results, name):
    return results["startup"]["rows"][name]["median"]


def ratio(results, name, against, limit):
    reached = median(results, name) / median(results, against)
    return "%.2f" % reached, reached <= limit


def command_line(results):
    return ratio(results, "mrunc run", PYTHON, 1.30)


def own_part(results):
    part = median(results, "mrunc run") - median(results, PYTHON)
    reached = part / median(results, "bwrap + filter")
    return "%.2f (beside bwrap with few mounts %.2f)" % (
        reached, part / median(results, "bwrap, few mounts + filter")), reached <= 0.55


def in_process(results):
    return ratio(results, "mrunc.run", "subprocess.run, bwrap + mrunc's filter", 0.75)


def warm(results):
    return ratio(results, "mrunc.Pool.run", "subprocess.run, bwrap + mrunc's filter", 0.25)


def warm_beside_none(results):
    return ratio(results, "mrunc.Pool.run", "subprocess.run, plain", 1.5)


def per_second(results):
    cells = results["throughput"]["cells"]
    found, ways = [], sorted(name for name in cells if name.startswith("mrunc"))
    for count in ("1", "2"):
        best = max(ways, key=lambda way: cells[way][count]["median"])
        found.append((cells[best][count]["median"] / cells["bwrap + filter"][count]["median"], best))
    return ", ".join("%.2f (%s)" % each for each in found), min(each for each, _ in found) >= 2.2


def memory_each(results):
    rows = results["memory"]["rows"]
    way = "mrunc.run" if "mrunc.run" in rows else "mrunc run"
    found = []
    for count in ("1", "10", "100"):
        if count in rows[way] and count in rows["bwrap"]:
            found.append((rows[way][count]["pss"] / rows["bwrap"][count]["pss"], count))
    return ", ".join("%.3f at %s" % each for each in found), max(each for each, _ in found) <= 0.10


def memory_supervisor(results):
    rows = results["memory"]["rows"]
    reached = rows["mrunc run"]["1"]["largest_rss"] / rows["runc + docker"]["1"]["largest_rss"]
    return "%.2f (%.1f of %.1f MB)" % (reached, rows["mrunc run"]["1"]["largest_rss"] / 1024,
                                       rows["runc + docker"]["1"]["largest_rss"] / 1024), reached <= 0.9


def burnt(results):
    """Wall time where the machine was quiet enough to tell; processor time, which others hardly touch, always."""
    wall, cpu = [results["burn"]["burn"]["mrunc"][clock] for clock in ("wall", "cpu")]
    return "wall %.4f (95 %%: %.4f to %.4f), processor time %.4f (%.4f to %.4f)" % tuple(
        found[key] for found in (wall, cpu) for key in ("median", "low", "high")), \
        cpu["high"] <= 1.005 and wall["low"] <= 1.005 and min(wall["median"], cpu["median"]) <= 1.005


#: Two filters cost the same when they differ by less than this, ns per call: what repeating the measurement changes.
SAME = 4.0
UNFILTERED = ("outside", "bwrap", "runsc", "nsjail", "minijail0")


def filtered(results):
    cost, ours, theirs = results["burn"]["calls"], [], []
    for kind in ("plain", "file"):
        peers = {name: row[kind]["extra"]["median"] for name, row in cost.items()
                 if name not in UNFILTERED and not name.startswith("mrunc") and kind in row}
        least = min(peers, key=peers.get)
        ours.append(cost["mrunc"][kind]["extra"]["median"])
        theirs.append((peers[least], least))
    return "; ".join("%.0f ns beside %.0f (%s)" % (own, peer, name) for own, (peer, name) in zip(ours, theirs)), all(
        own <= peer + SAME for own, (peer, _) in zip(ours, theirs))


def lasting(results):
    found = results["throughput"]["growth"]
    holds = found["aged"]["median"] <= 1.05 and found["descriptors"] <= 0 and found["memory_kb"] <= found["memory_allowed_kb"]
    return "%.3f (beside a fresh process; %+d kB, %+d descriptors after %d)" % (
        found["aged"]["median"], found["memory_kb"], found["descriptors"], found["sandboxes"]), holds


def ledger_allowed(results):
    found = results["ledger"]["allowed"]
    return ", ".join("%s %.3f (%.3f to %.3f)" % (CALLS[kind], row["median"], row["low"], row["high"])
                     for kind, row in found.items()), max(row["median"] for row in found.values()) <= 1.02


def ledger_refused(results):
    found = results["ledger"]["refused"]
    return ", ".join("%s %.2f (%.2f to %.2f)" % (CALLS[kind], *[row["ratio"][key] for key in ("median", "low", "high")])
                     for kind, row in found.items()), found["numbers"]["ratio"]["median"] <= 1.6


def ledger_counts(results):
    floods = results["ledger"]["floods"]
    wrong = sum(abs(row["made"] - row["counted"]) + abs(row["made"] - row["refused"]) for row in floods)
    return "%d of %d calls off" % (wrong, sum(row["made"] for row in floods)), wrong == 0


def ledger_memory(results):
    peak = max(row["peak_kb"] for row in results["ledger"]["floods"]) / 1024
    return "%.1f MB" % peak, peak <= 50


def ledger_share(results):
    paced = [row for row in results["ledger"]["floods"] if row["paced"]]
    return ", ".join("%.1f %% (%d thread%s)" % (100 * row["share"], row["threads"], "s"[:row["threads"] > 1])
                     for row in paced), max(row["share"] for row in paced) <= 0.05


TARGETS = [
    ("startup", "`python3 -I -S mrunc.py run -- /bin/true` / `%s` <= 1.30" % PYTHON, command_line),
    ("startup", "their difference, mrunc's own part, / bwrap with a filter <= 0.55", own_part),
    ("startup", "`mrunc.run(['/bin/true'])` / `subprocess.run(['bwrap', same set-up, same filter])` <= 0.75", in_process),
    ("startup", "`Pool.run` / the same <= 0.25", warm),
    ("startup", "`Pool.run` / `subprocess.run(['/bin/true'])` <= 1.5", warm_beside_none),
    ("throughput", "sandboxes per second from one parent, 1 and 2 at once / bwrap with a filter >= 2.2", per_second),
    ("memory", "PSS per running sandbox, launcher shared / bwrap's two processes <= 0.10", memory_each),
    ("memory", "RSS of the command line's supervisor / runc's <= 0.9", memory_supervisor),
    ("burn", "CPU burn inside / outside <= 1.005", burnt),
    ("burn", "extra cost of an allowed call, mrunc's filter: the same as any peer's or less", filtered),
    ("throughput", "cost of the 10,000th sandbox / the 10th <= 1.05, no growth of memory or descriptors", lasting),
    ("ledger", "allowed calls with the ledger / without <= 1.02", ledger_allowed),
    ("ledger", "a repeated refused call with its record / the supervisor in C <= 1.6, of numbers alone", ledger_refused),
    ("ledger", "floods by 1 and 4 threads: each call refused and counted", ledger_counts),
    ("ledger", "supervisor's memory in them <= 50 MB", ledger_memory),
    ("ledger", "supervisor's share of a processor once the burst is spent <= 5 %", ledger_share),
]


def judged(results):
    """[(target, reached, "yes" | "no" | "not measured")] of the benches that are there."""
    rows = []
    for bench, text, function in TARGETS:
        if bench not in results:
            continue
        try:
            reached, holds = function(results)
            rows.append((text, reached, "yes" if holds else "**no**"))
        except (KeyError, ValueError):
            rows.append((text, "-", "not measured"))
    return rows


def verdicts(results):
    return table(("target", "reached", "holds"), judged(results))


# Startup

def startup(result):
    """The table of bench/startup.py."""
    rows = result["rows"]
    base, beside = rows.get("plain"), rows.get("bwrap + filter")
    lines = []
    for name, row in sorted(rows.items(), key=lambda item: item[1]["median"]):
        lines.append(["`%s`" % name if name in (PYTHON, "python3 -I -S -c pass") else name]
                     + [milliseconds(row[key]) for key in ("median", "min", "p90")]
                     + ["%.1f" % (row["median"] / other["median"]) if other else "-" for other in (base, beside)]
                     + ["%d of %d" % (row["clean"], row["samples"]), row["note"]])
    text = table(("what", "median ms", "min", "p90", "/ plain", "/ bwrap + filter", "quiet samples", "isolation"), lines)
    for name, why in result["missing"].items():
        text += "\n\n%s: %s." % (name, why)
    return text


# While the program runs

def burn(result):
    """The two tables of bench/burn.py."""
    def percent(found):
        return "%+.2f %% (%+.2f to %+.2f)" % tuple(100 * (found[key] - 1) for key in ("median", "low", "high"))
    head = ("CPU burn, inside beside outside", "wall, median and its 95 % interval", "processor time", "seconds inside")
    text = table(head, [(name, percent(row["wall"]), percent(row["cpu"]), row["seconds"])
                        for name, row in result["burn"].items()])
    kinds = list(next(iter(result["calls"].values())))
    rows = []
    for name, row in sorted(result["calls"].items(), key=lambda item: item[1]["plain"]["ns"]["median"]):
        rows.append([name] + [
            "%.0f" % row[kind]["ns"]["median"] if name == "outside" else "%.0f (%+.0f, %+.0f to %+.0f)" % (
                row[kind]["ns"]["median"], *[row[kind]["extra"][key] for key in ("median", "low", "high")])
            for kind in kinds])
    text += "\n\n" + table(["ns per call (beyond outside, 95 % interval)"] + [CALLS[kind] for kind in kinds], rows)
    for name, why in result["missing"].items():
        text += "\n\n%s: %s." % (name, why)
    return text


def memory(result):
    """The table of bench/memory.py."""
    rows = []
    for name, row in result["rows"].items():
        for count, found in row.items():
            rows.append((name, count, "%.2f" % found["processes"], "%.0f" % found["rss"], "%.0f" % found["pss"],
                         found["largest_rss"], found["before_pss"] or "-"))
    text = table(("what", "sandboxes", "processes each", "RSS kB each", "PSS kB each", "largest process, RSS kB",
                  "shared by all, PSS kB"), rows)
    for name, why in result["missing"].items():
        text += "\n\n%s: %s." % (name, why)
    return text


def throughput(result):
    """The tables of bench/throughput.py."""
    cells = result["cells"]
    counts = list(next(iter(cells.values())))
    text = table(["per second, median of blocks (best)"] + ["%s at once" % count for count in counts], [
        [name] + ["%.0f (%.0f)" % (row[count]["median"], row[count]["best"]) for count in counts]
        for name, row in cells.items()])
    found = result["growth"]
    rows = [("sandboxes that `mrunc.run` had run in the end", found["sandboxes"]),
            ("one call then, beside the same in a fresh process (95 %)", "%.3f (%.3f to %.3f)" % tuple(
                found["aged"][key] for key in ("median", "low", "high"))),
            ("last third of the rounds / first third", "%.2f (%s in the same rounds %.2f)" % (
                found["late_to_early"], found["beside"], found["late_to_early_beside"])),
            ("memory, host process and launcher: second round to last", "%+d kB of %d" % (found["memory_kb"], found["rss_kb"])),
            ("descriptors, the same", "%+d" % found["descriptors"]), ("processes, the same", "%+d" % found["processes"])]
    text += "\n\n" + table(("how it grows", ""), rows)
    for name, why in result["missing"].items():
        text += "\n\n%s: %s." % (name, why)
    return text


def ledger(result):
    """The tables of bench/ledger.py."""
    def us(found):
        return "%.2f (%.2f to %.2f)" % tuple(found[key] / 1000 for key in ("median", "low", "high"))
    text = table(("allowed calls", "with the ledger / without, processor time", "95 % interval"), [
        (CALLS[kind], "%.4f" % row["median"], "%.4f to %.4f" % (row["low"], row["high"]))
        for kind, row in result["allowed"].items()])
    text += "\n\n" + table(("refused calls, us each", "by the filter alone", "supervisor in C", "ledger", "ledger / C"), [
        [CALLS[kind]] + [us(row[name]) for name in ("plain", "supervisor", "ledger")]
        + ["%.2f (%.2f to %.2f)" % tuple(row["ratio"][key] for key in ("median", "low", "high"))]
        for kind, row in result["refused"].items()])
    head = ("flood", "threads", "calls", "counted", "records", "seconds", "supervisor's peak MB", "its share of a processor",
            "file kB")
    text += "\n\n" + table(head, [
        ("%s, %s" % (CALLS[row["kind"]], "as shipped" if row["paced"] else "without the pace"), row["threads"], row["made"],
         row["counted"], row["records"], row["seconds"], "%.1f" % (row["peak_kb"] / 1024), "%.1f %%" % (100 * row["share"]),
         "%.0f" % (row["file_bytes"] / 1024)) for row in result["floods"]])
    return text


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def chart(result):
    """An SVG of bench/startup.py: a dot for the median, a line from the minimum to p90, on a logarithmic axis."""
    import math
    rows = sorted(result["rows"].items(), key=lambda item: item[1]["median"])
    left, right, step, top = 300, 700, 22, 40
    low = min(row["min"] for _, row in rows) / 1e6
    high = max(row["p90"] for _, row in rows) / 1e6
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if low * 0.9 <= tick <= high * 1.1]

    def across(ns):
        return left + (right - left) * math.log(max(ns / 1e6, low) / low) / math.log(max(high / low, 1.01))
    height = top + step * len(rows) + 34
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="780" height="%d" font-family="sans-serif" font-size="12">' % height,
           '<rect width="780" height="%d" fill="#fff"/>' % height,
           '<text x="12" y="20" font-size="14">/bin/true from start to end, ms (median; minimum to 90th percentile; '
           'logarithmic)</text>']
    for tick in ticks:
        x = across(tick * 1e6)
        out.append('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#ddd"/>' % (x, top - 8, x, height - 26))
        out.append('<text x="%.1f" y="%d" text-anchor="middle" fill="#555">%g</text>' % (x, height - 10, tick))
    for number, (name, row) in enumerate(rows):
        y = top + step * number + 8
        color = "#b3261e" if name.startswith("mrunc") else "#777" if row["note"] == "no sandbox" else "#1f5fa8"
        out.append('<text x="%d" y="%d" text-anchor="end" fill="%s">%s</text>' % (left - 10, y + 4, color, escape(name)))
        out.append('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s" stroke-width="2"/>' % (
            across(row["min"]), y, across(row["p90"]), y, color))
        out.append('<circle cx="%.1f" cy="%d" r="4.5" fill="%s"><title>%s: %s ms</title></circle>' % (
            across(row["median"]), y, color, escape(name), milliseconds(row["median"])))
        out.append('<text x="%.1f" y="%d" fill="#333">%s</text>' % (across(row["p90"]) + 8, y + 4,
                                                                    milliseconds(row["median"])))
    return "\n".join(out + ["</svg>"]) + "\n"


def read(paths):
    """{bench: result} of JSON files."""
    results = {}
    for path in paths:
        with open(path) as stream:
            result = json.load(stream)
        results[result["bench"]] = result
    return results


def main():
    words = sys.argv[1:]
    if words[:1] == ["--check"] and words[1:]:
        print(verdicts(read(words[1:])))
        return 0
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main())
