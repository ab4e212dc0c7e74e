# SPDX-License-Identifier: Apache-2.0
"""A filter as an OCI runtime-spec `linux.seccomp` object, as runc, crun and docker's --security-opt seccomp= take it.

Made from the program, so what is exported is what runs here.  libseccomp, which those tools compile with, knows no order
of rules: each call's answers are written as rules that exclude each other, by masked comparisons, so that the order
doesn't matter.  What this format can't say is refused.
"""
from ... import seccomp_bpf as bpf
from . import paths as filter_paths
from ...sandbox.seccomp import policy
from ...sandbox.errors import usage
from ...sandbox.seccomp.policy import X32_BIT

_ARCH = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
_FULL, _ANY, MOST = (1 << 64) - 1, frozenset([(0, 0)]), 1000
#: Rules for one answer of one call. libseccomp makes several instructions of each, and a program may have 4096: where only
#: the errno of what is refused would need more, it is left to the default.
MOST_OF_AN_ERRNO = 100
REMEDY = "--format bpf exports it as it is"
_KINDS = {bpf.ALLOW: "SCMP_ACT_ALLOW", bpf.LOG: "SCMP_ACT_LOG", bpf.KILL_PROCESS: "SCMP_ACT_KILL_PROCESS",
          bpf.KILL_THREAD: "SCMP_ACT_KILL_THREAD", bpf.TRAP: "SCMP_ACT_TRAP"}


def oci(program, arch, what):
    """(the object, [what it says otherwise, in words]).

    program: verified bytes; arch: a name in policy.ARCHES; what: its name, for messages.  Raises SandboxError (exit status
    2) for what the format can't say, and where libseccomp's own answer would be another than refusing.
    """
    code, table, budget = bpf.decode(program), policy.numbers(arch), filter_paths.Budget()
    paths = filter_paths.Paths(code, table.AUDIT_ARCH, budget)
    names = {number: name for name, number in table.NR.items()}
    try:
        if filter_paths.masks_numbers(code):
            raise filter_paths.Opaque("it computes with the call number, and a profile names single calls")
        default, groups, x32, left = _only(paths, 0x3FFFFFFF), {}, set(), []
        for number in filter_paths.numbers_to_look_at(code):
            if number in names:
                left += _call(paths, number, names[number], default, groups)
            elif number >= X32_BIT and arch == "x86_64":
                x32.update(action for action, _ in paths.ways(number))
            elif _only(paths, number) != default:
                raise filter_paths.Opaque("number %d has no name and its own answer, %s" % (
                    number, filter_paths.action_text(_only(paths, number))))
        otherwise = _otherwise("calls of another architecture", filter_paths.elsewhere(code, table.AUDIT_ARCH, budget))
        otherwise += _otherwise("x32 numbers", x32) + left
    except filter_paths.Opaque as error:
        raise usage("%s can't be written as OCI JSON" % what, str(error), REMEDY, stage="policy export")
    made = {}
    made.update(_action(default, what, "defaultAction", "defaultErrnoRet"))
    made["architectures"] = [_ARCH[arch]]
    made["syscalls"] = []
    for (action, args), calls in groups.items():
        entry = {"names": calls}
        entry.update(_action(action, what, "action", "errnoRet"))
        if args:
            entry["args"] = [{"index": index, "value": value, "op": "SCMP_CMP_NE"} if sign == "!=" else
                             {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
                             for index, sign, value, mask in args]
        made["syscalls"].append(entry)
    return made, otherwise


def _otherwise(calls, actions):
    """What libseccomp, which kills the thread at these calls, does otherwise, as [text].  Raises Opaque where they pass."""
    texts = sorted(filter_paths.action_text(action) for action in actions - {bpf.KILL_THREAD})
    if any(filter_paths.passes(action) for action in actions):
        raise filter_paths.Opaque("%s get %s, and with a profile libseccomp kills them" % (calls, " or ".join(texts)))
    return ["%s get %s here; runc, crun and docker kill the thread" % (calls, " or ".join(texts))] if texts else []


def _only(paths, number):
    """The one answer to a number, whatever the arguments."""
    actions = {action for action, _ in paths.ways(number)}
    if len(actions) != 1:
        raise filter_paths.Opaque("number %d has no name, and its arguments decide" % number)
    return actions.pop()


def _call(paths, number, name, default, groups):
    """Adds the rules of a call to {(action, ((index, value, mask), ...)): [name]}; [what it answers otherwise]."""
    found = paths.ways(number)
    actions = {action for action, _ in found}
    if len(actions) == 1:
        action = actions.pop()
        if action != default:
            groups.setdefault((action, ()), []).append(name)
        return []
    left = []
    for action in sorted(actions - {default}):
        made = rules([words for one, words in found if one == action], name, paths.budget)
        if len(made) > MOST_OF_AN_ERRNO and _refuses(action) and _refuses(default):
            left.append("some calls of %s get %s here; runc, crun and docker answer %s" % (
                name, filter_paths.action_text(action), filter_paths.action_text(default)))
            continue
        for rule in made:
            args = tuple((index,) + rule[index] for index in sorted(rule))
            groups.setdefault((action, args), []).append(name)
    return left


def _refuses(action):
    return action & 0xFFFF0000 == bpf.ERRNO and action != bpf.ERRNO


def rules(ways, name, budget):
    """[{argument: (operator, value, mask)}]: ways that lead to one action as rules that exclude each other.

    The operator is == on what the mask leaves, or != with a mask of all 64 bits.  Raises Opaque.
    """
    regions, made = _merged([_regions(words, name, budget) for words in ways], budget), []
    for region in regions:
        pieces = [{}]
        for index, cubes in sorted(region.items()):
            pieces = [_put(piece, index, part) for piece in pieces for part in _parts(cubes, budget)]
            if len(pieces) > MOST:
                raise filter_paths.Opaque("%s would need more than %d rules" % (name, MOST))
        made += pieces
    return made


def _regions(words, name, budget):
    """{argument: frozenset of cubes of 64 bits} of one way's words."""
    if any(offset < 16 for offset in words):
        raise filter_paths.Opaque("%s is decided by the address of the instruction" % name)
    found = {}
    for index in range(6):
        lows, highs = [words.get(16 + 8 * index + half, ((0, 0),)) for half in (0, 4)]
        budget.spend(len(lows) * len(highs) * 4)
        cubes = frozenset((low[0] | high[0] << 32, low[1] | high[1] << 32) for low in lows for high in highs)
        if cubes != _ANY:
            found[index] = cubes
    return found


def _merged(regions, budget):
    """Fewer regions for the same: two that differ in one argument become one, until none do."""
    left = []
    for region in regions:
        at = 0
        while at < len(left):
            budget.spend(4)
            differing = [index for index in set(region) | set(left[at]) if region.get(index, _ANY) != left[at].get(index, _ANY)]
            if len(differing) == 1:
                index, other = differing[0], left.pop(at)
                budget.spend(32 * (len(region.get(index, _ANY)) + len(other.get(index, _ANY))))
                cubes = frozenset(filter_paths.joined(region.get(index, _ANY) | other.get(index, _ANY)))
                region = _put(region, index, cubes)
                if cubes == _ANY:
                    del region[index]
                at = 0
            else:
                at += 1
        left.append(region)
    return left


def _parts(cubes, budget):
    """[(operator, value, mask)] of one argument's cubes: a single value left out is one !=."""
    budget.spend(64 * len(cubes))
    free = [_FULL & ~mask for _, mask in cubes]
    sizes = [1 << bin(bits).count("1") for bits in free]
    if sum(sizes) == _FULL:  # the cubes exclude each other: the sum of all values tells which one is missing
        held = sum(size * value + size // 2 * bits for (value, _), bits, size in zip(cubes, free, sizes))
        return [("!=", (_FULL << 63) - held, _FULL)]
    return [("==", value, mask) for value, mask in sorted(cubes)]


def _put(piece, index, part):
    changed = dict(piece)
    changed[index] = part
    return changed


def _action(action, what, name, errno_name):
    kind, data = action & 0xFFFF0000, action & 0xFFFF
    if kind == bpf.ERRNO:
        return {name: "SCMP_ACT_ERRNO", errno_name: data}
    if kind == bpf.TRACE:
        return {name: "SCMP_ACT_TRACE", errno_name: data}
    if kind not in _KINDS or data:
        raise usage("%s can't be written as OCI JSON" % what, "it answers %s" % filter_paths.action_text(action),
                    REMEDY, stage="policy export")
    return {name: _KINDS[kind]}
