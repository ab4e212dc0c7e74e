# SPDX-License-Identifier: Apache-2.0
"""Reads system call policies that people already have: OCI (docker, podman) JSON, minijail text, raw BPF.

Gives the policy model of seccomp_bpf and the program made from it. What can't be expressed is refused, never
approximated; every refusal names file, line, column and what was expected. Only loaded when a policy is not one of the
shipped ones or is added to.

Two things hold whatever a file says: another architecture's calls are killed (mrunc runs no 32-bit programs), and with
a default action that lets calls pass, x32 numbers get ENOSYS, or a denylist could be walked round by them. A condition
on an argument that is 32 bits wide for the kernel looks at these 32 bits (INTS); on every other one at all 64, and where
the width is not known here, a test that the upper half could walk round is refused.
"""
import os
import stat

from . import policy
from .errors import usage
from .policy_constants import OTHER_CALLS
from .. import seccomp_bpf as bpf

#: Bytes of a policy file.  docker's default has 20,000.
LIMIT = 1 << 20

#: call: the arguments of which the kernel drops the upper half.  From the SYSCALL_DEFINE lines; clone's flags are an
#: unsigned long there, of which it takes lower_32_bits.
INTS = dict((word.split(":")[0], frozenset(int(digit) for digit in word.split(":")[1])) for word in """
    accept4:03 arch_prctl:0 bpf:0 chmod:1 clock_gettime:0 clock_nanosleep:01 clock_settime:0 clone:0 close:0 close_range:012
    creat:1 dup3:012 epoll_ctl:012 eventfd2:01 fadvise64:03 fchmod:01 fchmodat:02 fchmodat2:023 fcntl:01 flock:01 futex:125
    getpriority:01 getrandom:2 getrlimit:0 getsockopt:012 inotify_init1:0 io_uring_setup:0 ioctl:01 ioprio_set:012
    keyctl:0 kill:01 madvise:2 membarrier:01 memfd_create:1 mkdir:1 mkdirat:02 mknod:12 mknodat:023 mq_open:12 msgctl:01
    open:12 openat:023 personality:0 pidfd_open:01 pidfd_send_signal:013 pipe2:1 prctl:0 prlimit64:01 reboot:012
    renameat2:024 rt_sigprocmask:0 sched_setscheduler:01 seccomp:01 semctl:012 setns:01 setpriority:012 setrlimit:0
    setsockopt:0124 shmget:2 shutdown:01 signalfd4:03 socket:012 socketpair:012 sync_file_range:03 syslog:02 tgkill:012
    timerfd_create:01 tkill:01 unlinkat:02 wait4:02 waitid:013
    chown:12 dup:0 dup2:01 fchown:012 lchown:12 lseek:02 pread64:0 pwrite64:0 read:0 setgid:0 setregid:01 setresgid:012
    setresuid:012 setreuid:01 setuid:0 umask:0 umount2:1 write:0
    """.split())

_LOW, _ALL = 0xFFFFFFFF, (1 << 64) - 1
_NEGATIVE = (1 << 64) - (1 << 31)  # from here on 64 bits are a sign-extended int
MOST_RULES = 2500
#: Calls whose arguments are all as wide as a register.
WIDE = frozenset("mmap munmap brk mprotect".split())


class Text:
    """A policy's text, for messages that name the place in it.  name: as the user wrote it."""

    __slots__ = ("name", "text")

    def __init__(self, name, text):
        self.name, self.text = name, text

    def error(self, offset, reason, remedy=None):
        """The SandboxError for a mistake at an offset: exit status 2."""
        line = self.text.count("\n", 0, offset) + 1
        column = offset - (self.text.rfind("\n", 0, offset) + 1) + 1
        return usage("%s, line %d, column %d" % (self.name, line, column), reason, remedy, stage="policy")


def read(source, arch, caps=frozenset(), kernel=None):
    """(name, program bytes, seccomp_bpf.Policy or None for raw BPF) of a shipped policy or of a file.

    source: one of policy.NAMES or a path; caps: the names ("CAP_CHOWN") that the process will hold; kernel: (major,
    minor), the running one by default.  Raises SandboxError, exit status 2; KeyError for an unknown architecture.
    """
    name = os.fsdecode(source)
    if name in policy.NAMES:
        return name, policy.program(name, arch), policy.policy(name, arch)
    data = load(name)
    shown = name if "/" in name else "./" + name  # never the name of a shipped one
    if b"\0" in data:  # the opcode of an instruction is 16 bits, of which 8 are used
        return shown, raw(name, data), None
    try:
        return _read_text(name, shown, data, arch, caps, kernel)
    except RecursionError:
        raise usage(name, "nested too deeply", stage="policy")


def _read_text(name, shown, data, arch, caps, kernel):
    try:
        text = Text(name, data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise usage(name, "byte %d is not UTF-8: neither text nor a BPF program" % error.start, stage="policy")
    if text.text.lstrip()[:1] in ("{", "[") and not _minijail_braces(text.text):
        from . import policy_oci
        model = policy_oci.parse(text, arch, caps, running_kernel() if kernel is None else kernel)
    else:
        from . import policy_minijail
        model = policy_minijail.parse(text, arch)
    return shown, compiled(name, model), model


def _minijail_braces(text):
    """Whether it starts with minijail's `{ read, write }: 1`, and not with JSON."""
    head = text.lstrip()[1:].lstrip()[:1]
    return text.lstrip()[0] == "{" and (head.isalpha() or head == "_")


def load(name):
    """The bytes of a policy file.  Raises SandboxError."""
    try:
        fd = os.open(os.fsencode(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == 2 and "/" not in name:
            raise usage("--seccomp %s" % name, "no policy is called so, and there is no such file%s" % nearest(
                name, policy.NAMES), "the shipped ones are default, strict, process, debug", stage="policy")
        raise usage(name, error.strerror, stage="policy")
    except ValueError:
        raise usage("--seccomp", "the path holds a NUL byte", stage="policy")
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise usage(name, "is not a regular file", stage="policy")
        data, part = b"", b"more"
        while part and len(data) <= LIMIT:
            part = os.read(fd, LIMIT + 1)
            data += part
    except OSError as error:
        raise usage(name, error.strerror, stage="policy")
    finally:
        os.close(fd)
    if len(data) > LIMIT:
        raise usage(name, "%d bytes: a policy has at most %d" % (max(found.st_size, len(data)), LIMIT), stage="policy")
    if not data.strip():
        raise usage(name, "is empty", "a policy is OCI JSON, minijail text or a BPF program", stage="policy")
    return data


def raw(name, data):
    """A finished program, checked.  Raises SandboxError."""
    try:
        bpf.verify(data)
        for pc, (op, _, _, k) in enumerate(bpf.decode(data)):
            if op == 0x16:  # BPF_RET | BPF_A: an action that can't be checked beforehand
                raise bpf.FilterError("instruction %d: returns what it has computed" % pc)
            if op == bpf.RET and k & 0xFFFF0000 == bpf.ERRNO:
                try:
                    bpf.errno(k & 0xFFFF)
                except bpf.FilterError as error:
                    raise bpf.FilterError("instruction %d: returns %s" % (pc, error))
    except bpf.FilterError as error:
        raise usage(name, "BPF program: %s" % error, stage="policy")
    return bytes(data)


def compiled(name, model):
    """The program of a model, by the midpoint tree.  Raises SandboxError."""
    try:
        return bpf.compile_policy(model)
    except bpf.FilterError as error:
        raise usage(name, str(error), stage="policy")


def running_kernel():
    """(major, minor) of this kernel."""
    return version(os.uname().release) or (0, 0)


def version(text):
    """(major, minor) of "4.8", "6.1.0-13-amd64" ...; None for anything else."""
    parts = text.split(".")
    digits = [part[:len(part) - len(part.lstrip("0123456789"))] for part in parts[:2]]
    return (int(digits[0]), int(digits[1])) if len(digits) == 2 and all(digits) else None


def known_call(name):
    """Whether any architecture has a system call of this name."""
    return name in OTHER_CALLS or any(name in policy.numbers(arch).NR for arch in policy.ARCHES)


def misspelt(name):
    """Why a name is refused."""
    names = set().union(*(policy.numbers(arch).NR for arch in policy.ARCHES))
    return "no architecture has a system call %r%s" % (name, nearest(name, sorted(names)))


def nearest(word, names):
    """" (did you mean x?)", or nothing."""
    import difflib
    close = difflib.get_close_matches(word, names, 1, 0.7)
    return " (did you mean %s?)" % close[0] if close else ""


def condition(call, arg, op, value, mask=None):
    """A seccomp_bpf.Condition on an argument of this call, or None for one that always holds.

    Values are 64 bits wide as in the files.  On an int a negative number is its low half, as the kernel sees it: compared
    on 64 bits, a rule that refuses -1 would let 0xffffffff pass, which is the same call.  Raises FilterError.
    """
    narrow = arg in INTS.get(call, ())
    if narrow and value > _LOW:
        if value < _NEGATIVE or op not in ("==", "!=", "&==", "&!="):
            raise bpf.FilterError("argument %d of %s is 32 bits wide for the kernel; %#x does not fit" % (arg, call, value))
        value &= _LOW
    if narrow and mask is not None and mask >= _NEGATIVE:
        mask &= _LOW
    if narrow and mask is not None:
        if mask & _LOW:
            mask &= _LOW
        elif mask and op == "&==" and not value:
            return None  # looks only at bits that the kernel drops
        else:
            narrow = False
    return bpf.Condition(arg, op, value, mask, not narrow)


class Rules:
    """What a file says about each call: entries (action, conditions, place) in its order."""

    __slots__ = ("arch", "default", "numbers", "entries")

    def __init__(self, arch, default):
        self.arch, self.default, self.entries = arch, default, {}
        self.numbers = policy.numbers(arch)

    def add(self, call, action, tests, place):
        """place: (Text, offset).  A call that this architecture lacks is passed over; the name was checked."""
        if len(self.entries.get(call, ())) >= MOST_RULES:
            raise usage(call, "more than %d rules for one system call" % MOST_RULES, stage="policy")
        self._refuse_unknown_widths(call, action, tests)
        if call in self.numbers.NR:
            self.entries.setdefault(call, []).append((action, [test for test in tests if test is not None], place))

    def _refuse_unknown_widths(self, call, action, tests):
        """An int compared on 64 bits is walked round by its upper half, wherever something else than the compared value
        leads to more rights.  Of calls in neither table the widths are not known here."""
        if call in INTS or call in WIDE:
            return
        passing = (bpf.ALLOW, bpf.LOG)
        for test in tests:
            if test is None or test[1] in ("&==", "&!=") and test[3] <= _LOW:
                continue
            if test[1] != "==" or action not in passing or self.default in passing:
                raise usage(call, "a test %s of argument %d can't be relied on: mrunc does not know whether the kernel takes "
                            "32 or 64 bits of it" % (test[1], test[0]), "test bits, argN & MASK, or refuse the whole call",
                            stage="policy")

    def model(self):
        """The seccomp_bpf.Policy."""
        rules = {}
        for call, entries in self.entries.items():
            plain = [(action, tests) for action, tests, _ in entries]
            rules[self.numbers.NR[call]] = plain[0][0] if not plain[0][1] else plain
        if self.numbers.AUDIT_ARCH == policy.numbers("x86_64").AUDIT_ARCH and self.default in (bpf.ALLOW, bpf.LOG):
            rules[policy.X32_BIT, _LOW] = bpf.errno(38)  # ENOSYS, as a kernel without x32 says
        return bpf.Policy(self.numbers.AUDIT_ARCH, self.default, rules)


def disjoint(one, other):
    """Whether two lists of conditions can certainly not hold together (False: they may)."""
    for arg in set(test[0] for test in one) & set(test[0] for test in other):
        tests = [test for test in one + other if test[0] == arg]
        low, high, values, ones, zeros = 0, _ALL, set(), 0, 0
        if len(set(test[4] for test in tests)) > 1:
            continue  # some look at 32 bits and some at 64
        for _, op, value, mask, wide in tests:
            low = max(low, value + (op == ">")) if op in (">", ">=") else value if op == "==" else low
            high = min(high, value - (op == "<")) if op in ("<", "<=") else high
            if op == "==":
                values.add(value)
            elif op == "&==":
                if value & zeros or mask & ~value & ones:
                    return True
                ones, zeros = ones | value, zeros | mask & ~value
        if low > high or any(not _holds(value, test) for value in values for test in tests):
            return True
    return False


def _holds(left, test):
    _, op, value, mask, _ = test
    left = left if mask is None else left & mask
    return {"==": left == value, "!=": left != value, "<": left < value, ">": left > value, "<=": left <= value,
            ">=": left >= value}[op.lstrip("&")]
