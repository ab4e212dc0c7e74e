# SPDX-License-Identifier: Apache-2.0
"""The gate believes nothing: each control that is left out shows in the receipt, and a set-up call that only pretends to
work (strace answers in the kernel's place) is either seen, or its effect is there all the same.

The tracer attaches to the child alone while it waits for its id maps, so the count of a call is the child's own.
"""
import collections
import json
import os
import re
import resource
import secrets
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import PYTHON, ROOT, USER, lacking, make_inside

#: What a caller could leave behind in the sandbox, so that a step that is passed over has something to be missed by.
CALLER_GROUPS = [4, 20, 27]
EXTRA_FD = 77
DEADLINE = 120

#: mrunc as a program that waits for the tracer of its child.  argv: folder, trace output, strace's options (JSON), argv.
DRIVER = r"""
import json, os, subprocess, sys
folder, output, tracing = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
sys.path.insert(0, folder)
import mrunc
from mrunc.syscalls import libc, process
real, tracers = process.clone3, []

def clone3(namespaces):
    pid, pidfd = real(namespaces)
    if namespaces == process.CLONE_NEWUSER:  # a helper that maps a source
        return pid, pidfd
    if pid == 0:
        try:
            libc.bind("prctl", *[libc.c_ulong] * 5)(0x59616d61, libc.c_ulong(-1).value, 0, 0, 0)  # PR_SET_PTRACER_ANY
        except OSError:
            pass  # no Yama here
        return pid, pidfd
    tracer = subprocess.Popen(["strace", "-o", output] + tracing + ["-p", str(pid)], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              preexec_fn=lambda: libc.signals.pthread_sigmask(libc.signals.SIG_SETMASK, []))
    line = tracer.stderr.readline()
    assert b"attached" in line, line + tracer.stderr.read()
    tracers.append(tracer)
    return pid, pidfd

process.clone3 = clone3
try:
    status = mrunc.main(sys.argv[4:])
finally:
    for tracer in tracers:
        tracer.communicate()
sys.exit(status)
"""

#: What the workload sees of everything in force, as one JSON.
AUDIT = r"""
import ctypes, json, os, re, time
def attempt(deed):
    try:
        return deed() or "done"
    except OSError as error:
        return error.errno
def lines(path):
    return open(path, errors="surrogateescape").read().splitlines()
own = (os.getpid(), os.getppid())
seen = {}
status = dict(line.split(":", 1) for line in lines("/proc/self/status"))
for key in ("Uid", "Gid", "Groups", "Umask", "NoNewPrivs", "Seccomp", "Seccomp_filters", "SigIgn", "SigBlk", "CapInh",
            "CapPrm", "CapEff", "CapBnd", "CapAmb", "NSsid"):
    seen[key] = status.get(key, "").replace("%d" % own[0], "own") if key == "NSsid" else status.get(key, "")
seen["limits"] = lines("/proc/self/limits")
seen["mounts"] = sorted(re.sub(r"^\d+ \d+ \S+ ", "", re.sub(r"\b([ug]id)=\d+", r"\1=", line))
                        for line in lines("/proc/self/mountinfo"))
seen["fds"] = sorted(name for name in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + name))
seen["processes"] = len([name for name in os.listdir("/proc") if name.isdigit()])
seen["hostname"], seen["cwd"] = os.uname().nodename, os.getcwd()
uts = ctypes.create_string_buffer(390)
ctypes.CDLL(None).uname(uts)
seen["domainname"] = uts.raw[325:].partition(b"\\0")[0].decode()
seen["session"] = os.getsid(0) == own[0]
prctl = ctypes.CDLL(None, use_errno=True).prctl
seen["securebits"], seen["nnp"] = prctl(27, 0, 0, 0, 0), prctl(39, 0, 0, 0, 0)
seen["outside-every-rule"] = attempt(lambda: os.close(os.open("/.landlock", os.O_RDONLY)))
seen["signal-init"] = attempt(lambda: os.kill(own[1] or 1, 0))
for name in ("setgroups", "uid_map", "gid_map"):
    seen[name] = [line.split()[:1] for line in lines("/proc/self/" + name)]
seen["fresh clock"] = time.clock_gettime(7) < 1000
seen["environment"] = sorted(os.environ.items())
seen["write"] = [attempt(lambda: os.close(os.open(place + "/x", os.O_CREAT | os.O_WRONLY))) for place in
                 ("/", "/usr", "/etc", "/dev", "/sys", "/proc", "/tmp", "/box", os.environ["HOME"], "/dev/shm")]
tree = []
for top in ("/", "/etc", "/dev", "/var", "/run", "/home", "/root", "/box", "/tmp", "/mnt", "/srv"):
    for name in sorted(attempt(lambda: os.listdir(top)) if isinstance(attempt(lambda: os.listdir(top)), list) else []):
        path = os.path.join(top, name)
        found = os.lstat(path)
        link = os.readlink(path) if found.st_mode & 0o170000 == 0o120000 else ""
        tree.append((path, oct(found.st_mode), found.st_uid, link,
                     found.st_size if found.st_mode & 0o170000 == 0o100000 else 0))
seen["tree"] = tree
print(json.dumps(seen))
"""
#: Python ignores SIGPIPE itself, so a shell tells what it was born with.
SHELL = 'SIGIGN=$(grep SigIgn /proc/self/status) exec /usr/bin/python3 -I -S -c "$0" "$1"'
#: The calls that build the sandbox, in the order of the story.  What is not here asks questions, or its answer is used at
#: once by one that is.
SETUP = ("setgroups setresgid setresuid prctl setsid rt_sigaction write mount fsconfig move_mount mount_setattr mkdirat "
         "symlinkat umask fchdir pivot_root umount2 chdir sethostname setdomainname unshare setns prlimit64 landlock_add_rule "
         "landlock_restrict_self capset fcntl dup2 close_range seccomp sendto getpid").split()
#: An ordinary user's set-up is the same code: a sample of what differs, or matters most.
SETUP_OF_USER = ("setresgid setresuid setsid mount pivot_root umount2 sethostname setdomainname unshare setns prlimit64 landlock_restrict_self "
                 "capset fcntl close_range seccomp").split()
#: Controls that only an option asks for.
ON_DEMAND = {"sweep", "trace", "setid-filter", "limits.rlimit", "limits.memory", "limits.cpu", "limits.pids", "limits.io"}


class Traced:
    """Runs the audit under a tracer, as one caller.  options: of every run; audit, shell: the workload's code."""

    def __init__(self, inside, options=(), audit=AUDIT, shell=SHELL):
        self.inside, self.folder = inside, os.path.dirname(inside.tool)
        self.options, self.audit, self.shell = list(options), audit, shell
        self.nonce = "nonce-" + secrets.token_hex(8)

    def run(self, *tracing, options=()):
        """(process, the audit or None, [(name, in force)], trace)."""
        name = os.path.join(self.inside.scratch, "t" + secrets.token_hex(6))
        command = [PYTHON, "-I", "-S", "-c", DRIVER, self.folder, name + ".trace", json.dumps(list(tracing)), "run",
                   "--report", name + ".json", *self.options, *options, "--", "/bin/sh", "-c", self.shell, self.audit, self.nonce]
        process = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 universal_newlines=True, cwd=self.inside.scratch, timeout=DEADLINE, close_fds=False,
                                 preexec_fn=self._rich_caller)
        # Each run has an id of its own of root's range; which one does not matter.
        audit = json.loads(re.sub(r"(?<![0-9])20000[0-9]{5}(?![0-9])", "2000000000", process.stdout)) if process.stdout else None
        receipt = None
        if os.path.exists(name + ".json"):
            with open(name + ".json", errors="replace") as stream:
                text = stream.read()
            receipt = [(row["name"], row["in_force"]) for row in json.loads(text)["controls"]] if text else None
            os.unlink(name + ".json")
        trace = ""
        if os.path.exists(name + ".trace"):
            with open(name + ".trace", errors="replace") as stream:
                trace = stream.read()
            os.unlink(name + ".trace")
        return process, audit, receipt, trace

    def _rich_caller(self):
        """Groups, an inheritable descriptor, core dumps: what the sandbox must not get."""
        os.dup2(0, EXTRA_FD)
        resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
        if os.geteuid() == 0:
            os.setgroups(CALLER_GROUPS)
        if self.inside.who == "user" and os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(USER, USER, USER)
            os.setresuid(USER, USER, USER)

    def calls(self, options=()):
        """(Counter of the child's calls up to its execveat, audit, receipt) of a run that nothing is done to."""
        process, audit, receipt, trace = self.run("-e", "trace=all", options=options)
        assert process.returncode == 0 and audit is not None, process.stderr
        if not self.options:
            assert all(in_force for name, in_force in receipt if name not in ON_DEMAND | lacking() | {"groups"}), receipt
        count = collections.Counter()
        for line in trace.splitlines():
            match = re.match(r"(\w+)\(", line)
            if match:
                count[match.group(1)] += 1
                if match.group(1) == "execveat":
                    return count, audit, receipt
        raise AssertionError("the child made no execveat: %s" % trace[-1000:])


def make_traced(who, tool_folder, *how):
    """(Traced, count, audit, receipt) of an undisturbed run.  how: further arguments of Traced."""
    assert shutil.which("strace"), "these tests need strace"
    traced = Traced(make_inside(who, tool_folder), *how)
    return (traced,) + traced.calls()


@pytest.fixture(scope="module")
def as_root(tool_folder):
    """For root, whose child has the most to give up."""
    return make_traced("root", tool_folder)


@pytest.fixture(scope="module")
def as_user(tool_folder):
    """For an ordinary user."""
    return make_traced("user", tool_folder)


def inject(traced, jobs, answer, options=()):
    """[(call, number, process, audit, receipt, injected lines)], by two workers.  jobs: (call, number, or "1+" for all)."""
    def one(job):
        call, number = job
        process, audit, receipt, trace = traced.run("-e", "trace=" + call, "-e",
                                                    "inject=%s:%s:when=%s" % (call, answer, number), options=options)
        hits = [line for line in trace.splitlines() if "INJECTED" in line]
        return call, number, process, audit, receipt, hits
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, jobs))


def difference(audit, wanted):
    """What of the audit differs, for the message."""
    return dict((key, (audit[key], wanted[key])) if not isinstance(audit[key], list) else
                (key, ([x for x in audit[key] if x not in wanted[key]], [x for x in wanted[key] if x not in audit[key]]))
                for key in wanted if audit[key] != wanted[key])


def weaker(audit, wanted):
    """What is in force less than it should be.  A place that is missing or closed gives the workload nothing."""
    changed = difference(audit, wanted)
    if "tree" in changed and all(entry in wanted["tree"] for entry in audit["tree"]):
        del changed["tree"]
    for key in ("write", "deeds"):
        if key in changed and all(got == want or got != "done" for got, want in zip(audit[key], wanted[key])):
            del changed[key]
    return changed


def unnoticed(traced, wanted, receipt, jobs, answer):
    """A line for each injection after which the workload ran with less in force than the receipt says."""
    out = []
    for call, number, process, audit, told, hits in inject(traced, jobs, answer):
        place = "%s number %d: %s" % (call, number, hits[:1])
        assert hits, "not injected: " + place
        if audit is None:
            assert process.returncode not in (0, 1), "%s: %r" % (place, process)
            assert process.stderr.startswith("mrunc: ") and "Traceback" not in process.stderr, process.stderr
            assert process.stdout == ""
            continue
        if told != receipt:
            out.append("%s: the receipt differs: %s" % (place, sorted(set(told) ^ set(receipt))))
        elif weaker(audit, wanted):
            out.append("%s: missing inside: %s" % (place, weaker(audit, wanted)))
    return out


def every(count, call):
    """Each place where the child makes this call.  Of the 41 capability drops every fourth, and of the rules."""
    numbers = range(1, count[call] + 1)
    if call == "prctl":
        return [(call, n) for n in numbers if n <= 5 or n > count[call] - 6 or n % 4 == 0]
    if call in ("landlock_add_rule", "mkdirat", "mount_setattr", "mount"):
        return [(call, n) for n in numbers if n <= 4 or n % 3 == 0]
    return [(call, n) for n in numbers]


def assert_nothing_left(nonce):
    """No process that carries the nonce in its arguments is alive."""
    left = []
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                with open("/proc/%s/cmdline" % pid, "rb") as stream:
                    if nonce.encode() in stream.read():
                        left.append(pid)
            except OSError:
                pass
    assert not left


@pytest.mark.parametrize("call", SETUP)
def test_a_call_that_only_pretends_is_seen_or_makes_no_difference_as_root(as_root, call):
    traced, count, audit, receipt = as_root
    assert count[call], "the set-up no longer makes this call: take it off the list"
    assert unnoticed(traced, audit, receipt, every(count, call), "retval=0") == []
    assert_nothing_left(traced.nonce)


@pytest.mark.parametrize("call", SETUP_OF_USER)
def test_a_call_that_only_pretends_is_seen_or_makes_no_difference_as_user(as_user, call):
    traced, count, audit, receipt = as_user
    assert count[call], "the set-up no longer makes this call: take it off the list"
    assert unnoticed(traced, audit, receipt, every(count, call), "retval=0") == []
    assert_nothing_left(traced.nonce)


def test_the_plain_filter_is_attached_or_nothing_runs(tool_folder):
    """A run without the ledger, where no listener would be missed."""
    traced, count, audit, receipt = make_traced("root" if os.geteuid() == 0 else "user", tool_folder, ["--unsafe-without", "ledger"])
    assert count["seccomp"] and ("seccomp", True) in receipt and ("ledger", False) in receipt
    assert unnoticed(traced, audit, receipt, every(count, "seccomp"), "retval=0") == []
    for _, _, process, ran, _, hits in inject(traced, every(count, "seccomp"), "error=EPERM"):
        assert hits and ran is None and process.returncode == 125
    assert_nothing_left(traced.nonce)


def test_a_lifeline_that_only_pretends_is_refused(as_root):
    """No file of /proc shows it, so the audit can't: the run itself must be refused."""
    traced, count, _, _ = as_root
    assert count["fcntl"] >= 2
    jobs = [("fcntl", number) for number in range(1, count["fcntl"] + 1)]
    armed = [hit for hit in inject(traced, jobs, "retval=0") if "F_SETOWN" in hit[5][0] or "F_SETFL" in hit[5][0]]
    assert [(hit[2].returncode, hit[3]) for hit in armed] == [(125, None)] * 2


def test_a_failed_set_up_is_reported_with_its_stage(as_root):
    traced, _, _, _ = as_root
    process, audit, _, _ = traced.run("-e", "trace=pivot_root", "-e", "inject=pivot_root:error=EBUSY:when=1")
    assert audit is None and process.returncode == 125
    assert process.stderr == "mrunc: pivot_root: pivot_root: %s\n" % os.strerror(16)  # as the C library says EBUSY


#: What must go with a control: no host name without an own uts namespace, no domain and no filter without no_new_privs.
WITH = {"utsns": "utsns,hostname", "nnp": "nnp,landlock,landlock-signals,seccomp,setid-filter"}


def removable():
    """The names that --unsafe-without takes, from the table."""
    code = "import sys, json; sys.path.insert(0, sys.argv[1]); import mrunc; from mrunc.sandbox.controls import CONTROLS; " \
           "print(json.dumps([[n, c.removable] for n, c in CONTROLS.items()]))"
    return json.loads(subprocess.check_output([PYTHON, "-I", "-S", "-c", code, ROOT]).decode())


@pytest.mark.parametrize("name", [name for name, may in removable() if may])
def test_a_control_that_is_left_out_shows_in_the_receipt(inside, name):
    names = WITH.get(name, name).split(",")
    options = ["-q", "--unsafe-without", ",".join(names)]
    if name == "setid-filter":
        shared = os.path.join(inside.scratch, "shared")
        os.mkdir(shared)
        if os.geteuid() == 0:
            os.chown(shared, USER, USER)
        options += ["--rw", shared + ":/mnt/shared"]
    extra = os.open("/dev/null", os.O_RDONLY)
    try:
        os.set_inheritable(extra, True)
        done = inside.run("/bin/echo", "ran", options=options, pass_fds=[extra])
    finally:
        os.close(extra)
    assert (done.rc, done.out) == (0, "ran\n"), done
    assert done.err == "mrunc: WARNING: running without %s; do not run hostile code like this\n" % " ".join(sorted(names))
    receipt = dict((row["name"], row) for row in done.result["controls"])
    assert receipt[name]["asked"] is False and receipt[name]["in_force"] is False, receipt[name]
    missing = set(row for row in receipt if not receipt[row]["in_force"])
    # Without a filter the limit of core dumps could be changed.
    expected = set(names) | ({"ledger", "limits.core"} if "seccomp" in names else set()) | ON_DEMAND - ({"setid-filter"} if "--rw" in options and name != "setid-filter" else set())
    assert missing - {"groups"} == expected, missing
    assert all(row["how"] for row in receipt.values())


@pytest.mark.parametrize("name", [name for name, may in removable() if not may])
def test_what_everything_stands_on_cannot_be_left_out(inside, name):
    done = inside.run("/bin/echo", "ran", options=["--unsafe-without", name])
    assert (done.rc, done.out) == (2, "")
    assert done.err == "mrunc: options: --unsafe-without %s: everything else stands on it, it can't be left out\n" % name


@pytest.mark.also_vm
def test_the_default_receipt_names_every_control_and_all_are_in_force(inside):
    done = inside.run("/bin/true")
    assert done.rc == 0 and done.err == "", done
    receipt = dict((row["name"], row) for row in done.result["controls"])
    assert [name for name, _ in removable() if name not in receipt] == []
    not_asked = ON_DEMAND | ({"groups"} if inside.who == "user" else set())
    for name, row in receipt.items():
        assert row["asked"] == (name not in not_asked), row
        assert row["in_force"] or name in not_asked | lacking(), row
