# SPDX-License-Identifier: Apache-2.0
"""`mrunc policy learn`: what a trusted program does becomes its policy, which lets it run again and nothing else."""
import json
import os
import runpy
import subprocess

import pytest

import mrunc  # noqa: F401  registers the package
from conftest import PYTHON, ROOT, Finished, hold_to_schema, lacking, needs_python, pythons
from mrunc.sandbox.seccomp import learned, learned_text
from mrunc.sandbox.observe import learning
from mrunc.sandbox.plan import learning as planned
from mrunc.syscalls.libc import ARCH
from mrunc.syscalls.numbers import native

pytestmark = pytest.mark.needs("listener")

NR = native().NR
PYTHON3 = "/usr/bin/python3"
CHOSEN = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv) {
    int n = 0, fd[2];
    pipe(fd);
    ioctl(fd[0], FIONREAD, &n);
    ioctl(fd[0], 0x12345678, &n);
    close(socket(AF_UNIX, SOCK_DGRAM, 0));
    close(socket(AF_INET, SOCK_STREAM, 0));
    prctl(PR_SET_NAME, "chosen");
    fcntl(fd[0], F_GETPIPE_SZ);
    for (int i = 0; i < 3; i++) {
        int pid = syscall(SYS_clone, CLONE_FS | SIGCHLD, 0, 0, 0, 0);
        if (!pid) _exit(0);
        waitpid(pid, 0, 0);
    }
    if (argc > 1) {
        chroot("/");
        socket(AF_UNIX, SOCK_STREAM, 0);
        ioctl(fd[0], FIONBIO, &n);
        prctl(PR_GET_NAME, (char[16]){0});
    }
    puts("done");
    return 7;
}
"""
BUSY = """
import os, threading
def each(number):
    for _ in range(50): os.stat("/usr"); os.getppid()
threads = [threading.Thread(target=each, args=(n,)) for n in range(4)]
[thread.start() for thread in threads]
children = []
for _ in range(4):
    pid = os.fork()
    if not pid:
        for _ in range(50): os.sched_yield()
        os._exit(0)
    children.append(pid)
[thread.join() for thread in threads]
print([os.waitpid(pid, 0)[1] for pid in children])
"""



def policy_learn(inside, *argv, options=(), python=None):
    """Finished of `mrunc policy learn OPTIONS -- ARGV` with a report."""
    report = os.path.join(inside.scratch, "report.json")
    done = inside.outside([python or PYTHON, "-I", "-S", inside.tool, "policy", "learn", "--report", report, *options, "--",
                           *argv])
    result = None
    if os.path.exists(report):
        with open(report) as stream:
            result = json.load(stream)
        os.unlink(report)
        hold_to_schema(result)
    return Finished(done, result)


def learn(inside, *argv, options=(), name="learned", **settings):
    """(Finished, path, text) of a run that learns."""
    path = os.path.join(inside.scratch, name)
    done = policy_learn(inside, *argv, options=["-o", path, *options], **settings)
    with open(path) as stream:
        return done, path, stream.read()


def verify(inside, path, *argv, options=()):
    """Finished of a run behind a learned policy."""
    return policy_learn(inside, *argv, options=["--verify", path, *options])


def control(done, name):
    return [row for row in done.result["controls"] if row["name"] == name][0]


def rules(text):
    """The lines that are rules, without their comments."""
    return [line.partition("  #")[0] for line in text.split("\n") if ": " in line and line[0] not in "#@"]


@pytest.mark.parametrize("argv", [["/bin/true"], [PYTHON3, "-I", "-c", "import json, os; print(json.dumps(os.listdir('/usr')))"],
                                  ["sh", "-c", "for i in 1 2 3; do ls -l /usr | sort | head -n 1; done; echo $PPID > /tmp/f"]])
def test_a_program_runs_behind_what_was_learned_of_it(inside, argv):
    plain = inside.run(*argv)
    done, path, text = learn(inside, *argv)
    assert (done.rc, done.out) == (0, plain.out) and "only for a program that you trust" in done.err
    again = inside.run(*argv, options=["--seccomp", path])
    assert (again.rc, again.out) == (0, plain.out) and control(again, "seccomp")["in_force"]
    strictly = verify(inside, path, *argv)
    assert strictly.rc == 0 and strictly.err == "mrunc: %s refused nothing\n" % path and strictly.result["refused"] == []
    assert strictly.result["policy"]["name"] == path and control(strictly, "seccomp")["in_force"]


@pytest.mark.also_vm
def test_while_learning_the_result_says_that_the_filter_is_open(inside):
    done, _, _ = learn(inside, "/bin/true")
    for name in ("seccomp", "ledger"):
        row = control(done, name)
        assert not row["asked"] and not row["in_force"] and row["how"] == planned.OPEN
    assert done.result["policy"] is None and done.result["refused"] is None
    others = [row["name"] for row in done.result["controls"] if row["asked"] and not row["in_force"]]
    assert set(others) <= lacking()
    required = policy_learn(inside, "/bin/true", options=["-q", "-o", os.path.join(inside.scratch, "x"), "--require", "seccomp"])
    assert required.rc == 125 and "seccomp" in required.err and not os.path.exists(os.path.join(inside.scratch, "x"))
    assert "only for a program that you trust" in required.err, "-q does not silence it"


def test_arguments_are_held_to_what_was_seen(inside):
    source, program = os.path.join(inside.scratch, "chosen.c"), os.path.join(inside.scratch, "chosen")
    with open(source, "w") as stream:
        stream.write(CHOSEN)
    subprocess.run(["gcc", "-w", "-o", program, source], check=True, timeout=60)
    bring = ["--copy", program]
    done, path, text = learn(inside, "./chosen", options=bring)
    assert done.rc == 7 and done.out == "done\n" and done.result["advice"].startswith("hardly any call was refused")
    lines = text.split("\n")
    for line in ("ioctl: arg1 == FIONREAD  # once", "ioctl: arg1 == 0x12345678  # once; the default policy refuses this",
                 "socket: arg0 == AF_UNIX && arg1 == SOCK_DGRAM  # once",
                 "socket: arg0 == AF_INET && arg1 == SOCK_STREAM  # once; the default policy refuses this",
                 "prctl: arg0 == PR_SET_NAME  # once", "fcntl: arg1 == F_GETPIPE_SZ  # once",
                 "clone: arg0 == CLONE_FS|SIGCHLD", "socket: return EAFNOSUPPORT", "clone: return EPERM"):
        assert line in lines, line
    assert verify(inside, path, "./chosen", options=bring).rc == 7
    other = verify(inside, path, "./chosen", "more", options=bring)
    assert other.rc == 1 and "refused: chroot(path=/): ENOSYS, 1 time" in other.err and other.out == "done\n"
    assert [(row["syscall"], row["errno"], row["count"]) for row in other.result["refused"]] == [
        ("chroot", "ENOSYS", 1), ("socket", "EAFNOSUPPORT", 1), ("ioctl", "ENOTTY", 1), ("prctl", "EINVAL", 1)]


@pytest.mark.whoever
@pytest.mark.also_vm
def test_threads_and_children_are_learned_and_run_again(inside):
    argv = [PYTHON3, "-I", "-S", "-c", BUSY]
    done, path, text = learn(inside, *argv)
    assert done.out == "[0, 0, 0, 0]\n" and done.rc == 0
    assert {"getppid: 1", "sched_yield: 1"} <= set(rules(text))
    assert [line for line in rules(text) if line.startswith("clone: ") and "CLONE_THREAD" in line]
    assert verify(inside, path, *argv).rc == 0


def test_runs_add_up_and_what_was_seen_once_stays_marked(inside):
    code = "import os; os.getpgid(0)%s"
    _, path, one = learn(inside, PYTHON3, "-I", "-S", "-c", code % "; os.sync()")
    assert "sync: 1  # once" in one and "getpgid: 1  # once" in one
    refused = policy_learn(inside, PYTHON3, "-c", code % "", options=["-o", path])
    assert refused.rc == 2 and "--merge keeps its rules and adds to them" in refused.err
    _, _, two = learn(inside, PYTHON3, "-I", "-S", "-c", code % "; os.umask(0)", options=["--merge"])
    assert two.startswith("# Learned in 2 runs") and set(rules(one)) < set(rules(two))
    assert "sync: 1  # once" in two and "umask: 1  # once" in two and "getpgid: 1\n" in two
    for last in ("; os.sync()", "; os.umask(0)"):
        assert verify(inside, path, PYTHON3, "-I", "-S", "-c", code % last).rc == 0
    third = verify(inside, path, PYTHON3, "-I", "-S", "-c", code % "; os.nice(1)")
    assert third.rc == 1 and "refused 1 call" in third.err


def test_oci_json_decides_as_the_text_does(inside):
    argv = ["sh", "-c", "ls /usr | wc -l"]
    _, text, _ = learn(inside, *argv)
    done, profile, content = learn(inside, *argv, name="learned.json")
    assert json.loads(content)["defaultErrnoRet"] == 38 and done.rc == 0
    assert verify(inside, profile, *argv).rc == 0
    other = inside.outside([PYTHON, "-I", "-S", inside.tool, "policy", "export", text, "--format", "oci"])
    names = [{name for rule in json.loads(data)["syscalls"] for name in rule["names"]} for data in (content, other.stdout)]
    assert names[0] == names[1]
    merged = policy_learn(inside, *argv, options=["-o", profile, "--merge"])
    assert merged.rc == 2 and "can't read OCI JSON" in merged.err


def test_nothing_is_written_where_nothing_ran(inside):
    path = os.path.join(inside.scratch, "none")
    done = policy_learn(inside, "no-such-program", options=["-o", path])
    assert done.rc == 127 and os.listdir(inside.scratch) == []
    assert done.err.endswith("mrunc: exec: no-such-program: not found inside\nmrunc: remedy: it is not on this host either: check the name\n")


@pytest.mark.parametrize("options, said", [
    (["--harden"], "takes no --harden"), (["--seccomp", "strict"], "takes no --seccomp"), (["--ledger", "-"], "takes no --ledger"),
    (["--merge"], "--merge needs -o FILE"), (["--verify", "default", "--merge"], "--verify takes no --merge"),
    (["--format", "bpf"], "it is one of: oci, text"), (["--tier", "process"], "stands on it"),
    (["--verify", "nosuch"], "policy: nosuch: no policy is called so")])
def test_what_contradicts_learning_is_refused(inside_as_user, options, said):
    done = policy_learn(inside_as_user, "/bin/true", options=options)
    assert done.rc == 2 and said in done.err, done


def test_signals_and_deadlines_reach_a_program_that_is_learned(inside):
    code = "import signal, time; signal.signal(15, lambda *_: (print('asked', flush=True), exit(3))); time.sleep(60)"
    done, _, text = learn(inside, PYTHON3, "-I", "-S", "-c", code, options=["--timeout", "2s", "--grace", "30s"])
    assert done.rc == 124 and done.out == "asked\n" and "rt_sigreturn: 1" in text


def test_a_set_id_mode_is_refused_while_learning_too(inside_as_user):
    folder = os.path.join(inside_as_user.scratch, "shared")
    inside_as_user.outside(["mkdir", folder])
    code = "import os; open('f', 'w').close()\ntry: os.chmod('f', 0o4755)\nexcept OSError as error: print(error.errno)\nos.chmod('f', 0o755)"
    done, _, text = learn(inside_as_user, PYTHON3, "-I", "-S", "-c", code, options=["--rw", folder, "--chdir", folder])
    assert done.out == "1\n" and control(done, "setid-filter")["in_force"] and "chmod: " in text
    assert os.stat(os.path.join(folder, "f")).st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("version, python", pythons())
def test_it_learns_under_each_python(version, python, tmp_path):
    path = str(tmp_path / "p")
    subprocess.run([python, "-I", "-S", os.path.join(ROOT, "mrunc.py"), "policy", "learn", "-q", "-o", path, "--", "/bin/true"],
                   check=True, timeout=120, stderr=subprocess.PIPE)
    found = learned_text.read(path, open(path, "rb").read(), ARCH)
    assert found.runs == 1 and "openat" in found.calls


@needs_python(8, "os.posix_spawn, which the measurements use")
def test_strace_sees_the_same_calls(inside_as_root):
    bench = runpy.run_path(os.path.join(ROOT, "bench", "learning.py"))
    for command, text in ((["sh", "-c", "seq 9 | sort -r | head -n 1; (exit 3) & wait $!; mkdir d; ls -l d"], ""),
                          (["python3", "program.py"], BUSY)):
        status, seen, noted = bench["sets"](command, text)
        found = bench["differences"](seen, noted)
        assert status == 0 and not found["missed by learning"] and not found["missed by strace"], found
        assert {"read", "write", "mmap"} <= set(found["never noted, always allowed"]) and len(noted) > 12


class Calls:
    """A listener that hands over what the test says."""

    fd, continued = 0, frozenset(NR.values()) - {NR["clone3"]}

    def __init__(self):
        self.next, self.answers = None, []

    def receive(self):
        return self.next

    def refuse(self, ident, number):
        self.answers.append(number)
        return True

    def go_on(self, ident, number):
        self.answers.append("goes on")
        return True


def test_memory_is_bounded_and_what_is_left_out_is_told():
    listener = Calls()
    learner = learning.Learner(listener)

    def call(name, *arguments):
        listener.next = 1, 2, NR.get(name, name), 0, tuple(arguments) + (0,) * (6 - len(arguments))
        learner._answer()
    for number in range(3000):
        call("socket", 1, number)
        call("mknodat", 1, number, 0x6000 + number)
        call("getppid", number)
    assert len(learner.seen[NR["socket"]]) == learning.MOST_KEPT and len(learner.answers) <= learning.MOST_ANSWERS
    assert learner.seen[NR["getppid"]] == {None: 3000} and set(listener.answers) == {"goes on"}
    for number in range(5000, 5100):
        call(number)
    call("clone3")
    assert listener.answers[-101:] == [38] * 101 and len(learner.unknown) == learning.MOST_UNKNOWN
    assert "mknodat" in learner.found([]).outside and "getppid" not in learner.found([]).outside
    first, second = learner.notes()
    listener.next = None
    learner._answer()
    assert "1 call was interrupted" in learner.notes()[0]
    assert "more than 1000 different values of socket" in first and "without a name were refused: 5000 5001" in second


def test_high_halves_of_an_int_are_no_other_value():
    listener = Calls()
    learner = learning.Learner(listener)
    listener.next = 1, 2, NR["ioctl"], 0, (3, 0x5401 | 1 << 40, 0, 0, 0, 0)
    learner._answer()
    assert learner.found([]).calls == {"ioctl": {(0x5401,): 1}}


def test_the_filter_asks_about_all_but_the_hand_over():
    from mrunc import seccomp_bpf as bpf
    from mrunc.sandbox.seccomp import choose, policy
    code, audit = bpf.decode(planned.asking()), policy.numbers(ARCH).AUDIT_ARCH
    base = dict(learned.BASE)
    for call, number in NR.items():
        answer = bpf.run(code, number, audit, (99,) * 6)[0]
        if call in learned.BLIND:
            assert answer == bpf.errno(38)
        else:
            assert answer == (bpf.ALLOW if call in base and base[call] is None else bpf.NOTIFY), call
    assert not choose.lacking(planned.asking(), ARCH, tty=False)
    assert bpf.run(code, 1, audit ^ 1)[0] == bpf.KILL_PROCESS and bpf.run(code, 4000, audit)[0] == bpf.NOTIFY
