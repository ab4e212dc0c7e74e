# SPDX-License-Identifier: Apache-2.0
"""Opens a file of the host over no link, and tells who can reach it and who can change it.

A path may come out of a hostile file, and lead anywhere.
"""
import os
import stat

DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Directories of a system's programs and loaders.
PROGRAMS = (b"/usr/", b"/bin/", b"/sbin/", b"/lib/", b"/lib32/", b"/lib64/", b"/libx32/", b"/opt/",
            b"/nix/store/", b"/gnu/store/")


class Holder:
    """Holds the directory that a path lies in.

    fd: its descriptor (O_PATH)
    folder: its path
    everybody: whether all may search it and each directory above it
    system: whether only root can change it and each directory above it
    """

    def __init__(self, folder):
        """Opens it. folder: absolute, bytes. Raises OSError, also if a component is a link."""
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
        """Closes the descriptor."""
        os.close(self.fd)


class Look:
    """Holds what lies at a path without links in its directory part.

    fd: its descriptor (O_PATH)
    found: its os.stat_result
    link: whether it is a symlink
    file: whether it is a regular file
    reached: whether all may search the directories above it
    everybody: whether all may read it
    system: whether only root can change it
    """

    def __init__(self, path):
        """Opens it. path: absolute, bytes. Raises OSError."""
        holder = Holder(os.path.dirname(path))
        try:
            self.path = path
            self.fd = os.open(os.path.basename(path), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC,
                              dir_fd=holder.fd)
            self.found = os.fstat(self.fd)
            mode = self.found.st_mode
            self.link, self.file = stat.S_ISLNK(mode), stat.S_ISREG(mode)
            self.reached = holder.everybody
            self.everybody = holder.everybody and (self.link or bool(mode & stat.S_IROTH))
            self.system = holder.system and is_systems(self.found)
        finally:
            holder.close()

    @property
    def program(self):
        """Whether it is a program of the system, or a link of root's that may lead to one.

        That is a file in PROGRAMS that only root can change and everybody can execute.
        """
        return self.system and (self.link or self.file and self.path.startswith(PROGRAMS) and
                                self.found.st_mode & 0o005 == 0o005)

    def open(self):
        """Returns a descriptor to read a regular file. Raises OSError.

        Nothing else is ever opened: opening a device has effects.
        """
        if not self.file:
            raise OSError(22, os.strerror(22), self.path)
        return os.open("/proc/self/fd/%d" % self.fd, os.O_RDONLY | os.O_CLOEXEC)

    def close(self):
        """Closes the descriptor."""
        os.close(self.fd)


def is_systems(found):
    """Returns whether only root can change a file.

    found: os.stat_result of it

    A directory with the sticky bit counts, as /nix/store: nobody else can replace root's files in
    it.
    """
    if found.st_uid != 0:
        return False
    kind, others = stat.S_IFMT(found.st_mode), found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    sticky = kind == stat.S_IFDIR and bool(found.st_mode & stat.S_ISVTX)
    return kind == stat.S_IFLNK or not others or sticky
