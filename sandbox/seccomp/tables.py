# SPDX-License-Identifier: Apache-2.0
"""Says which system calls a sandboxed program may make, and why.

The shipped filters are made from these tables by .ci/freeze_filters.py. They are not on the run
path: `shipped.program` takes the frozen bytes.

A row is (rule, reason, names). A rule is an action, or a tuple of (action, test, ...). The first
whose tests all hold decides. A test is (argument, operator, value) or (argument, operator, value,
mask), on the low 32 bits: every argument tested so is an int for the kernel, which drops the upper
half. NULL and NOT_NULL test all of a pointer. Actions: allow, kill (the whole process), the name of
the errno, or pretend: success is answered and nothing done.

ENOSYS is the answer for a call that libc or the program can do without: they then take the older
way, where EPERM would make them give up. EPERM stands where the kernel itself says so to a process
without privilege. Calls without a row, future ones and x32 numbers get ENOSYS.

The mount, pid, network and IPC namespaces hold without the filter. It only takes away kernel
surface and what they leave open.
"""
# linux/sched.h: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. NEWTIME lies in clone's
# signal byte and is possible with unshare and clone3 only. Argument 0 on both architectures.
CLONE_NEW = 0x7E020000
AF_UNIX = 1  # linux/socket.h
SOCK_STREAM, SOCK_SEQPACKET, SOCK_TYPE_MASK = 1, 5, 0xF  # linux/net.h
O_ACCMODE, O_TRUNC = 0o3, 0o1000  # asm-generic/fcntl.h
# linux/stat.h
S_IFMT, S_IFIFO, S_IFSOCK, S_ISUID_ISGID = 0xF000, 0x1000, 0xC000, 0o6000
# asm-generic/fcntl.h O_CREAT, __O_TMPFILE: only with them is there a mode.
O_CREAT_OR_TMPFILE = 0o100 | 0o20000000
SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER = 1, 8  # linux/seccomp.h
PRIO_PROCESS, IOPRIO_WHO_PROCESS = 0, 1  # linux/resource.h, linux/ioprio.h
F_SETOWN_EX = 15  # asm-generic/fcntl.h
# linux/personality.h: READ_IMPLIES_EXEC, MMAP_PAGE_ZERO and ADDR_NO_RANDOMIZE are what an exploit
# wants
PER_LINUX32, UNAME26, ADDR_NO_RANDOMIZE, PERSONALITY_QUERY = 0x8, 0x20000, 0x40000, 0xFFFFFFFF

# Which requests, options and commands of ioctl, setsockopt, getsockopt, fcntl, prctl pass, and why.
# Lists of what passes, not of what is refused: file systems, drivers and protocols add numbers with
# each kernel. Numbers from asm-generic/ioctls.h, asm-generic/socket.h, asm-generic/fcntl.h,
# linux/fcntl.h, linux/fs.h, linux/prctl.h: the same on x86_64 and aarch64.

#: (reason, {request: name}) of the ioctl requests that pass.  What programs make most stands first.
IOCTLS = (
    ("terminals: modes, size, waiting bytes; isatty, stty, readline, curses", {
        0x5401: "TCGETS", 0x5402: "TCSETS", 0x5403: "TCSETSW", 0x5404: "TCSETSF",
        0x5413: "TIOCGWINSZ", 0x5414: "TIOCSWINSZ", 0x5405: "TCGETA", 0x5406: "TCSETA",
        0x5407: "TCSETAW", 0x5408: "TCSETAF", 0x5409: "TCSBRK", 0x540A: "TCXONC", 0x540B: "TCFLSH",
        0x5411: "TIOCOUTQ", 0x5424: "TIOCGETD", 0x5425: "TCSBRKP", 0x802C542A: "TCGETS2",
        0x402C542B: "TCSETS2", 0x402C542C: "TCSETSW2", 0x402C542D: "TCSETSF2"}),
    ("any descriptor: waiting bytes, and flags that fcntl sets as well; node, python, redis", {
        0x541B: "FIONREAD", 0x5421: "FIONBIO", 0x5450: "FIONCLEX", 0x5451: "FIOCLEX",
        0x5452: "FIOASYNC"}),
    ("job control in the program's own session; shells, script, ssh", {
        0x540E: "TIOCSCTTY", 0x540F: "TIOCGPGRP", 0x5410: "TIOCSPGRP", 0x5422: "TIOCNOTTY",
        0x5429: "TIOCGSID"}),
    ("pseudo-terminals of the sandbox's own; openpty, script, tmux", {
        0x80045430: "TIOCGPTN", 0x40045431: "TIOCSPTLCK", 0x5441: "TIOCGPTPEER",
        0x5420: "TIOCPKT"}),
    ("shares blocks of two files, as copy_file_range does; cp asks for each file that it copies", {
        0x40049409: "FICLONE"}),
)
#: Terminal requests that get EPERM, which a terminal itself would say, so that no program takes it
#: for a pipe.
IOCTLS_EPERM = {0x5412: "TIOCSTI", 0x541C: "TIOCLINUX", 0x5423: "TIOCSETD"}

SOL_SOCKET = 1
_BOTH_WAYS = {
    2: "SO_REUSEADDR", 6: "SO_BROADCAST", 7: "SO_SNDBUF", 8: "SO_RCVBUF", 9: "SO_KEEPALIVE",
    10: "SO_OOBINLINE", 13: "SO_LINGER", 15: "SO_REUSEPORT", 16: "SO_PASSCRED", 18: "SO_RCVLOWAT",
    19: "SO_SNDLOWAT", 20: "SO_RCVTIMEO", 21: "SO_SNDTIMEO", 29: "SO_TIMESTAMP", 34: "SO_PASSSEC",
    35: "SO_TIMESTAMPNS", 66: "SO_RCVTIMEO_NEW", 67: "SO_SNDTIMEO_NEW", 76: "SO_PASSPIDFD"}
_READ_ONLY = {
    3: "SO_TYPE", 4: "SO_ERROR", 17: "SO_PEERCRED", 28: "SO_PEERNAME", 30: "SO_ACCEPTCONN",
    31: "SO_PEERSEC", 38: "SO_PROTOCOL", 39: "SO_DOMAIN", 59: "SO_PEERGROUPS", 77: "SO_PEERPIDFD"}
#: {level: {option: name}} of what passes on local sockets; a policy with more families adds levels
#: and options. Left out: classic and extended BPF (SO_ATTACH_*), SO_BINDTODEVICE, SO_MARK,
#: SO_ZEROCOPY, SO_BUSY_POLL, SO_COOKIE (a counter of the whole host) and what only other families
#: know.
SET_OPTIONS = {SOL_SOCKET: _BOTH_WAYS}
GET_OPTIONS = {SOL_SOCKET: dict(list(_BOTH_WAYS.items()) + list(_READ_ONLY.items()))}

MSG_OOB = 1  # linux/socket.h

#: {command: name} of fcntl's that pass for any argument.
FCNTL = {1: "F_GETFD", 2: "F_SETFD", 3: "F_GETFL", 4: "F_SETFL", 0x406: "F_DUPFD_CLOEXEC",
         0: "F_DUPFD", 9: "F_GETOWN", 10: "F_SETSIG", 11: "F_GETSIG", 0x403: "F_DUPFD_QUERY",
         0x404: "F_CREATED_QUERY", 0x407: "F_SETPIPE_SZ", 0x408: "F_GETPIPE_SZ",
         0x409: "F_ADD_SEALS", 0x40A: "F_GET_SEALS"}
#: Record locks: the kernel's memory for them is charged to nobody (fs/locks.c, SLAB_PANIC alone).
FCNTL_LOCKS = {5: "F_GETLK", 6: "F_SETLK", 7: "F_SETLKW", 0x24: "F_OFD_GETLK", 0x25: "F_OFD_SETLK",
               0x26: "F_OFD_SETLKW"}
F_SETOWN = 8
#: (command, why it gets EINVAL), for the page; so does every other one without a row.
FCNTL_REFUSED = (
    ("F_SETLEASE, F_GETLEASE",
     "a read-only descriptor is enough to make a writer on the host wait up to 45 s"),
    ("F_NOTIFY", "dnotify, the old inotify: it needs only the right to read, and sends signals"),
    ("F_SETOWN_EX, F_GETOWN_EX",
     "the filter cannot see which process gets the signals: it is behind a pointer"),
    ("F_SET_RW_HINT, F_SET_FILE_RW_HINT and their queries",
     "the hints stay on the inode, which may be the host's"),
    ("F_CANCELLK, F_GETOWNER_UIDS", "for lock managers in the kernel, and for checkpoints"),
)

#: (option, name, why) of prctl's that get EINVAL, as from a kernel without them.
PRCTL_REFUSED = (
    (62, "PR_SCHED_CORE",
     "takes another process's number: core scheduling can keep pid 1 from the processor"),
    (67, "PR_SET_MEMORY_MERGE",
     "the timing of merged pages reveals the memory of other sandboxes and the host"),
)
MADV_MERGEABLE = 12  # asm-generic/mman-common.h; the same merging, by range
RLIMIT_CORE = 4  # asm-generic/resource.h


def _mode(argument):
    """Allows mknod's types that the kernel lets everybody make: files, FIFOs, sockets.

    A regular file has type 0 or 8.
    """
    return (("allow", (argument, "&==", 0, S_IFMT & ~0x8000)),
            ("allow", (argument, "&==", S_IFIFO, S_IFMT)),
            ("allow", (argument, "&==", S_IFSOCK, S_IFMT)), ("EPERM",))


def _personality(*more):
    """Allows docker's five values of personality(2), and `more` bits.

    They are the query, and PER_LINUX and PER_LINUX32, each also with UNAME26.
    """
    bits = 0xFFFFFFFF & ~(PER_LINUX32 | UNAME26 | sum(more))
    return (("allow", (0, "&==", 0, bits)), ("allow", (0, "==", PERSONALITY_QUERY)), ("EPERM",))


def _any(action, argument, values):
    """Returns entries of a rule, one for each value; the compiler joins neighbours."""
    return tuple((action, (argument, "==", value)) for value in values)


def _null(argument):
    return argument, "==", 0, None, True


IOCTL = sum([_any("allow", 1, requests) for _, requests in IOCTLS],
            ()) + _any("EPERM", 1, IOCTLS_EPERM) + (("ENOTTY",),)


def _options(levels):
    """Allows {level: options}.  Other levels get a local socket's answer.

    net/core/sock.c, sock_no_setsockopt
    """
    last = max(levels)
    rule = tuple(("allow", (1, "==", level), (2, "==", option))
                 for level in sorted(levels) if level != last for option in levels[level])
    rule += tuple(("ENOPROTOOPT", (1, "==", level)) for level in sorted(levels) if level != last)
    return rule + (("EOPNOTSUPP",
                    (1, "!=", last)),) + _any("allow", 2, levels[last]) + (("ENOPROTOOPT",),)


def _no_urgent(flags):
    """Answers as a kernel without CONFIG_AF_UNIX_OOB.  net/unix/af_unix.c"""
    return ("EOPNOTSUPP", (flags, "&==", MSG_OOB, MSG_OOB)), ("allow",)


_COMMANDS = _any("allow", 1, FCNTL)
_OWNER = (("EPERM", (1, "==", F_SETOWN), (2, "==", 1)),
          ("EPERM", (1, "==", F_SETOWN), (2, "==", 0xFFFFFFFF)),
          ("allow", (1, "==", F_SETOWN)))
_LOCKS = sorted(FCNTL_LOCKS)
_UNKNOWN = (("EINVAL",),)

_NOT_PID_1 = (("EPERM", (0, "==", 1)), ("allow",))
# Pid 1 has one thread: with its tgid any other number is ESRCH.
_NOT_TID_1 = (("EPERM", (1, "==", 1)), ("allow",))
_STARVED = "not pid 1, which must get the processor to end the sandbox; not groups and users, " \
    "which may include it"


def _one_process(which):
    """Allows one process or thread, by its number, but not pid 1.

    which: the value that says so.
    """
    return ("EPERM", (0, "!=", which)), ("EPERM", (1, "==", 1)), ("allow",)


# The kernel aborts a dump to a handler at exactly 1 and ignores 0 (core(5)), so 1 must stay. gpg
# and ssh-agent end themselves if they can't forbid dumps, and there are none: they are told that it
# worked. Not where the old limit is asked for in the same call, which would stay unwritten.
_CORE = ("pretend", (0, "==", RLIMIT_CORE))
# 4 bits, since there are 16 limits: with all 32 the OCI form would need 1000 rules for this call.
_CORE_OF = (("allow", _null(2)), ("EPERM", (1, "&==", RLIMIT_CORE, 0xF), (3, "!=", 0, None, True)),
            ("pretend", (1, "&==", RLIMIT_CORE, 0xF)))
#: (call, entry) of all of these.
HOLDING_CORE = (("setrlimit", _CORE),) + tuple(("prlimit64", entry) for entry in _CORE_OF)
_NO_DUMPS = "the limit for core dumps stays 1, which also keeps them from " \
    "a handler of the host's; a change is answered with success"

UNIX_ONLY = (("allow", (0, "==", AF_UNIX)), ("EAFNOSUPPORT",))

DEFAULT = (
    # Files
    ("allow", "file descriptor I/O",
     "read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek close "
     "close_range dup dup2 dup3 flock pipe pipe2 sendfile splice tee copy_file_range"),
    (_COMMANDS + _any("allow", 1, _LOCKS) + _OWNER + _UNKNOWN,
     "by command; no leases, no dnotify, and no signals to pid 1",
     "fcntl"),
    ("allow", "opening and looking at files; the mount namespace decides which are reachable",
     "open openat openat2 creat stat fstat lstat newfstatat statx statfs fstatfs access faccessat "
     "faccessat2 readlink readlinkat getdents getdents64 getcwd chdir fchdir"),
    ("allow", "changing the tree that the sandbox can write",
     "truncate ftruncate fallocate rename renameat renameat2 mkdir mkdirat rmdir link linkat "
     "symlink symlinkat unlink unlinkat umask utime utimes futimesat utimensat"),
    ("allow", "ownership and modes; the kernel's checks apply and every mount is nosuid",
     "chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat"),
    (_mode(1),
     "mkfifo needs it; no devices, and no character device 0:0, which overlayfs reads as a "
     "whiteout", "mknod"),
    (_mode(2),
     "mkfifo needs it; no devices, and no character device 0:0, which overlayfs reads as a "
     "whiteout", "mknodat"),
    ("allow", "extended attributes (tar, cp -a, rsync); the *at forms are the same operation",
     "setxattr lsetxattr fsetxattr setxattrat getxattr lgetxattr fgetxattr getxattrat listxattr "
     "llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat"),
    ("allow", "durability and read-ahead hints",
     "fsync fdatasync sync syncfs sync_file_range readahead fadvise64"),
    ("allow", "file watching (editors, node, build tools)",
     "inotify_init inotify_init1 inotify_add_watch inotify_rm_watch"),
    ("allow", "native AIO (InnoDB, nginx, dd)",
     "io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents"),
    (IOCTL, "by request: file systems, sockets and devices have hundreds; some change a file "
            "through a read-only descriptor; TIOCSTI and TIOCLINUX type into the terminal "
            "(CVE-2017-5226, CVE-2023-28100), TIOCSETD loads line disciplines", "ioctl"),

    # Memory
    ("allow", "loader, allocators, JITs; executable pages too: node and java need them",
     "mmap mprotect munmap brk mremap msync mlock mlock2 munlock mlockall munlockall membarrier "
     "mseal"),
    ((("EINVAL", (2, "==", MADV_MERGEABLE)), ("allow",)),
     "no merging with equal pages of others (KSM), as a kernel without it",
     "madvise"),
    ("allow",
     "page residency (java, go, libunwind); the page cache side channel was closed in the kernel",
     "mincore"),
    ("allow", "protection keys (V8)", "pkey_mprotect pkey_alloc pkey_free"),
    ("allow", "shadow stacks for ucontext; only adds a protection", "map_shadow_stack"),
    ("allow", "anonymous files (java, wayland)", "memfd_create"),

    # Processes, threads, signals
    ("allow", "process life cycle", "fork vfork execve execveat exit exit_group wait4 waitid"),
    ((("allow", (0, "&==", 0, CLONE_NEW)), ("EPERM",)),
     "threads and processes, but no namespaces: a new one opens everything that capabilities gate",
     "clone"),
    ("ENOSYS",
     "its flags lie behind a pointer, so no filter can see CLONE_NEW*; libc then uses clone, where "
     "EPERM breaks python, node and java", "clone3"),
    ("allow", "locks and thread registration",
     "futex futex_waitv set_robust_list set_tid_address rseq"),
    (_NOT_PID_1, "where a thread keeps its list of locks; not pid 1's", "get_robust_list"),
    ("allow", "thread-local storage, set by the dynamic loader", "arch_prctl"),
    ("allow", "signals; the pid namespace limits who can be reached",
     "rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend "
     "sigaltstack pause"),
    (_NOT_PID_1,
     "signals to other processes of the sandbox; not to pid 1, which would take some for its "
     "supervisor's; -1 leaves it out",
     "kill tkill rt_sigqueueinfo"),
    (_NOT_TID_1, "the same, by process and thread", "tgkill rt_tgsigqueueinfo"),
    (_NOT_PID_1, "race-free process handles (python, go); none of pid 1", "pidfd_open"),
    ("allow",
     "works only on a handle, and none of pid 1 can be had; Landlock's signal scope refuses it as "
     "well",
     "pidfd_send_signal"),
    ("allow", "asking about scheduling",
     "sched_yield sched_getparam sched_getscheduler sched_getattr sched_getaffinity "
     "sched_get_priority_max sched_get_priority_min sched_rr_get_interval"),
    (_NOT_PID_1,
     "scheduling of the sandbox's own; raising priority needs a capability; " + _STARVED,
     "sched_setparam sched_setscheduler sched_setattr sched_setaffinity"),
    ("allow", "identity and job control",
     "getpid getppid gettid getuid geteuid getresuid getgid getegid getresgid getgroups getpgid "
     "getpgrp getsid setpgid setsid"),
    ("allow",
     "the kernel's credential checks and no_new_privs apply; package tools and daemons drop "
     "privileges so",
     "setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups capget "
     "capset"),
    (_any("EINVAL", 0, [option for option, _, _ in PRCTL_REFUSED]) + (("allow",),),
     "names, dumpable, VMA names; the kernel's checks apply; no core scheduling, which takes a "
     "process number, and no merging of pages with others' (KSM): as a kernel without them",
     "prctl"),
    ((("EPERM", (0, "==", SECCOMP_SET_MODE_FILTER),
       (1, "&==", SECCOMP_FILTER_FLAG_NEW_LISTENER, SECCOMP_FILTER_FLAG_NEW_LISTENER)), ("allow",)),
     "can only restrict further; no listener: the filter chain has room for one, and a supervisor "
     "inside could answer calls in its children's name", "seccomp"),
    ("allow", "can only restrict further (nested sandboxes)",
     "landlock_create_ruleset landlock_add_rule landlock_restrict_self"),
    (_personality(),
     "32-bit and 2.6 personalities; no bit that weakens address randomisation or memory protection",
     "personality"),
    ("allow",
     "only the kernel's own trampolines call them; older kernels kill a probed process when "
     "refused", "uretprobe uprobe"),

    # Time, events, limits
    ("allow", "clocks and sleeping",
     "nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time"),
    ("allow",
     "the kernel re-enters it after a stopped sleep; refusing it breaks nanosleep and poll",
     "restart_syscall"),
    ("allow", "timers",
     "alarm getitimer setitimer timer_create timer_settime timer_gettime timer_getoverrun "
     "timer_delete"),
    ("allow", "event loops",
     "poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait "
     "epoll_pwait2 eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_settime "
     "timerfd_gettime"),
    ("allow", "limits and accounting; raising needs a capability",
     "uname sysinfo times getcpu getrusage getrlimit getpriority ioprio_get"),
    ((_CORE, ("allow",)), "own limits; raising needs a capability; " + _NO_DUMPS, "setrlimit"),
    (_NOT_PID_1[:1] + _CORE_OF + (("allow",),),
     "the same; not those of pid 1, which is of the same user: a CPU limit of 0 would kill it, and "
     "the sandbox with it; "
     + _NO_DUMPS, "prlimit64"),
    (_one_process(PRIO_PROCESS), "raising the nice value; " + _STARVED, "setpriority"),
    (_one_process(IOPRIO_WHO_PROCESS), "the same for disks; " + _STARVED, "ioprio_set"),
    ("allow", "random numbers (node aborts without)", "getrandom"),

    # Sockets and IPC
    (UNIX_ONLY, "local sockets only: there is no network, and each further family is attack "
                "surface (AF_ALG: CVE-2026-31431)", "socket socketpair"),
    ("allow", "work only on sockets that the socket rule let through, or that were passed in",
     "connect accept accept4 bind listen getsockname getpeername shutdown"),
    (_no_urgent(3),
     "the same; no urgent byte on local sockets (CVE-2025-38236), which no program sends",
     "sendto recvfrom sendmmsg recvmmsg"),
    (_no_urgent(2),
     "the same; no urgent byte on local sockets (CVE-2025-38236), which no program sends",
     "sendmsg recvmsg"),
    (_options(SET_OPTIONS),
     "by level and option: no BPF into the kernel (SO_ATTACH_FILTER), no devices, no other "
     "protocols",
     "setsockopt"),
    (_options(GET_OPTIONS), "by level and option, as setsockopt", "getsockopt"),
    ("allow", "System V IPC (postgres), private to the IPC namespace",
     "shmget shmat shmctl shmdt semget semop semtimedop semctl msgget msgsnd msgrcv msgctl"),

    # Refused
    ("ENOSYS",
     "POSIX message queues, as a kernel built without them: their file system has no place in the "
     "tree, so Landlock refuses mq_open anyway",
     "mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr"),
    ("EPERM", "mount family: changes the tree that the sandbox consists of",
     "mount umount2 pivot_root chroot"),
    ("ENOSYS", "the newer mount calls; libmount falls back to mount, which then says EPERM",
     "open_tree open_tree_attr move_mount mount_setattr fsopen fsconfig fsmount fspick"),
    ("ENOSYS", "mount table queries; libmount falls back to /proc", "statmount listmount"),
    ("EPERM", "a new namespace opens everything that capabilities gate", "unshare setns"),
    ("EPERM", "debugging another process; before Linux 4.8 also a way round the filter", "ptrace"),
    ("EPERM", "reads or writes another process's memory", "process_vm_readv process_vm_writev"),
    ("EPERM", "takes a descriptor out of another process", "pidfd_getfd"),
    ("EPERM", "compares kernel objects of two processes (a history of address leaks)", "kcmp"),
    ("ENOSYS", "acts on another process; allocators fall back", "process_madvise process_mrelease"),
    ("EPERM", "large attack surface; EPERM is what a caller without privilege sees anyway",
     "bpf perf_event_open userfaultfd"),
    ("ENOSYS", "a second system call table that seccomp can't see into; libuv and others fall back",
     "io_uring_setup io_uring_enter io_uring_register"),
    ("EPERM", "keyrings are not namespaced", "add_key request_key keyctl"),
    ("EPERM", "opens by inode, past the mount view (the shocker escape)", "open_by_handle_at"),
    ("ENOSYS", "the counterpart of open_by_handle_at; callers do without", "name_to_handle_at"),
    ("EPERM", "notification for whole file systems", "fanotify_init fanotify_mark"),
    ("EPERM", "needs privilege in the initial namespace; EPERM as the kernel would say",
     "acct adjtimex clock_adjtime clock_settime settimeofday delete_module finit_module "
     "init_module ioperm iopl kexec_file_load kexec_load lookup_dcookie quotactl quotactl_fd "
     "reboot setdomainname sethostname swapoff swapon syslog vhangup"),
    ("ENOSYS", "NUMA; libnuma then assumes a machine without it",
     "mbind get_mempolicy set_mempolicy set_mempolicy_home_node migrate_pages move_pages"),
    ("ENOSYS", "maps user pages into pipes (a history of bugs); callers fall back to write",
     "vmsplice"),
    ("ENOSYS", "16-bit code and Wine only; as a kernel built without it", "modify_ldt"),
    ("ENOSYS", "pages hidden from the kernel; no common program needs it", "memfd_secret"),
    ("ENOSYS", "futex2 calls without users yet; futex does the work",
     "futex_wake futex_wait futex_requeue"),
    ("ENOSYS", "no common caller yet; a new call stays out until there is one",
     "cachestat file_getattr file_setattr listns lsm_get_self_attr lsm_set_self_attr "
     "lsm_list_modules rseq_slice_yield fchroot"),
    ("ENOSYS", "deprecated since Linux 3.16", "remap_file_pages"),
    ("ENOSYS", "obsolete or never implemented; the kernel's own answer or close to it",
     "_sysctl afs_syscall create_module epoll_ctl_old epoll_wait_old get_kernel_syms "
     "get_thread_area getpmsg nfsservctl putpmsg query_module security set_thread_area sysfs "
     "tuxcall uselib ustat vserver"),
)

_SET_ID = "set-id files; nothing in a sandbox needs to make one"


def _no_set_id(argument):
    return (("allow", (argument, "&==", 0, S_ISUID_ISGID)), ("EPERM",))


# --harden: less surface, for programs that need no more, and no second try after a call of exploits
STRICT = (
    ("ENOSYS", "native AIO: only databases use it",
     "io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents"),
    ("ENOSYS", "System V IPC: pipes and AF_UNIX do",
     "shmget shmat shmctl shmdt semget semop semtimedop semctl msgget msgsnd msgrcv msgctl"),
    (_COMMANDS + _any("ENOLCK", 1, _LOCKS) + _OWNER + _UNKNOWN,
     "no record locks: the kernel's memory for them is charged to nobody; flock takes one for each "
     "open file at most", "fcntl"),
    ("ENOSYS",
     "names of files that others open in what is shown: the host's programs in /usr, by their "
     "names", "inotify_init inotify_init1 inotify_add_watch inotify_rm_watch"),
    (_no_set_id(1), _SET_ID, "chmod fchmod"),
    (_no_set_id(2), _SET_ID, "fchmodat fchmodat2"),
    ("EPERM", "no disguises at all", "personality"),
    ("ENOSYS",
     "the host's memory, load and uptime; libc and runtimes go by /proc, or assume little",
     "sysinfo"),
    ("EACCES",
     "a program in a file that no path shows; MFD_NOEXEC_SEAL hinders execve, but not the dynamic "
     "loader's mmap",
     "memfd_create"),
    ("kill", "only an attack calls it here",
     "kexec_load kexec_file_load init_module finit_module delete_module bpf open_by_handle_at "
     "ptrace"),
)

_NO_MODE_3 = "as by default, but not without a right to read or write: Landlock has no name for " \
             "such a descriptor, which serves for attributes, leases and ioctls"


def _some_right(flags, *more):
    return more + (("EINVAL", (flags, "&==", O_ACCMODE, O_ACCMODE)), ("allow",))


def _no_truncation(flags):
    """Landlock below ABI 3 takes O_RDONLY|O_TRUNC for reading."""
    return _some_right(flags, ("EPERM", (flags, "&==", O_TRUNC, O_TRUNC | O_ACCMODE)))


_OWN_ONLY = "own threads only: this tier has no pid namespace, and the host's processes of the " \
            "same user are in reach"

# --tier process: no namespaces, so the filter has to refuse what Landlock doesn't mediate
_PROCESS = (
    ("EAFNOSUPPORT",
     "no network namespace, and Landlock doesn't mediate connect to the host's sockets", "socket"),
    ((("allow", (0, "==", AF_UNIX), (1, "&==", SOCK_STREAM, SOCK_TYPE_MASK)),
      ("allow", (0, "==", AF_UNIX), (1, "&==", SOCK_SEQPACKET, SOCK_TYPE_MASK)),
      ("EPROTONOSUPPORT",)),
     "connected pairs for good: a datagram socket can be connected anew, or sent from, to each "
     "socket of the host",
     "socketpair"),
    ("EPERM",
     "the host's sockets and their abstract names; an inherited one keeps the peer that it has",
     "connect bind"),
    ("EPERM", "modes, owners and times of the host's files: Landlock doesn't mediate them",
     "chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes futimesat "
     "utimensat"),
    ("EPERM", "extended attributes of the host's files: Landlock doesn't mediate them",
     "setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat"),
    ("ENOTSUP",
     "they are read by path, which Landlock doesn't mediate: where a file was downloaded from, say",
     "getxattr lgetxattr fgetxattr getxattrat listxattr llistxattr flistxattr listxattrat"),
    ("ENOSYS", "its flags lie behind a pointer; callers fall back to openat", "openat2"),
    ("ENOSYS",
     "names of files that others open, in any directory that the user may read: Landlock doesn't "
     "mediate it",
     "inotify_init inotify_init1 inotify_add_watch inotify_rm_watch"),
    ("ENOSYS",
     "no IPC namespace: these would reach the host's segments and queues of the same user",
     "shmget shmat shmctl shmdt semget semop semtimedop semctl msgget msgsnd msgrcv msgctl"),
    ((("EPERM", (0, "!=", 0)),) + _CORE_OF + (("allow",),), _OWN_ONLY + "; " + _NO_DUMPS,
     "prlimit64"),
    ((("allow", (0, "==", 0)), ("EPERM",)), _OWN_ONLY,
     "sched_setparam sched_setscheduler sched_setattr sched_setaffinity"),
    ((("allow", (0, "==", PRIO_PROCESS), (1, "==", 0)), ("EPERM",)), _OWN_ONLY, "setpriority"),
    ((("allow", (0, "==", IOPRIO_WHO_PROCESS), (1, "==", 0)), ("EPERM",)), _OWN_ONLY, "ioprio_set"),
)

PROCESS = _PROCESS + (
    (_some_right(1), _NO_MODE_3, "open"),
    (_some_right(2), _NO_MODE_3, "openat"),
)

# The same below Landlock ABI 6, which has no signal scope
PROCESS_NOSIGNAL = _PROCESS + (
    ("EPERM", "signals would reach the host's processes of the same user",
     "kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal"),
    (_COMMANDS + _any("allow", 1, _LOCKS) + _any("EPERM", 1, (F_SETOWN, F_SETOWN_EX)) + _UNKNOWN,
     "SIGIO can be sent to another process through an owned descriptor", "fcntl"),
    # For Landlock below ABI 3, which has no right to truncate; ftruncate needs a descriptor for
    # writing.
    ("EPERM", "by path; before Landlock ABI 3 nothing else refuses it", "truncate"),
    (_no_truncation(1), "as in process, and no truncation through a descriptor for reading",
     "open"),
    (_no_truncation(2), "as in process, and no truncation through a descriptor for reading",
     "openat"),
)

DEBUG = (
    ("allow", "gdb and strace inside; each is limited to the sandbox's own processes",
     "ptrace process_vm_readv process_vm_writev"),
    (_personality(ADDR_NO_RANDOMIZE), "as by default, and fixed addresses, which gdb asks for",
     "personality"),
)

# name: the rows that replace rows of DEFAULT
POLICIES = {"default": (), "strict": STRICT, "process": PROCESS,
            "process-nosignal": PROCESS_NOSIGNAL, "debug": DEBUG}


def _no_set_id_when_made(flags, mode):
    return (("allow", (flags, "&==", 0, O_CREAT_OR_TMPFILE)),) + _no_set_id(mode)


_HIDDEN = "the mode lies behind a pointer; libc and programs fall back to the older call"

# The second filter of sandboxes that can write a host directory: a set-id file there would run with
# its owner's rights outside. Everything without a row is allowed; the policy beside it decides.
SET_ID = (
    (_no_set_id(1), "mode of an existing or new file", "chmod fchmod creat mkdir mknod"),
    (_no_set_id(2), "mode of an existing or new file", "fchmodat mkdirat mknodat"),
    (_no_set_id_when_made(1, 2), "mode of a new file", "open"),
    (_no_set_id_when_made(2, 3), "mode of a new file", "openat"),
    ("ENOSYS", _HIDDEN, "openat2"),
    ("ENOSYS", "before Linux 6.6 not there either; libc falls back to fchmodat", "fchmodat2"),
    ("ENOSYS", "opens and makes files where no filter can see the mode",
     "io_uring_setup io_uring_enter io_uring_register"),
)

# The filter beside a policy of the user's own, and while one is learned: the shipped ones have
# these rows themselves.
CORE = (
    ((_CORE, ("allow",)), _NO_DUMPS, "setrlimit"),
    (_CORE_OF + (("allow",),), _NO_DUMPS, "prlimit64"),
)
