# SPDX-License-Identifier: Apache-2.0
"""Finds what a root file system should not hold. Reads only; the directory may be hostile.

Everything is opened below a descriptor of the top, and the kernel follows no link: links are
followed here, with that top as "/".
"""
import errno
import os
import stat

from ...syscalls import files
from . import elf
from ...sandbox.errors import show, usage
from ...sandbox.host.facts import kind_of
from .entries import leads_out
from .sources import OPEN, attributes

MOST_LINKS, MOST_STEPS = 40, 4096
PATH = (b"usr/local/sbin", b"usr/local/bin", b"usr/sbin", b"usr/bin", b"sbin", b"bin")
#: kind of finding: its meaning
KINDS = {
    "set-uid": "runs as its owner where the file system allows it",
    "set-gid": "runs with its group where the file system allows it",
    "capability": "has file capabilities",
    "device": "is a device",
    "channel": "is a FIFO or a socket: sandboxes on one tree could communicate through it, and "
        "`run --rootfs` refuses it",
    "world-writable": "everybody can write it",
    "loader": "the program's loader is not in the tree",
    "interpreter": "the script's interpreter is not in the tree",
    "leads-out": "the link climbs above the tree's top",
    "unreadable": "could not be read",
}


def check(path):
    """Returns (findings, entries): [(kind, path in the tree, detail)] by path, and a count.

    path: bytes, the directory

    Raises SandboxError (exit status 2) if it is no directory.
    """
    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise usage("rootfs check %s" % show(path), error.strerror)
    try:
        tree = _Tree(top)
        tree.walk()
        return sorted(tree.findings, key=lambda row: (row[1], row[0])), tree.entries
    finally:
        os.close(top)


class _Tree:
    def __init__(self, top):
        self.top, self.findings, self.entries = top, [], 0
        self.known = {}  # absolute path -> whether it leads to a file

    def found(self, kind, path, detail=""):
        self.findings.append((kind, path, detail))

    def walk(self):
        pending = [b""]
        while pending:
            place = pending.pop()
            try:
                fd = files.open_beneath(self.top, place,
                                        os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                self.found("unreadable", place, error.strerror)
                continue
            try:
                self._directory(fd, place)
                for name in files.names(fd):
                    full = os.path.join(place, name)
                    self.entries += 1
                    try:
                        if self._entry(fd, name, full):
                            pending.append(full)
                    except OSError as error:
                        self.found("unreadable", full, error.strerror)
            finally:
                os.close(fd)

    def _directory(self, fd, place):
        mode = os.fstat(fd).st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            self.found("world-writable", place, "a directory without the sticky bit")

    def _entry(self, fd, name, full):
        """Checks one entry; returns whether it is a directory."""
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        kind = kind_of(found.st_mode)
        if kind == "directory":
            return True
        if kind == "link":
            target = os.readlink(name, dir_fd=fd)
            if leads_out(full.split(b"/"), target):
                self.found("leads-out", full, "to %s" % show(target))
        elif kind in ("character device", "block device"):
            self.found("device", full, "%s %d:%d" % (kind, os.major(found.st_rdev),
                                                     os.minor(found.st_rdev)))
        elif kind != "file":
            self.found("channel", full, kind)
        else:
            self._file(fd, name, full, found)
        return False

    def _file(self, holder, name, full, found):
        for bit, kind in ((stat.S_ISUID, "set-uid"), (stat.S_ISGID, "set-gid")):
            if found.st_mode & bit:
                self.found(kind, full, "%04o" % (found.st_mode & 0o7777))
        if found.st_mode & stat.S_IWOTH:
            self.found("world-writable", full, "%04o" % (found.st_mode & 0o7777))
        fd = os.open(name, OPEN, dir_fd=holder)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.ESTALE, "it was replaced")
            if b"security.capability" in attributes(fd):
                self.found("capability", full)
            if not found.st_mode & 0o111:
                return
            head = os.pread(fd, 256, 0)
            if head[:4] == b"\x7fELF":
                self._program(fd, full)
            elif head[:2] == b"#!":
                self._script(head, full)
        finally:
            os.close(fd)

    def _program(self, fd, full):
        try:
            loader = elf.Elf(fd).interpreter
        except elf.NotElf:
            return
        if loader is not None and not self.leads_to_file(loader):
            self.found("loader", full, "%s is missing" % show(loader))

    def _script(self, head, full):
        words = elf.shebang(head)
        if not words or not words[0].startswith(b"/") or not self.leads_to_file(words[0]):
            self.found("interpreter", full,
                       "%s is missing" % show(words[0]) if words else "none is named")
        elif os.path.basename(words[0]) == b"env" and len(words) > 1:
            program = words[1].split()[0] if words[1].split() else b""
            if program[:1] not in (b"-", b"") and b"=" not in program and b"/" not in program and \
                    not any(self.leads_to_file(b"/%s/%s" % (place, program)) for place in PATH):
                self.found("interpreter", full, "env finds no %s" % show(program))

    def leads_to_file(self, path):
        """Returns whether an absolute path leads to a regular file, with the tree's top as "/"."""
        if path not in self.known:
            try:
                self.known[path] = path[:1] == b"/" and len(path) <= 4095 and self._resolve(path)
            except OSError:
                self.known[path] = False
        return self.known[path]

    def _resolve(self, path):
        done, pending, links = [], [step for step in reversed(path.split(b"/"))
                                    if step not in (b"", b".")], 0
        mode, walked = stat.S_IFDIR, 0
        while pending:
            step = pending.pop()
            walked += 1
            if walked > MOST_STEPS:
                return False
            if step == b"..":
                done = done[:-1]
                mode = stat.S_IFDIR
                continue
            fd = files.open_beneath(self.top, b"/".join(done), files.O_PATH_DIRECTORY)
            try:
                mode = os.stat(step, dir_fd=fd, follow_symlinks=False).st_mode
                target = os.readlink(step, dir_fd=fd) if stat.S_ISLNK(mode) else None
            finally:
                os.close(fd)
            if target is None:
                done = done + [step]
                continue
            links += 1
            if links > MOST_LINKS:
                return False
            done = [] if target.startswith(b"/") else done
            pending += [part for part in reversed(target.split(b"/")) if part not in (b"", b".")]
        return stat.S_ISREG(mode)
