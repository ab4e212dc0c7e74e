# SPDX-License-Identifier: Apache-2.0
"""What `policy learn` sees and costs, beside strace.

    python3 bench/learning.py [--rounds N] [--json FILE]      time: plain, learning, strace -f -c inside the same sandbox
    python3 bench/learning.py --suite [--json FILE]           calls: each program of the workload suite once, seen by both

Time: wall and processor time of the whole command with all that it starts, in one interleaved run; the ratios are of what
each way adds to the plain run, median by median.  Calls: strace looks on from outside at a run that learns, so that both
see the same run and the sets can be compared exactly.  What they may differ in is said by mrunc.sandbox.seccomp.learned: calls of
BASE are never noted, those of BLIND are refused while learning.
"""
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import measure  # noqa: E402
from measure import DOOR, PYTHON, milliseconds  # noqa: E402

import mrunc  # noqa: E402,F401
from mrunc.sandbox.seccomp import learned, learned_text  # noqa: E402

# By its path: a process whose own coverage is measured has another module of that name.
_spec = importlib.util.spec_from_file_location("bench_coverage", os.path.join(sys.path[0], "coverage.py"))
coverage = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(coverage)

JOBS = (("true", ["/bin/true"]), ("python3 -c 'import json'", ["python3", "-c", "import json"]),
        ("gcc hello.c", ["sh", "-c", "echo 'int main(){return 0;}' > h.c && gcc h.c"]),
        ("tar c /usr/share/doc", ["tar", "cf", "/dev/null", "--exclude=.", "/usr/share/doc"]),
        ("tar c /usr/lib/python3 | cat", ["sh", "-c", "tar cf - /usr/lib/python3* | cat > /dev/null"]))


def sets(command, text=""):
    """(exit status, {call} that strace saw of the program, {call} of the policy learned in the same run)."""
    folder = tempfile.mkdtemp(prefix="mrunc-learning-")
    program, path = os.path.join(folder, "program.py"), os.path.join(folder, "policy")
    with open(program, "w") as out:
        out.write(text)
    try:
        status, seen, _ = coverage.trace(command, ["-o", path, "--copy", program + ":/box/program.py", "--timeout", "600"],
                                         verb=("policy", "learn"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                         stderr=subprocess.PIPE)
        with open(path, "rb") as stream:
            found = learned_text.read(path, stream.read(), coverage.ARCH)
    finally:
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)
    return status, set(seen), set(found.calls)


def differences(seen, noted):
    """{kind: [call]} of what one saw and the other did not, by the reason."""
    base = dict(learned.BASE)
    missed = seen - noted
    return {"never noted, always allowed": sorted(missed & set(base)),
            "refused while learning": sorted(missed & set(learned.BLIND)),
            "missed by learning": sorted(missed - set(base) - set(learned.BLIND)), "missed by strace": sorted(noted - seen)}


def suite():
    """The same for each program of the workload suite."""
    rows, whole = [], {}
    for title, command, text in coverage.workloads():
        status, seen, noted = sets(command, text)
        found = differences(seen, noted)
        for kind, calls in found.items():
            whole.setdefault(kind, set()).update(calls)
        rows.append({"program": title, "status": status, "strace": len(seen), "learned": len(noted), "differences": found})
        print("%-60s %3d calls, missed by learning: %s; by strace: %s" % (
            title[:60], len(seen), *[" ".join(found["missed by " + which]) or "none" for which in ("learning", "strace")]))
    for kind, calls in whole.items():
        print("%s: %s" % (kind, " ".join(sorted(calls)) or "none"))
    failed = [row["program"] for row in rows if row["status"]]
    print("%d programs, failed: %s" % (len(rows), ", ".join(failed) or "none"))
    return rows


def commands(argv):
    """{way: command line} of the three ways to run a program."""
    door = [PYTHON, "-I", "-S", DOOR]
    return {"plain": door + ["run", "-q", "--seccomp", "debug", "--"] + argv,
            "learn": door + ["policy", "learn", "-q", "-o", "/dev/null", "--"] + argv,
            "strace": door + ["run", "-q", "--seccomp", "debug", "--", "strace", "-f", "-qq", "-c", "-o", "/tmp/counts"] + argv}


def job(line, cpu):
    """A job for measure.interleaved, which also notes the processor time, in ns, of all that it started.  Raises RuntimeError
    where it fails: its time means nothing then."""
    def once():
        begun = time.perf_counter_ns()
        _, status, used = os.wait4(measure.start(line), 0)
        taken = time.perf_counter_ns() - begun
        if status:
            raise RuntimeError("%s: wait status %#x" % (" ".join(line), status))
        cpu.append(int((used.ru_utime + used.ru_stime) * 1e9))
        return taken
    return once


def times(rounds):
    """[row] of what the three ways take."""
    rows = []
    print("%-32s %-29s %-29s learn / strace, added: wall, processor" % ("ms, median", "wall: plain, learn, strace",
                                                                        "processor: the same"))
    for title, argv in JOBS:
        lines = commands(argv)
        cpu = dict((way, []) for way in lines)
        got = measure.interleaved(rounds, dict((way, job(line, cpu[way])) for way, line in lines.items()))
        row = {"program": title, "wall": dict((way, measure.summary(samples)["median"]) for way, samples in got.items()),
               "processor": dict((way, int(statistics.median(samples[1:]))) for way, samples in cpu.items())}
        for kind in ("wall", "processor"):
            plain, learn, strace = [row[kind][way] for way in ("plain", "learn", "strace")]
            row[kind + "_ratio"] = (learn - plain) / (strace - plain)
        rows.append(row)
        print("%-32s %s %s %.2f, %.2f" % (
            title, "".join("%-10s" % milliseconds(row["wall"][way]) for way in lines),
            "".join("%-10s" % milliseconds(row["processor"][way]) for way in lines), row["wall_ratio"], row["processor_ratio"]))
    return rows


def main():
    """Measures and prints."""
    def more(parser):
        parser.add_argument("--suite", action="store_true", help="compare the calls instead of the times")
    given = measure.arguments(__doc__, more)
    measure.compiled()
    measure.urgent()
    result = {"host": measure.host()}
    if given.suite:
        result["suite"] = suite()
    else:
        result["times"] = times(given.rounds or (5 if given.quick else 15))
    measure.finish(result, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
