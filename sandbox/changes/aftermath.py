# SPDX-License-Identifier: Apache-2.0
"""--changes and --export as a part of a run: read at the gate, compared after the end."""
import os

from ...syscalls import libc, mount
from ..errors import SandboxError
from ..part import Part
from ..tree.operations import Overlay
from . import compare

NO_LINKS = mount.RESOLVE_IN_ROOT | mount.RESOLVE_NO_MAGICLINKS | mount.RESOLVE_NO_SYMLINKS
ENDING = (1, 2, 3, 15)  # HUP INT QUIT TERM


class Aftermath(Part):
    """What a run changes.

    uppers: {place: fd} of the upper layers that the child has handed over.
    held: compare.Changes, from the gate on.
    exporter: what --export writes to, or None.
    """

    tells = True

    def __init__(self):
        self.exporter, self.held, self.handlers, self.uppers = None, None, [], {}

    def prepare(self, run):
        """Opens the destination of --export.  Raises SandboxError (2)."""
        plan = run.plan
        run.held.add(self.discard)
        if plan.spec.export is not None:
            from . import export, shown  # hashlib and more, for --export alone
            writable = shown.writable(plan)
            self.exporter = export.destination(plan.spec.export, writable, plan.spec.follow_links)

    def packet(self, run, packet, fd):
        """Takes over an upper layer from the child."""
        if fd is None or packet[:1] != b"O":
            return False
        self.uppers[packet[1:]] = fd
        return True

    def before_program(self, run):
        """Opens every writable place and reads what is there.  Raises SandboxError."""
        plan = run.plan
        places = []
        self.held = compare.Changes(places)
        try:
            root = os.open("/proc/%d/root" % run.pid, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                for op in plan.operations:
                    if not op.writable:
                        continue
                    below = [other for other in plan.mounts if other.startswith(op.dst + b"/")]
                    lower = None
                    if isinstance(op, Overlay):
                        from .overlay import Lower  # for overlays alone
                        lower = Lower(op)
                    fd = self.uppers.pop(op.dst) if lower else mount.open_in_root(
                        root, op.dst, os.O_RDONLY | os.O_DIRECTORY, resolve=NO_LINKS)
                    places.append(compare.Place(op.dst, fd, below, lower))
            finally:
                os.close(root)
            self.held.remember()
        except OSError as error:
            raise SandboxError("changes", "reading what is there before the program starts",
                               error.errno)

    def over(self, run):
        """Lets signals end the reading, but not this process.

        The reading may take long if the program wrote much.  The result is told all the same.
        """
        run.held.drop(self.discard)
        signals = libc.signals
        for number in ENDING:
            if signals.getsignal(number) != signals.SIG_IGN:
                self.handlers.append((number, signals.signal(number, self._interrupted)))

    def _interrupted(self, number, frame):
        if self.held is not None:
            self.held.interrupted = True

    def finish(self, run, result, outcome):
        """Adds what the program changed: its last process is dead."""
        if outcome.exec_errno is not None:
            self.discard()
            return
        try:
            result.changes = self.held.compare(self.exporter)
            result.changes_omitted = self.held.omitted
            result.notes += self.held.notes
            if self.exporter is not None:
                result.notes += self.exporter.finish()
        except SandboxError as error:
            result.notes.append(error.line())
        except Exception as error:  # something has run, and its result must not be lost
            result.notes.append("what the program changed could not be read: %r" % error)
        finally:
            self._deafen()
            self.held.close()

    def _deafen(self):
        while self.handlers:
            libc.signals.signal(*self.handlers.pop())

    def discard(self):
        """Closes everything if nothing ran."""
        self._deafen()
        try:
            while self.uppers:
                os.close(self.uppers.popitem()[1])
            if self.held is not None:
                self.held.close()
            if self.exporter is not None:
                self.exporter.discard()
        except OSError:
            pass
