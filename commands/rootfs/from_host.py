# SPDX-License-Identifier: Apache-2.0
"""Collects packages and programs of this host, with all that they need, as entries.

The tree can be given to hostile code. So files that not everybody on the host may read stay out: by
their own mode, or because a directory above them is closed. A program names what it needs, and may
be hostile, too. So an interpreter or loader is taken only if a package owns it, if it is a program
of the system, or if the caller named it.
"""
import glob
import io
import os
import stat

from ...sandbox.errors import usage
from ...sandbox.host.facts import ROOT_NAMES, kind_of
from ...sandbox.plan.values import PATH
from ...sandbox.tree.default import own_files
from . import elf, packages
from .entries import CLOSED, STRANGE, UNREADABLE, Entry
from .host_files import Holder, Look
from .sources import file_entry

MOST_LINKS = 40
#: Why a path is followed: the caller named it, or a program is run by it or loads it.
NAMED, INTERPRETER, LIBRARY = "named", "interpreter", "library"
BIN = (b"/usr/local/bin", b"/usr/local/sbin", b"/usr/bin", b"/usr/sbin", b"/bin", b"/sbin")
DEFAULT_LIBRARIES = (b"/lib64", b"/usr/lib64", b"/lib", b"/usr/lib", b"/usr/local/lib")
#: Directories filled by maintainer scripts, so that no package lists their files.
WITH_PACKAGES = (b"/etc/ssl/certs", b"/etc/pki", b"/etc/crypto-policies")


def entries(names):
    """Yields Entry for the named packages, programs or paths.

    names: list of str

    Raises SandboxError (exit status 2) for a name that does not exist.
    """
    selection = Selection(packages.read())
    for name in names:
        selection.want(name)
    selection.want("/bin/sh")  # system(3) and popen(3) of every program
    selection.complete()
    return selection.entries()


class Selection:
    """Collects the paths that are taken, with each link on the way.

    No path has a link in its directory part.
    """

    def __init__(self, database):
        self.database, self.paths, self.packages, self.pending = database, set(), [], []
        self.followed, self.search = set(), None
        self.named = set()  # paths that the caller named
        self.left = {}  # {path: why it is not taken}
        for name in ROOT_NAMES:
            if os.path.islink("/" + name):
                self.paths.add(b"/" + name.encode())

    def want(self, name):
        """Adds a package or a program by name, or a path. Raises SandboxError."""
        package = None if "/" in name else self.database.find(name)
        if package is not None:
            self.packages.append(package)
            return
        data = os.fsencode(name)
        for place in [data] if b"/" in data else [place + b"/" + data
                                                  for place in PATH.split(b":")]:
            if os.path.isfile(place) and (b"/" in data or os.access(place, os.X_OK)):
                self.pending.append((os.path.abspath(place), NAMED))
                return
        raise usage("--from-host %s" % name, "no package or program of this host has this name")

    def complete(self):
        """Follows all dependencies."""
        while self.pending or self.packages:
            while self.pending:
                self._follow(*self.pending.pop())
            done = self.database.closure(self.packages)
            self.packages = []
            listed = self.database.files(done)
            for path in sorted(listed):
                self.paths.add(self._canonical(path))
        self._unlisted()

    def _canonical(self, path, named=False):
        """Returns the path without links in its directory part; the links on the way are taken.

        named: whether the caller named it
        """
        done, pending, links = b"", [step for step in reversed(path.split(b"/"))
                                     if step not in (b"", b".")], 0
        while pending:
            step = pending.pop()
            if step == b"..":
                done = os.path.dirname(done) if done != b"/" else b""
                continue
            place = done.rstrip(b"/") + b"/" + step
            if pending and os.path.islink(place) and links < MOST_LINKS:
                links += 1
                self.paths.add(place)
                if named:
                    self.named.add(place)
                target = os.readlink(place)
                done = b"" if target.startswith(b"/") else done
                pending += [part for part in reversed(target.split(b"/"))
                            if part not in (b"", b".")]
                continue
            done = place
        return done or b"/"

    def _follow(self, path, why):
        """Takes a file that may belong to no package, its link target, and what it needs to start.
        """
        path = self._canonical(path, why is NAMED)
        if why is NAMED:
            self.named.add(path)
        if (path, why) in self.followed:
            return
        self.followed.add((path, why))
        owner = self.database.owner(path)
        try:
            look = Look(path)
        except OSError:
            return
        try:
            if owner is not None:
                self.packages.append(owner)
            elif why is not NAMED and not look.reached:
                self.left[path] = CLOSED
                return
            elif why is INTERPRETER and not look.program:
                self.left[path] = STRANGE
                return
            self.paths.add(path)
            if look.link:
                target = os.readlink(b"", dir_fd=look.fd)
                self.pending.append((os.path.join(os.path.dirname(path), target),
                                     LIBRARY if why is NAMED else why))
            elif owner is None and look.file:
                self._needs(look)
        except OSError:
            pass
        finally:
            look.close()

    def _needs(self, look):
        """Follows what a program that no package owns needs. Raises OSError."""
        fd = look.open()
        try:
            head = os.pread(fd, 256, 0)
            if head[:4] == b"\x7fELF":
                self._libraries(fd, look.path)
        finally:
            os.close(fd)
        words = elf.shebang(head)
        if words and words[0].startswith(b"/"):
            self.pending.append((words[0], INTERPRETER))
            if os.path.basename(words[0]) == b"env" and len(words) > 1:
                for place in PATH.split(b":"):
                    if os.path.isfile(place + b"/" + words[1]):
                        self.pending.append((place + b"/" + words[1], INTERPRETER))
                        break

    def _libraries(self, fd, path):
        try:
            program = elf.Elf(fd)
        except elf.NotElf:
            return
        if program.interpreter and program.interpreter.startswith(b"/"):
            self.pending.append((program.interpreter, INTERPRETER))
        own = program.runpath or program.rpath
        places = [self._expand(place, path, program.bits) for place in own] + self._library_places()
        for name in program.needed:
            for place in [name] if b"/" in name else [os.path.join(place, name)
                                                      for place in places]:
                if place.startswith(b"/") and _same_kind(place, program):
                    self.pending.append((place, LIBRARY))
                    break

    @staticmethod
    def _expand(place, path, bits):
        origin, lib = os.path.dirname(path), b"lib64" if bits == 64 else b"lib"
        for word, value in ((b"ORIGIN", origin), (b"LIB", lib),
                            (b"PLATFORM", os.uname().machine.encode())):
            place = place.replace(b"${" + word + b"}", value).replace(b"$" + word, value)
        return place

    def _library_places(self):
        """Returns the loader's directories: ld.so.conf, then built-in ones.

        ld.so(8), ldconfig(8); musl: ld-musl-ARCH.path
        """
        if self.search is None:
            self.search = _conf(b"/etc/ld.so.conf", 0)
            try:
                with open("/etc/ld-musl-%s.path" % os.uname().machine, "rb") as stream:
                    self.search += stream.read().replace(b"\n", b":").split(b":")
            except OSError:
                pass
            multiarch = b"/" + os.uname().machine.encode() + b"-linux-gnu"
            self.search += [b"/lib" + multiarch, b"/usr/lib" + multiarch] + list(DEFAULT_LIBRARIES)
        return [place for place in self.search if place.startswith(b"/")]

    def _unlisted(self):
        """Takes what scripts made and no package lists: links to programs, bytecode, certificates.
        """
        for folder in BIN:
            for name in _names(folder):
                place = self._canonical(folder + b"/" + name)
                if os.path.islink(place) and place not in self.paths:
                    chain = [place]
                    while os.path.islink(chain[-1]) and len(chain) < MOST_LINKS:
                        target = os.path.join(os.path.dirname(chain[-1]), os.readlink(chain[-1]))
                        chain.append(self._canonical(os.path.normpath(target)))
                    if chain[-1] in self.paths and self.database.owner(place) is None:
                        self.paths.update(chain)
        bytecode = {}  # folder -> names of its cached files
        for path in [path for path in self.paths if path.endswith(b".py")]:
            folder, name = os.path.split(path)
            if folder not in bytecode:
                bytecode[folder] = _names(folder + b"/__pycache__")
            self.paths.update(folder + b"/__pycache__/" + cached for cached in bytecode[folder]
                              if cached.startswith(name[:-2]) and cached.endswith(b".pyc"))
        for folder in WITH_PACKAGES:
            if folder in self.paths:
                self.paths.update(os.path.join(folder, name) for name in _names(folder))
        for name in (b"/etc/ld.so.cache", b"/etc/ld.so.conf", b"/etc/ld.so.conf.d"):
            if os.path.exists(name):
                self.paths.add(name)
        self.paths.update(b"/etc/ld.so.conf.d/" + name for name in _names(b"/etc/ld.so.conf.d"))


    def entries(self):
        """Yields Entry, each directory before what it holds."""
        whole = set(self.paths)
        for path in self.paths:
            while path not in (b"/", b""):
                path = os.path.dirname(path)
                whole.add(path)
        whole -= {b"/", b""}
        # Named by the caller, or above such a path: taken though a directory is closed
        free = set()
        for path in self.named:
            while path not in (b"/", b""):
                free.add(path)
                path = os.path.dirname(path)
        links, holder = {}, None
        try:
            for path in sorted(whole, key=lambda path: path.split(b"/")):
                if holder is None or holder.folder != os.path.dirname(path):
                    if holder is not None:
                        holder.close()
                        holder = None
                    try:
                        holder = Holder(os.path.dirname(path))
                    except OSError:
                        continue  # removed, as documentation that dpkg was told to leave out
                yield from _entry(holder, path, links, path in free)
        finally:
            if holder is not None:
                holder.close()
        for path in sorted(self.left):
            if path not in whole:
                yield Entry(self.left[path], path[1:])
        for name, content in own_files(0, 0, b"/root", b"mrunc"):
            place = b"/etc/" + name.encode()
            if place not in whole:
                yield Entry("file", place[1:], 0o644, len(content), 0,
                            read=io.BytesIO(content).read)


def _entry(holder, path, links, free):
    """Yields the entry of a path of the host, if there is one.

    holder: the Holder of its directory
    path: bytes
    links: as for sources.file_entry
    free: whether the caller named it, or a path below it
    """
    name = os.path.basename(path)
    try:
        found = os.stat(name, dir_fd=holder.fd, follow_symlinks=False)
    except OSError:
        return
    if stat.S_ISDIR(found.st_mode):
        if holder.everybody or free:
            yield Entry("directory", path[1:], found.st_mode & 0o7777, 0, int(found.st_mtime))
        return
    if not holder.everybody and not free:
        yield Entry(CLOSED, path[1:])
        return
    if kind_of(found.st_mode) not in ("file", "link"):
        yield Entry(kind_of(found.st_mode), path[1:])
        return
    if stat.S_ISREG(found.st_mode) and not found.st_mode & stat.S_IROTH:
        yield Entry(UNREADABLE, path[1:])
        return
    entry = file_entry(holder.fd, name, path[1:], links)
    if entry is None:
        return
    try:
        # The mode of the opened file counts: it may have been replaced since os.stat.
        closed = entry.kind == "file" and not entry.mode & stat.S_IROTH
        yield Entry(UNREADABLE, path[1:]) if closed else entry
    finally:
        if entry.read:
            os.close(entry.read.fd)



def _names(folder):
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _same_kind(path, program):
    """Returns whether a library has the program's class and machine."""
    try:
        look = Look(os.path.realpath(path))
    except OSError:
        return False
    try:
        fd = look.open()
        try:
            found = elf.Elf(fd)
        finally:
            os.close(fd)
        return (found.bits, found.machine, found.big) == (program.bits, program.machine,
                                                          program.big)
    except (OSError, elf.NotElf):
        return False
    finally:
        look.close()


def _conf(path, depth):
    """Returns the directories of an ld.so.conf file and of the files that it includes."""
    out = []
    try:
        with open(path, "rb") as stream:
            lines = stream.read().split(b"\n")
    except OSError:
        return out
    for line in lines:
        words = line.split(b"#")[0].split()
        if words[:1] == [b"include"] and depth < 4:
            for pattern in words[1:]:
                for inner in sorted(glob.glob(os.path.join(os.path.dirname(path), pattern))):
                    out += _conf(inner, depth + 1)
        else:
            out += [word for word in words if word.startswith(b"/")]
    return out
