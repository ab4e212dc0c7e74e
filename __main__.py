# SPDX-License-Identifier: Apache-2.0
"""Runs `python3 -m mrunc`, `python3 FOLDER` and the zipapp."""
import sys

_package = __spec__ is not None and __spec__.parent
if not (_package and (sys.flags.isolated or getattr(sys.flags, "safe_path", False))):
    # First in the path is the current directory (-m), the folder or the archive: a sample called
    # os.py may lie there.
    _first = sys.path.pop(0)

import os

if _package:
    from .mrunc import main
else:
    # A folder or an archive: become the package by setting __path__, so that nothing else in it can
    # be imported by name.
    for _name in os.listdir(_first) if os.path.isdir(_first) else ():
        _stem, _, _end = _name.partition(".")
        # Python would import these instead of our own files.
        if _stem in ("mrunc", "seccomp_bpf") and (not _end or _end.endswith("so")):
            os.write(2, b"mrunc: %s lies beside the tool and would run in it: move it away\n"
                     % os.fsencode(_name))
            sys.exit(125)
    sys.modules["mrunc"] = type(sys)("mrunc")
    sys.modules["mrunc"].__path__ = [_first]
    from mrunc.mrunc import main

main(leave=True)
