# SPDX-License-Identifier: Apache-2.0
"""Processor time: of the whole sandbox, counted from outside, however the program spreads it."""
import json
import os
import signal
import subprocess

import pytest

from conftest import ROOT, become

LINE = "mrunc: the processor time of %g s was used up; allow more with --cpu-time\n"
#: A program that burns, each in another place.  All know `burn(seconds)` and `forever()`.
BURN = """
import os, resource, signal, sys, time
def used():
    return sum(os.times()[:2])
def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end: pass
def forever():
    burn(1000)
"""
BURNERS = {
    "one process": "forever()",
    "four forked": "for _ in range(3): os.fork() or forever()\nforever()",
    "children that end and are waited for": "while True:\n    pid = os.fork()\n    if not pid: burn(0.005); os._exit(0)\n"
                                            "    os.waitpid(pid, 0)",
    "orphans of other sessions": "for _ in range(2):\n    if not os.fork():\n        os.setsid()\n        os.fork() or forever()\n"
                                 "        os._exit(0)\ntime.sleep(1000)",
    "a thread": "import threading; threading.Thread(target=forever, daemon=True).start(); time.sleep(1000)",
    "children that nobody waits for": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True:\n    pid = os.fork()\n"
                                      "    if not pid: burn(0.2); os._exit(0)\n    try: os.waitpid(pid, 0)\n"
                                      "    except ChildProcessError: pass",
    "a name that looks like numbers": "import ctypes; ctypes.CDLL(None).prctl(15, b') R 1 1 1 1', 0, 0, 0); forever()",
    "not dumpable": "import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0); os.fork() or forever()\ntime.sleep(1000)",
    "a file that nobody can read": "import shutil; shutil.copy('/bin/sh', '/tmp/x'); os.chmod('/tmp/x', 0o111)\n"
                                   "os.execv('/tmp/x', ['x', '-c', 'while :; do :; done'])",
    "SIGTERM ignored": "signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork() or forever()\nforever()",
    "SIGXCPU ignored": "signal.signal(signal.SIGXCPU, signal.SIG_IGN); forever()",
}


@pytest.mark.parametrize("burner", BURNERS)
def test_processor_time_is_counted_wherever_it_is_used(inside, burner):
    done = inside.python(BURN + BURNERS[burner], options=["--cpu-time", "400ms", "--grace", "50ms", "--timeout", "60"])
    assert (done.rc, done.out, done.err) == (124, "", LINE % 0.4), done
    result = done.result
    assert (result["reason"], result["returncode"], result["limits_hit"]) == ("timeout-cpu", 124, {"cpu_time": 0.4})
    used = result["usage"]["user_s"] + result["usage"]["system_s"]
    assert used >= 0.4, result["usage"]
    assert result["usage"]["wall_s"] >= 0.4 / os.cpu_count(), "no machine is that fast: something else was counted"


@pytest.mark.parametrize("burner", ["four forked", "orphans of other sessions", "children that end and are waited for"])
@pytest.mark.parametrize("option", [["--proc", "none"], ["--tier", "process"]])
def test_processor_time_is_counted_also_without_a_proc_of_its_own(inside, option, burner):
    done = inside.run("/usr/bin/python3", "-I", "-S", "-c", BURN + BURNERS[burner],
                      options=["--cpu-time", "400ms", "--timeout", "60"] + option)
    assert done.rc == 124 and done.err.endswith(LINE % 0.4), done
    how = [row["how"] for row in done.result["controls"] if row["name"] == "limits.cpu-time"]
    assert how == ["the supervisor adds up the descendants of pid 1 every 20 ms"]


def test_a_program_below_its_processor_time_ends_by_itself(inside):
    """Also one whose children, each reaped while one counts, could be counted twice."""
    done = inside.python(BURN + "for _ in range(200):\n    pid = os.fork()\n    if not pid: burn(0.002); os._exit(0)\n"
                                "    os.waitpid(pid, 0)\ntime.sleep(0.1)\nprint('end')", options=["--cpu-time", "5s"])
    assert (done.rc, done.out, done.err) == (0, "end\n", ""), done
    assert done.result["reason"] == "exited" and done.result["limits_hit"] == {}
    used = done.result["usage"]["user_s"] + done.result["usage"]["system_s"]
    assert 0.4 <= used < 5


def test_sleeping_costs_no_processor_time_and_mruncs_own_set_up_is_not_counted(inside):
    done = inside.run("/bin/sleep", "0.3", options=["--cpu-time", "20ms"])
    assert (done.rc, done.err) == (0, ""), done


def test_a_program_may_tidy_up_when_its_processor_time_is_used_up(inside):
    code = ("def last(*rest): print('tidied', flush=True); os._exit(7)\n"
            "signal.signal(signal.SIGTERM, last)\nforever()")
    done = inside.python(BURN + code, options=["--cpu-time", "100ms", "--grace", "20s"])
    assert (done.rc, done.out, done.result["exit_code"]) == (124, "tidied\n", 7), done


@pytest.mark.parametrize("option", [["--timeout", "200ms"], ["--cpu-time", "200ms"]])
def test_the_first_deadline_that_is_reached_is_the_reason(inside, option):
    code = BURN + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nforever()"
    other = ["--cpu-time", "50s"] if option[0] == "--timeout" else ["--timeout", "50s"]
    done = inside.python(code, options=option + other + ["--grace", "0"])
    assert (done.rc, done.result["reason"]) == (124, "timeout-wall" if option[0] == "--timeout" else "timeout-cpu"), done


def test_a_stopped_pid_1_does_not_outlast_a_deadline(inside):
    """It answers no request to end; everything inside is killed from outside then."""
    command = inside.command("/bin/sh", "-c", "echo up; exec sleep 300",
                             options=["--timeout", "1", "--grace", "0"])
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          preexec_fn=become(inside.who), cwd=inside.scratch) as run:
        assert run.stdout.readline() == b"up\n"
        with open("/proc/%d/task/%d/children" % (run.pid, run.pid)) as stream:
            init, = map(int, stream.read().split())
        os.kill(init, signal.SIGSTOP)
        try:
            run.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            os.kill(init, signal.SIGKILL)
            raise
        assert run.returncode == 124


def test_the_kernels_own_limit_for_one_process_is_behind_it(inside):
    done = inside.run("/bin/sh", "-c", "ulimit -St; ulimit -Ht", options=["--cpu-time", "1.5s"])
    assert (done.rc, done.out) == (0, "4\n5\n"), done
    how = [row["how"] for row in done.result["controls"] if row["name"] == "limits.rlimit"]
    assert "Max cpu time 4:5" in how[0], "the gate read it back: %s" % how
    done = inside.run("/bin/sh", "-c", "ulimit -St; ulimit -Ht", options=["--cpu-time", "1.5s", "--rlimit", "cpu=1:2"])
    assert (done.rc, done.out) == (0, "1\n2\n"), "what the user asked for stays: %r" % done


@pytest.mark.parametrize("limit,code,number", [
    ("cpu=1:20", "forever()", 24),
    ("cpu=1:2", "signal.signal(signal.SIGXCPU, signal.SIG_IGN); forever()", 9),
])
@pytest.mark.once
def test_the_limit_of_one_process_is_told_as_what_it_is(inside, limit, code, number):
    done = inside.python(BURN + code, options=["--rlimit", limit, "--timeout", "60"])
    assert (done.rc, done.result["reason"], done.result["signal"]) == (128 + number, "rlimit-cpu", number), done
    assert done.result["limits_hit"] == {"rlimit_cpu": 1 if number == 24 else 2}
    assert done.err.startswith("mrunc: killed by SIG") and "--rlimit cpu=" in done.err, done


@pytest.mark.parametrize("number", [24, 9])
@pytest.mark.parametrize("limit", [[], ["--rlimit", "cpu=5"]])
def test_a_signal_alone_is_no_evidence_of_a_limit(inside, number, limit):
    done = inside.python("import os; os.kill(os.getpid(), %d)" % number, options=limit)
    assert (done.rc, done.result["reason"], done.result["limits_hit"], done.err) == (128 + number, "signal", {}, ""), done


def test_a_file_that_grows_too_large_is_told(inside):
    code = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\nopen('big', 'wb').write(b'x' * 100000)"
    done = inside.python(code, options=["--rlimit", "fsize=64K"])
    assert (done.rc, done.result["reason"], done.result["limits_hit"]) == (153, "file-size", {"rlimit_fsize": 65536}), done
    assert done.err.endswith("allow more with --rlimit fsize=SIZE\n")
    done = inside.run("/bin/sh", "-c", "kill -XFSZ $$")
    assert (done.rc, done.result["reason"], done.err) == (153, "signal", ""), done


def test_the_usage_holds_what_orphans_used(inside):
    code = BURN + ("read, write = os.pipe()\nif not os.fork():\n    pid = os.fork()\n    if not pid: burn(0.3); os._exit(0)\n"
                   "    os.write(write, b'%d' % pid); os._exit(0)\nos.wait(); orphan = int(os.read(read, 20))\n"
                   "try:\n    while True: os.kill(orphan, 0); time.sleep(0.01)\nexcept ProcessLookupError: pass\n"  # pid 1 waited for it
                   "print(sum(os.times()[:4]))")
    for options in ([], ["--cpu-time", "50"]):
        done = inside.python(code, options=options)
        usage = done.result["usage"]
        assert usage["user_s"] + usage["system_s"] - float(done.out) >= 0.25, (options, done.out, usage)


def test_the_plan_and_the_library_know_the_deadlines(inside):
    plan = inside.outside(inside.command("true", options=["--cpu-time", "2", "--max-output", "1M", "--print-plan", "--json"]))
    plan = json.loads(plan.stdout)
    assert (plan["cpu_time"], plan["max_output"], plan["limits"]["cpu"]) == (2.0, 1 << 20, [4, 5])
    text = inside.outside(inside.command("true", options=["--cpu-time", "2", "--timeout", "3", "--print-plan"])).stdout
    assert "deadline      3 s or 2 s of processor time, grace 0.5 s\n" in text
    code = ("import sys; sys.path.insert(0, %r); import mrunc\n"
            "r = mrunc.run(['sh', '-c', 'while :; do :; done'], cpu_time='200ms', grace=0)\n"
            "print(r.reason, r.returncode, r.in_force('limits.cpu-time'), flush=True)\n"
            "r = mrunc.run(['yes'], max_output=4)\nprint(r.reason, r.returncode)\n" % os.path.dirname(inside.tool))
    done = inside.outside(["/usr/bin/python3", "-I", "-S", "-c", code])
    assert done.stdout == "timeout-cpu 124 True\ny\ny\noutput-limit 137\n", done


def test_a_reading_misses_no_process_and_counts_none_twice(tmp_path):
    """The arithmetic on a made-up /proc: handed on, lost, and reaped while one looks."""
    code = r"""
import os, sys; sys.path.insert(0, %r); import mrunc
from mrunc.sandbox.running.cputime import Meter
top = sys.argv[1]
def process(pid, parent, own, waited=0, start=7):
    os.makedirs("%%s/%%d" %% (top, pid), exist_ok=True)
    fields = [0] * 50
    fields[1], fields[11], fields[13], fields[19] = parent, own, waited, start
    open("%%s/%%d/stat" %% (top, pid), "w").write("%%d (a) 1 (b)) S %%s\n" %% (pid, " ".join(map(str, fields[1:]))))
def gone(pid):
    os.unlink("%%s/%%d/stat" %% (top, pid)); os.rmdir("%%s/%%d" %% (top, pid))
process(1, 0, 50)
tick = os.sysconf("SC_CLK_TCK")
meter = Meter(os.open(top, os.O_RDONLY), 1, True)
out = []
def read(): out.append(round(meter.read() * tick))
process(2, 1, 10); process(3, 2, 20); read()               # 30
process(3, 2, 25); read()                                  # 35
gone(3); process(2, 1, 10, 26); read()                     # 36: handed on, one tick more than was seen
process(3, 2, 5, start=8); read()                          # 41: the same number, another process
gone(3); read()                                            # 41: lost; what was seen of it is kept, but not on top
process(4, 2, 40); read()                                  # 80 or 81
gone(4); read()
print(*out)
""" % ROOT
    import subprocess
    done = subprocess.run(["/usr/bin/python3", "-I", "-S", "-c", code, str(tmp_path)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, timeout=60)
    assert (done.stdout, done.stderr) == ("30 35 36 41 40 80 80\n", ""), done
