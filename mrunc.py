#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""mrunc: a sandbox for malware and risky code.  `python3 mrunc.py run -- CMD`, or `import mrunc; mrunc.run([...])`.

This file is only the door.  CPython never caches the bytecode of a script, so everything else lives in modules.
"""
import os
import sys

if __spec__ is None or not __spec__.parent:
    # Run by path, or imported as a lone module: become the package "mrunc", so that relative imports resolve in this
    # folder, by __path__ alone.  A sample called struct.py beside the tool must not become part of it.
    __path__ = [os.path.dirname(os.path.realpath(__file__))]
    if __name__ == "__main__":
        sys.path[:] = [entry for entry in sys.path if entry and os.path.realpath(entry) != __path__[0]]
        for _name in os.listdir(__path__[0]):  # what the import system would prefer to our own seccomp_bpf.py
            if _name == "seccomp_bpf" or _name.startswith("seccomp_bpf.") and _name.endswith(".so"):
                os.write(2, b"mrunc: %s lies beside the tool and would run as a part of it: move it away\n" %
                         os.fsencode(_name))
                sys.exit(125)
    __package__ = "mrunc"  # what Python before 3.15 resolves relative imports by; later it reads __spec__.parent
    __spec__ = __spec__ or type(sys.__spec__)(__package__, None)
    __spec__.submodule_search_locations = __path__
    sys.modules[__package__] = sys.modules[__name__]

__version__ = "0.1.0"
__all__ = ["Result", "SandboxError", "main", "run"]


class Face(type(sys)):
    """The module, with the names that would cost an import resolved when they are asked for (Python 3.6 has no
    module-level __getattr__)."""

    def __getattr__(self, name):
        if name == "Result":
            from .sandbox.result import Result as value
        elif name == "SandboxError":
            from .sandbox.errors import SandboxError as value
        else:
            raise AttributeError("module 'mrunc' has no attribute %r" % name)
        return value


sys.modules[__name__].__class__ = Face


def run(argv, **options):
    """Runs a program in a sandbox and returns its Result; see sandbox/oneshot.py for arguments and errors."""
    from .sandbox.oneshot import run
    return run(argv, **options)


def main(argv=None):
    """The command line.  argv: list of str, default sys.argv[1:].  Returns the exit status."""
    from .commands import main
    return main(sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
