# SPDX-License-Identifier: Apache-2.0
"""What a launcher inherits from the thread that starts it, as far as it counts for a sandbox."""
import errno
import os
import resource

#: All of getrlimit(2) but the number of descriptors: a sandbox has its own, and a launcher needs those of many.
LIMITS = tuple(number for number in range(16) if number != resource.RLIMIT_NOFILE)
#: Of the calling thread.  proc_pid(5), Linux 3.17
THREAD = "/proc/thread-self"
#: What a thread sees by, and what it shares with a sandbox that has not all namespaces.  namespaces(7)
VIEW = ("ns/mnt", "ns/user")
SHARED = ("ns/net", "ns/ipc", "ns/uts", "ns/cgroup", "ns/pid_for_children", "ns/time_for_children")
#: This process, or the host, has no descriptor left.
NONE_LEFT = (errno.EMFILE, errno.ENFILE)
#: Most files of /proc that are read here are shorter.
PIECE = 4096


def surroundings(shares=False):
    """Everything about the calling thread that its children inherit and that counts for a sandbox, as a tuple that can be
    compared: `view`, `restrictions` and `scheduling`.  Raises OSError.

    A launcher that was started before one of these changed would show another file system, give its sandboxes more than this
    process has, or run them with another priority.  shares: as of `view`."""
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
    """What paths and ids mean to this thread: its root, its mount namespace and its user namespace.

    place: descriptor of the thread's directory in /proc, or -1; shares: whether a sandbox may be in the thread's other
    namespaces, too.  Raises OSError."""
    out = [_root(place)]
    for name in VIEW + SHARED if shares else VIEW:
        try:
            found = os.stat(name, dir_fd=place)
            out.append((found.st_dev, found.st_ino))
        except OSError:
            out.append(None)
    return tuple(out)


def _root(place):
    """Device and inode of the root, and by what mount it is seen: a bind of "/" has other mounts below it."""
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = os.fstat(root)
        mount = _text_of("fdinfo/%d" % root, place).partition(b"\nmnt_id:")[2].partition(b"\n")[0]  # Linux 3.15
        return found.st_dev, found.st_ino, mount
    finally:
        os.close(root)


def restrictions(place):
    """What this thread may do: ids and capabilities, filters, processors, the security module's label, control groups,
    limits.  place: as of `view`.  Raises OSError."""
    rights = _text_of("status", place).partition(b"\nCapInh:")[2].partition(b"\nvoluntary_ctxt_switches:")[0]
    # of a list: CPython to 3.11 keeps up to 2,000 of the tuples that a generator makes, and never uses one again
    return (rights, _text_of("attr/current", place), _text_of("cgroup", place),
            tuple([resource.getrlimit(number) for number in LIMITS]))


def scheduling(place):
    """Nice value, scheduling policy and priority of this thread, and whom the kernel kills first for want of memory.

    place: as of `view`.  Raises OSError."""
    try:
        policy = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    except OSError:  # musl has these calls and answers ENOSYS
        fields = _text_of("stat", place).rpartition(b")")[2].split()
        policy = tuple(fields[37:39])  # rt_priority and policy: the 40th and 41st, and two stand before the ")"
    return os.getpriority(os.PRIO_PROCESS, 0), policy, _text_of("oom_score_adj", place)


def _text_of(name, place):
    """A file below the descriptor `place`; b"" where there is none, or it can't be read."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=place)
    except OSError as error:
        if error.errno in NONE_LEFT:  # that says nothing of the file
            raise
        return b""
    try:
        text = piece = os.read(fd, PIECE)
        while len(piece) == PIECE:  # of one who is in hundreds of groups
            piece = os.read(fd, PIECE)
            text += piece
        return text
    except OSError:  # a label where there is no security module
        return b""
    finally:
        os.close(fd)
