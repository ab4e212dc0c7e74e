# SPDX-License-Identifier: Apache-2.0
"""Tries system calls whose code is large, rarely needed or not namespaced.

With these arguments the kernel refuses the call after its permission check, or it only affects the
caller.
"""
import errno
import os
import struct

from ..attempt import addressof, asks, buffer, call, reached
from ..probe import HOST, KERNEL, Probe

GROUP = "kernel"
EINVAL, EFAULT, ENOENT, EBADF = errno.EINVAL, errno.EFAULT, errno.ENOENT, errno.EBADF
ENOTBLK, ENOEXEC, EOPNOTSUPP, ENOKEY = errno.ENOTBLK, errno.ENOEXEC, errno.EOPNOTSUPP, errno.ENOKEY
NONE = b"/mrunc/none"


def me(facts):
    """Returns the own pid."""
    return os.getpid()


def own_pidfd(facts):
    """Returns a pidfd of the own process."""
    return call("pidfd_open", os.getpid(), 0)


def memory(name):
    """Returns an action that calls process_vm_readv or writev on the own memory."""
    def action(facts):
        data, other = buffer(b"x", 8), buffer(b"y", 8)
        local, remote = [buffer(struct.pack("=QQ", addressof(area), 1), 16)
                         for area in (data, other)]
        call(name, os.getpid(), local, 1, remote, 1, 0)
        return reached("another process's memory can be asked for")
    return action


def pages(facts):
    """Moves an own page into an own pipe by vmsplice."""
    data = buffer(b"x" * 64, 64)
    read, write = os.pipe()
    call("vmsplice", write, buffer(struct.pack("=QQ", addressof(data), 64), 16), 1, 0)
    return reached("a page is in the pipe")


def counts(facts):
    """Opens a software event of the own process."""
    # Exclude_kernel, exclude_hv
    attr = buffer(struct.pack("=IIQQQQQ", 1, 128, 0, 0, 0, 0, 1 << 5 | 1 << 6), 128)
    os.close(call("perf_event_open", attr, 0, -1, -1, 8))
    return reached("an event descriptor")


def mount_id(what):
    """Returns an action that calls statmount or listmount on the root."""
    def action(facts):
        request = buffer(struct.pack("=IIQQ", 24, 0, 0xffffffffffffffff if what == "listmount"
                                     else 1, 1 if what == "statmount" else 0),
                         24)
        return asks(what, request, buffer(4096), 512 if what == "listmount" else 4096, 0,
                    after=(ENOENT, EINVAL))(facts)
    return action


def own_queue(facts):
    """Makes a POSIX message queue, and removes it."""
    name = b"mrunc-selftest-%d" % os.getpid()
    os.close(call("mq_open", name, os.O_CREAT | os.O_EXCL | os.O_RDONLY, 0o600, None))
    call("mq_unlink", name)
    return reached("a queue was made")


def _asks(number, title, reference, layers, action, danger=KERNEL, arch=None, bare=True):
    return Probe("K%02d" % number, title, danger, reference, layers, action, arch=arch, bare=bare)


NODE0 = buffer(struct.pack("=Q", 1), 8)
ATTRIBUTES = buffer(struct.pack("=2I", 0, 0), 128)
PROBES = (
    _asks(1, "keyctl", "CVE-2016-0728", "seccomp", asks("keyctl", 0, -3, 0, after=(ENOKEY,))),
    _asks(2, "add_key", "CVE-2016-0728", "seccomp",
          asks("add_key", b"user", b"mrunc-selftest", b"x", 1, -2)),
    _asks(3, "request_key", "", "seccomp", asks("request_key", b"user", b"mrunc-none", None, 0,
                                                after=(ENOKEY,))),
    _asks(4, "bpf: a map", "CVE-2021-3490", "seccomp, then no capability",
          asks("bpf", 0, ATTRIBUTES, 128, after=(EINVAL, errno.E2BIG))),
    _asks(5, "bpf: a program", "CVE-2021-3490", "seccomp, then no capability",
          asks("bpf", 5, ATTRIBUTES, 128, after=(EINVAL, EFAULT, errno.E2BIG))),
    _asks(6, "perf_event_open", "CVE-2013-2094", "seccomp", counts),
    _asks(7, "userfaultfd", "", "seccomp, then no capability",
          asks("userfaultfd", os.O_CLOEXEC, close=True)),
    _asks(8, "userfaultfd for user mode only", "", "seccomp", asks("userfaultfd", 1, close=True)),
    _asks(9, "vmsplice", "CVE-2022-0847", "seccomp", pages),
    _asks(10, "modify_ldt", "CVE-2015-5157", "seccomp", asks("modify_ldt", 0, buffer(64), 64),
          arch="x86_64"),
    _asks(11, "iopl", "", "seccomp, then no capability", asks("iopl", 3), HOST, "x86_64"),
    _asks(12, "ioperm", "", "seccomp, then no capability", asks("ioperm", 0x80, 1, 1), HOST,
          "x86_64"),
    _asks(13, "kcmp", "", "seccomp", asks("kcmp", me, me, 0, 1, 1)),
    _asks(14, "process_vm_readv", "T1055", "seccomp", memory("process_vm_readv")),
    _asks(15, "process_vm_writev", "T1055", "seccomp", memory("process_vm_writev")),
    _asks(16, "pidfd_getfd", "", "seccomp", asks("pidfd_getfd", own_pidfd, 1, 0, close=True)),
    _asks(17, "process_madvise", "", "seccomp",
          asks("process_madvise", -1, buffer(16), 1, 20, 0, after=(EBADF, EINVAL))),
    _asks(18, "process_mrelease", "", "seccomp", asks("process_mrelease", -1, 0, after=(EBADF,))),
    _asks(19, "fanotify_init", "", "seccomp, then no capability",
          asks("fanotify_init", 0x200 | 1, 0, close=True)),
    _asks(20, "fanotify_mark", "", "seccomp",
          asks("fanotify_mark", -1, 1, 2, -100, b"/", after=(EBADF,))),
    _asks(21, "quotactl", "", "seccomp", asks("quotactl", 0x800004 << 8, NONE, 0, buffer(64),
                                              after=(ENOENT, ENOTBLK))),
    _asks(22, "quotactl_fd", "", "seccomp", asks("quotactl_fd", -1, 0x800004 << 8, 0, None,
                                                 after=(EBADF,))),
    _asks(23, "sysfs", "", "seccomp", asks("sysfs", 3), arch="x86_64"),
    _asks(24, "ustat", "", "seccomp", asks("ustat", 0, buffer(64), after=(EINVAL,)), arch="x86_64"),
    _asks(25, "init_module", "T1547.006", "seccomp, then no capability",
          asks("init_module", None, 0, b"", after=(EFAULT, ENOEXEC)), HOST),
    _asks(26, "finit_module", "T1547.006", "seccomp, then no capability",
          asks("finit_module", -1, b"", 0, after=(EBADF,)), HOST),
    _asks(27, "delete_module", "T1547.006", "seccomp, then no capability",
          asks("delete_module", b"mrunc_none", os.O_NONBLOCK, after=(ENOENT,)), HOST),
    _asks(28, "kexec_load", "", "seccomp, then no capability",
          asks("kexec_load", 0, 0, None, 0x0f00, after=(EINVAL,)), HOST),
    _asks(29, "kexec_file_load", "", "seccomp, then no capability",
          asks("kexec_file_load", -1, -1, 0, None, 0x0f00, after=(EINVAL, EBADF)), HOST),
    _asks(30, "reboot", "T1529", "seccomp, then no capability",
          asks("reboot", 0, 0, 0, None, after=(EINVAL,)), HOST),
    _asks(31, "swapon", "", "seccomp, then no capability",
          asks("swapon", NONE, 0, after=(ENOENT,)), HOST),
    _asks(32, "swapoff", "", "seccomp, then no capability", asks("swapoff", NONE, after=(ENOENT,)),
          HOST),
    _asks(33, "acct", "", "seccomp, then no capability", asks("acct", NONE, after=(ENOENT,)), HOST),
    _asks(34, "settimeofday", "", "seccomp, then no capability", asks("settimeofday", None, None),
          HOST),
    _asks(35, "adjtimex", "", "seccomp", asks("adjtimex", buffer(256))),
    _asks(36, "clock_adjtime", "", "seccomp", asks("clock_adjtime", 0, buffer(256))),
    _asks(37, "syslog", "T1082", "seccomp, then no capability", asks("syslog", 10, None, 0)),
    _asks(38, "move_pages", "", "seccomp", asks("move_pages", 0, 0, None, None, None, 0)),
    _asks(39, "migrate_pages", "", "seccomp", asks("migrate_pages", 0, 64, NODE0, NODE0)),
    _asks(40, "mbind", "", "seccomp", asks("mbind", 0, 0, 0, None, 0, 0)),
    _asks(41, "set_mempolicy", "", "seccomp", asks("set_mempolicy", 0, None, 0)),
    _asks(42, "get_mempolicy", "", "seccomp", asks("get_mempolicy", None, None, 0, None, 0)),
    _asks(43, "memfd_secret", "", "seccomp", asks("memfd_secret", 0, close=True)),
    _asks(44, "remap_file_pages", "", "seccomp",
          asks("remap_file_pages", 0, 0, 0, 0, 0, after=(EINVAL,))),
    _asks(45, "real-time scheduling", "T1499", "no capability",
          asks("sched_setscheduler", 0, 1, buffer(struct.pack("=i", 1), 4)), HOST),
    _asks(46, "a higher priority", "T1499", "no capability", asks("setpriority", 0, 0, -5), HOST),
    _asks(47, "real-time I/O", "T1499", "no capability", asks("ioprio_set", 1, 0, 1 << 13), HOST),
    _asks(48, "a higher hard limit", "T1499", "no capability",
          asks("prlimit64", 0, 6, buffer(struct.pack("=QQ", 1 << 20, 1 << 20), 16), None), HOST),
    _asks(49, "statmount", "", "seccomp", mount_id("statmount")),
    _asks(50, "listmount", "", "seccomp", mount_id("listmount")),
    _asks(51, "lsm_list_modules", "", "seccomp",
          asks("lsm_list_modules", buffer(64), buffer(struct.pack("=I", 64), 4), 0)),
    _asks(52, "lsm_get_self_attr", "", "seccomp",
          asks("lsm_get_self_attr", 100, None, buffer(struct.pack("=I", 0), 4), 0,
               after=(EOPNOTSUPP, errno.E2BIG, EINVAL))),
    _asks(53, "lsm_set_self_attr", "", "seccomp",
          asks("lsm_set_self_attr", 0, None, 0, 0, after=(EOPNOTSUPP, EINVAL, EFAULT))),
    _asks(54, "open_tree_attr", "", "seccomp, then no capability",
          asks("open_tree_attr", -100, b"/", 1 | os.O_CLOEXEC | 0x8000, None, 0, close=True)),
    _asks(55, "set_mempolicy_home_node", "", "seccomp",
          asks("set_mempolicy_home_node", 0, 0, 0, 0, after=(EINVAL, ENOENT))),
    _asks(56, "the memory map of the own process is replaced (PR_SET_MM)", "", "no capability",
          asks("prctl", 35, 1, 0, 0, 0, after=(EINVAL,))),
    _asks(57, "lookup_dcookie", "", "seccomp, then no capability",
          asks("lookup_dcookie", 0, buffer(64), 64, after=(EINVAL,))),
    _asks(58, "file_getattr", "", "seccomp", asks("file_getattr", -100, b"/", buffer(64), 24, 0,
                                                  after=(EOPNOTSUPP,))),
    _asks(59, "file_setattr", "", "seccomp", asks("file_setattr", -100, NONE, buffer(64), 24, 0,
                                                  after=(ENOENT, EINVAL))),
    _asks(60, "a POSIX message queue (mq_open)", "", "seccomp, then Landlock", own_queue),
)
