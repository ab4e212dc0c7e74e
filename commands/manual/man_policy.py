# SPDX-License-Identifier: Apache-2.0
"""The manual page mrunc-policy(5) as troff: the files that --seccomp reads, from the tables of their readers."""
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
NAMED = (("default", "every run that says nothing else"), ("strict", "what --harden uses; exploits' calls kill"),
         ("process", "the process tier's"), ("process-nosignal", "the same where Landlock can't hold back signals"),
         ("debug", "gdb and strace inside"))
OCI_KEYS = {
    "defaultAction": "required: what a call without a rule gets",
    "defaultErrnoRet, defaultErrno": "the errno of SCMP_ACT_ERRNO as default, by number or name; EPERM unless said",
    "architectures, archMap": "must have this machine's or SCMP_ARCH_NATIVE; whatever else they name is killed all the same",
    "syscalls": "the rules",
    "flags": "only %s, which is met: the filter is there before the program has a second thread" % ", ".join(
        oci.FLAGS_MET),
    "listenerPath, listenerMetadata": "refused unless empty",
    "comment": "passed over",
}
OCI_RULE = {
    "names, name": "system calls, by name; one that no architecture has is refused, one that this machine lacks is passed over",
    "action, errnoRet, errno": "what they get",
    "args": "tests of arguments, index, op, value and valueTwo, that must all hold; two of one argument are refused",
    "includes, excludes": "the rule is there only with, or without, these caps (of --cap-add), arches (in Go's names), and "
                          "from, or below, the kernel minKernel",
    "comment": "passed over",
}
OPERATORS = (("== != < <= > >=", "the argument compared with a value, without sign"),
             ("& VALUE", "any of these bits is set"), ("in VALUE", "no bit but these is set"),
             ("& MASK == VALUE, & MASK != VALUE", "these bits of it compared (not in minijail's own files)"))
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

EXAMPLE_RULES = ("clone3", "ioctl: arg1 == TIOCGWINSZ || arg1 == 0x5414", "personality: arg0 & 0xff == 0x08")


def _meaning(action):
    """The words for a value of seccomp_bpf.ACTIONS."""
    name, = [word for word, value in rules.bpf.ACTIONS.items() if value == action]
    return ACTIONS[name]


def _literal(text):
    return [".PP", ".nf", ".RS 4"] + [plain(line) for line in text.splitlines()] + [".RE", ".fi"]


def _learned():
    out = [".SH LEARNED POLICIES", plain(
        "mrunc policy learn runs a program with every system call allowed, notes what it calls, and writes that as a policy, "
        "in minijail text or, with --format oci or a FILE in .json, as OCI JSON. It is for a program that you trust: this one "
        "layer is open meanwhile, and the result says so. A call that was seen passes; of %s only with the arguments "
        "seen (up to %d different ones of %s, then with any that the default policy lets pass). What the default decides by "
        "argument keeps its tests, and a line that is looser than the default says so." % (
            ", ".join("%s (argument%s %s)" % (call, "s" * (len(held) > 1), " and ".join(map(str, held)))
                      for call, held in sorted(learned.HELD.items())), learned.MOST_VALUES, ", ".join(learned.WIDENED)))]
    out += rows((
        ("# Learned in N runs", "how many runs; read back by --merge, as are the following"),
        ("# Run: COMMAND", "the last %d command lines" % learned.MOST_RUNS),
        ("# " + learned_text.ONCE, "the rule is for what was seen in one call only: one run more may need others beside it"),
        ("@default return " + learned.DEFAULT, "what any other call gets"),
        ("Always there", "what mrunc's own pid 1 needs, and what hands over the listener: %s. Not noted while learning" %
         ", ".join(call for call, _ in learned.BASE)),
        ("Refused while learning too", ", ".join(learned.BLIND))))
    return out


def page():
    """mrunc-policy(5)."""
    out = head("mrunc-policy", 5, "system call policies for mrunc run --seccomp")
    out += [".SH DESCRIPTION", plain(
        "--seccomp takes the name of a shipped policy or a file, of at most %d bytes, %d rules (each name counted for each "
        "alternative) and %d of one call. A file that holds a NUL byte is a finished program, one that starts with { or [ "
        "and is no minijail list is OCI JSON, every other one minijail text. What can't be expressed is refused with file, "
        "line and column, exit status 2; nothing is approximated." % (
            rules.LIMIT, rules.MOST_RULES, rules.MOST_OF_ONE))]
    out += rows(NAMED)
    out += [".PP", plain(
        "Whatever a file says: another architecture's calls are killed; with a default that lets calls pass, x32 numbers "
        "get ENOSYS; and what mrunc's own pid 1 needs to start the program must pass, or the file is refused with what to "
        "add. mrunc policy show FILE prints what a file decides, mrunc policy diff default FILE where it differs.")]
    out += [".SH CONDITIONS ON ARGUMENTS", plain(
        "A condition looks at the bits that the kernel takes of an argument: 32 of an int, 16 of a mode, else 64. Where "
        "that isn't certain, a test that high bits could walk round is refused, and so is one of an argument that the call "
        "does not have.")]
    out += [".SH OCI JSON", plain("What docker, podman, runc and crun read as a seccomp profile. Other keys are refused.")]
    out += _literal(EXAMPLE_OCI) + rows(OCI_KEYS.items())
    out += [".PP", "A rule:"] + rows(OCI_RULE.items())
    out += [".PP", "The actions:"] + rows((word, _meaning(value)) for word, value in sorted(oci.ACTIONS.items()))
    out += [".PP", "The operators:"] + rows(
        (word, "the argument, and the mask in value, is valueTwo" if sign == "&==" else "the argument %s value" % sign)
        for word, sign in sorted(oci.OPERATORS.items()))
    out += [".PP", plain("No order is defined: rules of several actions for one call must exclude each other.")]
    out += [".SH MINIJAIL TEXT", plain(
        "A statement a line, CALL: RULE or { CALL, CALL }: RULE; # starts a comment, \\ continues a line; "
        "CALL[arch=x86_64,arm64] is for these architectures only.")]
    out += _literal(EXAMPLE_MINIJAIL) + rows((
        ("@include FILE", "the statements of a file, relative to this one; one level, %d of them" %
         minijail.MOST_INCLUDES),
        ("@default " + "|".join(minijail.DEFAULTS) + " ERRNO", "what a call without a rule gets; kill unless said, and "
         "return ERRNO is not in minijail's own files"),
        ("@denylist", "before the first rule: every other call passes, and every rule is a return"),
        ("@frequency FILE", "passed over: it decides nothing"),
        ("CALL: CONDITION", "allowed where it holds, refused with the default's answer elsewhere"),
        ("CALL: { CONDITION; ACTION, ACTION }", "the first whose condition holds decides; the last may have none"),
        ("CALL: ACTION", "an action is 1, return ERRNO, or one of those below")))
    out += rows((word, _meaning(value)) for word, value in minijail.ACTIONS.items())
    out += [".PP", plain("A condition is tests joined by && and ||, argN OPERATOR VALUE; a value is a number (0x, 0 as in "
                         "C) or a constant of the kernel's headers, joined by |, with ~ and parentheses.")] + rows(OPERATORS)
    out += [".SH BPF PROGRAMS", plain(
        "An array of struct sock_filter in this machine's byte order, as mrunc policy export --format bpf writes it and "
        "bwrap --seccomp takes it. It is verified as the kernel would, and must return constants. Nothing can be added to "
        "it.")]
    out += [".SH RULES OF --SECCOMP-ADD", plain(
        "NAME allows a call, 'NAME: CONDITION' some of its cases, with minijail's conditions. Several add up. It stands "
        "above what the policy says of the call; what the default refuses is named with its reason on stderr and in the "
        "result.")]
    out += _literal("".join("--seccomp-add '%s'\n" % rule for rule in EXAMPLE_RULES))
    out += _learned()
    out += [".SH SEE ALSO", plain("mrunc(1), seccomp(2), bpf(2)")]
    return "\n".join(out) + "\n"
