# SPDX-License-Identifier: Apache-2.0
"""The default beside what other sandboxes do, call by call."""
from . import peers
from ...sandbox.seccomp import policy

#: The order in which they are shown: general sandboxes first, filters for one known program last.
ORDER = ("docker", "podman", "snapd", "systemd", "flatpak", "firejail", "bubblewrap", "nsjail", "minijail", "chromium",
         "gvisor")
SIGNS = {"allow": "+", "args": "?", "-": "-"}


def known():
    """Every name that `answer` takes."""
    return ORDER + tuple(sorted(set(peers.PEERS) - set(ORDER)))


def looked_at(peer):
    """The policies that stand for a peer: its own, or the typical ones where it says that it has none."""
    return tuple(peers.PEERS[peer]["typical"]) or (peer,)


def answer(peer, call, arch):
    """What one peer's policy says: allow, args, kill, trap or an errno's name; None where the architecture lacks the call."""
    facts = peers.PEERS[peer]
    if call not in policy.numbers(arch).NR:
        return None
    for what, names in facts["calls"][arch].items():
        if call in names.split():
            return what
    return facts["default"]


def sign(peer, call):
    """"+" allowed, "-" refused, "?" by argument or only by one of its typical policies; as `answers` on the first
    architecture that has the call."""
    found = {said if said in ("allow", "args") else "-" for _, said, _ in answers(peer, call)}
    return SIGNS[found.pop()] if len(found) == 1 else "?"


def answers(peer, call):
    """[(policy, answer, its argument tests or "")] of the policies that stand for a peer."""
    arch = next(arch for arch in policy.ARCHES if call in policy.numbers(arch).NR)
    return [(name, answer(name, call, arch), peers.PEERS[name]["tests"].get(call, "")) for name in looked_at(peer)]


def rows(against=ORDER, name="default"):
    """[{call, numbers, decision, rule, reason, peers}] in the order of the table, for every call of either architecture."""
    out, seen = [], set()
    for arch in policy.ARCHES:
        for call, (rule, reason) in policy.decisions(name, arch).items():
            if call in seen:
                continue
            seen.add(call)
            decision = rule if isinstance(rule, str) else "args"
            out.append({"call": call, "numbers": [policy.numbers(each).NR.get(call) for each in policy.ARCHES],
                        "decision": decision, "rule": rule, "reason": reason,
                        "peers": dict((peer, sign(peer, call)) for peer in against)})
    return out


def summary(peer, table):
    """({calls that only we let through}, {calls that only the peer lets through}), by argument counting as through."""
    ours, theirs = [], []
    for row in table:
        mine, other = row["decision"] in ("allow", "args"), row["peers"][peer] != "-"
        if mine and not other:
            ours.append(row["call"])
        if other and not mine:
            theirs.append(row["call"])
    return ours, theirs
