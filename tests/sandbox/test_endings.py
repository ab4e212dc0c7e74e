# SPDX-License-Identifier: Apache-2.0
"""Every way in which a run can end, provoked: the reason, what speaks for it, and what to do about it.

`oom` and `pids-max` need a control group: tests/host/test_cgroup_vm.py provokes them, tests/unit/test_verdict.py holds their words.
"""
import json
import os
import re
import signal
import subprocess

import pytest

from conftest import DEADLINE, PYTHON, ROOT, become, hold_to_schema
from mrunc.sandbox.result.reasons import REASONS
from test_containment import family, waiting

IN_VM_ONLY = {"oom", "pids-max"}
REFUSALS = "it was refused no system call: look at what it wrote"
OUTSIDE = "see whether it did so itself, or the host's memory ran out (dmesg): --memory bounds it"
STOP = "trap '' TERM; kill -STOP $$"
PTRACE = "import ctypes; ctypes.CDLL(None).ptrace(16, 1, 0, 0); print('refused', flush=True)"
SPIN = "while :; do :; done"
KILLING = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]}


def program(who):
    """The program's own end, as the evidence has it."""
    return "pid 1 of the sandbox: the program %s" % who


#: name -> (options, command, exit status, reason, detail, evidence, advice)
ENDINGS = {
    "success": ([], "exit 0", 0, "exited", "exited with status 0", [program("exited with status 0")], None),
    "failure": ([], "exit 3", 3, "exited", "exited with status 3", [program("exited with status 3")], REFUSALS),
    "failure, with refused calls": ([], "unshare -U true", 1, "exited", "exited with status 1", [program("exited with status 1")],
                                    "see whether one of the refused calls is behind it"),
    "a missing command": ([], "no-such-program 2>/dev/null", 127, "exited", "exited with status 127", [program("exited with status 127")],
                          "bring in with --copy or --ro what it did not find: a shell ends so for a missing command"),
    "a crash": ([], "kill -SEGV $$", 139, "signal", "killed by SIGSEGV", [program("was killed by SIGSEGV")], REFUSALS),
    "SIGKILL": ([], "kill -KILL $$", 137, "signal", "killed by SIGKILL", [program("was killed by SIGKILL")], OUTSIDE),
    "time": (["--timeout", "200ms"], "exec sleep 1000", 124, "timeout-wall", "the time limit of 0.2 s was reached",
             ["the clock: 0.2 s were over", program("was killed by SIGTERM")], "allow more with --timeout"),
    "time, stopped": (["--timeout", "300ms", "--grace", "0"], STOP, 124, "timeout-wall",
                      "the time limit of 0.3 s was reached, and all its processes were stopped",
                      ["the clock: 0.3 s were over", "/proc: all processes of the program were stopped", program("was killed by SIGKILL")],
                      "find what sent SIGSTOP or SIGTSTP: a stopped program waits for SIGCONT"),
    "processor time": (["--cpu-time", "200ms", "--timeout", "60"], SPIN, 124, "timeout-cpu", "the processor time of 0.2 s was used up",
                       ["processor time of all processes: 0.2 s were used up", r"re:wait4: [\d.]+ s of processor time; RLIMIT_CPU 2 and 3 s",
                        program("was killed by SIGTERM")], "allow more with --cpu-time"),
    "processor time of one process": (["--rlimit", "cpu=1:5", "--timeout", "60"], SPIN, 152, "rlimit-cpu",
                                      "killed by SIGXCPU after 1 s of processor time",
                                      [r"re:wait4: [\d.]+ s of processor time; RLIMIT_CPU 1 and 5 s", program("was killed by SIGXCPU")],
                                      "allow more with --rlimit cpu=SECONDS"),
    "file size": (["--rlimit", "fsize=4K"], "exec head -c 9999 /dev/zero > x", 153, "file-size",
                  "killed by SIGXFSZ: a file would have become larger than 4096 bytes (a program can also send itself this signal)",
                  [program("was killed by SIGXFSZ")], "allow more with --rlimit fsize=SIZE"),
    "output": (["--max-output", "1K"], "exec yes", 137, "output-limit", "it wrote more than 1024 bytes",
               ["mrunc: more than 1024 bytes came through stdout and stderr", program("was killed by SIGKILL")],
               "allow more with --max-output"),
    "a call of high risk": (["--seccomp-action", "kill"], ["python3", "-c", PTRACE], 159, "seccomp",
                            "killed for calling ptrace(request=PTRACE_ATTACH, pid=1), which takes over another process",
                            ["the filter's listener: ptrace(request=PTRACE_ATTACH, pid=1)",
                             program("was killed by SIGKILL")], "let it go on, refused, with --seccomp-action errno"),
    "a policy that kills": (["--seccomp", "killing.json"], "exec mkdir x", 159, "seccomp",
                            "killed by SIGSYS: policy killing.json answers a call so (a program can also send itself this signal)",
                            [program("was killed by SIGSYS")], "with --ledger FILE the result names the call"),
    "a policy that kills, with a ledger": (["--seccomp", "killing.json", "--ledger", "ledger"], "exec mkdir x", 159, "seccomp",
                                           "killed for calling mkdir(path=x, mode=0777), which policy killing.json answers so",
                                           ["the filter's listener: mkdir(path=x, mode=0777)", program("was killed by SIGKILL")],
                                           "let it go on, refused, with an errno in the policy"),
    "no such program": ([], ["/nowhere"], 127, "exec", "exec: /nowhere: not found inside", ["step: exec", "errno: 2, No such file or directory"],
                        "it is not on this host either: check the name"),
    "no program": ([], ["/box"], 126, "exec", "exec: /box: is a directory", ["step: exec", "errno: 21, Is a directory"],
                   "make it a program that this machine can execute"),
}


def told(result):
    """What a result says of its end."""
    return result["reason"], result["detail"], result["evidence"], result["advice"]


def matches(found, wanted):
    return re.fullmatch(wanted[3:], found) is not None if wanted.startswith("re:") else found == wanted


@pytest.mark.parametrize("name", ENDINGS)
def test_the_end_is_told_with_evidence_and_advice(inside, name):
    options, command, status, reason, detail, evidence, advice = ENDINGS[name]
    with open(os.path.join(inside.scratch, "killing.json"), "w") as stream:
        json.dump(KILLING, stream)
    done = inside.run(*(["/bin/sh", "-c", command] if isinstance(command, str) else command), options=options)
    assert (done.rc, done.result["returncode"]) == (status, status), done
    assert told(done.result)[:2] == (reason, detail) and done.result["advice"] == advice, told(done.result)
    assert len(done.result["evidence"]) == len(evidence) and all(map(matches, done.result["evidence"], evidence)), done.result["evidence"]


def test_without_a_ledger_the_advice_names_it(inside):
    done = inside.outside(inside.command("/bin/sh", "-c", "kill -SEGV $$", options=["-v"]))
    assert (done.returncode, done.stdout) == (139, "")
    assert "mrunc: ended: killed by SIGSEGV; see whether a refused call is behind it: --ledger FILE lists them\n" in done.stderr


def test_a_refused_start_is_told(inside):
    """By a host without user namespaces."""
    report = os.path.join(inside.scratch, "refused.json")
    done = inside.outside(["unshare", "-Ur", "/bin/sh", "-ec", 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"', "sh",
                           *inside.command("/bin/true", options=["--report", report])])
    result = read(report)
    assert (done.returncode, result["returncode"], result["reason"]) == (125, 125, "setup"), done
    assert result["detail"].startswith("namespaces: clone3: ")
    assert result["evidence"] == ["step: namespaces", "control: userns", "errno: 28, No space left on device"] and result["advice"]


def test_a_refused_start_without_a_remedy_of_its_own_names_the_doctor():
    from mrunc.sandbox.errors import SandboxError
    from mrunc.sandbox.result.result import Result
    for status, words in ((2, "mrunc.py --man"), (125, "mrunc.py doctor"), (126, "program"), (127, "copy brings"), (143, "run it again")):
        result = Result()
        result.failed(SandboxError("step", "what", 1, status=status, control="nnp"))
        assert words in result.advice and result.evidence == ["step: step", "control: nnp", "errno: 1, Operation not permitted"]


def read(path):
    with open(path) as stream:
        result = json.load(stream)
    hold_to_schema(result)
    return result


SIGNALLED = {
    "the caller's only signal": ([15], "pass", 143, "signal", "killed by SIGTERM, which the caller had sent",
                                 ["mrunc got SIGTERM and passed it on", program("was killed by SIGTERM")],
                                 "handle SIGTERM in the program to end in order"),
    "the caller's third signal": ([1, 2, 15, 15], "for number in (1, 2, 15): signal.signal(number, lambda *rest: os.write(1, b'%d\\n' % rest[0]))",
                                  143, "killed-by-caller", "killed on the caller's third SIGTERM",
                                  ["mrunc got the third of SIGINT, SIGQUIT and SIGTERM: SIGTERM", "mrunc got SIGHUP and passed it on",
                                   "mrunc got SIGINT and passed it on", "mrunc got SIGTERM and passed it on",
                                   program("was killed by SIGKILL")],
                                  "let it end by itself: SIGTERM asks it to, --timeout with --grace does so and then kills"),
}


@pytest.mark.parametrize("name", SIGNALLED)
def test_an_end_by_the_caller_is_told(inside, name):
    numbers, code, status, reason, detail, evidence, advice = SIGNALLED[name]
    report = os.path.join(inside.scratch, "signalled.json")
    with waiting(inside, "import os, signal\n%s\nprint('ready', flush=True)" % code, options=["--report", report]) as run:
        for number in numbers[:-1]:
            run.process.send_signal(number)
            assert run.process.stdout.readline() == "%d\n" % number
        run.process.send_signal(numbers[-1])
        assert run.process.wait(DEADLINE) == status
    assert told(read(report)) == (reason, detail, evidence, advice)


def test_a_killed_pid_1_is_told(inside):
    report = os.path.join(inside.scratch, "lost.json")
    with waiting(inside, options=["--report", report]) as run:
        os.kill(family(run.pid)[0], signal.SIGKILL)
        assert run.process.wait(DEADLINE) == 137
    assert told(read(report)) == (
        "lost", "pid 1 of the sandbox was killed from outside; the program ended with it",
        ["pid 1 of the sandbox said nothing about the program, and was killed by SIGKILL"],
        "look on the host for who did: somebody's kill, or the kernel for want of memory (dmesg)")


#: The library: what `code` prints of a result.
LIBRARY = """
import sys
sys.path.insert(0, %r)
import json, mrunc
%s
print(json.dumps(result.as_dict()))
"""


def library(inside, code):
    done = inside.outside([PYTHON, "-I", "-S", "-c", LIBRARY % (os.path.dirname(inside.tool), code)])
    assert done.returncode == 0, done
    result = json.loads(done.stdout)
    hold_to_schema(result)
    return result


def test_a_kill_through_the_library_is_told(inside):
    result = library(inside, "process = mrunc.Sandbox().popen(['sleep', '1000'])\nprocess.kill()\nprocess.wait()\nresult = process.result")
    assert (result["reason"], result["detail"]) == ("killed-by-caller", "killed by the caller")
    assert result["evidence"][0] == "mrunc was told to end it" and result["advice"].startswith("let it end by itself: SIGTERM")


FAILING = """
from mrunc.sandbox.running import supervise; from mrunc.sandbox.launch import run as launch
from mrunc.sandbox.plan.spec import Spec
supervise.Supervision._record = lambda self: 1 // 0
result = launch.launch(launch.prepare(Spec(['/bin/true'])))
"""


def test_a_mistake_of_the_supervisor_is_told(inside):
    result = library(inside, FAILING)
    assert (result["reason"], result["returncode"]) == ("lost", 137)
    assert result["detail"].startswith("the supervisor failed while the program ran: ZeroDivisionError")
    assert result["evidence"][0] == "mrunc: " + result["detail"] and len(result["evidence"]) == 2
    assert result["advice"] == "report it with this result: a mistake of mrunc's own"


def test_every_reason_is_provoked_here_or_in_a_virtual_machine():
    here = {row[3] for row in list(ENDINGS.values()) + list(SIGNALLED.values())} | {"setup", "lost", "killed-by-caller"}
    assert here | IN_VM_ONLY == set(REASONS)
    with open(os.path.join(ROOT, "tests", "host", "test_cgroup_vm.py")) as stream:
        machine = stream.read()
    assert all('"%s"' % reason in machine for reason in IN_VM_ONLY)


@pytest.mark.parametrize("options", [[], ["--tier", "process"]])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_script_and_what_it_waits_for(inside, options, number):
    """A shell that waits for a command looks at the signal when that has ended: it must get it, too."""
    process = subprocess.Popen(inside.command("/bin/sh", "-c", "sh -c 'echo up; exec sleep 1000'; echo still",
                                              options=options),
                               cwd=inside.scratch, preexec_fn=become(inside.who), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"up\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + number, b""), err


def test_an_end_before_the_new_root_kills_nobody_of_the_host():
    """Until pivot_root /proc/PID/root/proc is the host's own, which lists every process."""
    script = ("import os, subprocess, sys, types\nsys.path.insert(0, %r)\nimport mrunc\nfrom mrunc.sandbox.running import ending\n"
              "killed = []\nending.kill = lambda fd: killed.append(os.readlink('/proc/self/fd/%%d' %% fd))\n"
              "plan = types.SimpleNamespace(tier=types.SimpleNamespace(own_tree=True), spec=types.SimpleNamespace(proc='pid'))\n"
              "run = types.SimpleNamespace(pid=os.getppid(), plan=plan, undo=[])\n"
              "ending.kill_below = lambda pid: None\nending.Ending().kill_others(run)\nprint(killed)\n" % ROOT)
    done = subprocess.run([PYTHON, "-I", "-c", script], stdout=subprocess.PIPE, universal_newlines=True, timeout=60)
    assert (done.stdout, done.returncode) == ("[]\n", 0)
