# SPDX-License-Identifier: Apache-2.0
"""What a program decides, in words, read from the program alone: for policies of which there is nothing but the bytes."""
from .. import seccomp_bpf as bpf
from . import call_names, filter_export, filter_paths, policy


def decisions(program, arch):
    """[(call, an action, or (text,) where arguments decide)] for every call of the architecture."""
    code, table, out = bpf.decode(program), policy.numbers(arch), []
    for call, number in sorted(table.NR.items(), key=lambda item: item[1]):
        try:
            found = filter_paths.ways(code, number, table.AUDIT_ARCH)
            actions = {action for action, _ in found}
            if len(actions) == 1:
                out.append((call, filter_paths.action_text(actions.pop())))
            else:
                out.append((call, (_tested(call, found),)))
        except filter_paths.Opaque as error:
            out.append((call, ("can't be put in words: %s" % error,)))
    return out


def _tested(call, found):
    rules = {action: filter_export.rules([words for one, words in found if one == action], call)
             for action in {action for action, _ in found}}
    order = sorted(rules, key=lambda action: (len(rules[action]), action))
    texts = ["%s if %s" % (filter_paths.action_text(action), " or ".join(_piece(call, rule) for rule in rules[action]))
             for action in order[:-1]]
    return "; ".join(texts + ["%s otherwise" % filter_paths.action_text(order[-1])])


def _piece(call, rule):
    texts = []
    for index, (sign, value, mask) in sorted(rule.items()):
        name = call_names.argument(call, index)
        text = call_names.value_text(call, index, value)
        if mask == 0xFFFFFFFF:
            texts.append("%s %s %s" % (name, sign, text))
        elif mask == 0xFFFFFFFFFFFFFFFF:
            texts.append("64-bit %s %s %s" % (name, sign, text))
        else:
            texts.append("%s & %#x %s %s" % (name, mask, sign, text if value else 0))
    return " and ".join(texts) or "always"


def outside(program, arch):
    """(the answer above the last known number, the answer to another architecture) in words."""
    code, table = bpf.decode(program), policy.numbers(arch)
    found = []
    for number, audit in ((0x3FFFFFFF, table.AUDIT_ARCH), (0, 0x40000003 if arch == "x86_64" else 0x40000028)):
        try:
            actions = {action for action, _ in filter_paths.ways(code, number, audit)}
            found.append(" or ".join(sorted(filter_paths.action_text(action) for action in actions)))
        except filter_paths.Opaque:
            found.append("by argument")
    return tuple(found)
