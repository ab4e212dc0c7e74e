# SPDX-License-Identifier: Apache-2.0
"""Manual pages and completions: they say what the tables say, formatters take them without a warning, shells complete by them."""
import os
import pty
import select
import signal
import subprocess

import pytest

import mrunc  # noqa: F401  registers the package
from mrunc.commands.help import VERBS
from mrunc.commands.manual import completion, man, man_policy
from mrunc.commands.doctor import doctor
from mrunc.commands.policy import policy
from mrunc.commands.report import report
from mrunc.commands.rootfs import rootfs
from mrunc.commands.selftest import selftest
from mrunc.commands.options import OPTIONS
from mrunc.sandbox.seccomp import files, minijail, oci, rules
from mrunc.sandbox.seccomp.policy import NAMES

TABLES = OPTIONS + doctor.OPTIONS + selftest.OPTIONS + policy.OPTIONS + rootfs.OPTIONS + report.OPTIONS
PAGES = {"mrunc": man.page, "mrunc-policy": man_policy.page}
SECTIONS = {"mrunc": ".1", "mrunc-policy": ".5"}


@pytest.fixture(params=sorted(PAGES))
def page(request, tmp_path):
    """The path of a page."""
    path = tmp_path / (request.param + SECTIONS[request.param])  # mandoc takes what follows the path's last dot for the section
    path.write_text(PAGES[request.param]())
    return path


def formatted(path):
    """A page as text, as man shows it."""
    done = subprocess.run(["groff", "-man", "-Tascii", "-P-cbou", "-rHY=0", "-rLL=2000n", str(path)], stdout=subprocess.PIPE,
                          universal_newlines=True, check=True)
    return " ".join(done.stdout.split())


def test_formatters_take_the_pages_without_a_warning(page):
    done = subprocess.run(["groff", "-man", "-ww", "-z", "-Tutf8", str(page)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", str(page)], stdout=subprocess.PIPE, universal_newlines=True)
    # A date of its own would be another thing to keep true; the version stands there.
    assert [line for line in done.stdout.splitlines() if "missing date" not in line] == []


def test_man_shows_the_pages(page):
    done = subprocess.run(["man", "--warnings=w", "-l", str(page)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          universal_newlines=True, env=dict(os.environ, MANPAGER="cat", MANWIDTH="100", LC_ALL="C.UTF-8"))
    assert (done.returncode, done.stderr) == (0, "") and "mrunc" in done.stdout


def test_the_page_has_every_option_of_every_verb_with_its_text(tmp_path):
    (tmp_path / "page").write_text(man.page())
    text = formatted(tmp_path / "page")
    for option in TABLES:
        if option.text:
            assert " ".join((option.shown() + " " + option.text).split()) in text, option.shown()
    for verb in VERBS:
        assert "mrunc " + verb in text
    assert "--spec-fd" not in text


def test_the_page_about_policies_has_every_word_that_its_readers_know():
    def keys(table):
        return sorted(", ".join(table).split(", "))
    assert keys(man_policy.OCI_KEYS) == sorted(oci.TOP)
    assert keys(man_policy.OCI_RULE) == sorted(oci.RULE)
    text = man_policy.page().replace("\\-", "-").split()
    for word in list(oci.ACTIONS) + list(oci.OPERATORS) + list(minijail.ACTIONS) + list(NAMES):
        assert word in text, word
    assert tuple(name for name, _ in man_policy.NAMED) == NAMES
    assert set(man_policy.ACTIONS) == set(rules.bpf.ACTIONS)


@pytest.mark.parametrize("name,text", [("oci", man_policy.EXAMPLE_OCI), ("minijail", man_policy.EXAMPLE_MINIJAIL)])
def test_its_examples_are_policies(name, text, tmp_path):
    (tmp_path / name).write_text(text + "\n")
    _, program, model = files.read(str(tmp_path / name), "x86_64")
    assert program and len(model.rules) >= 3


@pytest.mark.parametrize("rule", man_policy.EXAMPLE_RULES)
def test_its_examples_of_rules_are_rules(rule):
    call, alternatives = minijail.addition(rule, "x86_64")
    for tests in alternatives:
        rules.refuse_unsure(call, rules.bpf.ALLOW, tests)


# Completion.  What is typed, and what stands there after the key.

WORDS = [("mrunc sh", "shell"), ("mrunc run --timeo", "--timeout"), ("mrunc run --proc f", "full"), ("mrunc run --tier roo", "rootns"),
         ("mrunc run --ro prec", "precious"), ("mrunc run --rootfs tre", "tree"), ("mrunc run --seccomp stri", "strict"),
         ("mrunc run --seccomp prec", "precious"), ("mrunc run --require landlock-", "landlock-signals"),
         ("mrunc run --timeout 3 completing-pro", "completing-program"), ("mrunc run -- completing-pro", "completing-program"),
         ("mrunc run -- cat prec", "precious"), ("mrunc run --here --copy x --memory 1G --json --max-o", "--max-output"),
         ("mrunc shell --harde", "--harden"), ("mrunc policy expl", "explain"), ("mrunc policy show --arch aa", "aarch64"),
         ("mrunc rootfs build x --from prec", "precious"), ("mrunc doctor --js", "--json"), ("mrunc selftest --juni", "--junit"),
         ("mrunc --vers", "--version")]
#: Nothing of ours is offered there.
NOTHING = ["mrunc run cat --ti", "mrunc run -- cat --ti", "mrunc run --timeout 3 cat --harde", "mrunc run --chdir prec"]


@pytest.fixture
def place(tmp_path):
    """A directory to complete in."""
    (tmp_path / "precious").write_text("")
    (tmp_path / "tree").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "completing-program").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "completing-program").chmod(0o755)
    return tmp_path


def environment(place):
    return {"PATH": "%s/bin:/usr/bin:/bin" % place, "HOME": str(place), "TERM": "dumb", "LC_ALL": "C.UTF-8"}


def test_the_scripts_are_shell(tmp_path):
    for shell, text in (("bash", completion.bash()), ("zsh", completion.zsh())):
        (tmp_path / shell).write_text(text)
        done = subprocess.run([shell, "-n", str(tmp_path / shell)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert (done.returncode, done.stdout) == (0, b"")
        for option in TABLES:
            assert not option.text or all(name in text for name in option.names)
        assert "spec-fd" not in text


def test_bash_completes(place):
    (place / "script").write_text(completion.bash())
    ask = ('source ./script\nwhile read -r line; do\n read -ra COMP_WORDS <<<"${line//=/ = }"\n [[ $line == *= ]] && COMP_WORDS+=("")\n'
           ' COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _mrunc; echo "${COMPREPLY[*]}"\ndone\n')
    lines = [line for line, _ in WORDS] + NOTHING + ["mrunc run --proc=f", "mrunc run --overlay=/x --timeo", "mrunc run --tier=roo"]
    done = subprocess.run(["bash", "-c", ask], input="\n".join(lines) + "\n", cwd=str(place), env=environment(place),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, timeout=60)
    assert done.stdout.splitlines() == [word for _, word in WORDS] + [""] * len(NOTHING) + ["full", "--timeout", "rootns"]


def zsh_says(place, lines, setup):
    """What an interactive zsh has on its command line after each of the lines and the tab key."""
    os.mkfifo(str(place / "told"))
    pipe = os.open(str(place / "told"), os.O_RDWR)
    (place / "setup").write_text(
        "\n".join([setup, "tell() { print -r -- $BUFFER > told; BUFFER= }", "zle -N tell", "bindkey '^T' tell",
                   "bindkey '^I' complete-word", "print ready > told"]) + "\n")
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(str(place))
        os.execve("/usr/bin/zsh", ["zsh", "-f", "-i"], environment(place))
    shown = b""

    def told():
        nonlocal shown
        while True:
            ready = select.select([pipe, terminal], [], [], 60)[0]
            assert ready, "zsh says nothing: %r" % shown[-1000:]
            if pipe in ready:
                return os.read(pipe, 4096).decode()
            shown += os.read(terminal, 4096)
    try:
        os.write(terminal, b"source ./setup\n")
        assert told() == "ready\n"
        said = []
        for line in lines:
            os.write(terminal, line.encode() + b"\t\x14")
            said.append(told())
        return said
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)
        os.close(pipe)


@pytest.mark.parametrize("setup", ["fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D",
                                   "autoload -Uz compinit; compinit -u -D; source ./_mrunc"], ids=["fpath", "sourced"])
def test_zsh_completes(place, setup):
    (place / "_mrunc").write_text(completion.zsh())
    said = zsh_says(place, [line for line, _ in WORDS] + NOTHING + ["mrunc run --proc=f", "./mrunc.py run --timeo"], setup)
    for (line, word), found in zip(WORDS, said):
        assert found.rstrip(" =/\n") == line.rpartition(" ")[0] + " " + word
    assert [found[:-1] for found in said[len(WORDS):-2]] == NOTHING
    assert [found.rstrip(" =\n") for found in said[-2:]] == ["mrunc run --proc=full", "./mrunc.py run --timeout"]
