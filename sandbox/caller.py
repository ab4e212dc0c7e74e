# SPDX-License-Identifier: Apache-2.0
"""Tells where this copy of mrunc lies and how it was started.

For running it again, and for command lines in messages.
"""
import os
import sys


def folder():
    """Returns the folder or archive of this copy of mrunc."""
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def door():
    """Returns the path that an interpreter starts: mrunc.py, or the archive that holds it."""
    place = folder()
    path = os.path.join(place, "mrunc.py")
    while not os.path.exists(path) and place != "/":
        if os.path.isfile(place):
            return place  # a zipapp
        place = os.path.dirname(place)
    return path


def program_name():
    """Returns the words that start mrunc in a command line to paste.

    They are as the user typed them, or our path if a program uses the library.
    """
    return _typed() or "python3 " + _quoted(door())


def library():
    """Returns whether a program uses the library, and no command line."""
    return "--spec-fd" in sys.argv[1:3] or _typed() is None


def option(name, *value, typed=None):
    """Returns an option as the caller writes it, for a command line or for Python.

    name: as Python has it.
    value: its value, if that matters.
    typed: the value on a command line, if it differs.
    """
    if library():
        return "%s=%r" % (name, value[0]) if value else name
    return " ".join(["--" + name.replace("_", "-")] +
                    ["%s" % (each,) for each in (value if typed is None else (typed,))])


def _typed():
    """Returns the words before the verb of a command line of mrunc, else None."""
    path = sys.argv[0] if sys.argv else ""
    if os.path.basename(path) == "mrunc" and not os.path.isdir(path):
        return "mrunc"
    if _same(path, os.path.join(folder(), "__main__.py")) or path == "-m":
        return "python3 -m " + __name__.rpartition(".sandbox.")[0]
    return "python3 " + _quoted(path) if _same(path, door()) or _same(path, folder()) else None


def _same(path, other):
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):
        return False


def _quoted(path):
    import shlex
    return shlex.quote(path)
