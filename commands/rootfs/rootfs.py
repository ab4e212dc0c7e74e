# SPDX-License-Identifier: Apache-2.0
"""`mrunc rootfs build|check`: root file systems for `run --rootfs`."""
import json
import os
import signal
import time

from ...sandbox import units
from ...sandbox.errors import SandboxError, show
from .. import actions, help
from ..options import Option
from ..output import escaped, say, write, write_bytes, write_pieces
from ..output_file import parts
from . import build as rootfs_build, check as rootfs_check

GROUP = "Options of rootfs"


class Source(Option):
    """An option that keeps its place among the sources."""

    __slots__ = ()

    def given(self, value):
        """(kind, value)"""
        return self.names[0][2:], value


OPTIONS = (
    Source("--from", "sources", "SOURCE", "build: a directory, a tar (plain, gzip, xz) or an OCI image layout; several are "
           "laid over one another in order", GROUP, True),
    Source("--from-host", "sources", "NAMES", "build: packages of this host with all that they depend on (python3,bash), or "
           "programs that belong to no package, with their libraries", GROUP, True),
    Option("--follow-links", "follow_links", None, "build: follow every symbolic link on the way to a source; without it only "
           "those that root alone can have made", GROUP),
    Option("--image", "image", "NAME", "build: which image of an OCI layout that holds several", GROUP),
    Option("--max-size", "max_size", "SIZE", "build: content of all files together (default 16G)", GROUP),
    Option("--max-files", "max_files", "COUNT", "build: entries of all sources together (default 500000)", GROUP),
    Option("--manifest", "manifest", "FILE", "build: write what is in the tree and what was dropped, as JSON", GROUP),
    Option("--json", "json", None, "JSON: the manifest, or the findings", GROUP),
    Option("-q --quiet", "quiet", None, "no messages but errors", GROUP),
    Option("-h --help", "help", None, "this text", GROUP),
)
ACTIONS = (("build DEST --from SOURCE...", "make a root file system; set-id bits, capabilities and devices are dropped, an "
            "archive that leads out is refused (exit status 1)"),
           ("check DIR", "look for what should not be in one; exit status 1 if there is something"))
_TAKES = {"build": "sources follow_links image max_size max_files manifest json quiet", "check": "json quiet"}
#: So many dropped things are named on stderr; the manifest has all.
MOST_NAMED = 100


def help_text():
    """The help of rootfs."""
    return help.text("rootfs ACTION [options]", ((GROUP, OPTIONS),), actions=ACTIONS)


def main(argv):
    """argv: list of str after the verb.  Returns the exit status."""
    action, words, values = actions.read("rootfs", argv, OPTIONS, _TAKES, _place)
    if action is None:
        write(1, help_text())
        return 0 if values.get("help") else 2
    if not words:
        raise _wrong("%s needs a %s" % (action, "name for the new directory" if action == "build" else "directory"))
    if len(words) > 1:
        raise _wrong("%s takes one directory, not %s too" % (action, words[1]))
    return {"build": build, "check": check}[action](words[0], values)


def _place(values, words, word):
    """`build DEST --from A B` names two sources."""
    if len(words) >= 2 and values.get("sources"):
        values["sources"].append(("from", word))
    else:
        words.append(word)


def _wrong(what, reason=None, remedy=None):
    return actions.wrong("rootfs", what, reason, remedy)


def build(destination, values):
    """rootfs build"""
    sources = [(kind, _names(value) if kind == "from-host" else value) for kind, value in values.get("sources", ())]
    if not sources:
        raise _wrong("build needs a source", remedy="--from DIRECTORY|TAR|OCI-LAYOUT, or --from-host python3,bash")
    limits = (units.size(values["max_size"], "max_size") if "max_size" in values else rootfs_build.MOST_BYTES,
              _count(values["max_files"]) if "max_files" in values else rootfs_build.MOST_FILES)
    target = values.get("manifest")
    if target is not None and os.path.lexists(target) and not os.path.isfile(target):
        raise _wrong("--manifest %s" % target, "is no file")
    progress = Progress(values.get("quiet"))
    with Terminated():
        try:
            manifest = rootfs_build.build(os.fsencode(destination), sources, limits, _epoch(), values.get("image"),
                                          progress.tick, "follow_links" in values)
        finally:
            progress.end()
    if not values.get("quiet"):
        for row in manifest["dropped"][:MOST_NAMED]:
            say("dropped: %s: %s" % (row["path"], row["what"]))
        if len(manifest["dropped"]) > MOST_NAMED:
            say("dropped: %d more; --manifest FILE names all" % (len(manifest["dropped"]) - MOST_NAMED))
    if target is not None:
        _replace(target, manifest)
    if values.get("json"):
        write_pieces(1, parts(manifest, 1))
    elif not values.get("quiet"):
        say("%s: %d entries, %d bytes, %d dropped" % (destination, len(manifest["entries"]), manifest["bytes"],
                                                      len(manifest["dropped"])))
    return 0


def _names(value):
    names = [name for name in value.split(",") if name]
    if not names:
        raise _wrong("--from-host", "names no package")
    return names


def _count(value):
    if not value.isdigit() or not 0 < int(value) < 1 << 32:
        raise _wrong("--max-files %s" % value, "a whole number, more than 0")
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
    """SIGTERM and SIGHUP as an error, so that the half-made tree is removed."""

    def __enter__(self):
        self.before = [(number, signal.signal(number, self._raise)) for number in (signal.SIGTERM, signal.SIGHUP)
                       if signal.getsignal(number) is signal.SIG_DFL]
        return self

    def _raise(self, number, frame):
        for again in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):  # the clean-up is on its way
            signal.signal(again, signal.SIG_IGN)
        raise SandboxError("rootfs", "interrupted", reason="nothing was made", status=128 + number)

    def __exit__(self, *error):
        for number, handler in self.before:
            signal.signal(number, handler)


class Progress:
    """One line on a terminal's stderr that counts, a few times a second."""

    def __init__(self, quiet):
        self.shown, self.next = False, 0.0
        self.on = not quiet and os.isatty(2) and os.environ.get("TERM") not in (None, "", "dumb")

    def tick(self, files, size):
        """After each entry."""
        if not self.on:
            return
        now = time.monotonic()
        if now < self.next:
            return
        self.next = now + 0.25
        self.shown = True
        self._write("\rmrunc: %d entries, %d MiB " % (files, size >> 20))

    def end(self):
        """Takes the line away."""
        if self.shown:
            self._write("\r%s\r" % (" " * 50))

    def _write(self, words):
        try:
            write(2, words)
        except OSError:
            self.on = False


def check(directory, values):
    """rootfs check"""
    findings, entries = rootfs_check.check(os.fsencode(directory))
    if values.get("json"):
        write(1, _json({"schema": 1, "entries": entries, "findings": [
            {"kind": kind, "path": show(path), "detail": detail}
            for kind, path, detail in findings]}))
    else:
        data = "".join("%-15s %s%s\n" % (kind, escaped(path or b"."), "  (%s)" % escaped(detail) if detail else "")
                       for kind, path, detail in findings)
        write_bytes(1, data.encode("utf-8", "backslashreplace"))
        if not values.get("quiet"):
            say("%s: %d entries, %d findings" % (directory, entries, len(findings)))
    return 1 if findings else 0


def _json(value):
    return json.dumps(value, indent=1) + "\n"
