# SPDX-License-Identifier: Apache-2.0
"""Finds what a filter decides: every way through the program, with its arguments.

The arguments are sets of 32-bit words, kept as cubes: a cube (value, mask) holds the words w with
`w & mask == value`. Cubes can be cut and intersected exactly. So two filters are compared, and one
is written in another format, for all arguments and not for some that were tried. Only tools use
this; nothing here runs at a launch.
"""
from bisect import bisect_left, bisect_right

from ... import seccomp_bpf as bpf
from ...sandbox.seccomp import policy

_ALL = 0xFFFFFFFF
#: Most paths through a program; no policy needs as many.
MOST = 20000
#: Offsets of the call number and the architecture in struct seccomp_data (linux/seccomp.h).
NR, ARCH = 0, 4
UNKNOWN = None


#: Steps that one command may take: about ten seconds at most.
STEPS = 12000000


class Opaque(ValueError):
    """The program computes with arguments in a way that cubes can't follow."""


class BudgetSpent(Opaque):
    """The command's budget is used up."""


class Budget:
    """Holds the steps that one command may still take to follow programs. left: steps."""

    __slots__ = ("left",)

    def __init__(self, steps=STEPS):
        self.left = steps

    def spend(self, steps):
        """Takes steps from the budget. Raises BudgetSpent if none are left."""
        self.left -= steps
        if self.left < 0:
            raise BudgetSpent("the program branches too much to follow it to the end")


class Paths:
    """Follows a program for one architecture, once for all numbers that it treats alike.

    code: list of instructions (seccomp_bpf.decode)
    audit: AUDIT_ARCH of the architecture
    budget: the Budget
    """

    __slots__ = ("code", "audit", "budget", "_marks", "_known")

    def __init__(self, code, audit, budget):
        self.code, self.audit, self.budget, self._known = code, audit, budget, {}
        self._marks = None if masks_numbers(code) else sorted(
            {k for op, _, _, k in code if op & 7 == 5 and op != bpf.JA})

    def kind(self, number):
        """Returns a key that is the same for numbers that no instruction tells apart."""
        if self._marks is None:
            return number
        return bisect_left(self._marks, number), bisect_right(self._marks, number)

    def ways(self, number):
        """Returns the ways for a number, as the function `ways`. Raises Opaque."""
        kind = self.kind(number)
        if kind not in self._known:
            try:
                self._known[kind] = ways(self.code, number, self.audit, self.budget)
            except Opaque as error:
                self._known[kind] = error
        if isinstance(self._known[kind], Opaque):
            raise self._known[kind]
        return self._known[kind]


def listing(program, arch):
    """Returns the disassembly, with system calls, arguments and actions by name."""
    text = bpf.listing(program, policy.numbers(arch).NR if arch in policy.ARCHES else None)
    for name in policy.ARCHES:
        text = text.replace("arch == %#x" % policy.numbers(name).AUDIT_ARCH, "arch == " + name)
    return text


def action_text(action):
    """Returns an action as a word: allow, EPERM, kill_process ..."""
    return bpf.action_name(action).replace("errno ", "")


def passes(action):
    """Returns whether the call is executed."""
    return action & 0xFFFF0000 in (bpf.ALLOW, bpf.LOG)


def verdict(action):
    """Returns the verb of a sentence whose subject is the filter and whose object is a call."""
    name = action_text(action)
    kind = action & 0xFFFF0000
    return {bpf.ALLOW: "allows", bpf.ERRNO: "answers %s to" % name, bpf.LOG: "allows and logs",
            bpf.NOTIFY: "asks the listener about", bpf.TRAP: "raises SIGSYS at",
            bpf.TRACE: "asks the tracer about",
            bpf.KILL_THREAD: "kills the thread at"}.get(kind, "kills the process at")


def ways(code, nr, arch, budget=None):
    """Returns [(action, {word offset: [cube, ...]})]: every way through the program.

    code: list of instructions of a verified program (seccomp_bpf.decode)
    nr: the call number, or UNKNOWN to treat it as a word
    arch: AUDIT_ARCH, or UNKNOWN to treat it as a word
    budget: the Budget, or None for a new one

    The ways exclude each other and cover all arguments; a word without cubes may have any value.
    Offsets are those of struct seccomp_data (linux/seccomp.h): 16 + 8 i is the low half of argument
    i, 20 + 8 i the high half. Raises Opaque.
    """
    known = {place: value for place, value in ((NR, nr), (ARCH, arch)) if value is not UNKNOWN}
    found, budget = [], budget or Budget()
    # (place, accumulator, X, memory, words): a value is an int, or (offset, mask) of a word
    stack = [(0, 0, 0, {}, {})]
    while stack:
        pc, a, x, memory, words = stack.pop()
        while True:
            op, jt, jf, k = code[pc]
            pc += 1
            budget.spend(1)
            operand = x if op & 8 and op & 7 in (4, 5) else k
            if op == bpf.LD:
                a = known.get(k, (k, _ALL))
            elif op == bpf.JA:
                pc += k
            elif op & 7 == 5:
                test = op & 0xF7
                if isinstance(a, int) and isinstance(operand, int):
                    pc += jt if _holds(test, a, operand) else jf
                    continue
                if isinstance(a, int) or not isinstance(operand, int):
                    raise Opaque("instruction %d compares with an argument" % (pc - 1))
                offset, mask = a
                cubes = words.get(offset, [(0, 0)])
                budget.spend(len(cubes) * (1 if mask == _ALL and test == bpf.JEQ else 32))
                miss = _cut(cubes, mask, test, operand, False)
                budget.spend(len(miss) * 4)
                if miss:
                    if len(stack) + len(found) + len(miss) > MOST:
                        raise Opaque("more than %d ways through it" % MOST)
                    stack.append((pc + jf, a, x, dict(memory), _with(words, offset, miss)))
                hit = _cut(cubes, mask, test, operand, True)
                if not hit:
                    break
                if hit != cubes:
                    words = _with(words, offset, hit)
                pc += jt
            elif op & 7 == 6:
                value = a if op == 0x16 else k
                if not isinstance(value, int):
                    raise Opaque("instruction %d returns an argument" % (pc - 1))
                found.append((effective(value), words))
                break
            elif op & 7 == 4:
                a = _compute(op, a, operand, pc - 1)
                if a is None:  # a division by X = 0 ends the program with 0
                    found.append((bpf.KILL_THREAD, words))
                    break
            elif op in (0x00, 0x80):
                a = k if op == 0x00 else 64
            elif op in (0x01, 0x81):
                x = k if op == 0x01 else 64
            elif op == 0x60:
                a = memory[k]
            elif op == 0x61:
                x = memory[k]
            elif op in (0x02, 0x03):
                memory[k] = a if op == 0x02 else x
            else:
                a, x = (x, x) if op == 0x87 else (a, a)
    return found


def other_architectures(code, audit, budget):
    """Returns {action}: the answers to calls of every architecture but this one. Raises Opaque."""
    found = set()
    for action, words in ways(code, UNKNOWN, UNKNOWN, budget):
        if any(cube != (audit, _ALL) for cube in words.get(ARCH, [(0, 0)])):
            found.add(action)
    return found


def _with(words, offset, cubes):
    changed = dict(words)
    changed[offset] = cubes
    return changed


def effective(value):
    """Returns the action without bits that the kernel ignores; an unknown one kills the process."""
    kind = value & 0xFFFF0000
    if kind not in bpf.ACTIONS.values():
        return bpf.KILL_PROCESS
    if kind == bpf.ERRNO:
        return kind | min(value & 0xFFFF, 4095)  # MAX_ERRNO
    return value if kind in (bpf.TRAP, bpf.TRACE) else kind


def _holds(test, a, operand):
    return {bpf.JEQ: a == operand, bpf.JGT: a > operand, bpf.JGE: a >= operand,
            bpf.JSET: bool(a & operand)}[test]


def _compute(op, a, operand, pc):
    """Returns the accumulator after an arithmetic instruction; None for a division by zero."""
    if isinstance(a, int) and isinstance(operand, int):
        data = bpf.encode([(bpf.LD & 0, 0, 0, a), (0x01, 0, 0, operand), (op, 0, 0, operand),
                           (0x16, 0, 0, 0)])
        value, steps = bpf.run(data, 0, 0)
        return value if steps == 4 else None
    if op == bpf.AND and isinstance(operand, int):
        return (a[0], a[1] & operand) if a[1] & operand else 0
    raise Opaque("instruction %d computes with an argument" % pc)


# Cubes

def meet(one, two):
    """Returns the cube that two cubes share, or None."""
    (value, mask), (other, more) = one, two
    return None if (value ^ other) & mask & more else (value | other, mask | more)


def without(cube, hole):
    """Returns a cube minus another one, as disjoint cubes."""
    if meet(cube, hole) is None:
        return [cube]
    (value, mask), (unwanted, more) = cube, hole
    pieces, bits = [], more & ~mask
    while bits:
        bit = bits & -bits
        bits ^= bit
        pieces.append((value | (~unwanted & bit), mask | bit))
        value, mask = value | (unwanted & bit), mask | bit
    return pieces


def joined(cubes):
    """Returns fewer disjoint cubes for the same words: cubes that differ in one bit are joined."""
    left, todo = set(cubes), list(cubes)
    while todo:
        cube = todo.pop()
        if cube not in left:
            continue
        value, mask = cube
        bits = mask
        while bits:
            bit = bits & -bits
            bits ^= bit
            if (value ^ bit, mask) in left:
                left -= {cube, (value ^ bit, mask)}
                left.add((value & ~bit, mask & ~bit))
                todo.append((value & ~bit, mask & ~bit))
                break
    return sorted(left)


def from_least(least, full=_ALL):
    """Returns the words >= least as disjoint cubes."""
    pieces, bit = [], 1
    while bit <= full:
        if not least & bit:
            pieces.append(((least | bit) & ~(bit - 1) & full, full & ~(bit - 1)))
        bit <<= 1
    return pieces + [(least, full)]


def _cut(cubes, mask, test, k, wanted):
    """Returns the part of disjoint cubes for which `word & mask TEST k` is `wanted`."""
    if test in (bpf.JGT, bpf.JGE):
        if mask != _ALL:
            raise Opaque("a part of an argument is compared by order")
        least = k + (test == bpf.JGT)
        pieces = from_least(least) if least <= _ALL else []
        if not wanted:
            if least > _ALL:
                return cubes
            # w < n  <=>  ~w > ~n
            pieces = [(~value & part & _ALL, part) for value, part in from_least(_ALL ^ least)
                      if part != _ALL or value != _ALL ^ least]
        return [piece for piece in (meet(cube, part) for cube in cubes for part in pieces) if piece]
    if test == bpf.JSET:
        mask, k, wanted = mask & k, 0, not wanted
    elif k & ~mask:
        return [] if wanted else cubes
    if wanted:
        return [piece for piece in (meet(cube, (k, mask)) for cube in cubes) if piece]
    return joined([piece for cube in cubes for piece in without(cube, (k, mask))])


def deciding_numbers(*programs):
    """Returns the call numbers at which programs can decide differently, sorted.

    These are all numbers up to 1023, the x32 ones, and every constant of the programs +-1.
    """
    found = set(range(1024)) | set(range(0x40000000, 0x40000400))
    found |= {0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, _ALL}
    for code in programs:
        for op, _, _, k in code:
            if op & 7 == 5 and op != bpf.JA:
                found.update(n for n in (k - 1, k, k + 1) if 0 <= n <= _ALL)
    return sorted(found)


def masks_numbers(code):
    """Returns whether a program may do more with the call number than compare it with constants.

    Then no list of numbers covers all decisions.
    """
    held = [False] * (len(code) + 1)  # whether the accumulator may be the number at an instruction
    for pc, (op, jt, jf, k) in enumerate(code):
        now = held[pc]
        if op == bpf.LD:
            now = k == NR
        elif op in (0x00, 0x80, 0x60, 0x87):  # a constant, scratch memory or X: never the number
            now = False
        elif now and (op & 7 in (2, 4, 7) or
                      op & 7 == 5 and op != bpf.JA and (op & 8 or op & 0xF0 == 0x40)):
            return True
        for jump in ((k,) if op == bpf.JA else (jt, jf) if op & 7 == 5 else
                     () if op & 7 == 6 else (0,)):
            held[pc + 1 + jump] |= now
    return False
