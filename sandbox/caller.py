# SPDX-License-Identifier: Apache-2.0
"""Where this copy of mrunc lies and how it was called: for whoever starts it once more, and for messages to paste."""
import os
import sys


def folder():
    """The folder, or the archive, that this copy of mrunc lies in."""
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def door():
    """The path by which an interpreter starts this copy of mrunc: mrunc.py, or the archive that it lies in."""
    place = folder()
    path = os.path.join(place, "mrunc.py")
    while not os.path.exists(path) and place != "/":
        if os.path.isfile(place):
            return place  # a zipapp
        place = os.path.dirname(place)
    return path


def program_name():
    """What starts us in a command line to paste: as the user typed it, or where a library's host did not, by our path."""
    return _typed() or "python3 " + _quoted(door())


def library():
    """Whether we serve a program that uses the library, and not a command line."""
    return "--spec-fd" in sys.argv[1:3] or _typed() is None


def option(name, *value, typed=None):
    """An option as whoever called us writes it.  name: as Python has it; value: what is given to it, if that matters; typed:
    what stands for that on a command line, where it is something else."""
    if library():
        return "%s=%r" % (name, value[0]) if value else name
    return " ".join(["--" + name.replace("_", "-")] +
                    ["%s" % (each,) for each in (value if typed is None else (typed,))])


def _typed():
    """The words before the verb of a command line that is ours, else None."""
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
