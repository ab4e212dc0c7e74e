# SPDX-License-Identifier: Apache-2.0
"""What the sandbox's own processes hold in memory while the program in it sleeps, with 1, 10 and 100 sandboxes at once.

    python3 bench/memory.py [--quick] [--rounds N] [--json FILE]

RSS and PSS of every process that the tool adds (/proc/PID/smaps_rollup), without the programs themselves; RSS counts a page
that several processes share once for each, PSS once in all.  For the library it is what grew: the processes while the sandboxes
run, beside the launcher as it stood after one sandbox had ended.  --rounds: the largest number of sandboxes.
"""
import os
import signal
import statistics
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import measure  # noqa: E402
import page  # noqa: E402
import rivals as others  # noqa: E402
from measure import PYTHON, SLEEP  # noqa: E402

import mrunc  # noqa: E402
from mrunc.sandbox.service.pools import IDLE  # noqa: E402

COUNTS = (1, 10, 100)
#: These take long or much, and their figures don't depend on how many there are.
FEW = {"runsc": 10, "systemd-nspawn": 1, "firejail": 10, "runc + docker": 10, "crun + docker": 10}
WAYS = ("mrunc run", "bwrap", "bwrap --as-pid-1 + filter", "crun + docker", "runc + docker", "firejail", "systemd-nspawn",
        "runsc", "nsjail", "minijail0")
#: How often one sandbox alone is looked at.
ALONE = 5
DEADLINE = 60
SELF = os.getpid()


class Spawned:
    """Sandboxes that are command lines of their own, started here or, where they want it, by a helper."""

    def __init__(self, rival):
        self.rival, self.helper = rival, None

    def start(self, count):
        if self.rival.apart:
            self.helper = self.helper or others.Helper()
        argv = self.rival.argv([SLEEP, "1000"])
        if self.helper is None:
            self.pids = [measure.start(others.fresh(argv)) for _ in range(count)]
        else:
            self.pids = [self.helper.ask(do="start", argv=argv)["pid"] for _ in range(count)]

    def own(self):
        """[(pid, program)] of the tool's processes and of the programs in them."""
        return [found for pid in self.pids for found in [(pid, _exe(pid))] + measure.descendants(pid)]

    def stop(self):
        for pid in self.pids:
            for each, program in [found for found in measure.descendants(pid) if found[1] == SLEEP] or [(pid, "")]:
                _end(each)
        for pid in self.pids:
            if self.helper is None:
                os.waitpid(pid, 0)
            else:
                self.helper.ask(do="reap", pid=pid)

    def close(self):
        if self.helper is not None:
            self.helper.close()


class Library:
    """mrunc.run in as many threads; what is there before counts as shared."""

    def __init__(self):
        self.null = open(os.devnull, "r+b", buffering=0)
        self.streams = dict(stdin=self.null, stdout=self.null, stderr=self.null, python=PYTHON)
        mrunc.run([os.path.realpath("/bin/true")], **self.streams)

    def start(self, count):
        self.threads = [threading.Thread(target=mrunc.run, args=([SLEEP, "1000"],), kwargs=self.streams) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def own(self):
        return measure.descendants(SELF)

    def stop(self):
        for pid, program in self.own():
            if program == SLEEP:
                _end(pid)
        for thread in self.threads:
            thread.join()

    def close(self):
        self.null.close()


class Warm(Library):
    """mrunc.Pool: sandboxes that wait for what they shall run.  There is no program in them yet."""

    def start(self, count):
        self.pool = mrunc.Pool(count, python=PYTHON)

    def stop(self):
        self.pool.close()


def _exe(pid):
    try:
        return os.readlink("/proc/%d/exe" % pid)
    except OSError:
        return ""


def _end(pid):
    """Ends one of the sleeping programs."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def settled(way, count, program):
    """[(pid, program)] when as many programs sleep as there are sandboxes, and the processes around them stay the same."""
    late, before, same = time.monotonic() + DEADLINE, None, 0
    while time.monotonic() < late:
        found = way.own()
        ready = not program or sum(exe == SLEEP for _, exe in found) >= count
        same = same + 1 if ready and found == before else 0
        if same == 3:
            return found
        before = found
        time.sleep(0.1)
    raise RuntimeError("%d sandboxes are not ready after %d s" % (count, DEADLINE))


def sums(found, before):
    """What a way's processes hold: {"rss", "pss"} per the whole, the largest one's RSS, how many."""
    held = [measure.memory(pid) for pid, program in found if program != SLEEP]
    return {"rss": sum(each["rss"] for each in held) - before["rss"], "pss": sum(each["pss"] for each in held) - before["pss"],
            "largest_rss": max([each["rss"] for each in held] or [0]), "processes": len(held)}


def middle(way, count, program):
    """The figures of one way with so many sandboxes, per sandbox: of one alone, the medians of a few."""
    rows = [row(way, count, program) for _ in range(ALONE if count == 1 else 1)]
    return {key: statistics.median(each[key] for each in rows) for key in rows[0]}


def row(way, count, program=True):
    """Of one time."""
    before = {"rss": 0, "pss": 0}
    if isinstance(way, Library):
        time.sleep(IDLE + 0.1)  # what the launcher has ready for the next run ends then
        late = time.monotonic() + DEADLINE
        while len(way.own()) > 1 and time.monotonic() < late:
            time.sleep(0.1)
        before = sums(way.own(), before)
    way.start(count)
    try:
        found = sums(settled(way, count, program), before)
    finally:
        way.stop()
    return dict(found, rss=found["rss"] / count, pss=found["pss"] / count, processes=found["processes"] / count,
                before_pss=before["pss"], before_rss=before["rss"])


def measured(largest, names=WAYS):
    """The result, as --json writes it."""
    measure.compiled()
    measure.adopt()
    place = measure.scratch()
    result = {"bench": "memory", "host": measure.host(), "rows": {}, "missing": {}}
    # The first two, as long as nothing but the launcher lies below this process.
    ways = {"mrunc.run": (Library(), True), "mrunc.Pool": (Warm(), False)}
    for rival in others.rivals(place):
        if rival.name in names:
            if rival.missing():
                result["missing"][rival.name] = rival.missing()
                continue
            ways[rival.name] = Spawned(rival), True
    for name, (way, program) in ways.items():
        try:
            for count in COUNTS:
                if count <= min(largest, FEW.get(name, count)):
                    result["rows"].setdefault(name, {})[str(count)] = middle(way, count, program and name != "runsc")
        except (RuntimeError, OSError) as error:
            result["missing"][name] = "%d at once: %s" % (count, error)
        finally:
            way.close()
    return result


def main():
    asked = measure.arguments(__doc__)
    measure.urgent()
    result = measured(asked.rounds or (10 if asked.quick else 100))
    measure.finish(result, asked.json)
    print(page.alone(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
