# SPDX-License-Identifier: Apache-2.0
"""What was to be reached, as ratios within one run, and what the measurements say to it.

    python3 bench/targets.py FILE...     prints the table for what --json of the measurements wrote
"""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from measure import CALLS, table  # noqa: E402

PYTHON = "python3 -c 'import ctypes'"


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
    holds = cpu["high"] <= 1.005 and wall["low"] <= 1.005 and min(wall["median"], cpu["median"]) <= 1.005
    return "wall %.4f (95 %%: %.4f to %.4f), processor time %.4f (%.4f to %.4f)" % tuple(
        found[key] for found in (wall, cpu) for key in ("median", "low", "high")), \
        holds if results["burn"]["burn"]["mrunc"]["seconds"] > 57 else None


#: Two filters cost the same when they differ by no more than this, ns per call: what repeating the measurement changes.
SAME = 4.0
UNFILTERED = ("outside", "bwrap", "runsc", "nsjail", "minijail0")


def is_peers(name):
    """Whether the filter in this row is another sandbox's."""
    return name not in UNFILTERED and not name.startswith("mrunc")


def filtered(results):
    """Round by round beside each peer: of several medians alone the least is the luckiest.  Ours is dearer where the whole
    interval of the difference says so; with more than SAME within it, it can't be told."""
    cost, told, held = results["burn"]["calls"], [], []
    for kind in ("plain", "file"):
        peers = {name: row[kind]["beside"] for name, row in cost.items() if is_peers(name) and kind in row}
        least = max(peers, key=lambda name: peers[name]["median"])
        told.append("%.0f ns, %+.1f (%+.1f to %+.1f) to %s's" % (
            cost["mrunc"][kind]["extra"]["median"], *[peers[least][key] for key in ("median", "low", "high")], least))
        held.append(False if peers[least]["low"] > SAME else peers[least]["median"] <= SAME or None)
    return "; ".join(told), False if False in held else None if None in held else True


def lasting(results):
    found = results["throughput"]["growth"]
    holds = found["aged"]["median"] <= 1.05 and found["descriptors"] <= 0 and found["memory_kb"] <= found["memory_allowed_kb"]
    return "%.3f (beside a fresh process; %+d kB, %+d descriptors after %d)" % (
        found["aged"]["median"], found["memory_kb"], found["descriptors"], found["sandboxes"]), \
        holds if found["sandboxes"] >= 10000 else None


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
    enough = max(row["made"] for row in floods) >= 1000000
    return "%d of %d calls off" % (wrong, sum(row["made"] for row in floods)), wrong == 0 if enough or wrong else None


def ledger_memory(results):
    peak = max(row["peak_kb"] for row in results["ledger"]["floods"]) / 1024
    return "%.1f MB" % peak, peak <= 50


def ledger_share(results):
    paced = [row for row in results["ledger"]["floods"] if row["paced"]]
    return ", ".join("%.1f %% (%d thread%s)" % (100 * row["share"], row["threads"], "s"[:row["threads"] > 1])
                     for row in paced), max(row["share"] for row in paced) <= 0.05


#: (bench, what, against what, target, function)
TARGETS = [
    ("startup", "`python3 mrunc.py run -- /bin/true`", "`%s`" % PYTHON, "<= 1.30", command_line),
    ("startup", "their difference, mrunc's own part", "bwrap with a filter, whole", "<= 0.55", own_part),
    ("startup", "`mrunc.run(['/bin/true'])`, read back", "`subprocess.run(['bwrap', same set-up and filter])`", "<= 0.75",
     in_process),
    ("startup", "`Pool.run`", "the same", "<= 0.25", warm),
    ("startup", "`Pool.run`", "`subprocess.run(['/bin/true'])`", "<= 1.5", warm_beside_none),
    ("throughput", "sandboxes per second from one parent, 1 and 2 at once", "bwrap with a filter", ">= 2.2", per_second),
    ("memory", "PSS per running sandbox, launcher shared", "bwrap's two processes", "<= 0.10", memory_each),
    ("memory", "RSS of the command line's supervisor", "runc's", "<= 0.9", memory_supervisor),
    ("burn", "60 s of CPU burn inside", "outside", "<= 1.005", burnt),
    ("burn", "extra cost of an allowed call", "the cheapest filter of a peer", "the same or less", filtered),
    ("throughput", "the 10,000th sandbox", "the 10th; memory, descriptors", "<= 1.05, no growth", lasting),
    ("ledger", "allowed calls with the ledger", "without", "<= 1.02", ledger_allowed),
    ("ledger", "a repeated refused call with its record, of numbers alone", "a supervisor in C", "<= 1.6", ledger_refused),
    ("ledger", "1,000,000 refused calls by 1 and 4 threads", "what the program counts", "exact", ledger_counts),
    ("ledger", "the supervisor's memory in them", "", "<= 50 MB", ledger_memory),
    ("ledger", "the supervisor's share of a processor once the burst is spent", "", "<= 5 %", ledger_share),
]
LEDGER = [target for target in TARGETS if target[0] == "ledger"]
LIGHT = [target for target in TARGETS if target[0] != "ledger"]


def judged(results, rows=TARGETS):
    """[(what, against, target, reached, "yes" | "**no**" | why not)] of the targets whose bench has run."""
    out = []
    for bench, what, against, target, function in rows:
        if bench not in results:
            continue
        try:
            reached, holds = function(results)
        except (KeyError, ValueError):
            reached, holds = "-", "not measured"
        said = {True: "yes", False: "**no**", None: "too short to tell"}.get(holds, holds)
        out.append((what, against, target, reached, said))
    return out


def verdicts(results, rows=TARGETS):
    """The same as a table."""
    return table(("what", "against", "target", "reached", "holds"), judged(results, rows))


def main():
    results = {}
    for path in sys.argv[1:]:
        with open(path) as stream:
            result = json.load(stream)
        results[result["bench"]] = result
    print(verdicts(results) if results else __doc__)
    return 0 if results else 2


if __name__ == "__main__":
    sys.exit(main())
