# SPDX-License-Identifier: Apache-2.0
"""Holds what the formats of policy files share: bytes, places in a text, conditions, rules.

A condition looks at the bits that the kernel takes (syscalls/widths.py): 32 of an int, 16 of a
mode, else all 64. If it isn't certain that the kernel takes all 64, a test is refused that the
upper half could get around.
"""
import os
import stat

from . import policy
from .constants import OTHER_CALLS
from ..errors import nearest, usage
from ... import seccomp_bpf as bpf
from ...syscalls.widths import WIDTHS
from ..caller import option, program_name

#: Bytes of a policy file.  docker's default has 20,000.
LIMIT = 1 << 20
#: Rules of a file, alternatives and names counted apart, and of one call: docker's has 400 and 6,
#: and a program of 4096 instructions holds no more.
MOST_RULES, MOST_OF_ONE = 20000, 2000
TOO_MANY = "more than %d rules, each name counted for each alternative: no filter holds so " \
           "many" % MOST_RULES

_LOW, _ALL = 0xFFFFFFFF, (1 << 64) - 1
_NEGATIVE = (1 << 64) - (1 << 31)  # from here on 64 bits are a sign-extended int
_LIMITS = {"i": _LOW, "h": 0xFFFF}


class Text:
    """A policy's text, for messages that name the place in it.

    name: as the user wrote it.
    text: str.
    """

    __slots__ = ("name", "text")

    def __init__(self, name, text):
        self.name, self.text = name, text

    def error(self, offset, reason, remedy=None):
        """Returns the SandboxError (exit 2) for a mistake at an offset."""
        line = self.text.count("\n", 0, offset) + 1
        column = offset - (self.text.rfind("\n", 0, offset) + 1) + 1
        return usage("%s, line %d, column %d" % (clipped(self.name), line, column), clipped(reason),
                     remedy, stage="policy")


def clipped(text, most=300):
    """Returns a text for a message, without the middle if it is long.

    A hostile file's own words may be in it.
    """
    return text if len(text) <= most else "%s...%s" % (text[:most - 50], text[-47:])


def forms():
    """Returns the remedy for a file that is no policy, or has a mistake.

    The two can't be told apart.
    """
    return "a policy is OCI JSON, minijail text or a BPF program, as %s --man mrunc-policy " \
           "tells" % program_name()


def load(name):
    """Returns the bytes of a policy file.  Raises SandboxError."""
    try:
        fd = os.open(os.fsencode(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == 2 and "/" not in name:
            raise usage(name, "no policy is called so, and there is no such file%s" % nearest(
                name, policy.NAMES), "the policies are: %s" % ", ".join(policy.NAMES),
                        stage="policy")
        raise usage(name, error.strerror, stage="policy")
    except ValueError:
        raise usage(option("seccomp"), "the path holds a NUL byte", stage="policy")
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise usage(name, "is not a regular file", remedy=forms(), stage="policy")
        data, part = b"", b"more"
        while part and len(data) <= LIMIT:
            part = os.read(fd, LIMIT + 1)
            data += part
    except OSError as error:
        raise usage(name, error.strerror, stage="policy")
    finally:
        os.close(fd)
    if data[:4] == b"\x7fELF":
        raise usage(name, "is a program (ELF) and no policy file",
                    "%s; to make one: %s policy learn -o FILE -- PROGRAM" % (
            forms(), program_name()), "policy")
    if len(data) > LIMIT:
        raise usage(name, "%d bytes: a policy has at most %d" %
                    (max(found.st_size, len(data)), LIMIT), stage="policy")
    if not data.strip():
        raise usage(name, "is empty", remedy=forms(), stage="policy")
    return data


def version(text):
    """Returns (major, minor) of "4.8", "6.1.0-13-amd64" and the like; None for anything else."""
    parts = text.split(".")
    digits = [part[:len(part) - len(part.lstrip("0123456789"))] for part in parts[:2]]
    return (int(digits[0]), int(digits[1])) if len(digits) == 2 and all(digits) else None


def known_call(name):
    """Returns whether any architecture has a system call of this name."""
    return name in OTHER_CALLS or any(name in policy.numbers(arch).NR for arch in policy.ARCHES)


def misspelt(name):
    """Returns why a call's name is refused."""
    names = set().union(*(policy.numbers(arch).NR for arch in policy.ARCHES))
    return "no architecture has a system call %r%s" % (name, nearest(name, sorted(names)))


def condition(call, arg, op, value, mask=None):
    """Returns a seccomp_bpf.Condition on an argument, or None if it always holds.

    call: name.
    arg: index.
    op: "==", "!=", "<", "<=", ">", ">=", "&==" or "&!=".
    value, mask: int.

    Values are 64 bits wide, as in the files. On an int a negative number is its low half, as the
    kernel sees it. Compared on 64 bits, a rule that refuses -1 would let 0xffffffff pass, which is
    the same call. Raises FilterError.
    """
    width = _width(call, arg)
    limit = _LIMITS.get(width)
    narrow = "argument %d of %s is %d bits wide for the kernel" % (
        arg, call, 16 if width == "h" else 32)
    if limit is None:
        return bpf.Condition(arg, op, value, mask, True)
    if value > limit:
        if value < _NEGATIVE or op not in ("==", "!=", "&==", "&!="):
            raise bpf.FilterError("%s; %#x does not fit" % (narrow, value))
        value &= limit
    if width == "h" and mask is None:
        if op not in ("==", "!="):
            raise bpf.FilterError("%s: %s can't compare these alone" % (narrow, op))
        op, mask = "&" + op, limit
    if mask is not None and mask & ~limit:
        if not mask & limit and op == "&==" and not value:
            return None
        if not mask & limit:
            raise bpf.FilterError("%s, which drops all of %#x" % (narrow, mask))
        mask &= limit
    return bpf.Condition(arg, op, value, mask)


def _width(call, arg):
    """Returns a letter as in widths.py; "?" for an unknown call.

    Raises FilterError if the call has no such argument.
    """
    widths = WIDTHS.get(call, "??????")
    if 0 <= arg < 6 and arg >= len(widths):
        raise bpf.FilterError("%s has no argument %d: it takes %d" % (call, arg, len(widths)))
    return widths[arg] if 0 <= arg < 6 else "?"


def refuse_unsure(call, action, tests):
    """Refuses a test whose upper half could get a caller more than the rule means to give.

    call: name.
    action: SECCOMP_RET_*.
    tests: [Condition or None].

    It is about arguments of which the kernel may take only 32 bits. Where the test lets a call
    pass, it must not hold for more upper halves than for 0. Where it refuses, it must not hold for
    fewer. Raises FilterError.
    """
    safe = ("==", "<", "<=", "&==") if action in (bpf.ALLOW, bpf.LOG) else ("!=", ">", ">=", "&!=")
    for arg, op, value, mask, wide in (test for test in tests if test is not None):
        if wide and _width(call, arg) == "?" and (mask is None or mask > _LOW) and \
                (op not in safe or value > _LOW):
            raise bpf.FilterError("a test %s of argument %d of %s can't be relied on: it is not "
                                  "certain whether the kernel takes 32 or 64 bits of it; test bits "
                                  "below 32, argN & MASK, or the whole call" % (
                                      op, arg, call))


class Rules:
    """The rules of a file for each call.

    arch: "x86_64" or "aarch64".
    default: action.
    entries: {call: [(action, conditions, place)]} in the file's order.
    """

    __slots__ = ("arch", "default", "numbers", "entries", "count")

    def __init__(self, arch, default):
        self.arch, self.default, self.entries, self.count = arch, default, {}, 0
        self.numbers = policy.numbers(arch)

    def add(self, call, action, tests, place):
        """Adds a rule, unless this architecture lacks the call.

        The name was checked. Raises FilterError.
        """
        if call not in self.numbers.NR:
            return
        found = self.entries.setdefault(call, [])
        self.count += 1
        if len(found) >= MOST_OF_ONE:
            raise bpf.FilterError("more than %d rules for %s: no filter holds so many" %
                                  (MOST_OF_ONE, call))
        if self.count > MOST_RULES:
            raise bpf.FilterError(TOO_MANY)
        refuse_unsure(call, action, tests)
        found.append((action, [test for test in tests if test is not None], place))

    def model(self):
        """Returns the seccomp_bpf.Policy."""
        rules = {}
        for call, entries in self.entries.items():
            plain = [(action, tests) for action, tests, _ in entries]
            rules[self.numbers.NR[call]] = plain[0][0] if not plain[0][1] else plain
        if self.arch == "x86_64" and self.default in (bpf.ALLOW, bpf.LOG):
            rules[policy.X32_BIT, _LOW] = bpf.errno(38)  # ENOSYS, as a kernel without x32 says
        return bpf.Policy(self.numbers.AUDIT_ARCH, self.default, rules)


def disjoint(one, other):
    """Returns whether two lists of conditions certainly can't hold together."""
    for arg in set(test[0] for test in one) & set(test[0] for test in other):
        tests = [test for test in one + other if test[0] == arg]
        low, high, values, ones, zeros = 0, _ALL, set(), 0, 0
        if len(set(test[4] for test in tests)) > 1:
            continue  # some look at 32 bits and some at 64
        for _, op, value, mask, wide in tests:
            if op in (">", ">="):
                low = max(low, value + (op == ">"))
            elif op in ("<", "<="):
                high = min(high, value - (op == "<"))
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
    return {"==": left == value, "!=": left != value, "<": left < value, ">": left > value,
            "<=": left <= value, ">=": left >= value}[op.lstrip("&")]
