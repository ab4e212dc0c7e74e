# SPDX-License-Identifier: Apache-2.0
"""Tries the scheduling, limits and memory of pid 1, the group, the user and the host.

A program that starves pid 1 outlives its deadline. Each call sets the present value, so it has no
effect if it is allowed.
"""
import errno
import os
import resource
import struct

from ..attempt import asks, blocked, buffer, call, invisible, reached, wide
from ..probe import HOST, KERNEL, Probe

GROUP = "tasks"
BY_PID = "the filter (pid 1 refused)"
BY_KIND = "the filter (forms by group and user refused)"
PROCESS, PGRP, USER = 0, 1, 2
IOPRIO_PROCESS, IOPRIO_PGRP, IOPRIO_USER = 1, 2, 3
RLIMIT_CORE, PR_SCHED_CORE, SHARE_TO = 4, 62, 2
PR_SET_MEMORY_MERGE, MADV_MERGEABLE, MADV_UNMERGEABLE = 67, 12, 13
F_SETLK, F_OFD_SETLK, F_RDLCK, F_WRLCK = 6, 37, 0, 1
KEEP_ALL = 0x18  # SCHED_FLAG_KEEP_POLICY | SCHED_FLAG_KEEP_PARAMS
#: A struct sched_attr that changes nothing.
KEPT = buffer(struct.pack("=IIQiIQQQ", 48, 0, KEEP_ALL, 0, 0, 0, 0, 0), 48)
LOCKS = 256


def lock(kind, start=0, length=0):
    """Returns a struct flock of fcntl(2)."""
    return buffer(struct.pack("=hhxxxxqqixxxx", kind, 0, start, length, 0), 32)


def policy_of(pid):
    """Returns the scheduling class of a process; 0 if it can't be asked for."""
    try:
        return call("sched_getscheduler", pid)
    except OSError:
        return 0


def group_of_init():
    """Returns the process group of pid 1, 0 (the own one) if it has no number here."""
    try:
        return call("getpgid", 1)
    except OSError:
        return 1


def scheduler(pid):
    """Returns an action that calls sched_setscheduler with the present class."""
    return lambda facts: asks("sched_setscheduler", pid, policy_of(1), buffer(4))(facts)


def affinity(facts):
    """Sets the present processors of pid 1."""
    mask = buffer(128)
    size = call("sched_getaffinity", 1, 128, mask)
    call("sched_setaffinity", 1, size, mask)
    return reached("the processors of pid 1 were set")


def nice(which, who):
    """Returns an action that sets the present priority. who: function that returns a number."""
    def action(facts):
        try:
            now = 20 - call("getpriority", which, who())
        except OSError:
            now = 0
        return asks("setpriority", which, who(), now)(facts)
    return action


def ioprio(which, who):
    """Returns an action that sets the default I/O priority."""
    return lambda facts: asks("ioprio_set", which, who(), 0)(facts)


def shares_core(facts):
    """Gives the own core scheduling cookie, none, to pid 1."""
    return asks("prctl", PR_SCHED_CORE, SHARE_TO, 1, 0, 0, after=(errno.ENODEV,))(facts)


def merges(facts):
    """Offers all memory of this process for merging with equal pages."""
    call("prctl", PR_SET_MEMORY_MERGE, 1, 0, 0, 0)
    call("prctl", PR_SET_MEMORY_MERGE, 0, 0, 0, 0)
    return reached("equal pages are merged with those of others")


def merges_page(facts):
    """Offers one page for merging."""
    address = call("mmap", 0, 4096, 3, 0x22, -1, 0)
    call("madvise", address, 4096, MADV_MERGEABLE)
    call("madvise", address, 4096, MADV_UNMERGEABLE)
    return reached("a page is merged with an equal one of others")


def core_limit(name, *first):
    """Returns an action that changes the limit of core dumps; its value decides.

    name: of the call

    first: its arguments before the new value; None is the own pid
    """
    def action(facts):
        before = soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
        new = (0 if soft else hard or 4096, hard or 4096)
        wanted = buffer(struct.pack("=2Q", *[value & (1 << 64) - 1 for value in new]), 16)
        said = None
        try:
            call(name, *[os.getpid() if word is None else word for word in first] + [wanted, None])
        except OSError as error:
            said = error.errno
        after = resource.getrlimit(resource.RLIMIT_CORE)
        if after != before:
            return reached("the limit was %d:%d and is %d:%d" % (before + after))
        return blocked("the limit is %d:%d as before" % before, said)
    return action


def dies_first(facts):
    """Looks whether the kernel, short of memory, kills this process before the host's."""
    try:
        with open("/proc/self/oom_score_adj", encoding="ascii") as stream:
            score = int(stream.read())
    except OSError as error:
        if error.errno == errno.ENOENT:
            return invisible("/proc/self/oom_score_adj is not there")
        raise
    if score < 1000:
        return reached("oom_score_adj is %d: others are ended first" % score)
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as stream:
        stream.write("0")
    return reached("oom_score_adj was lowered to 0")


def record_locks(command):
    """Returns an action that takes record locks, which the kernel stores one by one."""
    def action(facts):
        fd = os.open((facts["scratch"] or "/tmp") + "/locks-%d" % os.getpid(),
                     os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for count in range(LOCKS):
            call("fcntl", fd, command, lock(F_WRLCK, 2 * count, 1))
        return reached("%d locks, memory that no limit counts" % LOCKS)
    return action


def _one():
    return 1


def _self():
    return 0


def _init(number, title, action, layers=BY_PID, danger=HOST, bare=True):
    return Probe("T%02d" % number, title, danger, "T1499", layers, action, bare=bare)


PROBES = (
    _init(1, "the scheduling class of pid 1 (sched_setscheduler)", scheduler(1)),
    _init(2, "the same with bit 32 set", scheduler(wide(1)), "the filter (low 32 bits compared)"),
    _init(3, "the scheduling of pid 1 (sched_setattr)", asks("sched_setattr", 1, KEPT, 0)),
    _init(4, "the scheduling of pid 1 (sched_setparam)", asks("sched_setparam", 1, buffer(4))),
    _init(5, "the processors of pid 1 (sched_setaffinity)", affinity),
    _init(6, "the priority of pid 1", nice(PROCESS, _one)),
    _init(7, "the priority of pid 1's group", nice(PGRP, group_of_init), BY_KIND),
    _init(8, "the priority of all that the user runs", nice(USER, _self), BY_KIND, bare=False),
    _init(9, "the I/O priority of pid 1", ioprio(IOPRIO_PROCESS, _one), bare=False),
    _init(10, "the I/O priority of pid 1's group", ioprio(IOPRIO_PGRP, group_of_init), BY_KIND,
          bare=False),
    _init(11, "the I/O priority of all that the user runs", ioprio(IOPRIO_USER, _self), BY_KIND,
          bare=False),
    _init(12, "a core shared with pid 1 (PR_SCHED_CORE)", shares_core, "the filter", KERNEL),
    _init(20, "the limit of core dumps changes (setrlimit)",
          core_limit("setrlimit", RLIMIT_CORE), "the filter"),
    _init(21, "the limit of core dumps changes (prlimit64)",
          core_limit("prlimit64", 0, RLIMIT_CORE), "the filter"),
    _init(22, "the limit of core dumps changes (prlimit64 with the own pid)",
          core_limit("prlimit64", None, RLIMIT_CORE), "the filter"),
    _init(23, "the kernel, short of memory, ends others first", dies_first,
          "oom_score_adj 1000, Landlock"),
    _init(24, "equal memory merged with others' (PR_SET_MEMORY_MERGE)", merges, "the filter",
          KERNEL),
    _init(25, "an equal page merged with others' (MADV_MERGEABLE)", merges_page, "the filter",
          KERNEL),
    _init(26, "kernel memory in record locks (F_SETLK)", record_locks(F_SETLK), "strict", KERNEL),
    _init(27, "kernel memory in record locks (F_OFD_SETLK)", record_locks(F_OFD_SETLK), "strict",
          KERNEL),
)
