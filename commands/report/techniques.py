# SPDX-License-Identifier: Apache-2.0
"""Finds MITRE ATT&CK techniques (Enterprise, names of version 18) that rows of a result fit.

A rule is a hint, never a verdict: a debugger attaches too, and an installer writes systemd units.
The report shows the reason of each rule. If no technique is certain, the rule has a name and no id.
"""
import re


class Rule:
    """Is a rule from a row to a technique.

    source: "refused", "processes" or "changes", the rows that it tests
    technique: id, "" without one
    name: str
    reason: why a row fits, one phrase
    test: function of a row; it may raise for rows without the needed keys
    """

    __slots__ = ("source", "technique", "name", "reason", "test")

    def __init__(self, source, technique, name, reason, test):
        self.source, self.technique, self.name = source, technique, name
        self.reason, self.test = reason, test

    def takes(self, row):
        """Returns whether a row, of any shape, fits."""
        try:
            return bool(self.test(row))
        except (KeyError, TypeError, AttributeError, IndexError, ValueError):
            return False


# Conditions

def _call(*names):
    return lambda row: row["syscall"] in names


def _words(value):
    """Returns the constants in a value: {"CLONE_NEWUSER", "CLONE_NEWNS"}."""
    return set(re.split(r"\W+", value)) if isinstance(value, str) else set()


def _flag(calls, *prefixes):
    """Returns a test for a call with a constant of these prefixes, also within a structure."""
    def test(row):
        return row["syscall"] in calls.split() and any(
            word.startswith(prefixes) for value in row["args"].values()
            for part in (value.values() if isinstance(value, dict) else [value])
            for word in _words(part))
    return test


def _set_id_mode(row):
    mode = row["args"]["mode"]
    mode = int(mode, 8) if isinstance(mode, str) else mode
    return row["syscall"] in ("chmod", "fchmod", "fchmodat", "fchmodat2", "mknod", "mknodat",
                              "open", "openat", "creat", "mkdir", "mkdirat") and mode & 0o6000


def _program(*names):
    """Returns a test for a program executed inside; the first process is the caller's choice."""
    return lambda row: row["parent"] not in (0, 1, None) and (
        _name(row) in names or _name(row).rstrip("0123456789.") in names)


def _name(row):
    return row["exe"].rpartition("/")[2]


def _argument(program, *words):
    return lambda row: _name(row) in program.split() and any(word in words
                                                             for word in row["argv"][1:])


def _path(pattern, change=("added", "modified"), kinds=("file", "symlink")):
    found = re.compile(pattern, re.DOTALL)
    return lambda row: (row["change"] in change and row["kind"] in kinds and
                        found.match(row["path"]))


#: Depth is bounded: a second ".*" would take time that grows with the square of a path's length.
UNITS = r"(/etc|/usr/lib|/lib|.*/\.config)/systemd/([^/]+/){0,3}[^/]+"
NETWORK = "the sandbox has no network, and its filter only allows AF_UNIX sockets"
RULES = tuple(Rule(*row) for row in (
    # What the filter refused
    ("refused", "T1055.008", "Ptrace System Calls", "ptrace gives control of another process: its "
     "memory and its registers", lambda row: row["syscall"] == "ptrace" and
     row["args"]["request"] != "PTRACE_TRACEME"),
    ("refused", "T1622", "Debugger Evasion", "a program that traces itself learns whether it is "
     "being traced", _flag("ptrace", "PTRACE_TRACEME")),
    ("refused", "T1055", "Process Injection", "process_vm_writev writes into the memory of another "
     "process", _call("process_vm_writev")),
    ("refused", "T1547.006", "Kernel Modules and Extensions", "the call loads or unloads code of "
     "the kernel", _call("init_module", "finit_module", "delete_module")),
    ("refused", "T1611", "Escape to Host", "it mounts or moves file systems, a way out of "
     "containers", _call("mount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount",
                         "fsopen", "fsmount", "fspick", "fsconfig",
           "mount_setattr")),
    ("refused", "T1611", "Escape to Host", "it makes or enters a namespace, in which it would have "
     "capabilities", lambda row: row["syscall"] in ("unshare", "setns") or
     _flag("clone clone3", "CLONE_NEW")(row)),
    ("refused", "T1611", "Escape to Host", "open_by_handle_at opens files of a disk by handle, "
     "past every mount", _call("open_by_handle_at")),
    ("refused", "T1040", "Network Sniffing", "a packet socket sees every frame of the network",
     _flag("socket", "AF_PACKET")),
    ("refused", "T1095", "Non-Application Layer Protocol", "a raw socket carries any protocol",
     lambda row: _flag("socket", "SOCK_RAW")(row) and _flag("socket", "AF_INET")(row)),
    ("refused", "", "Network", NETWORK, _flag("socket connect bind sendto sendmsg sendmmsg",
                                              "AF_INET", "AF_VSOCK",
                                                 "AF_BLUETOOTH", "AF_XDP", "AF_NETLINK")),
    ("refused", "T1620", "Reflective Code Loading", "a file in memory can be executed without a "
     "file on disk", _call("memfd_create", "memfd_secret")),
    ("refused", "T1548.001", "Setuid and Setgid", "the mode has a set-user-ID or set-group-ID bit",
     _set_id_mode),
    ("refused", "T1529", "System Shutdown/Reboot", "reboot stops or restarts the machine",
     _call("reboot")),
    ("refused", "", "Another kernel", "kexec starts another kernel in place of the running one",
     _call("kexec_load", "kexec_file_load")),
    ("refused", "", "Programs in the kernel", "bpf loads programs into the kernel, or reads "
     "their data", _call("bpf")),
    ("refused", "", "The kernel's keys and logs", "keys and the kernel's log belong to the host",
     _call("keyctl", "add_key", "request_key", "syslog")),
    ("refused", "", "Calls that exploits use", "the call is rarely needed and often exploited",
     _call("userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register",
           "perf_event_open", "kcmp", "modify_ldt")),
    ("refused", "", "The host's clock", "the clock is the host's",
     _call("settimeofday", "clock_settime", "clock_adjtime", "adjtimex")),
    # What was executed
    ("processes", "T1059.004", "Unix Shell", "it started a shell",
     _program("sh", "bash", "dash", "zsh", "ksh", "ash", "csh")),
    ("processes", "T1059.006", "Python", "it started Python", _program("python")),
    ("processes", "T1059.007", "JavaScript", "it started Node.js", _program("node", "nodejs")),
    ("processes", "T1105", "Ingress Tool Transfer", "the program fetches files from the network",
     _program("curl", "wget", "tftp", "ftp", "scp")),
    ("processes", "T1053.003", "Cron", "crontab changes what runs by schedule",
     _program("crontab")),
    ("processes", "T1053.002", "At", "at runs a program later", _program("at", "batch")),
    ("processes", "T1543.002", "Systemd Service", "it enables or starts a service",
     _argument("systemctl", "enable", "start", "restart", "reenable", "daemon-reload", "link")),
    ("processes", "T1547.006", "Kernel Modules and Extensions", "the program loads kernel modules",
     _program("insmod", "modprobe", "kmod", "rmmod")),
    ("processes", "T1548.003", "Sudo and Sudo Caching", "sudo runs a program as another user",
     _program("sudo", "sudoedit")),
    ("processes", "T1136.001", "Local Account", "the program adds an account",
     _program("useradd", "adduser")),
    ("processes", "T1222.002", "Linux and Mac File and Directory Permissions Modification",
     "the program changes permissions of files", _program("chmod", "chown", "chattr", "setfacl")),
    ("processes", "T1033", "System Owner/User Discovery", "it asked who it is",
     _program("whoami", "id", "who", "w")),
    ("processes", "T1082", "System Information Discovery", "it asked what it runs on",
     _program("uname", "lscpu", "hostnamectl", "lsmod", "dmidecode", "lspci")),
    ("processes", "T1057", "Process Discovery", "it listed processes",
     _program("ps", "pgrep", "top", "pidof")),
    ("processes", "T1016", "System Network Configuration Discovery", "it asked about network "
     "devices", _program("ifconfig", "ip", "arp", "route", "resolvectl")),
    ("processes", "T1049", "System Network Connections Discovery", "it listed connections",
     _program("netstat", "ss", "lsof")),
    ("processes", "T1140", "Deobfuscate/Decode Files or Information", "it decoded text to bytes",
     _argument("base64 base32", "-d", "--decode", "-D")),
    ("processes", "T1027.004", "Compile After Delivery", "it compiled something",
     _program("gcc", "cc", "g++", "tcc", "clang")),
    ("processes", "T1560.001", "Archive via Utility", "it packed files",
     _program("tar", "zip", "rar", "gzip", "xz", "7z")),
    ("processes", "T1564.011", "Ignore Process Interrupts", "nohup outlives its terminal",
     _program("nohup")),
    ("processes", "T1620", "Reflective Code Loading", "the executed file is in memory only",
     lambda row: row["exe"].startswith(("memfd:", "/memfd:", "/proc/self/fd/", "/dev/fd/"))),
    ("processes", "T1564.001", "Hidden Files and Directories", "the executed file has a "
     "hidden name", lambda row: "/." in row["exe"]),
    ("processes", "T1036", "Masquerading", "the program named itself like a kernel thread",
     lambda row: row["argv"][0].startswith("[") and row["argv"][0].rstrip().endswith("]")),
    # What was changed
    ("changes", "T1053.003", "Cron", "cron runs the commands in it",
     _path(r"/etc/(cron\.(d|hourly|daily|weekly|monthly)/|crontab$|anacrontab$)|/var/spool/cron/")),
    ("changes", "T1053.006", "Systemd Timers", "systemd starts the units of timers",
     _path(UNITS + r"\.timer$")),
    ("changes", "T1543.002", "Systemd Service", "systemd starts the programs of units",
     _path(UNITS + r"\.service$")),
    ("changes", "T1546.004", "Unix Shell Configuration Modification", "every shell reads it at "
     "its start",
     _path(r".*/\.(bashrc|bash_profile|bash_login|bash_logout|profile|zshrc|zprofile|zshenv)$|"
           r"/etc/(profile$|profile\.d/|bash\.bashrc$|zsh/)")),
    ("changes", "T1098.004", "SSH Authorized Keys", "the holder of the key may log in",
     _path(r".*/\.ssh/authorized_keys2?$")),
    ("changes", "T1574.006", "Dynamic Linker Hijacking", "the loader loads these libraries into "
     "every program", _path(r"/etc/ld\.so\.preload$")),
    ("changes", "T1037.004", "RC Scripts", "it runs when the machine starts",
     _path(r"/etc/(rc\.local$|rc\.common$|init\.d/|rc\d?\.d/)")),
    ("changes", "T1546.017", "Udev Rules", "udev runs the programs of rules when a device appears",
     _path(r"(/etc|/usr/lib|/lib)/udev/rules\.d/")),
    ("changes", "T1547.013", "XDG Autostart Entries", "the desktop starts it with every session",
     _path(r"(/etc/xdg|.*/\.config)/autostart/")),
    ("changes", "T1547.006", "Kernel Modules and Extensions", "it is a kernel module, or names one "
     "to load at start",
     _path(r"/etc/modules(-load\.d/|$)|/(usr/)?lib/modules/|.*\.ko(\.[xg]z|\.zst)?$")),
    ("changes", "T1556.003", "Pluggable Authentication Modules", "PAM decides who may log in",
     _path(r"/etc/pam\.(d/|conf$)|.*/pam_\w+\.so$")),
    ("changes", "T1098", "Account Manipulation", "it holds the accounts of the system",
     _path(r"/etc/(passwd|shadow|group|gshadow)$")),
    ("changes", "T1548.003", "Sudo and Sudo Caching", "it decides who may use sudo",
     _path(r"/etc/sudoers($|\.d/)")),
    ("changes", "T1548.001", "Setuid and Setgid", "its mode has a set-user-ID or set-group-ID bit",
     lambda row: row["change"] in ("added", "modified") and row["set_id"]),
    ("changes", "T1564.001", "Hidden Files and Directories", "its name starts with a dot, which "
     "hides it", lambda row: row["change"] == "added" and re.search(r"/\.[^/]+$", row["path"])),
))


def of(row, source):
    """Returns [Rule] that a row of `source` fits, the closest first."""
    return [rule for rule in RULES if rule.source == source and rule.takes(row)]


def grouped(rows, source):
    """Returns [(id, name, [(row, reason)])] of all rows, each under the first rule that it fits.

    Techniques come first, those with most rows first; rows that fit no rule come last as ("", "",
    ...).
    """
    groups = {}
    for row in rows:
        found = of(row, source)
        key = (found[0].technique, found[0].name) if found else ("", "")
        groups.setdefault(key, []).append((row, found[0].reason if found else None))
    order = sorted(groups, key=lambda key: (not key[1], not key[0], -len(groups[key]), key))
    return [key + (groups[key],) for key in order]


def all_of(result):
    """Returns {(id, name): {source: number of rows}} of a result, for rules with an id."""
    out = {}
    for source in ("refused", "processes", "changes"):
        for row in result.get(source) or ():
            for key in sorted(set((rule.technique, rule.name) for rule in of(row, source)
                                  if rule.technique)):
                sources = out.setdefault(key, {})
                sources[source] = sources.get(source, 0) + 1
    return out
