# SPDX-License-Identifier: Apache-2.0
"""Where this copy of mrunc lies, for whoever starts it once more."""
import os


def door():
    """The path by which an interpreter starts this copy of mrunc: mrunc.py, or the archive that it lies in."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = os.path.join(folder, "mrunc.py")
    while not os.path.exists(path) and folder != "/":
        if os.path.isfile(folder):
            return folder  # a zipapp
        folder = os.path.dirname(folder)
    return path
