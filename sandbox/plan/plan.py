# SPDX-License-Identifier: Apache-2.0
"""Makes the plan: everything that will be done, as data, before anything happens.

It can be printed, and tested without root.
"""

from ..tree import default
from .. import tiers
from ..controls import CONTROLS, asked
from ..errors import remedies, SandboxError, show, usage
from ..tree.operations import Bind, plain_places
from ...syscalls import landlock, process
from ...syscalls.libc import ARCH, BITS, MACHINE
from ..caller import option
from ..seccomp import shipped

#: [(control, kind, flag of clone3)].
NAMESPACES = [(row.name, kind, flag) for kind, flag in process.NAMESPACES
              for row in CONTROLS.values() if row.kind == kind]
#: A sandbox that shares its caller's uid leaves the caller so many descriptors to pass on.  The
#: kernel counts those in flight for each uid and refuses a sender when there are more than its soft
#: RLIMIT_NOFILE; it looks before it adds those of one message, at most 253 (SCM_MAX_FD).  The other
#: 131 are for the host's own.  net/unix/scm.c, too_many_unix_fds
IN_FLIGHT = 253 + 131
#: Fewer are of no use; the caller's soft limit is then below 448, and a sandbox can use up what is
#: in flight.
LEAST_FILES = 64
#: name: (soft, hard).  core: at exactly 1 the kernel aborts a dump to a piped handler, of which 0
#: starts one; a file wants at least a page (core(5), fs/coredump.c).  nofile: select(2) breaks
#: above 1024, so the program must ask for more.
DEFAULT_LIMITS = {"core": (1, 1), "nofile": (1024, 4096), "nproc": (512, 512)}
#: The policies of --seccomp by name that run in this tier as they are.
SHIPPED = ("default", "strict", "process", "debug")
#: File systems that know no id mapping.  mount_setattr(2), FS_ALLOW_IDMAP
OWNERLESS = frozenset((b"proc", b"sysfs", b"cgroup", b"cgroup2", b"devtmpfs", b"devpts", b"debugfs",
                       b"tracefs", b"bpf", b"securityfs", b"mqueue"))


class Plan:
    """Everything that will be done, as data only.

    spec: Spec.
    tier: Tier.
    lacks: {control: why this tier does not hold it here}.
    uid, gid: inside. In a tier with real ids the first of the range until one is taken.
    caller: (uid, gid) of the caller.
    root: whether the caller has ids to give.
    id_ranges: of idmap.candidates.
    namespaces: [(control, kind, flag of clone3)].
    operations: [Operation] that make the tree.
    mounts: {mount point: flag words}, what mountinfo must show.
    limits: {name: (soft, hard)}.
    landlock_rules: [(path, rights)].
    filters: [(name, program bytes)].
    controls: {name: whether it is asked for}.
    hostname, cwd, home: bytes.
    env: the program's environment, {name: value} in bytes.
    cap_mask: bit mask of the capabilities that the program keeps.
    nested: whether a second user namespace follows.
    writes_host_files: whether the program may write files of the host.
    watched: whether the changes are looked at after the run.
    policy_digest: SHA-256 of the policy among the filters, None without one.
    warnings: lines for the user.
    group: [cgroup.limits.Setting].
    group_notes: {control: why it can't be in force}, of those that --best-effort names.
    listening: listening.Listening, None if no call asks a listener.
    plain: of operations.plain_places.
    readable: what the gate makes of `mounts` and `operations`, once for all runs of the plan.
    held: [source.Source] of everything that the user named.
    shown: {path: Source} of a tier without a tree.
    """

    __slots__ = ("spec", "tier", "lacks", "env", "uid", "gid", "caller", "root", "id_ranges",
                 "namespaces", "operations", "limits", "landlock_rules", "filters", "controls",
                 "hostname", "cwd", "home", "cap_mask", "nested", "mounts", "writes_host_files",
                 "watched", "policy_digest", "warnings", "group", "group_notes", "listening",
                 "plain", "readable", "held", "shown")

    def again(self, argv):
        """Returns the same plan for another program.  Raises SandboxError (exit 2).

        argv: None if the program is named later.
        """
        other = Plan()
        for name in Plan.__slots__:
            setattr(other, name, getattr(self, name))
        other.spec, other.env = self.spec.again(argv), dict(self.env)
        return other

    def system_trees(self):
        """Returns the paths of the host's own directories that are shown."""
        if self.tier.own_tree:
            return [op.src for op in self.operations if op.system]
        return [path for path, rights in self.landlock_rules
                if rights & landlock.READ_DIR and path not in self.shown and path != self.home]

    def release(self):
        """Closes the sources: nothing more can be taken from them."""
        while self.held:
            self.held.pop().close()

    def environment(self):
        """Returns the program's environment as exec takes it, a list of bytes."""
        return [name + b"=" + value for name, value in self.env.items()]

    def left_out(self, name):
        """Returns whether the user left a control out."""
        return name in self.spec.unsafe_without


def check_machine():
    """Refuses a machine without a filter.  Raises SandboxError."""
    if ARCH is None:
        name = MACHINE if BITS == 64 else "a %d-bit Python on %s" % (BITS, MACHINE)
        raise SandboxError("machine", "no filter for %s" % name, control="seccomp",
                           remedy=remedies().line("machine"))


def make(spec, host, id_ranges=(), tier=tiers.FULL):
    """Returns the Plan for a Spec on a Host.

    id_ranges: of idmap.candidates, empty for a caller that is served like a user.
    tier: Tier.

    Raises SandboxError: exit 2 for a mistake in the request, 125 for what this host can't do.
    """
    check_machine()
    plan = Plan()
    plan.held, plan.shown = [], {}
    try:
        _fill(plan, spec, host, id_ranges, tier)
    except BaseException:
        plan.release()
        raise
    return plan


def _fill(plan, spec, host, id_ranges, tier):
    plan.spec, plan.tier, plan.caller, plan.readable = spec, tier, (host.uid, host.gid), {}
    plan.lacks = tier.lacks
    plan.id_ranges, plan.root = list(id_ranges), bool(id_ranges)
    plan.uid, plan.gid = spec.user or (0, 0)
    plan.home, plan.env = spec.home, dict(spec.env)
    if tier.real_id:
        from . import real_id
        real_id.adapt(plan, host)
    plan.hostname = spec.hostname or b"mrunc"
    plan.cwd = spec.chdir or b"/box"
    plan.cap_mask = sum(1 << number for number in spec.cap_add)
    plan.nested = not plan.cap_mask and not plan.left_out("userns-nested") and tier.userns
    plan.namespaces = [(control, name, flag) for control, name, flag in NAMESPACES
                       if not plan.left_out(control) and control not in tier.lacks]
    plan.limits = _limits(spec, host, plan)
    plan.watched = spec.changes or spec.export is not None
    plan.group, plan.group_notes = [], {}
    if spec.wants_group:
        from ..cgroup import limits as cgroup_limits
        plan.group, plan.group_notes = cgroup_limits.plan(spec)
    plan.filters, plan.policy_digest, plan.warnings, plan.listening = [], None, [], None
    if tier.own_tree:
        _own_tree(plan, spec, host)
    else:
        from ..tree import process_tier
        process_tier.fill(plan, spec, host)
    if not plan.left_out("seccomp") and spec.learn != "record":
        plan.filters.append(_policy(plan, spec))
    plan.writes_host_files = bool(spec.rw) or not tier.own_tree
    if plan.writes_host_files and not plan.left_out("setid-filter"):
        plan.filters.append(("setid", shipped.setid_program(ARCH)))
    if not _holds_core(plan):
        plan.filters.append(("core", shipped.core_program(ARCH)))
    if spec.learn == "record":
        from . import learning
        learning.arm(plan)
    elif spec.ledger or spec.trace or spec.seccomp_action == "kill":
        from . import listening
        listening.arm(plan)
    plan.controls = asked(plan)


def _own_tree(plan, spec, host):
    own_files = default.own_files(plan.uid, plan.gid, plan.home, plan.hostname)
    programs = None
    if spec.rootfs is not None:
        from ..tree import userland
        programs = userland.operations(userland.Userland(spec, plan.held), own_files, plan.home)
    ops = default.base(host, own_files, spec.proc, plan.home, plan.left_out("proc"), programs)
    plan.operations = ops
    if spec.ro or spec.rw or spec.here or spec.tmpfs or spec.copy or spec.harden or \
            spec.chdir is not None:
        from ..tree import user_mounts
        plan.operations = user_mounts.add_user_mounts(ops, spec, host, plan.held)
    if spec.overlay:
        from ..tree import overlay
        plan.operations = overlay.apply(plan.operations, spec, host, plan.held)
    if spec.harden:
        from ..tree import harden
        plan.operations = harden.apply(plan.operations, spec.tty)
    if plan.root and plan.tier.userns:
        for op in plan.operations:
            refuse_ownerless(op, host.mounts)
    plan.mounts = expected_mounts(plan.operations, host, plan.left_out("root-ro"))
    plan.landlock_rules = _landlock_rules(plan.operations)
    plan.plain = plain_places(plan.operations)


def _policy(plan, spec):
    """Returns (name, program) of the system call policy.

    The shipped ones are bytes with a known digest, so nothing else is loaded.
    """
    name = spec.seccomp
    if not plan.tier.own_tree:
        name = shipped.of_process_tier(landlock.abi())
    if not plan.tier.own_tree or name in SHIPPED and not spec.seccomp_add:
        plan.policy_digest = shipped.digest(name, ARCH)
        return name, shipped.program(name, ARCH)
    from ..seccomp import choose
    name, program, plan.warnings = choose.choose(spec, ARCH, landlock.abi() >= 6 and
                                                 not plan.left_out("landlock-signals"))
    plan.policy_digest = shipped.digest_of(program)
    return name, program


def _holds_core(plan):
    """Returns whether no filter is needed to keep RLIMIT_CORE at 1.

    The policy is a shipped one, which does that, or no filter is wanted.
    """
    return plan.left_out("seccomp") or not plan.tier.own_tree or \
        plan.spec.learn != "record" and plan.spec.seccomp in SHIPPED and not plan.spec.seccomp_add


def _limits(spec, host, plan):
    limits = {}
    for name, (soft, hard) in DEFAULT_LIMITS.items():
        if plan.left_out("limits." + name):
            continue
        most = host.hard_limits[name][1] if name in host.hard_limits else hard
        # --pids must be the limit that is reached: mrunc reports it.
        if name == "nproc" and spec.pids:
            soft = hard = max(hard, spec.pids + 16)
        most = hard if most == -1 else most
        if name == "nofile" and not plan.root:
            soft_outside = host.hard_limits.get(name, (-1, -1))[0]
            if soft_outside != -1:
                most = min(most, max(LEAST_FILES, soft_outside - IN_FLIGHT))
        limits[name] = (min(soft, most), min(hard, most))
    limits.update(spec.rlimit)
    if spec.cpu_time is not None and "cpu" not in spec.rlimit:
        # A second line for each process alone, and later than the supervisor's deadline.
        seconds = int(spec.cpu_time + spec.grace) + 2
        most = host.hard_limits.get("cpu", (-1, -1))[1]
        limits["cpu"] = (seconds, seconds +
                         1) if most == -1 else (min(seconds, most), min(seconds + 1, most))
    return limits


def refuse_ownerless(op, mounts):
    """Refuses root's sources on file systems without owners.  Raises SandboxError (exit 2).

    op: Operation.
    mounts: [proc.Mount] of the host.

    No kernel can map these to an owner, so the request is wrong and not the host.
    """
    if not isinstance(op, Bind) or not op.user:
        return
    inside = op.src.rstrip(b"/") + b"/"
    above = [row for row in mounts if inside.startswith(row.point.rstrip(b"/") + b"/")]
    for row in [max(above, key=lambda row: len(row.point))] * bool(above) + \
            [row for row in mounts if row.point.startswith(inside)]:
        if row.kind in OWNERLESS:
            raise usage(show(op.src), "%s is a %s, which can't be mapped to an owner" % (
                show(row.point), row.kind.decode()),
                        "bring files in with " + option("copy"), stage="sources")


def expected_mounts(operations, host, root_writable=False):
    """Returns what mountinfo must show: {mount point: set of flag words}.

    operations: [Operation].
    host: Host.
    root_writable: whether the root stays writable.
    """
    out = {}
    for op in operations:
        out.update(op.mounts(host.mounts))
    if not root_writable:
        out[b"/"].add("ro")
    return out


def _landlock_rules(operations):
    """Returns [(path, rights)] for every ABI; the child masks unknown rights.

    A rule on a file has only rights that a file can have: any other is EINVAL.
    """
    rules = [(op.dst, op.rights()) for op in operations if op.rights()]
    rules[1:1] = default.RIGHTS  # after the root's
    needed = []
    for path, rights in rules:
        granted = 0  # a rule holds for everything below its directory, across mounts.  landlock(7)
        for other, more in needed:
            if path.startswith(other.rstrip(b"/") + b"/"):
                granted |= more
        if rights & ~granted:
            needed.append((path, rights))
    return needed
