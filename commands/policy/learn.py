# SPDX-License-Identifier: Apache-2.0
"""`mrunc policy learn`: runs a trusted program and writes the smallest policy that lets it, or tries a program behind one."""
import json
import os
import shlex

from ...sandbox.caller import program_name
from ...sandbox.changes import shown
from ...sandbox.errors import SandboxError
from ...sandbox.seccomp import files, learned, learned_text, minijail, rules
from ...sandbox.seccomp.shipped import NAMES
from .. import options
from ..output import say, write
from ..output_file import OutputFile
from ..run import run
from . import export, shared

#: Options of run that contradict it: the policy is what is made here, and the listener has one use.
NOT_HERE = ("seccomp", "seccomp_add", "seccomp_action", "ledger", "trace", "harden", "writable", "print_plan", "json",
            "spec_fd")
OWN = ("output", "format", "merge", "verify")
WARNING = "WARNING: learning: every system call passes to the kernel; only for a program that you trust"
#: Refused calls that --verify lists.
SHOWN = 20


def main(argv):
    """argv: list of str after `policy learn`.  Returns the exit status."""
    own = tuple(option for option in shared.OPTIONS if option.dest in OWN)
    values, words = options.parse(argv, options.OPTIONS + own, "policy")
    if values.get("help"):
        write(1, shared.help_text())
        return 0
    for option in options.OPTIONS:
        if option.dest in NOT_HERE and option.dest in values:
            raise shared.wrong("learn takes no %s" % option.names[0])
    if not words:
        raise shared.wrong("learn takes the program to be run", None,
                           "%s policy learn [options] -- CMD [ARG...]" % program_name())
    mine = dict((name, values.pop(name)) for name in OWN if name in values)
    study = Verify(mine) if "verify" in mine else Record(mine)
    if isinstance(study, Verify):
        values["seccomp"] = mine["verify"]
    return run.execute(values, words, run.options_of(argv, words), ["policy", "learn"] + argv, study)


class Record:
    """A run that learns.  values: of the options of its own."""

    def __init__(self, values):
        self.path, self.form = values.get("output", "-"), values.get("format")
        self.arch = shared.machine({})
        if self.form is None:
            self.form = "oci" if self.path.endswith(".json") else "text"
        if self.form not in ("oci", "text"):
            raise shared.wrong("--format %s" % self.form, "it is one of: oci, text")
        self.before, self.found = learned.Learned(), None
        there = self.path != "-" and os.path.isfile(self.path)
        if "merge" in values and (self.path == "-" or self.form == "oci"):
            raise shared.wrong("--merge needs -o FILE" if self.path == "-" else "--merge can't read OCI JSON back",
                               "merge the text form, and make JSON of it: policy export FILE --format oci")
        if there and "merge" in values:
            self.before = learned_text.read(self.path, rules.load(self.path), self.arch)
        elif there:
            raise shared.wrong("-o %s" % self.path, "is there already", "--merge adds to it, and what it holds stays")

    def prepare(self, spec):
        """Opens the filter of a Spec."""
        say(WARNING)  # -q does not silence it
        spec.learn = "record"

    def outputs(self, plan):
        """[(OutputFile, what of a Result it gets)]"""
        return [(PolicyFile(self.path, shown.writable(plan), plan.spec.follow_links), self._text)]

    def _text(self, result):
        """The file's content, or None where nothing was learned."""
        if result.learned is None:
            return None
        self.found = self.before
        self.found.merge(result.learned)
        text = learned_text.write(self.found, self.arch)
        return text if self.form == "text" else self._oci(text)

    def _oci(self, text):
        model = minijail.parse(rules.Text(self.path, text), self.arch)
        profile, otherwise = export.oci(files.compiled(self.path, model), self.arch, self.path)
        for sentence in otherwise:
            say(sentence)
        return json.dumps(profile, indent=2) + "\n"

    def ends(self, result, quiet):
        """The exit status."""
        if not quiet:
            seen = [count for calls in self.found.calls.values() for count in calls.values()]
            say("learned in %d run%s: %d system calls, %d rules, %d seen once%s" % (
                self.found.runs, "" if self.found.runs == 1 else "s", len(self.found.calls), len(seen), seen.count(1),
                "; %s run --seccomp %s" % (program_name(), shlex.quote(self.path)) if os.path.isfile(self.path) else ""))
        return result.returncode


class Verify:
    """A run behind a policy that tells what it refused.  values: of the options of its own."""

    def __init__(self, values):
        self.path = values["verify"]
        others = [name for name in OWN if name in values and name != "verify"]
        if others:
            raise shared.wrong("--verify takes no --%s" % others[0], "it writes no policy")
        if "/" not in self.path and self.path not in policy_names() and os.path.exists(self.path):
            self.path = "./" + self.path

    @staticmethod
    def outputs(plan):
        """It writes no file of its own."""
        return []

    @staticmethod
    def prepare(spec):
        """Has every refused call recorded."""
        spec.learn, spec.ledger = "verify", True

    def ends(self, result, quiet):
        """The exit status: 1 where a call was refused."""
        if result.refused is None:
            raise SandboxError("learning", "no ledger", reason="what was refused is not known", control="ledger")
        for row in result.refused[:SHOWN]:
            arguments = ", ".join("%s=%s" % item for item in row["args"].items())
            say("refused: %s(%s): %s, %d time%s" % (row["syscall"], arguments, row["errno"], row["count"],
                                                   "" if row["count"] == 1 else "s"))
        if len(result.refused) > SHOWN:
            say("and %d more; --report FILE lists all" % (len(result.refused) - SHOWN))
        if not quiet or result.refused:
            total = sum(row["count"] for row in result.refused)
            say("%s refused %s" % (self.path, "%d call%s" % (total, "" if total == 1 else "s") if total else "nothing"))
        return 1 if result.refused else result.returncode


class PolicyFile(OutputFile):
    """The file of -o."""

    def __init__(self, path, places, follow_links):
        OutputFile.__init__(self, "-o", path, places, follow_links)

    def write(self, content):
        """Writes the text; None: there is nothing to say."""
        if content is None:
            self.discard()
            return None
        return self.write_text(content)


def policy_names():
    """The shipped policies."""
    return NAMES
