# SPDX-License-Identifier: Apache-2.0
"""The module `mrunc` as a program sees it: what costs an import is imported when it is asked for."""
import _thread
import posix
import sys

#: Names that need no more of the library than their own module; for all others it is `public`.
HOMES = {"Result": "result", "SandboxError": "errors"}
#: Held while the library is imported, and by a fork, which so waits for the end of an import: its child has the locks of
#: modules that another thread was importing, and not the thread that would let go of them.
IMPORTING = _thread.RLock()
if hasattr(posix, "register_at_fork"):  # Python 3.7
    posix.register_at_fork(before=IMPORTING.acquire, after_in_parent=IMPORTING.release, after_in_child=IMPORTING.release)


class Face(type(sys)):
    """The module; Python 3.6 has no module-level __getattr__."""

    def __getattr__(self, name):
        if name not in self.__dict__.get("__all__", ()):
            raise AttributeError("module 'mrunc' has no attribute %r" % name)
        with IMPORTING:
            return getattr(__import__(HOMES.get(name, "public"), globals(), None, [name], 1), name)

    def __dir__(self):
        return sorted(set(self.__dict__).union(self.__all__))
