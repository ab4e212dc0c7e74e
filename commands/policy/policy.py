# SPDX-License-Identifier: Apache-2.0
"""Runs `mrunc policy`: shows, explains, exports, compares and learns system call policies."""
import json
import os

from ...sandbox.errors import nearest
from ...sandbox.seccomp import policy
from .. import actions, help
from ..output import say, write, write_bytes
from . import call_names, diff, export as filter_export, filter_text, paths, peer_table, peers
from .shared import ACTIONS, OPTIONS, help_text, indented, load, machine, wrong  # noqa: F401

_TAKES = {"show": "arch bpf json", "explain": "arch policy json", "export": "arch format output",
          "diff": "arch against markdown json", "learn": ""}
#: action: (least words, most words, their names)
_WORDS = {"show": (0, 1, "one NAME or FILE at most"), "explain": (1, 1, "one system call"),
          "export": (1, 1, "one NAME or FILE"), "diff": (1, 2, "A and B, or one --against")}


def main(argv):
    """Runs the verb policy. argv: list of str after the verb. Returns the exit status."""
    if argv[:1] == ["learn"]:
        from . import learn
        return learn.main(argv[1:])
    action, words, values = actions.read("policy", argv, OPTIONS, _TAKES)
    if action is None:
        write(1, help_text())
        return 0 if values.get("help") else 2
    if action == "learn":
        raise wrong("learn comes before its options")
    least, most, names = _WORDS[action]
    if not least <= len(words) <= most:
        raise wrong("%s takes %s" % (action, names))
    if action == "diff":
        return diff.main(words, values)
    return {"show": show, "explain": explain, "export": export}[action](words, values)


def _is_number(word):
    return 0 < len(word) < 11 and not word.strip("0123456789")


def show(words, values):
    """Prints the decisions of a policy. Returns the exit status."""
    arch, what = machine(values), words[0] if words else "default"
    name, program = load(what, arch)
    if values.get("bpf"):
        text = paths.listing(program, arch)
        write(1, _json({"policy": name, "arch": arch, "bpf": text.splitlines()})
              if values.get("json") else text)
        return 0
    budget = paths.Budget()
    # First, as it takes least of the budget.
    outside = filter_text.other_answers(program, arch, budget)
    groups = _shipped(what, arch) if what in policy.NAMES else _derived(program, arch, budget)
    if values.get("json"):
        write(1, _json({"policy": name, "arch": arch, "instructions": len(program) // 8,
                         "other_numbers": outside[0], "other_architecture": outside[1],
                         "complete": budget.left >= 0, "groups": [
            {"decision": kind, "reason": reason, "calls": calls, "rules": dict(rules)}
            for kind, reason, calls, rules in groups]}))
        return 0
    if budget.left < 0:
        say("%s branches too much: calls that were not followed to the end say so" % name)
    counts = {}
    for kind, _, calls, _ in groups:
        counts[kind] = counts.get(kind, 0) + len(calls)
    lines = ["%s on %s, %d instructions: %s" % (name, arch, len(program) // 8, ", ".join(
        "%d %s" % (count, kind) for kind, count in counts.items())),
        "Other numbers: %s. Another architecture: %s." % outside]
    if what not in policy.NAMES:
        lines += _for_a_run(program, arch)
    for kind, reason, calls, rules in groups:
        lines += [""] + help.wrapped(kind + (": " + reason if reason else ""))
        for call, rule in rules:
            lines += indented("%s: %s" % (call, rule))
        if not rules:
            lines += indented(" ".join(calls))
    write(1, "\n".join(lines) + "\n")
    return 0


def _shipped(name, arch):
    """Returns [(decision, reason, calls, [(calls, rule in words)])] from the tables."""
    out = []
    for rule, reason, calls in policy.groups(name, arch):
        plain = isinstance(rule, str)
        texts = {}
        for call in () if plain else calls:
            texts.setdefault(call_names.rule_text(call, rule), []).append(call)
        out.append((rule if plain else "by argument", reason, calls,
                    [(" ".join(of), text) for text, of in texts.items()]))
    return out


def _derived(program, arch, budget):
    """Returns the same from a program, without reasons."""
    plain, tested = {}, []
    for call, answer in filter_text.decisions(program, arch, budget):
        if isinstance(answer, str):
            plain.setdefault(answer, []).append(call)
        else:
            tested.append((call, answer[0]))
    out = [(kind, "", plain[kind], []) for kind in sorted(plain,
                                                          key=lambda kind: (kind != "allow", kind))]
    if tested:
        out.insert(int("allow" in plain), ("by argument", "", [call for call, _ in tested], tested))
    return out


def _for_a_run(program, arch):
    """Returns lines about calls that a run needs and this policy refuses."""
    from ...sandbox.seccomp import choose  # the compiler, for this action
    missing = [call for call, _ in choose.lacking(program, arch)]
    return help.wrapped("A run can't use it as it is, since its pid 1 needs: %s. --seccomp-add "
                        "allows them, to the program "
                        "as well." % " ".join(missing)) if missing else []


def explain(words, values):
    """Prints the decisions of all policies on one call. Returns the exit status."""
    first = values.get("policy", "default")
    if first not in policy.NAMES:
        raise wrong("--policy %s%s" % (first, nearest(first, policy.NAMES)),
                    "it is one of: " + ", ".join(policy.NAMES))
    one_machine = _is_number(words[0]) or "arch" in values
    call = _call_name(words[0], machine(values) if one_machine else None)
    tables = {arch: policy.numbers(arch).NR for arch in policy.ARCHES}
    numbers = {arch: table[call] for arch, table in tables.items() if call in table}
    arch = values.get("arch") if values.get("arch") in numbers else next(iter(numbers))
    here = {name: policy.decisions(name, arch)[call] for name in policy.NAMES}
    others = {peer: peer_table.answers(peer, call) for peer in peer_table.ORDER}
    if values.get("json"):
        write(1, _json({"call": call, "numbers": numbers, "policies": {
            name: {"decision": rule if isinstance(rule, str) else "args",
                   "rule": call_names.rule_text(call, rule), "reason": reason}
            for name, (rule, reason) in here.items()}, "peers": {
                peer: [{"policy": name, "answer": answer, "tests": tests}
                       for name, answer, tests in found]
                for peer, found in others.items()}}))
        return 0
    lines = ["%s (%s)" % (call, ", ".join("%s %d" % item for item in numbers.items()))]
    rule, reason = here[first]
    lines.append("")
    for name in [first] + [name for name in here if here[name][0] != rule]:
        other, why = here[name]
        lines += help.wrapped("%s: %s" % (name, call_names.rule_text(call, other))) + indented(why)
    lines += ["", "Elsewhere:"]
    for peer, found in others.items():
        texts = ["%s%s%s" % (name + ": " if name != peer else "", _said(answer), " (%s)" % tests
                             if tests else "")
                 for name, answer, tests in found]
        head = "    %-11s " % peer
        if found[0][0] != peer:
            head += "typical: " if peers.PEERS[peer]["own"] else "has no policy of its own; "
        lines += [head + "; ".join(texts)]
    write(1, "\n".join(lines) + "\n")
    return 0


def _said(answer):
    return {"allow": "allows", "args": "by argument", "kill": "kills",
            "trap": "traps"}.get(answer, answer)


def _call_name(word, arch):
    """Returns the call for a name or a number. arch: None for any."""
    tables = [policy.numbers(each).NR for each in policy.ARCHES if arch in (None, each)]
    if _is_number(word):
        for name, number in tables[0].items():
            if number == int(word):
                return name
        raise wrong("no system call of %s has the number %s" % (arch, word), "it gets ENOSYS")
    if not any(word in table for table in tables):
        raise wrong("no system call%s is called %s%s" % (" of " + arch if arch else "", word,
                                                          nearest(word, set().union(*tables))))
    return word


def export(words, values):
    """Writes a policy in another tool's format. Returns the exit status."""
    arch, form = machine(values), values.get("format")
    if form not in ("bpf", "oci"):
        raise wrong("--format %s" % form if form else "export needs --format",
                    "it is one of: bpf, oci")
    name, program = load(words[0], arch)
    if name in policy.NAMES:
        program = policy.exported(name, arch)
        say("the exported policy lets RLIMIT_CORE be changed; mrunc keeps it at 1 and answers "
            "success")
    if form == "oci":
        profile, notes = filter_export.oci(program, arch, name)
        data = _json(profile).encode()
        for text in notes:
            say(text)
    else:
        data = program
    target = values.get("output", "-")
    if target == "-":
        if form == "bpf" and os.isatty(1):
            raise wrong("the program is binary", "it is not written to a terminal", "-o FILE")
        write_bytes(1, data)
        return 0
    # /dev/null or a FIFO is written to. Otherwise a new file replaces the old one: no link is
    # written through, and no part of a file is left.
    special = os.path.exists(target) and not os.path.isfile(target)
    draft = target if special else "%s.%d.tmp" % (target, os.getpid())
    try:
        with open(draft, "r+b" if special else "xb", 0) as out:
            out.write(data)
        if not special:
            os.rename(draft, target)
    except OSError as error:
        if not special and os.path.lexists(draft):
            os.unlink(draft)
        raise wrong("-o %s" % target, error.strerror)
    return 0


def _json(value):
    return json.dumps(value, indent=2) + "\n"
