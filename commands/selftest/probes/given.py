# SPDX-License-Identifier: Apache-2.0
"""Tries to change the caller's files, pipes and terminals given as descriptors 0, 1 and 2.

The caller's object shows afterwards whether it was reached (given.py). Inside, a descriptor may
lead to an own object of the sandbox, on which all of this may work.
"""
import os
import signal
import struct

from ..attempt import buffer, call, invisible, reached
from ..probe import HOST, Probe

GROUP = "given"
FS_IOC_SETFLAGS, FS_NODUMP_FL = 0x40086602, 0x40
TIOCSWINSZ, TCGETS, TCSETS, TIOCEXCL = 0x5414, 0x5401, 0x5402, 0x540C
F_SETFL, F_SETSIG, F_OFD_SETLK, F_SETLEASE, F_SETPIPE_SZ = 4, 10, 37, 1024, 1031
LOCK_EX, LOCK_NB, F_RDLCK = 2, 4, 0
SIZE = 1 << 17
CARRIED = "no descriptor of the caller's is inside"


def done(what, *arguments):
    """Returns an action that makes one system call on a given descriptor."""
    def action(facts):
        call(what, *[word() if callable(word) else word for word in arguments])
        return reached("done to the descriptor")
    return action


def times(facts):
    """Sets both times of stdin."""
    os.utime(0, (1, 1))
    return reached("done to the descriptor")


def attribute(facts):
    """Sets an extended attribute of stdin."""
    os.setxattr(0, b"user.mrunc-selftest", b"x")
    return reached("done to the descriptor")


def blocks_not(fd):
    """Returns an action that sets O_NONBLOCK on a description that others share."""
    def action(facts):
        call("fcntl", fd, F_SETFL, call("fcntl", fd, 3, 0) | os.O_NONBLOCK)
        return reached("done to the descriptor")
    return action


def writes_input(facts):
    """Opens stdin, given for reading, again and writes it."""
    fd = os.open("/proc/self/fd/0", os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    os.write(fd, b"changed")
    return reached("it opens for writing")


def cuts_input(facts):
    """Opens stdin, given for reading, again and truncates it."""
    fd = os.open("/proc/self/fd/0", os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    os.ftruncate(fd, 4)
    return reached("it opens for cutting")


def cuts_log(facts):
    """Truncates stderr, given for appending."""
    os.ftruncate(2, 0)
    return reached("done to the descriptor")


def reads_pipe(facts):
    """Opens stderr, the writing end of a pipe, for reading: its reader loses data."""
    fd = os.open("/proc/self/fd/2", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        text = os.read(fd, 64)
    except BlockingIOError:
        return invisible("it opens, and is empty")
    if not text:
        return invisible("it opens, and is empty")
    return reached("read %r" % text.decode("ascii", "replace"))


def silent(facts):
    """Changes the modes of the terminal: no echo."""
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # what is sent to a group in the background
    modes = buffer(64)
    call("ioctl", 0, TCGETS, modes)
    flags = struct.unpack_from("=4I", modes.raw)
    changed = struct.pack("=4I", *flags[:3] + (flags[3] ^ 0o10,)) + modes.raw[16:]
    call("ioctl", 0, TCSETS, buffer(changed, 64))
    return reached("done to the descriptor")


def _input(number, title, action):
    return Probe("F%02d" % number, "standard input, a file of the caller's: " + title, HOST, "",
                 CARRIED, action, needs=("input",))


def _terminal(number, title, action):
    return Probe("F%02d" % number, "the caller's terminal: " + title, HOST, "", CARRIED, action,
                 needs=("terminal",))


def _record():
    return buffer(struct.pack("=hhxxxxqqixxxx", F_RDLCK, 0, 0, 0, 0), 32)


PROBES = (
    _input(10, "its mode", done("fchmod", 0, 0o666)),
    _input(12, "an extended attribute", attribute),
    _input(13, "its flags (FS_IOC_SETFLAGS)",
           done("ioctl", 0, FS_IOC_SETFLAGS, lambda: buffer(struct.pack("=q", FS_NODUMP_FL), 8))),
    _input(14, "O_NONBLOCK for all that hold it", blocks_not(0)),
    _input(15, "a signal for its owner (F_SETSIG)", done("fcntl", 0, F_SETSIG, 10)),
    _input(16, "a lock that stays (flock)", done("flock", 0, LOCK_EX | LOCK_NB)),
    _input(17, "a lock that stays (F_OFD_SETLK)", done("fcntl", 0, F_OFD_SETLK, _record)),
    _input(18, "opened again and written", writes_input),
    _input(19, "opened again and cut", cuts_input),
    _input(11, "its times", times),  # behind those that write
    _input(20, "a lease that stays", done("fcntl", 0, F_SETLEASE, F_RDLCK)),  # likewise
    Probe("F21", "standard error, a log that is appended to, cut", HOST, "T1070", CARRIED, cuts_log,
          needs=("log",)),
    _terminal(30, "the size of its window",
              done("ioctl", 0, TIOCSWINSZ, lambda: buffer(struct.pack("=4H", 3, 3, 0, 0), 8))),
    _terminal(31, "its modes", silent),
    _terminal(32, "nobody else may open it (TIOCEXCL)", done("ioctl", 0, TIOCEXCL, 0)),
    _terminal(33, "everybody may write to it (its mode)", done("fchmod", 0, 0o666)),
    _terminal(34, "O_NONBLOCK for all that hold it", blocks_not(0)),
    Probe("F35", "standard error, a pipe of the caller's: its size", HOST, "", CARRIED,
          done("fcntl", 2, F_SETPIPE_SZ, SIZE), needs=("pipe",)),
    Probe("F36",
          "standard error, a pipe of the caller's: opened again, another's line read from it", HOST,
          "", CARRIED, reads_pipe, needs=("pipe",)),
)
