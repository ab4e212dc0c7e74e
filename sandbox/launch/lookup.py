# SPDX-License-Identifier: Apache-2.0
"""Finds the workload's program in the finished tree, and explains why it can't be executed.

Runs in the child after Landlock, so what it can't open the workload can't either.  The file may be
hostile: only its first 256 bytes, its program headers and its loader's name are read.
"""
import os

from ...syscalls.libc import ARCH
from ..errors import NOT_EXECUTABLE, NOT_FOUND, show

#: ELF e_machine numbers.  elf.h
MACHINES = {2: "sparc", 3: "i386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm",
            43: "sparc64", 62: "x86_64", 183: "aarch64", 243: "riscv", 247: "bpf", 258: "loongarch"}
ELF_MACHINE = {"x86_64": 62, "aarch64": 183}


class Lookup(Exception):
    """Raised for a program that can't be executed.

    errno: as of execve(2)
    text: one phrase
    status: 126 or 127
    """

    def __init__(self, number, text, status):
        Exception.__init__(self, text)
        self.errno, self.text, self.status = number, text, status


def find_program(plan):
    """Returns the path (bytes) of the plan's program, by PATH of the plan.  Raises Lookup."""
    name = plan.spec.argv[0]
    shown = show(name)
    if b"/" in name:
        _check(name, shown)
        return name
    denied = None
    for place in plan.env[b"PATH"].split(b":") if name else ():
        path = os.path.join(place or b".", name)
        try:
            _check(path, shown)
            return path
        except Lookup as error:
            if error.status != NOT_FOUND:
                denied = denied or error
    raise denied or Lookup(2, "%s: not found inside" % shown, NOT_FOUND)


def _check(path, shown):
    """Raises Lookup for a file that the kernel would not execute.  shown: its name in messages."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        missing = error.errno in (2, 20)
        why = "not found inside" if missing else error.strerror
        raise Lookup(error.errno, "%s: %s" % (shown, why),
                     NOT_FOUND if missing else NOT_EXECUTABLE)
    if mode & 0o170000 == 0o040000:
        raise Lookup(21, "%s: is a directory" % shown, NOT_EXECUTABLE)
    if mode & 0o170000 != 0o100000:
        raise Lookup(13, "%s: is not a regular file" % shown, NOT_EXECUTABLE)
    if not os.access(path, os.X_OK):
        raise Lookup(13, "%s: is not executable" % shown, NOT_EXECUTABLE)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return  # may be executed without being readable; the kernel decides
    try:
        head = os.read(fd, 256)
        loader = _loader(fd, head) if head[:7] == b"\x7fELF\2\1\1" and len(head) >= 64 else b""
    finally:
        os.close(fd)
    if head[:4] == b"\x7fELF" and len(head) >= 20:
        machine = int.from_bytes(head[18:20], "big" if head[5] == 2 else "little")
        if machine != ELF_MACHINE[ARCH] or head[4] != 2:
            kind = MACHINES.get(machine, "machine %d" % machine)
            if machine == 62 and head[4] == 1:
                kind = "x32"
            raise Lookup(8, "%s: %s program: this sandbox runs %s only" % (shown, kind, ARCH),
                         NOT_EXECUTABLE)
        if loader and not os.path.exists(loader):
            raise Lookup(2, "%s: its loader %s is not there inside: it was built for another "
                            "system, or the tree is not whole" % (shown, show(loader)),
                         NOT_EXECUTABLE)
    if head[:2] == b"#!":
        words = head[2:].split(b"\n")[0].split(b"\0")[0].split()
        if words and not os.path.exists(words[0]):
            raise Lookup(2, "%s: its interpreter %s is not there inside" %
                         (shown, show(words[0])), NOT_EXECUTABLE)


def _loader(fd, head):
    """Returns the path (bytes) of a 64-bit little-endian ELF file's loader, or b"".

    fd: of the file; head: its first bytes, at least 64.  elf(5): PT_INTERP
    """
    try:
        table = os.pread(fd, 56 * min(int.from_bytes(head[56:58], "little"), 64),
                         int.from_bytes(head[32:40], "little"))
        for start in range(0, len(table) - 55, 56):
            if table[start:start + 4] == b"\3\0\0\0":
                size = min(int.from_bytes(table[start + 32:start + 40], "little"), 4096)
                offset = int.from_bytes(table[start + 8:start + 16], "little")
                return os.pread(fd, size, offset).split(b"\0")[0]
    except (OSError, OverflowError):
        pass  # the kernel will say what is wrong with it
    return b""
