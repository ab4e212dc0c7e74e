# SPDX-License-Identifier: Apache-2.0
"""Reads OCI seccomp profiles, with docker's and podman's additions.

These are archMap, includes and excludes, errno by name. runtime-spec config-linux.md "Seccomp";
moby profiles/seccomp; containers/common pkg/seccomp.
"""
import errno as errnos
import re
from json import decoder

from ..errors import nearest
from .rules import Rules, condition, disjoint, known_call, misspelt, version
from ... import seccomp_bpf as bpf
from ...syscalls.caps import NAMES as CAPABILITIES

ACTIONS = {"SCMP_ACT_ALLOW": bpf.ALLOW, "SCMP_ACT_ERRNO": bpf.ERRNO,
           "SCMP_ACT_KILL": bpf.KILL_THREAD, "SCMP_ACT_KILL_THREAD": bpf.KILL_THREAD,
           "SCMP_ACT_KILL_PROCESS": bpf.KILL_PROCESS, "SCMP_ACT_TRAP": bpf.TRAP,
           "SCMP_ACT_TRACE": bpf.TRACE, "SCMP_ACT_LOG": bpf.LOG, "SCMP_ACT_NOTIFY": bpf.NOTIFY}
OPERATORS = {"SCMP_CMP_EQ": "==", "SCMP_CMP_NE": "!=", "SCMP_CMP_LT": "<", "SCMP_CMP_LE": "<=",
             "SCMP_CMP_GT": ">", "SCMP_CMP_GE": ">=", "SCMP_CMP_MASKED_EQ": "&=="}
#: {mrunc's name: (the OCI name, Go's name in includes and excludes)}.
OWN = {"x86_64": ("SCMP_ARCH_X86_64", "amd64"), "aarch64": ("SCMP_ARCH_AARCH64", "arm64")}
ARCHITECTURES = frozenset("SCMP_ARCH_" + word for word in (
    "NATIVE X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 "
    "PPC64LE S390 S390X PARISC PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB").split())
GO_NAMES = frozenset("amd64 arm64 x86 x32 386 arm loong64 mips mips64 mips64n32 mips64le mipsle "
                     "mipsel mipsel64 mipsel64n32 mips64p32 mips64p32le ppc ppc64 ppc64le riscv "
                     "riscv64 s390 s390x".split())
TOP = ("defaultAction defaultErrnoRet defaultErrno architectures archMap flags listenerPath "
       "listenerMetadata syscalls comment").split()
RULE = "name names action errnoRet errno args comment includes excludes".split()
#: Flags that hold anyway: the filter is attached to a single thread, the parent of every other.
FLAGS_MET = ("SECCOMP_FILTER_FLAG_TSYNC",)
DEEPEST, MOST_PAIRS = 16, 2000000
_SPACE = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?![0-9.eE])")
_WORD = re.compile(r"true|false|null")
_KINDS = {dict: "an object", list: "a list", str: "a string", int: "a whole number"}


class Node:
    """A JSON value and its place.

    value: dict of str to Node, list of Node, str, int, bool or None.
    at: offset.
    text: rules.Text.
    """

    __slots__ = ("value", "at", "text")

    def __init__(self, text, value, at):
        self.text, self.value, self.at = text, value, at

    def error(self, reason, remedy=None):
        """Returns the SandboxError that names this place."""
        return self.text.error(self.at, reason, remedy)

    def get(self, key, kind, default=None):
        """Returns the Node of a key; `default` (any) if it is missing or null.

        Raises SandboxError for another kind.
        """
        node = self.value.get(key)
        if node is None or node.value is None:
            return default
        if type(node.value) is not kind:
            raise node.error("%s: expected %s" % (key, _KINDS[kind]))
        return node

    def items(self, key, kind):
        """Returns the Nodes of a list, [] if it is missing or null.  Raises SandboxError."""
        nodes = self.get(key, list)
        for node in nodes.value if nodes else ():
            if type(node.value) is not kind:
                raise node.error("%s: expected %s" % (key, _KINDS[kind]))
        return nodes.value if nodes else []

    def only(self, keys, what):
        """Refuses unknown keys: a misspelt `args` would make a rule without conditions.

        keys: the known ones.
        what: whose they are, for the message.
        """
        for key, node in self.value.items():
            if key not in keys:
                raise node.error("%s has no key %r%s" % (what, key, nearest(key, keys)),
                                 "the keys are: " + " ".join(keys))


def parse(text, arch, caps, kernel):
    """Returns the seccomp_bpf.Policy of a profile.  Raises SandboxError.

    text: rules.Text.
    arch: "x86_64" or "aarch64".
    caps: names of the capabilities that the process holds.
    kernel: (major, minor).
    """
    top = json_node(text)
    if type(top.value) is not dict:
        raise top.error("expected an object with defaultAction and syscalls")
    top.only(TOP, "a profile")
    _architecture(top, arch)
    for flag in top.items("flags", str):
        if flag.value not in FLAGS_MET:
            raise flag.error("flag %s can't be honoured" % flag.value)
    for key in ("listenerPath", "listenerMetadata"):
        if top.get(key, str) and top.get(key, str).value:
            raise top.value[key].error("%s: mrunc has no listener for notifications" % key)
    if top.get("defaultAction", str) is None:
        raise top.error("expected defaultAction")
    rules = Rules(arch, _action(top, "defaultAction", "defaultErrnoRet", "defaultErrno"))
    for rule in top.items("syscalls", dict):
        rule.only(RULE, "a rule")
        for call, names_node in _names(rule):
            if not known_call(call):
                raise names_node.error(misspelt(call))
        if rule.get("action", str) is None:
            raise rule.error("expected action")
        action = _action(rule, "action", "errnoRet", "errno")
        applies = _applies(rule, arch, caps, kernel)
        for call, names_node in _names(rule):
            nodes = rule.items("args", dict)
            tests = [_test(call, node) for node in nodes]
            indices = [node.value["index"].value for node in nodes]
            for node, index in zip(nodes, indices):
                # runc libcontainer/seccomp/seccomp_linux.go matchCall, crun src/libcrun/seccomp.c
                # libcrun_generate_seccomp
                if indices.count(index) > 1:
                    raise node.error("two tests of argument %d in one rule: runc and crun then "
                                     "take each test of the rule for an alternative, libseccomp "
                                     "refuses them" % index,
                                     "write a rule for each alternative")
            if applies:
                try:
                    rules.add(call, action, tests, (names_node, rule))
                except bpf.FilterError as error:
                    raise names_node.error(str(error))
    pairs = sum(len(entries) ** 2 // 2 for entries in rules.entries.values()
                if len(set(entry[0] for entry in entries)) > 1)
    if pairs > MOST_PAIRS:
        raise top.error("too many rules of several actions for the same calls: any two must be "
                        "seen to exclude each other")
    for call, entries in rules.entries.items():
        rules.entries[call] = _settled(call, entries)
    return rules.model()


def _names(rule):
    names = [(node.value, node) for node in rule.items("names", str)]
    old = rule.get("name", str)
    if old is not None:
        names.append((old.value, old))
    if not names:
        raise rule.error("expected names: a list with at least one system call")
    return names


def _architecture(top, arch):
    wanted, listed = OWN[arch][0], []
    for node in top.items("architectures", str):
        listed.append(node)
    for entry in top.items("archMap", dict):
        entry.only(["architecture", "subArchitectures"], "archMap")
        if entry.get("architecture", str) is None:
            raise entry.error("expected architecture")
        listed.append(entry.get("architecture", str))
        for node in entry.items("subArchitectures", str):
            _known_architecture(node)
    for node in listed:
        _known_architecture(node)
    if listed and not any(node.value in (wanted, "SCMP_ARCH_NATIVE") for node in listed):
        raise listed[0].error("this profile is not for %s: expected %s among its architectures" %
                              (arch, wanted))


def _known_architecture(node):
    if node.value not in ARCHITECTURES:
        raise node.error("architecture %r is unknown%s" %
                         (node.value, nearest(node.value, sorted(ARCHITECTURES))))


def _action(node, key, number_key, name_key):
    word = node.get(key, str)
    if word.value not in ACTIONS:
        raise word.error("action %r is unknown%s" %
                         (word.value, nearest(word.value, sorted(ACTIONS))),
                         "the actions are: " + " ".join(sorted(ACTIONS)))
    kind = ACTIONS[word.value]
    number, name = node.get(number_key, int), node.get(name_key, str)
    if name is not None and not name.value:
        name = None
    if kind not in (bpf.ERRNO, bpf.TRACE):
        if number is not None or name is not None:
            raise (number or name).error("an errno goes with SCMP_ACT_ERRNO and SCMP_ACT_TRACE "
                                         "only, not with %s" % word.value)
        return kind
    value = errnos.EPERM if number is None else number.value
    if name is not None:
        named = getattr(errnos, name.value, None) if name.value.isupper() else None
        if named is None:
            raise name.error("errno %r is unknown" % name.value)
        if number is not None and named != value:
            raise name.error("%s is %d, but %s says %d" % (name.value, named, number_key, value))
        value = named
    try:
        return kind | bpf.errno(value) & 0xFFFF
    except bpf.FilterError as error:
        raise (number or word).error(str(error))


def _applies(rule, arch, caps, kernel):
    """Returns whether a rule applies, as moby reads it.

    All capabilities of includes are needed; one of excludes is enough.
    """
    answer = True
    for key in ("includes", "excludes"):
        part = rule.get(key, dict)
        if part is None:
            continue
        part.only(["caps", "arches", "minKernel"], key)
        named = part.items("caps", str)
        for node in named:
            if not (node.value.startswith("CAP_") and node.value[4:].lower() in CAPABILITIES):
                raise node.error("capability %r is unknown" % node.value)
        arches = part.items("arches", str)
        for node in arches:
            if node.value not in GO_NAMES:
                raise node.error("architecture %r is unknown%s" %
                                 (node.value, nearest(node.value, sorted(GO_NAMES))))
        least = part.get("minKernel", str)
        since = version(least.value) if least is not None and least.value else None
        if least is not None and least.value and since is None:
            raise least.error("minKernel: expected a version like \"4.8\"")
        held = [node.value in caps for node in named]
        here = OWN[arch][1] in [node.value for node in arches]
        if key == "includes":
            answer = answer and all(held) and (not arches or here) and \
                (since is None or kernel >= since)
        else:
            answer = answer and not any(held) and not here and (since is None or kernel < since)
    return answer


def _test(call, node):
    node.only(["index", "value", "valueTwo", "op"], "an argument test")
    index, value, op = node.get("index", int), node.get("value", int), node.get("op", str)
    if index is None or op is None:
        raise node.error("expected index, value and op")
    two = node.get("valueTwo", int)
    if op.value not in OPERATORS:
        raise op.error("operator %r is unknown%s" %
                       (op.value, nearest(op.value, sorted(OPERATORS))),
                       "the operators are: " + " ".join(sorted(OPERATORS)))
    first, second = value.value if value else 0, two.value if two else 0
    for part in (first, second):
        if not 0 <= part < 1 << 64:
            raise node.error("%d does not fit into 64 bits without a sign" % part)
    if second and op.value != "SCMP_CMP_MASKED_EQ":
        raise two.error("valueTwo goes with SCMP_CMP_MASKED_EQ only")
    try:
        if op.value == "SCMP_CMP_MASKED_EQ":
            return condition(call, index.value, "&==", second, first)
        return condition(call, index.value, OPERATORS[op.value], first)
    except bpf.FilterError as error:
        raise node.error(str(error))


def _settled(call, entries):
    """Returns the entries of one call that decide.

    Alternatives of one action are one rule. No order is defined for several actions, so they must
    exclude each other. But of two rules without conditions, one of them for some capabilities only,
    the first decides, as in libseccomp: podman's profile gives setns twice.
    """
    for at, (action, tests, place) in enumerate(entries):
        for other, other_tests, other_place in entries[:at]:
            by_caps = not tests and not other_tests and \
                (_depends(place[1]) or _depends(other_place[1]))
            if other != action and not by_caps and not disjoint(tests, other_tests):
                earlier = other_place[0].text.text.count("\n", 0, other_place[0].at) + 1
                raise place[0].error("conflicting rules for %s: %s here, %s in line %d, and both "
                                     "can apply" % (
                    call, bpf.action_name(action), bpf.action_name(other), earlier))
    plain = [entry for entry in entries if not entry[1]]
    return plain[:1] or entries


def _depends(rule):
    parts = [rule.get("includes", dict), rule.get("excludes", dict)]
    return any(part is not None and part.value for part in parts)


def json_node(text):
    """Returns the document as Nodes.  Raises SandboxError."""
    node, at = _value(text, _SPACE.match(text.text, 0).end(), 0)
    at = _SPACE.match(text.text, at).end()
    if at != len(text.text):
        raise text.error(at, "expected the end of the file")
    return node


def _value(text, at, depth):
    string, start = text.text, at
    char = string[at:at + 1]
    if depth > DEEPEST:
        raise text.error(at, "nested too deeply for a profile")
    if char == '"':
        value, at = _string(text, at)
        return Node(text, value, start), at
    if char in ("{", "["):
        keyed, listed = {}, []
        out, close = (keyed, "}") if char == "{" else (listed, "]")
        at = _SPACE.match(string, at + 1).end()
        if string[at:at + 1] == close:
            return Node(text, out, start), at + 1
        while True:
            key = None
            if char == "{":
                key_at = at
                if string[at:at + 1] != '"':
                    raise text.error(at, "expected a key in double quotes%s" % (
                        ": no comma after the last one" if string[at:at + 1] == "}" else ""))
                key, at = _string(text, at)
                if key in keyed:
                    raise text.error(key_at, "key %r is given twice" % key)
                at = _SPACE.match(string, at).end()
                if string[at:at + 1] != ":":
                    raise text.error(at, "expected : after the key %r" % key)
                at = _SPACE.match(string, at + 1).end()
            node, at = _value(text, at, depth + 1)
            if char == "{":
                keyed[key] = node
            else:
                listed.append(node)
            at = _SPACE.match(string, at).end()
            if string[at:at + 1] == close:
                return Node(text, out, start), at + 1
            if string[at:at + 1] != ",":
                raise text.error(at, "expected , or %s" % close)
            at = _SPACE.match(string, at + 1).end()
    found = _NUMBER.match(string, at)
    if found:
        if len(found.group()) > 20:
            raise text.error(at, "a number of more than 64 bits")
        return Node(text, int(found.group()), start), found.end()
    found = _WORD.match(string, at)
    if found:
        return Node(text, {"true": True, "false": False, "null": None}[found.group()],
                    start), found.end()
    raise text.error(at, "expected a value (a number must be whole)" if char
                     else "the file ends in the middle")


def _string(text, at):
    try:
        return decoder.scanstring(text.text, at + 1, True)  # type: ignore[attr-defined]
    except decoder.JSONDecodeError as error:
        raise text.error(error.pos, "string: %s" % error.msg)
