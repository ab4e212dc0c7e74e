# SPDX-License-Identifier: Apache-2.0
"""Holds which rooms there are, which way imports go, and what a start may import."""
import ast
import functools
import glob
import os
import re
import subprocess
import sys
import tempfile

import pytest

from conftest import PYTHON, ROOT, pythons

DOOR = {"mrunc", "__init__", "__main__"}
ROOMS = {"commands", "sandbox", "syscalls"}
#: Where -> what it may import.  A missing arrow does not exist.
ARROWS = {"door": {"door", "commands", "sandbox"}, "commands": {"commands", "sandbox"},
          "sandbox": {"sandbox", "syscalls", "seccomp_bpf"}, "syscalls": {"syscalls"}, "seccomp_bpf": set()}
#: What the door tells everybody.
TOLD = {"__version__"}
GENERATED = {"sandbox/frozen.py", "sandbox/frozen_named.py", "sandbox/peers.py", "syscalls/nr_x86_64.py",
             "syscalls/nr_aarch64.py", "syscalls/widths.py"}
#: Modules that `site` imports at every start without -S, `os` and those beneath it: they cost
#: `python3 mrunc.py` nothing.
SITE = {"_abc", "_collections_abc", "_stat", "abc", "genericpath", "os", "posix", "posixpath", "stat"}
#: Modules of the standard library that cost about nothing.  The run path takes these and no others.
CHEAP = SITE | {"_bootlocale", "_ctypes", "_locale", "_signal", "_socket", "_struct", "ctypes", "ctypes._endian", "errno",
                "fcntl", "gc", "marshal", "select", "struct", "sys", "time", "types"}


def shipped():
    """[path from the root] of the Python files that ship."""
    found = glob.glob(os.path.join(ROOT, "*.py"))
    for room in sorted(ROOMS):
        found += glob.glob(os.path.join(ROOT, room, "**", "*.py"), recursive=True)
    return sorted(os.path.relpath(path, ROOT) for path in found)


def text_of(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as stream:
        return stream.read()


def room_of(path):
    head = path.split("/")[0].split(".py")[0]
    return "door" if head in DOOR else head


@functools.lru_cache(None)
def imports(path):
    """[(line, level, module or "", name or None, at module level?)] of each import in a file."""
    tree = ast.parse(text_of(path), path)
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.Lambda))]
    inner = {id(child) for function in functions for child in ast.walk(function)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.append((node.lineno, 0, alias.name, None, id(node) not in inner))
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found.append((node.lineno, node.level, node.module or "", alias.name, id(node) not in inner))
    return found


def targets(path):
    """Yields (line, room or None for the standard library, name, at module level?)."""
    for line, level, module, name, top in imports(path):
        if level == 0:
            head = module.split(".")[0]
            yield line, ("door" if head == "mrunc" else head if head in ROOMS | {"seccomp_bpf"} else None), module, top
            continue
        package = path.split("/")[:-1]
        base = package[:len(package) - (level - 1)] + (module.split(".") if module else [])
        if base:
            head = base[0]
        else:  # from .. import X
            head = name if name in ROOMS | {"seccomp_bpf"} | DOOR else "__init__"
        yield line, "door" if head in DOOR else head, name, top


def every(paths):
    """Turns a test of one file into one test of all of these, which names each that fails."""
    def of_all(test):
        def test_of_all():
            failures = []
            for path in paths:
                try:
                    test(path)
                except AssertionError as error:
                    failures.append("%s: %s" % (path, error))
            if failures:
                pytest.fail("\n".join(failures))
        test_of_all.__doc__ = test.__doc__
        return test_of_all
    return of_all


@every(shipped())
def test_arrows_go_one_way(path):
    room = room_of(path)
    for line, target, name, _ in targets(path):
        if target is not None and not (target == "door" and name in TOLD):
            assert target in ARROWS[room], "%s:%d: no arrow leads from %s to %s" % (path, line, room, target)


@every(shipped())
def test_imports_inside_are_relative(path):
    """An absolute one would take what lies on sys.path."""
    for line, level, module, _, _ in imports(path):
        head = module.split(".")[0]
        if level == 0 and (path, module) != ("__main__.py", "mrunc.mrunc"):
            assert head not in ROOMS | DOOR | {"seccomp_bpf"}, "%s:%d imports %s absolutely" % (path, line, module)


@every(shipped())
def test_only_syscalls_knows_ctypes(path):
    for line, level, module, _, _ in imports(path):
        if level == 0 and module.split(".")[0] in ("ctypes", "_ctypes", "cffi"):
            assert room_of(path) == "syscalls", "%s:%d" % (path, line)


def test_the_compiler_is_pure():
    for line, _, module, _, _ in imports("seccomp_bpf.py"):
        assert module.split(".")[0] not in ("os", "sys", "ctypes", "io", "subprocess", "socket"), "line %d" % line


@every(["mrunc.py", "__init__.py", "__main__.py"])
def test_the_door_imports_only_os_and_sys_before_it_knows_its_place(path):
    for line, level, module, name, top in imports(path):
        if top and level == 0 and (path, module) != ("__main__.py", "mrunc.mrunc"):
            assert module in ("os", "sys"), "%s:%d imports %s" % (path, line, module)
        if top and level:
            allowed = "sandbox.face" if path == "mrunc.py" else "mrunc"
            assert (level, module or name) == (1, allowed), "%s:%d imports more than the door" % (path, line)


def test_the_root_holds_four_python_files():
    """Each *.py there would go into the wheel."""
    names = sorted(os.path.basename(path) for path in glob.glob(os.path.join(ROOT, "*.py")))
    assert names == ["__init__.py", "__main__.py", "mrunc.py", "seccomp_bpf.py"]


def test_tests_and_measurements_are_no_packages():
    """Or they would hide a host's own `tests` when the folder is on its sys.path."""
    for name in ("tests", "bench", "docs", ".ci"):
        assert not os.path.exists(os.path.join(ROOT, name, "__init__.py"))


def test_no_name_of_the_standard_library_is_hidden():
    """With the folder on sys.path, a room called `code` would be everybody's `import code`."""
    tops = {name.split(".py")[0] for name in os.listdir(ROOT) if not name.startswith(".")}
    if hasattr(sys, "stdlib_module_names"):
        assert not tops & set(sys.stdlib_module_names)
    else:
        folder = os.path.dirname(os.__file__)
        assert not tops & {name.split(".")[0] for name in os.listdir(folder)} - {"LICENSE"}


@every(shipped() + sorted(
    os.path.relpath(found, ROOT) for pattern in ("tests/*.py", "tests/vm/*", "bench/*.py", ".ci/*", "sandbox/*.s", "Makefile",
                                                 "pyproject.toml")
    for found in glob.glob(os.path.join(ROOT, pattern)) if os.path.isfile(found)))
def test_each_file_names_its_licence(path):
    assert any("SPDX-License-Identifier: Apache-2.0" in line for line in text_of(path).split("\n")[:3]), path


@every(shipped())
def test_what_ships_is_plain_ascii_without_trailing_blanks(path):
    """Read the same in every locale, by every interpreter and on every terminal; no character that looks like another."""
    text = text_of(path)
    for number, line in enumerate(text.split("\n"), 1):
        assert all(31 < ord(char) < 127 for char in line) and line == line.rstrip(), "%s:%d" % (path, number)
    assert text.endswith("\n") and not text.endswith("\n\n")


@every(sorted(set(shipped()) - GENERATED))
def test_each_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(text_of(path))), path


@pytest.mark.parametrize("name, words", [
    ("mrunc.1", ["--man"]), ("mrunc-policy.5", ["--man", "mrunc-policy"]), ("completion.bash", ["--completion", "bash"]),
    ("completion.zsh", ["--completion", "zsh"])])
def test_the_manual_is_what_the_option_table_says(name, words):
    done = subprocess.run([PYTHON, "-I", "-S", os.path.join(ROOT, "mrunc.py"), *words], stdout=subprocess.PIPE,
                          universal_newlines=True, timeout=120)
    assert done.stdout == text_of("docs/" + name), "run: make docs"


def imported(python, *words, **environ):
    """{module} that a start imports, the child's included, without those of the bare interpreter."""
    def names(command):
        done = subprocess.run([python, "-I", "-S", "-X", "importtime", *command], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True, timeout=120, env=dict(os.environ, **environ))
        assert done.returncode == 0, done.stderr
        return set(re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.M))
    return names([os.path.join(ROOT, "mrunc.py"), *words]) - names(["-c", "pass"])


#: -X importtime came with 3.7; the code is the same there.
MEASURED = [path for version, path in pythons() if not version.startswith("3.6")]


@pytest.mark.parametrize("python", MEASURED)
def test_the_run_path_imports_only_what_costs_nothing(python):
    found = imported(python, "run", "--", "/bin/true")
    assert "mrunc.sandbox.launch" in found
    assert {name for name in found if not name.startswith("mrunc.")} <= CHEAP


def test_directories_that_are_not_there_cost_no_import():
    """PATH of another user, or a TMPDIR that was removed."""
    with tempfile.TemporaryDirectory() as place:
        gone = os.path.join(place, "gone")
        found = imported(PYTHON, "run", "--", "/bin/true", PATH="%s:%s" % (gone, os.environ["PATH"]), TMPDIR=gone)
    assert {name for name in found if not name.startswith("mrunc.")} <= CHEAP


def test_a_start_by_path_runs_the_door_once():
    assert "mrunc.mrunc" not in imported(PYTHON, "run", "--", "/bin/true")


def test_a_plain_run_loads_no_other_verb():
    found = imported(PYTHON, "run", "--", "/bin/true")
    assert {name for name in found if name.startswith("mrunc.commands.")} == \
        {"mrunc.commands.options", "mrunc.commands.run"}
    assert not {"mrunc.sandbox.sampling", "mrunc.sandbox.cputime"} & found
    assert "mrunc.seccomp_bpf" not in found, "shipped filters are frozen, nothing is compiled at a start"


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["run", "--help"]])
def test_help_touches_no_system_call(words):
    assert not {name for name in imported(PYTHON, *words) if name.startswith(("mrunc.syscalls", "ctypes", "_ctypes"))}


def test_the_child_imports_nothing():
    """After the root has changed, an import would read the sandbox's files, with what the child still may."""
    script = ("import os, sys\nhere = os.getpid()\n"
              "def hook(event, arguments):\n"
              "    if event == 'import' and os.getpid() != here:\n"
              "        os.write(2, b'CHILD IMPORTS %s\\n' % arguments[0].encode())\n"
              "sys.addaudithook(hook)\n"
              "__file__ = sys.argv[0] = sys.argv[1]\ndel sys.argv[1]\n"
              "exec(compile(open(__file__).read(), __file__, 'exec'))\n")
    done = subprocess.run([PYTHON, "-I", "-S", "-c", script, os.path.join(ROOT, "mrunc.py"), "run", "--", "/bin/echo", "ran"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=120)
    assert (done.stdout, done.stderr, done.returncode) == ("ran\n", "", 0)
