# SPDX-License-Identifier: Apache-2.0
"""Names the arguments that policies test, and the constants that they are compared with."""
from ...sandbox.seccomp.tables import FCNTL, FCNTL_LOCKS, F_SETOWN, GET_OPTIONS, IOCTLS, \
    IOCTLS_EPERM, MADV_MERGEABLE, PRCTL_REFUSED, RLIMIT_CORE, SET_OPTIONS, SOL_SOCKET

#: The parameters of calls that a policy, here or of a peer, tests by argument. man-pages 6,
#: section 2
ARGUMENTS = {
    "ioctl": "fd request", "clone": "flags", "socket": "family type protocol",
    "socketpair": "family type protocol sv",
    "personality": "persona", "mknod": "path mode dev", "mknodat": "dirfd path mode dev",
    "chmod": "path mode",
    "fchmod": "fd mode", "fchmodat": "dirfd path mode", "fchmodat2": "dirfd path mode flags",
    "seccomp": "operation flags args",
    "prctl": "option arg2 arg3 arg4 arg5", "fcntl": "fd op arg", "setpriority": "which who prio",
    "ioprio_set": "which who prio",
    "prlimit64": "pid resource new old", "sched_setparam": "pid param",
    "sched_setscheduler": "pid policy param",
    "sched_setattr": "pid attr flags", "sched_setaffinity": "pid size mask",
    "open": "path flags mode",
    "openat": "dirfd path flags mode", "creat": "path mode", "mkdir": "path mode",
    "mkdirat": "dirfd path mode",
    "mmap": "addr length prot flags fd offset", "mprotect": "addr length prot", "unshare": "flags",
    "setns": "fd nstype",
    "kill": "pid sig", "tkill": "tid sig", "tgkill": "tgid tid sig",
    "rt_sigqueueinfo": "pid sig info",
    "rt_tgsigqueueinfo": "tgid tid sig info", "pidfd_open": "pid flags",
    "get_robust_list": "pid head size",
    "setrlimit": "resource limit", "setsockopt": "fd level option value size",
    "getsockopt": "fd level option value size", "sendto": "fd buffer size flags address size",
    "recvfrom": "fd buffer size flags address size", "sendmsg": "fd message flags",
    "recvmsg": "fd message flags",
    "sendmmsg": "fd messages count flags", "recvmmsg": "fd messages count flags timeout",
    "madvise": "addr length advice", "futex": "addr op val",
    "execveat": "dirfd path argv envp flags", "copy_file_range": "in off_in out off_out "
        "length flags", "pipe2": "fds flags",
}

_RESOURCES = {RLIMIT_CORE: "RLIMIT_CORE"}
_MESSAGE = {1: "MSG_OOB"}
_FAMILIES = {0: "AF_UNSPEC", 1: "AF_UNIX", 2: "AF_INET", 9: "AF_X25", 10: "AF_INET6",
             16: "AF_NETLINK", 17: "AF_PACKET", 21: "AF_RDS", 29: "AF_CAN", 31: "AF_BLUETOOTH",
             38: "AF_ALG", 40: "AF_VSOCK", 44: "AF_XDP"}
#: {(call, argument): {value: name}}. Sources: asm-generic/ioctls.h, fcntl.h and resource.h;
#: linux/socket.h, personality.h and seccomp.h.
_VALUES = {
    ("ioctl", 1): dict([pair for _, names in IOCTLS for pair in names.items()] +
                       list(IOCTLS_EPERM.items()) + [(0x8901, "FIOSETOWN"), (0x8902, "SIOCSPGRP")]),
    ("setsockopt", 1): {SOL_SOCKET: "SOL_SOCKET"}, ("setsockopt", 2): SET_OPTIONS[SOL_SOCKET],
    ("getsockopt", 1): {SOL_SOCKET: "SOL_SOCKET"}, ("getsockopt", 2): GET_OPTIONS[SOL_SOCKET],
    ("setrlimit", 0): _RESOURCES, ("prlimit64", 1): _RESOURCES,
    ("madvise", 2): {MADV_MERGEABLE: "MADV_MERGEABLE"}, ("socket", 0): _FAMILIES,
    ("socketpair", 0): _FAMILIES, ("socket", 2): {9: "NETLINK_AUDIT"},
    ("personality", 0): {0: "PER_LINUX", 8: "PER_LINUX32", 0x20000: "UNAME26",
                         0x20008: "PER_LINUX32|UNAME26", 0x40000: "ADDR_NO_RANDOMIZE",
                         0xFFFFFFFF: "query"},
    ("seccomp", 0): {0: "SECCOMP_SET_MODE_STRICT", 1: "SECCOMP_SET_MODE_FILTER"},
    ("seccomp", 1): {8: "SECCOMP_FILTER_FLAG_NEW_LISTENER"},
    ("fcntl", 1): dict(list(FCNTL.items()) + list(FCNTL_LOCKS.items()) + [(F_SETOWN, "F_SETOWN"),
                                                                          (15, "F_SETOWN_EX")]),
    ("setpriority", 0): {0: "PRIO_PROCESS"},
    ("ioprio_set", 0): {1: "IOPRIO_WHO_PROCESS"},
    ("prctl", 0): dict([(3, "PR_GET_DUMPABLE"), (4, "PR_SET_DUMPABLE"), (15, "PR_SET_NAME"),
                        (16, "PR_GET_NAME"), (22, "PR_SET_SECCOMP")] +
                       [row[:2] for row in PRCTL_REFUSED]),
}
_CLONE = {0x80: "CLONE_NEWTIME", 0x20000: "CLONE_NEWNS", 0x02000000: "CLONE_NEWCGROUP",
          0x04000000: "CLONE_NEWUTS", 0x08000000: "CLONE_NEWIPC", 0x10000000: "CLONE_NEWUSER",
          0x20000000: "CLONE_NEWPID", 0x40000000: "CLONE_NEWNET"}
_SET_ID = {0o4000: "S_ISUID", 0o2000: "S_ISGID"}
_TYPES = {0x1000: "S_IFIFO", 0x2000: "S_IFCHR", 0x4000: "S_IFDIR", 0x6000: "S_IFBLK",
          0x8000: "S_IFREG", 0xA000: "S_IFLNK", 0xC000: "S_IFSOCK"}
_BITS = {("clone", 0): _CLONE, ("unshare", 0): _CLONE}
_BITS.update(((call, at), _SET_ID) for call, at in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2),
                                                    ("fchmodat2", 2), ("mkdir", 1), ("creat", 1),
                                                    ("mkdirat", 2), ("open", 2), ("openat", 3)))
_BITS.update(((call, at), _MESSAGE) for call, at in (("sendto", 3), ("recvfrom", 3),
                                                     ("sendmmsg", 3), ("recvmmsg", 3),
                                                     ("sendmsg", 2), ("recvmsg", 2)))
_BITS["seccomp", 1] = _VALUES["seccomp", 1]
_KIND = {("mknod", 1): _TYPES, ("mknodat", 2): _TYPES}


def argument(call, index):
    """Returns the name of an argument: request, or arg1 if none is known."""
    names = ARGUMENTS.get(call, "").split()
    return names[index] if index < len(names) else "arg%d" % index


def value_text(call, index, value):
    """Returns a constant by name if it has one.

    The upper half is shown apart, as the kernel drops it from an int.
    """
    high, low = value >> 32, value & 0xFFFFFFFF
    if high:
        return "%s + %#x<<32" % (value_text(call, index, low), high)
    key = call, index
    if low in _VALUES.get(key, ()):
        return _VALUES[key][low]
    left, names = low, []
    for bit, name in sorted(_BITS.get(key, {}).items()):
        if bit & left:
            names.append(name)
            left ^= bit
    if key in _KIND and left & 0xF000 in _KIND[key]:
        names.append(_KIND[key][left & 0xF000])
        left &= ~0xF000
    if names:
        return "|".join(names + ([hex(left)] if left else []))
    return str(low) if low < 10 else hex(low)


def call_text(call, args):
    """Returns a call as in a program: ioctl(fd, TIOCSTI).

    args: values, None where an argument doesn't matter
    """
    used = max([at + 1 for at, value in enumerate(args) if value is not None] or [0])
    return "%s(%s)" % (call,
                       ", ".join(argument(call, at) if args[at] is None
                                 else value_text(call, at, args[at])
                                       for at in range(used)))


def test_text(call, test):
    """Returns a test of seccomp/tables.py in words.

    test: (argument, operator, value[, mask[, whether it is a pointer]])
    """
    index, sign, value = test[:3]
    name = argument(call, index)
    if test[3:] == (None, True):  # a pointer
        return "%s %s %s" % (name, sign, "%#x" % value if value else "NULL")
    if len(test) == 3:
        return "%s %s %s" % (name, sign, value_text(call, index, value))
    mask = value_text(call, index, test[3])
    if not value:
        return "%s & (%s) == 0" % (name, mask) if "|" in mask else "%s & %s == 0" % (name, mask)
    return "%s & %s %s %s" % (name, "(%s)" % mask if "|" in mask else mask, sign[1:],
                              value_text(call, index, value))


def rule_text(call, rule):
    """Returns a rule of seccomp/tables.py in words."""
    if isinstance(rule, str):
        return rule
    parts, before = [], None
    for entry in rule:
        single = len(entry) == 2 and entry[1][1] == "==" and len(entry[1]) == 3
        alike = entry[0], entry[1][0] if single else None
        if alike == before and single:
            parts[-1] += " or " + value_text(call, alike[1], entry[1][2])
        else:
            tests = " and ".join(test_text(call, test) for test in entry[1:])
            parts.append(entry[0] + (" if " + tests if tests else " otherwise"))
        before = alike
    return "; ".join(parts)
