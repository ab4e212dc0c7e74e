# SPDX-License-Identifier: Apache-2.0
"""Connects the caller's terminal with the master of a private pty, the sandbox's terminal.

The program never holds the caller's terminal, so nothing that it does to its own (TIOCSTI, modes,
size, signals) reaches the caller's. The caller's is made raw only if it is descriptor 0 and this
process is in its foreground. If 0 is no terminal (--tty), input is copied, and its end becomes an
end-of-file character on the pty.
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
#: A file that has ended stays ended.  On a terminal each program that reads must be told again.
END_AGAIN_SECONDS = 0.2
#: Seconds between two looks: no event tells a job that it has come to the foreground.
LOOK_AGAIN = 0.25
VEOF = b"\x04"
#: So many Ctrl-C within so many seconds end the sandbox, also if the program ignores them.
INSISTENCE, INSISTENCE_SECONDS = 3, 2.0
SIGINT, SIGTSTP = 2, 20


class TerminalPart(Part):
    """The private terminal of a run.

    master: its descriptor, once the child has sent it.
    proxy: Terminal.
    """

    def __init__(self):
        self.master, self.proxy = None, None

    def packet(self, run, packet, fd):
        """Takes the master from the child's packet."""
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
        if run.expected is not None:
            run.expected.terminal = self.master

    def watch(self, run, supervision):
        """Begins to carry."""
        supervision.carriers.append(self.proxy.start())

    def served(self, supervision):
        """Handles three Ctrl-C in a row, and a Ctrl-Z that stops nothing inside."""
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
    """Carries between the caller's terminal and the pty of one run.

    insisted: whether the third Ctrl-C in a row was typed.
    suspends: whether a suspend character was typed that has no effect inside.
    """

    def __init__(self, master, places, host=None):
        """Gives the pty the size and modes of the caller's terminal.  Raises OSError.

        master: descriptor of the pty.
        places: stdio.Stdio.
        host: pid of the process that owns the caller's descriptors; None: this one.
        """
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
        """Turns off on the pty what the caller's terminal does already, such as echo."""
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
        """Returns whether keys pass through untouched: a host of the library keeps its own Ctrl-C.
        """
        return self.is_console and self.host is None

    @property
    def takes_keys(self):
        """Returns whether the caller's terminal may be read: a background job must not."""
        try:
            if self.host is None:
                return os.tcgetpgrp(self.given[0]) == os.getpgrp()
            fields = read("/proc/%d/stat" % self.host).rpartition(b") ")[2].split()
            device = int.from_bytes(fcntl.ioctl(self.given[0], TIOCGDEV, b"\0\0\0\0"), "little")
            # tty_nr, pgrp, tpgid.  proc_pid_stat(5)
            return int(fields[4]) != device or fields[2] == fields[5]
        except OSError:  # not our controlling terminal, so no job control
            return True

    def start(self):
        """Begins to carry.  Returns itself."""
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
        """Makes the caller's terminal raw: Ctrl-C and Ctrl-Z are for the pty.

        Also if it was raw before: after a SIGSTOP, which no process sees, a shell has set its own
        modes.
        """
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
        """Restores the flags and modes of the caller's terminal.  Never raises."""
        if self.output is not None:
            self.output.give_back()
        if self.saved is not None:
            try:
                termios.tcsetattr(self.given[0], termios.TCSADRAIN, self.saved)
            except (OSError, termios.error):
                pass
            self.saved = None

    def resize(self):
        """Gives the pty the caller's size; the kernel then signals the foreground group."""
        for fd in self.terminals:
            try:
                size = fcntl.ioctl(fd, TIOCGWINSZ, b"\0" * 8)
                if struct.unpack("4H", size)[0]:
                    fcntl.ioctl(self.master, TIOCSWINSZ, size)
                    return
            except OSError:
                continue

    def typed(self, data):
        """Notes whether what was typed suspends the program."""
        self.suspends = self.suspends or self._suspends(data)

    def _suspends(self, data):
        """Returns whether a suspend character was typed that has no effect inside.

        The session's first process group is an orphaned one, which the kernel does not stop. A
        shell with job control ignores the signal and stops its jobs itself.
        """
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
        """Serves as Carrier, and repeats the end of the input when that is due."""
        keys = self.keys
        if keys is not None and not over:
            if keys.end_again is not None and time.monotonic() >= keys.end_again:
                keys.repeat_end(self.screen.source_open)
            if keys.waits:
                self.take()
        Carrier.serve(self, events, over)

    def wait(self):
        """Returns the seconds until something is due, or None."""
        keys = self.keys
        if keys is not None and keys.waits:
            return LOOK_AGAIN
        if keys is None or keys.end_again is None:
            return None
        return max(0.0, keys.end_again - time.monotonic())

    def close(self):
        """Restores the caller's terminal.  Never raises."""
        if self.output is not None:
            if self.screen.error and self.shown not in self.terminals:  # one that hung up is gone
                self.errors = [(1 if self.shown == self.given[1] else 2, self.screen.error)]
            self.output.close()
            self.output = None
        self.give_back()


class Screen(Flow):
    """Carries from the pty to the caller."""

    def lost(self):
        """Closes the master, so that the kernel sends the session SIGHUP."""
        Flow.lost(self)
        become_null(self.source)


class Keys(Flow):
    """Carries from the caller to the pty.

    end_again: monotonic time at which to repeat the end of the input, or None.
    ended_line: whether the last byte ended a line.
    waits: whether another job has the caller's terminal.
    """

    end_again, ended_line, waits = None, True, False

    def __init__(self, terminal, source):
        Flow.__init__(self, source, terminal.master, most=512)
        self.terminal, self.interrupts = terminal, []

    @property
    def room(self):
        """Returns whether the source is to be read."""
        return not self.waits and super().room

    def pull(self):
        """Reads once, and notes whether that ended a line."""
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
        """Counts the Ctrl-C typed on the caller's terminal."""
        now = time.monotonic()
        count = data.count(self.terminal.saved[6][termios.VINTR])
        recent = [at for at in self.interrupts if now - at < INSISTENCE_SECONDS]
        self.interrupts = recent + [now] * count
        self.terminal.insisted = self.terminal.insisted or len(self.interrupts) >= INSISTENCE
        self.terminal.typed(data)

    def ended(self):
        """Writes VEOF, which ends the input only at the start of a line.

        Elsewhere the first one hands over what was typed, and the second ends the input.
        """
        Flow.ended(self)
        self.data += VEOF if self.ended_line else VEOF + VEOF
        self.end_again = time.monotonic() + END_AGAIN_SECONDS

    def repeat_end(self, alive):
        """Writes VEOF again, for the next program that reads.

        alive: whether the pty still has users.
        """
        self.end_again = time.monotonic() + END_AGAIN_SECONDS
        if not alive or not self.sink_open:
            self.end_again = None
        elif not self.data and termios.tcgetattr(self.sink)[3] & termios.ICANON:
            self.data += VEOF
