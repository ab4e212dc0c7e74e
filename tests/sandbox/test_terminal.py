# SPDX-License-Identifier: Apache-2.0
"""A terminal of the sandbox's own, with the supervisor as proxy: with --tty, and in the place of the caller's."""
import errno
import fcntl
import os
import pty
import select
import shlex
import signal
import struct
import subprocess
import termios
import time

from conftest import PYTHON, become

READY = "stty -echo; echo rea''dy; exec %s"


#: A shell that only hands the terminal over.  Tells how its job ended and whether 0 then is O_NONBLOCK.
JOB = """
import fcntl, os, signal, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
def flag():
    return fcntl.fcntl(0, fcntl.F_GETFL) & os.O_NONBLOCK
pid = os.fork()
if not pid:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
status = os.waitpid(pid, os.WUNTRACED)[1]
assert os.WIFSTOPPED(status), status
os.tcsetpgrp(0, os.getpid())
print("stopped", flag(), flush=True)
sys.stdin.readline()
print("continued", flush=True)
os.tcsetpgrp(0, pid)
os.kill(pid, signal.SIGCONT)
status = os.waitpid(pid, 0)[1]
os.tcsetpgrp(0, os.getpid())
print("ended", os.WEXITSTATUS(status), flag(), flush=True)
"""


class Console:
    """A command on a pty of the test's own, as a person would sit before it."""

    def __init__(self, inside, command, rows=33, columns=77):
        self.master, slave = pty.openpty()
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
        self.before = termios.tcgetattr(slave)
        change = become(inside.who)

        def start():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            if change:
                change()
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, preexec_fn=start,
                                        cwd=inside.scratch)
        self.slave, self.seen = slave, b""

    def expect(self, text, seconds=60):
        """Reads until the text has come; what follows stays."""
        text, deadline = text.encode(), time.monotonic() + seconds
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.master], [], [], left)[0], "%r did not come: %r" % (text, self.seen)
            self.seen += os.read(self.master, 65536)
        before, _, self.seen = self.seen.partition(text)
        return before.decode("utf-8", "replace")

    def type(self, text):
        os.write(self.master, text.encode())

    def end(self):
        """The exit status; the terminal must have its modes back."""
        code = self.process.wait(60)
        assert termios.tcgetattr(self.slave) == self.before, "the caller's terminal was left in raw mode"
        os.close(self.master)
        os.close(self.slave)
        return code


def console(inside, *argv, options=("--tty",), **size):
    return Console(inside, inside.command(*argv, options=options), **size)


def plain(inside, *argv, **size):
    """Without --tty: the caller's terminal is 0, 1 and 2."""
    return console(inside, *argv, options=(), **size)


def wait_for_modes(it, raw):
    """No event tells that another process has set the modes."""
    until = time.monotonic() + 60
    while bool(termios.tcgetattr(it.slave)[3] & termios.ISIG) == raw:
        assert time.monotonic() < until
        time.sleep(0.01)


def at_a_shell(inside):
    """A shell of the caller's with job control, outside, that has mrunc as a job."""
    it = Console(inside, ["bash", "--norc", "--noprofile", "-i"])
    it.type("PS1='P''> '; M='%s'\n" % " ".join(inside.command()))
    it.expect("P> ")
    return it


def test_the_program_has_a_terminal_of_the_sandboxs_own(inside):
    it = console(inside, "sh", "-c", "tty; stty size; tty < /dev/tty; exit 7")
    it.expect("/dev/pts/0")
    it.expect("33 77")
    it.expect("/dev/tty")
    assert it.end() == 7


def test_a_program_that_asks_at_once_is_told_the_size(inside):
    """It has asked and ended before the supervisor begins to serve its terminal."""
    code = ("import select, sys\nsys.path.insert(0, %r)\nimport mrunc\nfrom mrunc.sandbox.running import supervise\n"
            "begin = supervise.Supervision.begin\n"
            "def late(self):\n    select.select([self.run.pidfd], [], [])\n    begin(self)\n"
            "supervise.Supervision.begin = late\n"
            "sys.exit(mrunc.main(['run', '--tty', '--', 'stty', 'size']))\n" % os.path.dirname(inside.tool))
    it = Console(inside, [PYTHON, "-I", "-c", code])
    it.expect("33 77")
    assert it.end() == 0


def test_ctrl_c_reaches_the_foreground_job_alone(inside):
    it = console(inside, "bash", "--norc", "--noprofile", "-i")
    it.type("sh -c \"%s\"\n" % READY % "sleep 100")
    it.expect("ready")
    it.type("\x03")
    it.type("echo rc=$?.\n")
    it.expect("rc=130.")
    it.type("exit 5\n")
    assert it.end() == 5


def test_ctrl_z_and_job_control_work(inside):
    it = console(inside, "bash", "--norc", "--noprofile", "-i")
    it.type("sh -c \"%s\"\n" % READY % "sleep 100")
    it.expect("ready")
    it.type("\x1a")
    it.expect("Stopped")
    it.type("exit 4\n")
    it.expect("There are stopped jobs")
    it.type("exit 4\n")
    assert it.end() == 4


def test_a_new_window_size_reaches_the_program(inside):
    it = console(inside, "bash", "-c", "trap 'stty size; exit' WINCH; echo rea''dy; while :; do sleep 0.1; done")
    it.expect("ready")
    fcntl.ioctl(it.master, termios.TIOCSWINSZ, struct.pack("4H", 50, 120, 0, 0))
    it.process.send_signal(signal.SIGWINCH)
    it.expect("50 120")
    assert it.end() == 0


def test_shell_is_a_login_shell_on_a_terminal(inside):
    it = Console(inside, inside.command(verb="shell"))
    it.type("echo $HOME-$0; exit\n")
    it.expect("/root-")
    assert it.end() == 0


def test_input_that_is_no_terminal_ends_with_its_end(inside):
    done = inside.outside(inside.command("sh", options=["--tty"]), input="stty -echo\ncat; echo after-$?\nexit 3\n")
    assert done.returncode in (0, 3), done
    assert "after-0" in done.stdout or done.returncode == 3, done
    done = inside.outside(inside.command("cat", options=["--tty"]), input="no newline at the end")
    assert (done.returncode, "no newline at the end" in done.stdout) == (0, True), done


def test_much_output_comes_whole(inside):
    done = inside.outside(inside.command("seq", "200000", options=["--tty"]))
    assert done.stdout.replace("\r", "") == "".join("%d\n" % n for n in range(1, 200001))


def test_typed_input_cannot_be_forged_for_the_caller(inside):
    code = ("import fcntl, sys\nfor fd in (0, 1, 2):\n try: fcntl.ioctl(fd, 0x5412, b'x'); print('FORGED')\n"
            " except OSError as e: print('errno', e.errno)\n")
    done = inside.outside(inside.command("/usr/bin/python3", "-c", code, options=["--tty"]))
    assert done.stdout.count("errno 1") == 3 and "FORGED" not in done.stdout, done


def test_a_reader_that_goes_away_does_not_hang_the_run(inside):
    command = " ".join("'%s'" % word for word in inside.command("yes", options=["--tty", "--timeout", "20"]))
    done = inside.outside(["bash", "-c", "%s | head -1; echo ${PIPESTATUS[0]}" % command])
    assert done.stdout.splitlines()[0] == "y", done
    assert done.stdout.splitlines()[1] != "124", "it only ended at the deadline"


def test_ctrl_c_ends_a_script_and_what_it_waits_for(inside):
    it = plain(inside, "/bin/sh", "-c", "sh -c 'echo up; exec sleep 1000'; echo still")
    it.expect("up")
    it.type("\x03")
    assert it.end() == 130


def test_three_ctrl_c_end_a_program_that_ignores_them(inside):
    for raw in ("", "stty raw; "):  # also where the program makes bytes of them
        it = plain(inside, "/bin/sh", "-c", "trap '' INT; %secho up; while :; do read x; done" % raw)
        it.expect("up")
        it.type("\x03")
        it.type("\x03")
        it.type("\x03")
        it.expect("killed on the caller's third SIGINT")
        assert it.end() == 130


def test_ctrl_c_now_and_then_does_not_end_the_sandbox(inside):
    it = plain(inside, "/bin/sh", "-c", "trap 'echo told' INT; echo up; while :; do read x && exit $x; done")
    it.expect("up")
    for _ in range(4):
        it.type("\x03")
        it.expect("told")
        time.sleep(1.1)  # three within two seconds are what ends it
    it.type("7\n")
    assert it.end() == 7


def test_ctrl_z_stops_both_and_fg_continues_both(inside):
    it = at_a_shell(inside)
    it.type("$M -- /bin/sh -c 'echo u''p; read x; echo got-$x'\n")
    it.expect("up")
    it.type("\x1a")
    it.expect("Stopped")
    it.expect("P> ")
    assert termios.tcgetattr(it.slave)[3] & termios.ISIG, "the shell's terminal was left in raw mode"
    it.type("fg\n")
    it.expect("read x")
    it.type("line\n")
    it.expect("got-line")
    it.expect("P> ")
    it.type("exit 3\n")
    assert it.process.wait(60) == 3


def test_after_a_sigstop_the_terminal_is_raw_again(inside):
    """Nobody sees a SIGSTOP; the shell sets its own modes."""
    it = at_a_shell(inside)
    it.type("$M -- /bin/sh -c 'echo u''p; read x; echo got-$x; read y' &\n")
    it.expect("up")
    it.type("fg\n")
    wait_for_modes(it, raw=True)
    raw = termios.tcgetattr(it.slave)
    os.kill(os.tcgetpgrp(it.master), signal.SIGSTOP)
    it.expect("Stopped")
    it.expect("P> ")
    wait_for_modes(it, raw=False)
    it.type("fg\n")
    wait_for_modes(it, raw=True)
    assert termios.tcgetattr(it.slave) == raw
    it.type("line\n")
    it.expect("got-line")
    it.type("\n")
    it.expect("P> ")
    it.type("exit 3\n")
    assert it.process.wait(60) == 3


def test_a_stopped_mrunc_leaves_no_flag_on_a_terminal_of_somebody_else(inside):
    """After su the terminal can't be opened again: the flag is on the description that all have."""
    command = inside.command("/bin/sh", "-c", "echo u''p; read x; echo got-$x; read y; exit 7")
    it = Console(inside, [PYTHON, "-I", "-c", JOB] + command)
    it.expect("up")
    it.type("\x1a")
    it.expect("stopped 0\r\n")
    it.type("go on\n")
    it.expect("continued")
    it.type("line\n")
    it.expect("got-line")
    before = fcntl.fcntl(it.slave, fcntl.F_GETFL) & os.O_NONBLOCK
    assert bool(before) == (inside.who == "user" and os.geteuid() == 0)
    it.type("\n")
    it.expect("ended 7 0\r\n")
    assert it.end() == 0


def test_terminals_are_bounded(inside):
    """Their buffers are charged to nobody, and the host has a number of them for everybody."""
    code = ("import os\nfds = []\ntry:\n    while True:\n"
            "        fds.append(os.open('/dev/ptmx', os.O_RDWR | os.O_NOCTTY))\n"
            "except OSError as error:\n    print(error.errno, len(fds))")
    done = inside.python(code, options=["--rlimit", "nofile=400"])
    number, count = map(int, done.out.split())
    assert number == errno.ENOSPC and 64 <= count <= 128, done


def test_a_background_job_leaves_the_terminal_to_the_shell(inside):
    it = at_a_shell(inside)
    it.type("$M -- /bin/sh -c 'echo u''p; read x; echo got-$x' &\n")
    it.expect("up")
    it.type("echo for-the''-shell\n")
    it.expect("for-the-shell")
    it.type("fg\n")
    it.expect("read x")
    until = time.monotonic() + 60
    while termios.tcgetattr(it.slave)[3] & termios.ISIG:  # no event tells that mrunc has taken the terminal
        assert time.monotonic() < until
        time.sleep(0.01)
    it.type("line\n")
    it.expect("got-line")
    it.expect("P> ")
    it.type("exit 3\n")
    assert it.process.wait(60) == 3


def test_a_resize_reaches_a_program_without_the_option(inside):
    it = plain(inside, "bash", "-c", "trap 'stty size; exit' WINCH; stty size; while :; do sleep 0.1; done")
    it.expect("33 77")
    fcntl.ioctl(it.master, termios.TIOCSWINSZ, struct.pack("4H", 50, 120, 0, 0))
    it.process.send_signal(signal.SIGWINCH)
    it.expect("50 120")
    assert it.end() == 0


def test_where_only_the_input_is_a_terminal_others_write_as_before(inside):
    """The caller's terminal goes raw for the keys, but its output is what it was."""
    command = " ".join(map(shlex.quote, inside.command("/bin/sh", "-c", "echo up >&2; read x; echo got-$x")))
    it = Console(inside, ["bash", "-c", command + " | cat"])
    it.expect("up\r\n")
    it.type("line\n")
    assert it.expect("got-line\r\n").replace("\r\n", "\n") == "line\n"
    assert it.end() == 0
