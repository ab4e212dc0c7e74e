# SPDX-License-Identifier: Apache-2.0
"""The process tier's private directory on the host: made fresh, given to the program's id, removed with all that is in it.

What is in it is hostile when it is removed: links are never followed, nothing is opened but directories, and a tree of any
depth needs no more than three descriptors.
"""
import fcntl
import os
import stat

from ..errors import SandboxError, show
from ..part import Part
from ..tree import process_tier
from ..tree.process_tier import UNNAMED
from ..tree.mounting import CHUNK, write_all

PREFIX = UNNAMED[:UNNAMED.index(b"X")]
OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class PrivatePart(Part):
    """What a run has instead of a tree of its own.  directory: PrivateDirectory."""

    tells = True

    def __init__(self):
        self.directory = None

    def before_child(self, run):
        """Makes the directory and copies files into it.  Raises SandboxError.

        While every signal is blocked, and so is its removal: no signal that ends mrunc leaves the
        directory behind.
        """
        plan = run.plan
        owners = plan.id_ranges or [(plan.caller[0], 1)]
        self.directory = PrivateDirectory(os.path.dirname(plan.home), run.identity, owners)
        run.held.add(self.directory.remove)
        process_tier.settle(plan, self.directory.path)
        for op in plan.operations:
            self.directory.copy(op.dst, run.copies[op.source], run.heed_signals)
        return {}

    def finish(self, run, result, outcome):
        """Tells what could not be removed."""
        if self.directory.left:
            result.notes.append("%s could not be removed" % os.fsdecode(self.directory.path))


class PrivateDirectory:
    """path: bytes; parent, fd: descriptors of its parent and itself; left: something of it could not be removed."""

    def __init__(self, base, owner, owners):
        """Makes it below `base` (bytes, a real path) for the host's ids `owner` (uid, gid), and removes what killed runs of
        the same `owners`, [(first uid, count)], have left.  Raises SandboxError."""
        self.owner = owner
        self.name = PREFIX + os.urandom(8).hex().encode()
        self.path = os.path.join(base, self.name)
        self.fd, self.parent, self.left = -1, -1, False
        # Under its own name only when it is locked, or it would pass for a leftover.
        made = draft = b"." + self.name
        try:
            self.parent = os.open(base, OPEN_DIRECTORY)
            remove_leftovers(self.parent, owners)
            os.mkdir(draft, 0o700, dir_fd=self.parent)
            self.fd = os.open(draft, OPEN_DIRECTORY, dir_fd=self.parent)
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(self.fd, 0o700)
            os.rename(draft, self.name, src_dir_fd=self.parent, dst_dir_fd=self.parent)
            made = self.name
            self._give(self.fd)
        except OSError as error:
            self._close(made)
            raise SandboxError("private directory", show(self.path), error.errno)

    def _give(self, fd):
        if os.geteuid() == 0:
            os.fchown(fd, *self.owner)

    def copy(self, path, source, heed=lambda: None):
        """Writes a file to `path`, in the directory, with the directories on the way.

        source: its descriptor.
        heed: called again and again, may raise.
        """
        folder, steps = os.dup(self.fd), os.path.relpath(path, self.path).split(b"/")
        try:
            for step in steps[:-1]:
                try:
                    os.mkdir(step, 0o755, dir_fd=folder)
                except FileExistsError:
                    pass
                below = os.open(step, OPEN_DIRECTORY, dir_fd=folder)
                os.close(folder)
                folder = below
                self._give(folder)
            fd = os.open(steps[-1], os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o700, dir_fd=folder)
            try:
                os.lseek(source, 0, os.SEEK_SET)
                while True:
                    heed()
                    data = os.read(source, CHUNK)
                    if not data:
                        break
                    write_all(fd, data)
                os.fchmod(fd, 0o755)
                self._give(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise SandboxError("copy", show(path), error.errno)
        finally:
            os.close(folder)

    def remove(self):
        """Removes it; what can't be removed stays.  Call it when nobody is left who could change it."""
        if self.fd >= 0:
            try:
                empty(self.fd)
            except OSError:
                pass  # what is left then keeps the directory, and that is told
            self.left = not self._close(self.name)

    def _close(self, name):
        """Removes the empty directory and closes the descriptors.  Returns whether it is gone.

        name: that it has.
        """
        try:
            os.rmdir(name, dir_fd=self.parent)
            gone = True
        except OSError:
            gone = False
        for fd in (self.fd, self.parent):
            if fd >= 0:
                os.close(fd)
        self.fd = self.parent = -1
        return gone


def is_ours(name):
    """Whether a name is one that this module makes: nothing else is ever removed.  name: bytes."""
    return name.startswith(PREFIX) and len(name) == len(UNNAMED) and not name[len(PREFIX):].strip(b"0123456789abcdef")


def remove_leftovers(parent, owners):
    """Removes the private directories of runs that were killed: their lock can be had.  Never raises for what resists.

    parent: descriptor of the directory that they lie in; owners: [(first uid, count)] whose directories are ours.
    """
    for name in os.listdir(parent):
        if not is_ours(os.fsencode(name)):
            continue
        try:
            fd = os.open(name, OPEN_DIRECTORY, dir_fd=parent)
        except OSError:
            continue
        try:
            uid = os.fstat(fd).st_uid
            if any(first <= uid < first + count for first, count in owners):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                empty(fd)
                os.rmdir(name, dir_fd=parent)
        except OSError:
            pass  # in use, or somebody else's after all
        finally:
            os.close(fd)


def empty(top):
    """Removes everything in the directory behind the descriptor `top`, however deep: each directory found below another is
    first moved up to `top`.  Never raises for what resists."""
    resisting = set()
    while True:
        names = [name for name in os.listdir(top) if name not in resisting]
        if not names:
            return
        for name in names:
            if _unlink(name, top):
                continue
            folder = _open(name, top)
            if folder < 0:
                resisting.add(name)
                continue
            try:
                for inner in os.listdir(folder):
                    if _unlink(inner, folder):
                        continue
                    try:
                        _make_mine(inner, folder)
                        # A name that could be guessed could be taken already.
                        os.rename(inner, ".up-" + os.urandom(16).hex(), src_dir_fd=folder, dst_dir_fd=top)
                    except OSError:
                        resisting.add(name)
            except OSError:
                resisting.add(name)
            finally:
                os.close(folder)
            try:
                os.rmdir(name, dir_fd=top)
            except OSError:
                resisting.add(name)


def _unlink(name, folder):
    """Whether it is gone and was no directory."""
    try:
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            return False
        os.unlink(name, dir_fd=folder)
        return True
    except OSError:
        return False


def _make_mine(name, folder):
    """Gives the owner all rights on a directory, by its inode: chmod(2) by name would follow a link."""
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.chmod("/proc/self/fd/%d" % fd, 0o700)
    finally:
        os.close(fd)


def _open(name, folder):
    try:
        _make_mine(name, folder)
        return os.open(name, OPEN_DIRECTORY, dir_fd=folder)
    except OSError:
        return -1
