# SPDX-License-Identifier: Apache-2.0
"""Reads minijail's .policy files, and its conditions, which `--seccomp-add` takes too.

    @include ./common.policy          one level
    @default trap                     kill, kill-process, kill-thread, trap; and return ENOSYS
    @denylist                         the default is to allow, every line returns an errno
    read: 1
    socket: arg0 == AF_UNIX || arg0 == AF_INET && arg1 in SOCK_STREAM|SOCK_CLOEXEC
    { open, openat }: return ENOENT
    ioctl: { arg1 == TIOCSTI; return EPERM, allow }

`&` holds if any of the bits is set, `in` if no other one is.  The grammar is that of minijail's
tools/parser.py, with two more forms, which minijail refuses: `@default return ERRNO`, and
`argN & MASK == VALUE` or `!= VALUE`.  `kill` and a call without a rule kill the process: minijail
leaves the choice of thread or process to its command line.
"""
import errno as errnos
import os
import re

from . import constants
from ..caller import option
from ..errors import SandboxError, nearest, usage
from .rules import MOST_RULES, Rules, TOO_MANY, Text, condition, known_call, load, misspelt
from ... import seccomp_bpf as bpf

ACTIONS = {"allow": bpf.ALLOW, "kill": bpf.KILL_PROCESS, "kill-process": bpf.KILL_PROCESS,
           "kill-thread": bpf.KILL_THREAD, "trap": bpf.TRAP, "trace": bpf.TRACE, "log": bpf.LOG,
           "user-notify": bpf.NOTIFY}
DEFAULTS = ("kill", "kill-process", "kill-thread", "trap", "user-notify", "return")
ARCH_NAMES = {"x86_64": "x86_64", "aarch64": "arm64"}
MINIJAIL_ARCHES = ("arm", "arm64", "mips", "mips64", "riscv64", "x86", "x86_64")
ALL = (1 << 64) - 1
MOST_INCLUDES = 100
_TOKEN = re.compile(r"""
    (?P<blank>[ \t\r]+|\#[^\n]*|\\[ \t]*\r?\n)|(?P<line>\n)|(?P<directive>@[a-z]+)
    |(?P<argument>arg[0-9]+\b)|(?P<number>-?[0-9]\w*)|(?P<name>[A-Za-z_][\w-]*(?:@\w+)?)
    |(?P<sign>==|!=|<=|>=|&&|\|\||[<>&|~(){}\[\],:;=])""", re.VERBOSE)
_PATH = re.compile(r"[ \t]*(\S+)")


class Token:
    """One token.

    kind: directive, argument, number, name, sign, line or end.
    text: its characters.
    at: offset.
    """

    __slots__ = ("kind", "text", "at")

    def __init__(self, kind, text, at):
        self.kind, self.text, self.at = kind, text, at


def parse(text, arch):
    """Returns the seccomp_bpf.Policy of a policy file.  Raises SandboxError.

    text: rules.Text.
    arch: "x86_64" or "aarch64".
    """
    reader = Reader(text, arch)
    reader.file()
    default = reader.default
    if reader.denylist:
        if default is not None:
            raise reader.text.error(reader.default_at,
                                    "@default can't go with @denylist, whose default is to allow")
        default = bpf.ALLOW
    rules = Rules(arch, bpf.KILL_PROCESS if default is None else default)
    for call, action, tests, place in reader.rules:
        earlier = rules.entries.get(call)
        if earlier and not earlier[-1][1]:
            raise place[0].error(place[1],
                                 "conflicting rules: %s has one without conditions already, in %s, "
                                 "line %d" % (
                call, earlier[-1][2][0].name,
                earlier[-1][2][0].text.count("\n", 0, earlier[-1][2][1]) + 1))
        try:
            rules.add(call, action, tests, place)
        except bpf.FilterError as error:
            raise place[0].error(place[1], str(error))
    return rules.model()


def conditions(text, arch, call):
    """Returns the alternatives of a condition, a list of lists of seccomp_bpf.Condition.

    text: rules.Text, such as `arg1 == 0x5413 || arg1 & 4 == 0`.
    arch: "x86_64" or "aarch64".
    call: name.

    Raises SandboxError.
    """
    reader = Reader(text, arch, single=True)
    reader.calls = [call]
    found = reader.expression()[call]
    if reader.now.kind != "end":
        reader.expected("&&, || or the end")
    return found


class Reader:
    """Reads a file token by token.

    single: whether it is one line without comments, of an option.
    rules: [(call, action, conditions, (Text, offset))] in order.
    default: action or None.
    denylist: whether the default is to allow.
    """

    def __init__(self, text, arch, single=False, nested=False):
        self.text, self.arch, self.single, self.nested = text, arch, single, nested
        self.rules, self.calls = [], []
        self.default, self.default_at, self.denylist = None, 0, False
        self.place, self.constants, self.included, self.count = 0, constants.table(arch), 0, 0
        self.braces, self.now = 0, None
        self.next()

    def next(self):
        """Takes the current token and returns it."""
        taken = self.now
        while True:
            at, string = self.place, self.text.text
            found = _TOKEN.match(string, at)
            if at == len(string):
                self.now = Token("end", "", at)
                break
            if not found or self.single and string[at] in "#\\\n\r":
                raise self.text.error(at, "unexpected character %r" % string[at])
            self.place = found.end()
            if found.lastgroup != "blank" and not (found.lastgroup == "line" and self.braces):
                self.now = Token(found.lastgroup, found.group(), at)
                self.braces += {"{": 1, "}": -1}.get(self.now.text, 0)
                break
        return taken

    def expected(self, what, token=None):
        """Raises SandboxError: another token was expected here."""
        token = token or self.now
        shown = {"line": "the end of the line", "end": "the end"}.get(token.kind, repr(token.text))
        raise self.text.error(token.at, "expected %s, found %s" % (what, shown))

    def sign(self, text):
        """Takes a sign that must stand here."""
        if self.now.text != text:
            self.expected(text)
        return self.next()

    def file(self):
        """Reads all statements."""
        while self.now.kind != "end":
            if self.now.kind == "line":
                self.next()
                continue
            if self.now.kind == "directive":
                self.directive()
            else:
                self.statement()
            if self.now.kind not in ("line", "end"):
                self.expected("the end of the line")

    def directive(self):
        """Reads a statement that begins with @."""
        token = self.now
        if token.text in ("@include", "@frequency"):
            found = _PATH.match(self.text.text, self.place)
            if not found or "\n" in found.group():
                raise self.text.error(self.place, "expected a path after %s" % token.text)
            self.place = found.end()
            self.next()
            # A frequency file orders minijail's tests, and decides nothing.
            if token.text == "@include":
                self.include(found.group(1), found.start(1))
        elif token.text == "@default":
            self.next()
            if self.default is not None:
                raise self.text.error(token.at, "@default is given twice")
            if self.now.text not in DEFAULTS:
                self.expected("one of " + ", ".join(DEFAULTS))
            self.default_at = token.at
            self.default = self.action() if self.now.text == "return" else ACTIONS[self.next().text]
        elif token.text == "@denylist":
            self.next()
            if self.rules:
                raise self.text.error(token.at, "@denylist must stand before the first rule")
            self.denylist = True
        else:
            raise self.text.error(token.at, "unknown statement %s%s" % (token.text, nearest(
                token.text, ["@include", "@default", "@denylist", "@frequency"])))

    def include(self, path, at):
        """Reads another file in this one's place.

        path: relative to this file's directory.
        at: offset, for messages.
        """
        if self.nested:
            raise self.text.error(at, "nested @include: a file that is included can't include "
                                      "another")
        self.included += 1
        if self.included > MOST_INCLUDES:
            raise self.text.error(at, "more than %d times @include" % MOST_INCLUDES)
        name = os.path.join(os.path.dirname(self.text.name), path)
        try:
            text = Text(name, load(name).decode("utf-8"))
        except UnicodeDecodeError:
            raise self.text.error(at, "%s is not text" % name)
        except SandboxError as error:
            raise self.text.error(at, "@include %s: %s" % (error.what, error.reason))
        inner = Reader(text, self.arch, nested=True)
        inner.denylist, inner.count = self.denylist, self.count
        inner.file()
        self.count = inner.count
        if inner.denylist and not self.denylist:
            raise self.text.error(at, "%s is a denylist, this file is not: write @denylist here "
                                      "too" % name)
        self.rules += inner.rules
        if inner.default is not None:
            if self.default is not None:
                raise self.text.error(at, "@default is given twice, here and in %s" % name)
            self.default, self.default_at = inner.default, at

    def statement(self):
        """Reads `CALLS: RULE`."""
        at = self.now.at
        self.calls = []
        if self.now.text == "{":
            self.next()
            self.call()
            while self.now.text == ",":
                self.next()
                self.call()
            self.sign("}")
        else:
            self.call()
        self.sign(":")
        if self.now.text != "{":
            if self.now.kind == "argument":
                found = self.expression()
                if self.now.text == ";":
                    raise self.text.error(self.now.at,
                                          "`CONDITION; ACTION` is read in two ways by minijail's "
                                          "two compilers",
                                          "write { CONDITION; ACTION } for \"when it holds\", { "
                                          "CONDITION, ACTION } for \"otherwise\"")
                if self.denylist:
                    self.expected("return: in a denylist every rule returns an errno")
                self.put(found, bpf.ALLOW, at)
            else:
                self.put(None, self.action(), at)
            return
        self.next()
        while True:
            if self.now.kind == "argument":
                found = self.expression()
                action = bpf.ALLOW
                if self.now.text == ";":
                    self.next()
                    action = self.action()
                elif self.denylist:
                    self.expected("; return")
                self.put(found, action, at)
            else:
                self.put(None, self.action(), at)
            if self.now.text != ",":
                break
            self.next()
        self.sign("}")

    def put(self, found, action, at):
        """Adds a rule for each call of the statement.

        found: of `expression`, None for no condition.
        action: int.
        at: offset.
        """
        if found is None:
            self.counted(at)
        for call in self.calls:
            for tests in [[]] if found is None else found[call]:
                self.rules.append((call, action, tests, (self.text, at)))

    def counted(self, at):
        """Counts a rule for each call of the statement.

        Refuses too many before they are made.
        """
        self.count += len(self.calls)
        if self.count > MOST_RULES:
            raise self.text.error(at, TOO_MANY)

    def call(self):
        """Reads a system call's name and the [arch=...] behind it."""
        token = self.next() if self.now.kind == "name" else self.expected("a system call's name")
        if "@" in token.text:
            raise self.text.error(token.at,
                                  "groups of system calls come from minijail's own data; write the "
                                  "names")
        if not known_call(token.text):
            raise self.text.error(token.at, misspelt(token.text))
        here = True
        if self.now.text == "[":
            self.next()
            if self.now.text != "arch":
                self.expected("arch")
            self.next()
            self.sign("=")
            names = []
            while True:
                if self.now.text not in MINIJAIL_ARCHES:
                    self.expected("an architecture (%s)" % " ".join(MINIJAIL_ARCHES))
                names.append(self.next().text)
                if self.now.text != ",":
                    break
                self.next()
            self.sign("]")
            here = ARCH_NAMES[self.arch] in names
        if token.text in self.calls:
            raise self.text.error(token.at, "%s is named twice" % token.text)
        if here:
            self.calls.append(token.text)

    def action(self):
        """Reads an action and returns it as an int."""
        token = self.now
        if self.denylist and token.text != "return":
            self.expected("return: in a denylist every rule returns an errno")
        if token.text == "return":
            self.next()
            number = None
            if self.now.kind == "name" and self.now.text.isupper():
                number = getattr(errnos, self.now.text, None)
            elif self.now.kind == "number":
                number = self.number(self.now)
            if number is None:
                self.expected("an errno")
            try:
                return bpf.errno(number)
            except bpf.FilterError as error:
                raise self.text.error(self.now.at, str(error))
            finally:
                self.next()
        if token.text == "1":
            self.next()
            return bpf.ALLOW
        if token.text not in ACTIONS:
            self.expected("a condition or an action: 1, return ERRNO, %s" % ", ".join(ACTIONS))
        return ACTIONS[self.next().text]

    def expression(self):
        """Reads conjunctions joined by ||: {call: [[Condition, ...], ...]}.

        How wide an argument is depends on the call.
        """
        found = dict((call, []) for call in self.calls)
        while True:
            self.counted(self.now.at)
            atoms = [self.atom()]
            while self.now.text == "&&":
                self.next()
                atoms.append(self.atom())
            for call in found:
                tests = []
                for at, arg, op, value, mask in atoms:
                    try:
                        tests.append(condition(call, arg, op, value, mask))
                    except bpf.FilterError as error:
                        raise self.text.error(at, str(error))
                found[call].append([test for test in tests if test is not None])
            if self.now.text != "||":
                return found
            self.next()

    def atom(self):
        """Reads one test; returns (offset, argument, operator, value, mask or None)."""
        token = self.now
        if token.kind != "argument" or token.text[3:] not in ("0", "1", "2", "3", "4", "5"):
            self.expected("an argument: arg0 to arg5", token)
        self.next()
        op = self.now.text
        if op not in ("==", "!=", "<", "<=", ">", ">=", "&", "in"):
            self.expected("an operator: == != < <= > >= & in")
        self.next()
        arg, value = int(token.text[3:]), self.value()
        if op == "in":
            if value == ALL:
                raise self.text.error(token.at, "always holds")
            return token.at, arg, "&==", 0, ~value & ALL
        if op != "&":
            return token.at, arg, op, value, None
        if self.now.text in ("==", "!="):
            return token.at, arg, "&" + self.next().text, self.value(), value
        return token.at, arg, "&!=", 0, value

    def value(self):
        """Reads constants joined by | and returns the int."""
        value = self.constant()
        while self.now.text == "|":
            self.next()
            value |= self.constant()
        return value

    def constant(self):
        """Reads a number, a name, ~ or parentheses and returns the int."""
        if self.now.text == "~":
            self.next()
            if self.now.text == "~":
                self.expected("a number or a constant")
            return ~self.constant() & ALL
        if self.now.text == "(":
            self.next()
            value = self.value()
            self.sign(")")
            return value
        token = self.now
        if token.kind == "number":
            value = self.number(token)
        elif token.kind == "name":
            if token.text not in self.constants:
                raise self.text.error(token.at, "constant %s is unknown here%s" % (
                    token.text, nearest(token.text, sorted(self.constants))), "write its number")
            value = self.constants[token.text]
        else:
            self.expected("a number or a constant")
        self.next()
        return value

    def number(self, token):
        """Returns a number as strtol(3) reads it: 0x hexadecimal, 0 octal."""
        digits = token.text.lstrip("-")
        try:
            if "_" in digits or len(digits) > 64:
                # Python's, not strtol's; and int() takes a time that grows with the square.
                raise ValueError
            value = int(digits, 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" else 10)
        except ValueError:
            self.expected("a number", token)
        value = -value if token.text[0] == "-" else value
        if not -(1 << 63) <= value <= ALL:
            raise self.text.error(token.at, "%s does not fit into 64 bits" % token.text)
        return value & ALL


def addition(text, arch):
    """Returns (call, alternatives) of one --seccomp-add: `NAME` or `NAME: CONDITION`.

    text: str.
    arch: "x86_64" or "aarch64".

    Without a condition alternatives is [[]]. Raises SandboxError.
    """
    name, colon, rest = text.partition(":")
    call = name.strip()
    shown = option("seccomp_add", text)
    if not call:
        raise usage(shown, "expected NAME or 'NAME: CONDITION'", stage="policy")
    if not known_call(call):
        raise usage(shown, misspelt(call), stage="policy")
    if not colon:
        return call, [[]]
    where = Text(shown, " " * (len(name) + 1) + rest)
    if not rest.strip():
        raise where.error(len(name) + 1,
                          "expected a condition after the colon, like arg1 == 0x5413")
    return call, conditions(where, arch, call)
