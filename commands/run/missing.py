# SPDX-License-Identifier: Apache-2.0
"""Finds the command line to paste if a program is on the host but not inside."""
import os
import shlex
import shutil

from ...sandbox.caller import program_name
from ..output import escaped
from ...sandbox.tree.process_tier import closed_to_others


def explain(error, spec, typed=(), own_tree=True, verb="run"):
    """Gives a SandboxError of the stage exec its remedy, if there is one.

    error: the SandboxError
    spec: the Spec of the run
    typed: the option words between the verb and the command, which the remedy repeats
    own_tree: of the tier; without one a host's program may be found but not executable, and a copy
        lies in the current directory
    verb: the verb that was called
    """
    closed = not own_tree and error.errno == 13
    if error.status != 127 and not closed or not spec.argv[0]:
        return
    name = os.fsdecode(spec.argv[0])
    base, box = os.path.basename(name), "/box/" if own_tree else "./"
    copied = b"/box/" + os.fsencode(base) in [destination for _, destination in spec.copy]
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
        error.remedy = line([word for place in places for word in ("--ro", _pair_text(place))],
                            program)
    else:
        inside = name if name == "./" + base else box + base
        error.remedy = line(["--copy", _copied(found)], inside)
    if escaped(error.remedy) != error.remedy:
        error.remedy = "bring it in with --copy"  # its name can't be pasted


def installation(found, own_tree=True):
    """Returns (program, [directory]): what to show for a program that would not run as a copy.

    Such a program has a library beside its bin, as an interpreter has; a virtual environment needs
    that of its base too. The directories are shown at their own places. The list is empty for any
    other program.

    found: str, its path on this host
    own_tree: of the tier
    """
    path, real = os.path.abspath(found), os.path.realpath(found)
    own, base = prefix(path), prefix(real)
    if not os.path.isabs(found) and not (own and os.path.exists(own + "/pyvenv.cfg")):
        return path, []  # found below the current directory: rather a sample than an installation
    places = sorted({place for place in (own, base) if place and not place.startswith("/usr/")})
    places = [place for place in places if not any(place.startswith(other + "/")
                                                   for other in places)]
    if not own_tree and os.geteuid() == 0:  # the program runs as nobody, in the host's directories
        places = [] if any(closed_to_others(os.fsencode(place)) for place in places) else places
    return path if own else real, places


def prefix(path):
    """Returns the directory of a program that has its library beside its bin, or None.

    Never a directory that holds somebody's home, whatever link leads there.
    """
    place, name = os.path.split(os.path.dirname(path))
    real = os.path.realpath(place)
    if name != "bin" or real.count("/") < 2 or os.path.basename(real) == ".local" or \
            not os.path.isdir(place + "/lib"):
        return None
    import pwd
    homes = [os.path.expanduser("~")]
    try:
        homes.append(pwd.getpwuid(os.stat(place).st_uid).pw_dir)
    except (OSError, KeyError):
        pass
    return None if any((os.path.realpath(home) + "/").startswith(real + "/")
                       for home in homes) else place


def _copied(path):
    """Returns the --copy value for a program; --copy refuses links of ordinary users."""
    real, name = os.path.realpath(path), os.path.basename(path)
    return _pair_text(real) + ("" if os.path.basename(real) == name
                               else ":" + _pair_text("/box/" + name))


def _pair_text(path):
    """Returns a path as it is written in SRC:DST."""
    return path.replace("\\", "\\\\").replace(":", "\\:")
