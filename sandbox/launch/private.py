# SPDX-License-Identifier: Apache-2.0
"""Makes and removes the process tier's private directory on the host.

The contents are hostile when they are removed.  Links are never followed, nothing is opened but
directories, and a tree of any depth needs no more than three descriptors.
"""
import fcntl
import os
import stat

from ..errors import SandboxError, show
from ..part import Part
from ..tree import process_tier
from ..tree.process_tier import UNNAMED
from ..tree.mounting import CHUNK, NEW_FILE, write_all

PREFIX = UNNAMED[:UNNAMED.index(b"X")]
OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class PrivatePart(Part):
    """Gives a run a private directory in the place of a tree of its own.

    directory: PrivateDirectory, None before `prepare`
    """

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
        """Notes in the result that the directory could not be removed."""
        if self.directory.left:
            result.notes.append("%s could not be removed" % os.fsdecode(self.directory.path))


class PrivateDirectory:
    """Holds a private directory, which is locked while its run lives.

    path, name: bytes
    parent, fd: descriptors of its parent and itself
    owner: (uid, gid) of the host that gets it
    left: whether something of it could not be removed
    """

    def __init__(self, base, owner, owners):
        """Makes it below a directory, and removes those that killed runs have left there.

        base: real path (bytes); owner: (uid, gid); owners: [(first uid, count)] whose left
        directories are removed.  Raises SandboxError.
        """
        self.owner = owner
        self.name = PREFIX + os.urandom(8).hex().encode()
        self.path = os.path.join(base, self.name)
        self.fd, self.parent, self.left = -1, -1, False
        # It gets its name once it is locked.  Until then another run would take it for left.
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
        """Gives a file or directory to the program's id, as only root can."""
        if os.geteuid() == 0:
            os.fchown(fd, *self.owner)

    def copy(self, path, source, heed=lambda: None):
        """Copies a file into the directory, and makes the directories on the way.

        path: bytes, below the directory; source: fd of the open file; heed: called again and again,
        may raise.  Raises SandboxError.
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
            fd = os.open(steps[-1], NEW_FILE, 0o700, dir_fd=folder)
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
        """Removes it, but for contents that resist.  No process that can change it may be left."""
        if self.fd >= 0:
            try:
                empty(self.fd)
            except OSError:
                pass  # then the directory is not empty, so it stays and the result tells it
            self.left = not self._close(self.name)

    def _close(self, name):
        """Removes the empty directory and closes the descriptors.  Returns whether it is gone.

        name: of the directory now (bytes)
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
    """Returns whether a name (bytes) is of a private directory: nothing else is ever removed."""
    return name.startswith(PREFIX) and len(name) == len(UNNAMED) and \
        not name[len(PREFIX):].strip(b"0123456789abcdef")


def remove_leftovers(parent, owners):
    """Removes the private directories of killed runs: those that nobody holds a lock on.

    parent: fd of the directory that holds them; owners: [(first uid, count)] that they may belong
    to.  One that can't be removed is passed over.  Raises OSError if `parent` can't be listed.
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
            pass  # in use, or another user has exchanged it
        finally:
            os.close(fd)


def empty(top):
    """Removes everything in a directory, however deep, but for contents that resist.

    top: fd of the directory.  A directory below another is first moved up to `top`.  Raises
    OSError if `top` can't be listed.
    """
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
                        os.rename(inner, ".up-" + os.urandom(16).hex(),
                                  src_dir_fd=folder, dst_dir_fd=top)
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
    """Removes a name that is no directory.  Returns whether it did."""
    try:
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            return False
        os.unlink(name, dir_fd=folder)
        return True
    except OSError:
        return False


def _make_mine(name, folder):
    """Gives the owner all rights on a directory.  Raises OSError.

    By a descriptor: chmod(2) of a name would follow a link.
    """
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.chmod("/proc/self/fd/%d" % fd, 0o700)
    finally:
        os.close(fd)


def _open(name, folder):
    """Returns the fd of a directory, -1 where it can't be opened."""
    try:
        _make_mine(name, folder)
        return os.open(name, OPEN_DIRECTORY, dir_fd=folder)
    except OSError:
        return -1
