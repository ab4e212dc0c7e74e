# SPDX-License-Identifier: Apache-2.0
"""The tiny init, driven outside any sandbox: what it promises a supervisor, and what a workload tries against it.

The image of this machine runs as it is, that of the other architecture under qemu-user.  Workloads wait on their standard
input and tell on their standard output, which is also how their end is seen: its end of file means that nobody is left.
"""
import ctypes
import errno
import faulthandler
import fcntl
import importlib.util
import os
import pty
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback

import pytest

from conftest import IN_VM
from mrunc.sandbox import init

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NATIVE = os.uname().machine
KERNEL = tuple(map(int, os.uname().release.split("-")[0].split(".")[:2]))
MACHINES = ("x86_64", "aarch64")
EMULATED = [] if IN_VM else [machine for machine in MACHINES if machine != NATIVE]  # a virtual machine is the other machine itself
DEADLINE = 120     # seconds until a hang is called one; no test measures time
CONTROL, RULESET = 9, 8
ROOM = 4 << 20
FORWARDED = [getattr(signal, "SIG" + name) for name in ("HUP", "INT", "QUIT", "USR1", "USR2", "TERM")]
SIGNALS = set(range(1, 65)) - {32, 33}      # those are the C library's own
CAT = ["/bin/cat", "cat"]
libc = ctypes.CDLL(None, use_errno=True)


def load(path):
    spec = importlib.util.spec_from_file_location(os.path.basename(path)[:-3], os.path.join(ROOT, path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


freeze = load(".ci/freeze_init.py")


def sh(script):
    return ["/bin/sh", "sh", "-c", script]


def python(script):
    return [sys.executable, "python", "-S", "-E", "-c", "import os, resource, signal, sys, time\n" + script]


def status_of(pid):
    with open("/proc/%d/status" % pid) as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def stat_of(pid):
    """The fields of /proc/PID/stat after the name: state, ppid, pgrp, session, tty_nr, ..."""
    with open("/proc/%d/stat" % pid) as file:
        return file.read().rpartition(")")[2].split()


def children_of(pid):
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = stat_of(int(name))
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append((int(name), fields[0]))
    return found


def until(condition):
    """Where there is no event to wait for; the alarm is the deadline."""
    while not condition():
        time.sleep(.001)


def call(number, *args):
    result = libc.syscall(number, *args)
    if result < 0:
        raise OSError(ctypes.get_errno(), "system call %d" % number)
    return result


def refuse(name):
    """From here on one system call is EPERM."""
    number = NR[name][MACHINES.index(NATIVE)]
    code = struct.pack("=" + "HBBI" * 4, 0x20, 0, 0, 0, 0x15, 0, 1, number, 6, 0, 0, 0x50001, 6, 0, 0, 0x7fff0000)
    code = ctypes.create_string_buffer(code)
    program = ctypes.create_string_buffer(struct.pack("=HxxxxxxQ", 4, ctypes.addressof(code)))
    if libc.prctl(22, 2, program, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def message(paths, argv, env=None, terminal=False):
    """The go, in packets."""
    env = ["%s=%s" % item for item in (env or {}).items()]
    return init.go(*[list(map(os.fsencode, strings)) for strings in (paths, argv, env)], terminal=terminal)


class Init:
    """One init and its supervisor's ends: control socket, the workload's standard input and output."""

    def __init__(self, command, argv, env=None, armed=True, tty=None, ruleset=None, before=None, namespace=False,
                 kill_all=False):
        self.message = message(argv[:1], argv[1:], env, tty is not None)
        self.control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stdin, self.stdin = os.pipe()
        self.stdout, stdout = os.pipe()
        ends = [stdin if tty is None else tty, stdout, control.fileno(), os.open(command[-1], os.O_RDONLY)]
        self.pid = os.fork()
        if not self.pid:
            try:
                ends = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in ends]
                for fd in set(map(int, os.listdir("/proc/self/fd"))) - set(ends) - {0, 1, 2}:
                    os.closerange(fd, fd + 1)   # the one of the listing is closed already
                if namespace or kill_all:
                    enter_pid_namespace(ends, kill_all)
                self.become(command, ends, armed, ruleset, before, kill_all)
            except BaseException:
                os.write(2, traceback.format_exc().encode())
            finally:
                os._exit(99)
        for fd in (stdin, stdout, ends[3]):
            os.close(fd)
        control.close()

    def become(self, command, ends, armed, ruleset, before, kill_all=False):
        for fd, number in zip(ends, (0, 1, CONTROL)):
            os.dup2(fd, number)
        if ruleset is not None:
            os.dup2(ruleset(), RULESET)
        for number in SIGNALS - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        for option in (36, 38):             # subreaper, as pid 1 is by birth; no_new_privs
            assert libc.prctl(option, 1, 0, 0, 0) == 0
        signal.pthread_sigmask(signal.SIG_SETMASK, SIGNALS)  # first: the go may be under way already, and SIGIO kills
        if armed:
            fcntl.fcntl(CONTROL, fcntl.F_SETOWN, os.getpid())
            fcntl.fcntl(CONTROL, fcntl.F_SETFL, fcntl.fcntl(CONTROL, fcntl.F_GETFL) | os.O_ASYNC)
        name = init.argv0(CONTROL, None if ruleset is None else RULESET, kill_all)
        if before:
            before()
        if command[1:]:
            os.execve(command[0], command[:-1] + ["-0", name, command[-1]], {})
        os.execve(ends[3], [name], {})

    def record(self):
        while True:
            try:
                packet = self.control.recv(4096)
            except ConnectionResetError:    # once, where init left a packet unread; its own records come after it
                continue
            return init.parse_record(packet) if packet else None

    def let_go(self):
        for packet in self.message:
            self.control.send(packet)

    def let_go_with(self, fds):
        for packet in self.message[:-1]:
            self.control.send(packet)
        self.control.sendmsg([self.message[-1]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("%di" % len(fds), *fds))])

    def go(self):
        assert self.record() == (init.READY, None)
        self.let_go()
        return self

    def hear(self):
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self.stdout, 1)
            assert byte, "the workload ended, having said %r" % line
            line += byte
        return line[:-1].decode()

    def up(self):
        """The workload runs: it is a cat or says so itself."""
        self.say("up")
        assert self.hear() == "up"
        return self

    def hang_up(self):
        os.close(self.stdin)
        self.stdin = -1

    def say(self, line):
        os.write(self.stdin, line.encode() + b"\n")

    def wait(self):
        """Init's exit code, or the negative signal."""
        pid, self.pid = self.pid, None
        status = os.waitpid(pid, 0)[1]
        return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)

    def end(self):
        """([values of the records left], init's exit code); the last record's usage stays in self.usage."""
        values = []
        for value, self.usage in iter(self.record, None):
            values.append(value)
        return values, self.wait()

    def everyone_is_gone(self):
        while os.read(self.stdout, 4096):
            pass
        return True

    def workload(self):
        (pid, _state), = children_of(self.pid)
        return pid

    def clean_up(self):
        if self.pid:
            for pid, _state in children_of(self.pid) + [(self.pid, "")]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass  # reaped by init in between
            self.wait()
        self.control.close()
        for fd in (self.stdin, self.stdout):
            if fd >= 0:
                os.close(fd)


def enter_pid_namespace(ends, below=False):
    """Goes on as pid 1 of a new one, or as a child of it, which waits until nobody is left; the process between ends as that
    does, and with it."""
    if libc.unshare(0x30000000):    # NEWUSER | NEWPID
        raise OSError(ctypes.get_errno(), "unshare")
    pid = os.fork()
    if pid:
        for fd in ends + [0, 1]:
            os.close(fd)
        status = os.waitpid(pid, 0)[1]
        os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
    assert libc.prctl(1, signal.SIGKILL, 0, 0, 0) == 0
    pid = os.fork() if below else 0
    if pid:
        for fd in ends + [0, 1]:
            os.close(fd)
        code = 99
        try:
            while True:
                ended, status = os.wait()
                code = os.WEXITSTATUS(status) if ended == pid else code
        except ChildProcessError:
            os._exit(code)


@pytest.fixture(autouse=True)
def alone():
    faulthandler.cancel_dump_traceback_later()  # pytest's own watchdog is a thread, and we fork
    until(lambda: len(os.listdir("/proc/self/task")) == 1)


def starter(machine, folder):
    """(start, [all that were started])"""
    image = os.path.join(str(folder), machine)
    with open(image, "wb") as file:
        file.write(init.image(machine, ROOM))
    os.chmod(image, 0o755)
    command = [image]
    if machine != NATIVE:
        emulator = shutil.which("qemu-" + machine)
        assert emulator, "qemu-%s is missing: apt-get install qemu-user" % machine
        command = [emulator, image]
    started = []

    def start(argv, **options):
        started.append(Init(command, argv, **options))
        return started[-1]
    return start, started


@pytest.fixture(params=[NATIVE] + EMULATED)
def start(request, tmp_path):
    start, started = starter(request.param, tmp_path)
    start.native = request.param == NATIVE
    yield start
    for one in started:
        one.clean_up()


@pytest.fixture
def start_native(tmp_path):
    """For what an emulator does in init's stead, or is not able to do."""
    start, started = starter(NATIVE, tmp_path)
    yield start
    for one in started:
        one.clean_up()


# ------------------------------------------------------------------ the image and the helpers
@pytest.mark.parametrize("machine", MACHINES)
def test_the_frozen_bytes_are_what_the_listing_assembles_to(machine):
    assert init.IMAGE[machine] == freeze.assemble(machine)


def test_the_freezing_script_would_change_nothing():
    with open(os.path.join(ROOT, "sandbox/init.py")) as file:
        assert freeze.literal() in file.read()


@pytest.mark.parametrize("machine, number", [("x86_64", 62), ("aarch64", 183)])
def test_the_image_loads_with_pages_of_any_size_and_no_executable_stack(machine, number):
    image = init.IMAGE[machine]
    assert len(image) <= 1024
    kind, arch, _version, entry, offset = struct.unpack_from("<HHIQQ", image, 16)
    size, count, sections = struct.unpack_from("<HHxxH", image, 54)
    assert (kind, arch, offset, size, count, sections) == (2, number, 64, 56, 3, 0)
    load, room, stack = [struct.unpack_from("<IIQQQQQQ", image, offset + i * size) for i in range(count)]
    assert load == (1, 5, 0, 0x400000, 0x400000, len(image), len(image), 0x10000)
    assert room == (1, 6, 0, init.ROOM, init.ROOM, 0, 0x10000, 0x10000)
    assert init.ROOM % 0x10000 == 0 and 0x400000 + len(image) <= init.ROOM
    assert init.image(machine, 0x123000) == image.replace(struct.pack("<QQ", 0x10000, 0x10000), struct.pack("<QQ", 0x123000, 0x10000), 1)
    assert stack[:2] == (0x6474e551, 6)
    assert 0x400000 + offset + count * size <= entry < 0x400000 + len(image)


def test_argv0_is_two_or_three_bytes_and_never_holds_a_nul():
    assert init.argv0(9) == b"\x09-"
    assert init.argv0(255) == b"\xff-"
    assert init.argv0(9, 10) == b"\x09-\x0a"
    assert init.argv0(9, 10, kill_all=True) == b"\x09k\x0a"
    for numbers in [(0, None), (256, None), (9, 0), (9, 256), (9, 9)]:
        with pytest.raises(ValueError):
            init.argv0(numbers[0], numbers[1])


def test_records_are_told_apart_and_others_refused():
    assert init.parse_record(struct.pack("=i", -4096)) == (init.READY, None)
    assert init.parse_record(struct.pack("=i", -2)) == (-2, None)
    status, usage = init.parse_record(struct.pack("=ii18q", 7 << 8, 0, 1, 500000, 2, 250000, *range(14)))
    assert (status, usage.ru_utime, usage.ru_stime, usage.ru_maxrss, usage.ru_inblock, usage.ru_oublock, usage[15]) == (
        7 << 8, 1.5, 2.25, 0, 7, 8, 13)
    for packet in (b"", b"abc", bytes(5), bytes(151), bytes(153), struct.pack("=i", 0), struct.pack("=i", -4097),
                   b"\xff" * 152):
        with pytest.raises(ValueError):
            init.parse_record(packet)
    assert [init.exit_code(status) for status in (0, 7 << 8, 9, 11 | 128)] == [0, 7, 137, 139]


def test_nothing_is_forked_beside_the_thread_of_pytest_s_watchdog():
    """As in a virtual machine, where each test has one."""
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=300",
                           "-k", "exit_code_is_the_workloads and 255", __file__], cwd=ROOT, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, universal_newlines=True, timeout=DEADLINE)
    assert done.returncode == 0 and " passed" in done.stdout and "warning" not in done.stdout, done.stdout


# ------------------------------------------------------------------ the workload's start
@pytest.mark.also_vm
@pytest.mark.parametrize("code", [0, 1, 7, 125, 255])
def test_the_exit_code_is_the_workloads(start, code):
    assert start(sh("exit %d" % code)).go().end() == ([code << 8], code)


@pytest.mark.also_vm
@pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV", "USR1"])
def test_the_exit_code_of_a_killed_workload_is_128_and_the_signal(start, name):
    number = getattr(signal, "SIG" + name)
    limit = [resource.RLIMIT_CORE, (0, 0)]
    one = start(sh("kill -%s $$" % name), before=lambda: resource.setrlimit(*limit)).go()
    assert one.end() == ([number], 128 + number)


@pytest.mark.also_vm
def test_a_workload_that_cannot_be_executed_is_reported_by_errno(start, tmp_path):
    text = tmp_path / "text"
    text.write_text("not a program")
    text.chmod(0o755)
    for path, error in [("/nonexistent", errno.ENOENT), ("/etc/passwd", errno.EACCES), ("/", errno.EACCES),
                        ("/etc/passwd/x", errno.ENOTDIR), (str(text), errno.ENOEXEC), ("", errno.ENOENT)]:
        assert start([path, "x"]).go().end() == ([-error, 125 << 8], 125), path


def test_a_workload_with_too_many_arguments_is_e2big(start_native, tmp_path):
    script = tmp_path / ("long" * 50)
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)

    def outcome(length):
        limit = [resource.RLIMIT_STACK, (1 << 19, resource.RLIM_INFINITY)]
        return start_native([str(script), "x", "y" * 50000, "z" * (length - 50000)],
                            before=lambda: resource.setrlimit(*limit)).go().end()

    assert outcome(60000) == ([0], 0)
    assert outcome(140000) == ([-errno.E2BIG, 125 << 8], 125)


def test_arguments_and_environment_arrive_byte_for_byte(start):
    argv = ["any name", "/proc/self/cmdline", "/proc/self/environ"]
    env = {"A": "B", "EMPTY": "", "LINES": "1\n2", "NOT_UTF8": os.fsdecode(b"\xff\xfe")}
    one = start(["/bin/cat"] + argv, env=env).go()
    out = b"".join(iter(lambda: os.read(one.stdout, 4096), b""))
    parts = argv + ["%s=%s" % item for item in env.items()]
    assert out == b"".join(os.fsencode(part) + b"\0" for part in parts)
    assert one.end() == ([0], 0)


def test_a_workload_without_arguments_or_environment_starts(start):
    assert start(["/bin/true", ""]).go().end() == ([0], 0)


@pytest.mark.also_vm
def test_the_workload_has_clean_signals_its_own_session_and_three_descriptors(start):
    one = start(CAT)
    assert one.record() == (init.READY, None)
    assert str(CONTROL) in os.listdir("/proc/%d/fd" % one.pid)
    one.let_go()
    pid = one.up().workload()
    status, stat = status_of(pid), stat_of(pid)
    assert {int(status[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd")} == {0}
    assert stat[2:5] == [str(pid), str(pid), "0"]       # process group, session, terminal
    assert sorted(os.listdir("/proc/%d/fd" % pid)) == ["0", "1", "2"]


@pytest.mark.parametrize("terminal", [True, False])
def test_the_terminal_is_the_workloads_only_when_asked_for(start_native, terminal):
    master, slave = pty.openpty()
    one = start_native(sh("echo up; read x"), tty=slave if terminal else None).go()
    assert one.hear() == "up"
    assert (stat_of(one.workload())[4] != "0") is terminal
    if terminal:
        os.write(master, b"\x03")
        assert one.end() == ([signal.SIGINT], 128 + signal.SIGINT)
    os.close(master)
    os.close(slave)


def test_a_terminal_that_is_none_is_an_error(start_native):
    with open(os.devnull) as null:
        assert start_native(CAT, tty=null.fileno()).go().end() == ([-errno.ENOTTY, 125 << 8], 125)


@pytest.mark.also_vm
def test_init_can_be_read_back_at_the_gate_and_no_longer_after_it(start_native):
    """Root reads everything: as root it becomes somebody first.  The owner of the files in /proc/PID tells."""
    def owner(pid):
        return os.stat("/proc/%d/environ" % pid).st_uid
    user = os.getuid() or 65534
    one = start_native(CAT, before=lambda: os.getuid() or os.setresuid(user, user, user))
    assert one.record() == (init.READY, None)
    assert owner(one.pid) == user
    assert os.readlink("/proc/%d/exe" % one.pid).endswith(NATIVE)
    one.let_go()
    one.up()
    assert owner(one.pid) == 0
    assert owner(one.workload()) == user


# ------------------------------------------------------------------ the gate
MESSAGE = message(["/bin/echo"], ["echo", "ran"])[0]


@pytest.mark.parametrize("packets", [
    [], [b""], [b"g"], [init.GO], [b"stop"], [bytes(152)], [bytes(32)], [b"\xff" * 64], [MESSAGE[:-1]], [MESSAGE + b"!"],
    [MESSAGE[:4] + b"gone" + MESSAGE[8:]], [MESSAGE[:7], MESSAGE[7:]], [MESSAGE[:40], b""], [MESSAGE[:40], MESSAGE[40:] + b"!"],
    [struct.pack("<I", ROOM + 4096) + MESSAGE[4:]] + [bytes(init.PACKET)] * (ROOM // init.PACKET),
    [MESSAGE.ljust(init.PACKET + 1, b"!")]], ids=lambda packets: "%d,%d" % (len(packets), sum(map(len, packets))))
def test_nothing_runs_without_exactly_a_go(start, packets):
    """Whatever the supervisor sends before its end; a packet that is too long is cut."""
    one = start(CAT)
    assert one.record() == (init.READY, None)
    try:
        for packet in packets:
            one.control.send(packet)
    except BrokenPipeError:     # it has left already
        pass
    one.control.shutdown(socket.SHUT_WR)
    assert one.everyone_is_gone() and one.wait() == 125


def test_the_go_comes_in_as_many_packets_as_it_needs(start):
    argv = ["/bin/sh", "sh", "-c", "printf '%s ' $# ${#1} ${#2} ${64}; printf %s \"$BIG\" | wc -c"]
    one = start(argv + ["sh", "x" * 1000, "y" * 100000] + list(map(str, range(3, 1000))), env={"BIG": "z" * 90000})
    assert len(one.message) > 5
    assert one.go().hear().split() == ["999", "1000", "100000", "64", "90000"]
    assert one.end() == ([0], 0)


def test_the_first_path_that_can_be_executed_is(start, tmp_path):
    (tmp_path / "data").write_text("no program")
    one = start(CAT)
    one.message = message(["/nonexistent/cat", "/etc/passwd/cat", str(tmp_path / "data"), "/", "/bin/cat", "/bin/false"], ["cat"])
    one.go().up().hang_up()
    assert one.end() == ([0], 0)
    one = start(CAT)
    one.message = message(["/", "/nonexistent/cat"], ["cat"])
    assert one.go().end() == ([-errno.ENOENT, 125 << 8], 125)


@pytest.mark.parametrize("which", [8, 16, 24, 32, 48])
def test_an_address_in_the_go_that_leads_nowhere_is_the_kernels_to_refuse(start_native, which):
    one = start_native(CAT, before=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
    data = bytearray(MESSAGE)
    data[which:which + 8] = struct.pack("<Q", 0x10000)
    one.message = [bytes(data)]
    killed = signal.SIGSEGV     # in the workload's process
    assert one.go().end() == (([killed], 128 + killed) if which == 8 else ([-errno.EFAULT, 125 << 8], 125))


def test_descriptors_that_come_with_the_go_are_the_workloads_three(start):
    read, write = os.pipe()
    elsewhere, other = os.pipe()
    one = start(sh("cat; echo err >&2; ls /proc/self/fd | wc -l"), env={"PATH": "/usr/bin:/bin"})
    assert one.record() == (init.READY, None)
    one.let_go_with([read, other, other])
    for fd in (read, other):
        os.close(fd)
    os.write(write, b"in\n")
    os.close(write)
    assert one.end() == ([0], 0)
    assert os.read(elsewhere, 100) == b"in\nerr\n4\n" and os.read(elsewhere, 1) == b""
    os.close(elsewhere)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_nothing_runs_with_another_number_of_descriptors(start, count):
    with open(os.devnull) as null:
        one = start(CAT)
        assert one.record() == (init.READY, None)
        one.let_go_with([null.fileno()] * count)
    assert one.everyone_is_gone() and one.wait() == 125


@pytest.mark.also_vm
def test_nothing_runs_before_the_go(start):
    one = start(sh("echo ran"))
    assert one.record() == (init.READY, None)
    until(lambda: stat_of(one.pid)[0] == "S")
    assert children_of(one.pid) == []
    one.let_go()
    assert one.hear() == "ran"


# ------------------------------------------------------------------ signals
SIGWAIT = python("""
wanted = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
print(flush=True)
while sys.stdin.readline():
    print(int(signal.sigwait(wanted)), signal.sigpending(), flush=True)
""")


@pytest.mark.parametrize("number", FORWARDED)
def test_a_signal_is_handed_on_as_it_is_and_once(start, number):
    one = start(SIGWAIT).go()
    one.hear()
    for _ in range(3):
        os.kill(one.pid, number)
        one.say("next")
        assert one.hear() == "%d set()" % number
    one.hang_up()
    assert one.end() == ([0], 0)


@pytest.mark.parametrize("number", FORWARDED)
def test_a_signal_that_comes_before_the_go_reaches_the_workload(start, number):
    limit = [resource.RLIMIT_CORE, (0, 0)]
    one = start(CAT, before=lambda: resource.setrlimit(*limit))
    assert one.record() == (init.READY, None)
    os.kill(one.pid, number)
    one.let_go()
    assert one.end() == ([number], 128 + number)


@pytest.mark.parametrize("by", ["signal", "packet"])
def test_a_signal_reaches_the_whole_process_group(start, by):
    """A shell that waits for its child ends only if the child does, or if it is told as well."""
    one = start(sh("trap 'echo told; exit 3' INT; sh -c 'trap \"echo child; exit 7\" INT; echo up; sleep 1000 & wait'; "
                   "echo still; exit 4"))
    one.go()
    assert one.hear() == "up"
    if by == "signal":
        os.kill(one.pid, signal.SIGINT)
    else:
        one.control.send(bytes([signal.SIGINT]))
    assert sorted([one.hear(), one.hear()]) == ["child", "told"]
    assert one.end() == ([3 << 8], 3)


def test_a_signal_leaves_other_process_groups_alone(start):
    one = start(sh("setsid sh -c 'echo $$; exec sleep 1000' & read x; exit 5")).go()
    other = int(one.hear())
    one.control.send(bytes([signal.SIGTERM]))
    assert one.end()[0] == [signal.SIGTERM]
    assert stat_of(other)[0] in "RS"
    os.kill(other, signal.SIGKILL)


def test_a_packet_stops_and_continues_the_workload(start):
    one = start(sh("sleep 1000 & echo $!; read x; exit 5")).go()
    child = int(one.hear())
    one.control.send(bytes([signal.SIGSTOP]))
    until(lambda: {stat_of(pid)[0] for pid in (one.workload(), child)} == {"T"})
    one.control.send(bytes([signal.SIGCONT]))
    until(lambda: stat_of(child)[0] == "S" and stat_of(one.workload())[0] == "S")
    os.kill(child, signal.SIGKILL)
    one.hang_up()
    assert one.end() == ([5 << 8], 5)


def test_other_signals_do_nothing(start_native):
    one = start_native(CAT).go().up()
    for number in SIGNALS - set(FORWARDED) - {signal.SIGKILL, signal.SIGSTOP}:
        os.kill(one.pid, number)
    one.up().hang_up()
    assert one.end() == ([0], 0)


def test_a_stopped_workload_is_no_ended_one(start):
    one = start(sh("kill -STOP $$; echo on; exit 5")).go()
    until(lambda: [state for _pid, state in children_of(one.pid)] == ["T"])
    os.kill(one.pid, signal.SIGCHLD)
    os.kill(one.workload(), signal.SIGCONT)
    assert one.hear() == "on"
    assert one.end() == ([5 << 8], 5)


@pytest.mark.parametrize("where", ["gate", "loop"])
def test_init_goes_on_after_it_was_stopped(start, where):
    one = start(CAT)
    assert one.record() == (init.READY, None)
    if where == "loop":
        one.let_go()
        one.up()
    for _ in range(3):
        os.kill(one.pid, signal.SIGSTOP)
        assert os.WIFSTOPPED(os.waitpid(one.pid, os.WUNTRACED)[1])
        os.kill(one.pid, signal.SIGCONT)
        assert os.WIFCONTINUED(os.waitpid(one.pid, os.WCONTINUED)[1])
    if where == "gate":
        one.let_go()
    one.up().hang_up()
    assert one.end() == ([0], 0)


# ------------------------------------------------------------------ reaping and the final record
ORPHANS = """
def orphan(deed):
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        if not os.fork():
            os.write(tell, b"%d %d" % (os.getpid(), deed() or 0))
        os._exit(0)
    os.waitpid(child, 0)
    pid, result = map(int, os.read(told, 99).split())
    try:
        while True:             # no event tells that somebody else has reaped it
            os.kill(pid, 0)
            time.sleep(.001)
    except ProcessLookupError:
        return result

def big():
    memory = b"x" * (64 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
"""


def test_orphans_are_reaped_while_the_workload_runs(start):
    one = start(python(ORPHANS + """
for _ in range(50):
    orphan(int)
print(flush=True)
sys.stdin.readline()
sys.exit(3)""")).go()
    one.hear()
    assert len(children_of(one.pid)) == 1
    one.hang_up()
    assert one.end() == ([3 << 8], 3)


@pytest.mark.also_vm
def test_orphans_that_end_together_leave_no_zombie(start):
    """One SIGCHLD stands for all of them."""
    one = start(python("""
told, tell = os.pipe()
for _ in range(20):
    child = os.fork()
    if not child:
        if not os.fork():
            os.close(tell)
            os.read(told, 1)
        os._exit(0)
    os.waitpid(child, 0)
print(flush=True)
sys.stdin.readline()
os.close(tell)
sys.stdin.readline()""")).go()
    one.hear()
    assert len(children_of(one.pid)) == 21
    os.kill(one.pid, signal.SIGSTOP)
    assert os.WIFSTOPPED(os.waitpid(one.pid, os.WUNTRACED)[1])
    one.say("end them")
    until(lambda: [state for _pid, state in children_of(one.pid)].count("Z") == 20)
    os.kill(one.pid, signal.SIGCONT)
    until(lambda: len(children_of(one.pid)) == 1)
    one.hang_up()
    assert one.end() == ([0], 0)


def test_the_usage_has_what_the_workload_waited_for_and_no_orphan(start):
    one = start(python(ORPHANS + "print(orphan(big), flush=True)")).go()
    assert int(one.hear()) >= 64 << 10
    assert one.end() == ([0], 0)
    assert 1 << 10 < one.usage.ru_maxrss < 64 << 10
    one = start(python(ORPHANS + "sys.exit(os.fork() and os.wait()[1] or big() * 0)")).go()
    assert one.end() == ([0], 0)
    assert one.usage.ru_maxrss >= 64 << 10


def test_the_usage_is_what_the_workload_itself_saw(start):
    one = start(python("""
while time.process_time() < .05:
    pass
usage = resource.getrusage(resource.RUSAGE_SELF)
print(*usage, flush=True)""")).go()
    seen = list(map(float, one.hear().split()))
    assert one.end() == ([0], 0)
    assert len(one.usage) == len(seen) == 16
    assert all(late >= early for early, late in zip(seen, one.usage)) and seen[0] + seen[1] >= .04
    assert one.usage[6] < 2 * seen[6] and one.usage.ru_utime < seen[0] + 1


@pytest.mark.parametrize("argv", [["/nonexistent", "x"], CAT])
def test_the_final_record_is_152_bytes_with_zeros_after_the_status(start, argv):
    one = start(argv).go()
    if argv is CAT:
        one.control.send(init.STOP + b" and a long word")
    packets = list(iter(lambda: one.control.recv(4096), b""))
    assert len(packets[-1]) == 152 and packets[-1][4:8] == bytes(4)
    assert packets[-1][:4] == struct.pack("=i", 9 if argv is CAT else 125 << 8)


# ------------------------------------------------------------------ stop, and the supervisor's end
STUBBORN = sh("trap '' HUP INT QUIT USR1 USR2 TERM; echo; read x; read y")


@pytest.mark.also_vm
def test_a_stop_kills_a_workload_that_ignores_all_signals(start):
    one = start(STUBBORN).go()
    one.hear()
    for number in FORWARDED:
        os.kill(one.pid, number)
    one.say("x")
    one.control.send(init.STOP)
    assert one.end() == ([signal.SIGKILL], 137)
    assert one.usage.ru_maxrss > 0


def test_a_stop_that_came_with_the_go_is_obeyed(start):
    one = start(STUBBORN)
    one.let_go()
    one.control.send(init.STOP)
    assert one.record() == (init.READY, None)
    assert one.end() == ([signal.SIGKILL], 137)


def test_a_second_stop_does_no_harm(start):
    one = start(STUBBORN).go()
    one.hear()
    os.kill(one.pid, signal.SIGSTOP)
    for _ in range(5):
        one.control.send(init.STOP)
    os.kill(one.pid, signal.SIGCONT)
    assert one.end() == ([signal.SIGKILL], 137)


def test_records_survive_a_stop_that_nobody_read(start_native):
    """Their reader gets ECONNRESET first, once."""
    one = start_native(CAT, before=lambda: refuse("clone"))
    assert one.record() == (init.READY, None)
    os.kill(one.pid, signal.SIGSTOP)
    assert os.WIFSTOPPED(os.waitpid(one.pid, os.WUNTRACED)[1])
    one.let_go()
    one.control.send(init.STOP)
    os.kill(one.pid, signal.SIGCONT)
    code = one.wait()
    with pytest.raises(ConnectionResetError):
        one.control.recv(4096)
    assert (one.record(), one.record(), code) == ((-errno.EPERM, None), None, 125)


@pytest.mark.also_vm
@pytest.mark.parametrize("left_unread", [False, True])
def test_the_supervisors_end_is_the_end_of_all(start, left_unread):
    """Armed with O_ASYNC; also where it left the ready record unread, which is ECONNRESET before the end of file."""
    one = start(STUBBORN)
    if left_unread:
        one.let_go()
    else:
        one.go()
    one.hear()
    one.control.close()
    assert one.everyone_is_gone() and one.wait() == 125


@pytest.mark.parametrize("how", ["its end", "a stop", "the supervisor's end"])
def test_with_its_letter_init_kills_all_that_it_may_signal(start, how):
    """A pid namespace of which it is not pid 1 stands for the Landlock scope: who is left is waited for by its pid 1."""
    one = start(sh("(setsid sleep 1000 & echo up); (trap '' HUP TERM; sleep 1000 & echo up); read line; exit 3"), kill_all=True)
    one.go()
    assert (one.hear(), one.hear()) == ("up", "up")
    if how == "its end":
        one.hang_up()
        assert one.end() == ([3 << 8], 3)
    elif how == "a stop":
        one.control.send(init.STOP)
        assert one.end() == ([9], 137)
    else:
        one.control.close()
        assert one.wait() == 125
    assert one.everyone_is_gone()


def test_a_stop_with_the_supervisors_end_right_behind_it_is_the_end_of_all(start):
    one = start(STUBBORN).go()
    one.hear()
    one.control.send(init.STOP)
    one.control.close()
    assert one.everyone_is_gone() and one.wait() in (125, 137)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGCHLD, signal.SIGIO])
def test_an_unarmed_init_sees_the_supervisors_end_at_the_next_signal_of_any_kind(start, number):
    """It looks after each, so that none can crowd out another."""
    one = start(STUBBORN, armed=False).go()
    one.hear()
    until(lambda: stat_of(one.pid)[0] == "S")       # after its first look
    one.control.close()
    assert children_of(one.pid)
    os.kill(one.pid, number)
    assert one.everyone_is_gone() and one.wait() == 125


def test_a_workload_that_ends_after_the_supervisor_does_no_harm(start):
    one = start(CAT, armed=False).go().up()
    one.control.close()
    one.hang_up()
    assert one.everyone_is_gone() and one.wait() == 125


def test_sigio_and_sigchld_are_not_handed_on_and_harmless_from_the_workload(start):
    one = start(python("""
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO, signal.SIGCHLD})
for _ in range(1000):
    os.kill(os.getppid(), signal.SIGIO)
    os.kill(os.getppid(), signal.SIGCHLD)
told, tell = os.pipe()
child = os.fork()
if not child:
    orphan = os.fork()
    if orphan:
        os.write(tell, b"%d" % orphan)
    else:
        sys.stdin.readline()
    os._exit(0)
os.waitpid(child, 0)
signal.sigtimedwait({signal.SIGCHLD}, 0)
orphan = int(os.read(told, 99))
print(flush=True)
try:
    while True:
        os.kill(orphan, 0)
        time.sleep(.001)
except ProcessLookupError:
    print(signal.sigpending(), flush=True)
sys.exit(4)""")).go()
    one.hear()
    one.say("orphan, end")
    assert one.hear() == "set()"
    assert one.end() == ([4 << 8], 4)


# ------------------------------------------------------------------ as pid 1
@pytest.mark.also_vm
def test_pid_1_is_not_killed_or_stopped_from_inside(start_native):
    numbers = sorted(SIGNALS - set(FORWARDED))
    one = start_native(python("""
for number in %r:
    os.kill(1, number)
print(os.getpid(), os.getppid(), flush=True)
sys.stdin.readline()
os.kill(1, signal.SIGTERM)
signal.pause()""" % numbers), namespace=True).go()
    assert one.hear() == "2 1"
    one.say("on")
    assert one.end() == ([signal.SIGTERM], 143)


@pytest.mark.parametrize("how", ["workload", "stop", "end of file"])
def test_with_pid_1_ends_all_that_is_left_in_its_namespace(start_native, how):
    one = start_native(python("""
if not os.fork():
    os.setsid()
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
    print(flush=True)
    while True:
        signal.pause()
sys.stdin.readline()"""), namespace=True).go()
    one.hear()
    if how == "workload":
        one.hang_up()
        assert one.end() == ([0], 0)
    elif how == "stop":
        one.control.send(init.STOP)
        assert one.end() == ([signal.SIGKILL], 137)
    else:
        one.control.close()
    assert one.everyone_is_gone()


FLOODS = {
    "signals": """
for number in (1, 2, 3, 10, 12, 15):
    signal.signal(number, signal.SIG_IGN)
for number in (1, 2, 3, 10, 12, 15, 17, 29, 1, 1):
    if not os.fork():
        while True:
            os.kill(1, number)
""",
    "orphans": """
for _ in range(4):
    if not os.fork():
        while True:
            child = os.fork()
            if not child:
                if not os.fork():
                    os._exit(0)
                os._exit(0)
            os.waitpid(child, 0)
""",
}


@pytest.mark.parametrize("how", ["stop", "end of file"])
@pytest.mark.parametrize("flood", sorted(FLOODS))
def test_no_flood_from_inside_hides_the_supervisor(start_native, flood, how):
    one = start_native(python(FLOODS[flood] + "print(flush=True)\nsys.stdin.readline()"), namespace=True).go()
    one.hear()
    if how == "stop":
        one.control.send(init.STOP)
        assert one.end() == ([signal.SIGKILL], 137)
    else:
        one.control.close()
    assert one.everyone_is_gone()


# ------------------------------------------------------------------ Landlock
def ruleset(*attributes):
    attributes = struct.pack("=%dQ" % len(attributes), *attributes)
    return call(444, attributes, len(attributes), 0)


EXECUTE, MAKE_SYMLINK, SIGNAL_SCOPE = (1,), (1 << 12,), (0, 0, 2)


@pytest.mark.also_vm
@pytest.mark.needs("landlock-signals")
@pytest.mark.parametrize("inside", [True, False])
def test_the_workload_cannot_signal_init_from_its_landlock_domain(start_native, inside):
    one = start_native(python("""
try:
    os.kill(os.getppid(), signal.SIGIO)
    print("sent", flush=True)
except PermissionError:
    print("refused", flush=True)
sys.stdin.readline()"""), ruleset=(lambda: ruleset(*SIGNAL_SCOPE)) if inside else None)
    assert one.record() == (init.READY, None)
    assert (str(RULESET) in os.listdir("/proc/%d/fd" % one.pid)) is inside
    one.let_go()
    assert one.hear() == ("refused" if inside else "sent")
    assert sorted(os.listdir("/proc/%d/fd" % one.workload())) == ["0", "1", "2"]
    os.kill(one.pid, signal.SIGTERM)
    assert one.end() == ([signal.SIGTERM], 143)


@pytest.mark.needs("landlock-signals")
def test_a_stop_reaches_into_the_landlock_domain(start_native):
    one = start_native(STUBBORN, ruleset=lambda: ruleset(*SIGNAL_SCOPE)).go()
    one.hear()
    one.control.send(init.STOP)
    assert one.end() == ([signal.SIGKILL], 137)


@pytest.mark.also_vm
@pytest.mark.needs("landlock")
def test_the_landlock_domain_is_entered_before_the_exec(start_native):
    one = start_native(["/bin/true", "true"], ruleset=lambda: ruleset(*EXECUTE)).go()
    assert one.end() == ([-errno.EACCES, 125 << 8], 125)


@pytest.mark.also_vm
def test_a_landlock_failure_is_reported_and_nothing_runs(start, tmp_path):
    mark = tmp_path / "mark"
    one = start(sh("echo > %s" % mark), ruleset=lambda: os.open(os.devnull, os.O_RDONLY)).go()
    error = errno.EBADFD if start.native and KERNEL >= (5, 13) else errno.ENOSYS    # no emulator has it
    assert one.end() == ([-error, 125 << 8], 125)
    assert not mark.exists()


# ------------------------------------------------------------------ refused calls
NR = {  # x86_64, aarch64
    "write": (1, 64), "close": (3, 57), "rt_sigprocmask": (14, 135), "ioctl": (16, 29),
    "recvfrom": (45, 207), "recvmsg": (47, 212), "dup3": (292, 24), "clone": (56, 220), "execve": (59, 221), "wait4": (61, 260), "kill": (62, 129),
    "fcntl": (72, 25), "setsid": (112, 157), "rt_sigtimedwait": (128, 137), "prctl": (157, 167), "exit_group": (231, 94),
    "landlock_restrict_self": (446, 446),
}
REPORTED = ([-errno.EPERM, 125 << 8], 125)      # by the workload's own steps


@pytest.mark.parametrize("name, outcome", [
    ("recvmsg", ([], 125)), ("dup3", ([-errno.EPERM], 125)), ("prctl", ([-errno.EPERM], 125)), ("clone", ([-errno.EPERM], 125)),
    ("setsid", REPORTED), ("ioctl", REPORTED), ("rt_sigprocmask", REPORTED), ("fcntl", REPORTED), ("execve", REPORTED),
    ("rt_sigtimedwait", ([], 125)), ("recvfrom", ([], 125)), ("wait4", ([], 125)), ("kill", ([0], 0)),
    ("exit_group", ([9], -signal.SIGILL)),
    pytest.param("landlock_restrict_self", REPORTED, marks=pytest.mark.needs("landlock")),
    pytest.param("close", REPORTED, marks=pytest.mark.needs("landlock")),
])
@pytest.mark.also_vm
def test_a_call_that_a_filter_refuses_makes_init_report_or_leave(start_native, name, outcome):
    def before():
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        refuse(name)
    master, slave = pty.openpty()
    domain = (lambda: ruleset(*MAKE_SYMLINK)) if name in ("landlock_restrict_self", "close") else None
    one = start_native(sh("echo; read x; kill -KILL $$; exit 0"), before=before, ruleset=domain,
                       tty=slave if name == "ioctl" else None)
    if name == "recvmsg":      # it is gone before a go can be sent
        assert one.record() == (init.READY, None)
    elif name == "dup3":
        assert one.record() == (init.READY, None)
        one.let_go_with([master, master, slave])
    else:
        one.go()
    if name in ("kill", "exit_group"):
        one.hear()
        os.kill(one.pid, signal.SIGIO if name == "exit_group" else signal.SIGTERM)
        one.hang_up()
    assert one.end() == outcome
    if name == "wait4":     # who died may be anyone: the workload is left alone
        one.hang_up()
    assert one.everyone_is_gone()
    os.close(master)
    os.close(slave)
