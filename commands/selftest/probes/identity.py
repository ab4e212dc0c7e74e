# SPDX-License-Identifier: Apache-2.0
"""Tries credentials, capabilities, set-user-ID, and descriptors that were left open."""
import errno
import os
import stat
import struct
import sys
import threading

from ..attempt import asks, blocked, buffer, call, child_exits, invisible, reached
from ..probe import HOST, INFO, KERNEL, Probe

GROUP = "identity"
PR_SET_KEEPCAPS, PR_GET_SECCOMP, PR_CAPBSET_READ, PR_SET_SECUREBITS = 8, 21, 23, 28
PR_GET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 39, 47
EPERM, EINVAL = errno.EPERM, errno.EINVAL


def status(path="/proc/self/status"):
    """Returns {name: value} of a status file."""
    with open(path, encoding="utf-8", errors="replace") as stream:
        return dict(line.rstrip("\n").split(":\t", 1) for line in stream if ":\t" in line)


def capabilities():
    """Returns {effective, permitted, inheritable, bounding, ambient: mask} from the kernel.

    It asks by system calls, since /proc may not be readable.
    """
    sets = buffer(24)
    call("capget", buffer(struct.pack("=Ii", 0x20080522, 0), 8), sets)
    low = struct.unpack("=6I", sets.raw)
    out = dict((name, low[i] | low[i + 3] << 32)
               for i, name in enumerate(("effective", "permitted", "inheritable")))
    for name, words in (("bounding", (PR_CAPBSET_READ,)), ("ambient", (PR_CAP_AMBIENT, 1))):
        out[name] = 0
        for number in range(64):
            try:
                out[name] |= call("prctl", *(words + (number, 0, 0, 0))[:5]) << number
            except OSError:
                break
    return out


def holds(name):
    """Returns an action that looks for a capability set that is not empty."""
    def action(facts):
        mask = capabilities()[name]
        return reached("%s: %x" % (name, mask)) if mask else blocked("the %s set is empty" % name)
    return action


def lacks(option, value, name):
    """Returns an action that compares a value in this and a new thread with what must be set.

    The value is asked of prctl and read in /proc/PID/status.
    """
    def action(facts):
        seen = []

        def look():
            try:
                seen.append(call("prctl", option, 0, 0, 0, 0))
            except OSError as error:
                seen.append(-error.errno)
        look()
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        try:
            own = [int(status("/proc/self/task/%s/status" % task)[name])
                   for task in os.listdir("/proc/self/task")]
        except OSError:
            own = []
        others = set(seen + own) - {value}
        if others:
            return reached("%s is %s" % (name, others.pop()))
        return blocked("%s is %d in each thread" % (name, value))
    return action


def wins_back(facts):
    """Tries capset of every capability."""
    header = buffer(struct.pack("=Ii", 0x20080522, 0), 8)
    before = capabilities()["permitted"] or (1 << 41) - 1
    low, high = before & 0xffffffff, before >> 32
    call("capset", header, buffer(struct.pack("=6I", low, low, low, high, high, high), 24))
    return reached("every capability was set")


def wins_back_by_exec(facts):
    """Tries to get capabilities as uid 0 by exec."""
    code = ("import ctypes, os, struct; sets = ctypes.create_string_buffer(24); "
            "ctypes.CDLL(None).capget(struct.pack('=Ii', 0x20080522, 0), sets); os.write(%d, "
            "sets.raw)")

    def action(write):
        os.set_inheritable(write, True)
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", code % write])
    _, data = child_exits(action)
    mask = struct.unpack("=6I", data)[0]
    if mask:
        return reached("%x are effective after exec" % mask)
    return blocked("still none after exec")


def raises_ambient(facts):
    """Tries to raise CAP_NET_RAW in the ambient set, made inheritable first if possible."""
    header, sets = buffer(struct.pack("=Ii", 0x20080522, 0), 8), buffer(24)
    call("capget", header, sets)
    low, permitted, _, high, more, _ = struct.unpack("=6I", sets.raw)
    try:
        call("capset", header,
             buffer(struct.pack("=6I", low, permitted, permitted, high, more, more), 24))
    except OSError:
        pass
    call("prctl", PR_CAP_AMBIENT, 2, 13, 0, 0)
    return reached("an ambient capability")


def gains_by_setid(facts):
    """Looks for a set-user-ID program of another owner that has an effect."""
    if call("prctl", PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0):
        return blocked("no_new_privs")
    for name in ("su", "passwd", "mount", "newgrp", "chsh", "gpasswd", "sudo", "pkexec"):
        try:
            found = os.stat("/usr/bin/" + name)
            counts = not os.statvfs("/usr/bin/" + name).f_flag & os.ST_NOSUID
        except OSError:
            continue
        if found.st_mode & stat.S_ISUID and counts:
            return reached("/usr/bin/%s runs as uid %d" % (name, found.st_uid))
    return blocked("no set-uid program counts")


def other_groups(facts):
    """Looks for supplementary groups, whose numbers the user namespace hides."""
    groups = [group for group in os.getgroups() if group != os.getegid()]
    return reached("%d supplementary groups" % len(groups)) if groups else blocked("none")


def owns_usr(facts):
    """Looks whether the host's files belong to this process's user."""
    if os.stat("/usr").st_uid == os.geteuid():
        return reached("/usr belongs to us")
    return blocked("/usr belongs to somebody else")


def host_uid(facts):
    """Looks for the id outside in the map."""
    with open("/proc/self/uid_map") as stream:
        rows = [tuple(int(word) for word in line.split()) for line in stream]
    if rows == [(0, 0, 4294967295)]:
        return reached("the host's own ids")
    outside = [row[1] for row in rows if row[1] != 0]
    if outside:
        return reached("uid %d outside" % outside[0])
    return blocked("the map shows only the outer sandbox's ids")


def left_open(test, what):
    """Returns an action that looks for descriptors that the program was started with."""
    def action(facts):
        found = [fd for fd, mode, device, inode in facts["descriptors"] if test(fd, mode)]
        return reached("descriptor %d: %s" % (found[0], what)) if found else blocked("none")
    return action


def leads_out(facts):
    """Follows directories among the descriptors upwards to another root."""
    root = os.stat("/")
    for fd, mode, _, _ in facts["descriptors"]:
        if not stat.S_ISDIR(mode):
            continue
        place = os.open("../" * 64 or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
        found = os.fstat(place)
        if (found.st_dev, found.st_ino) != (root.st_dev, root.st_ino):
            return reached("descriptor %d leads to another root" % fd)
        return reached("descriptor %d is a directory" % fd)
    return blocked("no directory among them")


def outside_cwd(facts):
    """Looks whether the current directory lies outside the own root."""
    if facts["cwd"].startswith("(unreachable)"):
        return reached(facts["cwd"])
    root = os.stat("/")
    above = os.stat("/proc/%d/cwd/%s" % (facts["runner"], "../" * 64))
    if (root.st_dev, root.st_ino) != (above.st_dev, above.st_ino):
        return reached("%s leads out by .." % facts["cwd"])
    return blocked(facts["cwd"])


def reopens_stderr(facts):
    """Opens stderr, a log opened for appending, again and reads it."""
    fd = os.open("/proc/self/fd/2", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        text = os.read(fd, 64)
    except BlockingIOError:
        text = b""
    finally:
        os.close(fd)
    return reached("the log can be read") if text else invisible("it opens, and is empty")


PROBES = (
    Probe("C01", "effective capabilities", HOST, "T1548", "capset, then securebits, empty "
          "bounding set", holds("effective")),
    Probe("C02", "permitted capabilities", HOST, "T1548", "capset", holds("permitted")),
    Probe("C03", "inheritable capabilities", HOST, "T1548", "capset", holds("inheritable")),
    Probe("C04", "a bounding set that is not empty", KERNEL, "T1548", "dropped, then no_new_privs",
          holds("bounding")),
    Probe("C05", "ambient capabilities", HOST, "T1548", "cleared, then securebits",
          holds("ambient")),
    Probe("C06", "capset wins everything back", HOST, "T1548", "empty permitted set", wins_back),
    Probe("C07", "uid 0 wins everything back by exec", HOST, "T1548", "securebits, then empty "
          "bounding set, no_new_privs", wins_back_by_exec),
    Probe("C08", "an ambient capability is raised", HOST, "T1548", "empty permitted set, then "
          "securebits", raises_ambient),
    Probe("C09", "securebits are changed", HOST, "T1548", "no capability, then locked",
          asks("prctl", PR_SET_SECUREBITS, 0, 0, 0, 0)),
    Probe("C10", "capabilities are kept across a change of ids (PR_SET_KEEPCAPS)", KERNEL, "",
          "locked securebits", asks("prctl", PR_SET_KEEPCAPS, 1, 0, 0, 0)),
    Probe("C11", "no_new_privs is missing in a thread", HOST, "T1548.001", "set before exec",
          lacks(PR_GET_NO_NEW_PRIVS, 1, "NoNewPrivs")),
    Probe("C12", "the system call filter is missing in a thread", HOST, "T1106",
          "attached before exec", lacks(PR_GET_SECCOMP, 2, "Seccomp")),
    Probe("C13", "a set-user-ID program would give its owner's identity", HOST, "T1548.001",
          "no_new_privs, then nosuid", gains_by_setid),
    Probe("C14", "another uid", HOST, "T1548", "a map of one id, then no capability",
          asks("setresuid", 1, 1, 1)),
    Probe("C15", "another gid", HOST, "T1548", "a map of one id, then no capability",
          asks("setresgid", 4, 4, 4)),
    Probe("C16", "other groups", HOST, "T1548", "no capability",
          asks("setgroups", 1, buffer(struct.pack("=I", 4), 4))),
    Probe("C17", "supplementary groups of the caller", INFO, "", "dropped where root starts it",
          other_groups),
    Probe("C18", "the owner of the host's files", HOST, "T1611", "an unprivileged id outside",
          owns_usr),
    Probe("C19", "the id outside, from the map", INFO, "", "second user namespace", host_uid),
    Probe("F01", "a descriptor beyond 0, 1, 2", HOST, "CVE-2024-21626", "closed before exec",
          left_open(lambda fd, mode: fd > 2, "it was left open")),
    Probe("F02", "a directory among the descriptors", HOST, "CVE-2024-21626",
          "closed before exec, refused as 0, 1, 2", leads_out),
    Probe("F03", "a socket among the descriptors", HOST, "", "closed before exec",
          left_open(lambda fd, mode: fd > 2 and stat.S_ISSOCK(mode), "a socket")),
    Probe("F04", "a current directory outside the root", HOST, "CVE-2024-21626",
          "changed after pivot_root", outside_cwd),
    Probe("F05", "the descriptors of pid 1", HOST, "", "pid 1 is not visible",
          lambda facts: reached("%d of them" % len(os.listdir("/proc/1/fd")))
          if os.path.exists("/proc/1") else invisible("/proc/1 is not there")),
    Probe("F06", "the log on standard error opens again with other rights", INFO, "",
          "Landlock, then another owner", reopens_stderr, needs=("stderr_file",)),
)
