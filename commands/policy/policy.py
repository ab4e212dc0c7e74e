# SPDX-License-Identifier: Apache-2.0
"""`mrunc policy show|explain|export|diff|learn`: the system call policies, to be read, compared and used elsewhere."""
import json
import os

from ...sandbox.errors import nearest
from ...sandbox.seccomp import policy
from .. import actions
from ..output import say, write, write_bytes
from . import call_names, diff, export as filter_export, filter_text, paths, peer_table, peers
from .shared import ACTIONS, OPTIONS, help_text, load, machine, wrapped, wrong  # noqa: F401

_TAKES = {"show": "arch bpf json", "explain": "arch policy json", "export": "arch format output",
          "diff": "arch against markdown json", "learn": ""}
#: action: (words it takes, at least and at most, as they are called)
_WORDS = {"show": (0, 1, "one NAME or FILE at most"), "explain": (1, 1, "one system call"),
          "export": (1, 1, "one NAME or FILE"), "diff": (1, 2, "A and B, or one --against")}


def main(argv):
    """argv: list of str after the verb.  Returns the exit status."""
    if argv[:1] == ["learn"]:
        from . import learn
        return learn.main(argv[1:])
    action, words, values = actions.read("policy", argv, OPTIONS, _TAKES)
    if action is None:
        write(1, help_text())
        return 0 if values.get("help") else 2
    if action == "learn":
        raise wrong("learn comes before its options")
    least, most, called = _WORDS[action]
    if not least <= len(words) <= most:
        raise wrong("%s takes %s" % (action, called))
    if action == "diff":
        return diff.main(words, values)
    return {"show": show, "explain": explain, "export": export}[action](words, values)


def _is_number(word):
    return 0 < len(word) < 11 and not word.strip("0123456789")


def show(words, values):
    """policy show"""
    arch, what = machine(values), words[0] if words else "default"
    name, program = load(what, arch)
    if values.get("bpf"):
        text = paths.listing(program, arch)
        write(1, _json({"policy": name, "arch": arch, "bpf": text.splitlines()}) if values.get("json") else text)
        return 0
    budget = paths.Budget()
    outside = filter_text.outside(program, arch, budget)  # first, as it takes least of the budget
    groups = _shipped(what, arch) if what in policy.NAMES else _derived(program, arch, budget)
    if values.get("json"):
        write(1, _json({"policy": name, "arch": arch, "instructions": len(program) // 8,
                         "other_numbers": outside[0], "other_architecture": outside[1],
                         "complete": budget.left >= 0, "groups": [
            {"decision": kind, "reason": reason, "calls": calls, "rules": dict(rules)}
            for kind, reason, calls, rules in groups]}))
        return 0
    if budget.left < 0:
        say("%s branches too much: what is not followed to the end says so" % name)
    counts = {}
    for kind, _, calls, _ in groups:
        counts[kind] = counts.get(kind, 0) + len(calls)
    lines = ["%s on %s, %d instructions: %s" % (name, arch, len(program) // 8, ", ".join(
        "%d %s" % (count, kind) for kind, count in counts.items())),
        "Other numbers: %s. Another architecture: %s." % outside]
    if what not in policy.NAMES:
        lines += _for_a_run(program, arch)
    for kind, reason, calls, rules in groups:
        lines += [""] + wrapped(kind + (": " + reason if reason else ""), "")
        for call, rule in rules:
            lines += wrapped("%s: %s" % (call, rule))
        if not rules:
            lines += wrapped(" ".join(calls))
    write(1, "\n".join(lines) + "\n")
    return 0


def _shipped(name, arch):
    """[(decision, reason, calls, [(calls, rule in words)])] of the tables."""
    out = []
    for rule, reason, calls in policy.groups(name, arch):
        plain = isinstance(rule, str)
        texts = {}
        for call in () if plain else calls:
            texts.setdefault(call_names.rule_text(call, rule), []).append(call)
        out.append((rule if plain else "by argument", reason, calls, [(" ".join(of), text) for text, of in texts.items()]))
    return out


def _derived(program, arch, budget):
    """The same, read from a program: no reasons there."""
    plain, tested = {}, []
    for call, answer in filter_text.decisions(program, arch, budget):
        if isinstance(answer, str):
            plain.setdefault(answer, []).append(call)
        else:
            tested.append((call, answer[0]))
    out = [(kind, "", plain[kind], []) for kind in sorted(plain, key=lambda kind: (kind != "allow", kind))]
    if tested:
        out.insert(1 if "allow" in plain else 0, ("by argument", "", [call for call, _ in tested], tested))
    return out


def _for_a_run(program, arch):
    """Lines about what a run behind this policy needs beside it."""
    from ...sandbox.seccomp import choose
    missing = [call for call, _ in choose.lacking(program, arch)]
    return wrapped("For mrunc run it lacks what its pid 1 needs: %s. --seccomp-add gives them, to the program as well." % (
        " ".join(missing)), "") if missing else []


def explain(words, values):
    """policy explain"""
    first = values.get("policy", "default")
    if first not in policy.NAMES:
        raise wrong("--policy %s%s" % (first, nearest(first, policy.NAMES)), "it is one of: " + ", ".join(policy.NAMES))
    call = _call_name(words[0], machine(values) if _is_number(words[0]) or "arch" in values else None)
    numbers = {arch: policy.numbers(arch).NR[call] for arch in policy.ARCHES if call in policy.numbers(arch).NR}
    arch = values.get("arch") if values.get("arch") in numbers else next(iter(numbers))
    here = {name: policy.decisions(name, arch)[call] for name in policy.NAMES}
    others = {peer: peer_table.answers(peer, call) for peer in peer_table.ORDER}
    if values.get("json"):
        write(1, _json({"call": call, "numbers": numbers, "policies": {
            name: {"decision": rule if isinstance(rule, str) else "args", "rule": call_names.rule_text(call, rule),
                   "reason": reason}
            for name, (rule, reason) in here.items()}, "peers": {
                peer: [{"policy": name, "answer": answer, "tests": tests} for name, answer, tests in found]
                for peer, found in others.items()}}))
        return 0
    lines = ["%s (%s)" % (call, ", ".join("%s %d" % item for item in numbers.items()))]
    rule, reason = here[first]
    lines += [""] + wrapped("%s: %s" % (first, call_names.rule_text(call, rule)), "") + wrapped(reason)
    for name, (other, why) in here.items():
        if name != first and other != rule:
            lines += wrapped("%s: %s" % (name, call_names.rule_text(call, other)), "") + wrapped(why)
    lines += ["", "Elsewhere:"]
    for peer, found in others.items():
        texts = ["%s%s%s" % (name + ": " if name != peer else "", _said(answer), " (%s)" % tests if tests else "")
                 for name, answer, tests in found]
        head = "    %-11s " % peer
        if found[0][0] != peer:
            head += "has none of its own; " if not peers.PEERS[peer]["own"] else "as typical: "
        lines += [head + "; ".join(texts)]
    write(1, "\n".join(lines) + "\n")
    return 0


def _said(answer):
    return "allows" if answer == "allow" else "by argument" if answer == "args" else "%ss" % answer if answer in (
        "kill", "trap") else answer


def _call_name(word, arch):
    """The call that a name or a number means; arch None: any."""
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
    """policy export"""
    arch, form = machine(values), values.get("format")
    if form not in ("bpf", "oci"):
        raise wrong("--format %s" % form if form else "export needs --format", "it is one of: bpf, oci")
    name, program = load(words[0], arch)
    if name in policy.NAMES:
        program = policy.exported(name, arch)
        say("a change of RLIMIT_CORE passes; mrunc, which sets that limit to 1, answers success and keeps it")
    if form == "oci":
        profile, otherwise = filter_export.oci(program, arch, name)
        data = _json(profile).encode()
        for text in otherwise:
            say(text)
    else:
        data = program
    target = values.get("output", "-")
    if target == "-":
        if form == "bpf" and os.isatty(1):
            raise wrong("the program is binary: not to a terminal", "-o FILE writes it to a file")
        write_bytes(1, data)
        return 0
    special = os.path.exists(target) and not os.path.isfile(target)  # /dev/null, a FIFO: never replaced by a file
    draft = target if special else "%s.%d.tmp" % (target, os.getpid())
    try:  # else a new file takes the place of an old one: no link is written through, and no half of it is left
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
