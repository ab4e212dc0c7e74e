# SPDX-License-Identifier: Apache-2.0
"""Reads what an ELF file needs to start. elf(5), System V ABI chapter 5

The file may be hostile: every offset and count is checked against fixed bounds.
"""
import os
import struct

PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NULL, DT_NEEDED, DT_STRTAB, DT_STRSZ, DT_RPATH, DT_RUNPATH = 0, 1, 5, 10, 15, 29
LONGEST_PATH, MOST_HEADERS, MOST_ENTRIES, MOST_STRINGS, MOST_NEEDED = 4096, 512, 4096, 1 << 20, 1024


class NotElf(ValueError):
    """The file is no ELF file that a kernel would execute."""


class Elf:
    """Holds what an ELF file needs.

    bits: 32 or 64
    big: whether it is big-endian
    machine: e_machine
    interpreter: bytes or None
    needed: [bytes]
    rpath: [bytes] as written, with $ORIGIN
    runpath: [bytes] as written, with $ORIGIN
    """

    __slots__ = ("bits", "big", "machine", "interpreter", "needed", "rpath", "runpath")

    def __init__(self, fd):
        """Reads a regular file by descriptor, without moving its offset. Raises NotElf, OSError."""
        head = os.pread(fd, 64, 0)
        if head[:4] != b"\x7fELF" or len(head) < 52 or \
                head[4] not in (1, 2) or head[5] not in (1, 2):
            raise NotElf("no ELF header")
        self.bits, self.big = (32, 64)[head[4] - 1], head[5] == 2
        order = ">" if self.big else "<"
        self.machine, = struct.unpack_from(order + "H", head, 18)
        if self.bits == 64:
            if len(head) < 64:
                raise NotElf("the header is cut off")
            offset, = struct.unpack_from(order + "Q", head, 32)
            size, count = struct.unpack_from(order + "HH", head, 54)
            form, least = order + "IIQQQQQQ", 56
        else:
            offset, = struct.unpack_from(order + "I", head, 28)
            size, count = struct.unpack_from(order + "HH", head, 42)
            form, least = order + "IIIIIIII", 32
        self.interpreter, self.needed, self.rpath, self.runpath = None, [], [], []
        if not count:
            return
        if size != least or count > MOST_HEADERS:
            raise NotElf("the program headers make no sense")
        table = _read(fd, offset, size * count)
        first = 2 if self.bits == 64 else 1  # 64 bits have p_flags before p_offset
        rows = [struct.unpack_from(form, table, index * size) for index in range(count)]
        segments = [(row[0], row[first], row[first + 1], row[first + 3]) for row in rows]
        for kind, place, _, length in segments:
            if kind == PT_INTERP and self.interpreter is None:
                text = _read(fd, place, min(length, LONGEST_PATH))
                self.interpreter = text.split(b"\0")[0]
        for kind, place, _, length in segments:
            if kind == PT_DYNAMIC:
                self._dynamic(fd, order, place, length, segments)
                break

    def _dynamic(self, fd, order, place, length, segments):
        form, size = (order + "QQ", 16) if self.bits == 64 else (order + "II", 8)
        table = _read(fd, place, min(length, MOST_ENTRIES * size))
        entries = []
        for index in range(len(table) // size):
            tag, value = struct.unpack_from(form, table, index * size)
            if tag == DT_NULL:
                break
            entries.append((tag, value))
        values = dict(entries)
        if DT_STRTAB not in values:
            return
        strings = self._strings(fd, values[DT_STRTAB], values.get(DT_STRSZ, 0), segments)
        for tag, value in entries:
            if tag not in (DT_NEEDED, DT_RPATH, DT_RUNPATH):
                continue
            if value >= len(strings):
                raise NotElf("a name lies outside the string table")
            text = strings[value:value + LONGEST_PATH].split(b"\0")[0]
            if tag == DT_NEEDED:
                if len(self.needed) == MOST_NEEDED:
                    raise NotElf("it needs too many libraries")
                self.needed.append(text)
            else:
                paths = self.rpath if tag == DT_RPATH else self.runpath
                paths += [path for path in text.split(b":") if path]

    def _strings(self, fd, address, size, segments):
        for kind, place, start, length in segments:
            if kind == PT_LOAD and start <= address < start + length:
                return _read(fd, place + address - start,
                             min(size, MOST_STRINGS, start + length - address), short=True)
        raise NotElf("the string table is in no segment")


def _read(fd, offset, size, short=False):
    if offset + size >= 1 << 63:
        raise NotElf("an offset lies outside the file")
    data = os.pread(fd, size, offset)
    if len(data) < size and not short:
        raise NotElf("an offset lies outside the file")
    return data


def shebang(head):
    """Returns [interpreter, argument] (bytes) of a script's first bytes, [] if it is no script.

    Reads as the kernel does: execve(2), fs/binfmt_script.c (256 bytes).
    """
    if head[:2] != b"#!":
        return []
    line = head[2:256].split(b"\n")[0].split(b"\0")[0].strip(b" \t")
    first = line.replace(b"\t", b" ").split(b" ")[0]
    rest = line[len(first):].strip(b" \t")
    return [word for word in (first, rest) if word]
