# SPDX-License-Identifier: Apache-2.0
"""The tier ladder: how much of a sandbox a host can give.

`full` is the default.  A weaker tier runs only when it is named; a list of names means the first that this host can run,
found by trying.  What a tier does not hold is data, here and in tiers_weaker: plan, receipt, doctor and documentation read it.
"""
from ..syscalls.landlock import SCOPE_ABSTRACT_UNIX_SOCKET
from . import controls
from .errors import CANNOT_CONTAIN, SandboxError, USAGE, usage

SIGKILL = 9
NAMES = ("full", "rootns", "process")


class Tier:
    """One rung.

    name, summary: what people call it, and one phrase.
    userns, own_tree: whether it has a user namespace, a tree of its own.
    real_id: whether the identity inside is the host's own number (no map).
    landlock: the lowest ABI that is used.
    scopes: what its Landlock domain scopes.
    probe: a path that the domain must refuse to open.
    death: the signal that init gets when the supervisor dies.
    lacks, lacks_without_scope, lacks_for_user: {control: why it isn't there}, of controls.CONTROLS.
    vital: {control} that --unsafe-without may not leave out here, of controls.CONTROLS.
    refuses: [(option, whether a Spec asks for it, why it can't be, remedy)].
    not_held: sentences for people.
    """

    __slots__ = ("name", "summary", "userns", "own_tree", "real_id", "landlock", "scopes", "probe", "death", "lacks",
                 "lacks_without_scope", "lacks_for_user", "refuses", "vital", "not_held")

    def __init__(self, name, summary, userns=True, own_tree=True, real_id=False, landlock=2,
                 scopes=SCOPE_ABSTRACT_UNIX_SOCKET, probe=b"/.landlock", death=SIGKILL, refuses=(),
                 not_held=()):
        self.name, self.summary, self.userns, self.own_tree = name, summary, userns, own_tree
        self.real_id, self.landlock, self.scopes, self.probe, self.death = real_id, landlock, scopes, probe, death
        self.lacks = controls.lacking(name)
        self.lacks_without_scope = controls.lacking(name, "lacks_without_scope")
        self.lacks_for_user = controls.lacking(name, "lacks_for_user")
        self.vital = frozenset(row.name for row in controls.CONTROLS.values() if name in row.vital)
        self.refuses, self.not_held = refuses, not_held


FULL = Tier("full", "user, mount, pid and all other namespaces, a tree of its own")


def named(name):
    """The Tier of a name of NAMES."""
    if name == "full":
        return FULL
    from .tiers_weaker import TIERS
    return TIERS[name]


def refusal(tier, spec):
    """The SandboxError (exit 2) for the first option of a Spec that a Tier can't express, or None."""
    for words, asked, reason, remedy in tier.refuses:
        if asked(spec):
            name, *value = words[2:].split(" ")
            return _refused(tier, name.replace("-", "_"), *value, reason=reason, remedy=remedy)
    for name in sorted(spec.require & set(tier.lacks)):
        return _refused(tier, "require", name, reason=tier.lacks[name])
    for name in sorted(tier.vital & spec.unsafe_without):
        return _refused(tier, "unsafe_without", name, reason="everything else stands on it, it can't be left out")
    return None


def _refused(tier, *asked, reason, remedy=None):
    from .caller import option
    for name in ("copy", "ro", "chdir"):  # the table has them as of a command line
        remedy = remedy and remedy.replace("--" + name, option(name))
    return usage("%s in the %s tier" % (option(*asked), tier.name), reason, remedy)


def choose(spec):
    """(Tier, [line for the user]) for a Spec: the tier that it names, or of several the first that this host can run.

    Raises SandboxError: exit 2 where no named tier can express the options, 125 where this host can run none.
    """
    if len(spec.tier) == 1:
        tier = named(spec.tier[0])
        error = refusal(tier, spec)
        if error is not None:
            raise error
        return tier, []
    notes, possible = [], None
    for name in spec.tier:
        error = refusal(named(name), spec)
        if error is None:
            fine, error = runnable(name)
            if fine:
                return named(name), notes + ["running in the %s tier" % name] if notes else []
            possible = possible or error
        notes.append("tier %s is passed over: %s" % (name, error.line()))
    raise SandboxError("tier", "none of %s can be had" % ", ".join(spec.tier), reason="; ".join(notes),
                       remedy=possible and possible.remedy, status=CANNOT_CONTAIN if possible else USAGE)


def runnable(name):
    """Whether this host can run a tier: (True, None) or (False, SandboxError).  Sets a whole sandbox up, reads it back at
    the gate, and ends it there: nothing runs in it.  Raises SandboxError only when it is interrupted."""
    from .launch import run
    from .plan.spec import Spec
    try:
        run.rehearse(run.prepare(Spec(["true"], tier=name)))
    except SandboxError as error:
        if error.status > 128:
            raise
        return error.stage == "exec", None if error.stage == "exec" else error
    return True, None
