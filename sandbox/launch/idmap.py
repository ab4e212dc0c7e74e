# SPDX-License-Identifier: Apache-2.0
"""Chooses the host id behind the sandbox's root, and writes the id maps.

A user's sandbox runs under the user's id.  Root's takes an id of a range that nobody else uses, one
per sandbox and never 0.  So programs that get out of two sandboxes have no right on each other.
MRUNC_ID_RANGE=FIRST:COUNT sets the range.
"""
import fcntl
import os
import struct

from ..errors import remedies, SandboxError, usage
from ..proc import read
from .child import write_file

#: The default range.
FIRST, COUNT = 2000000000, 65536
LOCK_DIRECTORY = "/run/mrunc"
F_OFD_GETLK, F_OFD_SETLK = 36, 37


def read_map(path):
    """Returns [(first id inside, count)] of a uid_map or gid_map file.  user_namespaces(7)

    Raises OSError.
    """
    return [(int(line.split()[0]), int(line.split()[2]))
            for line in read(path).split(b"\n")[:-1]]


def wanted_range(environ):
    """Returns (first id, count) of MRUNC_ID_RANGE in `environ`, or of the default range.

    Raises SandboxError (exit 2) for a range that can't be used.
    """
    text = environ.get("MRUNC_ID_RANGE")
    if text is None:
        return FIRST, COUNT
    first, _, count = text.partition(":")
    try:
        first, count = int(first), int(count)
        if first < 1 or count < 1 or first + count > 4294967295 or first <= 65534 < first + count:
            raise ValueError
    except ValueError:
        raise usage("MRUNC_ID_RANGE=%s" % text, "FIRST:COUNT, without 0 and 65534")
    return first, count


def candidates(wanted, uid_map, gid_map):
    """Returns [(first id, count)] that a caller may hand out; empty if it is treated as a user.

    wanted: (first id, count); uid_map, gid_map: of read_map.  A container's root has a map of its
    own that rarely holds the default range.  Then the highest ids of that map are taken, at most
    1024 and none of them 0, 65534 or 65535.
    """
    def holds(ranges, first, count):
        return any(low <= first and first + count <= low + size for low, size in ranges)
    if holds(uid_map, *wanted) and holds(gid_map, *wanted):
        return [wanted]
    low, size = max(uid_map, key=lambda line: line[0] + line[1])
    end = low + size
    if low < 65534 <= end + 1:
        end = min(end, 65534)
    first = max(low + 1, end - 1024)
    if end - first < 1 or not holds(gid_map, first, end - first):
        return []
    return [(first, end - first)]


class HostId:
    """Holds a host id until `release` or the end of the process, by a lock on a byte of a file.

    fd: of the lock file
    number: the id

    Open file description locks need no file per id, and end with the process that held them.
    fcntl(2), Linux 3.15
    """

    def __init__(self, ranges):
        """Takes the first free id.

        ranges: [(first id, count)] of `candidates`.  Raises SandboxError where none is free or the
        lock file can't be opened.
        """
        path = LOCK_DIRECTORY + "/ids"
        try:
            if not os.path.isdir(LOCK_DIRECTORY):
                try:
                    os.mkdir(LOCK_DIRECTORY, 0o700)
                except FileExistsError:
                    pass
            self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise SandboxError("identity", path, error.errno, control="uidmap",
                               remedy=remedies().line("run-directory"))
        for first, count in ranges:
            for number in range(first, first + count):
                lock = struct.pack("=hhxxxxqqixxxx", fcntl.F_WRLCK, 0, number, 1, 0)
                try:
                    fcntl.fcntl(self.fd, F_OFD_SETLK, lock)
                except OSError:
                    continue
                self.number = number
                self._must_show(path, lock)
                return
        os.close(self.fd)
        raise SandboxError("identity", "no host id is free", control="uidmap",
                           reason="all of %s are in use" % (ranges,),
                           remedy="widen the range: MRUNC_ID_RANGE=FIRST:COUNT")

    def _must_show(self, path, lock):
        """Raises SandboxError if the lock does not show through another open file description.

        Some file systems ignore locks, and two sandboxes must never share an id.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                held = fcntl.fcntl(fd, F_OFD_GETLK, lock)
                if struct.unpack_from("=h", held)[0] != fcntl.F_UNLCK:
                    return
            finally:
                os.close(fd)
            reason = "had no effect"
        except OSError as error:
            reason = error.strerror
        os.close(self.fd)
        raise SandboxError("identity", "locking host id %d" % self.number, reason=reason,
                           control="uidmap")

    def release(self):
        """Gives the id back."""
        os.close(self.fd)


def id_maps(pid, plan, host_uid, host_gid):
    """Writes the maps of the child's user namespace.

    Returns the link of that namespace.  Raises SandboxError.
    """
    base = "/proc/%d/" % pid
    try:
        namespace = os.readlink(base + "ns/user")
        # Root leaves setgroups allowed, so that the child can drop the caller's groups.
        if not plan.root:
            write_file(base + "setgroups", b"deny")
        write_file(base + "uid_map", b"%d %d 1" % (plan.uid, host_uid))
        write_file(base + "gid_map", b"%d %d 1" % (plan.gid, host_gid))
    except OSError as error:
        raise SandboxError("identity", "writing the id maps", error.errno, control="uidmap",
                           remedy=remedies().line(remedies().capabilities_cause(error.errno)))
    return namespace
