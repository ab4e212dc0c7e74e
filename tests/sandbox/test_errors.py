# SPDX-License-Identifier: Apache-2.0
"""Every failure is one line `mrunc: STEP: what: why`, at most one more with the remedy, the right exit status, no
traceback, and nothing ran.  What is no failure runs as if nothing were: closed streams, ignored signals, a deleted
directory, a thousand descriptors.
"""
import json
import os
import random
import re
import secrets
import shlex
import shutil
import signal
import subprocess

import pytest

from conftest import PYTHON, USER, become, copy_tool, pythons

MARKER = "the workload ran"
ECHO = ("/bin/echo", MARKER)
NO_FILE = "No such file or directory"
SOME = object()  # a remedy whose wording is not pinned
ASCII = dict(os.environ, LC_ALL="C")


def elf(machine, bits=2):
    """The first bytes of a program for another machine."""
    return bytes([0x7f, 0x45, 0x4c, 0x46, bits, 1, 1]) + bytes(9) + bytes([2, 0, machine, 0, 1, 0, 0, 0])


@pytest.fixture
def files(inside):
    """The Inside, with files in its scratch directory, which is the current one."""
    scratch = inside.scratch
    for name in ("d", "d/sub", "a:b", "line\nbreak", b"raw\xff".decode("utf-8", "surrogateescape"), "a"):
        os.mkdir(os.path.join(scratch, name))
    contents = {"f": b"text\n", "data": b"no program\n", "i386": elf(3, 1), "arm64": elf(183), "script": b"#!/nowhere/sh\n",
                "x32": elf(62, 1), "d/inner": b"inner\n"}
    for name, data in contents.items():
        path = os.path.join(scratch, name)
        with open(path, "wb") as stream:
            stream.write(data)
        os.chmod(path, 0o755 if name in ("data", "i386", "arm64", "script", "x32") else 0o644)
    with open("/bin/true", "rb") as source, open(os.path.join(scratch, "mytrue"), "wb") as target:
        target.write(source.read())
    os.chmod(os.path.join(scratch, "mytrue"), 0o755)
    os.symlink("f", os.path.join(scratch, "link"))
    os.symlink("d", os.path.join(scratch, "dlink"))
    os.symlink("nowhere", os.path.join(scratch, "broken"))
    os.mkfifo(os.path.join(scratch, "fifo"))
    if inside.who == "user" and os.geteuid() == 0:
        for place, directories, names in os.walk(scratch.encode()):
            for name in directories + names:
                os.lchown(os.path.join(place, name), USER, USER)
    return inside


def check(done, status, first, remedy=None):
    """The promise about every failure.  first, remedy: text without the prefix; None: there is no such line."""
    assert MARKER not in done.stdout, done
    lines = done.stderr.splitlines()
    assert "Traceback" not in done.stderr, done.stderr
    assert lines[:1] == ["mrunc: " + first], done
    assert done.returncode == status, done
    assert len(lines) <= 2, lines
    if remedy is SOME:
        assert len(lines) == 2 and lines[1].startswith("mrunc: remedy: "), lines
    else:
        assert lines[1:] == ([] if remedy is None else ["mrunc: remedy: " + remedy]), lines


def attempt(inside, *options, argv=ECHO, **settings):
    """Runs without a report file, which would be one more thing that can go wrong."""
    return inside.outside(inside.command(*argv, options=options), **settings)


LINK = "name the path that it leads to"
MISTAKES = [
    # options, first line, remedy
    ("--roo x", "options: unknown option --roo (did you mean --ro?)", SOME),
    ("--tiemout 3", "options: unknown option --tiemout (did you mean --timeout?)", SOME),
    ("--zzz", "options: unknown option --zzz", SOME),
    ("--policy strict", "options: unknown option --policy", "--seccomp FILE|NAME"),
    ("--here=yes", "options: --here takes no value", None),
    ("--timeout 1 --timeout 2", "options: --timeout is given twice", None),
    ("--tmpfs /x=5q", "options: --tmpfs /x=5q: not a size; write it like 256M or 1.5G", None),
    ("--tmpfs /x=0", "options: --tmpfs /x=0: a size must be more than 0", None),
    ("--tmpfs /x=", "options: --tmpfs /x=: not a size; write it like 256M or 1.5G", None),
    ("--tmpfs /x=8E", "options: --tmpfs /x=8E: not a size; write it like 256M or 1.5G", None),
    ("--tmpfs /x=9223372036854775808", "options: --tmpfs /x=9223372036854775808: too large; the largest size is 2^63-1 bytes",
     None),
    ("--writable /x=5q --harden", "options: --writable /x=5q: not a size; write it like 256M or 1.5G", None),
    ("--io-read nodisk:1M", "options: --io-read nodisk: " + NO_FILE, None),
    ("--io-write /dev/null:1M", "options: --io-write /dev/null: is a character device; I/O limits are for disks", None),
    ("--timeout 0", "options: --timeout 0: a time must be more than 0", None),
    ("--json", "options: --json: it needs --print-plan", "to get a run's result as JSON: --report FILE"),
    ("--timeout soon", "options: --timeout soon: not a time; write it like 1.5s, with ms, s, m, h or d", None),
    ("--timeout 11000d", "options: --timeout 11000d: too long; the longest time is ten years", None),
    ("--ro missing", "options: --ro missing: " + NO_FILE, None),
    ("--ro /nowhere/at/all", "options: --ro /nowhere/at/all: " + NO_FILE, None),
    ("--rw missing", "options: --rw missing: " + NO_FILE, None),
    ("--copy missing", "options: --copy missing: " + NO_FILE, None),
    ("--ro broken", "options: --ro broken: " + NO_FILE, None),
    ("--ro fifo", "options: --ro fifo: is a FIFO; only files and directories can be brought in", None),
    ("--ro f/below", "options: --ro f/below: Not a directory", None),
    ("--ro d:relative", "options: --ro relative: a path inside the sandbox must be absolute", None),
    ("--ro a:b", "options: --ro b: a path inside the sandbox must be absolute", None),
    ("--ro a:b:c", "options: --ro a:b:c: more than one colon", "write a colon in a path as \\:"),
    ("--ro :/x", "options: --ro :/x: the source is empty", None),
    ("--ro d:", "options: --ro d:: the destination is empty", None),
    ("--ro d:/x/../y", "options: --ro /x/../y: a path inside the sandbox can't hold ..", None),
    ("--ro d:/", "options: --ro /: the root itself can't be a destination", None),
    ("--ro d:/proc/x", "options: --ro /proc/x: /proc, /sys and /dev are mrunc's own", None),
    ("--ro d:/var/tmp", "options: --ro /var/tmp: /var/tmp is a symlink inside (to /tmp)", LINK),
    ("--ro d:/var/tmp/x", "options: --ro /var/tmp/x: /var/tmp is a symlink inside (to /tmp)", LINK),
    ("--ro f:/etc/mtab", "options: --ro /etc/mtab: /etc/mtab is a symlink inside (to /proc/self/mounts)", LINK),
    ("--ro d:/usr/made/up", "options: --ro /usr/made/up: /usr/made is not there, and nothing is made in /usr, which is a "
     "directory of the host", "choose a destination outside /usr"),
    ("--ro f:/usr", "options: --ro /usr: is a directory inside, the source is a file", None),
    ("--ro d:/mnt/x --ro f:/mnt/x/y", "options: --ro /mnt/x/y: /mnt/x/y is not there, and nothing is made in "
     "/mnt/x, which is a directory of the host", "choose a destination outside /mnt/x"),
    ("--ro f:/etc/passwd/x", "options: --ro /etc/passwd/x: /etc/passwd is not a directory inside", None),
    ("--ro d:/x --rw d:/x", "options: /x: named twice as a destination", None),
    ("--here --tmpfs /box", "options: /box: named twice as a destination", None),
    ("--copy d", "options: --copy d: is a directory; a file is copied", "to show a directory: --ro d:/box/d"),
    ("--copy f:/etc/passwd", "options: --copy /etc/passwd: there is something at that path already", None),
    ("--copy f --copy d/inner:/box/f", "options: --copy /box/f: there is something at that path already", None),
    ("--chdir relative", "options: --chdir relative: a path inside the sandbox must be absolute", None),
    ("--chdir /not/there", "options: --chdir /not/there: is not there inside", "--tmpfs /not/there makes a directory"),
    ("--chdir /etc/passwd", "options: --chdir /etc/passwd: is a file", None),
    ("--env MRUNC_NOT_SET", "options: --env MRUNC_NOT_SET: the caller's environment has no such variable",
     "to set it: --env MRUNC_NOT_SET=VALUE"),
    ("--seccomp /bin/sh", "policy: /bin/sh: is a program (ELF) and no policy file", SOME),
    ("--memory 100", "options: --memory 100: less than a page", "a number without a unit is bytes; for megabytes write 100M"),
    ("--env =x", "options: --env '': a variable needs a name without =", None),
    ("--hostname a_b", "options: --hostname a_b: 1 to 64 letters, digits, dots and hyphens", None),
    ("--user root", "options: --user root: write it as numbers: UID or UID:GID", None),
    ("--user 65534", "options: --user 65534: ids are 0 to 4294967294, but not 65534 (nobody)", None),
    ("--cap-add sys_admin", "options: --cap-add sys_admin: CAP_SYS_ADMIN is never given: it can undo the mounts", None),
    ("--cap-add flying", "options: --cap-add flying: no such capability", "the names are those of capabilities(7)"),
    ("--rlimit bogus=1", "options: --rlimit bogus: no such limit", SOME),
    ("--rlimit nofile", "options: --rlimit nofile: write it as NAME=VALUE or NAME=SOFT:HARD", None),
    ("--rlimit nofile=9:3", "options: --rlimit nofile=9:3: the soft limit is above the hard one", None),
    ("--rlimit fsize=lots", "options: --rlimit fsize=lots: not a size; write it like 256M or 1.5G", None),
    ("--rlimit core=1", "options: --rlimit core: core dumps are always off: the host's handler would get them, at any limit but 1", None),
    ("--proc maybe", "options: --proc maybe: it is one of: full, none", None),
    ("--unsafe-without utsns", "options: --unsafe-without utsns: hostname can't be had without it",
     "leave them out too: --unsafe-without utsns,hostname"),
    ("--unsafe-without nothing", "options: --unsafe-without nothing: no such control", SOME),
    ("--spec-fd 99", "options: --spec-fd 99: not an open descriptor", None),
    ("--report /nowhere/report", "options: --report /nowhere/report: " + NO_FILE, None),
    ("--report d", "options: --report d: Is a directory", None),
]


@pytest.mark.parametrize("options,first,remedy", MISTAKES, ids=[row[0] for row in MISTAKES])
def test_a_mistake_in_the_options_is_one_line_and_exit_2(files, options, first, remedy):
    check(attempt(files, *options.split()), 2, first, remedy)


@pytest.mark.parametrize("options", ["--tmpfs /x=5q", "--ro missing", "--copy d"])
def test_print_plan_refuses_the_same_mistakes(files, options):
    done = attempt(files, *options.split(), "--print-plan")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("mrunc: options: ") and "Traceback" not in done.stderr


def test_a_destination_below_a_link_of_the_host_is_exit_2(files):
    host = os.path.join(files.scratch, "host")
    os.mkdir(host)
    os.symlink("/etc", os.path.join(host, "way"))
    os.chmod(host, 0o755)
    done = attempt(files, "--ro", "host:/mnt/host", "--ro", "f:/mnt/host/way/f")
    check(done, 2, "options: --ro /mnt/host/way/f: /mnt/host/way is a symlink inside", LINK)


def test_an_option_at_the_end_without_its_value_is_exit_2(inside):
    done = inside.outside(inside.command() + ["--timeout"])
    check(done, 2, "options: --timeout needs a value: TIME")


def test_no_command_is_exit_2(inside):
    remedy = "it follows the options: run [options] -- CMD [ARG...]"
    for tail in ([], ["--"], ["--timeout", "3"]):
        done = inside.outside(inside.command() + tail)
        check(done, 2, "options: no command: nothing to run", remedy)


@pytest.mark.parametrize("words,what", [(["rn"], "unknown verb rn (did you mean run?)"), (["qqq"], "unknown verb qqq"),
                                        (["--timeout", "3", "run", "--", "id"], "--timeout before the verb: options come after the verb"),
                                        (["--completion", "fish"], "--completion: it is one of: bash"),
                                        (["shell", "ls"], "shell takes no command: it starts sh -l")])
def test_a_mistake_before_the_options_is_exit_2(inside, words, what):
    done = inside.outside([PYTHON, "-I", "-S", inside.tool] + words)
    assert done.returncode == 2 and done.stdout == "", done
    lines = done.stderr.splitlines()
    assert what in lines[0] and lines[0].startswith("mrunc: "), lines
    assert len(lines) == 1 or len(lines) == 2 and lines[1].startswith("mrunc: remedy: "), lines


def test_an_argument_longer_than_the_kernel_takes_is_exit_2(inside):
    code = ("import sys; sys.path.insert(0, %r); import mrunc\n"
            "try:\n    mrunc.run(['/bin/echo', 'x' * 131072])\n"
            "except mrunc.SandboxError as error:\n    print(error.status, error)" % os.path.dirname(inside.tool))
    done = inside.outside([PYTHON, "-I", "-S", "-c", code])
    assert done.stdout == ("2 options: argument 1: 131072 bytes long; the kernel takes at most 131071; "
                           "remedy: put it into a file and bring it in with copy\n"), done


def test_arguments_that_are_too_long_together_are_exit_2(inside):
    done = attempt(inside, "--rlimit", "stack=512K", argv=ECHO + ("x" * 100000, "y" * 100000))
    check(done, 2, "exec: /bin/echo: the arguments and the environment are too long together")


# Programs that can't be executed

NOT_PROGRAMS = [
    ("./data", "data", 126, "exec: ./data: not a program and not a script with a #! line"),
    ("./i386", "i386", 126, "exec: ./i386: i386 program: this sandbox runs %s only" % os.uname().machine),
    ("./script", "script", 126, "exec: ./script: its interpreter /nowhere/sh is not there inside"),
    ("/box", None, 126, "exec: /box: is a directory"),
    ("/etc/passwd", None, 126, "exec: /etc/passwd: is not executable"),
    ("/dev/null", None, 126, "exec: /dev/null: is not a regular file"),
    ("/etc/passwd/x", None, 127, "exec: /etc/passwd/x: not found inside"),
]


@pytest.mark.parametrize("command,copied,status,first", NOT_PROGRAMS, ids=[row[0] for row in NOT_PROGRAMS])
def test_what_cannot_be_executed_is_named(files, command, copied, status, first):
    options = ["--copy", copied] if copied else []
    done = attempt(files, *options, argv=(command, "x"))
    check(done, status, first, SOME if status == 127 or command == "./data" else None)
    assert done.stdout == ""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="machine types as seen from x86_64")
@pytest.mark.parametrize("name,machine", [("arm64", "aarch64"), ("x32", "x32")])
def test_a_program_of_another_machine_is_named(files, name, machine):
    done = attempt(files, "--copy", name, argv=("./" + name,))
    check(done, 126, "exec: ./%s: %s program: this sandbox runs x86_64 only" % (name, machine))


def test_a_program_that_only_the_host_has_comes_with_the_command_line_to_paste(files):
    for argv, inner in ((["./mytrue", "a", "b c"], "./mytrue a 'b c'"),
                        ([files.scratch + "/mytrue"], "/box/mytrue")):
        done = attempt(files, argv=argv)
        assert done.returncode == 127 and done.stdout == "", done
        lines = done.stderr.splitlines()
        assert lines[0] == "mrunc: exec: %s: not found inside" % argv[0]
        assert len(lines) == 2 and lines[1].startswith("mrunc: remedy: python3 "), lines
        paste = lines[1][len("mrunc: remedy: "):]
        assert paste.endswith("run --copy %s/mytrue -- %s" % (files.scratch, inner)), paste
        pasted = files.outside(["/bin/sh", "-c", paste])
        assert (pasted.returncode, pasted.stderr) == (0, ""), pasted


def pasted(files, argv, *options, cwd=None):
    """(what the remedy has after `run`, what came of pasting it) for a program that is not inside."""
    done = attempt(files, *options, argv=argv, cwd=cwd or files.scratch)
    lines = done.stderr.splitlines()
    assert done.returncode == 127 and len(lines) == 2 and lines[1].startswith("mrunc: remedy: python3 "), done
    line = lines[1][len("mrunc: remedy: "):]
    return shlex.split(line.partition(" run ")[2]), files.outside(["/bin/sh", "-c", line], cwd=cwd or files.scratch)


def test_a_program_with_a_library_beside_its_bin_is_shown_where_it_lies(files):
    """A copy of an interpreter would not find its own."""
    place = os.path.join(files.scratch, "my tools:1")
    own_files = {"bin/tool": "#!/bin/sh\ncat \"$(dirname \"$0\")/../lib/word\"\n", "lib/word": "found\n"}
    for name, text in own_files.items():
        path = os.path.join(place, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as stream:
            stream.write(text)
        os.chmod(path, 0o755)
    os.symlink(place + "/bin/tool", files.scratch + "/tool")
    for name in (place + "/bin/tool", files.scratch + "/tool"):
        words, done = pasted(files, (name,))
        assert words == ["--ro", place.replace(":", "\\:"), "--", place + "/bin/tool"]
        assert (done.returncode, done.stdout, done.stderr) == (0, "found\n", ""), done
    words, _ = pasted(files, ("bin/tool",), cwd=place)
    assert words[0] == "--copy", "what lies about here is a sample: nothing beside it is shown"


def test_a_virtual_environment_is_shown_where_it_lies_with_what_it_was_made_of(files):
    files.outside([PYTHON, "-m", "venv", "--without-pip", "venv"], check=True)
    for name in ("venv/bin/python3", files.scratch + "/venv/bin/python3"):
        words, done = pasted(files, (name, "-c", "import sys; print(sys.prefix)"))
        assert words[words.index("--") + 1] == files.scratch + "/venv/bin/python3" and words.count("--ro") >= 1
        assert (done.returncode, done.stdout, done.stderr) == (0, files.scratch + "/venv\n", ""), done


def test_no_home_is_shown_for_a_program_in_it(tmp_path, monkeypatch):
    from mrunc.commands.run import missing
    for place in ("home/bin", "home/lib", "home/.local/bin", "home/.local/lib", "home/tools/bin", "home/tools/lib"):
        (tmp_path / place).mkdir(parents=True)
    home = str(tmp_path / "home")
    monkeypatch.setenv("HOME", home)
    assert [missing.prefix(home + name) for name in ("/bin/x", "/.local/bin/x", "/tools/bin/x", "/tools/sbin/x")] == \
        [None, None, home + "/tools", None]
    assert missing.prefix("/bin/x") is None and missing.prefix("/usr/bin/x") is None
    for name, target in (("to-home", home), ("to-all", "/"), ("to-local", home + "/.local"), ("to-tools", home + "/tools")):
        os.symlink(target, str(tmp_path / name))
    (tmp_path / "to-home/bin/x").touch()
    assert [missing.prefix(str(tmp_path / name / "bin/x")) for name in ("to-home", "to-all", "to-local", "to-tools")] == \
        [None, None, None, str(tmp_path / "to-tools")]
    monkeypatch.setenv("HOME", str(tmp_path / "to-home"))
    assert missing.prefix(home + "/bin/x") is None


def test_a_name_that_is_shown_otherwise_than_it_is_is_in_no_line_to_paste(files):
    """What it is shown as may be the name of something else."""
    for name in ("a\nb", "a\x1b[2Jb", "a\u202eb"):
        place = os.path.join(files.scratch, name)
        for part in ("bin", "lib"):
            os.makedirs(os.path.join(place, part))
        shutil.copy("/bin/true", place + "/bin/tool")
        done = attempt(files, argv=(place + "/bin/tool",))
        assert done.stderr.splitlines()[1:] == ["mrunc: remedy: bring it in with --copy"], done


def test_a_program_that_nobody_has_is_127(inside):
    check(attempt(inside, argv=("mrunc-no-such-program",)), 127, "exec: mrunc-no-such-program: not found inside",
          "it is not on this host either: check the name")


def test_a_directory_for_a_program_is_named_as_one(files):
    check(attempt(files, argv=("./d",)), 127, "exec: ./d: not found inside", "it is a directory here: name a program")


@pytest.mark.parametrize("word,first,remedy", [
    ("A B", "--env 'A B': the caller's environment has no such variable", "to set it: --env 'A B=VALUE'"),
    ("", "--env '': a variable needs a name without =", None)])
def test_a_variable_that_is_not_there_is_quoted(inside, word, first, remedy):
    check(attempt(inside, "--env", word), 2, "options: " + first, remedy)


def test_a_command_line_in_one_word_comes_with_the_line_to_paste(files):
    done = attempt(files, argv=("echo 'a  b' $((1+1))",))
    lines = done.stderr.splitlines()
    assert done.returncode == 127 and len(lines) == 2 and lines[1].startswith("mrunc: remedy: python3 "), done
    pasted = files.outside(["/bin/sh", "-c", lines[1][len("mrunc: remedy: "):]])
    assert (pasted.returncode, pasted.stdout, pasted.stderr) == (0, "a  b 2\n", ""), pasted


def test_a_directory_with_a_space_that_was_to_be_copied_comes_with_the_option_to_paste(files):
    name = os.path.join(files.scratch, "g h:i")
    os.mkdir(name)
    open(os.path.join(name, "inner"), "w").close()
    done = attempt(files, "--copy", name.replace(":", "\\:"))
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and lines[1].startswith("mrunc: remedy: to show a directory: --ro "), done
    option = shlex.split(lines[1][len("mrunc: remedy: to show a directory: "):])
    shown = attempt(files, *option, argv=("/bin/ls", "/box/g h:i"))
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "inner\n", ""), shown


@pytest.mark.parametrize("words", [["doctor", "--fix"], ["doctor", "x"], ["selftest", "--fix"], ["policy", "shw"], ["policy", "--fix"],
                                   ["policy", "diff", "x"], ["rootfs", "--fix"], ["rootfs", "build"]])
def test_a_mistake_after_another_verb_names_that_verbs_help(inside, words):
    done = inside.outside(inside.command(verb=words[0], options=words[1:]))
    remedy = done.stderr.splitlines()[1]
    assert done.returncode == 2 and remedy.startswith("mrunc: remedy: python3 ") and " %s --help" % words[0] in remedy, done


def test_the_result_of_a_program_that_is_not_there_says_so(inside):
    done = inside.run("mrunc-no-such-program")
    assert (done.result["reason"], done.result["returncode"], done.result["exit_code"]) == ("exec", 127, None)
    assert done.result["stage"] == "exec" and done.result["detail"].endswith("not found inside"), done.result


# Names

def plain_locale_pythons(who):
    """Interpreters that take LC_ALL=C at its word: this one without its UTF-8 mode, and a 3.6, which has none, where the
    caller may use it (root's lie in its home)."""
    old = [path for version, path in pythons() if version.startswith("3.6.")]
    return [[PYTHON, "-X", "utf8=0"]] + [[path] for path in old
                                         if who == "root" or not path.startswith(os.path.expanduser("~"))]


@pytest.mark.parametrize("environ", [None, ASCII], ids=["the caller's locale", "LC_ALL=C"])
def test_a_path_that_is_not_utf8_works(files, environ):
    for python in [[PYTHON]] if environ is None else plain_locale_pythons(files.who):
        command = python + ["-I", "-S", files.tool, "run", "--ro", b"raw\xff:/mnt/in\xff", "--env", b"X=\xfe"]
        done = files.outside(command + ["--", "/bin/sh", "-c", "ls -b /mnt; printf %s \"$X\" | od -An -tx1"], env=environ)
        assert (done.returncode, done.stdout, done.stderr) == (0, "in\\377\n fe\n", ""), done
        done = files.outside(command + ["--print-plan", "--", b"/bin/\xfd"], env=environ)
        assert done.returncode == 0 and done.stderr == "", done
        assert "/mnt/in\\xff" in done.stdout and "/raw\\xff" in done.stdout and "/bin/\\xfd" in done.stdout
        done = files.outside(command + ["--print-plan", "--json", "--", b"/bin/\xfd"], env=environ)
        assert done.returncode == 0 and json.loads(done.stdout)["argv"] == ["/bin/\udcfd"], done
        done = files.outside(command + ["--ro", b"gone\xff", "--"] + list(ECHO), env=environ)
        check(done, 2, "options: --ro gone\\xff: " + NO_FILE)
        done = files.outside(command + ["--", b"/bin/\xfd"], env=environ)
        check(done, 127, "exec: /bin/\\xfd: not found inside", "it is not on this host either: check the name")


def test_a_path_that_is_not_utf8_is_in_the_report(files):
    done = files.run(b"/bin/echo", b"\xff", stdout=subprocess.DEVNULL)
    assert done.result["argv"] == ["/bin/echo", "\udcff"]


def test_a_newline_in_a_path_stays_on_one_line(files):
    done = attempt(files, "--ro", "line\nbreak:/mnt/a\nb", argv=("/bin/ls", "-b", "/mnt"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "a\\nb\n", "")
    check(attempt(files, "--ro", "no\nsuch\x1b[31m"), 2, "options: --ro no\\nsuch\\x1b[31m: " + NO_FILE)
    plan = attempt(files, "--print-plan", "--ro", "line\nbreak:/mnt/a\nb")
    assert plan.returncode == 0 and any(line.startswith("  bind           /mnt/a\\nb") for line in plan.stdout.splitlines())


def test_an_escaped_colon_is_part_of_the_path(files):
    done = attempt(files, "--ro", "a\\:b:/mnt/c\\:d", argv=("/bin/ls", "/mnt"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "c:d\n", "")


def test_a_source_is_followed_through_links_and_from_the_current_directory(files):
    done = attempt(files, "--follow-links", "--ro", "link:/mnt/l", "--ro", "dlink:/mnt/d", "--ro", "d/../d/sub:/mnt/s",
                   argv=("/bin/sh", "-c", "cat /mnt/l /mnt/d/inner; ls -d /mnt/s; test ! -L /mnt/l"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "text\ninner\n/mnt/s\n", "")


def test_a_source_without_permission_is_exit_2_for_a_user(inside_as_user, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("x")
    os.chmod(str(secret), 0o600 if os.geteuid() == 0 else 0)
    for option in ("--ro", "--copy"):
        check(attempt(inside_as_user, option, str(secret)), 2, "options: %s %s: Permission denied" % (option, secret))


def test_root_cannot_show_a_directory_of_root_writable(inside_as_root):
    done = attempt(inside_as_root, "--rw", inside_as_root.scratch)
    check(done, 2, "options: --rw %s: belongs to root; root's files are never writable inside" % inside_as_root.scratch,
          "bring a copy in with --copy, or give the directory to another user")


# Callers in a strange state: everything runs normally

def as_caller(code, command):
    """The command, started by a process that did something to itself first."""
    return [PYTHON, "-I", "-S", "-c", "import os, sys, signal, resource, fcntl\n%s\nos.execv(sys.argv[1], sys.argv[1:])" %
            code, *command]


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1], [0, 2], [0, 1, 2]])
def test_closed_streams_run_normally_and_nothing_takes_their_place(inside, closed):
    report = os.path.join(inside.scratch, "report")
    code = ("import os\ndef name(fd):\n    try:\n        return os.readlink('/proc/self/fd/%d' % fd)\n"
            "    except OSError:\n        return '/dev/null'\n"
            "os._exit(7 if all(name(fd) == '/dev/null' or name(fd).startswith('pipe:') for fd in range(3)) else 8)")
    command = inside.command("/usr/bin/python3", "-I", "-S", "-c", code, options=["--report", report])
    done = inside.outside(as_caller("for fd in %r: os.close(fd)" % closed, command))
    assert done.returncode == 7 and done.stdout == "", done
    with open(report) as stream:
        result = json.load(stream)
    assert (result["reason"], result["exit_code"]) == ("exited", 7)


def test_a_reader_that_goes_away_ends_the_program_not_mrunc(inside):
    read, write = os.pipe()
    os.close(read)
    try:
        done = inside.run("/usr/bin/yes", stdout=write)
    finally:
        os.close(write)
    assert (done.rc, done.err) == (141, "")
    assert (done.result["reason"], done.result["signal"]) == ("signal", 13)


def test_a_reader_that_goes_away_ends_print_plan_quietly(inside):
    read, write = os.pipe()
    os.close(read)
    try:
        done = attempt(inside, "--print-plan", stdout=write)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_current_directory_that_is_gone_runs_normally(inside):
    gone = os.path.join(inside.scratch, "gone")
    code = "os.mkdir(%r); os.chdir(%r); os.rmdir(%r)" % (gone, gone, gone)
    done = inside.outside(as_caller(code, inside.command("/bin/pwd")))
    assert (done.returncode, done.stdout, done.stderr) == (0, "/box\n", ""), done
    done = inside.outside(as_caller(code, inside.command(*ECHO, options=["--here"])))
    check(done, 2, "options: --here: the current directory is gone (%s)" % NO_FILE)
    done = inside.outside(as_caller(code, inside.command(*ECHO, options=["--ro", "x"])))
    check(done, 2, "options: --ro with a relative path: the current directory is gone (%s)" % NO_FILE)


def test_ignored_signals_are_at_default_inside_and_the_usage_is_known(inside):
    report = os.path.join(inside.scratch, "report")
    command = inside.command("/bin/sh", "-c", "grep -E 'Sig(Ign|Blk)' /proc/self/status; yes | head -1; exit 3",
                             options=["--report", report])
    code = ("for n in (1, 2, 3, 10, 12, 13, 15, 17, 25): signal.signal(n, signal.SIG_IGN)\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, [1, 2, 3, 10, 12, 13, 15, 17])")
    done = inside.outside(as_caller(code, command))
    assert done.returncode == 3 and done.stderr == "", done
    assert done.stdout == "SigBlk:\t%s\nSigIgn:\t%s\ny\n" % ("0" * 16, "0" * 16)
    with open(report) as stream:
        assert json.load(stream)["usage"]["max_rss_bytes"] > 0


@pytest.mark.parametrize("code", [
    "for n in range(1000): fcntl.fcntl(0, fcntl.F_DUPFD, 3)",
    "for n in range(1000): fcntl.fcntl(0, fcntl.F_DUPFD, 600)\nresource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))",
], ids=["from 3 on", "above RLIMIT_NOFILE"])
def test_a_thousand_open_descriptors_run_normally(inside, code):
    more = "resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, resource.getrlimit(7)[1]), resource.getrlimit(7)[1]))\n"
    script = "import os; print(sorted(fd for fd in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + fd)))"
    done = inside.outside(as_caller(more + code, inside.command("/usr/bin/python3", "-I", "-S", "-c", script)))
    assert (done.returncode, done.stdout, done.stderr) == (0, "['0', '1', '2']\n", ""), done


def test_too_few_descriptors_are_one_line(inside):
    for limit in range(4, 40, 3):
        done = inside.outside(as_caller("resource.setrlimit(resource.RLIMIT_NOFILE, (%d, %d))" % (limit, limit),
                                        inside.command(*ECHO)))
        if done.returncode == 0:
            assert done.stdout == MARKER + "\n"
            break
        if done.stderr.startswith("mrunc: "):  # with still fewer the interpreter itself can't start
            assert done.returncode == 125 and done.stdout == "" and "Traceback" not in done.stderr, done
            assert len(done.stderr.splitlines()) <= 2, done
    else:
        raise AssertionError("40 descriptors are not enough: %r" % done)


# Hosts in a strange state

def on_a_host(inside, script, command):
    """The command in a mount namespace of its own, in which a script changed something first."""
    wrap = ["unshare", "-m"] if inside.who == "root" else ["unshare", "-Urm"]
    return inside.outside(wrap + ["/bin/sh", "-ec", script + '\nexec "$@"', "sh", *command])


def test_no_user_namespaces_is_125_with_the_way_out(inside):
    done = inside.outside(["unshare", "-Ur", "/bin/sh", "-ec", 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"', "sh",
                           *inside.command(*ECHO)])
    check(done, 125, "namespaces: clone3: No space left on device",
          "user namespaces are used up or off here: sysctl -w user.max_user_namespaces=16384")


def masked():
    """A directory of /proc that containers mask."""
    return [place for place in ("/proc/acpi", "/proc/bus", "/proc/fs", "/proc/irq") if os.path.isdir(place)][0]


def in_a_container(inside, *options, mask=True):
    """Nested below a container that masks part of its /proc."""
    script = ("mount -t tmpfs none %s; " % masked() if mask else "") + 'exec "$@"'
    return inside.outside(["unshare", "-Urmpf", "--mount-proc", "/bin/sh", "-ec", script, "sh",
                           *inside.command(*ECHO, options=options)])


def test_a_masked_proc_is_125_with_the_way_out_and_the_way_out_works(inside):
    done = in_a_container(inside)
    if tuple(int(part) for part in os.uname().release.split(".")[:1]) >= (7,):
        assert done.stdout == MARKER + "\n"  # such a kernel mounts subset=pid all the same
    else:
        check(done, 125, "file system: /proc: Operation not permitted",
              "part of /proc is masked here (a container?): unmask it there, or go without: python3 %s run --proc none -- CMD"
              % inside.tool)
    done = in_a_container(inside, "--proc", "none")
    assert (done.returncode, done.stdout, done.stderr) == (0, MARKER + "\n", ""), done


def test_in_a_container_with_a_whole_proc_it_runs(inside):
    done = in_a_container(inside, mask=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, MARKER + "\n", ""), done


def test_inside_mrunc_itself_it_is_refused(inside):
    done = attempt(inside, "--ro", os.path.dirname(inside.tool) + ":/mnt/tool",
                   argv=("/usr/bin/python3", "-I", "-S", "/mnt/tool/mrunc.py", "run", "--", *ECHO))
    check(done, 125, "namespaces: clone: Operation not permitted", SOME)


def test_no_proc_at_all_is_refused(inside):
    done = on_a_host(inside, "mount -t tmpfs none /proc", inside.command(*ECHO))
    assert MARKER not in done.stdout and done.returncode == 125, done
    assert done.stderr.startswith("mrunc: ") and "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 2, done


@pytest.mark.parametrize("script", ["mount -t tmpfs -o ro none /tmp", "mount -t tmpfs -o size=4k none /tmp\n"
                                    "head -c 4096 /dev/zero > /tmp/full"], ids=["read-only", "full"])
def test_the_hosts_tmp_is_not_needed(inside, script):
    command = ["/usr/bin/python3", "-I", "-S", "/mnt/mrunc.py", "run", "--", "/bin/sh", "-c", "echo yes > /tmp/x; cat /tmp/x"]
    done = on_a_host(inside, "mount --bind %s /mnt\n%s\ncd /" % (shlex.quote(os.path.dirname(inside.tool)), script), command)
    assert (done.returncode, done.stdout, done.stderr) == (0, "yes\n", ""), done


def test_root_without_a_place_for_its_lock_file_is_125(inside_as_root):
    done = on_a_host(inside_as_root, "mount -t tmpfs -o ro none /run", inside_as_root.command(*ECHO))
    check(done, 125, "identity: /run/mrunc/ids: Read-only file system", SOME)


def test_roots_ids_come_from_a_range_that_can_be_set_and_be_used_up(inside_as_root):
    first = 1900000000 + int(secrets.token_hex(3), 16)
    environ = dict(os.environ, MRUNC_ID_RANGE="%d:1" % first)
    held = subprocess.Popen(inside_as_root.command("/bin/cat"), env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        held.stdin.write(b"here\n")
        held.stdin.flush()
        assert held.stdout.readline() == b"here\n"
        done = attempt(inside_as_root, env=environ)
        check(done, 125, "identity: no host id is free: all of [(%d, 1)] are in use" % first,
              "widen the range: MRUNC_ID_RANGE=FIRST:COUNT")
    finally:
        held.communicate()
    assert held.returncode == 0
    assert attempt(inside_as_root, env=environ).stdout == MARKER + "\n"
    for text in ("x", "0:5", "65000:1000", "1:0", "5"):
        done = attempt(inside_as_root, env=dict(os.environ, MRUNC_ID_RANGE=text))
        check(done, 2, "options: MRUNC_ID_RANGE=%s: FIRST:COUNT, without 0 and 65534" % text)


MACHINE = """
import _ctypes, os, sys
real, size = os.uname(), _ctypes.sizeof
%s
sys.path.insert(0, %r)
import mrunc
sys.exit(mrunc.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("patch,first", [
    ("os.uname = lambda: type(real)(tuple(real)[:4] + ('riscv64',))", "machine: no filter for riscv64"),
    ("_ctypes.sizeof = lambda kind: 4 if kind.__name__ == 'c_P' else size(kind)",
     "machine: no filter for a 32-bit Python on %s" % os.uname().machine),
], ids=["riscv64", "32-bit Python"])
def test_another_machine_is_125(inside, patch, first):
    code = MACHINE % (patch, os.path.dirname(inside.tool))
    for words in (["run", "--", *ECHO], ["run", "--print-plan", "--", *ECHO], ["shell"]):
        done = inside.outside([PYTHON, "-I", "-S", "-c", code] + words)
        check(done, 125, first, "mrunc runs with a 64-bit Python on x86_64 and aarch64")


def test_a_report_that_cannot_be_written_is_said_after_the_run(inside):
    done = attempt(inside, "--report", "/dev/full")
    assert done.stdout == MARKER + "\n" and done.returncode == 125
    assert done.stderr == ("mrunc: report: /dev/full: No space left on device\n"
                           "mrunc: the program did run: exited with status 0\n")


def test_a_plan_that_cannot_be_written_is_no_success(inside):
    with open("/dev/full", "w") as full:
        done = attempt(inside, "--print-plan", stdout=full)
    assert done.returncode != 0 and done.stderr.startswith("mrunc: ") and "Traceback" not in done.stderr, done


# Two at once, and interrupted

def alive(nonce):
    """The pids of processes that carry the nonce in their arguments."""
    out = []
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                with open("/proc/%s/cmdline" % pid, "rb") as stream:
                    if nonce.encode() in stream.read():
                        out.append(int(pid))
            except OSError:
                pass
    return out


def test_two_runs_at_once_do_not_disturb_each_other(inside):
    script = "read x; echo $x-$0"
    runs = [subprocess.Popen(inside.command("/bin/sh", "-c", script, "run%d" % n), stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, cwd=inside.scratch,
                             preexec_fn=become(inside.who))
            for n in range(4)]
    answers = [run.communicate("word%d\n" % n) for n, run in enumerate(runs)]
    assert answers == [("word%d-run%d\n" % (n, n), "") for n in range(4)]
    assert [run.returncode for run in runs] == [0] * 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_at_any_stage_leaves_nothing(inside, number):
    nonce = "nonce-" + secrets.token_hex(8)
    command = inside.command("/bin/sh", "-c", "exec sleep 1000", nonce)
    dice = random.Random(nonce)
    with open(inside.tool) as stream:  # from this line on mrunc answers itself
        listening = stream.read().split("sys.excepthook = ")[0].count("\n") + 1
    for _ in range(20):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   universal_newlines=True, cwd=inside.scratch, start_new_session=True,
                                   preexec_fn=become(inside.who))
        try:
            process.wait(dice.uniform(0.01, 0.25))  # the stage that is hit is the random part
            raise AssertionError("it ended by itself: %r" % (process.communicate(),))
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        out, err = process.communicate(timeout=60)
        early = err.startswith("Fatal Python error")  # the interpreter, before it has begun
        assert process.returncode in (128 + number, -number) or early and process.returncode == 1, (process.returncode, err)
        assert out == "" and alive(nonce) == [], (err, alive(nonce))
        if err and not err.startswith("mrunc: "):  # before mrunc's first line the interpreter is alone
            assert "KeyboardInterrupt" in err or "Fatal Python error" in err, err
            assert all(int(line) <= listening for line in re.findall(r'/mrunc\.py", line (\d+)', err)), err


@pytest.mark.parametrize("cause,line,rc", [
    ("raise KeyboardInterrupt", "mrunc: interrupted\n", 130),
    ("raise MemoryError('none left')", "mrunc: start: MemoryError: none left\n", 125),
    ("import nowhere", "mrunc: start: ModuleNotFoundError: No module named 'nowhere'\n", 125),
])
def test_what_ends_a_start_early_is_one_line(inside, cause, line, rc):
    folder = os.path.join(inside.scratch, "broken")
    os.mkdir(folder)
    copy_tool(folder)
    with open(os.path.join(folder, "commands", "dispatch.py"), "w") as stream:
        stream.write(cause + "\n")
    for name, path in pythons():
        if not path.startswith("/root/") or inside.who == "root":
            done = inside.outside([path, "-I", "-S", os.path.join(folder, "mrunc.py"), "run", "--", "true"])
            assert (done.returncode, done.stdout, done.stderr) == (rc, "", line), (name, done)
