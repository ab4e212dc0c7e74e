# SPDX-License-Identifier: Apache-2.0
"""Describes the decisions of a program in words, for policies that are only bytes."""
from ... import seccomp_bpf as bpf
from . import call_names, export, paths as filter_paths
from ...sandbox.seccomp import policy


def decisions(program, arch, budget):
    """Returns [(call, decision)] for every call of the architecture.

    A decision is an action, why it isn't known, or (text,) if arguments decide.
    """
    table, out, known = policy.numbers(arch), [], {}
    paths = filter_paths.Paths(bpf.decode(program), table.AUDIT_ARCH, budget)
    for call, number in sorted(table.NR.items(), key=lambda item: item[1]):
        try:
            found = paths.ways(number)
            actions = {action for action, _ in found}
            if len(actions) == 1:
                out.append((call, filter_paths.action_text(actions.pop())))
                continue
            kind = paths.kind(number)
            if kind not in known:
                known[kind] = _rules(call, found, budget)
            out.append((call, (_tested(call, known[kind]),)))
        except filter_paths.Opaque as error:
            out.append((call, "not known (%s)" % error))
    return out


def _rules(call, found, budget):
    """Returns {action: rules as export.py makes them}."""
    return {action: export.rules([words for one, words in found if one == action], call, budget)
            for action in {action for action, _ in found}}


def _tested(call, rules):
    order = sorted(rules, key=lambda action: (len(rules[action]), action))
    texts = ["%s if %s" % (filter_paths.action_text(action),
                           " or ".join(_piece(call, rule) for rule in rules[action]))
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


def other_answers(program, arch, budget):
    """Returns the answers to numbers without a name, and to other architectures, in words."""
    code, table = bpf.decode(program), policy.numbers(arch)
    paths = filter_paths.Paths(code, table.AUDIT_ARCH, budget)
    named, actions = set(table.NR.values()), set()
    try:
        if filter_paths.masks_numbers(code):
            raise filter_paths.Opaque("the program computes with the call number")
        for number in filter_paths.deciding_numbers(code):
            if number not in named:
                actions.update(action for action, _ in paths.ways(number))
        others = _or(actions)
    except filter_paths.Opaque as error:
        others = "not known (%s)" % error
    try:
        return others, _or(filter_paths.other_architectures(code, table.AUDIT_ARCH, budget))
    except filter_paths.Opaque as error:
        return others, "not known (%s)" % error


def _or(actions):
    return " or ".join(sorted(filter_paths.action_text(action) for action in actions))
