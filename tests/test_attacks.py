# SPDX-License-Identifier: Apache-2.0
"""What attackers of our own found, each as the promise that it broke."""
import json
import os
import pty
import socket
import subprocess

import pytest

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
