# SPDX-License-Identifier: Apache-2.0
"""The five ways of use, under every Python that is there; and that nothing which lies about becomes part of the tool."""
import glob
import json
import os
import shutil
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import PYTHON, ROOT, SHIPPED, copy_tool, make
from interpreters import musl, pythons

PYTHONS = pythons() + musl()
EACH = pytest.mark.parametrize("python", [path for _, path in PYTHONS], ids=[version for version, _ in PYTHONS])
HELLO = ["run", "--", "/bin/echo", "hello"]
LIBRARY = ("import sys\nresult = mrunc.run(['/bin/sh', '-c', 'exit 7'])\nassert result.returncode == 7, result\n"
           "assert type(result) is mrunc.Result and issubclass(mrunc.SandboxError, Exception)\n"
           "assert mrunc.__version__ and set(mrunc.__all__) <= set(dir(mrunc)) | {'CalledProcessError', 'Pool', 'Result',\n"
           "    'Sandbox', 'SandboxError', 'doctor', 'run'}\n"
           "print('fine')\n")


def go(*command, **settings):
    """Output of a command that must end with 0.  Warnings are errors for a Python that is started."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment.update(settings.pop("env", {}), PYTHONWARNINGS="error", LC_ALL="C.UTF-8")
    settings.setdefault("cwd", "/")
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
                          stdin=subprocess.DEVNULL, universal_newlines=True, timeout=300, **settings)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def tops(python, code, cwd, path=""):
    """The top-level modules that some code leaves in sys.modules."""
    return set(go(python, "-c", "import sys; sys.path.append(%r)\n%s\nprint(*{n.split('.')[0] for n in sys.modules})" %
                  (str(path), code), cwd=str(cwd)).split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the tool in a folder called anything, as `make vendor` makes it: nothing else is needed."""
    path = tmp_path_factory.mktemp("ways") / "another name-1.0"
    make("vendor", "DEST=%s" % path)
    return path


# (a) by path

@EACH
def test_by_path_from_any_directory(python, folder):
    assert go(python, folder / "mrunc.py", *HELLO) == "hello\n"
    assert go(python, "-I", "-S", folder / "mrunc.py", *HELLO) == "hello\n"
    assert go(python, "mrunc.py", *HELLO, cwd=str(folder)) == "hello\n"
    assert go(python, "./../../%s/mrunc.py" % folder.name, *HELLO, cwd=str(folder / "sandbox")) == "hello\n"


@EACH
def test_through_a_symlink(python, folder, tmp_path):
    link = tmp_path / "bin" / "mrunc"
    link.parent.mkdir()
    link.symlink_to(folder / "mrunc.py")
    assert go(python, link, *HELLO) == "hello\n"
    assert go(python, "-I", "-S", "bin/mrunc", *HELLO, cwd=str(tmp_path)) == "hello\n"


@EACH
def test_the_folder_as_a_program(python, folder):
    assert go(python, folder, *HELLO) == "hello\n"
    assert go(python, "-I", "-S", folder, *HELLO) == "hello\n"
    assert go(python, ".", *HELLO, cwd=str(folder)) == "hello\n"


def test_as_an_executable_file(folder, tmp_path):
    """By its first line; the interpreter is the caller's choice."""
    program = tmp_path / "mrunc.py"
    program.symlink_to(folder / "mrunc.py")
    assert go(program, *HELLO, env={"PATH": os.path.dirname(PYTHON) + ":/usr/bin:/bin"}) == "hello\n"


# (b) import

@EACH
def test_imported_from_a_folder_on_the_path(python, folder):
    script = "import sys; sys.path.append(%r); before = sys.path[:]; import mrunc; assert sys.path == before\n" % str(folder)
    assert go(python, "-c", script + LIBRARY) == "fine\n"
    assert go(python, "-m", "mrunc", *HELLO, env={"PYTHONPATH": str(folder)}) == "hello\n"


@EACH
def test_imported_from_its_parent_when_the_folder_is_called_mrunc(python, folder, tmp_path):
    (tmp_path / "mrunc").symlink_to(folder)
    assert go(python, "-c", "import sys; sys.path.append(%r); import mrunc\n" % str(tmp_path) + LIBRARY) == "fine\n"
    assert go(python, "-m", "mrunc", *HELLO, env={"PYTHONPATH": str(tmp_path)}) == "hello\n"


def test_an_import_leaves_no_common_name_behind(folder, tmp_path):
    found = tops(PYTHON, "import mrunc, mrunc.sandbox.launch.run, mrunc.commands.run.run", tmp_path, folder)
    assert "mrunc" in found and not found & {"sandbox", "commands", "syscalls", "seccomp_bpf"}


def test_an_import_starts_nothing_and_is_light(folder):
    """Importing mrunc costs a host a few small files; nothing else is loaded before it is used."""
    found = go(PYTHON, "-I", "-S", "-c", "import sys; sys.path.append(%r); import os; before = set(sys.modules); import mrunc\n"
               "print(*sorted(set(sys.modules) - before))" % str(folder))
    assert found.split() == ["mrunc", "mrunc.sandbox", "mrunc.sandbox.library", "mrunc.sandbox.library.face"]


def test_output_of_the_library_can_be_redirected(folder, tmp_path):
    go(PYTHON, "-c", "import sys; sys.path.append(%r); import mrunc, subprocess\n"
       "with open('out', 'w') as out: result = mrunc.run(['sh', '-c', 'echo hello; echo oops >&2'], stdout=out, "
       "stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)\nassert result.reason == 'exited'" % str(folder), cwd=str(tmp_path))
    assert (tmp_path / "out").read_text() == "hello\n"


def test_the_library_raises_for_what_mrunc_cannot_do_and_only_for_that(folder):
    script = ("import sys; sys.path.append(%r); import mrunc\n"
              "for argv, options, status in ((['/no/such'], {}, 127), (['true'], {'nonsense': 1}, 2), ([], {}, 2),\n"
              "                              ('true', {}, 2), (['true'], {'timeout': 'soon'}, 2)):\n"
              "    try: mrunc.run(argv, **options)\n"
              "    except mrunc.SandboxError as error: assert error.status == status, (argv, error.status, error)\n"
              "    else: raise AssertionError(argv)\n"
              "assert mrunc.run(['sh', '-c', 'kill -9 $$']).returncode == 137\n"
              "assert mrunc.run(['sleep', '300'], timeout=0.2).reason == 'timeout-wall'\n"
              "print('fine')" % str(folder))
    assert go(PYTHON, "-c", script) == "fine\n"


# (c) installed

@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """What a builder needs, so that nothing is built inside the checkout."""
    path = tmp_path_factory.mktemp("checkout") / "source"
    path.mkdir()
    copy_tool(str(path))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if os.path.exists(os.path.join(ROOT, name)):
            shutil.copy(os.path.join(ROOT, name), str(path))
    return path


def make_venv(path):
    subprocess.run([PYTHON, "-m", "venv", str(path)], check=True)
    return path / "bin"


def pip(bin_folder, *words):
    environment = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1")
    done = subprocess.run([str(bin_folder / "python"), "-m", "pip", "-q", *map(str, words)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, universal_newlines=True, env=environment, cwd="/", timeout=600)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def wheel(release):
    found, = release.glob("*.whl")
    return found


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(str(wheel)).namelist()
    assert {name.split("/")[0] for name in names} == {"mrunc", wheel.name.rsplit("-", 3)[0] + ".dist-info"}
    assert wheel.name.endswith("-py3-none-any.whl")
    ours = {os.path.relpath(path, ROOT) for path in glob.glob(os.path.join(ROOT, "*.py"))}
    for room in ("commands", "sandbox", "syscalls"):
        ours |= {os.path.relpath(path, ROOT) for path in glob.glob(os.path.join(ROOT, room, "**", "*.py"), recursive=True)}
    assert {name[len("mrunc/"):] for name in names if name.startswith("mrunc/")} == ours


def test_the_wheel_asks_for_nothing(wheel):
    archive = zipfile.ZipFile(str(wheel))
    name, = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    lines = archive.read(name).decode().split("\n")
    extras = [line for line in lines if line.startswith("Requires-Dist:")]
    assert all("extra ==" in line for line in extras)
    assert sorted(line.split()[1].strip(";") for line in extras if "test" in line.split("extra ==")[1]) == ["pytest", "pytest-cov"]
    assert "Requires-Python: >=3.6" in lines


def test_installed_from_the_wheel(wheel, tmp_path):
    programs = make_venv(tmp_path / "venv")
    site, = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    before = set(os.listdir(str(site)))
    pip(programs, "install", "--no-index", "--no-deps", wheel)
    assert {name.split("-")[0] for name in set(os.listdir(str(site))) - before} == {"mrunc"}
    assert go(programs / "mrunc", *HELLO) == "hello\n"
    assert go(programs / "python", "-m", "mrunc", *HELLO) == "hello\n"
    assert go(programs / "python", "-c", "import mrunc\n" + LIBRARY) == "fine\n"
    assert not tops(programs / "python", "import mrunc", tmp_path) & {"sandbox", "commands", "syscalls", "seccomp_bpf"}


@EACH
def test_the_unpacked_wheel_runs_everywhere(python, wheel, tmp_path):
    """A site-packages of each Python: not each of them has pip."""
    zipfile.ZipFile(str(wheel)).extractall(str(tmp_path))
    assert go(python, "-m", "mrunc", *HELLO, env={"PYTHONPATH": str(tmp_path)}) == "hello\n"
    script = "import sys; from mrunc.mrunc import command; sys.argv[0] = 'mrunc'; sys.exit(command())"
    assert go(python, "-c", script, *HELLO, env={"PYTHONPATH": str(tmp_path)}) == "hello\n"


def test_installed_as_editable(checkout, tmp_path):
    programs = make_venv(tmp_path / "venv")
    pip(programs, "install", "--no-deps", "-e", checkout)
    assert go(programs / "mrunc", *HELLO) == "hello\n"
    assert go(programs / "python", "-c", "import mrunc\n" + LIBRARY) == "fine\n"
    for name in ("sandbox", "syscalls", "commands", "seccomp_bpf", "tests"):
        done = subprocess.run([str(programs / "python"), "-c", "import " + name], cwd="/", stderr=subprocess.DEVNULL)
        assert done.returncode == 1, "an editable install shows %s to everybody" % name


# (d) vendored

@EACH
def test_vendored_under_another_name_and_twice_in_one_process(python, folder, tmp_path):
    vendor = tmp_path / "tool" / "_vendor"
    vendor.mkdir(parents=True)
    for place in (vendor.parent, vendor):
        (place / "__init__.py").write_text("")
    shutil.copytree(str(folder), str(vendor / "jail"))
    script = ("import sys; sys.path.append(%r)\nfrom tool._vendor import jail\nimport subprocess\n"
              "assert jail.run(['/bin/sh', '-c', 'exit 5']).returncode == 5\nassert 'mrunc' not in sys.modules\n"
              "assert not {'sandbox', 'commands', 'syscalls', 'seccomp_bpf'} & set(sys.modules)\n"
              "sys.path.append(%r); import mrunc\nassert mrunc.Result is not jail.Result\n"
              "assert mrunc.run(['/bin/sh', '-c', 'exit 6']).returncode == 6\n"
              "assert jail.run(['/bin/sh', '-c', 'exit 5']).returncode == 5\n"
              "try: jail.run([])\nexcept mrunc.SandboxError: raise\nexcept jail.SandboxError: print('own error')\n" %
              (str(tmp_path), str(folder)))
    assert go(python, "-c", script) == "own error\n"
    assert go(python, "-m", "tool._vendor.jail", *HELLO, env={"PYTHONPATH": str(tmp_path)}) == "hello\n"
    assert go(python, vendor / "jail" / "mrunc.py", *HELLO) == "hello\n"


# (e) zipapp

@pytest.fixture(scope="module")
def archive(release):
    return release / "mrunc.pyz"


@EACH
def test_zipapp_with_bytecode_of_one_python_under_each(python, archive):
    assert go(python, archive, *HELLO) == "hello\n"
    assert go(python, "-I", "-S", archive, *HELLO) == "hello\n"


@EACH
def test_zipapp_as_a_library(python, archive):
    assert go(python, "-c", "import sys; sys.path.append(%r); import mrunc\n" % str(archive) + LIBRARY) == "fine\n"


def test_zipapp_of_source_alone(folder, tmp_path):
    """As `python3 -m zipapp` makes it of the folder."""
    subprocess.run([PYTHON, "-m", "zipapp", "-o", str(tmp_path / "m.pyz"), str(folder)], check=True)
    assert go(PYTHON, tmp_path / "m.pyz", *HELLO) == "hello\n"


# What it says of itself

@EACH
def test_it_says_what_it_is_and_from_where_it_runs(python, folder, archive, tmp_path):
    def says(*command, **settings):
        what, where, interpreter = go(*command, "--version", **settings).splitlines()
        assert what.split()[0] == "mrunc" and what.split()[1].count(".") == 2
        assert interpreter.startswith("Python 3.") and interpreter.endswith(" (%s)" % python)
        return where
    (tmp_path / "jail").symlink_to(folder)
    assert says(python, folder / "mrunc.py") == says(python, folder) == "from %s (folder)" % folder
    assert says(python, "-m", "mrunc", env={"PYTHONPATH": str(folder)}) == "from %s (folder)" % folder
    assert says(python, "-m", "jail", env={"PYTHONPATH": str(tmp_path)}) == "from %s (package)" % (tmp_path / "jail")
    assert says(python, archive) == "from %s (zipapp)" % archive


# The same answers by every way

@EACH
def test_smoke(python, folder):
    """What a start touches, once under each Python: options, plan, help, a report, an error."""
    tool = [python, "-I", "-S", folder / "mrunc.py"]
    assert go(*tool, "--version").startswith("mrunc 0.")
    assert "--copy" in go(*tool, "run", "--help")
    assert "identity" in go(*tool, "run", "--print-plan", "--", "/bin/true")
    assert '"schema": 1' in go(*tool, "run", "--print-plan", "--json", "--", "/bin/true")
    assert go(*tool, "run", "--timeout", "60", "--env", "A=b", "--", "sh", "-c", "id -u; pwd; echo $A; cat /proc/self/uid_map | wc -l") \
        == "0\n/box\nb\n1\n"
    done = subprocess.run([str(word) for word in tool] + ["run", "--no-such", "--", "true"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True)
    assert done.returncode == 2 and done.stderr.startswith("mrunc: ") and "Traceback" not in done.stderr


@EACH
def test_the_self_test_finds_nothing(python, folder):
    """All of it where the interpreter or its C library is the farthest from the system's."""
    groups = [] if python in [OLDEST] + [path for _, path in musl()] else ["--only", "namespaces,filter,identity"]
    report = json.loads(go(python, "-I", "-S", folder / "mrunc.py", "selftest", "--json", *groups))
    integrity = report["counts"]["host integrity"]
    assert (report["exit_status"], integrity["REACHED"], integrity["error"]) == (0, 0, 0)
    assert len(report["probes"]) > (40 if groups else 380)


# Nothing beside the tool runs on the host

PLANTS = ("ctypes.py _ctypes.py struct.py _struct.py select.py json.py signal.py _signal.py contextlib.py socket.py _socket.py "
          "resource.py fcntl.py time.py errno.py stat.py types.py re.py io.py difflib.py shlex.py shutil.py subprocess.py "
          "hashlib.py tempfile.py argparse.py os.py posixpath.py genericpath.py linecache.py runpy.py pkgutil.py sandbox.py commands.py syscalls.py ctypes/__init__.py json/__init__.py "
          "encodings/__init__.py sitecustomize.py usercustomize.py").split()
#: What Python would take instead of a part of ours, beside mrunc.py, in a form that it prefers to a module.
BESIDE = ("mrunc/__init__.py", "mrunc.so", "mrunc.abi3.so", "__init__.so", "sandbox.so", "commands.so", "syscalls.so")
INSTEAD = ("seccomp_bpf/__init__.py", "seccomp_bpf.so", "seccomp_bpf.abi3.so")
VERBS = (["run", "--", "/bin/true"], ["run", "--help"], ["run", "--print-plan", "--json", "--", "/bin/true"], ["run", "--no-such-option"])
MORE_VERBS = (["doctor"], ["shell"], ["--help"], ["--version"], ["--man"], ["run", "--print-plan", "--", "/bin/true"], ["nonsense"],
              ["run", "--", "no-such-program"], ["run", "-v", "--report", "-", "--", "/bin/true"],
              ["run", "--tty", "--", "/bin/true"], ["run", "--copy", "/bin/true", "--", "./true"], ["policy", "diff", "default", "--against", "all"],
              ["policy", "diff", "default", "strict"])
#: These two run all verbs, the others the first ones: a start is a start.
OLDEST = min((tuple(map(int, version.split("."))), path) for version, path in pythons())[1]
THOROUGH = {PYTHON, OLDEST}


def plant(place, names, marker):
    """Files that tell when they are executed."""
    for name in names:
        path = place / name
        path.parent.mkdir(exist_ok=True)
        if name.endswith(".so"):
            shared_object(path, marker)
        elif not path.exists():
            path.write_text("open(%r, 'a').write(%r)\nimport sys\n" % (str(marker), name + "\n"))


def hostile(folder, tmp_path, names):
    """(folder of the tool with plants in it, current directory with plants, marker)."""
    place, marker, here = tmp_path / "tool", tmp_path / "marker", tmp_path / "here"
    shutil.copytree(str(folder), str(place))
    here.mkdir()
    plant(place, names, marker)
    plant(here, names, marker)
    return place, here, marker


def run_verbs(command, cwd, marker, environment=None):
    """Two at a time: they share nothing but the marker, which nobody may write."""
    def one(verb):
        subprocess.run([str(word) for word in command] + verb, cwd=str(cwd), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=120, env=environment)
        assert not marker.exists(), "%s executed %s" % (" ".join(map(str, list(command) + verb)), marker.read_text().split())
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, VERBS + (MORE_VERBS if command[0] in THOROUGH else ())))


def test_the_plants_are_real(folder, tmp_path):
    """Without the door's care they are executed."""
    place, here, marker = hostile(folder, tmp_path, PLANTS)
    subprocess.run([PYTHON, "-c", "import json"], cwd=str(here), check=False, stderr=subprocess.DEVNULL)
    assert marker.exists()


@EACH
def test_nothing_beside_the_tool_runs_when_started_by_path(python, folder, tmp_path):
    place, here, marker = hostile(folder, tmp_path, PLANTS)
    run_verbs([python, place / "mrunc.py"], here, marker)
    run_verbs([python, "-I", "-S", "mrunc.py"], place, marker)
    (here / "link").symlink_to(place / "mrunc.py")
    run_verbs([python, "link"], here, marker)


@EACH
def test_nothing_beside_the_tool_runs_without_site(python, folder, tmp_path):
    """-S alone: `site` has not imported os yet, and the folder is first on sys.path."""
    place, here, marker = hostile(folder, tmp_path, PLANTS)
    run_verbs([python, "-S", place / "mrunc.py"], here, marker)


@EACH
def test_nothing_beside_the_tool_runs_when_the_folder_is_started(python, folder, tmp_path):
    """`python3 folder/` puts the folder first on sys.path before our code is reached, and imports runpy's needs from
    there: the plants that Python itself takes are not ours to keep out.  Our own imports are."""
    for number, flags in enumerate(([], ["-I", "-S"])):
        (tmp_path / str(number)).mkdir()
        taken = taken_by_runpy([python, *flags, "."], tmp_path / str(number))
        place, here, marker = hostile(folder, tmp_path / str(number), set(PLANTS) - taken)
        run_verbs([python, *flags, place], here, marker)


@EACH
def test_nothing_in_the_current_directory_runs_with_m(python, folder, tmp_path):
    """`-m` imports runpy with the current directory first on sys.path: what Python takes before our code is not ours to
    keep out.  Our own imports are."""
    place, here, marker = hostile(folder, tmp_path, set(PLANTS) - taken_by_runpy([python, "-m", "nothing"], tmp_path))
    environment = dict(os.environ, PYTHONPATH=str(tmp_path))
    place.rename(tmp_path / "mrunc")
    run_verbs([python, "-m", "mrunc"], here, marker, environment)


@EACH
def test_nothing_in_the_current_directory_runs_with_an_isolated_m(python, wheel, tmp_path):
    """`-I -m` is safe whatever lies about, which is what the manual says for an installed copy."""
    here, marker = tmp_path / "here", tmp_path / "marker"
    here.mkdir()
    plant(here, PLANTS, marker)
    site = tmp_path / "site"
    zipfile.ZipFile(str(wheel)).extractall(str(site))
    script = "import sys; sys.path.append(%r); import runpy; runpy.run_module('mrunc', run_name='__main__', alter_sys=True)" % str(site)
    run_verbs([python, "-I", "-c", script], here, marker)


def taken_by_runpy(command, tmp_path):
    """{file name} of the plants that Python takes by itself for such a start, with a program that does nothing."""
    place, marker, taken = tmp_path / "runpy", tmp_path / "taken", set()
    place.mkdir()
    plant(place, PLANTS, marker)
    for name in ("nothing.py", "__main__.py"):
        (place / name).write_text("import os, sys\n")
    while True:  # one that is executed in the place of a real module may keep the others from being reached
        subprocess.run(command, cwd=str(place), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if not marker.exists():
            return taken
        found = set(marker.read_text().split())
        assert not found & taken
        for name in found:
            (place / name).unlink()
            if name.endswith("/__init__.py"):
                shutil.rmtree(str((place / name).parent))  # or it would still be a namespace package
        marker.unlink()
        taken |= found


@EACH
def test_nothing_that_takes_the_name_of_a_part_runs(python, folder, tmp_path):
    """Python prefers a package, and a shared object, to a module of the same name.  Who can write over mrunc.py itself has
    won; who can only add files has not."""
    place, here, marker = hostile(folder, tmp_path, BESIDE)
    assert go(python, place / "mrunc.py", *HELLO) == "hello\n"
    run_verbs([python, place / "mrunc.py"], here, marker)
    run_verbs([python, place], here, marker)


@EACH
@pytest.mark.parametrize("name", INSTEAD)
def test_what_would_replace_the_compiler_is_refused(python, name, folder, tmp_path):
    """It is not needed for a plain run, and so would wait for another verb."""
    place, here, marker = hostile(folder, tmp_path, [name])
    for start in (place / "mrunc.py", place):
        done = subprocess.run([python, str(start), *HELLO], cwd=str(here), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              universal_newlines=True)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (125, "", 1), done
        assert name.split("/")[0] in done.stderr and "move it away" in done.stderr
    assert not marker.exists()


def shared_object(path, marker):
    """A library that tells when it is loaded."""
    source = ('#include <stdio.h>\n__attribute__((constructor)) static void f(void)'
              '{ FILE *f = fopen("%s", "a"); if (f) { fputs("%s\\n", f); fclose(f); } }\n' % (marker, path.name))
    subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)], input=source, universal_newlines=True, check=True)


def test_a_host_that_imports_mrunc_keeps_its_path(folder, tmp_path):
    script = "import sys; sys.path[:0] = [%r, '']; before = sys.path[:]; import mrunc; mrunc.run(['true']); assert sys.path == before"
    go(PYTHON, "-c", script % str(folder), cwd=str(tmp_path))


def test_the_folder_ships_what_conftest_copies(folder):
    """SHIPPED is what a user copies."""
    assert set(SHIPPED) | {"LICENSE", "VERSION"} == set(os.listdir(str(folder))) - {"__pycache__"}
    assert set(SHIPPED) == {"mrunc.py", "__init__.py", "__main__.py", "seccomp_bpf.py", "syscalls", "sandbox", "commands"}
