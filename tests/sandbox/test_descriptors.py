# SPDX-License-Identifier: Apache-2.0
"""No descriptor of the caller's is inside: what takes the places of 0, 1 and 2, and that nothing of the caller's changes."""
import fcntl
import os
import pty
import socket
import struct
import subprocess
import termios

import pytest

from conftest import PYTHON, become

F_GETSIG, F_SETSIG, F_GETPIPE_SZ, F_SETPIPE_SZ, F_GETLEASE = 11, 10, 1032, 1031, 1025
#: Tries to change all that a descriptor gives access to, for each of 0, 1 and 2.
MEDDLE = """
import fcntl, os, sys, termios, struct
os.write(2, b"began\\n")
def attempt(deed, *arguments):
    try:
        return deed(*arguments)
    except (OSError, ValueError, termios.error):
        return None
for fd in (0, 1, 2):
    attempt(os.fchmod, fd, 0o666)
    attempt(os.utime, fd, (1, 1))
    attempt(os.setxattr, fd, "user.mrunc", b"x")
    attempt(fcntl.fcntl, fd, fcntl.F_SETFL, os.O_NONBLOCK | os.O_APPEND | 0o20000)
    attempt(fcntl.fcntl, fd, fcntl.F_SETOWN, os.getpid())
    attempt(fcntl.fcntl, fd, 10, 12)
    attempt(fcntl.fcntl, fd, 1031, 4096)
    attempt(fcntl.fcntl, fd, 1024, 1)
    attempt(fcntl.flock, fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    attempt(os.ftruncate, fd, 1)
    attempt(fcntl.ioctl, fd, termios.TIOCSWINSZ, struct.pack("4H", 3, 3, 0, 0))
    mode = attempt(termios.tcgetattr, fd)
    if mode:
        mode[3] &= ~(termios.ECHO | termios.ICANON)
        attempt(termios.tcsetattr, fd, termios.TCSANOW, mode)
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        again = attempt(os.open, "/proc/self/fd/%d" % fd, flags | os.O_NONBLOCK)
        if again is not None:
            attempt(os.fchmod, again, 0o666)
            if flags != os.O_RDONLY:
                attempt(os.write, again, b"FORGED")
            if flags != os.O_WRONLY:
                attempt(os.read, again, 100)
"""


def start(inside, *argv, options=(), **settings):
    """The process of a run whose descriptors the test holds."""
    settings.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.Popen(inside.command(*argv, options=options), cwd=inside.scratch, preexec_fn=become(inside.who), **settings)


def python(code):
    return ["/usr/bin/python3", "-I", "-S", "-c", code]


def state(fd):
    """All that a program could leave changed."""
    found = os.fstat(fd)
    out = [found.st_mode, found.st_uid, found.st_gid, fcntl.fcntl(fd, fcntl.F_GETFL), fcntl.fcntl(fd, fcntl.F_GETOWN),
           fcntl.fcntl(fd, F_GETSIG)]
    if os.isatty(fd):
        return out + [termios.tcgetattr(fd), fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8)]
    if found.st_mode & 0o170000 == 0o010000:
        return out + [fcntl.fcntl(fd, F_GETPIPE_SZ)]
    if found.st_mode & 0o170000 == 0o100000:
        return out + [found.st_mtime_ns, found.st_size, os.listxattr(fd), fcntl.fcntl(fd, F_GETLEASE)]
    return out


def own(inside, path, mode=0o600):
    """Gives a file to the caller."""
    os.chmod(path, mode)
    if inside.who == "user" and os.geteuid() == 0:
        os.chown(path, 61234, 61234)


def test_a_file_keeps_everything_but_its_offset(inside):
    path = os.path.join(inside.scratch, "given")
    with open(path, "wb") as stream:
        stream.write(b"secret line\n")
    own(inside, path)
    for flags in (os.O_RDONLY, os.O_RDWR):
        fd = os.open(path, flags)
        before = state(fd)
        done = start(inside, *python(MEDDLE), stdin=fd, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert b"began" in done.communicate(timeout=60)[1]
        assert state(fd) == before
        os.close(fd)


def test_pipes_keep_everything_and_cannot_be_turned_round(inside):
    """What is in the caller's stdout pipe can't be read, and nothing gets into the stdin's."""
    stdin, feeder = os.pipe()
    reader, stdout = os.pipe()
    os.write(stdout, b"another's line\n")
    before = state(stdin), state(stdout)
    done = start(inside, *python(MEDDLE), stdin=stdin, stdout=stdout, stderr=subprocess.PIPE)
    assert b"began" in done.communicate(timeout=60)[1]
    assert (state(stdin), state(stdout)) == before
    assert os.read(reader, 100).startswith(b"another's line\n")
    os.close(feeder)
    assert b"FORGED" not in os.read(stdin, 100)
    for fd in (stdin, reader, stdout):
        os.close(fd)


def test_a_socket_is_not_inside(inside):
    ours, theirs = socket.socketpair()
    code = ("import os, stat, sys\nprint([stat.S_ISFIFO(os.fstat(fd).st_mode) for fd in (0, 1, 2)], flush=True)\n"
            "print(sys.stdin.readline())")
    done = start(inside, *python(code), stdin=theirs, stdout=theirs, stderr=theirs)
    theirs.close()
    ours.sendall(b"hello\n")
    ours.shutdown(socket.SHUT_WR)
    assert done.wait(60) == 0
    got = b""
    while b"hello" not in got:
        got += ours.recv(1000)
    assert got.startswith(b"[True, True, True]\n"), got
    ours.close()


def test_dev_null_is_the_sandboxs_own(inside):
    """One of the caller's descriptions would keep the flags that are set inside."""
    fd = os.open(os.devnull, os.O_RDWR)
    before = fcntl.fcntl(fd, fcntl.F_GETFL)
    code = "import fcntl, os\nos.write(2, b'%o' % os.fstat(0).st_rdev)\nfor fd in (0, 1): fcntl.fcntl(fd, 4, 0o4000)"
    done = start(inside, *python(code), stdin=fd, stdout=fd, stderr=subprocess.PIPE)
    assert done.communicate(timeout=60)[1] == b"403"
    assert fcntl.fcntl(fd, fcntl.F_GETFL) == before
    os.close(fd)


def test_the_receipt_says_what_they_lead_to(inside):
    done = inside.run("/bin/echo", "ran")
    how, = [row["how"] for row in done.result["controls"] if row["name"] == "fds"]
    assert (done.out, how.partition(";")[0]) == ("ran\n", "0 /dev/null, 1 a private pipe, 2 a private pipe")


def test_dev_stdout_opens_by_name(inside):
    done = inside.run("/bin/sh", "-c", "echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin", input="in")
    assert (done.rc, done.out, done.err) == (0, "out\nin", "err\n"), done


@pytest.mark.parametrize("argv,left", [(["head", "-1"], b"two\nthree\n"), (["true"], b"one\ntwo\nthree\n"), (["cat"], b""),
                                       (["sh", "-c", "read x; read y; exit 3"], b"three\n")])
def test_what_is_not_read_of_a_file_is_the_next_ones(inside, argv, left):
    """head reads a block and seeks back outside; on a pipe it can't, so that what it read is gone."""
    path = os.path.join(inside.scratch, "lines")
    with open(path, "wb") as stream:
        stream.write(b"one\ntwo\nthree\n")
    own(inside, path, 0o644)
    fd = os.open(path, os.O_RDONLY)
    assert start(inside, *argv, stdin=fd, stdout=subprocess.DEVNULL).wait(60) in (0, 3)
    got = os.read(fd, 100)
    os.close(fd)
    assert got == (b"" if argv[0] == "head" else left)


def test_a_large_file_is_given_back_to_the_byte(inside):
    path = os.path.join(inside.scratch, "large")
    with open(path, "wb") as stream:
        for number in range(1 << 18):
            stream.write(b"%015d\n" % number)
    own(inside, path, 0o644)
    fd = os.open(path, os.O_RDONLY)
    code = "import os\nleft = 1000016\nwhile left: left -= len(os.read(0, min(left, 4096)))"
    assert start(inside, *python(code), stdin=fd).wait(60) == 0
    assert os.read(fd, 16) == b"%015d\n" % (1000016 // 16)
    os.close(fd)


@pytest.mark.parametrize("size", [0, 1, 65536, 3 << 20])
@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_bytes_come_through_as_they_are(inside, kind, size):
    data = os.urandom(size)
    path = os.path.join(inside.scratch, "data")
    with open(path, "wb") as stream:
        stream.write(data)
    own(inside, path, 0o644)
    if kind == "pipe":
        done = start(inside, "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert done.communicate(data, timeout=60)[0] == data
    else:
        out = os.path.join(inside.scratch, "out")
        with open(path, "rb") as stdin, open(out, "wb+") as stdout:
            done = start(inside, "cat", stdin=stdin, stdout=stdout)
            assert done.wait(60) == 0
            stdout.seek(0)
            assert stdout.read() == data
    assert done.returncode == 0


def test_both_streams_keep_their_order_and_append(inside):
    path = os.path.join(inside.scratch, "log")
    with open(path, "ab") as stream:
        stream.write(b"before\n")
        stream.flush()
        script = "i=0; while [ $i -lt 500 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done"
        done = start(inside, "/bin/sh", "-c", script, stdout=stream, stderr=stream)
        with open(path, "ab") as other:
            assert done.wait(60) == 0
            other.write(b"after\n")
    with open(path) as stream:
        assert stream.read() == "before\n" + "".join("o%d\ne%d\n" % (n, n) for n in range(500)) + "after\n"


def test_the_end_of_output_reaches_a_reader_while_the_program_runs(inside):
    done = start(inside, "/bin/sh", "-c", "echo x; exec >&-; read y", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert done.stdout.read() == b"x\n"
    assert done.poll() is None
    done.stdin.close()
    done.wait(60)


def test_a_closed_stdin_is_a_broken_pipe_for_its_writer(inside):
    done = start(inside, "/bin/sh", "-c", "exec <&-; echo closed >&2; sleep 1000", stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.stderr.readline() == b"closed\n"
    with pytest.raises(BrokenPipeError):
        while True:
            os.write(done.stdin.fileno(), b"x" * 4096)
    done.terminate()
    done.wait(60)
    done.stdin.close()


def test_output_is_not_overwritten_where_stdin_is_the_same_open_file(inside):
    path = os.path.join(inside.scratch, "both")
    with open(path, "w") as file:
        file.write("1\n2\n3\n")
    own(inside, path)
    fd = os.open(path, os.O_RDWR)
    done = start(inside, "/bin/sh", "-c", "read x; echo program-$x", stdin=fd, stdout=fd)
    assert done.wait(60) == 0
    os.write(fd, b"next\n")
    os.close(fd)
    with open(path) as file:
        assert file.read() == "1\n2\n3\nprogram-1\nnext\n"


def test_a_pipe_of_somebody_else_keeps_its_flags_while_it_is_written(inside):
    """It can't be opened again: the flag would be on the description that all have."""
    read, write = os.pipe()
    before, code = state(write), "import sys; sys.stdout.write('x' * 300000)"
    done = start(inside, *python(code), options=["--max-output", "1M"], stdout=write)
    got = os.read(read, 1)
    while len(got) < 300000:
        assert state(write) == before
        got += os.read(read, 5000)
    assert got == b"x" * 300000 and done.wait(60) == 0
    os.close(read)
    os.close(write)


def test_output_that_cannot_be_written_is_no_success(inside):
    told = "stdout could not be written: No space left on device"
    with open("/dev/full", "w") as full:
        done = inside.run("/bin/echo", "x", stdout=full)
        assert done.rc == 125 and told in done.err, done
        # If the terminal's end comes first, SIGHUP ends the program.
        done = inside.run("/bin/echo", "x", stdout=full, options=["--tty"])
        assert done.rc in (125, 129) and told in done.err, done
    with open(os.devnull) as null, open(os.path.join(inside.scratch, "file"), "w") as file:
        done = inside.run("/bin/cat", stdin=file, stderr=subprocess.PIPE, stdout=null)
    assert done.rc == 125 and "stdin could not be read: Bad file descriptor" in done.err, done


@pytest.mark.parametrize("shape", ["in", "out"])
def test_a_terminal_keeps_everything(inside, shape):
    """It is the caller's 0, 1 and 2, or its 1 and 2 alone."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 40, 90, 0, 0))
    if inside.who == "user" and os.geteuid() == 0:
        os.fchown(slave, 61234, -1)
    before = state(slave)
    code = ("import os\nwith open('/box/size', 'w') as stream: stream.write('%s' % (tuple(os.get_terminal_size(1)),))\n"
            "text = open('/box/size').read() + os.ttyname(1)\n" + MEDDLE + "os.write(1, text.encode() + b'.\\n')")
    done = start(inside, *python(code), stdin=slave if shape == "in" else subprocess.DEVNULL, stdout=slave, stderr=slave)
    got = b""
    while b".\n" not in got.replace(b"\r", b""):
        got += os.read(master, 1000)
    assert done.wait(60) == 0
    assert b"began\r\n" in got and b"(90, 40)/dev/pts/0" in got and b"\r\r" not in got, got
    assert state(slave) == before
    os.close(master)
    os.close(slave)


def test_the_library_carries_what_it_did_not_make(inside):
    code = ("import os, sys\nsys.path.insert(0, %r)\nimport mrunc\n"
            "ask = ['/usr/bin/python3', '-I', '-S', '-c', 'import os; print(os.fstat(0).st_ino, os.fstat(1).st_ino, flush=True)']\n"
            "given, feeder = os.pipe()\nread, write = os.pipe()\n"
            "with mrunc.Pool(size=1) as pool:\n"
            "    for run in (mrunc.run, mrunc.run, mrunc.run, pool.run):\n"
            "        assert run(ask, stdin=given, stdout=write).returncode == 0\n"
            "        stdin, stdout = os.read(read, 100).split()\n"
            "        assert int(stdin) != os.fstat(given).st_ino and int(stdout) != os.fstat(read).st_ino, (stdin, stdout)\n"
            "        with open('/etc/passwd') as passwd:\n"
            "            assert run(['sh', '-c', 'read line; exit 7'], stdin=passwd).returncode == 7\n"
            "            assert os.read(passwd.fileno(), 5) == open('/etc/passwd').read().split('\\n', 1)[1][:5].encode()\n"
            "        assert run(['cat'], input='x', text=True, capture_output=True).stdout == 'x'\n"
            "print('all')\n" % os.path.dirname(inside.tool))
    done = inside.outside([PYTHON, "-I", "-c", code])
    assert (done.returncode, done.stdout) == (0, "all\n"), done


def test_a_stopped_mrunc_has_a_stopped_program(inside):
    """SIGTSTP stops both, SIGCONT continues both.  A shell that waits for its job keeps mrunc from being an orphan."""
    script = ("import os, signal, subprocess, sys, time\n"
              "job = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, preexec_fn=lambda: os.setpgid(0, 0))\n"
              "assert job.stdout.readline() == b'0\\n'\n"
              "job.send_signal(signal.SIGTSTP)\n"
              "assert os.WIFSTOPPED(os.waitpid(job.pid, os.WUNTRACED)[1])\n"
              "os.set_blocking(job.stdout.fileno(), False)\n"
              "while job.stdout.read(): time.sleep(0.05)\n"  # what was written before
              "time.sleep(0.5)\n"
              "assert not job.stdout.read()\n"
              "os.set_blocking(job.stdout.fileno(), True)\n"
              "job.send_signal(signal.SIGCONT)\n"
              "assert job.stdout.readline()\n"
              "job.send_signal(signal.SIGTERM)\n"
              "assert job.wait() == 143, job.returncode\n"
              "print('both')\n")
    counter = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done"
    done = inside.outside([PYTHON, "-I", "-c", script] + inside.command("/bin/sh", "-c", counter), start_new_session=True)
    assert (done.returncode, done.stdout) == (0, "both\n"), done


