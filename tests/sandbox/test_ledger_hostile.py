# SPDX-License-Identifier: Apache-2.0
"""The ledger under programs that try to escape it, to confuse it, or just have many threads: what it tells stays true, and what
is refused stays refused."""
import collections
import json
import os
import shutil
import signal
import subprocess

import pytest

from conftest import become
from outer_filter import EINVAL, behind
from test_ledger import brief, control, ledger_of

NATIVE = os.uname().machine
pytestmark = pytest.mark.needs("listener")

CALLS = """
import ctypes, errno, os, signal, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def refused(name, *arguments):
    ctypes.set_errno(0)
    result = getattr(libc, name)(*arguments)
    return errno.errorcode.get(ctypes.get_errno(), "none") if result == -1 else "none"
"""
NOTHING = ["--ledger", "/dev/null"]


def compiled(inside, source, *options):
    """Path of a C program, in the caller's scratch directory."""
    path = os.path.join(inside.scratch, "program")
    subprocess.run(["gcc", "-O1", "-o", path, *options, "-xc", "-"], input=source, universal_newlines=True, check=True, timeout=60)
    os.chmod(path, 0o755)
    return path


def total(rows, syscall):
    """Sum of the counts of one call."""
    return sum(row["count"] for row in rows if row["syscall"] == syscall)


# Many threads, many processes

@pytest.mark.whoever
@pytest.mark.also_vm
def test_the_calls_of_many_threads_are_counted_as_their_process_s(inside):
    done = inside.python(CALLS + """
def work(flag):
    for _ in range(300): got[flag].add(refused("unshare", flag))
got = {flag: set() for flag in (0x20000, 0x10000000, 0x40000000, 0x8000000)}
threads = [threading.Thread(target=work, args=(flag,)) for flag in got]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(os.getpid(), sorted(set().union(*got.values())))
""", options=NOTHING)
    pid, _, answers = done.out.strip().partition(" ")
    assert answers == "['EPERM']"
    assert sorted((row["pid"], row["args"]["flags"], row["count"]) for row in done.result["refused"]) == sorted(
        (int(pid), flag, 300) for flag in ("CLONE_NEWNS", "CLONE_NEWUSER", "CLONE_NEWNET", "CLONE_NEWIPC"))


@pytest.mark.also_vm
def test_each_process_of_a_forking_program_has_its_rows(inside):
    done = inside.python(CALLS + """
for count in range(1, 13):
    pid = os.fork()
    if not pid:
        print(os.getpid(), count, {refused("chroot", b"/tmp/%d" % count) for _ in range(count)}.pop(), flush=True)
        os._exit(0)
    if count % 3: os.waitpid(pid, 0)
while True:
    try: os.wait()
    except ChildProcessError: break
""", options=NOTHING)
    told = sorted(tuple(line.split()) for line in done.out.splitlines())
    assert len(told) == 12
    assert told == sorted((str(row["pid"]), str(row["count"]), row["errno"]) for row in done.result["refused"])
    assert all(row["args"] == {"path": "/tmp/%d" % row["count"]} for row in done.result["refused"])


GO = """
package main
import ("fmt"; "runtime"; "sync"; "syscall")
var sink [][]byte
func main() {
	var group sync.WaitGroup
	bad := make([]int, 4)
	done := make(chan bool)
	go func() { for { select { case <-done: return; default: runtime.GC() } } }()
	for g := 0; g < 4; g++ {
		group.Add(1)
		go func(g int) {
			defer group.Done()
			for i := 0; i < 500; i++ {
				_ = make([]byte, 4096)
				if syscall.Unshare(syscall.CLONE_NEWNS) != syscall.EPERM { bad[g]++ }
			}
		}(g)
	}
	group.Wait()
	close(done)
	fmt.Println(bad)
}
"""


@pytest.fixture(scope="session")
def go_program(public_folder):
    """Built once: most of it is the runtime, which has to be compiled as well."""
    folder = os.path.join(public_folder, "go")
    os.mkdir(folder)
    with open(os.path.join(folder, "main.go"), "w") as source:
        source.write(GO)
    subprocess.run(["go", "build", "-o", "program", "main.go"], cwd=folder, check=True, timeout=300, env=dict(
        os.environ, HOME=folder, GOCACHE=os.path.join(folder, "cache"), GOTOOLCHAIN="local", GOPROXY="off", CGO_ENABLED="0"))
    shutil.rmtree(os.path.join(folder, "cache"))
    return os.path.join(folder, "program")


def test_the_calls_of_a_go_program_are_counted_while_its_collector_interrupts_it(inside, go_program):
    done = inside.run("/box/program", options=["--copy", go_program, *NOTHING])
    assert done.out == "[0 0 0 0]\n", done
    assert brief(done.result["refused"]) == [("unshare", "EPERM", 2000)]
    assert done.result["refused"][0]["exe"] == "/box/program"


JAVA = """
import java.nio.channels.SocketChannel;
public class Probe {
    public static void main(String[] words) throws Exception {
        java.util.concurrent.atomic.AtomicInteger failed = new java.util.concurrent.atomic.AtomicInteger();
        Thread[] threads = new Thread[4];
        for (int at = 0; at < threads.length; at++) {
            threads[at] = new Thread(() -> {
                for (int i = 0; i < 50; i++)
                    try { SocketChannel.open(); } catch (java.io.IOException error) { failed.incrementAndGet(); }
            });
            threads[at].start();
        }
        for (Thread thread : threads) thread.join();
        System.out.println(failed);
    }
}
"""


@pytest.mark.once
def test_the_calls_of_a_java_program_are_counted(inside):
    source = os.path.join(inside.scratch, "Probe.java")
    with open(source, "w") as stream:
        stream.write(JAVA)
    os.chmod(source, 0o644)
    done = inside.run("/usr/bin/java", "-XX:+UseSerialGC", "Probe.java", options=["--copy", source, *NOTHING])
    assert done.out == "200\n", done
    rows = [row for row in done.result["refused"] if row["syscall"] == "socket" and row["args"]["type"] == "SOCK_STREAM"]
    assert total(rows, "socket") >= 200 and len({row["pid"] for row in rows}) == 1
    assert {row["errno"] for row in rows} == {"EAFNOSUPPORT"} and all("java" in row["exe"] for row in rows)


# Ends in the middle

@pytest.mark.whoever
@pytest.mark.also_vm
def test_processes_that_are_killed_in_the_middle_of_a_call_leave_the_ledger_whole(inside):
    done = inside.python(CALLS + """
for at in range(40):
    r, w = os.pipe()
    pid = os.fork()
    if not pid:
        while True:
            assert refused("pivot_root", b"/old", b"/new") == "EPERM"
            os.write(w, b"x")
    os.close(w)
    for _ in range(at + 1): assert os.read(r, 1)
    os.kill(pid, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    print(pid, at + 1 + len(b"".join(iter(lambda: os.read(r, 999), b""))))
    os.close(r)
print([refused("chroot", b"/after") for _ in range(5)])
""", options=NOTHING)
    *told, after = done.out.splitlines()
    assert after == repr(["EPERM"] * 5), done
    rows = done.result["refused"]
    counts = {row["pid"]: row["count"] for row in rows if row["syscall"] == "pivot_root" and row["count"]}
    for pid, written in (map(int, line.split()) for line in told):
        assert counts.pop(pid) - written in (0, 1), "its last answer may have come and its last word not"
    assert counts == {}
    # Whom the end took before it could be looked at is nobody, and never somebody else.
    assert {row["pid"] for row in rows if row["exe"] is None} <= {0}
    assert brief(rows)[-1] == ("chroot", "EPERM", 5)


@pytest.mark.also_vm
def test_when_the_supervisor_dies_nothing_that_is_refused_ever_happens(inside):
    """A call that waits then returns ENOSYS, and the parent-death signal follows."""
    code = CALLS + """
print(os.getpid(), flush=True)
while True:
    os.write(1, refused("mount", b"none", b"/tmp", b"tmpfs", 0, None).encode() + b"\\n")
"""
    command = inside.command("/usr/bin/python3", "-I", "-S", "-c", code, options=NOTHING)
    reading, writing = os.pipe()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=writing, cwd=inside.scratch,
                          preexec_fn=become(inside.who)) as process:
        os.close(writing)
        with open(reading) as output:
            lines = [output.readline() for _ in range(50)]
            process.send_signal(signal.SIGKILL)
            lines += list(output)  # to its end: everything that held the pipe is dead
    assert set(lines[1:50]) == {"EPERM\n"}
    assert set(lines[1:]) <= {"EPERM\n", "ENOSYS\n"}


# What a program does about itself

@pytest.mark.also_vm
def test_a_program_that_makes_itself_undumpable_is_read_all_the_same(inside):
    done = inside.python(CALLS + """
libc.prctl(4, 0)
assert libc.prctl(3) == 0
print(refused("chroot", b"/hidden"))
""", options=NOTHING)
    assert done.out == "EPERM\n"
    assert done.result["refused"][0]["args"] == {"path": "/hidden"}


@pytest.mark.also_vm
@pytest.mark.needs("landlock")
def test_an_undumpable_program_without_a_user_namespace_hides_its_pointers_and_the_receipt_says_so(inside_as_user):
    done = inside_as_user.python(CALLS + """
libc.prctl(4, 0)
print(refused("chroot", b"/hidden"), refused("unshare", 0x10000000))
""", options=["--tier", "process", *NOTHING])
    assert done.out == "EPERM EPERM\n"
    assert [(row["syscall"], row["args"], row["errno"], row["count"]) for row in done.result["refused"]] == [
        ("chroot", {"path": {"unreadable": "EPERM"}}, "EPERM", 1), ("unshare", {"flags": "CLONE_NEWUSER"}, "EPERM", 1)]
    assert "undumpable hides what its pointers point to" in control(done)["how"]


@pytest.mark.parametrize("mode", [0o111, 0o755])
def test_a_program_that_may_be_executed_and_not_read_is_refused_and_counted(inside, mode):
    folder = os.path.join(inside.scratch, "bin")
    os.mkdir(folder)
    program = os.path.join(folder, "chroot")
    shutil.copy("/usr/sbin/chroot", program)
    os.chmod(program, mode)
    done = inside.run("/box/bin/chroot", "/tmp", "/bin/true", options=["--ro", folder + ":/box/bin", *NOTHING])
    assert done.rc == 125 and "Operation not permitted" in done.err, done
    row, = done.result["refused"]
    assert (row["syscall"], row["errno"], row["count"]) == ("chroot", "EPERM", 1)
    # Its owner may look at it: the tests' own user has no other's program to show.
    readable = inside.who == "root" or mode == 0o755 or os.geteuid() != 0
    assert row["args"] == {"path": "/tmp" if readable else {"unreadable": "EPERM"}}
    assert row["exe"] == ("/box/bin/chroot" if readable else None)


OWN_FILTER = CALLS + """
import struct
def put_on(*rows):
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *row) for row in rows))
    assert libc.prctl(22, 2, ctypes.byref(ctypes.create_string_buffer(struct.pack("=HxxxxxxQ", len(rows), ctypes.addressof(code))))) == 0
"""


@pytest.mark.whoever
@pytest.mark.also_vm
def test_a_program_s_own_filter_can_hide_its_refused_calls_and_allow_none(inside):
    done = inside.python(OWN_FILTER + """
print(refused("unshare", 0x20000), refused("chroot", b"/"))
put_on((0x20, 0, 0, 0), (0x15, 0, 1, %d), (0x06, 0, 0, 0x50000 | 77), (0x06, 0, 0, 0x7fff0000))
print(refused("unshare", 0x20000), refused("chroot", b"/"))
""" % {"x86_64": 272, "aarch64": 97}[NATIVE], options=NOTHING)
    assert done.out == "EPERM EPERM\nEBADFD EPERM\n"
    assert brief(done.result["refused"]) == [("unshare", "EPERM", 1), ("chroot", "EPERM", 2)]


def test_a_program_can_not_have_a_listener_of_its_own(inside):
    done = inside.python(CALLS + "print(refused('syscall', %d, 1, 8, 0))" % {"x86_64": 317, "aarch64": 277}[NATIVE], options=NOTHING)
    assert done.out == "EPERM\n"
    assert [row["args"]["flags"] for row in done.result["refused"]] == ["SECCOMP_FILTER_FLAG_NEW_LISTENER"]


@pytest.mark.whoever
@pytest.mark.also_vm
def test_a_path_that_another_thread_changes_is_recorded_as_one_or_the_other_and_refused_as_ever(inside):
    done = inside.python(CALLS + """
path, stop = ctypes.create_string_buffer(b"/a"), []
def change():
    while not stop:
        path[1] = b"b"
        path[1] = b"a"
thread = threading.Thread(target=change)
thread.start()
got = {refused("chroot", path) for _ in range(400)}
stop.append(1)
thread.join()
print(got)
""", options=NOTHING)
    assert done.out == "{'EPERM'}\n"
    rows = done.result["refused"]
    assert {row["args"]["path"] for row in rows} <= {"/a", "/b"} and total(rows, "chroot") == 400


# Signals

STORM = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
static volatile sig_atomic_t seen;
static void handler(int number) { seen++; }
int main(int argc, char **argv) {
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGALRM, &action, 0);
    sigaction(SIGUSR1, &action, 0);
    pid_t sender = 0, me = getpid();
    if (!strcmp(argv[1], "timer")) {
        struct itimerval every = {{0, 200}, {0, 200}};
        setitimer(ITIMER_REAL, &every, 0);
    } else if (!(sender = fork()))
        while (!kill(me, SIGUSR1)) ;
    int refused = 0, interrupted = 0, other = 0;
    while (refused < 3000 || seen < 100)
        if (unshare(CLONE_NEWNS) == 0) other++;
        else if (errno == EPERM) refused++;
        else if (errno == EINTR) interrupted++;
        else other++;
    if (sender) { kill(sender, SIGKILL); while (waitpid(sender, 0, 0) < 0) ; }
    struct itimerval never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &never, 0);
    printf("%d %d %d\n", refused, interrupted, other);
}
"""


@pytest.mark.parametrize("way", ["timer", "storm"])
@pytest.mark.parametrize("kernel", ["as it is", "before 5.19"])
def test_signals_that_interrupt_calls_hide_none_of_them(inside, way, kernel):
    """Without SA_RESTART.  Where a waiting call can be interrupted, it returns EINTR, and is counted as interrupted, or was
    taken back before it was seen; in no case does it happen.  An answer that comes between the signal and the caller's waking
    is taken by the kernel and not given to the caller (seccomp_do_user_notification), so it counts as answered."""
    program = compiled(inside, STORM)
    wrap = behind(inside, ("seccomp", 1, 8 | 32, EINVAL)) if kernel != "as it is" else []
    path = os.path.join(inside.scratch, "result.json")
    done = inside.outside(wrap + inside.command("/box/program", way, options=["--copy", program, "--report", path, *NOTHING]))
    refused, interrupted, other = [int(word) for word in done.stdout.split()]
    assert other == 0
    with open(path) as stream:
        result = json.load(stream)
    rows = result["refused"]
    assert {(row["syscall"], row["errno"]) for row in rows} == {("unshare", "EPERM")}
    taken_back = sum(row["interrupted"] for row in rows)
    assert refused <= total(rows, "unshare") <= refused + interrupted - taken_back
    how, = [item["how"] for item in result["controls"] if item["name"] == "ledger"]
    assert ("signals interrupt waiting calls" in how) == (kernel != "as it is")
    assert kernel != "as it is" or taken_back == 0 and total(rows, "unshare") == refused


# Where there is no listener

def test_a_kernel_without_a_listener_refuses_as_ever_and_the_result_says_so(inside):
    wrap = behind(inside, ("seccomp", 1, 8 | 32, EINVAL), ("seccomp", 1, 8, EINVAL))
    path = os.path.join(inside.scratch, "result.json")
    done = inside.outside(wrap + inside.command("/usr/bin/python3", "-c", CALLS + "print(refused('unshare', 0x20000))",
                                                options=["--report", path, *NOTHING]))
    assert done.stdout == "EPERM\n", done
    with open(path) as stream:
        result = json.load(stream)
    row, = [item for item in result["controls"] if item["name"] == "ledger"]
    assert row["asked"] and not row["in_force"] and "Linux 5.0" in row["how"]
    assert result["refused"] is None


def test_a_policy_that_refuses_the_hand_over_is_refused_with_the_ledger(inside):
    policy = os.path.join(inside.scratch, "policy.json")
    done = inside.outside(inside.command(verb="policy", options=["export", "default", "--format", "oci"]), check=True)
    table = json.loads(done.stdout)
    for rule in table["syscalls"]:
        rule["names"] = [name for name in rule["names"] if name != "sendmsg"]
    with open(policy, "w") as stream:
        json.dump(table, stream)
    plain = inside.run("/bin/echo", "ran", options=["--seccomp", policy])
    assert (plain.rc, plain.out) == (0, "ran\n"), plain
    assert plain.result["refused"] is None
    assert plain.err == "mrunc: no ledger: policy %s refuses sendmsg, over which the listener is handed over\n" % policy
    done = inside.run("/bin/echo", "ran", options=["--seccomp", policy, *NOTHING])
    assert (done.rc, done.out) == (2, "") and "sendmsg, over which the listener is handed over" in done.err
    assert "--seccomp-add sendmsg" in done.err


# The call that ends it

@pytest.mark.also_vm
@pytest.mark.parametrize("options, call, target", [
    (["--seccomp-action", "kill"], "'mount', b'none', b'/mnt', b'tmpfs', 0, None", ("target", "/mnt")),
    (["--harden"], "'mount', b'none', b'/mnt', b'tmpfs', 0, None", ("target", "/mnt")),
    (["--seccomp", "strict"], "'ptrace', 16, 1, None, None", ("request", "PTRACE_ATTACH"))], ids=["kill", "harden", "strict"])
def test_a_call_that_kills_is_recorded_and_ends_the_sandbox(inside, options, call, target):
    """All of it: the process that calls is not the first one."""
    done, lines = ledger_of(inside, CALLS + """
print(refused("chroot", b"/x"), flush=True)
if not os.fork():
    refused(%s)
    print("still there", flush=True)
os.wait()
print("and the parent", flush=True)
time.sleep(600)
""" % call, options)
    assert done.out == "EPERM\n"
    first, last = done.result["refused"]
    assert (first["syscall"], first["errno"], first["count"]) == ("chroot", "EPERM", 1)
    assert (last["syscall"], last["errno"], last["count"]) == (call.split("'")[1], "SIGKILL", 1)
    assert last["args"][target[0]] == target[1] and lines[-1]["syscall"] == last["syscall"]
    assert done.result["reason"] == "seccomp" and last["syscall"] in done.result["detail"]


def test_without_the_ledger_the_result_names_the_call_that_killed_all_the_same(inside):
    done = inside.python(CALLS + "refused('ptrace', 16, 1, None, None)\nprint('still there')", options=["--seccomp-action", "kill"])
    assert done.out == "" and done.result["reason"] == "seccomp"
    assert "ptrace" in done.result["detail"] and "PTRACE_ATTACH" in done.result["detail"]
    assert collections.Counter(brief(done.result["refused"] or [])) in (collections.Counter(), collections.Counter(
        [("ptrace", "SIGKILL", 1)]))
