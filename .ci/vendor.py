# SPDX-License-Identifier: Apache-2.0
"""Copies what runs into another project: python3 .ci/vendor.py DEST.  Then LICENSE, and VERSION: one line.

A copy that was made so before is replaced, whole; anything else that lies at DEST is refused.
"""
import os
import shutil
import sys

from shipped import HERE, git, read, runtime_files, version


def line():
    """`mrunc VERSION COMMIT`; without a checkout the version alone."""
    commit = (git("rev-parse", "--short=12", "HEAD") or "").strip()
    changed = commit and git("status", "--porcelain", "--", *runtime_files())
    return " ".join(["mrunc", version()] + ([commit + ("+changed" if changed else "")] if commit else [])) + "\n"


def vendored(place):
    """Whether a directory is an earlier copy."""
    try:
        with open(os.path.join(place, "VERSION")) as stream:
            return stream.read().startswith("mrunc ")
    except OSError:
        return False


def copy(place):
    """Makes the copy beside its place, then puts it there."""
    place = os.path.abspath(place)
    if os.path.lexists(place) and not vendored(place) and (os.path.islink(place) or not os.path.isdir(place) or
                                                           os.listdir(place)):
        raise SystemExit("%s: is there, and is no copy of mrunc: remove it first" % place)
    draft = place + ".new"
    contents = [(path, read(path)) for path in runtime_files() + ["LICENSE"]] + [("VERSION", line().encode("ascii"))]
    try:
        write(draft, contents)
        if os.path.lexists(place):
            shutil.rmtree(place)
        os.rename(draft, place)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise SystemExit("%s: can't be written: %s: name a place that can be: make vendor DEST=app/_vendor/mrunc" %
                         (place, error.strerror or error))


def write(draft, contents):
    """Makes a directory of [(path, bytes)], in the place of one that was left half-made."""
    shutil.rmtree(draft, ignore_errors=True)
    for path, data in contents:
        os.makedirs(os.path.dirname(os.path.join(draft, path)), exist_ok=True)
        mode = 0o777 if os.access(os.path.join(HERE, path), os.X_OK) else 0o666  # but for the umask
        with open(os.path.join(draft, path), "wb", opener=lambda name, flags: os.open(name, flags, mode)) as out:
            out.write(data)


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1]:
        sys.exit("where to? make vendor DEST=app/_vendor/mrunc")
    copy(sys.argv[1])
