# SPDX-License-Identifier: Apache-2.0
"""The library's functions and classes, and every module that the host's side of a run needs.

No run imports anything later. If another thread forked in the middle of such an import, the
child would wait for ever for its end.
"""
import fcntl

from . import cgroup_limits, cgroup_place, cgroup_scope, popen, rows, spec_limits
from .library import CalledProcessError, Sandbox, doctor, run
from .pool import Pool

NEEDED = (cgroup_limits, cgroup_place, cgroup_scope, fcntl, popen, rows, spec_limits)
__all__ = ["CalledProcessError", "Pool", "Sandbox", "doctor", "run"]
