# SPDX-License-Identifier: Apache-2.0
"""Reads back from the kernel which controls are in force, while the locked-down init waits.

Runs in the supervisor.  Reads /proc/PID of the waiting init.  For the few things that no file
shows, it takes what the child itself read back before the filter closed.
"""
import os

from .provisions import KILLED_FIRST
from ..controls import CONTROLS, Control, LEFT_OUT
from ..errors import remedies, SandboxError, show
from ..seccomp.shipped import BESIDE
from ..host.facts import own_filters
from ..proc import mounts, read
from ..running.stdio import all_null
from ..tree.operations import Proc
from ...syscalls import libc, process
from ...syscalls.caps import SECUREBITS_LOCKED
from ..caller import option

FREE_PROPAGATION = (b"shared:", b"master:", b"propagate_from:")
#: {limit: its line in /proc/PID/limits}.  proc_pid_limits(5)
LIMIT_ROWS = {"cpu": "Max cpu time", "fsize": "Max file size", "data": "Max data size",
              "stack": "Max stack size", "core": "Max core file size", "rss": "Max resident set",
              "nproc": "Max processes", "nofile": "Max open files", "memlock": "Max locked memory",
              "as": "Max address space", "locks": "Max file locks",
              "sigpending": "Max pending signals", "msgqueue": "Max msgqueue size",
              "nice": "Max nice priority", "rtprio": "Max realtime priority",
              "rttime": "Max realtime timeout"}
#: The mask of the signals that init must have blocked: SIGKILL and SIGSTOP can't be.  signal(7)
BLOCKED = sum(1 << number - 1 for number in libc.SIGNALS if number not in (9, 19))


class Expected:
    """Holds what a Reading is compared with.

    None of it comes from the child, so it is made while the child is still at work.

    namespaces: {kind: link of the supervisor's namespace, or None}
    filters: how many seccomp filters the supervisor has, or None
    mounts: {mount point: frozenset of words of mountinfo that it must have}
    details: [(mount point, [word of the file system])]
    proc: the plan's operations.Proc, or None
    places: stdio.Stdio of the program, or None
    terminal: fd of the master of the program's pty, or None
    """

    def __init__(self, plan, places=None):
        """Reads the supervisor's part; the plan's `readable` keeps the rest.  Raises OSError."""
        self.places, self.terminal = places, None
        self.namespaces = dict((row.kind, _namespace_link("/proc/self/ns/" + row.kind))
                               for name, row in CONTROLS.items()
                               if row.kind and name not in plan.lacks)
        self.filters = own_filters()
        if not plan.readable:
            plan.readable.update(
                # whether the root is read-only is a control of its own
                mounts=dict((point, frozenset(word.encode() for word in words
                                              if point != b"/" or word != "ro"))
                            for point, words in plan.mounts.items()),
                details=_super_options(plan.operations),
                proc=next((op for op in plan.operations if isinstance(op, Proc)), None))
        self.mounts, self.details = plan.readable["mounts"], plan.readable["details"]
        self.proc = plan.readable["proc"]


def _super_options(operations):
    """Returns [(mount point, [word that its file system must have])]."""
    page = os.sysconf("SC_PAGE_SIZE")
    return [(op.dst, op.super_options(page)) for op in operations if op.is_mount]


class Reading:
    """Holds what /proc tells of the init at the gate.

    pid, base: of the init, and its directory in /proc
    group: the cgroup.Group that it was put into, or None
    expected: Expected
    status, limits: text of the files of those names
    mounts: [proc.Mount]
    session: id of its session
    descriptors: {number: link} without 0, 1 and 2
    cwd: its current directory, as text
    """

    def __init__(self, pid, expected, group=None):
        """Reads all of it.  Raises OSError."""
        self.pid, self.group, self.base = pid, group, "/proc/%d/" % pid
        self.expected = expected
        # Never split, as few of its lines are asked for.  No process can put a line into it: the
        # kernel escapes a newline in a name.
        self.status = os.fsdecode(read(self.base + "status"))
        self.mounts = mounts(self.base + "mountinfo")
        self.limits = read(self.base + "limits").decode()
        self.session = os.getsid(pid)
        self.descriptors = dict((int(number), os.readlink("%sfd/%s" % (self.base, number)))
                                for number in os.listdir(self.base + "fd")
                                if number not in ("0", "1", "2"))
        self.cwd = os.fsdecode(os.readlink(os.fsencode(self.base + "cwd")))

    def says(self, key, default=None):
        """Returns the value of a line of /proc/PID/status, or `default`."""
        _, found, rest = self.status.partition("\n%s:" % key)
        return rest.partition("\n")[0].strip() if found else default

    def limit(self, row):
        """Returns (soft, hard) of a line of /proc/PID/limits, as words."""
        _, found, rest = self.limits.partition("\n%-26s" % row)
        return tuple(rest.split(None, 2)[:2]) if found else ("?", "?")

    def namespace(self, name):
        """Returns the link of a namespace of init, or None where the kernel has no such kind."""
        return _namespace_link("%sns/%s" % (self.base, name))


def _namespace_link(path):
    """Returns a link of /proc/PID/ns, or None.  namespaces(7)"""
    try:
        return os.readlink(path)
    except OSError:
        return None


def check(plan, pid, facts, features, identity, control_fds, group=None, group_notes=None,
          expected=None):
    """Returns the receipt: [Control], in the order of the plan.

    plan: Plan
    pid: of the init
    facts: {name: text} that the child read back
    features: kernel.Features
    identity: (host uid, host gid) of the program
    control_fds: how many descriptors of mrunc's own init holds
    group: cgroup.Group or None
    group_notes: {control: why it can't be in force}
    expected: Expected, if it was made already

    Raises SandboxError where a control that was asked for is not in force.
    """
    try:
        reading = Reading(pid, expected or Expected(plan), group)
    except OSError as error:
        remedy = "mrunc must be able to read /proc/PID of its own child: an ordinary user is, " \
                 "root needs CAP_SYS_PTRACE for that"
        if remedies().ids_effective(error.errno):
            remedy = remedies().line("ids-effective")
        raise SandboxError("gate", "reading back %s" % error.filename, error.errno, control="gate",
                           remedy=remedy)
    notes = group_notes or {}
    receipt = []
    for name, asked in plan.controls.items():
        if name in plan.lacks:
            if name in plan.spec.require:
                raise _required(name, plan.lacks[name], None)
            receipt.append(Control(name, False, False, plan.lacks[name]))
            continue
        in_force, how = READERS[CONTROLS[name].read](name, plan, reading, facts, features, identity,
                                                     control_fds)
        if features.missing:
            how += features.fallback(name)
        if in_force and asked:
            receipt.append(Control(name, True, True, how))
            continue
        lacking = notes.get(name) or (None if name in plan.tier.vital else features.lacks(name))
        if name in plan.spec.require and not in_force:
            raise _required(name, lacking or features.refused(name) or how,
                            lacking and _cause(name, features))
        refused = features.refused(name)
        if refused and not in_force:
            how = refused
        if asked and not in_force and lacking:
            how = lacking
        elif name == "limits.core" and asked and not in_force:
            if name not in plan.spec.best_effort:
                raise _core_refused(how)
        elif asked and not in_force and refused and name not in plan.tier.vital:
            if name not in plan.spec.best_effort:
                raise _refused(name, how, "let it through there; %s runs without" %
                               option("best_effort", "landlock,landlock-signals"))
        elif asked and not in_force:
            raise _refused(name, how, "nothing was run; if this host is at fault, mrunc can be "
                                      "told to go without by %s (not for hostile code)" %
                                      option("unsafe_without"))
        if plan.left_out(name):
            how = "%s: %s" % (LEFT_OUT, how)
        receipt.append(Control(name, asked, bool(in_force), how))
    return receipt


def _refused(name, why, remedy):
    """Returns the SandboxError for a control that is not in force."""
    return SandboxError("gate", "%s is not in force" % name, reason=why, control=name,
                        remedy=remedy)


def _required(name, why, cause):
    """Returns the SandboxError for a control of --require.  cause: of remedies.py, or None."""
    remedy = "nothing was run; without %s it runs, if only this is missing" % \
        option("require", name)
    if cause:
        remedy += "; " + remedies().line(cause)
    return SandboxError("gate", "%s is required" % name, reason=why, control=name, remedy=remedy)


def _core_refused(how):
    """Returns the SandboxError for a host whose core dumps no limit of ours prevents."""
    cause = "core-pattern" if "socket" in how else "core-limit" if "program" in how else None
    remedy = "%s runs without" % option("best_effort", "limits.core")
    if cause:
        remedy = "%s; %s" % (remedies().line(cause), remedy)
    return _refused("limits.core", how, remedy)


def _cause(name, features):
    """Returns the cause in remedies.py for a control that this kernel lacks, or None."""
    if name not in ("landlock", "landlock-signals"):
        return None
    return "landlock-off" if features.landlock_off else "landlock-old"


#: {`read` of a row of CONTROLS: function}.  It takes `name` and the arguments of `check`, with a
#: Reading in the place of the pid, and returns (whether the control is in force, the evidence).
READERS = {}


def reads(function):
    """Registers a function under its name without the underscore; returns it."""
    READERS[function.__name__[1:]] = function
    return function


@reads
def _namespace(name, plan, reading, facts, features, identity, control_fds):
    kind = CONTROLS[name].kind
    theirs, ours = reading.namespace(kind), reading.expected.namespaces[kind]
    if theirs is None or ours is None:
        return False, "no /proc/PID/ns/%s: the namespaces can't be compared" % kind
    if name == "pidns":
        inner = reading.says("NSpid", "").split()
        return theirs != ours and inner[-1:] == ["1"] and len(inner) > 1, \
            "%s, NSpid %s" % (theirs, " ".join(inner))
    return theirs != ours, "%s, the supervisor's is %s" % (theirs, ours)


@reads
def _uidmap(name, plan, reading, facts, features, identity, control_fds):
    uid, gid = identity
    got = reading.says("Uid", "").split(), reading.says("Gid", "").split()
    return got == ([str(uid)] * 4, [str(gid)] * 4), "host uid %s, gid %s" % (got[0][0], got[1][0])


@reads
def _groups(name, plan, reading, facts, features, identity, control_fds):
    groups = reading.says("Groups", "?")
    note = "" if plan.root else "; a user's groups can't be dropped"
    return groups == "", "Groups: %s%s" % (groups or "none", note)


@reads
def _userns_limit(name, plan, reading, facts, features, identity, control_fds):
    want = "1" if plan.nested else "0"
    return facts.get("userns-limit") == want, \
        "max_user_namespaces %s" % facts.get("userns-limit", "not set")


@reads
def _nested(name, plan, reading, facts, features, identity, control_fds):
    # The child read the link of the outer user namespace: it owns the sandbox's uts namespace.
    # The map is for people: a nested namespace maps our id from the level above, not the host.
    line = read("/proc/%d/uid_map" % reading.pid).decode().split()
    inner = reading.namespace("user")
    nested = inner is not None and facts.get("outer-userns") not in (None, inner)
    return nested, "%s, inside %s; uid_map %s" % (inner, facts.get("outer-userns"), " ".join(line))


@reads
def _propagation(name, plan, reading, facts, features, identity, control_fds):
    peers = [row.point for row in reading.mounts
             if any(field.startswith(FREE_PROPAGATION) for field in row.fields)]
    if peers:
        return False, "not private: %r" % peers[:3]
    return True, "%d mounts, all private" % len(reading.mounts)


@reads
def _mounts(name, plan, reading, facts, features, identity, control_fds):
    got, details, wanted = {}, {}, reading.expected.mounts
    for row in reading.mounts:
        details[row.point] = row.super_options
        options = set(row.options)
        got[row.point] = got[row.point] & options if row.point in got else options
    if got.keys() != wanted.keys():
        wrong = sorted(set(got) ^ set(wanted))
        return False, "not as planned: %s" % ", ".join(show(point) for point in wrong[:4])
    for point, need in wanted.items():
        if not need <= got[point]:
            lacking = b",".join(sorted(need - got[point])).decode()
            return False, "%s lacks %s" % (show(point), lacking)
    for point, words in reading.expected.details:
        missing = [word for word in words if word not in details[point]]
        if missing:
            return False, "%s lacks %s" % (show(point), b",".join(missing).decode())
    return True, "%d mount points with their flags and sizes, no other" % len(got)


@reads
def _root_ro(name, plan, reading, facts, features, identity, control_fds):
    options = [row.options for row in reading.mounts if row.point == b"/"]
    return bool(options) and all(b"ro" in o for o in options), \
        "mountinfo: / %s" % b",".join(options[0]).decode()


@reads
def _proc(name, plan, reading, facts, features, identity, control_fds):
    found = [(row.kind, row.super_options) for row in reading.mounts if row.point == b"/proc"]
    words = found[0][1] if found else []
    wanted = reading.expected.proc
    right = wanted is not None and len(found) == 1 and wanted.hides(*found[0])
    return right, "mountinfo: /proc %s" % (b",".join(words).decode() if found else "not mounted")


@reads
def _dev(name, plan, reading, facts, features, identity, control_fds):
    names = sorted(show(row.point) for row in reading.mounts if row.point.startswith(b"/dev"))
    planned = set(show(point) for point in plan.mounts if point.startswith(b"/dev"))
    return set(names) == planned, " ".join(names)


@reads
def _hostname(name, plan, reading, facts, features, identity, control_fds):
    right = facts.get("hostname") == show(plan.hostname) and \
        facts.get("domainname") == show(process.NO_DOMAIN)
    return right, "as asked" if right else "the host's"


@reads
def _session(name, plan, reading, facts, features, identity, control_fds):
    ignored = int(reading.says("SigIgn", "1"), 16)
    # Init waits for blocked signals.  The kernel drops any other for a pid 1 without handlers,
    # SIGCHLD included.
    open_to = BLOCKED & ~int(reading.says("SigBlk", "0"), 16)
    how = "session leader" if reading.session == reading.pid else "the caller's session"
    right = reading.session == reading.pid and not ignored and not open_to
    how += ", ignored signals %#x" % ignored
    return right, how + (", not blocked %#x" % open_to if open_to else "")


@reads
def _parent_death(name, plan, reading, facts, features, identity, control_fds):
    right = facts.get("parent-death") == "%d" % plan.tier.death and facts.get("lifeline") == "armed"
    return right, "PR_GET_PDEATHSIG %s; SIGIO of the control socket %s" % (
        facts.get("parent-death"), facts.get("lifeline"))


@reads
def _sweep(name, plan, reading, facts, features, identity, control_fds):
    subreaper = process.get_child_subreaper()
    scope = facts.get("signal-scope")
    right = subreaper == 1 and (scope == "1" or features.landlock_abi < 6)
    how = "no signal scope" if scope is None else \
        "init's signal to the supervisor: errno %s" % scope
    return right, "PR_GET_CHILD_SUBREAPER %d; %s" % (subreaper, how)


@reads
def _limit(name, plan, reading, facts, features, identity, control_fds):
    short = name.partition(".")[2]
    got = reading.limit(LIMIT_ROWS[short])
    return got == _wanted(plan, short), "%s %s:%s" % (LIMIT_ROWS[short], got[0], got[1])


def _wanted(plan, short):
    """Returns (soft, hard) of a limit of the plan, in the words of /proc/PID/limits."""
    return tuple("unlimited" if value >= 1 << 63 else str(value)
                 for value in plan.limits.get(short, ()))


@reads
def _rlimits(name, plan, reading, facts, features, identity, control_fds):
    if not plan.controls[name]:
        return False, "not asked for"
    # limits.core reads RLIMIT_CORE: which value holds core dumps back depends on the host.
    names = [short for short in plan.limits if short != "core"]
    rows = [(LIMIT_ROWS[short], reading.limit(LIMIT_ROWS[short]), _wanted(plan, short))
            for short in names]
    return all(got == want for _, got, want in rows), \
        ", ".join("%s %s:%s" % ((row,) + got) for row, got, _ in rows)


@reads
def _core(name, plan, reading, facts, features, identity, control_fds):
    soft, hard = reading.limit(LIMIT_ROWS["core"])
    how = "%s %s:%s" % (LIMIT_ROWS["core"], soft, hard)
    try:
        pattern = read("/proc/sys/kernel/core_pattern")
    except FileNotFoundError:
        return True, how + "; no core_pattern: this kernel dumps nothing"
    except OSError as error:
        return False, how + "; core_pattern can't be read: %s" % error.strerror
    if pattern.startswith(b"@"):
        return False, how + "; core_pattern names a socket, and no limit keeps a dump from it " \
                            "(Linux 6.16)"
    if plan.left_out("seccomp"):
        return False, how + "; no filter keeps the program from changing it"
    if pattern.startswith(b"|"):
        return (soft, hard) == ("1", "1"), how + "; core_pattern names a program, and only " \
                                                 "at 1:1 the kernel starts none"
    return soft in ("0", "1") and hard in ("0", "1"), \
        how + "; core_pattern names a file, and below a page none is written"


@reads
def _oom(name, plan, reading, facts, features, identity, control_fds):
    score = read(reading.base + "oom_score_adj").decode().strip()
    return score == "%d" % KILLED_FIRST, "oom_score_adj %s" % score


@reads
def _group_limit(name, plan, reading, facts, features, identity, control_fds):
    if not plan.controls[name]:
        return False, "not asked for"
    if reading.group is None:
        return False, "no control group"
    return reading.group.holds(name, reading.pid)


@reads
def _landlock(name, plan, reading, facts, features, identity, control_fds):
    denied = facts.get("landlock") == "13"
    return denied, "ABI %d, a file outside every rule is %s" % (
        features.landlock_abi, "EACCES" if denied else "readable")


@reads
def _landlock_signals(name, plan, reading, facts, features, identity, control_fds):
    held = [link for link in reading.descriptors.values()
            if link in ("anon_inode:[landlock-ruleset]", "anon_inode:landlock-ruleset")]
    return len(held) == 1, "init holds %s ruleset; the workload enters it or is not started" % (
        len(held) or "no")


@reads
def _securebits(name, plan, reading, facts, features, identity, control_fds):
    return facts.get("securebits") == "%#x" % SECUREBITS_LOCKED, \
        "PR_GET_SECUREBITS %s" % facts.get("securebits")


@reads
def _caps(name, plan, reading, facts, features, identity, control_fds):
    sets = dict((key, int(reading.says(key, "1"), 16))
                for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))
    how = "five sets 0"
    if any(sets.values()):
        how = " ".join("%s %#x" % item for item in sorted(sets.items()))
    # without a user namespace, an ordinary user lacks CAP_SETPCAP to drop the bounding set
    if not plan.tier.userns and plan.caller[0] != 0 and sets.pop("CapBnd"):
        how = "four sets 0; the bounding set stays an ordinary user's, void under no_new_privs"
    return all(value == plan.cap_mask for value in sets.values()), how


@reads
def _nnp(name, plan, reading, facts, features, identity, control_fds):
    value = reading.says("NoNewPrivs")
    return value == "1", "NoNewPrivs: %s" % value


@reads
def _seccomp(name, plan, reading, facts, features, identity, control_fds):
    mode, count = reading.says("Seccomp"), reading.says("Seccomp_filters")
    own = reading.expected.filters
    asking = "listener" in facts  # then the child attaches one filter in the place of all
    expected = None if own is None else own + (1 if asking else len(plan.filters))
    if name == "setid-filter":
        asked = [filter_name for filter_name, _ in plan.filters if filter_name == "setid"]
        right = bool(asked) and mode == "2" and (count is None or int(count) == expected)
        return right, "Seccomp_filters: %s, the supervisor has %s" % (count, own)
    right = mode == "2" and (count is None or int(count) == expected)
    right = right and any(filter_name not in BESIDE for filter_name, _ in plan.filters)
    how = "Seccomp: %s, filters %s, the supervisor has %s" % (mode, count, own)
    named = [filter_name for filter_name, _ in plan.filters if filter_name not in BESIDE]
    if named:
        how += "; attached: %s%s, sha256 %s" % (named[0], ", asking a listener" if asking else "",
                                                plan.policy_digest[:16])
    return right, how


@reads
def _ledger(name, plan, reading, facts, features, identity, control_fds):
    if plan.listening is None:
        return False, "not asked for"
    if not plan.listening.record:
        asks = "listener" in facts and plan.listening.kill
        return False, "not asked for" + ("; calls of high risk ask a listener" if asks else "")
    return "listener" in facts, plan.listening.how(facts.get("listener", "no listener"), plan.tier)


@reads
def _trace(name, plan, reading, facts, features, identity, control_fds):
    if plan.listening is None or not plan.listening.trace:
        return False, "not asked for"
    return "listener" in facts, "%s; evidence only: a program without libc, or a hostile one, " \
                                "can blur it" % facts.get("listener", "no listener")


@reads
def _fds(name, plan, reading, facts, features, identity, control_fds):
    extra, places = len(reading.descriptors), reading.expected.places
    if places is None:
        right, how = all_null(reading.pid)
    else:
        right, how = places.holds(reading.pid, reading.expected.terminal)
    return right and extra == control_fds, \
        "%s; %d of init's own, closed at its exec of the workload" % (how, extra)


@reads
def _cwd(name, plan, reading, facts, features, identity, control_fds):
    umask = facts.get("umask")
    right = facts.get("cwd") == show(plan.cwd) and umask == "22" and reading.cwd == show(plan.cwd)
    return right, "%s, umask %s" % (reading.cwd, umask)
