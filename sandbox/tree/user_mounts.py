# SPDX-License-Identifier: Apache-2.0
"""Puts what the user named into the default tree: sources that exist, destinations that can be made on our own tmpfs."""
import errno
import os

from ..caller import library, option
from ..errors import show, usage
from ..host.facts import kind_of
from .operations import NODEV, NOEXEC, NOSUID, RO, Bind, Copy, Directory, File, Symlink, Tmpfs
from .source import Planted, mount_id, open_path
from . import harden


def to_show_it(source, destination=None):
    """The remedy where a directory can't be copied, to be pasted."""
    return "to show a directory: " + pasteable("ro", source, destination)


def pasteable(name, source, destination=None):
    """An option with SRC or SRC:DST, to be pasted.  source, destination: bytes."""
    import shlex
    words = [show(path).replace("\\", "\\\\").replace(":", "\\:") for path in (source, destination) if path is not None]
    return option(name, ":".join(words), typed=shlex.quote(":".join(words)))


def _switch(name):
    """A switch, to be pasted."""
    return name + "=True" if library() else option(name)


def open_source(given, asked, spec, held, destination=None):
    """The Source that an option names, in `held` too.  given: path (bytes), from the caller's directory; asked: the option;
    destination: what the option says after the colon.  Raises SandboxError, exit 2."""
    try:
        source = open_path(given, spec.follow_links)
    except Planted as error:
        real = os.path.realpath(given)  # to be said, and nothing else
        if not os.path.exists(real):
            raise usage(option(asked, show(given)), os.strerror(errno.ENOENT))
        raise usage(option(asked, show(given)), error.strerror,
                    "name the path that it leads to: %s; or follow every link: %s" %
                    (pasteable(asked, real, destination), _switch("follow_links")))
    except OSError as error:
        raise usage(option(asked, show(given)), error.strerror)
    held.append(source)
    if kind_of(source.found.st_mode) not in ("file", "directory"):
        raise usage(option(asked, show(given)), "is a %s; only files and directories can be brought in" %
                    kind_of(source.found.st_mode))
    return source


def open_copied(given, destination, spec, held, show_at=None):
    """The Source of a file to copy.  show_at: where a directory would be shown.  Raises SandboxError, exit 2."""
    source = open_source(given, "copy", spec, held, destination)
    if source.directory:
        raise usage(option("copy", show(given)), "is a directory; a file is copied",
                    to_show_it(given, show_at and show_at + os.path.basename(source.path)))
    if not source.allows(os.R_OK):
        raise usage(option("copy", show(given)), "Permission denied")
    return source


def add_user_mounts(ops, spec, host, held):
    """The operations with the user's mounts and copies in them.

    ops: of default.base; spec: Spec; host: Host; held: list that gets each Source.  A mount of the
    user replaces a default one at the same place and hides those below it; what lies deeper comes
    later.  Raises SandboxError (exit 2) for a source that can't be used, or a destination that would
    have to be made in a host directory or leads over a link.
    """
    wanted = [("ro", source, destination, False) for source, destination in spec.ro]
    wanted += [("rw", source, destination, True) for source, destination in spec.rw]
    if spec.here:
        _cwd()
        wanted.append(("here", b".", b"/box", False))
    mounts = []
    for asked, given, destination, writable in wanted:
        source = open_source(given, asked, spec, held, destination)
        if writable and host.uid == 0 and source.found.st_uid == 0:
            raise usage(option("rw", show(given)), "belongs to root; root's files are never writable inside",
                        "bring a copy in with %s, or give the directory to another user" % option("copy"))
        if not source.allows(os.R_OK):
            raise usage(option(asked, show(given)), "Permission denied")
        flags = NOSUID | NODEV | (0 if writable else RO)
        mounts.append((destination, Bind(destination, flags, source=source, rw=writable), asked))
    for destination, size in spec.tmpfs:
        mode = 0o1777 if destination in (b"/tmp", b"/dev/shm") else 0o755
        flags = NOSUID | NODEV | (NOEXEC if destination == b"/dev/shm" else 0)
        mounts.append((destination, Tmpfs(destination, size, mode, flags, user=True), "tmpfs"))
    if spec.harden:
        mounts += [(operation.dst, operation, "writable") for operation in harden.writable_mounts(spec)]
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
    return _proc_last(ops)


def _check_directory(tree, path):
    """--chdir names a directory that will be there, by its own path."""
    steps = (path or b"/").split(b"/")[1:]
    for depth in range(1, len(steps) + 1):
        kind = tree.kind(b"/" + b"/".join(steps[:depth]), "chdir", path) if steps[0] not in (b"", b"proc") else "directory"
        if kind != "directory":
            raise usage(option("chdir", show(path)), "is not there inside" if kind is None else "is a %s" % kind,
                        option("tmpfs", show(path)) + " makes a directory" if kind is None else None)


def _pinned(mounts, host, held):
    """A mount below a writable one stands or falls with the directories between: renaming one would put a new, unprotected
    path in its place.  A mount point can't be renamed, so each directory between is bound onto itself; opened below the
    writable one, where a program may exchange names while it is looked at."""
    theirs, pinned, out = set(destination for destination, _, _ in mounts), set(), []
    for destination, operation, asked in mounts:
        over = [op for place, op, _ in mounts
                if op.rw and destination.startswith(place + b"/")]
        for holder in sorted(over, key=lambda op: len(op.dst))[-1:]:  # the nearest one
            above, place = holder.source, holder.dst
            for step in destination[len(holder.dst) + 1:].split(b"/")[:-1]:
                place += b"/" + step
                if place in theirs:
                    break  # what lies below is not the writable one's
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
    """The operation that binds a directory between onto itself.  Raises SandboxError, exit 2."""
    if not source.directory:
        raise usage(option(asked, show(destination)), "%s is not a directory inside" % show(place))
    if mount_id(source.fd) != mount_id(holder.source.fd):
        raise usage(option(asked, show(destination)), "%s is another mount than %s" % (show(source.path), show(holder.src)),
                    "show it by itself: " + pasteable("rw", source.path, place))
    if host.uid == 0 and source.found.st_uid == 0:
        raise usage(option(asked, show(destination)), "%s belongs to root" % show(place))
    # The holder's owner, for nobody else's rights: the caller named the writable directory alone.
    return Bind(place, holder.flags, source=source, rw=True, owner=holder.owner)


def _no_way(asked, destination, path, holder, error=None):
    """The SandboxError for a destination below something of the host's.  path: that is not there, or no directory; error: what
    came of opening it."""
    if error is not None and error.errno == errno.ELOOP:
        return usage(option(asked, show(destination)), "%s is a symlink inside" % show(path), "name the path that it leads to")
    if error is not None and error.errno != errno.ENOENT:
        return usage(option(asked, show(destination)), "%s: %s" % (show(path), error.strerror))
    where = show(holder.dst)
    return usage(option(asked, show(destination)), "%s is not there, and nothing is made in %s, which is a directory of the "
                 "host" % (show(path), where), "choose a destination outside %s" % where)


def _cwd():
    try:
        return os.getcwdb()
    except OSError as error:
        raise usage(option("here"), "the current directory is gone (%s)" % error.strerror)


def _replaced(op, destination):
    """Whether a default operation makes room for a user's mount at `destination`."""
    if op.dst.startswith(destination + b"/"):
        return True
    return op.dst == destination and op.gives_way


def _proc_last(ops):
    """/proc after everything else: it must be there before the old root goes, and nothing is placed below it."""
    return [op for op in ops if not op.late] + [op for op in ops if op.late]


class Tree:
    """The tree as it stands after some operations, good enough to say what lies at a path."""

    def __init__(self, ops):
        self.nodes = {}
        for op in ops:
            self.add(op)

    def add(self, op):
        """Takes an operation into account."""
        if op.dst not in self.nodes or not isinstance(op, Directory):
            self.nodes[op.dst] = op

    def mount_of(self, path):
        """The bind or tmpfs operation that `path` lies on."""
        while path not in (b"/", b""):
            node = self.nodes.get(path)
            if isinstance(node, (Tmpfs, Bind)):
                return node
            path = os.path.dirname(path)
        return self.nodes[b"/"]

    def place(self, destination, directory, asked, copy=False):
        """[Operation] that make the mount point (or the way to a copy).  Raises SandboxError where it can't be made."""
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
                raise usage(option(asked, show(destination)), "%s is not a directory inside" % show(path))
            elif last and copy:
                raise usage(option("copy", show(destination)), "there is something at that path already")
            elif last and (kind == "directory") != directory:
                raise usage(option(asked, show(destination)), "is a %s inside, the source is a %s" %
                            (kind, "directory" if directory else "file"))
        return made

    def kind(self, path, asked, destination):
        """"file", "directory" or None for what lies at a path.  Raises SandboxError for a link."""
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
    """The st_mode of a path below what a bind shows, or None."""
    if holder.source is not None:
        return holder.source.mode_of(*below.split(b"/"))
    try:
        return os.lstat(os.path.join(holder.src, below)).st_mode
    except OSError:
        return None
