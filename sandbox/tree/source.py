# SPDX-License-Identifier: Apache-2.0
"""A file or directory of the host that was named as a source: opened once, one component at a time, and held.

The kernel never follows a link here: every component is opened with O_PATH and O_NOFOLLOW below the descriptor of the one
before, so this is the same on kernels with and without openat2.  Kind, owner and inode are read from the descriptor, and the
mount, the copy or the Landlock rule is made from it.  A program that still runs can write to a source's directory and exchange
its names at any moment; it can't exchange what is held.
"""
import errno
import os
import sys

from ..errors import show
from ..proc import read


DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
ANYTHING = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
S_IFMT, S_IFLNK, S_IFDIR = 0o170000, 0o120000, 0o040000
#: More links in one path than this are no path.  path_resolution(7)
MOST_LINKS = 40
#: `entries` holds one descriptor per level.  Deeper trees are an error: what is not looked at is not shown.
DEEPEST = 100
REPLACED = "it was replaced while mrunc started"


class Planted(OSError):
    """A link in a directory that others than root can write.  filename: its path; target: where it leads, in its own words."""

    def __init__(self, path, target):
        said = [show(part) for part in (path, target)]
        OSError.__init__(self, errno.ELOOP, "%s is a symbolic link to %s in a directory that others than root can write" %
                         tuple(said), path)
        self.target = target


class Source:
    """fd: of O_PATH; found: its os.stat_result; path: bytes, for messages and for what mountinfo is to show; start: b"/", b"."
    or the Source that it was opened below; steps: [names] from there, none of them a link."""

    __slots__ = ("fd", "found", "path", "start", "steps")

    def __init__(self, fd, start, steps):
        """Takes the descriptor over.  Raises OSError."""
        self.fd, self.start, self.steps = fd, start, steps
        try:
            self.found = os.fstat(fd)
            self.path = os.readlink(b"/proc/self/fd/%d" % fd)
        except OSError:
            self.close()
            raise

    @property
    def directory(self):
        """Whether it is one."""
        return self.found.st_mode & S_IFMT == S_IFDIR

    @property
    def inode(self):
        """(device, inode)."""
        return self.found.st_dev, self.found.st_ino

    def close(self):
        """Lets it go.  Once more does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def allows(self, mode):
        """As os.access.  mode: os.R_OK or the like."""
        return os.access(b"/proc/self/fd/%d" % self.fd, mode)

    def open(self, flags):
        """A new descriptor of the same file or directory with other flags.  Raises OSError."""
        # A descriptor's own link leads to what it holds and not to a path.  proc(5)
        return os.open(b"/proc/self/fd/%d" % self.fd, flags | os.O_CLOEXEC)

    def below(self, *steps):
        """The Source of what lies below this directory.  steps: names (bytes).  Raises OSError: ELOOP for a link, ENOTDIR for
        one on the way."""
        fd = descend(os.dup(self.fd), steps)
        source = Source(fd, self, steps)
        if source.found.st_mode & S_IFMT == S_IFLNK:
            source.close()
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.path.join(self.path, *steps))
        return source

    def mode_of(self, *steps):
        """The st_mode of what lies below, a link as itself; None where nothing does."""
        try:
            fd = descend(os.dup(self.fd), steps)
        except OSError:
            return None
        try:
            return os.fstat(fd).st_mode
        finally:
            os.close(fd)

    def here(self):
        """The same file or directory as a process in a new mount namespace has it: a descriptor of O_PATH.

        A mount can only be cloned from a descriptor of one's own mount namespace (fs/namespace.c, may_copy_tree), and an
        ordinary user has the right to clone one in a new namespace only.  So the names are walked again there, over no link,
        and what is found must be the inode that has been held since it was first opened.  Raises OSError; ESTALE: it isn't.
        """
        try:
            fd = descend(self.start.here() if isinstance(self.start, Source) else os.open(self.start, DIRECTORY), self.steps)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            raise OSError(errno.ESTALE, REPLACED, self.path)
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) != self.inode:
            os.close(fd)
            raise OSError(errno.ESTALE, REPLACED, self.path)
        return fd

    def mount_id(self):
        """As of the function."""
        return mount_id(self.fd)


def mount_id(fd):
    """The number of the mount that something open lies on.  proc_pid_fdinfo(5)"""
    return int(read("/proc/self/fdinfo/%d" % fd, first=4096).partition(b"mnt_id:")[2].split()[0])


def enter(folder, step):
    """A descriptor of O_PATH of one name below `folder` (fd); of a link, the link itself.  Raises OSError."""
    try:
        return os.open(step, DIRECTORY, dir_fd=folder)  # with O_DIRECTORY, or autofs would not mount it
    except OSError as error:
        if error.errno != errno.ENOTDIR:
            raise
    return os.open(step, ANYTHING, dir_fd=folder)


def descend(fd, steps):
    """The descriptor at the end of some names.  fd: taken over.  Raises OSError; ENOTDIR: a link or a file on the way."""
    for step in steps:
        try:
            following = enter(fd, step)
        finally:
            os.close(fd)
        fd = following
    return fd


def only_root_writes(folder):
    """Whether a directory (fd) belongs to root and nobody else can make names in it.  An ACL shows in the group's bits."""
    found = os.fstat(folder)
    return found.st_uid == 0 and not found.st_mode & 0o022


def from_where(path):
    """(b"." or b"/", the rest) of a path.  What leads to the current directory is the shell's business and not looked at."""
    if not path.startswith(b"/"):
        return b".", path
    for place in working_directories():
        if len(place) > 1 and (path + b"/").startswith(place + b"/"):
            return b".", path[len(place) + 1:]
    return b"/", path


def working_directories():
    """The paths by which the current directory is known: the kernel's, and the shell's, which may lead over links."""
    try:
        yield os.getcwdb()
        told = os.environ.get("PWD")
        if told and told[:1] == "/" and os.path.samestat(os.stat(told), os.stat(".")):
            yield os.fsencode(told)
    except OSError:
        pass


def open_path(path, follow_links=False):
    """The Source at a path (bytes).

    A link is followed where only root can write the directory that holds it, or where all are to be followed; by reading it
    and going on from there.  Raises Planted for any other link, OSError for what can't be opened.
    """
    start, rest = from_where(path)
    held, names, links = [os.open(start, DIRECTORY)], [], 0
    pending = rest.split(b"/")[::-1]
    try:
        if not path:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        while pending:
            step = pending.pop()
            if step in (b"", b"."):
                if os.fstat(held[-1]).st_mode & S_IFMT != S_IFDIR:
                    raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
                continue
            if step == b".." and names and names[-1] != b"..":
                os.close(os.open(b".", DIRECTORY, dir_fd=held[-1]))  # ENOTDIR after a file
                os.close(held.pop())
                names.pop()
                continue
            if step == b".." and start == b"/":
                continue
            fd = enter(held[-1], step)
            held.append(fd)
            if os.fstat(fd).st_mode & S_IFMT != S_IFLNK:
                names.append(step)
                continue
            target = os.readlink(b"", dir_fd=fd)
            os.close(held.pop())
            if not follow_links and not only_root_writes(held[-1]):
                raise Planted(os.path.join(start if start == b"/" else b"", *(names + [step])), target)
            links += 1
            if links > MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            pending += target.split(b"/")[::-1]
            if target.startswith(b"/"):
                while held:
                    os.close(held.pop())
                start, names = b"/", []
                held.append(os.open(start, DIRECTORY))
        return Source(held.pop(), start, names)
    finally:
        for fd in held:
            os.close(fd)


class Place:
    """What `entries` found.  path: bytes relative to the source; entry: its os.DirEntry, valid until the next is asked for."""

    __slots__ = ("path", "entry")

    def __init__(self, path, entry):
        self.path, self.entry = path, entry

    @property
    def mode(self):
        """Its st_mode, of a link its own.  Raises OSError."""
        return self.entry.stat(follow_symlinks=False).st_mode


def listing_of(fd):
    """The os.DirEntry iterator of a directory (fd)."""
    return os.scandir(fd if sys.version_info >= (3, 7) else b"/proc/self/fd/%d" % fd)


def entries(top, closed=None, most=None):
    """Yields a Place for everything below a directory, held by descriptors all the way down.

    top: Source, which is a directory; closed: called with the path and a descriptor of O_PATH of each directory that can't be
    listed; most: so many entries at most.  Raises OSError, ENAMETOOLONG: deeper than DEEPEST.
    """
    levels, seen = [], 0  # [(fd, the directories in it that are still to come)]
    path, name, holder = b"", b".", top.fd
    try:
        while True:
            fd = _listed(path, name, holder, closed)
            if fd >= 0:
                inner = []
                levels.append((fd, inner))
                for entry in listing_of(fd):
                    seen += 1
                    if most is not None and seen > most:
                        return
                    name = os.fsencode(entry.name)
                    below = path + b"/" + name if path else name
                    if entry.is_dir(follow_symlinks=False):
                        inner.append((below, name))
                    yield Place(below, entry)
            while levels and not levels[-1][1]:
                os.close(levels.pop()[0])
            if not levels:
                return
            holder, inner = levels[-1]
            path, name = inner.pop()
            if len(levels) >= DEEPEST:
                raise OSError(errno.ENAMETOOLONG, "lies more than %d directories deep" % DEEPEST, path)
    finally:
        for fd, _ in levels:
            os.close(fd)


def _listed(path, name, holder, closed):
    """A descriptor to list a directory by, -1 for one that can't be or is gone.  Raises OSError."""
    try:
        return os.open(name, LIST, dir_fd=holder)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES):
            raise
        if error.errno == errno.EACCES and closed is not None:
            try:
                fd = os.open(name, DIRECTORY, dir_fd=holder)
            except OSError:
                return -1  # nor can anything in it be reached
            try:
                closed(path, fd)
            finally:
                os.close(fd)
        return -1
