# SPDX-License-Identifier: Apache-2.0
"""Beyond one machine: the program of docs/cluster.md under Dask, with a worker that is killed."""
import json
import os
import re
import select
import signal
import subprocess
import sys
import time

import pytest

from conftest import ROOT

#: .ci/test makes it beside the one that runs this.
DASK = os.path.join(os.path.dirname(sys.prefix), "mrunc-dask", "bin", "python")
SAMPLES = 1000
#: The sample that never ends by itself: the worker that is killed is the one it sleeps in.
SLEEPER = "sample-0400"


def cluster_program():
    with open(os.path.join(ROOT, "docs", "cluster.md")) as stream:
        return re.search(r"^```python\n(# cluster\.py\n.*?)^```$", stream.read(), re.S | re.M).group(1)


def processes():
    """{pid: (parent, command line)} of everything that can be seen."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % name) as stream:
                parent = int(stream.read().rpartition(")")[2].split()[1])
            with open("/proc/%s/cmdline" % name, "rb") as stream:
                found[int(name)] = parent, stream.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except OSError:
            continue
    return found


def below(top, found):
    """The pids of all descendants."""
    out, rest = [], [top]
    while rest:
        parent = rest.pop()
        children = [pid for pid, (its, _) in found.items() if its == parent]
        out += children
        rest += children
    return out


def worker_of_the_sleeper(program):
    """(the worker's pid, its launcher's and the pids below that) when the sleeping sample runs, or None."""
    found = processes()
    workers = {pid for pid, (parent, words) in found.items() if parent == program.pid and "spawn_main" in words}
    for launcher in [pid for pid, (_, words) in found.items() if " --spec-fd " in words]:
        inner = [launcher] + below(launcher, found)
        if any(found[pid][1].startswith("sleep 86400") for pid in inner):
            worker = workers & watched(launcher)
            if worker:
                return worker.pop(), inner
    return None


def watched(pid):
    """The pids that a process has pidfds of: a launcher is nobody's child, and ends with the process that it watches."""
    out = set()
    try:
        for name in os.listdir("/proc/%d/fdinfo" % pid):
            with open("/proc/%d/fdinfo/%s" % (pid, name)) as stream:
                out.update(int(line.split()[1]) for line in stream if line.startswith("Pid:"))
    except OSError:
        pass
    return out


def opened(pid):
    """A pidfd, None where the process has just ended."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


@pytest.fixture
def program(tmp_path, tool_folder):
    """The program, running."""
    assert os.access(DASK, os.X_OK), "there is no %s: .ci/test makes it" % DASK
    samples = tmp_path / "samples"
    samples.mkdir()
    for number in range(SAMPLES):
        name = "sample-%04d" % number
        (samples / name).write_text("sleep 86400\n" if name == SLEEPER else "exit %d\n" % (number % 100))
    (tmp_path / "cluster.py").write_text(cluster_program())
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": tool_folder, "HOME": str(tmp_path), "LANG": "C.UTF-8",
                   "TMPDIR": str(tmp_path), "DASK_CONFIG": str(tmp_path), "DASK_TEMPORARY_DIRECTORY": str(tmp_path)}
    with open(str(tmp_path / "log"), "w+") as log:
        running = subprocess.Popen([DASK, "cluster.py", "samples", "results.jsonl"], cwd=str(tmp_path), env=environment,
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        running.log, running.results = log, tmp_path / "results.jsonl"
        yield running
        for pid in below(running.pid, processes()) + [running.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        running.wait()


def test_a_killed_worker_costs_no_result_and_leaves_no_sandbox(program):
    killed = None
    while killed is None and program.poll() is None:
        killed = worker_of_the_sleeper(program)
        time.sleep(0.01)
    program.log.seek(0)
    assert killed, program.log.read()[-3000:]
    worker, inner = killed
    ends = {fd: pid for fd, pid in ((opened(pid), pid) for pid in inner) if fd is not None}
    assert len(ends) >= 3, "the launcher, pid 1 of the sandbox and the sample"
    before = len(program.results.read_text().splitlines())
    os.kill(worker, signal.SIGKILL)
    poll = select.poll()
    for fd in ends:
        poll.register(fd, select.POLLIN)
    late = time.monotonic() + 60  # the sample would sleep for a day
    while ends and time.monotonic() < late:
        for fd, _ in poll.poll(1000):
            poll.unregister(fd)
            os.close(fd)
            del ends[fd]
    assert not ends, "left alive by the killed worker: %r" % [processes().get(pid) for pid in ends.values()]
    assert program.wait(timeout=300) == 0, program.log.read()[-3000:]
    rows = [json.loads(line) for line in program.results.read_text().splitlines()]
    assert 0 < before < SAMPLES, "the worker died in the middle"
    assert sorted(row["sample"] for row in rows) == ["sample-%04d" % number for number in range(SAMPLES)]
    for row in rows:
        expected = ("timeout-wall", 124) if row["sample"] == SLEEPER else ("exited", int(row["sample"][-2:]))
        assert (row["reason"], row["returncode"]) == expected, row
    assert not [words for _, words in processes().values() if "sleep 86400" in words]
