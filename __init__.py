# SPDX-License-Identifier: Apache-2.0
"""The package face, when mrunc is installed or vendored.  Imports nothing but the door."""
import sys

from . import mrunc as _door
from .mrunc import __all__, main

sys.modules[__name__].__class__ = type(_door)
