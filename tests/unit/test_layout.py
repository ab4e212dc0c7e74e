# SPDX-License-Identifier: Apache-2.0
"""The house: which rooms there are, which way the arrows go, how big a file may be, and what a start may import."""
import ast
import glob
import os
import re
import subprocess
import sys
import tempfile

import pytest

from conftest import PYTHON, ROOT, pythons

DOOR = {"mrunc", "__init__", "__main__"}
#: The rooms, highest first.  A module imports from its own room and from rooms below it.
#: The rooms of one line do not know each other, unless ALSO has the arrow.
HOUSE = [
    {"door"},
    {"commands"},
    {"library", "service"},
    {"launch"},
    {"plan", "observe", "changes"},
    {"running", "decode"},
    {"result"},
    {"tree", "seccomp", "cgroup"},
    {"host"},
    {"vocabulary"},
    {"syscalls", "seccomp_bpf"},
]
FLOOR = {room: number for number, rooms in enumerate(HOUSE) for room in rooms}
ALSO = set()
#: At most so many modules in a package, and beside the packages of sandbox/.
MOST_MODULES, MOST_WORDS = 14, 12
#: At most so many imports of our own modules inside functions.
MOST_INNER_IMPORTS = 93
GENERATED = {"sandbox/seccomp/shipped_bytes.py", "sandbox/seccomp/shipped_named.py", "commands/policy/peers.py",
             "syscalls/nr_x86_64.py", "syscalls/nr_aarch64.py", "syscalls/widths.py"}
#: The script is compiled at every start, and the compiler is meant to be copied out as one file.
DOOR_LINES = 64
#: Modules that `site` imports at every start without -S, `os` and those beneath it: they cost
#: `python3 mrunc.py` nothing.
SITE = {"_abc", "_collections_abc", "_stat", "abc", "genericpath", "os", "posix", "posixpath", "stat"}
#: Modules of the standard library that cost about nothing. The run path takes no others.
CHEAP = SITE | {"_bootlocale", "_ctypes", "_locale", "_signal", "_socket", "_struct", "ctypes",
                "ctypes._endian", "errno", "fcntl", "select", "struct", "sys",
                "time", "types"}


def shipped():
    """[path from the root] of the Python files that ship."""
    found = glob.glob(os.path.join(ROOT, "*.py"))
    for room in ("commands", "sandbox", "syscalls"):
        found += glob.glob(os.path.join(ROOT, room, "**", "*.py"), recursive=True)
    return sorted(os.path.relpath(path, ROOT) for path in found)


def text_of(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as stream:
        return stream.read()


#: {module, dotted from the root: its path}
MODULES = {re.sub(r"(/__init__)?\.py$", "", path).replace("/", "."): path for path in shipped()}
TREES = {path: ast.parse(text_of(path), path) for path in MODULES.values()}


def room_of(module):
    """The room of a module: one of HOUSE."""
    first, _, rest = module.partition(".")
    if first in DOOR:
        return "door"
    if first != "sandbox":
        return first
    return rest.split(".")[0] if "." in rest else "vocabulary"


def imports(path):
    """Yields (line, level, module or "", name or None, at module level?) of each import."""
    tree = TREES[path]
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.Lambda))]
    inner = {id(child) for function in functions for child in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, 0, alias.name, None, id(node) not in inner
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.lineno, node.level, node.module or "", alias.name, id(node) not in inner


def arrows():
    """Yields (module, module that it imports, "path:line") of all imports, those in functions too."""
    for module, path in MODULES.items():
        package = module.split(".") if path.endswith("/__init__.py") else module.split(".")[:-1]
        for line, level, target, name, _ in imports(path):
            if level:
                base = ".".join(package[:len(package) - (level - 1)] + ([target] if target else []))
                full = (base + "." if base else "") + name
                found = full if full in MODULES else base if base in MODULES else None
                assert found, "%s:%d: %s is no module" % (path, line, full)
                if found != module:
                    yield module, found, "%s:%d" % (path, line)


def packages():
    """{folder: [module names in it]}, without `__init__`."""
    found = {}
    for path in shipped():
        folder, _, name = path.rpartition("/")
        if name != "__init__.py":
            found.setdefault(folder, []).append(name)
    return found


def test_every_module_stands_in_a_room():
    assert {room_of(module) for module in MODULES if module != "sandbox"} == set(FLOOR)


def test_arrows_lead_downward():
    """From a room to itself or to a lower one."""
    upward = []
    for module, target, where in arrows():
        start, end = room_of(module), room_of(target)
        if start != end and not FLOOR[start] < FLOOR[end] and (start, end) not in ALSO:
            upward.append("%s: %s -> %s" % (where, module, target))
    assert not upward, "\n".join(upward)


def test_no_circle_of_modules():
    """Nobody imports, by whatever way, a module that imports him."""
    below = {}
    for module, target, _ in arrows():
        below.setdefault(module, set()).add(target)
    circles, done = [], set()

    def walk(module, path):
        if module in path:
            circles.append(" -> ".join(path[path.index(module):] + [module]))
            return
        if module not in done:
            for target in sorted(below.get(module, ())):
                walk(target, path + [module])
            done.add(module)

    for module in sorted(MODULES):
        walk(module, [])
    assert not circles, "\n".join(circles)


def test_a_room_can_be_taken_in_at_a_glance():
    for folder, names in packages().items():
        most = MOST_WORDS if folder == "sandbox" else MOST_MODULES
        if folder not in ("", "syscalls", "commands/selftest/probes"):
            assert len(names) <= most, "%s holds %d modules" % (folder, len(names))


def test_the_packages_say_nothing():
    """A package is a room, and no module beside."""
    for path in shipped():
        if path.endswith("/__init__.py"):
            assert text_of(path) == "", path


def test_imports_inside_are_relative():
    """An absolute one would take what lies on sys.path."""
    for path in shipped():
        for line, level, module, _, _ in imports(path):
            head = module.split(".")[0]
            if level == 0 and (path, module) != ("__main__.py", "mrunc.mrunc"):
                assert head not in DOOR | {"commands", "sandbox", "syscalls", "seccomp_bpf"}, "%s:%d" % (path, line)


def test_few_imports_stand_in_functions():
    """Each loads an optional feature or a verb, or has a measured price."""
    found = {(path, line) for path in shipped()
             for line, level, _, _, top in imports(path) if level and not top}
    assert len(found) <= MOST_INNER_IMPORTS, sorted(found)


def test_only_syscalls_knows_ctypes():
    for path in shipped():
        for line, level, module, _, _ in imports(path):
            if level == 0 and module.split(".")[0] in ("ctypes", "_ctypes", "cffi"):
                assert path.startswith("syscalls/"), "%s:%d" % (path, line)


def test_the_compiler_is_pure():
    for line, _, module, _, _ in imports("seccomp_bpf.py"):
        assert module.split(".")[0] not in ("os", "sys", "ctypes", "io", "subprocess", "socket"), "line %d" % line


def test_the_door_imports_only_os_and_sys_before_it_knows_its_place():
    for path in ("mrunc.py", "__init__.py", "__main__.py"):
        for line, level, module, name, top in imports(path):
            if top and level == 0 and (path, module) != ("__main__.py", "mrunc.mrunc"):
                assert module in ("os", "sys"), "%s:%d imports %s" % (path, line, module)
            if top and level:
                allowed = "sandbox.library.face" if path == "mrunc.py" else "mrunc"
                assert (level, module or name) == (1, allowed), "%s:%d" % (path, line)


def test_mrunc_py_is_short():
    """CPython compiles a script anew at every start."""
    assert text_of("mrunc.py").count("\n") <= DOOR_LINES


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


def test_each_file_names_its_licence():
    patterns = ("tests/**/*.py", "tests/vm/*", "bench/*.py", ".ci/*", "sandbox/*.s", "Makefile", "pyproject.toml")
    others = [os.path.relpath(path, ROOT) for pattern in patterns
              for path in glob.glob(os.path.join(ROOT, pattern), recursive=True) if os.path.isfile(path)]
    assert len(others) > 100
    for path in shipped() + others:
        if not path.endswith("/__init__.py"):
            head = text_of(path).split("\n")[:3]
            assert any("SPDX-License-Identifier: Apache-2.0" in line for line in head), path


def test_the_files_that_ship_are_plain_ascii_without_trailing_blanks():
    """Read the same in every locale, by every interpreter and on every terminal."""
    for path in shipped():
        text = text_of(path)
        for number, line in enumerate(text.split("\n"), 1):
            assert all(31 < ord(char) < 127 for char in line) and line == line.rstrip(), "%s:%d" % (path, number)
        assert not text or text.endswith("\n") and not text.endswith("\n\n"), path


def test_each_module_says_its_purpose():
    for path in shipped():
        if path not in GENERATED and text_of(path):
            assert ast.get_docstring(TREES[path]), path


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
    assert "mrunc.sandbox.launch.run" in found
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
        {"mrunc.commands.dispatch", "mrunc.commands.options", "mrunc.commands.run",
         "mrunc.commands.run.run"}
    assert not {"mrunc.sandbox.running.sampling", "mrunc.sandbox.running.cputime"} & found
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
