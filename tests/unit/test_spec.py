# SPDX-License-Identifier: Apache-2.0
"""A request is checked whole before anything happens: what is accepted, as what, and what is refused with which words."""
import os
import pickle
import re

import pytest

import mrunc
from mrunc.sandbox.plan import spec, values
from mrunc.sandbox import units
from mrunc.sandbox.controls import CONTROLS
from mrunc.sandbox.errors import SandboxError, usage

Spec = spec.Spec
CMD = ["true"]
HUGE = 1 << 63


def refused(words, *arguments, **options):
    """The call ends in exit status 2 and a line that holds these words."""
    call = arguments[0] if arguments and callable(arguments[0]) else Spec
    rest = arguments[1:] if call is not Spec else arguments or (CMD,)
    with pytest.raises(SandboxError) as caught:
        call(*rest, **options)
    assert caught.value.status == 2 and words in caught.value.line(), caught.value.line()
    assert "\n" not in caught.value.line()
    return caught.value


# Sizes and times

@pytest.mark.parametrize("text,value", [
    ("1", 1), ("4096", 4096), ("4096B", 4096), ("1k", 1024), ("1K", 1024), ("1KB", 1024), ("1KiB", 1024), ("256M", 256 << 20),
    ("1.5G", 3 << 29), ("0.5k", 512), (".5k", 512), ("2T", 2 << 40), (" 8 M ", 8 << 20), (7, 7), ("9223372036854775807", HUGE - 1),
    ("0.1G", (1 << 30) // 10)])
def test_a_size(text, value):
    assert units.size(text, "x") == value


@pytest.mark.parametrize("text", ["", "M", "x", "1X", "1.2.3", "-1", "1e3", "0x10", ".", "1 2", "\u0661", True, None, 1.5, [], "1MBB", "1Kb1"])
def test_what_is_no_size(text):
    assert "write it like 256M" in refused("x=%r: " % (text,), units.size, text, "x").line()


@pytest.mark.parametrize("text,words", [("0", "more than 0"), ("0.0001", "more than 0"), (0, "more than 0"), (-5, "more than 0"),
                                        (str(HUGE), "too large"), (HUGE, "too large"), ("8388608T", "too large"),
                                        ("9" * 400, "too large")])
def test_a_size_out_of_range(text, words):
    refused(words, units.size, text, "x")


@pytest.mark.parametrize("text,value", [("1", 1.0), ("1.5s", 1.5), ("200ms", 0.2), ("2m", 120.0), ("1h", 3600.0), ("1d", 86400.0),
                                        (3, 3.0), (0.25, 0.25), ("1 S", 1.0)])
def test_a_time(text, value):
    assert units.duration(text, "x") == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "s", "1x", "1.2.3", "-1", "1e3", "inf", "nan", None, True, [], "1:30"])
def test_what_is_no_time(text):
    assert "write it like 1.5s" in refused("x=%r: " % (text,), units.duration, text, "x").line()


@pytest.mark.parametrize("value,words", [(0, "more than 0"), ("0", "more than 0"), (-1, "more than 0"), (float("nan"), "more than 0"),
                                         (float("inf"), "ten years"), ("99999h", "ten years"), (10 ** 400, "not a time"),
                                         ("9" * 400, "ten years")])
def test_a_time_out_of_range(value, words):
    refused(words, units.duration, value, "x")


def test_zero_seconds_where_they_mean_something():
    assert units.duration("0", "grace", zero=True) == 0.0
    refused("less than 0", units.duration, -1, "grace", zero=True)


@pytest.mark.parametrize("value,text", [(1 << 30, "1G"), (256 << 20, "256M"), (1000, "1000"), (4096, "4K"), (3 << 40, "3T"),
                                        ((1 << 30) + 1, "1073741825"), (0, "0")])
def test_a_size_for_people(value, text):
    assert units.human(value) == text


# The whole request

def test_the_defaults():
    made = Spec(CMD, environ={})
    assert made.argv == [b"true"] and made.ro == made.rw == made.copy == made.tmpfs == []
    assert (made.here, made.tty, made.chdir, made.hostname, made.user, made.timeout) == (False, False, None, None, None, None)
    assert (made.grace, made.proc, made.rlimit, made.cap_add, made.unsafe_without) == (0.5, "pid", {}, frozenset(), frozenset())
    assert made.env == {b"PATH": values.PATH, b"HOME": b"/root", b"LANG": b"C.UTF-8", b"TERM": b"dumb"}
    assert made.home == b"/root"


def test_nothing_of_the_callers_environment_but_a_plain_terminal_name():
    assert Spec(CMD, environ={"TERM": "xterm-256color", "SECRET": "x"}).env[b"TERM"] == b"xterm-256color"
    made = Spec(CMD, environ={"TERM": "x;rm", "SECRET": "x", "HOME": "/home/me", "PATH": "/evil"})
    assert made.env[b"TERM"] == b"dumb" and b"SECRET" not in made.env and made.env[b"PATH"] == values.PATH


def test_the_real_environment_is_the_default(monkeypatch):
    monkeypatch.setenv("MRUNC_TEST", "from outside")
    assert Spec(CMD, env=["MRUNC_TEST"]).env[b"MRUNC_TEST"] == b"from outside"
    assert refused("has no such variable", env=["A B"]).remedy == "to set it: env='A B=VALUE'"


def test_the_command():
    assert Spec(["a", b"b\xff", "c\udcff", "", "-x"]).argv == [b"a", b"b\xff", b"c\xff", b"", b"-x"]
    assert "run [options]" in refused("no command", []).remedy
    refused("list of arguments", "true")
    refused("list of arguments", b"true")
    refused("not a path or text", [1])
    refused("NUL byte", ["a\0b"])
    error = refused("argument 1: 131072 bytes long; the kernel takes at most 131071", ["x", b"y" * 131072])
    assert error.remedy.endswith("bring it in with copy")
    assert len(Spec([b"y" * 131071]).argv[0]) == 131071


def test_text_that_the_locale_cannot_encode(monkeypatch):
    def ascii_only(value):
        if isinstance(value, bytes):
            return value
        return value.encode("ascii", "surrogateescape")
    monkeypatch.setattr(os, "fsencode", ascii_only)
    assert Spec(["\u00e9\udcff"]).argv == [b"\xc3\xa9\xff"]


@pytest.mark.parametrize("text,parts", [(b"a", [b"a"]), (b"a:b", [b"a", b"b"]), (b"a\\:b", [b"a:b"]), (b"a\\\\:b", [b"a\\", b"b"]),
                                        (b"a\\b:c", [b"a\\b", b"c"]), (b":", [b"", b""]), (b"a\\", [b"a\\"]),
                                        (b"a:b:c", [b"a", b"b", b"c"])])
def test_pairs_in_one_text(text, parts):
    assert values.split_pair(text) == parts


def test_sources_and_destinations(tmp_path, monkeypatch):
    monkeypatch.chdir(str(tmp_path))
    here = os.fsencode(str(tmp_path))
    made = Spec(CMD, ro=["/a", "/a//c/:/b/./d/", "rel", ("/x:y", "/z:w"), (b"/q", None)], rw="/r")
    assert made.ro == [(b"/a", b"/a"), (b"/a//c/", b"/b/d"), (b"rel", here + b"/rel"), (b"/x:y", b"/z:w"), (b"/q", b"/q")]
    assert made.rw == [(b"/r", b"/r")]
    assert Spec(CMD, ro="../up").ro[0][1] == os.path.dirname(here) + b"/up"


@pytest.mark.parametrize("options,words", [
    ({"ro": ["a:b:c"]}, "more than one colon"), ({"ro": [":/x"]}, "the source is empty"), ({"ro": ["/x:"]}, "the destination is empty"),
    ({"ro": ["/x:y"]}, "must be absolute"), ({"ro": ["/x:/a/../b"]}, "can't hold .."), ({"ro": ["/x:/"]}, "the root itself"),
    ({"ro": [("a", "b", "c")]}, "a pair is"), ({"ro": ["/x:/proc"]}, "mrunc's own"), ({"ro": ["/x:/sys/y"]}, "mrunc's own"),
    ({"ro": ["/x:/dev"]}, "mrunc's own"), ({"ro": ["/x:/dev/null"]}, "mrunc's own"), ({"rw": ["/proc"]}, "mrunc's own"),
    ({"ro": ["/x:/" + "a" * 256]}, "too long"), ({"ro": ["/x:/" + "a/" * 2001]}, "too long"), ({"ro": ["/"]}, "the root itself"),
    ({"copy": ["/a/."]}, None), ({"copy": ["/"]}, "names a directory"), ({"copy": [".."]}, "names a directory"),
    ({"copy": ["f:g"]}, "must be absolute"), ({"copy": ["f:/proc/x"]}, "mrunc's own"),
    ({"chdir": "x"}, "must be absolute"), ({"chdir": "/a/.."}, "can't hold .."), ({"chdir": "/a\0"}, "NUL byte"),
    ({"ro": ["/a:/x"], "rw": ["/b:/x"]}, "/x: named twice"), ({"tmpfs": ["/x"], "ro": ["/a:/x/"]}, "/x: named twice"),
    ({"here": True, "tmpfs": ["/box"]}, "/box: named twice"), ({"tmpfs": ["x"]}, "must be absolute"),
    ({"tmpfs": ["/x=0"]}, "more than 0"), ({"tmpfs": ["/x=y"]}, "not a size"),
    ({"hostname": ""}, "1 to 64"), ({"hostname": "a" * 65}, "1 to 64"), ({"hostname": "a b"}, "1 to 64"),
    ({"hostname": "\u00e9"}, "1 to 64"), ({"proc": "half"}, "one of: full, none"), ({"timeout": 0}, "more than 0"),
    ({"grace": "x"}, "not a time"),
])
def test_what_is_refused(options, words):
    if words is None:
        assert Spec(CMD, **options).copy == [(b"/a/.", b"/box/a")]
    else:
        refused(words, CMD, **options)


def test_a_relative_source_without_a_current_directory(monkeypatch):
    def gone():
        raise FileNotFoundError(2, "No such file or directory")
    monkeypatch.setattr(os, "getcwdb", gone)
    refused("the current directory is gone", CMD, ro=["x"])
    assert Spec(CMD, ro=["x:/y"]).ro == [(b"x", b"/y")]


def test_copies_and_tmpfs():
    made = Spec(CMD, copy=["/a/b/sample.exe", "x:/opt/y", ("p:q", "/t")], tmpfs=["/x", "/y=5M", ("/z", 100), "/a=b=1K", "/dev/shm=1M"])
    assert made.copy == [(b"/a/b/sample.exe", b"/box/sample.exe"), (b"x", b"/opt/y"), (b"p:q", b"/t")]
    assert made.tmpfs == [(b"/x", 1 << 30), (b"/y", 5 << 20), (b"/z", 100), (b"/a=b", 1024), (b"/dev/shm", 1 << 20)]
    assert Spec(CMD, here=True, chdir="/box/./x/").chdir == b"/box/x"


def test_the_identity_inside():
    assert Spec(CMD, user="1000").user == (1000, 1000) and Spec(CMD, user="1000:100").user == (1000, 100)
    assert Spec(CMD, user=5).user == (5, 5) and Spec(CMD, user=(1, 2)).user == (1, 2)
    made = Spec(CMD, user="1000")
    assert made.home == b"/home/user" and made.env[b"HOME"] == b"/home/user"
    assert Spec(CMD, user="0:5").home == b"/root"
    for value in ("root", "", ":", "1:", "-1", "+1", "1.0", (1, "x"), ("-1",), (1, None)):
        refused("write it as numbers", CMD, user=value)
    for value in ("65534", "1:65534", "4294967295", (-1, 0), (1, 2, 3), "1:2:3", ()):
        refused("user=", CMD, user=value)


def test_capabilities_by_name():
    assert Spec(CMD, cap_add=["net_raw", "CAP_CHOWN", "Cap_Kill"]).cap_add == frozenset([13, 0, 5])
    assert Spec(CMD, cap_add="chown").cap_add == frozenset([0])
    refused("no such capability", CMD, cap_add=["flying"])
    refused("never given", CMD, cap_add=["CAP_SYS_ADMIN"])


def test_resource_limits():
    made = Spec(CMD, rlimit=["nofile=64", "RLIMIT_AS=1G", "cpu=1:2", "stack=unlimited", "nproc=0:infinity"])
    assert made.rlimit == {"nofile": (64, 64), "as": (1 << 30, 1 << 30), "cpu": (1, 2),
                           "stack": (values.RLIMIT_INFINITY, values.RLIMIT_INFINITY), "nproc": (0, values.RLIMIT_INFINITY)}
    assert Spec(CMD, rlimit={"nofile": 5, "fsize": "1M", "nice": (1, 2)}).rlimit == {
        "nofile": (5, 5), "fsize": (1 << 20, 1 << 20), "nice": (1, 2)}
    assert Spec(CMD, rlimit=[("nofile", "7")]).rlimit == {"nofile": (7, 7)}
    for value, words in (("nofile", "NAME=VALUE"), ("bogus=1", "no such limit"), ("core=1", "always off"), ("nofile=9:3", "above the hard"),
                         ("nofile=1:2:3", "VALUE or SOFT:HARD"), ("nofile=x", "a whole number"), ("nofile=-1", "a whole number"),
                         ("nofile=%d" % HUGE, "a whole number"), ("as=x", "not a size"), ("nofile=unlimited:3", "above the hard")):
        refused(words, CMD, rlimit=[value])


def test_the_system_call_policy():
    assert (Spec(CMD).seccomp, Spec(CMD).seccomp_add) == ("default", [])
    made = Spec(CMD, seccomp=b"a/b.json", seccomp_add="ioctl:  arg1 ==\t5")
    assert (made.seccomp, made.seccomp_add) == ("a/b.json", ["ioctl: arg1 == 5"])
    assert Spec(CMD, seccomp_add=["clone3", b"bpf"]).seccomp_add == ["clone3", "bpf"]
    refused("the name is empty", CMD, seccomp="")
    refused("expected NAME", CMD, seccomp_add=" ")
    refused("not a path or text", CMD, seccomp=5)
    refused("NUL byte", CMD, seccomp_add="a\0")
    refused("contradicts seccomp", CMD, seccomp="default", unsafe_without="seccomp")
    refused("contradicts seccomp_add", CMD, seccomp_add="bpf", unsafe_without="seccomp")


def test_controls_left_out():
    made = Spec(CMD, unsafe_without=["seccomp,caps", "landlock fds"])
    assert made.unsafe_without == frozenset(["seccomp", "caps", "landlock", "fds"])
    refused("no such control", CMD, unsafe_without="magic")
    for name in ("userns", "mountns", "pidns", "uidmap", "mounts", "dev", "cwd", "propagation", "groups"):
        refused("can't be left out", CMD, unsafe_without=name)
    for name, others in ((row.name, row.needed_by) for row in CONTROLS.values() if row.needed_by):
        error = refused("can't be had without it", CMD, unsafe_without=name)
        assert error.remedy.endswith("unsafe_without=%r" % ",".join((name,) + others))
        assert Spec(CMD, unsafe_without=[name] + list(others)).unsafe_without == frozenset((name,) + others)


def test_variables():
    made = Spec(CMD, env=["A=1", "B=x=y", "C=", ("D", "4"), "E", b"F=\xff"], environ={"E": "outer"})
    assert [made.env[name] for name in (b"A", b"B", b"C", b"D", b"E", b"F")] == [b"1", b"x=y", b"", b"4", b"outer", b"\xff"]
    made = Spec(CMD, env={"PATH": "/x", "G": "7"}, environ={})
    assert made.env[b"PATH"] == b"/x" and made.env[b"G"] == b"7"
    error = refused("no such variable", CMD, env=["NOT"], environ={})
    assert error.remedy == "to set it: env='NOT=VALUE'"
    refused("a variable needs a name", CMD, env=[""], environ={})
    for env in (["=x"], {"": "x"}, {"A=B": "x"}):
        refused("a variable needs a name", CMD, env=env)
    refused("longer than the kernel takes", CMD, env=["A=" + "x" * 131069])
    assert len(Spec(CMD, env=["A=" + "x" * 131068]).env[b"A"]) == 131068
    refused("NUL byte", CMD, env={"A": "x\0y"})
    refused("not a path or text", CMD, env={"A": 5})


# What is one of a few

@pytest.mark.parametrize("name", ["harden", "here", "tty", "samples", "changes", "ledger"])
def test_a_switch_is_on_or_off(name):
    """A text would be taken for on, whatever it says."""
    refused("it is True or False", CMD, **{name: "no"})


def test_the_names_of_tiers():
    assert Spec(CMD, tier="rootns, full").tier == ("rootns", "full") and Spec(CMD, tier=()).tier == ("full",)
    assert "full rootns process" in refused("no such tier", CMD, tier="fool").remedy
    refused("named twice", CMD, tier=("full", "full"))
    refused("it is one of: exec", CMD, trace="open")


def test_what_a_warm_sandbox_is_used_for():
    made = Spec(CMD, timeout=9, environ={})
    assert made.begin(["echo", b"x"], {"A": "1"}, None, {}) == {b"A": b"1"}
    assert (made.argv, made.timeout) == ([b"echo", b"x"], 9.0)
    assert made.begin(CMD, None, "2s", {}) == {} and made.timeout == 2.0
    refused("timeout='soon'", made.begin, CMD, None, "soon", {})


def test_a_name_that_is_no_option_is_told_with_the_nearest():
    spec.known(["timeout", "ro"])
    assert "unknown option timeuot (did you mean timeout?)" in refused("unknown option", spec.known, ["ro", "timeuot"]).line()


@pytest.mark.parametrize("name", spec.NAMES)
def test_a_value_of_another_kind_is_a_mistake_of_the_caller(name):
    """And no error of ours."""
    for value in (True, 1, 1.5, [1], [None], {"a": 1}, [("a",)], [("a", "b", "c")], [[]], {1: 2}, [(1, 2)], float("nan")):
        try:
            Spec(CMD, environ={}, **{name: value})
        except SandboxError as error:
            assert error.status == 2, (value, error)


def test_the_help_of_run_names_every_option():
    """samples and ledger are what --report and --ledger are on a command line."""
    text = mrunc.run.__doc__
    assert [name for name in spec.NAMES if not re.search(r"\b%s\b" % name, text)] == []


# The one error type

def test_an_error_is_one_line_with_what_is_known():
    assert SandboxError("step", "what", 2).line() == "step: what: No such file or directory"
    assert SandboxError("step", "what", reason="why").line() == "step: what: why"
    assert SandboxError("step", "what").line() == "step: what"
    error = SandboxError("step", "what", 5, remedy="try", control="caps", status=126)
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == "step: what: Input/output error; remedy: try" and str(SandboxError("step", "what")) == "step: what"
    assert (again.line(), again.errno, again.remedy, again.control, again.status) == (error.line(), 5, "try", "caps", 126)
    assert SandboxError("step", "what").status == 125 and usage("what").status == 2
    assert mrunc.SandboxError is SandboxError
