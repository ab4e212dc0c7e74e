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
            entry["args"] = [{"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
                             for index, value, mask in args]
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
        pieces = []
        for one, words in found:
            if one == action:
                pieces += products(words, name)
        for piece in joined(pieces):
            groups.setdefault((action, tuple((index,) + piece[index] for index in sorted(piece))), []).append(name)


def products(words, name):
    """[{argument: (value, mask) of 64 bits}] of one way's words."""
    pieces = [{}]
    for offset, cubes in sorted(words.items()):
        if offset < 16:
            raise filter_paths.Opaque("%s is decided by the address of the instruction" % name)
        index, shift = (offset - 16) // 8, 32 if offset % 8 else 0
        grown = []
        for piece in pieces:
            for value, mask in cubes:
                before = piece.get(index, (0, 0))
                cube = before[0] | value << shift, before[1] | mask << shift
                grown.append(_put(piece, index, cube) if mask else piece)
        pieces = grown
        if len(pieces) > 1000:
            raise filter_paths.Opaque("%s would need more than 1000 rules" % name)
    return pieces


def _put(piece, index, cube):
    changed = dict(piece)
    changed[index] = cube
    return changed


def joined(pieces):
    """Fewer pieces for the same: two that differ in one bit of one argument become one, until none do."""
    left = {tuple(sorted(piece.items())) for piece in pieces}
    changed = True
    while changed:
        changed = False
        for key in sorted(left):
            if key in left and _twin(left, key):
                changed = True
    return [dict(key) for key in sorted(left)]


def _twin(left, key):
    for at, (index, (value, mask)) in enumerate(key):
        bits = mask
        while bits:
            bit = bits & -bits
            bits ^= bit
            other = key[:at] + ((index, (value ^ bit, mask)),) + key[at + 1:]
            if other in left:
                left.discard(key)
                left.discard(other)
                rest = ((index, (value & ~bit, mask & ~bit)),) if mask != bit else ()
                left.add(key[:at] + rest + key[at + 1:])
                return True
    return False


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
