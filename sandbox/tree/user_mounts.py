# SPDX-License-Identifier: Apache-2.0
"""Adds the mounts and copies that the user named to the default tree.

A source must exist; a destination must be there, or lie on our own tmpfs, where it can be made.
"""
import errno
import os

from ..caller import library, option
from ..errors import show, usage
from ..host.facts import kind_of
from .operations import NODEV, NOEXEC, NOSUID, RO, Bind, Copy, Directory, File, Symlink, Tmpfs
from .source import Planted, mount_id, open_path
from . import harden


def pasteable(name, source, destination=None):
    """Returns an option with SRC or SRC:DST, quoted to be pasted.  source, destination: bytes."""
    import shlex
    words = [show(path).replace("\\", "\\\\").replace(":", "\\:")
             for path in (source, destination) if path is not None]
    return option(name, ":".join(words), typed=shlex.quote(":".join(words)))


def open_source(given, asked, spec, held, destination=None):
    """Opens a path that an option names; returns its Source.

    given: path (bytes), relative to the caller's directory
    asked: the option's name
    spec: Spec
    held: list that gets the Source
    destination: path inside (bytes) that the option names, or None

    Raises SandboxError (exit 2) for a path that can't be used.
    """
    try:
        source = open_path(given, spec.follow_links)
    except Planted as error:
        real = os.path.realpath(given)  # for the message alone
        if not os.path.exists(real):
            raise usage(option(asked, show(given)), os.strerror(errno.ENOENT))
        raise usage(option(asked, show(given)), error.strerror,
                    "name the path that it leads to: %s; or follow every link: %s" %
                    (pasteable(asked, real, destination),
                     "follow_links=True" if library() else option("follow_links")))
    except OSError as error:
        raise usage(option(asked, show(given)), error.strerror)
    held.append(source)
    if kind_of(source.found.st_mode) not in ("file", "directory"):
        raise usage(option(asked, show(given)),
                    "is a %s; only files and directories can be brought in" %
                    kind_of(source.found.st_mode))
    return source


def open_copied(given, destination, spec, held, show_at=None):
    """Opens a file to copy; returns its Source.

    show_at: path inside (bytes) below which the remedy shows a directory; the rest as of
    open_source.  Raises SandboxError (exit 2) for a path that can't be copied.
    """
    source = open_source(given, "copy", spec, held, destination)
    if source.directory:
        at = show_at and show_at + os.path.basename(source.path)
        raise usage(option("copy", show(given)), "is a directory; a file is copied",
                    "to show a directory: " + pasteable("ro", given, at))
    if not source.allows(os.R_OK):
        raise usage(option("copy", show(given)), "Permission denied")
    return source


def add_user_mounts(ops, spec, host, held):
    """Returns the operations with the user's mounts and copies in them.

    ops: [Operation] of default.base; spec: Spec; host: facts.Host; held: list that gets each
    Source.  A mount of the user replaces a default one at the same place and hides those below it.
    Deeper destinations come later.  Raises SandboxError (exit 2) for a source that can't be used,
    and for a destination that leads over a link or would be made in a directory of the host.
    """
    wanted = [("ro", source, destination, False) for source, destination in spec.ro]
    wanted += [("rw", source, destination, True) for source, destination in spec.rw]
    if spec.here:
        try:
            os.getcwdb()
        except OSError as error:
            raise usage(option("here"), "the current directory is gone (%s)" % error.strerror)
        wanted.append(("here", b".", b"/box", False))
    mounts = []
    for asked, given, destination, writable in wanted:
        source = open_source(given, asked, spec, held, destination)
        if writable and host.uid == 0 and source.found.st_uid == 0:
            raise usage(option("rw", show(given)),
                        "belongs to root; root's files are never writable inside",
                        "bring a copy in with %s, or give the directory to another user" %
                        option("copy"))
        if not source.allows(os.R_OK):
            raise usage(option(asked, show(given)), "Permission denied")
        flags = NOSUID | NODEV | (0 if writable else RO)
        mounts.append((destination, Bind(destination, flags, source=source, rw=writable), asked))
    for destination, size in spec.tmpfs:
        mode = 0o1777 if destination in (b"/tmp", b"/dev/shm") else 0o755
        flags = NOSUID | NODEV | (NOEXEC if destination == b"/dev/shm" else 0)
        mounts.append((destination, Tmpfs(destination, size, mode, flags, user=True), "tmpfs"))
    if spec.harden:
        mounts += [(op.dst, op, "writable") for op in harden.writable_mounts(spec)]
    mounts += _pinned(mounts, host, held)
    mounts.sort(key=lambda mount: mount[0].count(b"/"))
    for destination, operation, asked in mounts:
        ops = [op for op in ops if not _replaced(op, destination)]
    tree = Tree(ops)
    for destination, operation, asked in mounts:
        for made in tree.place(destination, operation.directory, asked):
            ops.append(made)
        ops.append(operation)
        tree.add(operation)
    for given, destination in spec.copy:
        source = open_copied(given, destination, spec, held, b"/box/")
        ops += tree.place(destination, False, "copy", copy=True)
        holder = tree.mount_of(destination)
        if holder.flags & NOEXEC:
            holder.flags &= ~NOEXEC  # the copy may run wherever it lies
        operation = Copy(destination, source)
        ops.append(operation)
        tree.add(operation)
    _check_directory(tree, spec.chdir)
    # /proc comes last, with its masks: nothing of the user's is placed below it.
    return [op for op in ops if not op.late] + [op for op in ops if op.late]


def _check_directory(tree, path):
    """Raises SandboxError unless --chdir names a directory of the tree, over no link.

    path: bytes, or None.  /proc is not looked at: it does not exist yet.
    """
    steps = (path or b"/").split(b"/")[1:]
    if steps[0] in (b"", b"proc"):
        return
    for depth in range(1, len(steps) + 1):
        kind = tree.kind(b"/" + b"/".join(steps[:depth]), "chdir", path)
        if kind is None:
            raise usage(option("chdir", show(path)), "is not there inside",
                        option("tmpfs", show(path)) + " makes a directory")
        if kind != "directory":
            raise usage(option("chdir", show(path)), "is a %s" % kind)


def _pinned(mounts, host, held):
    """Returns the mounts that keep directories below a writable mount in place.

    mounts: [(destination, operation, option's name)], as is the result.  Such a directory lies
    between the writable mount and another one of the user.  A program could rename it and put a
    new, unprotected path in its place.  A mount point can't be renamed, so each is bound onto
    itself.  Each is opened below the writable one, where a program may exchange names meanwhile.
    Raises SandboxError, exit 2.
    """
    theirs, pinned, out = set(destination for destination, _, _ in mounts), set(), []
    for destination, _, asked in mounts:
        over = [op for place, op, _ in mounts
                if op.rw and destination.startswith(place + b"/")]
        for holder in sorted(over, key=lambda op: len(op.dst))[-1:]:  # the nearest one
            above, place = holder.source, holder.dst
            for step in destination[len(holder.dst) + 1:].split(b"/")[:-1]:
                place += b"/" + step
                if place in theirs:
                    break  # the rest of the path lies on another mount
                try:
                    above = above.below(step)
                except OSError as error:
                    raise _no_way(asked, destination, place, holder, error)
                held.append(above)
                if place not in pinned:
                    pinned.add(place)
                    out.append((place, _pin(place, above, holder, host, asked, destination), "rw"))
    return out


def _pin(place, source, holder, host, asked, destination):
    """Returns the Bind of a directory onto itself.  Raises SandboxError, exit 2.

    place: its path inside (bytes); source: its Source; holder: the writable Bind above it; asked,
    destination: the mount below it.
    """
    if not source.directory:
        raise usage(option(asked, show(destination)),
                    "%s is not a directory inside" % show(place))
    if mount_id(source.fd) != mount_id(holder.source.fd):
        raise usage(option(asked, show(destination)),
                    "%s is another mount than %s" % (show(source.path), show(holder.src)),
                    "show it by itself: " + pasteable("rw", source.path, place))
    if host.uid == 0 and source.found.st_uid == 0:
        raise usage(option(asked, show(destination)), "%s belongs to root" % show(place))
    # Mapped to the holder's owner: the caller gave that owner's rights and nobody else's.
    return Bind(place, holder.flags, source=source, rw=True, owner=holder.owner)


def _no_way(asked, destination, path, holder, error=None):
    """Returns the SandboxError for a destination that can't be reached below a bind.

    path: the directory on the way that is missing or can't be entered; holder: the Bind; error: the
    OSError of opening the path, or None.
    """
    named = option(asked, show(destination))
    if error is not None and error.errno == errno.ELOOP:
        return usage(named, "%s is a symlink inside" % show(path), "name the path that it leads to")
    if error is not None and error.errno != errno.ENOENT:
        return usage(named, "%s: %s" % (show(path), error.strerror))
    where = show(holder.dst)
    return usage(named, "%s is not there, and nothing is made in %s, which is a directory of the "
                        "host" % (show(path), where), "choose a destination outside %s" % where)


def _replaced(op, destination):
    """Returns whether a user's mount at `destination` takes the place of a default operation."""
    return op.dst.startswith(destination + b"/") or op.dst == destination and op.gives_way


class Tree:
    """Predicts which file or directory a path of the new tree leads to.

    nodes: {path: the Operation that makes it}
    """

    def __init__(self, ops):
        self.nodes = {}
        for op in ops:
            self.add(op)

    def add(self, op):
        """Takes an operation into account."""
        if op.dst not in self.nodes or not isinstance(op, Directory):
            self.nodes[op.dst] = op

    def mount_of(self, path):
        """Returns the Bind or Tmpfs that a path (bytes) lies on."""
        while path not in (b"/", b""):
            node = self.nodes.get(path)
            if isinstance(node, (Tmpfs, Bind)):
                return node
            path = os.path.dirname(path)
        return self.nodes[b"/"]

    def place(self, destination, directory, asked, copy=False):
        """Returns the operations that make a mount point, or the directories above a copy.

        destination: path inside (bytes)
        directory: whether the mount point is one
        asked: the option's name
        copy: whether a file is copied there

        Raises SandboxError (exit 2) for a destination that can't be made or is of another kind.
        """
        made = []
        steps = destination.split(b"/")[1:]
        for depth in range(1, len(steps) + 1):
            path = b"/" + b"/".join(steps[:depth])
            last = depth == len(steps)
            kind = self.kind(path, asked, destination)
            if kind is None:
                holder = self.mount_of(path)
                if isinstance(holder, Bind):
                    raise _no_way(asked, destination, path, holder)
                if last and copy:
                    continue
                operation = Directory(path) if directory or not last else File(path)
                made.append(operation)
                self.add(operation)
            elif not last and kind != "directory":
                raise usage(option(asked, show(destination)),
                            "%s is not a directory inside" % show(path))
            elif last and copy:
                raise usage(option("copy", show(destination)),
                            "there is something at that path already")
            elif last and (kind == "directory") != directory:
                raise usage(option(asked, show(destination)), "is a %s inside, the source is a %s" %
                            (kind, "directory" if directory else "file"))
        return made

    def kind(self, path, asked, destination):
        """Returns the kind of a path (bytes): "file", "directory", another, or None for no file.

        asked, destination: option and value, for the message.  Raises SandboxError for a link.
        """
        node = self.nodes.get(path)
        if node is not None:
            if isinstance(node, Symlink):
                raise usage(option(asked, show(destination)), "%s is a symlink inside (to %s)" %
                            (show(path), show(node.src)), "name the path that it leads to")
            return "directory" if node.directory else "file"
        holder = self.mount_of(path)
        if not isinstance(holder, Bind):
            return None
        mode = _mode_of(holder, path[len(holder.dst) + 1:])
        if mode is None:
            return None
        kind = kind_of(mode)
        if kind == "link":
            raise usage(option(asked, show(destination)), "%s is a symlink inside" % show(path),
                        "name the path that it leads to")
        return kind


def _mode_of(holder, below):
    """Returns the st_mode of a path `below` (bytes) the source of a Bind, or None."""
    if holder.source is not None:
        return holder.source.mode_of(*below.split(b"/"))
    try:
        return os.lstat(os.path.join(holder.src, below)).st_mode
    except OSError:
        return None
