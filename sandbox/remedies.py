# SPDX-License-Identifier: Apache-2.0
"""Says what helps, as data: (place, cause) -> why, commands to paste, a warning.

`doctor` prints a row; a run that fails prints its one line. Imported only after an error.

A place is a container or sandbox, a distribution, or "*" for all others. The nearest place with a
row counts. In a command {python} is the interpreter in use, {door} mrunc.py, {folder} its folder,
{sysctl} the setting that is meant. A leading `sudo` is left out for root. A command that is a tuple
is a file to write: its path, then its lines.
"""
import os
import sys

from . import caller, vantage


def profile(name, path):
    """Returns the commands that allow one program to make user namespaces.  apparmor.d(5)

    name: of the profile.
    path: of the program.
    """
    place = "/etc/apparmor.d/" + name
    return ((place, "abi <abi/4.0>,", 'profile %s "%s" flags=(unconfined) {' % (name, path),
             "  userns,", "}"),
            "sudo apparmor_parser -r " + place)


FREES_ALL = ("every script that {python} runs may then make user namespaces, also one that is not "
             "yours; setting the sysctl to 0 would free every program of the host")
NARROWER = ("narrower: a profile for a wrapper's path, and mrunc is started as "
            "/usr/local/bin/mrunc (keep {folder} where only root writes)",
            (("/usr/local/bin/mrunc", "#!/bin/sh", 'exec {python} -I {door} "$@"'),
             "sudo chmod 755 /usr/local/bin/mrunc") +
            profile("mrunc", "/usr/local/bin/mrunc"))
GRUB = "sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&{words} /' /etc/default/grub && " \
       "sudo update-grub && sudo reboot"
GRUB_FILE = "/etc/default/grub"
GRUBBY = "sudo grubby --update-kernel=ALL --args='{words}' && sudo reboot"
UNIFIED, LSM = "systemd.unified_cgroup_hierarchy=1", "lsm={lsm}"
NEXT_BOOT = "the whole host runs differently from the next boot on"
OPENED = ("docker, podman: start the container with --security-opt seccomp=unconfined "
          "--security-opt apparmor=unconfined --security-opt systempaths=unconfined, or run mrunc "
          "there as an ordinary user with --tier process")
CONTAINER = "this container's runtime forbids it; %s" % OPENED
UNMASKED = "this container's runtime masks part of /proc; %s or --proc none" % OPENED
NESTING = "nothing may be nested in this container (NAME, on its host)"
POD = "the pod's seccomp or AppArmor profile forbids it: set both to Unconfined, procMount to " \
      "Unmasked and hostUsers to false, or run mrunc there as an ordinary user with --tier process"
OUTSIDE = "{inside} is around this and forbids it, which says nothing of the host: " \
          "start mrunc outside of it"

#: (place, cause): (why, commands, warning, narrower choice or None)
TABLE = {
    ("*", "machine"): ("mrunc runs with a 64-bit Python on x86_64 and aarch64", (), None),
    ("*", "ctypes"): ("this Python has no ctypes: use the distribution's own",
                      ("/usr/bin/python3 {door} doctor",), None),
    ("debian", "ctypes"): ("this Python has no ctypes", ("sudo apt-get install libpython3-stdlib",),
                           None),
    ("rhel-8", "ctypes"): ("this Python has no ctypes: the system's own has",
                           ("/usr/libexec/platform-python {door} doctor",),
                           None),
    ("wsl1", "kernel-old"): ("WSL 1 is no Linux kernel",
                             ("wsl.exe --set-version $WSL_DISTRO_NAME 2",), None),
    ("*", "kernel-old"): ("this kernel is too old, or an outer seccomp filter hides the call; "
                          "Linux 5.10 or newer is needed",
                          (), None),

    # User namespaces
    ("*", "namespaces-max"): ("{kind} namespaces are used up or off here",
                              ("sudo sysctl -w {sysctl}=16384",),
                              "until the next boot; a line in /etc/sysctl.d keeps it"),
    ("*", "userns-clone"): ("user namespaces are off for users here",
                            ("sudo sysctl -w kernel.unprivileged_userns_clone=1",),
                            "every user may then make them; a line in /etc/sysctl.d keeps it"),
    ("*", "userns-forbidden"): ("user namespaces are off here: an administrator, an outer sandbox "
                                "or container, or a chroot forbids them", (), None),
    ("chroot",
     "userns-forbidden"): ("in a chroot the kernel makes no user namespace: start mrunc outside, "
                           "or enter the directory with pivot_root (unshare --mount, "
                           "systemd-nspawn)",
                           (), None),
    ("*", "userns-lsm"): ("a security module forbids user namespaces; AppArmor lets a program with "
                          "a profile have them",
                          profile("mrunc-python", "{binary}"), FREES_ALL, NARROWER),
    ("rhel", "userns-lsm"): ("SELinux forbids user namespaces: what it refused",
                             ("sudo ausearch -m AVC -ts recent",), None),
    ("*", "userns-profile"): ("the AppArmor profile {label} forbids user namespaces: add the line "
                              "`userns,` to it and load it",
                              ("sudo apparmor_parser -r \"$(grep -rlE '^ *profile +{label}\\b' "
                               "/etc/apparmor.d)\"",), None),
    ("*", "userns-capabilities"): ("user namespaces are made but give no capabilities (AppArmor's "
                                   "rule for unprivileged ones); a program with a profile gets "
                                   "them",
                                   profile("mrunc-python", "{binary}"), FREES_ALL,
                                   NARROWER),
    ("*", "userns-depth"): ("user namespaces are nested too deeply here", (), None),
    ("*", "maps"): ("an outer sandbox, or an AppArmor rule for user namespaces, takes the "
                    "capabilities away", (), None),
    ("*", "ids-effective"): ("this process's effective ids are not its real ones (seteuid), and "
                             "the kernel closes its children's /proc to such a one: start mrunc "
                             "with the ids set back, or from a process that has taken these for "
                             "good (setresgid, setresuid)", (), None),

    # File systems
    ("*", "proc-masked"): ("part of /proc is masked here (a container?): unmask it there, or go "
                           "without",
                           ("python3 {door} run --proc none -- CMD",), None),
    ("*", "proc-missing"): ("there is no /proc here", ("sudo mount -t proc proc /proc",), None),
    ("*", "proc-read-only"): ("/proc is mounted read-only here",
                              ("sudo mount -o remount,rw /proc",), None),
    ("*", "proc-sys"): ("/proc/sys is not writable here (a container?): mrunc needs it for its "
                        "user namespace limit", (), None),
    ("*", "no-space"): ("the copied files do not fit: {tmpfs} gives more room", (), None),
    ("*", "unreachable"): ("the caller may not reach it; bring a file in with {copy}", (), None),
    ("*", "run-directory"): ("as root mrunc keeps its lock file in /run/mrunc",
                             ("sudo mount -t tmpfs tmpfs /run",), None),
    ("*", "overlay"): ("an overlay needs the overlay module and Linux 6.6, where tmpfs keeps its "
                       "marks (user xattrs)",
                       ("sudo modprobe overlay",), None),
    ("*", "memfd"): ("vm.memfd_noexec forbids programs in memory",
                     ("sudo sysctl -w vm.memfd_noexec=1",),
                     "until the next boot; a line in /etc/sysctl.d keeps it"),

    # Second layers
    ("*", "seccomp"): ("this kernel was built without seccomp filters, or an outer filter forbids "
                       "them", (), None),
    ("*", "seccomp-notify"): ("another supervisor listens already, or the kernel is older than 5.0",
                              (), None),
    ("*", "landlock-off"): ("Landlock is built in but not in the kernel's lsm= list: boot with %s" %
                            LSM, (), None),
    ("debian", "landlock-off"): ("Landlock is built in but not in the kernel's lsm= list",
                                 (GRUB.replace("{words}", LSM),), NEXT_BOOT),
    ("rhel", "landlock-off"): ("Landlock is built in but not in the kernel's lsm= list",
                               (GRUBBY.replace("{words}", LSM),), NEXT_BOOT),
    ("*", "landlock-old"): ("this kernel has too old a Landlock or none (or an outer filter hides "
                            "it): Linux 5.19 has ABI 2, 6.12 ABI 6", (), None),

    # cgroups
    ("*", "cgroup-v1"): ("this host runs cgroup v1: boot it with %s" % UNIFIED, (), None),
    ("debian", "cgroup-v1"): ("this host runs cgroup v1", (GRUB.replace("{words}", UNIFIED),),
                              NEXT_BOOT),
    ("rhel", "cgroup-v1"): ("this host runs cgroup v1", (GRUBBY.replace("{words}", UNIFIED),),
                            NEXT_BOOT),
    ("*", "cgroup-none"): ("no cgroup2 file system is mounted",
                           ("sudo mount -t cgroup2 cgroup2 /sys/fs/cgroup",), None),
    ("*", "cgroup-read-only"): ("run on the host, or give the container a writable cgroup mount "
                                "and a group", (), None),
    ("*", "cgroup-outside"): ("run on the host, or in a new session", (), None),
    ("*", "cgroup-disabled"): ("boot with cgroup_enable={controller}, without "
                               "cgroup_disable={controller}", (), None),
    ("*", "cgroup-lacks"): ("in a container: it must be given the controller; else a kernel with "
                            "it is needed", (), None),
    ("*", "cgroup-user"): ("no group is delegated to this user; in a login session systemd does it",
                           ("systemd-run --user --scope -p Delegate=yes -- {start} ...",), None),
    ("*", "cgroup-io"): ("systemd does not hand this controller to users (they must log in anew "
                         "then)",
                         ("sudo mkdir -p {units} && printf '%s\\n' '[Service]' 'Delegate=cpu "
                          "cpuset io memory pids' | sudo tee {units}/delegate.conf && sudo "
                          "systemctl daemon-reload",), None),

    # Python
    ("*", "bytecode"): ("compile it once", ("{as_owner}{python} -m compileall -q {folder}",),
                        None),

    # Around us
    ("*", "wsl1"): ("WSL 1 is no Linux kernel", ("wsl.exe --set-version $WSL_DISTRO_NAME 2",),
                    None),
    ("*", "yama"): ("Yama forbids tracing also inside",
                    ("sudo sysctl -w kernel.yama.ptrace_scope=1",),
                    "until the next boot"),
    ("*", "core-pattern"): ("core dumps of this host go to a socket",
                            ("sudo sysctl -w kernel.core_pattern=core",),
                            "other programs' core dumps are then files in their current "
                            "directories"),
    ("*", "core-limit"): ("the hard limit of core dumps must be at least 1 here",
                          ("sudo prlimit --core=0:1 --pid $$",), None),
    ("*", "in-flight"): ("programs of this user have more descriptors on their way through sockets "
                         "than this process may have open: allow it more, or end them",
                         ("sudo prlimit --nofile=65536:65536 --pid $$",),
                         None),
    ("*", "profile"): ("a profile's file lies in /etc/apparmor.d", (), None),
    ("*", "outer"): ("set by what started mrunc (a service, a container, a sandbox)", (), None),
}
#: Causes that the surrounding container or sandbox can remove, and not the host.
AROUND = ("userns-forbidden", "userns-lsm", "userns-profile", "userns-capabilities", "maps",
          "proc-sys", "seccomp")
for _cause in AROUND:
    TABLE["container", _cause] = (CONTAINER, (), "the options open the container, not mrunc")
    TABLE["lxc", _cause] = (NESTING, ("lxc config set NAME security.nesting true",), None)
    TABLE["kubernetes", _cause] = (POD, (), None)
TABLE["container", "proc-masked"] = (UNMASKED, ("python3 {door} run --proc none -- CMD",), None)
for _cause in AROUND + ("landlock-old", "seccomp-notify", "cgroup-none", "cgroup-v1",
                        "cgroup-read-only", "cgroup-outside",
                        "proc-masked", "memfd", "kernel-old", "namespaces-max", "run-directory"):
    TABLE["sandbox", _cause] = (OUTSIDE, (), None)


class Remedy:
    """What helps against one cause.

    cause: of the table.
    why: a phrase.
    commands: [line to paste].
    warning: a phrase or None.
    narrower: (phrase, [line]) with a smaller effect, or None.
    """

    __slots__ = ("cause", "why", "commands", "warning", "narrower")

    def __init__(self, cause, why, commands, warning, narrower):
        self.cause, self.why, self.commands = cause, why, commands
        self.warning, self.narrower = warning, narrower

    def line(self):
        """Returns the one line of a run that failed."""
        if not self.commands:
            return self.why
        if len(self.commands) == 1:
            return "%s: %s" % (self.why, self.commands[0])
        return "%s: `python3 %s doctor` prints the commands" % (self.why, door())

    def as_dict(self):
        """Returns the JSON object."""
        narrower = self.narrower and {"why": self.narrower[0], "commands": list(self.narrower[1])}
        return {"cause": self.cause, "why": self.why, "commands": list(self.commands),
                "warning": self.warning, "narrower": narrower}


def find(cause, seen=None, **words):
    """Returns the Remedy for a cause on this host, or None.

    cause: of the table.
    seen: Vantage, read now unless given.
    words: for {sysctl} and the like.
    """
    seen = seen or vantage.Vantage.read()
    for place in seen.places() + ["*"]:
        row = TABLE.get((place, cause))
        if row is not None and not (any(GRUB_FILE in command for command in row[1]) and
                                    not os.path.exists(GRUB_FILE)):
            break  # a host that another loader boots has no such file to change
    else:
        return None
    words.setdefault("inside", describe(seen.kind))
    words.update(_words())
    commands = [_command(command, words) for command in row[1]]
    narrower = row[3] if len(row) > 3 else None
    narrower = narrower and (_fill(narrower[0], words),
                             [_command(command, words) for command in narrower[1]])
    return Remedy(cause, _fill(row[0], words), commands, row[2] and _fill(row[2], words), narrower)


def line(cause, **words):
    """Returns the one line for a SandboxError, or None.  Arguments as `find`; cause may be None."""
    found = find(cause, **words) if cause else None
    return found.line() if found else None


def describe(kind):
    """Returns a vantage's kind for people."""
    return {"mrunc": "an mrunc sandbox", "sandbox": "a sandbox", "container": "a container",
            None: "a sandbox", "namespace": "a user namespace",
            "chroot": "a chroot"}.get(kind, "a %s %s" % (
                kind, "sandbox" if kind in vantage.SANDBOXES else "container"))


def door():
    """Returns mrunc.py's path, quoted for a shell."""
    import shlex
    return shlex.quote(caller.door())


def _words():
    import shlex
    modules = (vantage.read("/sys/kernel/security/lsm") or "yama").split(",")
    try:
        binary = os.readlink("/proc/self/exe")
    except OSError:
        binary = os.path.realpath(sys.executable or "/usr/bin/python3")
    return {"units": "/etc/systemd/system/user@.service.d", "python": shlex.quote(binary),
            "binary": binary, "door": door(),
            "start": "python3 YOUR-PROGRAM" if caller.library() else caller.program_name() + " run",
            "folder": shlex.quote(caller.folder()), "tmpfs": caller.option("tmpfs", "DST=SIZE"),
            "copy": caller.option("copy"), "lsm": ",".join(["landlock"] +
                            [name for name in modules if name not in ("capability", "landlock")]),
            "as_owner": "" if os.access(caller.folder(), os.W_OK) else "sudo "}


def _fill(text, words):
    for name, value in words.items():
        text = text.replace("{" + name + "}", value)
    return text.replace("sudo ", "") if os.geteuid() == 0 else text


def _command(command, words):
    if isinstance(command, str):
        return _fill(command, words)
    import shlex
    lines = " ".join(shlex.quote(_fill(line, words)) for line in command[1:])
    return _fill("printf '%s\\n' ", words) + lines + _fill(" | sudo tee ", words) + command[0]


# -- what a failure means ------------------------------------------------------------------------

def namespace_cause(number):
    """Returns (cause, words) for the errno with which the kernel refused new namespaces.

    clone3(2), user_namespaces(7)
    """
    if number == 28:
        for kind in ("user", "mnt", "pid", "uts", "ipc", "net", "cgroup", "time"):
            if vantage.sysctl("user.max_%s_namespaces" % kind) == "0":
                break
        else:
            kind = "user"
        return "namespaces-max", {"kind": kind, "sysctl": "user.max_%s_namespaces" % kind}
    if number == 1 and vantage.sysctl("kernel.unprivileged_userns_clone") == "0":
        return "userns-clone", {}
    label = vantage.apparmor_profile() if number == 13 else ""
    if label:
        return "userns-profile", {"label": label}
    return {1: "userns-forbidden", 13: "userns-lsm", 38: "kernel-old",
            87: "userns-depth"}.get(number), {}


def capabilities_cause(number=None):
    """Returns the cause if a namespace was made without its maps or its capabilities.

    number: errno of the write to a map, or None.
    """
    if number == 30:
        return "proc-read-only"
    if ids_effective(number):
        return "ids-effective"
    if vantage.sysctl("kernel.apparmor_restrict_unprivileged_userns") == "1":
        return "userns-capabilities"
    return "maps"


def ids_effective(number):
    """Returns whether an errno comes from effective ids that are not the real ones.

    exec makes such a process undumpable, then its children, and root owns their /proc/PID.
    execve(2), PR_SET_DUMPABLE(2const)
    """
    return number == 13 and (os.getuid(), os.getgid()) != (os.geteuid(), os.getegid())
