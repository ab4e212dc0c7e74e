# SPDX-License-Identifier: Apache-2.0
"""The shorter way to the bytecode: never to code that is not the source's, and never in a host's own process."""
import glob
import json
import marshal
import os
import subprocess

import pytest

from conftest import PYTHON, ROOT, copy_tool, needs_python, pythons
from mrunc.commands.bytecode import RUN

ON_3_7 = [path for version, path in pythons() if not version.startswith("3.6")]
CHANGED = "\n\ndef main(argv):\n    print('changed')\n    return 0\n"


@pytest.fixture
def tool(tmp_path):
    """A copy of the tool with its bytecode."""
    folder = tmp_path / "tool"
    folder.mkdir()
    copy_tool(str(folder))
    return folder


def compiled(python, folder, *words):
    subprocess.run([python, "-m", "compileall", "-q", *words, str(folder)], check=True)


def version(folder, *flags, python=PYTHON):
    """What --version prints; nothing is written beside the tool."""
    done = subprocess.run([python, "-I", "-S", "-B", *flags, str(folder / "mrunc.py"), "--version"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def touched(folder, *flags):
    """{name of a file of the manual: [system call that names it]}"""
    log = str(folder / "trace")
    subprocess.run(["strace", "-e", "trace=file", "-o", log, PYTHON, "-I", "-S", "-B", *flags, str(folder / "mrunc.py"),
                    "--version"], stdout=subprocess.DEVNULL, timeout=60, check=True)
    found = {}
    with open(log) as stream:
        for line in stream:
            if "/manual." in line:
                found.setdefault(line.split('"')[1].rpartition("/")[2], []).append(line.split("(")[0])
    return found


@needs_python(7, "bytecode with flags")
def test_a_module_costs_one_look_at_its_source_and_one_file(tool):
    (bytecode, opens), (source, looks) = sorted(touched(tool).items())
    assert (source, len(looks)) == ("manual.py", 1) and (bytecode.endswith(".pyc"), len(opens)) == (True, 1)


@pytest.mark.parametrize("python", ON_3_7)
def test_a_changed_source_is_what_runs(tool, python):
    compiled(python, tool)
    assert version(tool, python=python).startswith("mrunc ")
    manual = tool / "commands" / "manual.py"
    manual.write_text(manual.read_text() + CHANGED)
    assert version(tool, python=python) == "changed\n"


def test_a_source_of_another_time_alone_is_what_runs(tool):
    manual = tool / "commands" / "manual.py"
    text = manual.read_text()
    size = os.stat(str(manual)).st_size
    manual.write_text((text[:text.index("SUMMARY =")] + CHANGED).ljust(size)[:size])
    os.utime(str(manual), (1, 1))
    assert version(tool) == "changed\n"


@needs_python(7, "bytecode with flags")
def test_bytecode_that_goes_by_a_hash_is_left_to_python(tool):
    for path in glob.glob(str(tool / "commands" / "__pycache__" / "*.pyc")):
        os.unlink(path)
    compiled(PYTHON, tool, "--invalidation-mode", "checked-hash")
    manual = tool / "commands" / "manual.py"
    found = os.stat(str(manual))
    manual.write_text(manual.read_text() + CHANGED)
    os.utime(str(manual), (found.st_atime, found.st_mtime))
    assert version(tool) == "changed\n"


@pytest.mark.parametrize("spoiled", [b"", b"\0" * 40, b"\x17"])
def test_spoiled_bytecode_is_left_to_python(tool, spoiled):
    for path in glob.glob(str(tool / "commands" / "__pycache__" / "manual.*.pyc")):
        with open(path, "wb") as out:
            out.write(spoiled)
    assert version(tool).startswith("mrunc ")


@needs_python(7, "bytecode with flags")
@pytest.mark.parametrize("module, argv", [("commands/manual", ["--version"]), ("sandbox/tiers", ["run", "--", "/bin/true"])])
def test_what_is_no_code_is_not_executed(tool, module, argv):
    """Python says ImportError to it; exec would take text, too."""
    folder, name = os.path.split(module)
    for path in glob.glob(str(tool / folder / "__pycache__" / (name + ".*.pyc"))):
        with open(path, "rb+") as out:
            out.seek(16)
            out.truncate()
            out.write(marshal.dumps("import os; os.write(1, b'executed'); os._exit(0)"))
    done = subprocess.run([PYTHON, "-I", "-S", "-B", str(tool / "mrunc.py"), *argv], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, timeout=60)
    assert (done.returncode, done.stdout) == (125, "") and "ImportError: Non-code object" in done.stderr, done


@pytest.mark.parametrize("flags", [
    ["-O"], ["-OO"], pytest.param(["-X", "pycache_prefix=/nonexistent"], marks=needs_python(8, "another place for bytecode"))])
def test_another_kind_of_bytecode_is_left_to_python(tool, flags):
    assert version(tool, *flags).startswith("mrunc ")
    assert len(touched(tool, *flags)["manual.py"]) > 1


def test_without_bytecode_the_source_runs(tool):
    for path in glob.glob(str(tool / "*" / "__pycache__" / "*.pyc")):
        os.unlink(path)
    assert version(tool).startswith("mrunc ")


def test_a_host_that_imports_the_tool_keeps_its_import_system(tool):
    code = ("import sys; before = list(sys.meta_path); sys.path.append(%r); sys.dont_write_bytecode = True\n"
            "import mrunc; assert mrunc.main(['--version']) == 0; assert sys.meta_path == before" % str(tool))
    subprocess.run([PYTHON, "-c", code], check=True, stdout=subprocess.DEVNULL, timeout=60)


def modules(folder, *flags):
    """[our own modules after a run, in the order in which they were begun, of those that hold `__file__`], by its audit."""
    code = ("import posix, sys\n"
            "told = posix.dup(1)  # a run lets its own 1 go when the program's has ended\n"
            "def end(event, arguments):\n"
            "    if event == 'mrunc-end':\n"
            "        posix.write(told, ' '.join([name for name, module in sys.modules.items()\n"
            "                                    if name[:6] == 'mrunc.' and module.__file__]).encode())\n"
            "sys.addaudithook(end)\n"
            "leave = posix._exit\n"
            "posix._exit = lambda status: (sys.audit('mrunc-end'), leave(status))\n"
            "sys.argv[:] = [%r, 'run', '--', '/bin/true']\n"
            "__file__ = sys.argv[0]\nexec(compile(open(__file__).read(), __file__, 'exec'))\n" % str(folder / "mrunc.py"))
    done = subprocess.run([PYTHON, "-I", "-S", "-B", *flags, "-c", code], stdout=subprocess.PIPE, check=True, timeout=60,
                          universal_newlines=True)
    return done.stdout.split()


@needs_python(8, "audit hooks")
def test_a_run_has_the_same_modules_with_and_without_the_shorter_way(tool):
    short, plain = modules(tool), modules(tool, "-X", "importtime")
    assert sorted(short) == sorted(plain) and len(plain) > 30
    for path in glob.glob(str(tool / "*" / "__pycache__" / "*.pyc")):
        os.unlink(path)
    assert sorted(modules(tool)) == sorted(plain)


@needs_python(8, "audit hooks")
def test_what_is_made_ready_for_a_run_is_what_it_imports_before_its_child(tool):
    """In an order in which no module is reached before its turn."""
    with open(os.path.join(ROOT, "bench", "imports.json")) as stream:
        before = json.load(stream)["before"]
    ready = ["mrunc." + name.replace(".nr_" + os.uname().machine, ".nr_x86_64") for name in RUN]
    first = {"mrunc.commands", "mrunc.commands.bytecode", "mrunc.commands.options", "mrunc.commands.run", "mrunc.sandbox",
             "mrunc.sandbox.errors", "mrunc.sandbox.frozen_filters"}
    assert sorted(ready) == sorted(set(before) - first)
    found = [name for name in modules(tool) if name in ready]
    assert found == ready
