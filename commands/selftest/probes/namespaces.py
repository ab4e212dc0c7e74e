# SPDX-License-Identifier: Apache-2.0
"""Tries to make and join namespaces, and looks for those of the host."""
import errno
import os
import struct

from ..attempt import Unsuitable, asks, blocked, buffer, call, invisible, reached, wide
from ..probe import HOST, INFO, KERNEL, Probe

GROUP = "namespaces"
NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000
SIGCHLD = 17
FLAGS = {"user": NEWUSER, "mnt": NEWNS, "pid": NEWPID, "uts": NEWUTS, "ipc": NEWIPC, "net": NEWNET,
         "cgroup": NEWCGROUP,
         "time": NEWTIME}
#: Inode numbers of a kernel's first namespaces (include/uapi/linux/nsfs.h, earlier proc_ns.h).
FIRST = {"ipc": 0xEFFFFFFF, "uts": 0xEFFFFFFE, "user": 0xEFFFFFFD, "pid": 0xEFFFFFFC,
         "cgroup": 0xEFFFFFFB, "time": 0xEFFFFFFA}
NS_GET_USERNS, NS_GET_PARENT = 0xb701, 0xb702


def forks(what, *arguments):
    """Returns an action that makes a process, which exits at once."""
    def action(facts):
        pid = call(what, *arguments)
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        return reached("made process %d" % pid)
    return action


def clone3(flags):
    """Returns an action that calls clone3 with namespace flags."""
    def action(facts):
        arguments = buffer(struct.pack("=11Q", flags, 0, 0, 0, SIGCHLD, *[0] * 6), 88)
        return forks("clone3", arguments, 88)(facts)
    return action


def same(name):
    """Returns an action that looks whether a namespace is the host's."""
    def action(facts):
        path = "/proc/self/ns/" + name
        try:
            number = int(os.readlink(path).partition("[")[2].rstrip("]"))
        except FileNotFoundError:
            return invisible("%s: not there" % path)
        known = facts.get("ns", {}).get(name, FIRST.get(name))
        if known is None:
            raise Unsuitable("the host's number is not known")
        if number == known:
            return reached("%s is the host's" % path)
        return blocked("another one than the host's")
    return action


def joins_init(facts):
    """Tries to join each namespace of pid 1."""
    done, refused = [], None
    for name, flag in sorted(FLAGS.items()):
        if name in ("user", "time"):  # joining the own one is always an error
            continue
        try:
            fd = os.open("/proc/1/ns/" + name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            refused = error
            continue
        try:
            call("setns", fd, flag)
            done.append(name)
        except OSError as error:
            refused = error
        os.close(fd)
    if done:
        return reached("joined %s of pid 1" % ", ".join(done))
    if refused.errno == errno.ENOENT:
        return invisible("/proc/1/ns is not there")
    raise refused


def joins(name):
    """Returns an action that calls setns with an own namespace, which needs the same capability."""
    def action(facts):
        fd = os.open("/proc/self/ns/" + name, os.O_RDONLY | os.O_CLOEXEC)
        call("setns", fd, FLAGS[name])
        return reached("setns is allowed")
    return action


def joins_by_pidfd(facts):
    """Tries setns with a pidfd of pid 1."""
    fd = call("pidfd_open", 1, 0)
    call("setns", fd, NEWUTS | NEWNET | NEWIPC)
    return reached("joined pid 1's namespaces")


def climbs(facts):
    """Tries to get the user namespace that owns a namespace."""
    found = []
    for name in ("mnt", "net", "pid", "uts", "ipc"):
        fd = os.open("/proc/self/ns/" + name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.close(call("ioctl", fd, NS_GET_USERNS, 0))
            found.append(name)
        except OSError as error:
            last = error
        os.close(fd)
    if found:
        return reached("a descriptor of the owner of %s" % ", ".join(found))
    raise last


def _unshares(number, name, title):
    return Probe("N%02d" % number, title, KERNEL, "T1611", "seccomp, then no capability (user: the "
                 "namespace's limit)", asks("unshare", FLAGS[name]))


PROBES = (
    _unshares(1, "user", "unshare makes a user namespace"),
    _unshares(2, "mnt", "unshare makes a mount namespace"),
    _unshares(3, "pid", "unshare makes a pid namespace"),
    _unshares(4, "net", "unshare makes a network namespace"),
    _unshares(5, "uts", "unshare makes a uts namespace"),
    _unshares(6, "ipc", "unshare makes an ipc namespace"),
    _unshares(7, "cgroup", "unshare makes a cgroup namespace"),
    _unshares(8, "time", "unshare makes a time namespace"),
    Probe("N10", "clone makes a user namespace", KERNEL, "T1611",
          "seccomp, then the namespace's limit", forks("clone", NEWUSER | SIGCHLD, 0, 0, 0, 0)),
    Probe("N11", "clone makes a mount namespace", KERNEL, "T1611", "seccomp, then no capability",
          forks("clone", NEWNS | SIGCHLD, 0, 0, 0, 0)),
    Probe("N12", "clone makes a network namespace", KERNEL, "T1611", "seccomp, then no capability",
          forks("clone", NEWNET | SIGCHLD, 0, 0, 0, 0)),
    Probe("N13", "clone3 makes a user namespace, its flags behind a pointer", KERNEL, "T1611",
          "seccomp (the whole call), then the namespace's limit", clone3(NEWUSER)),
    Probe("N14", "clone3 makes a mount namespace", KERNEL, "T1611", "seccomp (the whole call), "
          "then no capability", clone3(NEWNS)),
    Probe("N15", "clone with bits above the 32nd makes a user namespace", KERNEL, "T1611",
          "seccomp (low 32 bits compared)", forks("clone", wide(NEWUSER | SIGCHLD), 0, 0, 0, 0)),
    Probe("N20", "setns joins the namespaces of pid 1", HOST, "T1611", "seccomp, then pid 1 is not "
          "visible", joins_init),
    Probe("N21", "setns joins pid 1's by a pidfd", HOST, "T1611", "seccomp, then no capability",
          joins_by_pidfd),
    Probe("N22", "setns into a mount namespace", KERNEL, "T1611", "seccomp, then no capability",
          joins("mnt")),
    Probe("N23", "setns into a network namespace", KERNEL, "T1611", "seccomp, then no capability",
          joins("net")),
    Probe("N24", "setns into a uts namespace", KERNEL, "T1611", "seccomp, then no capability",
          joins("uts")),
    Probe("N25", "setns into an ipc namespace", KERNEL, "T1611", "seccomp, then no capability",
          joins("ipc")),
    Probe("N30", "the host's user namespace", KERNEL, "T1611", "own user namespace", same("user")),
    Probe("N31", "the host's mount namespace", KERNEL, "T1611", "own mount namespace", same("mnt"),
          needs=("ns",)),
    Probe("N32", "the host's pid namespace", KERNEL, "T1611", "own pid namespace", same("pid")),
    Probe("N33", "the host's network namespace", KERNEL, "T1611", "own network namespace, then "
          "seccomp", same("net"), needs=("ns",)),
    Probe("N34", "the host's ipc namespace", KERNEL, "T1611", "own ipc namespace", same("ipc")),
    Probe("N35", "the host's uts namespace", KERNEL, "", "own uts namespace", same("uts")),
    Probe("N36", "the host's cgroup namespace", KERNEL, "", "own cgroup namespace", same("cgroup")),
    Probe("N37", "the host's time namespace", INFO, "", "own time namespace", same("time")),
    Probe("N40", "sethostname", KERNEL, "", "no capability, then the own uts namespace",
          asks("sethostname", b"x", -1, after=(errno.EINVAL,))),
    Probe("N41", "setdomainname", KERNEL, "", "no capability, then the own uts namespace",
          asks("setdomainname", b"x", -1, after=(errno.EINVAL,))),
    Probe("N42", "from a namespace to the user namespace that owns it", KERNEL, "T1611",
          "second user namespace, kernel", climbs),
)
