# SPDX-License-Identifier: Apache-2.0
"""Tells where mrunc itself runs: the distribution, and the container or sandbox around it.

One errno has many remedies, and a refusal by an outer sandbox is not the host's fault.
"""
import os

from . import proc

#: The inodes of the namespaces that the kernel makes at boot.  include/uapi/linux/nsfs.h (before
#: 6.18 linux/proc_ns.h)
FIRST_NAMESPACES = {"cgroup": 0xeffffffb, "pid": 0xeffffffc, "user": 0xeffffffd, "uts": 0xeffffffe,
                    "ipc": 0xefffffff}
#: Files that exist only inside: (path, kind).
MARKS = (("/.dockerenv", "docker"), ("/run/.containerenv", "podman"), ("/.flatpak-info", "flatpak"))
#: A tmpfs inside; outside firejail leaves an empty directory there.
FIREJAIL = "/run/firejail/mnt"
#: Kinds that are sandboxes and not containers: their settings are not to be changed.
SANDBOXES = ("mrunc", "sandbox", "flatpak", "firejail", "snap")


class Vantage:
    """The surroundings of this process.

    kind: docker, podman, kubernetes, lxc, ..., mrunc, sandbox (of an unknown kind), namespace (a
        user namespace on a host's own tree), chroot, or None on a host.
    evidence: [phrase].
    wsl: version of the Windows Subsystem for Linux, or 0.
    """

    __slots__ = ("kind", "evidence", "wsl")

    def __init__(self, kind=None, evidence=(), wsl=0):
        self.kind, self.evidence, self.wsl = kind, list(evidence), wsl

    @classmethod
    def read(cls, environ=None):
        """Returns the present Vantage.  Never raises.

        environ: dict, os.environ unless given.
        """
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
        if root == ["tmpfs"] or "pid" in foreign and "ipc" in foreign:
            return "sandbox"
        return "namespace"

    def places(self):
        """Returns the names to look remedies up by, the nearest first."""
        out = [self.kind] if self.kind else []
        if self.kind not in (None, "namespace", "chroot"):
            out.append("sandbox" if self.kind in SANDBOXES else "container")
        return out + (["wsl%d" % self.wsl] if self.wsl else []) + distributions()


def foreign_namespaces():
    """Returns the names of the namespaces that are not the kernel's first ones."""
    out = []
    for name, inode in sorted(FIRST_NAMESPACES.items()):
        try:
            if os.stat("/proc/self/ns/" + name).st_ino != inode:
                out.append(name)
        except OSError:
            pass
    return out


def is_chroot():
    """Returns whether "/" is not the root of the mount namespace.

    A user namespace is EPERM then. user_namespaces(7)
    """
    points = [line[0] for line in mounts()]
    return bool(points) and "/" not in points


def mounts():
    """Returns [(mount point, type, options of the file system)]; [] without /proc."""
    try:
        return [(os.fsdecode(row.point), os.fsdecode(row.kind),
                 [os.fsdecode(word) for word in row.super_options]) for row in proc.mounts()]
    except (OSError, ValueError):
        return []


def os_release():
    """Returns {name: value} of os-release(5), {} without it."""
    out = {}
    for line in lines("/etc/os-release") or lines("/usr/lib/os-release"):
        name, equals, value = line.partition("=")
        if equals and name.replace("_", "").isalnum():
            out[name] = value.strip().strip("\"'")
    return out


def distributions():
    """Returns the names of the distribution, the nearest first.

    ubuntu-24.04, ubuntu-24, ubuntu, debian; rocky-8.9, rocky-8, rocky, rhel-8, rhel, centos,
    fedora.
    """
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
    """Returns the lines of a text file, [] if it can't be read.  Never raises."""
    try:
        return proc.text(path).split("\n")
    except (OSError, ValueError):
        return []


def read(path, key=None):
    """Returns a file's first line, or the value behind `key` in its line; "" without it."""
    for line in lines(path):
        if key is None:
            return line.strip()
        if line.startswith(key):
            return line[len(key):].strip()
    return ""


def apparmor_profile():
    """Returns the AppArmor profile that confines this process, or "".  apparmor(7)"""
    text = read("/proc/self/attr/apparmor/current") or read("/proc/self/attr/current").rstrip("\0")
    confined = text.count(":") < 2 and text != "unconfined" and "(unconfined)" not in text
    return text.partition(" (")[0] if confined else ""


def sysctl(name):
    """Returns a sysctl as text, "" if this kernel lacks it or /proc/sys can't be read."""
    return read("/proc/sys/" + name.replace(".", "/"))
