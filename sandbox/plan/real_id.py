# SPDX-License-Identifier: Apache-2.0
"""Plans the identity of tiers without a user namespace: the host's own number.

It is known only when it has been taken.
"""
from ..errors import SandboxError
from ..proc import read
from ..tree.default import own_files
from ..tree.operations import Tmpfs
from ..caller import option

HOME = b"/home/user"


def adapt(plan, host):
    """Gives a Plan the home and ids of a tier whose ids are real.

    The first id of the range stands for the one that will be taken. Raises SandboxError for a
    caller without an unprivileged id to give.
    """
    if plan.root:
        plan.uid = plan.gid = plan.id_ranges[0][0]
    elif host.uid == 0 and (plan.tier.own_tree or root_is_root("/proc/self/uid_map")):
        raise SandboxError("identity", "no unprivileged id", control="uidmap",
                           reason="this root's user namespace holds no other id, and the %s tier "
                                  "never runs a program as root" %
                           plan.tier.name,
                           remedy="run mrunc as an ordinary user")
    elif plan.tier.own_tree:
        raise SandboxError("namespaces", "the %s tier needs root" % plan.tier.name,
                           control="mountns",
                           reason="an ordinary user makes namespaces only within a user namespace",
                           remedy="%s runs without namespaces" % option("tier", "process"))
    else:
        plan.uid, plan.gid = plan.caller
    if not plan.tier.own_tree:
        return
    plan.home = HOME
    if plan.env[b"HOME"] == plan.spec.home:
        plan.env[b"HOME"] = HOME


def root_is_root(path):
    """Returns whether uid 0 of a uid_map file (path) is also its parent's 0.  Raises OSError.

    If not, it is some user's. user_namespaces(7)
    """
    return any(line.split()[:2] == [b"0", b"0"] for line in read(path).split(b"\n"))


def settle(plan, identity):
    """Writes the identity that was taken into a Plan.

    identity: (host uid, host gid).
    """
    plan.uid, plan.gid = identity
    if not plan.tier.own_tree:
        return
    files = dict((b"/etc/" + name.encode(), content)
                 for name, content in own_files(plan.uid, plan.gid, plan.home, plan.hostname))
    for op in plan.operations:
        if op.content and op.dst in files:
            op.content = files[op.dst]
        elif isinstance(op, Tmpfs):
            op.owner = identity
