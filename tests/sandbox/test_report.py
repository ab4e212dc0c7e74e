# SPDX-License-Identifier: Apache-2.0
"""`mrunc report`: what a result says is shown to people, and a result that was made to deceive them or their browser is only text."""
import html.parser
import json
import os
import re
import sys

import pytest

import mrunc  # noqa: F401  registers the package
from mrunc.commands.report import bounds, charts, html as report_html, report, text as report_text
from mrunc.commands.output import escaped
from mrunc.commands.report import story
from mrunc.sandbox.errors import SandboxError
from mrunc.sandbox.result.reasons import REASONS
from test_schema import PROCESS, ROW, SAMPLE, sample_result

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)> \"' &lt;\x1b[31m\u202egpj.exe\u2066\x07\n</style></title>-->\udcff\u200b"


def full(**changed):
    """A result with rows of every kind."""
    made = sample_result(
        argv=["./sample", "--install"], started="2026-01-02T03:04:05.678Z", kernel="6.12.0", machine="x86_64",
        policy={"name": "default", "sha256": "9c" * 32}, refused=[ROW, dict(ROW, syscall="bpf", args={"cmd": "BPF_PROG_LOAD"})],
        processes=[PROCESS, dict(PROCESS, pid=3, parent=2, argv=["whoami"], exe="/usr/bin/whoami", started_s=0.5, ended_s=0.75)],
        samples=[dict(SAMPLE, t_s=number / 10, cpu_s=number / 20, memory_bytes=number << 20) for number in range(20)],
        changes=[{"path": "/root/.bashrc", "change": "modified", "kind": "file", "mode": "0644", "size": 5, "blocks_bytes": 4096,
                  "sha256": "ab" * 32, "magic": "text"}],
        controls=[{"name": "seccomp", "asked": True, "in_force": True, "how": "Seccomp: 2"},
                  {"name": "timens", "asked": True, "in_force": False, "how": "this kernel does not have it"},
                  {"name": "sweep", "asked": False, "in_force": False, "how": "the pid namespace ends everything"}],
        notes=["a note"], limits_hit={"timeout": 2.0})
    made["usage"].update(wall_s=2.0, user_s=0.9, system_s=0.1, max_rss_bytes=20 << 20)
    made.update(changed)
    return made


def hostile():
    """The same with EVIL wherever a program can put text, and in the rest too."""
    return full(
        argv=[EVIL, "x" * 5000 + EVIL], reason=EVIL, detail=EVIL, advice=EVIL, evidence=[EVIL], tier=EVIL, started=EVIL, kernel=EVIL, version=EVIL,
        machine=EVIL, policy={"name": EVIL, "sha256": EVIL}, notes=[EVIL], limits_hit={EVIL: EVIL},
        controls=[{"name": EVIL, "asked": True, "in_force": False, "how": EVIL}],
        refused=[dict(ROW, syscall=EVIL, exe=EVIL, errno=EVIL, args={EVIL: EVIL, "b": {"c": {"unreadable": EVIL}}})],
        processes=[dict(PROCESS, exe=EVIL, argv=[EVIL], cwd=EVIL, sha256=EVIL)],
        changes=[{"path": "/box/" + EVIL, "change": EVIL, "kind": EVIL, "mode": EVIL, "sha256": EVIL, "magic": EVIL, "target": EVIL}])


class Page(html.parser.HTMLParser):
    """What a browser would make of the page: tags, attributes, texts."""

    def __init__(self, text):
        html.parser.HTMLParser.__init__(self, convert_charrefs=True)
        self.tags, self.attributes, self.text, self.style, self.open = set(), [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        (self.style if self.open[-1:] == ["style"] else self.text).append(data)


TAGS = set("html head meta title style body main p header section div span h1 h2 h3 code dl dt dd i b br table thead tbody tr th td "
           "ul li svg rect line polygon polyline text footer".split())


@pytest.mark.parametrize("result", [full(), hostile(), sample_result()], ids=["full", "hostile", "bare"])
def test_the_page_has_no_script_no_event_and_no_address(result):
    text = report_html.page(result)
    page = Page(text)
    assert page.tags <= TAGS and not page.open
    for tag, name, value in page.attributes:
        assert not name.startswith("on") and name not in ("href", "src", "style", "srcset", "action", "xlink:href"), (tag, name)
    assert not re.search(r"url\(|@import|expression|javascript:", "".join(page.style))
    assert "://" not in re.sub(r"<[iI][^>]*>|</[iI]>", "", text)
    policy, = [value for tag, name, value in page.attributes if tag == "meta" and name == "content" and "default-src" in value]
    assert re.sub("sha256-[A-Za-z0-9+/=]{44}'", "HASH'", policy) == \
        "default-src 'none'; style-src 'HASH'; base-uri 'none'; form-action 'none'"
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)


def test_the_style_is_the_one_that_the_policy_lets_in():
    import base64
    import hashlib
    text = report_html.page(full())
    style = re.search("<style>(.*)</style>", text, re.S).group(1)
    assert "sha256-%s" % base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in text


def test_what_is_shown_is_what_the_program_said_and_nothing_else():
    seen = "".join(Page(report_html.page(hostile())).text)
    wanted = escaped(EVIL)
    assert wanted in seen and seen.count("alert('x')") > 15
    for shown in (report_html.show(EVIL), report_html.code(EVIL)):
        assert "".join(Page(shown).text) == wanted
    lines = report_text.text(hostile())
    assert "alert('x')" in lines and not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\udc80-\udcff]", lines)


def test_a_long_argument_is_cut_in_the_page_and_in_the_text():
    result = full(argv=["x" * 100000])
    assert "characters left out" in report_html.page(result) and len(report_html.page(result)) < 60000
    assert len(report_text.text(result)) < 20000


def test_a_control_that_was_left_out_stands_out(inside):
    path = os.path.join(inside.scratch, "result.json")
    assert inside.outside(inside.command("true", options=["--report", path, "--unsafe-without", "landlock,landlock-signals"])).returncode == 0
    result = report.read(path)
    text, page = report_text.text(result), report_html.page(result)
    assert "weakened: without landlock, landlock-signals, as --unsafe-without asked" in text and "  NOT landlock: left out by" in text
    assert page.count("&#10007; NO") == 2 and "Without landlock, landlock-signals, as --unsafe-without asked" in page
    assert "weakened" not in report_text.text(full()).lower() and "Weakened" not in report_html.page(full())


def test_long_lists_are_cut_and_say_so():
    many = full(refused=[dict(ROW, pid=number) for number in range(3000)], processes=[dict(PROCESS, pid=number)
                for number in range(10, 3010)], changes=full()["changes"] * 3000)
    page, text = report_html.page(many), report_text.text(many)
    assert page.count("2000 calls not shown") == page.count("2000 programs not shown") == page.count("2000 changes not shown") == 1
    assert len(re.findall(r"and 2960 [a-z ]+ more", text)) == 3 and len(text.splitlines()) < 250


@pytest.mark.parametrize("result", [full(), hostile(), sample_result()])
def test_the_text_fits_a_terminal_and_has_colours_only_where_asked(result):
    text = report_text.text(result)
    assert all(len(line) <= report_text.WIDTH for line in text.splitlines()) and "\x1b" not in text
    coloured = report_text.text(result, colour=True)
    assert "\x1b[" in coloured and re.sub("\x1b\\[[0-9]*m", "", coloured) == text


def test_everything_that_the_result_knows_is_told():
    text, page = report_text.text(full()), "".join(Page(report_html.page(full())).text)
    for words in ("exited", "./sample --install", "6.12.0", "default", "T1055.008", "Ptrace System Calls", "PTRACE_ATTACH", "EPERM",
                  "whoami", "/root/.bashrc", "T1546.004", "timens", "this kernel does not have it", "a note", "timeout 2.0"):
        assert words in text and words in page, words
    assert "9c" * 32 in page and "9c" * 32 in text
    bare = sample_result()
    for shown in (report_text.text(bare), "".join(Page(report_html.page(bare)).text)):
        assert "exited" in shown and "efused" not in shown and "executed" not in shown


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_every_reason_has_its_weight_on_the_page(reason):
    assert 'class="pill %s">%s<' % (REASONS[reason][1], reason) in report_html.page(full(reason=reason))


def test_the_tree_holds_every_process_once_whatever_the_rows_say():
    def row(pid, parent, started, ended=None):
        return dict(PROCESS, pid=pid, parent=parent, started_s=started, ended_s=ended, argv=["%d@%s" % (pid, started)])
    rows = [row(5, 4, 3), row(2, 1, 0), row(4, 2, 1, 9), row(4, 2, 2), row(7, 7, 4), row(8, 9, 5), row(9, 8, 6), row(4, 2, 10),
            row(3, 1, None)]
    tree = story.tree(rows)
    assert sorted(id(found) for _, found, _ in tree) == sorted(map(id, rows))
    assert [(depth, found["argv"][0], again) for depth, found, again in tree] == [
        (0, "2@0", False), (1, "4@1", False), (2, "4@2", True), (3, "5@3", False), (3, "4@10", True),
        (0, "3@None", False), (0, "7@4", False), (0, "8@5", False), (1, "9@6", False)]
    chain = story.tree([row(pid, pid - 1, pid) for pid in range(2, 3000)])
    assert max(depth for depth, _, _ in chain) == story.DEEPEST and len(chain) == 2998


@pytest.mark.parametrize("most, base, wanted", [(1, 1, 1), (0.03, 1, 0.05), (7, 1, 10), (230 << 20, 1024, 500 << 20), (0.9, 1024, 1),
                                                (1000 << 20, 1024, 1 << 30), (3, 1, 5), (1e9, 1, 1e9)])
def test_a_scale_ends_at_a_round_number_above(most, base, wanted):
    assert charts.ceiling(most, base) == pytest.approx(wanted) and wanted >= most


def test_samples_give_processors_in_use():
    rows = [dict(SAMPLE, t_s=0.0, cpu_s=0.0), dict(SAMPLE, t_s=1.0, cpu_s=2.0), dict(SAMPLE, t_s=1.0, cpu_s=2.0),
            dict(SAMPLE, t_s=2.0, cpu_s=1.0), dict(SAMPLE, t_s=3.0, cpu_s=None)]
    assert charts.processors(rows) == [(0.0, 2.0), (1.0, 2.0), (2.0, 0.0)]
    rows = [dict(SAMPLE, t_s=number / 20, cpu_s=number // 2 / 10) for number in range(41)]
    assert all(0.75 < rate < 1.25 for _, rate in charts.processors(rows)), "steps of the clock are evened out"
    assert charts.processors(rows[:1]) == [] and len(charts.processors(rows[:2])) == 2


def test_a_sample_of_a_program_that_was_over_by_then_is_no_memory_of_none():
    unseen = dict(SAMPLE, t_s=0.0, cpu_s=0.0, memory_bytes=0, processes=0)
    assert "While it ran" not in report_text.text(full(samples=[unseen]))
    assert "memory     1.0 MiB at most" in report_text.text(full(samples=[unseen, dict(SAMPLE, memory_bytes=1 << 20)]))


# The file

def refused(data, tmp_path):
    path = tmp_path / "result.json"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(SandboxError) as caught:
        report.read(str(path))
    assert caught.value.status == 2 and len(caught.value.line()) < 400 and "\n" not in escaped(caught.value.line())
    return caught.value.line()


@pytest.mark.parametrize("data, words", [
    ("", "not JSON"), ("{", "not JSON"), ("[]", "it is no object"), ("null", "it is no object"), ("{}", "it has no schema"), ("\xff", "not JSON"),
    (b"\xff\xfe", "not JSON"), ("[" * 100000, "nested too deep"), ('{"a":' * 50000 + "1" + "}" * 50000, "nested too deep"),
    (json.dumps(full(schema=2)), "of schema 2"), (json.dumps(full(argv={})), "argv is no array"),
    (json.dumps(full(refused=[{}])), "refused[0] has no syscall"),
    (json.dumps(full(returncode=1)).replace('"returncode": 1', '"returncode": ' + "9" * 10000), "not JSON: an invalid number"),
    (json.dumps(full()).replace('"wall_s": 2.0', '"wall_s": NaN'), "not JSON: an invalid number"),
    (json.dumps(full()).replace('"wall_s": 2.0', '"wall_s": 1e999'), "not JSON: an invalid number"),
    (json.dumps(full()).replace('"wall_s": 2.0', '"wall_s": 1e308'), "not JSON: an invalid number"),
    (json.dumps(full(refused=[dict(ROW, args=eval("{'a':" * 20 + "1" + "}" * 20))])), "nested too deep"),
    ("[" + "[]," * 4000001 + "1]", "more than 4000000 values"),
    (" " * ((64 << 20) + 1), "longer than 64 MiB")],
    ids=lambda value: value[:24] if len(value) < 99 else "long")
def test_what_is_no_result_is_refused_in_one_line(data, words, tmp_path):
    assert words in refused(data, tmp_path)


@pytest.mark.parametrize("path", ["/nonexistent", "/", "/dev/zero", "a\0b"])
def test_a_path_that_gives_no_result_is_refused(path):
    with pytest.raises(SandboxError) as caught:
        report.read(path)
    assert caught.value.status == 2


def test_an_older_result_and_a_newer_one_can_be_read(tmp_path):
    older, newer = full(), full(reason="bored", flavour={"x": [1]})
    for name in ("samples", "processes", "policy", "kernel", "machine", "notes", "limits_hit"):
        del older[name]
    for result in (older, newer):
        (tmp_path / "result").write_text(json.dumps(result))
        read = report.read(str(tmp_path / "result"))
        assert report_html.page(read) and report_text.text(read)


def test_a_run_is_reported(inside):
    """The whole way, through the command line: a file, stdin, a page, JSON, mistakes."""
    def call(*words, **settings):
        return inside.outside(inside.command(verb="report", options=words), **settings)
    report_file, page_file = [os.path.join(inside.scratch, name) for name in ("result.json", "page.html")]
    name = "$(printf '<b>\\033[31m')"
    done = inside.outside(inside.command("sh", "-c", "echo x > \"%s\"; kill -9 $$" % name, options=[
        "--report", report_file, "--changes", os.path.join(inside.scratch, "changes")]))
    assert done.returncode == 137, done
    done = call(report_file)
    assert (done.returncode, done.stderr) == (0, "") and "killed by SIGKILL" in done.stdout and "\\x1b[31m" in done.stdout
    with open(report_file) as stream:
        text = stream.read()
    assert call("-", input=text).stdout == done.stdout
    environment = dict(os.environ, TERM="xterm")
    assert "\x1b" not in call(report_file, env=environment).stdout, "no terminal, no colour"
    done = call(report_file, "--html", page_file)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with open(page_file) as stream:
        page = Page(stream.read())
    assert "/box/<b>\\x1b[31m" in "".join(page.text) and page.tags <= TAGS
    assert call("--html", "-", report_file).stdout.startswith("<!DOCTYPE html>")
    assert json.loads(call("--json", report_file).stdout)["techniques"] == []
    for words, message in (((), "report takes one file"), ((report_file, "x"), "report takes one file"), (("/nonexistent",), "No such"),
                           ((page_file,), "not JSON"), (("--htm", "x"), "did you mean --html?")):
        done = call(*words)
        assert done.returncode == 2 and message in done.stderr and done.stdout == "" and "Traceback" not in done.stderr, done
        assert all(line.startswith("mrunc: ") for line in done.stderr.splitlines())


def test_colours_need_a_terminal_that_has_them(monkeypatch):
    monkeypatch.setattr(os, "isatty", lambda fd: True)
    for environment, wanted in (({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({"TERM": "xterm", "NO_COLOR": "1"}, False),
                                ({"TERM": "xterm", "NO_COLOR": ""}, True), ({}, False)):
        monkeypatch.setattr(os, "environ", environment)
        assert report.colour() is wanted


def test_reading_a_result_imports_nothing_of_a_run():
    assert "mrunc.sandbox.launch.run" not in report.__dict__ and sys.modules["mrunc.commands.report.report"] is report


def test_a_chart_of_next_to_nothing_is_drawn():
    samples = [{"t_s": at, "cpu_s": at * 5e-324, "memory_bytes": 0, "processes": 0} for at in (0, 1, 2)]
    assert report_html.page(full(samples=samples)).count("<svg") >= 3


def read_back(result, tmp_path):
    (tmp_path / "result").write_text(json.dumps(result))
    return report.read(str(tmp_path / "result"))


def test_of_a_result_that_is_too_large_to_read_a_part_is_read_and_the_report_says_so(tmp_path):
    change, long = full()["changes"][0], "\u202e" * 100000
    big = full(changes=[dict(change, path="/box/%d" % number) for number in range(bounds.ROWS * 2)],
               processes=[dict(PROCESS, argv=["x"] * 40) for _ in range(bounds.VALUES // 40)], detail=long,
               refused=[dict(ROW, args={long: long}), dict(ROW, args={"a": [0] * bounds.VALUES}), ROW],
               controls=[{"name": "seccomp", "asked": True, "in_force": True, "how": long}])
    result = read_back(big, tmp_path)
    assert len(result["changes"]) == bounds.ROWS and len(result["refused"]) == 1 and len(result["notes"]) == 1
    assert 0 < len(result["processes"]) < bounds.VALUES // 40
    assert max(len(result["detail"]), len(result["controls"][0]["how"]), len(next(iter(result["refused"][0]["args"])))) < 9000
    words = ["only the first %d of %d rows of changes" % (bounds.ROWS, bounds.ROWS * 2),
             "only the first 1 of 3 rows of refused", "4 texts are longer than 8192 characters"]
    assert len(result["left_out"]) == 4 and all(any(part in line for line in result["left_out"]) for part in words)
    text, page = " ".join(report_text.text(result).split()), report_html.page(result)
    assert all("cut: " + part in text and part[1:] in page for part in words)
    assert read_back(full(), tmp_path)["left_out"] == [] and "cut: " not in report_text.text(full())


def test_the_text_stays_short_whatever_is_long(tmp_path):
    """A result that names thousands of controls and limits took the text half a minute, and 60 MB."""
    control = {"name": "n" * 9000, "asked": True, "in_force": False, "how": "how " * 2000}
    made = full(controls=[control] * 300 + [dict(control, in_force=True)] * 300, detail="d " * 5000, advice="a " * 5000,
                limits_hit={"limit %d" % number: "v" * 8000 for number in range(300)}, argv=["x" * 9000] * 300,
                evidence=["e" * 9000] * 300, notes=["note " * 1600] * 300)
    path = tmp_path / "result.json"
    path.write_text(json.dumps(made))
    shown = report_text.text(report.read(str(path)))
    assert len(shown) < 1 << 20 and "and 400 controls more" in shown and "characters left out" in shown


@pytest.mark.parametrize("name", ["9" * 65, "." * 65, "9" * 64])
def test_long_digits_in_a_name_are_no_number(tmp_path, name):
    change = full()["changes"][0]
    assert read_back(full(changes=[dict(change, path=name)]), tmp_path)["changes"][0]["path"] == name
    with pytest.raises(SandboxError):
        read_back(full(changes=[dict(change, path=name)], returncode=1 << 97), tmp_path)


def test_what_stands_in_no_list_is_bounded_too(tmp_path):
    with pytest.raises(SandboxError) as caught:
        read_back(full(usage=dict.fromkeys(map(str, range(bounds.VALUES)), 1)), tmp_path)
    assert "outside lists" in caught.value.line()


def test_lengths_that_a_hostile_program_chose_can_be_read(tmp_path):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(full(refused=[dict(ROW, args={"iov": {"len": 1024 * ((1 << 64) - 1)}})])))
    result = report.read(str(path))
    assert "0x3fffffffffffffffc00" in report_text.text(result) and report_html.page(result)
