# SPDX-License-Identifier: Apache-2.0
"""The pages are true: every command and every program in README and docs/ is run and prints what stands there, as a
user and, with the oldest Python, as root; every link leads somewhere; every name exists."""
import glob
import os
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import PYTHON, ROOT, copy_tool, make_inside, pythons

FOUND = dict(pythons())
OLDEST, NEWEST = sorted(FOUND, key=lambda v: [int(p) for p in v.split(".")])[0], PYTHON
PAGES = sorted(os.path.relpath(path, ROOT) for pattern in ("*.md", "docs/*.md") for path in glob.glob(os.path.join(ROOT, pattern)))
FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.S | re.M)
#: A program that a later command starts begins with its name; any other is run where it stands.
NAMED = re.compile(r"# (\w+\.py)\n")


def text_of(page):
    with open(os.path.join(ROOT, page), encoding="utf-8") as stream:
        return stream.read()


def steps(page):
    """[(command for bash, expected output)] of a page's blocks, in order.

    console: `$ ` and what follows with `> ` is a command, everything else output.  python: a program; a block `text` that
    follows is its output.
    """
    out = []
    for language, block in FENCE.findall(text_of(page)):
        if language == "console":
            for line in block.splitlines():
                if line.startswith("$ "):
                    out.append([line[2:], ""])
                elif line.startswith("> "):
                    out[-1][0] += "\n" + line[2:]
                else:
                    out[-1][1] += line + "\n"
        elif language == "python":
            named = NAMED.match(block)
            name = named.group(1) if named else "example.py"
            out.append(["cat > %s <<'END OF BLOCK'\n%sEND OF BLOCK\n%s" % (name, block, "" if named else "python3 " + name), ""])
        elif language == "text":
            out[-1][1] += block
    return out


EXECUTED = [page for page in PAGES if steps(page)]


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """A checkout called mrunc, as far as a reader needs one."""
    folder = str(tmp_path_factory.mktemp("docs") / "mrunc")
    os.mkdir(folder)
    copy_tool(folder)
    for name in ("LICENSE", "Makefile"):
        shutil.copy(os.path.join(ROOT, name), folder)
    shutil.copytree(os.path.join(ROOT, ".ci"), os.path.join(folder, ".ci"), ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
    return folder


@pytest.fixture(scope="session")
def readable_pythons(public_folder):
    """The oldest interpreter where everybody can read it: pyenv keeps it in root's home."""
    path = FOUND[OLDEST]
    prefix = os.path.dirname(os.path.dirname(os.path.realpath(path)))
    if prefix == "/usr":
        return {"oldest": path, "newest": NEWEST}
    copy = os.path.join(public_folder, "python-" + OLDEST)
    shutil.copytree(prefix, copy, symlinks=True,
                    ignore=shutil.ignore_patterns("test", "tests", "site-packages", "idlelib", "config-3*", "*.a", "share"))
    return {"oldest": os.path.join(copy, "bin", "python3"), "newest": NEWEST}


def play(inside, checkout, python, page):
    """[(command, what should be printed, what was)] of a page, up to a difference."""
    shutil.copytree(checkout, os.path.join(inside.scratch, "mrunc"))
    programs = tempfile.mkdtemp(dir=os.path.dirname(inside.scratch))
    os.symlink(python, os.path.join(programs, "python3"))
    os.chmod(programs, 0o755)
    environment = {"PATH": programs + ":/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "TERM": "xterm",
                   "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1",
                   # The copy's loader path still names the place it was built for.
                   "LD_LIBRARY_PATH": os.path.dirname(os.path.dirname(python)) + "/lib"}
    out = []
    for command, expected in steps(page):
        done = inside.outside(["bash", "-c", command], env=environment, stderr=subprocess.STDOUT)
        out.append((command, expected, done.stdout))
        if done.stdout != expected:
            break
    return out


@pytest.fixture(scope="module")
def played(request, tool_folder, checkout, readable_pythons):
    """{(who, page, which Python): Future of what `play` returns}, of the pages chosen for this run.  Four at a time: they share
    nothing, and a deadline that is waited for takes no processor."""
    out = {}
    with ThreadPoolExecutor(4) as pool:
        for item in request.session.items:
            if "played" in item.fixturenames:
                who, page, which = [item.callspec.params[name] for name in ("inside", "page", "which")]
                out[who, page, which] = pool.submit(play, make_inside(who, tool_folder), checkout, readable_pythons[which], page)
    return out


@pytest.mark.parametrize("which", [pytest.param("oldest", marks=pytest.mark.once(who="root")),
                                   pytest.param("newest", marks=pytest.mark.once)])
@pytest.mark.parametrize("page", EXECUTED)
def test_every_block_prints_what_stands_there(inside, played, page, which):
    found = played[inside.who, page, which].result()
    for command, expected, printed in found:
        assert printed == expected, command
    assert len(found) == len(steps(page))


def test_the_pages_with_blocks_are_executed():
    assert {"README.md", "docs/tutorial.md", "docs/howto.md", "docs/result.md"} <= set(EXECUTED)
    assert len(steps("README.md")) >= 8 and len(steps("docs/tutorial.md")) >= 8


@pytest.mark.parametrize("page", PAGES)
def test_no_block_is_of_a_kind_that_nobody_runs(page):
    text, before = text_of(page), None
    assert text.count("```") == 2 * len(FENCE.findall(text))
    for language, block in FENCE.findall(text):
        if page not in ("CONTRIBUTING.md",):
            assert language in ("console", "python") or language == "text" and before == "python", (language, block)
        before = language


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", text_of(page)):
        if not target.startswith("https://"):
            path, _, part = target.partition("#")
            other = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
            assert os.path.exists(os.path.join(ROOT, other)), target
            headings = [re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
                        for line in text_of(other).splitlines() if line.startswith("#")] if part else [part]
            assert part in headings, target


def test_every_page_is_reached_from_the_readme():
    seen, rest = set(), ["README.md"]
    while rest:
        page = rest.pop()
        seen.add(page)
        rest += [found for found in (os.path.normpath(os.path.join(os.path.dirname(page), target.partition("#")[0]))
                                     for target in re.findall(r"\]\(([^)]+)\)", text_of(page)))
                 if found in PAGES and found not in seen]
    assert set(PAGES) - seen == set()


#: These name options of other programs too.
FOREIGN = {"CONTRIBUTING.md", "CHANGELOG.md", "docs/policy.md", "docs/coverage.md", "docs/benchmarks.md"}


@pytest.mark.parametrize("page", sorted(set(PAGES) - FOREIGN))
def test_no_page_names_an_option_that_does_not_exist(page):
    import mrunc  # noqa: F401  registers the package
    from mrunc.commands.doctor import doctor
    from mrunc.commands.policy import policy
    from mrunc.commands.report import report
    from mrunc.commands.rootfs import rootfs
    from mrunc.commands.selftest import selftest
    from mrunc.commands.options import OPTIONS
    names = {name for option in OPTIONS + doctor.OPTIONS + rootfs.OPTIONS + selftest.OPTIONS + policy.OPTIONS + report.OPTIONS
             for name in option.names} | {"--version", "--man", "--completion"}
    # isolate's, df's in what is run, and sbatch's.
    names |= {"docs/howto.md": {"--stack"}, "docs/layers.md": {"--output"}, "docs/cluster.md": {"--array", "--wrap"}}.get(page, set())
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text_of(page))) <= names


# The reference says what the code says

def table(page, heading):
    """[[cell, ...]] of the first table below a heading."""
    below = ("\n" + text_of(page)).split("\n" + heading + "\n", 1)[1]
    rows = re.search(r"(?:^\|.*\n)+", below, re.M).group(0).splitlines()[2:]
    return [re.split(r"\s*\|\s*", row)[1:-1] for row in rows]


def names_in(rows):
    """The names in the first cells."""
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row[0])]


def test_the_result_has_the_fields_that_the_page_names():
    from mrunc.sandbox import controls
    from mrunc.sandbox.result import result
    assert names_in(table("docs/result.md", "# The result")) == list(result.FIELDS)
    assert sorted(names_in(table("docs/result.md", "## Usage"))) == sorted(result.USAGE)
    row, = [row for row in table("docs/result.md", "# The result") if row[0] == "`controls`"]
    assert set(re.findall("`([a-z_]+)`", row[1])) == set(controls.Control.__slots__)


def test_a_run_ends_for_the_reasons_that_the_page_names():
    from mrunc.sandbox.result.reasons import REASONS
    given = re.findall(r'\.set\(\s*"([a-z-]+)"', text_of("sandbox/result/verdict.py")) + ["setup", "exec"]
    assert names_in(table("docs/result.md", "## Reasons")) == list(REASONS)
    assert sorted(REASONS) == sorted(set(given))


def test_the_exit_statuses_are_those_of_the_help():
    from mrunc.commands.help import EXITS as EXIT
    assert table("docs/result.md", "## Exit status") == [list(row) for row in EXIT]


def test_a_sample_has_the_keys_that_the_page_names():
    from mrunc.sandbox.result import schema
    assert names_in(table("docs/result.md", "## Samples")) == list(schema.SAMPLE["properties"])


def test_a_change_has_the_keys_that_the_page_names(tmp_path):
    from mrunc.sandbox.changes import compare
    (tmp_path / "file").write_text("")
    (tmp_path / "file").chmod(0o4755)
    os.link(str(tmp_path / "file"), str(tmp_path / "other"))
    (tmp_path / "link").symlink_to("file")
    states = [compare.State(os.lstat(str(tmp_path / name))) for name in ("file", "link")]
    states[0].why, states[1].target = "unread", b"file"
    keys = set()
    for change, before, after in (("added", None, states[0]), ("modified", states[0], states[1]), ("deleted", states[1], None)):
        row = compare.record(b"/x", change, before, after)
        keys |= set(row)
        assert set(row.get("was", ())) <= {"kind", "mode", "size", "sha256"}
    assert set(names_in(table("docs/result.md", "## Changes"))) == keys


def test_the_readme_counts_ways_to_the_host_as_the_page_beside_other_sandboxes_does():
    rows = [(row[0], [int(part) for part in row[1].split(" of ")]) for row in table("docs/layers.md", "## Beside other sandboxes")]
    assert {reached for name, (reached, _) in rows if name.startswith("mrunc")} == {0}
    others = [reached for name, (reached, _) in rows if not name.startswith("mrunc")]
    (tried,) = {tried for _, (_, tried) in rows}
    told = re.search(r"None of (\d+) probes of the host's integrity .*?(\d+) to (\d+) ",
                     text_of("README.md"), re.S)
    assert [int(number) for number in told.groups()] == [tried, min(others), max(others)]


def test_every_control_is_explained_and_nothing_else():
    from mrunc.sandbox.controls import CONTROLS
    rows = table("docs/layers.md", "# The layers, and why each default is what it is")
    assert {name for row in rows for name in re.findall("`([^`]+)`", row[1])} == set(CONTROLS)
    assert all(len(row) == 4 and row[2] and row[3] for row in rows)


def test_a_row_of_the_ledger_has_the_fields_that_the_page_names():
    from mrunc.sandbox.result import schema
    assert names_in(table("docs/ledger.md", "## A row")) == list(schema.REFUSED["properties"])


def test_the_page_names_every_quiet_call_and_every_one_of_high_risk():
    from mrunc.sandbox.seccomp import arms
    for heading, rows in (("## Blind spots", arms.QUIET), ("## Calls of high risk", arms.HIGH_RISK)):
        assert [(" ".join(re.findall("`([^`]+)`", row[0])), row[1]) for row in table("docs/ledger.md", heading)] == [
            (names, reason) for reason, names in rows]


def test_the_bounds_of_the_ledger_are_those_of_the_page():
    from mrunc.sandbox.observe import ledger, ledger_stream
    text = text_of("docs/ledger.md")
    for told in ("- %d rows in all, an eighth of them" % ledger.CAP, "- %d calls are answered at full speed, then %d in a second" % (
            ledger.BURST, ledger.PACE), "kept up to %d MiB" % (ledger_stream.BACKLOG >> 20)):
        assert told in text
    assert ledger.SHARE == 8 and ledger.AGAIN == 10
