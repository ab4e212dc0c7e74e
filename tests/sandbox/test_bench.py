# SPDX-License-Identifier: Apache-2.0
"""bench/: every measurement runs and says what it promises, whoever starts it; the page is made of its JSON; a target turns where
it should.  No figure is judged here, only what must be in proportion whatever the machine does."""
import copy
import glob
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree

import pytest

from conftest import PYTHON, ROOT, become, copy_tool

sys.path.insert(0, os.path.join(ROOT, "bench"))
import chart  # noqa: E402
import everything  # noqa: E402
import measure  # noqa: E402
import page  # noqa: E402
import rivals  # noqa: E402
import targets  # noqa: E402

with open(os.path.join(ROOT, "docs", "benchmarks.json")) as _stream:
    DATA = json.load(_stream)
RESULTS = DATA["results"]
PEERS = ("bwrap", "crun", "runc")  # what .ci/test installs


@pytest.fixture(scope="session")
def checkout(public_folder):
    """A copy of what the measurements read, where everybody can read it."""
    folder = os.path.join(public_folder, "checkout")
    os.mkdir(folder)
    copy_tool(folder)
    for name in ("bench", "tests", "docs", ".ci"):
        shutil.copytree(os.path.join(ROOT, name), os.path.join(folder, name), ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
    return folder


def ran(checkout, inside, name, *options):
    """(the JSON of one measurement, what it printed) as this caller."""
    path = os.path.join(inside.scratch, name + ".json")
    done = subprocess.run([PYTHON, os.path.join(checkout, "bench", name + ".py"), "--json", path, *options], cwd=inside.scratch,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, preexec_fn=become(inside.who),
                          timeout=240, stdin=subprocess.DEVNULL, env=dict(os.environ, TMPDIR=inside.scratch))
    assert done.returncode == 0 and not done.stderr, done.stderr
    with open(path) as stream:
        result = json.load(stream)
    assert result["bench"] == name and result["host"]["uid"] == (0 if inside.who == "root" else os.geteuid() or 61234)
    assert done.stdout == page.alone(result) + "\n", "what is printed is made of the JSON alone"
    return result


def rivals_are_told(result, who, found, expected):
    """Each rival that can run here has a row; each that can't is named with what to do."""
    for name, why in result["missing"].items():
        assert "apt-get install" in why or "no package" in why or who == "user", (name, why)
    for name in expected:
        if who == "root" or not name.startswith(("crun", "runc")):
            assert name in found, result["missing"]
        else:
            assert result["missing"][name] == "runs for root only"


def test_startup(checkout, inside):
    result = ran(checkout, inside, "startup", "--rounds", "2")
    rows = result["rows"]
    rivals_are_told(result, inside.who, rows, ["bwrap", "bwrap + filter", "crun + docker", "runc + docker"])
    assert {"plain", "mrunc run", "mrunc.run", "mrunc.Pool.run", "subprocess.run, plain", "subprocess.run, bwrap + mrunc's filter"} <= set(rows)
    for row in rows.values():
        assert 0 < row["min"] <= row["median"] <= row["p90"] and 0 <= row["clean"] <= row["samples"] == 2 and row["note"]
    for plain in ("plain", "subprocess.run, plain"):  # the others are too near to each other for two rounds on a busy machine
        assert rows[plain]["min"] < rows["mrunc run"]["min"]
    assert set(result["versions"]) >= set(PEERS) - ({"runc"} if inside.who == "user" else set())


def test_phases(checkout, inside):
    result = ran(checkout, inside, "phases", "--rounds", "3")
    for name in ("command line", "warm"):
        phases = result["phases"][name]
        assert all(0 < row["low"] <= row["median"] <= row["high"] and row["samples"] == 3 for row in phases), name
        low, high = (sum(row[key] for row in phases) for key in ("low", "high"))
        assert low < result["whole"][name]["median"] * 1.05 and result["whole"][name]["min"] < high * 1.05, "they are the whole run"
    for name, row in result["processor"].items():
        assert row["sandbox"] > 0 and row["wall"] > row["host"] > 0 and (row["launcher"] > 0) == name.startswith("mrunc"), name
    assert {"plain", "mrunc.Pool.run", "bwrap + filter"} <= set(result["processor"])


def test_throughput(checkout, inside):
    result = ran(checkout, inside, "throughput", "--rounds", "2", "--total", "24", "--pairs", "2")
    assert {"mrunc.run", "mrunc.Pool", "bwrap + filter", "plain"} <= set(result["cells"])
    for row in result["cells"].values():
        assert list(row) == ["1", "2", "8", "64"] and all(0 < cell["median"] <= cell["best"] for cell in row.values())
    grown = result["growth"]
    assert grown["sandboxes"] == 24 and grown["aged"]["samples"] == 2 and grown["descriptors"] == 0
    assert grown["rss_kb"] > 10000 and result["states"][0]["processes"] == 2, "the launcher is among them"


def test_memory(checkout, inside):
    result = ran(checkout, inside, "memory", "--rounds", "1")
    rows = result["rows"]
    rivals_are_told(result, inside.who, rows, ["bwrap", "crun + docker", "runc + docker"])
    assert rows["bwrap"]["1"]["processes"] == 2 and rows["mrunc run"]["1"]["processes"] == 2
    assert rows["mrunc.run"]["1"]["before_pss"] > 1000, "the launcher counts as what all share"
    assert rows["mrunc.Pool"]["1"]["processes"] == 2, "the launcher and one that waits"
    assert all(0 < row["1"]["pss"] <= row["1"]["rss"] for name, row in rows.items() if not name.startswith("mrunc."))
    assert rows["bwrap"]["1"]["largest_rss"] < rows["mrunc run"]["1"]["largest_rss"], "bwrap is no Python"


def test_burn(checkout, inside):
    result = ran(checkout, inside, "burn", "--seconds", "0.3", "--rounds", "1")
    rivals_are_told(result, inside.who, result["calls"], ["bwrap", "bwrap + filter", "crun + docker", "runc + docker"])
    assert set(result["burn"]) == {"mrunc", "mrunc without seccomp", "mrunc without caps", "bwrap + filter"}
    assert set(result["calls"]) >= set(result["burn"]) | {"outside"}
    for name, row in result["calls"].items():
        assert list(row) == ["plain", "file", "tested", "denied"]
        assert all(cell["ns"]["median"] > 0 and cell["ns"]["low"] <= cell["ns"]["high"] for cell in row.values())
        assert name != "outside" or all(cell["extra"]["median"] == 0 and cell["ratio"]["median"] == 1 for cell in row.values())
        assert name != "mrunc" or all(cell["beside"]["median"] == 0 for cell in row.values())
    assert result["burn"]["mrunc"]["seconds"] > 0


def test_ledger(checkout, inside):
    result = ran(checkout, inside, "ledger", "--rounds", "1", "--flood", "2000", "--paced", "0.5")
    assert list(result["allowed"]) == ["plain", "file"] and list(result["refused"]) == ["numbers", "denied"]
    for row in result["refused"].values():
        assert row["plain"]["median"] < row["supervisor"]["median"], "asking costs two changes of the process"
        assert row["ratio"]["median"] == pytest.approx(row["ledger"]["median"] / row["supervisor"]["median"])
    assert [(row["kind"], row["threads"], row["paced"]) for row in result["floods"]] == [
        ("numbers", 1, False), ("numbers", 4, False), ("various", 4, False), ("numbers", 1, True), ("numbers", 4, True)]
    for row in result["floods"]:
        assert row["made"] == row["refused"] == row["counted"] and row["interrupted"] == 0
        assert (row["records"] == 1) == (row["kind"] == "numbers") and row["peak_kb"] > 5000 and row["file_bytes"] > 0
        assert row["made"] == (2000 if not row["paced"] else result["burst"] + result["pace"] // 2 + result["pace"] // 2)
        assert not row["paced"] or row["share"] < min(other["share"] for other in result["floods"] if not other["paced"])


def test_the_worker_does_what_it_is_asked_for(tmp_path):
    program, supervisor = measure.program(str(tmp_path)), measure.program(str(tmp_path), "supervisor")
    trace = str(tmp_path / "trace")
    asked = "plain 31\nfile 32\ntested 33\ndenied 34\nnumbers 35\nvarious 37 4\nburn 1000\n"
    done = subprocess.run(["strace", "-f", "-o", trace, program], input=asked, stdout=subprocess.PIPE, universal_newlines=True,
                          check=True, timeout=60)
    with open(trace) as stream:
        lines = stream.read().splitlines()
    for call, count in (("getppid", 31), ('read(3, "\\0"', 32), ("personality", 33), ("acct", 34), ("setns", 72), ("clone", 3)):
        assert sum(call in line and "resumed" not in line for line in lines) == count, call
    assert len({line.split("setns(")[1].split(")")[0] for line in lines if "setns(9999, 0x" in line or "setns(9999, 0)" in line}) >= 36
    outside = [int(line.split()[2]) for line in done.stdout.splitlines()]
    assert outside == [0, 0, 0, 34 if os.geteuid() else 0, 0, 0, 0], "nothing but a filter refuses them"
    done = subprocess.run([supervisor, program], input=asked, stdout=subprocess.PIPE, universal_newlines=True, timeout=60)
    assert [int(line.split()[2]) for line in done.stdout.splitlines()] == [0, 0, 0, 34, 35, 37, 0] and done.returncode == 0


# Figures

def test_samples_that_began_in_quiet_are_taken_where_there_are_enough():
    quiet, busy = [(value, True) for value in range(100, 112)], [(value, False) for value in range(1000, 1020)]
    assert measure.summary(quiet + busy) == {"median": 105, "min": 100, "p90": 110, "clean": 12, "samples": 32}
    assert measure.summary(quiet[:5] + busy)["median"] > 1000, "five are not enough"


def test_an_interval_holds_the_median_and_shrinks_with_the_samples():
    few, many = measure.spread(list(range(100, 110))), measure.spread(list(range(100, 110)) * 20)
    assert few["low"] <= few["median"] == 104.5 == many["median"] <= few["high"] and many["high"] - many["low"] < few["high"] - few["low"]
    assert measure.spread([7.0]) == {"median": 7.0, "low": 7.0, "high": 7.0, "samples": 1}


def test_candidates_take_turns():
    order = []
    samples = measure.interleaved(5, {name: lambda name=name: order.append(name) or 1 for name in "abc"})
    assert all(set(order[at:at + 3]) == set("abc") for at in range(0, len(order), 3)) and len(order) == 18
    assert len({tuple(order[at:at + 3]) for at in range(0, len(order), 3)}) > 1, "each round in another order"
    assert all(len(found) == 5 for found in samples.values()), "the first round warms up"


def test_a_rival_that_is_not_installed_is_named_with_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(measure.ENVIRONMENT, "PATH", str(tmp_path))
    why = {tool: rivals.Rival(tool, tool, None).missing() for tool in rivals.INSTALL}
    assert why["systemd-nspawn"] == "not installed: apt-get install systemd-container"
    assert all(text.startswith("not installed: ") for text in why.values())
    assert rivals.Rival("mrunc run", None, None).missing() is None


# The page

def test_the_page_and_the_chart_are_made_of_the_figures_beside_them():
    for name, text in everything.files(DATA).items():
        with open(os.path.join(ROOT, "docs", name)) as stream:
            assert stream.read() == text, "run: python3 bench/everything.py --from docs/benchmarks.json docs"


def test_the_page_has_each_target_the_machine_and_what_is_missing():
    text = page.markdown(DATA)
    assert len(targets.LIGHT) == 11 and len(targets.LEDGER) == 5
    for _, what, against, target, _ in targets.TARGETS:
        assert "| %s | %s | %s | " % (what, against, target) in text
    host = RESULTS["startup"]["host"]
    assert all(word in text for word in (host["date"], host["kernel"], host["model"], host["python"], "bwrap 0."))
    assert ("A quick run" in text) == DATA["quick"]
    for result in RESULTS.values():
        for name, why in result.get("missing", {}).items():
            assert "- %s: %s" % (name, why) in text
    assert {row[0] for row in page.SECTIONS} == set(RESULTS) and all("## " + row[1] in text for row in page.SECTIONS)


def test_the_chart_has_a_dot_for_each_row():
    drawn = xml.etree.ElementTree.fromstring(chart.svg(RESULTS["startup"]))
    names = [title.text.rpartition(": ")[0] for title in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert sorted(names) == sorted(RESULTS["startup"]["rows"])
    hostile = {"rows": {"<b>&": dict(next(iter(RESULTS["startup"]["rows"].values())))}}
    assert "<b>" not in chart.svg(hostile)


def test_a_measurement_that_fails_is_named_and_takes_no_other_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # no gcc
    failed = everything.run("burn", ["--rounds", "1"])
    assert failed == {"bench": "burn", "failed": "RuntimeError: gcc is not installed: apt-get install gcc libc6-dev"}
    data = dict(DATA, results=dict(RESULTS, burn=failed))
    assert "- bench/burn.py: failed: RuntimeError: gcc is not installed" in page.markdown(data)
    assert [row[-1] for row in targets.judged({"startup": {"rows": {}}}, targets.LIGHT)] == ["not measured"] * 5


def test_each_measurement_of_time_and_memory_is_on_the_page():
    scripts = {os.path.basename(path)[:-3] for path in glob.glob(os.path.join(ROOT, "bench", "*.py"))}
    shared = {"measure", "rivals", "page", "chart", "targets", "everything", "stamped"}
    told_elsewhere = {"bpf", "containment", "coverage", "layers", "learning", "strict"}
    assert scripts - shared - told_elsewhere == set(everything.BENCHES)


def changed(*edits):
    """The results with [(path of keys, value)] in place."""
    results = copy.deepcopy(RESULTS)
    for path, value in edits:
        place = results
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
    return results


def start(**medians):
    names = {"run": "mrunc run", "python": targets.PYTHON, "bwrap": "bwrap + filter", "few": "bwrap, few mounts + filter",
             "library": "mrunc.run", "same": "subprocess.run, bwrap + mrunc's filter", "none": "subprocess.run, plain",
             "pool": "mrunc.Pool.run"}
    return [(("startup", "rows", names[name]), {"median": value}) for name, value in medians.items()]


def rates(ours, theirs):
    cells = {"mrunc.run": {"1": {"median": ours}, "2": {"median": ours}}, "bwrap + filter": {"1": {"median": theirs}, "2": {"median": theirs}}}
    return [(("throughput", "cells"), cells)]


def held(own, peer, largest, runc):
    return [(("memory", "rows"), {"mrunc.run": {"1": {"pss": own}}, "mrunc run": {"1": {"largest_rss": largest}},
                                  "bwrap": {"1": {"pss": peer}}, "runc + docker": {"1": {"largest_rss": runc}}})]


def burnt(value, seconds=60):
    found = {"median": value, "low": value - 0.0001, "high": value + 0.0001}
    return [(("burn", "burn", "mrunc"), {"wall": found, "cpu": found, "seconds": seconds})]


def filters(own, peer):
    def row(value):
        return {kind: {"extra": ratios(value), "beside": ratios(own - value)} for kind in ("plain", "file")}
    return [(("burn", "calls"), {"outside": row(0), "mrunc": row(own), "crun + docker": row(peer), "runc + docker": row(peer + 9),
                                 "bwrap": row(0)})]


def grown(aged=1.0, memory=0, fds=0, count=10000):
    return [(("throughput", "growth"), {"aged": {"median": aged}, "memory_kb": memory, "memory_allowed_kb": 256, "descriptors": fds,
                                        "sandboxes": count})]


def ratios(value):
    return {"median": value, "low": value, "high": value}


def floods(counted=1000000, peak=20000, share=0.01, made=1000000):
    return [(("ledger", "floods"), [{"made": made, "refused": made, "counted": counted, "peak_kb": peak, "share": share, "paced": True,
                                     "threads": threads} for threads in (1, 4)])]


YES, NO, SHORT = "yes", "**no**", "too short to tell"


@pytest.mark.parametrize("row, edits, holds", [
    (0, start(run=13, python=10), YES), (0, start(run=13.1, python=10), NO),
    (1, start(run=15.5, python=10, bwrap=10, few=5), YES), (1, start(run=15.6, python=10, bwrap=10, few=5), NO),
    (2, start(library=7.5, same=10), YES), (2, start(library=7.6, same=10), NO),
    (3, start(pool=2.5, same=10), YES), (3, start(pool=2.6, same=10), NO),
    (4, start(pool=1.5, none=1), YES), (4, start(pool=1.6, none=1), NO),
    (5, rates(220, 100), YES), (5, rates(219, 100), NO),
    (6, held(90, 900, 1, 1), YES), (6, held(91, 900, 1, 1), NO),
    (7, held(1, 1, 9000, 10000), YES), (7, held(1, 1, 9001, 10000), NO),
    (8, burnt(1.0048), YES), (8, burnt(1.0052), NO), (8, burnt(1.0, 5), SHORT),
    (9, filters(30, 30), YES), (9, filters(40, 30), NO),
    (10, grown(), YES), (10, grown(aged=1.06), NO), (10, grown(fds=1), NO), (10, grown(memory=300), NO), (10, grown(count=80), SHORT),
    (11, [(("ledger", "allowed"), {"plain": ratios(1.02), "file": ratios(1.0)})], YES),
    (11, [(("ledger", "allowed"), {"plain": ratios(1.0), "file": ratios(1.021)})], NO),
    (12, [(("ledger", "refused", "numbers", "ratio"), ratios(1.6))], YES),
    (12, [(("ledger", "refused", "numbers", "ratio"), ratios(1.61))], NO),
    (13, floods(), YES), (13, floods(counted=999999), NO), (13, floods(made=50000, counted=50000), SHORT),
    (14, floods(peak=51200), YES), (14, floods(peak=51300), NO), (15, floods(share=0.05), YES), (15, floods(share=0.051), NO)])
def test_a_target_holds_up_to_its_limit_and_not_beyond(row, edits, holds):
    assert targets.judged(changed(*edits), [targets.TARGETS[row]])[0][-1] == holds


def test_every_target_has_a_limit_that_is_tried():
    mark, = [mark for mark in test_a_target_holds_up_to_its_limit_and_not_beyond.pytestmark if mark.name == "parametrize"]
    assert {(row, holds) for row, _, holds in mark.args[1]} >= {(row, holds) for row in range(len(targets.TARGETS)) for holds in (YES, NO)}
