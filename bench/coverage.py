# SPDX-License-Identifier: Apache-2.0
"""Which system calls a workload makes under the default sandbox, and which of the allowed ones nobody needs.

    python3 bench/coverage.py [--json] [OPTIONS OF run] -- CMD
    python3 bench/coverage.py --suite > docs/coverage-x86_64.json      every program of the workload suite

strace looks on from outside the sandbox, where ptrace is allowed, so the program runs under the filter as always. Counted is
what the program and its descendants do, not mrunc and its pid 1. Three lists: the calls that were made, with how often they
succeeded and failed; what succeeded although the policy has no rule that allows it (there must be none); and what the
policy allows and neither this program nor the suite (docs/coverage-ARCH.json) ever made.
"""
import collections
import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if HERE not in sys.path:
    sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, "tests"))

import mrunc  # noqa: E402,F401
from mrunc.sandbox.seccomp import policy, shipped  # noqa: E402

ARCH = os.uname().machine
TABLE = os.path.join(HERE, "docs", "coverage-%s.json" % ARCH)
#: `PID name(...) = result`, `PID <... name resumed>...) = result`
CALL = re.compile(r"^(\d+) +(?:(\w+)\(|<\.\.\. (\w+) resumed>)(.*)$")
RESULT = re.compile(r"\) += (-?\d+|0x[0-9a-f]+|\?)(?: (E[A-Z0-9]+))?[^=]*$")


def trace(command, options=(), verb=("run",), **settings):
    """(exit status, {call: [succeeded, failed]}, {call: [errnos]}) of a command in the sandbox.  Raises SystemExit where
    ptrace is forbidden."""
    with tempfile.NamedTemporaryFile() as log:
        tracer = ["strace", "-f", "-qq", "-s", "0", "-e", "signal=none", "-o", log.name]
        ours = [sys.executable, "-I", "-S", os.path.join(HERE, "mrunc.py")] + list(verb)
        done = subprocess.run(tracer + ours + list(options) + ["--"] + list(command), **settings)
        text = log.read().decode("utf-8", "replace")
    if not text.strip():
        try:
            with open("/proc/sys/kernel/yama/ptrace_scope") as stream:
                scope = "kernel.yama.ptrace_scope is %s; 3 forbids it to all" % stream.read(1)
        except OSError:
            scope = "there is no yama, so an outer sandbox or a container forbids it"
        raise SystemExit("strace may not trace here: %s" % scope)
    return (done.returncode,) + parse(text.splitlines())


def parse(lines):
    """What the workload did.  Its processes are those that appear after init has said that it is there: all but the first,
    which is mrunc, and the one that became init by execveat."""
    seen, errnos = {}, collections.defaultdict(set)
    supervisor, own, inits, waiting = None, set(), set(), {}
    for line in lines:
        found = CALL.match(line)
        if not found:
            continue
        pid, name, resumed, rest = found.groups()
        if supervisor is None:
            supervisor = pid
        if name == "execveat" and not inits:
            inits.add(pid)
        if not inits:
            own.add(pid)
        if pid == supervisor or pid in inits or pid in own:
            continue
        if name and rest.endswith("<unfinished ...>"):
            waiting[pid] = name
            if name in ("exit", "exit_group"):
                seen.setdefault(name, [0, 0])[0] += 1
            continue
        result = RESULT.search(rest)
        if result is None:
            continue
        good = not result.group(1).startswith("-")
        counts = seen.setdefault(name or resumed, [0, 0])
        counts[0 if good else 1] += 1
        if result.group(2):
            errnos[name or resumed].add(result.group(2))
    return seen, errnos


def may_pass(name="default"):
    """{call} that some rule of the policy lets through."""
    return {call for call, rule in policy.decisions(name, ARCH).items() if "allow" in json.dumps(rule)}


def needed():
    """{call} that a program of the suite made, from the table that is checked in."""
    try:
        with open(TABLE) as stream:
            return set(json.load(stream)["calls"])
    except OSError:
        return set()


def workloads():
    """[(title, command, text of its program.py)] of the workload suite."""
    rows = runpy.run_path(os.path.join(HERE, "tests", "sandbox", "test_workloads.py"))
    return [(row[0], ["sh", "-c", row[2]], "") for row in rows["SHELL"]] + \
        [(row[0], ["python3", "program.py"], row[1]) for row in rows["PYTHON"]]


def suite():
    """The union over the workload suite, with what each call was first seen in."""
    out, failed = {}, []
    jobs = workloads()
    for title, command, text in jobs:
        with tempfile.NamedTemporaryFile("w") as program:
            program.write(text)
            program.flush()
            status, seen, _ = trace(command, ["--copy", program.name + ":/box/program.py", "--timeout", "600"],
                                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if status:
            failed.append(title)
        for name, (good, bad) in seen.items():
            row = out.setdefault(name, {"succeeded": 0, "failed": 0, "first": title})
            row["succeeded"] += good
            row["failed"] += bad
    if failed:
        print("failed under strace: %s" % ", ".join(failed), file=sys.stderr)
    return {"date": time.strftime("%Y-%m-%d"), "kernel": os.uname().release, "arch": ARCH, "programs": len(jobs),
            "policy": shipped.digest("default", ARCH), "calls": dict(sorted(out.items())),
            "never_made": sorted(may_pass() - set(out))}


def main():
    """Runs one command, or the suite."""
    words = sys.argv[1:]
    if words[:1] == ["--suite"]:
        print(json.dumps(suite(), indent=1))
        return 0
    as_json = words[:1] == ["--json"]
    words = words[1:] if as_json else words
    if "--" not in words or not words[words.index("--") + 1:]:
        raise SystemExit(__doc__)
    at = words.index("--")
    status, seen, errnos = trace(words[at + 1:], words[:at])
    allowed = may_pass()
    broken = sorted(name for name, (good, _) in seen.items() if good and name not in allowed)
    idle = sorted(allowed - set(seen) - needed())
    if as_json:
        print(json.dumps({"status": status, "calls": seen, "passed_without_a_rule": broken, "never_needed": idle}, indent=1))
    else:
        for name, (good, bad) in sorted(seen.items(), key=lambda row: -sum(row[1])):
            print("%8d %8s  %s %s" % (good, bad or "", name, " ".join(sorted(errnos.get(name, ())))), file=sys.stderr)
        print("%d calls made; passed without a rule: %s" % (len(seen), " ".join(broken) or "none"), file=sys.stderr)
        print("allowed, and needed by nothing that was ever traced (%d): %s" % (len(idle), " ".join(idle)), file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
