# SPDX-License-Identifier: Apache-2.0
"""The library's functions and classes, and every module that the host's side of a run needs.

No run imports anything later. If another thread forked in the middle of such an import, the
child would wait for ever for its end.
"""
import fcntl

from ..cgroup import limits, place, scope
from ..result import rows
from . import popen
from .api import Sandbox, doctor, run
from .pool import Pool
from .request import CalledProcessError

NEEDED = (limits, place, scope, fcntl, popen, rows)
__all__ = ["CalledProcessError", "Pool", "Sandbox", "doctor", "run"]
