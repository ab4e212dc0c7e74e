# SPDX-License-Identifier: Apache-2.0
"""The command line to paste where a program is on the host but not inside.  Imported only when one is missing."""
import os
import shlex
import shutil

from ...sandbox.caller import program_name
from ..output import escaped
from ...sandbox.tree.process_tier import closed_to_others


def explain(error, spec, typed=(), own_tree=True, verb="run"):
    """Gives a SandboxError of the stage exec its remedy, if there is one.

    typed: the user's own words between the verb and the command, which the line keeps; own_tree: of the tier: without one a
    host's program may be found but not executed, and a copy lies in the current directory alone; verb: what was called.
    """
    closed = not own_tree and error.errno == 13
    if error.status != 127 and not closed or not spec.argv[0]:
        return
    name = os.fsdecode(spec.argv[0])
    base, box = os.path.basename(name), "/box/" if own_tree else "./"
    copied = [os.fsdecode(destination) for _, destination in spec.copy if destination == b"/box/" + os.fsencode(base)]
    rest = [os.fsdecode(word) for word in spec.argv[1:]]

    def line(options, program):
        words = [shlex.quote(word) for word in list(typed) + options + ["--", program] + rest]
        return "%s %s %s" % (program_name(), verb, " ".join(words))
    found = shutil.which(name)
    program, places = (None, []) if found is None or spec.rootfs else installation(found, own_tree)
    if "/" not in name and (copied or found is None and os.path.isfile(name)):
        source = [] if copied else ["--copy", _copied(name)]
        error.remedy = line(source, "./" + base)
    elif found is None and os.path.isfile(name):
        error.remedy = line(["--copy", _copied(name)], box + base)
    elif found is None and not rest and shutil.which((name.split() or [""])[0]):
        rest = ["-c", name]
        error.remedy = line([], "sh")
    elif found is None and "/" in name and os.path.isdir(name):
        error.remedy = "it is a directory here: name a program"
    elif found is None:
        error.remedy = "it is not on this host either: check the name"
    elif places:
        error.remedy = line([word for place in places for word in ("--ro", _pair_text(place))], program)
    else:
        inside = name if name == "./" + base else box + base
        error.remedy = line(["--copy", _copied(found)], inside)
    if escaped(error.remedy) != error.remedy:
        error.remedy = "bring it in with --copy"  # a name that can't be shown can't be pasted


def installation(found, own_tree=True):
    """(program, [directory]) to show at their own places for a program that has a library beside its bin, without which it
    would not run as a copy: an interpreter, say, or one of a virtual environment, which needs that of its base too.  The list
    is empty for any other.  found: its path on this host."""
    path, real = os.path.abspath(found), os.path.realpath(found)
    own, base = prefix(path), prefix(real)
    if not os.path.isabs(found) and not (own and os.path.exists(own + "/pyvenv.cfg")):
        return path, []  # what lies about here is more likely to be looked at than a part of the system
    places = sorted({place for place in (own, base) if place and not place.startswith("/usr/")})
    places = [place for place in places if not any(place.startswith(other + "/") for other in places)]
    if not own_tree and os.geteuid() == 0:  # the program is nobody, and walks the host's own directories
        places = [] if any(closed_to_others(os.fsencode(place)) for place in places) else places
    return path if own else real, places


def prefix(path):
    """The directory of a program that has its library beside its bin, or None; never one that holds somebody's home, whatever
    link leads there."""
    place, name = os.path.split(os.path.dirname(path))
    real = os.path.realpath(place)
    if name != "bin" or real.count("/") < 2 or os.path.basename(real) == ".local" or not os.path.isdir(place + "/lib"):
        return None
    import pwd
    homes = [os.path.expanduser("~")]
    try:
        homes.append(pwd.getpwuid(os.stat(place).st_uid).pw_dir)
    except (OSError, KeyError):
        pass
    return None if any((os.path.realpath(home) + "/").startswith(real + "/") for home in homes) else place


def _copied(path):
    """What --copy takes for a program, by the path without links: those that anybody could have made it does not follow."""
    real, name = os.path.realpath(path), os.path.basename(path)
    return _pair_text(real) + ("" if os.path.basename(real) == name else ":" + _pair_text("/box/" + name))


def _pair_text(path):
    """A path as the options that take SRC:DST want it."""
    return path.replace("\\", "\\\\").replace(":", "\\:")
