# SPDX-License-Identifier: Apache-2.0
"""How the command line finds its own modules: straight to the bytecode that Python has written beside them.

The import system makes twelve system calls for each of them, most to find out what kind of file it is; here that is known.
Bytecode is held against the source's time and size, as Python does it.  Whatever is not as expected (none there, an old one,
one that goes by a hash) is left to the import system.
"""
import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER, SourceFileLoader

PACKAGES = ("sandbox", "syscalls")
#: No file of ours has more.
MOST = 1 << 16


class Loader(SourceFileLoader):
    """SourceFileLoader with a shorter way to the bytecode.  cached: its path; found: os.stat_result of the source."""

    def __init__(self, name, path, cached, found):
        SourceFileLoader.__init__(self, name, path)
        self.cached, self.found = cached, found

    def get_code(self, fullname):
        """The module's code."""
        try:
            fd = posix.open(self.cached, posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:
            return SourceFileLoader.get_code(self, fullname)
        try:
            data = posix.read(fd, MOST)
        finally:
            posix.close(fd)
        head = MAGIC_NUMBER + b"\0\0\0\0" + (int(self.found.st_mtime) & 0xffffffff).to_bytes(4, "little") + \
            (self.found.st_size & 0xffffffff).to_bytes(4, "little")
        if len(data) == MOST or data[:16] != head:
            return SourceFileLoader.get_code(self, fullname)
        return marshal.loads(memoryview(data)[16:])  # noqa: S302


class Finder:
    """The entry of sys.meta_path.  package: our own name; root: where its modules lie; tag: of this Python's bytecode."""

    def __init__(self, package, root, tag):
        self.prefix, self.root, self.tail = package + ".", root, ".%s.pyc" % tag

    def find_spec(self, name, path=None, target=None):
        """The spec of a module of ours, None for every other."""
        if not name.startswith(self.prefix):
            return None
        rest = name[len(self.prefix):]
        folder, _, last = (self.root + "/" + rest.replace(".", "/")).rpartition("/")
        if rest in PACKAGES:
            folder, last = folder + "/" + last, "__init__"
        source, cached = "%s/%s.py" % (folder, last), "%s/__pycache__/%s%s" % (folder, last, self.tail)
        try:
            found = posix.stat(source)
        except OSError:
            return None
        spec = ModuleSpec(name, Loader(name, source, cached, found), origin=source, is_package=last == "__init__")
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(folder)
        spec.has_location, spec.cached = True, cached
        return spec


def install(package, root):
    """Takes the shorter way from here on, where this Python keeps bytecode as is said above."""
    tag, spec = sys.implementation.cache_tag, sys.modules[__name__].__spec__
    if spec is not None and type(spec.loader) is SourceFileLoader and tag is not None and sys.version_info >= (3, 7) and \
            not sys.flags.optimize and not getattr(sys, "pycache_prefix", None):
        sys.meta_path.insert(0, Finder(package, root, tag))
