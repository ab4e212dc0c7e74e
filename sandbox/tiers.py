# SPDX-License-Identifier: Apache-2.0
"""The tier ladder: how much of a sandbox a host can give, as one table.

`full` is the default.  A weaker tier runs only when it is named; a list of names means the first that this host can run,
found by trying.  What a tier does not hold is data here: plan, receipt, doctor and documentation read it.
"""
from ..syscalls.landlock import SCOPE_ABSTRACT_UNIX_SOCKET
from .errors import CANNOT_CONTAIN, USAGE, SandboxError, usage

NO_USERNS = "the rootns tier has no user namespace"
NO_TREE = "the process tier has no mount namespace: the host's tree is there, and Landlock decides what of it can be opened"
NO_NAMESPACE = "the process tier has no namespaces"


class Tier:
    """One rung.

    name; summary; userns, own_tree: has a user namespace, a tree of its own; real_id: the identity inside is the host's
    own number (no map); landlock: the lowest ABI that is used; scopes: what its Landlock domain scopes; probe: a path that the
    domain must refuse to open; death: the signal that init gets when the supervisor dies; lacks: {control: why it isn't
    there}; refuses: [(option, whether a Spec asks for it, why it can't be, remedy)]; vital: controls
    that --unsafe-without may not leave out here; not_held: sentences for people.
    """

    __slots__ = ("name", "summary", "userns", "own_tree", "real_id", "landlock", "scopes", "probe", "death", "lacks",
                 "refuses", "vital", "not_held")

    def __init__(self, name, summary, userns=True, own_tree=True, real_id=False, landlock=2,
                 scopes=SCOPE_ABSTRACT_UNIX_SOCKET, probe=b"/.landlock", death=9, lacks=None, refuses=(), vital=(),
                 not_held=()):
        self.name, self.summary, self.userns, self.own_tree = name, summary, userns, own_tree
        self.real_id, self.landlock, self.scopes, self.probe, self.death = real_id, landlock, scopes, probe, death
        self.lacks, self.refuses, self.vital, self.not_held = lacks or {}, refuses, frozenset(vital), not_held


TIERS = dict((tier.name, tier) for tier in (
    Tier("full", "user, mount, pid and all other namespaces, a tree of its own"),
    Tier("rootns", "root on a host without user namespaces: all other namespaces, a tree of its own", userns=False,
         real_id=True,
         lacks={"userns": NO_USERNS,
                "userns-limit": "the limit would be the host's; the system call filter alone bars user namespaces",
                "userns-nested": NO_USERNS},
         refuses=(
             ("--rw", lambda spec: spec.rw, "without a user namespace a source can't be mapped to its owner",
              "bring files in with --copy"),
             ("--user", lambda spec: spec.user is not None, "without a user namespace the id inside is the host's", None),
             ("--cap-add", lambda spec: spec.cap_add, "without a user namespace it would be a capability over the host", None)),
         vital=("caps", "nnp", "seccomp"),
         not_held=(
             "The set-up runs as the host's root, with its rights over mounts; in the full tier it runs as nobody.",
             "Nested user namespaces are barred by the system call filter alone.",
             "A capability won back would be one over the host: there is no user namespace around the others.",
             "The id inside is the host's own number (`id` shows it); nothing is root inside.")),
))
NAMES = tuple(TIERS)


def refusal(tier, spec):
    """The SandboxError (exit 2) for the first option of a Spec that a Tier can't express, or None."""
    for option, asked, reason, remedy in tier.refuses:
        if asked(spec):
            return usage("%s in the %s tier" % (option, tier.name), reason, remedy)
    for name in sorted(tier.vital & spec.unsafe_without):
        return usage("--unsafe-without %s in the %s tier" % (name, tier.name),
                     "everything else stands on it, it can't be left out")
    return None


def choose(spec):
    """(Tier, [line for the user]) for a Spec: the tier that it names, or of several the first that this host can run.

    Raises SandboxError: exit 2 where no named tier can express the options, 125 where this host can run none.
    """
    if len(spec.tier) == 1:
        tier = TIERS[spec.tier[0]]
        error = refusal(tier, spec)
        if error is not None:
            raise error
        return tier, []
    notes, possible = [], None
    for name in spec.tier:
        error = refusal(TIERS[name], spec)
        if error is None:
            fine, error = runnable(name)
            if fine:
                return TIERS[name], notes + ["running in the %s tier" % name] if notes else []
            possible = possible or error
        notes.append("tier %s is passed over: %s" % (name, error.line()))
    raise SandboxError("tier", "none of %s can be had" % ", ".join(spec.tier), reason="; ".join(notes),
                       remedy=possible and possible.remedy, status=CANNOT_CONTAIN if possible else USAGE)


def runnable(name):
    """Whether this host can run a tier: (True, None) or (False, SandboxError).  Sets a whole sandbox up, reads it back at
    the gate, and ends it there: nothing runs in it.  Raises SandboxError only when it is interrupted."""
    from . import launch
    from .spec import Spec
    try:
        launch.rehearse(launch.prepare(Spec(["true"], tier=name)))
    except SandboxError as error:
        if error.status > 128:
            raise
        return error.stage == "exec", None if error.stage == "exec" else error
    return True, None
