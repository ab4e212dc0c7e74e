# SPDX-License-Identifier: Apache-2.0
"""The file of --ledger: JSON lines that can be followed while the program runs."""
from ..sandbox.errors import SandboxError
from ..sandbox.ledger_stream import Stream
from .output_file import OutputFile


class LedgerFile(OutputFile):
    """It shows under its name when the program is let go; an older file of that name is replaced, never written through."""

    def __init__(self, path, writable_sources):
        """As OutputFile."""
        OutputFile.__init__(self, "--ledger", path, writable_sources)
        self.stream = Stream(self.fd, self.publish)

    def wrong(self):
        """The SandboxError where it could not be written, or None."""
        self.stream.begin()  # it is empty where there was no listener
        error = self.stream.error
        return None if error is None else SandboxError("ledger", self.path, error.errno)
