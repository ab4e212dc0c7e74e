# SPDX-License-Identifier: Apache-2.0
"""Makes, changes, signals and watches processes."""
import _thread
import os
import struct

from .libc import AT_EMPTY_PATH, addressof, bind, buffer, c_bytes, c_int, c_long, c_pointer, \
    c_size, c_uint, c_ulong, sockets

CLONE_NEWTIME = 0x80
CLONE_NEWNS, CLONE_NEWCGROUP = 0x00020000, 0x02000000
CLONE_NEWUTS, CLONE_NEWIPC = 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
CLONE_PIDFD = 0x1000
#: (name in /proc/PID/ns, flag) of the namespaces that clone3 makes.  A time namespace is entered
#: after it.
NAMESPACES = (("user", CLONE_NEWUSER), ("mnt", CLONE_NEWNS), ("pid", CLONE_NEWPID),
              ("uts", CLONE_NEWUTS),
              ("ipc", CLONE_NEWIPC), ("net", CLONE_NEWNET), ("cgroup", CLONE_NEWCGROUP))
CLONE_INTO_CGROUP = 0x200000000
SIGCHLD = 17

PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_SET_DUMPABLE = 1, 2, 4
PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 37, 38
CLOSE_RANGE_CLOEXEC, WALL = 4, 0x40000000
MFD_CLOEXEC, MFD_ALLOW_SEALING, MFD_EXEC = 0x1, 0x2, 0x10
F_ADD_SEALS, F_GET_SEALS, ALL_SEALS = 1033, 1034, 0xf
F_GETFL, F_SETFL, F_SETOWN, F_GETOWN, O_ASYNC = 3, 4, 8, 9, 0o20000
ETOOMANYREFS = 109
#: Held while `send` raises the soft limit: two threads would restore each other's value.
_raising = _thread.allocate_lock()
SFD_FLAGS = 0o2004000  # SFD_CLOEXEC | SFD_NONBLOCK

_clone3 = bind("clone3", c_pointer, c_size)
#: flags, stack, parent_tid; the order of the other two differs between architectures: not used.
_clone = bind("clone", c_ulong, c_ulong, c_pointer, c_ulong, c_ulong)
#: (CLONE_NEW* bits).  Raises the errors of `clone3`.  unshare(2)
unshare = bind("unshare", c_int)
_setns = bind("setns", c_int, c_int)
_setgroups = bind("setgroups", c_int, c_pointer)
_setresuid = bind("setresuid", c_uint, c_uint, c_uint)
_setresgid = bind("setresgid", c_uint, c_uint, c_uint)
_setfsuid = bind("setfsuid", c_uint)
_setfsgid = bind("setfsgid", c_uint)
#: ().  EPERM: already the leader of a process group.  setsid(2)
setsid = bind("setsid")
_prctl_number = bind("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_prctl_pointer = bind("prctl", c_int, c_pointer, c_ulong, c_ulong, c_ulong)
_close_range = bind("close_range", c_uint, c_uint, c_uint)
_execveat = bind("execveat", c_int, c_bytes, c_pointer, c_pointer, c_int)
_memfd_create = bind("memfd_create", c_bytes, c_uint)
_pidfd_send_signal = bind("pidfd_send_signal", c_int, c_int, c_pointer, c_uint)
_pidfd_open = bind("pidfd_open", c_int, c_uint)
_signalfd4 = bind("signalfd4", c_int, c_pointer, c_size, c_int)
_sethostname = bind("sethostname", c_bytes, c_size)
_setdomainname = bind("setdomainname", c_bytes, c_size)
_uname = bind("uname", c_pointer)
#: Bytes of one of the six fields of struct utsname.  uname(2)
UTS_FIELD = 65
#: The NIS domain name of the kernel's first UTS namespace.  init/version.c
NO_DOMAIN = b"(none)"
#: (pid, signal), without Python's audit and signal checks.  kill(2)
kill = bind("kill", c_int, c_int)
_getpid = bind("getpid")
_fcntl = bind("fcntl", c_int, c_int, c_long)
_prlimit64 = bind("prlimit64", c_int, c_int, c_pointer, c_pointer)
_getrusage = bind("getrusage", c_int, c_pointer)
_ioctl = bind("ioctl", c_int, c_ulong, c_pointer)
_process_vm_readv = bind("process_vm_readv", c_int, c_pointer, c_ulong, c_pointer, c_ulong, c_ulong)
_splice = bind("splice", c_int, c_pointer, c_int, c_pointer, c_size, c_uint)
_wait4 = bind("wait4", c_int, c_pointer, c_int, c_pointer)
#: Names of limits, in the order of their numbers.  asm-generic/resource.h
LIMITS = ("cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as",
          "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime")
_UNLIMITED = (1 << 64) - 1
#: An int and a struct rusage, aligned as in init's packet.
_ENDED = struct.Struct("=i4x4q14q")
PIDFD_GET_INFO, PIDFD_INFO_EXIT = 0xC040FF0B, 8  # linux/pidfd.h
#: struct pidfd_info: mask first, exit_code last.  linux/pidfd.h
_PIDFD_INFO = struct.Struct("=Q52xi")
SPLICE_F_MOVE, SPLICE_F_NONBLOCK = 1, 2
PAGE = 4096
_IOVEC = struct.Struct("=QQ").pack_into


def clone3(namespaces, cgroup=-1):
    """Makes a child in new namespaces.  clone3(2), Linux 5.3

    namespaces: CLONE_NEW* bits.
    cgroup: descriptor of the cgroup2 directory that the child is born in (CLONE_INTO_CGROUP, Linux
        5.7), where a new cgroup namespace has its root; -1 for the caller's.

    Returns (pid, pidfd), and (0, -1) in the child. Without clone3 it calls `clone`, which knows no
    cgroup (ENOSYS then). Before Linux 5.2 the pidfd is -1.

    The child runs on a copy of this process, as after fork(2). No atfork handler runs, so it must
    end by exec or os._exit. Raises OSError: EPERM if user namespaces are off; ENOSPC if
    user.max_user_namespaces is used up; EACCES by an AppArmor rule; EUSERS if nested too deeply.
    About the cgroup: EACCES without the right to move there; EBUSY if it hands controllers to
    children; EAGAIN by pids.max; EINVAL or E2BIG on a kernel without the flag.
    """
    pidfd = buffer(struct.pack("=i", -1), 4)
    flags = namespaces | CLONE_PIDFD | (CLONE_INTO_CGROUP if cgroup >= 0 else 0)
    arguments = struct.pack("=11Q", flags, addressof(pidfd), 0, 0, SIGCHLD, 0, 0, 0, 0, 0,
                            max(cgroup, 0))
    try:
        pid = _clone3(arguments, 88 if cgroup >= 0 else 80)  # the field came with the flag
    except OSError as error:
        if error.errno != 38 or cgroup >= 0:
            raise
        return clone(namespaces)
    return pid, struct.unpack("=i", pidfd.raw)[0] if pid else -1


def clone(namespaces):
    """Makes a child as `clone3` without a cgroup, if clone3 is missing or hidden.  clone(2)

    Without a stack of its own the child goes on on a copy, as after fork(2). The pidfd comes with
    the call (Linux 5.2; older kernels ignore the flag) or by pidfd_open, or is -1.
    """
    pidfd = buffer(struct.pack("=i", -1), 4)
    try:
        pid = _clone(namespaces | CLONE_PIDFD | SIGCHLD, 0, pidfd, 0, 0)
    except OSError as error:
        if error.errno != 22:
            raise
        pid = _clone(namespaces | SIGCHLD, 0, None, 0, 0)
    if pid == 0:
        return 0, -1
    number = struct.unpack("=i", pidfd.raw)[0]
    if number < 0:
        try:
            number = pidfd_open(pid)
        except OSError:
            pass
    return pid, number


def enter_namespace(path, kind):
    """Enters the namespace behind a path.  setns(2); a time namespace: Linux 5.6

    path: a file of /proc/PID/ns.
    kind: its CLONE_NEW* bit.

    Raises OSError: EUSERS for a time namespace if this process has threads; EPERM without
    CAP_SYS_ADMIN over it.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(fd, kind)
    finally:
        os.close(fd)


def set_identity(uid, gid, groups=True):
    """Sets the real, effective and saved ids.  setresuid(2), setresgid(2), setgroups(2)

    uid, gid: the new ids.
    groups: whether to drop all supplementary groups first.

    Raises OSError: EPERM without CAP_SETUID and CAP_SETGID, or if setgroups is denied in this user
    namespace; EINVAL for an id without a mapping.
    """
    if groups:
        _setgroups(0, None)
    _setresgid(gid, gid, gid)
    _setresuid(uid, uid, uid)


def set_file_identity(uid, gid):
    """Sets the ids by which files are opened and made.  setfsuid(2), setfsgid(2)

    uid, gid: the new ids.

    It drops the supplementary groups too, and capabilities over files go with the uid. Raises
    OSError: EPERM if it had no effect (the call itself never says so), or if setgroups is not
    allowed.
    """
    _setgroups(0, None)
    nobody = 0xffffffff  # no id: the call changes nothing and returns the present one
    for change, number in ((_setfsgid, gid), (_setfsuid, uid)):
        change(number)
        if change(nobody) & 0xffffffff != number:
            raise OSError(1, os.strerror(1), "setfsuid")


def set_parent_death_signal(number):
    """Sets the signal that this process gets when its parent ends.  prctl(PR_SET_PDEATHSIG)

    The parent is the *thread* that made it. Any change of credentials clears it.
    """
    _prctl_number(PR_SET_PDEATHSIG, number, 0, 0, 0)


def get_parent_death_signal():
    """Returns the parent death signal, 0 for none.  prctl(PR_GET_PDEATHSIG)"""
    out = buffer(4)
    _prctl_pointer(PR_GET_PDEATHSIG, addressof(out), 0, 0, 0)
    return struct.unpack("=i", out.raw)[0]


def set_child_subreaper(value):
    """Sets whether (0 or 1) orphaned descendants become our children.  Linux 3.4

    prctl(PR_SET_CHILD_SUBREAPER)
    """
    _prctl_number(PR_SET_CHILD_SUBREAPER, value, 0, 0, 0)


def get_child_subreaper():
    """Returns 0 or 1.  prctl(PR_GET_CHILD_SUBREAPER)"""
    out = buffer(4)
    _prctl_pointer(PR_GET_CHILD_SUBREAPER, addressof(out), 0, 0, 0)
    return struct.unpack("=i", out.raw)[0]


def set_dumpable(value):
    """Sets whether (0 or 1) /proc/PID belongs to the process's own user.  exec sets it to 1.

    prctl(PR_SET_DUMPABLE)
    """
    _prctl_number(PR_SET_DUMPABLE, value, 0, 0, 0)


def set_no_new_privs():
    """Makes exec grant no privileges from now on, irrevocably.  Linux 3.5

    prctl(PR_SET_NO_NEW_PRIVS)
    """
    _prctl_number(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def inheritable():
    """Returns the descriptors from 3 on that exec would keep, a list.

    Stands in for `cloexec_from` on older kernels. Needs /proc.
    """
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and os.get_inheritable(int(name)):
                found.append(int(name))
        except OSError:
            pass  # the descriptor of the listing itself
    return found


def cloexec_from(first):
    """Marks every descriptor from `first` on close-on-exec.  close_range(2), Linux 5.11

    Raises OSError: EINVAL before Linux 5.11, ENOSYS before 5.9.
    """
    _close_range(first, 0xffffffff, CLOSE_RANGE_CLOEXEC)


def execveat(fd, argv, envp):
    """Executes the file behind a descriptor; returns only by raising.  execveat(2), Linux 3.19

    fd: of the file.
    argv, envp: of `libc.string_array`.

    Raises OSError: E2BIG if arguments and environment are too long; EACCES if the mount is noexec.
    """
    _execveat(fd, b"", argv, envp, AT_EMPTY_PATH)


def send(sock, data, fds=()):
    """Sends one packet, with descriptors; returns the number of bytes sent.  unix(7)

    sock: a socket.
    data: bytes.
    fds: descriptors.

    The kernel refuses descriptors (ETOOMANYREFS) while the processes of our uid together have more
    in flight than our soft RLIMIT_NOFILE (net/unix/scm.c, too_many_unix_fds). Other programs of the
    user can cause that, so this call raises the soft limit to the hard one. Raises OSError:
    ETOOMANYREFS if more than that are in flight.
    """
    if not fds:
        return sock.send(data)
    packed = b"".join(fd.to_bytes(4, "little") for fd in fds)
    message = [data], [(sockets.SOL_SOCKET, sockets.SCM_RIGHTS, packed)], sockets.MSG_NOSIGNAL
    try:
        return sock.sendmsg(*message)
    except OSError as error:
        if error.errno != ETOOMANYREFS:
            raise
    with _raising:
        soft, hard = get_limit("nofile")
        set_limit("nofile", hard, hard)
        try:
            return sock.sendmsg(*message)
        finally:
            set_limit("nofile", soft, hard)


def sealed_program(image):
    """Returns the descriptor of a sealed, executable memfd.  memfd_create(2), Linux 3.17

    image: bytes of a static program.

    Raises OSError: EACCES if vm.memfd_noexec is 2; EPERM if the seals had no effect.
    """
    try:
        fd = _memfd_create(b"init", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC)
    except OSError as error:
        if error.errno != 22:  # Linux before 6.3 does not know MFD_EXEC
            raise
        fd = _memfd_create(b"init", MFD_CLOEXEC | MFD_ALLOW_SEALING)
    os.write(fd, image)
    os.fchmod(fd, 0o555)
    _fcntl(fd, F_ADD_SEALS, ALL_SEALS)
    if _fcntl(fd, F_GET_SEALS, 0) != ALL_SEALS:
        os.close(fd)
        raise OSError(1, "had no effect", "F_ADD_SEALS")
    return fd


def get_limit(name):
    """Returns (soft, hard) of a resource limit of this process, -1 for none.  prlimit(2)

    name: of LIMITS.
    """
    out = buffer(16)
    _prlimit64(0, LIMITS.index(name), None, addressof(out))
    soft, hard = struct.unpack("=2Q", out.raw)
    return -1 if soft == _UNLIMITED else soft, -1 if hard == _UNLIMITED else hard


def set_limit(name, soft, hard, pid=0):
    """Sets a resource limit.  prlimit(2)

    name: of LIMITS.
    soft, hard: the values; -1, and from 1 << 63 on, mean none.
    pid: of the process, 0 for this one.

    Raises OSError: EPERM above the present hard limit, or for another user's process; EINVAL if
    soft is above hard.
    """
    words = [_UNLIMITED if value >= 1 << 63 or value < 0 else value for value in (soft, hard)]
    _prlimit64(pid, LIMITS.index(name), struct.pack("=2Q", *words), None)


def usage():
    """Returns this process's processor time, (user, system) in seconds.  getrusage(2)"""
    out = buffer(144)
    _getrusage(0, addressof(out))
    user, user_us, system, system_us = struct.unpack_from("=4q", out.raw)
    return user + user_us / 1e6, system + system_us / 1e6


class Usage(tuple):
    """The sixteen numbers of a struct rusage, times in seconds.

    As resource.struct_rusage, without loading that module.
    """

    ru_utime, ru_stime, ru_maxrss, ru_inblock, ru_oublock = [
        property(lambda self, at=at: self[at]) for at in (0, 1, 2, 9, 10)]


def ended(record):
    """Returns (wait status, Usage) of the 152 bytes that wait4 or init gives."""
    status, user, user_us, system, system_us, *counts = _ENDED.unpack(record)
    return status, Usage([user + user_us / 1e6, system + system_us / 1e6] + counts)


def wait(pid):
    """Waits until a child has ended; returns (wait status, Usage).  wait4(2)

    Raises OSError: ECHILD if it is no child of ours.
    """
    out = buffer(_ENDED.size)
    while True:
        try:
            _wait4(pid, addressof(out), 0, addressof(out) + 8)
            return ended(out.raw)
        except InterruptedError:
            pass  # a handler of Python's has taken the signal by now


def notify_io(sock):
    """Makes the kernel send SIGIO to this process when something happens on a socket.

    It survives exec. Returns whether the kernel confirms it. fcntl(2), F_SETOWN
    """
    fd = sock.fileno()
    _fcntl(fd, F_SETOWN, _getpid())
    _fcntl(fd, F_SETFL, os.O_RDWR | O_ASYNC)
    return _fcntl(fd, F_GETOWN, 0) == _getpid() and bool(_fcntl(fd, F_GETFL, 0) & O_ASYNC)


def pidfd_open(pid):
    """Returns a pidfd, close-on-exec, readable when the process has ended.  pidfd_open(2), 5.3

    Raises OSError: ESRCH if there is no such process.
    """
    return _pidfd_open(pid, 0)


def pidfd_kill(pidfd, number):
    """Sends a signal to the process behind a pidfd.  pidfd_send_signal(2), Linux 5.1

    Raises OSError: ESRCH if it has ended.
    """
    _pidfd_send_signal(pidfd, number, None, 0)


def pidfd_status(pidfd):
    """Returns the wait status behind a pidfd once the parent has taken it, else None.

    ioctl PIDFD_GET_INFO, Linux 6.15. Raises OSError: ENOTTY or ESRCH on a kernel that tells it only
    to the parent.
    """
    info = buffer(_PIDFD_INFO.pack(PIDFD_INFO_EXIT, 0), _PIDFD_INFO.size)
    try:
        _ioctl(pidfd, PIDFD_GET_INFO, info)
    except ProcessLookupError:
        # Linux 6.15 to 6.18 look for the status first and for the process afterwards.  A parent
        # that takes the status in between leaves neither.
        _ioctl(pidfd, PIDFD_GET_INFO, info)
    mask, found = _PIDFD_INFO.unpack(info.raw)
    return found if mask & PIDFD_INFO_EXIT else None


def has_ended(pid):
    """Returns whether a child has ended, and does not reap it.  waitid(2)

    It finds also a child that ends without SIGCHLD (__WALL).
    """
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT | WALL) is not None


def signal_descriptor(numbers):
    """Returns a non-blocking signalfd(2) for signals, which must be blocked.

    numbers: of the signals.

    Each read gives 128 bytes; the first four are the number.
    """
    mask = sum(1 << (number - 1) for number in numbers)
    return _signalfd4(-1, struct.pack("=Q", mask), 8, SFD_FLAGS)


def set_hostname(name):
    """Sets the host name, at most 64 bytes.  sethostname(2)

    Raises OSError: EPERM without CAP_SYS_ADMIN in the owner of the uts namespace.
    """
    _sethostname(name, len(name))


def set_domainname(name):
    """Sets the NIS domain name, at most 64 bytes.  setdomainname(2)

    Raises OSError: EPERM without CAP_SYS_ADMIN in the owner of the UTS namespace.
    """
    _setdomainname(name, len(name))


def get_domainname():
    """The NIS domain name as bytes: the last field of uname(2), which os.uname leaves out."""
    fields = buffer(6 * UTS_FIELD)
    _uname(fields)
    return fields.raw[5 * UTS_FIELD:].partition(b"\0")[0]


def control_pair():
    """Returns two ends of a SOCK_SEQPACKET socket pair, close-on-exec.  unix(7)"""
    return sockets.socketpair(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)


class Reader:
    """Reads a process's memory into one buffer, up to a page; for one thread.

    process_vm_readv(2)
    """

    def __init__(self):
        self._page = buffer(PAGE)
        self._here = addressof(self._page)
        self._own, self._other = buffer(16), buffer(16)
        self._at = addressof(self._own), addressof(self._other)

    def read(self, pid, address, size):
        """Returns the bytes at an address; fewer where the memory ends.

        pid: of a process or thread.
        address: in its memory.
        size: in bytes, at most PAGE.

        Raises OSError: EPERM without the right (ptrace(2), "Ptrace access mode checking"); EFAULT
        if nothing is mapped there; ESRCH if it is gone; ENOSYS on a kernel without the call.
        """
        _IOVEC(self._own.room, 0, self._here, size)
        _IOVEC(self._other.room, 0, address, size)
        own, other = self._at
        count = _process_vm_readv(pid, own, 1, other, 1, 0)
        return bytes(memoryview(self._page.room)[:count])


def splice(source, sink, size):
    """Moves up to `size` bytes and returns how many; 0 at the source's end.  splice(2)

    source, sink: descriptors; one of the two is a pipe.

    It never waits for a pipe. Raises OSError: BlockingIOError if the source is empty or the sink
    full; EINVAL for a file with O_APPEND, or a file system without splice; EPIPE if the sink has no
    reader.
    """
    return _splice(source, None, sink, None, size, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
