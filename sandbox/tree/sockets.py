# SPDX-License-Identifier: Apache-2.0
"""Refuses a start where a service of the host has a socket below what is shown of the host's own system.

A read-only mount does not keep a program from connecting.  /usr has tens of thousands of files and is not searched at each
start; the kernel's table names every bound socket of our network namespace.  A store is searched too, for FIFOs and for what
the table does not place: names relative to a service's directory, and services in other network namespaces.
"""
import os

from ..errors import SandboxError, show
from ..host.facts import STORES
from ..proc import read

S_IFMT, S_IFSOCK = 0o170000, 0o140000
#: So many entries of a store are searched.  A few ms; a larger one is covered by the table alone.
MOST = 2000


def refuse(trees):
    """trees: paths (bytes) of the host's directories that are shown.  Raises SandboxError, exit 125."""
    if not trees:
        return
    for path, tree in bound(trees):
        raise _talks(tree, path, "socket")
    for tree in trees:
        if tree in STORES:
            _search(tree)


def bound(trees):
    """Yields (path, tree) for every bound socket below a tree, where it is what lies at its name.  Raises OSError.  unix(7),
    proc(5)"""
    folders = {}
    for line in read("/proc/self/net/unix").split(b"\n"):
        if b" /" not in line:
            continue  # a socket without a name, or an abstract one
        folder, _, name = line.split(None, 7)[7].rpartition(b"/")
        if folder not in folders:
            real = real_directory(folder or b"/") or b"/"
            folders[folder] = [(real, tree) for tree in trees if (real + b"/").startswith(tree + b"/")]
        for real, tree in folders[folder]:
            path = os.path.join(real, name)
            try:
                if os.lstat(path).st_mode & S_IFMT == S_IFSOCK:
                    yield path, tree
            except OSError:
                pass  # removed, or a name of another mount namespace


def real_directory(path):
    """The path of a directory without links, None where it can't be reached."""
    try:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.readlink(b"/proc/self/fd/%d" % fd)
    finally:
        os.close(fd)


def _search(store):
    from .source import entries, open_path
    from .sources import talks
    source = open_path(store)
    try:
        for place in entries(source, most=MOST):
            kind = talks(place)
            if kind is not None:
                raise _talks(store, os.path.join(store, place.path), kind)
    finally:
        source.close()


def _talks(tree, path, kind):
    from ..caller import option
    shown = show(tree)
    return SandboxError(
        "sources", shown, control="mounts", reason="%s is a %s of the host's, and a program inside could talk to its owner" %
        (show(path), kind),
        remedy="without it in PATH %s is not shown: export PATH=/usr/sbin:/usr/bin:/sbin:/bin" % shown if tree in STORES else
        "run on a tree without it: " + option("rootfs", "TREE"))
