# SPDX-License-Identifier: Apache-2.0
"""What every test shares: the tool as it lies in a folder, run by path, as root and as an ordinary user.

`inside` runs programs in the sandbox through the real entry point.  `probe` runs the same Python code outside and inside;
outside it must succeed, so a probe that can't fail can't be written.
"""
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile

import pytest

from interpreters import pythons  # noqa: F401  for the tests that try every Python
from selection import (  # noqa: F401  the hooks, and what tests ask of this run
    IN_VM, KERNEL, PYTHON, ROOT, WHO, also_in_vm, first_line, listens, need, needs_python, pytest_addoption,
    pytest_collection_modifyitems, pytest_configure, pytest_itemcollected, pytest_report_collectionfinish,
    pytest_runtest_call, pytest_runtest_logfinish, pytest_runtest_setup, pytest_runtest_teardown, tmpfs_keeps_marks)

SHIPPED = ("mrunc.py", "__init__.py", "__main__.py", "seccomp_bpf.py", "syscalls", "sandbox", "commands")
USER = 61234  # an ordinary user that no host has
#: Where the library of that Python lies.
PYTHON_PREFIX = os.path.dirname(os.path.dirname(os.path.realpath(PYTHON)))
DEADLINE = 600 if IN_VM else 120

# nohup and a script's & ignore these, and what the tests start would inherit that.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)


def lacking():
    """The names of the controls that this kernel does not have: none on a new one."""
    from mrunc.sandbox.controls import CONTROLS
    from mrunc.sandbox.host.kernel import Features
    features = Features()
    return {name for name in CONTROLS if features.lacks(name)} | (set() if listens() else {"ledger"})


def without_lacking(text):
    """stderr without the note that this kernel lacks what it does lack, so that tests hold on old kernels too."""
    note = re.compile(r"^mrunc: note: without ([\w.-]+(?:, [\w.-]+)*): this kernel does not have it: .*\n", re.M)
    return note.sub(lambda match: "" if set(match.group(1).split(", ")) <= lacking() else match.group(0), text)


class Finished:
    """rc; out, err: str, without notes of what this kernel lacks; result: the parsed report or None."""

    def __init__(self, process, report):
        self.rc, self.out, self.err = process.returncode, process.stdout, without_lacking(process.stderr)
        self.result = report

    def __repr__(self):
        return "<rc %s out %r err %r>" % (self.rc, self.out[-2000:], self.err[-2000:])


def become(who):
    """A preexec function that turns the process into the ordinary user."""
    def change():
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
    return change if who == "user" and os.geteuid() == 0 else None


def hold_to_schema(report):
    """Every result that a test makes is what the published schema says, and has every field."""
    from mrunc.sandbox.result import schema
    assert list(schema.mistakes(report, schema.RESULT)) == []
    assert list(report) == list(schema.FIELDS)


class Inside:
    """The sandbox as one caller sees it.  who: root or user; tool: path of mrunc.py; scratch: a directory of the
    caller's."""

    def __init__(self, who, tool, scratch):
        self.who, self.tool, self.scratch = who, tool, scratch

    def command(self, *argv, options=(), verb="run", python=None):
        """The command line as a list."""
        return [python or PYTHON, "-I", "-S", self.tool, verb, *options, *(["--", *argv] if argv else [])]

    def outside(self, command, **settings):
        """Runs any command as this caller."""
        settings.setdefault("timeout", DEADLINE)
        settings.setdefault("cwd", self.scratch)
        settings.setdefault("stdin", subprocess.DEVNULL if "input" not in settings else None)
        if settings["stdin"] is None:
            del settings["stdin"]
        return subprocess.run(command, stdout=settings.pop("stdout", subprocess.PIPE),
                              stderr=settings.pop("stderr", subprocess.PIPE), universal_newlines=True,
                              preexec_fn=become(self.who), **settings)

    def run(self, *argv, options=(), python=None, verb="run", **settings):
        """`mrunc run OPTIONS -- ARGV` with a report; returns Finished."""
        path = os.path.join(self.scratch, "report-%s.json" % secrets.token_hex(6))
        command = self.command(*argv, options=["--report", path, *options], python=python, verb=verb)
        process = self.outside(command, **settings)
        report = None
        if os.path.exists(path):
            with open(path) as stream:
                text = stream.read()
            report = json.loads(text) if text else None
            os.unlink(path)
        if report is not None:
            hold_to_schema(report)
        return Finished(process, report)

    def python(self, code, options=(), **settings):
        """Python code inside; a nonce printed first proves that it ran."""
        nonce = secrets.token_hex(8)
        done = self.run("/usr/bin/python3", "-I", "-S", "-c", "print(%r, flush=True)\n%s" % (nonce, code),
                        options=options, **settings)
        assert done.out.startswith(nonce + "\n"), "the workload did not run: %r" % done
        done.out = done.out[len(nonce) + 1:]
        return done


@pytest.fixture(scope="session")
def public_folder():
    """A directory that everybody can enter; pytest's own are for the user that runs it alone."""
    folder = tempfile.mkdtemp(prefix="mrunc-tests-")
    os.chmod(folder, 0o755)
    yield folder
    # It holds whole systems, and where what is freed is discarded at once, each file waits for the disk.
    subprocess.run(["sh", "-c", 'find "$1" ! -type d -print0 | xargs -0 -r -n 200 -P 8 rm -f; rm -rf "$1"', "sh", folder],
                   stderr=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def tool_folder(public_folder):
    """A copy of the tool in a folder that everybody can read: "copied onto a host"."""
    folder = os.path.join(public_folder, "copied")
    os.mkdir(folder)
    copy_tool(folder)
    return folder


def copy_tool(folder):
    """Copies what ships into a folder."""
    for name in SHIPPED:
        source = os.path.join(ROOT, name)
        target = os.path.join(folder, name)
        if os.path.isdir(source):
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    subprocess.run([PYTHON, "-m", "compileall", "-q", folder], check=True)
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)


@pytest.fixture(scope="session")
def release(tmp_path_factory):
    """A directory with what `make dist` makes."""
    place = tmp_path_factory.mktemp("release")
    make("dist", "OUT=%s" % place)
    return place


def make(*words, root=ROOT, **settings):
    """Runs make in a checkout; returns what it printed, which for a target that failed is an AssertionError."""
    done = subprocess.run(["make", "-s", "-C", str(root), "PYTHON=" + PYTHON, *words], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, universal_newlines=True, timeout=900, **settings)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(params=WHO)
def inside(request, tool_folder):
    """The sandbox, for root and for an ordinary user."""
    return make_inside(request.param, tool_folder)


@pytest.fixture
def inside_as_root(tool_folder):
    """For what only root can do; in an ordinary user's run these tests are deselected."""
    return make_inside("root", tool_folder)


@pytest.fixture
def inside_as_user(tool_folder):
    """For what is different for an ordinary user."""
    return make_inside("user", tool_folder)


def make_inside(who, tool_folder):
    """An Inside whose scratch directory belongs to its caller."""
    scratch = tempfile.mkdtemp(prefix="scratch-%s-" % who, dir=os.path.dirname(tool_folder))
    os.chmod(scratch, 0o755)
    if who == "user" and os.geteuid() == 0:
        os.chown(scratch, USER, USER)
    return Inside(who, os.path.join(tool_folder, "mrunc.py"), scratch)


@pytest.fixture
def head(inside):
    """What a program that uses the library begins with."""
    from hosting import HEAD
    return HEAD % os.path.dirname(inside.tool)


@pytest.fixture
def host(inside, head):
    """host(code) runs a program that uses the library, as the caller, and returns what it printed."""
    def run(code, python=PYTHON, **settings):
        done = inside.outside([python, "-I", "-c", head + code + "\nprint('the end')"], **settings)
        assert done.returncode == 0 and done.stdout.endswith("the end\n"), (done.stdout, done.stderr)
        return done.stdout[:-len("the end\n")]
    return run


@pytest.fixture
def probe(inside):
    """probe(code, options=()) -> Finished of the run inside.  The same code must exit 0 outside first, as the same
    caller; wrap= may name a command that makes that safe (unshare ...)."""
    def run(code, options=(), wrap=(), **settings):
        outside = inside.outside([*wrap, "/usr/bin/python3", "-I", "-S", "-c", code], **settings)
        assert outside.returncode == 0, "the probe does not work outside: %s %s" % (outside.stdout, outside.stderr)
        return inside.python(code, options=options, **settings)
    return run


class VirtualMachine:
    """What tests/vm/run.py was asked for.  arch; kernel: 6.12, ...; user: root or tester; cgroup: v2, hybrid, v1 or none;
    delegated: path of the cgroup that belongs to the user, "" where there is no cgroup v2."""

    def __init__(self, environ):
        self.arch, self.kernel, self.user, self.cgroup, self.delegated = [
            environ["MRUNC_VM_" + name] for name in ("ARCH", "KERNEL", "USER", "CGROUP", "DELEGATED")]


@pytest.fixture
def vm():
    """The virtual machine; only tests marked vm can use it."""
    return VirtualMachine(os.environ)


@pytest.fixture
def sysctl():
    """sysctl(name, value) sets a kernel parameter until the end of the test.  For tests marked vm that root runs."""
    before = []

    def change(name, value):
        path = "/proc/sys/" + name.replace(".", "/")
        with open(path) as stream:
            before.append((path, stream.read()))
        with open(path, "w") as stream:
            stream.write(str(value))
    yield change
    for path, text in reversed(before):
        with open(path, "w") as stream:
            stream.write(text)
