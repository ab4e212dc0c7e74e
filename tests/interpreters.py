# SPDX-License-Identifier: Apache-2.0
"""The Pythons of this machine that mrunc is tried with."""
import glob
import os
import subprocess

CACHE = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")


def version_of(path):
    """"3.6.15" of an interpreter, None of what does not run."""
    if not os.access(path, os.X_OK):
        return None
    done = subprocess.run([path, "-I", "-S", "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True)
    return done.stdout.strip() if done.returncode == 0 else None


def pythons():
    """Every Python from 3.6 on that this machine has: [(version, path)]."""
    found = {}
    base = os.path.expanduser("~/.pyenv/versions")
    candidates = [os.path.join(base, name, "bin", "python3") for name in os.listdir(base)] if os.path.isdir(base) else []
    candidates += sorted(glob.glob(os.path.join(glob.escape(CACHE), "mrunc-pythons/3.*/usr/bin/python3.*[0-9]")))  # .ci/pythons
    candidates += ["/usr/bin/python3"] + ["/usr/bin/python3.%d" % minor for minor in range(6, 20)]
    for path in candidates:
        version = version_of(path)
        if version and tuple(int(part) for part in version.split(".")) >= (3, 6):
            found.setdefault(version, path)
    return sorted(found.items())


def musl():
    """[("3.13.5-musl", path)] of the Python that .ci/musl has built, none where it has not."""
    return [(version_of(path) + "-musl", path)
            for path in glob.glob(os.path.join(glob.escape(CACHE), "mrunc-musl/usr/bin/python3.*[0-9]"))]
