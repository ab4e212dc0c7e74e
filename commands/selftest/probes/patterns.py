# SPDX-License-Identifier: Apache-2.0
"""Tries the steps of known escapes in order, each short of any harm.

A pattern is reached if its last step is. Namespaces and mounts that it makes die with its process.
"""
import errno
import os
import signal
import stat
import struct

from ..attempt import addressof, blocked, buffer, call, child_exits, int80, invisible, reached, \
    refusal, wide
from .devices import cgroup_files
from .filter import PTRACE_SEIZE, TIOCSTI
from .mounts import here, takes_files
from .namespaces import NEWNET, NEWNS, NEWUSER
from .proc import pids
from ..probe import HOST, KERNEL, Probe

GROUP = "patterns"
MS_REC, MS_PRIVATE, MS_BIND = 0x4000, 0x40000, 0x1000
WRITE = os.O_WRONLY


def step(name, action):
    """Runs one step; a refusal names the step."""
    try:
        return action()
    except OSError as error:
        where = os.fsdecode(error.filename) if error.filename else ""
        raise OSError(error.errno, error.strerror, "%s: %s" % (name, where) if where and
                      where != name else name)


def own_namespaces(flags):
    """Makes namespaces, within a new user namespace if needed; their mounts stay private."""
    try:
        call("unshare", flags)  # works with the capability
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
        call("unshare", flags | NEWUSER)
    if flags & NEWNS:
        call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)


def overwrites_runtime(facts):
    """Tries to open another process's program for writing, by its /proc link and O_PATH."""
    seen = blocked("no other program than our own")
    for pid in pids():
        try:
            handle = os.open("/proc/%d/exe" % pid, os.O_PATH | os.O_CLOEXEC)
            found = os.fstat(handle)
            if found.st_ino == os.stat("/proc/self/exe").st_ino:
                continue
            os.close(os.open("/proc/self/fd/%d" % handle, WRITE | os.O_CLOEXEC))
        except OSError as error:
            if error.errno == errno.ETXTBSY and not os.ST_RDONLY & os.statvfs(
                    "/proc/self/fd/%d" % handle).f_flag:
                return reached("the program of pid %d, busy for the moment" % pid)
            seen = refusal(error) if error.errno not in (errno.ENOENT, errno.ESRCH) else seen
            continue
        return reached("the program of pid %d opens for writing" % pid)
    return seen


def leaked_directory(facts):
    """Tries to reach another root by descriptors and the current directory."""
    root = os.stat("/")
    for number in range(3, 1024):
        path = "/proc/%d/fd/%d/" % (facts["runner"], number)
        try:
            above = os.stat(path + "../" * 32)
        except OSError:
            continue
        if (above.st_dev, above.st_ino) != (root.st_dev,
                                            root.st_ino) or stat.S_ISDIR(os.stat(path).st_mode):
            return reached("by descriptor %d" % number)
    above = os.stat("/proc/%d/cwd/%s" % (facts["runner"], "../" * 32))
    if (above.st_dev, above.st_ino) != (root.st_dev, root.st_ino):
        return reached("by the current directory")
    return blocked("nothing leads out")


def release_agent(facts):
    """Tries to mount a control group hierarchy of the host and to open its release_agent."""
    step("own namespaces", lambda: own_namespaces(NEWNS))
    place, last = here(facts), None
    with open("/proc/self/cgroup") as stream:
        hierarchies = [line.split(":")[1] for line in stream]
    for controllers in [name for name in hierarchies if name] or ["mrunc=no"]:  # without v1
        try:
            call("mount", b"none", place, b"cgroup", 0, controllers.encode())
        except OSError as error:
            if controllers == "mrunc=no" and error.errno == errno.EINVAL:
                return reached("the file system takes our options")
            last = error
            continue
        try:
            os.close(os.open(place + b"/release_agent", WRITE | os.O_CLOEXEC))
            return reached("release_agent of %s opens for writing" % controllers)
        except OSError as error:
            last = error
        call("umount2", place, 2)
    last.filename = "mount of cgroup, release_agent"
    raise last


def core_pattern(facts):
    """Tries to mount a new procfs without masks and to open core_pattern."""
    step("own namespaces", lambda: own_namespaces(NEWNS))
    place = here(facts)
    step("mount of proc", lambda: call("mount", b"proc", place, b"proc", 0, None))
    os.close(step("core_pattern", lambda: os.open(place + b"/sys/kernel/core_pattern",
                                                  WRITE | os.O_CLOEXEC)))
    return reached("core_pattern opens for writing")


def shocker(facts):
    """Tries to open the host's root directory by a guessed file handle with inode 2."""
    handle, mount = buffer(struct.pack("=Ii", 128, 0), 136), buffer(4)
    step("name_to_handle_at", lambda: call("name_to_handle_at", -100, b"/usr", handle, mount, 0))
    size, kind = struct.unpack_from("=Ii", handle.raw)
    guess = buffer(struct.pack("=IiII", size, kind, 2, 0) + b"\0" * 120, 136)
    fd = step("open", lambda: os.open("/usr", os.O_RDONLY | os.O_CLOEXEC))
    try:
        os.close(call("open_by_handle_at", fd, guess, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.ESTALE:
            return reached("the kernel looked for the inode")
        raise
    return reached("the root of the host's disk")


def mask_swap(facts):
    """Looks whether /dev/null can be replaced by a link before a mask is mounted from it."""
    found = os.stat("/dev/null")
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(1, 3):
        return reached("/dev/null is something else")
    if takes_files("/dev"):
        return reached("/dev/null can be replaced")
    return blocked("/dev can't be written in")


def types_into_terminal(facts):
    """Tries to open the controlling terminal, or to type into an own one."""
    try:
        fd = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT):
            return _types_into_own(error)
        raise
    os.close(fd)
    return reached("the caller's terminal opens (/dev/tty)")


def _types_into_own(error):
    try:
        master = os.open("/dev/ptmx", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return invisible("no controlling terminal, no /dev/ptmx")

    def action(write):
        call("setsid")
        call("ioctl", master, 0x40045431, buffer(struct.pack("=i", 0), 4))  # TIOCSPTLCK
        slave = call("ioctl", master, 0x5441, os.O_RDWR | os.O_NOCTTY)  # TIOCGPTPEER
        call("ioctl", slave, 0x540e, 0)  # TIOCSCTTY
        try:
            call("ioctl", slave, TIOCSTI, b"x")
        except OSError:
            call("ioctl", slave, wide(TIOCSTI), b"x")
    status, _ = child_exits(action)
    if not status:
        return reached("a byte was typed into a terminal")
    return blocked("TIOCSTI is refused")


def in_own_network(family_protocol):
    """Returns an action that uses a netlink socket in a new network namespace."""
    def action(facts):
        step("own namespaces", lambda: own_namespaces(NEWNET))
        fd = step("socket", lambda: call("socket", 16, 3, family_protocol))
        header = struct.pack("=IHHII", 20, (10 << 8 | 0) if family_protocol == 12 else 18, 5, 1,
                             0) + b"\0" * 4
        step("send", lambda: call("sendto", fd, header, 20, 0, None, 0))
        return reached("the subsystem takes our messages")
    return action


def own_filesystem(kind):
    """Returns an action that reaches a file system's parser in new namespaces."""
    def action(facts):
        step("own namespaces", lambda: own_namespaces(NEWNS))
        fd = step("fsopen", lambda: call("fsopen", kind, 1))
        try:
            call("fsconfig", fd, 1, b"mrunc", b"x", 0)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
        return reached("its parser takes our options")
    return action


def overlay_copy_up(facts):
    """Tries an overlay in new namespaces; lower files keep owners and set-uid bits."""
    step("own namespaces", lambda: own_namespaces(NEWNS))
    place = here(facts)
    step("mount of tmpfs", lambda: call("mount", b"none", place, b"tmpfs", 0, None))
    for name in (b"/l", b"/u", b"/w", b"/m"):
        os.mkdir(place + name)
    step("mount of overlay", lambda: call("mount", b"none", place + b"/m", b"overlay", 0,
                                          b"lowerdir=%s/l,upperdir=%s/u,workdir=%s/w" %
                                          (place, place, place)))
    return reached("an overlay of our own")


def user_namespace_any_way(facts):
    """Tries every call that makes a user namespace."""
    ways = [("unshare", lambda: call("unshare", NEWUSER)),
            ("clone", lambda: _forked(call("clone", NEWUSER | 17, 0, 0, 0, 0))),
            ("clone3",
             lambda: _forked(call("clone3",
                                  buffer(struct.pack("=11Q", NEWUSER, 0, 0, 0, 17, *[0] * 6), 88),
                                  88)))]
    for name, way in ways:
        try:
            way()
            return reached("by %s" % name)
        except OSError as error:
            last = error
    raise last


def _forked(pid):
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def compat_reentry(facts):
    """Tries unshare by the 32-bit table, then the 64-bit mount."""
    result = int80(310, NEWUSER | NEWNS)
    if result < 0:
        return blocked("int 0x80: %s" % errno.errorcode.get(-result, -result), -result)
    call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    return reached("mounts in own namespaces")


def ring_side_door(facts):
    """Tries io_uring, whose operations no filter sees."""
    params = buffer(120)
    fd = step("io_uring_setup", lambda: call("io_uring_setup", 4, params))
    # IORING_REGISTER_PROBE
    step("io_uring_register", lambda: call("io_uring_register", fd, 8, buffer(16 + 256 * 8), 256))
    return reached("a ring that opens and connects for us")


def ptrace_reentry(facts):
    """Tries to trace a child, whose call could be changed after the filter."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    try:
        step("PTRACE_SEIZE", lambda: call("ptrace", PTRACE_SEIZE, pid, 0, 1))
        step("PTRACE_INTERRUPT", lambda: call("ptrace", 0x4207, pid, 0, 0))
        os.waitpid(pid, 0x40000000)
        step("PTRACE_GETREGSET", lambda: call("ptrace", 0x4204, pid, 1,
                                              buffer(struct.pack("=QQ", _area(), 512), 16)))
        return reached("the registers of a child at its call")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


_keep = []


def _area():
    _keep.append(buffer(512))
    return addressof(_keep[-1])


def steals_from_init(facts):
    """Tries to take the supervisor's socket out of pid 1."""
    fd = step("pidfd_open", lambda: call("pidfd_open", 1, 0))
    for number in range(64):
        try:
            os.close(call("pidfd_getfd", fd, number, 0))
            return reached("descriptor %d of pid 1" % number)
        except OSError as error:
            last = error
            if error.errno != errno.EBADF:
                break
    raise last


def injects_into_init(facts):
    """Tries every way to write into the memory of pid 1."""
    own = buffer(b"x", 8)
    ways = [("/proc/1/mem", lambda: os.close(os.open("/proc/1/mem", os.O_RDWR | os.O_CLOEXEC))),
            ("process_vm_readv", lambda: _reads_init(own)),
            ("ptrace", lambda: call("ptrace", PTRACE_SEIZE, 1, 0, 0))]
    for name, way in ways:
        try:
            way()
            return reached("by %s" % name)
        except OSError as error:
            last = error
            if error.errno == errno.EFAULT:
                return reached("by %s, at another address" % name)
    raise last


def _reads_init(area):
    local = buffer(struct.pack("=QQ", addressof(area), 1), 16)
    call("process_vm_readv", 1, local, 1, buffer(struct.pack("=QQ", 0x1000, 1), 16), 1, 0)


def cgroup_climb(facts):
    """Tries to open the process list of the control group above for writing."""
    return cgroup_files("../cgroup.procs", "../tasks", "cgroup.procs", "tasks")(facts)


def root_disk(facts):
    """Tries to read the disk of /usr by an own device node."""
    device = os.stat("/usr").st_dev
    if not os.major(device):
        return invisible("/usr has no disk")
    path = here(facts) + b"/disk"
    step("mknod", lambda: call("mknodat", -100, path, stat.S_IFBLK | 0o600,
                               os.makedev(os.major(device), os.minor(device))))
    try:
        os.close(step("open", lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC)))
    finally:
        os.unlink(path)
    return reached("the host's disk can be read")


def module_from_memory(facts):
    """Tries to load a kernel module from a memory file."""
    fd = call("memfd_create", b"module", 0)
    os.write(fd, b"not a module")
    try:
        call("finit_module", fd, b"", 0)
    except OSError as error:
        if error.errno in (errno.ENOEXEC, errno.EINVAL):
            return reached("the kernel looked at the file")
        raise
    return reached()


def interpreter_for_all(facts):
    """Tries to register an interpreter for the whole host with binfmt_misc."""
    step("own namespaces", lambda: own_namespaces(NEWNS))
    place = here(facts)
    step("mount of binfmt_misc", lambda: call("mount", b"none", place, b"binfmt_misc", 0, None))
    os.close(step("register", lambda: os.open(place + b"/register", WRITE | os.O_CLOEXEC)))
    return reached("register opens for writing")


def socket_filter(facts):
    """Tries to load an eBPF program: return 0."""
    code = buffer(struct.pack("=BBhiBBhi", 0xb7, 0, 0, 0, 0x95, 0, 0, 0), 16)
    licence = buffer(b"GPL")
    attr = buffer(struct.pack("=IIQQIIQII", 1, 2, addressof(code), addressof(licence), 0, 0, 0, 0,
                              0), 128)
    os.close(call("bpf", 5, attr, 128))
    return reached("a program of ours in the kernel")


def slow_file_system(facts):
    """Tries to mount a FUSE file system, which can delay the kernel."""
    fd = step("/dev/fuse", lambda: os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    step("own namespaces", lambda: own_namespaces(NEWNS))
    options = b"fd=%d,rootmode=40000,user_id=%d,group_id=%d" % (fd, os.getuid(), os.getgid())
    step("mount", lambda: call("mount", b"none", here(facts), b"fuse", 0, options))
    return reached("a file system of our own")


def walks_roots(facts):
    """Tries /proc/PID/root of every process, and a file below it."""
    own = os.stat("/")
    for pid in pids():
        path = "/proc/%d/root" % pid
        try:
            found = os.stat(path + "/")
            if (found.st_dev, found.st_ino) != (own.st_dev, own.st_ino):
                os.close(os.open(path + "/etc", os.O_RDONLY | os.O_CLOEXEC))
                return reached(path + "/etc opens")
        except OSError:
            pass
    return blocked("no other root")


def bind_over_mask(facts):
    """Tries to attach a detached copy of /proc, without the mounts that mask it."""
    step("own namespaces", lambda: own_namespaces(NEWNS))
    tree = step("open_tree", lambda: call("open_tree", -100, b"/proc", 1 | os.O_CLOEXEC))
    step("move_mount", lambda: call("move_mount", tree, b"", -100, here(facts), 4))
    return reached("/proc without what lies over it")


def _pattern(number, title, danger, reference, layers, action, **more):
    return Probe("X%02d" % number, title, danger, reference, layers, action, **more)


PROBES = (
    _pattern(1, "overwrite the runtime through /proc/PID/exe", HOST, "CVE-2019-5736",
             "nothing of the runtime runs inside", overwrites_runtime),
    _pattern(2, "out by a leaked descriptor or directory", HOST, "CVE-2024-21626",
             "closed before exec, then pivot_root", leaked_directory),
    _pattern(3, "cgroup v1: mount, release_agent", HOST, "CVE-2022-0492",
             "seccomp, then no capability", release_agent),
    _pattern(4, "a fresh procfs: core_pattern", HOST, "T1611", "seccomp, then no capability",
             core_pattern),
    _pattern(5, "Shocker: the disk's root by a guessed handle", HOST, "T1611",
             "seccomp, then no capability", shocker),
    _pattern(6, "/dev/null swapped under a mask", HOST, "CVE-2025-31133", "read-only root, then "
             "Landlock", mask_swap),
    _pattern(7, "type into the caller's terminal", HOST, "CVE-2017-5226", "own session, seccomp",
             types_into_terminal),
    _pattern(8, "user and network namespace: nf_tables", KERNEL, "CVE-2024-1086",
             "seccomp, then the namespace's limit", in_own_network(12)),
    _pattern(9, "user and network namespace: traffic control", KERNEL, "CVE-2023-31436",
             "seccomp, then the namespace's limit", in_own_network(0)),
    _pattern(10, "user and mount namespace: a file system's parser", KERNEL, "CVE-2022-0185",
             "seccomp, then the namespace's limit",
             own_filesystem(b"tmpfs")),
    _pattern(11, "user and mount namespace: overlay copy-up", KERNEL, "CVE-2023-0386",
             "seccomp, then the namespace's limit", overlay_copy_up),
    _pattern(12, "a nested user namespace by any call", KERNEL, "T1611",
             "seccomp, then the namespace's limit", user_namespace_any_way),
    _pattern(13, "int 0x80 unshare, then mount", HOST, "T1611", "seccomp (architecture first), "
             "then the namespace's limit", compat_reentry, arch="x86_64",
             signals=(signal.SIGSEGV,)),
    _pattern(14, "io_uring as a side door", KERNEL, "T1106", "seccomp", ring_side_door),
    _pattern(15, "ptrace: another call behind the filter", KERNEL, "T1055.008", "seccomp",
             ptrace_reentry),
    _pattern(16, "the supervisor's socket out of pid 1", HOST, "T1611", "seccomp, then pid 1 is "
             "not dumpable", steals_from_init),
    _pattern(17, "code into pid 1", HOST, "T1055", "pid 1 is not dumpable, seccomp",
             injects_into_init),
    _pattern(18, "into the control group above", HOST, "T1611", "no control group file system",
             cgroup_climb),
    _pattern(19, "the host's disk by an own node", HOST, "T1006",
             "seccomp, then no capability, nodev", root_disk),
    _pattern(20, "a kernel module from memory", HOST, "T1547.006", "seccomp, then no capability",
             module_from_memory),
    _pattern(21, "binfmt_misc: an interpreter for the host", HOST, "T1546",
             "seccomp, then no capability", interpreter_for_all),
    _pattern(22, "a program in the kernel (eBPF)", KERNEL, "CVE-2021-3490",
             "seccomp, then no capability", socket_filter),
    _pattern(23, "a file system that answers when it likes (FUSE)", KERNEL, "T1611",
             "not in /dev, seccomp", slow_file_system),
    _pattern(24, "/proc/PID/root of everybody", HOST, "T1611", "own pid namespace, hidepid",
             walks_roots),
    _pattern(25, "a detached copy of /proc past what lies over it", HOST, "T1611",
             "seccomp, then no capability, Landlock", bind_over_mask),
)
