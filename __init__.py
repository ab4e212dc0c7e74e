# SPDX-License-Identifier: Apache-2.0
"""Is the package mrunc when it is installed or vendored; imports only mrunc.py."""
import sys

from . import mrunc as _tool
from .mrunc import __all__, main

sys.modules[__name__].__class__ = type(_tool)
