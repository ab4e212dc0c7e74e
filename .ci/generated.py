# SPDX-License-Identifier: Apache-2.0
"""What the generators share: where the project lies, how its modules are loaded, and writing a file only when it changes."""
import os
import sys

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def project(name):
    """A module of the project by its dotted name below the package, from this folder and not from an installed copy."""
    import importlib
    if HERE not in sys.path:
        sys.path.insert(0, HERE)
    importlib.import_module("mrunc")
    return importlib.import_module("mrunc." + name)


def settle(path, made, remedy):
    """Brings the file at path, relative to the project, to the text `made`.  Returns the exit status.

    With --check among the script's arguments nothing is written: 1 and `remedy` on stderr where they differ.
    """
    target = os.path.join(HERE, path)
    if os.path.exists(target):
        with open(target, encoding="utf-8") as stream:
            if stream.read() == made:
                return 0
    if "--check" in sys.argv[1:]:
        sys.stderr.write("%s is not what it is made from: %s\n" % (path, remedy))
        return 1
    with open(target, "w", encoding="utf-8") as out:
        out.write(made)
    return 0
