# SPDX-License-Identifier: Apache-2.0
"""Reads the sources of a root file system: a directory, a tar, an OCI image layout.

A source may be hostile, and may change while it is read. So everything is opened below a
descriptor, over no link, and the opened file is what is examined.
"""
import errno
import os
import shlex
import stat

from ...sandbox.errors import show, usage
from ...sandbox.host.facts import kind_of
from ...sandbox.tree.source import Planted, open_path
from ...syscalls import files
from . import oci, tar as rootfs_tar
from .entries import Entry, refused
from .streams import OVERHEAD, RawFile, Stream

KINDS = {"file": "file", "directory": "directory", "link": "symlink"}
OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def layers(path, limits, image=None, avoid=(), follow_links=False):
    """Yields streams of entries, one per layer.

    path: bytes
    limits: (bytes, files)
    image: name of an image of a layout, or None
    avoid: [(device, inode)] of directories that are not entered
    follow_links: as of tree.source.open_path

    Raises SandboxError: exit status 2 for no source, 1 for a refused one.
    """
    source = None
    try:
        source = open_path(path, follow_links)
        kind = kind_of(source.found.st_mode)
        if kind in ("file", "directory") and not source.allows(os.R_OK):
            raise usage("--from %s" % show(path), os.strerror(errno.EACCES))
        if kind == "file":
            yield tar(source, path, limits)
        elif kind != "directory":
            raise usage("--from %s" % show(path),
                        "is a %s; a source is a directory, a tar or an OCI image layout" % kind)
        elif source.mode_of(b"oci-layout") is not None:
            yield from oci.layers(source, path, limits, image)
        else:
            yield directory(source, avoid)
    except Planted as error:
        real = os.path.realpath(path)  # for the message only
        raise usage("--from %s" % show(path), error.strerror,
                    "name the path that it leads to: --from %s; or follow every link: "
                    "--follow-links" % shlex.quote(show(real)))
    except OSError as error:
        raise usage("--from %s" % show(path), error.strerror)
    finally:
        if source is not None:
            source.close()


def tar(source, path, limits):
    """Yields the entries of a tar file. path: for messages."""
    fd = source.open(os.O_RDONLY)
    try:
        stream = Stream(RawFile(fd), show(path), limits[0] + limits[1] * OVERHEAD + (1 << 21))
        yield from rootfs_tar.entries(stream, show(path))
        stream.drain()  # the checksum of compressed data stands at its end
    finally:
        os.close(fd)


def directory(source, avoid=()):
    """Yields the entries of a directory, each directory before what it holds, names in order."""
    top = source.open(os.O_RDONLY | os.O_DIRECTORY)
    try:
        device = os.fstat(top).st_dev
        links = {}
        pending = [b""]
        while pending:
            place = pending.pop()
            inner = None
            try:
                fd = files.open_beneath(top, place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                if error.errno != errno.EACCES:
                    raise _changed(place, error)
                yield Entry("unreadable", place or b".")
                continue
            try:
                found = os.fstat(fd)
                yield Entry("directory", place or b".", found.st_mode & 0o7777, 0,
                            int(found.st_mtime), xattrs=attributes(fd))
                if (found.st_dev, found.st_ino) in avoid:
                    continue
                if found.st_dev != device:
                    yield Entry("other file system", place)
                    continue
                inner = []
                for name in files.names(fd):
                    full = os.path.join(place, name)
                    entry = file_entry(fd, name, full, links)
                    if entry is None:
                        inner.append(full)
                        continue
                    try:
                        yield entry
                    finally:
                        if entry.read:
                            os.close(entry.read.fd)
            finally:
                os.close(fd)
            pending += reversed(inner)
    finally:
        os.close(top)


def file_entry(holder, name, full, links):
    """Returns the entry of a file, a link or a special file; None for a directory.

    holder: fd of its directory
    name: bytes
    full: its name in the tree
    links: {(device, inode): full} of the files met so far that have several names, updated

    Raises SandboxError if it changed meanwhile.
    """
    try:
        found = os.stat(name, dir_fd=holder, follow_symlinks=False)
        kind = kind_of(found.st_mode)
        mode, mtime = found.st_mode & 0o7777, int(found.st_mtime)
        if kind == "directory":
            return None
        if kind == "link":
            return Entry("symlink", full, 0o777, 0, mtime, os.readlink(name, dir_fd=holder))
        if kind != "file":
            return Entry(kind, full, mode, 0, mtime)
        key = (found.st_dev, found.st_ino)
        if found.st_nlink > 1 and key in links:
            return Entry("hardlink", full, mode, 0, mtime, links[key])
        try:
            fd = os.open(name, OPEN, dir_fd=holder)
        except OSError as error:
            if error.errno != errno.EACCES:
                raise
            return Entry("unreadable", full)
    except OSError as error:
        raise _changed(full, error)
    opened = os.fstat(fd)
    if not stat.S_ISREG(opened.st_mode):
        os.close(fd)
        raise refused(full, "it was replaced while it was read")
    if opened.st_nlink > 1:
        links[opened.st_dev, opened.st_ino] = full
    return Entry("file", full, opened.st_mode & 0o7777, opened.st_size, int(opened.st_mtime),
                 read=_Read(fd), xattrs=attributes(fd))


class _Read:
    def __init__(self, fd):
        self.fd = fd

    def __call__(self, size):
        return os.read(self.fd, size)


def attributes(fd):
    """Returns the names (bytes) of the extended attributes of an open file, sorted."""
    try:
        return sorted(os.fsencode(name) for name in os.listxattr(fd))
    except OSError:
        return []


def _changed(place, error):
    return refused(place or b".", "it changed while it was read (%s)" % error.strerror)
