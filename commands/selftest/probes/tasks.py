# SPDX-License-Identifier: Apache-2.0
"""Probes: the processor, the limits and the memory of others: pid 1, the group, the user, the host.

A program that starves pid 1 outlives its deadline.  Each call sets what is set already, so it does
nothing where it is allowed.
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
    """A struct flock.  fcntl(2)"""
    return buffer(struct.pack("=hhxxxxqqixxxx", kind, 0, start, length, 0), 32)


def policy_of(pid):
    """The scheduling class of a process; the usual one where it can't be asked for."""
    try:
        return call("sched_getscheduler", pid)
    except OSError:
        return 0


def group_of_init():
    """The process group of pid 1 as this namespace numbers it; 0, the own one, without a number."""
    try:
        return call("getpgid", 1)
    except OSError:
        return 1


def scheduler(pid):
    """A deed: sched_setscheduler with the class that there is."""
    return lambda facts: asks("sched_setscheduler", pid, policy_of(1), buffer(4))(facts)


def affinity(facts):
    """sched_setaffinity of pid 1 with the processors that it has."""
    mask = buffer(128)
    size = call("sched_getaffinity", 1, 128, mask)
    call("sched_setaffinity", 1, size, mask)
    return reached("the processors of pid 1 were set")


def nice(which, who):
    """A deed: setpriority with the priority that there is.  who: function() -> number."""
    def deed(facts):
        try:
            now = 20 - call("getpriority", which, who())
        except OSError:
            now = 0
        return asks("setpriority", which, who(), now)(facts)
    return deed


def ioprio(which, who):
    """A deed: ioprio_set of the default."""
    return lambda facts: asks("ioprio_set", which, who(), 0)(facts)


def shares_core(facts):
    """The own core scheduling cookie, none, given to pid 1."""
    return asks("prctl", PR_SCHED_CORE, SHARE_TO, 1, 0, 0, after=(errno.ENODEV,))(facts)


def merges(facts):
    """All memory of this process given to the kernel's search for equal pages."""
    call("prctl", PR_SET_MEMORY_MERGE, 1, 0, 0, 0)
    call("prctl", PR_SET_MEMORY_MERGE, 0, 0, 0, 0)
    return reached("equal pages are merged with those of others")


def merges_page(facts):
    """One page given to it."""
    address = call("mmap", 0, 4096, 3, 0x22, -1, 0)
    call("madvise", address, 4096, MADV_MERGEABLE)
    call("madvise", address, 4096, MADV_UNMERGEABLE)
    return reached("a page is merged with an equal one of others")


def core_limit(name, *first):
    """A deed: the limit of core dumps changed; the value decides, not what the call answers.

    name, first: the call, and its arguments in front of the new value; None is the own pid.
    """
    def deed(facts):
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
    return deed


def dies_first(facts):
    """Whether the kernel, short of memory, ends this process before the host's."""
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
    """A deed: record locks that don't touch each other, which the kernel keeps one by one."""
    def deed(facts):
        fd = os.open((facts["scratch"] or "/tmp") + "/locks-%d" % os.getpid(),
                     os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for count in range(LOCKS):
            call("fcntl", fd, command, lock(F_WRLCK, 2 * count, 1))
        return reached("%d locks, memory that no limit counts" % LOCKS)
    return deed


def _one():
    return 1


def _self():
    return 0


def _init(number, title, deed, layers=BY_PID, danger=HOST, bare=True):
    return Probe("T%02d" % number, title, danger, "T1499", layers, deed, bare=bare)


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
