# SPDX-License-Identifier: Apache-2.0
"""`--seccomp` and `--seccomp-add`, through the command line: programs that need what is added, real profiles, debuggers,
and every mistake before anything starts."""
import hashlib
import json
import os
import re
import shutil
import subprocess

import pytest

from conftest import PYTHON, USER
import mrunc  # noqa: F401  registers the package
from mrunc import seccomp_bpf as bpf
from mrunc.sandbox.seccomp import choose, policy, shipped
from mrunc.sandbox.host import facts
from mrunc.sandbox.plan import plan
from mrunc.sandbox.errors import SandboxError
from mrunc.sandbox.plan.spec import Spec
from mrunc.syscalls import landlock, seccomp
from test_policy_files import real_form

ARCH = os.uname().machine
MARKER = "the workload ran"
ECHO = ("/bin/echo", MARKER)

CALL = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    result = libc.syscall(*[ctypes.c_long(number)] + [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    return result if result >= 0 else errno.errorcode[ctypes.get_errno()]
"""
CLONE3 = CALL + """
import struct
arguments = ctypes.create_string_buffer(struct.pack("=8Q", 0, 0, 0, 0, 17, 0, 0, 0), 64)
pid = call(435, arguments, 64)
if pid == 0:
    os._exit(7)
print(pid if isinstance(pid, str) else os.waitpid(pid, 0)[1] >> 8)
"""
NUMBERS = policy.numbers(ARCH).NR
USERFAULTFD = CALL + "fd = call(%d, 1)\nprint(fd if isinstance(fd, str) else 'a descriptor')\n" % NUMBERS["userfaultfd"]
#: TIOCSTI, which the default refuses, on something that is no terminal; TIOCLINUX beside it.
IOCTL = CALL + "print(call(%d, 0, 0x5412, 0), call(%d, 0, 0x541c, 0), call(%d, 0, 0x5413, 0))\n" % ((NUMBERS["ioctl"],) * 3)


def seccomp_line(done):
    """What the receipt says of the filter, which asks a listener since there is a report."""
    how = [row["how"] for row in done.result["controls"] if row["name"] == "seccomp"][0]
    assert how.count(", asking a listener") == 1
    return how.replace(", asking a listener", "")


@pytest.fixture
def put(inside):
    """put(name, content) -> path that the caller can read."""
    def write(name, content):
        path = os.path.join(inside.scratch, name)
        data = content if isinstance(content, bytes) else (
            content if isinstance(content, str) else json.dumps(content)).encode("utf-8")
        with open(path, "wb") as stream:
            stream.write(data)
        os.chmod(path, 0o644)
        return path
    return write


def check(done, status, first, *remedy):
    """Nothing ran; one line, at most one more with the remedy."""
    assert MARKER not in done.out and "Traceback" not in done.err, done
    lines = done.err.splitlines()
    assert done.rc == status and lines[0].startswith("mrunc: " + first), done
    assert len(lines) <= 2 and all(word in lines[1] for word in remedy), done
    assert not remedy or lines[1].startswith("mrunc: remedy: "), done


# Additions

def test_a_program_that_needs_clone3(inside):
    assert inside.python(CLONE3).out == "ENOSYS\n"
    done = inside.python(CLONE3, options=["--seccomp-add", "clone3"])
    assert done.out == "7\n"
    assert done.err.splitlines() == [
        "mrunc: WARNING: --seccomp-add clone3: refused by default (ENOSYS): its flags lie behind a pointer, so no filter can see "
        "CLONE_NEW*; libc then uses clone, where EPERM breaks python, node and java"]
    assert "attached: default + clone3, sha256 " in seccomp_line(done)


def test_a_new_namespace_through_an_added_clone3_is_still_barred(inside):
    code = CLONE3.replace("struct.pack(\"=8Q\", 0,", "struct.pack(\"=8Q\", 0x10000000,")
    assert inside.python(code, options=["--seccomp-add", "clone3"]).out in ("ENOSPC\n", "EPERM\n")


def test_a_program_that_needs_userfaultfd(inside):
    assert inside.python(USERFAULTFD).out == "EPERM\n"
    done = inside.python(USERFAULTFD, options=["--seccomp-add", "userfaultfd"])
    assert done.out == "a descriptor\n"
    assert "refused by default (EPERM): large attack surface" in done.err


def test_a_condition_gives_this_case_and_no_other(inside):
    assert inside.python(IOCTL).out == "EPERM EPERM ENOTTY\n"
    done = inside.python(IOCTL, options=["--seccomp-add", "ioctl: arg1 == 0x5412"])
    assert done.out == "ENOTTY EPERM ENOTTY\n" and "TIOCSTI and TIOCLINUX type into the terminal" in done.err
    done = inside.python(IOCTL, options=["--seccomp-add", "ioctl: arg1 == TIOCSTI || arg1 == TIOCLINUX"])
    assert done.out == "ENOTTY ENOTTY ENOTTY\n"


def test_a_condition_on_a_call_that_is_refused_whole_allows_this_case(inside):
    code = CALL + "print(call(%d, 0, 0, 0, 0, 0), call(%d, 1, 0, 0, 0, 0))" % ((NUMBERS["keyctl"],) * 2)
    assert inside.python(code).out == "EPERM EPERM\n"
    done = inside.python(code, options=["--seccomp-add", "keyctl: arg0 == 0"])
    assert done.out.split()[1] == "EPERM" and done.out.split()[0] != "EPERM", done.out


def test_two_additions_and_a_policy(inside):
    done = inside.python(CLONE3 + USERFAULTFD, options=["--seccomp", "strict", "--seccomp-add", "clone3", "--seccomp-add", "userfaultfd"])
    assert done.out == "7\na descriptor\n" and len(done.err.splitlines()) == 2
    assert "attached: strict + clone3, userfaultfd, sha256 " in seccomp_line(done)


def test_quiet_is_quiet_and_what_is_allowed_already_is_said(inside):
    assert inside.run(*ECHO, options=["-q", "--seccomp-add", "clone3"]).err == ""
    assert inside.run(*ECHO, options=["--seccomp-add", "read"]).err == "mrunc: --seccomp-add read: is allowed without it\n"
    done = inside.run(*ECHO, options=["--seccomp-add", "s390_sthyi"])
    assert done.rc == 0 and "%s has no such system call; nothing is added" % ARCH in done.err


# Shipped policies

@pytest.mark.parametrize("name", ["default", "strict", "process", "debug"])
def test_each_shipped_policy_runs_a_shell_and_is_named_by_its_digest(inside, name):
    done = inside.run("sh", "-c", "echo a b | wc -w; (exit 3)", options=["--seccomp", name])
    assert (done.out, done.rc, done.err) == ("2\n", 3, "")
    assert seccomp_line(done).endswith("; attached: %s, sha256 %s" % (name, hashlib.sha256(shipped.program(name, ARCH)).hexdigest()[:16]))


def test_without_the_option_it_is_the_default(inside):
    assert "attached: default, sha256 %s" % shipped.digest("default", ARCH)[:16] in seccomp_line(inside.run("/bin/true"))


def test_strict_runs_coreutils(inside):
    script = """seq 1 100 | split -l 30 - part.; ls part.* | wc -l; cat part.* | md5sum | cut -c1-8; seq 5 | tac | paste -sd+
        printf 'a b\\n' > f; cp -p f g; ln f h; ln -s f i; stat -c %h f; readlink i; cmp f g && echo same
        touch -d 2001-02-03 f; date -r f +%F; mkdir -p x/y; mv g x/y; chmod 700 x; du -s x >/dev/null; rm -r x; ls | wc -l
        timeout 60 true; nproc >/dev/null; id -u; shuf -i 1-9 -n 9 | sort -n | tr -d '\\n'; chmod u+s f 2>/dev/null || echo refused"""
    done = inside.run("sh", "-c", script, options=["--seccomp", "strict"])
    assert done.out == "4\nd632eba7\n5+4+3+2+1\n2\nf\nsame\n2001-02-03\n7\n0\n123456789refused\n", done


def test_debuggers_run_inside_under_debug_and_not_by_default(inside):
    for name in ("strace", "gdb"):
        assert shutil.which(name), "apt-get install %s (as root, .ci/test does it)" % name
    strace = ["strace", "-f", "-o", "trace", "sh", "-c", "exit 3"]
    assert inside.run(*strace).rc == 1
    done = inside.run("sh", "-c", '"$@"; echo $?; grep -c "exited with 3" trace', "x", *strace, options=["--seccomp", "debug"])
    assert done.out == "3\n1\n", done
    gdb = ["gdb", "-nx", "-batch", "-return-child-result", "-ex", "break _exit", "-ex", "run", "-ex", "info registers", "-ex",
           "continue", "--args", "/bin/sh", "-c", "exit 3"]
    done = inside.run(*gdb, options=["--seccomp", "debug"], input="")
    assert done.rc == 3 and re.search("^(Thread .* hit )?Breakpoint 1(\\.1)?, ", done.out, re.M) and "warning: Error disabling address space" not in done.err, done
    assert inside.run(*gdb, input="").rc != 3


# Files

WORK = """
import os, subprocess, tempfile, threading
done = []
threads = [threading.Thread(target=done.append, args=(n,)) for n in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
with tempfile.NamedTemporaryFile() as f:
    f.write(b"x"); f.flush(); print(os.stat(f.name).st_size, len(done))
print(subprocess.check_output(["sh", "-c", "seq 3 | sort -r | head -1"]).decode().strip())
"""


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_the_real_profiles_run_a_shell_and_python(inside, put, name):
    path = put(name + ".json", real_form(name, ARCH)[1])
    done = inside.run("sh", "-c", "(echo b; echo a) | sort | tr a-z A-Z | while read x; do printf '%s;' $x; done; sleep 300 & kill $!; "
                                  "wait $! 2>/dev/null; echo $?", options=["--seccomp", path])
    assert done.out == "A;B;143\n" and "mrunc:" not in done.err, done
    done = inside.python(WORK, options=["--seccomp", path])
    assert done.out == "1 4\n3\n", done
    assert "attached: %s, sha256 " % path in seccomp_line(done)
    code = CALL + "print(call(%d, 0), call(%d, 0, 0, 0))" % (NUMBERS["swapoff"], NUMBERS["bpf"])
    assert inside.python(code, options=["--seccomp", path]).out == "EPERM EPERM\n"


def test_a_denylist_of_minijail(inside, put):
    path = put("deny.policy", "@denylist\nuname: return EACCES\n")
    done = inside.run("uname", options=["--seccomp", path])
    assert done.rc == 1 and "ermission denied" in done.err
    assert inside.run("uname", options=["--seccomp", os.path.basename(path), "--seccomp-add", "uname"]).out == "Linux\n"


def test_a_finished_program_runs(inside, put):
    program = policy.exported("strict", ARCH)
    path = put("strict.bpf", program)
    done = inside.run("sh", "-c", "echo ran", options=["--seccomp", path])
    assert done.out == "ran\n" and "sha256 %s" % shipped.digest_of(program)[:16] in seccomp_line(done)
    check(inside.run(*ECHO, options=["--seccomp", path, "--seccomp-add", "clone3"]), 2,
          "policy: --seccomp-add: %s is a finished program" % path)


def test_the_policy_stands_beside_the_set_id_filter(inside, put):
    """A policy that lets everything pass, seccomp(2) not: the second filter is attached first."""
    folder = os.path.join(inside.scratch, "shared")
    os.mkdir(folder)
    if os.geteuid() == 0:
        os.chown(folder, USER, USER)
    path = put("deny.policy", "@denylist\nseccomp: return EACCES\n")
    done = inside.run("sh", "-c", "cd %s && touch f && chmod u+s f" % folder, options=["--rw", folder, "--seccomp", path])
    assert done.rc != 0 and "not permitted" in done.err, done
    assert os.stat(os.path.join(folder, "f")).st_mode & 0o6000 == 0
    assert [row["in_force"] for row in done.result["controls"] if row["name"] in ("seccomp", "setid-filter")] == [True, True]


def test_a_policy_without_what_pid_1_needs_says_what_is_missing_and_takes_it_by_name(inside, put):
    calls = ("read write openat close fstat mmap mprotect munmap brk access newfstatat pread64 arch_prctl set_tid_address"
             " set_robust_list rseq prlimit64 getrandom exit_group rt_sigaction futex gettid tgkill getuid getgid geteuid getegid getpid faccessat").split()
    path = put("small.json", {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": calls, "action": "SCMP_ACT_ALLOW"}]})
    done = inside.run(*ECHO, options=["--seccomp", path])
    check(done, 2, "policy: %s: refuses execveat, recvmsg, prctl, clone, rt_sigtimedwait, kill, recvfrom, wait4, setsid, " % path,
          "the file can stay as it is", "--seccomp-add execve", "--seccomp-add 'clone: arg0 == 0x4111'")
    import shlex
    words = shlex.split(done.err.splitlines()[1].partition("to the program too, with: ")[2])
    added = inside.run(*ECHO, options=["--seccomp", path] + words)
    assert added.out == MARKER + "\n" and added.rc == 0, added


def test_without_execve_alone(inside, put):
    path = put("p", "@denylist\nexecve: return EPERM\n")
    check(inside.run(*ECHO, options=["--seccomp", path]), 2, "policy: %s: refuses execve, which mrunc's own pid 1 needs" % path,
          "--seccomp-add execve")
    program = bpf.compile_policy(bpf.Policy(policy.numbers(ARCH).AUDIT_ARCH, bpf.ALLOW, {NUMBERS["execve"]: bpf.errno(1)}))
    check(inside.run(*ECHO, options=["--seccomp", put("b", program)]), 2, "policy: ", "make the program allow them: execve")


@pytest.mark.parametrize("call,enough", [(row[0], row[2]) for row in choose.STARTER if row[0] not in ("ioctl", "dup3")])
def test_each_call_of_pid_1_is_checked_and_the_addition_is_enough(inside_as_user, call, enough):
    path = os.path.join(inside_as_user.scratch, "p")
    with open(path, "w") as stream:
        stream.write("@denylist\n%s: return EPERM\n" % call)
    if call == "landlock_restrict_self" and landlock.abi() < 6:
        plan.make(Spec(["true"], seccomp=path), facts.Host.read())
        return
    with pytest.raises(SandboxError) as caught:
        plan.make(Spec(["true"], seccomp=path), facts.Host.read())
    error = caught.value
    assert error.status == 2 and error.line().startswith("policy: %s: refuses %s, " % (path, call))
    word = call if enough is None else "%s: %s" % (call, enough)
    assert word in error.remedy
    done = inside_as_user.run("/bin/sh", "-c", "exit 5", options=["--seccomp", path, "--seccomp-add", word, "-q"])
    assert done.rc in (5, 126, 127, 1, 2), done
    assert done.result["reason"] == "exited", done


def test_the_terminal_s_call_is_checked_with_a_terminal_only(put):
    path = put("p", "@denylist\nioctl: { arg1 == 0x540e; return EPERM }\n")
    plan.make(Spec(["true"], seccomp=path), facts.Host.read())
    with pytest.raises(SandboxError) as caught:
        plan.make(Spec(["true"], seccomp=path, tty=True), facts.Host.read())
    assert "seccomp_add=['ioctl: arg1 == 0x540e']" in caught.value.remedy


def test_a_policy_that_kills_is_named(inside, put):
    calls = "mmap munmap brk futex madvise mremap mprotect getpid gettid rt_sigreturn".split()
    path = put("kill.json", {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": calls, "action": "SCMP_ACT_KILL_PROCESS"}]})
    done = inside.run("/bin/true", options=["--seccomp", path])
    assert (done.rc, done.result["reason"], done.out) == (159, "seccomp", "")
    why = "policy %s refuses brk, mmap, munmap, futex, over which the listener is handed over" % path
    assert done.err == ("mrunc: no ledger: %s\nmrunc: killed by SIGSYS: policy %s answers a call so (a program can also send itself this signal); "
                        "with --ledger FILE the result names the call\n") % (why, path)
    assert done.result["refused"] is None and "no ledger: " + why in done.result["notes"]


# Mistakes

@pytest.mark.parametrize("options,first,remedy", [
    (["--seccomp", "strct"], "policy: strct: no policy is called so, and there is no such file (did you mean strict?)",
     ["the policies are: default, strict, process, process-nosignal, debug"]),
    (["--seccomp", "./missing"], "policy: ./missing: No such file or directory", []),
    (["--seccomp", ""], "options: --seccomp: the name is empty", []),
    (["--seccomp", "default", "--seccomp", "strict"], "options: --seccomp is given twice", []),
    (["--seccomp", "/etc"], "policy: /etc: is not a regular file", ["a policy is OCI JSON, minijail text or a BPF program"]),
    (["--seccomp", "/etc/passwd"], "policy: /etc/passwd, line 1, column ", ["a policy is OCI JSON, minijail text or a BPF program, as ",
                                                                                " --man mrunc-policy tells"]),
    (["--seccomp", "/dev/zero"], "policy: /dev/zero: is not a regular file", []),
    (["--seccomp-add", ""], "options: --seccomp-add: expected NAME", []),
    (["--seccomp-add", "clon3"], "policy: --seccomp-add clon3: no architecture has a system call 'clon3' (did you mean clone3?)", []),
    (["--seccomp-add", "ioctl: arg1 = 5"], "policy: --seccomp-add ioctl: arg1 = 5, line 1, column 13: expected an operator", []),
    (["--seccomp-add", "ioctl: arg1 == TIOCSTY"], "policy: --seccomp-add ioctl: arg1 == TIOCSTY, line 1, column 16: constant TIOCSTY "
     "is unknown here", ["write its number"]),
    (["--seccomp", "strict", "--unsafe-without", "seccomp"], "options: --unsafe-without seccomp: contradicts --seccomp", []),
    (["--seccomp-add", "clone3", "--unsafe-without", "seccomp"], "options: --unsafe-without seccomp: contradicts --seccomp-add", []),
    (["--seccomp", "process-nosignal"], "policy: process-nosignal: refuses kill, ", ["--seccomp-add kill"]),
])
def test_a_mistake_is_exit_2_and_nothing_runs(inside, options, first, remedy):
    check(inside.run(*ECHO, options=options), 2, first, *remedy)


@pytest.mark.parametrize("content,first", [
    (b"\x20\0\0\0\4\0\0\0" * 4096 + b"\x06\0\0\0\0\0\xff\x7f", "policy: p: BPF program: 4097 instructions: must be 1 to 4096"),
    (b"\x06\0\0\0\0\0\xc0\x7f", "policy: ./p: asks a listener about calls (notify), and mrunc has none"),
    ('{"defaultAction": "SCMP_ACT_NOTIFY"}', "policy: ./p: asks a listener"),
    ('{"defaultAction": "SCMP_ACT_ERRNO",\n "syscalls": [{"names": ["opne"], "action": "SCMP_ACT_ALLOW"}]}',
     "policy: p, line 2, column 26: no architecture has a system call 'opne' (did you mean open?)"),
    ("read: 1\nread: return EPERM\n", "policy: p, line 2, column 1: conflicting rules"),
    ("\x1b[31mread: 1\n", "policy: p, line 1, column 1: unexpected character '\\x1b'"),
])
def test_a_bad_file_is_exit_2_and_nothing_runs(inside, put, content, first):
    put("p", content)
    done = inside.outside(inside.command(*ECHO, options=["--seccomp", "p"]))
    assert done.returncode == 2 and done.stdout == "" and done.stderr.startswith("mrunc: " + first), done


def test_fifty_megabytes_are_refused_quickly(inside, put):
    put("p", b'{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [' + b" " * (50 << 20) + b"]}")
    check(inside.run(*ECHO, options=["--seccomp", "p"], timeout=20), 2, "policy: p: 52428851 bytes: a policy has at most 1048576")


def test_an_action_that_this_kernel_does_not_know_is_exit_125(inside, put):
    put("p", bpf.encode([(bpf.LD, 0, 0, 0), (bpf.JEQ, 0, 1, 9999), (bpf.RET, 0, 0, 0x12340000), (bpf.RET, 0, 0, bpf.ALLOW)]))
    check(inside.run(*ECHO, options=["--seccomp", "p"]), 125, "policy: ./p: this kernel does not know the filter action 0x12340000")


def test_an_old_kernel_is_asked_and_believed(monkeypatch, put):
    path = put("p", "@denylist\nswapon: return EPERM\nswapoff: return EPERM\n")
    asked = []

    def answer(action):
        asked.append(action)
        return action != bpf.ERRNO
    monkeypatch.setattr(seccomp, "action_available", answer)
    with pytest.raises(SandboxError) as caught:
        choose.choose(Spec(["true"], seccomp=path), ARCH, True)
    assert caught.value.status == 125 and "does not know the filter action errno" in caught.value.line() and bpf.ERRNO in asked


def test_the_probe_of_an_action():
    assert all(seccomp.action_available(action) for action in bpf.ACTIONS.values())
    assert not seccomp.action_available(0x12340000)


@pytest.mark.parametrize("number,known", [(22, {bpf.ALLOW, bpf.ERRNO, bpf.TRAP, bpf.TRACE, bpf.KILL_THREAD}), (95, set())])
def test_the_probe_where_the_kernel_has_no_such_question(monkeypatch, number, known):
    def refuse(*arguments):
        raise OSError(number, "no")
    monkeypatch.setattr(seccomp, "_seccomp", refuse)
    assert {action for action in bpf.ACTIONS.values() if seccomp.action_available(action)} == known


# The plan

def test_the_plan_names_policy_and_digest(inside, put):
    done = inside.outside(inside.command("true", options=["--print-plan", "--json", "--seccomp", "strict"]))
    shown = json.loads(done.stdout)["filters"]
    assert [(row["name"], row["sha256"]) for row in shown] == [("strict", shipped.digest("strict", ARCH))]
    path = put("p", "@denylist\nmount: return EPERM\n")
    done = inside.outside(inside.command("true", options=["--print-plan", "--seccomp", path]))
    assert "filters       %s (" % path in done.stdout


def test_a_shipped_policy_costs_no_compiler(tool_folder):
    for words, loaded in ((["--seccomp", "strict"], False), (["--seccomp-add", "clone3"], True)):
        done = subprocess.run([PYTHON, "-I", "-S", "-v", os.path.join(tool_folder, "mrunc.py"), "run", *words, "--", "/bin/true"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
        assert done.returncode == 0
        assert (".seccomp_bpf' #" in done.stderr) == loaded
        assert (".seccomp.choose' #" in done.stderr) == loaded


def test_every_shipped_policy_that_is_offered_lets_pid_1_work():
    """What the launch skips for a name."""
    for name in plan.SHIPPED:
        for arch in policy.ARCHES:
            choose._check_starter(name, shipped.program(name, arch), arch, Spec(None, tty=True), True, False)


def test_the_library_takes_the_same_options(inside, put):
    path = put("p", "@denylist\nuname: return EPERM\n")
    code = ("import sys; sys.path.insert(0, %r)\nimport mrunc\n"
            "r = mrunc.run(['uname'], seccomp=%r, seccomp_add=['clone3'])\nprint(r.returncode)\n"
            "r = mrunc.run(['true'], seccomp_add=['clone3'])\nprint(r.returncode, r.notes)\nprint(mrunc.run(['true']).notes)\n"
            "try:\n    mrunc.run(['true'], seccomp='strct')\nexcept mrunc.SandboxError as error:\n    print(error.status, error.stage)\n"
            % (os.path.dirname(inside.tool), path))
    done = inside.outside([PYTHON, "-c", code])
    first, second, third, last = done.stdout.splitlines()
    assert (first, third, last) == ("1", "[]", "2 policy"), done
    assert second.startswith("0 [\"WARNING: seccomp_add='clone3': refused by default (ENOSYS): "), done


def test_a_warning_is_said_once_and_stands_in_the_report(inside):
    done = inside.run("true", options=["--seccomp-add", "clone3"])
    assert done.rc == 0 and done.err.count("WARNING: --seccomp-add clone3") == 1, done
    assert [note[:30] for note in done.result["notes"]] == ["WARNING: --seccomp-add clone3:"]


@pytest.mark.parametrize("text", ["ioctl: arg1 == 5 # a comment", "ioctl: arg1 == 5 \\\n || arg1 == 6", "ioctl # all", "read: arg0 == 1; 1"])
def test_an_addition_is_one_condition_and_nothing_behind_it(inside, text):
    done = inside.run("true", options=["--seccomp-add", text])
    assert done.rc == 2 and done.result is None and done.err.startswith("mrunc: policy: --seccomp-add "), done


@pytest.mark.parametrize("text", ["ptrace: arg0 != 3", "listns: arg0 != 4", "unshare: arg0 > 5", "prctl: arg1 == 0x100000000"])
def test_an_addition_that_an_upper_half_could_widen_is_refused(inside, text):
    done = inside.run("true", options=["--seccomp-add", text])
    assert done.rc == 2 and "32 or 64 bits" in done.err, done
