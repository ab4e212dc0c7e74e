# SPDX-License-Identifier: Apache-2.0
"""A file that mrunc writes for the caller after a hostile program has run."""
import os
from json import dumps  # before anything runs: half a json would only show at the end

from ..sandbox.errors import SandboxError, usage
from .output import write_bytes


class OutputFile:
    """The JSON file of an option.  A new file takes the place of an old one at the end, so that no link and no file that the
    program prepared is written through; where it can't be made is known before anything runs."""

    def __init__(self, option, path, writable_sources):
        """option: as typed; path: text, "-" for stderr; writable_sources: host directories that the program can write.

        Raises SandboxError, exit 2.
        """
        self.option, self.path, self.fd, self.draft = option, path, -1, None
        if path == "-":
            self.fd = 2
            return
        raw = os.fsencode(path)
        try:
            kind = os.lstat(raw).st_mode & 0o170000 if os.path.lexists(raw) else 0o100000
            folder = os.path.realpath(os.path.dirname(raw) or b".")
            for source in writable_sources:
                if (folder + b"/").startswith(os.path.realpath(source) + b"/"):
                    raise usage("%s %s" % (option, path), "lies in a directory that the program can write")
            if kind == 0o120000:
                raise usage("%s %s" % (option, path), "is a symlink", "name the file itself")
            if kind == 0o100000:
                draft = b"%s.%d.tmp" % (raw, os.getpid())
                self.fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
                self.draft = draft
            else:
                self.fd = os.open(raw, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise usage("%s %s" % (option, path), error.strerror)

    def discard(self):
        """Nothing to say after all."""
        if self.draft is not None:
            try:
                os.unlink(self.draft)
            except OSError:
                pass
            self.draft = None

    def publish(self):
        """Shows it under its name before the end: for what is written while the program runs.  Raises OSError."""
        if self.draft is not None:
            os.rename(self.draft, os.fsencode(self.path))
            self.draft = None

    def write(self, content):
        """Writes an object as JSON; as write_text."""
        return self.write_text(dumps(content, indent=2) + "\n")

    def write_text(self, text):
        """Writes it all; returns a SandboxError where that failed, and leaves no draft."""
        try:
            write_bytes(self.fd, text.encode("utf-8", "backslashreplace"))
            self.publish()
        except OSError as error:
            self.discard()
            return SandboxError(self.option.lstrip("-"), self.path, error.errno)
        return None
