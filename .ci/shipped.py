# SPDX-License-Identifier: Apache-2.0
"""What ships: the files that run, the version and the time that a release bears."""
import ast
import glob
import os
import re
import subprocess

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DOOR = ("__init__.py", "__main__.py", "mrunc.py", "seccomp_bpf.py")
ROOMS = ("commands", "sandbox", "syscalls")
#: The first that a zip archive can hold, where there is neither SOURCE_DATE_EPOCH nor a commit.
OLDEST = 315532800


def runtime_files():
    """Sorted paths, relative to the project, of the files that run: nothing else is needed anywhere."""
    return sorted(DOOR + tuple(
        os.path.relpath(path, HERE) for room in ROOMS
        for path in glob.glob(os.path.join(HERE, room, "**", "*.py"), recursive=True)))


def read(path):
    """The bytes of a file of the project."""
    with open(os.path.join(HERE, path), "rb") as stream:
        return stream.read()


def version():
    """`__version__` of sandbox/version.py, which is not executed."""
    for node in ast.parse(read("sandbox/version.py")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "__version__":
            return ast.literal_eval(node.value)
    raise SystemExit("sandbox/version.py: no __version__")


def git(*words):
    """What git says of this checkout, as text; None where this is none."""
    if not os.path.exists(os.path.join(HERE, ".git")):
        return None
    done = subprocess.run(["git", "-c", "safe.directory=*", "-C", HERE, *words], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, universal_newlines=True)
    return done.stdout if done.returncode == 0 else None


def epoch():
    """Seconds since 1970 that every file of a release bears: SOURCE_DATE_EPOCH, or the time of the last commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH") or (git("log", "-1", "--format=%ct") or "").strip() or str(OLDEST)
    if not re.match("[0-9]+$", given):
        raise SystemExit("SOURCE_DATE_EPOCH=%s: not a number of seconds" % given)
    return max(int(given), OLDEST)
