# SPDX-License-Identifier: Apache-2.0
"""What hostile code inside the default sandbox can't do, each time with the proof that the same code can do it outside.

`probe` runs the code outside first, where it must succeed; what needs privilege there is wrapped in namespaces that are
thrown away.
"""
import json
import os
import secrets
import select
import signal
import socket
import stat
import subprocess
import time

import pytest

import mrunc  # noqa: F401  registers the package
from mrunc.syscalls import process

from conftest import PYTHON, USER, become

X86 = os.uname().machine == "x86_64"
#: Numbers of the calls that libc has no function for: (x86_64, aarch64).
NR = {"bpf": (321, 280), "keyctl": (250, 219), "io_uring_setup": (425, 425), "clone3": (435, 435), "unshare": (272, 97),
      "mount": (165, 40), "ptrace": (101, 117), "add_key": (248, 217), "userfaultfd": (323, 282),
      "perf_event_open": (298, 241), "open_by_handle_at": (304, 265), "pivot_root": (155, 41), "setns": (308, 268),
      "fsopen": (430, 430), "mount_setattr": (442, 442), "process_vm_readv": (310, 270), "init_module": (175, 105),
      "kexec_load": (246, 104), "reboot": (169, 142), "swapon": (167, 224), "settimeofday": (164, 170),
      "name_to_handle_at": (303, 264), "move_pages": (279, 239), "syslog": (103, 116), "acct": (163, 89),
      "quotactl": (179, 60), "iopl": (172, None), "kcmp": (312, 272), "pidfd_getfd": (438, 438)}
DEADLINE = 60

CALL = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    result = libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if result == -1:
        raise OSError(ctypes.get_errno(), "refused")
    return result
def report(deed, *good):
    # exit 0: it was done, or refused with an errno that says that the kernel itself was asked
    try:
        print("done", deed())
    except OSError as error:
        print("errno", error.errno)
        sys.exit(0 if error.errno in good else 1)
"""


def number(name):
    return NR[name][0 if X86 else 1]


def new_mounts(inside):
    """A wrap with capabilities over a mount namespace that is thrown away."""
    return ["unshare", "-m"] if inside.who == "root" else ["unshare", "-Urm"]


def own_pids(inside):
    """A wrap with a pid namespace and a /proc of its own."""
    return (["unshare", "-mpf"] if inside.who == "root" else ["unshare", "-Urmpf"]) + ["--mount-proc"]


# Identity and privileges

@pytest.mark.also_vm
def test_the_workload_is_root_inside_and_holds_nothing(inside):
    code = """
import json, os
status = dict(line.rstrip("\\n").split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
print(json.dumps([os.getresuid(), os.getresgid(), status]))
"""
    uids, gids, status = json.loads(inside.python(code).out)
    assert (uids, gids) == ([0, 0, 0], [0, 0, 0])
    assert [status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")] == ["0" * 16] * 5
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    if inside.who == "root":
        assert status["Groups"].split() == []


@pytest.mark.also_vm
def test_no_capability_comes_back_by_exec(inside):
    done = inside.run("/bin/sh", "-c", "exec /bin/sh -c 'grep Cap /proc/self/status'", options=["--unsafe-without", "seccomp"])
    assert done.rc == 0 and {line.split()[1] for line in done.out.splitlines()} == {"0" * 16}, done


@pytest.mark.also_vm
def test_every_namespace_differs_from_the_hosts(inside):
    done = inside.python("import os\nfor n in sorted(os.listdir('/proc/self/ns')): print(n, os.readlink('/proc/self/ns/' + n))")
    seen = dict(line.split() for line in done.out.splitlines())
    for name in ("user", "mnt", "pid", "uts", "ipc", "net", "cgroup") + (("time",) if os.path.exists("/proc/self/ns/time")
                                                                         else ()):
        assert seen[name].startswith(name + ":[") and seen[name] != os.readlink("/proc/self/ns/" + name), name


@pytest.mark.also_vm
def test_the_uptime_is_the_sandboxs_own(inside):
    code = "import time; print(time.clock_gettime(7))"
    outside = float(inside.outside(["/usr/bin/python3", "-I", "-S", "-c", code]).stdout)  # CLOCK_BOOTTIME
    done = inside.python(code)
    assert 0 <= float(done.out) < outside and done.rc == 0, done


@pytest.mark.also_vm
def test_root_is_an_unprivileged_stranger_on_the_host(inside_as_root):
    with waiting(inside_as_root) as run:
        for pid in family(run.pid):
            uids = status(pid)["Uid"].split()
            assert len(set(uids)) == 1 and int(uids[0]) >= 65536, uids
            assert status(pid)["Groups"].split() == []


def test_pid_1_has_no_environment(inside_as_root):
    """Who looks from the host finds nothing of the caller's."""
    with waiting(inside_as_root, env=dict(os.environ, MRUNC_TEST_SECRET="secret")) as run:
        with open("/proc/%d/environ" % run.pid, "rb") as stream:
            assert b"MRUNC_TEST_SECRET=secret" in stream.read()
        init = family(run.pid)[0]
        with open("/proc/%d/environ" % init, "rb") as stream:
            assert stream.read() == b""


# What is visible

@pytest.mark.also_vm
def test_only_own_processes_are_in_proc(inside, probe):
    code = """
import os, sys
pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
print(pids == [os.getpid()], os.path.exists("/proc/1"))
sys.exit(0 if len(pids) > 1 and os.path.exists("/proc/1") else 1)
"""
    done = probe(code)
    assert done.out == "True False\n", done


def test_proc_holds_nothing_but_processes(inside):
    done = inside.python("import os; print(sorted(n for n in os.listdir('/proc') if not n.isdigit()))")
    assert done.out == "['self', 'thread-self']\n"


@pytest.mark.also_vm
def test_no_network_but_a_loopback_that_is_down(inside, probe):
    done = inside.python("import socket; print(socket.if_nameindex())", options=["--unsafe-without", "seccomp"])
    assert done.out == "[(1, 'lo')]\n", done
    code = """
import socket, sys
server = socket.socket(); server.bind(("127.0.0.1", 0)); server.listen(1)
try:
    socket.create_connection(server.getsockname(), 5); print("connected")
except OSError as error:
    print("errno", error.errno); sys.exit(1)
"""
    done = probe(code, options=["--unsafe-without", "seccomp"])
    assert done.rc == 1 and "connected" not in done.out, done


@pytest.mark.also_vm
def test_no_path_of_home_or_temp_is_in_mountinfo(inside):
    text = inside.run("/bin/cat", "/proc/self/mountinfo").out
    places = [line.split() for line in text.splitlines()]
    assert len(places) > 10
    for private in (inside.scratch, os.path.dirname(inside.tool), os.path.expanduser("~"), "/tmp", "/home", "/root"):
        assert [fields for fields in places if (fields[3] + "/").startswith(private + "/")] == []
        assert private in ("/tmp", "/home", "/root") or private not in text


OWN_ETC = {"passwd", "group", "hosts", "hostname", "nsswitch.conf", "resolv.conf", "os-release", "mtab"}


def test_etc_holds_the_table_and_our_own_files(inside):
    from mrunc.sandbox.host import facts
    allowed, below_ssl = set(OWN_ETC), set()
    for name, reason in facts.HOST_ENTRIES:
        assert reason
        head = name.split("/")[0]
        if name.startswith("ssl/"):
            below_ssl.add(name[4:])
        allowed.add(head)
    code = """
import json, os
print(json.dumps([os.listdir("/etc"), os.listdir("/etc/ssl"), open("/etc/passwd").read(), open("/etc/resolv.conf").read(),
                  open("/etc/hosts").read(), open("/etc/os-release").read()]))
"""
    names, ssl, passwd, resolv, hosts, release = json.loads(inside.python(code).out)
    extra = [name for name in names if name not in allowed and not name.startswith("java")]
    assert extra == [] and OWN_ETC <= set(names)
    assert set(ssl) <= below_ssl
    for name, _ in facts.HOST_ENTRIES:
        if "*" not in name and os.path.exists("/etc/" + name) and os.stat("/etc/" + name).st_mode & 0o004:
            assert name.split("/")[0] in names, name
    users = [line.split(":")[0] for line in passwd.splitlines()]
    assert users == ["root", "nobody"] and resolv == "" and "127.0.0.1 localhost" in hosts and "mrunc" in release
    assert os.uname().nodename not in (passwd + hosts).split()


def test_sys_holds_three_files(inside):
    done = inside.run("/usr/bin/find", "/sys", "-type", "f")
    assert sorted(done.out.split()) == ["/sys/devices/system/cpu/" + name for name in ("online", "possible", "present")]
    done = inside.run("/usr/bin/find", "/sys", "!", "-type", "d", "!", "-type", "f")
    assert done.out == ""


@pytest.mark.also_vm
def test_dev_holds_six_devices_and_a_devpts(inside):
    done = inside.python("import os, stat\nfor n in sorted(os.listdir('/dev')):\n    m = os.lstat('/dev/' + n).st_mode\n"
                         "    print(n, 'c' if stat.S_ISCHR(m) else 'l' if stat.S_ISLNK(m) else 'd' if stat.S_ISDIR(m) else '?')")
    assert done.out.split("\n")[:-1] == ["fd l", "full c", "null c", "ptmx l", "pts d", "random c", "shm d", "stderr l", "stdin l", "stdout l",
                                         "tty c", "urandom c", "zero c"], done


@pytest.mark.also_vm
def test_only_three_descriptors(inside):
    read, write = os.pipe()
    try:
        for fd in (read, write):
            os.set_inheritable(fd, True)
        done = inside.python("import os; print(sorted(n for n in os.listdir('/proc/self/fd') if os.path.exists("
                             "'/proc/self/fd/' + n)))", pass_fds=[read, write])
    finally:
        os.close(read)
        os.close(write)
    assert done.out == "['0', '1', '2']\n"


SEARCH = """
import os, re, sys
needle = re.compile(b"SEC" + b"RET-[0-9a-f]{32}")
places = []
for pid in [n for n in os.listdir("/proc") if n.isdigit()] + ["self", "1"]:
    for name in ("environ", "cmdline", "auxv", "comm", "status", "mountinfo"):
        try:
            if needle.search(open("/proc/%s/%s" % (pid, name), "rb").read()):
                places.append("%s of %s" % (name, "me" if pid in ("self", str(os.getpid())) else "another"))
        except OSError:
            pass
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
    for line in maps.read().splitlines():
        area, rights = line.split()[:2]
        first, last = [int(part, 16) for part in area.split("-")]
        if rights[0] == "r" and "[v" not in line:
            try:
                memory.seek(first)
                if needle.search(memory.read(last - first)):
                    places.append("memory")
            except OSError:
                pass
print(sorted(set(places)))
sys.exit(0 if "environ of me" in places and "memory" in places else 1)
"""


@pytest.mark.parametrize("without", [[], ["--unsafe-without", "seccomp,proc"]], ids=["default", "without seccomp and hidepid"])
def test_a_secret_of_the_callers_environment_and_memory_is_nowhere_inside(inside, probe, without):
    environ = dict(os.environ, MRUNC_TEST_SECRET="SECRET-" + secrets.token_hex(16))
    done = probe(SEARCH, options=without, env=environ)
    assert (done.out, done.rc) == ("[]\n", 1), done


# What can be written

@pytest.mark.also_vm
def test_system_directories_are_read_only(inside, probe):
    code = """
import os, sys
bad = 0
for place in ("/usr/local/share", "/etc"):
    try:
        os.close(os.open(place + "/made", os.O_CREAT | os.O_WRONLY)); print("done")
    except OSError as error:
        print(error.errno); bad = 1
sys.exit(bad)
"""
    script = 'mount -t tmpfs none /usr/local/share; mount -t tmpfs none /etc; exec "$@"'
    done = probe(code, wrap=new_mounts(inside) + ["/bin/sh", "-ec", script, "sh"])
    assert (done.out, done.rc) == ("30\n30\n", 1), done
    code = """
import os
for place in ("/", "/usr", "/usr/bin", "/etc", "/var", "/home", "/mnt", "/run", "/dev", "/sys", "/sys/devices"):
    try:
        os.mkdir(place + "/made"); print(place, "done")
    except OSError as error:
        if error.errno != 30: print(place, error.errno)
for path in ("/usr/bin/env", "/etc/passwd", "/dev/null"):
    try:
        os.chmod(path, 0o777); print(path, "done")
    except OSError as error:
        if error.errno not in (1, 30): print(path, error.errno)
for path in ("/usr/bin/env", "/etc/passwd"):
    try:
        os.close(os.open(path, os.O_WRONLY)); print(path, "done")
    except OSError as error:
        if error.errno not in (13, 30): print(path, error.errno)
"""
    assert inside.python(code).out == ""


@pytest.mark.also_vm
def test_the_writable_places_are_writable_and_gone_afterwards(inside):
    script = "for d in /tmp /box $HOME /dev/shm; do test -w $d && ! test -e $d/x && echo x > $d/x && cat $d/x; done"
    for _ in range(2):
        done = inside.run("/bin/sh", "-c", script)
        assert (done.rc, done.out) == (0, "x\n" * 4), done
    done = inside.run("/bin/sh", "-c", "cp /bin/true /dev/shm/t; /dev/shm/t")
    assert done.rc == 126 and "Permission denied" in done.err


def test_set_uid_programs_of_the_host_give_nothing(inside):
    done = inside.python("import os; print([bool(os.statvfs(p).f_flag & os.ST_NOSUID) for p in ('/usr', '/tmp', '/box', '/')])")
    assert done.out == "[True, True, True, True]\n"


def test_core_limit_can_not_be_raised(inside, probe):
    code = """
import resource, sys
before = resource.getrlimit(resource.RLIMIT_CORE)
try:
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]) if before != (1, 1) else (4096, 4096))
    print("changed")
except (OSError, ValueError):
    pass
print(*resource.getrlimit(resource.RLIMIT_CORE))
sys.exit(resource.getrlimit(resource.RLIMIT_CORE) == (1, 1))
"""
    done = probe(code)
    assert (done.out.splitlines()[-1], done.rc) == ("1 1", 1), done


# Calls that are refused

EXISTS = (1, 2, 3, 9, 13, 14, 16, 19, 22, 25, 95)  # any answer but ENOSYS: the kernel was asked
CALLS = [
    # name, expression, errnos that outside also mean "it was asked", errnos inside
    ("ptrace", "call(%d, 0, 0, 0, 0)", (), (1, 38)),
    ("bpf", "call(%d, 0, 0, 0)", EXISTS, (1, 38)),
    ("keyctl", "call(%d, 0, -3, 0)", EXISTS + (126,), (1, 38)),
    ("add_key", "call(%d, b'user', b'mrunc-test', b'x', 1, -1)", EXISTS, (1, 38)),
    ("io_uring_setup", "call(%d, 1, ctypes.create_string_buffer(120))", EXISTS, (1, 38)),
    ("clone3", "call(%d, 0, 0)", EXISTS, (38,)),
    ("userfaultfd", "call(%d, 1)", EXISTS, (1, 38)),
    ("perf_event_open", "call(%d, 0, 0, -1, -1, 0)", EXISTS, (1, 38)),
    ("open_by_handle_at", "call(%d, -1, 0, 0)", EXISTS, (1, 38)),
    ("setns", "call(%d, -1, 0)", EXISTS, (1, 38)),
    ("process_vm_readv", "call(%d, os.getpid(), 0, 0, 0, 0, 0)", EXISTS, (1, 38)),
    ("kcmp", "call(%d, os.getpid(), os.getpid(), 0, 0, 1)", EXISTS, (1, 38)),
    ("pidfd_getfd", "call(%d, -1, 0, 0)", EXISTS, (1, 38)),
    ("quotactl", "call(%d, -1, 0, 0, 0)", EXISTS, (1, 38)),
    ("syslog", "call(%d, 99, 0, 0)", EXISTS, (1, 38)),
]


@pytest.mark.parametrize("name,expression,good,refused", CALLS, ids=[row[0] for row in CALLS])
def test_a_dangerous_call_is_refused(probe, name, expression, good, refused):
    done = probe(CALL + "report(lambda: %s, *%r)" % (expression % number(name), good))
    word, value = done.out.split()
    assert word == "errno" and int(value) in refused, done


@pytest.mark.parametrize("name,expression", [
    ("mount", "call(%d, b'none', b'/tmp', b'tmpfs', 0, None)"),
    ("unshare", "call(%d, 0x20000)"),
    ("fsopen", "call(%d, b'tmpfs', 1)"),
])
def test_mounting_is_refused(inside, probe, name, expression):
    done = probe(CALL + "report(lambda: %s)" % (expression % number(name)), wrap=new_mounts(inside))
    assert done.rc == 1 and done.out in ("errno 1\n", "errno 38\n"), done


@pytest.mark.also_vm
@pytest.mark.parametrize("without", [[], ["--unsafe-without", "seccomp"]], ids=["default", "without seccomp"])
def test_no_user_namespace_can_be_made(probe, without):
    code = CALL + "report(lambda: call(%d, 0x10000000))" % number("unshare")
    done = probe(code, options=without)
    assert done.rc == 1 and done.out in ("errno 1\n", "errno 28\n"), done


@pytest.mark.parametrize("name,expression", [
    ("mount", "call(%d, b'none', b'/tmp', b'tmpfs', 0, None)"),
    ("unshare", "call(%d, 0x20000)"),
    ("mount", "call(%d, b'none', b'/', b'', 0x1000 | 0x20, None)"),
])
@pytest.mark.also_vm
def test_without_the_filter_mounting_still_fails(inside, probe, name, expression):
    done = probe(CALL + "report(lambda: %s)" % (expression % number(name)), options=["--unsafe-without", "seccomp"],
                 wrap=new_mounts(inside))
    assert (done.out, done.rc) == ("errno 1\n", 1), done


@pytest.mark.parametrize("without", ["seccomp", "seccomp,proc"])
def test_without_the_filter_pid_1_cannot_be_read(inside, probe, without):
    code = """
import os, sys
bad = 0
for name in ("mem", "environ", "maps", "fd"):
    try:
        if name == "fd":  # their numbers are no secret, what they lead to is
            os.readlink("/proc/1/fd/" + os.listdir("/proc/1/fd")[0])
        else:
            open("/proc/1/" + name, "rb").close()
        print(name, "open")
    except OSError as error:
        print(name, error.errno); bad = 1
sys.exit(bad)
"""
    done = probe(code, options=["--unsafe-without", without], wrap=own_pids(inside))
    assert done.rc == 1 and "open" not in done.out, done
    if without == "seccomp":
        assert done.out == "mem 2\nenviron 2\nmaps 2\nfd 2\n", done


@pytest.mark.also_vm
@pytest.mark.parametrize("without", [[], ["--unsafe-without", "seccomp"]], ids=["default", "without seccomp"])
def test_pid_1_cannot_be_signalled_or_traced(inside, without):
    code = CALL + "report(lambda: call(%d, 0x4206, 1, 0, 0))" % number("ptrace")  # PTRACE_SEIZE
    outside = CALL + """
import signal
pid = os.fork()
if pid == 0:
    signal.alarm(20)
    signal.pause()
try:
    report(lambda: call(%d, 0x4206, pid, 0, 0))
finally:
    os.kill(pid, signal.SIGKILL)
""" % number("ptrace")
    done = inside.outside(["/usr/bin/python3", "-I", "-S", "-c", outside])  # a process of its own can be traced
    assert (done.returncode, done.stdout) == (0, "done 0\n"), done
    done = inside.python(code, options=without)
    assert done.rc == 1 and done.out in ("errno 1\n", "errno 3\n", "errno 38\n"), done
    done = inside.python("import os, signal\nfor n in (9, 19, 11, 6):\n    try: os.kill(1, n)\n    except OSError: pass\nprint('alive')",
                         options=without)
    assert (done.rc, done.out) == (0, "alive\n"), done


@pytest.mark.needs("landlock-signals")
def test_no_signal_reaches_pid_1_without_the_filter(inside):
    code = ("import os\ntry: os.kill(1, 0); print('reached')\n"
            "except OSError as error: print(error.errno)")
    done = inside.python(code, options=["-q", "--unsafe-without", "seccomp"])
    assert (done.rc, done.out) == (0, "1\n"), done


def test_a_limit_that_the_caller_can_not_give_is_refused(inside_as_user):
    command = inside_as_user.command("/bin/echo", "ran", options=["--rlimit", "nofile=300"])
    done = inside_as_user.outside(["prlimit", "--nofile=200:200", *command])
    assert (done.returncode, done.stdout) == (125, ""), done
    assert "above the caller's own" in done.stderr, done


def has_family(family):
    """Whether this kernel has sockets of a family."""
    import socket
    try:
        socket.socket(family, socket.SOCK_STREAM).close()
        return True
    except OSError as error:
        return error.errno != 97


@pytest.mark.parametrize("family,kind", [(2, 1), (2, 2), (10, 1), (16, 3), (17, 3), (40, 1), (38, 5)],
                         ids=["AF_INET stream", "AF_INET datagram", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_ALG"])
def test_no_socket_but_a_local_one(inside, probe, family, kind):
    code = CALL + "import socket\nreport(lambda: socket.socket(%d, %d) and None, 1, 93)" % (family, kind)
    if has_family(family):
        done = probe(code)
    else:  # a kernel without it: nothing to refuse, and the filter says the same
        done = inside.python(code)
    assert (done.out, done.rc) == ("errno 97\n", 1), done


@pytest.mark.also_vm
@pytest.mark.x86
def test_int_0x80_kills(probe):
    code = """
import ctypes, mmap, os
area = mmap.mmap(-1, 4096, prot=7)
area.write(bytes([0x53, 0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0x5b, 0xc3]))  # getpid of i386
address = ctypes.addressof(ctypes.c_char.from_buffer(area))
assert ctypes.CFUNCTYPE(ctypes.c_int)(address)() == os.getpid()
print("done")
"""
    done = probe(code)
    assert (done.out, done.rc) == ("", 159), done
    assert (done.result["reason"], done.result["signal"]) == ("seccomp", 31)
    assert "SIGSYS" in done.err and len(done.err.splitlines()) == 1


@pytest.mark.also_vm
@pytest.mark.x86
def test_x32_calls_are_refused(inside):
    done = inside.python(CALL + "report(lambda: call(0x40000000 | 39))")
    assert done.out in ("errno 38\n",) or done.rc == 159, done


TYPE = CALL + """
import fcntl, pty, termios
fd = 0
if not os.isatty(0):
    fd = pty.openpty()[1]
    os.setsid()
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)
report(lambda: fcntl.ioctl(fd, termios.TIOCSTI, b"x") and None, 5)  # EIO: this host forbids it itself (legacy_tiocsti)
"""


def test_nothing_can_be_typed_into_a_terminal(inside, probe):
    nonce = "typed-" + secrets.token_hex(4)
    done = inside.outside(["/usr/bin/python3", "-I", "-S", "-c", TYPE])
    assert done.returncode == 0, done
    master, slave = os.openpty()
    try:
        done = inside.run("/usr/bin/python3", "-I", "-S", "-c", "print(%r, flush=True)\n%s" % (nonce, TYPE),
                          stdin=slave)
    finally:
        os.close(master)
        os.close(slave)
    assert (done.out, done.rc) == (nonce + "\nerrno 1\n", 1), done


def test_nothing_can_be_typed_into_the_sandboxs_own_terminal(inside):
    done = inside.run("/usr/bin/python3", "-I", "-S", "-c", "import os; print('tty', os.isatty(0))\n" + TYPE, options=["--tty"])
    assert (done.out.splitlines(), done.rc) == (["tty True", "errno 1"], 1), done


# Two sandboxes

A = """
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
listener = socket.socket(socket.AF_UNIX); listener.bind("\\0mrunc-test"); listener.listen(5)
path = socket.socket(socket.AF_UNIX); path.bind("/tmp/listener"); path.listen(5)
shm = libc.shmget(0x6d72, 4096, 0o1666)
with open("/dev/shm/shared", "w") as stream: stream.write("here")
print("ready", os.getpid(), shm >= 0, flush=True)
"""
B = """
def attempt(deed):
    try:
        deed(); return "done"
    except OSError as error:
        return "errno %d" % error.errno
def shared():
    if libc.shmget(0x6d72, 4096, 0o666) < 0: raise OSError(ctypes.get_errno(), "shmget")
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
print("abstract", attempt(lambda: socket.socket(socket.AF_UNIX).connect("\\0mrunc-test")))
print("path", attempt(lambda: socket.socket(socket.AF_UNIX).connect("/tmp/listener")))
print("shm", attempt(shared))
print("file", attempt(lambda: open("/dev/shm/shared").close()))
print("pids", len([n for n in os.listdir("/proc") if n.isdigit()]))
"""


class waiting:
    """A sandbox whose workload has printed "ready" and waits for its standard input to end."""

    def __init__(self, inside, code="print('ready', flush=True)\n", options=(), env=None, wrap=()):
        command = [*wrap, *inside.command("/usr/bin/python3", "-I", "-S", "-c", code + "\nimport sys\nsys.stdin.read()",
                                          options=options)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        universal_newlines=True, cwd=inside.scratch, env=env, preexec_fn=become(inside.who))
        self.pid = self.process.pid
        self.line = self.process.stdout.readline()
        if not self.line.startswith("ready"):
            raise AssertionError("not ready: %r" % (self.process.communicate(),))

    def __enter__(self):
        return self

    def __exit__(self, kind, *rest):
        if kind is not None:
            self.process.kill()
        self.rest = self.process.communicate(timeout=DEADLINE)


def status(pid):
    with open("/proc/%d/status" % pid) as stream:
        return dict(line.rstrip("\n").split(":\t", 1) for line in stream if ":\t" in line)


def family(pid):
    """The pids of all descendants, seen from the host."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name, errors="replace") as stream:
                    parents[int(name)] = int(stream.read().rpartition(")")[2].split()[1])
            except OSError:
                pass
    out, level = [], {pid}
    while level:
        level = {child for child, parent in parents.items() if parent in level}
        out += sorted(level)
    return out


def test_two_sandboxes_do_not_meet(inside):
    both = inside.python(A + B + "print(attempt(lambda: os.kill(os.getpid(), 0)))")
    assert both.out == "ready 2 True\nabstract done\npath done\nshm done\nfile done\npids 1\ndone\n", both
    with waiting(inside, A) as first:
        done = inside.python(B)
        assert done.out == "abstract errno 111\npath errno 2\nshm errno 2\nfile errno 2\npids 1\n", done
        # The filter hides the calls below; without it the namespaces still hold.
        done = inside.python(B, options=["--unsafe-without", "seccomp"])
        assert done.out == "abstract errno 111\npath errno 2\nshm errno 2\nfile errno 2\npids 1\n", done
        # No signal finds the other one: everybody that can be reached is in the own pid namespace.
        done = inside.python("import os\nfor pid in range(2, 400):\n    if pid != os.getpid():\n        try:\n            "
                             "os.kill(pid, 9)\n            print('killed', pid)\n        except ProcessLookupError: pass\n"
                             "try: os.kill(-1, 9)\nexcept OSError: pass")
        assert done.out == "", done
        assert first.process.poll() is None and len(family(first.pid)) == 2
    assert first.process.returncode == 0 and first.rest[1] == ""


@pytest.mark.needs("landlock-signals")
def test_no_abstract_socket_of_the_host_without_a_network_namespace(inside):
    """The scope of the Landlock domain holds where no network namespace does."""
    name = "mrunc-test-" + secrets.token_hex(8)
    code = ("import socket; s = socket.socket(socket.AF_UNIX)\n"
            "s.connect('\\0%s'); print('connected')" % name)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + name)
        server.listen(5)
        outside = inside.outside(["/usr/bin/python3", "-I", "-S", "-c", code])
        assert outside.stdout == "connected\n", outside
        done = inside.python(code, options=["-q", "--unsafe-without", "netns"])
    assert (done.rc, done.out) == (1, "") and "PermissionError" in done.err, done


@pytest.mark.needs("landlock-signals")  # TCP since Linux 6.7
def test_no_tcp_without_network_namespace_and_filter(inside):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(5)
        code = "import socket; socket.create_connection(%r); print('connected')" % (
            server.getsockname(),)
        outside = inside.outside(["/usr/bin/python3", "-I", "-S", "-c", code])
        assert outside.stdout == "connected\n", outside
        done = inside.python(code, options=["-q", "--unsafe-without", "netns,seccomp"])
    assert (done.rc, done.out) == (1, "") and "PermissionError" in done.err, done


def test_queues_and_keys_are_not_shared_without_the_filter(inside):
    queue = CALL + """
nr = %d
def make():
    return call(nr, b"mrunc-test", 0o102, 0o600, None)
def find():
    return call(nr, b"mrunc-test", 0o2, 0, None)
""" % (240 if X86 else 180)
    key = """
def add():
    return call(%d, b"user", b"mrunc-test", b"x", 1, -5)  # the user session keyring: one per uid
def search():
    return call(%d, 10, -5, b"user", b"mrunc-test", 0)
""" % (number("add_key"), number("keyctl"))
    tell = """
def attempt(deed):
    try:
        deed(); return "done"
    except OSError as error:
        return error.errno
"""
    options = ["--unsafe-without", "seccomp,landlock"]  # Landlock knows no rule for the queues' file system
    same = inside.python(queue + key + tell + "print(attempt(make), attempt(find), attempt(add), attempt(search))", options=options)
    assert same.out in ("done done done done\n", "38 38 done done\n"), same
    with waiting(inside, queue + key + tell + "attempt(make); attempt(add)\nprint('ready', flush=True)", options):
        other = inside.python(queue + key + tell + "print(attempt(find), attempt(search))", options=options)
        assert other.out in ("2 126\n", "38 126\n"), other


WATCHED = CALL + """
import select, struct
nr = dict(zip(("semget", "msgget", "inotify", "watch", "ptrace"), %r))
def semaphores(make=0):
    return call(nr["semget"], 0x6d73, 1, make | 0o666)
def messages(make=0):
    return call(nr["msgget"], 0x6d74, make | 0o666)
def tries(deed):
    try:
        deed(); return "done"
    except OSError as error:
        return error.errno
def trace(pids):
    # everybody but this process and pid 1, whom no process can trace
    seen = set()
    for pid in pids:
        if pid not in (1, os.getpid()):
            try:
                call(nr["ptrace"], 0x4206, pid, 0, 0); seen.add("done")
            except OSError as error:
                seen.add(error.errno)
    return sorted(seen, key=str)
def watch():
    # what is written in the directories that sandboxes have in common by name
    fd = call(nr["inotify"], 0)
    for place in (b"/tmp", b"/box", b"/dev/shm", b"/root"):
        call(nr["watch"], fd, place, 0x102)  # IN_CREATE | IN_MODIFY
    return fd
def changed(fd):
    return bool(select.select([fd], [], [], 0)[0])
""" % ([64, 68, 294, 254, 101] if X86 else [190, 186, 26, 27, 117],)


def test_two_sandboxes_have_no_semaphore_message_watch_or_tracee_in_common(inside):
    plant = "semaphores(0o1000); messages(0o1000)\nopen('/tmp/written', 'w').write('x')\nprint('ready', flush=True)\n"
    find = "print(tries(semaphores), tries(messages), trace(range(2, 400)))"
    loose = ["--unsafe-without", "seccomp"]
    both = WATCHED + """
import signal
fd = watch()
pid = os.fork()
if pid == 0:
    signal.pause()
%s
print(changed(fd))
%s
""" % (plant, find)
    done = inside.python(both, options=loose)
    assert done.out == "ready\nTrue\ndone done [3, 'done']\n", done  # in one sandbox all of it is there
    watcher = WATCHED + "fd = watch()\nprint('ready', flush=True)\nimport sys\nsys.stdin.read()\nprint(changed(fd))"
    for options in ([], loose):
        with waiting(inside, WATCHED + plant, options), waiting(inside, watcher, options) as second:
            with waiting(inside, WATCHED + plant, options):
                done = inside.python(WATCHED + find, options=options)
            assert done.out == ("2 2 [3]\n" if options else "2 2 [1]\n"), done
        assert second.rest[0] == "False\n", second.rest


FILL = """
import os, signal
chunk = b"x" * (1 << 20)
fd = os.open("/dev/shm/full", os.O_CREAT | os.O_WRONLY)
try:
    while True: os.write(fd, chunk)
except OSError as error:
    print("ready full", error.errno, end=" ")
children = []
try:
    while len(children) < 600:
        pid = os.fork()
        if pid == 0:
            signal.pause()
            os._exit(0)
        children.append(pid)
except OSError as error:
    print("processes", error.errno, 300 < len(children) < 512, flush=True)
"""


def test_one_sandbox_at_its_limits_leaves_the_others_theirs(inside):
    with waiting(inside, FILL) as first:
        assert first.line == "ready full 28 processes 11 True\n"
        done = inside.python("""
import os
fd = os.open("/dev/shm/mine", os.O_CREAT | os.O_WRONLY)
print(sum(os.write(fd, b"x" * (1 << 20)) for _ in range(32)) >> 20)
children = []
for _ in range(300):
    pid = os.fork()
    if pid == 0:
        os.read(0, 1); os._exit(0)
    children.append(pid)
print(len(children))
""")
        assert (done.rc, done.out) == (0, "32\n300\n"), done
    assert first.process.returncode == 0


def test_two_sandboxes_of_root_are_two_strangers_on_the_host(inside_as_root):
    with waiting(inside_as_root) as first, waiting(inside_as_root) as second:
        ids = [{status(pid)["Uid"].split()[0] for pid in family(run.pid)} for run in (first, second)]
        assert all(len(found) == 1 for found in ids) and ids[0] != ids[1] and not {"0"} & (ids[0] | ids[1])


def test_two_sandboxes_of_a_user_are_the_user(inside_as_user):
    with waiting(inside_as_user) as first:
        expected = USER if os.geteuid() == 0 else os.geteuid()
        assert {status(pid)["Uid"].split()[0] for pid in family(first.pid)} == {str(expected)}


# Life and death

@pytest.mark.also_vm
def test_orphans_are_reaped(inside):
    code = """
import os, time
read, write = os.pipe()
if os.fork() == 0:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.write(write, b"%d" % pid); os._exit(0)
os.wait()
orphan = int(os.read(read, 20))
end = time.monotonic() + 30
while os.path.exists("/proc/%d" % orphan) and time.monotonic() < end:
    os.sched_yield()
print(sorted(int(n) for n in os.listdir("/proc") if n.isdigit()) == [os.getpid()])
"""
    assert inside.python(code).out == "True\n"


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT", "QUIT", "USR1", "USR2"])
def test_a_signal_to_mrunc_reaches_the_workload(inside, name):
    sign = getattr(signal, "SIG" + name)
    # sigwait, because a handler of Python's may have to wait for the end of a read that began just before
    code = ("import os, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [%d])\nprint('ready', flush=True)\n"
            "os._exit(50 + signal.sigwait([%d]))" % (sign, sign))
    with waiting(inside, code) as run:
        run.process.send_signal(sign)
        assert run.process.wait(DEADLINE) == 50 + sign
    assert run.rest[1] == ""


def test_a_signal_that_the_workload_does_not_catch_ends_it(inside):
    with waiting(inside) as run:
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(DEADLINE) == 143


def test_a_hangup_that_the_caller_ignores_is_not_handed_on(inside):
    code = """
import os, signal
wanted = [signal.SIGHUP, signal.SIGUSR1]
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
print('ready', flush=True)
hung_up = 0
while signal.sigwait(wanted) == signal.SIGHUP:
    hung_up = 1
os._exit(60 + hung_up)
"""
    for wrap, expected in (((), 61), (("nohup",), 60)):
        with waiting(inside, code, wrap=wrap) as run:
            run.process.send_signal(signal.SIGHUP)
            run.process.send_signal(signal.SIGUSR1)
            assert run.process.wait(DEADLINE) == expected


def test_the_third_sigterm_is_the_last(inside):
    report = os.path.join(inside.scratch, "report")
    code = ("import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [15])\nprint('ready', flush=True)\n"
            "while signal.sigwait([15]): print('no', flush=True)")
    with waiting(inside, code, options=["--report", report]) as run:
        for _ in range(2):
            run.process.send_signal(signal.SIGTERM)
            assert run.process.stdout.readline() == "no\n"
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(DEADLINE) == 143
    assert run.rest[1] == (
        "mrunc: killed on the caller's third SIGTERM; let it end by itself: SIGTERM asks it to, --timeout with --grace does so and then "
        "kills\n")
    with open(report) as stream:
        result = json.load(stream)
    assert (result["reason"], result["returncode"]) == ("killed-by-caller", 143)


def watched(pid):
    """A descriptor of a process for `gone`: of its directory in /proc on Linux before 5.3."""
    try:
        return process.pidfd_open(pid)
    except OSError as error:
        assert error.errno == 38, error
        return os.open("/proc/%d" % pid, os.O_RDONLY | os.O_DIRECTORY)


def has_ended(fd):
    """For a descriptor that can't be waited for."""
    try:
        os.stat("stat", dir_fd=fd)
    except OSError as error:
        return error.errno in (2, 3)
    return False


def gone(fds):
    """Whether all these processes end before the deadline."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, 0 if stat.S_ISDIR(os.fstat(fd).st_mode) else select.POLLIN)
    left, end = set(fds), time.monotonic() + DEADLINE
    while left and time.monotonic() < end:
        for fd, _ in poll.poll(10 if any(stat.S_ISDIR(os.fstat(fd).st_mode) for fd in left) else 1000):
            poll.unregister(fd)
            left.discard(fd)
        left -= set(filter(has_ended, [fd for fd in left if stat.S_ISDIR(os.fstat(fd).st_mode)]))
    for fd in fds:
        os.close(fd)
    return not left


FAMILY = """
import os, signal
for sign in (1, 2, 15): signal.signal(sign, signal.SIG_IGN)
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(write, b"x")
        signal.pause()
    signal.pause()
os.read(read, 1)
print("ready", flush=True)
"""


@pytest.mark.also_vm
def test_killing_the_supervisor_leaves_nothing_alive(inside):
    run = waiting(inside, FAMILY)
    pids = family(run.pid)
    assert len(pids) == 4  # init, the workload, its child and grandchild
    fds = [watched(pid) for pid in pids]
    run.process.kill()
    assert gone(fds)
    run.process.communicate()


@pytest.mark.also_vm
def test_the_whole_pid_namespace_ends_with_the_workload(inside):
    run = waiting(inside, FAMILY)
    fds = [watched(pid) for pid in family(run.pid)]
    assert len(fds) == 4
    run.process.stdin.close()
    assert run.process.wait(DEADLINE) == 0
    assert gone(fds)
    run.process.stdout.close()
    run.process.stderr.close()


# The result

@pytest.mark.parametrize("script,rc,fields", [
    ("exit 0", 0, {"reason": "exited", "exit_code": 0, "signal": None}),
    ("exit 42", 42, {"reason": "exited", "exit_code": 42, "signal": None}),
    ("exit 125", 125, {"reason": "exited", "exit_code": 125, "signal": None}),
    ("kill -KILL $$", 137, {"reason": "signal", "exit_code": None, "signal": 9}),
    ("kill -SEGV $$", 139, {"reason": "signal", "exit_code": None, "signal": 11}),
])
def test_the_result_says_how_it_ended(inside, script, rc, fields):
    done = inside.run("/bin/sh", "-c", script)
    assert (done.rc, done.err) == (rc, ""), done
    assert done.result["returncode"] == rc and done.result["stage"] is None
    assert dict((name, done.result[name]) for name in fields) == fields
    assert done.result["argv"] == ["/bin/sh", "-c", script] and done.result["schema"] == 1 and done.result["tier"] == "full"
    assert done.result["usage"]["wall_s"] > 0 and done.result["started"].endswith("Z")


@pytest.mark.also_vm
@pytest.mark.parametrize("script", ["trap '' TERM; while :; do sleep 1000; done", "sleep 1000"])
def test_a_deadline_is_124_also_when_sigterm_is_ignored(inside, script):
    done = inside.run("/bin/sh", "-c", script, options=["--timeout", "200ms", "--grace", "100ms"])
    assert (done.rc, done.out) == (124, ""), done
    assert done.err == "mrunc: the time limit of 0.2 s was reached; allow more with --timeout\n"
    assert (done.result["reason"], done.result["returncode"]) == ("timeout-wall", 124)
    assert done.result["limits_hit"] == {"timeout": 0.2} and done.result["usage"]["max_rss_bytes"] > 0


@pytest.mark.parametrize("command,rc,reason", [("/box", 126, "exec"), ("/nowhere", 127, "exec")])
def test_the_result_of_what_cannot_be_executed(inside, command, rc, reason):
    done = inside.run(command)
    assert (done.rc, done.result["returncode"], done.result["reason"], done.result["exit_code"]) == (rc, rc, reason, None)


@pytest.mark.also_vm
def test_the_result_of_a_refused_set_up(inside):
    done = inside.outside(["unshare", "-Ur", "/bin/sh", "-ec", 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"', "sh",
                           *inside.command("/bin/true", options=["--report", os.path.join(inside.scratch, "r")])])
    assert done.returncode == 125
    with open(os.path.join(inside.scratch, "r")) as stream:
        result = json.load(stream)
    assert (result["reason"], result["returncode"], result["stage"], result["errno"]) == ("setup", 125, "namespaces", 28)


def test_the_usage_is_the_workloads_own_also_from_a_large_host(inside):
    code = """
import sys; sys.path.insert(0, %r)
import mrunc
ballast = bytearray(300 << 20)
ballast[::4096] = b"x" * len(ballast[::4096])
result = mrunc.run(["/bin/true"])
print(result.reason, result.returncode, result.usage["max_rss_bytes"] < 5 << 20, result.usage["max_rss_bytes"] > 0)
""" % os.path.dirname(inside.tool)
    done = inside.outside([PYTHON, "-I", "-S", "-c", code])
    assert (done.returncode, done.stdout) == (0, "exited 0 True True\n"), done


# The host afterwards

def nothing_left(nonce):
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                with open("/proc/%s/cmdline" % pid, "rb") as stream:
                    assert nonce.encode() not in stream.read(), pid
            except OSError:
                pass


@pytest.mark.also_vm
def test_runs_of_every_kind_leave_nothing_on_the_host(inside):
    nonce = "nonce-" + secrets.token_hex(8)
    with open("/proc/self/mountinfo") as stream:
        mounts = stream.read()
    source = os.path.join(inside.scratch, "shown")
    os.mkdir(source)
    before = sorted(os.listdir(inside.scratch))
    environ = dict(os.environ, MRUNC_ID_RANGE="%d:1" % (1800000000 + int(secrets.token_hex(3), 16)))
    for script, options, rc in (("exit 0", [], 0), ("exit 3", ["--ro", source + ":/mnt/x", "--copy", "/bin/true"], 3),
                                ("sleep 1000", ["--timeout", "100ms", "--grace", "0"], 124), ("kill -9 $$", [], 137),
                                ("true", ["--chdir", "/nowhere"], 2), ("(setsid sleep 1000 &) ; exit 4", [], 4)):
        done = inside.run("/bin/sh", "-c", script, nonce, options=options, env=environ)  # one id: its lock must be free again
        assert done.rc == rc, done
        nothing_left(nonce)
    with open("/proc/self/mountinfo") as stream:
        assert stream.read() == mounts
    assert sorted(os.listdir(inside.scratch)) == before


def test_the_library_leaves_no_descriptor_and_no_child_behind(inside):
    code = """
import os, sys; sys.path.insert(0, %r)
import mrunc
mrunc.run(["/bin/true"])
before = len(os.listdir("/proc/self/fd"))
for argv, options in ((["/bin/true"], {}), (["/nowhere"], {}), (["/bin/true"], {"tmpfs": ["/x=0"]}), (["/bin/sleep", "9"],
                      {"timeout": 0.1, "grace": 0})):
    try:
        print(mrunc.run(argv, **options).returncode)
    except mrunc.SandboxError as error:
        print(error.status)
print(len(os.listdir("/proc/self/fd")) - before)
try:
    os.waitpid(-1, os.WNOHANG); print("a child is left")
except ChildProcessError:
    print("no child")
""" % os.path.dirname(inside.tool)
    done = inside.outside([PYTHON, "-I", "-S", "-c", code])
    assert (done.returncode, done.stdout) == (0, "0\n127\n2\n124\n0\nno child\n"), done


DOMAIN = """
import ctypes
fields = ctypes.create_string_buffer(6 * 65)
ctypes.CDLL(None).uname(fields)
print(fields.raw[5 * 65:].partition(b"\\0")[0].decode())
"""


def test_the_nis_domain_name_of_the_host_stays_outside(inside_as_root):
    """A new UTS namespace begins with the host's names."""
    script = 'echo secret-nis > /proc/sys/kernel/domainname; /usr/bin/python3 -c "$0"; exec "$@"'
    command = inside_as_root.command("/usr/bin/python3", "-c", DOMAIN)
    done = inside_as_root.outside(["unshare", "--uts", "sh", "-c", script, DOMAIN, *command])
    assert done.stdout.split() == ["secret-nis", "(none)"], done


def test_a_host_name_needs_its_control(inside):
    done = inside.run("true", options=["-q", "--unsafe-without", "hostname", "--hostname", "x"])
    assert done.rc == 2 and "contradicts --hostname" in done.err, done
