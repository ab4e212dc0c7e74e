# SPDX-License-Identifier: Apache-2.0
"""How the command line finds its own modules: straight to the bytecode that Python has written beside them.

The import system makes twelve system calls for each of them, most to find out what kind of file it is; here that is known.
A run needs some thirty, always the same: these are executed one after another, without the import system's locks and looks.
Bytecode is held against the source's time and size, as Python does it.  Whatever is not as expected (none there, an old one,
one that goes by a hash) is left to the import system.
"""
import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER, SourceFileLoader

PACKAGES = ("sandbox", "syscalls")
#: What a run needs before its child is born, each after what it imports itself.
RUN = ("syscalls", "syscalls.system", "sandbox.controls", "syscalls.nr_" + posix.uname().machine, "syscalls.libc",
       "syscalls.landlock", "sandbox.tiers", "sandbox.spec", "syscalls.caps", "syscalls.process", "syscalls.seccomp",
       "sandbox.etc", "sandbox.host", "sandbox.idmap", "sandbox.init", "syscalls.mount", "sandbox.base_tree", "sandbox.plan",
       "sandbox.lookup", "sandbox.mounting", "sandbox.stdio", "sandbox.stages", "sandbox.child_files", "sandbox.ending",
       "sandbox.features", "sandbox.provisions", "sandbox.launch", "sandbox.frozen")
#: No file of ours has more.
MOST = 1 << 16
FLAGS = posix.O_RDONLY | posix.O_CLOEXEC
HEAD = MAGIC_NUMBER + b"\0\0\0\0"


class Loader(SourceFileLoader):
    """SourceFileLoader with a shorter way to the bytecode.  cached: its path; found: os.stat_result of the source."""

    def __init__(self, name, path, cached, found):
        SourceFileLoader.__init__(self, name, path)
        self.cached, self.found = cached, found

    def get_code(self, fullname):
        """The module's code."""
        return code(self.cached, self.found) or SourceFileLoader.get_code(self, fullname)


def code(cached, found):
    """The code in the bytecode `cached`, None where it is not that of the source.  found: the source's os.stat_result."""
    try:
        fd = posix.open(cached, FLAGS)
    except OSError:
        return None
    try:
        data = posix.read(fd, MOST)
    finally:
        posix.close(fd)
    head = HEAD + (int(found.st_mtime) & 0xffffffff).to_bytes(4, "little") + (found.st_size & 0xffffffff).to_bytes(4, "little")
    if len(data) == MOST or data[:16] != head:
        return None
    found = marshal.loads(memoryview(data)[16:])  # noqa: S302
    return found if type(found) is type(code.__code__) else None  # exec takes text, too, which no import would


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


    def load(self, rest):
        """Executes the module of this name without our own, as an import would.  Whether there is bytecode for it that can be
        trusted is all that is looked at: where there is none, nothing is done, and the import will come."""
        name, folder, package = self.prefix + rest, self.root + "/" + rest, rest in PACKAGES
        above, _, last = name.rpartition(".")
        if not package:
            folder = folder[:-len(last) - 1]
        stem = "__init__" if package else last
        source = folder + "/" + stem + ".py"
        try:
            body = name not in sys.modules and code(folder + "/__pycache__/" + stem + self.tail, posix.stat(source))
        except OSError:
            return
        if not body:
            return
        module = type(sys)(name)
        module.__spec__ = spec = ModuleSpec(name, None, origin=source, is_package=package)
        module.__file__, module.__package__ = source, name if package else above
        if package:
            module.__path__ = spec.submodule_search_locations = [folder]
        sys.modules[name] = module
        try:
            exec(body, module.__dict__)  # noqa: S102 - as the import system does
        except BaseException:
            del sys.modules[name]
            raise
        setattr(sys.modules[above], last, module)


def prepare():
    """Has the modules of a run ready where the shorter way has been taken.  Not under -X importtime, which is to see each of
    them imported."""
    for finder in sys.meta_path[:1]:
        if type(finder) is Finder and "importtime" not in sys._xoptions:
            for name in RUN:
                finder.load(name)


def install(package, root):
    """Takes the shorter way from here on, where this Python keeps bytecode as is said above."""
    tag, spec = sys.implementation.cache_tag, sys.modules[__name__].__spec__
    if spec is not None and type(spec.loader) is SourceFileLoader and tag is not None and sys.version_info >= (3, 7) and \
            not sys.flags.optimize and not getattr(sys, "pycache_prefix", None):
        sys.meta_path.insert(0, Finder(package, root, tag))
