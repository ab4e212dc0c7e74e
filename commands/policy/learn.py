# SPDX-License-Identifier: Apache-2.0
"""Runs `mrunc policy learn`: writes the smallest policy for a trusted program, or tries one."""
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

#: Options of run that contradict learning: it makes the policy and needs the listener for itself.
NOT_HERE = ("seccomp", "seccomp_add", "seccomp_action", "ledger", "trace", "harden", "writable",
            "print_plan", "json", "spec_fd")
OWN = ("output", "format", "merge", "verify")
WARNING = "WARNING: learning: no system call is refused; only for a program that you trust"
#: How many refused calls --verify lists.
SHOWN = 20


def main(argv):
    """Runs `policy learn`. argv: list of str after it. Returns the exit status."""
    own = tuple(option for option in shared.OPTIONS if option.dest in OWN)
    values, words = options.parse(argv, options.OPTIONS + own, "policy")
    if values.get("help"):
        write(1, shared.help_text())
        return 0
    for option in options.OPTIONS:
        if option.dest in NOT_HERE and option.dest in values:
            raise shared.wrong("learn takes no %s" % option.names[0])
    if not words:
        raise shared.wrong("learn needs a program to run", None,
                           "%s policy learn [options] -- CMD [ARG...]" % program_name())
    mine = dict((name, values.pop(name)) for name in OWN if name in values)
    study = Verify(mine) if "verify" in mine else Record(mine)
    if isinstance(study, Verify):
        values["seccomp"] = mine["verify"]
    return run.execute(values, words, run.options_of(argv, words), ["policy", "learn"] + argv,
                       study)


class Record:
    """Is a run that learns. values: its own options, by dest."""

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
            raise shared.wrong("--merge needs -o FILE" if self.path == "-"
                               else "--merge can't read OCI JSON", "it merges minijail text; "
                               "policy export FILE --format oci makes JSON of it")
        if there and "merge" in values:
            self.before = learned_text.read(self.path, rules.load(self.path), self.arch)
        elif there:
            raise shared.wrong("-o %s" % self.path, "exists", "--merge keeps its rules and adds "
                               "to them")

    def prepare(self, spec):
        """Lets a Spec's filter allow every call."""
        say(WARNING)  # even with -q
        spec.learn = "record"

    def outputs(self, plan):
        """Returns [(OutputFile, function that makes its content from a Result)]."""
        return [(PolicyFile(self.path, shown.writable(plan), plan.spec.follow_links), self._text)]

    def _text(self, result):
        """Returns the file's content, or None if nothing was learned."""
        if result.learned is None:
            return None
        self.found = self.before
        self.found.merge(result.learned)
        text = learned_text.write(self.found, self.arch)
        return text if self.form == "text" else self._oci(text)

    def _oci(self, text):
        model = minijail.parse(rules.Text(self.path, text), self.arch)
        profile, notes = export.oci(files.compiled(self.path, model), self.arch, self.path)
        for sentence in notes:
            say(sentence)
        return json.dumps(profile, indent=2) + "\n"

    def exit_status(self, result, quiet):
        """Says what was learned, unless quiet. Returns the exit status."""
        if not quiet:
            seen = [count for calls in self.found.calls.values() for count in calls.values()]
            say("learned in %d run%s: %d system calls, %d rules, %d seen once%s" % (
                self.found.runs, "" if self.found.runs == 1 else "s", len(self.found.calls),
                len(seen), seen.count(1), "; %s run --seccomp %s" % (program_name(),
                                                                     shlex.quote(self.path))
                if os.path.isfile(self.path) else ""))
        return result.returncode


class Verify:
    """Is a run behind a policy that lists what it refused. values: its own options, by dest."""

    def __init__(self, values):
        self.path = values["verify"]
        others = [name for name in OWN if name in values and name != "verify"]
        if others:
            raise shared.wrong("--verify takes no --%s" % others[0], "it writes no policy")
        if "/" not in self.path and self.path not in NAMES and os.path.exists(self.path):
            self.path = "./" + self.path

    @staticmethod
    def outputs(plan):
        """Returns []: it writes no file of its own."""
        return []

    @staticmethod
    def prepare(spec):
        """Lets a Spec record every refused call."""
        spec.learn, spec.ledger = "verify", True

    def exit_status(self, result, quiet):
        """Lists the refused calls. Returns the exit status: 1 if a call was refused.

        Raises SandboxError if refused calls were not recorded.
        """
        if result.refused is None:
            raise SandboxError("learning", "no ledger", reason="refused calls were not recorded",
                               control="ledger")
        for row in result.refused[:SHOWN]:
            arguments = ", ".join("%s=%s" % item for item in row["args"].items())
            say("refused: %s(%s): %s, %d time%s" % (row["syscall"], arguments, row["errno"],
                                                    row["count"],
                                                   "" if row["count"] == 1 else "s"))
        if len(result.refused) > SHOWN:
            say("and %d more; --report FILE lists all" % (len(result.refused) - SHOWN))
        if not quiet or result.refused:
            total = sum(row["count"] for row in result.refused)
            say("%s refused %s" % (
                self.path, "%d call%s" % (total, "" if total == 1 else "s")
                if total else "nothing"))
        return 1 if result.refused else result.returncode


class PolicyFile(OutputFile):
    """Is the file of -o."""

    def __init__(self, path, places, follow_links):
        OutputFile.__init__(self, "-o", path, places, follow_links)

    def write(self, content):
        """Writes the text, or nothing for None; returns as write_text."""
        if content is None:
            self.discard()
            return None
        return self.write_text(content)
