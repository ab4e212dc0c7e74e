# SPDX-License-Identifier: Apache-2.0
"""The one option table: parser, help, man page, completion; and the messages, whatever bytes are in them."""
import glob
import os
import re
import shlex
import threading

import pytest

import mrunc
from mrunc.commands.dispatch import _fill_standard_descriptors, main
from mrunc.sandbox.caller import program_name
from mrunc.commands.manual import manual
from mrunc.commands import help, options, output
from mrunc.sandbox import caller
from mrunc.sandbox.errors import SandboxError
from mrunc.sandbox.plan.spec import Spec

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NOT_OF_SPEC = {"report", "print_plan", "json", "quiet", "verbose", "help", "spec_fd"}


def refused(words, argv):
    with pytest.raises(SandboxError) as caught:
        options.parse(argv)
    assert caught.value.status == 2 and words in caught.value.line(), caught.value.line()
    return caught.value


# The parser

@pytest.mark.parametrize("argv,values,words", [
    ([], {}, []),
    (["ls"], {}, ["ls"]),
    (["--", "--ro"], {}, ["--ro"]),
    (["--ro", "a", "ls", "--ro", "b"], {"ro": ["a"]}, ["ls", "--ro", "b"]),
    (["--ro=a", "--ro", "b", "--"], {"ro": ["a", "b"]}, []),
    (["--ro", "--", "--", "x"], {"ro": ["--"]}, ["x"]),
    (["--timeout=", "x"], {"timeout": ""}, ["x"]),
    (["--env", "A=B=C", "--env=D=E"], {"env": ["A=B=C", "D=E"]}, []),
    (["--here", "--tty", "-", "x"], {"here": True, "tty": True}, ["-", "x"]),
    (["-q", "-v", "-e", "A=1", "-w", "/x", "-u", "5", "-t"], {"quiet": True, "verbose": True, "env": ["A=1"], "chdir": "/x",
                                                              "user": "5", "tty": True}, []),
    (["--timeout", "1", "--timeout", "1"], {"timeout": "1"}, []),
    (["--ro-bind", "a", "--bind", "b", "--dry-run", "--ulimit", "cpu=1"], {"ro": ["a"], "rw": ["b"], "print_plan": True,
                                                                          "rlimit": ["cpu=1"]}, []),
    (["x", "--nonsense"], {}, ["x", "--nonsense"]),
])
def test_what_is_read(argv, values, words):
    assert options.parse(argv) == (values, words)


@pytest.mark.parametrize("argv,words", [
    (["--zzzz"], "unknown option --zzzz"), (["-z"], "unknown option -z"), (["-e=A"], "unknown option -e=A"),
    (["--tiemout", "3"], "did you mean --timeout?"), (["--timeout"], "--timeout needs a value: TIME"),
    (["--here=1"], "--here takes no value"), (["--here="], "--here takes no value"),
    (["--timeout", "1", "--timeout", "2"], "--timeout is given twice"), (["---"], "unknown option ---"),
])
def test_what_is_refused(argv, words):
    error = refused(words, argv)
    assert error.remedy is None or "--help" in error.remedy


def test_no_hidden_option_is_suggested():
    assert "did you mean" not in refused("unknown option --spec-fe", ["--spec-fe"]).line()


def test_every_option_has_one_place_and_one_meaning():
    names = [name for option in options.OPTIONS for name in option.names]
    assert len(names) == len(set(names)) and all(name.startswith("-") for name in names)
    dests = [option.dest for option in options.OPTIONS]
    assert len(dests) == len(set(dests))
    assert set(dests) - NOT_OF_SPEC == set(Spec.__slots__) - {"argv", "samples", "learn"}  # asked for by --report, by policy learn
    for option in options.OPTIONS:
        assert option.names[0].startswith("--") or len(option.names) > 1
        assert option.metavar or not option.many
        assert option.group in (options.FILES, options.WORLD, options.LIMITS, options.OUTPUT, options.EXPERT)


# Help

def printed(capfd, argv):
    status = main(argv)
    seen = capfd.readouterr()
    return status, seen.out, seen.err


def test_the_help_names_every_policy_that_seccomp_takes(capfd):
    from mrunc.sandbox.seccomp.policy import NAMES
    said = " ".join(printed(capfd, ["run", "--help"])[1].split())
    assert "--seccomp FILE|NAME system call policy: %s, or a file" % ", ".join(NAMES) in said


def test_the_help_names_every_option_and_every_verb(capfd):
    for argv in (["run", "--help"], ["run", "-h"], ["help", "run"], ["--help", "shell"], ["shell", "--help"]):
        status, text, err = printed(capfd, argv)
        assert (status, err) == (0, "")
        for option in options.OPTIONS:
            for name in option.names:
                assert (name in text.replace(",", " ").replace("[=", " [=").split()) == bool(option.text), name
        assert all(len(line) <= 100 for line in text.splitlines()) and not [x for x in text.splitlines() if x != x.rstrip()]
        assert all(status in text for status in ("124", "125", "126", "127"))
        verb = "shell" if "shell" in argv else "run"
        assert (" %s [options]" % verb in text.splitlines()[0]) and ("sh -l" in text) == (verb == "shell")
    for argv in ([], ["--help"], ["-h"], ["help"], ["help", "nothing"]):
        status, text, err = printed(capfd, argv)
        assert (status, err) == (0, "") and "run" in text and "shell" in text and "usage:" in text


def test_version_man_page_and_completion(capfd):
    status, text, err = printed(capfd, ["--version"])
    assert (status, err) == (0, "") and text.splitlines()[0] == "mrunc %s" % mrunc.__version__
    status, text, _ = printed(capfd, ["--man"])
    assert status == 0 and text.startswith(".TH MRUNC 1 ") and "\\-\\-unsafe\\-without" in text
    status, text, _ = printed(capfd, ["--man", "mrunc-policy"])
    assert status == 0 and text.startswith(".TH MRUNC\\-POLICY 5 ")
    assert printed(capfd, ["--man", "ls"]) == (2, "", "mrunc: options: --man: it is one of: mrunc (default), mrunc-policy\n")
    status, text, _ = printed(capfd, ["--completion", "bash"])
    assert status == 0 and "--unsafe-without" in text and "complete -o filenames -F _mrunc mrunc" in text and "spec-fd" not in text
    status, text, _ = printed(capfd, ["--completion", "zsh"])
    assert status == 0 and text.startswith("#compdef mrunc ") and "--unsafe-without" in text
    status, text, err = printed(capfd, ["--completion", "fish"])
    assert (status, text) == (2, "") and err == "mrunc: options: --completion: it is one of: bash, zsh\n"
    assert printed(capfd, ["--completion"])[0] == 2


def test_a_long_head_of_an_option_has_its_own_line():
    lines = help.entry("x" * 40, "words " * 30)
    assert lines[0] == "  " + "x" * 40 and lines[1].startswith(" " * 30 + "words") and len(lines) > 3


def test_mistakes_on_the_way_to_a_verb(capfd):
    status, out, err = printed(capfd, ["rn"])
    assert (status, out) == (2, "") and "unknown verb rn (did you mean run?)" in err.splitlines()[0]
    assert err.splitlines()[1].startswith("mrunc: remedy: ")
    status, out, err = printed(capfd, ["shell", "ls"])
    assert (status, out) == (2, "") and "shell takes no command" in err
    assert printed(capfd, ["run"])[0] == 2


def test_the_name_to_paste(monkeypatch, tmp_path):
    """As it was typed where it leads to this copy, else by its path: in a library the first word is the host's."""
    (tmp_path / "mrunc.py").write_text("")
    (tmp_path / "a b").symlink_to(os.path.join(ROOT, "mrunc.py"))
    by_path = "python3 " + shlex.quote(os.path.join(ROOT, "mrunc.py"))
    for words, name in ((["mrunc.py"], "python3 mrunc.py"), (["./mrunc.py"], "python3 ./mrunc.py"), (["."], "python3 ."),
                        (["/usr/bin/mrunc"], "mrunc"), (["-m"], "python3 -m mrunc"),
                        ([os.path.join(ROOT, "__main__.py")], "python3 -m mrunc"), ([str(tmp_path / "a b")], "python3 '%s/a b'" % tmp_path),
                        ([str(tmp_path / "mrunc.py")], by_path), (["/x/__main__.py"], by_path), (["-c"], by_path), ([""], by_path),
                        ([], by_path)):
        monkeypatch.setattr("sys.argv", words)
        monkeypatch.chdir(ROOT)
        assert program_name() == name, words
        assert caller.option("best_effort", "x") == ("--best-effort x" if name != by_path else "best_effort='x'")
    monkeypatch.setattr("sys.argv", ["mrunc.py", "run", "--spec-fd", "3"])
    assert caller.option("best_effort", "x") == "best_effort='x'" and program_name() == "python3 mrunc.py"


def test_no_remedy_names_a_program_that_may_not_be_there():
    """Who has just the folder types python3 mrunc.py: messages take program_name()."""
    for room in ("commands", "sandbox"):
        for name in sorted(glob.glob(os.path.join(ROOT, room, "**", "*.py"), recursive=True)):
            if os.path.basename(name) not in ("man.py", "man_policy.py"):
                with open(name) as stream:
                    for line in stream:
                        assert not re.search(r'"(to run a command: )?mrunc (run|shell|doctor|rootfs|report|policy|--man)\b', line), (name, line)


def test_an_interrupt_before_anything_started_is_130(monkeypatch, capfd):
    def interrupt(argv):
        raise KeyboardInterrupt
    monkeypatch.setattr(manual, "main", interrupt)
    assert printed(capfd, ["--help"]) == (130, "", "mrunc: interrupted\n")


def test_an_output_that_cannot_be_written_is_said(monkeypatch, capfd):
    def full(argv):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(manual, "main", full)
    assert printed(capfd, ["--help"]) == (125, "", "mrunc: output: No space left on device\n")


def test_a_reader_that_went_away_is_141(monkeypatch, capfd):
    def broken(argv):
        raise BrokenPipeError
    monkeypatch.setattr(manual, "main", broken)
    saved = os.dup(1)
    try:
        assert main(["--help"]) == 141
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def test_closed_standard_descriptors_are_filled():
    saved = os.dup(0)
    try:
        os.close(0)
        _fill_standard_descriptors()
        assert os.path.samestat(os.fstat(0), os.stat(os.devnull)) and os.get_inheritable(0)
    finally:
        os.dup2(saved, 0)
        os.close(saved)


# Messages

@pytest.mark.parametrize("text,shown", [
    ("plain \u00e9\u4e2d", "plain \u00e9\u4e2d"), ("a\nb\tc\rd", "a\\nb\\tc\\rd"), ("\x1b[31m\x00\x7f\x9b", "\\x1b[31m\\x00\\x7f\\x9b"),
    (b"raw\xff", "raw\\xff"), ("\udcff", "\\xff"), ("\ud800", "\\ud800"), ("\u202egpj.exe", "\\u202egpj.exe"),
    ("a\U000e0041\U000e007f", "a\\U000e0041\\U000e007f"),
    ("\u2066\u2069\u200b\ufeff", "\\u2066\\u2069\\u200b\\ufeff"), ("\u2028", "\\u2028"), ("", "")])
def test_what_a_hostile_name_looks_like(text, shown):
    assert output.escaped(text) == shown


def test_a_message_is_one_line_whatever_is_in_it(capfd):
    output.say("x\ny")
    output.complain(SandboxError("step", "a\x1bb", reason="why\n", remedy="do\nthis"))
    assert capfd.readouterr().err == "mrunc: x\\ny\nmrunc: step: a\\x1bb: why\\n\nmrunc: remedy: do\\nthis\n"


def test_a_message_that_nobody_can_read_is_dropped():
    saved = os.dup(2)
    read, write = os.pipe()
    os.close(read)
    try:
        os.dup2(write, 2)
        output.say("nobody hears")
        os.close(2)
        output.say("nothing to write on")
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(write)


def test_text_is_written_whole_and_errors_are_raised():
    read, write = os.pipe()
    output.write(write, "\u00e9\ud800" + "x" * 1000)
    os.close(write)
    data = os.read(read, 4096)
    os.close(read)
    assert data == "\u00e9".encode() + b"\\ud800" + b"x" * 1000
    with pytest.raises(OSError):
        output.write(write, "closed")


def test_a_pipe_that_the_program_made_non_blocking_gets_the_whole_text():
    read, write = os.pipe()
    os.set_blocking(write, False)
    got = []

    def drain():
        while True:
            data = os.read(read, 65536)
            if not data:
                return
            got.append(data)
    reader = threading.Thread(target=drain)
    try:
        os.write(write, b"x" * 65536)  # full: what follows must wait
        reader.start()
        output.write(write, "y" * 300000)
    finally:
        os.close(write)
        reader.join()
        os.close(read)
    assert b"".join(got) == b"x" * 65536 + b"y" * 300000


def test_a_pipe_that_nobody_empties_is_given_up(monkeypatch):
    monkeypatch.setattr(output, "PATIENCE_MS", 1)
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        with pytest.raises(BlockingIOError):
            output.write(write, "y" * 3000000)
    finally:
        os.close(read)
        os.close(write)
