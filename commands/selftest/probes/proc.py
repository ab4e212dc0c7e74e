# SPDX-License-Identifier: Apache-2.0
"""Tries to write below /proc, and looks for other processes there."""
import errno
import mmap
import os

from ..attempt import Unsuitable, blocked, call, invisible, opens, reached
from ..probe import HOST, INFO, KERNEL, Probe

GROUP = "proc"
WRITE, READ = os.O_WRONLY, os.O_RDONLY


def _switch(number, name, danger=HOST, reference="T1611"):
    return Probe("P%02d" % number, "/proc/%s opens for writing" % name, danger, reference,
                 "not there (subset=pid), then Landlock, another owner",
                 opens(WRITE, "/proc/" + name))


def pids():
    """Returns the pids that /proc shows, and those that may exist but are hidden."""
    return sorted(set([1, os.getppid()] + [int(name) for name in os.listdir("/proc")
                                           if name.isdigit()]) - {0})


def executable(facts):
    """Tries to open /proc/self/exe for writing.

    A running file answers ETXTBSY before EROFS, so the mount is examined.
    """
    try:
        os.close(os.open("/proc/self/exe", WRITE | os.O_CLOEXEC))
    except OSError as error:
        if error.errno != errno.ETXTBSY:
            raise
        path = os.readlink("/proc/self/exe")
        if os.statvfs("/proc/self/exe").f_flag & os.ST_RDONLY or \
                not os.access("/proc/self/exe", os.W_OK):
            return blocked("%s lies on a read-only mount" % path)
    return reached("the interpreter can be overwritten")


def own_memory(facts):
    """Writes a read-only page through /proc/self/mem."""
    address = call("mmap", 0, 4096, mmap.PROT_READ, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    fd = os.open("/proc/self/mem", os.O_RDWR | os.O_CLOEXEC)
    os.lseek(fd, address, os.SEEK_SET)
    os.write(fd, b"y")
    os.lseek(fd, address, os.SEEK_SET)
    if os.read(fd, 1) == b"y":
        return reached("a read-only page was written")
    return blocked("it did not change")


def links(name):
    """Returns an action that looks for a process whose root or directory lies outside."""
    def action(facts):
        own, seen = os.stat("/"), 0
        for pid in pids():
            path = "/proc/%d/%s" % (pid, name)
            try:
                found = os.stat(path)
                target = os.readlink(path)
            except OSError:
                continue
            seen += 1
            if name == "root" and (found.st_dev, found.st_ino) != (own.st_dev, own.st_ino):
                return reached("%s is another root" % path)
            if name == "cwd" and (target.startswith("(unreachable)") or _outside(path)):
                return reached("%s lies outside the own root" % path)
        if seen:
            return blocked("%d processes, all in the own root" % seen)
        return invisible("no process to be seen")
    return action


def _outside(path):
    """Returns whether `..` from a directory ends elsewhere than at the own root."""
    root = os.stat("/")
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY)
    try:
        for _ in range(64):
            above = os.open("..", os.O_PATH | os.O_DIRECTORY, dir_fd=fd)
            one, two = os.fstat(fd), os.fstat(above)
            os.close(fd)
            fd = above
            if (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino):
                return (one.st_dev, one.st_ino) != (root.st_dev, root.st_ino)
    except OSError:
        return False
    finally:
        os.close(fd)
    return False


def strangers(facts):
    """Looks for a process that is not an ancestor or a child."""
    own, family = set(), {os.getpid(): os.getppid()}
    for pid in pids():
        try:
            with open("/proc/%d/stat" % pid, errors="replace") as stream:
                family[pid] = int(stream.read().rpartition(")")[2].split()[1])
        except OSError:
            pass
    pid = os.getpid()
    while pid and pid not in own:
        own.add(pid)
        pid = family.get(pid, 0)
    others = [pid for pid in family if pid not in own and family[pid] not in own]
    if others:
        return reached("pid %d is a stranger, one of %d" % (others[0], len(others)))
    return blocked("only the own family")


def more_rights(facts):
    """Opens a file of the host for reading, then again by /proc/self/fd for writing."""
    for path in (os.__file__, "/usr/lib/os-release", "/etc/passwd"):
        if os.path.exists(path):
            fd = os.open(path, READ | os.O_CLOEXEC)
            os.close(os.open("/proc/self/fd/%d" % fd, WRITE | os.O_CLOEXEC))
            return reached("%s opens for writing" % path)
    raise Unsuitable("no file of the host")


def of_init(name, flags=READ):
    """Returns an action: a file of pid 1 where pid 1 is somebody else's."""
    return opens(flags, "/proc/1/" + name)


def _reader(number, name, text):
    return Probe("P%02d" % number, text, INFO, "T1082", "not there (subset=pid), then "
                 "another owner", opens(READ, "/proc/" + name))


PROBES = (
    _switch(1, "sys/kernel/core_pattern"),
    _switch(2, "sys/kernel/modprobe"),
    _switch(3, "sys/kernel/poweroff_cmd"),
    _switch(4, "sys/kernel/randomize_va_space"),
    _switch(5, "sysrq-trigger", reference="T1529"),
    _switch(6, "sys/kernel/sysrq"),
    _switch(7, "sys/vm/overcommit_memory"),
    _switch(8, "sys/vm/drop_caches"),
    _switch(9, "sys/fs/binfmt_misc/register"),
    _switch(10, "sys/fs/protected_symlinks"),
    _switch(11, "sys/fs/suid_dumpable"),
    _switch(12, "sys/user/max_user_namespaces"),
    _switch(13, "sys/net/ipv4/ip_forward"),
    _switch(14, "sys/kernel/printk"),
    _switch(15, "irq/default_smp_affinity"),
    _switch(16, "mtrr"),
    _switch(17, "sys/kernel/unprivileged_bpf_disabled"),
    Probe("P20", "the running interpreter opens for writing (/proc/self/exe)", HOST,
          "CVE-2019-5736", "read-only mount, Landlock",
          executable),
    Probe("P21", "the memory of pid 1 opens", HOST, "T1055.009", "pid 1 is not visible",
          of_init("mem", os.O_RDWR)),
    Probe("P22", "write past a page's protection through /proc/self/mem", KERNEL, "CVE-2016-5195",
          "Landlock (no writing below /proc)",
          own_memory),
    Probe("P23", "/proc/PID/root leads elsewhere", HOST, "T1611", "own pid namespace, hidepid",
          links("root")),
    Probe("P24", "/proc/PID/cwd leads elsewhere", HOST, "CVE-2024-21626",
          "own pid namespace, hidepid", links("cwd")),
    Probe("P25", "processes of others", INFO, "T1057", "own pid namespace, hidepid", strangers),
    Probe("P26", "a read-only file opened again for writing (/proc/self/fd)", HOST, "",
          "read-only mount, then Landlock", more_rights),
    Probe("P30", "/proc/self/uid_map opens for writing", KERNEL, "", "Landlock, then not dumpable "
          "to others", opens(WRITE, "/proc/self/uid_map")),
    Probe("P32", "/proc/self/oom_score_adj opens for writing", KERNEL, "T1499", "Landlock",
          opens(WRITE, "/proc/self/oom_score_adj")),
    Probe("P33", "/proc/self/clear_refs opens for writing", KERNEL, "", "Landlock",
          opens(WRITE, "/proc/self/clear_refs")),
    Probe("P34", "/proc/self/coredump_filter opens for writing", KERNEL, "", "Landlock",
          opens(WRITE, "/proc/self/coredump_filter")),
    Probe("P40", "the environment of pid 1", INFO, "T1552", "pid 1 is not visible",
          of_init("environ")),
    Probe("P41", "the memory map of pid 1", INFO, "", "pid 1 is not visible", of_init("maps")),
    Probe("P42", "the command line of pid 1", INFO, "T1057", "pid 1 is not visible",
          of_init("cmdline")),
    Probe("P43", "the kernel stack of pid 1", INFO, "", "pid 1 is not visible, then no capability",
          opens(READ, "/proc/1/stack")),
    _reader(50, "kcore", "the kernel's memory (kcore)"),
    _reader(51, "kmsg", "the kernel's messages (/proc/kmsg)"),
    _reader(52, "keys", "everybody's keys"),
    _reader(53, "timer_list", "the kernel's timers"),
    _reader(54, "slabinfo", "the kernel's slabs"),
    _reader(55, "vmallocinfo", "the kernel's vmalloc areas"),
    _reader(56, "pagetypeinfo", "the kernel's page types"),
    _reader(57, "kpageflags", "the flags of every page"),
    _reader(58, "key-users", "everybody's key quotas"),
    _reader(59, "iomem", "the memory map of the machine"),
)
