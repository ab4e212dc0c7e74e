# SPDX-License-Identifier: Apache-2.0
"""Writes a learned policy as text that --seccomp reads, and reads it back.

One rule a line, so that two files can be compared. The rules are grouped as the default policy is,
sorted by name, constants by their C names. Merging reads the comments back (a rule seen once, the
runs). Nothing else depends on them.
"""
import errno
import re

from . import constants, learned, tables
from ..errors import show, usage
from .learned import BASE, DEFAULT, HELD, Judge, Learned, MOST_VALUES, OTHERWISE
from .minijail import Reader
from .rules import Text, condition
from ... import seccomp_bpf as bpf

#: (title, the first call of the part of tables.py.DEFAULT that it stands for)
SECTIONS = (("Files", "read"), ("Memory", "mmap"), ("Processes, threads, signals", "fork"),
            ("Time, events, limits", "nanosleep"), ("Sockets and IPC", "socket"))
REFUSED = "The default policy refuses these; `mrunc policy explain NAME` says why"
ONCE = "once"
LONGEST_RUN = 200
_RUN = re.compile(r"^# Run: (.*)$", re.M)
_RUNS = re.compile(r"^# Learned in ([0-9]{1,6}) runs?\b", re.M)
_ALLOW = [(bpf.ALLOW, [])]
#: The names of one argument, where others have the same value: F_RDLCK is 0 as F_DUPFD is.
_FCNTL = """
    F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETLK F_SETLKW F_SETOWN F_GETOWN F_SETSIG
    F_GETSIG F_SETOWN_EX F_GETOWN_EX F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW F_SETLEASE F_GETLEASE
    F_NOTIFY F_DUPFD_QUERY F_CREATED_QUERY F_DUPFD_CLOEXEC F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS
    F_GET_SEALS F_GET_RW_HINT F_SET_RW_HINT F_GET_FILE_RW_HINT F_SET_FILE_RW_HINT
""".split()
_PRCTL = """
    PR_CAPBSET_READ PR_CAPBSET_DROP PR_CAP_AMBIENT PR_MCE_KILL PR_MCE_KILL_GET
    PR_MPX_ENABLE_MANAGEMENT PR_MPX_DISABLE_MANAGEMENT PR_PAC_RESET_KEYS PR_PAC_SET_ENABLED_KEYS
    PR_PAC_GET_ENABLED_KEYS PR_SCHED_CORE PR_SVE_SET_VL PR_SVE_GET_VL PR_SME_SET_VL PR_SME_GET_VL
    PR_TASK_PERF_EVENTS_DISABLE PR_TASK_PERF_EVENTS_ENABLE
""".split()
_NOT_AN_OPTION = ("PR_SET_MM_", "PR_SET_VMA_")
_NOT_A_DOMAIN = ("AF_FILE", "AF_LOCAL", "AF_ROUTE", "AF_MAX")
_TYPES = "SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_RDM SOCK_SEQPACKET SOCK_DCCP SOCK_PACKET".split()
_SIGNAL_ALIASES = ("SIGCLD", "SIGIOT", "SIGPOLL")
_CSIGNAL = 0xFF  # linux/sched.h
_FIRST_IOCTL = 0x5401


def write(found, arch):
    """Returns the text of a learned.Learned for an architecture.  mrunc on any reads it."""
    judge, names = Judge(arch), Names(arch)
    sections, refused = {}, []
    place = _places()
    for call in sorted(found.calls):
        if (call, None) in BASE or call in learned.BLIND:
            continue
        lines, beyond = _lines(call, found, judge, names)
        (refused if beyond
         else sections.setdefault(place.get(call, len(SECTIONS)), [])).extend(lines)
    parts = [_head(found)]
    parts.append(["# Always there: what mrunc's pid 1 needs to start and end the program, "
                  "--ledger, and returns from signals"] +
                 sorted("%s: %s" % (call, _base(call, enough, names)) for call, enough in BASE))
    titles = [title for title, _ in SECTIONS] + ["Others"]
    parts += [["# " + titles[section]] + sections[section] for section in sorted(sections)
              if sections[section]]
    if refused:
        parts.append(["# " + REFUSED] + refused)
    held = [call for call in sorted(HELD)
            if (call in found.calls or any(call == name for name, _ in BASE)) and
            not found.wide(call)]
    parts.append(["# With anything else than above"] +
                 ["%s: return %s" % (call, OTHERWISE[call]) for call in held])
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _head(found):
    lines = ["# Learned in %d run%s. A rule for what was seen in one call only is marked `%s`." % (
        found.runs, "" if found.runs == 1 else "s", ONCE)]
    lines += ["# Run: " + line for line in found.lines[-learned.MOST_RUNS:]]
    lines += ["# %s are refused while learning too: no filter can see what they do." %
              ", ".join(learned.BLIND),
              "@default return " + DEFAULT]
    return lines


def shown(argv):
    """Returns a command line for the head of a file.

    argv: list of bytes or str, with any contents.
    """
    words = [show(word) for word in argv]
    text = " ".join(word if word and not set(word) & set(" \t\n'\"\\") else "'%s'" % word
                    for word in words)
    text = "".join(char if " " <= char <= "~" else char.encode("unicode_escape").decode()
                   for char in text)
    return text if len(text) <= LONGEST_RUN else text[:LONGEST_RUN - 3] + "..."


def _places():
    """Returns {call: index of its section}, of calls with a row in the default policy."""
    place, section = {}, -1
    first = {call: index for index, (_, call) in enumerate(SECTIONS)}
    for _, _, calls in tables.DEFAULT:
        for call in calls.split():
            section = first.get(call, section)
            place[call] = section
    return place


def _lines(call, found, judge, names):
    """Returns a call's ([line], whether the default policy refuses what they allow)."""
    seen = found.calls[call]
    if not found.wide(call):
        lines, base = [], dict(BASE).get(call)
        for values in sorted(seen):
            text = " && ".join("arg%d == %s" % (index, names.value(call, index, value))
                               for index, value in zip(HELD[call], values))
            if base and conditions_of(call, base) == _tests(call, values):
                continue
            allowed = judge.allows(call, dict(zip(HELD[call], values)))
            lines.append(_line(call, text, seen[values] == 1, not allowed))
        return lines, False
    once = sum(seen.values()) == 1
    values_allowed = all(values is None or judge.allows(call, dict(zip(HELD[call], values)))
                         for values in seen)
    note = "any value: only up to %d are held on to" % MOST_VALUES if call in HELD else None
    if judge.tested(call) and call not in found.outside and values_allowed:
        return [_line(call, _braces(judge.rule(call)), once, False, note)], False
    beyond = judge.refuses(call)
    return [_line(call, "1", once, beyond is None and bool(judge.tested(call)),
                  note)], beyond is not None


def _line(call, text, once, refused, note=None):
    marks = [ONCE] * once + ["the default policy refuses this" if text != "1"
                             else "the default policy refuses some"] * refused
    marks += [note] if note else []
    return "%s: %s%s" % (call, text, "  # " + "; ".join(marks) if marks else "")


def _base(call, enough, names):
    if enough is None:
        return "1"
    return " && ".join("%s == %s" % ("arg%d" % arg, "AT_EMPTY_PATH" if call == "execveat"
                                     else names.value(call, arg, value))
                       for arg, _, value, _, _ in conditions_of(call, enough))


def _braces(rule):
    """Returns a rule of tables.py in the text's grammar."""
    entries = []
    for entry in rule:
        action = "allow" if entry[0] == "allow" else "return " + entry[0]
        tests = ["arg%d %s %#x" % test[:3] if test[3:] in ((), (None, True))
                 else "arg%d & %#x %s %#x" % (
            test[0], test[3], test[1].lstrip("&"), test[2]) for test in entry[1:]]
        entries.append(" && ".join(tests) + "; " + action if tests else action)
    return "{ %s }" % ", ".join(entries)


def conditions_of(call, text):
    """Returns [Condition] for one of choose.STARTER's conditions."""
    found = re.match(r"arg(\d) == (0x[0-9a-f]+|\d+)$", text)
    return [condition(call, int(found.group(1)), "==", int(found.group(2), 0))]


def _tests(call, values):
    return [condition(call, index, "==", value) for index, value in zip(HELD[call], values)]


# Back

def read(name, data, arch):
    """Returns the learned.Learned of a file.

    name: for messages.
    data: bytes.
    arch: "x86_64" or "aarch64".

    Raises SandboxError (exit 2) for a line that `write` does not write: merging would lose it.
    """
    try:
        string = data.decode("utf-8")
    except UnicodeDecodeError:
        raise usage(name, "is not text", "what `policy learn` wrote can be merged", stage="policy")
    text = Text(name, string)
    reader = Reader(text, arch)
    reader.file()
    if reader.denylist or reader.default != bpf.errno(getattr(errno, DEFAULT)):
        raise text.error(max(string.find("@d"), 0),
                         "not a learned policy: expected @default return %s" % DEFAULT)
    runs = _RUNS.search(string)
    found = Learned(int(runs.group(1)) if runs else 1, _RUN.findall(string)[-learned.MOST_RUNS:])
    judge, statements = Judge(arch), []
    for call, action, tests, place in reader.rules:
        if statements and statements[-1][0] == call and statements[-1][2] == place:
            statements[-1][1].append((action, tests))
        else:
            statements.append((call, [(action, tests)], place))
    for call, entries, place in statements:
        if not _take(found, judge, arch, call, entries, _once(place)):
            raise place[0].error(place[1],
                                 "a rule that learning does not write: merging would lose it",
                                 "leave the rule out, or join the two files by hand")
    return found


def _once(place):
    line = place[0].text[place[1]:].split("\n", 1)[0]
    return ONCE in line.partition("#")[2].replace(";", " ").split()


def _take(found, judge, arch, call, entries, once):
    """Adds one statement; returns False if `write` does not write it."""
    count, base = 1 if once else 2, dict(BASE)
    if entries == _ALLOW:
        if base.get(call, "") is not None:
            found.see(call, None, count)
            if judge.tested(call):
                found.outside.add(call)
        return True
    if call in OTHERWISE and entries == [(bpf.errno(getattr(errno, OTHERWISE[call])), [])]:
        return True
    if judge.tested(call) and entries == _parsed(call, _braces(judge.rule(call)), arch):
        found.see(call, None, count)
        return True
    if base.get(call) and entries == [(bpf.ALLOW, conditions_of(call, base[call]))]:
        return True
    for action, tests in entries:
        values = tuple(test[2] for test in tests)
        if call not in HELD or action != bpf.ALLOW or len(values) != len(HELD[call]) or \
                tests != _tests(call, values):
            return False
        found.see(call, values, count)
    return True


def _parsed(call, text, arch):
    reader = Reader(Text("", "%s: %s" % (call, text)), arch)
    reader.file()
    return [(action, tests) for _, action, tests, _ in reader.rules]


class Names:
    """The C names of the arguments that a learned policy keeps, of one architecture.

    They are of constants.py, which reads them back.
    """

    def __init__(self, arch):
        table = constants.table(arch)

        def values(chosen):
            # Of several names of one value the first wins.
            return {table[name]: name for name in sorted(chosen, reverse=True)}
        self._ioctl = values(name for name in table if name.startswith(("TC", "TIOC", "FIO")) and
                             table[name] >= _FIRST_IOCTL)
        self._fcntl = values(name for name in _FCNTL if name in table)
        self._prctl = values(name for name in table if name in _PRCTL or
                             name.startswith(("PR_GET_", "PR_SET_")) and
                             not name.startswith(_NOT_AN_OPTION))
        self._domains = values(name for name in table if name.startswith("AF_") and
                               name not in _NOT_A_DOMAIN)
        self._types = values(_TYPES)
        self._type_flags = [(table[name], name) for name in ("SOCK_NONBLOCK", "SOCK_CLOEXEC")]
        # CLONE_NEWTIME lies in the signal's byte, and clone(2) takes it for that.
        self._clone = sorted((table[name], name) for name in table if name.startswith("CLONE_") and
                             table[name] > _CSIGNAL)
        self._signals = values(name for name in table if name.startswith("SIG") and
                               name not in _SIGNAL_ALIASES)

    def value(self, call, index, value):
        """Returns a value as a policy's text has it: a name, names joined by |, or a number."""
        if call == "clone" and index == 0:
            number = value & _CSIGNAL
            return self._flags(value & ~_CSIGNAL, self._clone, [],
                               [self._signals.get(number, "%#x" % number)] * bool(number))
        if call == "socket" and index == 1:
            kind = value & 0xF
            return self._flags(value & ~0xF, self._type_flags,
                               [self._types.get(kind, "%#x" % kind)], [])
        known = {("socket", 0): self._domains, ("ioctl", 1): self._ioctl, ("prctl", 0): self._prctl,
                 ("fcntl", 1): self._fcntl}.get((call, index), {})
        return known.get(value, "%#x" % value if value > 9 else "%d" % value)

    @staticmethod
    def _flags(value, table, before, after):
        words = list(before)
        for bit, name in table:
            if value & bit:
                words.append(name)
                value &= ~bit
        return "|".join(words + ["%#x" % value] * bool(value) + after) or "0"
