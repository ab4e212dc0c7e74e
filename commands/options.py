# SPDX-License-Identifier: Apache-2.0
"""Holds the table of options of run; parser, help, man page and completion are made from it."""
from ..sandbox.seccomp import shipped
from ..sandbox.errors import nearest, usage
from ..sandbox.caller import program_name


class Option:
    """Describes one option.

    names: list of str, the shown one first
    dest: its name in a Spec or for the verb
    metavar: the value's name, None for a switch, "[=...]" for an optional value
    many: whether it may be given several times
    text: the help text, None for a hidden option
    group: the heading it stands under
    """

    __slots__ = ("names", "dest", "metavar", "many", "text", "group")

    def __init__(self, names, dest, metavar, text, group, many=False):
        self.names, self.dest, self.metavar, self.many = names.split(), dest, metavar, many
        self.text, self.group = text, group

    @property
    def optional(self):
        """Whether its value may be left out; a value is then only taken as --name=VALUE."""
        return self.metavar is not None and self.metavar.startswith("[=")

    def shown(self):
        """Returns names and metavar as the help and the man page show them."""
        separator = "" if self.optional else " "
        return ", ".join(self.names) + (separator + self.metavar if self.metavar else "")

    def given(self, value):
        """Returns what `parse` stores for a value; subclasses change it."""
        return value


GROUPS = ("Files", "Surroundings", "Limits", "Output", "Measuring and debugging")
FILES, WORLD, LIMITS, OUTPUT, EXPERT = GROUPS
OPTIONS = (
    Option("--ro --ro-bind", "ro", "SRC[:DST]", "show a host file or directory read-only; DST "
           "defaults to SRC; write a colon in a path as \\:", FILES, True),
    Option("--rw --bind", "rw", "SRC[:DST]", "same, but writable; anything owned by host root is "
           "refused", FILES, True),
    Option("--copy", "copy", "SRC[:DST]", "copy a file in, executable, to /box/NAME by default; "
           "use it for samples", FILES, True),
    Option("--here", "here", None, "show the current directory read-only as /box", FILES),
    Option("--follow-links", "follow_links", None, "follow every symbolic link in the path of a "
           "source or an output file (default: only links that only root can have made)", FILES),
    Option("--tmpfs", "tmpfs", "DST[=SIZE]", "add an empty writable directory; default size 1G",
           FILES, True),
    Option("--rootfs", "rootfs", "DIR", "use this root file system, read-only, instead of the "
           "host's programs; see mrunc rootfs --help", FILES),
    Option("--harden", "harden", None, "make everything but the --writable paths read-only, forbid "
           "executing written files, use the stricter system call policy", FILES),
    Option("--writable", "writable", "PATH[=SIZE]", "with --harden: add an empty writable "
           "directory at this path inside; default size 1G; files written there can't be executed",
           FILES, True),
    Option("--overlay", "overlay", "[=PATH]", "let the program modify the tree, or what --ro shows "
           "at PATH, as on a real system; nothing reaches the host", FILES, True),
    Option("--changes", "changes", "FILE", "write as JSON what the program added, modified and "
           "deleted; - is stderr", FILES),
    Option("--export", "export", "DIR|TAR", "copy the added and modified files to an empty or new "
           "directory or to a .tar", FILES),
    Option("--chdir -w", "chdir", "DIR", "working directory inside (default /box)", WORLD),
    Option("--env -e", "env", "NAME[=VALUE]", "set a variable, or pass on the caller's value",
           WORLD, True),
    Option("--hostname", "hostname", "NAME", "host name inside (default mrunc)", WORLD),
    Option("--user -u", "user", "UID[:GID]", "identity inside (default 0:0); outside it is always "
           "an unprivileged id", WORLD),
    Option("--cap-add", "cap_add", "CAP", "grant one capability, valid only in the sandbox's own "
           "namespaces", WORLD, True),
    Option("--seccomp", "seccomp", "FILE|NAME", "system call policy: %s, or a file (docker and "
           "podman JSON, minijail, raw BPF)" % ", ".join(shipped.NAMES), WORLD),
    Option("--seccomp-add", "seccomp_add", "RULE", "allow one more call: clone3, or 'ioctl: arg1 "
           "== 0x5413'; prints why it is refused by default", WORLD, True),
    Option("--seccomp-action", "seccomp_action", "errno|kill", "response to high-risk calls: errno "
           "(default) or kill (implied by --harden)", WORLD),
    Option("--proc", "proc", "full|none", "full: what ps and free need, masked; none: no /proc",
           WORLD),
    Option("--tier", "tier", "NAME[,NAME]", "full (default), rootns or process: weaker sandboxes "
           "for hosts that can't do more; of several, the first that runs", WORLD),
    Option("--tty -t", "tty", None, "give the program its own terminal, with job control", WORLD),
    Option("--timeout", "timeout", "TIME", "end the program after this time (1.5s, 2m) with exit "
           "status 124", LIMITS),
    Option("--cpu-time", "cpu_time", "TIME", "same for the processor time of all its processes "
           "together", LIMITS),
    Option("--grace", "grace", "TIME", "time between SIGTERM and SIGKILL at a deadline "
           "(default 0.5s)", LIMITS),
    Option("--memory", "memory", "SIZE", "limit the memory of all its processes together, files in "
           "tmpfs included; nothing is swapped", LIMITS),
    Option("--cpus", "cpus", "N", "limit processor time: 0.5 is half of one processor", LIMITS),
    Option("--pids --pids-limit", "pids", "N", "limit processes and threads, the sandbox's pid 1 "
           "included", LIMITS),
    Option("--io-read", "io_read", "[DEV:]BPS", "limit reads from a disk in bytes per second; "
           "without DEV, from the disks of --ro, --rw and --rootfs", LIMITS, True),
    Option("--io-write", "io_write", "[DEV:]BPS", "same for writes to a disk", LIMITS, True),
    Option("--best-effort", "best_effort", "NAMES", "run without these controls where the host "
           "can't provide them: limits.io", LIMITS, True),
    Option("--require", "require", "NAMES", "run only if these controls are in force: landlock",
           LIMITS, True),
    Option("--rlimit --ulimit", "rlimit", "NAME=VALUE", "set a resource limit: nofile=256, as=1G, "
           "nproc=64", LIMITS, True),
    Option("--max-output", "max_output", "SIZE", "end the program after this many bytes of stdout "
           "and stderr together", LIMITS),
    Option("--report", "report", "FILE", "write the result as JSON, with the refused system calls; "
           "- is stderr", OUTPUT),
    Option("--ledger", "ledger", "FILE", "write each refused system call as a line of JSON while "
           "the program runs; - is stderr", OUTPUT),
    Option("--trace", "trace", "exec", "record each executed program with arguments and times, and "
           "the SHA-256 of files that can be written inside; a hostile program can blur this "
           "evidence", OUTPUT),
    Option("--print-plan --dry-run", "print_plan", None, "show what would be done; start nothing",
           OUTPUT),
    Option("--json", "json", None, "with --print-plan: print JSON", OUTPUT),
    Option("-q --quiet", "quiet", None, "print errors only", OUTPUT),
    Option("-v --verbose", "verbose", None, "summarise at the end what ended the program and what "
           "it tried, changed and used", OUTPUT),
    Option("-h --help", "help", None, "show this text", OUTPUT),
    Option("--unsafe-without", "unsafe_without", "NAMES", "leave controls out; never for "
           "hostile code", EXPERT, True),
    Option("--spec-fd", "spec_fd", "N", None, EXPERT),
)


#: Options of other tools, and what to use here.
KNOWN = {
    "--net": "there is never a network", "--network": "there is never a network",
    "--share-net": "there is never a network", "--unshare-all": "everything is always unshared",
    "--volume": "--ro or --rw SRC[:DST]", "--cwd": "--chdir DIR",
    "--workdir": "--chdir DIR", "--policy": "--seccomp FILE|NAME", "--setenv": "--env NAME=VALUE",
    "--version": "use it alone, without a verb"}


def parse(argv, options=OPTIONS, verb="run"):
    """Returns (values, words): the given options by dest, and the command with its arguments.

    argv: list of str
    options: the table of Option
    verb: whose options they are, for messages

    Raises SandboxError (exit status 2).
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
            raise usage("unknown option %s%s" % (name, near), remedy=instead or
                        "%s %s --help lists them%s" % (
                program_name(), verb, "; the command's own options come after --" if verb == "run"
                            else ""))
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
