# SPDX-License-Identifier: Apache-2.0
"""The sandbox's own terminal: between the caller's descriptors and the master of a private pty.

The workload never holds the caller's terminal, so nothing it does to its own (TIOCSTI, modes, size,
signals) reaches the caller's.  The caller's goes raw only where it is 0 and we are in its foreground.
Where 0 is no terminal (--tty), input is copied and its end becomes an end-of-file character on the pty.
"""
import fcntl
import os
import struct
import termios
import time

from ..proc import read
from .carry import Carrier, Flow, become_null
from ..errors import SandboxError, stage
from ..part import Part
from .stdio import TIOCGDEV
from .writer import Writer

TIOCGWINSZ, TIOCSWINSZ, TIOCGSID = 0x5413, 0x5414, 0x5429
#: A file that has ended stays ended; a terminal must be told again for each program that reads.
END_AGAIN_SECONDS = 0.2
#: No event tells a job that it has come to the foreground.
LOOK_AGAIN = 0.25
VEOF = b"\x04"
#: So many Ctrl-C within so many seconds end the sandbox, whatever the program makes of them.
INSISTENCE, INSISTENCE_SECONDS = 3, 2.0
SIGINT, SIGTSTP = 2, 20


class TerminalPart(Part):
    """The private terminal of a run.  master: fd, once it was handed over; proxy: Terminal."""

    def __init__(self):
        self.master, self.proxy = None, None

    def packet(self, run, packet, fd):
        """Takes the master."""
        if fd is None or packet[:1] != b"T":
            return False
        self.master = run.held.keep(fd)
        return True

    def ready(self, run):
        """Makes the proxy while init waits: a program that asks at once gets an answer."""
        if self.master is None:
            raise SandboxError("descriptors", "the child did not hand over its terminal")
        with stage("descriptors", "Terminal"):
            self.proxy = Terminal(self.master, run.places, run.host_pid)
        if run.own is not None:
            run.own.terminal = self.master

    def watch(self, run, supervision):
        """Begins to carry."""
        supervision.carriers.append(self.proxy.start())

    def served(self, supervision):
        """Heeds three Ctrl-C in a row, and Ctrl-Z, which stops nothing inside."""
        if supervision.over:
            return
        proxy, outcome = self.proxy, supervision.outcome
        if proxy.insisted and not outcome.insisted:
            outcome.insisted = SIGINT
            supervision.stop()
        if proxy.suspends:
            proxy.suspends = False
            if SIGTSTP not in supervision.run.ignored:
                supervision.suspend(True)


class Terminal(Carrier):
    """The proxy of one run.

    insisted: the third Ctrl-C in a row was typed
    suspends: a suspend character was typed that the program's own session has no answer to
    """

    def __init__(self, master, places, host=None):
        """Gives the pty the size and modes of the caller's.  master: fd; places: stdio.Stdio; host: pid of the process
        that the caller's descriptors belong to, None: this one.  Raises OSError."""
        self.master, self.host, self.saved = master, host, None
        self.insisted = self.suspends = False
        given, kinds = places.given, places.kinds
        self.given, self.budget = given, places.budget
        self.terminals = [fd for fd, kind in zip(given, kinds) if kind == "terminal" and
                          os.isatty(fd)]
        self.types = kinds[0] == "terminal"
        self.is_console = self.types and os.isatty(given[0])
        shows = [fd for fd in (given[1], given[2], given[0]) if fd in self.terminals]
        self.shown = given[1] if kinds == ["terminal"] * 3 else shows[0]
        self.full = self.is_console and self.shown in self.terminals and kinds[1] == "terminal"
        self.keys = self.screen = self.output = None
        self.resize()
        self._adopt_modes()

    def _adopt_modes(self):
        """What the caller's terminal does to what is shown or typed, the private one must not do once more."""
        if not self.terminals:
            return
        try:
            if self.is_console and self.takes_keys:
                mode = termios.tcgetattr(self.given[0])
            else:
                mode = termios.tcgetattr(self.master)
            if self.shown in self.terminals and not (self.full and self.goes_raw):
                mode[1] &= ~termios.OPOST
            if self.is_console and not self.goes_raw:
                mode[3] &= ~termios.ECHO
            termios.tcsetattr(self.master, termios.TCSANOW, mode)
        except termios.error as error:
            raise OSError(*error.args)

    @property
    def goes_raw(self):
        """Whether keys go through untouched: a host of the library keeps its own Ctrl-C."""
        return self.is_console and self.host is None

    @property
    def takes_keys(self):
        """Whether the caller's terminal may be read: a job in the background leaves it to the foreground."""
        try:
            if self.host is None:
                return os.tcgetpgrp(self.given[0]) == os.getpgrp()
            fields = read("/proc/%d/stat" % self.host).rpartition(b") ")[2].split()
            device = int.from_bytes(fcntl.ioctl(self.given[0], TIOCGDEV, b"\0\0\0\0"), "little")
            # Tty_nr, pgrp, tpgid.  proc_pid_stat(5).
            return int(fields[4]) != device or fields[2] == fields[5]
        except OSError:  # not our controlling terminal: nobody's job control is in the way
            return True

    def start(self):
        """Begins to carry; returns itself."""
        os.set_blocking(self.master, False)
        self.output = Writer(self.shown)
        self.screen = Screen(self.master, self.output.fd, self.output.write, self.budget, most=4096)
        self.flows = self.outward = (self.screen,)
        if self.types:
            # A line discipline takes at most 4095 bytes of a line; small writes let it refuse
            # instead of dropping.
            self.keys = Keys(self, self.given[0])
            self.flows = (self.keys, self.screen)
            self.take()
        return self

    def take(self):
        """Makes the caller's terminal raw: Ctrl-C and Ctrl-Z are for our own line discipline.

        Also where it was raw: after a SIGSTOP, which nobody sees, a shell has set its own modes."""
        if self.is_console and self.keys is not None:
            self.keys.waits = not self.takes_keys
            if self.keys.waits:
                return
        if self.output is not None:
            self.output.take()
        if not self.goes_raw:
            return
        try:
            self.saved = self.saved or termios.tcgetattr(self.given[0])
            mode = termios.tcgetattr(self.given[0])
            mode[0] &= ~(termios.BRKINT | termios.ICRNL | termios.INPCK | termios.ISTRIP |
                         termios.IXON)
            if self.full:  # else others write to it as well
                mode[1] &= ~termios.OPOST
            mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
            mode[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
            mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
            termios.tcsetattr(self.given[0], termios.TCSANOW, mode)
        except termios.error:
            self.saved = None
        self.resize()

    def give_back(self):
        """Gives the caller's terminal its flag and modes back.  Never raises."""
        if self.output is not None:
            self.output.give_back()
        if self.saved is not None:
            try:
                termios.tcsetattr(self.given[0], termios.TCSADRAIN, self.saved)
            except (OSError, termios.error):
                pass
            self.saved = None

    def resize(self):
        """Takes on the caller's size; the kernel signals the foreground group."""
        for fd in self.terminals:
            try:
                size = fcntl.ioctl(fd, TIOCGWINSZ, b"\0" * 8)
                if struct.unpack("4H", size)[0]:
                    fcntl.ioctl(self.master, TIOCSWINSZ, size)
                    return
            except OSError:
                continue

    def typed(self, data):
        """Notices what is typed to end or to suspend the program."""
        self.suspends = self.suspends or self._suspends(data)

    def _suspends(self, data):
        """Whether a suspend character has no effect inside: the session's own first group is an orphaned one, which the
        kernel does not stop.  A shell with job control ignores the signal and stops its jobs itself."""
        try:
            mode = termios.tcgetattr(self.master)
            key = mode[6][termios.VSUSP]
            if not mode[3] & termios.ISIG or key == b"\0" or key not in data:
                return False
            leader = int.from_bytes(fcntl.ioctl(self.master, TIOCGSID, b"\0\0\0\0"), "little")
            if os.tcgetpgrp(self.master) != leader:
                return False
            status = read("/proc/%d/status" % leader)
            ignored = status.partition(b"\nSigIgn:")[2].split(None, 1)[0]
            return not int(ignored, 16) >> SIGTSTP - 1 & 1
        except (OSError, termios.error, IndexError):
            return False

    def serve(self, events, over):
        """As a Carrier does, and tells the end of the input again where that is due."""
        keys = self.keys
        if keys is not None and not over:
            if keys.end_again is not None and time.monotonic() >= keys.end_again:
                keys.repeat_end(self.screen.source_open)
            if keys.waits:
                self.take()
        Carrier.serve(self, events, over)

    def wait(self):
        """Seconds until something is due, or None."""
        if self.keys is None:
            return None
        if self.keys.waits:
            return LOOK_AGAIN
        return None if self.keys.end_again is None else max(0.0, self.keys.end_again - time.monotonic())

    def close(self):
        """Gives the caller's terminal back.  Never raises."""
        if self.output is not None:
            self.output.close()
            self.output = None
        self.give_back()


class Screen(Flow):
    """From the pty to the caller."""

    def lost(self):
        """Nobody looks any more: the kernel tells the session by SIGHUP when the master is closed."""
        Flow.lost(self)
        become_null(self.source)


class Keys(Flow):
    """From the caller to the pty.

    end_again: when an end of the input is to be told again, or None
    waits: the caller's terminal is in another job's hands
    """

    end_again, ended_line, waits = None, True, False

    def __init__(self, terminal, source):
        Flow.__init__(self, source, terminal.master, most=512)
        self.terminal, self.interrupts = terminal, []

    @property
    def room(self):
        """As of Flow."""
        return not self.waits and super().room

    def pull(self):
        """Reads once, and remembers whether that ended a line."""
        terminal = self.terminal
        if terminal.is_console and not terminal.takes_keys:
            self.waits = True
            return
        before = len(self.data)
        Flow.pull(self)
        if len(self.data) > before and self.source_open:
            self.ended_line = self.data.endswith(b"\n")
            if terminal.saved is not None:
                self.look(bytes(self.data[before:]))

    def look(self, data):
        """Counts what is typed on the caller's terminal."""
        now = time.monotonic()
        count = data.count(self.terminal.saved[6][termios.VINTR])
        recent = [at for at in self.interrupts if now - at < INSISTENCE_SECONDS]
        self.interrupts = recent + [now] * count
        self.terminal.insisted = self.terminal.insisted or len(self.interrupts) >= INSISTENCE
        self.terminal.typed(data)

    def ended(self):
        """VEOF ends the input only at the start of a line; elsewhere the first one hands over what was typed."""
        Flow.ended(self)
        self.data += VEOF if self.ended_line else VEOF + VEOF
        self.end_again = time.monotonic() + END_AGAIN_SECONDS

    def repeat_end(self, alive):
        """Once more, for the next program that reads.  alive: the pty still has users."""
        self.end_again = time.monotonic() + END_AGAIN_SECONDS
        if not alive or not self.sink_open:
            self.end_again = None
        elif not self.data and termios.tcgetattr(self.sink)[3] & termios.ICANON:
            self.data += VEOF
