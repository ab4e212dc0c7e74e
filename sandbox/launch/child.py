# SPDX-License-Identifier: Apache-2.0
"""The child's story: from clone3 to the exec of init, as one list of steps for each tier.

The order is the point of this file; the lists stand at its end.  Each step stands where it works
and nowhere else; its docstring says why there.  Nothing is imported here after clone3, and nothing
is decided: the plan was made in the parent.
"""
import os

from ...syscalls import caps, landlock, libc, mount, process, seccomp
from .. import init
from ..errors import CANNOT_CONTAIN, raw
from .lookup import Lookup, find_program
from ..tree.mounting import Tree, new_root as root_filesystem, write_all
from ..running.stdio import open_pty

#: Capabilities that changing ids takes: CAP_SETGID, CAP_SETUID; and CAP_SETPCAP for the securebits.
TO_BECOME = 1 << 6 | 1 << 7 | 1 << 8


class Child:
    """What the child was given.

    plan
    steps: of `stages`
    sock, parent_end: the control socket's two ends
    identity: (host uid, host gid)
    supervisor: its pid
    features
    image: fd of init
    last_cap: int
    trees: {Operation: fd of mounting.taken}
    copies: {Source: fd}
    filters: prepared programs
    handover: notify.Handover of the filter that takes their place, or None
    userns: inode of the parent's user namespace
    boot: the time namespace's offsets (bytes)
    ignored: signals that the caller ignores, and which would stay ignored across exec
    places: what becomes 0, 1 and 2, of stdio.Stdio.places
    group: fd of the control group's directory, or -1
    moved: whether the parent moves us into it after clone3; the cgroup namespace comes then
    remount: that module, or None where there is mount_setattr
    inherited: [fd] that would stay open across exec, or None where one call marks them all
    """

    def __init__(self, **given):
        self.__dict__.update(given)
        self.facts, self.moved, self.slave = {}, False, -1
        self.own_trees = {}  # as trees, of those that the child takes itself
        #: The user's other processes may have many descriptors on their way through sockets: then a
        #: low limit forbids sending one more.
        self.listener_to_send = given["handover"] is not None and not given["plan"].root
        self.rulesets = [-1, -1]


#: {name: step} of all steps.  Each name stands once, at its function.
STAGES = {}


def named(name, control=None, optional=False, needs_capabilities=False):
    """Makes a function one step of the child's set-up.

    name: what an error calls it; control: that it belongs to, or None; optional: --unsafe-without
    CONTROL leaves the whole step out; needs_capabilities: it needs nothing but the capabilities of
    its own user namespace.
    """
    def mark(function):
        function.stage, function.control = name, control
        function.optional, function.needs_capabilities = optional, needs_capabilities
        STAGES[name] = function
        return function
    return mark


def set_up(child):
    """Runs all steps and execs init; never returns.  A failure goes up the control socket."""
    at = "start"
    try:
        child.parent_end.close()  # or this process would never see that end close
        if child.group >= 0:
            os.close(child.group)  # its lock says that the supervisor lives
        if child.sock.recv(16) != b"maps":
            os._exit(CANNOT_CONTAIN)
        for step in child.steps:
            at = step.stage
            step(child)
    except OSError as error:
        report(child.sock, at, error.errno or 0, error.filename or "", error.strerror or str(error))
    except Lookup as error:
        report(child.sock, "exec", error.errno, error.text, "", error.status)
    except BaseException as error:  # a bug of ours must end like every other failure: nothing runs
        report(child.sock, at, 0, "", "%s: %s" % (type(error).__name__, error))
    finally:
        os._exit(CANNOT_CONTAIN)


def report(sock, stage, number, what, text, status=CANNOT_CONTAIN):
    """Sends one error packet: E and five fields."""
    what = what if isinstance(what, str) else os.fsdecode(what)
    fields = [stage, "%d" % number, what, text, "%d" % status]
    # Names from inside may hold anything.
    fields = [field.replace("\0", "\\0")[:800] for field in fields]
    try:
        sock.send(b"E" + raw("\0".join(fields))[:3500])
    except OSError:
        pass


def stages(plan):
    """Returns the steps for a plan, in order.  Called in the parent."""
    steps = TIERS[plan.tier.name]
    if "cgroupns" not in plan.lacks:
        steps = (cgroup_namespace,) + steps
    if not plan.spec.argv:  # what a warm sandbox will run, it learns at the gate
        steps = tuple(step for step in steps if step is not find)
    return [step for step in steps if not (step.optional and plan.left_out(step.control))]


@named("cgroup namespace", "cgroupns")
def cgroup_namespace(child):
    """Makes the cgroup namespace, if clone3 could not put the child into its group.

    First: the namespace's root is the group at the time of unshare.
    """
    if child.moved and any(control == "cgroupns" for control, _, _ in child.plan.namespaces):
        process.unshare(process.CLONE_NEWCGROUP)


@named("identity", "uidmap", needs_capabilities=True)
def identity(child):
    """Becomes the sandbox's uid and gid.

    First of all: until here a root caller's child is still the host's uid 0, whatever its new
    namespace says.
    """
    process.set_identity(child.plan.uid, child.plan.gid, groups=child.plan.root)


@named("time namespace", "timens", optional=True, needs_capabilities=True)
def time_namespace(child):
    """Enters a time namespace whose clocks start near zero.

    While CAP_SYS_TIME and the caller's /proc are there.  Entered as soon as the offsets are set:
    exec alone does that on newer kernels only (not on 6.1), and a vfork in between is then EINVAL.
    """
    if child.features.timens:
        process.set_dumpable(1)  # without it, which the change of ids cleared, /proc/self is root's
        process.unshare(process.CLONE_NEWTIME)
        write_file(b"/proc/self/timens_offsets", child.boot)
        process.enter_namespace(b"/proc/self/ns/time_for_children", process.CLONE_NEWTIME)


@named("parent death", "parent-death", optional=True)
def parent_death(child):
    """Asks for a signal when the supervisor dies.

    After the last change of ids, which clears it.  The usual check for a parent that died before
    cannot work: getppid() is 0 in a pid namespace.  That the gate opens proves that it lived.
    """
    process.set_parent_death_signal(child.plan.tier.death)


@named("session", "session", optional=True)
def session(child):
    """Leaves the caller's process group, or Ctrl-C would arrive twice.

    Signals that the caller ignores get their default action back.
    """
    process.setsid()
    for number in child.ignored:
        libc.signals.signal(number, libc.signals.SIG_DFL)


@named("user namespace limit", "userns-limit", optional=True, needs_capabilities=True)
def userns_limit(child):
    """Bars more user namespaces below the sandbox's own.

    Through the caller's /proc, while CAP_SYS_RESOURCE of the new namespace is there; the sandbox's
    /proc has no sys.  Only from another user namespace than the parent's: otherwise it would be the
    host's limit.
    """
    if os.stat("/proc/self/ns/user").st_ino == child.userns:
        raise OSError(1, "still in the caller's user namespace", "max_user_namespaces")
    fd = os.open("/proc/sys/user/max_user_namespaces", os.O_RDWR | os.O_CLOEXEC)
    try:
        write_all(fd, b"1" if child.plan.nested else b"0")
        child.facts["userns-limit"] = os.pread(fd, 32, 0).strip().decode()
    finally:
        os.close(fd)


@named("propagation", "propagation", needs_capabilities=True)
def private(child):
    """Makes every mount private.

    First of the mount steps: nothing may travel to or from the host.
    """
    mount.make_private(b"/")


@named("sources", "mounts", needs_capabilities=True)
def open_sources(child):
    """Opens what a caller without privilege could not clone itself.

    While the caller's tree is the root.  Before Linux 5.2, where no mount can be handed over, that
    is any caller's source.  The system's own are bound later, by path.
    """
    child.proc_self = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for op in child.plan.operations:
        if op.is_mount and op.source is not None and op not in child.trees:
            from ..tree.sources import take_source  # loaded by the parent already
            child.own_trees[op] = take_source(op, child.features.mount_api)


@named("new root", "mounts", needs_capabilities=True)
def new_root(child):
    """Mounts the new root over "/" and enters it.

    Path walks start below a mount on the root itself.  So it hides nothing, and no scratch
    directory is needed.
    """
    os.umask(0o022)
    child.root = root_filesystem(child.plan.operations[0], child.features.mount_api)
    os.fchdir(child.root)


@named("file system", "mounts")
def populate(child):
    """Makes everything that the plan lists, and hands over the upper layers of overlays.

    Before the old root goes: after that, mounting proc is EPERM.
    """
    tree = Tree(child.root, child.trees, child.own_trees, child.copies, child.uppers, child.remount,
                child.features.mount_api)
    for op, plain in list(zip(child.plan.operations, child.plan.plain))[1:]:
        try:
            tree.apply(op, plain)
        except OSError as error:
            raise OSError(error.errno, error.strerror, op.dst)
    tree.close()
    for place, upper in child.uppers.made if child.uppers and child.plan.watched else ():
        process.send(child.sock, b"O" + place, [upper])


@named("pivot_root", "mounts")
def pivot(child):
    """Makes the new root the root; the caller's tree goes, with every path to the host.

    After everything was taken from that tree.  The new root has been the current directory since
    it was made.
    """
    mount.pivot_root(b".", b".")
    mount.umount(b".")
    os.chdir("/")


@named("read-only places", "mounts")
def seal(child):
    """Makes the read-only places read-only.

    After the last copy has been written into them.
    """
    for op in child.plan.operations[1:]:
        if op.sealed:
            if child.remount is not None:
                child.remount.add(op.dst, mount.MOUNT_ATTR_RDONLY)
                continue
            fd = os.open(op.dst, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            mount.mount_setattr(fd, mount.MOUNT_ATTR_RDONLY, recursive=False)
            os.close(fd)


@named("root read-only", "root-ro", optional=True)
def root_read_only(child):
    """Makes the root read-only.

    After the last directory has been made; the writable places are mounts of their own.
    """
    if child.remount is not None:
        child.remount.add(b"/", mount.MOUNT_ATTR_RDONLY)
    else:
        mount.mount_setattr(child.root, mount.MOUNT_ATTR_RDONLY, recursive=False)


@named("host name", "hostname", optional=True, needs_capabilities=True)
def hostname(child):
    """Sets the host name, and the NIS domain name to what the kernel starts with.

    A new UTS namespace has the host's.  Before the second user namespace, which has no right to
    them.
    """
    process.set_hostname(child.plan.hostname)
    process.set_domainname(process.NO_DOMAIN)


@named("second user namespace", "userns-nested", needs_capabilities=True)
def nested_userns(child):
    """Enters a second user namespace.

    After the mounts: mount, net, pid, uts and ipc namespaces belong to the outer one.  So any
    capability that the program might win back is good for nothing.
    """
    if not child.plan.nested:
        return
    plan = child.plan
    process.unshare(process.CLONE_NEWUSER)
    process.set_dumpable(1)  # as in time_namespace
    # Through the caller's /proc, opened before the pivot: there may be none here.
    write_file(b"setgroups", b"deny", child.proc_self)
    write_file(b"uid_map", b"%d %d 1" % (plan.uid, plan.uid), child.proc_self)
    write_file(b"gid_map", b"%d %d 1" % (plan.gid, plan.gid), child.proc_self)
    if not plan.left_out("parent-death"):
        parent_death(child)


@named("directory")
def directory(child):
    """Enters the working directory.

    Where there is a new tree, after it has become the root.
    """
    os.chdir(child.plan.cwd)


@named("descriptors")
def descriptors(child):
    """Puts the program's 0, 1 and 2 into their places.

    In the new tree: /dev/null and the terminal are the sandbox's own.  From here on no descriptor
    of the caller is held.
    """
    slave = -1
    if ("terminal", None) in child.places:
        master, slave = open_pty("/dev/pts/ptmx" if child.plan.tier.own_tree else "/dev/ptmx")
        process.send(child.sock, b"Tterminal", [master])
        os.close(master)
        if child.plan.tier.name == "process":
            if child.plan.root:
                os.fchown(slave, *child.identity)  # made by the host's root
            child.slave = slave
    for number, (kind, value) in enumerate(child.places):
        if kind == "null":
            value = os.open("/dev/null", value | os.O_CLOEXEC)
        os.dup2(slave if kind == "terminal" else value, number)


@named("limits", "limits")
def limits(child):
    """Sets the resource limits.

    Late, so that the set-up itself does not run into them.
    """
    for name, (soft, hard) in child.plan.limits.items():
        if name == "nofile" and child.listener_to_send:
            soft = hard = process.get_limit(name)[1]  # the supervisor sets it later
        try:
            process.set_limit(name, soft, hard)
        except PermissionError:
            if name == "core":
                continue  # the caller's hard limit is 0; the gate knows whether that holds here
            raise OSError(1, "above the caller's own hard limit", name)


@named("landlock rules", "landlock")
def landlock_rules(child):
    """Makes the Landlock rulesets.

    After pivot_root: rules hang on the inodes of the new tree.
    """
    version = child.features.landlock_abi
    if version < child.plan.tier.landlock:
        return
    if not child.plan.left_out("landlock"):
        known = landlock.handled_rights(version)
        child.rulesets[0] = landlock.create_ruleset(version, known, tcp=True,
                                                    scopes=child.plan.tier.scopes)
        for path, rights in child.plan.landlock_rules:
            if path in child.plan.shown:  # a source, held since it was first opened
                landlock.allow_beneath(child.rulesets[0], child.plan.shown[path].fd, rights & known)
            else:
                landlock.allow_path(child.rulesets[0], path, rights & known)
        if child.slave >= 0:  # of a devpts that is not the sandbox's own
            landlock.allow_beneath(child.rulesets[0], child.slave,
                                   landlock.READ_FILE | landlock.WRITE_FILE)
    if version >= 6 and not child.plan.left_out("landlock-signals"):
        # A domain that says nothing of REFER refuses it: renames between directories would be
        # EXDEV.  landlock(7)
        child.rulesets[1] = landlock.create_ruleset(version, landlock.REFER,
                                                    scopes=landlock.SCOPE_SIGNAL)
        landlock.allow_path(child.rulesets[1], b"/", landlock.REFER)


@named("capabilities", "caps")
def capabilities(child):
    """Gives up the capabilities.

    Securebits and the bounding set first: both need CAP_SETPCAP, which the last call takes away.
    """
    plan, mask = child.plan, child.plan.cap_mask
    if not plan.left_out("caps"):
        caps.drop_bounding(mask, child.last_cap)
        caps.set_capabilities(mask | 1 << 8, mask)  # CAP_SETPCAP is still needed for the securebits
        caps.set_ambient(mask)
    if not plan.left_out("securebits"):
        caps.set_securebits(caps.SECUREBITS_LOCKED)
    if not plan.left_out("caps"):
        caps.set_capabilities(mask, mask)


@named("no_new_privs", "nnp", optional=True)
def no_new_privs(child):
    """Sets no_new_privs.

    Before Landlock and seccomp, which would need a capability otherwise.
    """
    process.set_no_new_privs()


@named("landlock", "landlock", optional=True)
def restrict(child):
    """Enters the Landlock domain.

    After the last mount: mount(2) is EPERM in a domain.
    """
    if child.rulesets[0] >= 0:
        landlock.restrict_self(child.rulesets[0])


@named("program")
def find(child):
    """Looks for the program in the sandbox's tree.

    With the program's own rights.
    """
    child.facts["program"] = os.fsdecode(find_program(child.plan))


@named("self-check")
def self_check(child):
    """Tells what no file of /proc shows from outside; the gate compares.

    After the last step that changes any of it.
    """
    facts = child.facts
    facts["cpu"] = "%f %f" % process.usage()
    facts["securebits"] = "%#x" % caps.get_securebits()
    facts["parent-death"] = "%d" % process.get_parent_death_signal()
    facts["hostname"] = os.uname().nodename
    facts["domainname"] = os.fsdecode(process.get_domainname())
    facts["cwd"] = os.fsdecode(os.getcwdb())
    umask = os.umask(0o022)
    facts["umask"] = "%o" % umask
    try:
        os.close(os.open(child.plan.tier.probe, os.O_RDONLY | os.O_CLOEXEC))
        facts["landlock"] = "open"
    except OSError as error:
        facts["landlock"] = "%d" % error.errno
    if child.plan.tier.scopes & landlock.SCOPE_SIGNAL and child.features.landlock_abi >= 6:
        try:  # what init's kill(-1) may reach; the supervisor is an equal of ours, and outside
            process.kill(child.supervisor, 0)
            facts["signal-scope"] = "0"
        except OSError as error:
            facts["signal-scope"] = "%d" % error.errno
    child.sock.send(b"F" + raw("\0".join("%s=%s" % item for item in facts.items())))


@named("lifeline")
def lifeline(child):
    """Arms the control socket: its end tells init of the supervisor's death, too.

    The parent-death signal belongs to one of the supervisor's threads.  Before the self-check,
    which tells the result.
    """
    child.facts["lifeline"] = "armed" if process.notify_io(child.sock) else "not armed"


@named("init", "seccomp")
def become_init(child):
    """Marks descriptors to be closed, attaches the filters and executes init.

    Last: out of Python.  Every buffer is made before a filter is in force.
    """
    plan = child.plan
    held = [child.sock.fileno()] + [fd for fd in child.rulesets[1:] if fd >= 0]
    # A word of init's argument holds one byte for each of its descriptors, and a caller may have
    # hundreds open.  What these numbers replace is dropped anyway.
    free = [number for number in range(3, 9) if number not in held and number != child.image]
    for fd, number in zip(held, free):
        os.dup2(fd, number)
        if not os.path.samestat(os.fstat(fd), os.fstat(number)):
            raise OSError(9, "had no effect", "dup2")
    held = free[:len(held)]
    control, signals = held[0], held[1] if len(held) > 1 else None
    argv = libc.string_array([init.argv0(control, signals, kill_all="signal-scope" in child.facts)])
    environment = libc.string_array([])
    if not plan.left_out("fds"):
        if child.inherited is None:
            process.cloexec_from(3)
        for fd in child.inherited or ():
            os.set_inheritable(fd, False)
    else:
        os.set_inheritable(child.image, False)
    for fd in held:
        os.set_inheritable(fd, True)
    if child.handover is not None:
        child.handover.prepare(control)
    if child.handover is None or not child.handover.attach(child.sock):
        # The policy comes last: what it refuses may include seccomp(2) itself.
        for program in reversed(child.filters):
            seccomp.attach(program)
    process.execveat(child.image, argv, environment)


def write_file(path, data, directory=None):
    """Writes a file of /proc in one write.

    directory: the descriptor that a relative path starts from.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)


# -- what only a tier without a user namespace does ------------------------------------------------

@named("file identity", "uidmap")
def file_identity(child):
    """Opens and makes files with the sandbox's ids from here on.

    Before the first file of the new tree is made: it belongs to the sandbox's id.  The child is the
    host's root until its rights go, but has no longer root's rights over files.
    """
    process.set_file_identity(*child.identity)


@named("rights", "caps")
def rights(child):
    """Becomes the sandbox's uid and gid, and gives up the capabilities.

    After everything that needs root.  The ids change between the bounding set and the last
    capability.  The securebits come first: they need a capability.
    """
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
            parent_death(child)  # the change of ids cleared it
    caps.set_capabilities(0)


@named("umask")
def umask(child):
    """Sets the umask.

    Where no new root is made, which sets it before its first file.
    """
    os.umask(0o022)


# -- the order -------------------------------------------------------------------------------------

FULL = (
    identity,
    time_namespace,
    parent_death,
    session,
    userns_limit,
    private,
    open_sources,
    new_root,
    populate,
    pivot,
    seal,
    root_read_only,
    hostname,
    nested_userns,
    directory,
    descriptors,
    limits,
    landlock_rules,
    capabilities,
    no_new_privs,
    restrict,
    find,
    lifeline,
    self_check,
    become_init,
)
#: `private` comes before everything: these mounts are copies of the host's in the host's user
#: namespace, and still shared.
ROOTNS = (
    private,
    parent_death,
    session,
    time_namespace,
    file_identity,
    open_sources,
    new_root,
    populate,
    pivot,
    seal,
    root_read_only,
    hostname,
    directory,
    descriptors,
    limits,
    landlock_rules,
    rights,
    no_new_privs,
    restrict,
    find,
    lifeline,
    self_check,
    become_init,
)
#: No tree, no mounts: what the program may open is all in the Landlock domain.  `directory` comes
#: after `rights`: it is a directory of the host, and entered with the program's own rights.
PROCESS = (
    parent_death,
    session,
    descriptors,
    limits,
    landlock_rules,
    rights,
    umask,
    directory,
    no_new_privs,
    restrict,
    find,
    lifeline,
    self_check,
    become_init,
)
TIERS = {"full": FULL, "rootns": ROOTNS, "process": PROCESS}
