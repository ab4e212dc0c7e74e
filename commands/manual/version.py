# SPDX-License-Identifier: Apache-2.0
"""Makes the text of `mrunc --version`: version, place and shape of this copy, its Python."""
import os
import sys

from ...sandbox.version import __version__
from ...sandbox.caller import folder
from ..output import escaped


def text():
    """Returns three lines; the first is `mrunc VERSION` alone, for scripts."""
    place, shape = origin()
    return "mrunc %s\nfrom %s (%s)\nPython %d.%d.%d (%s)\n" % (
        (__version__, escaped(place), shape) + sys.version_info[:3] +
        (escaped(sys.executable or "of unknown place"),))


def origin():
    """Returns (path, shape) of this copy.

    folder: started by its path
    package: imported by name, as when it is installed or vendored
    zipapp: started or imported from an archive
    """
    place = folder()
    if not os.path.isdir(place):
        return place, "zipapp"
    face = getattr(sys.modules[__package__.rpartition(".commands.")[0]], "__file__", None) or ""
    return place, "package" if os.path.basename(face).startswith("__init__.") else "folder"
