# SPDX-License-Identifier: Apache-2.0
"""Lists the controls: one row for each thing that is in force, with its particulars.

A new control is a new row here and, if no reader of gate.py fits, one function there.
"""

#: How the receipt begins to say that the caller left a control out, and a report knows it by.
LEFT_OUT = "left out by --unsafe-without"
PIDNS_ENDS = "the pid namespace ends everything that is left"
NO_USERNS = "the rootns tier has no user namespace"
NO_NAMESPACE = "the process tier has no namespaces"
NO_TREE = "the process tier has no tree of its own, every path is the host's"


class Row:
    """The particulars of one control.

    name: as plan, receipt and options use it.
    what: its effect, one phrase.
    read: the name of the function in gate.READERS that reads it back.
    removable: whether --unsafe-without may leave it out; not if everything else stands on it.
    best_effort: whether --best-effort may name it. Any other is in force or nothing runs.
    asked: function of the Plan: whether it is asked for, if it is neither left out nor lacking.
    kind: of a namespace, its name in /proc/PID/ns.
    options: of a limit, the attributes of the Spec that ask for it.
    needed_by: controls that need this one; they must be left out with it.
    lacks: {tier: why it isn't there}.
    lacks_without_scope: the same below Landlock ABI 6, which has no signal scope.
    lacks_for_user: the same for an ordinary user.
    vital: the tiers that stand on it: --unsafe-without is refused there.
    kernel: function of the Features: whether this kernel has it.
    other_ways: [(feature, the fallback on a kernel without it)], for the result.
    """

    removable, best_effort, kind = True, False, None
    options = needed_by = vital = other_ways = ()
    lacks = lacks_without_scope = lacks_for_user = {}  # type: dict
    asked = kernel = staticmethod(lambda _: True)

    def __init__(self, name, what, read, **others):
        self.name, self.what, self.read = name, what, read
        self.__dict__.update(others)


def _in_group(name):
    """Returns the `asked` of a limit by control group."""
    return lambda plan: name in plan.group_notes or any(
        setting.control == name for setting in plan.group)


#: {name: Row}, in the order of the receipt.
CONTROLS = dict((row.name, row) for row in (
    Row("userns", "own user namespace", "namespace",
        kind="user", removable=False, lacks={"rootns": NO_USERNS, "process": NO_NAMESPACE},
        other_ways=(("clone3", "made by clone(2)"),)),
    Row("mountns", "own mount namespace", "namespace",
        kind="mnt", removable=False, lacks={"process": NO_NAMESPACE}),
    Row("pidns", "own pid namespace: no host process is visible", "namespace",
        kind="pid", removable=False, lacks={"process": NO_NAMESPACE},
        other_ways=(("pidfd_open", "ended by its pid"), ("pidfd_send_signal", "ended by its pid"))),
    Row("ipcns", "own ipc namespace: System V IPC and POSIX queues", "namespace",
        kind="ipc", lacks={"process": NO_NAMESPACE}),
    Row("utsns", "own uts namespace: host name", "namespace",
        kind="uts", lacks={"process": NO_NAMESPACE}, needed_by=("hostname",)),
    Row("netns", "own, empty network namespace", "namespace",
        kind="net", lacks={"process": NO_NAMESPACE}),
    Row("cgroupns", "own cgroup namespace: the host's cgroup path is hidden", "namespace",
        kind="cgroup", lacks={"process": NO_NAMESPACE}),
    Row("timens", "own time namespace: uptime starts with the sandbox", "namespace",
        kind="time", best_effort=True, lacks={"process": NO_NAMESPACE},
        kernel=lambda features: features.timens),
    Row("uidmap", "uid and gid 0 inside are one unprivileged id of the host", "uidmap",
        removable=False),
    # A namespace that a user made denies setgroups: the groups can't go.  user_namespaces(7)
    Row("groups", "no supplementary groups of the caller", "groups",
        removable=False, asked=lambda plan: plan.root),
    Row("userns-limit", "user.max_user_namespaces of the sandbox bars nested user namespaces",
        "userns_limit", lacks={
            "rootns": "the limit would be the host's; the system call filter alone bars user "
                      "namespaces",
            "process": NO_NAMESPACE}),
    Row("userns-nested", "a second user namespace: a regained capability applies to nothing",
        "nested", asked=lambda plan: not plan.cap_mask,
        lacks={"rootns": NO_USERNS, "process": NO_NAMESPACE}),
    Row("propagation", "every mount is private", "propagation",
        removable=False, lacks={"process": NO_TREE}),
    Row("mounts", "the mount points are exactly the planned ones, each with its flags", "mounts",
        removable=False, lacks={"process": NO_TREE}, other_ways=(("mount API", "made by mount(2)"),
                    ("mount_setattr", "restricted one by one by mount(2)"),
                    ("openat2", "walked one component at a time"))),
    Row("root-ro", "the root file system is read-only", "root_ro",
        lacks={"process": NO_TREE}),
    Row("proc", "fresh /proc, hidepid=2 and subset=pid (or masked)", "proc",
        lacks={"process": NO_TREE}, asked=lambda plan: plan.spec.proc != "none"),
    Row("dev", "/dev holds null, zero, full, random, urandom, tty alone", "dev",
        removable=False, lacks={"process": NO_TREE}),
    Row("hostname", "own host name, no NIS domain name", "hostname",
        lacks={"process": "the process tier has no uts namespace: the host's name"}),
    Row("session", "own session: not in the caller's process group", "session", vital=("process",)),
    Row("parent-death", "dies with the supervisor", "parent_death", lacks_without_scope={
        "process": "without signals (Landlock ABI 6) init can't kill the program when the "
                   "supervisor is killed"}),
    Row("sweep", "without a pid namespace: what the program started is found and killed at the end",
        "sweep", lacks={"full": PIDNS_ENDS, "rootns": PIDNS_ENDS}),
    # Without a filter the program could set it to 0, and then a piped handler is started.
    Row("limits.core", "no core dumps, neither to a file nor to a piped handler of the host",
        "core", best_effort=True, asked=lambda plan: not plan.left_out("seccomp")),
    Row("limits.nofile", "open files", "limit"),
    Row("limits.nproc", "processes of the sandbox", "limit"),
    Row("limits.rlimit", "what --rlimit and --cpu-time set for each process", "rlimits",
        removable=False, options=("rlimit", "cpu_time"),
        asked=lambda plan: bool(plan.spec.rlimit) or plan.spec.cpu_time is not None),
    Row("limits.oom", "killed first when memory runs out (oom_score_adj 1000)", "oom"),
    Row("limits.memory", "memory, by control group", "group_limit",
        best_effort=True, options=("memory",), asked=_in_group("limits.memory")),
    Row("limits.cpu", "processor time per second, by control group", "group_limit",
        best_effort=True, options=("cpus",), asked=_in_group("limits.cpu")),
    Row("limits.pids", "processes and threads, by control group", "group_limit",
        best_effort=True, options=("pids",), asked=_in_group("limits.pids")),
    Row("limits.io", "bytes per second from and to disks, by control group", "group_limit",
        best_effort=True, options=("io_read", "io_write"), asked=_in_group("limits.io")),
    Row("landlock", "Landlock domain: a second layer under the mounts", "landlock",
        best_effort=True, vital=("process",), kernel=lambda features: features.landlock_abi >= 2),
    Row("landlock-signals", "the workload can't signal pid 1 (Landlock scope)", "landlock_signals",
        best_effort=True, vital=("process",), kernel=lambda features: features.landlock_abi >= 6,
        lacks_without_scope={"process": "this kernel's Landlock has no signal scope; the filter "
                                        "refuses all signals instead"}),
    Row("securebits", "uid 0 gives no capability, locked", "securebits", lacks_for_user={
        "process": "setting them takes a capability; no_new_privs alone keeps the program without "
                   "any"}),
    Row("caps", "all five capability sets are empty", "caps", vital=("rootns", "process")),
    Row("nnp", "no_new_privs", "nnp", vital=("rootns", "process"),
        needed_by=("landlock", "landlock-signals", "seccomp", "setid-filter")),
    Row("seccomp", "deny-by-default system call filter", "seccomp", vital=("rootns", "process")),
    Row("ledger", "refused system calls are recorded: the filter asks a listener about them",
        "ledger", asked=lambda plan: plan.listening is not None and plan.listening.record),
    Row("trace", "executed programs are recorded: the filter asks a listener about each execve",
        "trace", asked=lambda plan: plan.listening is not None and bool(plan.listening.trace)),
    Row("setid-filter",
        "with --rw, or a file as a user's output: no set-uid or set-gid file can be made",
        "seccomp", asked=lambda plan: plan.writes_host_files, vital=("process",)),
    Row("fds", "no descriptor but 0, 1, 2", "fds",
        other_ways=(("close_range", "each marked by itself"),)),
    Row("cwd", "working directory and umask as planned", "cwd", removable=False),
))


def having(attribute):
    """Returns the names of the controls whose row has an attribute, in the table's order."""
    return tuple(name for name, row in CONTROLS.items() if getattr(row, attribute))


#: What --best-effort may name.
BEST_EFFORT = having("best_effort")
#: The limits by control group.
GROUP_LIMITS = tuple(name for name, row in CONTROLS.items() if row.read == "group_limit")


def limits_of(options):
    """Returns the names of the limits by control group that options ask for, a list.

    options: Spec, or the library's dict.
    """
    get = options.get if isinstance(options, dict) else lambda name: getattr(options, name)
    return [name for name in GROUP_LIMITS if any(get(option) for option in CONTROLS[name].options)]


def lacking(tier, attribute="lacks"):
    """Returns {control: why} of the controls that a tier lacks.

    tier: its name.
    attribute: of Row, one whose name begins with lacks.
    """
    return {name: getattr(row, attribute)[tier] for name, row in CONTROLS.items()
            if tier in getattr(row, attribute)}


def asked(plan):
    """Returns {control: whether a Plan asks for it}, in the table's order."""
    out = {}
    for name, row in CONTROLS.items():
        possible = not plan.left_out(name) and name not in plan.lacks
        out[name] = possible and row.asked(plan)
    return out


class Control:
    """One line of the receipt.

    name: of the control.
    asked: whether the plan asked for it.
    in_force: whether it was found in force when it was read back.
    how: the evidence, one phrase.
    """

    __slots__ = ("name", "asked", "in_force", "how")

    def __init__(self, name, asked, in_force, how):
        self.name, self.asked, self.in_force, self.how = name, asked, in_force, how

    def as_dict(self):
        """Returns the JSON object of the result."""
        return {"name": self.name, "asked": self.asked, "in_force": self.in_force, "how": self.how}
