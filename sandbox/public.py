# SPDX-License-Identifier: Apache-2.0
"""The library's functions and classes, and every module that a run needs of its host.

Nothing is imported while a program runs: in a host that forks then, the child would wait for ever for the import of a thread
that it does not have.
"""
import fcntl

from . import cgroup_limits, cgroup_place, cgroup_scope, popen, spec_limits
from .library import CalledProcessError, Sandbox, doctor, run
from .pool import Pool

NEEDED = (cgroup_limits, cgroup_place, cgroup_scope, fcntl, popen, spec_limits)
__all__ = ["CalledProcessError", "Pool", "Sandbox", "doctor", "run"]
