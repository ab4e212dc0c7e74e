# SPDX-License-Identifier: Apache-2.0
"""The module `mrunc` for programs: its names are imported when they are looked up."""
import _thread
import os
import sys

#: Names that need no more of the library than their own module; all others are of `public`.
HOMES = {"Result": "result.result", "SandboxError": "errors", "__version__": "version"}
#: Held while the library is imported.  A fork takes it too, and so waits for the end of the
#: import: its child would find the modules locked by a thread that it does not have.
IMPORTING = _thread.RLock()
if hasattr(os, "register_at_fork"):  # Python 3.7
    os.register_at_fork(before=IMPORTING.acquire,  # novermin
                        after_in_parent=IMPORTING.release,
                        after_in_child=IMPORTING.release)


class Face(type(sys)):
    """The module; Python 3.6 has no module-level __getattr__."""

    def __getattr__(self, name):
        if name != "__version__" and name not in self.__dict__.get("__all__", ()):
            raise AttributeError("module 'mrunc' has no attribute %r" % name)
        with IMPORTING:
            home = __import__(HOMES.get(name, "library.public"), globals(), None, [name], 2)
            return getattr(home, name)

    def __dir__(self):
        return sorted(set(self.__dict__).union(self.__all__))
