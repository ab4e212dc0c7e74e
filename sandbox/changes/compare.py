# SPDX-License-Identifier: Apache-2.0
"""What the program changed: each added, modified or deleted path that it could write.

Host directories (--rw) are not looked at.  Each writable place is held by a descriptor that the
supervisor takes at the gate, so it can be read when the sandbox and its mounts are gone.  It is
read before the program starts, and again when the last process is dead, by code that follows no
link (walk.py).  Names are bytes; as text, here and in JSON, a byte that is no UTF-8 is the lone
surrogate U+DC00 + byte (Python's surrogateescape).
"""
import os
import stat

from ..errors import raw, show
from ..host.facts import kind_of
from . import contents
from .walk import Walk, covered
from ..result.rows import MOST_BYTES, MOST_ROWS, Rows

CHANGES = ("added", "modified", "deleted")
SET_ID = stat.S_ISUID | stat.S_ISGID


class State:
    """One path at one time.

    kind: as of host.kind_of, or whiteout.
    mode: permission bits.
    size, blocks: length and occupied space, in bytes.
    sha256, why: as of contents.digest.
    magic: as of contents.magic.
    target: of a link, bytes.
    links: hard links.
    """

    __slots__ = ("kind", "mode", "size", "sha256", "why", "magic", "target", "blocks", "links")

    def __init__(self, found):
        self.kind, self.mode = kind_of(found.st_mode), stat.S_IMODE(found.st_mode)
        self.size = found.st_size
        self.blocks, self.links = found.st_blocks * 512, found.st_nlink
        self.sha256 = self.why = self.magic = self.target = None

    def same(self, other):
        """Whether nothing that is reported differs."""
        if (self.kind, self.mode, self.target) != (other.kind, other.mode, other.target):
            return False
        return self.kind != "file" or self.sha256 is not None and \
            (self.size, self.sha256) == (other.size, other.sha256)


def read_state(entry, budget):
    """Returns the State of a walk.Entry, its content included.  budget: contents.Budget."""
    state, found = State(entry.found), entry.found
    shared = state.kind == "file" and state.links > 1
    known = budget.shared(found) if shared else None
    if known is not None:
        state.magic, state.sha256, state.why = known
        return state
    try:
        if state.kind == "link":
            state.target = os.fsencode(os.readlink(entry.name, dir_fd=entry.parent))
        elif state.kind == "file":
            fd = entry.open()
            try:
                state.magic = contents.magic(os.pread(fd, contents.HEAD, 0))
                state.sha256, state.why = contents.digest(fd, state.size, budget)
            finally:
                os.close(fd)
    except OSError as error:
        state.why = os.strerror(error.errno)
    if shared:
        budget.share(found, state.magic, state.sha256, state.why)
    return state


class Place:
    """A writable place.

    path: where it is inside, bytes.
    fd: its directory.
    lower: overlay.Lower if it is an overlay, None for a tmpfs.
    skip: as of Walk.
    before: {relative path: State} before the program.
    """

    def __init__(self, path, fd, below, lower=None):
        """below: paths of the other places in it."""
        self.path, self.fd, self.lower = path, fd, lower
        self.skip = dict((other[len(path) + 1:], None) for other in below)
        self.before = {}

    def inside(self, path):
        """Returns the absolute path inside of a relative one."""
        return self.path + b"/" + path if path else self.path


class Changes:
    """The writable places before and after the program.

    places: [Place], whose descriptors `close` closes.
    rows: rows.Rows; omitted: how many changes they do not hold, by kind.
    interrupted: may be set at any moment, and ends the reading.
    notes: [str] for people.
    """

    def __init__(self, places):
        self.places, self.rows = places, Rows()
        self.omitted = dict.fromkeys(("count",) + CHANGES, 0)
        self.interrupted = False
        self.notes = []

    def remember(self):
        """Reads what is there before the program.  Raises OSError."""
        budget = contents.Budget()
        for place in self.places:
            budget.forget()
            if place.lower is None:
                walk = Walk(place.fd, place.skip)
                place.before = dict((entry.path, read_state(entry, budget)) for entry in walk)
                place.skip = covered(place.fd, place.skip)
            else:
                place.skip = {}  # nothing is mounted on an upper layer itself

    def compare(self, exporter=None):
        """Returns the changes as rows.Rows (`record`), sorted by path.

        exporter: export.Exporter that takes each file whose content is new, or None.  Never raises
        an Exception: `notes` says what could not be read.
        """
        budget = contents.Budget()
        for place in self.places:
            budget.forget()
            try:
                for entry, path, change, before, after in (
                        place.lower.compare(place, budget, self.notes) if place.lower else
                        compare_tmpfs(place, budget, self.notes)):
                    if self.interrupted:
                        break
                    self._take(place.inside(path), change, before, after)
                    if exporter is not None and is_new_content(before, after):
                        exporter.take(place.inside(path), entry)
            except (OSError, MemoryError) as error:
                self.notes.append("%s: could not be read to the end: %s" % (
                    show(place.path), error))
        if self.interrupted:
            self.notes.append("interrupted: not everything that the program changed is listed")
        if self.omitted["count"]:
            self.notes.append(
                "%d more changes are not listed: a result has at most %d of them, and %d MiB" % (
                    self.omitted["count"], MOST_ROWS, MOST_BYTES >> 20))
        self.rows.sort(lambda row: raw(row["path"]))
        return self.rows

    def _take(self, path, change, before, after):
        if not self.rows.add(record(path, change, before, after)):
            self.omitted["count"] += 1
            self.omitted[change] += 1

    def close(self):
        """Closes the places."""
        for place in self.places:
            try:
                os.close(place.fd)
            except OSError:
                pass  # it is closed all the same.  close(2)
            if place.lower is not None:
                place.lower.close()
        self.places = []


def compare_tmpfs(place, budget, notes):
    """Yields (Entry or None, relative path, change, State before, State after) of a tmpfs."""
    before = dict(place.before)
    walk = Walk(place.fd, place.skip)
    for entry in walk:
        after = read_state(entry, budget)
        old = before.pop(entry.path, None)
        if old is None:
            yield entry, entry.path, "added", None, after
        elif not old.same(after):
            yield entry, entry.path, "modified", old, after
    for path, old in before.items():
        yield None, path, "deleted", old, None
    if walk.too_long or walk.unreadable:
        notes.append("%s: %d entries with too long a path, %d unreadable directories" % (
            show(place.path), walk.too_long, walk.unreadable))
    for path in walk.moved:
        notes.append("%s: a directory above this mount was moved; what is listed below may lie "
                     "elsewhere" % show(place.inside(path)))


def is_new_content(before, after):
    """Whether a change leaves a regular file with new content.  before, after: State or None."""
    if after is None or after.kind != "file":
        return False
    return before is None or before.kind != "file" or after.sha256 is None or \
        (before.size, before.sha256) != (after.size, after.sha256)


def record(path, change, before, after):
    """Returns a change as a JSON object.

    path: absolute, as seen from inside.
    change: added, modified or deleted.
    kind, mode (octal text), size, sha256 (None: `sha256_missing` says why), magic, target: of what
        is there now, or was deleted.
    was: {kind, mode, size, sha256} before a modification.
    set_id: the mode has a set-user-ID or set-group-ID bit, which was without effect.
    """
    state = after or before
    out = {"path": show(path), "change": change,
           "kind": "symlink" if state.kind == "link" else state.kind,
           "mode": "%04o" % state.mode}
    if state.kind == "file":
        out.update(size=state.size, blocks_bytes=state.blocks, sha256=state.sha256,
                   magic=state.magic)
        if state.why:
            out["sha256_missing"] = state.why
        if state.links > 1:
            out["links"] = state.links
    if state.target is not None:
        out["target"] = show(state.target)
    if after is not None and after.kind != "link" and after.mode & SET_ID:
        out["set_id"] = True
    if change == "modified":
        out["was"] = {"kind": "symlink" if before.kind == "link" else before.kind,
                      "mode": "%04o" % before.mode}
        if before.kind == "file":
            out["was"].update(size=before.size, sha256=before.sha256)
    return out
