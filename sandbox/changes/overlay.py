# SPDX-License-Identifier: Apache-2.0
"""Compares the upper layer of an overlay with the lower one, which has not changed."""
import os
import stat

from ...syscalls.files import directory_room, next_names, open_beneath
from ..tree.overlay import OPAQUE
from .compare import State, read_state
from .walk import Entry, Walk


class Lower:
    """The lower layer of an overlay, as the supervisor reads it.

    fd: its directory; device: of its file system.
    """

    def __init__(self, op):
        """op: operations.Overlay.  Raises OSError."""
        self.fd = op.source.open(os.O_RDONLY | os.O_DIRECTORY)
        self.device = os.fstat(self.fd).st_dev

    def close(self):
        """Closes the directory."""
        os.close(self.fd)

    def state(self, path, budget=None):
        """Returns the State of a path in it, or None.

        budget: contents.Budget, to read the content too.
        """
        parent, name = os.path.split(path)
        try:
            holder = open_beneath(self.fd, parent, os.O_PATH | os.O_DIRECTORY)
        except OSError:
            return None
        try:
            found = os.stat(name or b".", dir_fd=holder, follow_symlinks=False)
            state = State(found)
            if budget is not None:
                state = read_state(Entry(path, name or b".", found, holder, ours=False), budget)
            return state
        except OSError:
            return None
        finally:
            os.close(holder)

    def below(self, path, budget):
        """Yields (path, State) of everything below a directory of it.  budget: contents.Budget."""
        try:
            fd = open_beneath(self.fd, path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return
        try:
            for entry in Walk(fd, ours=False):
                if entry.path and entry.found.st_dev == self.device:
                    its = path + b"/" + entry.path if path else entry.path
                    yield its, read_state(entry, budget)
        finally:
            os.close(fd)

    def compare(self, place, budget, notes):
        """Yields (Entry or None, relative path, change, State before, State after).

        place: compare.Place of the upper layer; budget: contents.Budget; notes: [str] to add to.
        """
        opaque = []  # the opaque directories above
        walk = Walk(place.fd, place.skip)
        for entry in walk:
            path = entry.path
            while opaque and not path.startswith(opaque[-1] + b"/"):
                opaque.pop()
            before = self.state(path)
            if stat.S_ISCHR(entry.found.st_mode) and entry.found.st_rdev == 0:  # a whiteout
                if before is not None:
                    yield None, path, "deleted", self.state(path, budget), None
                    yield from self._gone(path, before, budget)
                continue
            after = read_state(entry, budget)
            if before is None:
                yield entry, path, "added", None, after
                continue
            if before.kind == "file" or before.kind == "link":
                before = self.state(path, budget)
            if not before.same(after):
                yield entry, path, "modified", before, after
            if before.kind == "directory":
                if not entry.directory:
                    yield from self._gone(path, before, budget)
                elif opaque or path and _is_opaque(entry):
                    opaque.append(path)
                    try:
                        yield from self._hidden(place, path, budget)
                    except OSError:  # the program's root could read it, this process can't
                        walk.unreadable += 1
        if walk.too_long or walk.unreadable:
            notes.append("%d entries with too long a path, %d unreadable directories in the upper "
                         "layer" % (walk.too_long, walk.unreadable))

    def _gone(self, path, before, budget):
        if before.kind == "directory":
            for lost, state in self.below(path, budget):
                yield None, lost, "deleted", state, None

    def _hidden(self, place, path, budget):
        """Yields what an opaque directory hides: entries below that the upper one does not have."""
        fds = []
        try:
            for layer in (place.fd, self.fd):
                fds.append(open_beneath(layer, path, os.O_RDONLY | os.O_DIRECTORY))
            upper, lower = fds
            room = directory_room()
            while True:
                part = sorted(next_names(lower, room))
                if not part:
                    return
                for name in part:
                    if _has(upper, name):
                        continue
                    gone = path + b"/" + name
                    state = self.state(gone, budget)
                    if state is not None:
                        yield None, gone, "deleted", state, None
                        yield from self._gone(gone, state, budget)
        finally:
            for fd in fds:
                os.close(fd)


def _has(directory, name):
    """Whether a directory has an entry of a name.  directory: descriptor.  Raises OSError."""
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_opaque(entry):
    fd = entry.open(os.O_RDONLY | os.O_DIRECTORY)
    try:
        return os.getxattr(fd, OPAQUE) == b"y"
    except OSError:
        return False
    finally:
        os.close(fd)
