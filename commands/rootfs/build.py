# SPDX-License-Identifier: Apache-2.0
"""Builds a root file system in a draft, which gets its name when it is complete.

The draft lies beside the destination and is locked while its builder lives. An unlocked draft was
left by a killed builder; the next build of the same name removes it.
"""
import errno
import fcntl
import os
import stat

from ...syscalls import files
from . import sources as rootfs_sources
from ...sandbox.errors import CANNOT_CONTAIN, SandboxError, show, usage
from .extract import Entries, Writer

MOST_BYTES, MOST_FILES = 16 << 30, 500000
SCHEMA = 1


def build(destination, sources, limits=(MOST_BYTES, MOST_FILES), epoch=None, image=None, tick=None,
          follow_links=False):
    """Makes the tree and returns its manifest (a dict).

    destination: path (bytes), which must not exist
    sources: [("from", path) or ("from-host", [name])], lowest first
    limits: (bytes, entries) of the whole tree
    epoch: latest time of a file in seconds (SOURCE_DATE_EPOCH), or None
    image: name of an image of an OCI layout, or None
    tick: function (entries, bytes), called after each entry, or None
    follow_links: whether every link in a source's path is followed, not only root's

    Raises SandboxError: exit status 1 for a refused source, 2 for a mistake, 125 for what this host
    can't do. Nothing is left after an error.
    """
    draft = Draft(destination)
    writer = None
    try:
        draft.make()
        writer = Writer(draft.fd, limits[0], limits[1], epoch, tick)
        avoid = [(os.fstat(draft.fd).st_dev, os.fstat(draft.fd).st_ino)]
        for kind, value in sources:
            if kind == "from-host":
                from . import from_host
                writer.take(from_host.entries(value))
            else:
                for layer in rootfs_sources.layers(os.fsencode(value), limits, image, avoid,
                                                   follow_links):
                    writer.take(layer)
        writer.finish()
        manifest = describe(writer, sources)
        draft.publish(writer.top.mode)
        return manifest
    except OSError as error:
        raise _failed(error)
    finally:
        if writer is not None:
            writer.close()
        draft.discard()


def _failed(error):
    if error.errno == errno.ENOSPC:
        return SandboxError("rootfs", "the tree", error.errno, "no space or no inode is left")
    what = show(os.fsencode(error.filename)) if error.filename else "the tree"
    return SandboxError("rootfs", what, error.errno, error.strerror, status=CANNOT_CONTAIN)


def describe(writer, sources):
    """Returns the manifest; it does not depend on when, where or by whom the tree was made.

    Its `entries` are made as they are read (extract.Entries): a list of half a million would take
    hundreds of megabytes.
    """
    names = [value if kind == "from" else list(value) for kind, value in sources]
    entries = Entries(writer.top)
    return {"schema": SCHEMA,
            "sources": [{kind: show(os.fsencode(name)) if kind == "from" else name}
                        for (kind, _), name in zip(sources, names)],
            "entries": entries, "bytes": entries.bytes,
            "dropped": [{"path": show(path), "what": what} for path, what in writer.dropped]}


class Draft:
    """Is the directory of a build: `.NAME.mrunc-draft-XXXX` beside the destination, locked."""

    def __init__(self, destination):
        """Looks at the destination. Raises SandboxError (exit status 2) if it can't be made."""
        folder, name = os.path.split(destination.rstrip(b"/"))
        self.shown = show(destination)
        if name in (b"", b".", b".."):
            raise usage("rootfs build %s" % self.shown, "is not a name for a new directory")
        self.parent = self.fd = -1
        self.name, self.start = None, b".%s.mrunc-draft-" % name[:200]
        self.final = name
        try:
            self.parent = os.open(folder or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            os.stat(name, dir_fd=self.parent, follow_symlinks=False)
        except FileNotFoundError:
            if self.parent >= 0:
                return
            raise usage("rootfs build %s" % self.shown, "there is no directory %s" % show(folder))
        except OSError as error:
            raise usage("rootfs build %s" % self.shown, error.strerror)
        os.close(self.parent)
        raise usage("rootfs build %s" % self.shown, "exists", "remove it, or choose another name")

    def make(self):
        """Removes drafts of this name that killed builds left, and makes a new one. Raises OSError.
        """
        for name in files.names(self.parent):
            if name.startswith(self.start) and len(name) == len(self.start) + 16 and \
                    not name[len(self.start):].strip(b"0123456789abcdef"):
                self._remove_left(name)
        while True:
            name = self.start + os.urandom(8).hex().encode()
            os.mkdir(name, 0o700, dir_fd=self.parent)
            self.name = name
            self.fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
                              dir_fd=self.parent)
            fcntl.flock(self.fd, fcntl.LOCK_EX)
            try:  # before the lock another build may have removed it as left over
                if os.path.samestat(os.stat(name, dir_fd=self.parent, follow_symlinks=False),
                                    os.fstat(self.fd)):
                    self._plain()
                    return
            except FileNotFoundError:
                pass
            os.close(self.fd)
            self.name, self.fd = None, -1

    def _plain(self):
        """Removes what the directory inherits and would pass on: group, set-gid bit, ACLs."""
        for name in ("system.posix_acl_default", "system.posix_acl_access"):
            try:
                os.removexattr(self.fd, name)
            except OSError:
                pass  # there is none, or the file system has none
        os.fchown(self.fd, -1, os.getegid())
        os.fchmod(self.fd, 0o700)

    def _remove_left(self, name):
        try:
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
                         dir_fd=self.parent)
        except OSError:
            return
        try:
            if os.fstat(fd).st_uid == os.geteuid():
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                files.remove(self.parent, name)
        except OSError:
            pass  # in use, or another build removes it
        finally:
            os.close(fd)

    def publish(self, mode):
        """Gives the tree its mode and its name, never over anything. Raises SandboxError, OSError.
        """
        os.fchmod(self.fd, stat.S_IMODE(mode))
        try:
            try:
                files.rename_exclusive(self.parent, self.name, self.final)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOSYS):
                    raise
                # Not every file system knows the flag; then at most an empty directory is replaced.
                os.rename(self.name, self.final, src_dir_fd=self.parent, dst_dir_fd=self.parent)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise usage("rootfs build %s" % self.shown, "something else has taken that name "
                            "meanwhile")
            raise
        self.name = None

    def discard(self):
        """Removes the draft unless it got its name; each step is tried."""
        if self.name is not None and self.fd >= 0:
            try:
                files.remove(self.parent, self.name)
            except OSError:
                pass  # the next build of this name removes it
            self.name = None
        for fd in (self.fd, self.parent):
            if fd >= 0:
                os.close(fd)
        self.fd = self.parent = -1
