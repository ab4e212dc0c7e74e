# SPDX-License-Identifier: Apache-2.0
"""Compares a policy with those of other sandboxes, call by call."""
from . import peers
from ...sandbox.seccomp import policy

#: The order shown: general sandboxes first, filters for one known program last.
ORDER = ("docker", "podman", "snapd", "systemd", "flatpak", "firejail", "bubblewrap", "nsjail",
         "minijail", "chromium", "gvisor")
SIGNS = {"allow": "+", "args": "?", "-": "-"}


def known():
    """Returns every name that `answer` takes."""
    return ORDER + tuple(sorted(set(peers.PEERS) - set(ORDER)))


def policies_of(peer):
    """Returns the policies that stand for a peer: its own, or the typical ones."""
    return tuple(peers.PEERS[peer]["typical"]) or (peer,)


def answer(peer, call, arch):
    """Returns one policy's answer: allow, args, kill, trap or an errno's name.

    None if the architecture lacks the call.
    """
    facts = peers.PEERS[peer]
    if call not in policy.numbers(arch).NR:
        return None
    for what, names in facts["calls"][arch].items():
        if call in names.split():
            return what
    return facts["default"]


def sign(peer, call):
    """Returns "+" allowed, "-" refused, "?" by argument or only by some of its policies."""
    found = {said if said in ("allow", "args") else "-" for _, said, _ in answers(peer, call)}
    return SIGNS[found.pop()] if len(found) == 1 else "?"


def answers(peer, call):
    """Returns [(policy, answer, its argument tests or "")] for a peer's policies.

    They are those of the first architecture that has the call.
    """
    arch = next(arch for arch in policy.ARCHES if call in policy.numbers(arch).NR)
    return [(name, answer(name, call, arch), peers.PEERS[name]["tests"].get(call, ""))
            for name in policies_of(peer)]


def rows(against=ORDER, name="default"):
    """Returns [{call, numbers, decision, rule, reason, peers}] for each call of any architecture.
    """
    out, seen = [], set()
    for arch in policy.ARCHES:
        for call, (rule, reason) in policy.decisions(name, arch).items():
            if call in seen:
                continue
            seen.add(call)
            decision = rule if isinstance(rule, str) else "args"
            out.append({"call": call, "numbers": [policy.numbers(each).NR.get(call)
                                                  for each in policy.ARCHES],
                        "decision": decision, "rule": rule, "reason": reason,
                        "peers": dict((peer, sign(peer, call)) for peer in against)})
    return out


def summary(peer, table):
    """Returns ([calls that only mrunc allows], [calls that only the peer allows]).

    A call that is decided by argument counts as allowed.
    """
    both = [(row["call"], row["decision"] in ("allow", "args"), row["peers"][peer] != "-")
            for row in table]
    return ([call for call, mine, theirs in both if mine and not theirs],
            [call for call, mine, theirs in both if theirs and not mine])
