# SPDX-License-Identifier: Apache-2.0
"""What the kernel does with the memory of a program that crashes: where core_pattern leads is the host's, for all."""
import os
import resource
import subprocess

import pytest

from conftest import become, make_inside
from mrunc.syscalls import landlock

#: Crashes with each of these limits that it can have; says whether the kernel dumped.
CRASHES = """
import os, resource
for wanted in LIMITS:
    pid = os.fork()
    if pid == 0:
        try:
            if wanted: resource.setrlimit(resource.RLIMIT_CORE, wanted)
        except (OSError, ValueError):
            os._exit(0)
        os.abort()
    status = os.waitpid(pid, 0)[1]
    print("crashed" if os.WIFSIGNALED(status) else "no such limit", os.WCOREDUMP(status), flush=True)
"""
AS_IT_IS, EVERY = CRASHES.replace("LIMITS", "[None]"), CRASHES.replace("LIMITS", "[None, (0, 1), (0, 0), (1, 1)]")
RUNS = [("root",), ("root", "--tier", "rootns"), ("root", "--tier", "process"), ("user",), ("user", "--tier", "process"),
        ("user", "--harden")]


class Handler:
    """A program of the host that core_pattern names; it writes down whose dumps it got, before the crashed one has gone."""

    def __init__(self, folder, sysctl):
        self.folder = os.path.join(folder, "dumps")
        os.mkdir(self.folder)
        program = os.path.join(folder, "handler")
        with open(program, "w") as stream:
            stream.write("#!/bin/sh\nwc -c > %s/$1\n" % self.folder)
        os.chmod(program, 0o755)
        sysctl("kernel.core_pipe_limit", 16)  # the kernel waits for the handler, and so does who waits for the crashed one
        sysctl("kernel.core_pattern", "|%s %%p" % program)

    def take(self):
        """How many dumps there have been since the last look, each with some bytes."""
        names = os.listdir(self.folder)
        for name in names:
            path = os.path.join(self.folder, name)
            with open(path) as stream:
                assert int(stream.read()) > 0
            os.unlink(path)
        return len(names)


@pytest.fixture
def handler(public_folder, tmp_path_factory, sysctl):
    folder = os.path.join(public_folder, tmp_path_factory.mktemp("handler").name)
    os.mkdir(folder)
    return Handler(folder, sysctl)


def control(result, name):
    return [row for row in result["controls"] if row["name"] == name][0]


@pytest.mark.vm
def test_piped_handler_gets_no_dump(tool_folder, handler):
    """In every tier and as every caller; outside, the same program's dump arrives also at a limit of 0."""
    for who, *options in RUNS:
        if "process" in options and not landlock.abi():
            continue  # before Linux 5.13 there is no such tier
        inside = make_inside(who, tool_folder)
        if not options:
            outside = inside.outside(["/usr/bin/python3", "-c", CRASHES.replace("LIMITS", "[(0, 0)]")])
            assert (outside.stdout, handler.take()) == ("crashed True\n", 1), outside
        done = inside.python(EVERY, options=options)
        assert done.rc == 0 and done.out.startswith("crashed False\n"), done
        assert "True" not in done.out and handler.take() == 0, (who, options, done)
        row = control(done.result, "limits.core")
        assert row["in_force"] and "1:1" in row["how"] and "names a program" in row["how"], row


@pytest.mark.vm
def test_limit_that_a_piped_handler_ignores_is_refused(tool_folder, handler):
    """A user whose hard limit is 0 can't have 1, and at 0 the handler is started; root may raise it."""
    for who, status in (("user", 125), ("root", 0)):
        inside = make_inside(who, tool_folder)

        def lower():
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            (become(who) or (lambda: None))()
        done = subprocess.run(inside.command("/usr/bin/python3", "-c", AS_IT_IS), preexec_fn=lower, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, cwd=inside.scratch)
        assert (done.returncode, done.stdout) == (status, "" if status else "crashed False\n"), done
        assert handler.take() == 0
        assert not status or "limits.core is not in force" in done.stderr and "prlimit --core=0:1" in done.stderr, done


@pytest.mark.vm
def test_dumps_to_a_socket_are_refused(inside_as_root, sysctl):
    """Since Linux 6.16; no limit keeps a dump from it."""
    sysctl("kernel.core_pattern", "@/run/mrunc-dumps")
    done = inside_as_root.run("/bin/echo", "ran")
    assert (done.rc, done.out) == (125, "") and "sysctl -w kernel.core_pattern=core" in done.err, done
    done = inside_as_root.run("/bin/echo", "ran", options=["--best-effort", "limits.core"])
    assert (done.rc, done.out) == (0, "ran\n") and "limits.core" in done.err, done
    assert not control(done.result, "limits.core")["in_force"]


@pytest.mark.also_vm
def test_no_core_file_is_written(inside):
    """Where core_pattern names a file, which is the current directory's."""
    code = "import os\nos.chdir('/tmp')\n" + EVERY + "print(os.listdir('/tmp'))\n"
    done = inside.python(code)
    assert done.rc == 0 and done.out.startswith("crashed False\n") and done.out.endswith("\n[]\n"), done
    assert "True" not in done.out
    row = control(done.result, "limits.core")
    assert row["asked"] and row["in_force"], row


def test_without_a_filter_the_limit_is_not_in_force(inside):
    """The program could set it to 0, at which a piped handler is started."""
    done = inside.run("/bin/echo", "ran", options=["--unsafe-without", "seccomp"])
    row = control(done.result, "limits.core")
    assert (done.rc, row["asked"], row["in_force"]) == (0, False, False) and "no filter" in row["how"], row
