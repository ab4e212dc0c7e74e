# SPDX-License-Identifier: Apache-2.0
"""Looks for what tells of the host, its users, its load, and the caller."""
import os
import resource
import signal
import struct
import time

from ..attempt import Unsuitable, blocked, buffer, call, domain_name, exists, invisible, \
    lists, mounts, opens, reached, reads
from .namespaces import FIRST
from ..probe import HOST, INFO, Probe

GROUP = "information"
#: File systems without a device or a path of the host.
VIRTUAL = {"proc", "sysfs", "tmpfs", "devpts", "devtmpfs", "mqueue", "cgroup", "cgroup2",
           "securityfs", "debugfs", "tracefs", "bpf",
           "fusectl", "binfmt_misc", "hugetlbfs", "pstore", "efivarfs", "configfs", "ramfs",
           "autofs", "nsfs"}


def environment(facts):
    """Looks for a variable of the caller."""
    name = facts["environ"]
    if name in os.environ:
        return reached("$%s is %s" % (name, os.environ[name]))
    return invisible("not in the environment")


def caller_names(facts):
    """Looks for variables that name the caller or its place."""
    telling = {"USER", "LOGNAME", "SUDO_USER", "SUDO_COMMAND", "SSH_CONNECTION", "SSH_AUTH_SOCK",
               "PWD", "OLDPWD", "MAIL", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY",
               "HOSTNAME", "AWS_SECRET_ACCESS_KEY"}
    found = sorted(set(os.environ) & telling)
    found = [name for name in found if name not in ("PWD", "OLDPWD") or
             not os.path.isdir(os.environ[name])]
    return reached("$%s" % found[0]) if found else invisible("none")


def host_name(facts):
    """Looks for the host's name or NIS domain name, in uname or the hosts file."""
    name = facts["hostname"]
    if domain_name() != "(none)" and domain_name() == facts.get("domainname"):
        return reached("uname says the domain")
    if os.uname().nodename == name:
        return reached("uname says it")
    try:
        with open("/etc/hosts") as stream:
            if name in stream.read().split():
                return reached("/etc/hosts says it")
    except OSError:
        pass
    return invisible("another one")


def users(facts):
    """Looks for the host's list of users."""
    with open("/etc/passwd") as stream:
        names = [line.split(":")[0] for line in stream if ":" in line]
    return reached("%d users" % len(names)) if len(names) > 4 else invisible("only root and nobody")


def told_by_mounts(facts):
    """Looks for paths and devices of binds, and for the id outside, in mountinfo."""
    told = []
    for root, point, _, _, kind, source, options in mounts():
        if kind not in VIRTUAL and root != "/":
            told.append("%s is %s of %s" % (point, root, source))
        elif kind not in VIRTUAL:
            told.append("%s is %s" % (point, source))
        told += ["%s is of %s" % (point, word) for word in options.split(",")
                 if word.startswith("uid=") and word != "uid=0"]
    if told:
        return reached("%s, and %d more" % (told[0], len(told) - 1))
    return blocked("only file systems without a device")


def overlay_paths(facts):
    """Looks for the host's directories of an overlay."""
    for _, point, _, _, kind, _, options in mounts():
        for word in options.split(","):
            if kind == "overlay" and word.startswith(("upperdir=", "lowerdir=", "workdir=")):
                return reached(word[:60])
    return blocked("no overlay that tells")


def same_uptime(facts):
    """Looks for the time since the host's start."""
    mine = first_boot()
    if "boottime" in facts:
        # On a host that has just been started, the sandbox may be older than the host was when
        # this was asked. The host's clock is known by what it must show by now. The clock of a
        # namespace begins with less than a second.
        uptime, asked_at = facts["boottime"]
        late = mine > uptime + time.time() - asked_at - 0.5
    else:
        late = os.readlink("/proc/self/ns/time") == "time:[%d]" % FIRST["time"]
    if late:
        return reached("the host has been up %d s" % mine)
    return blocked("uptime starts with the sandbox")


def first_boot():
    """Returns seconds since boot in this time namespace: CLOCK_BOOTTIME of clock_gettime(2)."""
    out = buffer(16)
    call("clock_gettime", 7, out)
    seconds, rest = struct.unpack("=qq", out.raw)
    return seconds + rest / 1e9


def load(facts):
    """Reads the memory of the host, by sysinfo(2)."""
    out = buffer(128)
    call("sysinfo", out)
    total, free = struct.unpack_from("=QQ", out.raw, 32)
    if total:
        return reached("%d MiB of memory, %d free" % (total >> 20, free >> 20))
    return blocked("zeros")


def cgroup_path(facts):
    """Looks for the path in the host's tree of control groups."""
    try:
        paths = [line.rstrip("\n").split(":", 2)[2] for line in open("/proc/self/cgroup")]
    except OSError:
        return invisible("/proc/self/cgroup is not there")
    paths = [path for path in paths if path != "/"]
    return reached(paths[0]) if paths else blocked("/")


def dumps_core(facts):
    """Crashes with each possible limit and looks whether the kernel wrote a dump.

    The wait status tells (wait(2)). At 0 a piped handler is started; at the hard limit a file may
    be written. The dump holds no memory.
    """
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    limits = []
    for limit in (None, 0, hard):
        pid = os.fork()
        if pid == 0:
            try:
                os.chdir(facts["scratch"] or "/")
                if limit is not None:
                    resource.setrlimit(resource.RLIMIT_CORE, (limit, hard))
                with open("/proc/self/coredump_filter", "w") as stream:
                    stream.write("0")
            except (OSError, ValueError):
                pass
            found = resource.getrlimit(resource.RLIMIT_CORE)[0]
            if limit is not None and found != limit:
                os._exit(0)  # it can't be had
            os.kill(os.getpid(), signal.SIGQUIT)
            os._exit(1)
        status = os.waitpid(pid, 0)[1]
        if os.WCOREDUMP(status):
            return reached("dumped with a limit of %s" %
                           ("%d:%d" % (limit, hard) if limit is not None else "its own"))
        if os.WIFSIGNALED(status):
            limits.append("its own" if limit is None else "%d" % limit)
    if not limits:
        raise Unsuitable("nothing crashed")
    return blocked("no dump with a limit of %s" % ", ".join(limits))


def processes_made(facts):
    """Looks for the number of processes that the host made.

    It is the inode number of a pidfd since Linux 6.9.
    """
    fd = call("pidfd_open", os.getpid(), 0)
    number = os.fstat(fd).st_ino
    os.close(fd)
    if 0 < number - facts["pidfs"] < 1 << 24:
        return reached("%d processes since the sandbox was started" % (number - facts["pidfs"]))
    return blocked("the number tells nothing")


def _proc(number, name, text, reference="T1082"):
    return Probe("L%02d" % number, text, INFO, reference, "not there (subset=pid)",
                 opens(os.O_RDONLY, "/proc/" + name))


PROBES = (
    Probe("L01", "a variable of the caller's environment", INFO, "T1552", "own environment",
          environment, needs=("environ",)),
    Probe("L02", "variables that name the caller", INFO, "T1033", "own environment", caller_names),
    Probe("L03", "the host's name", INFO, "T1082", "own uts namespace, own /etc/hosts", host_name,
          needs=("hostname",)),
    Probe("L04", "what mountinfo tells of the host", INFO, "T1082", "nothing but --copy",
          told_by_mounts),
    Probe("L05", "the machine's id", INFO, "T1082", "own /etc",
          exists("/etc/machine-id", "/var/lib/dbus/machine-id")),
    Probe("L06", "the password hashes", HOST, "T1003.008", "own /etc",
          opens(os.O_RDONLY, "/etc/shadow", "/etc/gshadow")),
    Probe("L07", "the list of users", INFO, "T1087.001", "own /etc", users),
    Probe("L08", "keys of the host's SSH server or of root", HOST, "T1552.004", "own /etc and home",
          opens(os.O_RDONLY, "/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_rsa_key",
                "/root/.ssh/id_ed25519", "/root/.ssh",
                "/root/.bashrc")),
    Probe("L09", "home directories", INFO, "T1083", "own /home", lists("/home", ("user",))),
    Probe("L10", "the host's logs", INFO, "T1654", "own /var", lists("/var/log")),
    Probe("L11", "the host's services and packages (/var/lib)", INFO, "T1518", "own /var",
          lists("/var/lib")),
    Probe("L12", "the host's /run", INFO, "T1083", "own /run", lists("/run")),
    Probe("L13", "the host's kernels (/boot)", INFO, "T1082", "own root", lists("/boot")),
    Probe("L14", "the overlay's directories on the host", INFO, "T1083", "no overlay",
          overlay_paths),
    Probe("L15", "the time since the host's start", INFO, "T1082", "own time namespace",
          same_uptime),
    Probe("L16", "the host's load and memory (sysinfo)", INFO, "T1082", "nothing", load),
    Probe("L17", "the path in the host's control groups", INFO, "T1082", "own cgroup namespace",
          cgroup_path),
    Probe("L18", "a core dump to the host's handler", HOST, "CVE-2025-4598",
          "a limit of exactly 1, held by the filter", dumps_core),
    Probe("L19", "the host's resolver", INFO, "T1016", "own /etc",
          reads("/etc/resolv.conf", lambda text, facts: "nameserver" in text and "a nameserver")),
    Probe("L20", "the host's mount table (/etc/fstab)", INFO, "T1082", "own /etc",
          exists("/etc/fstab")),
    Probe("L21", "scheduled jobs", INFO, "T1053.003", "own /etc",
          exists("/etc/crontab", "/etc/cron.d", "/var/spool/cron")),
    Probe("L22", "the boot's id", INFO, "T1082", "not there (subset=pid)",
          opens(os.O_RDONLY, "/proc/sys/kernel/random/boot_id")),
    Probe("L23", "how many processes the host makes (the inode number of a pidfd)", INFO, "T1057",
          "nothing", processes_made, needs=("pidfs",)),
    _proc(30, "kallsyms", "the kernel's symbols"),
    _proc(31, "modules", "the kernel's modules"),
    _proc(32, "config.gz", "the kernel's configuration"),
    _proc(33, "cmdline", "the kernel's command line"),
    _proc(34, "partitions", "disks and partitions"),
    _proc(35, "interrupts", "interrupts"),
    _proc(36, "loadavg", "the load"),
    _proc(37, "diskstats", "the traffic of the disks"),
    _proc(38, "meminfo", "the memory"),
    _proc(39, "stat", "the time of the host's start and its processors' load"),
    _proc(40, "uptime", "the uptime file"),
    _proc(41, "cpuinfo", "the processors"),
    _proc(42, "version", "who built the kernel"),
    _proc(43, "vmstat", "memory events"),
    _proc(44, "locks", "everybody's file locks"),
    _proc(45, "swaps", "swap space"),
    _proc(46, "crypto", "the kernel's algorithms"),
    _proc(47, "bus/pci/devices", "PCI devices"),
    _proc(48, "sysvipc/shm", "the table of System V memory"),
    _proc(49, "zoneinfo", "memory zones"),
    _proc(50, "net/tcp", "/proc/net"),
    _proc(51, "sys/kernel/ostype", "/proc/sys"),
)
