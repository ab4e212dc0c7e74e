# SPDX-License-Identifier: Apache-2.0
"""Chooses the filter of a run whose policy is a file, or has calls added.

The plan checks it, so that a policy that can't work is refused before anything starts. It must have
no action that this kernel or mrunc can't handle. It must allow the calls that mrunc's own pid 1
makes behind it.
"""
import os

from . import policy
from ..caller import option
from ..errors import SandboxError, usage
from .files import compiled, read
from .minijail import addition
from .rules import refuse_unsure
from ... import seccomp_bpf as bpf
from ...syscalls import seccomp
from ...syscalls.caps import NAMES

_FDS = range(3, 9)       # launch/child.become_init
_SOME = 0x7FFC0A0B1000   # stands for a pointer, which no policy can know

#: Calls that must pass to start and end a program: (call, argument vectors, the condition that is
#: enough).  The launcher's last call, then those of init's docstring, with the arguments of its
#: listings.
STARTER = (
    ("execveat", [(fd, _SOME, _SOME, _SOME, 0x1000) for fd in _FDS], "arg4 == 0x1000"),
    ("write", [(fd, _SOME, size) for fd in _FDS for size in (4, 152)], None),
    ("recvmsg", [(fd, _SOME, 0x40000000) for fd in _FDS], None),
    ("dup3", [(fd, number, 0) for fd in _FDS for number in range(3)], None),
    ("prctl", [(4, 0)], "arg0 == 4"),
    ("clone", [(0x4111,)], "arg0 == 0x4111"),
    ("rt_sigtimedwait", [(_SOME, 0, 0, 8)], None),
    ("kill", [(pid, signal) for pid in (0xFFFFFFFE, 0xFFFFF060)
              for signal in (1, 2, 3, 9, 10, 12, 15, 18, 19)], None),
    ("recvfrom", [(fd, _SOME, 4, 0x40) for fd in _FDS], None),
    ("wait4", [(0xFFFFFFFF, _SOME, 1, _SOME)], None),
    ("setsid", [()], None),
    ("ioctl", [(0, 0x540E)], "arg1 == 0x540e"),
    ("landlock_restrict_self", [(fd, 0) for fd in _FDS], None),
    ("rt_sigprocmask", [(2, _SOME, 0, 8)], None),
    ("fcntl", [(fd, 2, 1) for fd in _FDS], "arg1 == 2"),
    ("close", [(fd,) for fd in (0, 1, 2) + tuple(_FDS)], None),
    ("execve", [(_SOME, _SOME, _SOME)], None),
    ("exit_group", [(status,) for status in (0, 1, 125, 255)], None),
)


def choose(spec, arch, signals):
    """Returns (name, program bytes, warnings) of a Spec's policy.

    arch: "x86_64" or "aarch64".
    signals: whether the program enters a Landlock ruleset of its own.

    Raises SandboxError: exit 2 for a mistake in the policy, 125 for what this kernel can't do.
    """
    held = frozenset("CAP_" + NAMES[number].upper() for number in spec.cap_add)
    name, program, model = read(spec.seccomp, arch, held)
    warnings = []
    if spec.seccomp_add:
        if model is None:
            raise usage(option("seccomp_add"),
                        "%s is a finished program, to which nothing can be added" % name,
                        stage="policy")
        reasons = policy.decisions(name if name in policy.NAMES else "default", arch)
        for text in spec.seccomp_add:
            warnings.append(_add(model, text, arch, reasons))
        program = compiled(name, model)
        name += " + " + ", ".join(spec.seccomp_add)
    _check_actions(name, program)
    _check_starter(name, program, arch, spec, signals, model is None)
    return name, program, warnings


def _add(model, text, arch, reasons):
    """Adds a rule to the model and returns the warning about it."""
    call, alternatives = addition(text, arch)
    shown = option("seccomp_add", text)
    for tests in alternatives:
        try:
            refuse_unsure(call, bpf.ALLOW, tests)
        except bpf.FilterError as error:
            raise usage(shown, str(error), stage="policy")
    number = policy.numbers(arch).NR.get(call)
    if number is None:
        return "%s: %s has no such system call; nothing is added" % (shown, arch)
    before = model.rules.get(number, model.default)
    if before == bpf.ALLOW:
        return "%s: is allowed without it" % shown
    if alternatives == [[]]:
        model.rules[number] = bpf.ALLOW
    else:
        before = [(before, [])] if isinstance(before, int) else list(before)
        model.rules[number] = [(bpf.ALLOW, tests) for tests in alternatives] + before
    rule, reason = reasons[call]
    if rule == "allow":
        return "%s: the policy does not allow it by itself" % shown
    word = rule if isinstance(rule, str) else "for some arguments"
    return "WARNING: %s: refused by default (%s): %s" % (shown, word, reason)


def _check_actions(name, program):
    """Refuses a program with an action that has no meaning here."""
    answers = sorted(set(k & 0xFFFF0000 for op, _, _, k in bpf.decode(program) if op == bpf.RET))
    for action in answers:
        if action == bpf.NOTIFY:
            raise usage(name, "asks a listener about calls (notify), and mrunc has none",
                        stage="policy")
        if not seccomp.action_available(action):
            word = [key for key, value in bpf.ACTIONS.items() if value == action]
            raise SandboxError("policy", name,
                               reason="this kernel does not know the filter action %s" % (
                word[0] if word else "%#x" % action), control="seccomp")


def lacking(program, arch, tty=True, signals=True, warm=True):
    """Returns the calls of pid 1 that a program refuses: [(call, enough condition or None)].

    program: bytes.
    arch: "x86_64" or "aarch64".
    tty, signals, warm: whether the run has a terminal, a Landlock ruleset for the program, a
        program that comes later.
    """
    table = policy.numbers(arch)
    code, missing = bpf.decode(program), []
    for call, vectors, enough in STARTER:
        if not {"ioctl": tty, "landlock_restrict_self": signals, "dup3": warm}.get(call, True):
            continue
        answers = [bpf.run(code, table.NR[call], table.AUDIT_ARCH,
                           vector + (0,) * (6 - len(vector)))[0] for vector in vectors]
        if any(answer & 0xFFFF0000 not in (bpf.ALLOW, bpf.LOG) for answer in answers):
            missing.append((call, enough))
    return missing


def to_add(rules):
    """Returns the options to paste that add these rules, a list of text."""
    return option("seccomp_add", rules,
                  typed=" --seccomp-add ".join("'%s'" % rule if " " in rule else rule
                                               for rule in rules))


def _check_starter(name, program, arch, spec, signals, finished):
    """Refuses a program that refuses a call of pid 1."""
    missing = lacking(program, arch, spec.tty or os.isatty(0), signals, warm=not spec.argv)
    if not missing:
        return
    remedy = "the file can stay as it is; mrunc allows these calls, to the program too, with: " + \
        to_add([call if enough is None else "%s: %s" % (call, enough) for call, enough in missing])
    if finished:
        remedy = "make the program allow them: " + ", ".join(
            call + (" with %s" % enough if enough else "") for call, enough in missing)
    raise usage(name, "refuses %s, which mrunc's own pid 1 needs to start and end the program "
                      "behind this filter" %
                ", ".join(call for call, _ in missing), remedy, stage="policy")
