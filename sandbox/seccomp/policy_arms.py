# SPDX-License-Identifier: Apache-2.0
"""Which refused calls the ledger leaves out, and which kill with --seccomp-action kill, as data.  Small: a start loads it."""

#: (reason, names) of refused calls that ordinary programs make all the time: they stay plain errno arms with the ledger on, or
#: each new thread would pay for a record that tells nothing.  Never one that an attack begins with.
QUIET = (
    ("libc asks at each new thread and process, and then makes clone, which is recorded", "clone3"),
    ("runtimes ask where memory lies", "get_mempolicy set_mempolicy mbind set_mempolicy_home_node move_pages"),
    ("allocators give pages back with it", "process_madvise"),
    ("locks of a newer libc", "futex_wait futex_wake futex_requeue rseq_slice_yield"),
    ("tools ask for mount tables, and then read /proc", "statmount listmount"),
    ("copying tools ask for it first, and then write", "vmsplice cachestat"),
    ("libc and runtimes ask how large the machine is", "sysinfo"),
)

#: The same for a run behind a learned policy, whose every other refusal is a gap in it.
BLIND = (("refused while learning too", "clone3 io_uring_setup io_uring_enter io_uring_register"),)

#: (reason, names) of what only an attack calls in a sandbox.  None of the workload suite's programs makes one of these.
HIGH_RISK = (
    ("loads code into the kernel", "init_module finit_module delete_module kexec_load kexec_file_load"),
    ("loads programs into the kernel", "bpf"),
    ("opens files past the mounts", "open_by_handle_at"),
    ("takes over another process", "ptrace process_vm_writev pidfd_getfd"),
    ("stops the kernel in the middle of a copy", "userfaultfd"),
    ("changes the mounts", "mount umount2 pivot_root open_tree open_tree_attr move_mount mount_setattr fsopen fsconfig fsmount"
                           " fspick"),
    ("enters another namespace", "setns"),
    ("reaches keys that no namespace separates", "add_key request_key keyctl"),
    ("reaches hardware", "iopl ioperm"),
    ("ends or reconfigures the machine", "reboot swapon swapoff acct"),
)


def numbers(rows, table):
    """frozenset of the numbers of these rows' calls on an architecture.  table: {name: number}"""
    return frozenset(table[name] for _, names in rows for name in names.split() if name in table)


def reason(name):
    """Why a call is one of high risk, or None."""
    return ([why for why, names in HIGH_RISK if name in names.split()] + [None])[0]
