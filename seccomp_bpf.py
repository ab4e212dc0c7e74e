# SPDX-License-Identifier: Apache-2.0
"""Policies as classic BPF for seccomp(2), and back: all work on filters that needs no kernel.

In reading order: actions, the policy model, the compiler, the assembler, the verifier, the
interpreter, the listing.  Pure: no os, no ctypes, nothing from the project, so it can be tested
exhaustively and copied out.

Sources: seccomp(2); Documentation/userspace-api/seccomp_filter.rst and networking/filter.rst;
kernel/seccomp.c (seccomp_check_filter, seccomp_is_const_allow), net/core/filter.c
(bpf_check_classic).
"""
import struct
from errno import errorcode

# Actions, strictest first: of several filters the strictest answer wins. seccomp(2)
KILL_PROCESS, KILL_THREAD, TRAP, ERRNO = 0x80000000, 0x00000000, 0x00030000, 0x00050000
NOTIFY, TRACE, LOG, ALLOW = 0x7FC00000, 0x7FF00000, 0x7FFC0000, 0x7FFF0000

ACTIONS = {"kill_process": KILL_PROCESS, "kill_thread": KILL_THREAD, "trap": TRAP, "errno": ERRNO,
           "notify": NOTIFY, "trace": TRACE, "log": LOG, "allow": ALLOW}

MAX_LENGTH = 4096  # BPF_MAXINSNS
_TOP = 0xFFFFFFFF  # the largest system call number that a filter can see: nr is compared unsigned

# The instructions that the compiler makes; linux/bpf_common.h
LD, AND, JA, JEQ, JGT, JGE, JSET, RET = 0x20, 0x54, 0x05, 0x15, 0x25, 0x35, 0x45, 0x06
_JUMPS = {JEQ: ("==", int.__eq__), JGT: (">", int.__gt__), JGE: (">=", int.__ge__),
          JSET: ("&", int.__and__)}

# struct seccomp_data as (offset, mask): what the accumulator holds
_NR, _ARCH = (0, None), (4, None)


class FilterError(ValueError):
    """A policy can't be compiled, or the kernel would refuse a program: where, and why."""


def errno(number):
    """Returns the action that fails a call with this errno.

    Raises FilterError outside 1..4095: 0 would tell success of a call that was not made, and the
    kernel makes everything above 4095 into 4095 (include/linux/err.h, MAX_ERRNO).
    """
    if not 0 < number <= 4095:
        raise FilterError("errno %d: must be 1 to 4095" % number)
    return ERRNO | number


# The policy model

class Condition(tuple):
    """One test of one argument: Condition(arg, op, value, mask=None, wide=False).

    arg: index of the argument, 0 to 5.
    op: ==, !=, <, <=, >, >= on the whole argument, unsigned, or &==, &!= on `argument & mask`.
    wide: whether all 64 bits count.  If not, the low 32 do: the kernel drops the upper half of an
        int, but the filter sees it, and a rule that tested it could be evaded (CVE-2019-7303,
        CVE-2019-10063).
    Raises FilterError.
    """

    __slots__ = ()

    def __new__(cls, arg, op, value, mask=None, wide=False):
        limit = 1 << (64 if wide else 32)
        if arg not in range(6):
            raise FilterError("argument %r: must be 0 to 5" % (arg,))
        if op not in ("==", "!=", "<", "<=", ">", ">=", "&==", "&!="):
            raise FilterError("operator %r is unknown" % (op,))
        if (mask is None) == (op[0] == "&"):
            raise FilterError("operator %s %s a mask" % (
                op, "needs" if mask is None else "takes no"))
        if mask == 0:
            raise FilterError("mask 0 tests nothing")
        for number in (value, value if mask is None else mask):
            if not 0 <= number < limit:
                raise FilterError("%#x does not fit into %d bits" % (number, 64 if wide else 32))
        if mask is not None and value & ~mask:
            raise FilterError("%#x has bits outside the mask %#x: could never be equal" % (
                value, mask))
        return tuple.__new__(cls, (arg, op, value, mask, wide))


class Policy:
    """What a filter does: one architecture, a default action and rules.

    arch: the AUDIT_ARCH_* value; a call of another one is killed.
    default: the action for every number without a rule, also above the last one, with the x32 bit,
        or negative.
    rules: {a number, or (first, last): an action, or [(action, [Condition, ...])]}.  The first
        entry whose conditions all hold decides; if none does, `default`.
    """

    __slots__ = ("arch", "default", "rules")

    def __init__(self, arch, default, rules):
        self.arch, self.default, self.rules = arch, default, rules

    def runs(self):
        """Returns all of 0..2**32-1 as [(first number, rule)] with no equal neighbours.

        A rule is a tuple of (action, conditions) that ends with an unconditional one.  Raises
        FilterError if two rules claim one number.
        """
        runs, free = [], 0
        spans = sorted((key if isinstance(key, tuple) else (key, key)) + (key,)
                       for key in self.rules)
        spans.append((_TOP + 1, _TOP + 1, None))
        for first, last, key in spans:
            if first < free or last < first:
                raise FilterError("rule for system call %s: number claimed twice or range "
                                  "reversed" % (key,))
            found = [(free, self.default)] if first > free else []
            if key is not None:
                found.append((first, self.rules[key]))
            for start, rule in found:
                rule = _plain(rule, self.default)
                if not runs or runs[-1][1] != rule:
                    runs.append((start, rule))
            free = last + 1
        return runs


def _plain(rule, default):
    """Returns a rule as a tuple; equal rules are equal tuples."""
    if isinstance(rule, int):
        return ((rule, ()),)
    entries = []
    for action, tests in list(rule) + [(default, ())]:
        entries.append((action, tuple(tests)))
        if not tests:
            break
    while len(entries) > 1 and entries[-2][0] == entries[-1][0]:
        del entries[-2]  # a test before the same answer decides nothing
    return tuple(_masked(entries))


def _masked(entries):
    """Returns the entries, but neighbours as `== 0`, `== 8` with one action become `& ~8 == 0`."""
    out, same, values = [], None, {}
    for action, tests in entries + [(None, ())]:
        arg, op, value, mask, wide = tests[0] if len(tests) == 1 else (None, None, 0, None, None)
        full = (1 << 64) - 1 if wide else _TOP
        key = (action, arg, wide, full if mask is None else mask) if op in ("==", "&==") else None
        if key != same:
            if same:
                out.extend((same[0], (Condition(same[1], "&==", value, mask, same[2]),))
                           for value, mask in _cubes(same[3], values))
            same, values = key, {}
        if key:
            values.setdefault(value, len(values))
        else:
            out.append((action, tests))
    return out[:-1]


def _cubes(mask, values):
    """Returns (value, mask) pairs that together match what one mask and many values do.

    values: {value: position}; the pairs are in order of position.
    """
    left, done = {(value, mask): at for value, at in values.items()}, []
    while left:
        merged = {}
        for value, mask in sorted(left):
            at = left.pop((value, mask), None)
            for bit in range(mask.bit_length()) if at is not None else ():
                twin = value ^ 1 << bit, mask
                if twin in left and mask >> bit & 1:
                    merged[value & twin[0], mask & ~(1 << bit)] = min(at, left.pop(twin))
                    break
            else:
                if at is not None:
                    done.append((at, value, mask))
        left = merged
    return [(value, mask) for _, value, mask in sorted(done)]


# The compiler

def compile_policy(policy, weights=None):
    """Returns the policy as program bytes, an array of struct sock_filter.

    weights: {number: how often} makes the cheapest tree for these frequencies, by dynamic
        programming in about 0.1 s, for programs that are frozen.  None makes the midpoint tree, in
        milliseconds, for policies made at run time.

    Raises FilterError for rules that clash and for more than 4096 instructions.
    """
    runs = policy.runs()
    split = (lambda low, high: (low + high + 1) // 2) if weights is None else \
        _cheapest(runs, weights)
    code = _Code()
    leaves = [code.rule(rule) for _, rule in runs]

    def tree(low, high):
        if low == high:
            return leaves[low]
        if _pin(runs, low, high):
            return code.branch(_NR, JEQ, runs[low + 1][0], leaves[low + 1], leaves[low])
        right = split(low, high)
        return code.branch(_NR, JGE, runs[right][0], tree(right, high), tree(low, right - 1))

    # The number means another call on another architecture, so the architecture comes first.  What
    # is not loaded stays constant: the kernel's bitmap (Linux 5.11) then lets plainly allowed calls
    # through without running the filter.
    start = code.branch(_ARCH, JEQ, policy.arch, tree(0, len(runs) - 1), code.end(KILL_PROCESS))
    program = encode(assemble(code.lines[code.enter(start, None)::-1]))
    verify(program)
    return program


def _pin(runs, low, high):
    """Whether of three runs the middle one is a single number between equals.

    One JEQ then does the work of two JGE.
    """
    return high - low == 2 and runs[low][1] == runs[high][1] and \
        runs[high][0] - runs[low + 1][0] == 1


def _cheapest(runs, weights):
    """Returns split(low, high) for the tree with the fewest expected comparisons.

    The optimal alphabetic tree by the classic recurrence; Knuth's quicker one has a premise that
    `_pin` breaks.
    """
    size = len(runs)
    starts = [start for start, _ in runs] + [_TOP + 1]
    total, sums = 0.0, [0.0]
    for i in range(size):
        # A run with tests weighs more than its calls: its tests lengthen the longest way.
        total += 0.004 if len(runs[i][1]) > 1 else 1e-6
        total += sum(weight for nr, weight in weights.items() if starts[i] <= nr < starts[i + 1])
        sums.append(total)
    cost = [[0.0] * size for _ in range(size)]
    best = {}
    for span in range(1, size):
        for low in range(size - span):
            high, row = low + span, cost[low]
            least, best[low, high] = min(
                (row[m - 1] + cost[m][high], m) for m in range(low + 1, high + 1))
            row[high] = sums[high + 1] - sums[low] + (0.0 if _pin(runs, low, high) else least)
    return lambda low, high: best[low, high]


class _Code:
    """Assembler lines, last one first, so that a jump's target is always there already.

    A place that can be jumped to is a pair (need, line): the accumulator content that it expects,
    as (offset, mask), and a line (code, k, yes, no) that is written when it is first entered.
    Equal lines are written once, which is how tails are shared.
    """

    __slots__ = ("lines", "known")

    def __init__(self):
        self.lines, self.known = [], {}

    def put(self, line):
        if line not in self.known:
            self.known[line] = len(self.lines)
            self.lines.append((len(self.lines),) + line)
        return self.known[line]

    def enter(self, place, held):
        """Returns the label to jump to with `held` in the accumulator: a line's or its loads'."""
        need, line = place
        label = self.put(line)
        if need is None or need == held:
            return label
        offset, mask = need
        loads = () if held == (offset, None) else ((LD, offset),)
        if mask is not None:
            loads += ((AND, mask),)
        if (loads, label) not in self.known:
            if label != len(self.lines) - 1:
                self.lines.append((None,) + line)  # loads fall through: the line has to come next
            for code, k in reversed(loads):
                self.lines.append((len(self.lines), code, k, None, None))
            self.known[loads, label] = len(self.lines) - 1
        return self.known[loads, label]

    def branch(self, need, code, k, yes, no):
        if yes == no:
            return yes
        return need, (code, k, self.enter(yes, need), self.enter(no, need))

    @staticmethod
    def end(action):
        return None, (RET, action, None, None)

    def rule(self, entries):
        """Returns the place of a tuple of (action, conditions); the first that holds decides."""
        place = None
        for action, tests in reversed(entries):
            miss, place = place, self.end(action)
            for test in reversed(tests):
                place = self.test(test, place, miss)
        return place

    def test(self, condition, yes, no):
        arg, op, value, mask, wide = condition
        if op in ("!=", "<", "<=", "&!="):
            yes, no = no, yes
        order = {"<": JGE, ">=": JGE, ">": JGT, "<=": JGT}.get(op)
        low, high = 16 + 8 * arg, 20 + 8 * arg  # little-endian halves
        if not wide:
            if order:
                return self.branch((low, None), order, value, yes, no)
            return self.equal(low, value, mask, yes, no)
        if order:
            tail = self.branch((low, None), order, value & _TOP, yes, no)
            tail = self.branch((high, None), JEQ, value >> 32, tail, no)
            return self.branch((high, None), JGT, value >> 32, yes, tail)
        halves = (None, None) if mask is None else (mask & _TOP, mask >> 32)
        tail = self.equal(low, value & _TOP, halves[0], yes, no)
        return self.equal(high, value >> 32, halves[1], tail, no)

    def equal(self, offset, value, mask, yes, no):
        if mask is None or mask == _TOP:
            return self.branch((offset, None), JEQ, value, yes, no)
        if not value:
            return self.branch((offset, None), JSET, mask, no, yes) if mask else yes
        if value == mask and not mask & (mask - 1):
            return self.branch((offset, None), JSET, mask, yes, no)
        return self.branch((offset, mask), JEQ, value, yes, no)


# The assembler

def assemble(lines):
    """Returns instructions (code, jt, jf, k) for lines (label, code, k, yes, no).

    yes and no are the labels of a conditional jump (None: the next line), yes that of a JA.  Labels
    are hashable, and jumps go forward.  If a target is more than 255 away, a copy of it (a return)
    or a JA to it is put behind the jump.  Raises FilterError for a label that isn't further down.
    """
    out, place = [], {}  # reversed; label -> instructions from there to the end

    def jump(label, following):
        if label is None:
            return len(out) - following
        if label not in place:
            raise FilterError("label %r is not further down" % (label,))
        return len(out) - place[label]

    for label, code, k, yes, no in reversed(lines):
        following = len(out)
        if code == JA:
            k = jump(yes, following)
        if code in _JUMPS:
            for target in (yes, no):
                if jump(target, following) > 253:  # not 255: a second bridge may come in between
                    far = out[place[target] - 1]
                    out.append(far if far[0] == RET else (JA, 0, 0, jump(target, following)))
                    place[target] = len(out)
            out.append((code, jump(yes, following), jump(no, following), k))
        else:
            out.append((code, 0, 0, k))
        if label is not None:
            place[label] = len(out)
    return out[::-1]


def encode(instructions):
    """Returns instructions (code, jt, jf, k) as a little-endian array of struct sock_filter."""
    pack = struct.Struct("<HBBI").pack
    return b"".join([pack(*instruction) for instruction in instructions])


def decode(program):
    """Returns the instructions (code, jt, jf, k) of program bytes.

    Raises FilterError for half an instruction.
    """
    if len(program) % 8:
        raise FilterError("%d bytes: not a whole number of 8-byte instructions" % len(program))
    return list(struct.iter_unpack("<HBBI", program))


# The verifier

_ALU = {0x00: ("+", int.__add__), 0x10: ("-", int.__sub__), 0x20: ("*", int.__mul__),
        0x30: ("/", int.__floordiv__), 0x40: ("|", int.__or__), 0x50: ("&", int.__and__),
        0xA0: ("^", int.__xor__), 0x60: ("<<", lambda a, by: a << (by & 31)),
        0x70: (">>", lambda a, by: a >> (by & 31))}
_PLAIN = {0x00: "A = {}", 0x01: "X = {}", 0x80: "A = 64", 0x81: "X = 64",
          0x07: "X = A", 0x87: "A = X",
          0x60: "A = M[{}]", 0x61: "X = M[{}]", 0x02: "M[{}] = A", 0x03: "M[{}] = X"}
_VALID = frozenset([LD, JA, 0x84, RET, 0x16] + list(_PLAIN)
                   + [op | x for op in _JUMPS for x in (0, 8)]
                   + [0x04 | op | x for op in _ALU for x in (0, 8)])


def verify(program):
    """Raises FilterError, with place and reason, for a program that the kernel would refuse.

    seccomp(2) itself says only EINVAL.  Follows seccomp_check_filter, bpf_check_classic and
    check_load_and_stores.
    """
    code = decode(program)
    if not 0 < len(code) <= MAX_LENGTH:
        raise FilterError("%d instructions: must be 1 to %d" % (len(code), MAX_LENGTH))
    stored, arriving = 0, [0xFFFF] * len(code)  # scratch words written on every way to here
    for pc, (op, jt, jf, k) in enumerate(code):
        left, reason, stored = len(code) - pc - 1, None, stored & arriving[pc]
        if op not in _VALID:
            reason = "opcode %#x is not for seccomp" % op
        elif op == LD and (k % 4 or k >= 64):
            reason = "loads from %d: must be a multiple of 4 below 64" % k
        elif op == 0x34 and not k:
            reason = "divides by 0"
        elif op in (0x64, 0x74) and k > 31:
            reason = "shifts by %d: must be below 32" % k
        elif op in (0x60, 0x61, 0x02, 0x03) and k > 15:
            reason = "scratch word %d: must be 0 to 15" % k
        elif op in (0x60, 0x61) and not stored >> k & 1:
            reason = "reads scratch word %d before it was written" % k
        elif op in (0x02, 0x03):
            stored |= 1 << k
        elif op & 7 == 5:
            jumps = (k,) if op == JA else (jt, jf)
            if max(jumps) >= left:
                reason = "jumps %d ahead, %d instructions are left" % (max(jumps), left)
            else:
                for jump in jumps:
                    arriving[pc + 1 + jump] &= stored
                stored = 0xFFFF
        if reason:
            raise FilterError("instruction %d: %s" % (pc, reason))
    if code[-1][0] not in (RET, 0x16):
        raise FilterError("instruction %d: the last one must be a return" % (len(code) - 1))


# The interpreter

def run(program, nr, arch, args=(0,) * 6, ip=0):
    """Runs a verified program for one call.  Returns (action, number of executed instructions).

    program: bytes, or what `decode` made of them, which is quicker for many runs.
    nr, arch, args, ip: the fields of struct seccomp_data.
    """
    code = decode(program) if isinstance(program, (bytes, bytearray)) else program
    words = (value & (1 << 64) - 1 for value in args)
    data = struct.unpack("<16I", struct.pack("<IIQ6Q", nr & _TOP, arch, ip, *words))
    a = x = pc = executed = 0
    memory = [0] * 16
    while True:
        op, jt, jf, k = code[pc]
        pc, executed = pc + 1, executed + 1
        kind, operand = op & 7, x if op & 8 else k
        if op == LD:
            a = data[k >> 2]
        elif op == JA:
            pc += k
        elif kind == 5:
            pc += jt if _JUMPS[op & 0xF7][1](a, operand) else jf
        elif kind == 6:
            return (a if op == 0x16 else k), executed
        elif op == 0x84:
            a = -a & _TOP
        elif kind == 4:
            if op & 0xF0 == 0x30 and not operand:
                return KILL_THREAD, executed  # it returns 0; net/core/filter.c, bpf_convert_filter
            a = _ALU[op & 0xF0][1](a, operand) & _TOP
        elif kind == 0:
            a = k if op == 0x00 else 64 if op == 0x80 else memory[k]
        elif kind == 1:
            x = k if op == 0x01 else 64 if op == 0x81 else memory[k]
        elif kind == 7:
            a, x = (x, x) if op == 0x87 else (a, a)
        else:
            memory[k] = a if kind == 2 else x


# The listing

def action_name(action):
    """Returns an action for people: "allow", "errno EPERM", "trap (1)" with its data."""
    kind, data = action & 0xFFFF0000, action & 0xFFFF
    name = {value: name for name, value in ACTIONS.items()}.get(
        kind, "kill_process (unknown action %#x)" % action)
    if kind == ERRNO:
        return "errno %s" % errorcode.get(data, data)
    return "%s (%d)" % (name, data) if data else name


def listing(program, names=None):
    """Returns the program as text, an instruction a line, with calls, arguments, actions by name.

    names: {name: number} of the program's architecture.
    """
    code = decode(program)
    numbers = {number: name for name, number in (names or {}).items()}
    fields = ["nr", "arch", "ip.low", "ip.high"] + [
        "arg%d%s" % (i // 2, ".high" if i % 2 else "") for i in range(12)]
    holds = [None] * (len(code) + 1)  # the accumulator's content on every way to an instruction
    lines = []

    def flow(to, what):
        holds[to] = what if holds[to] in (None, what) else "A"

    for pc, (op, jt, jf, k) in enumerate(code):
        now = holds[pc] or "A"
        other = "X" if op & 8 else "%#x" % k
        if op == LD:
            now = fields[k >> 2]
            text = "load %s" % now
        elif op == JA:
            text = "goto %d" % (pc + 1 + k)
        elif op & 7 == 5:
            if now == "nr" and not op & 8:
                other = "%d%s" % (k, " (%s)" % numbers[k] if k in numbers else "")
            text = "if %s %s %s goto %d else %d" % (
                now, _JUMPS[op & 0xF7][0], other, pc + 1 + jt, pc + 1 + jf)
        elif op & 7 == 6:
            text = "return %s" % ("A" if op == 0x16 else action_name(k))
        elif op & 7 == 4:
            now = "-(%s)" % now if op == 0x84 else "(%s %s %s)" % (now, _ALU[op & 0xF0][0], other)
            text = "A = %s" % now
            now = now if len(now) < 60 else "A"
        else:
            text = _PLAIN[op].format(k)
            now = now if text[0] != "A" else "A"
        lines.append("%4d: %s" % (pc, text))
        if op & 7 == 5:
            for jump in (k,) if op == JA else (jt, jf):
                flow(pc + 1 + jump, now)
        elif op & 7 != 6:
            flow(pc + 1, now)
    return "\n".join(lines) + "\n"
