# SPDX-License-Identifier: Apache-2.0
"""Writes result files for the caller, after a hostile program has run."""
import os
import stat
from json import dumps  # before anything runs: a broken json would only show at the end

from ..sandbox.changes import shown
from ..sandbox.changes.drafts import Draft, Target, way_round
from ..sandbox.errors import SandboxError, usage
from ..sandbox.running import writer  # noqa: F401  as json: write_pieces needs it
from .output import write_pieces

#: Characters written at a time: the program decides how long a report is, and so its memory.
PART = 1 << 16


class OutputFile:
    """Is the JSON file of an option.

    It has no name while the program runs and replaces an old file at the end: no link and no file
    that the program prepared is written through. A path that can't work is refused before the run.
    """

    #: Why a host directory of `places` can't hold the file.
    REFUSED = "lies in a directory that the program can write (%s)"

    def __init__(self, option, path, places, follow_links=False):
        """Opens what can be opened before the run.

        option: as typed
        path: str, "-" for stderr
        places: host directories that can't hold the file, as sandbox/changes/shown.py lists them
        follow_links: as for Target

        Raises SandboxError (exit status 2).
        """
        self.option, self.path, self.fd, self.draft = option, path, -1, None
        if path == "-":
            self.fd = 2
            return
        named = "%s %s" % (option, path)
        try:
            target = Target(os.fsencode(path), follow_links)
            kind = target.mode()
            holder = shown.holder(target.fd, places)
            if holder is not None:
                raise usage(named, self.REFUSED % os.fsdecode(holder),
                            self.elsewhere(target, places))
            if kind is not None and stat.S_ISLNK(kind):
                raise usage(named, "is a symlink", "name the file itself")
            if kind is None or stat.S_ISREG(kind):
                self.draft = Draft(target, 0o644)
            else:
                # Without O_NONBLOCK, open waits until somebody reads a FIFO. fifo(7)
                self.fd = os.open(target.name, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW |
                                  os.O_NONBLOCK, dir_fd=target.fd)
                os.set_blocking(self.fd, True)
        except (OSError, ValueError) as error:
            other = way_round(error, os.fsencode(path))
            remedy = None
            if other is not None:
                from shlex import quote
                remedy = "name the path that it leads to: %s %s" % (option, quote(other))
            raise usage(named, getattr(error, "strerror", None) or str(error), remedy)

    def elsewhere(self, target, places):
        """Returns the remedy if the file can't lie there, or None; subclasses give one."""
        return None

    def discard(self):
        """Drops the draft: nothing is written."""
        if self.draft is not None:
            self.draft.discard()
            self.draft = None

    def publish(self):
        """Gives the draft its name. Raises OSError."""
        if self.draft is not None:
            self.draft.publish()
            self.draft = None

    def write(self, content):
        """Writes a dict as JSON; returns as write_text."""
        return self.write_text(parts(content))

    def write_text(self, pieces):
        """Writes text (str or iterable of str); returns a SandboxError if that failed, or None.

        After a failure no draft is left.
        """
        try:
            write_pieces(self.fd if self.draft is None else self.draft.begin(),
                         [pieces] if isinstance(pieces, str) else pieces)
            self.publish()
        except OSError as error:
            self.discard()
            return SandboxError(self.option.lstrip("-"), self.path, error.errno)
        return None


def parts(content, indent=2):
    """Yields a dict as JSON text, in parts: each row of a list or of an iterable on its own."""
    held, size = [], 0
    for piece in _pieces(content, indent):
        held.append(piece)
        size += len(piece)
        if size >= PART:
            yield "".join(held)
            held, size = [], 0
    yield "".join(held)


def _pieces(content, indent):
    inner = "\n" + " " * indent
    between = "{" + inner
    for name, value in content.items():
        yield "%s%s: " % (between, dumps(name))
        between = "," + inner
        texts = getattr(value, "texts", None)  # Rows (rows.py) hold JSON text already
        if value is None or isinstance(value, (str, int, float, dict)):
            yield dumps(value, indent=indent).replace("\n", inner)
            continue
        deeper = inner + " " * indent
        comma = "[" + deeper
        for row in value if texts is None else texts:
            yield comma
            yield dumps(row, indent=indent).replace("\n", deeper) if texts is None \
                else row.decode("ascii")
            comma = "," + deeper
        yield "[]" if comma.startswith("[") else inner + "]"
    yield "\n}\n"


def of_run(option, path, plan):
    """Returns an OutputFile that lies in no directory which a Plan's program can write."""
    return OutputFile(option, path, shown.writable(plan), plan.spec.follow_links)
