# SPDX-License-Identifier: Apache-2.0
"""The escape corpus and `mrunc selftest`: what it tries, that it can fail, what it says, and that it believes nobody."""
import json
import os
import re
import signal
import xml.etree.ElementTree

import pytest

import mrunc  # noqa: F401  registers the package
from mrunc.commands.selftest import archive, given, report as selftest_report, runner, selftest
from mrunc.commands.selftest.declared import ALL, DECLARED, OLD_KERNELS, UNPROVEN
from mrunc.sandbox.controls import CONTROLS
from mrunc.commands.selftest.attempt import BLOCKED, ERROR, KINDS, Outcome, REACHED
from mrunc.commands.selftest.probe import DANGERS, HOST, INFO, KERNEL, LIMIT, Probe

import positive
from conftest import ROOT

EVERY = runner.corpus() + runner.corpus(("limits",))
LISTED = {probe.id: probe for probe in EVERY}


# The corpus

def test_each_probe_says_what_it_is():
    assert len(LISTED) == len(EVERY)
    for probe in EVERY:
        assert re.match(r"[A-Z]\d\d$", probe.id) and probe.title and probe.layers and probe.group, probe.id
        assert probe.danger in DANGERS and callable(probe.action), probe.id
        assert re.match(r"(CVE-\d{4}-\d{4,}|T\d{4}(\.\d{3})?)?$", probe.reference), probe.id
        assert all(32 <= ord(char) < 127 for char in probe.title + probe.layers), probe.id
    assert {probe.danger for probe in EVERY} == set(DANGERS)
    assert len([probe for probe in EVERY if probe.group == "patterns"]) >= 20


def test_nothing_of_host_integrity_is_declared_and_all_of_it_is_in_security_md():
    with open(os.path.join(ROOT, "SECURITY.md")) as stream:
        text = stream.read()
    rows = re.findall(r"^\| `([A-Z]\d\d)` \| (.*?) \| (.*?) \|$", text, re.M)
    assert [(name, tiers, why) for name, tiers, why in rows] == [
        (name, "all" if tiers == ALL else ", ".join(tiers), why) for name, (tiers, why) in DECLARED.items()]
    for name in DECLARED:
        assert LISTED[name].danger in (KERNEL, INFO), name
    assert len([name for name, (tiers, _) in DECLARED.items() if "full" in tiers]) <= 8
    for control, names in OLD_KERNELS.items():
        assert "| `%s` | %s |" % (control, " ".join("`%s`" % name for name in names)) in text
        assert all(LISTED[name].danger in (KERNEL, INFO) for name in names) and control in CONTROLS


def test_what_a_kernel_lacks_is_declared_and_what_is_left_out_is_not():
    probe = LISTED["L15"]
    assert selftest.Row(probe, Outcome(REACHED, ""), "full", ["timens"]).declared == "this kernel has no timens"
    assert selftest.Row(probe, Outcome(REACHED, ""), "full", ["landlock"]).declared is None
    assert selftest.Row(probe, Outcome(ERROR, ""), "full", ["timens"]).declared is None


@pytest.mark.parametrize("shown, kind", [(4.9, BLOCKED), (7.0, REACHED)])
def test_a_sandbox_older_than_the_host_was_has_its_own_uptime(monkeypatch, shown, kind):
    """The host had been up for 3 s when it was asked, 4 s ago; 4.9 s and 7.0 s are what a clock shows now."""
    from mrunc.commands.selftest.probes import leaks
    monkeypatch.setattr(leaks, "first_boot", lambda: shown)
    monkeypatch.setattr(leaks.time, "time", lambda: 1004.0)
    assert leaks.same_uptime({"boottime": (3.0, 1000.0)}).kind == kind


def test_the_archive_holds_the_whole_corpus():
    """Whatever the probes import must be in it: they run where the folder is not to be seen."""
    import glob
    names = {os.path.basename(path)[:-3] for path in glob.glob(os.path.join(ROOT, "commands", "selftest", "probes", "[a-z]*.py"))}
    assert {"commands.selftest.probes." + name for name in names} <= set(archive.modules())


# That it can fail

with open(os.path.join(ROOT, "tests", "data", "probes-seen.json")) as stream:
    SEEN = json.load(stream)


def test_each_probe_was_reached_somewhere_or_is_not_counted():
    assert set(SEEN) | set(UNPROVEN) == set(LISTED) and not set(SEEN) & set(UNPROVEN)
    assert len([name for name in SEEN if LISTED[name].danger != LIMIT]) >= 150


@pytest.mark.parametrize("place", sorted(positive.places()))
def test_without_a_sandbox_the_probes_are_reached(place):
    """What was seen in a place is seen there again; what another kernel was needed for is tried in virtual machines."""
    found = positive.run(*positive.places()[place])
    silent = {name: (found[name].kind, found[name].detail) for name, where in SEEN.items() if where == place and
              (name not in found or found[name].kind != REACHED)}
    assert silent == {} and ERROR not in {outcome.kind for outcome in found.values()}


def test_what_is_not_counted_counts_when_it_is_reached():
    probes = [LISTED[name] for name in UNPROVEN]
    rows = [selftest.Row(probe, Outcome(BLOCKED, "")) for probe in probes]
    assert selftest_report.counted(rows) == [] and selftest_report.verdict(rows) == "nothing was tried"
    rows = [selftest.Row(probe, Outcome(REACHED, "")) for probe in probes]
    assert len(selftest_report.counted(rows)) == len(probes) and selftest_report.status_of(rows) == 1


# What holds on this host

@pytest.fixture(scope="module")
def judged():
    """Runs of the whole corpus by caller and options: each once."""
    seen = {}

    def run(inside, *options):
        key = (inside.who,) + options
        if key not in seen:
            seen[key] = inside.outside(inside.command(verb="selftest", options=["--json", *options]))
        done = seen[key]
        assert done.stdout, done
        return done.returncode, json.loads(done.stdout)
    return run


def misses(report):
    """{id: danger} of what was reached or failed."""
    return {row["id"]: row["danger"] for row in report["probes"] if row["outcome"] in (REACHED, ERROR)}


@pytest.mark.parametrize("options", [[], ["--harden"], ["--tier", "process"], ["--tier", "rootns"]], ids=" ".join)
def test_the_host_is_not_reached(inside, judged, options):
    if options[-1:] == ["rootns"] and inside.who != "root":
        done = inside.outside(inside.command(verb="selftest", options=options))
        assert (done.returncode, done.stdout) == (125, "") and "rootns" in done.stderr, done
        return
    status, report = judged(inside, *options)
    assert status == 0, misses(report)
    assert set(misses(report)) <= set(DECLARED) and not {"host integrity"} & set(misses(report).values())
    assert report["tier"] == (options[1] if options[:1] == ["--tier"] else "full")
    assert report["tier"] != "full" or len(misses(report)) <= (3 if options else 8)
    assert [row["id"] for row in report["probes"]] == [probe.id for probe in runner.corpus()]
    skipped = {row["id"]: row["detail"] for row in report["probes"] if row["outcome"] == "skipped"}
    assert all(detail.startswith("only on ") for detail in skipped.values()), skipped


def test_a_control_that_is_left_out_is_seen(inside):
    done = inside.outside(inside.command(verb="selftest", options=["--json", "--", "--unsafe-without", "seccomp"]))
    report = json.loads(done.stdout)
    assert done.returncode == report["exit_status"] == 1
    assert {"B10", "B23", "K01", "K13", "W10", "X15"} <= set(misses(report))


def test_without_a_sandbox_it_cannot_run_and_says_so(inside):
    done = inside.outside(["unshare", "-Ur", "/bin/sh", "-ec", 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"', "sh",
                           *inside.command(verb="selftest")])
    assert (done.returncode, done.stdout) == (125, "") and "max_user_namespaces" in done.stderr, done


@pytest.mark.parametrize("options,text", [(["--only", "nowhere"], "no such group"), (["--", "--tier", "nowhere"], "tier"),
                                          (["word"], "takes no arguments"), (["--current", "--harden"], "makes no sandbox"),
                                          (["--nonsense"], "unknown option")])
def test_a_mistake_is_2(inside, options, text):
    done = inside.outside(inside.command(verb="selftest", options=options))
    assert (done.returncode, done.stdout) == (2, "") and text in done.stderr and "Traceback" not in done.stderr, done


def test_the_current_environment_is_tried_without_a_sandbox(inside):
    """Inside a sandbox of ours, from a copy of the folder: contained.  Outside: not."""
    folder = os.path.dirname(inside.tool)
    done = inside.run("/usr/bin/python3", "-I", "-S", "/mnt/mrunc/mrunc.py", "selftest", "--current", "--json",
                      options=["--ro", folder + ":/mnt/mrunc"])
    report = json.loads(done.out)
    assert done.rc == report["exit_status"] == 0 and report["tier"] is None, misses(report)
    done = inside.outside(inside.command(verb="selftest", options=["--current", "--only", "identity"]))
    assert done.returncode == 1 and "NOT CONTAINED" in done.stdout, done


# Whose word counts about the caller's objects

@pytest.mark.parametrize("kind", [given.Files, given.Terminal])
def test_objects_that_nothing_touched_overrule_the_probes(kind):
    objects = kind("mrunc-tests-")
    try:
        asked = [name for name, _ in objects.checks]
        found = {name: Outcome(REACHED, "") for name in asked}
        given.testify(objects.checks, found, asked)
        assert {outcome.kind for outcome in found.values()} == {BLOCKED}
        silent = {}
        given.testify(objects.checks, silent, asked)
        assert silent == {}
    finally:
        objects.close()


def test_objects_that_were_touched_overrule_the_probes():
    objects = given.Files("mrunc-tests-")
    try:
        os.fchmod(objects.stdin, 0o666)
        os.truncate(objects.paths[1], 0)
        found = {"F10": Outcome(BLOCKED, ""), "F12": Outcome(BLOCKED, "")}
        given.testify(objects.checks, found, ["F10", "F12", "F21"])
        kinds = {name: outcome.kind for name, outcome in found.items()}
        assert kinds == {"F10": REACHED, "F12": BLOCKED, "F21": REACHED}
    finally:
        objects.close()


def test_each_check_of_an_object_is_a_probe_of_its_kind():
    for kind, place in ((given.Files, "inside"), (given.Terminal, "terminal")):
        objects = kind("mrunc-tests-")
        names = [name for name, _ in objects.checks]
        objects.close()
        assert sorted(names) == sorted(probe.id for probe in EVERY
                                       if probe.group == "given" and probe.place() == place)


# What it says

def test_the_table_names_every_miss_and_what_it_means(inside):
    done = inside.outside(inside.command(verb="selftest", options=["--only", "B10,B23,C01", "--", "--unsafe-without",
                                                                   "seccomp"]))
    assert done.returncode == 1
    assert re.search(r"^host integrity +\d+ ", done.stdout, re.M) and "were reached or failed" in done.stdout.splitlines()[-1]
    assert "REACHED B10: TIOCSTI\n" in done.stdout and "[CVE-2017-5226]" in done.stdout
    assert "what stops it: seccomp" in done.stdout


def test_the_junit_report_has_a_case_for_each_probe(inside):
    path = os.path.join(inside.scratch, "junit.xml")
    done = inside.outside(inside.command(verb="selftest", options=["--junit", path, "--only", "filter,information", "--",
                                                                   "--unsafe-without", "seccomp"]))
    assert done.returncode == 1
    root = xml.etree.ElementTree.parse(path).getroot()
    cases = {case.get("name").split()[0]: case for case in root.iter("testcase")}
    assert set(cases) == {probe.id for probe in runner.corpus(("filter", "information"))}
    assert cases["B23"].find("failure") is not None and cases["L01"].find("failure") is None
    assert "declared" in cases["L04"].find("system-out").text
    assert sum(int(suite.get("failures")) for suite in root) == len(list(root.iter("failure")))


def test_the_list_needs_no_sandbox(inside):
    done = inside.outside(inside.command(verb="selftest", options=["--list"]))
    assert done.returncode == 0 and len([line for line in done.stdout.splitlines() if line.startswith("  ")]) == len(
        runner.corpus())


# Hostile output

def line(**words):
    return json.dumps(dict({"nonce": "n", "id": "N01", "kind": BLOCKED, "errno": 1, "detail": ""}, **words)).encode() + b"\n"


@pytest.mark.parametrize("data", [
    b"", b"\0\xff\n", b"{" * 100000 + b"\n", b"[" * 100000 + b"]" * 100000 + b"\n", line(nonce="other"), line(kind="fine"), line(id=1),
    line(detail=None), line(errno="x"), b'"text"\n[]\nnull\n1\n', line()[:-3]])
def test_nothing_ill_formed_is_believed(data):
    assert selftest.parse_lines(data, "n") == {}


def test_a_second_answer_is_an_error_and_silence_too():
    found = selftest.parse_lines(line(kind=REACHED) + line(kind=BLOCKED), "n")
    assert found["N01"].kind == ERROR
    rows = selftest.judged(runner.corpus(("namespaces",)), found)
    assert {row.outcome.kind for row in rows} == {ERROR} and selftest_report.status_of(rows) == 1


def test_a_flood_is_cut():
    found = selftest.parse_lines(line(detail="x" * 1000) + b"x" * (selftest.MOST * 2) + b"\n" + line(id="N02"), "n")
    assert list(found) == ["N01"] and len(found["N01"].detail) == 500


def test_the_current_directory_that_is_judged_is_the_kernels_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert runner.directory() == os.path.realpath(str(tmp_path))


def test_control_characters_reach_no_terminal_and_no_report():
    detail = "\x1b[2J\r\n\u202e<&\">]]>\0\udc80"
    rows = [selftest.Row(probe, Outcome(REACHED, detail)) for probe in runner.corpus(("namespaces",))]
    text = "\n".join(selftest_report.lines(rows))
    assert "\x1b" not in text and "\u202e" not in text and "\r" not in text and "\\x1b[2J" in text
    report = selftest_report.junit(rows)
    assert "\x1b" not in report and len(list(xml.etree.ElementTree.fromstring(report.encode()).iter("failure"))) == len(rows)


# The runner

def fake(deed, **more):
    return Probe("Z01", "a probe of the test", HOST, "", "nothing", deed, **more)


def die(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("deed,kind", [
    (lambda facts: Outcome(REACHED, "done"), REACHED), (lambda facts: os.open("/nowhere", 0), BLOCKED), (lambda facts: die(31),
                                                                                                         "killed"),
    (lambda facts: die(9), ERROR), (lambda facts: 1 / 0, ERROR), (lambda facts: os._exit(0), ERROR), (lambda facts: None,
                                                                                                      ERROR),
    (lambda facts: os.read(os.pipe()[0], 1), ERROR), (lambda facts: Outcome(REACHED, "a\tb\nc"), REACHED)],
    ids=["reached", "refused", "SIGSYS", "SIGKILL", "a bug", "silence", "no outcome", "hangs", "tabs"])
def test_the_runner_judges_how_a_probe_ends(deed, kind):
    probe = fake(deed, deadline=1.0)
    (_, outcome), = runner.run([probe], {})
    assert outcome.kind == kind and outcome.kind in KINDS, outcome.detail


def test_the_runner_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    read, write = os.pipe()  # held open by whatever is left

    def deed(facts):
        os.makedirs("a/b")
        os.symlink("/", "a/link")
        open("a/b/file", "w").close()
        if os.fork() == 0:
            os.write(write, b"x")
            signal.pause()
        return Outcome(REACHED, os.read(read, 1).decode())
    (_, outcome), = runner.run([fake(deed)], {})
    os.close(write)
    assert (outcome.kind, outcome.detail) == (REACHED, "x") and os.listdir(str(tmp_path)) == []
    assert os.read(read, 1) == b""
    os.close(read)


# The supervisor attacked

HANGS = {
    "it stops itself": "os.kill(os.getpid(), signal.SIGSTOP)",
    "everybody is stopped": "[os.fork() for _ in range(4)]; os.kill(0, signal.SIGSTOP)",
    "orphans hold the output": "os.fork() and os._exit(0); os.setsid(); [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; signal.pause()",
    "signals storm at pid 1": "\nwhile True:\n    for n in (1, 2, 3, 10, 12, 15, 17, 29):\n        try: os.kill(1, n)\n        except OSError: pass",
    "forks storm": "\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "output floods": "\nos.set_blocking(1, False)\nwhile True:\n    try: os.write(1, b'x' * 65536)\n    except OSError: pass",
}


@pytest.mark.parametrize("options", [[], ["--unsafe-without", "landlock-signals,seccomp"]],
                         ids=["default", "pid 1 in reach"])
@pytest.mark.parametrize("name", sorted(HANGS))
def test_nothing_inside_keeps_the_deadline_from_coming(inside, name, options):
    """Ended by the deadline, or by itself; whoever reads the output sees its end."""
    done = inside.outside(inside.command("/usr/bin/python3", "-I", "-S", "-c",
                                         "import os, signal\nos.write(2, b'RAN')\n%s" % HANGS[name],
                                         options=["--timeout", "1", "--grace", "0", *options]))
    status = {"orphans hold the output": 0, "signals storm at pid 1": 129 if options else 124}.get(name, 124)  # 129: passed on
    assert "RAN" in done.stderr and done.returncode == status, done.stderr[-500:]


def test_what_the_program_says_is_not_taken_for_our_word(inside):
    """Fake messages, control characters and giant lines pass through as the program's own, beside the result that is ours."""
    said = "mrunc: the time limit of 1 s was reached\n\x1b]0;owned\x07" + "x" * 1000000 + "\nmrunc: remedy: curl x | sh\n"
    done = inside.run("/usr/bin/python3", "-I", "-S", "-c", "import sys; sys.stderr.write(%r); sys.exit(3)" % said[:120000])
    assert done.err == said[:120000] and (done.rc, done.result["reason"], done.result["limits_hit"]) == (3, "exited",
                                                                                                         {}), done.rc
