# SPDX-License-Identifier: Apache-2.0
"""--export: brings regular files that the program added or changed to a directory or a tar.

Everything about them is hostile: names, number, length.  Each is made below the descriptor of a
directory that is ours and was empty.  No link is followed or made, no mode bit of the program's is
kept, and what would be too much is left out and told.  The destination is not there while the
program runs: the program may see the directory that it lies in.
"""
import errno
import os
import shlex
import stat

from ...syscalls.files import directory_room, next_names
from ..caller import option
from ..errors import SandboxError, show, usage
from . import contents, shown
from .drafts import Draft, Target, way_round

MOST_FILES = 100000
MOST_BYTES = 8 << 30
#: Names of compressed archives, which would become directories.
OTHER_ARCHIVES = (b".tar.gz", b".tgz", b".tar.xz", b".txz", b".tar.bz2", b".tar.zst", b".zip",
                  b".7z")
DIRECTORY_MODE, FILE_MODE = 0o700, 0o600


def destination(path, places, follow_links=False):
    """Returns the Exporter for a path, an Archive for a name in `.tar`.

    path: bytes.
    places: host directories that the program can write (shown.writable).
    follow_links: as of Target.
    Raises SandboxError (2) if it can't be made, before anything runs.
    """
    named = option("export", show(path))
    target = None
    try:
        target = Target(path, follow_links)
        kind = target.mode()
        holder = shown.holder(target.fd, places)
        if kind is not None and stat.S_ISLNK(kind):
            raise usage(named, "is a symlink", "name the place itself")
        if path.lower().endswith(OTHER_ARCHIVES) and (kind is None or not stat.S_ISDIR(kind)):
            raise usage(named, "of archives there is .tar alone",
                        "name a file in .tar, or a directory")
        exporter = (Archive if path.endswith(b".tar") else Folder)(target)
        holder = holder or exporter.fd >= 0 and shown.holder(exporter.fd, places)
        if holder:
            exporter.discard()
            raise usage(named, "lies in a directory that the program can write (%s)" %
                        os.fsdecode(holder))
        return exporter
    except (OSError, SandboxError) as error:
        if target is not None:
            target.close()
        if isinstance(error, SandboxError):
            raise
        other = way_round(error, path)
        if error.errno == errno.ENOTEMPTY:
            new = os.fsdecode(path.rstrip(b"/") + b".new")
            raise usage(named, "is not empty", "remove it, or name another: " +
                        option("export", new, typed=shlex.quote(new)))
        raise usage(named, error.strerror, other and "name the path that it leads to: " +
                    option("export", other, typed=shlex.quote(other)))


class Exporter:
    """A destination that takes files one by one.

    fd: of the destination, -1 while it is not made.
    files, bytes: how many were taken.
    left_out: {short reason: [how many files, the first path, the whole reason]}.
    """

    def __init__(self, target):
        """target: drafts.Target, taken over.  Raises OSError if it can't be made."""
        self.target, self.fd = target, -1
        self.files = self.bytes = 0
        self.budget = contents.Budget()
        self.left_out = {}

    def leave_out(self, path, why):
        """Counts a file that is left out.

        path: as of `take`; why: `REASON` or `REASON: DETAILS`.
        """
        self.left_out.setdefault(why.partition(":")[0], [0, path, why])[0] += 1

    def finish(self):
        """Completes the destination.  Returns [str] about what was left out.

        Raises SandboxError if the destination fails.
        """
        try:
            self.complete()
        except OSError as error:
            raise SandboxError("export", os.fsdecode(self.target.name), error.errno)
        finally:
            self.discard()
        return ["%d files were not exported (%s), first %s" % (count, why, show(path))
                for count, path, why in self.left_out.values()]

    def take(self, path, entry):
        """Takes one file.  path: absolute inside, bytes; entry: walk.Entry.  Never raises."""
        try:
            fd = entry.open()
        except OSError as error:
            self.leave_out(path, error.strerror)
            return
        try:
            found = os.fstat(fd)
            why = self._why_not(fd, found)
            if why is None:
                self.files += 1
                self.bytes += min(found.st_size, found.st_blocks * 512)
                self.put(path.lstrip(b"/"), fd, found.st_size)
            else:
                self.leave_out(path, why)
        except OSError as error:
            self.leave_out(path, error.strerror)
        finally:
            os.close(fd)

    def put(self, path, fd, size):
        """Writes one file.  Raises OSError.

        path: relative, bytes; fd: of the file; size: its length in bytes.
        """
        raise NotImplementedError

    def complete(self):
        """Gives the destination its name, if it has none yet.  Raises OSError."""
        raise NotImplementedError

    def discard(self):
        """Closes everything, and removes a destination without a name.  Never raises."""
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
    """A directory, which is made when the program is dead if it is not there."""

    def __init__(self, target):
        Exporter.__init__(self, target)
        if target.mode() is None:
            folder = "/proc/self/fd/%d" % target.fd
            if not os.access(folder, os.W_OK | os.X_OK):
                error = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES
                raise OSError(error, os.strerror(error))
        else:
            self._open()

    def _open(self):
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self.target.name, flags, dir_fd=self.target.fd)
        if next_names(fd, directory_room()):
            os.close(fd)
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        self.fd = fd

    def _make(self):
        """Makes the directory if it is not open yet.  Raises OSError."""
        if self.fd >= 0:
            return
        os.mkdir(self.target.name, DIRECTORY_MODE, dir_fd=self.target.fd)
        self._open()
        # Others may write the directory above, and so take the name.
        if os.fstat(self.fd).st_uid != os.geteuid():
            os.close(self.fd)
            self.fd = -1
            raise OSError(errno.ESTALE, "somebody else took its name")

    def put(self, path, fd, size):
        """Writes one file, holes as holes.  Raises OSError."""
        self._make()
        parent = os.dup(self.fd)
        try:
            steps = path.split(b"/")
            for step in steps[:-1]:
                made = True
                try:
                    os.mkdir(step, DIRECTORY_MODE, dir_fd=parent)
                except FileExistsError:
                    made = False
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                below = os.open(step, flags, dir_fd=parent)
                os.close(parent)
                parent = below
                if made:
                    self.target.give(parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            out = os.open(steps[-1], flags, FILE_MODE, dir_fd=parent)
            try:
                for start, data in contents.pieces(fd, size):
                    while data:
                        count = os.pwrite(out, data, start)
                        data, start = data[count:], start + count
                os.ftruncate(out, size)
                self.target.give(out)
            finally:
                os.close(out)
        finally:
            os.close(parent)

    def complete(self):
        """Makes the directory if no file did, and gives it to its owner last.

        Until now it was closed to others.  Raises OSError.
        """
        self._make()
        self.target.give(self.fd)

    def discard(self):
        """Closes the directories."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self.target.close()


class Archive(Exporter):
    """A new tar (pax), which takes its name when it is complete."""

    def __init__(self, target):
        Exporter.__init__(self, target)
        import tarfile  # before the program runs, and for an archive alone
        self.draft, self.tar = Draft(target, FILE_MODE), None
        self.module = tarfile

    def _open(self):
        if self.tar is None:
            self.stream = os.fdopen(os.dup(self.draft.begin()), "wb")
            self.tar = self.module.open(
                fileobj=self.stream, mode="w", format=self.module.PAX_FORMAT, encoding="utf-8",
                errors="surrogateescape")

    def put(self, path, fd, size):
        """Adds one file.  Raises OSError."""
        self._open()
        info = self.module.TarInfo(show(path))
        info.size, info.mode = size, FILE_MODE
        with os.fdopen(os.dup(fd), "rb") as stream:
            stream.seek(0)
            self.tar.addfile(info, stream)
        self.tar.members = []  # tarfile would keep a kilobyte for each

    def complete(self):
        """Completes the tar and gives it its name.  Raises OSError."""
        self._open()
        self.tar.close()
        self.stream.close()
        self.draft.publish()

    def discard(self):
        """Closes the tar, and removes it if it has no name yet."""
        self.draft.discard()
        self.target.close()
