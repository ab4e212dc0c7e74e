# SPDX-License-Identifier: Apache-2.0
"""What the supervisor kills of a sandbox, and what it leaves alone."""
import os
import signal
import subprocess

import mrunc  # noqa: F401 (makes the package)
from mrunc.sandbox import ending
from mrunc.syscalls import process as process_calls

FAMILY = "setsid sh -c 'echo $$; setsid sleep 600 & echo $!; wait' & wait"


def family():
    """(process, [the numbers of its child and of that one's child])."""
    process = subprocess.Popen(["sh", "-c", FAMILY], stdout=subprocess.PIPE, universal_newlines=True,
                               preexec_fn=lambda: process_calls.set_child_subreaper(1))  # as a pid 1 is
    return process, [int(process.stdout.readline()) for _ in range(2)]


def state(pid):
    try:
        with open("/proc/%d/stat" % pid) as stream:
            return stream.read().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


def lives(pid):
    return state(pid) not in ("gone", "Z")


def end(process):
    process.kill()
    process.wait()
    process.stdout.close()


def test_kill_below_spares_its_root_and_all_others():
    (ours, inside), (others, outside) = family(), family()
    try:
        assert all(map(lives, inside + outside))
        os.kill(ours.pid, signal.SIGSTOP)  # as a pid 1 that gets no processor; nothing is waited for
        while any(map(lives, inside)):  # what loses its parent meanwhile is found by the next look
            ending.kill_below(ours.pid)
        assert all(map(lives, outside + [ours.pid]))
    finally:
        for pid in outside:
            os.kill(pid, signal.SIGKILL)
        for process in ours, others:
            end(process)


def test_kill_below_leaves_a_number_that_became_anothers(monkeypatch):
    """The list of children is older than the look at each: what is no child any more is not killed."""
    (ours, inside), (others, outside) = family(), family()
    try:
        true = ending._children
        monkeypatch.setattr(ending, "_children", lambda pid: true(pid) + outside + [others.pid, os.getpid()])
        os.kill(ours.pid, signal.SIGSTOP)
        while any(map(lives, inside)):  # what loses its parent meanwhile is found by the next look
            ending.kill_below(ours.pid)
        assert all(map(lives, outside + [others.pid, ours.pid]))
    finally:
        for pid in outside:
            os.kill(pid, signal.SIGKILL)
        for process in ours, others:
            end(process)
