# SPDX-License-Identifier: Apache-2.0
"""Tries sockets, IPC objects, keys and signals of the host's processes.

What they look for is planted outside before the sandbox starts.
"""
import os
import socket
import stat

from ..attempt import asks, blocked, buffer, call, invisible, opens, reached
from ..probe import HOST, INFO, KERNEL, Probe

GROUP = "neighbours"
PLANTED = "own ipc namespace"


def abstract(facts):
    """Connects to an abstract socket."""
    peer = socket.socket(socket.AF_UNIX)
    peer.connect("\0" + facts["abstract"])
    return reached("connected")


def named(path):
    """Returns an action that connects to a socket with a path."""
    def action(facts):
        peer = socket.socket(socket.AF_UNIX)
        try:
            peer.connect(facts[path])
        except FileNotFoundError:
            return invisible("it has no name here")
        return reached("connected")
    return action


def listed(facts):
    """Looks for abstract names that nobody inside made."""
    try:
        with open("/proc/self/net/unix", errors="replace") as stream:
            names = [line.split()[7] for line in stream.readlines()[1:] if len(line.split()) > 7]
    except OSError:
        return invisible("/proc/self/net/unix is not there")
    return reached("%s, one of %d names" % (names[0], len(names))) if names else blocked("no name")


def services(*paths):
    """Returns an action that looks for the socket of a service that acts for its clients."""
    def action(facts):
        for path in paths:
            try:
                if stat.S_ISSOCK(os.stat(path).st_mode) and os.access(path, os.W_OK):
                    return reached(path)
            except OSError:
                pass
        return invisible("%s and the like: not there" % paths[0])
    return action


def _fact(name):
    def value(facts):
        word = facts[name]
        return word.encode() if isinstance(word, str) else word
    return value


def signals(what):
    """Returns an action that asks whether the supervisor can be signalled, without a signal."""
    def action(facts):
        pid = facts["supervisor"]
        if what == "pidfd":
            fd = call("pidfd_open", pid, 0)
            call("pidfd_send_signal", fd, 0, None, 0)
        else:
            call(*{"kill": ("kill", pid, 0), "tgkill": ("tgkill", pid, pid, 0)}[what])
        return reached("it can be signalled")
    return action


def init_signal(what):
    """Returns an action that asks whether pid 1 can be signalled."""
    def action(facts):
        if what == "kill":
            call("kill", 1, 0)
        elif what == "tgkill":
            call("tgkill", 1, 1, 0)
        elif what == "pidfd":
            call("pidfd_send_signal", call("pidfd_open", 1, 0), 0, None, 0)
        return reached("pid 1 can be signalled")
    return action


def watches(facts):
    """Tries to watch the path of a file outside."""
    fd = call("inotify_init1", os.O_CLOEXEC | os.O_NONBLOCK)
    call("inotify_add_watch", fd, facts["tmp"].encode(), 0xfff)
    return reached("the file can be watched")


def watches_programs(facts):
    """Tries to watch the host's programs, to learn what is started when."""
    fd = call("inotify_init1", os.O_CLOEXEC | os.O_NONBLOCK)
    call("inotify_add_watch", fd, b"/usr/bin", 0x20)  # IN_OPEN
    return reached("what is started in /usr/bin can be watched")


def watches_all(facts):
    """Tries the same with fanotify."""
    fd = call("fanotify_init", 0x200, os.O_RDONLY)  # FAN_CLASS_NOTIF | FAN_REPORT_FID
    call("fanotify_mark", fd, 1, 0x20, -100, b"/usr/bin")  # FAN_MARK_ADD, FAN_OPEN
    return reached("what is started in /usr/bin can be watched")


def locks_shared(facts):
    """Tries to lock a file that every sandbox sees: one bit for the others."""
    path = os.__file__ if os.__file__.startswith("/usr/") else "/usr/bin/env"
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    call("flock", fd, 2 | 4)  # LOCK_EX | LOCK_NB
    call("flock", fd, 8)
    return reached("other sandboxes see the lock")


def reads_planted(name):
    """Returns an action that reads a file which anybody on the host may read."""
    return lambda facts: opens(os.O_RDONLY, facts[name])(facts)


def _planted(number, title, needs, action, layers=PLANTED, danger=HOST):
    return Probe("I%02d" % number, title, danger, "T1611", layers, action, needs=needs)


PROBES = (
    _planted(1, "connect to an abstract socket", ("abstract",), abstract, "own network namespace, "
             "then Landlock"),
    _planted(2, "connect to a socket in /tmp", ("socket",), named("socket"), "own /tmp"),
    _planted(3, "System V shared memory", ("shm",), asks("shmget", _fact("shm"), 0, 0)),
    _planted(4, "System V semaphores", ("sem",), asks("semget", _fact("sem"), 0, 0)),
    _planted(5, "System V messages", ("msg",), asks("msgget", _fact("msg"), 0)),
    _planted(6, "a POSIX message queue", ("queue",),
             asks("mq_open", _fact("queue"), os.O_RDONLY, 0, None, close=True)),
    _planted(7, "a file in /dev/shm", ("devshm",), reads_planted("devshm"), "own /dev/shm"),
    _planted(8, "a file in /tmp", ("tmp",), reads_planted("tmp"), "own /tmp"),
    _planted(9, "a key of the user's keyring", ("key",),
             asks("keyctl", 10, -4, b"user", _fact("key"), 0), "seccomp, then the own user "
             "namespace"),
    _planted(10, "a watch on a file in /tmp", ("tmp",), watches, "own /tmp", INFO),
    _planted(11, "signal the supervisor: kill", ("supervisor",), signals("kill"),
             "own pid namespace, then Landlock, another id"),
    _planted(12, "signal the supervisor: tgkill", ("supervisor",), signals("tgkill"),
             "own pid namespace, then Landlock, another id"),
    _planted(13, "signal the supervisor: pidfd", ("supervisor",), signals("pidfd"),
             "own pid namespace, then Landlock, another id"),
    Probe("I14", "which programs the host starts (inotify on /usr/bin)", INFO, "T1057", "strict",
          watches_programs),
    Probe("I15", "which programs the host starts (fanotify on /usr/bin)", INFO, "T1057", "seccomp",
          watches_all),
    Probe("I16", "a lock on a file of /usr, which other sandboxes see", INFO, "", "nothing",
          locks_shared),
    Probe("I20", "signal pid 1: kill", KERNEL, "", "Landlock (signal scope)", init_signal("kill")),
    Probe("I21", "signal pid 1: tgkill", KERNEL, "", "Landlock (signal scope)",
          init_signal("tgkill")),
    Probe("I22", "signal pid 1: pidfd", KERNEL, "", "Landlock (signal scope)",
          init_signal("pidfd")),
    Probe("I23", "the limits of pid 1", KERNEL, "", "seccomp",
          asks("prlimit64", 1, 7, None, buffer(16))),
    Probe("I30", "abstract sockets are listed", INFO, "CVE-2020-15257", "own network namespace",
          listed),
    Probe("I31", "the socket of a container engine", HOST, "T1611", "own /run",
          services("/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock",
                   "/run/podman/podman.sock", "/run/crio/crio.sock")),
    Probe("I32", "the sockets of D-Bus, systemd and the journal", HOST, "T1569", "own /run",
          services("/run/dbus/system_bus_socket", "/run/systemd/private", "/run/systemd/notify",
                   "/run/systemd/journal/socket", "/run/systemd/journal/stdout", "/dev/log")),
    Probe("I33", "the sockets of display servers and agents", HOST, "T1056", "own /tmp and /run",
          services(*["/tmp/.X11-unix/X%d" % number for number in range(4)] +
                   ["%s/%s" % (os.environ.get("XDG_RUNTIME_DIR") or "/run/user/%d" % os.getuid(),
                               name)
                    for name in ("wayland-0", "bus", "gnupg/S.gpg-agent", "keyring/ssh",
                                 "pulse/native")])),
)
