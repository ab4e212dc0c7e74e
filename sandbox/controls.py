# SPDX-License-Identifier: Apache-2.0
"""The controls: every single thing that is in force, by the short names that plan, gate, receipt and options use."""

#: How the receipt begins to say that the caller left a control out, and a report knows it by.
LEFT_OUT = "left out by --unsafe-without"
#: name -> (what it does, whether --unsafe-without may leave it out).  What everything else stands on can't be left out.
CONTROLS = {
    "userns": ("own user namespace", False),
    "mountns": ("own mount namespace", False),
    "pidns": ("own pid namespace: no host process is visible", False),
    "ipcns": ("own ipc namespace: System V IPC and POSIX queues", True),
    "utsns": ("own uts namespace: host name", True),
    "netns": ("own, empty network namespace", True),
    "cgroupns": ("own cgroup namespace: the host's cgroup path is hidden", True),
    "timens": ("own time namespace: uptime starts with the sandbox", True),
    "uidmap": ("uid and gid 0 inside are one unprivileged id of the host", False),
    "groups": ("no supplementary groups of the caller", False),
    "userns-limit": ("user.max_user_namespaces of the sandbox bars nested user namespaces", True),
    "userns-nested": ("a second user namespace: a capability won back is worth nothing", True),
    "propagation": ("every mount is private", False),
    "mounts": ("the mount points are exactly the planned ones, each with its flags", False),
    "root-ro": ("the root file system is read-only", True),
    "proc": ("fresh /proc, hidepid=2 and subset=pid (or masked)", True),
    "dev": ("/dev holds null, zero, full, random, urandom, tty alone", False),
    "hostname": ("own host name", True),
    "session": ("own session: not in the caller's process group", True),
    "parent-death": ("dies with the supervisor", True),
    "sweep": ("without a pid namespace: what the program started is found and killed at the end", True),
    "limits.core": ("no core dumps, neither to a file nor to a piped handler of the host", True),
    "limits.nofile": ("open files", True),
    "limits.nproc": ("processes of the sandbox", True),
    "limits.oom": ("killed first when memory runs out (oom_score_adj 1000)", True),
    "limits.memory": ("memory, by control group", True),
    "limits.cpu": ("processor time per second, by control group", True),
    "limits.pids": ("processes and threads, by control group", True),
    "limits.io": ("bytes per second from and to disks, by control group", True),
    "landlock": ("Landlock domain: a second layer under the mounts", True),
    "landlock-signals": ("the workload can't signal pid 1 (Landlock scope)", True),
    "securebits": ("uid 0 gives no capability, locked", True),
    "caps": ("all five capability sets are empty", True),
    "nnp": ("no_new_privs", True),
    "seccomp": ("deny-by-default system call filter", True),
    "ledger": ("refused system calls are recorded: the filter asks a listener about them", True),
    "trace": ("executed programs are recorded: the filter asks a listener about each execve", True),
    "setid-filter": ("with --rw, or a file as a user's output: no set-uid or set-gid file can be made", True),
    "fds": ("no descriptor but 0, 1, 2", True),
    "cwd": ("working directory and umask as planned", False),
}

#: What --best-effort may name: the rest is either there or nothing runs.
BEST_EFFORT = ("limits.core", "limits.memory", "limits.cpu", "limits.pids", "limits.io",
               "landlock", "landlock-signals", "timens")
#: Asked for only by an option.
GROUP_LIMITS = ("limits.memory", "limits.cpu", "limits.pids", "limits.io")


class Control:
    """One line of the receipt.  name; asked: bool; in_force: bool, read back; how: the evidence, one phrase."""

    __slots__ = ("name", "asked", "in_force", "how")

    def __init__(self, name, asked, in_force, how):
        self.name, self.asked, self.in_force, self.how = name, asked, in_force, how

    def as_dict(self):
        """The JSON object of the result."""
        return {"name": self.name, "asked": self.asked, "in_force": self.in_force, "how": self.how}
