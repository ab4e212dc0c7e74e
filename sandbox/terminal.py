# SPDX-License-Identifier: Apache-2.0
"""The terminal proxy of --tty: between the caller's 0 and 1 and the master of the sandbox's own pty.

The workload never holds the caller's terminal, so nothing it does to its own (TIOCSTI, modes, signals) reaches the
caller's.  Where 0 is no terminal, input is copied and its end becomes an end-of-file character on the pty.
"""
import fcntl
import os
import select
import struct
import termios
import time

from .writer import Writer

TIOCGWINSZ, TIOCSWINSZ = 0x5413, 0x5414
CHUNK = 65536
#: So much may wait for a reader before the other side is not read any more.
BACKLOG = 1 << 18
#: After the workload's end its last output may still be in the pty; a caller that takes nothing of it must not hold us.
DRAIN_SECONDS = 2.0
#: A file that has ended stays ended; a terminal must be told again for each program that reads.
END_AGAIN_SECONDS = 0.2


class Terminal:
    """master: fd of the pty; poll: the supervisor's poll object."""

    def __init__(self, master, poll):
        self.master, self.poll = master, poll
        self.to_pty, self.to_caller = bytearray(), bytearray()
        self.input_open, self.output_open, self.master_open = True, True, True
        self.ended_line = True
        self.end_again = None
        self.registered = {}
        self.saved = None
        self.output = Writer(1)
        os.set_blocking(master, False)
        if os.isatty(0) and _in_foreground():
            self.saved = termios.tcgetattr(0)
            self._raw()
        self.resize()

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
        """Gives the pty the size of the caller's terminal; the kernel signals the foreground group."""
        for fd in (0, 1, 2):
            try:
                size = fcntl.ioctl(fd, TIOCGWINSZ, b"\0" * 8)
            except OSError:
                continue
            if struct.unpack("4H", size)[0]:
                try:
                    fcntl.ioctl(self.master, TIOCSWINSZ, size)
                except OSError:
                    pass
                return

    def prepare(self):
        """Registers what can go on with the poll object."""
        wanted = {}
        if self.input_open and len(self.to_pty) < BACKLOG:
            wanted[0] = select.POLLIN
        if self.master_open:
            wanted[self.master] = (select.POLLIN if len(self.to_caller) < BACKLOG else 0) | \
                (select.POLLOUT if self.to_pty else 0)
        if self.to_caller:
            wanted[self.output.fd] = select.POLLOUT
        for fd in set(self.registered) - set(wanted):
            self.poll.unregister(fd)
        for fd, events in wanted.items():
            if self.registered.get(fd) != events:
                self.poll.register(fd, events)
        self.registered = wanted

    def serve(self, events):
        """Moves what can be moved.  events: dict fd -> poll events."""
        if self.end_again is not None and time.monotonic() >= self.end_again:
            self._repeat_end()
        if 0 in events and 0 in self.registered:
            self._read_input()
        if self.master in events and self.master in self.registered:
            if events[self.master] & select.POLLOUT and self.to_pty:
                self._write_pty()
            if events[self.master] & (select.POLLIN | select.POLLHUP | select.POLLERR):
                self._read_pty()
        if self.output.fd in events and self.output.fd in self.registered:
            self._write_output()

    def _read_input(self):
        try:
            data = os.read(0, 4096)
        except OSError:
            data = b""
        if data:
            self.to_pty += data
            self.ended_line = data.endswith(b"\n")
            return
        self.input_open = False
        # VEOF ends the input only at the start of a line; elsewhere the first one hands over what was typed.
        self.to_pty += b"\x04" if self.ended_line else b"\x04\x04"
        self.end_again = time.monotonic() + END_AGAIN_SECONDS

    def wait(self):
        """Seconds until something is due, or None."""
        return None if self.end_again is None else max(0.0, self.end_again - time.monotonic())

    def _repeat_end(self):
        self.end_again = time.monotonic() + END_AGAIN_SECONDS
        if not self.master_open:
            self.end_again = None
        elif not self.to_pty and termios.tcgetattr(self.master)[3] & termios.ICANON:
            self.to_pty += b"\x04"

    def _write_pty(self):
        try:
            # A line discipline takes at most 4095 bytes of a line; small writes let it refuse instead of dropping.
            del self.to_pty[:os.write(self.master, bytes(self.to_pty[:512]))]
        except BlockingIOError:
            pass
        except OSError:
            self.to_pty.clear()

    def _read_pty(self):
        try:
            data = os.read(self.master, CHUNK)
        except BlockingIOError:
            return True
        except OSError:  # EIO: the last user of the pty is gone
            data = b""
        if not data:
            self.master_open = False
            return False
        if self.output_open:
            self.to_caller += data
        return True

    def _write_output(self):
        try:
            del self.to_caller[:os.write(self.output.fd, bytes(self.to_caller[:4096]))]
        except BlockingIOError:
            pass
        except OSError:
            self.output_open = False
            self.to_caller.clear()
            self._hang_up()

    def _hang_up(self):
        """Nobody looks any more: the kernel tells the session by SIGHUP when the master is closed."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, self.master, inheritable=False)
        os.close(null)
        self.master_open = False

    def close(self):
        """Hands over the last output and gives the caller's terminal its modes back.  Never raises."""
        deadline = time.monotonic() + DRAIN_SECONDS
        poll = select.poll()
        poll.register(self.output.fd, select.POLLOUT)
        while self.output_open and time.monotonic() < deadline:
            if self.master_open and len(self.to_caller) < BACKLOG:
                more = len(self.to_caller)
                self._read_pty()
                if len(self.to_caller) == more:
                    self.master_open = False  # nothing more will come: the workload is dead
            if not self.to_caller:
                if not self.master_open:
                    break
                continue
            if poll.poll(100):
                before = len(self.to_caller)
                self._write_output()
                if len(self.to_caller) < before:
                    deadline = time.monotonic() + DRAIN_SECONDS
        self.output.close()
        if self.saved is not None:
            try:
                termios.tcsetattr(0, termios.TCSADRAIN, self.saved)
            except (OSError, termios.error):
                pass


def _in_foreground():
    """A background job must not change the modes of the shell that started it."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:  # not our controlling terminal: nobody's job control is in the way
        return True
