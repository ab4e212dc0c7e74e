#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""mrunc: a sandbox for malware and risky code.  `python3 mrunc.py run -- CMD`, or `import mrunc; mrunc.run([...])`.
This file is only the door.  CPython never caches the bytecode of a script, so everything else lives in modules.
"""
import sys

_script = __name__ == "__main__"
if _script:
    sys.excepthook = lambda kind, error, _: sys.exit(  # before commands.main listens: one line, too
        sys.stderr.write("mrunc: interrupted\n") and 130 if kind is KeyboardInterrupt else
        sys.stderr.write("mrunc: start: %s: %s\n" % (kind.__name__, error)) and 125)
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        del sys.path[0]  # the tool's own folder, before anything is imported: a sample called os.py may lie in it

import os

if __spec__ is None or not __spec__.parent:
    # Run by path, or imported as a lone module: become the package "mrunc" by __path__, so that relative imports work.
    __path__ = [os.path.dirname(os.path.realpath(__file__))]
    for _name in os.listdir(__path__[0]) if _script else ():
        if _name == "seccomp_bpf" or _name.startswith("seccomp_bpf.") and _name.endswith(".so"):  # preferred to our .py
            sys.exit(125 * bool(sys.stderr.write("mrunc: %s lies beside the tool and would run in it: move it away\n" % _name)))
    __package__ = "mrunc"  # what Python before 3.15 resolves relative imports by; later it reads __spec__.parent
    __spec__ = __spec__ or type(sys.__spec__)(__package__, None)
    __spec__.submodule_search_locations = __path__
    sys.modules[__package__] = sys.modules[__name__]

__all__ = ["CalledProcessError", "Pool", "Result", "Sandbox", "SandboxError", "doctor", "main", "run"]
if not _script:
    from .sandbox.library.face import Face
    sys.modules[__name__].__class__ = Face


def main(argv=None, leave=False):
    """The command line.  argv: list of str, default sys.argv[1:].  Returns the exit status; leave: ends the process with it."""
    from .commands.dispatch import main
    return main(sys.argv[1:] if argv is None else argv, leave)


def command():
    """Runs the command line and ends the process with its status: the installed `mrunc`."""
    main(leave=True)


if __name__ == "__main__":
    command()
