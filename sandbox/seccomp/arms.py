# SPDX-License-Identifier: Apache-2.0
"""Changes the answers of finished filters: refusals ask a listener, or kill.

It works on the bytes, so any policy can be changed, and decides exactly as before: only the leaves
change. An allowed call costs what it did, and the kernel's table of always allowed numbers still
holds.
"""
import struct

ALLOW, LOG, TRACE, NOTIFY = 0x7fff0000, 0x7ffc0000, 0x7ff00000, 0x7fc00000
ERRNO, KILL = 0x00050000, 0x80000000
ACTION = 0xffff0000
#: The number -1: an outer filter or a tracer has replaced the call.
SKIPPED = 0xffffffff
PASSES = ALLOW, LOG
_LD, _JEQ, _JA, _RET, _RET_A = 0x20, 0x15, 0x05, 0x06, 0x16
_NR, _ARCH = 0, 4  # offsets in struct seccomp_data
LONGEST = 4096  # BPF_MAXINSNS
_RECORD = struct.Struct("=HBBI")

#: (reason, names) of refused calls that ordinary programs make all the time.  The ledger does not
#: record them: each new thread would pay for a record that tells nothing.  No attack begins with
#: one.
QUIET = (
    ("libc asks at each new thread and process, and then makes clone, which is recorded", "clone3"),
    ("runtimes ask where memory lies",
     "get_mempolicy set_mempolicy mbind set_mempolicy_home_node move_pages"),
    ("allocators give pages back with it", "process_madvise"),
    ("locks of a newer libc", "futex_wait futex_wake futex_requeue rseq_slice_yield"),
    ("tools ask for mount tables, and then read /proc", "statmount listmount"),
    ("copying tools ask for it first, and then write", "vmsplice cachestat"),
    ("libc and runtimes ask how large the machine is", "sysinfo"),
)

#: The same behind a learned policy: any other refusal is a gap in it.
BLIND = (("refused while learning too", "clone3 io_uring_setup io_uring_enter io_uring_register"),)

#: (reason, names) of calls that only an attack makes in a sandbox, and no program of the workload
#: suite.
HIGH_RISK = (
    ("loads code into the kernel",
     "init_module finit_module delete_module kexec_load kexec_file_load"),
    ("loads programs into the kernel", "bpf"),
    ("opens files past the mounts", "open_by_handle_at"),
    ("takes over another process", "ptrace process_vm_writev pidfd_getfd"),
    ("stops the kernel in the middle of a copy", "userfaultfd"),
    ("changes the mounts",
     "mount umount2 pivot_root open_tree open_tree_attr move_mount mount_setattr fsopen fsconfig "
     "fsmount fspick"),
    ("enters another namespace", "setns"),
    ("reaches keys that no namespace separates", "add_key request_key keyctl"),
    ("reaches hardware", "iopl ioperm"),
    ("ends or reconfigures the machine", "reboot swapon swapoff acct"),
)


def numbers_of(rows, table):
    """Returns the numbers of these rows' calls, a frozenset.

    rows: [(reason, names)].
    table: {name: number} of an architecture.
    """
    return frozenset(table[name] for _, names in rows for name in names.split() if name in table)


def why_high_risk(name):
    """Returns why a call is one of high risk, or None."""
    return ([why for why, names in HIGH_RISK if name in names.split()] + [None])[0]


def asking_but(audit_arch, quiet, killed=NOTIFY):
    """Returns leaves that ask the listener about each refused call.

    quiet: numbers that don't ask, besides SKIPPED.
    killed: the answer where the policy kills.
    """
    return lambda value: _tail(value, audit_arch, [*quiet, SKIPPED], value, NOTIFY, killed)


def asking_about(audit_arch, numbers):
    """Returns leaves that ask about refused calls of these numbers, and where the policy kills."""
    return lambda value: _tail(value, audit_arch, numbers, NOTIFY, value, NOTIFY)


def killing(audit_arch, numbers):
    """Returns leaves that kill the process for a refused call of these numbers."""
    return lambda value: _tail(value, audit_arch, numbers, KILL, value, KILL)


def asking_when_allowed(audit_arch, numbers):
    """Returns leaves that ask about allowed calls of these numbers and change no other answer."""
    def leaf(value):
        if value & ACTION not in PASSES:
            return None
        out = [(_LD, 0, 0, _ARCH), (_JEQ, 1, 0, audit_arch), (_RET, 0, 0, value), (_LD, 0, 0, _NR)]
        for number in sorted(numbers):
            out += [(_JEQ, 0, 1, number), (_RET, 0, 0, NOTIFY)]
        return out + [(_RET, 0, 0, value)]
    return leaf


def unchanged(value):
    """Leaves an answer as it is."""
    return None


def _tail(value, audit_arch, numbers, listed, others, killed):
    """Returns the instructions for a call that the policy answers with `value`; None: no change.

    listed, others, killed: the answer for one of the numbers, for the rest, and where the policy
        kills.
    """
    # The numbers of a foreign architecture would be read wrong.
    if value == KILL and killed != KILL:
        return [(_LD, 0, 0, _ARCH), (_JEQ, 0, 1, audit_arch), (_RET, 0, 0, killed),
                (_RET, 0, 0, value)]
    if value & ACTION != ERRNO or value == ERRNO:  # errno 0, pretended success, is no refusal
        return None
    numbers = sorted(numbers)
    return [(_LD, 0, 0, _NR)] + [(_JEQ, len(numbers) - at, 0, number)
                                 for at, number in enumerate(numbers)] + [
        (_RET, 0, 0, others), (_RET, 0, 0, listed)]


def combine(programs, leaves):
    """Returns one program that decides as a chain of filters, with other leaves.

    programs: bytes of each, the last attached first: its answer wins among equals.
    leaves: one of the functions above.

    Raises ValueError for a program that returns what it computed, and for a result that is too
    long.
    """
    code, open_ends, starts = [], {}, {}
    queue = [(0, ALLOW)]
    while queue:
        stage, carried = queue.pop(0)
        if (stage, carried) in starts:
            continue
        starts[stage, carried] = len(code)
        for op, jt, jf, k in _RECORD.iter_unpack(programs[stage]):
            if op == _RET_A:
                raise ValueError("returns what it computed")
            if op == _RET:
                value = min(k, carried, key=_rank)
                passes = k & ACTION in (ALLOW, LOG, TRACE)
                if passes and stage + 1 < len(programs):
                    queue.append((stage + 1, value))
                    open_ends[len(code)] = stage + 1, value
                elif leaves(value) is not None:
                    open_ends[len(code)] = "leaf", value
                else:
                    k = value
            code.append((op, jt, jf, k))
    for end in [end for end in open_ends.values() if end[0] == "leaf"]:
        if end not in starts:
            starts[end] = len(code)
            code += leaves(end[1])
    for at, end in open_ends.items():
        code[at] = (_JA, 0, 0, starts[end] - at - 1)
    if len(code) > LONGEST:
        raise ValueError("too long with its other answers: %d instructions" % len(code))
    return b"".join(_RECORD.pack(*instruction) for instruction in code)


def _rank(value):
    """Returns an action as a signed number: the kernel takes the lowest.

    kernel/seccomp.c, seccomp_run_filters
    """
    action = value & ACTION
    return action - (1 << 32) if action & KILL else action


class Answers:
    """Computes what a chain of programs answers, as the kernel does.

    programs: as of `combine`.
    audit_arch: int.
    """

    #: Answers that are kept, of calls whose arguments decide and of others.
    MOST = 4096

    def __init__(self, programs, audit_arch):
        from ... import seccomp_bpf as bpf  # for a listener alone
        self.bpf, self.arch = bpf, audit_arch
        self.programs = [_Watched(bpf.decode(program)) for program in programs]
        self.constant, self.known = {}, {}

    def of(self, number, arguments):
        """Returns the filter's return value, action and data, for a call.

        number: of the call, on this architecture.
        arguments: tuple of six int.
        """
        found = self.constant.get(number)
        if found is None:
            found = self.known.get((number, arguments))
        return self._find(number, arguments) if found is None else found

    def _find(self, number, arguments):
        values, constant = [], True
        for program in self.programs:
            program.looked = False
            values.append(self.bpf.run(program, number, self.arch, arguments)[0])
            constant = constant and not program.looked
        value = min(values, key=_rank)  # the first among equals
        if constant and len(self.constant) < self.MOST:
            self.constant[number] = value
        elif not constant and len(self.known) < self.MOST:
            self.known[number, arguments] = value
        return value


class _Watched(list):
    """Instructions that note whether one looked at more than number and architecture."""

    looked = False

    def __getitem__(self, at):
        found = list.__getitem__(self, at)
        if found[0] == _LD and found[3] > _ARCH:
            self.looked = True
        return found
