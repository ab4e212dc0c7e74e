# SPDX-License-Identifier: Apache-2.0
"""The caller's own terminal, where the workload holds it (no --tty): as it was, whatever the workload did to it."""
import fcntl
import os
import termios

TIOCNXCL = 0x540D


def remember(stdio=(0, 1, 2)):
    """[(fd, modes)] of the terminals among the caller's stdin, stdout and stderr."""
    out = []
    for fd in stdio:
        try:
            if os.isatty(fd):
                out.append((fd, termios.tcgetattr(fd)))
        except (OSError, termios.error):
            pass
    return out


def restore(terminals):
    """Gives them back: output going on, open to others, modes as remembered.  Never raises.

    Without this, output that the workload has stopped (tcflow) would hang our own last message.
    """
    for fd, modes in terminals:
        for deed in (lambda: termios.tcflow(fd, termios.TCOON), lambda: fcntl.ioctl(fd, TIOCNXCL),
                     lambda: termios.tcsetattr(fd, termios.TCSANOW, modes) if termios.tcgetattr(fd) != modes else None):
            try:
                deed()
            except (OSError, termios.error):
                pass
