# SPDX-License-Identifier: Apache-2.0
"""From the start of a sandbox with /bin/true to its end: mrunc's three ways beside the other sandboxes, interleaved.

    python3 bench/startup.py [--quick] [--rounds N] [--json FILE] [--svg FILE] [NAME...]

Command lines are started by posix_spawn and reaped by waitpid, with 0, 1 and 2 at /dev/null; what the library does is
compared with subprocess.run from the same process.  Each round runs each candidate once, in an order drawn anew, each after
the machine has become quiet (at most 50 ms are waited).  NAME: only these candidates.
"""
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import chart  # noqa: E402
import measure  # noqa: E402
import page  # noqa: E402
import rivals as others  # noqa: E402
from measure import PYTHON  # noqa: E402

import mrunc  # noqa: E402

TRUE = [os.path.realpath("/bin/true")]
POOL = 2
#: The reference rows: nothing is sandboxed.
PLAIN = {"plain": TRUE, "python3 -c pass": [PYTHON, "-c", "pass"],
         "python3 -c 'import ctypes'": [PYTHON, "-c", "import ctypes"]}


def library(jobs, notes, stack):
    """Adds mrunc.run, mrunc.Pool, and what they are compared with, from this very process."""
    null = open(os.devnull, "r+b", buffering=0)
    stack.append(null.close)
    streams = {"stdin": null, "stdout": null, "stderr": null}

    def timed(function, *rest, **named):
        begun = time.perf_counter_ns()
        result = function(*rest, **named)
        taken = time.perf_counter_ns() - begun
        if result.returncode != 0:
            raise RuntimeError("exit status %d" % result.returncode)
        return taken

    jobs["subprocess.run, plain"] = lambda: timed(subprocess.run, TRUE, env=measure.ENVIRONMENT, **streams)
    jobs["mrunc.run"] = lambda: timed(mrunc.run, TRUE, python=PYTHON, **streams)
    notes["mrunc.run"] = "everything, read back; the launcher runs, and has one ready after runs alike"
    files = dict(streams, stdout=tempfile.TemporaryFile())
    jobs["mrunc.run, none ready"] = lambda: timed(mrunc.run, TRUE, python=PYTHON, **files)
    notes["mrunc.run, none ready"] = "its stdout is a file: the sandbox is made for it"
    pool = mrunc.Pool(POOL, python=PYTHON)
    stack.append(pool.close)

    def warm():
        taken = timed(pool.run, TRUE, **streams)
        time.sleep(0.03)  # the next one is made meanwhile, and must not disturb who comes next
        return taken
    jobs["mrunc.Pool.run"] = warm
    notes["mrunc.Pool.run"] = "the same, made before it is asked for"
    return streams


def candidates(place, wanted, stack):
    """({name: function -> ns}, {name: note}, {name: why not}) of what can run here; each has run once."""
    jobs, notes, missing = {}, {}, {}

    def once(run, argv):
        def job():
            taken, status = run(argv)
            if status != 0:
                raise RuntimeError("wait status %d" % status)
            return taken
        return job

    for name, argv in PLAIN.items():
        jobs[name], notes[name] = once(measure.once, argv), "no sandbox"
    streams = library(jobs, notes, stack)
    notes["subprocess.run, plain"] = "no sandbox"
    helper = None
    for rival in others.rivals(place):
        if wanted and rival.name not in wanted:
            continue
        why = rival.missing()
        if why:
            missing[rival.name] = why
            continue
        if rival.apart and helper is None:
            helper = others.Helper()
            stack.append(helper.close)
        jobs[rival.name] = once(helper.once if rival.apart else measure.once, rival.argv(TRUE))
        notes[rival.name] = rival.note
        if rival.name in ("bwrap + filter", "bwrap + mrunc's filter"):
            jobs["subprocess.run, " + rival.name] = spawned(rival.argv(TRUE), streams)
            notes["subprocess.run, " + rival.name] = rival.note
    for name in list(jobs):
        if wanted and name not in wanted:
            del jobs[name]
            continue
        try:
            jobs[name]()
        except (RuntimeError, OSError, mrunc.SandboxError) as error:
            missing[name] = "does not run here: %s" % error
            del jobs[name]
    return jobs, notes, missing, helper


def spawned(argv, streams):
    """subprocess.run of a command line; its files are opened before the clock starts."""
    def job():
        words, fds = measure.opened(argv)
        begun = time.perf_counter_ns()
        subprocess.run(words, pass_fds=fds, env=measure.ENVIRONMENT, check=True, **streams)
        taken = time.perf_counter_ns() - begun
        for fd in fds:
            os.close(fd)
        return taken
    return job


def measured(rounds, budget, wanted=()):
    """The result, as --json writes it."""
    place, stack = measure.scratch(), []
    measure.compiled()
    result = {"bench": "startup", "host": measure.host(), "rounds": rounds}
    try:
        jobs, notes, missing, helper = candidates(place, wanted, stack)
        if helper is not None:
            result["mounts_apart"] = helper.ask(do="mounts")["mounts"]
        samples = measure.interleaved(rounds, jobs, budget)
    finally:
        for close in reversed(stack):
            close()
    result["rows"] = {name: dict(measure.summary(samples[name]), note=notes[name]) for name in jobs}
    result["missing"] = missing
    result["versions"] = {tool: others.version(tool) for tool in others.INSTALL if others.find(tool)}
    return result


def main():
    def more(parser):
        parser.add_argument("--svg", metavar="FILE", help="write the chart")
        parser.add_argument("--seconds", type=float, help="no further round begins after so many")
        parser.add_argument("names", nargs="*", help="only these candidates")
    asked = measure.arguments(__doc__, more)
    measure.urgent()
    result = measured(asked.rounds or (15 if asked.quick else 150), asked.seconds or (60 if asked.quick else 150), asked.names)
    measure.finish(result, asked.json)
    if asked.svg:
        with open(asked.svg, "w") as out:
            out.write(chart.svg(result))
    print(page.alone(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
