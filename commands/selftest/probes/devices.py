# SPDX-License-Identifier: Apache-2.0
"""Tries devices, /sys and control groups."""
import errno
import os
import stat
import struct

from ..attempt import Unsuitable, asks, blocked, buffer, call, exists, first_line, invisible, \
    lists, opens, reached
from .mounts import here, makes_node
from ..probe import HOST, INFO, KERNEL, Probe

GROUP = "devices"
#: Names that a program may expect in /dev: mrunc's nodes and links, and terminals under --tty.
EXPECTED = {"null", "zero", "full", "random", "urandom", "tty", "fd", "stdin", "stdout", "stderr",
            "shm", "pts", "ptmx", "core", "mqueue", "console"}
GONE = "not in /dev"


def block_devices(facts):
    """Opens any block device for reading."""
    outcome = invisible("no block device in /dev")
    for folder, _, names in os.walk("/dev"):
        for name in names:
            path = os.path.join(folder, name)
            try:
                if stat.S_ISBLK(os.lstat(path).st_mode):
                    os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
                    return reached("%s opens" % path)
            except OSError as error:
                if error.errno not in (errno.ENXIO, errno.ENOMEDIUM):
                    outcome = blocked("%s: %s" % (path, errno.errorcode[error.errno]), error.errno)
    return outcome


def more_names(facts):
    """Looks for names in /dev that no program needs."""
    names = sorted(set(os.listdir("/dev")) - EXPECTED)
    if names:
        return reached("%d more, %s first" % (len(names), names[0]))
    return blocked("only harmless ones")


def other_terminals(facts):
    """Looks for a terminal that somebody else opened."""
    try:
        names = [name for name in os.listdir("/dev/pts") if name.isdigit()]
    except OSError:
        return invisible("/dev/pts is not there")
    own = set()
    for fd in (0, 1, 2):
        try:
            own.add(os.fstat(fd).st_rdev)
        except OSError:
            pass
    others = [name for name in names if os.stat("/dev/pts/" + name).st_rdev not in own]
    return reached("/dev/pts/%s" % others[0]) if others else blocked("only the own one")


def new_terminals(facts):
    """Makes a terminal and looks whether it lies in the host's devpts."""
    fd = os.open("/dev/ptmx", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
    call("ioctl", fd, 0x40045431, buffer(struct.pack("=i", 0), 4))  # TIOCSPTLCK
    device = os.fstat(call("ioctl", fd, 0x5441, os.O_RDWR | os.O_NOCTTY)).st_dev  # TIOCGPTPEER
    if "devpts" not in facts:
        raise Unsuitable("the host's devpts is not known")
    if facts["devpts"] == device:
        return reached("/dev/ptmx makes terminals of the host")
    return blocked("/dev/ptmx makes terminals of the sandbox's own")


def adds_entropy(facts):
    """Tries RNDADDTOENTCNT of -1, which is refused after the capability check."""
    fd = os.open("/dev/random", os.O_RDONLY | os.O_CLOEXEC)
    return asks("ioctl", fd, 0x40045201, buffer(struct.pack("=i", -1), 4),
                after=(errno.EINVAL,))(facts)


def node_opens(kind, device, what):
    """Returns an action that makes a device node and opens it."""
    def action(facts):
        path = here(facts) + b"/node"
        call("mknodat", -100, path, kind | 0o600, device)
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
        finally:
            os.unlink(path)
        return reached("%s by an own node" % what)
    return action


def cgroup_files(*names):
    """Returns an action that opens a file of the own control group for writing."""
    def action(facts):
        outcome, places = invisible("no control group file system"), []
        try:
            with open("/proc/self/cgroup") as stream:
                for line in stream:
                    _, controllers, path = line.rstrip("\n").split(":", 2)
                    for name in (controllers.split(",") +
                                 [controllers.replace("name=", ""), "unified", ""]):
                        places += ["/sys/fs/cgroup/" + name + path, "/sys/fs/cgroup/" + name]
        except OSError:
            places = ["/sys/fs/cgroup"]
        for place in places:
            for name in names:
                path = os.path.normpath(place) + "/" + name
                if os.path.exists(path):
                    try:
                        os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
                        return reached("%s opens for writing" % path)
                    except OSError as error:
                        outcome = blocked("%s: %s" % (path, errno.errorcode[error.errno]),
                                          error.errno)
        return outcome
    return action


def parameters(facts):
    """Looks for a module parameter that can be written."""
    outcome = invisible("/sys/module is not there")
    for folder, _, names in os.walk("/sys/module"):
        if folder.endswith("/parameters"):
            for name in names:
                if os.access(os.path.join(folder, name), os.W_OK):
                    return reached("%s/%s can be written" % (folder, name))
                outcome = blocked("none can be written")
    return outcome


def model(facts):
    """Reads the machine's maker and model."""
    for name in ("product_name", "sys_vendor", "bios_vendor"):
        try:
            return reached("%s: %s" % (name, first_line("/sys/class/dmi/id/" + name)[:40]))
        except OSError:
            pass
    return invisible("/sys/class/dmi is not there")


def _device(number, path, what, danger=KERNEL, flags=os.O_RDWR, reference=""):
    return Probe("D%02d" % number, "%s (%s)" % (what, path), danger, reference, GONE,
                 opens(flags, path))


def _sys(number, path, what, danger=INFO):
    return Probe("S%02d" % number, "%s (%s)" % (what, path), danger, "T1082", "an empty /sys",
                 lists(path))


PROBES = (
    Probe("D01", "make a character device node", HOST, "T1611", "seccomp, then no capability",
          makes_node(stat.S_IFCHR | 0o600, 0x103)),
    Probe("D02", "make a block device node", HOST, "T1611", "seccomp, then no capability",
          makes_node(stat.S_IFBLK | 0o600, 0x700)),
    Probe("D03", "make a device node and open it", HOST, "T1611",
          "seccomp, then no capability, nodev", node_opens(stat.S_IFCHR, 0x103, "/dev/null")),
    Probe("D04", "read a block device", HOST, "T1006", GONE, block_devices),
    _device(10, "/dev/mem", "the machine's memory", HOST, os.O_RDONLY, "T1611"),
    _device(11, "/dev/port", "the machine's ports", HOST, os.O_RDONLY, "T1611"),
    _device(12, "/dev/kmsg", "the kernel's log", INFO, os.O_RDONLY),
    _device(13, "/dev/kvm", "the hypervisor's interface"),
    _device(14, "/dev/fuse", "file systems in user space"),
    _device(15, "/dev/net/tun", "network tunnels"),
    _device(16, "/dev/loop-control", "loop devices", HOST),
    _device(17, "/dev/mapper/control", "the device mapper", HOST),
    _device(18, "/dev/vsock", "sockets to the hypervisor"),
    _device(19, "/dev/vhost-net", "vhost networking"),
    _device(20, "/dev/vhost-vsock", "vhost sockets"),
    _device(21, "/dev/userfaultfd", "page faults in user space"),
    _device(22, "/dev/uinput", "input injection", HOST),
    _device(23, "/dev/btrfs-control", "btrfs control"),
    Probe("D24", "new terminals of the host (/dev/ptmx)", KERNEL, "", "own devpts", new_terminals),
    _device(25, "/dev/tty0", "the console", HOST, os.O_RDONLY),
    _device(26, "/dev/cpu/0/msr", "model-specific registers", HOST, os.O_RDONLY),
    _device(27, "/dev/autofs", "automounting"),
    _device(28, "/dev/hwrng", "the hardware's random numbers", KERNEL, os.O_RDONLY),
    _device(29, "/dev/cpu_dma_latency", "power management", KERNEL, os.O_RDONLY),
    Probe("D40", "names in /dev beyond those that programs need", KERNEL, "", "own /dev",
          more_names),
    Probe("D41", "terminals of others in /dev/pts", HOST, "", "own /dev", other_terminals),
    Probe("D42", "add entropy (RNDADDTOENTCNT)", KERNEL, "", "no capability", adds_entropy),
    Probe("S01", "release_agent opens for writing", HOST, "CVE-2022-0492",
          "no control group file system", cgroup_files("release_agent")),
    Probe("S02", "the own control group's processes open for writing", HOST, "T1611",
          "no control group file system", cgroup_files("cgroup.procs", "tasks")),
    Probe("S03", "the own control group's limits open for writing", HOST, "T1499",
          "no control group file system",
          cgroup_files("memory.max", "memory.limit_in_bytes", "pids.max", "cpu.max", "cpu.shares",
                       "cgroup.max.depth")),
    Probe("S04", "devices.allow opens for writing", HOST, "T1611", "no control group file system",
          cgroup_files("devices.allow")),
    Probe("S05", "the power state opens for writing", HOST, "T1529", "an empty /sys",
          opens(os.O_WRONLY, "/sys/power/state", "/sys/power/pm_async", "/sys/kernel/reboot/mode")),
    Probe("S06", "a module's parameter can be written", HOST, "T1547.006", "an empty /sys",
          parameters),
    Probe("S07", "memory management of the host opens for writing", HOST, "", "an empty /sys",
          opens(os.O_WRONLY, "/sys/kernel/mm/transparent_hugepage/enabled",
                "/sys/kernel/mm/swap/vma_ra_enabled", "/sys/kernel/mm/ksm/run")),
    Probe("S08", "uevent_helper opens for writing", HOST, "T1611", "an empty /sys",
          opens(os.O_WRONLY, "/sys/kernel/uevent_helper")),
    _sys(10, "/sys/kernel/debug", "debugfs", KERNEL),
    _sys(11, "/sys/kernel/tracing", "tracefs", KERNEL),
    _sys(12, "/sys/kernel/security", "securityfs"),
    _sys(13, "/sys/fs/cgroup", "control groups", KERNEL),
    _sys(14, "/sys/firmware", "firmware tables"),
    _sys(15, "/sys/block", "disks"),
    _sys(16, "/sys/bus", "the hardware"),
    _sys(17, "/sys/class/net", "network interfaces"),
    _sys(18, "/sys/fs/ext4", "mounted file systems"),
    _sys(19, "/sys/kernel/slab", "the kernel's slabs"),
    Probe("S20", "the machine's model", INFO, "T1082", "an empty /sys", model),
    Probe("S21", "the kernel's own image notes (/sys/kernel/notes)", INFO, "T1082", "an empty /sys",
          exists("/sys/kernel/notes", "/sys/kernel/vmcoreinfo")),
    Probe("S22", "the kernel's types (/sys/kernel/btf)", INFO, "T1082", "an empty /sys",
          exists("/sys/kernel/btf/vmlinux")),
)
