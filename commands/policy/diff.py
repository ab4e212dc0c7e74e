# SPDX-License-Identifier: Apache-2.0
"""Runs `mrunc policy diff`: compares two policies, or one with those of other sandboxes."""
import json
import os

from ...sandbox.caller import program_name
from ...sandbox.errors import SandboxError, nearest, usage
from ...sandbox.seccomp import policy
from .. import help
from ..output import say, write
from . import call_names, filter_diff, paths, peer_table, peers
from .shared import indented, load, machine


def main(words, values):
    """Returns the exit status: 1 if A and B differ, or if not everything could be compared.

    words: list of str
    values: dict of options by dest

    Raises SandboxError (exit status 2).
    """
    if "against" in values:
        if len(words) != 1:
            raise usage("diff --against takes one NAME", stage="policy")
        return against(words[0], values)
    if len(words) != 2:
        raise usage("diff takes A and B, or one --against",
                    remedy="%s policy --help" % program_name(), stage="policy")
    if values.get("markdown"):
        raise usage("--markdown needs --against", stage="policy")
    return between(words, values)


def between(words, values):
    """Prints the differences of two policies. Returns the exit status."""
    arches = [machine(values)] if "arch" in values else list(policy.ARCHES)
    programs, left_out = [{}, {}], {}
    for arch in list(arches):
        try:
            for side, what in enumerate(words):
                programs[side][arch] = load(what, arch)[1]
        except SandboxError as error:
            if "arch" in values or arch == os.uname().machine or len(arches) == 1:
                raise
            arches.remove(arch)
            left_out[arch] = error.line()
            say("%s left out: %s" % (arch, error.line()))
    found, partly = filter_diff.differences([side.__getitem__ for side in programs], arches)
    labels = words if words[0] != words[1] else ["A", "B"]
    lines = _lines(found, labels, arches)
    if values.get("json"):
        write(1, json.dumps({"a": words[0], "b": words[1], "arches": arches, "left_out": left_out,
                             "complete": not partly, "partly": partly,
                             "differences": [_as_dict(each) for each in found]}, indent=2) + "\n")
    else:
        for arch, why in partly.items():
            say("not everything was compared on %s: %s" % (arch, why))
        if not lines:
            lines = ["no difference: every call number, every argument, on %s" % ", ".join(arches)]
            if partly:
                lines = ["no difference found, but not everything was "
                         "compared on %s" % ", ".join(partly)]
        write(1, "\n".join(lines) + "\n")
    return 1 if found or partly else 0


def _as_dict(each):
    answers = [action if action is None else paths.action_text(action)
               for action in (each.one, each.two)]
    return {"arch": each.arch, "call": _name(each), "first": each.first, "last": each.last,
            "a": answers[0], "b": answers[1], "examples": [list(args) for args in each.examples],
            "text": _example(each, each.examples[0])}


def _name(each):
    if each.arch not in policy.ARCHES or each.first != each.last:
        return None
    return {number: name for name, number in policy.numbers(each.arch).NR.items()}.get(each.first)


def _example(each, args):
    name = _name(each)
    if name:
        return call_names.call_text(name, args)
    if each.first != each.last:
        return "numbers %d to %d" % (each.first, each.last)
    return call_names.call_text("number %d" % each.first, args).replace("()", "")


def _lines(found, labels, arches):
    """Returns one line a difference; differences that only one side allows come first."""
    rows = {}
    for each in found:
        examples = [_example(each, args) for args in each.examples]
        rows.setdefault((_rank(each), tuple(examples), each.one, each.two), []).append(each)
    lines = []
    for (_, examples, one, two), same in sorted(rows.items(), key=lambda item: item[0][0]):
        if one is None or two is None:
            fixed = 0 if two is None else 1
            lines.append("%s %s every call, %s does not" % (
                labels[fixed], paths.verdict(one if two is None else two), labels[1 - fixed]))
        else:
            also = " (also %s)" % ", ".join(examples[1:]) if examples[1:] else ""
            short = paths.verdict(two)
            for tail in (" to", " at", " about"):
                short = short[:-len(tail)] if short.endswith(tail) else short
            lines.append("%s %s %s, %s %s%s" % (
                labels[0], paths.verdict(one), examples[0], labels[1], short, also))
        where = [each.arch for each in same]
        if where != arches:
            lines[-1] += "  [%s]" % ", ".join(where)
    return lines


def _rank(each):
    if None in (each.one, each.two):
        return 0
    return {(True, False): 1, (False, True): 2}.get((paths.passes(each.one),
                                                     paths.passes(each.two)), 3)


# Against other sandboxes

def against(name, values):
    """Prints a policy beside those of other sandboxes. Returns the exit status."""
    if name not in policy.NAMES:
        raise usage("--against compares a shipped policy, "
                    "not %s%s" % (name, nearest(name, policy.NAMES)),
                    "the policies are: %s" % ", ".join(policy.NAMES), stage="policy")
    if "arch" in values:
        raise usage("--against takes no --arch", "it shows both architectures", stage="policy")
    wanted = [peer.strip() for peer in values["against"].split(",")]
    order = list(peer_table.ORDER) if wanted == ["all"] else list(dict.fromkeys(wanted))
    for peer in order:
        if peer not in peer_table.known():
            raise usage("--against %s%s" % (peer, nearest(peer, peer_table.known())),
                        "it is one of: all, %s" % ", ".join(peer_table.known()), stage="policy")
    if values.get("json") and values.get("markdown"):
        raise usage("--json and --markdown exclude each other", stage="policy")
    table = peer_table.rows(order, name)
    if values.get("json"):
        write(1, _table_json(name, order, table))
    elif values.get("markdown"):
        write(1, "\n".join(markdown(name, order, table)) + "\n")
    else:
        write(1, "\n".join(_table_text(name, order, table)) + "\n")
    return 0


def _facts(peer):
    facts = peers.PEERS[peer]
    own = facts["says"] + ("; " + facts["notes"] if facts["notes"] else "")
    if facts["typical"]:
        own += "; compared with %s" % ", ".join(peer_table.policies_of(peer))
    elif not facts["own"]:
        own += "; compared with that"
    return facts, own


def _table_json(name, order, table):
    used = dict.fromkeys(order + [each for peer in order for each in peer_table.policies_of(peer)])
    calls = []
    for row in table:
        theirs = {peer: [{"policy": each, "answer": answer, "tests": tests}
                         for each, answer, tests in peer_table.answers(peer, row["call"])]
                  for peer in order}
        calls.append({"call": row["call"], "numbers": row["numbers"], "decision": row["decision"],
                      "rule": call_names.rule_text(row["call"], row["rule"]),
                      "reason": row["reason"], "peers": theirs})
    shown = ("source", "path", "version", "licence", "default", "says", "notes", "own", "typical")
    sources = {peer: {key: peers.PEERS[peer][key] for key in shown} for peer in used}
    return json.dumps({"policy": name, "peers": sources, "calls": calls}, indent=1) + "\n"


def _gathered(name, order, table):
    """Returns [(decision, reason, [(signs, calls, rule text)])]; equal answers share a row."""
    by_call = {row["call"]: row for row in table}
    groups, done = {}, set()
    for arch in policy.ARCHES:
        for rule, reason, calls in policy.groups(name, arch):
            calls = [call for call in calls if call not in done]
            done.update(calls)
            for call in calls:
                text = "" if isinstance(rule, str) else call_names.rule_text(call, rule)
                signs = tuple(by_call[call]["peers"][peer] for peer in order)
                rows = groups.setdefault((rule, reason), {})
                rows.setdefault((signs, text), []).append(call)
    return [(rule if isinstance(rule, str) else "by argument", reason,
             [(signs, calls, text) for (signs, text), calls in rows.items()])
            for (rule, reason), rows in groups.items()]


LEGEND = "+ allowed, - refused, ? by argument (or by one of its typical policies only)"


def _table_text(name, order, table):
    lines = ["%s beside %s. %s." % (name, ", ".join(order), LEGEND), ""]
    for peer in order:
        facts, own = _facts(peer)
        ours, theirs = peer_table.summary(peer, table)
        lines += help.wrapped("%s: %s %s %s, %s" % (
            peer, facts["source"], facts["path"], facts["version"], facts["licence"]))
        lines += indented(own)
        lines += ["    only %s lets through %d call%s, only %s %d" % (
            name, len(ours), "" if len(ours) == 1 else "s", peer, len(theirs))]
        if theirs and len(theirs) <= 60:
            lines += indented("only %s: %s" % (peer, " ".join(theirs)))
    for decision, reason, rows in _gathered(name, order, table):
        lines += ["", "%s: %s" % (decision, reason)]
        for signs, calls, text in rows:
            lines += indented(" ".join(calls) + (": " + text if text else ""))
            lines.append("        " + " ".join("%s%s" % (sign, peer)
                                               for sign, peer in zip(signs, order)))
    return lines


def markdown(name, order, table):
    """Returns the lines of the table in docs/policy.md."""
    lines = ["| sandbox | its policy, or the answer to a call that it doesn't name | only `%s` "
             "lets through | only it lets through | source |" % name, "|---|---|---|---|---|"]
    for peer in order:
        facts, own = _facts(peer)
        ours, theirs = peer_table.summary(peer, table)
        lines.append("| %s | %s | %d | %d | %s `%s` %s, %s |" % (
            peer, _cell(own), len(ours), len(theirs), facts["source"], _cell(facts["path"]),
            facts["version"], facts["licence"]))
    lines += ["", LEGEND[0].upper() + LEGEND[1:] + ".", "",
              "| decision | calls | %s | why |" % " | ".join(order),
              "|---|---|%s---|" % ("---|" * len(order))]
    for decision, reason, rows in _gathered(name, order, table):
        for signs, calls, text in rows:
            lines.append("| %s | %s%s | %s | %s |" % (
                decision, " ".join("`%s`" % call for call in calls),
                ": " + _cell(text) if text else "", " | ".join(signs), _cell(reason)))
    return lines


def _cell(text):
    return text.replace("|", "\\|").replace("*", "\\*")
