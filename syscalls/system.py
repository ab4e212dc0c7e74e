# SPDX-License-Identifier: Apache-2.0
"""`os`, as far as a plain run needs it: from posix, the C module that os is made of.  And `struct`, likewise.

Importing os takes a millisecond and 0.8 MB, most of it for the abstract classes behind os.environ.  Where somebody has it
already, as a host of the library does, this is os itself; and so is whatever posix does not have.
"""
import sys

# The C module behind `struct`: what stands in front of it is one more file to find and read.  An interpreter that does not have
# it under this name still works.
try:
    import _struct as struct
except ImportError:
    import struct  # noqa: F401

MYPY = False


class _Paths:
    """The functions of os.path that are about text or one stat; any other is os.path's own.  Paths: str or bytes."""

    @staticmethod
    def dirname(path):
        """As os.path.dirname."""
        slash = b"/" if isinstance(path, bytes) else "/"
        head = path[:path.rfind(slash) + 1]
        return head.rstrip(slash) or head

    @staticmethod
    def basename(path):
        """As os.path.basename."""
        return path[path.rfind(b"/" if isinstance(path, bytes) else "/") + 1:]

    @staticmethod
    def join(first, *others):
        """As os.path.join."""
        slash = b"/" if isinstance(first, bytes) else "/"
        for other in others:
            first = other if other.startswith(slash) else first + other if not first or first.endswith(slash) else \
                first + slash + other
        return first

    @staticmethod
    def samestat(one, other):
        """As os.path.samestat."""
        return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)

    @staticmethod
    def realpath(path):
        """As os.path.realpath, of what is there by one look at it."""
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                real = os.readlink("/proc/self/fd/%d" % fd)
            finally:
                os.close(fd)
            if real[:1] == "/" and os.stat(real).st_ino == os.stat(path).st_ino:
                return os.fsencode(real) if isinstance(path, bytes) else real
        except (OSError, ValueError):
            pass
        import os.path as paths
        return paths.realpath(path)

    def exists(self, path):
        """As os.path.exists."""
        return self._is(path, 0, 0)

    def isdir(self, path):
        """As os.path.isdir."""
        return self._is(path, 0o170000, 0o040000)

    def isfile(self, path):
        """As os.path.isfile."""
        return self._is(path, 0o170000, 0o100000)

    @staticmethod
    def _is(path, mask, kind):
        try:
            return os.stat(path).st_mode & mask == kind
        except (OSError, ValueError):
            return False

    def __getattr__(self, name):
        import os.path
        return getattr(os.path, name)


class _Posix:
    """Attributes as those of os."""

    def __init__(self):
        import posix
        self.__dict__.update((name, value) for name, value in vars(posix).items() if name != "environ" and name[:2] != "__")
        self.path, self.devnull, self.SEEK_SET = _Paths(), "/dev/null", 0
        self.encoding = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()

    def fsencode(self, name):
        """As os.fsencode.  name: str or bytes."""
        return name if isinstance(name, bytes) else name.encode(*self.encoding)

    def fsdecode(self, name):
        """As os.fsdecode.  name: str or bytes."""
        return name if isinstance(name, str) else name.decode(*self.encoding)

    def __getattr__(self, name):
        if name == "environ":  # changed by nobody here
            import posix
            self.environ = {self.fsdecode(key): self.fsdecode(value) for key, value in posix.environ.items()}
            return self.environ
        import os
        return getattr(os, name)


if MYPY or "os" in sys.modules:
    import os
else:
    os = _Posix()
