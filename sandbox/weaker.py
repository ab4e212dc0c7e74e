# SPDX-License-Identifier: Apache-2.0
"""The child's stories of the weaker tiers: the steps of stages.py in another order, and the two that only they have."""
import os

from ..syscalls import caps, files, process
from . import stages as s

#: What it still takes to become somebody else: CAP_SETGID, CAP_SETUID, and CAP_SETPCAP for the securebits.
TO_BECOME = 1 << 6 | 1 << 7 | 1 << 8


def file_identity(child):
    """Before the first file of the new tree is made: it belongs to the sandbox's id, and the child, which is the host's root
    until its rights go, no longer has root's rights over files."""
    files.set_file_identity(*child.identity)


def rights(child):
    """After everything that needs root: the identity, between the bounding set and the last capability.  The securebits
    first, which need a capability and would otherwise come too late."""
    plan = child.plan
    caps.set_ambient(0)
    if plan.caller[0] == 0:  # an ordinary user has no capability to do it with
        caps.drop_bounding(0, child.last_cap)
        caps.set_capabilities(TO_BECOME)
        if not plan.left_out("securebits"):
            caps.set_securebits(caps.SECUREBITS_LOCKED)
    if plan.root:
        process.set_identity(*child.identity)
        if not plan.left_out("parent-death"):
            s.parent_death(child)  # the change of ids cleared it
    caps.set_capabilities(0)


def directory(child):
    """With the program's own rights: it is a directory of the host."""
    os.umask(0o022)
    s.directory(child)


#: MS_PRIVATE comes before everything: these mounts are copies of the host's in the host's user namespace, and still shared.
ROOTNS = (
    ("propagation", s.private),
    ("parent death", s.parent_death),
    ("session", s.session),
    ("time namespace", s.time_namespace),
    ("file identity", file_identity),
    ("sources", s.open_sources),
    ("new root", s.new_root),
    ("file system", s.populate),
    ("pivot_root", s.pivot),
    ("read-only places", s.seal),
    ("root read-only", s.root_read_only),
    ("host name", s.hostname),
    ("directory", s.directory),
    ("descriptors", s.descriptors),
    ("limits", s.limits),
    ("landlock rules", s.landlock_rules),
    ("rights", rights),
    ("no_new_privs", s.no_new_privs),
    ("landlock", s.restrict),
    ("program", s.find),
    ("lifeline", s.lifeline),
    ("self-check", s.self_check),
    ("init", s.become_init),
)
#: No tree, no mounts: what the program may open is all in the domain.
PROCESS = (
    ("parent death", s.parent_death),
    ("session", s.session),
    ("descriptors", s.descriptors),
    ("limits", s.limits),
    ("landlock rules", s.landlock_rules),
    ("rights", rights),
    ("directory", directory),
    ("no_new_privs", s.no_new_privs),
    ("landlock", s.restrict),
    ("program", s.find),
    ("lifeline", s.lifeline),
    ("self-check", s.self_check),
    ("init", s.become_init),
)
STORIES = {"rootns": ROOTNS, "process": PROCESS}
