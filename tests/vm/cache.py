# SPDX-License-Identifier: Apache-2.0
"""Where kernels and images are kept: complete or not there at all, and not for ever.

    CACHE/apt/      package indexes, per architecture and suite
    CACHE/kernel/   ARCH-NAME-KEY/: vmlinuz, initrd.gz, release
    CACHE/image/    ARCH-SUITE-KEY: the root file system
    CACHE/work/     what the runs of this moment use

KEY stands for the recipe.  A build happens in a folder of its own under work/, and is moved into place at its end.
"""
import contextlib
import fcntl
import os
import shutil
import tempfile
import time

from report import Failure, say

DAY = 86400.0
#: Unused for so long, a product goes; one whose recipe has been replaced, sooner: another checkout may still use it.
UNUSED = 14 * DAY
REPLACED = 1 * DAY


def default_folder(environ=os.environ):
    """$XDG_CACHE_HOME/mrunc-vm or ~/.cache/mrunc-vm."""
    return os.path.join(environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"), "mrunc-vm")


class Cache:
    """folder: str, made when missing.  Raises Failure where it can't be written."""

    def __init__(self, folder):
        self.folder = os.path.abspath(folder)
        try:
            for name in ("apt", "kernel", "image", "work"):
                os.makedirs(os.path.join(self.folder, name), exist_ok=True)
            self.clean()
        except OSError as error:
            raise Failure("the cache %s: %s; --cache DIR names another one" % (self.folder, error.strerror))

    @contextlib.contextmanager
    def building(self):
        """Only one process builds at a time."""
        with open(os.path.join(self.folder, "lock"), "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("another run is building in %s: waiting for it" % self.folder)
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def workplace(self):
        """A folder that goes at the end; after a kill -9, with the next run."""
        place = tempfile.mkdtemp(dir=os.path.join(self.folder, "work"))
        handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)
            os.close(handle)

    def clean(self):
        """Removes the workplaces that nobody holds."""
        for entry in os.scandir(os.path.join(self.folder, "work")):
            try:
                handle = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if time.time() - entry.stat().st_mtime > 60:  # a younger one may not be locked yet
                    shutil.rmtree(entry.path, ignore_errors=True)
            except OSError:
                pass
            finally:
                os.close(handle)

    def room(self, wanted):
        """Raises Failure unless `wanted` bytes are free."""
        free = shutil.disk_usage(self.folder).free
        if free < wanted:
            raise Failure("%s: %d MB are free, building needs about %d; --cache DIR names another place"
                          % (self.folder, free >> 20, wanted >> 20))

    def find(self, kind, family, key):
        """The path of a product, marked as used now; None when it has to be built."""
        path = self.path(kind, family, key)
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        return path

    def keep(self, built, kind, family, key):
        """Moves what was built into place; returns its path."""
        path = self.path(kind, family, key)
        os.rename(built, path)
        os.utime(path)
        return path

    def path(self, kind, family, key):
        return os.path.join(self.folder, kind, "%s-%s" % (family, key))

    def prune(self, kind, family, key):
        """Removes products that are out of use, and earlier recipes of this family.  Returns the names."""
        gone = []
        for entry in os.scandir(os.path.join(self.folder, kind)):
            age = time.time() - entry.stat().st_mtime
            replaced = entry.name.rpartition("-")[0] == family and entry.name != "%s-%s" % (family, key)
            if age > (REPLACED if replaced else UNUSED):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)
                gone.append(entry.name)
        if gone:
            say("pruned:", *sorted(gone))
        return gone
