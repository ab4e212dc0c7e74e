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
    _package = type(sys)("mrunc")
    _package.__path__ = [_here]
    sys.modules["mrunc"] = _package
    from mrunc.mrunc import main

sys.exit(main())
