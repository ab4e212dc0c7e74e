# SPDX-License-Identifier: Apache-2.0
"""Files that mrunc makes for its caller beside a hostile program: they have no name until they are whole, and their
directory is held, so that no path is resolved twice."""
import errno
import os
import stat

from ..tree.source import Planted, open_path

#: What a file system says that knows no unnamed files: NFS, 9p, FUSE before Linux 6.2, overlayfs before 6.1.  open(2)
NO_UNNAMED = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)


class Target:
    """A name (bytes) in a directory that is held (fd)."""

    def __init__(self, path, follow_links=False):
        """path: bytes; follow_links: as of source.open_path, for what leads to the directory.

        Raises OSError where there is no such directory; Planted for a link."""
        folder, self.name = os.path.split(path.rstrip(b"/") or path)
        self.name = self.name or b"."
        source = open_path(folder or b".", follow_links)
        if not source.directory:
            source.close()
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder)
        self.fd = source.fd

    def mode(self):
        """st_mode of what has the name, a link's own; None where nothing has it.  Raises OSError."""
        try:
            return os.stat(self.name, dir_fd=self.fd, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return None

    def give(self, fd):
        """A file of ours to the directory's owner, where root makes it in another user's: that user could not read it, and a
        later --here of that directory would hold files of two owners.  By descriptor: a name there is that user's to change."""
        if os.geteuid() != 0:
            return
        found = os.fstat(self.fd)
        if found.st_uid != 0:
            try:
                os.fchown(fd, found.st_uid, found.st_gid)
            except OSError:
                pass  # an owner that is not mapped here, or a file system without owners; then it stays root's

    def close(self):
        """Lets the directory go."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def way_round(error, path):
    """What to name in the place of a path (bytes) to a Target that raised this, as text; None where it was no planted link."""
    if not isinstance(error, Planted):
        return None
    folder, name = os.path.split(path.rstrip(b"/"))
    return os.fsdecode(os.path.join(os.path.realpath(folder or b"."), name))  # to be said, and nothing else


class Draft:
    """A new file for a Target.  fd: it is written through it, after `begin`."""

    def __init__(self, target, mode):
        """mode: permission bits.  Raises OSError where the file can't be made."""
        self.target, self.bits, self.fd, self.name = target, mode, -1, None
        kind = target.mode()
        if kind is not None and not stat.S_ISREG(kind):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        try:
            self.fd = os.open(b".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode, dir_fd=target.fd)
        except OSError as error:
            if error.errno not in NO_UNNAMED:
                raise
            self._make_named()  # only to see whether it can be: it gets a name again when the program is dead
            self.discard()

    def begin(self):
        """Makes sure that there is a file.  Returns its descriptor.  Raises OSError."""
        if self.fd < 0:
            self._make_named()
        return self.fd

    def publish(self):
        """Gives it its name, in the place of an older file.  Raises OSError, and leaves nothing then."""
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
        """Nothing is left of it.  Never raises."""
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
        self.fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, self.bits,
                          dir_fd=self.target.fd)
        self.name = name

    def _link(self, name):
        """open(2), O_TMPFILE; with a directory's descriptor os.link is linkat(2), which follows the magic link."""
        os.link(b"/proc/self/fd/%d" % self.fd, name, dst_dir_fd=self.target.fd, follow_symlinks=True)


def _fresh(name):
    """A name beside another that nobody can guess."""
    return b".%s.%s" % (name[:200], os.urandom(8).hex().encode())
