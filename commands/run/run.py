# SPDX-License-Identifier: Apache-2.0
"""Runs `mrunc run` and `mrunc shell`: options -> spec -> plan -> launch -> exit status."""
import sys

from ...sandbox.caller import program_name
from ...sandbox.errors import CANNOT_CONTAIN, SandboxError, usage
from .. import options
from ...sandbox.controls import limits_of

NOT_SPEC = ("report", "print_plan", "json", "quiet", "verbose", "help", "spec_fd")


def output():
    """Returns the module commands.output.  Most runs have nothing to say."""
    from .. import output as module
    return module


def say(text):
    """Writes one line to stderr."""
    output().say(text)


def help_text(verb):
    """Returns the help of run or shell."""
    from .. import help
    about = ()
    usage = "run [options] [--] CMD [ARG...]"
    if verb == "shell":
        usage = "shell [options]"
        about = ("Starts an interactive shell in a sandbox: run --tty -- sh -l, with the options "
                 "of run.",)
    groups = [(name, [option for option in options.OPTIONS if option.group == name])
              for name in options.GROUPS]
    return help.text(usage, groups, about, exits=help.EXITS)


def tell(text):
    """Prints a text. Returns the exit status 0."""
    output().write(1, text)
    return 0


def shell(argv):
    """Runs `run --tty -- sh -l` with the options in argv. Returns the exit status."""
    values, words = options.parse(argv)
    if words:
        raise usage("shell takes no command", "it starts sh -l",
                    "to run a command: %s run --tty -- CMD" % program_name())
    if values.get("help"):
        return tell(help_text("shell"))
    values["tty"] = True
    return execute(values, ["sh", "-l"], arguments=["shell"] + argv)


def main(argv):
    """Runs the verb run. argv: list of str after the verb. Returns the exit status."""
    values, words = options.parse(argv)
    return execute(values, words, options_of(argv, words), ["run"] + argv)


def options_of(argv, words):
    """Returns the words of argv before the command, as they were typed."""
    typed = argv[:len(argv) - len(words)]
    return typed[:-1] if typed[-1:] == ["--"] else typed


def execute(values, words, typed=(), arguments=None, study=None):
    """Runs a program with parsed options. Returns the exit status.

    values: dict of options by dest
    words: the command with its arguments
    typed: the option words as they were typed
    arguments: the whole command line, or None if it was not the caller's own
    study: the Study of `policy learn` (policy/learn.py), or None

    Raises SandboxError for wrong options.
    """
    if values.get("help"):
        return tell(help_text("run"))
    if "json" in values and "print_plan" not in values:
        raise usage("--json", "it needs --print-plan", "to get a run's result as JSON: "
                    "--report FILE")
    if "spec_fd" in values:
        from ...sandbox.service.launcher import serve
        return serve(values["spec_fd"])
    from ...sandbox.plan.spec import Spec
    settings = dict((name, value) for name, value in values.items() if name not in NOT_SPEC)
    settings["changes"], settings["samples"] = "changes" in values, "report" in values
    settings["ledger"] = "ledger" in values or "report" in values and "if-possible"
    spec = Spec(words, **settings)
    if study is not None:
        study.prepare(spec)
    if spec.wants_group and not values.get("print_plan") and arguments == sys.argv[1:]:
        from ...sandbox.cgroup import scope
        scope.become(limits_of(spec), spec.best_effort, arguments)
    from ...sandbox.launch import run
    plan = run.prepare(spec)
    if not values.get("quiet"):
        for warning in plan.warnings:
            say(warning)
    if values.get("print_plan"):
        return print_plan(plan, values.get("json"))
    if spec.unsafe_without:
        say("WARNING: running without %s; do not run hostile code like this" % " ".join(
            sorted(spec.unsafe_without)))
    outputs, ledger = [], None
    try:
        outputs = open_outputs(values, plan)
        if study is not None:
            outputs += study.outputs(plan)
        if "ledger" in values:
            from ..ledger_file import LedgerFile
            ledger = LedgerFile(values["ledger"], plan)
        if values.get("verbose"):
            from os import fsdecode
            say("tier %s" % plan.tier.name)
            say("starting %s" % " ".join(fsdecode(word) for word in spec.argv))
        result = run.launch(plan, ledger and ledger.stream, study is None)
    except SandboxError as error:
        if error.stage == "exec" and not error.remedy:
            from .missing import explain
            explain(error, spec, typed, plan.tier.own_tree,
                    "run" if study is None else "policy learn")
        from ...sandbox.result.result import Result
        result = Result().planned(plan)
        result.failed(error)
        write_outputs(outputs, result)
        if ledger is not None:
            ledger.discard()
        output().complain(error)
        return error.status
    except BaseException:
        for out in [out for out, _ in outputs] + ([ledger] if ledger is not None else []):
            out.discard()
        raise
    wrong = write_outputs(outputs, result) or ledger and ledger.wrong()
    if values.get("verbose"):
        from . import summary
        for line in summary.lines(result):
            say(line)
    elif not values.get("quiet"):
        missing = {}
        for row in result.controls:
            if row["asked"] and not row["in_force"] and row["name"] != "timens":
                missing.setdefault(row["how"], []).append(row["name"])
        for how, names in sorted(missing.items()):
            say("note: without %s: %s" % (", ".join(names), how))
    if result.message() and not values.get("quiet") and not values.get("verbose"):
        say(result.message() + ("; " + result.advice if result.advice else ""))
    if not values.get("quiet"):
        for note in result.notes[len(plan.warnings):]:  # the warnings were shown before the start
            say("note: " + note)
    if wrong:
        output().complain(wrong)
        say("the program did run: %s" % result.detail)
        return CANNOT_CONTAIN
    return result.returncode if study is None else study.exit_status(result, values.get("quiet"))


def open_outputs(values, plan):
    """Returns [(OutputFile, function that makes its content from a Result)].

    values: dict of options by dest
    plan: the Plan

    Raises SandboxError (exit status 2).
    """
    def changes(result):
        return {"schema": 1, "changes": result.changes, "changes_omitted": result.changes_omitted,
                "notes": result.notes}
    out = []
    for name, content in (("report", lambda result: result.as_dict()), ("changes", changes)):
        if name in values:
            from ..output_file import of_run
            try:
                out.append((of_run("--" + name, values[name], plan), content))
            except SandboxError:
                for output, _ in out:
                    output.discard()
                raise
    return out


def write_outputs(outputs, result):
    """Writes all output files; returns the first SandboxError, or None."""
    wrong = [output.write(content(result)) for output, content in outputs]
    return ([error for error in wrong if error] or [None])[0]


def print_plan(plan, as_json):
    """Prints the plan. Returns the exit status 0."""
    from . import plan_text
    write, escaped = output().write, output().escaped
    if as_json:
        import json
        write(1, json.dumps(plan_text.as_dict(plan), indent=2) + "\n")
    else:
        for line in plan_text.describe(plan):
            write(1, escaped(line) + "\n")
    return 0
