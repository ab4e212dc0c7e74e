# SPDX-License-Identifier: Apache-2.0
"""Reads small files, mostly the kernel's, and its list of mounts."""
import os

EFBIG = 27
#: Room for most files of /proc in one read.
PIECE = 16384
#: No list of the kernel comes near: 100,000 mounts (fs.mount-max) take about 20 MiB.
MOST = 1 << 26
MOUNTS = "/proc/self/mountinfo"


def read(path, directory=None, first=None):
    """Returns the contents of a small file as bytes, without the module io: fewer calls.

    directory: descriptor of the directory that a relative path starts from.
    first: bytes of a single read(2); without it the file is read to its end.

    Raises OSError: what open(2) and read(2) say; ESRCH if a process of /proc has ended; EFBIG for a
    file of more than MOST bytes.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        if first is not None:
            return os.read(fd, first)
        parts, size = [], 0
        while not parts or parts[-1]:
            parts.append(os.read(fd, PIECE))
            size += len(parts[-1])
            if size > MOST:
                raise OSError(EFBIG, os.strerror(EFBIG), path)
        return b"".join(parts)
    finally:
        os.close(fd)


def text(path):
    """Returns the same as text in the locale's encoding, as file names are.  Raises OSError."""
    return os.fsdecode(read(path))


class Mount:
    """One row of mountinfo; paths and names are bytes without its octal escapes.

    number, parent: ids of the mount and of the one that it is mounted on.
    device: `MAJOR:MINOR`, as bytes.
    root: the directory of the file system that is mounted.
    point: where, seen from the reader's root.
    options: [word] of the mount.
    fields: [word] about propagation.
    kind: type of the file system.
    source: what was mounted.
    super_options: [word] of the file system.
    """

    __slots__ = ("number", "parent", "device", "root", "point", "options", "fields", "kind",
                 "source", "super_options")

    def __init__(self, line):
        """line: of a mountinfo file.  Raises ValueError where it is none.  proc_pid_mountinfo(5)"""
        words = line.split(b" ")
        dash = words.index(b"-", 6)
        self.number, self.parent, self.device = int(words[0]), int(words[1]), words[2]
        self.root, self.point = unescape(words[3]), unescape(words[4])
        self.options, self.fields = words[5].split(b","), words[6:dash]
        self.kind, self.source = words[dash + 1], unescape(words[dash + 2])
        self.super_options = [unescape(word) for word in words[-1].split(b",")]


def mounts(path=MOUNTS):
    """Returns [Mount] of a mountinfo file, in its order.

    Raises OSError as `read`, ValueError as Mount.
    """
    return parse(read(path))


def parse(data):
    """Returns [Mount] of the contents of a mountinfo file.  Raises ValueError as Mount."""
    return [Mount(line) for line in data.split(b"\n") if line]


def unescape(word):
    """Returns a word of mountinfo without its octal escapes: blanks, line ends, backslash and #."""
    if b"\\" not in word:
        return word
    head, *rest = word.split(b"\\")
    return head + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in rest)
