# SPDX-License-Identifier: Apache-2.0
"""The README's commands print exactly what it says, as root and as a user, with the oldest and the newest Python."""
import os
import re
import shutil
import subprocess
import tempfile

import pytest

from conftest import PYTHON, ROOT, copy_tool, pythons

FOUND = dict(pythons())
OLDEST, NEWEST = sorted(FOUND, key=lambda v: [int(p) for p in v.split(".")])[0], PYTHON


@pytest.fixture(scope="session")
def readable_pythons(public_folder):
    """The oldest interpreter where everybody can read it: pyenv keeps it in root's home."""
    path = FOUND[OLDEST]
    prefix = os.path.dirname(os.path.dirname(os.path.realpath(path)))
    if prefix == "/usr":
        return {"oldest": path, "newest": NEWEST}
    copy = os.path.join(public_folder, "python-" + OLDEST)
    shutil.copytree(prefix, copy, symlinks=True,
                    ignore=shutil.ignore_patterns("test", "tests", "site-packages", "idlelib", "config-3*", "*.a", "share"))
    return {"oldest": os.path.join(copy, "bin", "python3"), "newest": NEWEST}


def console_steps():
    """[(command, expected output)] of the README's console blocks, in order."""
    with open(os.path.join(ROOT, "README.md")) as stream:
        blocks = re.findall(r"```console\n(.*?)```", stream.read(), re.S)
    steps = []
    for line in "".join(blocks).splitlines():
        if line.startswith("$ "):
            steps.append([line[2:], ""])
        elif line.startswith("> "):
            steps[-1][0] += "\n" + line[2:]
        else:
            steps[-1][1] += line + "\n"
    return steps


@pytest.mark.parametrize("which", ["oldest", "newest"])
def test_the_readme_prints_what_it_says(inside, readable_pythons, which):
    steps = console_steps()
    assert len(steps) >= 8
    folder = os.path.join(inside.scratch, "mrunc")
    os.mkdir(folder)
    copy_tool(folder)
    programs = tempfile.mkdtemp(dir=os.path.dirname(inside.scratch))
    os.symlink(readable_pythons[which], os.path.join(programs, "python3"))
    os.chmod(programs, 0o755)
    environment = {"PATH": programs + ":/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "TERM": "xterm",
                   "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1",
                   # The copy's loader path still names the place it was built for.
                   "LD_LIBRARY_PATH": os.path.dirname(os.path.dirname(readable_pythons[which])) + "/lib"}
    for command, expected in steps:
        done = inside.outside(["bash", "-c", command], env=environment, stderr=subprocess.STDOUT)
        assert done.stdout == expected, command


def test_the_library_example_works(inside):
    with open(os.path.join(ROOT, "README.md")) as stream:
        code = re.search(r"```python\n(.*?)```", stream.read(), re.S).group(1)
    shutil.copy("/bin/true", os.path.join(inside.scratch, "sample"))
    done = inside.outside([PYTHON, "-c", "import sys; sys.path.insert(0, %r)\n%s" % (os.path.dirname(inside.tool), code)])
    assert done.stdout == "hello\nexited 3 True\n", done


def test_the_readme_names_no_option_that_does_not_exist():
    import mrunc  # noqa: F401  registers the package
    from mrunc.commands import rootfs, selftest
    from mrunc.commands.options import OPTIONS
    names = {name for option in OPTIONS + rootfs.OPTIONS + selftest.OPTIONS for name in option.names} | {"--version"}
    with open(os.path.join(ROOT, "README.md")) as stream:
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", stream.read())) <= names
