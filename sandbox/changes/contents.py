# SPDX-License-Identifier: Apache-2.0
"""The SHA-256 of a hostile program's files, and their kind by the first bytes.

The work is bounded by the space that a file takes, not by its length: a terabyte may be one hole.
"""
import errno
import hashlib
import os

CHUNK = 1 << 20
HEAD = 4096
#: Bytes of holes that one report reads as zeros.  A file with more is not hashed, and says so.
HOLES = 1 << 30
#: How many files with several names are remembered.  The content of more is not told.
MOST_SHARED = 100000
_ZEROS = bytes(CHUNK)

#: (offset, first bytes, what it is)
MAGIC = ((0, b"\x7fELF", "ELF"), (0, b"#!", "script"),
         (0, b"PK\x03\x04", "archive"), (0, b"PK\x05\x06", "archive"),
         (0, b"\x1f\x8b", "archive"), (0, b"BZh", "archive"), (0, b"\xfd7zXZ\0", "archive"),
         (0, b"\x28\xb5\x2f\xfd", "archive"),
         (0, b"7z\xbc\xaf\x27\x1c", "archive"), (0, b"Rar!\x1a\x07", "archive"),
         (0, b"!<arch>\n", "archive"),
         (0, b"\xed\xab\xee\xdb", "archive"), (0, b"070701", "archive"), (0, b"MSCF", "archive"),
         (0, b"\x04\x22\x4d\x18", "archive"),
         (257, b"ustar", "archive"), (0, b"MZ", "PE"), (0, b"%PDF-", "PDF"))


def magic(head):
    """Returns empty, ELF, script, archive, PE, PDF, text or data.

    head: the first bytes of the file, HEAD or more, or all that it has.
    """
    if not head:
        return "empty"
    for offset, mark, word in MAGIC:
        if head[offset:offset + len(mark)] == mark:
            return word
    if any(byte < 32 and byte not in (8, 9, 10, 12, 13, 27) for byte in head[:HEAD]):
        return "data"
    for cut in range(4):  # HEAD may end within a character
        try:
            head[:len(head) - cut if len(head) >= HEAD else len(head)].decode("utf-8")
            return "text"
        except UnicodeDecodeError:
            if len(head) < HEAD:
                break
    return "data"


class Budget:
    """Bytes of holes that may still be read, and the contents of files with several names.

    left: the bytes; known: {device and inode: (magic, SHA-256, why not)}.
    """

    __slots__ = ("left", "known")

    def __init__(self, left=HOLES):
        self.left, self.known = left, {}

    def forget(self):
        """Forgets the files: the next file system has others."""
        self.known.clear()

    def shared(self, found):
        """Returns (magic, SHA-256, why not) of a file that was read by another name.

        found: os.stat_result.  None: it is to be read.  One file may have as many names as there
        are inodes.
        """
        magic, value, why = self.known.get(found.st_dev << 64 | found.st_ino, (None, None, None))
        if magic is None and why is None:
            if len(self.known) < MOST_SHARED:
                return None
            return None, None, "more than %d files with several names" % MOST_SHARED
        return magic, value and value.hex(), why

    def share(self, found, magic, value, why):
        """Remembers a file.  found: os.stat_result; the others as `shared` returns them."""
        self.known[found.st_dev << 64 | found.st_ino] = magic, value and bytes.fromhex(value), why

    def take(self, size):
        """Returns whether so many bytes may be read; they are then counted."""
        if size > self.left:
            return False
        self.left -= size
        return True


def extents(fd, size):
    """Yields (start, end) of the data of a file of `size` bytes.

    lseek(2), SEEK_DATA: Linux 3.1; 3.8 on tmpfs.  Another file system's file is one extent.
    """
    position = 0
    while position < size:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            yield position, size
            return
        if start >= size:
            return
        end = min(size, os.lseek(fd, start, os.SEEK_HOLE))
        yield start, end
        position = end


def pieces(fd, size):
    """Yields (offset, bytes) of the data of an open file.  Raises OSError."""
    for start, end in extents(fd, size):
        while start < end:
            data = os.pread(fd, min(CHUNK, end - start), start)
            if not data:
                return
            yield start, data
            start += len(data)


def holes(fd, size):
    """Returns how many bytes of a file lie in no extent."""
    return size - sum(end - start for start, end in extents(fd, size))


def digest(fd, size, budget):
    """Returns (SHA-256 in hex, None), or (None, why not).  Raises OSError.

    fd: open for reading; size: bytes; budget: Budget.
    """
    if not budget.take(holes(fd, size)):
        return None, "sparse"
    value, position = hashlib.sha256(), 0
    for start, data in pieces(fd, size):
        _zeros(value, start - position)
        value.update(data)
        position = start + len(data)
    _zeros(value, size - position)
    return value.hexdigest(), None


def _zeros(value, count):
    while count > 0:
        value.update(_ZEROS[:min(CHUNK, count)])
        count -= CHUNK
