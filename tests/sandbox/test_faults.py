# SPDX-License-Identifier: Apache-2.0
"""Whatever single system call fails while a sandbox is set up, the program runs fully contained or not at all.

From recorded runs, as root and as a user: each call of the supervisor (from the first line of ours to its end), of the child
(from its first to its exec) and of init with the workload's first steps (from the opened gate to the exec) is made to fail
with EPERM, one in each run, by strace.  So are the supervisor's calls that give back nothing but success made to pretend it;
the child's are in test_gate.py.

Of a call that one process makes more than MANY times, the first and the last EDGE are taken, and evenly spread ones between
them: those are the interpreter's imports, and closing and opening one by one.  MRUNC_FAULTS_MANY=100000 takes them all, in
three times as long.  What is left out is counted in the table, which is written to `faults.tsv` in pytest's temporary directory.
"""
import collections
import json
import os
import re
import secrets
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import PYTHON, USER, WHO, make_inside
from test_gate import AUDIT, DEADLINE, DRIVER, SHELL, Traced, weaker

MANY, EDGE = int(os.environ.get("MRUNC_FAULTS_MANY", "18")), 4
#: An init whose "ready" is lost waits at the gate until the supervisor's patience ends.
CHILD_DRIVER = DRIVER.replace("real, tracers", "from mrunc.sandbox.launch import run as launch\nlaunch.SETUP_DEADLINE = 15.0\nreal, tracers", 1)
#: The same as the DRIVER of test_gate.py, but the tracer comes at the gate.
GATE_DRIVER = r"""
import json, os, subprocess, sys
folder, output, tracing = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
sys.path.insert(0, folder)
import mrunc
from mrunc.sandbox.launch import run as launch
from mrunc.syscalls import libc
real, tracers = launch.Run.release, []

def release(run):
    tracer = subprocess.Popen(["strace", "-o", output] + tracing + ["-p", str(run.pid)], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              preexec_fn=lambda: libc.signals.pthread_sigmask(libc.signals.SIG_SETMASK, []))
    line = tracer.stderr.readline()
    assert b"attached" in line, line + tracer.stderr.read()
    tracers.append(tracer)
    return real(run)

launch.Run.release = release
try:
    status = mrunc.main(sys.argv[4:])
finally:
    for tracer in tracers:
        tracer.communicate()
sys.exit(status)
"""
ROLES = ("supervisor", "child", "init", "first steps")
#: So many injections at least; fewer would mean that the record was cut.
LEAST = {"supervisor": 150, "child": 200, "init": 6, "first steps": 5}
#: role -> call -> why the sandbox may be whole when it fails; whole is then still looked at from inside, and in the receipt.
OPTIONAL = {
    "supervisor": {
        "ioctl": "open() asks whether a file is a terminal", "lseek": "open() asks for the place in a file",
        "fstat": "open() asks for the size of a file; an import takes a module without cached bytecode from its source",
        "openat": "an import takes a module without cached bytecode from its source",
        "read": "an import takes a module without cached bytecode from its source",
        "close": "a descriptor of the supervisor's stays open; the child closes all of its own",
        "newfstatat": "an import, or a path of the host that is then taken for missing: the sandbox has less",
        "readlink": "a path of the host that is then taken for a directory, or missing: the sandbox has less",
        "statx": "an import, or a path of the host that is then taken for missing: the sandbox has less",
        "getdents64": "a sample of what the sandbox uses, by the clock", "mprotect": "ctypes is taken for its C module",
        "getcwd": "an absolute path is not known to lie below it: fewer links are followed",
        "clock_gettime": "another clock is taken for what a sample costs",
        "brk": "the allocator maps instead", "mmap": "the allocator maps less, or reads",
        "munmap": "memory of the supervisor's stays", "futex": "the interpreter's lock is free",
        "geteuid": "whether a draft is given to the owner of its directory", "getegid": "root's sandbox has an id of the range", "getpid": "a name for a draft",
        "fcntl": "the next host id is tried; a descriptor that says nothing of itself gets no Landlock rule",
        "rt_sigprocmask": "the supervisor's own mask, given back at its end",
        "rt_sigaction": "the interpreter's own at its end", "prctl": "the last capability is found by an error",
        "mount_setattr": "the kernel is asked whether it has it; else mounts are restricted one by one",
        **dict.fromkeys(("open_tree", "move_mount", "fsopen", "fsconfig", "fsmount"),
                        "the kernel is asked whether it has it; else mounts are made by mount"),
        "close_range": "the kernel is asked whether it has it; else each descriptor is marked",
        "clone3": "the kernel is asked whether it has it; else the child is made by clone",
        "openat2": "the kernel is asked whether it has it; else paths are walked one component at a time",
        "pidfd_open": "the kernel is asked whether it has it; else pid 1 is signalled by its number",
        "pidfd_send_signal": "pid 1 has ended, or is killed by its number", "wait4": "the zombie ends with the supervisor",
        "splice": "what goes through the private pipes is read and written instead",
        "poll": "whether pid 1 has ended is asked again and again"},
    "child": {
        "ioctl": "open() asks whether a file is a terminal", "lseek": "open() asks for the place in a file",
        "fstat": "open() asks for the size of a file",
        "seccomp": "the kernel is asked for a listener; else the plain filter is attached, and the receipt tells it",
        "openat": "a look at the program's first bytes, for a better message",
        "pread64": "a look at the program's first bytes, for a better message"},
    "init": {"close": "its own 0, 1 and 2 stay open: an end of file then shows at its end"}, "first steps": {}}
#: What else has to stand in the call's line for that: the sandbox's /proc is counted, any other directory is needed; the
#: filter that asks has another to fall back to; a call that is no deed has no arguments.
LISTENER = "SECCOMP_FILTER_FLAG_NEW_LISTENER"
ONLY = {"getdents64": "</proc>", "seccomp": LISTENER, "clone3": "NULL", "openat2": "NULL", "open_tree": "NULL",
        "move_mount": "NULL", "fsopen": "NULL", "fsconfig": "NULL", "fsmount": "(-1",
        "poll": "[pidfd]>, events=POLLIN}], 1, "}
#: The share of injections that may find fewer calls than the recorded runs made: how often the sandbox is sampled while it
#: runs is the clock's, and a recorded run, in which strace stops at each call, is the slowest.
FEWER = 0.1
#: Without memory the interpreter itself may die without a word; the sandbox goes with it.
MEMORY = ("brk", "mmap", "munmap", "mremap")
#: How it may end when something fails after the program has been let go: never as if nothing had run.
TOLD = ("the supervisor failed while the program ran", "pid 1 of the sandbox left without a word", "the program did run: ",
        "pid 1 of the sandbox was killed from outside")
#: The supervisor's calls of which only success is known.  Others give back what is used at once.
PRETENDING = ("write sendto mount_setattr rt_sigprocmask rt_sigaction fchmod prctl pidfd_send_signal close mprotect munmap "
              "poll fcntl").split()


class Run:
    """One run with one injection.  process; audit: what the workload saw, None where it did not run; report: the result's
    JSON or None; hits: the lines of the trace that were injected; trace."""

    def __init__(self, inside, role, tracing):
        name = os.path.join(inside.scratch, "t" + secrets.token_hex(6))
        self.nonce = "nonce-" + secrets.token_hex(8)
        words = ["run", "--report", name + ".json", "--", "/bin/sh", "-c", SHELL, AUDIT, self.nonce]
        if role == "first steps":
            tracing = ["-f"] + list(tracing)
        if role == "supervisor":
            command = ["strace", "-o", name + ".trace", *tracing, PYTHON, "-I", "-S", inside.tool] + words
        else:
            command = [PYTHON, "-I", "-S", "-c", CHILD_DRIVER if role == "child" else GATE_DRIVER, os.path.dirname(inside.tool),
                       name + ".trace", json.dumps(list(tracing))] + words
        # An id of its own, or the number of tries would depend on who else runs.
        first = 2000000000 + 64 * int.from_bytes(os.urandom(2), "little") % 65536
        environ = dict(os.environ, MRUNC_ID_RANGE="%d:64" % first)
        OWNERS.update(range(first, first + 64))
        self.process = subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                      universal_newlines=True, cwd=inside.scratch, timeout=DEADLINE, close_fds=False,
                                      preexec_fn=Traced(inside)._rich_caller)
        text = re.sub(r"(?<![0-9])20000[0-9]{5}(?![0-9])", "2000000000", self.process.stdout)
        try:
            self.audit = json.loads(text) if text else None
        except ValueError:  # the workload itself was hit
            self.audit = {}
        self.report, self.trace = self._take(name + ".json"), self._take(name + ".trace") or ""
        self.report = json.loads(self.report) if self.report else None
        self.hits = [line for line in self.trace.splitlines() if "INJECTED" in line]

    @staticmethod
    def _take(path):
        if not os.path.exists(path):
            return None
        with open(path, errors="replace") as stream:
            text = stream.read()
        os.unlink(path)
        return text

    @property
    def outcome(self):
        """"stopped": nothing ran; "whole": all as undisturbed; "ran": it ran, and something went wrong then."""
        if self.audit is None:
            return "stopped"
        return "whole" if self.process.returncode == 0 and self.report is not None and self.audit else "ran"

    @property
    def receipt(self):
        return [(row["name"], row["in_force"]) for row in self.report["controls"]] if self.report else None


class Recorded:
    """An undisturbed run of one role.  jobs: [(call, number)]; total: calls of the phase; dropped: thinned out."""

    def __init__(self, inside, role):
        runs = [Run(inside, role, ["-e", "trace=all"]) for _ in range(2)]
        for run in runs:
            assert run.process.returncode == 0 and run.audit is not None, run.process.stderr
        self.audit, self.receipt = runs[0].audit, runs[0].receipt
        first, second = [self._phase(role, run.trace) for run in runs]
        self.jobs, self.total = [], 0
        for call, numbers in first.items():
            numbers = [number for number in numbers if number in second.get(call, ())]
            self.total += len(numbers)
            if len(numbers) > MANY:
                middle = numbers[EDGE:-EDGE]
                step = -(-len(middle) // (MANY - 2 * EDGE))
                numbers = numbers[:EDGE] + middle[::step] + numbers[-EDGE:]
            # Init's recvmsg is the gate's: the child's role has it; the tracer may come in the middle.
            if call not in ("exit_group", "rt_sigreturn") and (role, call) != ("init", "recvmsg"):
                self.jobs += [(call, number) for number in numbers]

    @staticmethod
    def _phase(role, trace):
        """{call: [number of its occurrence in its process]} of the role's phase, in order."""
        counts, out = collections.defaultdict(collections.Counter), collections.OrderedDict()
        main, first, ours, executed = None, None, role != "supervisor", set()
        script = []
        for line in trace.splitlines():
            match = re.match(r"(?:(\d+) +)?(\w+)\((\d*)", line)
            if not match:
                continue
            pid, call, fd = match.groups()
            main = pid if main is None else main
            counts[pid][call] += 1
            if not ours:  # the interpreter opens the script twice: to see what it is, and to run it
                if call == "openat" and "/mrunc.py\"" in line:
                    script.append(line.rsplit("= ", 1)[1])
                ours = len(script) == 2 and call == "close" and fd == script[1]
                continue
            first = first or (pid if pid != main else None)
            if pid in executed or pid != (first if role == "first steps" else main):
                continue
            numbers = out.setdefault(call, [])
            if counts[pid][call] not in numbers:
                numbers.append(counts[pid][call])
            if role == "first steps" and call == "execve" or role == "child" and call == "recvmsg" and "execveat" in out:
                executed.add(pid)  # the recvmsg is init's, at the gate
        return out


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    """What was injected and what happened: rows that are written to a file at the end."""
    rows = []
    yield rows
    path = tmp_path_factory.mktemp("faults") / "faults.tsv"
    path.write_text("".join("\t".join(str(field) for field in row) + "\n" for row in rows))


@pytest.fixture
def nothing_left():
    """Mounts, temporary files and lock files before and after.  Others may run beside this: not theirs (test_tier_process.py
    looks for the process tier's own)."""
    def state():
        with open("/proc/self/mountinfo") as stream:
            mounts = [line for line in stream if "mrunc" in line]
        names = [os.path.join(top, name) for top in ("/tmp", "/run", "/run/mrunc", "/dev/shm", "/var/tmp")
                 if os.access(top, os.R_OK) for name in os.listdir(top)]
        names = [name for name in names if not re.search("/mrunc-[a-z]+-|/tmp[a-z0-9_]{8}$", name)]
        return mounts, [name for name in names if _owner(name) in OWNERS or name.startswith("/run/mrunc/")]
    before = state()
    yield
    assert [sorted(set(now) - set(then)) for now, then in zip(state(), before)] in ([[], []], [[], ["/run/mrunc/ids"]])


#: The host ids that these runs have used.
OWNERS = {os.geteuid() or USER}


def _owner(path):
    try:
        return os.lstat(path).st_uid
    except OSError:
        return None


def alive(nonces):
    """The command lines of processes that carry one of the nonces."""
    out = []
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                with open("/proc/%s/cmdline" % pid, "rb") as stream:
                    line = stream.read().decode("utf-8", "replace")
            except OSError:
                continue
            out += [line for nonce in nonces if nonce in line]
    return out


def inject(inside, role, jobs, answer, table):
    """[(job, Run)], two at a time."""
    def one(job):
        return job, Run(inside, role, ["-e", "trace=" + job[0], "-e", "inject=%s:%s:when=%d" % (job[0], answer, job[1]),
                                    "-y"])
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(one, jobs))
    for (call, number), run in done:
        line = run.hits[0] if run.hits else "-"
        table.append((inside.who, role, call, number, answer, run.outcome, run.process.returncode,
                      run.report["reason"] if run.report else "-", line.replace("\t", " ")[:120],
                      (run.process.stderr.splitlines() or ["-"])[0]))
    assert not alive([run.nonce for _, run in done])
    return done


def hit(done, role):
    """[((call, number), Run)] of the injections that took place.  The others made fewer of these calls, and are few; init's
    tracer may come in the middle of its first wait."""
    fewer = [(call, number) for (call, number), run in done
             if not run.hits and len(re.findall(r"(?m)^%s\(" % call, run.trace)) < number]
    assert len(fewer) <= {"supervisor": FEWER * len(done), "init": 1}.get(role, 0), fewer
    return [(job, run) for job, run in done if job not in fewer]


def explained(role, call, run):
    """What is wrong with how a run ended in which this call of this role has failed, or None."""
    process, reason = run.process, run.report["reason"] if run.report else None
    if "Traceback" in process.stderr or "Fatal Python" in process.stderr:
        return "the interpreter speaks"
    if call in MEMORY and process.returncode in (-11, -6, 1, 125, 139) and run.audit is None and process.stdout == "":
        return None
    if run.outcome == "stopped":
        # A call that init makes before the workload's exec, or an answer about the program itself, is told as an exec error.
        if process.returncode == 2 and process.stderr.startswith("mrunc: options: --report "):
            return None  # where the report can't be made is known before
        if process.returncode != 125 and (process.returncode, reason) not in ((126, "exec"), (127, "exec"), (137, "lost")):
            return "exit status %d, reason %s" % (process.returncode, reason)
        if reason not in (None, "setup", "exec", "lost"):
            return "nothing ran, and the reason is %s" % reason
        if reason == "lost" and any(words in process.stderr for words in TOLD):
            return None
        return None if re.match(r"mrunc: [a-z][\w /.-]*: \S", process.stderr) else "no step is named: %r" % process.stderr
    if reason in ("setup", "exec") or "nothing was run" in process.stderr:
        return "it ran, and is reported as not run"
    if run.outcome == "whole":
        return None if call in OPTIONAL[role] and ONLY.get(call, "") in run.hits[0] else "it made no difference"
    return None if any(words in process.stderr for words in TOLD) or call in MEMORY else "the end is not explained"


def weakened(recorded, run):
    """What is in force less than in the undisturbed run, or less than the receipt says; None for nothing."""
    lost = weaker(run.audit, recorded.audit) if run.audit else None
    if lost and set(lost) == {"mounts"}:  # what a failed look took for missing is less, not more
        more, less = lost["mounts"]
        lost = more or [line for line in less if " /etc/" not in line]
    if lost:
        return "missing inside: %s" % lost
    without = [(name, held and not (name == "ledger" and LISTENER in run.hits[0])) for name, held in recorded.receipt]
    if run.outcome == "whole" and run.receipt != without:
        return "the receipt differs: %s" % sorted(set(run.receipt or ()) ^ set(recorded.receipt))
    return None


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("who", WHO)
def test_a_call_that_fails_stops_the_run_or_is_one_that_it_can_do_without(tool_folder, nothing_left, table, who, role):
    assert shutil.which("strace"), "these tests need strace"
    inside = make_inside(who, tool_folder)
    recorded = Recorded(inside, role)
    assert len(recorded.jobs) >= LEAST[role], recorded.jobs
    table.append((who, role, "%d calls" % recorded.total, "%d injected" % len(recorded.jobs), "", "", "", "", "", ""))
    wrong = []
    for (call, number), run in hit(inject(inside, role, recorded.jobs, "error=EPERM", table), role):
        problem = "not injected" if not run.hits else weakened(recorded, run) or explained(role, call, run)
        if problem:
            wrong.append("%s number %d: %s: %r %s" % (call, number, problem, run.hits[:1], run.process))
    assert not wrong, "\n".join(line[:1500] for line in wrong)


@pytest.mark.parametrize("who", WHO)
def test_a_call_of_the_supervisor_that_only_pretends_is_seen_or_makes_no_difference(tool_folder, nothing_left, table, who):
    inside = make_inside(who, tool_folder)
    recorded = Recorded(inside, "supervisor")
    jobs = [job for job in recorded.jobs if job[0] in PRETENDING]
    assert len(jobs) >= 30, jobs
    wrong = []
    for (call, number), run in hit(inject(inside, "supervisor", jobs, "retval=0", table), "supervisor"):
        problem = "not injected" if not run.hits else weakened(recorded, run)
        if not problem and run.outcome == "stopped" and run.process.returncode != 125:
            problem = "exit status %d" % run.process.returncode
        if problem:
            wrong.append("%s number %d: %s: %r %s" % (call, number, problem, run.hits[:1], run.process))
    assert not wrong, "\n".join(line[:1500] for line in wrong)


def test_a_lock_or_a_seal_that_only_pretends_is_refused(tool_folder, table):
    """No audit could show these: an id that is another sandbox's as well, an image of init that could be changed."""
    inside = make_inside(WHO[0], tool_folder)
    jobs = [job for job in Recorded(inside, "supervisor").jobs if job[0] == "fcntl"]
    found = [run for _, run in inject(inside, "supervisor", jobs, "retval=0", table)
             if run.hits and ("F_OFD_SETLK" in run.hits[0] or "F_ADD_SEALS" in run.hits[0])]
    assert len(found) == (2 if inside.who == "root" else 1)
    for run in found:
        assert (run.process.returncode, run.outcome) == (125, "stopped") and "had no effect" in run.process.stderr, run.process
