# SPDX-License-Identifier: Apache-2.0
"""Makes docs/benchmarks.md, with tables and targets, from the JSON of the measurements."""
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
    head = ("inside compared with outside (95 %)", "CPU burn, wall", "processor time",
            "seconds inside") + tuple("a loop of %s" % CALLS[kind] for kind in ("plain", "file"))
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
    rows = [("sandboxes that `mrunc.run` had run at the end", found["sandboxes"]),
            ("one call at the end / the same in a fresh process (95 %)", "%.3f (%.3f to %.3f)" % tuple(
                found["aged"][key] for key in ("median", "low", "high"))),
            ("last third of the rounds / first third", "%.2f (%s in the same rounds %.2f)" % (
                found["late_to_early"], found["beside"], found["late_to_early_beside"])),
            ("memory of host process and launcher, from a third of the rounds to the last", "%+d kB of %d" % (
                found["memory_kb"], found["rss_kb"])),
            ("descriptors of both, likewise", "%+d" % found["descriptors"]),
            ("processes of both, likewise", "%+d" % found["processes"])]
    text += "\n\n" + table(("growth", ""), rows)
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
            + [("total", "%.3f" % (whole / 1e6), "", ""), ("for comparison, `subprocess.run` of the same program",
                                                              milliseconds(result["whole"]["plain"]["median"]), "", "")]))
    cpus = result["host"]["cpus"]
    rows = []
    for name, row in result["processor"].items():
        used = sum(row[key] for key in ("host", "launcher", "sandbox", "rest"))
        rows.append([name] + ["%.2f" % (row[key] / 1e6) for key in ("host", "launcher", "sandbox", "rest")]
                    + ["%.2f" % (used / 1e6), "%.2f" % (row["wall"] / 1e6), "%.0f" % (cpus * 1e9 / used)])
    texts.append(table(("processor time of one sandbox, ms", "the host", "the launcher", "the sandbox, the program",
                        "the rest of the machine", "total", "wall time of one, in sequence, ms",
                        "at most per second with %d processors" % cpus), rows))
    return "\n\n".join(texts)


def imports(result):
    """The tables of bench/imports.py: how much, and the slowest."""
    us, names = result["us"], list(result["us"])
    # The last import before clone3; the second is its name in figures of before the rooms.
    last = [at for at, name in enumerate(names, 1)
            if name in ("mrunc.sandbox.seccomp.shipped_bytes", "mrunc.sandbox.frozen")]
    at = last[0] if last else len(names)
    text = table(("`-X importtime`, medians", "modules", "of mrunc", "ms"), [
        (phase, len(found), sum(name.startswith("mrunc.") for name in found), "%.2f" % (sum(us[name] for name in found) / 1000))
        for phase, found in (("before clone3", names[:at]), ("after clone3, while the child sets itself up", names[at:]))])
    text += "\n\n" + table(("the slowest imports", "us"), sorted(us.items(), key=lambda item: -item[1])[:8])
    return text


def calls(result):
    """The table of bench/calls.py."""
    text = table(("process", "system calls", "most frequent"), [
        (who, sum(found.values()), ", ".join("%s %d" % item for item in sorted(found.items(), key=lambda item: -item[1])[:6]))
        for who, found in result["calls"].items()])
    return "\n\n".join([text] + result["wrong"])


#: (bench, heading, introduction, function), in the page's order.
SECTIONS = [
    ("startup", "From start to end", """
How long does `/bin/true` take, from before its start until it is reaped? A small process starts the
command lines by posix_spawn. The library's calls are compared with `subprocess.run` from the same
process.""", startup),
    ("phases", "Where the time goes", """
The first two tables divide a run of the command line and of a warm sandbox into phases. mrunc notes
the phases itself, in a process of its own. Each phase lasts until the next one begins. The third
table shows the processor time of one sandbox of many. It bounds how many can run in a second.
""", phases),
    ("throughput", "Many", """
How many sandboxes of `/bin/true` can one parent start in a second? And what does that parent hold
after it has started thousands?""", throughput),
    ("memory", "Memory", """
The memory that the sandbox's own processes hold while the program in it sleeps. The program itself
is not included. RSS counts a shared page once for each process, PSS once in all.""", memory),
    ("burn", "While the program runs", """
How much slower is a program inside? A program in C runs in turns outside, in sandboxes, and in
sandboxes with one control left out.""", burn),
    ("ledger", "The ledger", """
With the ledger, the kernel asks a supervisor about each refused call, and the supervisor keeps a
record. Allowed calls do not reach it. The supervisor in C does the minimum: poll, receive, answer.
""", ledger),
    ("trace", "The trace of executions", """
With `--trace exec`, the kernel asks a supervisor about each execution. It lets the execution go on.
""", trace),
    ("imports", "Imports of a start", """
Imports of a plain run of the command line. `-X importtime` makes each import slower.""", imports),
    ("calls", "System calls of a start", """
`strace -f` of a plain run's set-up, without the interpreter's own calls. `bench/calls.json` has a
reason for each.
""", calls),
]
HOW = """
- The candidates take turns. In each round every candidate runs once, in a newly drawn order.
- A run begins when the machine is quiet, or after at most 50 ms. Medians use the samples that began
  in quiet, if there are enough of them.
- Intervals are 95 % intervals.
- Compare ratios within one run. They hold on other machines too; milliseconds do not.
- The other tools are set up as close to mrunc's default as possible. The tables say what they lack.
  None of them reads back what is in force.
- Some tools need a mount namespace with fewer mounts. They run in one; it makes most tools faster.
  Compare them with the row "bwrap + filter (apart)".
- The head of each program in `bench/` says what it does. [benchmarks.json](benchmarks.json) has the
  figures of this page."""


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
    text += " Compared with: %s." % ", ".join(
        "%s %s" % item if item[1] else item[0] for item in sorted(versions.items())) if versions else ""
    text += " It took %d seconds. The load was %.1f before and at most %.1f after a measurement." % (
        data["seconds"], host["load"][0], max(host.get("load_after", host["load"])[0] for host in hosts))
    if data["quick"]:
        text += "\n\n**This was a quick run: its figures are rough.** Some targets need a full run."
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
        out += ["The targets of the ledger:", targets.verdicts(results, targets.LEDGER)]
    for name, heading, what, function in SECTIONS:
        if name in results:
            out += ["## " + heading, what.strip(), function(results[name])]
    if absent(data["results"]):
        out += ["## Not measured", absent(data["results"])]
    return "\n\n".join(filter(None, out + ["## How", HOW.strip()])) + "\n"
