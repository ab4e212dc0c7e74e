# SPDX-License-Identifier: Apache-2.0
"""The executed files of a trace: opened while the program waits, read piece by piece later.

Nothing blocks: only regular files are opened for reading.  A path is looked up as if the program's
root were "/", so no link leads out of it.  What is read is evidence: the file may have changed.
"""
import hashlib
import os
import stat

from ...syscalls import mount
from ..host.kernel import missing

#: Bytes: of the largest file that is read, and of all files together.
MOST, ALTOGETHER = 64 << 20, 512 << 20
#: How many files may wait to be read, each with a descriptor; how many digests are remembered.
WAITING, KNOWN = 64, 4096
PIECE = 1 << 18
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_UNHASHED = os.ST_RDONLY | os.ST_NOEXEC


class File:
    """An executed file that is to be read.

    fd: -1 when it is closed.
    which: (device, inode).
    """

    __slots__ = ("fd", "which")

    def __init__(self, fd, which):
        self.fd, self.which = fd, which

    def close(self):
        """Closes it; may be called again."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


class Files:
    """Opens executed files that the sandbox could write to."""

    def __init__(self, places=None):
        """places: paths (bytes) below which files can be written; None: each mount tells."""
        self.places = places

    def of_process(self, pid):
        """Returns the File that a process runs, or None if it could not be written to."""
        try:
            return self._kept(os.open("/proc/%d/exe" % pid, _READ))
        except OSError:
            return None

    def at_path(self, pid, path):
        """Returns the File at an absolute path (bytes) as a process sees it, or None.

        None also before Linux 5.6 (openat2), and as `of_process`.
        """
        if "openat2" in missing():
            return None
        held = []
        try:
            held.append(os.open("/proc/%d/root" % pid, os.O_PATH | os.O_CLOEXEC))
            held.append(mount.open_in_root(held[0], path, os.O_PATH))
            return self._opened(held[1])
        except OSError:
            return None
        finally:
            for fd in held:
                os.close(fd)

    def at_descriptor(self, pid, number):
        """Returns the File behind a descriptor of a process, or None."""
        try:
            fd = os.open("/proc/%d/fd/%d" % (pid, number), os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return self._opened(fd)
        except OSError:
            return None
        finally:
            os.close(fd)

    def _opened(self, path_fd):
        found = os.fstat(path_fd)
        # Nothing else is opened: reading a device, a FIFO or a file of /proc has effects.
        if not stat.S_ISREG(found.st_mode) or not found.st_mode & 0o111 or \
                os.fstatvfs(path_fd).f_flag & _UNHASHED:
            return None
        return self._kept(os.open("/proc/self/fd/%d" % path_fd, _READ))

    def _kept(self, fd):
        kept = None
        try:
            found = os.fstat(fd)
            if stat.S_ISREG(found.st_mode) and self._is_writable(fd):
                kept = File(fd, (found.st_dev, found.st_ino))
            return kept
        finally:
            if kept is None:
                os.close(fd)

    def _is_writable(self, fd):
        if os.fstatvfs(fd).f_flag & os.ST_RDONLY:
            return False
        if self.places is None:
            return True
        path = os.readlink(b"/proc/self/fd/%d" % fd)
        return path.startswith(b"/memfd:") or any(
            (path + b"/").startswith(place.rstrip(b"/") + b"/") for place in self.places)


class Digests:
    """Reads files one after another, a piece at each `step`.

    queue: [(key, File, hash, stamp, [bytes read])].
    known: {stamp: SHA-256 in hex}.
    left: bytes that may still be read.
    """

    def __init__(self, done):
        """done: function of (key, SHA-256 in hex or None, why not or None)."""
        self.done, self.left, self.known, self.queue = done, ALTOGETHER, {}, []

    @property
    def busy(self):
        """Whether there is something to read."""
        return bool(self.queue)

    def add(self, key, file):
        """Takes a File over; `done` is called now or later."""
        try:
            found = os.fstat(file.fd)
        except OSError as error:
            file.close()
            return self.done(key, None, error.strerror)
        stamp = file.which + (found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        why = None
        if stamp not in self.known:
            why = "larger than %d MiB" % (MOST >> 20) if found.st_size > MOST else \
                "enough was read already" if found.st_size > self.left else \
                "too many files at a time" if len(self.queue) >= WAITING else None
            if why is None:
                self.left -= found.st_size
                self.queue.append((key, file, hashlib.sha256(), stamp, [0]))
                return None
        file.close()
        return self.done(key, self.known.get(stamp), why)

    def step(self):
        """Reads one piece of the first file."""
        if not self.queue:
            return
        key, file, value, stamp, place = self.queue[0]
        size, why = stamp[2], None
        if stamp in self.known:  # the same file was read before this one's turn came
            self.queue.pop(0)
            file.close()
            return self.done(key, self.known[stamp], None)
        try:
            data = os.pread(file.fd, min(PIECE, size - place[0]), place[0])
        except OSError as error:
            data, why = b"", error.strerror
        value.update(data)
        place[0] += len(data)
        if data and place[0] < size:
            return None
        self.queue.pop(0)
        if why is None and place[0] < size:
            why = "it changed while it was read"
        file.close()
        if why is None:
            if len(self.known) >= KNOWN:
                self.known.clear()
            self.known[stamp] = value.hexdigest()
        return self.done(key, None if why else value.hexdigest(), why)

    def close(self):
        """Gives up what has not been read."""
        queue, self.queue = self.queue, []
        for key, file, _, _, _ in queue:
            file.close()
            self.done(key, None, "the run was over before")
        self.done = None  # refers to the Trace, which refers to this
