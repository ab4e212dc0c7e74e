# SPDX-License-Identifier: Apache-2.0
"""Refuses a start where the sandbox would show a socket of a service of the host.

A read-only mount does not keep a program from connecting.  /usr has tens of thousands of files and
is not searched at each start: the kernel's table names every bound socket of our network namespace.
A store (facts.STORES) is searched too, for FIFOs and for what the table does not place: names
relative to a service's directory, and services in other network namespaces.
"""
import os

from ..errors import SandboxError, show
from ..host.facts import STORES
from ..proc import read
from ..caller import option

S_IFMT, S_IFSOCK = 0o170000, 0o140000
#: So many entries of a store are searched: a few ms.  A larger one is covered by the table alone.
MOST = 2000


def refuse(trees):
    """Raises SandboxError (exit 125) if a socket or FIFO lies below a tree.

    trees: real paths (bytes) of the host's directories that the sandbox shows.  Raises OSError if
    the kernel's table can't be read.
    """
    if not trees:
        return
    for path, tree in bound(trees):
        raise _refusal(tree, path, "socket")
    for tree in trees:
        if tree in STORES:
            _search(tree)


def bound(trees):
    """Yields (path, tree), both bytes, for every bound socket that lies below a tree.

    trees: real paths (bytes).  A name that leads to something else by now is left out.  Raises
    OSError.  unix(7), proc(5)
    """
    folders = {}
    for line in read("/proc/self/net/unix").split(b"\n"):
        if b" /" not in line:
            continue  # a socket without a name, or an abstract one
        folder, _, name = line.split(None, 7)[7].rpartition(b"/")
        if folder not in folders:
            real = _real_directory(folder or b"/") or b"/"
            folders[folder] = [(real, tree) for tree in trees
                               if (real + b"/").startswith(tree + b"/")]
        for real, tree in folders[folder]:
            path = os.path.join(real, name)
            try:
                if os.lstat(path).st_mode & S_IFMT == S_IFSOCK:
                    yield path, tree
            except OSError:
                pass  # removed, or a name of another mount namespace


def _real_directory(path):
    """Returns the path of a directory without links, or None if it can't be reached."""
    try:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.readlink(b"/proc/self/fd/%d" % fd)
    finally:
        os.close(fd)


def _search(store):
    """Raises SandboxError if one of the first MOST entries of a store is a socket or a FIFO."""
    from . import source, sources  # few hosts have a store in PATH
    held = source.open_path(store)
    try:
        for place in source.entries(held, most=MOST):
            kind = sources.channel(place)
            if kind is not None:
                raise _refusal(store, os.path.join(store, place.path), kind)
    finally:
        held.close()


def _refusal(tree, path, kind):
    """Returns the SandboxError for a socket or FIFO at a path below a tree of the host."""
    shown = show(tree)
    if tree in STORES:
        remedy = "without it in PATH %s is not shown: " \
                 "export PATH=/usr/sbin:/usr/bin:/sbin:/bin" % shown
    else:
        remedy = "run on a tree without it: " + option("rootfs", "TREE")
    return SandboxError("sources", shown, control="mounts", remedy=remedy,
                        reason="%s is a %s of the host's, and a program inside could talk to its "
                               "owner" % (show(path), kind))
