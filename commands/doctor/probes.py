# SPDX-License-Identifier: Apache-2.0
"""Tries what mrunc needs of a kernel, each function one thing, in a child of throwaway.py.

All return a value fit for JSON, or raise OSError with the call that failed.
"""
import os

from ...syscalls import caps, landlock, libc, mount, process, seccomp
from ...syscalls.libc import bind, c_int, c_pointer, c_size, c_uint
from ...sandbox.host.kernel import Features
from ...sandbox.tree.mounting import Tree, joined, new_root, stand_in, taken
from ...sandbox.tree.operations import Devpts, Proc, Root
from .throwaway import in_namespaces
from ...sandbox import init
from ...sandbox.launch import idmap, run as launch
from ...sandbox.plan.spec import Spec

ENOSYS, EACCES = 38, 13
ALLOW = 0x7fff0000
#: Filter actions (include/uapi/linux/seccomp.h).
ACTIONS = (("kill_process", 0x80000000), ("kill_thread", 0), ("trap", 0x30000), ("errno", 0x50000),
           ("user_notif", 0x7fc00000), ("trace", 0x7ff00000), ("log", 0x7ffc0000), ("allow", ALLOW))
#: System call, Linux version, argument types, and harmless arguments that the kernel refuses.
CALLS = (
    ("clone3", "5.3", (c_pointer, c_size), (None, 0)),
    ("pidfd_open", "5.3", (c_int, c_uint), (-1, 0)),
    ("pidfd_send_signal", "5.1", (c_int, c_int, c_pointer, c_uint), (-1, 0, None, 0)),
    ("close_range", "5.9", (c_uint, c_uint, c_uint), (9, 8, 0)),
    ("openat2", "5.6", (c_int, c_pointer, c_pointer, c_size), (-1, None, None, 0)),
    ("open_tree", "5.2", (c_int, c_pointer, c_uint), (-1, None, 0xffffffff)),
    ("move_mount", "5.2", (c_int, c_pointer, c_int, c_pointer, c_uint),
     (-1, None, -1, None, 0xffffffff)),
    ("fsopen", "5.2", (c_pointer, c_uint), (None, 0xffffffff)),
    ("fsconfig", "5.2", (c_int, c_uint, c_pointer, c_pointer, c_int), (-1, 0, None, None, 0)),
    ("fsmount", "5.2", (c_int, c_uint, c_uint), (-1, 0xffffffff, 0)),
    ("mount_setattr", "5.12", (c_int, c_pointer, c_uint, c_pointer, c_size),
     (-1, None, 0, None, 0)),
    ("execveat", "3.19", (c_int, c_pointer, c_pointer, c_pointer, c_int),
     (-1, None, None, None, -1)),
    ("memfd_create", "3.17", (c_pointer, c_uint), (None, 0xffffffff)),
    ("seccomp", "3.17", (c_uint, c_uint, c_pointer), (0xffffffff, 0, None)),
)


def missing_calls():
    """Returns [[name, Linux version]] of the system calls that answer ENOSYS."""
    out = []
    for name, since, types, arguments in CALLS:
        try:
            bind(name, *types)(*arguments)
        except OSError as error:
            if error.errno == ENOSYS:
                out.append([name, since])
    return out


def userns():
    """Makes and maps a user namespace and uses a capability in it."""
    return in_namespaces(0, caps.drop_bounding, ~1, 0)


def userns_unmapped():
    """Makes a user namespace and does nothing in it."""
    pid, _ = process.clone3(process.CLONE_NEWUSER)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def namespace(flag):
    """Makes a namespace beside the user namespace. flag: CLONE_NEW*."""
    if flag == process.CLONE_NEWTIME:
        return in_namespaces(0, _time_namespace)
    return in_namespaces(flag, int)


def _time_namespace():
    process.unshare(process.CLONE_NEWTIME)
    process.enter_namespace(b"/proc/self/ns/time_for_children", process.CLONE_NEWTIME)


def nested():
    """Makes a user namespace within a user namespace."""
    return in_namespaces(0, process.unshare, process.CLONE_NEWUSER)


def userns_limit():
    """Writes the limit of nested user namespaces from inside."""
    return in_namespaces(0, _write, "/proc/sys/user/max_user_namespaces", "1")


def _write(path, text):
    with open(path, "w") as stream:
        stream.write(text)


def mounts():
    """Makes a new tree over "/" with /usr read-only in it, and removes the old one."""
    return in_namespaces(process.CLONE_NEWNS, _root, True)


def _root(bind):
    features = Features()
    mount.make_private(b"/")
    tree = taken(b"/usr", features.mount_api) if bind else -1
    root = new_root(Root(1 << 20), features.mount_api)
    os.fchdir(root)
    if bind:
        os.mkdir("usr", dir_fd=root)
        Tree(root, {}, {}, {}, None, stand_in(features), features.mount_api).attach(
            tree, b"/usr", mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID)
    mount.pivot_root(b".", b".")
    mount.umount(b".")
    os.chdir("/")


def proc():
    """Mounts a /proc as a run does."""
    return in_namespaces(process.CLONE_NEWNS | process.CLONE_NEWPID, _filesystem, Proc())


def devpts():
    """Mounts a devpts, which holds terminals, as a run does."""
    return in_namespaces(process.CLONE_NEWNS, _filesystem, Devpts(b"/dev/pts"))


def _filesystem(op):
    kind, options = op.kind.encode(), op.options()
    if Features().mount_api:
        os.close(mount.new_filesystem(kind, op.flags, options))
    else:
        mount.make_private(b"/")
        mount.mount_new(kind, op.flags, joined(options), b"/")


def overlay():
    """Mounts a writable layer over a read-only one."""
    return in_namespaces(process.CLONE_NEWNS, _overlay)


def _overlay():
    _root(False)
    for name in ("/lower", "/upper", "/work"):
        os.mkdir(name)
    # tmpfs has user xattrs since Linux 6.6; without them overlayfs would only warn.
    os.setxattr("/upper", "user.overlay.opaque", b"n")
    os.close(mount.new_filesystem(b"overlay", mount.MOUNT_ATTR_NOSUID, [
        (b"lowerdir", b"/lower"), (b"upperdir", b"/upper"), (b"workdir", b"/work"),
        (b"userxattr", None)]))


def seccomp_filter():
    """Attaches a filter that answers; returns the actions that this kernel lacks."""
    process.set_no_new_privs()
    lacking = [name for name, action in ACTIONS if not seccomp.action_available(action)]
    seccomp.attach(seccomp.prepare(_answering("setsid", 0x50000 | 99)))
    try:
        process.setsid()
    except OSError as error:
        if error.errno == 99:
            return lacking
    raise OSError(0, "an attached filter does not answer", "seccomp")


def seccomp_notify():
    """Attaches a filter with a listener."""
    process.set_no_new_privs()
    return seccomp.attach(seccomp.prepare(_answering("setsid", 0x7fc00000)),
                          seccomp.FLAG_NEW_LISTENER)


def _answering(call, action):
    import struct
    return b"".join(struct.pack("=HBBI", *row) for row in (
        (0x20, 0, 0, 0), (0x15, 0, 1, libc.number(call)), (0x06, 0, 0, action),
        (0x06, 0, 0, ALLOW)))


def landlock_domain():
    """Returns the Landlock ABI after a domain refused a file."""
    version = landlock.version()
    ruleset = landlock.create_ruleset(version, landlock.handled_rights(version))
    process.set_no_new_privs()
    landlock.restrict_self(ruleset)
    try:
        os.close(os.open("/proc/self/status", os.O_RDONLY))
    except OSError as error:
        if error.errno == EACCES:
            return version
        raise
    raise OSError(0, "a domain does not refuse", "landlock")


def program_in_memory():
    """Makes the init's image a sealed memfd and asks whether it can be executed."""
    fd = process.sealed_program(init.IMAGE[libc.ARCH])
    if not os.access("/proc/self/fd/%d" % fd, os.X_OK):
        raise OSError(EACCES, os.strerror(EACCES), "execveat")


def pidfd():
    """Sends a signal to a child through its pidfd."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    fd = bind("pidfd_open", c_int, c_uint)(pid, 0)
    process.pidfd_kill(fd, 0)
    os.waitpid(pid, 0)


def host_id():
    """Returns a host id that was free for a sandbox; None if runs use the caller's id."""
    ranges = idmap.candidates(idmap.wanted_range(os.environ), idmap.read_map("/proc/self/uid_map"),
                              idmap.read_map("/proc/self/gid_map"))
    if not ranges:
        return None
    taken = idmap.HostId(ranges)
    taken.release()
    return taken.number


def run(tier, argv):
    """Runs a program in a tier; returns its Result as a dict. Raises SandboxError."""
    return launch.launch(launch.prepare(Spec(argv, tier=tier))).as_dict()
