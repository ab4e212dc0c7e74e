# SPDX-License-Identifier: Apache-2.0
"""Runs `mrunc rootfs build` and `check`: root file systems for `run --rootfs`."""
import json
import os
import signal
import time

from ...sandbox import units
from ...sandbox.errors import SandboxError, show
from .. import actions, help
from ..options import Option
from ..output import escaped, say, write, write_pieces
from ..output_file import parts
from . import build as rootfs_build, check as rootfs_check

GROUP = "Options of rootfs"


class Source(Option):
    """Is an option that keeps its place among the sources."""

    __slots__ = ()

    def given(self, value):
        """Returns (kind, value)."""
        return self.names[0][2:], value


OPTIONS = (
    Source("--from", "sources", "SOURCE", "build: add a directory, a tar (plain, gzip, xz) or an "
           "OCI image layout; later sources replace files of earlier ones", GROUP, True),
    Source("--from-host", "sources", "NAMES", "build: add packages of this host with all their "
           "dependencies (python3,bash), or programs that belong to no package, with their "
           "libraries", GROUP, True),
    Option("--follow-links", "follow_links", None, "build: follow every symbolic link in the path "
           "of a source (default: only links that only root can have made)", GROUP),
    Option("--image", "image", "NAME", "build: choose an image of an OCI layout with several",
           GROUP),
    Option("--max-size", "max_size", "SIZE", "build: limit the content of all files together "
           "(default 16G)", GROUP),
    Option("--max-files", "max_files", "COUNT", "build: limit the entries of all sources together "
           "(default 500000)", GROUP),
    Option("--manifest", "manifest", "FILE", "build: write the entries of the tree and what was "
           "dropped, as JSON", GROUP),
    Option("--json", "json", None, "print the manifest or the findings as JSON", GROUP),
    Option("-q --quiet", "quiet", None, "print errors only", GROUP),
    Option("-h --help", "help", None, "show this text", GROUP),
)
ACTIONS = (("build DEST --from SOURCE...", "make a root file system; set-id bits, capabilities and "
            "devices are dropped; an archive whose names or links lead out of the tree is refused "
            "(exit status 1)"),
           ("check DIR", "list what a root file system should not hold; exit status 1 if there "
            "is any"))
_TAKES = {"build": "sources follow_links image max_size max_files manifest json quiet",
          "check": "json quiet"}
#: How many dropped entries stderr names; the manifest has all.
MOST_NAMED = 100


def help_text():
    """Returns the help of rootfs."""
    return help.text("rootfs ACTION [options]", ((GROUP, OPTIONS),), actions=ACTIONS)


def main(argv):
    """Runs the verb rootfs. argv: list of str after the verb. Returns the exit status."""
    action, words, values = actions.read("rootfs", argv, OPTIONS, _TAKES, _place)
    if action is None:
        write(1, help_text())
        return 0 if values.get("help") else 2
    if not words:
        raise _wrong("%s needs a %s" % (action, "name for the new directory" if action == "build"
                                        else "directory"))
    if len(words) > 1:
        raise _wrong("%s takes one directory, not %s too" % (action, words[1]))
    return {"build": build, "check": check}[action](words[0], values)


def _place(values, words, word):
    """Stores a word: `build DEST --from A B` names two sources."""
    if len(words) >= 2 and values.get("sources"):
        values["sources"].append(("from", word))
    else:
        words.append(word)


def _wrong(what, reason=None, remedy=None):
    return actions.wrong("rootfs", what, reason, remedy)


def build(destination, values):
    """Runs `rootfs build`. Returns the exit status."""
    sources = [(kind, _names(value) if kind == "from-host" else value)
               for kind, value in values.get("sources", ())]
    if not sources:
        raise _wrong("build needs a source", remedy="--from DIRECTORY|TAR|OCI-LAYOUT, or "
                     "--from-host python3,bash")
    limits = [rootfs_build.MOST_BYTES, rootfs_build.MOST_FILES]
    if "max_size" in values:
        limits[0] = units.size(values["max_size"], "max_size")
    if "max_files" in values:
        limits[1] = _count(values["max_files"])
    target = values.get("manifest")
    if target is not None and os.path.lexists(target) and not os.path.isfile(target):
        raise _wrong("--manifest %s" % target, "is not a regular file")
    progress = Progress(values.get("quiet"))
    with Terminated():
        try:
            manifest = rootfs_build.build(os.fsencode(destination), sources, limits, _epoch(),
                                          values.get("image"), progress.tick,
                                          "follow_links" in values)
        finally:
            progress.end()
    if not values.get("quiet"):
        for row in manifest["dropped"][:MOST_NAMED]:
            say("dropped: %s: %s" % (row["path"], row["what"]))
        if len(manifest["dropped"]) > MOST_NAMED:
            say("dropped: %d more; --manifest FILE "
                "names all" % (len(manifest["dropped"]) - MOST_NAMED))
    if target is not None:
        _replace(target, manifest)
    if values.get("json"):
        write_pieces(1, parts(manifest, 1))
    elif not values.get("quiet"):
        say("%s: %d entries, %d bytes, %d dropped" % (destination, len(manifest["entries"]),
                                                      manifest["bytes"], len(manifest["dropped"])))
    return 0


def _names(value):
    names = [name for name in value.split(",") if name]
    if not names:
        raise _wrong("--from-host", "names no package")
    return names


def _count(value):
    if not value.isdigit() or not 0 < int(value) < 1 << 32:
        raise _wrong("--max-files %s" % value, "it is a whole number greater than 0")
    return int(value)


def _epoch():
    value = os.environ.get("SOURCE_DATE_EPOCH")
    if not value:
        return None
    if not value.isdigit() or int(value) >= 1 << 33:
        raise _wrong("SOURCE_DATE_EPOCH=%s" % value, "it is a number of seconds since 1970")
    return int(value)


def _replace(target, manifest):
    draft = "%s.%d.tmp" % (target, os.getpid())
    try:
        with open(draft, "xb", 0) as out:
            write_pieces(out.fileno(), parts(manifest, 1))
        os.rename(draft, target)
    except OSError as error:
        if os.path.lexists(draft):
            os.unlink(draft)
        raise SandboxError("rootfs", "--manifest %s" % target, error.errno)


class Terminated:
    """Turns SIGTERM and SIGHUP into an error, so that the unfinished tree is removed."""

    def __enter__(self):
        self.before = [(number, signal.signal(number, self._raise))
                       for number in (signal.SIGTERM, signal.SIGHUP)
                       if signal.getsignal(number) is signal.SIG_DFL]
        return self

    def _raise(self, number, frame):
        for again in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):  # the tree is being removed
            signal.signal(again, signal.SIG_IGN)
        raise SandboxError("rootfs", "interrupted", reason="nothing was made", status=128 + number)

    def __exit__(self, *error):
        for number, handler in self.before:
            signal.signal(number, handler)


class Progress:
    """Counts on one line of a terminal's stderr, four times a second."""

    def __init__(self, quiet):
        self.shown, self.next = False, 0.0
        self.on = not quiet and os.isatty(2) and os.environ.get("TERM") not in (None, "", "dumb")

    def tick(self, files, size):
        """Updates the line after each entry. files: entries; size: bytes."""
        if not self.on:
            return
        now = time.monotonic()
        if now < self.next:
            return
        self.next = now + 0.25
        self.shown = True
        self._write("\rmrunc: %d entries, %d MiB " % (files, size >> 20))

    def end(self):
        """Clears the line."""
        if self.shown:
            self._write("\r%s\r" % (" " * 50))

    def _write(self, words):
        try:
            write(2, words)
        except OSError:
            self.on = False


def check(directory, values):
    """Runs `rootfs check`. Returns the exit status."""
    findings, entries = rootfs_check.check(os.fsencode(directory))
    if values.get("json"):
        rows = [{"kind": kind, "path": show(path), "detail": detail}
                for kind, path, detail in findings]
        write(1, json.dumps({"schema": 1, "entries": entries, "findings": rows}, indent=1) + "\n")
    else:
        write_pieces(1, ("%-15s %s%s\n" % (kind, escaped(path or b"."),
                                           "  (%s)" % escaped(detail) if detail else "")
                         for kind, path, detail in findings))
        if not values.get("quiet"):
            say("%s: %d entries, %d findings" % (directory, entries, len(findings)))
    return 1 if findings else 0
