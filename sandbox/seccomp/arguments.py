# SPDX-License-Identifier: Apache-2.0
"""Which requests, options and commands of ioctl, setsockopt, getsockopt, fcntl, prctl pass, and why: data of policy_tables.

Lists of what passes, not of what is refused: file systems, drivers and protocols add numbers with each kernel.
Numbers from asm-generic/ioctls.h, asm-generic/socket.h, asm-generic/fcntl.h, linux/fcntl.h, linux/fs.h,
linux/prctl.h: the same on x86_64 and aarch64.
"""

#: (reason, {request: name}) of the ioctl requests that pass.  What programs make most stands first.
IOCTLS = (
    ("terminals: modes, size, waiting bytes; isatty, stty, readline, curses", {
        0x5401: "TCGETS", 0x5402: "TCSETS", 0x5403: "TCSETSW", 0x5404: "TCSETSF", 0x5413: "TIOCGWINSZ",
        0x5414: "TIOCSWINSZ", 0x5405: "TCGETA", 0x5406: "TCSETA", 0x5407: "TCSETAW", 0x5408: "TCSETAF",
        0x5409: "TCSBRK", 0x540A: "TCXONC", 0x540B: "TCFLSH", 0x5411: "TIOCOUTQ", 0x5424: "TIOCGETD",
        0x5425: "TCSBRKP", 0x802C542A: "TCGETS2", 0x402C542B: "TCSETS2", 0x402C542C: "TCSETSW2",
        0x402C542D: "TCSETSF2"}),
    ("any descriptor: waiting bytes, and flags that fcntl sets as well; node, python, redis", {
        0x541B: "FIONREAD", 0x5421: "FIONBIO", 0x5450: "FIONCLEX", 0x5451: "FIOCLEX", 0x5452: "FIOASYNC"}),
    ("job control in the program's own session; shells, script, ssh", {
        0x540E: "TIOCSCTTY", 0x540F: "TIOCGPGRP", 0x5410: "TIOCSPGRP", 0x5422: "TIOCNOTTY", 0x5429: "TIOCGSID"}),
    ("pseudo-terminals of the sandbox's own; openpty, script, tmux", {
        0x80045430: "TIOCGPTN", 0x40045431: "TIOCSPTLCK", 0x5441: "TIOCGPTPEER", 0x5420: "TIOCPKT"}),
    ("shares blocks of two files, as copy_file_range does; cp asks for each file that it copies", {
        0x40049409: "FICLONE"}),
)
#: Terminal requests that get EPERM, which a terminal itself would say, so that no program takes it for a pipe.
IOCTLS_EPERM = {0x5412: "TIOCSTI", 0x541C: "TIOCLINUX", 0x5423: "TIOCSETD"}

SOL_SOCKET = 1
_BOTH_WAYS = {
    2: "SO_REUSEADDR", 6: "SO_BROADCAST", 7: "SO_SNDBUF", 8: "SO_RCVBUF", 9: "SO_KEEPALIVE", 10: "SO_OOBINLINE",
    13: "SO_LINGER", 15: "SO_REUSEPORT", 16: "SO_PASSCRED", 18: "SO_RCVLOWAT", 19: "SO_SNDLOWAT", 20: "SO_RCVTIMEO",
    21: "SO_SNDTIMEO", 29: "SO_TIMESTAMP", 34: "SO_PASSSEC", 35: "SO_TIMESTAMPNS", 66: "SO_RCVTIMEO_NEW",
    67: "SO_SNDTIMEO_NEW", 76: "SO_PASSPIDFD"}
_READ_ONLY = {
    3: "SO_TYPE", 4: "SO_ERROR", 17: "SO_PEERCRED", 28: "SO_PEERNAME", 30: "SO_ACCEPTCONN", 31: "SO_PEERSEC",
    38: "SO_PROTOCOL", 39: "SO_DOMAIN", 59: "SO_PEERGROUPS", 77: "SO_PEERPIDFD"}
#: {level: {option: name}} of what passes on local sockets; a policy with more families adds levels and options.
#: Left out: classic and extended BPF (SO_ATTACH_*), SO_BINDTODEVICE, SO_MARK, SO_ZEROCOPY, SO_BUSY_POLL, SO_COOKIE (a
#: counter of the whole host) and what only other families know.
SET_OPTIONS = {SOL_SOCKET: _BOTH_WAYS}
GET_OPTIONS = {SOL_SOCKET: dict(list(_BOTH_WAYS.items()) + list(_READ_ONLY.items()))}

MSG_OOB = 1  # linux/socket.h

#: {command: name} of fcntl's that pass for any argument.
FCNTL = {1: "F_GETFD", 2: "F_SETFD", 3: "F_GETFL", 4: "F_SETFL", 0x406: "F_DUPFD_CLOEXEC", 0: "F_DUPFD",
         9: "F_GETOWN", 10: "F_SETSIG", 11: "F_GETSIG", 0x403: "F_DUPFD_QUERY", 0x404: "F_CREATED_QUERY",
         0x407: "F_SETPIPE_SZ", 0x408: "F_GETPIPE_SZ", 0x409: "F_ADD_SEALS", 0x40A: "F_GET_SEALS"}
#: Record locks: the kernel's memory for them is charged to nobody (fs/locks.c, SLAB_PANIC alone).
FCNTL_LOCKS = {5: "F_GETLK", 6: "F_SETLK", 7: "F_SETLKW", 0x24: "F_OFD_GETLK", 0x25: "F_OFD_SETLK", 0x26: "F_OFD_SETLKW"}
F_SETOWN = 8
#: (command, why it gets EINVAL), for the page; so does every other one without a row.
FCNTL_REFUSED = (
    ("F_SETLEASE, F_GETLEASE", "a read-only descriptor is enough to make a writer on the host wait up to 45 s"),
    ("F_NOTIFY", "dnotify, the old inotify: it needs only the right to read, and sends signals"),
    ("F_SETOWN_EX, F_GETOWN_EX", "the filter cannot see which process gets the signals: it is behind a pointer"),
    ("F_SET_RW_HINT, F_SET_FILE_RW_HINT and their queries", "the hints stay on the inode, which may be the host's"),
    ("F_CANCELLK, F_GETOWNER_UIDS", "for lock managers in the kernel, and for checkpoints"),
)

#: (option, name, why) of prctl's that get EINVAL, as from a kernel without them.
PRCTL_REFUSED = (
    (62, "PR_SCHED_CORE", "takes another process's number: core scheduling can keep pid 1 from the processor"),
    (67, "PR_SET_MEMORY_MERGE", "the timing of merged pages reveals the memory of other sandboxes and the host"),
)
MADV_MERGEABLE = 12  # asm-generic/mman-common.h; the same merging, by range
RLIMIT_CORE = 4  # asm-generic/resource.h
