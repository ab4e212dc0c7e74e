# SPDX-License-Identifier: Apache-2.0
"""Finds where two filters differ, each difference with a call that shows it.

The result is exact if all ways through both programs can be followed: the programs compare
arguments with constants and don't branch too much. Otherwise the constants of both are tried, +-1
and with the upper halves set, and the result says so. Each example is run through the interpreter
before it is reported.
"""
from itertools import product

from ... import seccomp_bpf as bpf
from . import paths as filter_paths
from ...sandbox.seccomp import policy

#: AUDIT_ARCH_* that the same kernels also run, and a filter should kill (linux/audit.h).
FOREIGN = (("i386", 0x40000003, "x86_64"), ("arm", 0x40000028, "aarch64"))
_TRIED, _EXAMPLES, _TOP = 4096, 4, 0xFFFFFFFF


class Difference:
    """Holds one difference.

    arch: name of the architecture
    first: the first call number
    last: the last call number
    examples: tuples of six arguments, None where an argument doesn't matter
    one: A's action; None if A has several answers where B has one for everything
    two: B's action; None likewise
    """

    __slots__ = ("arch", "first", "last", "examples", "one", "two")

    def __init__(self, arch, number, examples, one, two):
        self.arch, self.first, self.last = arch, number, number
        self.examples, self.one, self.two = examples, one, two


def differences(program_of, arches=policy.ARCHES, budget=None):
    """Returns ([Difference], {architecture: why not everything was compared}).

    program_of: (A, B), functions from an architecture to program bytes
    arches: names of architectures
    budget: the Budget, or None for a new one
    """
    found, partly = [], {}
    budget, trials = budget or filter_paths.Budget(), filter_paths.Budget(filter_paths.STEPS // 3)
    places = [(arch, policy.numbers(arch).AUDIT_ARCH, arch) for arch in arches]
    places += [(name, audit, host) for name, audit, host in FOREIGN if host in arches]
    for name, audit, host in places:
        codes = [bpf.decode(get(host)) for get in program_of]
        if codes[0] == codes[1]:
            continue
        whole = [_constant(code, audit, budget) for code in codes]
        if whole[0] != whole[1] and None in whole and False not in whole:
            found.append(Difference(name, 0, [(None,) * 6], *whole))
            found[-1].last = _TOP
            continue
        named = set(policy.numbers(host).NR.values()) if name == host else set()
        found += _of_numbers(name, codes, audit, named, (budget, trials), partly)
        if any(filter_paths.masks_numbers(code) for code in codes):
            try:  # the number as one more word finds what no list of numbers shows
                seen = {(each.one, each.two) for each in found if each.arch == name}
                both = [filter_paths.ways(code, filter_paths.UNKNOWN, audit, budget)
                        for code in codes]
                for pair, examples in _pairs(both, codes, filter_paths.UNKNOWN, audit, budget):
                    if pair not in seen:
                        found.append(Difference(name, examples[0][0], [examples[0][1]], *pair))
            except filter_paths.Opaque as error:
                partly.setdefault(name, str(error))
    return found, partly


def _of_numbers(name, codes, audit, named, budgets, partly):
    """Returns [Difference] of one architecture, for every number that can be decided differently.

    budgets: (for following the programs, for trying if that fails)
    partly: {architecture: why}, updated
    """
    found, last, known, (budget, trials) = [], {}, {}, budgets
    paths = [filter_paths.Paths(code, audit, budget) for code in codes]
    for number in filter_paths.deciding_numbers(*codes):
        kind = paths[0].kind(number), paths[1].kind(number)
        if kind not in known:
            try:
                known[kind] = [(pair, [args for _, args in examples]) for pair, examples in _pairs(
                    [path.ways(number) for path in paths], codes, number, audit, budget)]
            except filter_paths.Opaque as error:
                partly.setdefault(name, str(error))
                if trials.left < _TRIED:
                    partly[name] = "nothing was compared from number %d on: %s" % (number, error)
                    return found
                known[kind] = _try_constants(codes, number, audit, trials)
        now = {}
        for (one, two), examples in known[kind]:
            before = last.get((one, two))
            plain = number not in named and not any(arg is not None for arg in examples[0])
            if before is not None and plain:
                before.last = number
            else:
                before = Difference(name, number, examples, one, two)
                found.append(before)
            if plain:
                now[one, two] = before
        last = now
    return found


def _constant(code, audit, budget):
    """Returns the only action of an architecture; None for several, False if that is unknown."""
    try:
        ways = filter_paths.ways(code, filter_paths.UNKNOWN, audit, budget)
    except filter_paths.Opaque:
        return False
    return ways[0][0] if len({action for action, _ in ways}) == 1 else None


def _pairs(both, codes, number, audit, budget):
    """Returns [((A's action, B's action), [(number, args), ...])]: examples of differences.

    both: the ways of A and of B
    """
    shown = {}
    for one, first in both[0]:
        for two, second in both[1]:
            budget.spend(1)
            if one != two and len(shown.get((one, two), ())) < _EXAMPLES:
                words = _common(first, second, budget)
                if words is not None:
                    at = words.get(filter_paths.NR, 0) if number is filter_paths.UNKNOWN else number
                    args = _arguments(words)
                    plain = [arg or 0 for arg in args]
                    ip = words.get(8, 0) | words.get(12, 0) << 32
                    for code, wanted in zip(codes, (one, two)):
                        got = filter_paths.effective(bpf.run(code, at, audit, plain, ip)[0])
                        if got != wanted:
                            raise AssertionError("number %d %r: %#x, not %#x" %
                                                 (at, plain, got, wanted))
                    examples = shown.setdefault((one, two), [])
                    if (at, args) not in examples:
                        examples.append((at, args))
    return list(shown.items())


def _common(first, second, budget):
    """Returns {offset: the smallest value} that both ways take, or None."""
    words = {}
    for offset in set(first) | set(second):
        budget.spend(len(first.get(offset, "1")) * len(second.get(offset, "1")))
        pairs = product(first.get(offset, [(0, 0)]), second.get(offset, [(0, 0)]))
        shared = [cube[0] for cube in (filter_paths.meet(*pair) for pair in pairs)
                  if cube is not None]
        if not shared:
            return None
        words[offset] = min(shared)
    return words


def _arguments(words):
    """Returns six arguments from words; None if neither half was tested."""
    args = []
    for arg in range(6):
        low, high = words.get(16 + 8 * arg), words.get(20 + 8 * arg)
        args.append(None if low is None and high is None else (low or 0) | (high or 0) << 32)
    return tuple(args)


def _try_constants(codes, number, audit, trials):
    """Returns as _pairs, for arguments made of both programs' constants.

    Takes at most 1/16 of what is left of the trials.
    """
    least = trials.left - trials.left // 16
    constants = {0, 1, 0xFFFFFFFF}
    for code in codes:
        for op, _, _, k in code:
            if op & 7 in (4, 5) and op != bpf.JA:
                constants.update(value & 0xFFFFFFFF for value in (k - 1, k, k + 1))
    loaded = sorted({(k - 16) // 8 for code in codes for op, _, _, k in code if op == bpf.LD and
                     k >= 16})
    shown = {}
    values = [value | upper for value in sorted(constants)
              for upper in (0, 1 << 32, 0xFFFFFFFF << 32)]
    one_at_a_time = [(arg, value) for arg in loaded for value in values]
    vectors = product(values, repeat=len(loaded)) if len(values) ** len(loaded) <= _TRIED else \
        (tuple(value if arg == at else 0 for at in loaded) for arg, value in one_at_a_time)
    for vector in vectors:
        chosen = dict(zip(loaded, vector))
        args = tuple(chosen.get(at) for at in range(6))
        plain = [arg or 0 for arg in args]
        answers = [bpf.run(code, number, audit, plain) for code in codes]
        trials.left -= 20 + sum(steps for _, steps in answers)
        pair = tuple(filter_paths.effective(action) for action, _ in answers)
        if pair[0] != pair[1]:
            shown.setdefault(pair, [args])
        if trials.left < least:
            break
    return list(shown.items())
