# SPDX-License-Identifier: Apache-2.0
"""docs/benchmarks.md: what the measurements wrote as JSON, as tables, and the targets with what was reached."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import targets  # noqa: E402
from measure import CALLS, milliseconds, table  # noqa: E402


def startup(result):
    """The table of bench/startup.py."""
    rows = result["rows"]
    base, beside = rows.get("plain"), rows.get("bwrap + filter")
    lines = []
    for name, row in sorted(rows.items(), key=lambda item: item[1]["median"]):
        lines.append(["`%s`" % name if name.startswith("python3 ") else name]
                     + [milliseconds(row[key]) for key in ("median", "min", "p90")]
                     + ["%.1f" % (row["median"] / other["median"]) if other else "-" for other in (base, beside)]
                     + ["%d of %d" % (row["clean"], row["samples"]), row["note"]])
    text = table(("what", "median ms", "min", "p90", "/ plain", "/ bwrap + filter", "quiet samples", "isolation"), lines)
    return text


def burn(result):
    """The two tables of bench/burn.py."""
    def percent(found):
        return "%+.2f %% (%+.2f to %+.2f)" % tuple(100 * (found[key] - 1) for key in ("median", "low", "high"))
    head = ("inside beside outside (95 %)", "CPU burn, wall", "processor time", "seconds inside") + tuple(
        "a loop of %s" % CALLS[kind] for kind in ("plain", "file"))
    text = table(head, [[name, percent(row["wall"]), percent(row["cpu"]), row["seconds"]]
                        + [percent(result["calls"][name][kind]["ratio"]) for kind in ("plain", "file")]
                        for name, row in result["burn"].items()])
    kinds = list(next(iter(result["calls"].values())))
    rows = []
    for name, row in sorted(result["calls"].items(), key=lambda item: item[1]["plain"]["ns"]["median"]):
        rows.append([name] + [
            "%.0f" % row[kind]["ns"]["median"] if name == "outside" else "%.0f (%+.0f, %+.0f to %+.0f)" % (
                row[kind]["ns"]["median"], *[row[kind]["extra"][key] for key in ("median", "low", "high")])
            for kind in kinds])
    text += "\n\n" + table(["ns per call (beyond outside, 95 % interval)"] + [CALLS[kind] for kind in kinds], rows)
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
            ("memory, host process and launcher: after a third of the rounds to the last", "%+d kB of %d" % (
                found["memory_kb"], found["rss_kb"])),
            ("descriptors, the same", "%+d" % found["descriptors"]), ("processes, the same", "%+d" % found["processes"])]
    text += "\n\n" + table(("how it grows", ""), rows)
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


def trace(result):
    """The table of bench/trace.py."""
    rows = []
    for way in ("plain", "ledger", "trace"):
        found, ratio = result[way], result.get(way + " / plain")
        rows.append((way, "%.3f (%.3f to %.3f)" % tuple(found[key] / 1e6 for key in ("median", "low", "high")),
                     "%.2f (%.2f to %.2f)" % tuple(ratio[key] for key in ("median", "low", "high")) if ratio else "-"))
    return table(("`/bin/true` executed inside", "ms", "/ plain"), rows)


def phases(result):
    """The tables of bench/phases.py."""
    import phases as bench  # here, since it imports us
    texts = []
    for name, what, rows in (("command line", "`mrunc run -- /bin/true`", bench.COMMAND_LINE),
                             ("warm", "`mrunc.Pool.run`", bench.WARM)):
        found = result["phases"][name]
        whole = sum(row["median"] for row in found)
        texts.append(table((what, "ms", "95 % interval", "share"), [
            (told, "%.3f" % (row["median"] / 1e6), "%.3f to %.3f" % (row["low"] / 1e6, row["high"] / 1e6),
             "%.0f %%" % (100 * row["median"] / whole)) for (_, told), row in zip(rows, found)]
            + [("together", "%.3f" % (whole / 1e6), "", ""), ("for comparison, `subprocess.run` of the same program",
                                                              milliseconds(result["whole"]["plain"]["median"]), "", "")]))
    cpus = result["host"]["cpus"]
    rows = []
    for name, row in result["processor"].items():
        used = sum(row[key] for key in ("host", "launcher", "sandbox", "rest"))
        rows.append([name] + ["%.2f" % (row[key] / 1e6) for key in ("host", "launcher", "sandbox", "rest")]
                    + ["%.2f" % (used / 1e6), "%.2f" % (row["wall"] / 1e6), "%.0f" % (cpus * 1e9 / used)])
    texts.append(table(("processor time of one, ms", "the host", "the launcher", "the sandbox, the program", "the rest",
                        "in all", "one after another, ms each", "per second with %d processors at most" % cpus), rows))
    return "\n\n".join(texts)


def imports(result):
    """The tables of bench/imports.py: how much, and the dearest."""
    us, names = result["us"], list(result["us"])
    at = names.index("mrunc.sandbox.seccomp.shipped_bytes") + 1 if "mrunc.sandbox.seccomp.shipped_bytes" in names else len(names)
    text = table(("`-X importtime`, medians", "modules", "of mrunc", "ms"), [
        (phase, len(found), sum(name.startswith("mrunc.") for name in found), "%.2f" % (sum(us[name] for name in found) / 1000))
        for phase, found in (("before clone3", names[:at]), ("after it, while the child sets itself up", names[at:]))])
    text += "\n\n" + table(("the dearest", "us"), sorted(us.items(), key=lambda item: -item[1])[:8])
    return text


def calls(result):
    """The table of bench/calls.py."""
    text = table(("who", "system calls", "most of them"), [
        (who, sum(found.values()), ", ".join("%s %d" % item for item in sorted(found.items(), key=lambda item: -item[1])[:6]))
        for who, found in result["calls"].items()])
    return "\n\n".join([text] + result["wrong"])


#: (bench, heading, what it is, function), in the page's order.
SECTIONS = [
    ("startup", "From start to end", """
`/bin/true` from before its start until it is reaped. Command lines are started by posix_spawn from a small process; what the
library does stands beside `subprocess.run` from the same process.""", startup),
    ("phases", "Where the time goes", """
The command line and a warm sandbox in phases, each from its beginning to the next one's, noted by mrunc itself in a process
of its own; and what one of many sandboxes costs in processor time, which bounds how many there can be in a second.""", phases),
    ("throughput", "Many", """
Sandboxes of `/bin/true` per second from one parent, and what it holds when it has started thousands.""", throughput),
    ("memory", "Memory", """
What the sandbox's own processes hold while the program in it sleeps, without the program. RSS counts a shared page once for
each process, PSS once in all.""", memory),
    ("burn", "While the program runs", """
A program in C takes turns in and out of sandboxes, also in some where one control is left out.""", burn),
    ("ledger", "The ledger", """
With the ledger a supervisor is asked about each refused call and keeps a record; allowed calls don't meet it. The supervisor
in C does the least that one can do: poll, receive, answer.""", ledger),
    ("trace", "The story of the processes", """
With `--trace exec` a supervisor is asked about each execution, and lets it go on.""", trace),
    ("imports", "What a start imports", """
A plain run of the command line. Times under `-X importtime` are dearer than without it.""", imports),
    ("calls", "What a start asks the kernel", """
`strace -f` of a plain run's set-up, without what the interpreter itself calls; `bench/calls.json` has a reason for each.
""", calls),
]
HOW = """
Each measurement takes turns: in each round every candidate runs once, in an order drawn anew, after the machine has become
quiet (at most 50 ms are waited). Medians are of the samples that began in quiet, where there are enough of them; intervals
are of 95 %. Ratios within one run travel to other machines, milliseconds don't. The other tools are set up as close to
mrunc's default as they can be, and the tables say what they lack: none of them reads back what is in force. Those that
need it run in a mount namespace with fewer mounts, which makes most tools faster; "bwrap + filter (apart)" is the row
to compare them with. What each program in `bench/` does is said at its head; [benchmarks.json](benchmarks.json) has the
figures that this page is made of."""


def absent(results):
    """What could not be measured, one line each."""
    why = {}
    for result in results.values():
        why.update(result.get("missing", ()))
        if "failed" in result:
            why["bench/%s.py" % result["bench"]] = "failed: " + result["failed"]
    return "\n".join("- %s: %s" % item for item in sorted(why.items()))


def alone(result):
    """What one bench prints when it is run by itself."""
    function, = [row[3] for row in SECTIONS if row[0] == result["bench"]]
    wanted = targets.judged({result["bench"]: result})
    return "\n\n".join(filter(None, (function(result), absent({"": result}), targets.verdicts({result["bench"]: result})
                                     if wanted else "")))


def machine(data):
    """The first paragraph: on what, and when."""
    hosts = [result["host"] for result in data["results"].values() if "host" in result]
    host, versions = hosts[0], {}
    for result in data["results"].values():
        versions.update(result.get("versions", ()))
    text = "%s. %s, %d processors%s, %d MB, %s, Linux %s %s, Python %s, uid %d; mrunc at %s." % (
        host["date"], host["model"] or "an unnamed processor", host["cpus"], " of a virtual machine" if host["virtual"] else "",
        host["memory_mb"], host["distribution"] or "an unnamed distribution", host["kernel"], host["machine"], host["python"],
        host["uid"], host["revision"] or "an unknown revision")
    text += " Beside it: %s." % ", ".join(
        "%s %s" % item if item[1] else item[0] for item in sorted(versions.items())) if versions else ""
    text += " %d seconds in all; the load was %.1f before and at most %.1f after a measurement." % (
        data["seconds"], host["load"][0], max(host.get("load_after", host["load"])[0] for host in hosts))
    if data["quick"]:
        text += "\n\n**A quick run: what it says is rough**, and some targets want more than it does."
    return text


def markdown(data):
    """The page.  data: what everything.py wrote to benchmarks.json."""
    results = {name: result for name, result in data["results"].items() if "failed" not in result}
    rows = targets.judged(results, targets.LIGHT)
    out = ["<!-- made by bench/everything.py: make bench -->\n# Benchmarks", machine(data),
           "![/bin/true from start to end in each sandbox](benchmarks.svg)" if "startup" in results else None,
           "## Targets", targets.verdicts(results, targets.LIGHT),
           "%d of %d hold." % (sum(row[-1] == "yes" for row in rows), len(targets.LIGHT))]
    if "ledger" in results:
        out += ["The ledger's:", targets.verdicts(results, targets.LEDGER)]
    for name, heading, what, function in SECTIONS:
        if name in results:
            out += ["## " + heading, what.strip(), function(results[name])]
    if absent(data["results"]):
        out += ["## Not measured", absent(data["results"])]
    return "\n\n".join(filter(None, out + ["## How", HOW.strip()])) + "\n"
