# SPDX-License-Identifier: Apache-2.0
"""--changes and --export of a run: prepared before the child, remembered at the gate, told last."""
import os

from . import compare
from ..errors import SandboxError
from ..part import Part
from ..tree.operations import Overlay
from ...syscalls import libc, mount

NO_LINKS = mount.RESOLVE_IN_ROOT | mount.RESOLVE_NO_MAGICLINKS | mount.RESOLVE_NO_SYMLINKS

ENDING = (1, 2, 3, 15)  # HUP INT QUIT TERM


def writable_places(plan):
    """[Operation] of the plan's mounts that can be written and are not the host's."""
    return [op for op in plan.operations if op.writable]


class Aftermath(Part):
    """What a run changes.

    uppers: {place: fd} of the upper layers that the child has handed over.
    held: changes.Changes, from the gate on.
    exporter: what --export writes to, or None.
    """

    tells = True

    def __init__(self):
        self.exporter, self.held, self.handlers, self.uppers = None, None, [], {}

    def prepare(self, run):
        """Opens the destination.  Raises SandboxError, exit 2."""
        plan = run.plan
        run.held.add(self.discard)
        if plan.spec.export is not None:
            from . import export, shown
            self.exporter = export.destination(plan.spec.export, shown.writable(plan),
                                                 plan.spec.follow_links)

    def packet(self, run, packet, fd):
        """Takes over an upper layer."""
        if fd is None or packet[:1] != b"O":
            return False
        self.uppers[packet[1:]] = fd
        return True

    def before_program(self, run):
        """Takes hold of every writable place and reads what is there.  Raises SandboxError."""
        plan = run.plan
        places = []
        self.held = compare.Changes(places)
        try:
            root = os.open("/proc/%d/root" % run.pid, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                for op in writable_places(plan):
                    below = [other for other in plan.mounts if other.startswith(op.dst + b"/")]
                    lower = None
                    if isinstance(op, Overlay):
                        from .overlay import Lower
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
        """From here on a signal that would end us ends the reading, and the result is still told.

        The reading may take long where the program wrote much.
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
        """Tells what the program changed: the last process is dead.  Never raises."""
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
            self.held.close()
            self._deafen()

    def _deafen(self):
        while self.handlers:
            libc.signals.signal(*self.handlers.pop())

    def discard(self):
        """Forgets everything where nothing ran.  Never raises."""
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
