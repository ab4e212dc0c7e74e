# SPDX-License-Identifier: Apache-2.0
"""The gate in the weaker tiers: a set-up call that only pretends to work is seen, or its effect is there all the same; and one
that fails stops the run."""
import os

import pytest

from conftest import WHO
from test_gate import AUDIT, SHELL, assert_nothing_left, every, inject, make_traced, unnoticed

ROOTNS = ("setgroups setresgid setresuid setfsuid setfsgid prctl setsid rt_sigaction write mount fsconfig move_mount mount_setattr "
          "mkdirat symlinkat umask fchdir pivot_root umount2 chdir sethostname unshare prlimit64 landlock_add_rule "
          "landlock_restrict_self capset fcntl dup2 close_range seccomp sendto").split()
PROCESS = ("setgroups setresgid setresuid prctl setsid rt_sigaction umask chdir prlimit64 landlock_add_rule landlock_restrict_self "
           "capset fcntl dup2 close_range seccomp kill sendto").split()
PROCESS_OF_USER = ("prctl setsid rt_sigaction umask chdir prlimit64 landlock_restrict_self capset fcntl close_range seccomp "
                   "kill").split()
ERRORS = {"rootns": "setgroups setfsuid setsid mount pivot_root setresuid capset landlock_restrict_self seccomp execveat".split(),
          "process": "setgroups setsid setresuid capset chdir landlock_restrict_self prlimit64 close_range seccomp execveat".split()}

#: The same as AUDIT where there is no /proc: by system calls, and by trying.
AUDIT_PROCESS = r"""
import ctypes, json, os, re, resource, signal, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def attempt(deed):
    try:
        deed()
        return "done"
    except OSError as error:
        return error.errno
def private(text):
    return text.replace(os.environ["HOME"], "PRIVATE")
sets = ctypes.create_string_buffer(24)
libc.capget(ctypes.create_string_buffer(b"\x22\x05\x08\x20" + bytes(4)), sets)
seen = {"ids": len(set(os.getresuid() + os.getresgid())), "root": os.getuid() == 0, "groups": os.getgroups(),
        "nnp": libc.prctl(39, 0, 0, 0, 0), "seccomp": libc.prctl(21, 0, 0, 0, 0), "securebits": libc.prctl(27, 0, 0, 0, 0),
        "caps": sets.raw.hex(), "bounding": [libc.prctl(23, n, 0, 0, 0) for n in range(41)],
        "ambient": [libc.prctl(47, 1, n, 0, 0) for n in range(41)],
        "limits": [resource.getrlimit(n) for n in range(16)], "umask": os.umask(0o22),
        "cwd": private(os.getcwd()), "session": os.getsid(0) == os.getpid(),
        "environment": sorted((name, private(value)) for name, value in os.environ.items()),
        "signals": [n for n in range(1, 65) if n not in (13, 25, 32, 33) and signal.getsignal(n) == signal.SIG_IGN],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "fds": [n for n in range(256) if attempt(lambda: os.fstat(n)) == "done"]}
seen["write"] = [attempt(lambda: os.close(os.open(place + "/mrunc-x", os.O_CREAT | os.O_WRONLY)))
                 for place in ("/tmp", "/var/tmp", "/dev/shm", "/usr", ".")]
seen["deeds"] = [attempt(deed) for deed in (
    lambda: os.listdir("/"), lambda: open("/etc/passwd").close(), lambda: open("/proc/version").close(),
    lambda: os.kill(os.getppid(), 0), lambda: os.kill(1, 0), lambda: socket.socket(socket.AF_UNIX).close(),
    lambda: os.chmod("mrunc-x", 0o600), lambda: os.sched_setaffinity(os.getppid(), {0}), lambda: os.link("mrunc-x", "y"),
    lambda: os.listdir("/usr"), lambda: open("/dev/null", "w").close())]
print(json.dumps(seen))
"""
BARE_SHELL = 'exec /usr/bin/python3 -I -S -c "$0" "$1"'


@pytest.fixture(scope="module")
def rootns(tool_folder):
    if os.geteuid() != 0:
        pytest.skip("needs root: this run of the suite is the ordinary user's")
    return make_traced("root", tool_folder, ["--tier", "rootns"], AUDIT, SHELL)


@pytest.fixture(scope="module", params=WHO)
def process(request, tool_folder):
    return make_traced(request.param, tool_folder, ["--tier", "process", "--rlimit", "nproc=5000"], AUDIT_PROCESS, BARE_SHELL)


def assert_seen(found, call):
    traced, count, audit, receipt = found
    assert count[call], "the set-up no longer makes this call: take it off the list"
    assert unnoticed(traced, audit, receipt, every(count, call), "retval=0") == []
    assert_nothing_left(traced.nonce)


@pytest.mark.parametrize("call", ROOTNS)
def test_rootns_sees_a_call_that_only_pretends(rootns, call):
    assert_seen(rootns, call)


@pytest.mark.parametrize("call", PROCESS)
def test_the_process_tier_sees_a_call_that_only_pretends(process, call):
    if process[0].inside.who == "user" and call not in PROCESS_OF_USER:
        assert call in ("setgroups", "setresgid", "setresuid", "landlock_add_rule", "dup2", "sendto")
        return  # root's alone, or the same for both
    assert_seen(process, call)


def assert_stopped(found, call):
    traced, count, _, _ = found
    assert count[call]
    # Where only the listener can't be had, the plain filter is attached (test_faults.py).
    numbers = ["1+"] if call == "seccomp" else sorted({1, count[call]})
    for _, number, done, audit, told, hits in inject(traced, [(call, n) for n in numbers], "error=EPERM"):
        assert hits and audit is None and done.stdout == "", (call, number, done)
        assert done.returncode == 125 and done.stderr.startswith("mrunc: ") and told in (None, []), (call, number, done)
    assert_nothing_left(traced.nonce)


@pytest.mark.parametrize("call", ERRORS["rootns"])
def test_rootns_stops_where_a_call_fails(rootns, call):
    assert_stopped(rootns, call)


@pytest.mark.parametrize("call", ERRORS["process"])
def test_the_process_tier_stops_where_a_call_fails(process, call):
    if process[0].inside.who == "user" and call in ("setgroups", "setresuid"):
        return  # root's alone
    assert_stopped(process, call)
