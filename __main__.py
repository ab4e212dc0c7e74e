# SPDX-License-Identifier: Apache-2.0
"""`python3 -m mrunc`, `python3 folder/` and the zipapp."""
import os
import sys

if __spec__ is not None and __spec__.parent:
    # -m puts the current directory first, and a sample called json.py may lie there.
    sys.path[:] = [entry for entry in sys.path if entry and os.path.realpath(entry) != os.path.realpath(os.curdir)]
    from .mrunc import main
else:
    # A folder or an archive: become the package by __path__ and leave sys.path before anything else is imported.
    _here = sys.path.pop(0)
    for _name in os.listdir(_here) if os.path.isdir(_here) else ():  # what would be preferred to our own files
        _stem, _, _end = _name.partition(".")
        if _stem in ("mrunc", "seccomp_bpf") and (not _end or _end.endswith("so")):
            os.write(2, b"mrunc: %s lies beside the tool and would run as a part of it: move it away\n" % os.fsencode(_name))
            sys.exit(125)
    _package = type(sys)("mrunc")
    _package.__path__ = [_here]
    sys.modules["mrunc"] = _package
    from mrunc.mrunc import main

sys.exit(main())
