# SPDX-License-Identifier: Apache-2.0
"""Writes the file of --ledger: JSON lines that can be read while the program runs."""
import os
import shlex
import tempfile

from ..sandbox.changes import shown
from ..sandbox.changes.drafts import Target
from ..sandbox.errors import SandboxError
from ..sandbox.observe.ledger_stream import Stream
from .output_file import OutputFile


class LedgerFile(OutputFile):
    """Is the file of --ledger, which gets its name when the program starts.

    An older file of that name is replaced, never written through. The program must not read what is
    recorded about it, so the file can't lie in a directory that is shown.
    """

    REFUSED = "the program could read it: it lies in a directory that is shown (%s)"

    def __init__(self, path, plan):
        """Opens the file and its stream. path, errors: as of OutputFile; plan: the Plan of the run.
        """
        places, follow_links = shown.directories(plan), plan.spec.follow_links
        OutputFile.__init__(self, "--ledger", path, places, follow_links)
        self.stream = Stream(self.fd if self.draft is None else self.draft.begin(), self.publish)

    def elsewhere(self, target, places):
        """Returns an option for the first writable directory that isn't shown, or None."""
        name = os.fsdecode(target.name)
        for folder in (tempfile.gettempdir(), os.path.expanduser("~"),
                       os.path.dirname(os.getcwd())):
            try:
                other = Target(os.fsencode(os.path.join(folder, name)))
            except OSError:
                continue
            try:
                if shown.holder(other.fd,
                                places) is None and os.access(folder, os.W_OK |
                                                              os.X_OK) and other.mode() is None:
                    return "--ledger %s" % shlex.quote(os.path.join(folder, name))
            finally:
                other.close()
        return None

    def wrong(self):
        """Returns the SandboxError if it could not be written, or None."""
        self.stream.begin()  # without a listener nothing has begun it: it stays empty
        error = self.stream.error
        return None if error is None else SandboxError("ledger", self.path, error.errno)
