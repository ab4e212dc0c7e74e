# SPDX-License-Identifier: Apache-2.0
"""Reads what a launcher inherits from the thread that starts it."""
import errno
import os
import resource

from ..proc import read

#: All of getrlimit(2) but the number of descriptors: a sandbox has its own, and a launcher needs
#: those of many.
LIMITS = tuple(number for number in range(16) if number != resource.RLIMIT_NOFILE)
#: Of the calling thread.  proc_pid(5), Linux 3.17
THREAD = "/proc/thread-self"
#: What a thread sees by.  namespaces(7)
VIEW = ("ns/mnt", "ns/user")
#: What it shares with a sandbox that has not all namespaces.
SHARED = ("ns/net", "ns/ipc", "ns/uts", "ns/cgroup", "ns/pid_for_children", "ns/time_for_children")
#: This process, or the host, has no descriptor left.
NONE_LEFT = (errno.EMFILE, errno.ENFILE)


def surroundings(shares=False):
    """Returns what the children of the calling thread inherit and what counts for a sandbox.

    It is a tuple that can be compared: `view`, `restrictions` and `scheduling`. A launcher that
    was started before one of these changed would show another file system, give its sandboxes
    more than this process has, or run them with another priority.

    shares: as of `view`.  Raises OSError."""
    try:
        place = os.open(THREAD, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in NONE_LEFT:
            raise
        place = -1  # without /proc there is nothing to be read
    try:
        return view(place, shares) + restrictions(place) + scheduling(place)
    finally:
        if place >= 0:
            os.close(place)


def view(place, shares=False):
    """Returns what paths and ids mean to this thread: root, mount and user namespace.

    place: descriptor of the thread's directory in /proc, or -1; shares: whether a sandbox may
    be in the thread's other namespaces, too.  Raises OSError."""
    out = [_root(place)]
    for name in VIEW + SHARED if shares else VIEW:
        try:
            found = os.stat(name, dir_fd=place)
            out.append((found.st_dev, found.st_ino))
        except OSError:
            out.append(None)
    return tuple(out)


def _root(place):
    """Returns device, inode and mount of the root: a bind of "/" has other mounts below it."""
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = os.fstat(root)
        text = _text_of("fdinfo/%d" % root, place)  # mnt_id: proc_pid_fdinfo(5), Linux 3.15
        return found.st_dev, found.st_ino, text.partition(b"\nmnt_id:")[2].partition(b"\n")[0]
    finally:
        os.close(root)


def restrictions(place):
    """Returns what this thread may do.

    That is: ids and capabilities, filters, processors, the label of a security module, control
    groups, limits.  place: as of `view`.  Raises OSError."""
    status = _text_of("status", place).partition(b"\nCapInh:")[2]
    rights = status.partition(b"\nvoluntary_ctxt_switches:")[0]
    # of a list: CPython to 3.11 keeps up to 2,000 of the tuples that a generator makes, and never
    # uses one again
    return (rights, _text_of("attr/current", place), _text_of("cgroup", place),
            tuple([resource.getrlimit(number) for number in LIMITS]))


def scheduling(place):
    """Returns nice value, scheduling policy and priority of this thread, and its oom_score_adj.

    place: as of `view`.  Raises OSError."""
    try:
        policy = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    except OSError:  # musl has these calls and answers ENOSYS
        fields = _text_of("stat", place).rpartition(b")")[2].split()
        policy = tuple(fields[37:39])  # rt_priority and policy, the fields 40 and 41
    return os.getpriority(os.PRIO_PROCESS, 0), policy, _text_of("oom_score_adj", place)


def _text_of(name, place):
    """Returns a file below the descriptor `place`, b"" where it can't be read.  Raises OSError."""
    try:
        return read(name, place)
    except OSError as error:  # a label where there is no security module, for example
        if error.errno in NONE_LEFT:  # that says nothing of the file
            raise
        return b""
