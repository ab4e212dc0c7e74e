# SPDX-License-Identifier: Apache-2.0
"""Where two filters differ, with a call that shows it.

Exact for what the ways of both programs can be followed through, which is every program that compares arguments with
constants; else the constants of both, +-1 and with the upper halves set, are tried and the result says so.  Each
counter-example is run through the interpreter before it is reported.
"""
from itertools import product

from .. import seccomp_bpf as bpf
from . import filter_paths, policy

#: AUDIT_ARCH_* of the architectures that the same kernels also run: a filter should kill those; linux/audit.h
FOREIGN = (("i386", 0x40000003, "x86_64"), ("arm", 0x40000028, "aarch64"))
_TRIED, _EXAMPLES = 4096, 4


class Difference:
    """One difference: call number `first` to `last` on `arch` is answered with the action `one` by A and `two` by B
    when called as in `examples`, which are tuples of arguments with None where one doesn't matter.  An action of None
    means that this one has several answers where the other has the same for everything."""

    __slots__ = ("arch", "first", "last", "examples", "one", "two")

    def __init__(self, arch, number, examples, one, two):
        self.arch, self.first, self.last, self.examples, self.one, self.two = arch, number, number, examples, one, two


def differences(program_of, arches=policy.ARCHES):
    """([Difference], [architecture on which constants or numbers were only tried]).

    program_of: (A, B), functions from an architecture to program bytes.
    """
    found, tried = [], []
    places = [(arch, policy.numbers(arch).AUDIT_ARCH, arch) for arch in arches]
    places += [(name, audit, host) for name, audit, host in FOREIGN if host in arches]
    for name, audit, host in places:
        codes = [bpf.decode(get(host)) for get in program_of]
        if any(filter_paths.masks_numbers(code) for code in codes):
            tried.append(name)
        whole = [_constant(code, audit) for code in codes]
        if whole[0] != whole[1] and None in whole and False not in whole:
            found.append(Difference(name, 0, [(None,) * 6], *whole))
            found[-1].last = 0xFFFFFFFF
            continue
        named = set(policy.numbers(host).NR.values()) if name == host else set()
        last = {}
        for number in filter_paths.numbers_to_look_at(*codes):
            try:
                shown = _exact(codes, number, audit)
            except filter_paths.Opaque:
                shown = _tried(codes, number, audit)
                if name not in tried:
                    tried.append(name)
            now = {}
            for (one, two), examples in shown:
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
    return found, tried


def _constant(code, audit):
    """The one answer to every call of an architecture; None for several, False where that can't be told."""
    try:
        ways = filter_paths.ways(code, filter_paths.UNKNOWN, audit)
    except filter_paths.Opaque:
        return False
    return ways[0][0] if len({action for action, _ in ways}) == 1 else None


def _exact(codes, number, audit):
    """[((action of A, action of B), [args, ...])]: examples for each pair of actions that differ."""
    shown = {}
    one_ways, two_ways = [filter_paths.ways(code, number, audit) for code in codes]
    for one, first in one_ways:
        for two, second in two_ways:
            if one != two and len(shown.get((one, two), ())) < _EXAMPLES:
                words = _common(first, second)
                if words is not None:
                    args = _arguments(words)
                    plain = [arg or 0 for arg in args]
                    ip = words.get(8, 0) | words.get(12, 0) << 32
                    for code, wanted in zip(codes, (one, two)):
                        got = filter_paths.effective(bpf.run(code, number, audit, plain, ip)[0])
                        if got != wanted:
                            raise AssertionError("number %d %r: %#x, not %#x" % (number, plain, got, wanted))
                    examples = shown.setdefault((one, two), [])
                    if args not in examples:
                        examples.append(args)
    return list(shown.items())


def _common(first, second):
    """{offset: a value} that both ways take, or None.  Of several the smallest value is shown."""
    words = {}
    for offset in set(first) | set(second):
        pairs = product(first.get(offset, [(0, 0)]), second.get(offset, [(0, 0)]))
        shared = [cube[0] for cube in (filter_paths.meet(*pair) for pair in pairs) if cube is not None]
        if not shared:
            return None
        words[offset] = min(shared)
    return words


def _arguments(words):
    """Six arguments from words; None where neither half was looked at."""
    args = []
    for arg in range(6):
        low, high = words.get(16 + 8 * arg), words.get(20 + 8 * arg)
        args.append(None if low is None and high is None else (low or 0) | (high or 0) << 32)
    return tuple(args)


def _tried(codes, number, audit):
    constants = {0, 1, 0xFFFFFFFF}
    for code in codes:
        for op, _, _, k in code:
            if op & 7 in (4, 5) and op != bpf.JA:
                constants.update(value & 0xFFFFFFFF for value in (k - 1, k, k + 1))
    loaded = sorted({(k - 16) // 8 for code in codes for op, _, _, k in code if op == bpf.LD and k >= 16})
    shown = {}
    values = [value | upper for value in sorted(constants) for upper in (0, 1 << 32, 0xFFFFFFFF << 32)]
    one_at_a_time = [(arg, value) for arg in loaded for value in values]
    vectors = product(values, repeat=len(loaded)) if len(values) ** len(loaded) <= _TRIED else \
        (tuple(value if arg == at else 0 for at in loaded) for arg, value in one_at_a_time)
    for vector in vectors:
        chosen = dict(zip(loaded, vector))
        args = tuple(chosen.get(at) for at in range(6))
        plain = [arg or 0 for arg in args]
        pair = tuple(filter_paths.effective(bpf.run(code, number, audit, plain)[0]) for code in codes)
        if pair[0] != pair[1]:
            shown.setdefault(pair, [args])
    return list(shown.items())
