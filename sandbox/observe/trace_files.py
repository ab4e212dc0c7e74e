# SPDX-License-Identifier: Apache-2.0
"""The files that a traced program executes: opened while it waits, and read a piece at a time when it has its answer.

Nothing of it waits: only regular files are opened for reading, and without blocking; a path is looked up as if the program's
root were "/", so that no link leads out of it.  What is read is evidence: the file may be another by then.
"""
import hashlib
import os
import stat

from ...syscalls import mount
from ..host.kernel import missing

#: A larger file is not read; nor is anything beyond so many bytes of all files together.
MOST, ALTOGETHER = 64 << 20, 512 << 20
#: So many files may wait to be read, each with a descriptor; so many digests are remembered.
WAITING, KNOWN = 64, 4096
PIECE = 1 << 18
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_UNHASHED = os.ST_RDONLY | os.ST_NOEXEC


class File:
    """What was executed and is to be read.  fd: -1 when it is closed; which: (device, inode)."""

    __slots__ = ("fd", "which")

    def __init__(self, fd, which):
        self.fd, self.which = fd, which

    def close(self):
        """May be called more than once."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


class Files:
    """Opens them.  places: paths (bytes) below which files can be written to, None where each mount tells that itself."""

    def __init__(self, places=None):
        self.places = places

    def of_process(self, pid):
        """The File that a process runs, or None.  It is held for reading where it could be written to."""
        try:
            return self._kept(os.open("/proc/%d/exe" % pid, _READ))
        except OSError:
            return None

    def at_path(self, pid, path):
        """The File at an absolute path (bytes) as a process sees it, or None; Linux 5.6.  Held as `of_process` does."""
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
        """The File behind a descriptor of a process, or None."""
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
        # What can't be executed is never opened: reading a device, a FIFO or a file of /proc has effects.
        if not stat.S_ISREG(found.st_mode) or not found.st_mode & 0o111 or os.fstatvfs(path_fd).f_flag & _UNHASHED:
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
        return path.startswith(b"/memfd:") or any((path + b"/").startswith(place.rstrip(b"/") + b"/") for place in self.places)


class Digests:
    """Reads files after one another, a piece at each `step`.  done(key, SHA-256 in hex or None, why not or None) is told."""

    def __init__(self, done):
        self.done, self.left, self.known = done, ALTOGETHER, {}
        self.queue = []  # (key, File, hash, stamp, size)

    @property
    def busy(self):
        """Whether there is something to read."""
        return bool(self.queue)

    def add(self, key, file):
        """Takes over a held File; `done` is told now or later."""
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
        """Reads one piece."""
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
        """What was not read by now is not read."""
        queue, self.queue = self.queue, []
        for key, file, _, _, _ in queue:
            file.close()
            self.done(key, None, "the run was over before")
        self.done = None  # it leads back to whoever holds this
