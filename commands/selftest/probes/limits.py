# SPDX-License-Identifier: Apache-2.0
"""Tries to exhaust resources, each within a bound (`selftest --only limits`).

Reached means that the bound of the probe was met before a limit of the sandbox.
"""
import errno
import os
import signal

from ..attempt import blocked, call, reached
from ..probe import LIMIT, Probe

GROUP = "limits"
MIB = 1 << 20
REFUSED = (errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.EFBIG,
           errno.EDQUOT, errno.EUSERS)


def until_refused(action, most, what):
    """Repeats an action at most `most` times; returns the Outcome."""
    for count in range(most):
        try:
            action(count)
        except OSError as error:
            if error.errno in REFUSED:
                return blocked("%s after %d %s" % (errno.errorcode[error.errno], count, what),
                               error.errno)
            raise
    return reached("%d %s" % (most, what))


def forks(facts):
    """Makes processes that wait."""
    def make(count):
        if os.fork() == 0:
            signal.pause()
            os._exit(0)
    return until_refused(make, 600, "processes")


def zombies(facts):
    """Makes processes that end and are not waited for."""
    def make(count):
        if os.fork() == 0:
            os._exit(0)
    return until_refused(make, 600, "zombies")


def descriptors(facts):
    """Opens files, with the soft limit raised to the hard one."""
    import resource
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return until_refused(lambda count: os.dup(2), 5000, "descriptors")


def inodes(place):
    """Returns an action that makes empty files."""
    def action(facts):
        folder = place + "/inodes-%d" % os.getpid()
        os.mkdir(folder)
        made = []

        def make(count):
            path = "%s/%d" % (folder, count)
            call("mknodat", -100, path.encode(), 0o100600, 0)
            made.append(path)
        try:
            return until_refused(make, 110000, "files")
        finally:
            for path in made:
                os.unlink(path)
            os.rmdir(folder)
    return action


def fills(place, size):
    """Returns an action that writes a file of more than `size` MiB."""
    def action(facts):
        path = "%s/fill-%d" % (place, os.getpid())
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            return until_refused(lambda count: call("fallocate", fd, 0, count * 64 * MIB,
                                                    64 * MIB), size // 64 + 1,
                                 "times 64 MiB")
        finally:
            os.unlink(path)
            os.close(fd)
    return action


def memory(facts):
    """Touches memory, up to twice of --memory 256M."""
    import mmap
    areas = []

    def make(count):
        area = mmap.mmap(-1, 16 * MIB)
        for offset in range(0, 16 * MIB, 4096):
            area[offset:offset + 1] = b"x"
        areas.append(area)
    return until_refused(make, 32, "times 16 MiB of memory")


def memory_files(facts):
    """Fills a memory file, which no file system limits."""
    fd = call("memfd_create", b"fill", 0)
    chunk = b"x" * MIB
    return until_refused(lambda count: os.write(fd, chunk), 512, "MiB in a memory file")


def pipes(facts):
    """Fills pipes, which take kernel memory."""
    made = []

    def make(count):
        read, write = os.pipe()
        made.append((read, write))
        os.set_blocking(write, False)
        try:
            call("fcntl", write, 1031, MIB)  # F_SETPIPE_SZ
        except OSError as error:
            if error.errno != errno.EPERM:  # the user's share is used up
                raise
            raise OSError(errno.EAGAIN, "no more pipe buffers")
        try:
            while True:
                os.write(write, b"x" * 65536)
        except BlockingIOError:
            pass
    return until_refused(make, 128, "MiB in pipes")


def _limit(number, title, layers, action, deadline=30.0):
    return Probe("R%02d" % number, title, LIMIT, "T1499", layers, action, deadline=deadline)


PROBES = (
    _limit(1, "600 processes", "nproc, then --pids", forks),
    _limit(2, "600 zombies", "nproc, then --pids", zombies),
    _limit(3, "5000 descriptors", "nofile", descriptors),
    _limit(4, "110,000 files in /tmp", "the tmpfs's inodes", inodes("/tmp")),
    _limit(5, "more than 1 GiB in /tmp", "the tmpfs's size, then --memory", fills("/tmp", 1024)),
    _limit(6, "more than 256 MiB in /dev/shm", "the tmpfs's size, then --memory",
           fills("/dev/shm", 256)),
    _limit(7, "512 MiB of memory", "--memory", memory),
    _limit(8, "512 MiB in a memory file", "--memory", memory_files),
    _limit(9, "128 MiB in pipes", "the kernel's share per user, then --memory", pipes),
)
