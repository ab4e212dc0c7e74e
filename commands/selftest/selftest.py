# SPDX-License-Identifier: Apache-2.0
"""Runs `mrunc selftest`: the escape corpus, in a sandbox on this host, and the verdict."""
import binascii
import json
import os
import subprocess
import sys
import tempfile

from ...sandbox.caller import door
from ...sandbox.errors import CANNOT_CONTAIN, SandboxError, nearest, usage
from .. import help
from ..options import Option, parse
from ..output import write
from . import archive, report as selftest_report, runner
from .attempt import ERROR, KILLED, KINDS, REACHED, SKIPPED, Outcome
from .declared import reason
from .plants import Plants
from .probe import DANGERS, HOST, LIMIT

GROUP = "Options of selftest"
OPTIONS = (
    Option("--current", "current", None, "run the probes here, without a sandbox (am I "
           "contained?)", GROUP),
    Option("--only", "only", "GROUP", "run a group, a danger or one probe; limits are only run "
           "if named", GROUP, True),
    Option("--tier", "tier", "NAME", "test this tier, as for run", GROUP),
    Option("--harden", "harden", None, "test with --harden, as for run", GROUP),
    Option("--list", "list", None, "print the probes, run nothing", GROUP),
    Option("--junit", "junit", "FILE", "write a JUnit report", GROUP),
    Option("--json", "json", None, "print JSON", GROUP),
    Option("-h --help", "help", None, "show this text", GROUP),
)
ACTIONS = ()
EXIT = (("0", "contained: the host was not reached, and every other miss is declared"),
        ("1", "not contained, or a probe failed"), ("125", "no sandbox could be made"),
        ("2", "wrong options"))
USAGE = "selftest [options] [-- OPTIONS OF run]"
#: Most bytes of a run's output: about 400 lines of 100 to 900 bytes.
MOST = 4 << 20


class Row:
    """Holds one probe and its outcome.

    probe: Probe
    outcome: Outcome
    declared: why the miss is declared, or None
    """

    __slots__ = ("probe", "outcome", "declared")

    def __init__(self, probe, outcome, tier="full", missing=()):
        self.probe, self.outcome = probe, outcome
        self.declared = None
        if outcome.kind == REACHED and probe.danger != HOST:
            self.declared = reason(probe.id, tier, missing)

    def missed(self):
        """Returns whether it counts against the sandbox."""
        return self.outcome.kind in (REACHED, ERROR)

    def as_dict(self):
        """Returns the JSON object."""
        probe = self.probe
        return {"id": probe.id, "title": probe.title, "group": probe.group, "danger": probe.danger,
                "reference": probe.reference, "layers": probe.layers, "expected": probe.expected(),
                "outcome": self.outcome.kind, "errno": self.outcome.errno,
                "detail": self.outcome.detail, "declared": self.declared}


def help_text():
    """Returns the help of selftest."""
    about = ("Tries to break out of a sandbox on this host, and prints which probes were stopped.",)
    return help.text(USAGE, ((GROUP, OPTIONS),), about, exits=EXIT)


def main(argv):
    """Runs the verb selftest. argv: list of str after the verb. Returns the exit status."""
    values, more = parse(argv, OPTIONS, "selftest")
    if values.get("help"):
        write(1, help_text())
        return 0
    if more and argv[len(argv) - len(more) - 1] != "--":
        raise usage("selftest takes no arguments: %s" % more[0],
                    remedy="options of run follow --: %s" % USAGE)
    only = _groups(values.get("only", ()), runner.corpus() + runner.corpus((LIMIT,)))
    if values.get("list"):
        return listing(runner.corpus(only), values.get("json"))
    tier = "full"
    if values.get("current"):
        if more or values.get("tier") or values.get("harden"):
            raise usage("--current", "makes no sandbox, so it takes no options for one")
        rows = [Row(probe, outcome)
                for probe, outcome in runner.run(runner.corpus(only), {"current": True})]
    else:
        options = list(more)
        options += ["--tier", values["tier"]] if "tier" in values else []
        # With kill, the first high-risk call would end the sandbox of all other probes.
        options += ["--harden", "--seccomp-action", "errno"] if "harden" in values else []
        rows, tier = sandboxed(options, only)
    return selftest_report.tell(rows, values, more, tier)


def _groups(words, every):
    """Returns the names of --only. every: all probes. Raises SandboxError."""
    names = {probe.group for probe in every} | set(DANGERS)
    names |= {probe.id for probe in every}
    wanted = [name for word in words for name in word.split(",")]
    for name in wanted:
        if name not in names:
            raise usage("--only %s" % name, "no such group%s" % nearest(name, names),
                        "groups: %s" % ", ".join(sorted(names - {probe.id for probe in every})))
    return tuple(wanted)


def listing(probes, as_json):
    """Prints the probes. Returns the exit status."""
    if as_json:
        rows = [Row(probe, Outcome(SKIPPED)).as_dict() for probe in probes]
        for row in rows:
            for name in ("outcome", "errno", "detail", "declared"):
                del row[name]
        write(1, json.dumps(rows, indent=2) + "\n")
        return 0
    group = None
    for probe in probes:
        if probe.group != group:
            group = probe.group
            write(1, "%s\n" % group)
        write(1, "  %-4s %-15s %-15s %s\n" % (probe.id, probe.danger, probe.reference or "-",
                                              probe.title))
    return 0


#: Reasons of a result if a limit ended the whole sandbox, as it should.
ENDED = ("oom", "pids-max", "output-limit", "timeout-cpu", "file-size")


def sandboxed(options, only):
    """Runs the probes inside sandboxes, and those for outside beside them.

    options: list of str, options of `run`
    only: names of groups, dangers or probes

    Returns ([Row], the tier that ran). Raises SandboxError if nothing ran.
    """
    probes = runner.corpus(only)
    parts = {}
    for probe in probes:
        parts.setdefault(probe.place(), []).append(probe)
    beside = Beside(options, parts["outside"]) if "outside" in parts else None
    try:
        found, result, status = {}, {}, 0
        for place in ("inside", "terminal"):
            if place in parts:
                last = _tried(options, parts[place], found, place == "terminal")
                result, status = result or last.result, status or last.status
    except BaseException:
        if beside:
            beside.give_up()
        raise
    if beside:
        found.update(beside.found())
    missing = [row["name"] for row in result.get("controls", ())
               if row["asked"] and not row["in_force"]]
    tier = result.get("tier", "full")
    return judged(probes, found, tier, missing, status), tier


def _tried(options, probes, found, terminal):
    """Runs probes inside, adds their outcomes to `found`, and returns the last Run.

    A probe of the limits may end its sandbox: that is its outcome, and the next probes get a new
    one.
    """
    left = probes
    while True:
        run = Run(options, [probe.id for probe in left], terminal)
        found.update(run.found)
        left = [probe for probe in left if probe.id not in found]
        reason = run.result.get("reason")
        if not left or reason not in ENDED or left[0].danger != LIMIT:
            if not found and run.status:
                raise _nothing_ran(run.said, run.status)
            return run
        found[left[0].id] = Outcome(KILLED,
                                    "the sandbox ended: %s" % (run.result.get("detail") or reason))
        left = left[1:]
        if not left:
            return run


class Beside:
    """Is a process with the probes for outside.

    options: of `run`, for the sandboxes that they start
    probes: [Probe]
    """

    def __init__(self, options, probes):
        self.nonce = binascii.hexlify(os.urandom(8)).decode()
        self.program = tempfile.NamedTemporaryFile(prefix="mrunc-selftest-", suffix=".zip")
        self.program.write(archive.build())
        self.program.flush()
        python = sys.executable or "python3"
        facts = {"tool": [python, "-I", "-S", door(), "run"] + list(options), "python": python}
        request = json.dumps({"nonce": self.nonce, "groups": [probe.id for probe in probes],
                              "facts": facts})
        command = [python, "-I", "-S", self.program.name, request]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL)

    def found(self):
        """Waits for its end; returns {probe id: Outcome}."""
        data = _read(self.process.stdout)
        self.process.stdout.close()
        self.process.wait()
        self.program.close()
        return parse_lines(data, self.nonce)

    def give_up(self):
        """Kills it; the running probe's sandbox ends when its parent is gone."""
        self.process.kill()
        self.found()


class Run:
    """Is one sandbox with probes.

    options: of `run`
    ids: of the probes
    terminal: whether descriptors 0 and 2 are a terminal and a pipe, or two files
    found: {probe id: Outcome}
    result: the report as a dict, empty without one
    said: what was written to stderr
    status: the exit status of `run`
    """

    def __init__(self, options, ids, terminal=False):
        nonce = binascii.hexlify(os.urandom(8)).decode()
        made = tempfile.TemporaryDirectory(prefix="mrunc-selftest-")
        with Plants(terminal) as plants, made as folder:
            program, report = os.path.join(folder,
                                           "probes.zip"), os.path.join(folder, "report.json")
            with open(program, "wb") as stream:
                stream.write(archive.build())
            request = json.dumps({"nonce": nonce, "groups": ids, "facts": plants.facts})
            command = [sys.executable or "python3", "-I", "-S", door(), "run", "--timeout", "600",
                       "--report", report] + list(options)
            source = program.replace("\\", "\\\\").replace(":", "\\:")
            command += ["--copy", source + ":/box/selftest.zip"]
            # The archive is named without a directory: the process tier has no /box.
            command += ["--", "python3", "-I", "-S", "selftest.zip", request]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, env=plants.environ,
                                       pass_fds=plants.descriptors, **plants.stdio())
            try:
                data = _read(process.stdout)
            except BaseException:
                process.kill()
                raise
            finally:
                process.stdout.close()
                self.status = process.wait()
            self.said, self.result = plants.said(), {}
            self.found = parse_lines(data, nonce)
            plants.testify(self.found, ids)
            if os.path.exists(report):
                with open(report) as stream:
                    self.result = json.load(stream)


def _read(stream):
    """Returns at most MOST bytes of a stream; the rest is dropped, so that no writer blocks."""
    data = b""
    while True:
        part = stream.read(65536)
        if not part:
            return data
        if len(data) < MOST:
            data += part


def parse_lines(data, nonce):
    """Returns {probe id: Outcome} of well-formed lines from the sandbox.

    A second answer for a probe makes it an error.
    """
    found = {}
    for line in data[:MOST].split(b"\n"):
        try:
            said = json.loads(line.decode("ascii"))
            if said["nonce"] != nonce or said["kind"] not in KINDS:
                continue
            name, detail, number = said["id"], said["detail"], said["errno"]
            if not (isinstance(name, str) and isinstance(detail, str) and
                    isinstance(number, (int, type(None)))):
                continue
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        found[name] = Outcome(ERROR, "two answers") if name in found else \
            Outcome(said["kind"], detail[:500], number)
    return found


def judged(probes, found, tier="full", missing=(), status=0):
    """Returns [Row]; a probe without an answer is an error, not a pass."""
    silent = Outcome(ERROR, "no answer%s" % (", the run ended with status %d" % status
                                             if status else ""))
    return [Row(probe, found.get(probe.id, silent), tier, missing) for probe in probes]


def _nothing_ran(said, status):
    lines = [line[len("mrunc: "):] for line in said.splitlines() if line.startswith("mrunc: ")]
    remedy = [line[len("remedy: "):] for line in lines if line.startswith("remedy: ")]
    reasons = [line for line in lines if not line.startswith(("remedy: ", "WARNING: ", "note: "))]
    last = (said.strip().splitlines() or ["no word"])[-1]
    reason = reasons[-1] if reasons else "the run ended with status %d: %s" % (status, last[:200])
    return SandboxError("selftest", "no sandbox", reason=reason, remedy=remedy[0]
                        if remedy else None, status=2 if status == 2 and
                        reasons else CANNOT_CONTAIN)
