# SPDX-License-Identifier: Apache-2.0
"""The host's directories that a sandbox shows: no file that mrunc writes may lie in one."""
import os

from ..proc import mounts as rows
from ..tree.source import mount_id

DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def directories(plan):
    """Returns the host's directories that the program can read, for `holder`.

    The dict has two kinds of keys: (device, inode) of a directory, and (device as in mountinfo,
    path in its file system), also for each mount below.  The values are paths, bytes.  Raises
    OSError.
    """
    places = _held(list(plan.shown.values()) +
                   [op.source for op in plan.operations if op.source is not None])
    if plan.tier.own_tree:
        system = [op.src for op in plan.operations if op.system and op.source is None]
    else:
        system = [path for path, _ in plan.landlock_rules if path not in plan.shown]
    mounts = _mounts() if system else {}
    for path in system:
        try:
            fd = os.open(path, DIRECTORY)
        except OSError:
            continue  # it is not shown either, or it is a file
        try:
            _add(places, fd, os.path.realpath(path), mounts)
        finally:
            os.close(fd)
    return places


def writable(plan):
    """Returns the same for those that the program can write."""
    return _held([op.source for op in plan.operations if op.rw])


def _held(sources):
    """Returns the same for sources, by their descriptors: no path is resolved again."""
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
    """Returns {mount id: (device, directory of the file system, mount point)}, bytes."""
    return dict((row.number, (row.device, row.root, row.point)) for row in rows())


def _location(fd, mounts):
    """Returns (device, path in its file system) of a directory, or None if it is not known.

    It is the same wherever a part of that file system is mounted.
    """
    device, root, point = mounts.get(mount_id(fd), (None, b"", b""))
    path = os.readlink(b"/proc/self/fd/%d" % fd)
    if device is None or not (path + b"/").startswith(point.rstrip(b"/") + b"/"):
        return None
    return device, os.path.join(root, path[len(point):].lstrip(b"/")).rstrip(b"/") or b"/"


def holder(fd, places):
    """Returns the value of `places` for a directory or the nearest one above it, or None.

    fd: of the directory; places: as of `directories`.  Two ways are gone up: by device and inode,
    since a path may lead there through any links, and by the place in the file system, since a
    directory may be mounted at several places that lie in different ones.
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
                return None  # this process can search nothing above, nor could it be shown
            os.close(current)
            current = above
    finally:
        os.close(current)
