# SPDX-License-Identifier: Apache-2.0
"""Exports a filter as an OCI runtime-spec `linux.seccomp` object, for runc, crun and docker.

It is made from the program, so what is exported is what runs here. Those tools compile it with
libseccomp, which has no order of rules. So each call's answers are written as rules that exclude
each other, by masked comparisons. What this format can't express is refused.
"""
from ... import seccomp_bpf as bpf
from . import paths as filter_paths
from ...sandbox.seccomp import policy
from ...sandbox.errors import usage
from ...sandbox.seccomp.policy import X32_BIT

_ARCH = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
_FULL, _ANY, MOST = (1 << 64) - 1, frozenset([(0, 0)]), 1000
#: Rules for one answer of one call. libseccomp makes several instructions of each, and a program
#: may have 4096 (BPF_MAXINSNS). If only the errno of a refusal needs more, the default's errno is
#: used.
MOST_OF_AN_ERRNO = 100
REMEDY = "--format bpf exports it as it is"
_KINDS = {bpf.ALLOW: "SCMP_ACT_ALLOW", bpf.LOG: "SCMP_ACT_LOG",
          bpf.KILL_PROCESS: "SCMP_ACT_KILL_PROCESS", bpf.KILL_THREAD: "SCMP_ACT_KILL_THREAD",
          bpf.TRAP: "SCMP_ACT_TRAP"}


def oci(program, arch, what):
    """Returns (the object, [text about what these tools answer otherwise]).

    program: verified bytes
    arch: a name in policy.ARCHES
    what: the policy's name, for messages

    Raises SandboxError (exit status 2) for what the format can't express, and where libseccomp's
    answer would differ from mrunc's other than by refusing.
    """
    code, table, budget = bpf.decode(program), policy.numbers(arch), filter_paths.Budget()
    paths = filter_paths.Paths(code, table.AUDIT_ARCH, budget)
    names = {number: name for name, number in table.NR.items()}
    try:
        if filter_paths.masks_numbers(code):
            raise filter_paths.Opaque("it computes with the call number, and a profile names "
                                      "single calls")
        default, groups, x32, notes = _only_action(paths, 0x3FFFFFFF), {}, set(), []
        for number in filter_paths.deciding_numbers(code):
            if number in names:
                notes += _call(paths, number, names[number], default, groups)
            elif number >= X32_BIT and arch == "x86_64":
                x32.update(action for action, _ in paths.ways(number))
            elif _only_action(paths, number) != default:
                raise filter_paths.Opaque("number %d has no name and its own answer, %s" % (
                    number, filter_paths.action_text(_only_action(paths, number))))
        notes = _killed("calls of another architecture",
                        filter_paths.other_architectures(code, table.AUDIT_ARCH, budget)) + \
            _killed("x32 numbers", x32) + notes
    except filter_paths.Opaque as error:
        raise usage("%s can't be written as OCI JSON" % what, str(error), REMEDY,
                    stage="policy export")
    made = _action(default, what, "defaultAction", "defaultErrnoRet")
    made["architectures"] = [_ARCH[arch]]
    made["syscalls"] = []
    for (action, args), calls in groups.items():
        entry = {"names": calls}
        entry.update(_action(action, what, "action", "errnoRet"))
        if args:
            entry["args"] = [{"index": index, "value": value, "op": "SCMP_CMP_NE"} if sign == "!="
                             else {"index": index, "value": mask, "valueTwo": value,
                                   "op": "SCMP_CMP_MASKED_EQ"}
                             for index, sign, value, mask in args]
        made["syscalls"].append(entry)
    return made, notes


def _killed(calls, actions):
    """Returns [text] about calls that libseccomp kills the thread for.

    Raises Opaque if they pass here.
    """
    texts = sorted(filter_paths.action_text(action) for action in actions - {bpf.KILL_THREAD})
    if any(filter_paths.passes(action) for action in actions):
        raise filter_paths.Opaque("%s get %s, and with a profile libseccomp kills them" % (
            calls, " or ".join(texts)))
    return ["%s get %s here; runc, crun and docker kill the thread" % (
        calls, " or ".join(texts))] if texts else []


def _only_action(paths, number):
    """Returns the action for a number. Raises Opaque if arguments decide."""
    actions = {action for action, _ in paths.ways(number)}
    if len(actions) != 1:
        raise filter_paths.Opaque("number %d has no name, and its arguments decide" % number)
    return actions.pop()


def _call(paths, number, name, default, groups):
    """Adds the rules of a call to groups; returns [text about other answers].

    groups: {(action, ((index, sign, value, mask), ...)): [name]}
    """
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
    """Returns [{argument: (operator, value, mask)}]: rules that exclude each other.

    ways: [{word offset: cubes}] that lead to one action
    name: of the call, for messages
    budget: the Budget

    The operator is == for the bits of the mask, or != with a mask of all 64 bits. Raises Opaque.
    """
    regions, made = _merged([_regions(words, name, budget) for words in ways], budget), []
    for region in regions:
        pieces = [{}]
        for index, cubes in sorted(region.items()):
            pieces = [_with(piece, index, part) for piece in pieces
                      for part in _parts(cubes, budget)]
            if len(pieces) > MOST:
                raise filter_paths.Opaque("%s would need more than %d rules" % (name, MOST))
        made += pieces
    return made


def _regions(words, name, budget):
    """Returns {argument: frozenset of cubes of 64 bits} for the words of one way."""
    if any(offset < 16 for offset in words):
        raise filter_paths.Opaque("%s is decided by the address of the instruction" % name)
    found = {}
    for index in range(6):
        lows, highs = [words.get(16 + 8 * index + half, ((0, 0),)) for half in (0, 4)]
        budget.spend(len(lows) * len(highs) * 4)
        cubes = frozenset((low[0] | high[0] << 32, low[1] | high[1] << 32)
                          for low in lows for high in highs)
        if cubes != _ANY:
            found[index] = cubes
    return found


def _merged(regions, budget):
    """Returns fewer regions for the same arguments, merging those that differ in one argument."""
    left = []
    for region in regions:
        at = 0
        while at < len(left):
            budget.spend(4)
            differing = [index for index in set(region) | set(left[at])
                         if region.get(index, _ANY) != left[at].get(index, _ANY)]
            if len(differing) == 1:
                index = differing[0]
                mine, other = region.get(index, _ANY), left.pop(at).get(index, _ANY)
                budget.spend(32 * (len(mine) + len(other)))
                cubes = frozenset(filter_paths.joined(mine | other))
                region = _with(region, index, cubes)
                if cubes == _ANY:
                    del region[index]
                at = 0
            else:
                at += 1
        left.append(region)
    return left


def _parts(cubes, budget):
    """Returns [(operator, value, mask)] for an argument's cubes; all values but one become !=."""
    budget.spend(64 * len(cubes))
    free = [_FULL & ~mask for _, mask in cubes]
    sizes = [1 << bin(bits).count("1") for bits in free]
    if sum(sizes) == _FULL:  # the cubes are disjoint: the sum of their values gives the missing one
        held = sum(size * value + size // 2 * bits
                   for (value, _), bits, size in zip(cubes, free, sizes))
        return [("!=", (_FULL << 63) - held, _FULL)]
    return [("==", value, mask) for value, mask in sorted(cubes)]


def _with(piece, index, part):
    changed = dict(piece)
    changed[index] = part
    return changed


def _action(action, what, name, errno_name):
    kind, data = action & 0xFFFF0000, action & 0xFFFF
    if kind in (bpf.ERRNO, bpf.TRACE):
        return {name: "SCMP_ACT_ERRNO" if kind == bpf.ERRNO else "SCMP_ACT_TRACE", errno_name: data}
    if kind not in _KINDS or data:
        raise usage("%s can't be written as OCI JSON" % what,
                    "it answers %s" % filter_paths.action_text(action), REMEDY,
                    stage="policy export")
    return {name: _KINDS[kind]}
