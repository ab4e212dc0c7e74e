#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes one mistake at a time in a copy of the product and sees that the tests named for it fail.

    python3 tests/mutants/run.py [--jobs N] [--json FILE] [NAME ...]

Needs root.  NAME: only mutants whose `ROOM/NAME` holds one of these words.  Each file ROOM.txt
beside this one holds mutants, as blocks between empty lines:

    [NAME]
    - a line of the product; one of several lines follows the other, each with its own `-`
    + what stands in its place; none: nothing does
    test: the name of a test, with its parameters where one of them is enough
    true: what is true of the mutant that must not be
    as: user

The old text must occur once in the product, wherever that is: no mutant names a file, so that files
can move.  `test` may stand several times; one that fails is enough.  `as: user` runs them as an
ordinary user, for mistakes about what is killed.

Each mutant's tests run in a pid namespace of their own: no mistake reaches a process of this
machine.  First all tests run on the unchanged copy, where they must pass.  Exit status 1: less than
LEAST percent were killed, or a mutant is stale or its tests fail without it.
"""
import argparse
import collections
import glob
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PARTS = ("commands", "sandbox", "syscalls")
#: Percent of the mutants that must be killed.
LEAST = 95
#: A mistake may make a test wait for ever.  Seconds for a mutant's tests, and for each second that
#: they take on the unchanged copy.
DEADLINE, SLOWER = 30, 8
#: Seconds for all tests on the unchanged copy.
FIRST_DEADLINE = 1500
USER = 61234
NOT_COPIED = shutil.ignore_patterns(".git", "__pycache__", "build", "dist", ".pytest_cache",
                                    "*.egg-info")


class Mutant:
    """One mistake.

    name: ROOM/NAME
    old, new: text of the product
    tests: names, with parameters where one of them is enough
    true: what is then true
    user: whether its tests run as an ordinary user
    """

    def __init__(self, name):
        self.name, self.true, self.user = name, "", False
        self.old, self.new, self.tests = [], [], []


def mutants(folder=HERE):
    """Returns all mutants, in the order of their files.  Raises ValueError for a strange line."""
    found = []
    for path in sorted(glob.glob(os.path.join(folder, "*.txt"))):
        room = os.path.basename(path)[:-len(".txt")]
        with open(path, encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                try:
                    _take(found, room, line.rstrip("\n"))
                except (IndexError, ValueError):
                    raise ValueError("%s:%d: %s" % (path, number, line))
    for mutant in found:
        mutant.old, mutant.new = "\n".join(mutant.old), "\n".join(mutant.new)
    return found


def _take(found, room, line):
    if line.startswith("[") and line.endswith("]"):
        found.append(Mutant(room + "/" + line[1:-1]))
    elif line[:2] in ("- ", "+ ") or line in ("-", "+"):
        (found[-1].old if line[0] == "-" else found[-1].new).append(line[2:])
    elif line.startswith("test: "):
        found[-1].tests.append(line[6:].strip())
    elif line.startswith("true: "):
        found[-1].true = line[6:].strip()
    elif line == "as: user":
        found[-1].user = True
    elif line and not line.startswith("#"):
        raise ValueError(line)


def sources(root=ROOT):
    """Returns {path from the root: text} of the product's Python files."""
    paths = glob.glob(os.path.join(root, "*.py"))
    for part in PARTS:
        paths += glob.glob(os.path.join(root, part, "**", "*.py"), recursive=True)
    out = {}
    for path in sorted(paths):
        with open(path, encoding="utf-8") as stream:
            out[os.path.relpath(path, root)] = stream.read()
    return out


def places(mutant, texts):
    """Returns the path of each occurrence of a mutant's old text.  texts: of `sources`."""
    if not mutant.old:
        return []
    return [path for path, text in texts.items() for _ in range(text.count(mutant.old))]


def test_files(root=ROOT):
    """Returns {name of a test, without parameters: the files that have it, from the root}."""
    out = collections.defaultdict(set)
    for path in glob.glob(os.path.join(root, "tests", "**", "test_*.py"), recursive=True):
        with open(path, encoding="utf-8") as stream:
            for name in re.findall(r"^def (test_\w+)\(", stream.read(), re.M):
                out[name].add(os.path.relpath(path, root))
    return dict(out)


def named(test, collected):
    """Returns the names that pytest has for a test: each of its parameters, where none is named."""
    return [name for name in collected
            if name.partition("::")[2] == test or name.partition("::")[2].startswith(test + "[")]


class Workshop:
    """A copy of the checkout in which one mutant at a time is tried."""

    def __init__(self, place, number, site):
        """place: directory; site: where an ordinary user finds pytest."""
        self.root, self.site = os.path.join(place, str(number), "mrunc"), site
        os.mkdir(os.path.dirname(self.root))
        shutil.copytree(ROOT, self.root, symlinks=True, ignore=NOT_COPIED)
        subprocess.run(["chmod", "-R", "a+rX", os.path.dirname(self.root)], check=True)
        self.temporary = os.path.join(place, "tmp%d" % number)
        os.mkdir(self.temporary)
        os.chmod(self.temporary, 0o1777)

    def put(self, path, text):
        """Writes a file of the copy; what was compiled of it goes."""
        folder, name = os.path.split(os.path.join(self.root, path))
        with open(os.path.join(folder, name), "w", encoding="utf-8") as stream:
            stream.write(text)
        for old in glob.glob(os.path.join(folder, "__pycache__", name[:-len("py")] + "*")):
            os.unlink(old)

    def run(self, nodes, user, deadline, more=()):
        """Returns (exit status of pytest, None at the deadline; what it printed)."""
        words = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider",
                 *more, *nodes]
        environ = dict(os.environ, TMPDIR=self.temporary, PYTHONDONTWRITEBYTECODE="1")
        if user:
            words = ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups",
                     "/usr/bin/python3", *words[1:]]
            environ.update(PYTHONPATH=self.site, HOME="/nonexistent")
        # What is still there at the end goes with the first process of the namespace, a shell.
        words = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child",
                 "sh", "-c", '"$@"; status=$?; exit $status', "sh", *words]
        with tempfile.TemporaryFile() as out:
            process = subprocess.Popen(words, cwd=self.root, env=environ, stdout=out,
                                       stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
            try:
                status = process.wait(deadline)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                status = None
            out.seek(0)
            return status, out.read().decode("utf-8", "replace")


def tried(mutant, shop, texts, nodes, passed):
    """Returns (outcome, why): killed, survived, stale, or broken where a test fails without it.

    nodes: {test: names that pytest has for it}; passed: of `on_the_unchanged_copy`."""
    found = places(mutant, texts)
    if len(found) != 1:
        return "stale", "its text occurs %d times" % len(found)
    mine = [name for test in mutant.tests for name in nodes[test]]
    missing = [test for test in mutant.tests if not nodes[test]]
    failed = [name for name in mine if name not in passed[mutant.user]]
    if missing or failed:
        return "broken", "without it: no test %s, failed %s" % (missing, failed)
    path, seconds = found[0], sum(passed[mutant.user][name] for name in mine)
    deadline = DEADLINE + SLOWER * seconds
    shop.put(path, texts[path].replace(mutant.old, mutant.new))
    try:
        status, said = shop.run(mine, mutant.user, deadline, ["-x"])
    finally:
        shop.put(path, texts[path])
    if status is None:
        return "killed", "by the deadline of %d s" % deadline
    if status == 1:
        return "killed", (re.findall(r"^FAILED \S+::(\S+)", said, re.M) + [""])[0]
    if status == 0:
        return "survived", path
    if status > 128:
        return "killed", "by a signal to the tests themselves"
    return "stale", "pytest ended with %d: %s" % (status, said[-300:].replace("\n", " | "))


def on_the_unchanged_copy(shops, chosen, nodes):
    """Returns {as user?: {name of a test that passes: seconds that it takes}}."""
    passed, parts = {False: {}, True: {}}, []
    for user in passed:
        wanted = {name for mutant in chosen if mutant.user is user
                  for test in mutant.tests for name in nodes[test]}
        parts += [(user, sorted(wanted)[at::len(shops)]) for at in range(len(shops))]

    def look(shop, part):
        user, names = part
        if not names:
            return
        status, said = shop.run(names, user, FIRST_DEADLINE, ["-rA", "--durations=0"])
        for name in re.findall(r"^PASSED (.*)$", said, re.M):
            passed[user][name] = 0.0
        for seconds, name in re.findall(r"^([0-9.]+)s (?:call|setup|teardown) +(.*)$", said, re.M):
            if name in passed[user]:
                passed[user][name] += float(seconds)
        for name in sorted(set(names) - set(passed[user])):
            print("fails without any mutant: %s" % name, flush=True)
        if status not in (0, 1):
            print(said[-2000:], flush=True)
    spread(shops, parts, look)
    return passed


def spread(shops, jobs, work):
    """Calls work(shop, job) for each job, one at a time in each workshop."""
    waiting = queue.Queue()
    for job in jobs:
        waiting.put(job)

    def serve(shop):
        while True:
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                return
            work(shop, job)
    threads = [threading.Thread(target=serve, args=(shop,), daemon=True) for shop in shops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main():
    """Tries them all; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time (2)")
    parser.add_argument("--json", metavar="FILE", help="writes what came out")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these: a part of ROOM/NAME")
    asked = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("needs root")
    chosen = [mutant for mutant in mutants()
              if not asked.names or any(name in mutant.name for name in asked.names)]
    texts, begun, outcomes = sources(), time.monotonic(), {}
    with tempfile.TemporaryDirectory(prefix="mrunc-mutants-") as place:
        os.chmod(place, 0o755)
        site = os.path.join(place, "site")
        import pytest
        shutil.copytree(os.path.dirname(os.path.dirname(pytest.__file__)), site, symlinks=True)
        subprocess.run(["chmod", "-R", "a+rX", site], check=True)
        shops = [Workshop(place, number, site) for number in range(max(1, asked.jobs))]
        known = test_files()
        files = {path for mutant in chosen for test in mutant.tests
                 for path in known.get(test.partition("[")[0], ())}
        _, said = shops[0].run(sorted(files), False, FIRST_DEADLINE, ["--collect-only"])
        collected = [line for line in said.splitlines() if "::" in line]
        nodes = {test: named(test, collected) for mutant in chosen for test in mutant.tests}
        passed = on_the_unchanged_copy(shops, chosen, nodes)
        print("%d tests on the unchanged copy: %d s" % (
            len({name for names in nodes.values() for name in names}), time.monotonic() - begun),
            flush=True)

        def work(shop, mutant):
            started = time.monotonic()
            outcome, why = tried(mutant, shop, texts, nodes, passed)
            outcomes[mutant.name] = outcome, why
            quiet = outcome == "killed" and not why.startswith("by")
            print("%-8s %4.0f s  %s%s" % (
                outcome, time.monotonic() - started, mutant.name,
                "" if quiet else ": %s (then %s)" % (why, mutant.true)), flush=True)
        spread(shops, chosen, work)
    count = collections.Counter(outcome for outcome, _ in outcomes.values())
    share = 100.0 * count["killed"] / max(1, len(outcomes))
    print("%d mutants, %d killed (%.1f %%), %d survived, %d stale, %d broken: %d s" % (
        len(outcomes), count["killed"], share, count["survived"], count["stale"], count["broken"],
        time.monotonic() - begun))
    if asked.json:
        with open(asked.json, "w") as out:
            json.dump({"mutants": dict(sorted(outcomes.items())), "killed_percent": round(share, 1),
                       "seconds": round(time.monotonic() - begun)}, out, indent=1)
    return 1 if share < LEAST or count["stale"] or count["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
