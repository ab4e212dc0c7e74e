# SPDX-License-Identifier: Apache-2.0
"""Finds where a sandbox's control group can be made, by trying, with the reason of failures.

Root makes a subtree at the mount point of cgroup2. A user needs a delegated group: a sibling of the
own group if the parent is the user's. Otherwise the own group takes children, once its processes
have moved to a leaf. cgroups(7)
"""
import errno
import os

from ..caller import option
from ..errors import remedies, SandboxError
from ..proc import MOUNTS, parse, text
from . import limits

#: Root's subtree.  Controllers that it hands on can't be taken from the root group by others
#: meanwhile.
SUBTREE = "mrunc"
#: The leaf for the processes of a delegated group: a group with children may hold none.
LEAF = "mrunc-super"
#: {controller: its name in cgroup v1}, where that differs.
OLD_NAMES = {"io": "blkio"}


class Unavailable(Exception):
    """No place can be had.

    why: a phrase.
    cause: of the table of remedies, or None.
    words: for its commands.
    """

    def __init__(self, why, cause=None, **words):
        Exception.__init__(self, why)
        self.why, self.cause, self.words = why, cause, words

    @property
    def remedy(self):
        """Returns one line or None."""
        return remedies().line(self.cause, **self.words)


class Place:
    """A place for groups.

    directory: where they are made.
    how: root, parent or self.
    ours: whether the directory itself is removed when it is empty.
    """

    __slots__ = ("directory", "how", "ours")

    def __init__(self, directory, how, ours=False):
        self.directory, self.how, self.ours = directory, how, ours


class Host:
    """Facts for the search.

    uid: of the caller.
    mounts: [(mount point, root of the mount, writable)] of cgroup2.
    own: path of the own group in the hierarchy, or None.
    v1: names of the controllers in v1 hierarchies.
    disabled: names of those that the kernel was started without.
    """

    __slots__ = ("uid", "mounts", "own", "v1", "disabled")

    def __init__(self, uid, mountinfo, own_groups, table=""):
        self.uid = uid
        self.mounts = mounts(mountinfo)
        self.own, self.v1 = own_group(own_groups), v1_controllers(own_groups)
        rows = [line.split() for line in table.splitlines() if line and not line.startswith("#")]
        self.disabled = set(row[0] for row in rows if len(row) == 4 and row[3] == "0")

    @classmethod
    def read(cls):
        """Returns the facts of this process.  Raises OSError."""
        table = ""
        try:
            table = text("/proc/cgroups")
        except OSError:
            pass
        return cls(os.geteuid(), text(MOUNTS), text("/proc/self/cgroup"), table)


def write(path, text):
    """Writes a text by one write(2).  Raises OSError with the kernel's errno."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def mounts(mountinfo):
    """Returns [(mount point, root of the mount, writable)] of the cgroup2 mounts.

    mountinfo: its text.
    """
    return [(os.fsdecode(row.point), os.fsdecode(row.root),
             b"rw" in row.options and b"rw" in row.super_options)
            for row in parse(os.fsencode(mountinfo)) if row.kind == b"cgroup2"]


def own_group(text):
    """Returns the path of the `0::` line in /proc/PID/cgroup.

    None without one, or if the group was removed or lies outside our cgroup namespace.
    """
    for line in text.splitlines():
        if line.startswith("0::"):
            path = line[3:]
            return None if path.endswith(" (deleted)") or path.startswith("/..") else path
    return None


def v1_controllers(text):
    """Returns the names of controllers in v1 hierarchies.  text: of /proc/self/cgroup."""
    return {name for line in text.splitlines() if not line.startswith("0::")
            for name in line.split(":", 2)[1].split(",")
            if name and not name.startswith("name=")}


def controllers(directory):
    """Returns the names of a group's controllers.  Raises OSError."""
    return set(text(directory + "/cgroup.controllers").split())


def handed_down(directory):
    """Returns the names of the controllers that a group's children get.  Raises OSError."""
    return set(text(directory + "/cgroup.subtree_control").split())


def own_directory(host):
    """Returns (mount point, directory of the own group).  Raises Unavailable."""
    if not host.mounts:
        if host.v1:
            raise Unavailable("this host has cgroup v1 only", "cgroup-v1")
        raise Unavailable("cgroup2 is not mounted here", "cgroup-none")
    usable = [mount for mount in host.mounts if mount[2]]
    if not usable:
        raise Unavailable("cgroup2 is mounted read-only (a container?)", "cgroup-read-only")
    point, root, _ = usable[0]
    own = host.own
    if own is None or root.startswith("/.."):
        raise Unavailable("the own group lies outside the cgroup namespace", "cgroup-outside")
    if root != "/":
        if not (own + "/").startswith(root + "/"):
            raise Unavailable("the own group %s is not below what is mounted, %s" % (own, root))
        own = own[len(root):] or "/"
    return point, point if own == "/" else point + own


def candidates(host):
    """Returns [(how, directory)], best first.  Raises Unavailable."""
    point, here = own_directory(host)
    out = [("root", point)] if host.uid == 0 else []
    above, parents = here, []
    while above != point:
        above = os.path.dirname(above)
        parents.append(("parent", above))
    theirs = [pair for pair in parents if managed(pair[1])]
    return out + [pair for pair in parents if pair not in theirs] + [("self", here)] + theirs


def managed(directory):
    """Returns whether a group is managed by the user's systemd manager itself.

    It is writable, but maybe not delegated (Delegate=yes leaves no mark there). Its slices lose a
    controller again when no unit needs it.
    """
    above = directory
    while os.path.dirname(above) != above:
        name = os.path.basename(above)
        if name.startswith("user@") and name.endswith(".service"):
            return True
        if name.startswith("mrunc-") and name.endswith(".scope"):
            return False  # made by scope.py
        above = os.path.dirname(above)
    return False


def look(host, need):
    """Raises Unavailable if no place can give these controllers.

    host: Host.
    need: names of controllers.
    """
    point, _ = own_directory(host)
    try:
        here = controllers(point)
    except OSError as error:
        raise Unavailable("%s: %s" % (error.filename, error.strerror), "cgroup-none")
    for name in sorted(need - here):
        if OLD_NAMES.get(name, name) in host.v1:
            raise Unavailable("the %s controller belongs to cgroup v1 here (a hybrid host)" % name,
                              "cgroup-v1")
        if name in host.disabled or OLD_NAMES.get(name, name) in host.disabled:
            raise Unavailable("the kernel was started without the %s controller" % name,
                              "cgroup-disabled", controller=name)
        if host.uid == 0:
            raise Unavailable("the %s controller is not in %s" % (name, point), "cgroup-lacks")


def check_usable(directory):
    """Raises OSError if groups can't be made in a directory, or no process moved there."""
    for path in (directory, directory + "/cgroup.procs"):
        if not os.access(path, os.W_OK):
            raise OSError(errno.EACCES, "not ours", path)


def seems_usable(host, need):
    """Returns whether some place looks usable, and changes nothing.

    Places that the user's systemd manager manages do not count. Raises Unavailable as `look`.
    """
    look(host, need)
    for _, directory in candidates(host):
        if managed(directory):
            continue
        try:
            check_usable(directory)
            if need <= controllers(directory):
                return True
        except OSError:
            continue
    return False


def find(host, need):
    """Returns the Place whose groups get the controllers `need`.  Raises Unavailable."""
    look(host, need)
    tried = []
    point = own_directory(host)[0]
    for how, directory in candidates(host):
        try:
            check_usable(directory)
            if how == "root":
                return Place(_subtree(directory, need), how, ours=True)
            _hand_down(directory, need, leave=how == "self")
            return Place(directory, how)
        except OSError as error:
            tried.append("%s: %s" % (directory[len(point):] or "/", error.strerror))
    raise Unavailable("no group was delegated that has %s (%s)" %
                      (" ".join(sorted(need)) or "children", "; ".join(tried)),
                      "cgroup-user")


def _subtree(point, need):
    """Makes root's subtree and returns its path; others may remove it while it is empty."""
    _hand_down(point, need)
    path = os.path.join(point, SUBTREE)
    for _ in range(20):
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            pass
        try:
            _hand_down(path, need)
            return path
        except FileNotFoundError:
            continue
    raise OSError(errno.ENOENT, "it is removed again and again", path)


def _hand_down(directory, need, leave=False):
    """Gives a group's children controllers and reads that back.  Raises OSError.

    leave: whether the group's processes move to a leaf first.
    """
    missing = need - handed_down(directory)
    if missing - controllers(directory):
        raise OSError(errno.ENOENT, "not handed down to it: %s" %
                      " ".join(sorted(missing - controllers(directory))))
    if leave:
        _move_to_leaf(directory)
    if missing:
        write(directory + "/cgroup.subtree_control",
              " ".join("+" + name for name in sorted(missing)))
        if need - handed_down(directory):
            raise OSError(errno.EIO, "controllers were not handed down", directory)


def _move_to_leaf(directory):
    """Moves all processes of a group to its leaf; more may be born meanwhile."""
    leaf = os.path.join(directory, LEAF)
    try:
        os.mkdir(leaf, 0o755)
    except FileExistsError:
        pass
    for _ in range(20):
        left = [pid for pid in text(directory + "/cgroup.procs").split() if pid != "0"]
        if not left:
            return
        for pid in left:
            try:
                write(leaf + "/cgroup.procs", pid)
            except ProcessLookupError:
                pass
    raise OSError(errno.EBUSY, "its processes can't be moved to a leaf", directory)


def choose(settings, best_effort, host=None):
    """Returns (Place or None, {controller}, {control: why not}) for settings.

    settings: [limits.Setting].
    best_effort: names of controls that may be left out.
    host: Host, read now unless given.

    Raises SandboxError (125).
    """
    asked = []
    for setting in settings:
        if setting.control not in asked:
            asked.append(setting.control)
    host = host or Host.read()
    place, have, notes = None, set(), {}
    for control in sorted(asked, key=lambda name: name in best_effort):
        need = have | limits.controllers(control)
        try:
            place, have = find(host, need), need
        except Unavailable as error:
            if control not in best_effort:
                if place is not None and place.ours:
                    _remove_unused(place)
                raise SandboxError("limits", limits.named(control), reason=error.why,
                                   control=control, remedy="%s; or %s to run without this limit" % (
                                       error.remedy or "another host",
                                       option("best_effort", control)))
            notes[control] = error.why
    return place, have, notes


def _remove_unused(place):
    """Removes root's subtree if it is empty."""
    try:
        os.rmdir(place.directory)
    except OSError:
        pass
