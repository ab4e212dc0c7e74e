# SPDX-License-Identifier: Apache-2.0
"""Where mrunc itself runs: which distribution, and inside which container or sandbox.  A refusal has one errno and many
remedies, and what an outer sandbox forbids is not the host's fault.
"""
import os

from . import proc

#: The inodes of the namespaces that the kernel makes at boot.  include/uapi/linux/nsfs.h (before
#: 6.18 linux/proc_ns.h)
FIRST_NAMESPACES = {"cgroup": 0xeffffffb, "pid": 0xeffffffc, "user": 0xeffffffd, "uts": 0xeffffffe,
                    "ipc": 0xefffffff}
#: What is there only inside: (path, kind).
MARKS = (("/.dockerenv", "docker"), ("/run/.containerenv", "podman"), ("/.flatpak-info", "flatpak"))
#: A tmpfs inside; outside firejail leaves an empty directory there.
FIREJAIL = "/run/firejail/mnt"
#: Kinds that are sandboxes, not containers: nothing in them is meant to be changed.
SANDBOXES = ("mrunc", "sandbox", "flatpak", "firejail", "snap")


class Vantage:
    """kind: docker, podman, kubernetes, lxc, ..., mrunc, sandbox (of an unknown make), namespace (a user namespace on a
    host's own tree), chroot, or None on a host; evidence: [phrase]; wsl: 0, 1 or 2."""

    __slots__ = ("kind", "evidence", "wsl")

    def __init__(self, kind=None, evidence=(), wsl=0):
        self.kind, self.evidence, self.wsl = kind, list(evidence), wsl

    @classmethod
    def read(cls, environ=None):
        """As it is now.  Never raises."""
        self = cls()
        environ = os.environ if environ is None else environ
        release = os.uname().release.lower()
        self.wsl = 0 if "microsoft" not in release else 2 if "wsl2" in release else 1
        self.kind = self._named(environ)
        foreign = foreign_namespaces()
        if foreign:
            self.evidence.append("own %s namespace" % ", ".join(foreign))
        if self.kind is None and foreign:
            self.kind = self._unnamed(foreign)
        elif self.kind is None and read("/proc/self/status", "Seccomp:") == "2":
            self.evidence.append("a system call filter")
            self.kind = "sandbox"
        elif self.kind is None and is_chroot():
            self.evidence.append("/ is not the root of its mount namespace")
            self.kind = "chroot"
        return self

    def _named(self, environ):
        for path, kind in MARKS:
            if os.path.exists(path):
                self.evidence.append(path)
                return kind
        if os.path.ismount(FIREJAIL):
            self.evidence.append(FIREJAIL)
            return "firejail"
        if "KUBERNETES_SERVICE_HOST" in environ:
            self.evidence.append("KUBERNETES_SERVICE_HOST")
            return "kubernetes"
        if "SNAP" in environ and "SNAP_NAME" in environ:
            self.evidence.append("SNAP_NAME")
            return "snap"
        told = read("/run/systemd/container") or environ.get("container", "")
        if told and told.replace("-", "").isalnum():
            self.evidence.append("container=%s" % told)
            return told
        root = [line for line in mounts() if line[0] == "/"]
        if root and root[-1][1] == "tmpfs" and "nr_inodes=100000" in root[-1][2] and \
                [line for line in mounts() if line[0] == "/box"]:
            self.evidence.append("the root file system is mrunc's")
            return "mrunc"
        return None

    def _unnamed(self, foreign):
        root = [kind for point, kind, _ in mounts() if point == "/"][-1:]
        if root == ["overlay"] or "user" not in foreign:
            return "container"
        if read("/proc/self/status", "Seccomp:") == "2":
            self.evidence.append("a system call filter")
            return "sandbox"
        return "sandbox" if root == ["tmpfs"] or "pid" in foreign and "ipc" in foreign else "namespace"

    def places(self):
        """[name], nearest first, under which remedies are looked up."""
        out = [self.kind] if self.kind else []
        if self.kind not in (None, "namespace", "chroot"):
            out.append("sandbox" if self.kind in SANDBOXES else "container")
        return out + (["wsl%d" % self.wsl] if self.wsl else []) + distributions()


def foreign_namespaces():
    """[name] of the namespaces that are not those of the kernel's first process."""
    out = []
    for name, inode in sorted(FIRST_NAMESPACES.items()):
        try:
            if os.stat("/proc/self/ns/" + name).st_ino != inode:
                out.append(name)
        except OSError:
            pass
    return out


def is_chroot():
    """Whether "/" is not the root of the mount namespace; then a user namespace is EPERM.  user_namespaces(7)"""
    points = [line[0] for line in mounts()]
    return bool(points) and "/" not in points


def mounts():
    """[(mount point, type, options of the file system)]; [] without /proc."""
    try:
        return [(os.fsdecode(row.point), os.fsdecode(row.kind),
                 [os.fsdecode(word) for word in row.super_options]) for row in proc.mounts()]
    except (OSError, ValueError):
        return []


def os_release():
    """{name: value} of os-release(5), {} where there is none."""
    out = {}
    for line in lines("/etc/os-release") or lines("/usr/lib/os-release"):
        name, equals, value = line.partition("=")
        if equals and name.replace("_", "").isalnum():
            out[name] = value.strip().strip("\"'")
    return out


def distributions():
    """[name], nearest first: ubuntu-24.04, ubuntu, debian; rocky-8.9, rocky-8, rocky, rhel-8, rhel, centos, fedora."""
    found = os_release()
    name, version = found.get("ID", ""), found.get("VERSION_ID", "")
    out = [name + "-" + version, name + "-" + version.partition(".")[0]] if name and version else []
    out.append(name)
    for like in found.get("ID_LIKE", "").split():
        # The clones count as RHEL does; other derivatives have numbers of their own.
        out += [like + "-" +
                version.partition(".")[0]] * (like == "rhel" and bool(version)) + [like]
    return [item for position, item in enumerate(out) if item and item not in out[:position]]


def lines(path):
    """The lines of a text file, [] where it can't be read.  Never raises."""
    try:
        return proc.text(path).split("\n")
    except (OSError, ValueError):
        return []


def read(path, key=None):
    """A file's text without blanks around it, or the value behind `key` in it; "" where there is none."""
    for line in lines(path):
        if key is None:
            return line.strip()
        if line.startswith(key):
            return line[len(key):].strip()
    return ""


def apparmor_profile():
    """The AppArmor profile that confines this process, "" where none does.  apparmor(7)"""
    text = read("/proc/self/attr/apparmor/current") or read("/proc/self/attr/current").rstrip("\0")
    return "" if text.count(":") >= 2 or text == "unconfined" or "(unconfined)" in text else text.partition(" (")[0]


def sysctl(name):
    """The value of a sysctl as text, "" where this kernel has none or /proc/sys is out of sight."""
    return read("/proc/sys/" + name.replace(".", "/"))
