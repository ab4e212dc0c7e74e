# SPDX-License-Identifier: Apache-2.0
"""Files that mrunc makes for its caller beside a hostile program.

They have no name until they are complete.  Their directory is held, so that no path is resolved
twice.
"""
import errno
import os
import stat

from ..tree.source import Planted, open_path

#: What file systems without unnamed files answer: NFS, 9p, FUSE before Linux 6.2, overlayfs before
#: 6.1.  open(2)
NO_UNNAMED = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)


class Target:
    """A name in a directory that is held.

    fd: the directory, -1 when closed; name: bytes.
    """

    def __init__(self, path, follow_links=False):
        """path: bytes; follow_links: as of source.open_path, for the way to the directory.

        Raises OSError if there is no such directory, Planted for a link on the way.
        """
        folder, self.name = os.path.split(path.rstrip(b"/") or path)
        self.name = self.name or b"."
        source = open_path(folder or b".", follow_links)
        if not source.directory:
            source.close()
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder)
        self.fd = source.fd

    def mode(self):
        """Returns st_mode of what has the name, a link's own, or None.  Raises OSError."""
        try:
            return os.stat(self.name, dir_fd=self.fd, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return None

    def give(self, fd):
        """Gives a file of root's to the owner of the directory, by its descriptor.

        The owner could not read it otherwise, and a later --here of the directory would hold files
        of two owners.  The name is not used: the owner may change it.
        """
        if os.geteuid() != 0:
            return
        found = os.fstat(self.fd)
        if found.st_uid != 0:
            try:
                os.fchown(fd, found.st_uid, found.st_gid)
            except OSError:
                pass  # an unmapped owner, or a file system without owners: it stays root's

    def close(self):
        """Closes the directory."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def way_round(error, path):
    """Returns the path to name instead, as text, if `error` was raised for a planted link.

    path: bytes, as given to Target.  None for another error.
    """
    if not isinstance(error, Planted):
        return None
    folder, name = os.path.split(path.rstrip(b"/"))
    return os.fsdecode(os.path.join(os.path.realpath(folder or b"."), name))  # only for a message


class Draft:
    """A new file for a Target.

    fd: to write it by, after `begin`.
    name: bytes, while it has a name of its own, else None.
    """

    def __init__(self, target, mode):
        """mode: permission bits.  Raises OSError if the file can't be made."""
        self.target, self.bits, self.fd, self.name = target, mode, -1, None
        kind = target.mode()
        if kind is not None and not stat.S_ISREG(kind):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        try:
            self.fd = os.open(b".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode, dir_fd=target.fd)
        except OSError as error:
            if error.errno not in NO_UNNAMED:
                raise
            self._make_named()  # a trial: `begin` makes it again when the program is dead
            self.discard()

    def begin(self):
        """Makes the file if it is not there yet.  Returns its descriptor.  Raises OSError."""
        if self.fd < 0:
            self._make_named()
        return self.fd

    def publish(self):
        """Gives the file its name, in the place of an older one.

        Raises OSError, and removes the file then.
        """
        target = self.target
        target.give(self.begin())
        try:
            if self.name is None and target.mode() is None:
                try:
                    self._link(target.name)
                    return
                except FileExistsError:
                    pass
            if self.name is None:  # linkat(2) replaces nothing, rename(2) does
                name = _fresh(target.name)
                self._link(name)
                self.name = name
            os.rename(self.name, target.name, src_dir_fd=target.fd, dst_dir_fd=target.fd)
            self.name = None
        except OSError:
            self.discard()
            raise

    def discard(self):
        """Removes the file if it has no name yet.  Never raises."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        if self.name is not None:
            try:
                os.unlink(self.name, dir_fd=self.target.fd)
            except OSError:
                pass
            self.name = None

    def _make_named(self):
        name = _fresh(self.target.name)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self.fd = os.open(name, flags, self.bits, dir_fd=self.target.fd)
        self.name = name

    def _link(self, name):
        """Links the unnamed file by its magic link: no privilege is needed.  open(2), O_TMPFILE"""
        os.link(b"/proc/self/fd/%d" % self.fd, name, dst_dir_fd=self.target.fd,
                follow_symlinks=True)


def _fresh(name):
    """Returns a name beside another that nobody can guess."""
    return b".%s.%s" % (name[:200], os.urandom(8).hex().encode())
