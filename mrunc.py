#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""mrunc: a sandbox for malware and risky code.

Use: `python3 mrunc.py run -- CMD`, or `import mrunc; mrunc.run([...])`. CPython does not cache the
bytecode of a script, so this file only sets the package up and imports the rest.
"""
import sys

_script = __name__ == "__main__"
if _script:
    # Until commands/dispatch.py handles errors: one line instead of a traceback.
    sys.excepthook = lambda kind, error, _: sys.exit(
        sys.stderr.write("mrunc: interrupted\n") and 130 if kind is KeyboardInterrupt else
        sys.stderr.write("mrunc: start: %s: %s\n" % (kind.__name__, error)) and 125)
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        # The tool's own folder may hold a sample called os.py: nothing may be imported from it.
        del sys.path[0]

import os

if __spec__ is None or not __spec__.parent:
    # Run by path, or imported as a single module: become the package "mrunc" by setting __path__,
    # so that relative imports work.
    __path__ = [os.path.dirname(os.path.realpath(__file__))]
    for _name in os.listdir(__path__[0]) if _script else ():
        # Python would import these instead of our seccomp_bpf.py.
        if _name == "seccomp_bpf" or _name.startswith("seccomp_bpf.") and _name.endswith(".so"):
            sys.stderr.write("mrunc: %s lies beside the tool and would run in it: move it away\n"
                             % _name)
            sys.exit(125)
    # Relative imports use __package__ before Python 3.15, and __spec__.parent from 3.15 on.
    __package__ = "mrunc"
    __spec__ = __spec__ or type(sys.__spec__)(__package__, None)
    __spec__.submodule_search_locations = __path__
    sys.modules[__package__] = sys.modules[__name__]

__all__ = ["CalledProcessError", "Pool", "Result", "Sandbox", "SandboxError", "doctor", "main",
           "run"]
if not _script:
    from .sandbox.library.face import Face
    sys.modules[__name__].__class__ = Face


def main(argv=None, leave=False):
    """Runs the command line.

    argv: list of str, default sys.argv[1:]
    leave: whether to end the process with the exit status instead of returning it

    Returns the exit status. Raises nothing.
    """
    from .commands.dispatch import main
    return main(sys.argv[1:] if argv is None else argv, leave)


def command():
    """Runs the command line and ends the process: the entry point of the installed `mrunc`."""
    main(leave=True)


if __name__ == "__main__":
    command()
