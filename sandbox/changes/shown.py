# SPDX-License-Identifier: Apache-2.0
"""Which of the host's directories a sandbox shows: what mrunc writes while the program runs must lie in none of them."""
import os

from ..proc import mounts as rows
from ..tree.source import mount_id

DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def directories(plan):
    """The host's directories that the program can read, for `holder`: {(device, inode): path (bytes)}, and where they and the
    mounts in them lie in their file systems, {(device as mountinfo has it, path there): path}."""
    places = _held(list(plan.shown.values()) +
                   [op.source for op in plan.operations if op.source is not None])
    system = [op.src for op in plan.operations if op.system and op.source is None] \
        if plan.tier.own_tree else [path for path, _ in plan.landlock_rules if path not in plan.shown]
    mounts = _mounts() if system else {}
    for path in system:
        try:
            fd = os.open(path, DIRECTORY)
        except OSError:
            continue  # then it isn't shown, either, or it is a file
        try:
            _add(places, fd, os.path.realpath(path), mounts)
        finally:
            os.close(fd)
    return places


def writable(plan):
    """The same of those that it can write."""
    return _held([op.source for op in plan.operations if op.rw])


def _held(sources):
    """Of sources, which were opened once and are not looked up again."""
    places = {}
    mounts = _mounts() if sources else {}
    for source in sources:
        if source.directory:
            _add(places, source.fd, source.path, mounts)
    return places


def _add(places, fd, path, mounts):
    found = os.fstat(fd)
    places.setdefault((found.st_dev, found.st_ino), path)
    location = _location(fd, mounts)
    if location is not None:
        places.setdefault(location, path)
    for device, root, point in mounts.values():
        if point.startswith(path.rstrip(b"/") + b"/"):
            places.setdefault((device, root), path)


def _mounts():
    """{number of a mount: (device, which directory of the file system, mount point)}, bytes.  proc(5)"""
    return dict((row.number, (row.device, row.root, row.point)) for row in rows())


def _location(fd, mounts):
    """(device, path in its file system) of a directory, the same wherever a part of that is mounted; None: not told."""
    device, root, point = mounts.get(mount_id(fd), (None, b"", b""))
    path = os.readlink(b"/proc/self/fd/%d" % fd)
    if device is None or not (path + b"/").startswith(point.rstrip(b"/") + b"/"):
        return None
    return device, os.path.join(root, path[len(point):].lstrip(b"/")).rstrip(b"/") or b"/"


def holder(fd, places):
    """The value that `places` (as of `directories`) has for the directory fd or the nearest one above it, or None.

    By device and inode all the way up: a path may lead there through any links.  By where it lies in its file system too: one
    directory may be mounted at several places, and what is above it is not the same at all of them.
    """
    if not places:
        return None
    location = _location(fd, _mounts())
    return _above(fd, places) or location and _holds(location, places)


def _holds(location, places):
    device, path = location
    while (device, path) not in places:
        if path == b"/":
            return None
        path = os.path.dirname(path)
    return places[device, path]


def _above(fd, places):
    current = os.dup(fd)
    try:
        last = None
        while True:
            found = os.fstat(current)
            if (found.st_dev, found.st_ino) in places:
                return places[found.st_dev, found.st_ino]
            if (found.st_dev, found.st_ino) == last:
                return None  # "/": there ".." is the same
            last = found.st_dev, found.st_ino
            try:
                above = os.open(b"..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=current)
            except PermissionError:
                return None  # nothing above can be searched by us, nor shown
            os.close(current)
            current = above
    finally:
        os.close(current)
