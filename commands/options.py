# SPDX-License-Identifier: Apache-2.0
"""The one option table: it gives the parser, the help, the man page and the completion."""
from ..sandbox.seccomp import shipped
from ..sandbox.errors import nearest, usage
from ..sandbox.caller import program_name


class Option:
    """names: the first is the one shown; dest: the Spec's or command's name; metavar: None for a switch; many: may be
    given several times; text: help; group: heading."""

    __slots__ = ("names", "dest", "metavar", "many", "text", "group")

    def __init__(self, names, dest, metavar, text, group, many=False):
        self.names, self.dest, self.metavar, self.many = names.split(), dest, metavar, many
        self.text, self.group = text, group

    @property
    def optional(self):
        """Whether it goes without a value; one is only ever taken as --name=VALUE."""
        return self.metavar is not None and self.metavar.startswith("[=")

    def shown(self):
        """Names and metavar, as help and manual have them."""
        separator = "" if self.optional else " "
        return ", ".join(self.names) + (separator + self.metavar if self.metavar else "")

    def given(self, value):
        """What `parse` keeps of a value."""
        return value


FILES, WORLD, LIMITS, OUTPUT, EXPERT = "Files", "Surroundings", "Limits", "Output", "Measuring and debugging"
GROUPS = (FILES, WORLD, LIMITS, OUTPUT, EXPERT)
OPTIONS = (
    Option("--ro --ro-bind", "ro", "SRC[:DST]", "show a host file or directory, read-only; DST defaults to SRC, a colon in a "
           "path is written \\:", FILES, True),
    Option("--rw --bind", "rw", "SRC[:DST]", "the same, writable; never of host root's", FILES, True),
    Option("--copy", "copy", "SRC[:DST]", "copy a file in, executable, by default to /box/NAME: the way for a sample", FILES,
           True),
    Option("--here", "here", None, "the current directory, read-only, as /box", FILES),
    Option("--follow-links", "follow_links", None, "follow every symbolic link on the way to a source or a file "
           "to write; without it only those that root alone can have made", FILES),
    Option("--tmpfs", "tmpfs", "DST[=SIZE]", "an empty writable directory, 1G unless said", FILES, True),
    Option("--rootfs", "rootfs", "DIR", "run on this root file system, read-only, instead of the host's programs: see mrunc "
           "rootfs --help", FILES),
    Option("--harden", "harden", None, "everything read-only but what --writable names, nothing written may be executed, a "
           "stricter system call policy", FILES),
    Option("--writable", "writable", "PATH[=SIZE]", "with --harden: an empty writable directory there (a path inside), 1G "
           "unless said; what is written there may not be executed", FILES, True),
    Option("--overlay", "overlay", "[=PATH]", "let the program change the tree, or what is shown at PATH (--ro), as on a real "
           "system; nothing reaches the host", FILES, True),
    Option("--changes", "changes", "FILE", "write as JSON what the program added, modified and deleted; - is stderr", FILES),
    Option("--export", "export", "DIR|TAR", "bring out the files that it added or modified, to an empty or new directory or a "
           ".tar", FILES),
    Option("--chdir -w", "chdir", "DIR", "start there (default /box)", WORLD),
    Option("--env -e", "env", "NAME[=VALUE]", "set a variable, or pass the caller's in", WORLD, True),
    Option("--hostname", "hostname", "NAME", "host name inside (default mrunc)", WORLD),
    Option("--user -u", "user", "UID[:GID]", "identity inside (default 0:0); outside it stays an unprivileged one", WORLD),
    Option("--cap-add", "cap_add", "CAP", "give one capability, good for the sandbox's own namespaces only", WORLD, True),
    Option("--seccomp", "seccomp", "FILE|NAME", "system call policy: %s, or a file (docker and podman JSON, minijail, raw "
           "BPF)" % ", ".join(shipped.NAMES), WORLD),
    Option("--seccomp-add", "seccomp_add", "RULE", "allow one call more: clone3, or 'ioctl: arg1 == 0x5413'; says why it is "
           "refused by default", WORLD, True),
    Option("--seccomp-action", "seccomp_action", "errno|kill", "what calls of high risk get: errno (default), or the end of "
           "the sandbox, which --harden brings", WORLD),
    Option("--proc", "proc", "full|none", "full: for ps and free, masked; none: no /proc at all", WORLD),
    Option("--tier", "tier", "NAME[,NAME]", "full (default), rootns, process: a weaker sandbox where the host can't do more; "
           "of several the first that runs", WORLD),
    Option("--tty -t", "tty", None, "a terminal of its own, with job control", WORLD),
    Option("--timeout", "timeout", "TIME", "end it after this time (1.5s, 2m), exit status 124", LIMITS),
    Option("--cpu-time", "cpu_time", "TIME", "the same for the processor time of all its processes together", LIMITS),
    Option("--grace", "grace", "TIME", "from SIGTERM to SIGKILL at a deadline (default 0.5s)", LIMITS),
    Option("--memory", "memory", "SIZE", "memory of all its processes together, files in tmpfs included; nothing is swapped",
           LIMITS),
    Option("--cpus", "cpus", "N", "processors' worth of time: 0.5 is half of one", LIMITS),
    Option("--pids --pids-limit", "pids", "N", "processes and threads, pid 1 of the sandbox included", LIMITS),
    Option("--io-read", "io_read", "[DEV:]BPS", "bytes per second from a disk; without DEV, those below --ro, --rw, --rootfs",
           LIMITS, True),
    Option("--io-write", "io_write", "[DEV:]BPS", "the same to a disk", LIMITS, True),
    Option("--best-effort", "best_effort", "NAMES", "run without these controls where this host can't have them: limits.io",
           LIMITS, True),
    Option("--require", "require", "NAMES", "run only with these controls in force: landlock", LIMITS, True),
    Option("--rlimit --ulimit", "rlimit", "NAME=VALUE", "a resource limit: nofile=256, as=1G, nproc=64", LIMITS, True),
    Option("--max-output", "max_output", "SIZE", "end it when it has written more than this, stdout and stderr "
           "together", LIMITS),
    Option("--report", "report", "FILE", "write the result as JSON, with the system calls that were refused; - is "
           "stderr", OUTPUT),
    Option("--ledger", "ledger", "FILE", "write each refused system call as a line of JSON, while the program runs; - is "
           "stderr", OUTPUT),
    Option("--trace", "trace", "exec", "record each program that is executed, with arguments, times, and SHA-256 where it "
           "could be written inside: evidence, which a hostile program can blur", OUTPUT),
    Option("--print-plan --dry-run", "print_plan", None, "show what would be done, do nothing", OUTPUT),
    Option("--json", "json", None, "with --print-plan: as JSON", OUTPUT),
    Option("-q --quiet", "quiet", None, "no messages but errors", OUTPUT),
    Option("-v --verbose", "verbose", None, "sum up at the end what ended it, what it tried, changed and used", OUTPUT),
    Option("-h --help", "help", None, "this text", OUTPUT),
    Option("--unsafe-without", "unsafe_without", "NAMES", "leave controls out (never for hostile code)", EXPERT, True),
    Option("--spec-fd", "spec_fd", "N", None, EXPERT),
)


#: What people used to other tools type, and what there is.
KNOWN = {
    "--net": "there is never a network", "--network": "there is never a network", "--share-net": "there is never a network",
    "--unshare-all": "everything is unshared always", "--volume": "--ro or --rw SRC[:DST]", "--cwd": "--chdir DIR",
    "--workdir": "--chdir DIR", "--policy": "--seccomp FILE|NAME",
    "--setenv": "--env NAME=VALUE", "--version": "it stands alone, without a verb"}


def parse(argv, options=OPTIONS, verb="run"):
    """(values, words): a dict of what was given by dest, and the command with its arguments, untouched.

    argv: list of str; verb: whose options they are.  Raises SandboxError (exit 2).
    """
    by_name = dict((name, option) for option in options for name in option.names)
    values, i = {}, 0
    while i < len(argv):
        word = argv[i]
        if word == "--":
            return values, argv[i + 1:]
        if not word.startswith("-") or word == "-":
            break
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        option = by_name.get(name)
        if option is None:
            instead = verb == "run" and KNOWN.get(name)
            near = "" if instead else nearest(name, [n for n in by_name if by_name[n].text])
            raise usage("unknown option %s%s" % (name, near), remedy=instead or "%s %s --help lists them%s" % (
                program_name(), verb, "; the command's own options come after --" if verb == "run" else ""))
        i += 1
        if option.optional:
            values.setdefault(option.dest, []).append(value if equals else True)
            continue
        if option.metavar is None:
            if equals:
                raise usage("%s takes no value" % name)
            values[option.dest] = True
            continue
        if not equals:
            if i == len(argv):
                raise usage("%s needs a value: %s" % (name, option.metavar))
            value = argv[i]
            i += 1
        if option.many:
            values.setdefault(option.dest, []).append(option.given(value))
        elif option.dest in values and values[option.dest] != value:
            raise usage("%s is given twice" % name)
        else:
            values[option.dest] = value
    return values, argv[i:]
