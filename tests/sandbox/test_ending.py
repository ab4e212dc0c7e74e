# SPDX-License-Identifier: Apache-2.0
"""What the supervisor kills of a sandbox, and what it leaves alone."""
import os
import signal
import subprocess

import mrunc  # noqa: F401 (makes the package)
from conftest import become
from mrunc.sandbox.launch import gate
from mrunc.sandbox.running import ending, reaper
from mrunc.syscalls import process as process_calls, seccomp

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


def children(pid):
    fd = os.open("/proc/%d" % pid, os.O_RDONLY)
    try:
        return ending.children(fd)
    finally:
        os.close(fd)


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
        true = ending.children
        monkeypatch.setattr(ending, "children", lambda fd: true(fd) + outside + [others.pid, os.getpid()])
        os.kill(ours.pid, signal.SIGSTOP)
        while any(map(lives, inside)):  # what loses its parent meanwhile is found by the next look
            ending.kill_below(ours.pid)
        assert all(map(lives, outside + [others.pid, ours.pid]))
    finally:
        for pid in outside:
            os.kill(pid, signal.SIGKILL)
        for process in ours, others:
            end(process)


def test_own_proc_is_never_the_hosts():
    """Before pivot_root, a child in its own pid namespace still has the host's root."""
    assert [ending.own_proc(pid) for pid in (1, os.getpid(), os.getppid())] == [-1] * 3
    child = subprocess.Popen(["unshare", "--user", "--map-root-user", "--pid", "--mount", "--fork", "sh", "-c", "echo up; read line"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"up\n"
    inner, = children(child.pid)
    assert os.stat("/proc/%d/ns/pid" % inner).st_ino != os.stat("/proc/self/ns/pid").st_ino
    assert os.path.exists("/proc/%d/root/proc/%d" % (inner, os.getpid())), "it is the host's"
    assert ending.own_proc(inner) == -1
    child.communicate(b"\n", timeout=60)


def test_own_proc_lists_the_sandbox_alone(inside):
    tool = subprocess.Popen(inside.command("/bin/sh", "-c", "echo up; read line"), stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, preexec_fn=become(inside.who), cwd=inside.scratch)
    assert tool.stdout.readline() == b"up\n"
    init, = children(tool.pid)
    fd = ending.own_proc(init)
    try:
        assert fd >= 0 and sorted(int(name) for name in os.listdir(fd) if name.isdigit()) in ([1, 2], [1, 2, 3])
    finally:
        os.close(fd)
    tool.communicate(b"\n", timeout=60)


def test_what_a_proc_lists_is_killed_but_for_pid_1(tmp_path, monkeypatch):
    for name in ("1", "2", "17", "self", "sys"):
        (tmp_path / name).mkdir()
    (tmp_path / "3").write_text("no process")
    killed = []

    def kill(fd):
        killed.append(os.path.basename(os.readlink("/proc/self/fd/%d" % fd)))
        os.close(fd)
    monkeypatch.setattr(ending, "kill", kill)
    fd = os.open(str(tmp_path), os.O_RDONLY)
    try:
        ending.kill_listed(fd)
    finally:
        os.close(fd)
    assert sorted(killed) == ["17", "2"]


PASS_ALL = bytes.fromhex("060000000000ff7f")


def filtered(count, new_privs=False):
    """A process with so many seccomp filters, which waits for its end."""
    def change():
        if not new_privs:
            process_calls.set_no_new_privs()
        for _ in range(count):
            seccomp.attach(seccomp.prepare(PASS_ALL))
    return subprocess.Popen(["sh", "-c", "echo up; read line"], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, preexec_fn=change)


def test_only_children_with_our_filters_are_the_sandboxs():
    """What the sweep of a sandbox without a pid namespace would kill; here nothing is."""
    outer = gate.own_filters() or 0
    plain, less, ours, before = waiting = [filtered(0, True), filtered(1), filtered(2), filtered(2)]
    try:
        for process in waiting:
            assert process.stdout.readline() == b"up\n"
        found = reaper.Reaper.__new__(reaper.Reaper)
        found.own, found.filters = os.getpid(), outer + 2
        found.strangers = {before.pid: os.open("/proc/%d" % before.pid, os.O_RDONLY)}
        assert found.members() == [ours.pid]
        found.strangers = {before.pid: -1}
        assert found.members() == [ours.pid]
        found.own = ours.pid
        assert found.members() == []
    finally:
        for process in waiting:
            process.communicate(b"\n", timeout=60)
