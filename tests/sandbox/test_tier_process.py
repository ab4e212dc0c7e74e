# SPDX-License-Identifier: Apache-2.0
"""The process tier: no namespaces, and what hostile code can't do all the same.

Each deed succeeds outside first, as the same caller, against the same file, process or socket.  `below` runs the tier as on a
kernel with an older Landlock; the rights that such a kernel lacks are then not asked for, so what the filter has to
stand in for is seen.
"""
import ctypes
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from conftest import IN_VM, PYTHON, USER, also_in_vm, become

TIER = ["--tier", "process"]
X86 = os.uname().machine == "x86_64"
ABI = ctypes.CDLL(None).syscall(444, None, 0, 1)
ABIS = tuple(abi for abi in (1, 2, 5) if abi <= ABI)
EPERM, EACCES, EXDEV, EINVAL, ENOTTY, ENOSYS = 1, 13, 18, 22, 25, 38
EPROTONOSUPPORT, EAFNOSUPPORT, ENOTSUP = 93, 97, 95
DEADLINE = 60
#: Seconds, longer than any of these tests waits: what is left behind ends by itself.
FOREVER = 600

HEAD = """
import ctypes, errno, fcntl, os, select, signal, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
X86 = os.uname().machine == "x86_64"
def call(x86, aarch64, *arguments):
    result = libc.syscall(x86 if X86 else aarch64, *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if result == -1:
        raise OSError(ctypes.get_errno(), "refused")
    return result
"""
TAIL = """
try:
    deed()
    print("done")
except OSError as error:
    print("errno", error.errno)
    sys.exit(1)
"""
BUFFER = "ctypes.create_string_buffer(64)"
#: name: (deed, errnos).  VICTIM: a process of the caller; FILE: a file of the caller's that is not shown, SHOWN one that is,
#: with --ro; FOLDER: the directory of FILE; SOCKET: a datagram socket that the test listens on, STREAM a stream socket.
ATTACKS = {
    # Files: what Landlock holds
    "read a file": ("open(FILE).close()", {EACCES}),
    "append to a file": ("open(FILE, 'a').close()", {EACCES}),
    "write a shown file": ("open(SHOWN, 'r+').close()", {EACCES}),
    "truncate a file": ("os.truncate(FILE, 4)", {EACCES, EPERM}),
    "truncate a shown file": ("os.truncate(SHOWN, 4)", {EACCES, EPERM}),
    "truncate a shown file through a descriptor for reading": ("os.close(os.open(SHOWN, os.O_RDONLY | os.O_TRUNC))",
                                                                {EACCES, EPERM}),
    "list a directory": ("os.listdir(FOLDER)", {EACCES}),
    "list the root": ("os.listdir('/')", {EACCES}),
    "make a file": ("os.close(os.open(FOLDER + '/new', os.O_CREAT | os.O_WRONLY)), os.unlink(FOLDER + '/new')", {EACCES}),
    "make a directory": ("os.mkdir(FOLDER + '/new'), os.rmdir(FOLDER + '/new')", {EACCES}),
    "make a link": ("os.symlink('x', FOLDER + '/new'), os.unlink(FOLDER + '/new')", {EACCES}),
    "make a FIFO": ("os.mkfifo(FOLDER + '/new'), os.unlink(FOLDER + '/new')", {EACCES}),
    "rename a file": ("os.rename(FILE, FILE + 'x'), os.rename(FILE + 'x', FILE)", {EACCES, EXDEV}),
    "link a file to its own": ("os.link(FILE, 'mine'), os.unlink('mine')", {EACCES, EXDEV}),
    "link a shown file to its own": ("os.link(SHOWN, 'mine'), os.unlink('mine')", {EACCES, EXDEV, EPERM}),
    "link a shown file by its descriptor": (
        "call(265, 37, -100, b'/proc/self/fd/%d' % os.open(SHOWN, 0), -100, b'mine', 0x400); os.unlink('mine')",
        {EACCES, EXDEV, EPERM}),
    "exchange a file": ("open('mine', 'w').close(); call(316, 276, -100, b'mine', -100, os.fsencode(FILE), 2)\n    "
                        "call(316, 276, -100, b'mine', -100, os.fsencode(FILE), 2); os.unlink('mine')", {EACCES, EXDEV}),
    "rename its own directory": ("""
    if not os.path.basename(os.getcwd()).startswith('mrunc-process-'):
        os.makedirs('sub', exist_ok=True), os.chdir('sub')
    here = os.getcwd(); os.rename(here, here + 'x'); os.rename(here + 'x', here)""", {EACCES, EXDEV}),
    "execute by descriptor": ("""
    pid = os.fork()
    if pid == 0:
        fd = os.open(FILE, os.O_PATH)
        os.set_inheritable(fd, True)
        try: os.execve(fd, ['x'], {})
        except OSError as error: os._exit(error.errno)
    status = os.waitpid(pid, 0)[1] >> 8
    if status: raise OSError(status, '')""", {EACCES}),
    "take a file out": ("open('mine', 'w').close(), os.rename('mine', FOLDER + '/new'), os.unlink(FOLDER + '/new')",
                        {EACCES, EXDEV}),
    "read by a link of its own": ("os.symlink(FILE, 'way')\n    try: open('way').close()\n    finally: os.unlink('way')", {EACCES}),
    "read from the directory": ("here = os.getcwd()\n    os.chdir(FOLDER)\n    try: open(os.path.basename(FILE)).close()\n"
                                "    finally: os.chdir(here)", {EACCES}),
    "read below an O_PATH descriptor": ("os.open(os.path.basename(FILE), 0, dir_fd=os.open(FOLDER, os.O_PATH))", {EACCES}),
    "open again for reading": ("open('/proc/self/fd/%d' % os.open(FILE, os.O_PATH)).close()", {EACCES}),
    "execute a file": ("os.posix_spawn(FILE, ['x'], {})", {EACCES}),
    "shared memory files": ("os.close(os.open('/dev/shm/mrunc-x', os.O_CREAT | os.O_RDWR)), os.unlink('/dev/shm/mrunc-x')",
                            {EACCES}),
    "read of processes": ("open('/proc/self/status').close()", {EACCES}),
    "own out-of-memory score": ("open('/proc/self/oom_score_adj', 'w').close()", {EACCES}),
    # Files: what Landlock does not hold
    "chmod": ("os.chmod(FILE, 0o755)", {EPERM}),
    "fchmod of a shown file": ("os.fchmod(os.open(SHOWN, 0), 0o644)", {EPERM}),
    "chown": ("os.chown(FILE, -1, -1)", {EPERM}),
    "utime": ("os.utime(FILE)", {EPERM}),
    "setxattr": ("os.setxattr(FILE, 'user.mrunc', b'x')", {EPERM}),
    "getxattr": ("os.getxattr(FILE, 'user.planted')", {ENOTSUP}),
    "listxattr": ("os.listxattr(FILE)", {ENOTSUP}),
    "a descriptor without a right": ("os.close(os.open(FILE, 3))", {EINVAL}),
    "attributes of a shown file": ("fcntl.ioctl(os.open(SHOWN, 0), 0x80086601, %s)" % BUFFER, {ENOTTY}),
    "file watching": ("assert call(254, 27, call(253, 26, 0) if X86 else call(0, 26, 0), os.fsencode(FOLDER), 0xfff) > 0", {ENOSYS}),
    "a file handle": ("""
    handle = ctypes.create_string_buffer(struct.pack('=Ii', 128, 0), 136)
    call(303, 264, -100, os.fsencode(FILE), handle, ctypes.create_string_buffer(8), 0)""", {ENOSYS}),
    "a set-id file": ("os.umask(0); os.close(os.open('setid', os.O_CREAT | os.O_WRONLY, 0o4755)); os.unlink('setid')", {EPERM}),
    # Other processes
    "kill": ("os.kill(VICTIM, 0)", {EPERM}),
    "kill the supervisor's group": ("os.kill(-os.getpgid(VICTIM), 0)", {EPERM}),
    "tgkill": ("call(234, 131, VICTIM, VICTIM, 0)", {EPERM}),
    "sigqueue": ("info = ctypes.create_string_buffer(struct.pack('=iii', 0, 0, -1), 128); call(129, 138, VICTIM, 0, info)",
                 {EPERM}),
    "pidfd signal": ("call(424, 424, call(434, 434, VICTIM, 0), 0, 0, 0)", {EPERM}),
    "pidfd getfd": ("os.close(call(438, 438, call(434, 434, VICTIM, 0), 0, 0))", {EPERM}),
    "ptrace": ("call(101, 117, 0x4206, VICTIM, 0, 0); os.waitpid(VICTIM, 0x40000000 | os.WNOHANG)", {EPERM}),
    "memory by /proc": ("open('/proc/%d/mem' % VICTIM, 'rb').close()", {EACCES}),
    "environment by /proc": ("open('/proc/%d/environ' % VICTIM, 'rb').read()", {EACCES}),
    "command line by /proc": ("open('/proc/%d/cmdline' % VICTIM, 'rb').read()", {EACCES}),
    "directory by /proc": ("os.readlink('/proc/%d/cwd' % VICTIM)", {EACCES}),
    "descriptor by /proc": ("os.close(os.open('/proc/%d/fd/0' % VICTIM, 0))", {EACCES}),
    "root by /proc": ("os.stat('/proc/%d/root/etc' % VICTIM)", {EACCES}),
    "process_vm_readv": ("""
    import subprocess
    memory = ctypes.create_string_buffer(8)
    vector = ctypes.create_string_buffer(struct.pack('QQ', ctypes.addressof(memory), 8), 16)
    there = ctypes.create_string_buffer(struct.pack('QQ', ADDRESS, 8), 16)
    call(310, 270, VICTIM, vector, 1, there, 1, 0)""", {EPERM}),
    "kcmp": ("call(312, 272, VICTIM, VICTIM, 1, 0, 0)", {EPERM}),
    "affinity": ("os.sched_setaffinity(VICTIM, os.sched_getaffinity(VICTIM))", {EPERM}),
    "scheduler": ("os.sched_setscheduler(VICTIM, 0, os.sched_param(0))", {EPERM}),
    "priority": ("os.setpriority(0, VICTIM, os.getpriority(0, VICTIM))", {EPERM}),
    # The kernel says EACCES when it has found one whose priority may not be raised: it was not refused.
    "priority of all": ("""
    try:
        os.setpriority(2, os.getuid(), os.getpriority(2, os.getuid())) if os.getuid() else os.setpriority(0, VICTIM, 0)
    except OSError as error:
        if error.errno != errno.EACCES: raise""", {EPERM}),
    "I/O priority": ("call(251, 30, 1, VICTIM, 0x4004)", {EPERM}),
    "limits": ("call(302, 261, VICTIM, 7, 0, %s)" % BUFFER, {EPERM}),
    # Sockets, queues, keys
    "a UNIX socket": ("socket.socket(socket.AF_UNIX).connect(STREAM)", {EAFNOSUPPORT}),
    "a network socket": ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()", {EAFNOSUPPORT}),
    "a netlink socket": ("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()", {EAFNOSUPPORT}),
    "a datagram pair sent elsewhere": ("socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'hello', SOCKET)",
                                       {EPROTONOSUPPORT}),
    "a datagram pair connected elsewhere": ("socket.socketpair(socket.AF_UNIX, socket.SOCK_RAW)[0].connect(SOCKET)",
                                            {EPROTONOSUPPORT}),
    "an abstract name": ("socket.socketpair()[0].bind(b'\\0mrunc-test-%d' % os.getpid())", {EPERM}),
    "System V memory": ("call(31, 195, call(29, 194, 0, 4096, 0o600), 0, 0)", {ENOSYS}),
    "System V messages": ("call(71, 187, call(68, 186, 0, 0o600), 0, 0)", {ENOSYS}),
    "System V semaphores": ("call(66, 191, call(64, 190, 0, 1, 0o600), 0, 0, 0)", {ENOSYS}),
    "POSIX queues": ("call(240, 180, b'mrunc-q', 0o102, 0o600, 0); call(241, 181, b'mrunc-q')", {ENOSYS}),
    "keys": ("call(250, 219, 0, -3, 1)", {EPERM}),
    "io_uring": ("call(425, 425, 1, ctypes.create_string_buffer(120))", {ENOSYS}),
    "a user namespace": ("assert os.fork() or not os._exit(call(272, 97, 0x10000000))\n    if os.wait()[1]: raise OSError(1, '')",
                         {EPERM}),
}


class Surroundings:
    """What there is to attack: files, sockets and a process of the caller's."""

    def __init__(self, inside):
        self.inside, folder = inside, os.path.join(inside.scratch, "secret")
        os.mkdir(folder, 0o700)
        self.folder, self.file = folder, os.path.join(folder, "file")
        self.shown = os.path.join(inside.scratch, "shown")
        for path in (self.file, self.shown):
            with open(path, "w") as stream:
                stream.write("#!/bin/sh\nexit 0\n")
            os.chmod(path, 0o755)
        self.socket, self.stream = os.path.join(folder, "socket"), os.path.join(folder, "stream")
        self.listening = [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), socket.socket(socket.AF_UNIX)]
        for server, path in zip(self.listening, (self.socket, self.stream)):
            server.bind(path)
            os.chmod(path, 0o777)
        self.listening[1].listen(8)
        if inside.who == "user" and os.geteuid() == 0:
            for path in (folder, self.file, self.shown, self.socket, self.stream):
                os.chown(path, USER, USER)
        self.victims = []
        self.victim = self.another()

    def another(self):
        """A new process of the caller's, with a priority unlike others, which says that it is there and sleeps."""
        process = subprocess.Popen(["/usr/bin/python3", "-I", "-S", "-c", "import ctypes, os, time\nos.nice(1)\n"
                                    "word = ctypes.create_string_buffer(8)\nprint(ctypes.addressof(word), flush=True)\n"
                                    "time.sleep(%d)" % FOREVER],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, preexec_fn=become(self.inside.who),
                                   cwd=self.folder)
        self.victims.append(process)
        process.address = int(process.stdout.readline())
        return process

    def code(self, deed):
        """The whole program of a deed."""
        names = {"VICTIM": self.victim.pid, "ADDRESS": self.victim.address, "FILE": self.file, "SHOWN": self.shown,
                 "FOLDER": self.folder, "SOCKET": self.socket, "STREAM": self.stream}
        lines = ["%s = %r" % item for item in names.items()]
        return HEAD + "\n".join(lines) + "\ndef deed():\n    " + deed.strip() + "\n" + TAIL

    @property
    def options(self):
        return TIER + ["--ro", self.shown]

    def close(self):
        for process in self.victims:
            process.kill()
            process.wait()
            process.stdout.close()
        for server in self.listening:
            server.close()


@pytest.fixture
def around(inside, request):
    found = Surroundings(inside)
    if "xattr" in request.node.name:  # a tmpfs has them from Linux 6.6 on
        os.setxattr(found.file, "user.planted", b"x")
    yield found
    found.close()


def below(inside, abi, *argv, options=()):
    """The command line of mrunc as on a kernel with an older Landlock."""
    code = ("import sys; sys.path.insert(0, %r); import mrunc\nfrom mrunc.syscalls import landlock\n"
            "landlock.version = lambda: %d\nsys.exit(mrunc.main(sys.argv[1:]))" % (os.path.dirname(inside.tool), abi))
    return [PYTHON, "-I", "-S", "-c", code, "run", *TIER, *options, "--", *argv]


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_what_the_filter_and_landlock_refuse(around, probe, name):
    deed, errnos = ATTACKS[name]
    done = probe(around.code(deed), options=around.options)
    assert done.rc == 1 and done.out.startswith("errno "), done
    assert int(done.out.split()[1]) in errnos, done
    assert around.victim.poll() is None


@pytest.mark.parametrize("abi", ABIS)
@pytest.mark.parametrize("name", ["truncate a file", "truncate a shown file", "read a file", "link a file to its own",
                                  "truncate a shown file through a descriptor for reading", "take a file out", "kill",
                                  "pidfd signal", "tgkill", "sigqueue"])
def test_the_same_below_an_older_landlock(around, name, abi):
    deed, errnos = ATTACKS[name]
    outside = around.inside.outside(["/usr/bin/python3", "-I", "-S", "-c", around.code(deed)])
    assert outside.returncode == 0, outside
    done = around.inside.outside(below(around.inside, abi, "/usr/bin/python3", "-I", "-S", "-c", around.code(deed),
                                       options=["--ro", around.shown]))
    assert done.returncode == 1 and done.stdout.startswith("errno "), done
    assert int(done.stdout.split()[1]) in errnos, done


SIGIO = """
read, write = os.pipe()
fcntl.fcntl(read, fcntl.F_SETOWN, int(sys.argv[1]))
fcntl.fcntl(read, 10, signal.SIGTERM)
fcntl.fcntl(read, fcntl.F_SETFL, os.O_ASYNC)
os.write(write, b"x")
os.kill(-1, 9) if sys.argv[2:] else None
"""


@pytest.mark.also_vm
@pytest.mark.needs("landlock")
@pytest.mark.parametrize("abi", [None] + [2] * (ABI > 2))
def test_no_signal_reaches_a_process_outside_by_a_descriptor_or_by_all(around, abi):
    inside, end = around.inside, around.another()
    assert inside.outside(["/usr/bin/python3", "-I", "-S", "-c", HEAD + SIGIO, "%d" % end.pid]).returncode == 0
    assert end.wait(DEADLINE) == -signal.SIGTERM
    argv = ["/usr/bin/python3", "-I", "-S", "-c", "print('ran', flush=True)\n" + HEAD + SIGIO, "%d" % around.victim.pid, "all"]
    command = inside.command(*argv, options=TIER) if abi is None else below(inside, abi, *argv)
    done = inside.outside(command)
    assert done.stdout == "ran\n", done
    os.kill(around.victim.pid, 0)
    assert around.victim.poll() is None


def test_a_socket_is_not_handed_in(around):
    """A datagram socket could be sent from to any other of the host."""
    code = "import os, stat\nprint(stat.S_ISFIFO(os.fstat(0).st_mode))\nos.read(0, 10)"
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        with ours, theirs:
            ours.send(b"x")
            done = around.inside.outside(around.inside.command("/usr/bin/python3", "-I", "-S", "-c", code, options=TIER), stdin=theirs)
        assert (done.returncode, done.stdout) == (0, "True\n"), done


def test_a_stdin_for_reading_leads_nowhere_else(around):
    """It opens for writing, and what is written there is in the private pipe alone."""
    code = "import os\nos.write(os.open('/proc/self/fd/0', os.O_RDWR | os.O_NONBLOCK), b'FORGED')\nprint('written')"
    with open(around.file) as stream:
        before = os.fstat(stream.fileno())
        done = around.inside.outside(around.inside.command("/usr/bin/python3", "-I", "-S", "-c", code, options=TIER), stdin=stream)
        after = os.fstat(stream.fileno())
    assert done.stdout == "written\n" and (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns), done


def test_a_shown_directory_is_shown_at_its_own_place_and_can_be_the_current_one(around):
    place = os.path.join(around.inside.scratch, "open")
    os.mkdir(place)
    with open(os.path.join(place, "text"), "w") as stream:
        stream.write("hello\n")
    done = around.inside.run("cat", "text", options=TIER + ["--ro", place, "--chdir", place])
    assert (done.rc, done.out) == (0, "hello\n"), done
    done = around.inside.run("cat", "text", options=TIER + ["--chdir", place])
    assert done.rc == 1 and "Permission denied" in done.err, done


def test_root_cannot_show_what_not_everybody_may_read(inside_as_root):
    place = os.path.join(inside_as_root.scratch, "closed")
    os.mkdir(place, 0o700)
    done = inside_as_root.run("true", options=TIER + ["--ro", place])
    assert done.rc == 2 and "not readable for everybody" in done.err and "--copy" in done.err, done


# Identity, programs, the private directory

@pytest.mark.also_vm
@pytest.mark.needs("landlock")
def test_who_it_is(inside):
    done = inside.python("""
import ctypes, os, struct
prctl = ctypes.CDLL(None).prctl
print(len(set(os.getresuid() + os.getresgid())), os.getuid(), len(os.getgroups()), prctl(39, 0, 0, 0, 0), prctl(21, 0, 0, 0, 0))
print(os.getsid(0) == os.getpid(), os.getcwd() == os.environ["HOME"] == os.environ["TMPDIR"])
data = ctypes.create_string_buffer(24)
ctypes.CDLL(None).capget(ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0)), data)
print(set(data.raw))""", options=TIER)
    lines = done.out.splitlines()
    one, uid, groups, nnp, seccomp = map(int, lines[0].split())
    assert (one, nnp, seccomp) == (1, 1, 2), done
    assert groups == (0 if inside.who == "root" else len(os.getgroups()) if os.geteuid() else 0), done
    assert uid >= 2000000000 if inside.who == "root" else uid == (USER if os.geteuid() == 0 else os.geteuid())
    assert lines[1:] == ["True True", "{0}"], done
    assert done.result["tier"] == "process"


@pytest.mark.parametrize("script", [
    "printf '%s\\n' b a | sort | tr a-z A-Z > out && test \"$(cat out | head -1)\" = A",
    "mkdir -p a/b && echo x > a/b/c && mv a/b/c a/d && ln a/d e && ln -s e f && cp f g && find . -name g -delete && rm -r a",
    "python3 -I -c 'import json, tempfile, threading, subprocess, sqlite3; tempfile.TemporaryFile();"
    " t = threading.Thread(target=print); t.start(); t.join(); assert subprocess.check_output([\"echo\", \"x\"]) == b\"x\\n\"'",
    "echo 'int main(void) { return 7; }' > a.c && gcc -O1 -c a.c && gcc -o a a.o && /lib64/ld-linux-x86-64.so.2 ./a || test $? = 7",
    "perl -e 'print join(\",\", sort(3, 2, 1))' | grep -q 1,2,3",
    "echo 'all: x\nx:\n\techo made > x' > Makefile && make -s && cat x | awk '{ exit $1 != \"made\" }'",
    "head -c 100000 /dev/urandom | gzip | gzip -d | wc -c | grep -q 100000",
    "trap 'exit 5' TERM; kill -TERM $$; exit 1",
], ids=["pipes", "files", "python", "gcc", "perl", "make", "gzip", "signals"])
def test_programs_run(inside, script):
    if "kill" in script and ABI < 6:
        pytest.skip("without a signal scope the filter refuses signals: docs/tiers.md")
    if "ld-linux" in script and not X86:
        script = script.replace("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
    done = inside.run("/bin/sh", "-ec", script, options=TIER)
    assert done.rc == (5 if "kill" in script else 0), done


def test_a_copy_lies_in_the_private_directory(inside):
    sample = os.path.join(inside.scratch, "sample")
    with open(sample, "w") as stream:
        stream.write("#!/bin/sh\necho I am $0 in $PWD; ls -l sub\n")
    done = inside.run("./sample", options=TIER + ["--copy", sample, "--copy", sample + ":/box/sub/dir/x"])
    assert done.rc == 0 and done.out.startswith("I am ./sample in /") and "dir" in done.out, done
    done = inside.run("./sub/x", options=TIER + ["--copy", sample, "--copy", sample + ":/box/sub"])
    assert done.rc != 0
    done = inside.run("true", options=TIER + ["--copy", sample, "--copy", sample + ":/box/sample/x"])
    assert (done.rc, done.out) == (2, ""), done


def private_directories(inside):
    return [name for name in os.listdir(inside.scratch) if re.match("mrunc-process-[0-9a-f]{16}$", name)]


LITTER = """
import os, socket
os.symlink(TARGET, "link"), os.symlink(os.path.dirname(TARGET), "folder"), os.mkfifo("fifo")
os.mkdir("closed", 0o700), os.mkdir("closed/inner", 0), os.mkdir("none", 0)
open("closed/file", "w").close()
for number in range(120):  # names that could be guessed
    os.makedirs(".up-%d-%d/x" % (os.getpid() - number % 40, number // 40))
for name in (b"\\xff\\n", b"-rf", b"x" * 255):
    os.mkdir(name)
    open(os.path.join(name, b"f"), "w").close()
for depth in range(3000):
    os.mkdir("d")
    os.chdir("d")
    os.symlink(TARGET, "link")
os.mkdir("last", 0)
print("made")
"""


def test_the_private_directory_is_removed_whatever_is_in_it(around):
    inside = around.inside
    done = inside.python("TARGET = %r\n" % around.file + LITTER, options=TIER, env=dict(os.environ, TMPDIR=inside.scratch))
    assert (done.rc, done.out) == (0, "made\n"), done
    assert private_directories(inside) == []
    with open(around.file) as stream:
        assert stream.read().startswith("#!")
    assert sorted(os.listdir(around.folder)) == ["file", "socket", "stream"]


#: argv: the tool's folder, a function of private.py, a signal's number, the arguments.
SIGNALLED = """
import os, sys
sys.path.insert(0, sys.argv[1])
import mrunc
from mrunc.sandbox.launch import private
name, number = sys.argv[2], int(sys.argv[3])
owner = private.PrivateDirectory if name in vars(private.PrivateDirectory) else private
real, sent = getattr(owner, name), []
def signalled(*arguments):
    result = real(*arguments) if name == "__init__" else None
    if not sent:
        sent.append(os.kill(os.getpid(), number))
    return result if name == "__init__" else real(*arguments)
setattr(owner, name, signalled)
sys.exit(mrunc.main(sys.argv[4:]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("name", ["__init__", "copy", "empty"])
def test_a_signal_does_not_leave_the_private_directory(inside, name, number):
    """As soon as it is made, while a file is copied into it, and while it is removed."""
    source = os.path.join(inside.scratch, "file")
    with open(source, "w") as stream:
        stream.write("x")
    os.chmod(source, 0o644)
    words = inside.command("/bin/echo", "ran", options=TIER + ["--copy", source])
    words = [PYTHON, "-c", SIGNALLED, os.path.dirname(inside.tool), name,
             "%d" % number] + words[words.index("run"):]
    done = inside.outside(words, env=dict(os.environ, TMPDIR=inside.scratch))
    assert done.stdout == ("ran\n" if name == "empty" else ""), done
    if name == "empty":
        assert done.returncode in (-number, 128 + number), done
    else:
        assert done.returncode == 128 + number and "nothing was run" in done.stderr, done
    assert [name for name in os.listdir(inside.scratch) if "mrunc-process-" in name] == []


def test_the_private_directory_is_gone_when_nothing_ran(inside):
    env = dict(os.environ, TMPDIR=inside.scratch)
    assert inside.run("./nothing", options=TIER, env=env).rc == 127
    assert inside.run("true", options=TIER + ["--rlimit", "nproc=unlimited", "--chdir", "/nowhere"], env=env).rc == 2
    assert private_directories(inside) == []


def test_what_cannot_be_removed_is_said(inside_as_root):
    """A directory that is a mount point by then, in a mount namespace that is thrown away."""
    script = ("mount --make-rprivate /; \"$@\" & until [ -e mrunc-process-*/up ]; do sleep 0.05; done; cd mrunc-process-*; mkdir m\n"
              "mount -t tmpfs none m; touch go; wait $!")
    done = inside_as_root.outside(
        ["unshare", "-m", "/bin/sh", "-ec", script, "sh",
         *inside_as_root.command("/bin/sh", "-c", "echo > up; until [ -e go ]; do sleep 0.05; done", options=TIER)],
        env=dict(os.environ, TMPDIR=inside_as_root.scratch))
    assert done.returncode == 0 and "could not be removed" in done.stderr, done


def test_what_a_killed_run_left_is_removed_by_the_next(inside):
    env = dict(os.environ, TMPDIR=inside.scratch)
    process = subprocess.Popen(inside.command("/bin/sh", "-c", "mkdir a; echo x > a/b; echo up; exec sleep 1000", options=TIER),
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, preexec_fn=become(inside.who), cwd=inside.scratch,
                               env=env)
    assert process.stdout.readline() == b"up\n"
    process.kill()
    process.wait()
    if ABI >= 6:
        assert process.communicate(timeout=DEADLINE)[0] == b""
    process.stdout.close()
    left = private_directories(inside)
    assert len(left) == 1
    others = [left[0] + "x", left[0][:-1] + "x", left[0][:-1], "mrunc-other"]  # only looks like one
    for name in others:
        os.mkdir(os.path.join(inside.scratch, name))
        os.chown(os.path.join(inside.scratch, name), *os.stat(os.path.join(inside.scratch, left[0]))[4:6])
    with subprocess.Popen(inside.command("/bin/sh", "-c", "echo up; read line", options=TIER), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, preexec_fn=become(inside.who), cwd=inside.scratch, env=env) as running:
        assert running.stdout.readline() == b"up\n"
        used = private_directories(inside)
        assert len(used) == 1 and used != left
        assert set(others) <= set(os.listdir(inside.scratch))
        assert inside.run("true", options=TIER, env=env).rc == 0
        assert private_directories(inside) == used  # its run lives
        running.stdin.close()
    assert private_directories(inside) == []


@pytest.mark.parametrize("closed", ["not sticky", "not there", "not writable"])
def test_a_tmpdir_that_will_not_do_is_passed_over(inside, closed):
    place = os.path.join(inside.scratch, "tmp")
    os.mkdir(place)
    os.chmod(place, 0o777 if closed == "not sticky" else 0o555)
    if closed == "not there":
        os.rmdir(place)
    done = inside.run("pwd", options=TIER, env=dict(os.environ, TMPDIR=place))
    if closed == "not writable" and inside.who == "root":
        assert done.out.startswith(place), done  # modes are no hindrance for root
    else:
        assert done.out.startswith("/tmp/mrunc-process-"), done


# The end

ORPHANS = """
import os, time
for how in range(4):
    if os.fork() == 0:
        if how & 1:
            os.setsid()
        if how & 2 and os.fork():
            os._exit(0)
        os.write(1, b"up\\n")
        time.sleep(%d)
""" % FOREVER


@pytest.mark.also_vm
@pytest.mark.needs("landlock")
def test_orphans_are_gone_when_the_run_ends(inside):
    """Each holds the output: that it ends proves that nobody is left."""
    code = ORPHANS + "print('end', flush=True)"
    done = inside.python(code, options=TIER, timeout=DEADLINE)
    assert done.rc == 0, done


@pytest.mark.parametrize("report", [False, True])
@pytest.mark.parametrize("abi", ABIS)
def test_orphans_are_gone_below_an_older_landlock(inside, abi, report):
    """With a report one filter, which asks a listener, stands for the two that a file at 1 or 2 would have."""
    options = ["--report", os.path.join(inside.scratch, "orphans.json")] if report else []
    code = ORPHANS + "print('end', flush=True)"
    command = below(inside, abi, "/usr/bin/python3", "-I", "-S", "-c", code, options=options)
    with open(os.path.join(inside.scratch, "errors"), "w") as errors:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, timeout=DEADLINE,
                              cwd=inside.scratch, preexec_fn=become(inside.who), universal_newlines=True)
    assert done.returncode == 0 and "end" in done.stdout, done


LINE = """
import os, time
read, write = os.pipe()
for generation in range(100):
    if os.fork():
        break
else:
    os.write(write, b"x")
if generation:
    time.sleep(%d)
os.read(read, 1)
print("end", flush=True)
""" % FOREVER
#: Says how often the supervisor looked at all processes.
LOOKS = """
import atexit
from mrunc.sandbox.running import reaper
looks, listed = [], reaper.listed
def looking():
    looks.append(1)
    return listed()
reaper.listed = looking
atexit.register(lambda: print(len(looks), file=sys.stderr))
"""


def test_a_long_line_of_descent_is_not_ended_generation_by_generation(inside):
    """The sweep has a deadline, which one that is long enough would outlive."""
    command = below(inside, min(ABI, 5), "/usr/bin/python3", "-I", "-S", "-c", LINE)
    command[4] = command[4].replace("\n", LOOKS, 1)
    done = inside.outside(command, timeout=DEADLINE)
    assert (done.returncode, done.stdout) == (0, "end\n"), done
    assert int(done.stderr.split()[-1]) < 50, done


SIBLINGS = """
import ctypes, os, time
libc = ctypes.CDLL(None)
number = 56 if os.uname().machine == "x86_64" else 220
libc.prctl(36, 1, 0, 0, 0)
for flags in (0x8000 | 17, 0x8000, 0, 17):  # CLONE_PARENT; and no signal at the end
    if libc.syscall(number, flags, 0, 0, 0, 0) == 0:
        libc.syscall(number, flags, 0, 0, 0, 0)
        libc.prctl(4, 0, 0, 0, 0)
        os.write(1, b"up\\n")
        time.sleep(%d)
time.sleep(0.2)
""" % FOREVER


@pytest.mark.also_vm
@pytest.mark.needs("landlock")
@pytest.mark.parametrize("abi", [None] + [2] * (ABI > 2))
def test_children_that_call_somebody_else_their_parent_are_gone_too(inside, abi):
    argv = ("/usr/bin/python3", "-I", "-S", "-c", SIBLINGS + "print('end', flush=True)")
    done = inside.outside(below(inside, abi, *argv) if abi else inside.command(*argv, options=TIER), timeout=DEADLINE)
    assert done.returncode == 0 and done.stdout.count("up") > 2 and "end" in done.stdout, done


BOMB = """
import os, time
def fork():
    try:
        return os.fork()
    except OSError:
        return None
end = time.monotonic() + 30
if os.fork() == 0:
    os.setsid()
    while time.monotonic() < end:
        pid = fork()
        if pid == 0 and fork():
            os._exit(0)
        try:
            os.waitpid(-1, os.WNOHANG)
        except OSError:
            pass
time.sleep(0.3)
print("end", flush=True)
"""


@pytest.mark.also_vm
@pytest.mark.needs("landlock-signals")  # without the scope a program that forks on and on can outrun the sweep: docs/tiers.md
def test_a_program_that_forks_on_and_on_is_gone_when_the_run_ends(inside):
    done = inside.python(BOMB, options=TIER + ["--rlimit", "nproc=%d" % (100 if IN_VM else 300)], timeout=DEADLINE)
    assert "end" in done.out and done.rc == 0, done
    assert done.result["notes"] == [], done.result


@pytest.mark.also_vm
@pytest.mark.needs("landlock-signals")  # without the scope init can't kill: docs/tiers.md
def test_with_a_killed_supervisor_everything_ends(inside):
    command = inside.command("/usr/bin/python3", "-I", "-S", "-c",
                             ORPHANS + "time.sleep(%d)" % FOREVER, options=TIER)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               preexec_fn=become(inside.who), cwd=inside.scratch,
                               env=dict(os.environ, TMPDIR=inside.scratch))
    assert process.stdout.read(12) == b"up\n" * 4
    process.kill()
    assert process.communicate(timeout=DEADLINE)[0] == b""  # the end of the last of them


@pytest.mark.needs("landlock")
@pytest.mark.parametrize("abi", also_in_vm([None] + list(ABIS), None))
def test_signals_find_the_program_and_the_deadline_holds(inside, abi):
    script = "trap 'echo got; exit 3' TERM; echo up; while :; do sleep 0.05; done"
    command = below(inside, abi, "/bin/sh", "-c", script) if abi else inside.command("/bin/sh", "-c", script, options=TIER)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, preexec_fn=become(inside.who),
                               cwd=inside.scratch)
    assert process.stdout.readline() == b"up\n"
    process.terminate()
    assert process.communicate(timeout=DEADLINE)[0] == b"got\n" and process.returncode == 3
    options = ["--timeout", "0.3", "--grace", "0.1"]
    argv = ("/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.05; done")
    command = below(inside, abi, *argv, options=options) if abi else inside.command(*argv, options=TIER + options)
    done = inside.outside(command)
    assert done.returncode == 124, done


def test_the_callers_other_children_are_left_alone(inside):
    """exec from a shell: its background processes are then mrunc's."""
    script = "sleep 1000 >/dev/null 2>&1 & echo $! >&2; exec \"$@\""
    done = inside.outside(["/bin/sh", "-c", script, "sh", *inside.command("/bin/sh", "-c", "sleep 1000 & echo ran", options=TIER)])
    assert done.stdout == "ran\n", done
    pid = int(done.stderr.split()[0])
    os.kill(pid, 9)


def test_an_orphan_of_the_callers_that_is_born_meanwhile_is_left_alone(inside):
    """Of a background job of the shell that became mrunc, which takes the orphan over."""
    pipe, born = [os.path.join(inside.scratch, name) for name in ("pipe", "born")]
    os.mkfifo(pipe)
    os.chmod(pipe, 0o666)
    script = "(read line <%s; sleep 600 >/dev/null 2>&1 & echo $! >%s) & exec \"$@\"" % (pipe, born)
    program = "sleep 600 & echo up; read line; exit 0"
    command = ["/bin/sh", "-c", script, "sh",
               *inside.command("/bin/sh", "-c", program, options=TIER)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          preexec_fn=become(inside.who), cwd=inside.scratch) as run:
        assert run.stdout.readline() == b"up\n"
        with open(pipe, "w") as stream:
            stream.write("go\n")
        until = time.monotonic() + DEADLINE
        orphan = parent = 0
        while parent != run.pid:
            assert time.monotonic() < until, "it is %d's" % parent
            time.sleep(0.01)
            if os.path.exists(born) and os.path.getsize(born):
                with open(born) as stream:
                    orphan = int(stream.read())
                with open("/proc/%d/stat" % orphan) as stream:
                    parent = int(stream.read().rpartition(")")[2].split()[1])
        try:
            run.communicate(timeout=DEADLINE)
            with open("/proc/%d/stat" % orphan) as stream:
                assert run.returncode == 0 and stream.read().rpartition(")")[2].split()[0] != "Z"
        finally:
            os.kill(orphan, signal.SIGKILL)


BEFORE = """
import os, sys
sys.path.insert(0, %r)
import mrunc
from mrunc.syscalls import process, seccomp
read, write = os.pipe()
if not os.fork():
    process.set_no_new_privs()
    for _ in range(4):
        seccomp.attach(seccomp.prepare(bytes.fromhex("060000000000ff7f")))
    os.write(write, b"x")
    while os.read(0, 1):
        pass
    os.write(2, b"left alone")
    os._exit(0)
os.read(read, 1)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_child_that_the_caller_had_before_is_left_alone_whatever_filters_it_has(inside):
    command = inside.command("/bin/sh", "-c", "sleep 1000 & echo ran", options=TIER)
    with subprocess.Popen([PYTHON, "-I", "-S", "-c", BEFORE % os.path.dirname(inside.tool), *command], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=inside.scratch,
                          preexec_fn=become(inside.who)) as caller:
        assert caller.wait(DEADLINE) == 0
        assert caller.communicate() == (b"ran\n", b"left alone")


# Refusals

@pytest.mark.parametrize("options", [
    "--rw d", "--here", "--tmpfs /x", "--harden", "--hostname x", "--user 5", "--cap-add chown", "--tty", "--proc full",
    "--seccomp strict", "--seccomp-add clone3", "--rootfs d", "--ro d:/x", "--copy f:/x", "--unsafe-without landlock",
    "--unsafe-without seccomp", "--unsafe-without caps"])
def test_an_option_that_it_cannot_express_is_refused_by_name(inside, options):
    os.mkdir(os.path.join(inside.scratch, "d"))
    open(os.path.join(inside.scratch, "f"), "w").close()
    done = inside.run("/bin/echo", "ran", options=TIER + options.split())
    assert (done.rc, done.out) == (2, ""), done
    lines = done.err.splitlines()
    assert lines[0].startswith("mrunc: options: " + options.split()[0]) and "in the process tier: " in lines[0], lines


def test_without_landlock_it_is_refused(inside):
    done = inside.outside(below(inside, 0, "/bin/echo", "ran"))
    assert (done.returncode, done.stdout) == (125, "") and done.stderr.startswith("mrunc: landlock: "), done


def test_a_root_that_is_a_user_in_a_user_namespace_runs_and_one_that_is_root_is_refused(inside):
    done = inside.outside(["unshare", "-Ur", *inside.command("/bin/echo", "ran", options=TIER)])
    if inside.who == "root":
        assert (done.returncode, done.stdout) == (125, "") and "no unprivileged id" in done.stderr, done
    else:
        assert (done.returncode, done.stdout) == (0, "ran\n"), done


@pytest.mark.also_vm
@pytest.mark.needs("landlock")
def test_the_receipt_says_what_is_not_held(inside):
    done = inside.run("true", options=TIER)
    rows = dict((row["name"], row) for row in done.result["controls"])
    for name in ("userns", "mountns", "pidns", "netns", "mounts", "proc", "hostname"):
        assert not rows[name]["asked"] and not rows[name]["in_force"] and "process tier" in rows[name]["how"], rows[name]
    for name in ("uidmap", "landlock", "seccomp", "nnp", "caps", "sweep", "setid-filter", "fds", "session", "cwd"):
        assert rows[name]["asked"] and rows[name]["in_force"], rows[name]
    assert rows["parent-death"]["in_force"] == (ABI >= 6)
    assert rows["securebits"]["in_force"] == (inside.who == "root")


def test_the_line_to_paste_shows_a_program_with_its_library_where_the_program_may_go(inside):
    """Started by root the program is nobody, to whom what is closed to others can't be shown."""
    place = os.path.join(inside.scratch, "tools")
    for name, text in (("bin/tool", '#!/bin/sh\ncat "${0%/bin/*}/lib/word"\n'), ("lib/word", "found\n")):
        path = os.path.join(place, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as stream:
            stream.write(text)
        os.chmod(path, 0o755)
    if inside.who == "user" and os.geteuid() == 0:
        os.chown(place, USER, USER)
    for mode, shown in ((0o755, True), (0o700, inside.who == "user")):
        os.chmod(place, mode)
        done = inside.run(place + "/bin/tool", options=TIER)
        line, = re.findall("^mrunc: remedy: (.*)$", done.err, re.M)
        assert ("--ro %s -- %s/bin/tool" % (place, place) in line) == shown and ("--copy" in line) != shown, line
        if shown:
            pasted = inside.outside(["sh", "-c", line])
            assert (pasted.returncode, pasted.stdout, pasted.stderr) == (0, "found\n", ""), pasted
