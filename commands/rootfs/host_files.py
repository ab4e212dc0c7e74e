# SPDX-License-Identifier: Apache-2.0
"""A file of the host by its path, one component at a time over no link, and what its descriptors say: who can reach it, and who
could have put it there.  A path may come out of a hostile file, and lead anywhere."""
import os
import stat

DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Where a system has its programs and loaders.
PROGRAMS = (b"/usr/", b"/bin/", b"/sbin/", b"/lib/", b"/lib32/", b"/lib64/", b"/libx32/", b"/opt/",
            b"/nix/store/", b"/gnu/store/")


class Holder:
    """The directory that a path lies in.  fd; everybody: whether all may search it and each one above it; system: whether it
    and each one above it is root's, and writable for nobody else."""

    def __init__(self, folder):
        """folder: absolute, bytes.  Raises OSError: also where a component is a link."""
        self.folder, self.everybody, self.system = folder, True, True
        self.fd = os.open(b"/", DIRECTORY)
        try:
            self._count()
            for step in folder.split(b"/"):
                if step:
                    below = os.open(step, DIRECTORY, dir_fd=self.fd)
                    os.close(self.fd)
                    self.fd = below
                    self._count()
        except OSError:
            os.close(self.fd)
            raise

    def _count(self):
        found = os.fstat(self.fd)
        self.everybody = self.everybody and bool(found.st_mode & stat.S_IXOTH)
        self.system = self.system and is_systems(found)

    def close(self):
        """Lets it go."""
        os.close(self.fd)


class Look:
    """What lies at a path without links in its directory part.  found: os.stat_result of the descriptor `fd` (O_PATH);
    everybody, system: as of Holder, with its own mode: whether all may read it, and whether only root can change it."""

    def __init__(self, path):
        """Raises OSError."""
        holder = Holder(os.path.dirname(path))
        try:
            self.path = path
            self.fd = os.open(os.path.basename(path), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=holder.fd)
            self.found = os.fstat(self.fd)
            self.link, self.file = stat.S_ISLNK(self.found.st_mode), stat.S_ISREG(self.found.st_mode)
            self.reached = holder.everybody
            self.everybody = holder.everybody and (self.link or bool(self.found.st_mode & stat.S_IROTH))
            self.system = holder.system and is_systems(self.found)
        finally:
            holder.close()

    @property
    def program(self):
        """Whether it is a program of the system's, or root's own link on the way to one: in its places, root's alone to change,
        for everybody to execute."""
        return self.system and (self.link or self.file and self.path.startswith(PROGRAMS) and
                                self.found.st_mode & 0o005 == 0o005)

    def open(self):
        """A descriptor to read a regular file.  Never opens anything else: a device acts when it is opened.  Raises OSError."""
        if not self.file:
            raise OSError(22, os.strerror(22), self.path)
        return os.open("/proc/self/fd/%d" % self.fd, os.O_RDONLY | os.O_CLOEXEC)

    def close(self):
        """Lets it go."""
        os.close(self.fd)


def is_systems(found):
    """Whether only root can change what os.stat_result tells of.  A directory with the sticky bit, as /nix/store: nobody else
    can replace what root has in it."""
    if found.st_uid != 0:
        return False
    kind, others = stat.S_IFMT(found.st_mode), found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return kind == stat.S_IFLNK or not others or kind == stat.S_IFDIR and bool(found.st_mode & stat.S_ISVTX)
