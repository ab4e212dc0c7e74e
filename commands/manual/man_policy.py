# SPDX-License-Identifier: Apache-2.0
"""Makes the manual page mrunc-policy(5) as troff from the tables of the policy readers."""
from ...sandbox.seccomp import learned, learned_text, minijail, oci, rules
from .man import head, plain, rows

ACTIONS = {
    "allow": "the call passes",
    "errno": "the call fails with an errno",
    "kill_process": "SIGSYS ends the process",
    "kill_thread": "SIGSYS ends the thread",
    "trap": "SIGSYS, which the program may catch",
    "trace": "with no tracer, and there is none, the call fails with ENOSYS",
    "log": "the call passes, and the kernel logs it",
    "notify": "refused: mrunc has no listener",
}
NAMED = (("default", "used unless an option names another"),
         ("strict", "used by --harden; calls that only exploits use kill the process"),
         ("process", "used by the process tier"),
         ("process-nosignal", "same, for kernels whose Landlock can't restrict signals"),
         ("debug", "allows gdb and strace inside"))
OCI_KEYS = {
    "defaultAction": "required: the action for a call without a rule",
    "defaultErrnoRet, defaultErrno": "the errno of a default SCMP_ACT_ERRNO, by number or name; "
        "default EPERM",
    "architectures, archMap": "must have this machine's or SCMP_ARCH_NATIVE; calls of other "
        "architectures are killed",
    "syscalls": "the rules",
    "flags": "only %s, which is always met: the filter is attached before the program can start a "
             "thread" % ", ".join(oci.FLAGS_MET),
    "listenerPath, listenerMetadata": "refused unless empty",
    "comment": "ignored",
}
OCI_RULE = {
    "names, name": "system calls, by name; a name that no architecture has is refused, a name that "
        "only this machine lacks is ignored",
    "action, errnoRet, errno": "the action for these calls",
    "args": "tests of arguments (index, op, value, valueTwo) that must all hold; two tests of one "
        "argument are refused",
    "includes, excludes": "the rule counts only with, or without, these caps (of --cap-add), "
        "arches (in Go's names), and "
                          "from, or below, the kernel minKernel",
    "comment": "ignored",
}
OPERATORS = (("== != < <= > >=", "compares the argument, unsigned, with a value"),
             ("& VALUE", "any of these bits is set"), ("in VALUE", "no other bit is set"),
             ("& MASK == VALUE, & MASK != VALUE",
              "compares these bits of the argument (an extension of minijail's syntax)"))
EXAMPLE_OCI = """{
  "defaultAction": "SCMP_ACT_ERRNO",
  "syscalls": [
    {"names": ["read", "write", "execve"], "action": "SCMP_ACT_ALLOW"},
    {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
     "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 1}]}
  ]
}"""
EXAMPLE_MINIJAIL = """@default kill
read: 1
{ open, openat }: return ENOENT
socket: arg0 == AF_UNIX
mmap: { arg2 & PROT_EXEC; return EPERM, allow }"""

EXAMPLE_RULES = ("clone3", "ioctl: arg1 == TIOCGWINSZ || arg1 == 0x5414",
                 "personality: arg0 & 0xff == 0x08")


def _meaning(action):
    """Returns the words for a value of seccomp_bpf.ACTIONS."""
    name, = [word for word, value in rules.bpf.ACTIONS.items() if value == action]
    return ACTIONS[name]


def _literal(text):
    return [".PP", ".nf", ".RS 4"] + [plain(line) for line in text.splitlines()] + [".RE", ".fi"]


def _learned():
    out = [".SH LEARNED POLICIES", plain(
        "mrunc policy learn runs a program with every system call allowed, records its calls, and "
        "writes them as a policy: minijail text or, with --format oci or a FILE in .json, OCI "
        "JSON. Use it only for a program that you trust: the system call layer is open meanwhile, "
        "and the result says so. A recorded call passes; %s only with the recorded arguments. Of "
        "%s up to %d different arguments are kept; beyond that, all that the default policy "
        "allows pass. Calls that the default policy decides by argument keep its tests. A line "
        "that is looser than the default says so." % (
            ", ".join("%s (argument%s %s)" % (call, "s" * (len(held) > 1),
                                              " and ".join(map(str, held)))
                      for call, held in sorted(learned.HELD.items())), ", ".join(learned.WIDENED),
            learned.MOST_VALUES))]
    out += rows((
        ("# Learned in N runs", "the number of runs; --merge reads this line and the following"),
        ("# Run: COMMAND", "the last %d command lines" % learned.MOST_RUNS),
        ("# " + learned_text.ONCE, "the rule was made from one call only: another run may "
         "need more"),
        ("@default return " + learned.DEFAULT, "the answer to any other call"),
        ("Always allowed", "calls that mrunc's own pid 1 and the handing over of the listener "
         "need, not recorded while learning: %s" % ", ".join(call for call, _ in learned.BASE)),
        ("Refused while learning too", ", ".join(learned.BLIND))))
    return out


def page():
    """Returns the page mrunc-policy(5)."""
    out = head("mrunc-policy", 5, "system call policies for mrunc run --seccomp")
    out += [".SH DESCRIPTION", plain(
        "--seccomp takes the name of a shipped policy or a file. A file has at most %d bytes, %d "
        "rules (each name counts once for each alternative) and %d rules of one call. A file "
        "with a NUL byte is read as a BPF program; a file that starts with { or [ and is no "
        "minijail list as OCI JSON; any other file as minijail text. A rule that can't be "
        "expressed is refused with file, line and column (exit status 2); nothing is "
        "approximated." % (
            rules.LIMIT, rules.MOST_RULES, rules.MOST_OF_ONE))]
    out += rows(NAMED)
    out += [".PP", plain(
        "Independent of the file, calls of another architecture are killed. If the default lets "
        "calls pass, x32 numbers get ENOSYS. The calls that mrunc's own pid 1 needs to start the "
        "program must pass; otherwise the file is refused, and the message names what to add. "
        "mrunc policy show FILE prints the decisions of a file; mrunc policy diff default FILE "
        "prints the differences.")]
    out += [".SH CONDITIONS ON ARGUMENTS", plain(
        "A condition tests the bits of an argument that the kernel uses: 32 of an int, 16 of a "
        "mode, else 64. If the width is unknown, a test that high bits could bypass is refused. A "
        "test of an argument that the call does not have is refused too.")]
    out += [".SH OCI JSON", plain("The seccomp profiles of docker, podman, runc and crun. Other "
                                  "keys are refused.")]
    out += _literal(EXAMPLE_OCI) + rows(OCI_KEYS.items())
    out += [".PP", "A rule:"] + rows(OCI_RULE.items())
    out += [".PP", "The actions:"]
    out += rows((word, _meaning(value)) for word, value in sorted(oci.ACTIONS.items()))
    out += [".PP", "The operators:"] + rows(
        (word, "the argument, and the mask in value, is valueTwo" if sign == "&=="
         else "the argument %s value" % sign)
        for word, sign in sorted(oci.OPERATORS.items()))
    out += [".PP", plain("No order is defined: if rules for one call have different actions, their "
                         "conditions must exclude each other.")]
    out += [".SH MINIJAIL TEXT", plain(
        "One statement a line: CALL: RULE or { CALL, CALL }: RULE. # starts a comment, \\ "
        "continues a line. CALL[arch=x86_64,arm64] counts on these architectures only.")]
    out += _literal(EXAMPLE_MINIJAIL) + rows((
        ("@include FILE", "includes the statements of a file, by a path relative to this file; "
         "one level deep, at most %d files" % minijail.MOST_INCLUDES),
        ("@default " + "|".join(minijail.DEFAULTS) + " ERRNO", "the action for a call without a "
         "rule; default kill; return ERRNO is an extension of minijail's syntax"),
        ("@denylist", "before the first rule: every call without a rule passes, and every rule "
         "must be a return"),
        ("@frequency FILE", "ignored: it decides nothing"),
        ("CALL: CONDITION", "allowed if the condition holds; otherwise the default's action"),
        ("CALL: { CONDITION; ACTION, ACTION }", "the first rule whose condition holds decides; the "
         "last may have no condition"),
        ("CALL: ACTION", "an action is 1, return ERRNO, or an action below")))
    out += rows((word, _meaning(value)) for word, value in minijail.ACTIONS.items())
    out += [".PP", plain(
        "A condition is tests argN OPERATOR VALUE, joined by && and ||. A value is a number "
        "(0x and 0 as in C) or a constant of the kernel's headers; | joins values, ~ inverts, "
        "parentheses group.")] + rows(OPERATORS)
    out += [".SH BPF PROGRAMS", plain(
        "An array of struct sock_filter in this machine's byte order, as mrunc policy export "
        "--format bpf writes and bwrap --seccomp reads. It is verified as the kernel does it, and "
        "must return constants. --seccomp-add can't change it.")]
    out += [".SH RULES OF --SECCOMP-ADD", plain(
        "NAME allows a call; 'NAME: CONDITION' allows it if a minijail condition holds. Several "
        "rules add up. They override the policy's rules for the call. A call that the default "
        "refuses is named with the reason on stderr and in the result.")]
    out += _literal("".join("--seccomp-add '%s'\n" % rule for rule in EXAMPLE_RULES))
    out += _learned()
    out += [".SH SEE ALSO", plain("mrunc(1), seccomp(2), bpf(2)")]
    return "\n".join(out) + "\n"
