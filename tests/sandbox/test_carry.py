# SPDX-License-Identifier: Apache-2.0
"""What goes through the supervisor arrives whole and in order, and ends where the budget of --max-output ends."""
import os
import select
import signal
import socket
import subprocess

import pytest

import mrunc  # noqa: F401  registers the package
from conftest import become
from mrunc.sandbox.running import carry, output_limit

LINE = "mrunc: it wrote more than %d bytes; allow more with --max-output\n"
MUCH = ["--max-output", "1G"]


def start(inside, *argv, options=MUCH, **settings):
    """The process of a run whose streams the test holds."""
    settings.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.Popen(inside.command(*argv, options=options), cwd=inside.scratch, preexec_fn=become(inside.who), **settings)


def test_output_beyond_the_budget_ends_the_sandbox(inside):
    done = inside.run("/bin/sh", "-c", "yes & yes >&2; echo never", options=["--max-output", "10000"])
    assert done.rc == 137 and done.err.endswith(LINE % 10000), done
    assert len(done.out) + len(done.err) - len(LINE % 10000) == 10000 and set(done.out) <= {"y", "\n"}
    result = done.result
    assert (result["reason"], result["returncode"], result["limits_hit"]) == ("output-limit", 137, {"max_output": 10000})
    assert "never" not in done.out


@pytest.mark.parametrize("size,rc", [(7, 0), (6, 137), (8, 0)])
def test_the_budget_is_exact_and_for_both_streams_together(inside, size, rc):
    done = inside.run("/bin/sh", "-c", "printf abcd; printf efg >&2; sleep 0.1", options=["--max-output", str(size), "-q"])
    assert (done.rc, len(done.out + done.err)) == (rc, min(size, 7)), done
    assert done.result["limits_hit"] == ({} if rc == 0 else {"max_output": 6})


def test_a_stream_that_was_cut_off_waits_for_no_descriptor():
    """Its number is soon that of another run, which the same process serves."""
    (source, write), (read, sink) = os.pipe(), os.pipe()
    flow = carry.Outward(source, sink, output_limit.Budget(3))
    flow.lets_go = True
    os.write(write, b"more")
    while flow.busy:
        flow.serve({source: select.POLLIN, flow.sink: select.POLLOUT})
    assert flow.wanted() == {} and os.read(read, 10) == b"mor"
    for fd in (source, write, read, sink):
        os.close(fd)


def test_a_terminals_output_is_counted_too(inside):
    done = inside.run("/bin/sh", "-c", "yes", options=["--tty", "--max-output", "1000"])
    assert done.rc == 137 and done.result["reason"] == "output-limit", done
    assert len(done.out.replace("\n", "\r\n")) == 1000 and done.err == LINE % 1000


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 20 << 20])
def test_every_byte_arrives_before_the_end(inside, size):
    code = ("import os, sys\nfor fd, byte in ((1, b'o'), (2, b'e')):\n    left = %d\n    while left:\n"
            "        left -= os.write(fd, byte * min(left, 100003))\n" % size)
    done = start(inside, "/usr/bin/python3", "-I", "-S", "-c", code, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = done.communicate(timeout=120)
    assert done.returncode == 0 and out == b"o" * size and err == b"e" * size, (done.returncode, len(out), len(err))


def test_what_was_written_first_arrives_first_where_both_are_one(inside):
    script = "i=0; while [ $i -lt 2000 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done"
    done = start(inside, "/bin/sh", "-c", script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    out, _ = done.communicate(timeout=120)
    assert out.decode() == "".join("o%d\ne%d\n" % (n, n) for n in range(2000))


@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_a_file_gets_all_of_it_and_keeps_its_place(inside, mode):
    path = os.path.join(inside.scratch, "log-" + mode)
    with open(path, "wb") as stream:
        stream.write(b"before\n")
        os.fchmod(stream.fileno(), 0o666)
    with open(path, "ab") as stream:
        done = start(inside, "/bin/sh", "-c", "echo out; echo err >&2; stat -Lc %F /dev/stdout", stdout=stream, stderr=stream)
        assert done.wait(60) == 0
        os.write(stream.fileno(), b"after\n")
    with open(path) as stream:
        assert stream.read() == "before\nout\nerr\nfifo\nafter\n"


def test_a_line_arrives_while_the_program_waits(inside):
    done = start(inside, "/bin/sh", "-c", "echo first; read x; echo $x >&2; read y", stdin=subprocess.PIPE,
                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.stdout.readline() == b"first\n"
    done.stdin.write(b"second\n")
    done.stdin.flush()
    assert done.stderr.readline() == b"second\n"
    done.communicate(b"third\n", timeout=60)
    assert done.returncode == 0


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_goes_away_is_a_broken_pipe_for_the_program(inside, stream):
    number = 1 if stream == "stdout" else 2
    done = start(inside, "/bin/sh", "-c", "yes >&%d; code=$?; exit $code" % number, **{stream: subprocess.PIPE})
    pipe = getattr(done, stream)
    assert pipe.readline() == b"y\n"
    pipe.close()
    assert done.wait(60) == 128 + signal.SIGPIPE


def test_a_reader_that_goes_away_is_noticed_before_anything_is_written(inside):
    """The other end closes while the program waits: its next write fails, as it would without us."""
    code = ("import os, sys, signal\nprint('ready', file=sys.stderr, flush=True)\nsys.stdin.read()\n"
            "try: os.write(1, b'x'); print('WRITTEN', file=sys.stderr)\nexcept BrokenPipeError: print('EPIPE', file=sys.stderr)")
    done = start(inside, "/usr/bin/python3", "-I", "-S", "-c", code, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                 stderr=subprocess.PIPE)
    assert done.stderr.readline() == b"ready\n"
    done.stdout.close()
    # The supervisor's own poll sees it; until then a write would still go into the pipe.
    while not [fd for fd in os.listdir("/proc/%d/fd" % done.pid) if int(fd) > 2 and _leads_to(done.pid, fd) == "/dev/null"]:
        assert done.poll() is None
    done.stdin.close()
    assert done.stderr.read() == b"EPIPE\n"
    assert done.wait(60) == 0


def _leads_to(pid, fd):
    try:
        return os.readlink("/proc/%d/fd/%s" % (pid, fd))
    except OSError:
        return ""


@pytest.mark.once
def test_a_reader_that_is_slow_gets_everything_after_the_programs_end(inside):
    """Longer than any patience of ours: the program has ended, the pipe is full, and mrunc waits as the program would."""
    read, write = os.pipe()
    done = start(inside, "/usr/bin/head", "-c", "200000", "/dev/zero", stdout=write)
    os.close(write)
    try:
        done.wait(4)
        raise AssertionError("it ended with %d while its output was not taken" % done.returncode)
    except subprocess.TimeoutExpired:
        pass
    size = 0
    while True:
        data = os.read(read, 65536)
        if not data:
            break
        size += len(data)
    os.close(read)
    assert (size, done.wait(60)) == (200000, 0)


@pytest.mark.once
@pytest.mark.parametrize("options,rc", [(["--timeout", "300ms", "--grace", "0", "--max-output", "1G"], 124),
                                        (["--max-output", "100000"], 137)])
def test_a_reader_that_takes_nothing_outlasts_no_limit(inside, options, rc):
    read, write = os.pipe()
    done = start(inside, "/usr/bin/yes", options=options, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert done.wait(60) == rc
    os.close(read)
    assert b"Traceback" not in done.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_for_a_reader(inside, number):
    read, write = os.pipe()
    done = start(inside, "/bin/sh", "-c", "head -c 200000 /dev/zero; exit 3", stdout=write)
    os.close(write)
    while True:  # its end shows as mrunc being without a child
        with open("/proc/%d/task/%d/children" % (done.pid, done.pid)) as stream:
            children = stream.read().split()
        if children and all(_state(child) in "ZX" for child in children):
            break
        assert done.poll() is None
    done.send_signal(number)
    assert done.wait(60) == 3
    os.close(read)


def _state(pid):
    try:
        with open("/proc/%s/stat" % pid) as stream:
            return stream.read().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def test_a_grandchild_that_holds_the_pipe_does_not_hold_the_run(inside):
    done = inside.run("/bin/sh", "-c", "setsid sleep 1000 & echo out; exit 4", options=MUCH)
    assert (done.rc, done.out) == (4, "out\n"), done


def test_sockets_and_one_writer_for_two_readers(inside):
    ours, theirs = socket.socketpair()
    done = start(inside, "/usr/bin/yes", options=["--max-output", "1M", "--timeout", "60"], stdout=theirs, stderr=subprocess.PIPE)
    theirs.close()
    size = 0
    while select.select([ours], [], [], 60)[0]:
        data = ours.recv(65536)
        if not data:
            break
        size += len(data)
    assert size == 1 << 20 and done.wait(60) == 137
    assert done.stderr.read().decode() == LINE % (1 << 20)


@pytest.mark.once
def test_a_socket_that_nobody_reads_does_not_outlast_a_deadline(inside):
    ours, theirs = socket.socketpair()
    done = start(inside, "/usr/bin/yes", options=["--max-output", "1G", "--timeout", "300ms", "--grace", "0"], stdout=theirs)
    theirs.close()
    assert done.wait(60) == 124
    ours.close()


def test_the_program_never_holds_the_callers_own(inside):
    read, write = os.pipe()
    inode = os.fstat(read).st_ino
    for options in ([], MUCH):
        done = start(inside, "/usr/bin/python3", "-c", "import os, sys; sys.stderr.write(str(os.fstat(1).st_ino))", options=options,
                     stdout=write, stderr=subprocess.PIPE)
        assert int(done.communicate(timeout=60)[1]) != inode, options
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("argv,rc,text", [(["/nowhere"], 127, "not found inside"), (["/box"], 126, "")])
def test_an_exec_error_is_told_as_usual(inside, argv, rc, text):
    done = inside.run(*argv, options=MUCH)
    assert done.rc == rc and text in done.err and done.out == "", done


def test_the_callers_descriptors_keep_their_flags(inside):
    import fcntl
    read, write = os.pipe()
    before = fcntl.fcntl(write, fcntl.F_GETFL)
    done = start(inside, "/bin/echo", "x", stdout=write)
    assert done.wait(60) == 0
    assert fcntl.fcntl(write, fcntl.F_GETFL) == before
    os.close(read)
    os.close(write)
