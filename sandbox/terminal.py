# SPDX-License-Identifier: Apache-2.0
"""The terminal proxy of --tty: between the caller's 0 and 1 and the master of the sandbox's own pty.

The workload never holds the caller's terminal, so nothing it does to its own (TIOCSTI, modes, signals) reaches the
caller's.  Where 0 is no terminal, input is copied and its end becomes an end-of-file character on the pty.
"""
import fcntl
import os
import struct
import termios
import time

from .carry import Carrier, Flow, become_null
from .writer import Writer

TIOCGWINSZ, TIOCSWINSZ = 0x5413, 0x5414
#: A file that has ended stays ended; a terminal must be told again for each program that reads.
END_AGAIN_SECONDS = 0.2
VEOF = b"\x04"


def fit(master):
    """Gives the pty the size of the caller's terminal, if one of 0, 1, 2 is one."""
    for fd in (0, 1, 2):
        try:
            size = fcntl.ioctl(fd, TIOCGWINSZ, b"\0" * 8)
        except OSError:
            continue
        if struct.unpack("4H", size)[0]:
            try:
                fcntl.ioctl(master, TIOCSWINSZ, size)
            except OSError:
                pass
            return


class Terminal(Carrier):
    """master: fd of the pty; budget: carry.Budget of the output, or None."""

    def __init__(self, master, budget):
        self.master, self.saved = master, None
        self.output = Writer(1)
        os.set_blocking(master, False)
        if os.isatty(0) and _in_foreground():
            self.saved = termios.tcgetattr(0)
            self._raw()
        self.resize()
        self.screen = Screen(master, self.output.fd, self.output.write, budget, most=4096)
        # A line discipline takes at most 4095 bytes of a line; small writes let it refuse instead of dropping.
        self.keys = Keys(0, master, most=512)
        self.flows, self.outward = (self.keys, self.screen), (self.screen,)

    def _raw(self):
        """Keys go through untouched: Ctrl-C and Ctrl-Z are for the sandbox's own line discipline."""
        mode = termios.tcgetattr(0)
        mode[0] &= ~(termios.BRKINT | termios.ICRNL | termios.INPCK | termios.ISTRIP | termios.IXON)
        mode[1] &= ~termios.OPOST
        mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        mode[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(0, termios.TCSANOW, mode)

    def resize(self):
        """Takes on a new size; the kernel signals the foreground group."""
        fit(self.master)

    def serve(self, events, over):
        """As a Carrier does, and tells the end of the input again where that is due."""
        keys = self.keys
        if keys.end_again is not None and time.monotonic() >= keys.end_again and not over:
            keys.repeat_end(self.screen.source_open)
        Carrier.serve(self, events, over)

    def wait(self):
        """Seconds until something is due, or None."""
        return None if self.keys.end_again is None else max(0.0, self.keys.end_again - time.monotonic())

    def close(self):
        """Gives the caller's terminal its modes back.  Never raises."""
        self.output.close()
        if self.saved is not None:
            try:
                termios.tcsetattr(0, termios.TCSADRAIN, self.saved)
            except (OSError, termios.error):
                pass


class Screen(Flow):
    """From the pty to the caller."""

    def lost(self):
        """Nobody looks any more: the kernel tells the session by SIGHUP when the master is closed."""
        Flow.lost(self)
        become_null(self.source)


class Keys(Flow):
    """From the caller to the pty.  end_again: when an end of the input is to be told again, or None."""

    end_again, ended_line = None, True

    def pull(self):
        """Reads once, and remembers whether that ended a line."""
        before = len(self.data)
        Flow.pull(self)
        if len(self.data) > before and self.source_open:
            self.ended_line = self.data.endswith(b"\n")

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


def _in_foreground():
    """A background job must not change the modes of the shell that started it."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:  # not our controlling terminal: nobody's job control is in the way
        return True
