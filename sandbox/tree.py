# SPDX-License-Identifier: Apache-2.0
"""Puts what the user named into the default tree: sources that exist, destinations that can be made on our own tmpfs."""
import os
import stat

from .door import option
from .errors import usage
from .host import kind_of
from .base_tree import NODEV, NOEXEC, NOSUID, RO, Operation, tmpfs


def show(path):
    """A path for a message."""
    return path.decode("utf-8", "surrogateescape")


def to_show_it(source, destination=None):
    """The remedy where a directory can't be copied, to be pasted."""
    import shlex
    words = [show(path).replace("\\", "\\\\").replace(":", "\\:") for path in (source, destination) if path is not None]
    return "to show a directory: " + option("ro", ":".join(words), typed=shlex.quote(":".join(words)))


def resolve_source(source, asked):
    """(real path, stat result) of a source, through symlinks and from the caller's directory.  Raises SandboxError."""
    try:
        real = os.path.realpath(source)
        found = os.stat(real)
    except OSError as error:
        raise usage(option(asked, show(source)), error.strerror)
    if kind_of(found.st_mode) not in ("file", "directory"):
        raise usage(option(asked, show(source)), "is a %s; only files and directories can be brought in" %
                    kind_of(found.st_mode))
    return real, found


def add_user_mounts(ops, spec, host):
    """The operations with the user's mounts and copies in them.

    ops: of base_tree.base; spec: Spec; host: Host.  A mount of the user replaces a default one at the same place and hides
    those below it; what lies deeper comes later.  Raises SandboxError (exit 2) for a source that can't be used or a
    destination that would have to be made in a host directory or leads over a link.
    """
    wanted = [("ro", source, destination, False) for source, destination in spec.ro]
    wanted += [("rw", source, destination, True) for source, destination in spec.rw]
    if spec.here:
        wanted.append(("here", os.path.join(_cwd(), b"."), b"/box", False))
    mounts = []
    for asked, source, destination, writable in wanted:
        real, found = resolve_source(source, asked)
        if writable and host.uid == 0 and found.st_uid == 0:
            raise usage(option("rw", show(source)), "belongs to root; root's files are never writable inside",
                        "bring a copy in with %s, or give the directory to another user" % option("copy"))
        if not os.access(real, os.R_OK):
            raise usage(option(asked, show(source)), "Permission denied")
        mounts.append((destination, Operation("bind", destination, real, NOSUID | NODEV | (0 if writable else RO),
                                              directory=stat.S_ISDIR(found.st_mode), rw=writable, user=True,
                                              owner=(found.st_uid, found.st_gid),
                                              inode=(found.st_dev, found.st_ino)), asked))
    for destination, size in spec.tmpfs:
        operation = tmpfs(destination, size, 0o1777 if destination in (b"/tmp", b"/dev/shm") else 0o755,
                          NOSUID | NODEV | (NOEXEC if destination == b"/dev/shm" else 0))
        operation.options["user"] = True
        mounts.append((destination, operation, "tmpfs"))
    if spec.harden:
        from . import harden
        mounts += [(operation.dst, operation, "writable") for operation in harden.writable_mounts(spec)]
    mounts += _pinned(mounts, host)
    mounts.sort(key=lambda mount: mount[0].count(b"/"))
    for destination, operation, asked in mounts:
        ops = [op for op in ops if not _replaced(op, destination)]
    tree = Tree(ops)
    for destination, operation, asked in mounts:
        for made in tree.place(destination, operation.options.get("directory", True), asked):
            ops.append(made)
        ops.append(operation)
        tree.add(operation)
    for source, destination in spec.copy:
        real, found = resolve_source(source, "copy")
        if not stat.S_ISREG(found.st_mode):
            raise usage(option("copy", show(source)), "is a directory; a file is copied",
                        to_show_it(source, b"/box/" + os.path.basename(real)))
        if not os.access(real, os.R_OK):
            raise usage(option("copy", show(source)), "Permission denied")
        ops += tree.place(destination, False, "copy", copy=True)
        holder = tree.mount_of(destination)
        if holder.flags & NOEXEC:
            holder.flags &= ~NOEXEC  # the copy may run wherever it lies
        operation = Operation("copy", destination, real, size=found.st_size, inode=(found.st_dev, found.st_ino))
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
                        option("tmpfs") + " makes a directory")


def _pinned(mounts, host):
    """A mount below a writable one stands or falls with the directories between: renaming one would put a new, unprotected
    path in its place.  A mount point can't be renamed, so each directory between is bound onto itself."""
    places = set(destination for destination, _, _ in mounts)
    out = []
    for destination, operation, asked in mounts:
        over = [op for place, op, _ in mounts
                if op.kind == "bind" and op.options["rw"] and destination.startswith(place + b"/")]
        for holder in sorted(over, key=lambda op: len(op.dst))[-1:]:  # the nearest one
            steps = destination[len(holder.dst) + 1:].split(b"/")[:-1]
            for depth in range(1, len(steps) + 1):
                below = b"/".join(steps[:depth])
                place = holder.dst + b"/" + below
                if place in places:
                    continue
                places.add(place)
                if not os.path.isdir(holder.src + b"/" + below) or os.path.islink(holder.src + b"/" + below):
                    break  # the destination's own check says what is wrong
                real, found = resolve_source(holder.src + b"/" + below, asked)
                if host.uid == 0 and found.st_uid == 0:
                    raise usage(option(asked, show(destination)), "%s belongs to root" % show(place))
                out.append((place, Operation("bind", place, real, holder.flags, directory=True, rw=True, user=True,
                                             owner=(found.st_uid, found.st_gid), inode=(found.st_dev, found.st_ino)), "rw"))
    return out


def _cwd():
    try:
        return os.getcwdb()
    except OSError as error:
        raise usage(option("here"), "the current directory is gone (%s)" % error.strerror)


def _replaced(op, destination):
    """Whether a default operation makes room for a user's mount at `destination`."""
    if op.dst.startswith(destination + b"/"):
        return True
    return op.dst == destination and op.kind in ("tmpfs", "bind", "file", "cover")


def _proc_last(ops):
    """/proc after everything else: it must be there before the old root goes, and nothing is placed below it."""
    late = ("proc", "mask-file", "mask-directory", "read-only")
    return [op for op in ops if op.kind not in late] + [op for op in ops if op.kind in late]


class Tree:
    """The tree as it stands after some operations, good enough to say what lies at a path."""

    def __init__(self, ops):
        self.nodes = {}
        for op in ops:
            self.add(op)

    def add(self, op):
        """Takes an operation into account."""
        self.nodes[op.dst] = op if op.kind != "directory" or op.dst not in self.nodes else self.nodes[op.dst]

    def mount_of(self, path):
        """The bind or tmpfs operation that `path` lies on."""
        while path not in (b"/", b""):
            node = self.nodes.get(path)
            if node is not None and node.kind in ("tmpfs", "bind"):
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
                if holder.kind == "bind":
                    where = show(holder.dst)
                    raise usage(option(asked, show(destination)), "%s is not there, and nothing is made in %s, "
                                "which is a directory of the host" % (show(path), where),
                                "choose a destination outside %s" % where)
                if last and copy:
                    continue
                operation = Operation("directory", path, mode=0o755) if directory or not last else \
                    Operation("file", path, b"", mode=0o644)
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
            if node.kind == "symlink":
                raise usage(option(asked, show(destination)), "%s is a symlink inside (to %s)" %
                            (show(path), show(node.src)), "name the path that it leads to")
            if node.kind in ("bind",):
                return "directory" if node.options["directory"] else "file"
            return "file" if node.kind in ("file", "copy", "cover", "device") else "directory"
        holder = self.mount_of(path)
        if holder.kind != "bind":
            return None
        try:
            kind = kind_of(os.lstat(holder.src + path[len(holder.dst):]).st_mode)
        except OSError:
            return None
        if kind == "link":
            raise usage(option(asked, show(destination)), "%s is a symlink inside" % show(path),
                        "name the path that it leads to")
        return kind
