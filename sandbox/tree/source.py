# SPDX-License-Identifier: Apache-2.0
"""Opens a file or directory of the host once, by one component at a time, and holds it.

The kernel never follows a link here: every component is opened with O_PATH and O_NOFOLLOW below the
descriptor of the one before.  So kernels with and without openat2 do the same.  Kind, owner and
inode are read from the descriptor; the mount, the copy or the Landlock rule is made from it.  A
program that still runs can write to a source's directory and exchange its names at any moment.  It
can't exchange a file that is held.
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
#: So many links in one path are followed, as by the kernel.  path_resolution(7)
MOST_LINKS = 40
#: `entries` holds one descriptor per level.  A deeper tree is an error, since nothing is shown
#: that was not looked at.
DEEPEST = 100
REPLACED = "it was replaced while mrunc started"


class Planted(OSError):
    """Raised for a link in a directory that others than root can write.

    filename: its path (bytes)
    target: its text (bytes)
    """

    def __init__(self, path, target):
        OSError.__init__(self, errno.ELOOP,
                         "%s is a symbolic link to %s in a directory that others than root can "
                         "write" % (show(path), show(target)), path)
        self.target = target


class Source:
    """Holds a file or directory of the host.

    fd: descriptor of O_PATH, -1 once closed
    found: its os.stat_result
    path: bytes, for messages and for the comparison with mountinfo
    start: b"/", b"." or the Source that it was opened below
    steps: [name] from there, none of them a link
    """

    __slots__ = ("fd", "found", "path", "start", "steps")

    def __init__(self, fd, start, steps):
        """Takes the descriptor over and closes it on failure.  Raises OSError."""
        self.fd, self.start, self.steps = fd, start, steps
        try:
            self.found = os.fstat(fd)
            self.path = os.readlink(b"/proc/self/fd/%d" % fd)
        except OSError:
            self.close()
            raise

    @property
    def directory(self):
        """Whether this is a directory."""
        return self.found.st_mode & S_IFMT == S_IFDIR

    @property
    def inode(self):
        """The numbers (device, inode)."""
        return self.found.st_dev, self.found.st_ino

    def close(self):
        """Closes the descriptor, if it is open."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def allows(self, mode):
        """Returns whether the caller may access it, as os.access.  mode: os.R_OK or the like."""
        return os.access(b"/proc/self/fd/%d" % self.fd, mode)

    def open(self, flags):
        """Opens the same file or directory with other flags; returns the fd.  Raises OSError."""
        # The link of a descriptor leads to the open file and not to a path.  proc(5)
        return os.open(b"/proc/self/fd/%d" % self.fd, flags | os.O_CLOEXEC)

    def below(self, *steps):
        """Opens a path below this directory as a Source.

        steps: names (bytes).  Raises OSError: ELOOP for a link, ENOTDIR for one on the way.
        """
        fd = descend(os.dup(self.fd), steps)
        source = Source(fd, self, steps)
        if source.found.st_mode & S_IFMT == S_IFLNK:
            source.close()
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.path.join(self.path, *steps))
        return source

    def mode_of(self, *steps):
        """Returns the st_mode of a path below, of a link its own; None where nothing can be opened.

        steps: names (bytes).
        """
        try:
            fd = descend(os.dup(self.fd), steps)
        except OSError:
            return None
        try:
            return os.fstat(fd).st_mode
        finally:
            os.close(fd)

    def here(self):
        """Opens it once more in a new mount namespace; returns a descriptor of O_PATH.

        A mount can only be cloned from a descriptor of the caller's own mount namespace
        (fs/namespace.c, may_copy_tree), and an ordinary user may clone one in a new namespace only.
        So the names are walked again there, over no link, and must lead to the inode that has been
        held since it was first opened.  Raises OSError; ESTALE where they lead elsewhere.
        """
        below = isinstance(self.start, Source)
        try:
            fd = descend(self.start.here() if below else os.open(self.start, DIRECTORY), self.steps)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            raise OSError(errno.ESTALE, REPLACED, self.path)
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) != self.inode:
            os.close(fd)
            raise OSError(errno.ESTALE, REPLACED, self.path)
        return fd


def mount_id(fd):
    """Returns the id of the mount that a descriptor's file lies on.  proc_pid_fdinfo(5)"""
    return int(read("/proc/self/fdinfo/%d" % fd, first=4096).partition(b"mnt_id:")[2].split()[0])


def enter(folder, step):
    """Opens one name in a directory; returns a descriptor of O_PATH, of a link the link's own.

    folder: fd; step: bytes.  Raises OSError.
    """
    try:
        # with O_DIRECTORY, or autofs would not mount it
        return os.open(step, DIRECTORY, dir_fd=folder)
    except OSError as error:
        if error.errno != errno.ENOTDIR:
            raise
    return os.open(step, ANYTHING, dir_fd=folder)


def descend(fd, steps):
    """Follows names below a directory; returns the last one's descriptor of O_PATH.

    fd: of the directory, which this closes; steps: names (bytes).  Raises OSError; ENOTDIR for a
    link or a file on the way.
    """
    for step in steps:
        try:
            following = enter(fd, step)
        finally:
            os.close(fd)
        fd = following
    return fd


def only_root_writes(folder):
    """Returns whether a directory (fd) is root's and nobody else can make names in it."""
    found = os.fstat(folder)  # an ACL shows in the group's bits.  acl(5)
    return found.st_uid == 0 and not found.st_mode & 0o022


def from_where(path):
    """Returns (b"." or b"/", the rest) of a path (bytes).

    The way to the current directory is the shell's: links on it are not looked at.
    """
    if not path.startswith(b"/"):
        return b".", path
    for place in working_directories():
        if len(place) > 1 and (path + b"/").startswith(place + b"/"):
            return b".", path[len(place) + 1:]
    return b"/", path


def working_directories():
    """Yields the current directory's paths: the kernel's, and $PWD, which may lead over links."""
    try:
        yield os.getcwdb()
        told = os.environ.get("PWD")
        if told and told[:1] == "/" and os.path.samestat(os.stat(told), os.stat(".")):
            yield os.fsencode(told)
    except OSError:
        pass


def open_path(path, follow_links=False):
    """Opens a path (bytes) as a Source.

    follow_links: whether every link is followed.  Without it, a link is followed only where nobody
    but root can write the directory that holds it.  To follow is to read the link and to go on from
    there.  Raises Planted for any other link, OSError for a path that can't be opened.
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
                top = b"/" if start == b"/" else b""
                raise Planted(os.path.join(top, *(names + [step])), target)
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
    """One entry below a directory, of `entries`.

    path: bytes, relative to that directory
    entry: its os.DirEntry, valid until the next entry is asked for
    """

    __slots__ = ("path", "entry")

    def __init__(self, path, entry):
        self.path, self.entry = path, entry

    @property
    def mode(self):
        """The st_mode, of a link its own.  Raises OSError."""
        return self.entry.stat(follow_symlinks=False).st_mode


def entries(top, closed=None, most=None):
    """Yields a Place for each entry below a directory, at any depth, by descriptors and no path.

    top: Source of a directory
    closed: called with the path and a descriptor of O_PATH of each directory that can't be listed
    most: so many entries are read and no more, or None

    Raises OSError; ENAMETOOLONG for a tree that is deeper than DEEPEST.
    """
    levels, seen = [], 0  # [(fd, [(path, name)] of the directories in it that are still to come)]
    path, name, holder = b"", b".", top.fd
    try:
        while True:
            fd = _listed(path, name, holder, closed)
            if fd >= 0:
                inner = []
                levels.append((fd, inner))
                # os.scandir takes a descriptor from Python 3.7 on
                for entry in os.scandir(fd if sys.version_info >= (3, 7) else
                                        b"/proc/self/fd/%d" % fd):
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
                raise OSError(errno.ENAMETOOLONG,
                              "lies more than %d directories deep" % DEEPEST, path)
    finally:
        for fd, _ in levels:
            os.close(fd)


def _listed(path, name, holder, closed):
    """Opens a directory to list it; returns the fd, -1 if it is gone or closed to the caller.

    path, closed: of `entries`; name: in the directory `holder` (fd).  Raises OSError.
    """
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
