# SPDX-License-Identifier: Apache-2.0
"""Writes streams of entries into a directory that nobody else can enter.

A tree in memory holds all that was written. A name is resolved in it, links included, with the
tree's top as "/", so no name leads out. On disk each step then walks the resolved path below the
top's descriptor and follows no link.
"""
import functools
import hashlib
import os

from ...syscalls import files
from .entries import LONGEST_PATH, NEVER, NOT_TAKEN, leads_out, refused, steps_of
from ...sandbox.errors import SandboxError, show

CHUNK = 1 << 18
MOST_LINKS = 40
#: Steps of one name: forty links of 4 KiB each would make half a million.
MOST_STEPS = 4096
LATEST = 1 << 33  # the year 2242: every file system in use can store it
HELD = 64
#: Bytes of memory for names, links and dropped entries; bytes for each beside its text.
MOST_KEPT, KEPT_EACH = 256 << 20, 200


class Node:
    """Is a file or a directory of the tree; the hard links of one source share one.

    kind: "file" or "directory"
    mode: permission bits
    mtime: whole seconds, or None
    size: bytes
    content: a file's SHA-256 digest
    layer: number of the source that put it there

    Half a million of them fit in memory.
    """

    __slots__ = ("kind", "mode", "mtime", "size", "content", "layer")
    children = {}  # type: dict  # only a directory has some

    def __init__(self, kind, mode, mtime, layer):
        self.kind, self.mode, self.mtime, self.layer = kind, mode, mtime, layer
        self.size, self.content = 0, None


class Link(bytes):
    """Is a symlink, with the attributes of a Node; content: its target.

    One object of bytes takes half the memory of a Node with a target.
    """

    __slots__ = ()
    kind, mode, children = "symlink", 0o777, {}  # type: str, int, dict
    mtime = property(lambda self: int.from_bytes(self[:5], "little"))
    layer = property(lambda self: int.from_bytes(self[5:8], "little"))
    content = property(lambda self: bytes(self[8:]))

    @classmethod
    def made(cls, target, mtime, layer):
        """Returns a Link. target: bytes; mtime, layer: as of Node."""
        return cls(mtime.to_bytes(5, "little") + layer.to_bytes(3, "little") + target)


class Directory(Node):
    """Is a directory.

    children: {name: Node}
    hidden: number of the source that last hid the entries of lower sources in it
    """

    __slots__ = ("children", "hidden")

    def __init__(self, mode, mtime, layer):
        Node.__init__(self, "directory", mode, mtime, layer)
        self.children, self.hidden = {}, 0


class Entries:
    """Yields the manifest's entries as dicts, sorted by path as bytes, made when they are read."""

    __hash__ = None

    def __init__(self, top):
        """Counts the entries. top: the finished tree's Directory."""
        self.top, self.count, self.bytes = top, 0, 0
        for _, node in in_order(top):
            self.count += 1
            self.bytes += node.size if node.kind == "file" else 0

    def __len__(self):
        return self.count

    def __iter__(self):
        for path, node in in_order(self.top):
            row = {"path": show(path), "kind": node.kind, "mode": "%04o" % node.mode,
                   "mtime": node.mtime}
            if node.kind == "file":
                row["size"], row["sha256"] = node.size, node.content.hex()
            elif node.kind == "symlink":
                row["target"] = show(node.content)
            yield row

    def __eq__(self, other):
        return list(self) == list(other)


def in_order(top):
    """Yields (path as bytes, Node) of everything but the top, sorted: `a`, `a-b`, `a/b`."""
    levels = [(b"", _keys(top), top)]
    while levels:
        prefix, keys, node = levels[-1]
        for key in keys:
            if key.endswith(b"/"):
                child = node.children[key[:-1]]
                levels.append((prefix + key, _keys(child), child))
                break
            yield prefix + key, node.children[key]
        else:
            levels.pop()


def _keys(node):
    return iter(sorted(list(node.children) + [
        name + b"/" for name, child in node.children.items() if child.children]))


def deepest_first(path, node):
    """Yields (path, Directory) of a directory and those below it, each after what it holds.

    path: list of components; the yielded list is reused
    """
    path, levels = list(path), [(node, _directories(node))]
    while levels:
        node, names = levels[-1]
        for name in names:
            path.append(name)
            levels.append((node.children[name], _directories(node.children[name])))
            break
        else:
            yield path, node
            levels.pop()
            if levels:
                path.pop()


def _directories(node):
    return iter([name for name, child in node.children.items() if child.kind == "directory"])


class Writer:
    """Writes entries below a directory.

    root: fd of the empty directory
    most_bytes: limit of the whole tree
    most_files: limit of the whole tree
    epoch: latest time of an entry in seconds, or None
    tick: function (files, bytes), called after each entry, or None
    dropped: [(path, what)] in the order of the sources
    """

    def __init__(self, root, most_bytes, most_files, epoch=None, tick=None):
        self.root, self.most_bytes, self.most_files = root, most_bytes, most_files
        self.epoch, self.tick = epoch, tick
        self.top = Directory(0o755, None, 0)
        self.bytes = self.files = self.newest = self.layer = self.kept = self.time = 0
        self.dropped = []
        self.held = {}  # path -> fd of a directory

    def close(self):
        """Closes all held descriptors."""
        while self.held:
            os.close(self.held.popitem()[1])

    def take(self, stream):
        """Writes all entries of one source or layer over what is there. Raises SandboxError."""
        self.layer += 1
        for entry in stream:
            self.add(entry)
            if self.tick:
                self.tick(self.files, self.bytes)

    def add(self, entry):
        """Writes one entry. Raises SandboxError."""
        self._count()
        steps = steps_of(entry.name)
        self._keep(KEPT_EACH + len(steps[-1]) if steps else 0)
        name = b"/".join(steps)
        for attribute in entry.xattrs:
            self.drop(name, "extended attribute %s" % show(attribute))
        if not steps and entry.kind == "opaque":
            self._drop_lower([], self.top)
            return
        if not steps:
            if entry.kind in NOT_TAKEN:
                raise refused(entry.name, entry.kind)
            if entry.kind != "directory":
                raise refused(entry.name, "the tree's top must be a directory")
            self.top.mode, self.top.mtime = self._mode(entry, name, 0o1777), self._time(entry)
            return
        if entry.kind in ("whiteout", "opaque"):
            self._hide(entry.kind, steps)
            return
        if entry.kind in NOT_TAKEN:  # neither it nor the directories above it are made
            self.drop(name, entry.kind)
            return
        path, holder = self._holder(steps[:-1])
        last = steps[-1]
        place = self._short(path + [last])
        if entry.kind in NEVER:
            self.drop(b"/".join(place), entry.kind)
            self._clear(path, holder, last)
        elif entry.kind == "directory":
            self._directory(entry, path, holder, last)
        elif entry.kind == "file":
            self._file(entry, path, holder, last)
        elif entry.kind == "symlink":
            self._symlink(entry, path, holder, last)
        else:
            self._hardlink(entry, path, holder, last)

    def drop(self, name, what):
        """Records what was left out."""
        self._keep(KEPT_EACH + len(name) + len(what))
        self.dropped.append((name, what))

    def _keep(self, size):
        """Counts the memory of names and targets: half a million of 4 KiB each would be an attack.
        """
        self.kept += size
        if self.kept > MOST_KEPT:
            raise refused("the tree", "its names and links need too much memory")

    def _count(self, size=0):
        self.bytes += size
        if self.bytes > self.most_bytes:
            raise refused("the tree", "more than %d bytes" % self.most_bytes,
                          "--max-size sets the limit")
        if not size:
            self.files += 1
            if self.files > self.most_files:
                raise refused("the tree", "more than %d entries" % self.most_files,
                              "--max-files sets the limit")

    def _mode(self, entry, name, mask):
        for bit, what in ((0o4000, "set-uid bit"), (0o2000, "set-gid bit")):
            if entry.mode & bit:
                self.drop(name, what)
        return entry.mode & mask

    def _time(self, entry):
        mtime = min(max(int(entry.mtime), 0), LATEST)
        self.newest = max(self.newest, mtime)
        if self.epoch is not None and mtime > self.epoch:
            return self.epoch
        if mtime != self.time:  # mostly equal to the last one: share the int object
            self.time = mtime
        return self.time

    # The tree in memory

    def _walk(self, steps, missing):
        """Returns (path, Directory) at the end of `steps`, through links.

        steps: list of components
        missing: function (path, Directory, name) that returns the Node to use, or None

        Raises SandboxError if it leads through a file, or through too many links.
        """
        path, trail, pending, links, walked = [], [self.top], list(reversed(steps)), 0, 0
        while pending:
            step = pending.pop()
            walked += 1
            if walked > MOST_STEPS:
                raise refused(b"/".join(steps), "the links in the name are too long together")
            if step == b"..":  # of a link: ".." of the top is the top
                if path:
                    path.pop()
                    trail.pop()
                continue
            child = trail[-1].children.get(step)
            if child is None:
                child = missing(path, trail[-1], step)
            if child is not None and child.kind == "symlink":
                links += 1
                if links > MOST_LINKS:
                    raise refused(b"/".join(steps), "the name leads through too many links")
                if child.content.startswith(b"/"):
                    path, trail = [], [self.top]
                pending += [s for s in reversed(child.content.split(b"/")) if s not in (b"", b".")]
                continue
            if child is None or child.kind != "directory":
                raise refused(b"/".join(steps), "the name leads through a file")
            path = path + [step]
            trail.append(child)
        return path, trail[-1]

    def _holder(self, steps):
        """Returns (path, Directory) for a directory's name; missing directories are made."""
        return self._walk(steps, self._make_directory)

    def _make_directory(self, path, holder, name):
        self._count()
        self._keep(KEPT_EACH + len(name))
        self._short(path + [name])
        self._on_disk(path, os.mkdir, name, 0o700)
        child = holder.children[name] = Directory(0o755, None, self.layer)
        return child

    @staticmethod
    def _short(path):
        """Returns the path if it can be opened as a whole. Raises SandboxError."""
        if len(b"/".join(path)) > LONGEST_PATH:
            raise refused(b"/".join(path), "the name is too long")
        return path

    def _find(self, steps):
        """Returns (path, parent, Node) for a name, or None if there is nothing; makes nothing."""
        try:
            path, holder = self._walk(steps[:-1], lambda path, holder, name: None)
        except SandboxError:
            return None
        found = holder.children.get(steps[-1])
        return None if found is None else (path, holder, found)

    # On disk

    def _fd(self, path):
        """Returns a descriptor of a directory of the tree; the Writer closes it."""
        key = b"/".join(path)
        fd = self.held.get(key)
        if fd is None:
            if len(self.held) >= HELD:
                self.close()
            fd = self.held[key] = files.open_beneath(self.root, key, files.O_PATH_DIRECTORY)
        return fd

    def _on_disk(self, path, function, name, *arguments, **more):
        try:
            return function(name, *arguments, dir_fd=self._fd(path), **more)
        except FileExistsError:  # the file system ignores case
            raise refused(b"/".join(path + [name]), "exists under another spelling",
                          "build on a file system that distinguishes upper from lower case")

    def _clear(self, path, holder, name):
        """Removes what lies at a name."""
        node = holder.children.pop(name, None)
        if node is None:
            return
        if node.kind == "directory":
            self.close()
            files.remove(self._fd(path), name)
        else:
            os.unlink(name, dir_fd=self._fd(path))

    def _directory(self, entry, path, holder, name):
        mode, old = self._mode(entry, b"/".join(path + [name]), 0o1777), holder.children.get(name)
        if old is None or old.kind != "directory":
            self._clear(path, holder, name)
            self._on_disk(path, os.mkdir, name, 0o700)
            old = holder.children[name] = Directory(mode, None, self.layer)
        old.mode, old.mtime, old.layer = mode, self._time(entry), self.layer

    def _file(self, entry, path, holder, name):
        self._count(entry.size)  # before a byte is written; holes count like data
        self._clear(path, holder, name)
        mode = self._mode(entry, b"/".join(path + [name]), 0o777)
        node = Node("file", mode, self._time(entry), self.layer)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = self._on_disk(path, os.open, name, flags, 0o600)
        holder.children[name] = node
        try:
            digest, left = hashlib.sha256(), entry.size
            while left:
                data = entry.read(min(left, CHUNK))
                if not data:
                    raise refused(entry.name, "it became shorter while it was read")
                left -= len(data)
                digest.update(data)
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view):]
            os.fchmod(fd, node.mode)
            os.utime(fd, (node.mtime, node.mtime))
        finally:
            os.close(fd)
        node.size, node.content = entry.size, digest.digest()

    def _symlink(self, entry, path, holder, name):
        target = entry.target
        if not target or b"\0" in target or len(target) > 4095:
            raise refused(entry.name, "a symlink with an impossible target")
        self._keep(len(target))
        if leads_out(path + [name], target):
            raise refused(entry.name, "a symlink that leads out of the tree (to %s)" %
                          show(target[:200]))
        self._clear(path, holder, name)
        node = Link.made(target, self._time(entry), self.layer)
        self._on_disk(path, functools.partial(os.symlink, target), name)
        os.utime(name, (node.mtime, node.mtime), dir_fd=self._fd(path), follow_symlinks=False)
        holder.children[name] = node

    def _hardlink(self, entry, path, holder, name):
        steps = steps_of(entry.target)  # relative to the tree's top
        found = self._find(steps) if steps else None
        if found is None or found[2].kind == "directory":
            raise refused(entry.name, "a hard link to no file of the archive (%s)" %
                          show(entry.target[:200]))
        old = holder.children.get(name)
        if old is found[2]:
            return
        if old is not None:
            self._clear(path, holder, name)
            found = self._find(steps)  # it may have lain below
            if found is None:
                raise refused(entry.name, "a hard link to the entry that it replaces (%s)" %
                              show(entry.target[:200]))
        source = self._fd(found[0])
        if len(self.held) >= HELD - 1:  # both descriptors must stay open
            self.close()
            source = self._fd(found[0])
        try:
            os.link(steps[-1], name, src_dir_fd=source, dst_dir_fd=self._fd(path),
                    follow_symlinks=False)
        except FileExistsError:
            raise refused(b"/".join(path + [name]), "exists under another spelling")
        node = found[2]
        if node.layer != self.layer:
            if node.kind == "symlink":
                node = Link.made(node.content, node.mtime, self.layer)
            else:
                node = Node(node.kind, node.mode, node.mtime, self.layer)
                node.size, node.content = found[2].size, found[2].content
        holder.children[name] = node

    # Layers

    def _hide(self, kind, steps):
        """Applies a whiteout: removes entries of lower layers only. OCI image-spec 1.1, layer.md"""
        found = self._find(steps)
        if found is None:
            return
        path, holder, node = found
        if node.kind == "directory":
            self._drop_lower(path + [steps[-1]], node)
        if kind == "whiteout" and node.layer < self.layer and not node.children:
            self._clear(path, holder, steps[-1])

    def _drop_lower(self, path, node):
        """Removes the entries of lower layers below a directory, once a layer."""
        if node.hidden == self.layer:
            return
        node.hidden = self.layer
        for place, directory in deepest_first(path, node):
            for name, child in list(directory.children.items()):
                if child.layer < self.layer and not child.children:
                    self._clear(place, directory, name)

    # The end

    def finish(self):
        """Sets the directories' modes and times, deepest first; until now they were written to."""
        implied = self.newest if self.epoch is None else self.epoch
        self.close()
        for path, node in deepest_first([], self.top):
            node.mtime = implied if node.mtime is None else node.mtime
            fd = files.open_beneath(self.root, b"/".join(path),
                                    os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.utime(fd, (node.mtime, node.mtime))
                if path:  # the top is closed to others until it has its name
                    os.fchmod(fd, node.mode)
            finally:
                os.close(fd)
