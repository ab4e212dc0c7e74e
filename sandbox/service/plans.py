# SPDX-License-Identifier: Apache-2.0
"""Plans that a launcher uses again, as long as nothing that they were made of has changed.

A plan is made of a request without its program, and of what facts.Host reads; a spare (pools.py)
holds what the plan's paths led to.  All of that is checked before a plan is used again, by few
system calls: the kernel tells of every change of the mount table, the names in /etc are known by
the directory's times, and the rest is compared by value.  Other plans are made anew each time:
those with sources of the user's, policies from files, control groups or other tiers.
"""
import marshal
import os
import resource
import select
import stat
import time

from ..host.facts import CPU_FILES, ROOT_NAMES, STORES, etc_candidates
from ..plan.plan import SHIPPED
from ..tree.default import DEVICES

#: Options that a plan depends on by their values alone.
BY_VALUE = frozenset(("env", "hostname", "user", "cap_add", "rlimit", "timeout", "cpu_time",
                      "grace", "max_output", "samples", "unsafe_without"))
#: How many plans are kept, most recently used last.
MOST = 8
#: Seconds.  A change so soon after another one may leave a directory's times as they were: some
#: file systems have whole seconds.
SETTLED = 3.0
#: Links in one path.  path_resolution(7)
MOST_LINKS = 40
LIMITS = [getattr(resource, "RLIMIT_" + name) for name in ("NOFILE", "NPROC", "CPU")]


class Plans:
    """The plans of one launcher, whose ids, root and namespaces never change.

    known: {key: (Plan, Facts)}, most recently used last.
    used: the key of the last plan.
    """

    def __init__(self):
        self.known, self.used = {}, None
        self.mounts = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self.poll = select.poll()
        self.poll.register(self.mounts, select.POLLPRI | select.POLLERR)
        self.cpus = []
        for name in CPU_FILES:
            try:
                name = "/sys/devices/system/cpu/" + name
                self.cpus.append(os.open(name, os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                pass

    def plan(self, request, make):
        """Returns the Plan for a request: a known one, or what `make(request)` returns.

        Raises SandboxError.
        """
        key = self.used = self.key(request)
        known = self.holds(key)
        if key is None:
            return make(request)
        self.known.pop(key, None)
        if known is None:
            try:
                facts = Facts(request["environ"].get("PATH", ""), self.cpus)
            except OSError:  # a host without /etc, say: its plan knows what is wrong
                return make(request)
            plan = make(request)
            if self.poll.poll(0):  # it tells once, and the known plans are older, too
                self.known.clear()
                return plan
            if not facts.settled or not facts.hold():
                return plan
            known = plan, facts
        self.known[key] = known
        while len(self.known) > MOST:
            del self.known[next(iter(self.known))]
        return known[0].again(request.get("argv"))

    def holds(self, key):
        """Returns the (Plan, Facts) known for a key if it still is right, else None."""
        if self.poll.poll(0):
            self.known.clear()
        known = self.known.get(key)
        return known if known is not None and known[1].hold() else None

    def key(self, request):
        """Returns a key for a request without its program, or None if its plan can't be kept."""
        options = request["options"]
        for name, value in options.items():
            if name not in BY_VALUE and value and not (
                    name == "seccomp" and value in SHIPPED or name == "proc" and value == "none" or
                    name == "tier" and value in ("full", ["full"])):
                return None
        if len(self.cpus) < len(CPU_FILES):
            return None
        # Whether the program is known yet matters for what the child does.
        return marshal.dumps((options, request["environ"], request.get("argv") is None), 2)


class Facts:
    """What facts.Host and the plan's mounts depend on, except the mount table.

    settled: whether a later change of /etc must show in its times.
    looks, entries: what paths led to.
    others: processors and limits.
    """

    def __init__(self, path, cpus):
        """path: the caller's PATH; cpus: descriptors of CPU_FILES.  Raises OSError."""
        self.cpus, self.looks = cpus, {}
        self.etc = _names("/etc")
        # A relative entry starts from the caller's directory, which may be another next time.
        self.settled = abs(time.time() - max(self.etc[2:]) / 1e9) > SETTLED and all(
            entry.startswith("/") or not entry for entry in path.split(":"))
        self.others = self._others()
        for name in ROOT_NAMES:
            self.looks["/" + name] = _look("/" + name)
        places = [os.fsdecode(place) for place in STORES + DEVICES]
        for entry in ["/usr"] + places + path.split(":"):
            self._follow(os.path.join("/", entry))
        self.entries = [(entry, _found(entry))
                        for entry in (b"/etc/" + name for name in etc_candidates())]

    def hold(self):
        """Whether everything is as it was."""
        try:
            return (self.etc == _names("/etc") and self.others == self._others() and
                    all(_look(path) == look for path, look in self.looks.items()) and
                    all(_found(path) == found for path, found in self.entries))
        except OSError:
            return False

    def _others(self):
        return ([os.pread(fd, 4096, 0) for fd in self.cpus] +
                [resource.getrlimit(limit) for limit in LIMITS])

    def _follow(self, path):
        """Notes each component of a path, through links, up to the first that is missing."""
        steps, place, links = path.split("/")[::-1], "", 0
        while steps and links < MOST_LINKS:
            step = steps.pop()
            if step in ("", "."):
                continue
            if step == "..":
                place = place.rpartition("/")[0]
                continue
            place += "/" + step
            look = self.looks[place] = _look(place)
            if isinstance(look, int):
                return
            if look[3] is not None:
                links += 1
                steps += look[3].split("/")[::-1]
                place = "" if look[3].startswith("/") else place.rpartition("/")[0]


def _look(path):
    """Returns (device, inode, mode, a link's target) of a path, or the errno."""
    try:
        found = os.lstat(path)
        target = os.readlink(path) if stat.S_ISLNK(found.st_mode) else None
        return found.st_dev, found.st_ino, found.st_mode, target
    except OSError as error:
        return error.errno


def _found(path):
    """Returns (device, inode, mode) of what a path leads to, or the errno.

    Another file of the same name is another mount.
    """
    try:
        found = os.stat(path)
        return found.st_dev, found.st_ino, found.st_mode
    except OSError as error:
        return error.errno


def _names(path):
    """Returns what changes when a name in a directory does.  Raises OSError."""
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns
