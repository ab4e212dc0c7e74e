# SPDX-License-Identifier: Apache-2.0
"""A filter as an OCI runtime-spec `linux.seccomp` object, as runc, crun and docker's --security-opt seccomp= take it.

Made from the program, so what is exported is what runs here.  libseccomp, which those tools compile with, knows no order
of rules: each call's answers are written as rules that exclude each other, by masked comparisons, so that the order
doesn't matter.  What this format can't say is refused.
"""
from .. import seccomp_bpf as bpf
from . import filter_paths, policy
from .errors import usage

_ARCH = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
_FULL, _ANY, MOST = (1 << 64) - 1, frozenset([(0, 0)]), 1000
REMEDY = "--format bpf exports it as it is"
_KINDS = {bpf.ALLOW: "SCMP_ACT_ALLOW", bpf.LOG: "SCMP_ACT_LOG", bpf.KILL_PROCESS: "SCMP_ACT_KILL_PROCESS",
          bpf.KILL_THREAD: "SCMP_ACT_KILL_THREAD", bpf.TRAP: "SCMP_ACT_TRAP"}


def oci(program, arch, what):
    """The object.  program: verified bytes; arch: a name in policy.ARCHES; what: its name, for messages.

    Raises SandboxError (exit status 2) for what the format can't say.
    """
    code, table = bpf.decode(program), policy.numbers(arch)
    names = {number: name for name, number in table.NR.items()}
    try:
        default = _only(code, 0x3FFFFFFF, table.AUDIT_ARCH)
        groups = {}
        for number in filter_paths.numbers_to_look_at(code):
            if number in names:
                _call(code, number, names[number], table.AUDIT_ARCH, default, groups)
            elif not 0x40000000 <= number <= 0x400003FF or arch == "x86_64":
                action = _only(code, number, table.AUDIT_ARCH)
                if action != default and (number < 0x40000000 or action & 0xFFFF0000 in (bpf.ALLOW, bpf.LOG)):
                    raise filter_paths.Opaque("number %d has no name and its own answer, %s" % (
                        number, filter_paths.action_text(action)))
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
    return made


def _only(code, number, audit):
    """The one answer to a number, whatever the arguments."""
    actions = {action for action, _ in filter_paths.ways(code, number, audit)}
    if len(actions) != 1:
        raise filter_paths.Opaque("number %d has no name, and its arguments decide" % number)
    return actions.pop()


def _call(code, number, name, audit, default, groups):
    """Adds the rules of a call to {(action, ((index, value, mask), ...)): [name]}."""
    found = filter_paths.ways(code, number, audit)
    actions = {action for action, _ in found}
    if len(actions) == 1:
        action = actions.pop()
        if action != default:
            groups.setdefault((action, ()), []).append(name)
        return
    for action in sorted(actions - {default}):
        for rule in rules([words for one, words in found if one == action], name):
            args = tuple((index,) + rule[index] for index in sorted(rule))
            groups.setdefault((action, args), []).append(name)


def rules(ways, name):
    """[{argument: (operator, value, mask)}]: ways that lead to one action as rules that exclude each other.

    The operator is == on what the mask leaves, or != with a mask of all 64 bits.  Raises Opaque.
    """
    regions, made = _merged([_regions(words, name) for words in ways]), []
    for region in regions:
        pieces = [{}]
        for index, cubes in sorted(region.items()):
            pieces = [_put(piece, index, part) for piece in pieces for part in _parts(cubes)]
            if len(pieces) > MOST:
                raise filter_paths.Opaque("%s would need more than %d rules" % (name, MOST))
        made += pieces
    return made


def _regions(words, name):
    """{argument: frozenset of cubes of 64 bits} of one way's words."""
    if any(offset < 16 for offset in words):
        raise filter_paths.Opaque("%s is decided by the address of the instruction" % name)
    found = {}
    for index in range(6):
        lows, highs = [words.get(16 + 8 * index + half, ((0, 0),)) for half in (0, 4)]
        cubes = frozenset((low[0] | high[0] << 32, low[1] | high[1] << 32) for low in lows for high in highs)
        if cubes != _ANY:
            found[index] = cubes
    return found


def _merged(regions):
    """Fewer regions for the same: two that differ in one argument become one, until none do."""
    left = []
    for region in regions:
        at = 0
        while at < len(left):
            differing = [index for index in set(region) | set(left[at]) if region.get(index, _ANY) != left[at].get(index, _ANY)]
            if len(differing) == 1:
                index, other = differing[0], left.pop(at)
                cubes = frozenset(filter_paths.joined(region.get(index, _ANY) | other.get(index, _ANY)))
                region = _put(region, index, cubes)
                if cubes == _ANY:
                    del region[index]
                at = 0
            else:
                at += 1
        left.append(region)
    return left


def _parts(cubes):
    """[(operator, value, mask)] of one argument's cubes: a single value left out is one !=."""
    if len(cubes) >= 32:
        rest = [(0, 0)]
        for hole in sorted(cubes):
            rest = filter_paths.joined([piece for cube in rest for piece in filter_paths.without(cube, hole)])
        if len(rest) == 1 and rest[0][1] == _FULL:
            return [("!=", rest[0][0], _FULL)]
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
