# SPDX-License-Identifier: Apache-2.0
"""Lists the declared misses: what a probe reaches with every control in force, and why.

SECURITY.md prints this table; a test compares them. Nothing of host integrity is ever declared.
"""

ALL, WEAK, PROCESS = ("full", "rootns", "process"), ("rootns", "process"), ("process",)
NONE = "this tier makes no namespace"
SEEN = "Landlock hides a file's contents, not its existence"
LOCKS = ("databases need record locks, and no limit counts their memory. The policy strict refuses "
         "them")
#: probe id -> (tiers, reason)
DECLARED = {
    "C17": (ALL, "an ordinary user's groups can't be dropped: the kernel denies setgroups in "
            "a user's namespace; started by root there are none"),
    "L04": (ALL, "a bind shows its source's path and device in /proc/self/mountinfo, and a tmpfs "
            "the id outside; no mount option hides them (--copy shows no path)"),
    "L16": (ALL, "sysinfo(2) reports the machine's memory and load; libc and runtimes size "
            "their heaps by it, and no namespace covers it"),
    "L23": (ALL, "one counter of the kernel numbers all processes of the host; programs need "
            "pidfds, and fstat(2) can't be refused"),
    "I14": (ALL, "programs that build and serve files wait by inotify, so shown files can be "
            "watched. The policy strict refuses it"),
    "I16": (ALL, "package tools and databases lock files; everybody sees a lock on a shown "
            "file"),
    "T26": (ALL, LOCKS),
    "T27": (ALL, LOCKS),
    "N30": (WEAK, "these tiers are for hosts without user namespaces"),
    "N31": (PROCESS, NONE), "N32": (PROCESS, NONE), "N33": (PROCESS, NONE), "N34": (PROCESS, NONE),
    "N35": (PROCESS, NONE), "N36": (PROCESS, NONE), "N37": (PROCESS, NONE),
    "S21": (PROCESS, SEEN), "S22": (PROCESS, SEEN), "L03": (PROCESS, NONE),
    "L05": (PROCESS, SEEN), "L15": (PROCESS, NONE), "L20": (PROCESS, SEEN),
    "L21": (PROCESS, SEEN),
    "N42": (("rootns",),
            "every namespace there belongs to the host's user namespace, so a descriptor of that "
            "one can be had; without a capability it opens nothing"),
    "C04": (PROCESS, "an ordinary user can't empty the bounding set without a user namespace; "
            "under no_new_privs it has no effect"),
    "C10": (PROCESS, "an ordinary user can't lock securebits without a user namespace; there is no "
            "capability to keep"),
    "C19": (("rootns",), "without a user namespace, the id inside is the host's own"),
}

#: control -> probes reached on a kernel without it; leaving it out by an option is no reason
OLD_KERNELS = {
    "timens": ("N37", "L15"),
}


def reason(name, tier, missing=()):
    """Returns why a miss stays in this tier, or None.

    name: of the probe

    tier: name

    missing: controls that were asked for and that this kernel lacks
    """
    tiers, why = DECLARED.get(name, ((), None))
    if tier in tiers:
        return why
    lacking = [control for control in missing if name in OLD_KERNELS.get(control, ())]
    return "this kernel has no %s" % lacking[0] if lacking else None


#: Probes that were never reached anywhere, and why: they are run, but only counted if reached.
UNPROVEN = {
    "B07": "no kernel to be had has x32 calls",
    "K57": "gone since Linux 6.8",
    "S08": "no kernel to be had has CONFIG_UEVENT_HELPER",
    "T12": "no kernel to be had schedules by core",
    "W28": "no kernel to be had has AF_X25",
    "W34": "no kernel to be had has AF_MCTP",
}
