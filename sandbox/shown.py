# SPDX-License-Identifier: Apache-2.0
"""Which of the host's directories a sandbox shows: what mrunc writes while the program runs must lie in none of them."""
import os


def directories(plan):
    """{(device, inode): path (bytes)} of the host's directories that the program can read."""
    out = _held(list(plan.shown.values()) + [op.options["source"] for op in plan.operations if "source" in op.options])
    system = [op.src for op in plan.operations if op.kind == "bind" and "source" not in op.options] \
        if plan.tier.own_tree else [path for path, _ in plan.landlock_rules if path not in plan.shown]
    for path in system:
        try:
            found = os.stat(path)
        except OSError:
            continue  # then it isn't shown, either
        if found.st_mode & 0o170000 == 0o040000:
            out.setdefault((found.st_dev, found.st_ino), os.path.realpath(path))
    return out


def writable(plan):
    """The same of those that it can write."""
    return _held([op.options["source"] for op in plan.operations if op.kind == "bind" and op.options["rw"]])


def _held(sources):
    """Of sources, which were opened once and are not looked up again."""
    return dict((source.inode, source.path) for source in sources if source.directory)


def holder(fd, places):
    """The value that `places` (as of `directories`) has for the directory fd or the nearest one above it, or None.

    By device and inode all the way up: a path may lead there through any links.
    """
    if not places:
        return None
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
