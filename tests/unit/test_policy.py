# SPDX-License-Identifier: Apache-2.0
"""The shipped policies: what the tables say, what the frozen bytes do, and what the kernel does with them."""
import ctypes
import errno
import fcntl
import json
import mmap
import os
import runpy
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import traceback

import pytest

import mrunc
from mrunc import seccomp_bpf as bpf
from mrunc.sandbox.errors import SandboxError
from mrunc.sandbox.seccomp import arms, choose, policy, shipped, tables
from mrunc.sandbox.plan import listening

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
bench = runpy.run_path(os.path.join(ROOT, "bench", "bpf.py"))
freeze = runpy.run_path(os.path.join(ROOT, ".ci", "freeze_filters.py"))
with open(os.path.join(ROOT, "tests", "data", "reference-decisions.json")) as data:
    REFERENCE = json.load(data)

SHIPPED = [(arch, name) for arch in policy.ARCHES for name in policy.NAMES]
NATIVE = os.uname().machine
FOREIGN = (0x40000003, 0x40000028, 0, 1, 0xFFFFFFFF, 0xC0000015)
ODD_NUMBERS = list(range(0x40000000, 0x40000400)) + [0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]

# The threat model's calls, and everything else that must never become reachable by a slip in the tables
NEVER = ("mount umount2 pivot_root chroot unshare setns ptrace kexec_load kexec_file_load bpf perf_event_open keyctl"
         " add_key request_key init_module finit_module delete_module open_by_handle_at process_vm_readv"
         " process_vm_writev pidfd_getfd userfaultfd io_uring_setup clone3 fsopen move_mount open_tree reboot").split()


def asking_program(name, arch, setid):
    """The filter of a shipped policy whose refusals ask, as a run with the ledger has it."""
    table = policy.numbers(arch)
    programs = [shipped.program(name, arch)] + [shipped.setid_program(arch)] * setid
    return arms.combine(programs, arms.asking_but(table.AUDIT_ARCH, arms.numbers_of(arms.QUIET, table.NR)))


def killing_program(name, arch):
    """The filter of a shipped policy that kills for calls of high risk."""
    table = policy.numbers(arch)
    return arms.combine([shipped.program(name, arch)],
                        arms.killing(table.AUDIT_ARCH, arms.numbers_of(arms.HIGH_RISK, table.NR)))


def table_answer(rule, args):
    """What a row of the tables says, read here without the compiler's model."""
    signs = {"==": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b, "&==": lambda a, b: a == b}

    def holds(argument, sign, value, mask=None, wide=False):
        return signs[sign](args[argument] & ((1 << 64 if wide else 1 << 32) - 1) & (-1 if mask is None else mask), value)

    for entry in [(rule,)] if isinstance(rule, str) else rule:
        if all(holds(*test) for test in entry[1:]):
            break
    else:
        raise AssertionError("no entry of %r decides" % (rule,))
    return {"allow": bpf.ALLOW, "kill": bpf.KILL_PROCESS, "pretend": bpf.ERRNO}.get(entry[0]) or bpf.errno(
        getattr(errno, entry[0]))


def vectors(model, number):
    return bench["corners"](model.rules.get(number, 0))


# The tables

@pytest.mark.parametrize("arch", policy.ARCHES)
@pytest.mark.parametrize("name", policy.NAMES)
def test_every_system_call_has_a_decision_and_a_reason(name, arch):
    rows = policy.decisions(name, arch)
    assert set(rows) == set(policy.numbers(arch).NR)
    assert all(reason for _, reason in rows.values())


@pytest.mark.parametrize("arch", policy.ARCHES)
def test_the_default_decides_as_the_reference_but_for_the_listed_additions(arch):
    rows = policy.decisions("default", arch)
    additions = set("mknod mknodat seccomp prlimit64 setrlimit fcntl madvise prctl kill tkill tgkill rt_sigqueueinfo"
                    " rt_tgsigqueueinfo pidfd_open get_robust_list sched_setparam sched_setscheduler sched_setattr"
                    " sched_setaffinity setpriority ioprio_set sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg setsockopt"
                    " getsockopt".split())
    withdrawn = set("mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr".split())
    for category, names in REFERENCE[arch].items():
        for call in names:
            rule = rows.pop(call)[0]
            if category == "conditional" or call in additions:
                assert isinstance(rule, tuple), call
            elif call in withdrawn:
                assert rule == "ENOSYS", call
            else:
                assert rule == category.replace("errno_", ""), call
    assert {call for call, (rule, _) in rows.items() if rule != "ENOSYS"} == set(), "newer than the reference: refused"


def test_the_tested_calls_of_the_default_decide_as_the_reference_says():
    rows = policy.decisions("default", "x86_64")

    def answers(call, *args):
        value = table_answer(rows[call][0], tuple(args) + (0,) * (6 - len(args)))
        return "allow" if value == bpf.ALLOW else errno.errorcode[value & 0xFFFF]

    for request, wanted in ((0x5401, "allow"), (0x5411, "allow"), (0x5412, "EPERM"), (0x5413, "allow"), (0x541C, "EPERM"),
                            (0x5423, "EPERM"), (0x5424, "allow"), (0x541B, "allow"), (0x40049409, "allow"),
                            (0x0401, "ENOTTY"), (0x8982, "ENOTTY"), (0x80086601, "ENOTTY"), (0xFFFFFFFF, "ENOTTY")):
        for upper in (0, 1 << 32, 0xFFFFFFFF << 32):
            assert answers("ioctl", 0, request | upper) == wanted
    for flag in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert answers("clone", flag | signal.SIGCHLD) == "EPERM"
    for flags in (0, 17, 0x3D0F00, 0x01200011, 0x4111, 0x80000000):
        assert answers("clone", flags) == "allow"
    for value in range(64):
        for call in ("socket", "socketpair"):
            assert answers(call, value) == ("allow" if value == 1 else "EAFNOSUPPORT")
    for value in [0, 8, 0x20000, 0x20008, 0xFFFFFFFF]:
        assert answers("personality", value) == "allow"
    for value in [1, 4, 0x40000, 0x400000, 0x100000, 0x40008, 0xFFFFFFFE]:
        assert answers("personality", value) == "EPERM"
    for kind in range(16):
        wanted = "allow" if kind << 12 in (0, stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK) else "EPERM"
        assert answers("mknod", 0, kind << 12 | 0o644) == answers("mknodat", 0, 0, kind << 12 | 0o4755) == wanted
    for operation in range(5):
        for flags in range(128):
            assert answers("seccomp", operation, flags) == ("EPERM" if operation == 1 and flags & 8 else "allow")


@pytest.mark.parametrize("arch", policy.ARCHES)
@pytest.mark.parametrize("name", policy.NAMES)
def test_the_calls_of_the_threat_model_are_refused_plainly(name, arch):
    rows = policy.decisions(name, arch)
    given_back = {"ptrace", "process_vm_readv", "process_vm_writev"} if name == "debug" else set()
    for call in set(NEVER) - given_back:
        assert rows[call][0] in ("EPERM", "ENOSYS", "kill"), call
    assert rows["clone3"][0] == "ENOSYS", "libc falls back to clone only on ENOSYS"


@pytest.mark.parametrize("arch", policy.ARCHES)
@pytest.mark.parametrize("name", ["strict", "process", "process-nosignal"])
def test_a_stricter_policy_allows_nothing_that_the_default_refuses(name, arch):
    loose, tight = bpf.decode(shipped.program("default", arch)), bpf.decode(shipped.program(name, arch))
    models = policy.policy("default", arch), policy.policy(name, arch)
    audit_arch = policy.numbers(arch).AUDIT_ARCH
    for number in list(range(1024)) + ODD_NUMBERS:
        for args in vectors(models[0], number) + vectors(models[1], number):
            if bpf.run(tight, number, audit_arch, args)[0] == bpf.ALLOW:
                assert bpf.run(loose, number, audit_arch, args)[0] == bpf.ALLOW, number


def test_a_name_that_no_architecture_has_is_an_error_and_one_that_this_one_lacks_is_not():
    with pytest.raises(ValueError, match="'opne' exists on no architecture"):
        policy._rules([("allow", "typo", "opne")])
    with pytest.raises(ValueError, match="'open' has two rows"):
        policy._rules([("allow", "once", "open"), ("EPERM", "twice", "open")])
    assert "open" not in policy.decisions("default", "aarch64")


def test_an_unknown_policy_or_architecture_is_named():
    for ask in (shipped.program, policy.policy, policy.decisions):
        with pytest.raises(ValueError, match="no system call policy is called 'defualt': there are default, strict"):
            ask("defualt", "x86_64")
        with pytest.raises(KeyError, match="riscv64"):
            ask("default", "riscv64")
    with pytest.raises(KeyError, match="riscv64"):
        shipped.setid_program("riscv64")


# The number tables

@pytest.mark.parametrize("arch", policy.ARCHES)
def test_the_number_table_holds_every_name_of_the_reference_once(arch):
    table = policy.numbers(arch)
    assert {name for names in REFERENCE[arch].values() for name in names} <= set(table.NR)
    assert len(set(table.NR.values())) == len(table.NR) and max(table.NR.values()) == table.LAST
    assert list(table.NR.values()) == sorted(table.NR.values())
    assert table.NR["clone3"] == 435 and table.AUDIT_ARCH == {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[arch]


def test_a_header_that_contradicts_the_number_table_is_an_error():
    generate = runpy.run_path(os.path.join(ROOT, ".ci", "generate_nr.py"))
    assert generate["merged"]({"read": 0, "gone": 5}, {"read": 0, "new": 6}, "x") == {"read": 0, "gone": 5, "new": 6}
    for header in ({"read": 1}, {"other": 0}):
        with pytest.raises(SystemExit, match="header"):
            generate["merged"]({"read": 0}, header, "x")


# The frozen programs

def test_the_frozen_programs_are_what_the_tables_compile_to():
    for name, text in freeze["files"](freeze["programs"]()):
        with open(os.path.join(ROOT, "sandbox", "seccomp", name)) as frozen:
            assert frozen.read() == text, "run .ci/freeze_filters.py"


@pytest.mark.parametrize("arch, name", SHIPPED)
def test_a_frozen_program_answers_as_the_table_on_every_number_and_argument_corner(arch, name):
    program = shipped.program(name, arch)
    bpf.verify(program)
    code, model, table = bpf.decode(program), policy.policy(name, arch), policy.numbers(arch)
    rows = {table.NR[call]: rule for call, (rule, _) in policy.decisions(name, arch).items()}
    for number in list(range(1024)) + ODD_NUMBERS:
        for args in vectors(model, number):
            wanted = table_answer(rows.get(number, "ENOSYS"), args)
            assert bpf.run(code, number, table.AUDIT_ARCH, args)[0] == wanted, (number, args)
    others = [policy.numbers(other).AUDIT_ARCH for other in policy.ARCHES if other != arch]
    for foreign in list(FOREIGN) + others:
        for number in (0, 1, 5, 59, 221, 0x40000000, 0xFFFFFFFF):
            assert bpf.run(code, number, foreign)[0] == bpf.KILL_PROCESS


@pytest.mark.parametrize("arch", policy.ARCHES)
def test_the_policies_that_kill_are_those_that_are_said_to(arch):
    killing = [name for name in policy.NAMES if any(bpf.run(bpf.decode(shipped.program(name, arch)), number, policy.numbers(arch).AUDIT_ARCH,
                                                            (0,) * 6)[0] == bpf.KILL_PROCESS for number in range(1024))]
    assert killing == ["strict"]


@pytest.mark.parametrize("arch, name", SHIPPED)
@pytest.mark.parametrize("setid", [False, True])
def test_a_frozen_program_that_asks_or_kills_differs_from_the_plain_one_in_what_is_refused_alone(arch, name, setid):
    table, model, also = policy.numbers(arch), policy.policy(name, arch), policy.setid_policy(arch)
    plain, setids = bpf.decode(shipped.program(name, arch)), bpf.decode(shipped.setid_program(arch))
    asking, killing = asking_program(name, arch, setid), killing_program(name, arch)
    bpf.verify(asking)
    bpf.verify(killing)
    asking, killing = bpf.decode(asking), bpf.decode(killing)
    quiet, risky = (arms.numbers_of(rows, table.NR) for rows in (arms.QUIET, arms.HIGH_RISK))
    assert not quiet & risky
    quiet |= {0xFFFFFFFF}  # what a tracer took away

    def run(code, number, args, audit=table.AUDIT_ARCH):
        return bpf.run(code, number, audit, args)
    for number in list(range(1024)) + ODD_NUMBERS:
        for args in vectors(model, number) + vectors(also, number):
            (wanted, steps), beside = run(plain, number, args), run(setids, number, args)
            answer = wanted if wanted != bpf.ALLOW or not setid else beside[0]
            if answer == bpf.ALLOW:
                cost = steps + (beside[1] if setid else 0)
                assert run(asking, number, args)[0] == bpf.ALLOW and run(asking, number, args)[1] <= cost, number
            else:
                kept = number in quiet or answer == bpf.ERRNO  # success that is pretended
                assert run(asking, number, args)[0] == (answer if kept else bpf.NOTIFY), (number, args)
            if wanted == bpf.ALLOW:
                assert run(killing, number, args) == (bpf.ALLOW, steps)
            else:
                assert run(killing, number, args)[0] == (bpf.KILL_PROCESS if number in risky else wanted), (number, args)
    others = [policy.numbers(other).AUDIT_ARCH for other in policy.ARCHES if other != arch]
    for foreign in list(FOREIGN) + others:
        for number in (0, 1, 5, 59, 221, 0x40000000, 0xFFFFFFFF):
            assert {run(code, number, (0,) * 6, foreign)[0] for code in (asking, killing)} == {bpf.KILL_PROCESS}


@pytest.mark.parametrize("arch, name", SHIPPED)
def test_a_shipped_policy_lets_the_listener_be_handed_over(arch, name):
    code, table = bpf.decode(asking_program(name, arch, True)), policy.numbers(arch)
    for call, arguments in listening.HANDOVER:
        for vector in arguments:
            assert bpf.run(code, table.NR[call], table.AUDIT_ARCH, vector + (0,) * (6 - len(vector)))[0] == bpf.ALLOW, call


@pytest.mark.parametrize("arch", policy.ARCHES)
def test_the_setid_program_refuses_mode_bits_wherever_a_mode_is_given(arch):
    code, table = bpf.decode(shipped.setid_program(arch)), policy.numbers(arch)
    bpf.verify(shipped.setid_program(arch))
    places = {"chmod": (None, 1), "fchmod": (None, 1), "fchmodat": (None, 2), "creat": (None, 1), "open": (1, 2),
              "openat": (2, 3), "mkdir": (None, 1), "mkdirat": (None, 2), "mknod": (None, 1), "mknodat": (None, 2)}
    gone = {"openat2", "fchmodat2", "io_uring_setup", "io_uring_enter", "io_uring_register"}
    for call, number in table.NR.items():
        for mode in (0, 0o755, 0o1777, 0o2755, 0o4755, 0o6000, 0xFFFFFFFF, 1 << 32 | 0o4755, 1 << 32 | 0o755, 1 << 11, 1 << 10):
            for flags in (0, os.O_CREAT, os.O_CREAT | os.O_EXCL | os.O_WRONLY, os.O_TMPFILE, os.O_DIRECTORY, os.O_PATH,
                          1 << 32 | os.O_CREAT, 0o20000000):
                where, at = places.get(call, (None, None))
                args = [mode] * 6
                if where is not None:
                    args[where] = flags
                makes = where is None or flags & (os.O_CREAT | 0o20000000)
                wanted = bpf.errno(errno.ENOSYS) if call in gone else bpf.ALLOW
                if at is not None and makes and mode & 0o6000:
                    wanted = bpf.errno(errno.EPERM)
                assert bpf.run(code, number, table.AUDIT_ARCH, args)[0] == wanted, (call, oct(mode), oct(flags))
    for number in ODD_NUMBERS:
        assert bpf.run(code, number, table.AUDIT_ARCH)[0] == bpf.errno(errno.ENOSYS), "chmod has an x32 number too"
    assert bpf.run(code, 1000, table.AUDIT_ARCH)[0] == bpf.ALLOW
    for foreign in FOREIGN:
        assert bpf.run(code, 0, foreign)[0] == bpf.KILL_PROCESS


def test_loading_a_frozen_program_imports_neither_compiler_nor_tables():
    code = ("import sys; sys.path.insert(0, %r); import mrunc; from mrunc.sandbox.seccomp import shipped as frozen_filters\n"
            "frozen_filters.program('default', 'x86_64'); frozen_filters.program('strict', 'aarch64'); frozen_filters.setid_program('x86_64')\n"
            "print(sorted(n for n in sys.modules if n.startswith('mrunc.')))" % ROOT)
    out = subprocess.check_output([sys.executable, "-I", "-c", code]).decode()
    assert "shipped_bytes" in out and "seccomp_bpf" not in out and "tables" not in out and "nr_" not in out


# On the kernel. Each test forks a child that puts on the filter and really makes the calls.

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 38, 22
NR = policy.numbers(NATIVE).NR if NATIVE in policy.ARCHES else {}
native = pytest.mark.skipif(not NR, reason="no filter for this architecture")


class SockFprog(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def call(name, *args):
    """A raw system call: 0 or the errno. The child that an allowed clone or fork would make ends at once."""
    number = NR[name] if isinstance(name, str) else name
    words = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args] + [ctypes.c_long(0)] * (6 - len(args))
    caller = os.getpid()
    result = libc.syscall(ctypes.c_long(number), *words)
    if os.getpid() != caller:
        os._exit(0)
    return ctypes.get_errno() if result == -1 else 0


def put_on(program):
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = SockFprog(len(program) // 8, ctypes.addressof(buffer))
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(PR_SET_SECCOMP, 2, ctypes.byref(fprog), 0, 0) == 0, os.strerror(ctypes.get_errno())


def in_child(deed, programs=(), user=None):
    """(what `deed` returned, signal that ended the child or 0), in a child under the filters."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setsid()  # should vhangup ever work, then not on the tester's terminal
            if user:
                os.setgroups([])
                os.setresgid(user, user, user)
                os.setresuid(user, user, user)
            for program in programs:
                put_on(program)
            os.write(writing, json.dumps(deed()).encode())
        except BaseException:
            os.write(writing, json.dumps(traceback.format_exc()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        text = pipe.read()
    status = os.waitpid(child, 0)[1]
    return json.loads(text.decode()) if text else None, os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


USERS = [pytest.param(None, id="root"), pytest.param(65534, id="user")] if os.geteuid() == 0 else [
    pytest.param(None, id="user")]


@native
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("name", policy.NAMES)
def test_each_plainly_refused_call_fails_on_the_kernel_with_its_errno(name, user):
    rows = policy.decisions(name, NATIVE)
    refused = {call: rule for call, (rule, _) in rows.items() if isinstance(rule, str) and rule not in ("allow", "kill")}
    # Arguments of -1: no descriptor, no address, no process. Unfiltered each would fail too, but otherwise.
    found, killed = in_child(lambda: {n: errno.errorcode.get(call(n, *[-1] * 6), "0") for n in refused},
                             [shipped.program(name, NATIVE)], user)
    assert not killed and found == refused
    assert len(found) > 80


@native
@pytest.mark.skipif(os.geteuid() != 0, reason="root: a user gets EPERM from the kernel itself")
def test_without_the_filter_the_same_calls_fail_for_another_reason():
    names = "mount umount2 chroot swapon settimeofday unshare setns bpf perf_event_open keyctl quotactl".split()
    found, _ = in_child(lambda: {name: call(name, *[-1] * 6) for name in names})
    assert not [name for name in names if found[name] in (0, errno.EPERM)]


@native
@pytest.mark.parametrize("name", [call for call, (rule, _) in (policy.decisions("strict", NATIVE) if NR else {}).items()
                                  if rule == "kill"])
def test_strict_kills_on_the_kernel_what_only_an_attack_calls(name):
    assert in_child(lambda: call(name, *[-1] * 6), [shipped.program("strict", NATIVE)]) == (None, signal.SIGSYS)


@native
@pytest.mark.parametrize("user", USERS)
def test_clone_with_any_namespace_flag_is_refused_and_threads_and_forks_work(user):
    flags = {1 << bit: bool(1 << bit & 0x7E020000) for bit in range(32)}

    def deed():
        made = {flag: call("clone", flag | signal.SIGCHLD) for flag in flags if flags[flag]}
        made.update({flag | 1 << 32: call("clone", flag | 1 << 32 | signal.SIGCHLD) for flag in flags if flags[flag]})
        ran = []
        thread = threading.Thread(target=ran.append, args=(1,))
        thread.start()
        thread.join()
        child = os.fork()
        if not child:
            os._exit(7)
        return [sorted(set(made.values())), len(made), ran, os.waitpid(child, 0)[1] >> 8, call("clone3", 0, 0),
                subprocess.call(["/bin/true"])]

    assert in_child(deed, [shipped.program("default", NATIVE)], user) == ([[errno.EPERM], 14, [1], 7, errno.ENOSYS, 0], 0)


@native
def test_of_46_socket_families_only_unix_opens():
    def deed():
        return [[call(name, family | upper, socket.SOCK_DGRAM, 0, pair) for family in range(46)]
                for upper in (0, 1 << 32) for name, pair in (("socket", 0), ("socketpair", ctypes.create_string_buffer(8)))]

    for row in in_child(deed, [shipped.program("default", NATIVE)])[0]:
        assert row == [0 if family == socket.AF_UNIX else errno.EAFNOSUPPORT for family in range(46)]
    found, _ = in_child(deed, [shipped.program("process", NATIVE)])
    assert set(found[0]) == {errno.EAFNOSUPPORT} and set(found[1]) == {errno.EPROTONOSUPPORT}


@native
def test_terminal_input_injection_is_refused_also_with_bit_32_set():
    requests = [code | upper for code in (0x5412, 0x541C, 0x5423) for upper in (0, 1 << 32, -1 << 32)]

    def deed():
        return [call("ioctl", -1, request, 0) for request in requests] + [call("ioctl", -1, 0x5401, 0)]

    for name in policy.NAMES:
        assert in_child(deed, [shipped.program(name, NATIVE)]) == ([errno.EPERM] * 9 + [errno.EBADF], 0)


@native
def test_x32_numbers_and_numbers_beyond_the_table_do_not_exist():
    numbers = [0x40000000 | number for number in range(600)] + list(range(473, 600)) + [-1, 0x7FFFFFFF]
    found, killed = in_child(lambda: sorted({call(number, *[-1] * 6) for number in numbers}),
                             [shipped.program("default", NATIVE)])
    assert (found, killed) == ([errno.ENOSYS], 0)


@pytest.mark.skipif(NATIVE != "x86_64", reason="int 0x80 is an x86 instruction")
@pytest.mark.parametrize("name", policy.NAMES)
def test_the_32_bit_system_call_gate_kills(name):
    def getpid_by_int80():
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20 (getpid of i386); int 0x80; ret
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        return ctypes.CFUNCTYPE(ctypes.c_int)(address)() == os.getpid()

    free, killed = in_child(getpid_by_int80)
    if killed == signal.SIGSEGV:
        pytest.skip("this kernel has no 32-bit gate: nothing to close")
    assert (free, killed) == (True, 0)
    for program in (shipped.program(name, NATIVE), asking_program(name, NATIVE, False)):
        assert in_child(getpid_by_int80, [program]) == (None, signal.SIGSYS)


@native
@pytest.mark.parametrize("user", USERS)
def test_mknod_makes_fifos_and_sockets_but_no_devices(user):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        path = os.fsencode(os.path.join(folder, "n"))

        def deed():
            found = []
            for kind in (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFREG, 0, stat.S_IFCHR, stat.S_IFBLK):
                found.append(call("mknodat", -100, ctypes.c_char_p(path + b"%d" % kind), kind | 0o600, 0))
            return found

        assert in_child(deed, [shipped.program("default", NATIVE)], user) == ([0] * 4 + [errno.EPERM] * 2, 0)


@native
def test_a_nested_filter_may_restrict_further_but_not_listen():
    def deed():
        return [call("seccomp", 1, 8, 0), call("seccomp", 1 | 1 << 32, 8 | 1 << 32, 0), call("seccomp", 1, 0, 0),
                call("seccomp", 2, 0, ctypes.byref(ctypes.c_uint32(bpf.ALLOW)))]

    assert in_child(deed, [shipped.program("default", NATIVE)]) == ([errno.EPERM] * 2 + [errno.EFAULT, 0], 0)


@native
def test_the_ledger_program_asks_a_listener_where_the_plain_one_refuses():
    """Without a listener the kernel answers ENOSYS to USER_NOTIF: mount, EPERM plainly, tells the two apart."""
    def deed():
        return [call("mount", *[-1] * 5), call("socket", 2, 1, 0), call("clone3", 0, 0), call("getpid")]

    assert in_child(deed, [shipped.program("default", NATIVE)])[0] == [
        errno.EPERM, errno.EAFNOSUPPORT, errno.ENOSYS, 0]
    assert in_child(deed, [asking_program("default", NATIVE, False)])[0] == [errno.ENOSYS] * 3 + [0]


@native
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("beside", [(), ("default",), ("strict",)])
def test_the_setid_program_holds_on_the_kernel_and_plain_modes_work(beside, user):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)

        def fails(deed, *args, **options):
            try:
                fd = deed(*args, **options)
                if isinstance(fd, int):
                    os.close(fd)
                return 0
            except OSError as error:
                return error.errno

        def deed():
            os.umask(0)
            path = os.path.join(folder, "f")
            fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o755)
            good = [fails(os.chmod, path, 0o1755), fails(os.fchmod, fd, 0o700), fails(os.mkdir, path + "d", 0o1777),
                    fails(os.open, path, os.O_RDONLY, 0o6755), fails(os.mkfifo, path + "p", 0o600)]
            bad = [fails(os.chmod, path, 0o4755), fails(os.chmod, path, 0o2755), fails(os.fchmod, fd, 0o6000),
                   fails(os.mkdir, path + "e", 0o2777), fails(os.open, path + "g", os.O_CREAT | os.O_WRONLY, 0o4755),
                   fails(os.open, folder, os.O_TMPFILE | os.O_WRONLY, 0o2755), fails(os.mkfifo, path + "q", 0o4600),
                   call("fchmodat", -100, ctypes.c_char_p(os.fsencode(path)), 0o4755)]
            how = ctypes.create_string_buffer(struct.pack("=QQQ", os.O_CREAT | os.O_WRONLY, 0o4755, 0))
            gone = [call("openat2", -100, ctypes.c_char_p(os.fsencode(path + "h")), how, 24),
                    call("fchmodat2", -100, ctypes.c_char_p(os.fsencode(path)), 0o4755, 0),
                    call("io_uring_setup", 1, -1)]
            return [good, bad, gone]

        programs = [shipped.program(name, NATIVE) for name in beside] + [shipped.setid_program(NATIVE)]
        found, killed = in_child(deed, programs, user)
        assert not killed and isinstance(found[0], list), found
        assert found[0] == [0] * 5
        assert found[1] == [errno.EPERM] * 8
        assert found[2][0] == errno.ENOSYS and found[2][2] == errno.ENOSYS
        # ERRNO of the filter attached last wins on new kernels; both answers refuse
        assert found[2][1] in (errno.ENOSYS, errno.EPERM)
        assert [n for n in os.listdir(folder) if os.stat(os.path.join(folder, n)).st_mode & 0o6000] == []


@native
@pytest.mark.parametrize("name", ["process", "process-nosignal"])
def test_the_process_tier_keeps_off_the_hosts_files_and_processes(name):
    host = os.getpid()
    with tempfile.NamedTemporaryFile() as file:
        path = ctypes.c_char_p(os.fsencode(file.name))

        def deed():
            return {
                "chmod": call("fchmodat", -100, path, 0o600), "chown": call("fchownat", -100, path, -1, -1, 0),
                "utime": call("utimensat", -100, path, 0, 0), "setxattr": call("setxattr", path, path, 0, 0, 0),
                "prlimit": call("prlimit64", host, 7, 0, ctypes.create_string_buffer(16)),
                "own prlimit": call("prlimit64", 0, 7, 0, ctypes.create_string_buffer(16)),
                "nice": call("setpriority", 0, host, 0), "own nice": call("setpriority", 0, 0, 19),
                "shm": call("shmget", 1, 4096, 0), "kill": call("kill", host, 0), "tgkill": call("tgkill", host, host, 0),
                "pidfd": call("pidfd_send_signal", -1, 0, 0, 0), "owner": call("fcntl", 0, fcntl.F_SETOWN, host),
                "flags": call("fcntl", 1, fcntl.F_GETFD, 0)}

        found, killed = in_child(deed, [shipped.program(name, NATIVE)])
    signals = errno.EPERM if name == "process-nosignal" else 0
    assert not killed and found == {
        "chmod": errno.EPERM, "chown": errno.EPERM, "utime": errno.EPERM, "setxattr": errno.EPERM, "prlimit": errno.EPERM,
        "own prlimit": 0, "nice": errno.EPERM, "own nice": 0, "shm": errno.ENOSYS, "kill": signals, "tgkill": signals,
        "pidfd": signals or errno.EBADF, "owner": signals or found["owner"], "flags": 0}


@native
def test_strict_refuses_set_id_bits_and_old_ipc():
    with tempfile.NamedTemporaryFile() as file:
        path = ctypes.c_char_p(os.fsencode(file.name))

        def deed():
            return [call("fchmodat", -100, path, 0o4600), call("fchmodat", -100, path, 0o600), call("shmget", 1, 4096, 0),
                    call("io_setup", 1, 0), call("mq_unlink", path), call("personality", -1)]

        assert in_child(deed, [shipped.program("strict", NATIVE)]) == (
            [errno.EPERM, 0] + [errno.ENOSYS] * 3 + [errno.EPERM], 0)


DEBUGGERS = {"strace": ["strace", "-f", "-o", "/dev/null", "/bin/sh", "-c", "/bin/true; exit 3"],
             "gdb": ["gdb", "-nx", "-batch", "-return-child-result", "-ex", "run", "--args", "/bin/sh", "-c", "exit 3"]}


@native
@pytest.mark.parametrize("tool", sorted(DEBUGGERS))
def test_a_debugger_works_under_debug_and_not_under_the_default(tool):
    if not shutil.which(tool):
        pytest.fail("%s is not installed: apt-get install %s" % (tool, tool))

    def deed():
        with open(os.devnull, "r+") as null:
            return subprocess.call(DEBUGGERS[tool], stdin=null, stdout=null, stderr=null)

    assert in_child(deed, [shipped.program("debug", NATIVE)]) == (3, 0)
    assert in_child(deed, [shipped.program("default", NATIVE)])[0] != 3


def test_tables_and_names_agree():
    assert tuple(tables.POLICIES) == policy.NAMES
    assert mrunc.__name__ == "mrunc"


# Without a kernel

def answering(numbers, other):
    """The bytes of a program.  numbers: {number: answer}; other: the answer for all others."""
    code = [(bpf.LD, 0, 0, 0)]
    for number, value in numbers.items():
        code += [(bpf.JEQ, 0, 1, number), (bpf.RET, 0, 0, value)]
    return bpf.encode(code + [(bpf.RET, 0, 0, other)])


def test_a_chain_answers_as_the_kernel_would():
    """The lowest action as a signed number wins: killing, errno, asking, then what passes."""
    error, ask, kill = bpf.ERRNO | 13, bpf.NOTIFY, bpf.KILL_PROCESS
    first = answering({1: error, 2: bpf.ALLOW, 3: kill, 4: ask, 5: error}, bpf.ALLOW)
    second = answering({1: bpf.ALLOW, 2: error, 3: error, 4: error, 5: kill}, bpf.ALLOW)
    for chain in ([first, second], [second, first]):
        answers = arms.Answers(chain, policy.numbers(NATIVE).AUDIT_ARCH)
        found = [answers.of(number, (0,) * 6) for number in range(7)]
        assert found == [bpf.ALLOW, error, error, kill, error, kill, bpf.ALLOW], chain


def test_only_what_passes_asks_for_a_trace():
    """What the policy refuses stays refused, and other architectures are no matter of a trace."""
    arch, ask = policy.numbers(NATIVE).AUDIT_ARCH, bpf.NOTIFY
    plain = answering({1: bpf.ERRNO | 13, 4: bpf.LOG}, bpf.ALLOW)
    code = bpf.decode(arms.combine([plain], arms.asking_when_allowed(arch, {1, 2, 4})))
    for number, here, there in ((1, bpf.ERRNO | 13, bpf.ERRNO | 13), (2, ask, bpf.ALLOW),
                                (3, bpf.ALLOW, bpf.ALLOW), (4, ask, bpf.LOG)):
        assert bpf.run(code, number, arch, (0,) * 6)[0] == here
        assert bpf.run(code, number, arch ^ 0x80000000, (0,) * 6)[0] == there


def test_a_policy_that_lets_pid_1_do_half_is_refused():
    """Of the vectors of one call all must pass: pid 1 sends several signals, say."""
    table = policy.numbers(NATIVE)
    rules = {table.NR[call]: bpf.ALLOW for call, _, _ in choose.STARTER}
    passes = bpf.compile_policy(bpf.Policy(table.AUDIT_ARCH, bpf.errno(38), rules))
    assert choose.lacking(passes, NATIVE) == []
    for call, argument, value in (("kill", 1, 15), ("write", 2, 4), ("exit_group", 0, 0)):
        half = dict(rules)
        half[table.NR[call]] = [(bpf.ALLOW, [bpf.Condition(argument, "==", value)]),
                                (bpf.errno(1), [])]
        made = bpf.compile_policy(bpf.Policy(table.AUDIT_ARCH, bpf.errno(38), half))
        assert [name for name, _ in choose.lacking(made, NATIVE)] == [call]


def test_an_action_that_nobody_answers_is_refused():
    choose._check_actions("fine", answering({1: bpf.ERRNO | 1}, bpf.ALLOW))
    with pytest.raises(SandboxError) as caught:
        choose._check_actions("asks", answering({1: bpf.NOTIFY}, bpf.ALLOW))
    assert caught.value.status == 2 and "asks a listener" in caught.value.line()
