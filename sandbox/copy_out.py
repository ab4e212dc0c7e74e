# SPDX-License-Identifier: Apache-2.0
"""--export: regular files that the program added or changed, brought out to a directory or a tar.

Everything about them is hostile: names, number, length.  Each name is made below a descriptor of a directory that is ours
and was empty, no link is followed or made, no mode bit of the program's comes along, and what would be too much is left
out and said.
"""
import os
import stat

from . import contents
from .changes import untext
from .door import option
from .errors import SandboxError, usage

MOST_FILES = 100000
MOST_BYTES = 8 << 30
#: Would be taken for one that is compressed, and be a directory.
OTHER_ARCHIVES = (b".tar.gz", b".tgz", b".tar.xz", b".txz", b".tar.bz2", b".tar.zst", b".zip", b".7z")
DIRECTORY_MODE, FILE_MODE = 0o700, 0o600


def destination(path, writable_sources):
    """The exporter for a path: bytes, a name in `.tar` is an archive.  writable_sources: host directories that the program can
    write.  Raises SandboxError (exit 2); makes what is missing, before anything runs."""
    shown = option("export", path.decode("utf-8", "surrogateescape"))
    folder = os.path.realpath(path)
    for source in writable_sources:
        if (folder + b"/").startswith(os.path.realpath(source) + b"/"):
            raise usage(shown, "lies in a directory that the program can write")
    if os.path.islink(path):
        raise usage(shown, "is a symlink", "name the place itself")
    if path.lower().endswith(OTHER_ARCHIVES) and not os.path.isdir(path):
        raise usage(shown, "of archives there is .tar alone", "name a file in .tar, or a directory")
    try:
        return (Archive if path.endswith(b".tar") else Folder)(path)
    except OSError as error:
        raise usage(shown, error.strerror if error.errno != 39 else "is not empty")


class Exporter:
    """Takes files one by one.  left_out: [(path, why)]."""

    def __init__(self):
        self.files = self.bytes = 0
        self.budget = contents.Budget()
        self.left_out = []

    def take(self, path, entry):
        """One file.  path: absolute inside, bytes; entry: tree_walk.Entry.  Never raises."""
        try:
            fd = entry.open()
        except OSError as error:
            self.left_out.append((path, error.strerror))
            return
        try:
            found = os.fstat(fd)
            why = self._why_not(fd, found)
            if why is None:
                self.files += 1
                self.bytes += min(found.st_size, found.st_blocks * 512)
                self.put(path.lstrip(b"/"), fd, found.st_size)
            else:
                self.left_out.append((path, why))
        except OSError as error:
            self.left_out.append((path, error.strerror))
        finally:
            os.close(fd)

    def put(self, path, fd, size):
        """Writes one file.  path: relative, bytes; fd: of the file; size: its length.  Raises OSError."""
        raise NotImplementedError

    def _why_not(self, fd, found):
        if not stat.S_ISREG(found.st_mode):
            return "not a regular file"
        if self.files >= MOST_FILES:
            return "more than %d files" % MOST_FILES
        if self.bytes + min(found.st_size, found.st_blocks * 512) > MOST_BYTES:
            return "more than %d bytes in all" % MOST_BYTES
        if not self.budget.take(contents.holes(fd, found.st_size)):
            return "sparse: %d bytes long, %d in use" % (found.st_size, found.st_blocks * 512)
        return None


class Folder(Exporter):
    """Into a directory, made where it isn't there."""

    def __init__(self, path):
        Exporter.__init__(self)
        self.path, self.made = path, False
        try:
            os.mkdir(path, DIRECTORY_MODE)
            self.made = True
        except FileExistsError:
            pass
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        if os.listdir(self.fd):
            os.close(self.fd)
            raise OSError(39, os.strerror(39))

    def put(self, path, fd, size):
        """Writes one file, holes as holes.  Raises OSError."""
        parent = os.dup(self.fd)
        try:
            steps = path.split(b"/")
            for step in steps[:-1]:
                try:
                    os.mkdir(step, DIRECTORY_MODE, dir_fd=parent)
                except FileExistsError:
                    pass
                below = os.open(step, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
                os.close(parent)
                parent = below
            out = os.open(steps[-1], os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE,
                          dir_fd=parent)
            try:
                for start, data in contents.pieces(fd, size):
                    while data:
                        count = os.pwrite(out, data, start)
                        data, start = data[count:], start + count
                os.ftruncate(out, size)
            finally:
                os.close(out)
        finally:
            os.close(parent)

    def finish(self):
        """Nothing more comes."""
        os.close(self.fd)

    def discard(self):
        """Nothing ran."""
        os.close(self.fd)
        if self.made:
            os.rmdir(self.path)


class Archive(Exporter):
    """Into a new tar (pax), which takes its name when it is whole."""

    def __init__(self, path):
        Exporter.__init__(self)
        import tarfile
        self.path, self.draft = path, b"%s.%d.tmp" % (path, os.getpid())
        if os.path.lexists(path) and not os.path.isfile(path):
            raise OSError(17, os.strerror(17))
        self.fd = os.open(self.draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        self.stream = os.fdopen(self.fd, "wb")
        self.tar = tarfile.open(fileobj=self.stream, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8",
                                errors="surrogateescape")

    def put(self, path, fd, size):
        """Adds one file.  Raises OSError."""
        import tarfile
        info = tarfile.TarInfo(path.decode("utf-8", "surrogateescape"))
        info.size, info.mode = size, FILE_MODE
        with os.fdopen(os.dup(fd), "rb") as stream:
            stream.seek(0)
            self.tar.addfile(info, stream)

    def finish(self):
        """Closes it and gives it its name.  Raises OSError."""
        self.tar.close()
        self.stream.close()
        os.rename(self.draft, self.path)

    def discard(self):
        """Nothing ran."""
        self.stream.close()
        os.unlink(self.draft)


def export(exporter, held, changes):
    """Brings out the regular files that are new or have another content.  held: changes.Changes; changes: its records.

    Returns lines for people about what was left out.  Raises SandboxError where the destination fails.
    """
    wanted = set(untext(row["path"]) for row in changes if row["kind"] == "file" and (
        row["change"] == "added" or row["change"] == "modified" and (
            row["was"]["kind"] != "file" or row["was"]["size"] != row["size"] or row["sha256"] is None or
            row["was"]["sha256"] != row["sha256"])))
    try:
        for place in held.places:
            for entry in place.walk():
                path = place.inside(entry.path)
                if path not in wanted or entry.directory:
                    continue
                if held.interrupted:
                    exporter.left_out.append((path, "interrupted"))
                else:
                    exporter.take(path, entry)
        exporter.finish()
    except OSError as error:
        raise SandboxError("export", os.fsdecode(exporter.path), error.errno)
    reasons = {}
    for path, why in exporter.left_out:
        reasons.setdefault(why, []).append(path)
    return ["%d files were not exported (%s), first %s" % (len(paths), why, paths[0].decode("utf-8", "surrogateescape"))
            for why, paths in reasons.items()]
