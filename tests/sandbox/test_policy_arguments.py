# SPDX-License-Identifier: Apache-2.0
"""What the shipped policies decide by argument, on the kernel: requests, options, commands, flags, and who is acted on.

Each test makes the calls without the filter first, where that is harmless: what the filter refuses there must work.
"""
import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import tempfile

import pytest

from conftest import PYTHON, USER
from mrunc import seccomp_bpf as bpf
from mrunc.sandbox.seccomp import policy, shipped, tables
from test_policy import NATIVE, NR, call, in_child, native

ALL = pytest.mark.parametrize("name", policy.NAMES)
UPPER = (0, 1 << 32, 0xFFFFFFFF << 32)


def program(name):
    return [shipped.program(name, NATIVE)]


def differing(deed, name):
    """(what a deed returns without a filter, what it returns behind a policy); both in a child."""
    return in_child(deed)[0], in_child(deed, program(name))[0]


def answer(name, arch, number, *args):
    """The frozen program's, by name."""
    table = policy.numbers(arch)
    vector = tuple(args) + (0,) * (6 - len(args))
    value = bpf.run(shipped.program(name, arch), table.NR[number], table.AUDIT_ARCH, vector)[0]
    return {bpf.ALLOW: "allow", bpf.ERRNO: "pretend"}.get(value) or errno.errorcode[value & 0xFFFF]


# ioctl

@native
@ALL
def test_a_file_systems_ioctls_are_refused_and_counting_what_is_left_works(name):
    def deed():
        with tempfile.TemporaryFile() as stream:
            stream.write(b"four")
            stream.seek(0)
            out = ctypes.create_string_buffer(64)
            asked = [call("ioctl", stream.fileno(), 0x541B, out), struct.unpack("=i", out.raw[:4])[0]]  # FIONREAD
            return [[call("ioctl", stream.fileno(), 2 | upper, out) for upper in UPPER],  # FIGETBSZ
                    [call("ioctl", stream.fileno(), 0x5460 | upper, out) for upper in UPPER],  # FIOQSIZE
                    asked]

    free, held = differing(deed, name)
    assert free[0] == [0] * 3 and free[2] == [0, 4]
    assert held == [[errno.ENOTTY] * 3] * 2 + [[0, 4]]


@native
@ALL
def test_a_sockets_ioctls_that_load_modules_or_ask_for_devices_are_refused(name):
    requests = [0x8905, 0x8912, 0x8914, 0x8927, 0x8933, 0x8940, 0x8946, 0x894C, 0x8982, 0x8983, 0x89B0, 0x89F0]
    left, right = socket.socketpair()
    right.send(b"xyz")
    if name == "default":  # it names a device, and loads nothing
        assert in_child(lambda: call("ioctl", left.fileno(), 0x8933, ctypes.create_string_buffer(b"lo", 40)))[0] == 0

    def deed():
        number = ctypes.create_string_buffer(8)
        return [[call("ioctl", left.fileno(), request | upper, ctypes.create_string_buffer(b"lo", 40))
                 for request in requests for upper in UPPER],
                call("ioctl", left.fileno(), 0x541B, number), struct.unpack("=i", number.raw[:4])[0]]

    assert in_child(deed, program(name))[0] == [[errno.ENOTTY] * len(requests) * 3, 0, 3]


@native
@ALL
def test_a_terminal_is_made_asked_set_and_controlled(name):
    def deed():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # that of TIOCNOTTY
        master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
        word, modes = ctypes.create_string_buffer(8), ctypes.create_string_buffer(64)
        made = [call("ioctl", master, 0x80045430, word), call("ioctl", master, 0x40045431, ctypes.create_string_buffer(4))]
        slave = fcntl.ioctl(master, 0x5441, os.O_RDWR | os.O_NOCTTY)  # TIOCGPTPEER
        return made + [call("ioctl", slave, request, argument) for request, argument in (
            (0x5401, modes), (0x5402, modes), (0x5403, modes), (0x5404, modes), (0x802C542A, modes), (0x402C542B, modes),
            (0x5413, word), (0x5414, word), (0x5411, word), (0x540B, 0), (0x540A, 1), (0x5424, word), (0x540E, 0),
            (0x540F, word), (0x5429, word), (0x5410, word), (0x5421, word), (0x5450, 0), (0x5451, 0), (0x5422, 0))]

    free, held = differing(deed, name)
    assert free == held == [0] * 22


@pytest.mark.parametrize("arch", policy.ARCHES)
@ALL
def test_every_ioctl_request_but_the_listed_ones_is_refused(name, arch):
    passing = set(request for _, names in tables.IOCTLS for request in names)
    table = policy.numbers(arch)
    code = bpf.decode(shipped.program(name, arch))

    def passes(request):
        return bpf.run(code, table.NR["ioctl"], table.AUDIT_ARCH, (0, request, 0, 0, 0, 0))[0] == bpf.ALLOW

    near = set(request ^ 1 << bit for request in passing for bit in range(32))
    for request in near | set(range(0x10000)) | passing:
        assert passes(request) == (request in passing), hex(request)


# Options and flags of sockets

@native
@ALL
def test_socket_options_pass_by_level_and_option(name):
    left, right = socket.socketpair()
    code = struct.pack("=HBBI", 6, 0, 0, 0xFFFFFFFF)  # RET: let every packet pass
    kept = ctypes.create_string_buffer(code, 8)
    attach = ctypes.create_string_buffer(struct.pack("=H6xQ", 1, ctypes.addressof(kept)), 16)
    one, size = ctypes.create_string_buffer(struct.pack("=i", 1), 4), ctypes.create_string_buffer(struct.pack("=i", 4), 4)

    def deed():
        fd = left.fileno()
        return [[call("setsockopt", fd, 1 | upper, 26 | upper, attach, 16) for upper in UPPER],
                [call("setsockopt", fd, 1, option, one, 4) for option in (25, 27, 36, 46, 50, 60, 83)],
                [call("setsockopt", fd, 6, 1, one, 4), call("getsockopt", fd, 6, 1, one, size)],  # TCP_NODELAY
                [call("getsockopt", fd, 1, option, one, size) for option in (26, 57, 71)],
                [call("setsockopt", fd, 1, option, one, 4) for option in (7, 8, 16)],
                [call("getsockopt", fd, 1, option, one, size) for option in (3, 4, 7, 30, 39)]]

    free, held = differing(deed, name)
    assert free[0] == [0] * 3 and free[4:] == [[0] * 3, [0] * 5]
    assert held == [[errno.ENOPROTOOPT] * 3, [errno.ENOPROTOOPT] * 7, [errno.EOPNOTSUPP] * 2, [errno.ENOPROTOOPT] * 3,
                    [0] * 3, [0] * 5]


@native
@ALL
def test_an_urgent_byte_is_refused_by_its_flag_in_every_call(name):
    left, right = socket.socketpair()
    right.send(b"x" * 8)

    def deed():
        word = ctypes.create_string_buffer(b"y", 8)
        vector = ctypes.create_string_buffer(struct.pack("=QQ", ctypes.addressof(word), 1), 16)
        message = ctypes.create_string_buffer(struct.pack("=QQQQQQQQ", 0, 0, ctypes.addressof(vector), 1, 0, 0, 0, 0), 64)

        def all_with(flags):
            return [call("sendto", left.fileno(), word, 1, flags, 0, 0), call("sendmsg", left.fileno(), message, flags),
                    call("sendmmsg", left.fileno(), message, 1, flags),
                    call("recvfrom", left.fileno(), word, 1, flags, 0, 0), call("recvmsg", left.fileno(), message, flags),
                    call("recvmmsg", left.fileno(), message, 1, flags, 0)]
        return [all_with(0x41), all_with(1 << 32 | 0x41), all_with(0x40)]

    assert in_child(deed, program(name))[0] == [[errno.EOPNOTSUPP] * 6, [errno.EOPNOTSUPP] * 6, [0] * 6]


# Whoever starves pid 1 outlives every deadline

ON_PID_1 = [("kill", 1, 0), ("tkill", 1, 0), ("tgkill", 1, 1, 0), ("tgkill", 77, 1, 0), ("rt_sigqueueinfo", 1, 0, 0),
            ("rt_tgsigqueueinfo", 1, 1, 0, 0), ("pidfd_open", 1, 0), ("sched_setscheduler", 1, 5, 0),
            ("sched_setparam", 1, 0), ("sched_setaffinity", 1, 8, 0), ("sched_setattr", 1, 0, 0), ("setpriority", 0, 1, 19),
            ("setpriority", 1, 0, 19), ("setpriority", 1, 1, 19), ("setpriority", 2, 0, 19), ("ioprio_set", 1, 1, 0),
            ("ioprio_set", 2, 0, 0), ("ioprio_set", 3, 0, 0), ("prlimit64", 1, 0, 0, 0), ("fcntl", 0, 8, 1),
            ("fcntl", 0, 8, 0xFFFFFFFF), ("get_robust_list", 1, 0, 0)]
ON_PID_1 += [("prlimit64", 1, limit, 0, 0) for limit in range(1, 16)]
ON_OTHERS = [("kill", 77, 0), ("tkill", 77, 0), ("tgkill", 77, 78, 0), ("rt_sigqueueinfo", 77, 0, 0), ("pidfd_open", 77, 0),
             ("sched_setscheduler", 0, 5, 0), ("sched_setaffinity", 77, 8, 0), ("sched_setattr", 0, 0, 0),
             ("setpriority", 0, 0, 19), ("setpriority", 0, 77, 19), ("ioprio_set", 1, 0, 0), ("prlimit64", 77, 0, 0, 0),
             ("fcntl", 0, 8, 77), ("kill", 0xFFFFFFFF, 0)]


@pytest.mark.parametrize("arch", policy.ARCHES)
@ALL
def test_no_call_acts_on_pid_1_or_on_groups_and_users(name, arch):
    for call_name, *args in ON_PID_1:
        for upper in UPPER:
            vector = [value | upper for value in args]
            assert answer(name, arch, call_name, *vector) == "EPERM", (call_name, vector)
    assert answer(name, arch, "fcntl", 0, 15, 0) in ("EINVAL", "EPERM")  # F_SETOWN_EX
    assert answer(name, arch, "prctl", 62, 1, 1, 0, 0) == "EINVAL"  # PR_SCHED_CORE
    if not name.startswith("process"):
        for call_name, *args in ON_OTHERS:
            assert answer(name, arch, call_name, *args) == "allow", (call_name, args)


SCHEDULING = """
import ctypes, errno, os, struct
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    result = libc.syscall(*[ctypes.c_long(number)] + [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    return 0 if result >= 0 else errno.errorcode[ctypes.get_errno()]
mask = ctypes.create_string_buffer(128)
libc.sched_getaffinity(0, 128, mask)
zero = ctypes.create_string_buffer(16)
idle = ctypes.create_string_buffer(struct.pack("=IIQiIQQQ", 48, 5, 0, 0, 0, 0, 0, 0), 48)
def tries(pid, group):
    return [call(%(sched_setscheduler)d, pid, 5, zero), call(%(sched_setaffinity)d, pid, 128, mask),
            call(%(sched_setattr)d, pid, idle, 0), call(%(setpriority)d, *(group or (0, pid)), 19),
            call(%(ioprio_set)d, *((3, 0) if group else (1, pid)), 3 << 13)]
own = os.fork()
if not own:
    os.read(os.pipe()[0], 1)
print(tries(1, None), tries(1, (2, 0))[3:], tries(own, None), call(%(prctl)d, 62, 0, 1, 0, 0), call(%(prctl)d, 15, b"name"))
os.kill(own, 9)
"""


@pytest.mark.also_vm
def test_a_program_can_not_starve_pid_1(inside):
    done = inside.python(SCHEDULING % {name: NR[name] for name in (
        "sched_setscheduler", "sched_setaffinity", "sched_setattr", "setpriority", "ioprio_set", "prctl")})
    assert done.out == "%r %r %r EINVAL 0\n" % (["EPERM"] * 5, ["EPERM"] * 2, [0] * 5), done


# Core dumps

CORE = """
import ctypes, errno, resource, struct
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(*[ctypes.c_long(number)] + [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    return result if result >= 0 else errno.errorcode[ctypes.get_errno()]
none = ctypes.create_string_buffer(struct.pack("=QQ", 0, 0), 16)
old = ctypes.create_string_buffer(16)
before = resource.getrlimit(resource.RLIMIT_CORE)
few = ctypes.create_string_buffer(struct.pack("=QQ", 77, 77), 16)
found = [call(%(setrlimit)d, 4, none), call(%(setrlimit)d, 4 | 1 << 32, none), call(%(prlimit64)d, 0, 4, none, 0),
         call(%(prlimit64)d, 0, 4 | 1 << 32, none, 0), call(%(prlimit64)d, 0, 4, none, old)]
assert resource.getrlimit(resource.RLIMIT_CORE) == before
print(found, call(%(prlimit64)d, 0, 4, 0, old), struct.unpack("=QQ", old.raw) == before, call(%(prlimit64)d, 0, 7, few, 0),
      resource.getrlimit(resource.RLIMIT_NOFILE))
"""
HELD = "[0, 0, 0, 0, 'EPERM'] 0 True 0 (77, 77)\n"


@pytest.fixture
def core():
    """The program that tries to change the limit for core dumps, and then one that it may change."""
    return CORE % {name: NR[name] for name in ("setrlimit", "prlimit64")}


@pytest.mark.also_vm
def test_the_limit_for_core_dumps_can_not_be_changed(inside, core):
    free = inside.outside(["prlimit", "--core=1", "/usr/bin/python3", "-I", "-S", "-c", core])
    assert "AssertionError" in free.stderr, free
    assert inside.python(core).out == HELD


@pytest.mark.parametrize("options", [["--seccomp", "strict"], ["--seccomp", "debug"], ["--tier", "process"],
                                     ["--seccomp-add", "setrlimit", "--seccomp-add", "prlimit64"], ["--seccomp", "FILE"],
                                     ["--seccomp", "FILE", "--rw", "DIRECTORY"], ["--ledger=none"]],
                         ids=lambda options: " ".join(options))
def test_with_every_policy_the_limit_for_core_dumps_stays(inside, core, options):
    folder = os.path.join(inside.scratch, "w")
    os.mkdir(folder)
    if os.geteuid() == 0:
        os.chown(folder, USER, USER)
    path = os.path.join(inside.scratch, "everything.policy")
    with open(path, "w") as stream:
        stream.write('{"defaultAction": "SCMP_ACT_ALLOW"}')
    done = inside.python(core, options=[{"FILE": path, "DIRECTORY": folder + ":/data"}.get(word, word) for word in options])
    assert done.out == HELD, done


def test_while_learning_the_limit_for_core_dumps_stays(inside, core):
    target = os.path.join(inside.scratch, "learned.policy")
    done = inside.outside([PYTHON, inside.tool, "policy", "learn", "-q", "-o", target, "--", "/usr/bin/python3", "-I", "-S",
                           "-c", core])
    assert done.stdout == HELD, done


@native
@pytest.mark.parametrize("arch", policy.ARCHES)
def test_the_filter_beside_a_policy_decides_nothing_but_the_limit(arch):
    table, code = policy.numbers(arch), bpf.decode(shipped.core_program(arch))
    own = policy.policy("default", arch)
    for number in range(1024):
        value = bpf.run(code, number, table.AUDIT_ARCH, (0,) * 6)[0]
        assert value == bpf.ALLOW
    for call_name, vectors in (("setrlimit", [(4, 9), (4 | 1 << 32, 9), (5, 9)]),
                               ("prlimit64", [(2, 4, 9, 0), (2, 4, 1 << 32, 0), (2, 4, 9, 9), (2, 4, 0, 9), (2, 5, 9, 9)])):
        for vector in vectors:
            full = vector + (0,) * (6 - len(vector))
            assert bpf.run(code, table.NR[call_name], table.AUDIT_ARCH, full)[0] == bpf.run(
                shipped.program("default", arch), table.NR[call_name], table.AUDIT_ARCH, full)[0], vector
    assert own.rules[table.NR["setrlimit"]]


@pytest.mark.parametrize("command, wanted", [
    (["gpg", "--homedir", "/tmp", "--batch", "--gen-random", "--armor", "1", "3"], ""),
    (["ssh-agent", "true"], ""), (["bash", "-c", "ulimit -c 0 && ulimit -c"], "0\n")], ids=lambda words: words and words[0])
def test_programs_that_forbid_their_core_dumps_go_on(inside, command, wanted):
    done = inside.run(*command)
    assert done.rc == 0 and "core" not in done.err and wanted in done.out, done


# Locks, leases, watching, merging

@native
@ALL
def test_strict_takes_no_record_locks_and_nobody_a_lease(name):
    lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 1, 0)

    def deed():
        with tempfile.NamedTemporaryFile() as stream:
            fd, row = stream.fileno(), ctypes.create_string_buffer(lock, 32)
            found = [call("fcntl", fd, command | upper, row) for command in (6, 0x25) for upper in UPPER]
            with open(stream.name) as reader:
                os.close(os.dup(fd))
                leases = [call("fcntl", reader.fileno(), 0x400, fcntl.F_UNLCK), call("fcntl", reader.fileno(), 0x402, 0)]
            return [found, leases, call("flock", fd, fcntl.LOCK_EX), call("fcntl", fd, fcntl.F_GETFL),
                    call("fcntl", fd, fcntl.F_SETFD, 1), call("fcntl", fd, 0x404, 0)]

    free, held = differing(deed, name)
    assert free[0] == [0] * 6 and free[2:5] == held[2:5] == [0] * 3
    assert held[0] == [errno.ENOLCK if name == "strict" else 0] * 6
    assert held[1] == [errno.EINVAL] * 2 and free[1] != held[1]


@native
@pytest.mark.parametrize("name, watched", [("default", 0), ("strict", errno.ENOSYS)])
def test_strict_watches_no_directory(name, watched):
    assert differing(lambda: call("inotify_init1", 0), name) == (0, watched)


@native
@ALL
def test_pages_are_merged_with_nobodys(name):
    def deed():
        page = ctypes.create_string_buffer(8192)
        at = ctypes.addressof(page) + 4095 & ~4095
        return [call("madvise", at, 4096, 12), call("madvise", at, 4096, 12 | 1 << 32), call("prctl", 67, 1, 0, 0, 0),
                call("madvise", at, 4096, 3), call("prctl", 15, b"name", 0, 0, 0)]

    assert in_child(deed, program(name))[0] == [errno.EINVAL] * 3 + [0, 0]


@native
@ALL
def test_no_policy_has_posix_message_queues(name):
    assert differing(lambda: call("mq_unlink", b"mrunc-test-none"), name) == (errno.ENOENT, errno.ENOSYS)
