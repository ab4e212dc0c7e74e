# SPDX-License-Identifier: Apache-2.0
"""The process story: what was executed, by whom, and how it ended, whatever a hostile program puts into it."""
import hashlib
import html.parser
import json
import os
import shutil
import subprocess

import pytest

import mrunc  # noqa: F401  registers the package
from conftest import IN_VM, also_in_vm
from outer_filter import EINVAL, behind
from mrunc import seccomp_bpf as bpf
from mrunc.sandbox.seccomp import arms, policy, shipped
from mrunc.sandbox.plan import listening
from mrunc.sandbox.observe import trace
from mrunc.syscalls import process as processes
from mrunc.syscalls.libc import ARCH
from mrunc.syscalls.numbers import native

pytestmark = pytest.mark.needs("listener")

NR = native().NR
TRACE = ("--trace", "exec")
TRUE = os.path.realpath("/bin/true")
#: What a process's status looks like is told since Linux 6.15.
TOLD = [int(part) for part in os.uname().release.split("-")[0].split(".")[:2]] >= [6, 15]


def traced(inside, *argv, options=(), **settings):
    """(Finished, its rows)"""
    done = inside.run(*argv, options=[*TRACE, *options], **settings)
    return done, done.result["processes"]


def sha256(path):
    with open(path, "rb") as stream:
        return hashlib.sha256(stream.read()).hexdigest()


def brief(rows):
    """[(path, executable, status)] of those that were seen to run."""
    return [(row["path"], row["exe"], row["exit_code"]) for row in rows if row["confirmed"]]


def compiled(inside, code, *options):
    """The path of a C program."""
    assert shutil.which("gcc"), "apt-get install gcc libc6-dev (as root, .ci/test does it)"
    path = os.path.join(inside.scratch, "program")
    with open(path + ".c", "w") as stream:
        stream.write(code)
    subprocess.run(["gcc", "-w", *options, "-o", path, path + ".c"], check=True, timeout=60)
    return path


STORY = """
cp /bin/true ./copy; ./copy one 'two words'
cp /bin/true script; printf '#!/bin/sh\\nexit 3\\n' > script; ./script
cd /; "$OLDPWD/copy"
exec /bin/sh -c 'kill -9 $$'
"""


@pytest.mark.needs("pidfd_open", "openat2")  # or nobody sees their ends, and no digest is taken
@pytest.mark.parametrize("tier", also_in_vm(["full", "process"], "full"))
def test_each_program_is_told_with_its_parent_its_arguments_and_its_end(inside, tier):
    done, rows = traced(inside, "/bin/sh", "-c", STORY, options=["--tier", tier])
    assert done.rc == 137, done
    shell = os.path.realpath("/bin/sh")
    place = rows[0]["cwd"]
    if tier == "process" and inside.who == "user":  # the first is asked for from the memory of mrunc's own, undumpable pid 1
        assert rows[0]["path"] in ("/bin/sh", "<unreadable: EPERM>")
        rows[0]["path"] = "/bin/sh"
    assert [(row["path"].replace(place + "/", "./"), row["exe"].replace(place + "/", "./")) for row in rows] == [
        ("/bin/sh", shell), ("/usr/bin/cp", os.path.realpath("/bin/cp")), ("./copy", "./copy"),
        ("/usr/bin/cp", os.path.realpath("/bin/cp")), ("./script", shell), ("./copy", "./copy"), ("/bin/sh", shell)]
    assert all(row["confirmed"] and row["count"] == 1 for row in rows)
    assert rows[2]["argv"] == ["./copy", "one", "two words"] and rows[4]["argv"] == ["/bin/sh", "./script"]
    assert [row["cwd"] for row in rows] == [place] * 5 + ["/"] * 2
    first = rows[0]["pid"]
    assert rows[6]["pid"] == first and {row["parent"] for row in rows[1:6]} == {first}
    assert len({row["pid"] for row in rows}) == 6 and rows[6]["parent"] == rows[0]["parent"]
    assert {row["uid"] for row in rows} == ({0} if tier == "full" else {int(inside.outside(["id", "-u"]).stdout)}) \
        or inside.who == "root"
    times = [row["started_s"] for row in rows]
    assert times == sorted(times) and all(row["started_s"] <= row["ended_s"] for row in rows)
    assert all(row["ended_s"] <= later["started_s"] for row, later in zip(rows[1:6], rows[2:]))
    assert rows[6]["signal"] == 9 and rows[6]["exit_missing"] is None
    assert rows[0]["ended_s"] == rows[6]["started_s"] and "another program" in rows[0]["exit_missing"]
    if TOLD:
        assert [row["exit_code"] for row in rows[1:6]] == [0, 0, 0, 3, 0]
    else:
        assert all("6.15" in row["exit_missing"] for row in rows[1:6])
    assert rows[2]["sha256"] == rows[5]["sha256"] == sha256(TRUE)
    assert rows[4]["sha256"] == hashlib.sha256(b"#!/bin/sh\nexit 3\n").hexdigest()
    assert [row["sha256"] for row in (rows[0], rows[1], rows[3], rows[6])] == [None] * 4
    row = [row for row in done.result["controls"] if row["name"] == "trace"][0]
    assert row["asked"] and row["in_force"] and "evidence only" in row["how"]


def test_without_it_nobody_looks(inside):
    done = inside.run("/bin/true")
    assert done.result["processes"] is None
    assert not [row for row in done.result["controls"] if row["name"] == "trace"][0]["in_force"]


def test_the_ledgers_file_has_the_same(inside):
    path = os.path.join(inside.scratch, "ledger.jsonl")
    done, rows = traced(inside, "/bin/sh", "-c", "cp /bin/true x; ./x; unshare -n true; ./x", options=["--ledger", path])
    with open(path) as stream:
        lines = [json.loads(line) for line in stream]
    from mrunc.sandbox.result import schema
    assert [list(schema.mistakes(line, schema.LEDGER)) for line in lines] == [[]] * len(lines)
    told = sorted((line for line in lines if line["event"] == "exec"), key=lambda line: line["started_s"])
    assert [line["argv"] for line in told] == [row["argv"] for row in rows] and len(rows) == 5
    ends = {line["pid"]: line for line in lines if line["event"] == "exit"}
    for row in rows:
        assert ends[row["pid"]]["ended_s"] == row["ended_s"]
    assert [row["syscall"] for row in done.result["refused"]] == ["unshare"]
    assert [line["syscall"] for line in lines if line["event"] == "refused"] == ["unshare"]


@pytest.mark.whoever
@pytest.mark.also_vm
def test_what_fails_is_no_program(inside):
    """A shell asks for each directory of PATH; a missing program, a FIFO and a directory are not executed."""
    done, rows = traced(inside, "/bin/sh", "-c", "mkfifo /tmp/f; chmod 755 /tmp/f; /tmp/f; /tmp; ls >/dev/null; chmod 644 /tmp/f",
                        timeout=60)
    assert [row["path"] for row in rows if row["confirmed"]] == [
        "/bin/sh", "/usr/bin/mkfifo", "/usr/bin/chmod", "/usr/bin/ls", "/usr/bin/chmod"]
    assert {row["path"] for row in rows if not row["confirmed"]} <= {"/tmp/f", "/tmp"}
    assert all(row["sha256"] is None and row["exe"] is None for row in rows if not row["confirmed"])


@pytest.mark.also_vm
def test_a_program_without_a_file_is_told_by_its_content(inside):
    code = """
import os
data = open("/bin/true", "rb").read()
for way in ("memory", "deleted"):
    if way == "memory":
        fd = os.memfd_create("nothing to see")
    else:
        fd = os.open("/tmp/gone", os.O_RDWR | os.O_CREAT, 0o700)
    os.write(fd, data)
    read = os.open("/proc/self/fd/%d" % fd, os.O_RDONLY)
    os.close(fd)
    if way == "deleted":
        os.unlink("/tmp/gone")
    pid = os.fork()
    if not pid:
        os.execve(read, [way], {})
    assert os.waitpid(pid, 0)[1] == 0
    os.close(read)
"""
    done = inside.python(code, options=TRACE)
    rows = done.result["processes"]
    assert done.rc == 0 and len(rows) == 3, done
    assert [row["argv"] for row in rows[1:]] == [["memory"], ["deleted"]]
    assert [row["exe"] for row in rows[1:]] == ["/memfd:nothing to see (deleted)", "/tmp/gone (deleted)"]
    assert [row["sha256"] for row in rows[1:]] == [sha256(TRUE)] * 2 and all(row["confirmed"] for row in rows)


SILENT = r"""
static long call(long nr, long a, long b, long c) {
    long out;
    __asm__ volatile ("syscall" : "=a"(out) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return out;
}
void _start(void) {
    long *stack = (long *)__builtin_frame_address(0) + 1;
    char **argv = (char **)(stack + 1);
    char byte;
    if (argv[1] && argv[1][0] == 'w')
        call(0, 0, (long)&byte, 1);
    if (argv[1] && argv[1][0] == 'n') {
        char *next[] = {"/bin/true", 0};
        call(59, (long)next[0], (long)next, (long)(next + 1));
    }
    call(60, 5, 0, 0);
}
"""


@pytest.mark.skipif(ARCH != "x86_64", reason="the program is written for x86_64")
@pytest.mark.skipif(IN_VM, reason="there is no compiler in the virtual machine")
def test_a_static_program_is_seen_when_it_is_looked_at(inside):
    """It makes no call at its start.  One that ends at once is told as asked for, with its content; one that stays, or executes
    another, as confirmed."""
    path = compiled(inside, SILENT, "-static", "-nostdlib", "-fno-stack-protector")
    command = "/box/program quick; /box/program next; echo | /box/program short; (sleep 1 | /box/program wait); true"
    done, rows = traced(inside, "/bin/sh", "-c", command, options=["--copy", path])
    assert done.rc == 0
    told = {row["argv"][1]: row for row in rows if row["path"] == "/box/program"}
    assert set(told) == {"quick", "next", "short", "wait"}
    assert {row["sha256"] for row in told.values()} == {sha256(path)}
    assert told["wait"]["confirmed"] and told["wait"]["exe"] == "/box/program"
    assert not told["quick"]["confirmed"] and told["quick"]["exe"] is None
    assert told["next"]["confirmed"] and [row["path"] for row in rows if row["pid"] == told["next"]["pid"]] == [
        "/box/program", "/bin/true"]
    if TOLD:
        assert told["quick"]["exit_code"] == told["wait"]["exit_code"] == 5


def test_hostile_arguments_are_text(inside):
    code = r"""
import os
hostile = [b"\x1b[2J\r\n\0"[:6], b"<script>alert(1)</script><!--", b"\xff\xfe", "\u202egnp.exe".encode(), b"'\"&", b"x" * 120000]
pid = os.fork()
if not pid:
    os.execve("/bin/true", hostile, {})
pid, status = os.waitpid(pid, 0)
pid = os.fork()
if not pid:
    os.execve("/bin/true", [b"true"] + [b"y" * 1000] * 1000, {})
os.waitpid(pid, 0)
"""
    path = os.path.join(inside.scratch, "hostile.json")
    done = inside.python(code, options=TRACE)
    rows = done.result["processes"]
    assert done.rc == 0 and len(rows) == 3 and all(row["confirmed"] for row in rows)
    assert rows[1]["argv"][:5] == ["\x1b[2J\r\n", "<script>alert(1)</script><!--", "\\xff\\xfe", "\u202egnp.exe", "'\"&"]
    assert rows[1]["argv"][5].startswith("x" * 1000) and rows[1]["argv"][-1] == "..."
    assert sum(len(word) for word in rows[1]["argv"] + rows[2]["argv"]) < 20000
    with open(path, "w") as stream:
        json.dump(done.result, stream)
    for options in ((), ("--html", "-")):
        shown = inside.outside(inside.command(path, options=options, verb="report") if not options else
                               inside.command(verb="report", options=["--html", path + ".html"]) + [path])
        assert shown.returncode == 0, shown
        assert "\x1b[2J" not in shown.stdout and "\u202e" not in shown.stdout
    with open(path + ".html", encoding="utf-8") as stream:
        page = stream.read()

    class Tags(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            assert tag != "script"
    Tags().feed(page)
    assert "alert(1)" in page and "\u202e" not in page and "\x1b" not in page


def test_a_flood_is_counted_and_hides_nothing(inside):
    """More executions than are described: each is counted, and a program of another path still has its row."""
    code = """
import os
for _ in range(700):
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
for number in range(3):
    os.symlink("/bin/true", "/tmp/other%d" % number)
    os.waitpid(os.posix_spawn("/tmp/other%d" % number, ["other"], {}), 0)
"""
    done = inside.python(code, options=TRACE)
    rows = done.result["processes"]
    assert done.rc == 0
    assert sum(row["count"] for row in rows if row["path"] == "/bin/true") == 700
    last = rows[-1]
    assert (last["pid"], last["path"], last["count"], last["argv"]) == (0, "/bin/true", 700 - 256, None)
    assert [row["path"] for row in rows if row["path"].startswith("/tmp/")] == ["/tmp/other0", "/tmp/other1", "/tmp/other2"]
    assert [note for note in done.result["notes"] if "trace was full: 444 programs" in note]
    assert all(row["ended_s"] is not None for row in rows if row["pid"])


@pytest.mark.whoever
@pytest.mark.also_vm
def test_a_path_that_another_thread_changes_changes_the_record_and_not_the_outcome(inside):
    code = """
import ctypes, os, threading
libc = ctypes.CDLL(None)
seen = set()
for turn in range(40):
    pid = os.fork()
    if not pid:
        path = ctypes.create_string_buffer(b"/bin/true ")
        path[9] = b"\\0"
        other = ctypes.create_string_buffer(b"/bin/false")
        one = path.raw
        def flip():
            while True:
                ctypes.memmove(path, other, 11)
                ctypes.memmove(path, one, 11)
        threading.Thread(target=flip, daemon=True).start()
        argv = (ctypes.c_char_p * 2)(b"either", None)
        while True:
            libc.execve(path, argv, None)
    status = os.waitpid(pid, 0)[1]
    assert status in (0, 256), status
    print(pid, status >> 8)
"""
    done = inside.python(code, options=TRACE)
    assert done.rc == 0
    ended = dict(line.split() for line in done.out.splitlines())
    assert len(ended) == 40
    rows = [row for row in done.result["processes"] if row["confirmed"] and row["argv"] == ["either"]]
    assert {str(row["pid"]) for row in rows} == set(ended)
    for row in rows:  # what really ran is what ended so
        assert row["exe"] == os.path.realpath("/bin/true" if ended[str(row["pid"])] == "0" else "/bin/false")
        assert row["exit_code"] in (int(ended[str(row["pid"])]), None)


def test_a_mistake_of_its_own_lets_the_call_go_on():
    """And is told.  The same where /proc does not tell whose call it is."""
    class Listener:
        went = []

        def valid(self, ident):
            return True

        def go_on(self, ident, number):
            self.went.append((ident, number))
            return True

    class Broken(trace.Trace):
        def _asked(self, *arguments):
            raise ZeroDivisionError
    listener = Listener()
    looking = Broken(listener, 0.0, None, os.getpid(), None)
    looking.heard(1, os.getpid(), NR["execve"], (0,) * 6, 0.0)
    looking.heard(2, 1 << 30, NR["execveat"], (0,) * 6, 0.0)
    looking.heard(3, 1 << 30, NR["set_tid_address"], (0,) * 6, 0.0)
    looking.close()
    assert listener.went == [(1, NR["execve"]), (2, NR["execveat"]), (3, NR["set_tid_address"])]
    assert looking.rows(None) == [] and looking.notes() == ["the trace could not look at 2 calls"]


REFUSING = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
    {"names": ["execve"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13, "args": [{"index": 2, "value": 0, "op": "SCMP_CMP_EQ"}]}]}


@pytest.mark.also_vm
@pytest.mark.parametrize("ledger", [False, pytest.param(True, marks=pytest.mark.whoever)])
def test_a_call_that_the_policy_refuses_is_refused(inside, ledger):
    """Where a policy has conditions for execve, what it refuses never goes on, whatever the trace does with the rest."""
    path = os.path.join(inside.scratch, "policy.json")
    with open(path, "w") as stream:
        json.dump(REFUSING, stream)
    code = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
argv = (ctypes.c_char_p * 2)(b"true", None)
for _ in range(3):
    print(libc.execve(b"/bin/true", argv, None), ctypes.get_errno(), flush=True)
libc.execve(b"/bin/true", argv, argv)
"""
    options = ["--seccomp", path, *([] if ledger else ["--unsafe-without", "ledger"])]
    plain = inside.python(code, options=options)
    done = inside.python(code, options=[*options, *TRACE])
    assert plain.out == done.out == "-1 13\n" * 3 and done.rc == 0
    assert [row["path"] for row in done.result["processes"]] == ["/usr/bin/python3", "/bin/true"]
    if ledger:
        assert [(row["syscall"], row["errno"], row["count"]) for row in done.result["refused"]] == [("execve", "EACCES", 3)]
    else:
        assert done.result["refused"] is None


@pytest.mark.parametrize("name", policy.NAMES)
@pytest.mark.parametrize("record", [False, True])
def test_only_allowed_calls_of_the_named_numbers_ask_and_nothing_else_changes(name, record):
    audit_arch = policy.numbers(ARCH).AUDIT_ARCH
    programs = [shipped.program(name, ARCH), shipped.setid_program(ARCH)]
    traced_numbers = frozenset(NR[call] for call in listening.TRACED)
    whole = arms.combine(programs, arms.asking_but(audit_arch, frozenset()) if record else arms.unchanged)
    before, after = bpf.decode(whole), bpf.decode(arms.combine([whole], arms.asking_when_allowed(audit_arch, traced_numbers)))
    for arch in (audit_arch, 0x40000003, 0xC00000B7, 0xC000003E):
        for number in list(range(600)) + [0x40000000 + 59, 0xffffffff]:
            for arguments in ((0,) * 6, (1 << 32, 2, 3, 4, 0x1000, 6)):
                was, now = (bpf.run(code, number, arch, arguments)[0] for code in (before, after))
                asks = arch == audit_arch and number in traced_numbers and was & arms.ACTION in arms.PASSES
                assert now == (arms.NOTIFY if asks else was), (arch, number)


def test_mistakes_are_named(inside):
    assert inside.run("true", options=["--trace", "open"]).rc == 2
    done = inside.run("true", options=[*TRACE, "--unsafe-without", "seccomp"])
    assert done.rc == 2 and "--trace" in done.err
    done = inside.run("true", options=[*TRACE, "--unsafe-without", "trace"])
    assert done.rc == 0 and done.result["processes"] is None and "trace" in done.err


def test_people_see_it(inside):
    done = inside.outside(inside.command("sh", "-c", "ls / > /dev/null; true", options=["-v", *TRACE]))
    assert "mrunc: executed: 2 programs\nmrunc:   sh -c 'ls / > /dev/null; true'\nmrunc:     ls /\n" in done.stderr
    many = inside.outside(inside.command("sh", "-c", "for i in $(seq 300); do /bin/true; done", options=["-v", *TRACE])).stderr
    assert "mrunc: executed: 302 programs\n" in many
    plan = inside.outside(inside.command("true", options=[*TRACE, "--print-plan"])).stdout
    assert "allowed calls of execve execveat set_tid_address" in plan


def test_the_library_has_it(inside):
    code = ("import sys; sys.path.insert(0, %r); import mrunc\n"
            "for trace in ('exec', ('exec',)):\n"
            "    result = mrunc.run(['sh', '-c', 'ls >/dev/null; true'], trace=trace)\n"
            "    print([row['path'] for row in result.processes])\n"
            "print(mrunc.run(['true']).processes)\n" % inside.tool[:-len("mrunc.py")])
    done = inside.outside(["/usr/bin/python3", "-c", code])
    assert done.stdout == "['/usr/bin/sh', '/usr/bin/ls']\n" * 2 + "None\n", done


CROWD = """
import os, random, threading, time
os.system("cp /bin/true /tmp/copy")
def work(number):
    for turn in range(20):
        os.waitpid(os.posix_spawn(random.choice(["/bin/true", "/tmp/copy", "/bin/false"]), ["work"], {}), 0)
threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
pid = os.fork()
if not pid:
    threading.Thread(target=lambda: os.execv("/bin/echo", ["echo", "from another thread"])).start()
    while True:
        time.sleep(60)
print(pid, os.waitpid(pid, 0)[1], flush=True)
for turn in range(30):
    pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
    os.kill(pid, 9)
    os.waitpid(pid, 0)
for turn in range(10):
    end, held = os.pipe()
    pid = os.fork()
    if not pid:
        if os.fork():
            os._exit(0)
        os.execv("/bin/true", ["orphan"])
    os.waitpid(pid, 0)
    os.close(held)
    os.read(end, 1)  # it has executed
    os.close(end)
"""


def test_a_crowd_is_told_exactly(inside):
    """Threads that execute at the same time, a thread that is not the first, processes that are killed at once, orphans."""
    done = inside.python(CROWD, options=[*TRACE, "--timeout", "100"])
    rows = done.result["processes"]
    assert done.rc == 0
    assert sum(row["count"] for row in rows) == 1 + 2 + 12 * 20 + 1 + 30 + 10
    names = [(row["argv"] or ["?"])[0] for row in rows]
    assert [names.count(name) for name in ("work", "echo", "sleep", "orphan")] == [240, 1, 30, 10]
    echo = rows[names.index("echo")]
    assert done.out == "from another thread\n%d 0\n" % echo["pid"] and echo["confirmed"]
    assert len({row["pid"] for row in rows if row["argv"] == ["work"]}) == 240
    if TOLD:
        assert {row["signal"] for row in rows if row["argv"] == ["sleep", "60"]} == {9}
        assert {row["exit_code"] for row in rows if row["argv"] == ["work"]} == {0, 1}
        assert all(row["exit_code"] == (row["path"] == "/bin/false") for row in rows if row["argv"] == ["work"])


@pytest.mark.skipif(not TOLD, reason="this kernel lacks exit-told: Linux 6.15")
def test_a_status_that_is_taken_while_it_is_asked_for_is_told():
    """The kernel looks for the status first and for the process afterwards: between them both are missing."""
    for turn in range(400):
        (begin, go), (told, tell) = os.pipe(), os.pipe()
        parent = os.fork()
        if not parent:
            child = os.fork()
            if not child:
                os._exit(7)
            os.write(tell, b"%d" % child)
            os.read(begin, 1)
            for _ in range(turn * 8):
                pass
            os.waitpid(child, 0)
            os._exit(0)
        pidfd = processes.pidfd_open(int(os.read(told, 16)))
        os.write(go, b".")
        status = None
        try:
            while status is None:
                status = processes.pidfd_status(pidfd)
            assert os.WEXITSTATUS(status) == 7
        finally:
            os.waitpid(parent, 0)
            for fd in (begin, go, told, tell, pidfd):
                os.close(fd)


def test_a_file_that_is_not_to_be_had_is_not_waited_for(inside):
    """A lease on the file that is executed: whoever opens it waits until its holder gives it back, or the kernel
    takes it after 45 s.  The program waits for that, and mrunc's deadline does not.  Only an addition lets one be taken."""
    code = """
import fcntl, os, shutil, signal
shutil.copy("/bin/true", "/tmp/leased")
os.chmod("/tmp/leased", 0o700)
signal.signal(signal.SIGIO, signal.SIG_IGN)
fd = os.open("/tmp/leased", os.O_RDWR)
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("leased", flush=True)
if not os.fork():
    os.execv("/tmp/leased", ["leased"])
os.wait()
"""
    done = inside.python(code, options=[*TRACE, "--timeout", "3", "--seccomp-add", "fcntl"])
    assert done.out == "leased\n" and done.result["reason"] == "timeout-wall", done
    assert done.result["usage"]["wall_s"] < 40
    row = done.result["processes"][-1]
    assert (row["path"], row["confirmed"], row["sha256"]) == ("/tmp/leased", False, None)


def test_a_file_that_is_too_large_is_not_read(inside):
    code = """
import os, shutil
shutil.copy("/bin/true", "/tmp/large")
os.chmod("/tmp/large", 0o700)
os.truncate("/tmp/large", 1 << 34)
os.waitpid(os.posix_spawn("/tmp/large", ["large"], {}), 0)
"""
    row = inside.python(code, options=TRACE).result["processes"][-1]
    assert (row["argv"], row["confirmed"], row["sha256"]) == (["large"], True, None)
    assert row["sha256_missing"] == "larger than 64 MiB"


def test_a_launcher_keeps_no_descriptor_of_it(inside):
    """Many runs of one host process, each with ends that were still awaited."""
    program = """
import os
os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
for turn in range(3):
    os.posix_spawn("/bin/sleep", ["sleep", "100"], {})
"""
    code = """
import sys; sys.path.insert(0, %r); import mrunc, os
def launcher():
    found = []
    for name in os.listdir("/proc"):
        try:
            with open("/proc/%%s/cmdline" %% name, "rb") as stream:
                words = stream.read().split(b"\\0")
            if b"--spec-fd" in words and os.fsencode(%r) in words and os.stat("/proc/" + name).st_uid == os.getuid():
                found.append(len(os.listdir("/proc/%%s/fd" %% name)))
        except OSError:
            pass
    return sorted(found)
box = mrunc.Sandbox(trace="exec")
seen = []
for turn in range(6):
    rows = box.run(["/usr/bin/python3", "-I", "-S", "-c", %r]).processes
    assert [row["argv"][0] for row in rows[1:]] == ["true"] + ["sleep"] * 3, rows
    assert {row["exit_code"] for row in rows[2:]} == {None} and {row["signal"] for row in rows[2:]} <= {None, 9}, rows
    seen.append(launcher())
assert len(seen[0]) == 1 and seen[-1][0] < seen[0][0] + 5, seen  # the last answer's channel may still be open
print("same")
""" % (inside.tool[:-len("mrunc.py")], inside.tool, program)
    done = inside.outside(["/usr/bin/python3", "-c", code])
    assert done.stdout == "same\n", done


@pytest.mark.parametrize("kernel", ["before 5.19", "before 5.0"])
def test_on_an_older_kernel_it_works_or_says_that_it_does_not(inside, kernel):
    """An outer filter answers as such a kernel does: without the flag that keeps signals away, and without a listener."""
    old = [("seccomp", 1, 8 | 32, EINVAL)] + ([("seccomp", 1, 8, EINVAL)] if kernel == "before 5.0" else [])
    path = os.path.join(inside.scratch, "report.json")
    done = inside.outside(behind(inside, *old) + inside.command(
        "sh", "-c", "ls / >/dev/null; echo ran", options=[*TRACE, "--report", path]))
    assert (done.returncode, done.stdout) == (0, "ran\n"), done
    with open(path) as stream:
        result = json.load(stream)
    row = [row for row in result["controls"] if row["name"] == "trace"][0]
    if kernel == "before 5.0":
        assert result["processes"] is None and row["asked"] and not row["in_force"] and "Linux 5.0" in row["how"]
        assert "without ledger, trace: " in done.stderr
    else:
        assert [row["path"] for row in result["processes"]] == ["/usr/bin/sh", "/usr/bin/ls"]
        assert row["in_force"] and "signals interrupt waiting calls" in row["how"] and done.stderr == ""


def test_long_paths_make_no_result_that_is_too_long_to_read(inside):
    code = r"""
import os
os.chdir("/tmp")
for _ in range(14):
    os.mkdir(b"\xff" * 250)
    os.chdir(b"\xff" * 250)
for number in range(700):
    if not os.fork():
        try:
            os.execv(b"/" + (b"\xfe" * 250 + b"/") * 15 + b"%d" % number, [b"\xff" * 8000])
        except OSError:
            os._exit(0)
    os.wait()
"""
    done = inside.python(code, options=TRACE)
    rows = done.result["processes"]
    assert done.rc == 0 and len(rows) == 701 and len(rows[1]["path"]) > 15000
    assert all(len(row[name]) < 300 for row in rows[600:] for name in ("path", "cwd"))
    assert len(json.dumps(done.result)) < 12 << 20
