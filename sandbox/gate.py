# SPDX-License-Identifier: Apache-2.0
"""The gate: what is really in force, read back from the kernel while the locked-down init waits, and compared.

Runs in the supervisor and believes nothing that was not read after the fact: /proc/PID of the waiting init, and for the
few things that no file shows, what the child read back itself before the filter closed.
"""
from ..syscalls.system import os
from .controls import GROUP_LIMITS, LEFT_OUT, Control
from .errors import SandboxError
from .host import mount_points, whole
from .plan import NAMESPACES
from .base_tree import INODES
from ..syscalls import libc, process
from ..syscalls.caps import SECUREBITS_LOCKED

FREE_PROPAGATION = (b"shared:", b"master:", b"propagate_from:")
LIMIT_ROWS = {"cpu": "Max cpu time", "fsize": "Max file size", "data": "Max data size", "stack": "Max stack size",
              "core": "Max core file size", "rss": "Max resident set", "nproc": "Max processes", "nofile": "Max open files",
              "memlock": "Max locked memory", "as": "Max address space", "locks": "Max file locks",
              "sigpending": "Max pending signals", "msgqueue": "Max msgqueue size", "nice": "Max nice priority",
              "rtprio": "Max realtime priority", "rttime": "Max realtime timeout"}


#: What init must find blocked: SIGKILL and SIGSTOP can't be.
BLOCKED = sum(1 << number - 1 for number in libc.SIGNALS if number not in (9, 19))


class Reading:
    """What /proc says of the init at the gate; group: the cgroup.Group that it was put into, or None."""

    def __init__(self, pid, group=None):
        base = "/proc/%d" % pid
        self.pid, self.group = pid, group
        rows = (line.partition(":") for line in os.fsdecode(whole(base + "/status")).split("\n"))
        self.status = dict((key, value.strip()) for key, _, value in rows)
        self.mounts = mount_points(base + "/mountinfo")
        self.limits = dict((line[:26].strip(), tuple(line[26:].split()[:2]))
                           for line in whole(base + "/limits").decode().split("\n"))
        self.session = os.getsid(pid)
        self.own_filters = own_filters()
        self.descriptors = dict((int(number), os.readlink("%s/fd/%s" % (base, number)))
                                for number in os.listdir(base + "/fd"))
        self.cwd = os.fsdecode(os.readlink(os.fsencode(base + "/cwd")))

    def namespace(self, name):
        """The link of a namespace, or None where the kernel does not have it."""
        try:
            return os.readlink("/proc/%d/ns/%s" % (self.pid, name))
        except OSError:
            return None


def own_namespace(name):
    """The supervisor's namespace link."""
    try:
        return os.readlink("/proc/self/ns/%s" % name)
    except OSError:
        return None


def own_filters():
    """The number of seccomp filters on the supervisor itself, or None before Linux 5.9."""
    _, found, rest = whole("/proc/self/status").partition(b"\nSeccomp_filters:")
    return int(rest.split(None, 1)[0]) if found else None


def check(plan, pid, facts, features, identity, control_fds, group=None, group_notes=None):
    """The receipt: [Control], in the order of the table.

    pid: of the init; facts: dict from the child; identity: (host uid, host gid); control_fds: how many descriptors of
    mrunc's own init holds; group: cgroup.Group or None; group_notes: {control: why it can't be}.  Raises SandboxError when a
    control that was asked for is not in force.
    """
    try:
        reading = Reading(pid, group)
    except OSError as error:
        raise SandboxError("gate", "reading back %s" % error.filename, error.errno, control="gate",
                           remedy="mrunc must be able to read /proc/PID of its own child: an ordinary user is, "
                                  "root needs CAP_SYS_PTRACE for that")
    notes = group_notes or {}
    receipt = []
    for name, asked in plan.controls.items():
        if name in plan.lacks:
            if name in plan.spec.require:
                raise _required(name, plan.lacks[name], None)
            receipt.append(Control(name, False, False, plan.lacks[name]))
            continue
        test = _group_limit if name in GROUP_LIMITS else TESTS.get(name) or TESTS[name.partition(".")[0]]
        in_force, how = test(name, plan, reading, facts, features, identity, control_fds)
        lacking = notes.get(name) or (None if name in plan.tier.vital else features.lacks(name))
        if name in plan.spec.require and not in_force:
            raise _required(name, lacking or features.refused(name) or how, lacking and _cause(name, features))
        refused = features.refused(name)
        if refused and not in_force:
            how = refused
        if asked and not in_force and lacking:
            how = lacking
        elif asked and not in_force and refused and name not in plan.tier.vital:
            if name not in plan.spec.best_effort:
                from .door import option
                raise SandboxError("gate", "%s is not in force" % name, reason=how, control=name, remedy=
                                   "let it through there; %s runs without" % option("best_effort", "landlock,landlock-signals"))
        elif asked and not in_force:
            raise SandboxError("gate", "%s is not in force" % name, reason=how, control=name,
                               remedy="nothing was run; if this host is at fault, mrunc can be told to go without by "
                                      "--unsafe-without (not for hostile code)")
        receipt.append(Control(name, asked, bool(in_force), "%s: %s" % (LEFT_OUT, how) if plan.left_out(name) else how))
    for name, limit in plan.limits.items():
        if "limits." + name not in plan.controls:
            in_force, how = _limit("limits." + name, plan, reading, facts, features, identity, control_fds)
            if not in_force:
                raise SandboxError("gate", "limits.%s is not in force" % name, reason=how, control="limits." + name)
            receipt.append(Control("limits." + name, True, True, how))
    return receipt


def _required(name, why, cause):
    remedy = "nothing was run; without --require %s it runs, if only this is missing" % name
    if cause:
        from . import remedies
        remedy += "; " + remedies.line(cause)
    return SandboxError("gate", "%s is required" % name, reason=why, control=name, remedy=remedy)


def _cause(name, features):
    """The cause in remedies.py of what this kernel lacks, or None."""
    if name not in ("landlock", "landlock-signals"):
        return None
    return "landlock-off" if features.landlock_off else "landlock-old"


def _namespace(name, plan, reading, facts, features, identity, control_fds):
    kind = "time" if name == "timens" else [row[1] for row in NAMESPACES if row[0] == name][0]
    theirs, ours = reading.namespace(kind), own_namespace(kind)
    if theirs is None or ours is None:
        return False, "no /proc/PID/ns/%s: the namespaces can't be compared" % kind
    if name == "pidns":
        inner = reading.status.get("NSpid", "").split()
        return theirs != ours and inner[-1:] == ["1"] and len(inner) > 1, "%s, NSpid %s" % (theirs, " ".join(inner))
    return theirs != ours, "%s, the supervisor's is %s" % (theirs, ours)


def _uidmap(name, plan, reading, facts, features, identity, control_fds):
    uid, gid = identity
    got = reading.status.get("Uid", "").split(), reading.status.get("Gid", "").split()
    return got == ([str(uid)] * 4, [str(gid)] * 4), "host uid %s, gid %s" % (got[0][0], got[1][0])


def _groups(name, plan, reading, facts, features, identity, control_fds):
    groups = reading.status.get("Groups", "?")
    if plan.root:
        return groups == "", "Groups: %s" % (groups or "none")
    return groups == "", "Groups: %s; a user's groups can't be dropped" % (groups or "none")


def _userns_limit(name, plan, reading, facts, features, identity, control_fds):
    want = "1" if plan.nested else "0"
    return facts.get("userns-limit") == want, "max_user_namespaces %s" % facts.get("userns-limit", "not set")


def _nested(name, plan, reading, facts, features, identity, control_fds):
    # The sandbox's first user namespace is named by the owner of its uts namespace; from outside, the map tells: a
    # nested one maps our id from the level above, not from the host.
    line = whole("/proc/%d/uid_map" % reading.pid).decode().split()
    inner = reading.namespace("user")
    nested = inner is not None and facts.get("outer-userns") not in (None, inner)
    return nested, "%s, inside %s; uid_map %s" % (inner, facts.get("outer-userns"), " ".join(line))


def _propagation(name, plan, reading, facts, features, identity, control_fds):
    peers = [point for point, _, fields, _, _ in reading.mounts if any(f.startswith(FREE_PROPAGATION) for f in fields)]
    return not peers, "%d mounts, all private" % len(reading.mounts) if not peers else "not private: %r" % peers[:3]


def _mounts(name, plan, reading, facts, features, identity, control_fds):
    got, details = {}, {}
    for point, options, _, _, super_options in reading.mounts:
        details[point] = super_options
        flags = set(word.decode() for word in options)
        got[point] = got[point] & flags if point in got else flags
    wrong = sorted(set(got) ^ set(plan.mounts))
    if wrong:
        return False, "not as planned: %s" % ", ".join(_text(point) for point in wrong[:4])
    for point, need in plan.mounts.items():
        need = need - {"ro"} if point == b"/" else need
        if need - got[point]:
            return False, "%s lacks %s" % (_text(point), ",".join(sorted(need - got[point])))
    for op in plan.operations:
        if op.kind == "tmpfs":
            missing = [word for word in _tmpfs_words(op) if word not in details[op.dst]]
            if missing:
                return False, "%s lacks %s" % (_text(op.dst), b",".join(missing).decode())
    return True, "%d mount points with their flags and sizes, no other" % len(got)


def _tmpfs_words(op):
    """What mountinfo must say of a tmpfs; it leaves the mode out where it is the default.  mm/shmem.c"""
    page = os.sysconf("SC_PAGE_SIZE")
    size = -(-op.options["size"] // page) * page
    mode = op.options["mode"]
    return [b"size=%dk" % (size >> 10), b"nr_inodes=%d" % INODES] + ([b"mode=%o" % mode] if mode != 0o1777 else [])


def _text(path):
    return path.decode("utf-8", "surrogateescape")


def _root_ro(name, plan, reading, facts, features, identity, control_fds):
    options = [options for point, options, _, _, _ in reading.mounts if point == b"/"]
    return bool(options) and all(b"ro" in o for o in options), "mountinfo: / %s" % b",".join(options[0]).decode()


def _proc(name, plan, reading, facts, features, identity, control_fds):
    found = [(kind, words) for point, _, _, kind, words in reading.mounts if point == b"/proc"]
    words = found[0][1] if found else []
    hidden = b"hidepid=invisible" in words or b"hidepid=2" in words
    restricted = hidden and (b"subset=pid" in words or plan.spec.proc == "full")
    return len(found) == 1 and found[0][0] == b"proc" and restricted, \
        "mountinfo: /proc %s" % (b",".join(words).decode() if found else "not mounted")


def _dev(name, plan, reading, facts, features, identity, control_fds):
    names = sorted(_text(point) for point, _, _, _, _ in reading.mounts if point.startswith(b"/dev"))
    return set(names) == set(_text(p) for p in plan.mounts if p.startswith(b"/dev")), " ".join(names)


def _hostname(name, plan, reading, facts, features, identity, control_fds):
    return facts.get("hostname") == _text(plan.hostname), "%s" % ("as asked" if facts.get("hostname") ==
                                                                  _text(plan.hostname) else "the host's")


def _session(name, plan, reading, facts, features, identity, control_fds):
    ignored = int(reading.status.get("SigIgn", "1"), 16)
    # Init waits for what is blocked; what is not never reaches a pid 1 without handlers, the workload's end included.
    open_to = BLOCKED & ~int(reading.status.get("SigBlk", "0"), 16)
    how = "session leader" if reading.session == reading.pid else "the caller's session"
    right = reading.session == reading.pid and not ignored and not open_to
    return right, "%s, ignored signals %#x%s" % (how, ignored, ", not blocked %#x" % open_to if open_to else "")


def _parent_death(name, plan, reading, facts, features, identity, control_fds):
    right = facts.get("parent-death") == "%d" % plan.tier.death and facts.get("lifeline") == "armed"
    return right, "PR_GET_PDEATHSIG %s; SIGIO of the control socket %s" % (facts.get("parent-death"), facts.get("lifeline"))


def _sweep(name, plan, reading, facts, features, identity, control_fds):
    subreaper = process.get_child_subreaper()
    scope = facts.get("signal-scope")
    right = subreaper == 1 and (scope == "1" or features.landlock_abi < 6)
    return right, "PR_GET_CHILD_SUBREAPER %d; %s" % (subreaper, "no signal scope" if scope is None else
                                                     "init's signal to the supervisor: errno %s" % scope)


def _limit(name, plan, reading, facts, features, identity, control_fds):
    short = name.partition(".")[2]
    got = reading.limits.get(LIMIT_ROWS[short], ("?", "?"))
    want = tuple("unlimited" if value >= 1 << 63 else str(value) for value in plan.limits.get(short, ()))
    return got == want, "%s %s:%s" % (LIMIT_ROWS[short], got[0], got[1])


def _group_limit(name, plan, reading, facts, features, identity, control_fds):
    if not plan.controls[name]:
        return False, "not asked for"
    return (False, "no control group") if reading.group is None else reading.group.holds(name, reading.pid)


def _landlock(name, plan, reading, facts, features, identity, control_fds):
    denied = facts.get("landlock") == "13"
    return denied, "ABI %d, a file outside every rule is %s" % (features.landlock_abi, "EACCES" if denied else "readable")


def _landlock_signals(name, plan, reading, facts, features, identity, control_fds):
    held = [what for what in reading.descriptors.values() if what == "anon_inode:[landlock-ruleset]" or
            what == "anon_inode:landlock-ruleset"]
    return len(held) == 1, "init holds %s ruleset; the workload enters it or is not started" % (len(held) or "no")


def _securebits(name, plan, reading, facts, features, identity, control_fds):
    return facts.get("securebits") == "%#x" % SECUREBITS_LOCKED, "PR_GET_SECUREBITS %s" % facts.get("securebits")


def _caps(name, plan, reading, facts, features, identity, control_fds):
    sets = dict((key, int(reading.status.get(key, "1"), 16)) for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))
    how = "five sets 0" if not any(sets.values()) else " ".join("%s %#x" % item for item in sorted(sets.items()))
    if not plan.tier.userns and plan.caller[0] != 0 and sets.pop("CapBnd"):  # CAP_SETPCAP is nobody's there
        how = "four sets 0; the bounding set stays an ordinary user's, void under no_new_privs"
    return all(value == plan.cap_mask for value in sets.values()), how


def _nnp(name, plan, reading, facts, features, identity, control_fds):
    value = reading.status.get("NoNewPrivs")
    return value == "1", "NoNewPrivs: %s" % value


def _seccomp(name, plan, reading, facts, features, identity, control_fds):
    mode, count, own = reading.status.get("Seccomp"), reading.status.get("Seccomp_filters"), reading.own_filters
    asking = "listener" in facts  # one filter then stands for all
    expected = None if own is None else own + (1 if asking else len(plan.filters))
    if name == "setid-filter":
        asked = [filter_name for filter_name, _ in plan.filters if filter_name == "setid"]
        right = bool(asked) and mode == "2" and (count is None or int(count) == expected)
        return right, "Seccomp_filters: %s, the supervisor has %s" % (count, own)
    right = mode == "2" and (count is None or int(count) == expected)
    right = right and any(filter_name != "setid" for filter_name, _ in plan.filters)
    how = "Seccomp: %s, filters %s, the supervisor has %s" % (mode, count, own)
    named = [filter_name for filter_name, _ in plan.filters if filter_name != "setid"]
    return right, how + "; attached: %s%s, sha256 %s" % (named[0], ", asking a listener" if asking else "",
                                                        plan.policy_digest[:16]) if named else how


def _ledger(name, plan, reading, facts, features, identity, control_fds):
    if plan.listening is None:
        return False, "not asked for"
    if not plan.listening.record:
        asks = "listener" in facts and plan.listening.kill
        return False, "not asked for; calls of high risk ask a listener" if asks else "not asked for"
    return "listener" in facts, plan.listening.how(facts.get("listener", "no listener"), plan.tier)


def _trace(name, plan, reading, facts, features, identity, control_fds):
    if plan.listening is None or not plan.listening.trace:
        return False, "not asked for"
    return "listener" in facts, "%s; evidence only: a program without libc, or a hostile one, can blur it" % facts.get(
        "listener", "no listener")


def _fds(name, plan, reading, facts, features, identity, control_fds):
    extra = sorted(number for number in reading.descriptors if number > 2)
    return len(extra) == control_fds, "0, 1, 2 and %d of init's own, closed at its exec of the workload" % len(extra)


def _cwd(name, plan, reading, facts, features, identity, control_fds):
    umask = facts.get("umask")
    right = facts.get("cwd") == _text(plan.cwd) and umask == "22" and reading.cwd == _text(plan.cwd)
    return right, "%s, umask %s" % (reading.cwd, umask)


TESTS = {"userns": _namespace, "mountns": _namespace, "pidns": _namespace, "ipcns": _namespace, "utsns": _namespace,
         "netns": _namespace, "cgroupns": _namespace, "timens": _namespace, "uidmap": _uidmap, "groups": _groups,
         "userns-limit": _userns_limit, "userns-nested": _nested, "propagation": _propagation, "mounts": _mounts,
         "root-ro": _root_ro, "proc": _proc, "dev": _dev, "hostname": _hostname, "session": _session,
         "parent-death": _parent_death, "sweep": _sweep, "limits": _limit, "landlock": _landlock,
         "landlock-signals": _landlock_signals,
         "securebits": _securebits, "caps": _caps, "nnp": _nnp, "seccomp": _seccomp, "ledger": _ledger, "trace": _trace,
         "setid-filter": _seccomp, "fds": _fds, "cwd": _cwd}
