# SPDX-License-Identifier: Apache-2.0
"""What attackers of our own found, each as the promise that it broke."""
import json
import os
import pty
import socket
import subprocess

import pytest

import mrunc  # noqa: F401  registers the package

from conftest import PYTHON, USER, become


def give(inside, path):
    """Makes a file the caller's own."""
    if os.geteuid() == 0 and inside.who == "user":
        os.chown(path, USER, USER)


def test_a_directory_with_a_socket_is_refused(inside):
    folder = os.path.join(inside.scratch, "deep", "er")
    os.makedirs(folder)
    server = socket.socket(socket.AF_UNIX)
    server.bind(os.path.join(folder, "s"))
    done = inside.run("echo", "RAN", options=["--ro", inside.scratch + ":/x"])
    assert (done.rc, done.out) == (2, "") and "is a socket" in done.err, done
    server.close()
    os.unlink(os.path.join(folder, "s"))
    assert inside.run("echo", "RAN", options=["--ro", os.path.dirname(folder) + ":/x"]).out == "RAN\n"


@pytest.mark.parametrize("head", ["#!/bin/\0sh\n", "#!\0\n", "#!" + "x" * 300, "#!/nonexistent\x1b[31m\n"])
def test_a_hostile_first_line_is_no_traceback(inside, head):
    path = os.path.join(inside.scratch, "sample")
    with open(path, "w") as stream:
        stream.write(head)
    give(inside, path)
    done = inside.run("./sample", options=["--copy", path])
    assert done.rc in (126, 127) and "Traceback" not in done.err and "\x1b" not in done.err, done
    assert done.result["reason"] == "exec"


def test_the_report_does_not_follow_a_link(inside):
    victim, link = os.path.join(inside.scratch, "victim"), os.path.join(inside.scratch, "link")
    with open(victim, "w") as stream:
        stream.write("untouched")
    os.symlink(victim, link)
    done = inside.outside(inside.command("true", options=["--report", link]))
    assert done.returncode == 2 and "symlink" in done.stderr, done
    with open(victim) as stream:
        assert stream.read() == "untouched"


def test_the_report_is_a_new_file_and_leaves_a_hard_link_alone(inside):
    victim, link = os.path.join(inside.scratch, "victim"), os.path.join(inside.scratch, "report")
    with open(victim, "w") as stream:
        stream.write("untouched")
    os.link(victim, link)
    done = inside.outside(inside.command("true", options=["--report", link]))
    assert done.returncode == 0, done
    with open(victim) as stream:
        assert stream.read() == "untouched"
    with open(link) as stream:
        assert json.load(stream)["reason"] == "exited"
    assert sorted(os.listdir(inside.scratch)) == ["report", "victim"]


def test_the_report_cannot_lie_where_the_program_writes(inside):
    folder = os.path.join(inside.scratch, "shared")
    os.mkdir(folder)
    if os.geteuid() == 0:
        os.chown(folder, USER, USER)
    done = inside.outside(inside.command("true", options=["--rw", folder + ":/x", "--report", folder + "/r"]))
    assert done.returncode == 2 and "can write" in done.stderr, done


def test_a_program_that_fills_stderr_does_not_lose_the_report(inside):
    fill = ("import os\nos.set_blocking(2, False)\n"
            "try:\n while True: os.write(2, b'x' * 4096)\nexcept BlockingIOError: pass\n")
    read, write = os.pipe()
    process = subprocess.Popen(inside.command("/usr/bin/python3", "-c", fill, options=["--report", "-"]), stderr=write,
                               stdout=subprocess.PIPE, preexec_fn=become(inside.who), cwd=inside.scratch)
    os.close(write)
    with os.fdopen(read) as stream:
        text = stream.read()
    assert process.wait(60) == 0
    assert json.loads(text.lstrip("x"))["reason"] == "exited"


def test_the_deadline_holds_while_nobody_reads_the_terminal(inside):
    master, slave = pty.openpty()
    process = subprocess.Popen(inside.command("yes", options=["--tty", "--timeout", "1", "--grace", "0"]), stdin=slave,
                               stdout=slave, stderr=subprocess.DEVNULL, preexec_fn=become(inside.who), cwd=inside.scratch)
    os.close(slave)
    assert process.wait(60) == 124
    os.close(master)


def test_the_whole_host_can_be_shown_to_a_user(inside_as_user):
    done = inside_as_user.run("ls", "/h/usr", options=["--ro", "/usr:/h/usr"])
    assert done.rc == 0 and "bin" in done.out, done


def test_a_launcher_that_dies_is_a_sandbox_error(inside, tmp_path):
    code = ("import sys; sys.path.insert(0, %r); import mrunc\n"
            "try: mrunc.run(['true'], env={'A': 'x' * 100000, 'B': 'x' * 100000}, python='/bin/false')\n"
            "except mrunc.SandboxError as error: print(error.stage, error.status)" % os.path.dirname(inside.tool))
    done = inside.outside([PYTHON, "-c", code])
    assert done.stdout == "launcher 125\n", done


def test_hostile_names_are_escaped(inside):
    from_inside = inside.run("\x1b[2Jname\n\u202e")
    assert from_inside.rc == 127 and "\\x1b[2Jname\\n\\u202e" in from_inside.err, from_inside
    assert "\x1b" not in from_inside.err


def test_a_piped_stdin_cannot_be_written_by_the_program(inside_as_user):
    inject = "import os; os.write(os.open('/proc/self/fd/0', os.O_WRONLY | os.O_NONBLOCK), b'\\necho INJECTED\\n')"
    control = "/usr/bin/python3 -c \"%s\"\necho last\n" % inject
    it = inside_as_user
    done = it.outside(["bash", "-c", "cat | bash"], input=control)
    assert "INJECTED" in done.stdout, "the control injects nothing: %r" % done
    words = " ".join("'%s'" % word for word in it.command("/usr/bin/python3", "-c", "@"))
    script = words.replace("'@'", '"print(\'RAN\', flush=True); %s"' % inject) + "\necho last\n"
    done = it.outside(["bash", "-c", "cat | bash"], input=script)
    assert "RAN" in done.stdout and "INJECTED" not in done.stdout, done


@pytest.mark.parametrize("count", [0, 1, 300000])
def test_a_pipe_comes_whole_and_ends(inside, count):
    text = "".join("%d\n" % number for number in range(count))
    done = inside.outside(inside.command("cat"), input=text)
    assert (done.returncode, done.stdout) == (0, text)


def test_a_program_that_reads_nothing_ends_all_the_same(inside):
    words = " ".join("'%s'" % word for word in inside.command("head", "-1", options=["--timeout", "30"]))
    done = inside.outside(["bash", "-c", "yes | %s; echo ${PIPESTATUS[1]}" % words])
    assert done.stdout == "y\n0\n", done


def test_an_output_file_never_becomes_set_uid(inside):
    path = os.path.join(inside.scratch, "out")
    with open(path, "w") as stream:
        give(inside, path)
        done = subprocess.run(inside.command("/usr/bin/python3", "-c", "import os\nos.write(1, b'RAN')\nos.fchmod(1, 0o4755)\n"
                                             "os.write(2, b'done')"), stdout=stream,
                              stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, preexec_fn=become(inside.who), cwd=inside.scratch)
    # What it has made set-uid is the sandbox's own pipe.
    assert done.stderr == b"done" and not os.stat(path).st_mode & 0o7000, done
    with open(path) as stream:
        assert stream.read() == "RAN"


def test_what_is_read_only_inside_what_is_writable_stays_where_it_is(inside):
    base = os.path.join(inside.scratch, "project")
    os.makedirs(os.path.join(base, "a", "b"))
    with open(os.path.join(base, "a", "b", "protected"), "w") as stream:
        stream.write("original")
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "%d:%d" % (USER, USER), base], check=True)
    done = inside.run("sh", "-c", "touch /p/a/new && echo RAN; mv /p/a /p/c && mkdir -p /p/a/b && echo EVIL > /p/a/b/protected",
                      options=["--rw", base + ":/p", "--ro", base + "/a/b:/p/a/b"])
    assert done.out == "RAN\n" and "busy" in done.err, done
    with open(os.path.join(base, "a", "b", "protected")) as stream:
        assert stream.read() == "original"


def test_a_directory_that_cannot_be_searched_for_sockets_is_refused(inside_as_user):
    hidden = os.path.join(inside_as_user.scratch, "d", "hidden")
    os.makedirs(hidden)
    os.chmod(hidden, 0o311)
    if os.geteuid() == 0:
        os.chown(hidden, USER, USER)
    done = inside_as_user.run("true", options=["--ro", os.path.dirname(hidden) + ":/x"])
    assert done.rc == 2 and "searched" in done.err, done


def test_a_fifo_below_a_source_is_refused(inside):
    os.mkfifo(os.path.join(inside.scratch, "fifo"))
    done = inside.run("true", options=["--ro", inside.scratch + ":/x"])
    assert done.rc == 2 and "FIFO" in done.err, done


def test_the_callers_terminal_comes_back_as_it_was(inside):
    import select
    import termios
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    code = ("import termios, tty\ntty.setraw(1)\ntermios.tcflow(1, termios.TCOOFF)\nimport os, signal\n"
            "os.kill(os.getpid(), signal.SIGSYS)")
    process = subprocess.Popen(inside.command("/usr/bin/python3", "-c", code), stdin=slave, stdout=slave, stderr=slave,
                               preexec_fn=become(inside.who), cwd=inside.scratch)
    seen = b""
    while b"killed by SIGSYS" not in seen:
        assert select.select([master], [], [], 60)[0], seen
        seen += os.read(master, 4096)
    assert process.wait(60) == 128 + 31
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def test_opt_on_the_path_is_shown(inside, tmp_path):
    done = inside.outside(inside.command("ls", "-d", "/opt"), env={"PATH": "/opt:/usr/bin:/bin"})
    assert (done.returncode, done.stdout) == (0, "/opt\n"), done


def test_a_kernel_without_landlock_is_not_passed_over_in_silence(inside):
    from mrunc.syscalls import libc
    code = (  # an outer filter that answers ENOSYS to landlock_create_ruleset
        "import ctypes, os, struct, sys\nlibc = ctypes.CDLL(None)\n"
        "i = lambda c, t, f, k: struct.pack('=HBBI', c, t, f, k)\n"
        "p = i(0x20,0,0,0) + i(0x15,0,1,%d) + i(6,0,0,0x50026) + i(6,0,0,0x7fff0000)\n"
        "b = ctypes.create_string_buffer(p)\nf = ctypes.create_string_buffer(struct.pack('=HxxxxxxQ', 4, ctypes.addressof(b)))\n"
        "assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, f, 0, 0) == 0\n"
        "os.execv(sys.argv[1], sys.argv[1:])" % libc.number("landlock_create_ruleset"))
    done = inside.outside(["/usr/bin/python3", "-c", code] + inside.command("echo", "RAN"))
    assert done.stdout == "RAN\n" and done.stderr.startswith("mrunc: note: without landlock"), done


def test_a_stopped_terminal_of_another_user_holds_nothing(inside):
    """The terminal can't be opened again, as after su: the caller's own description is used, and gets its flag back."""
    import fcntl
    master, slave = pty.openpty()
    os.fchmod(slave, 0)
    process = subprocess.Popen(inside.command("yes", options=["--tty", "--timeout", "1", "--grace", "0"]), stdin=slave,
                               stdout=slave, stderr=slave, preexec_fn=become(inside.who), cwd=inside.scratch)
    assert process.wait(60) == 124
    assert not fcntl.fcntl(slave, fcntl.F_GETFL) & os.O_NONBLOCK
    os.close(slave)
    os.close(master)
