# SPDX-License-Identifier: Apache-2.0
"""What `make dist` and `make vendor` make: the same bytes every time, and what they say they hold."""
import os
import resource
import shutil
import subprocess
import sys
import zipfile

import pytest

from conftest import PYTHON, ROOT, make, pythons

sys.path.insert(0, os.path.join(ROOT, ".ci"))
import shipped


def digests(place):
    return dict(reversed(line.split()) for line in (place / "SHA256SUMS").read_text().splitlines())


@pytest.fixture(scope="module")
def unpacked(release, tmp_path_factory):
    """The source archive's content."""
    place = tmp_path_factory.mktemp("sources and more")
    found, = release.glob("*.tar.gz")
    subprocess.run(["tar", "-xf", str(found), "-C", str(place)], check=True)
    top, = place.iterdir()
    return top


def test_a_release_is_a_wheel_sources_and_a_zipapp(release):
    name = "mrunc-" + shipped.version()
    assert set(os.listdir(str(release))) == set(digests(release)) | {"SHA256SUMS"}
    assert set(digests(release)) == {name + "-py3-none-any.whl", name + ".tar.gz", "mrunc.pyz"}
    subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS"], cwd=str(release), check=True)


def test_whoever_builds_it_again_gets_the_same_bytes(release, unpacked, tmp_path):
    """From the source archive, in another directory, time zone and locale, with other modes and another hash seed."""
    before = sorted(path.name for path in unpacked.iterdir())
    environment = dict(os.environ, TZ="Asia/Tokyo", LC_ALL="C", PYTHONHASHSEED="77", SOURCE_DATE_EPOCH=str(shipped.epoch()))
    make("dist", "OUT=%s" % (tmp_path / "again"), root=unpacked, env=environment, preexec_fn=lambda: os.umask(0o077))
    assert digests(tmp_path / "again") == digests(release)
    assert sorted(path.name for path in unpacked.iterdir()) == before, "nothing is left among the sources"


def test_the_time_is_what_source_date_epoch_says(tmp_path):
    environment = dict(os.environ, SOURCE_DATE_EPOCH="1500000000")
    subprocess.run([PYTHON, os.path.join(ROOT, ".ci", "zipapp.py"), str(tmp_path / "m.pyz")], env=environment, check=True)
    with zipfile.ZipFile(str(tmp_path / "m.pyz")) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(2017, 7, 14, 2, 40, 0)}
        assert archive.testzip() is None


def test_the_zipapp_holds_what_runs_twice_and_nothing_else(release):
    with zipfile.ZipFile(str(release / "mrunc.pyz")) as archive:
        names = archive.namelist()
    assert names == sorted(["LICENSE"] + shipped.runtime_files() + [path + "c" for path in shipped.runtime_files()])
    assert os.access(str(release / "mrunc.pyz"), os.X_OK)


def test_the_zipapp_runs_its_bytecode_under_its_python_and_its_source_under_others(release, tmp_path):
    """Seen with sources that say who reads them; in a time zone in which the archive's times are other ones."""
    with zipfile.ZipFile(str(release / "mrunc.pyz")) as archive, zipfile.ZipFile(str(tmp_path / "m.pyz"), "w") as changed:
        for entry in archive.infolist():
            changed.writestr(entry, b"raise SystemExit('source')\n" if entry.filename.endswith(".py") else archive.read(entry))
    for python in [path for _, path in pythons()]:
        done = subprocess.run([python, str(tmp_path / "m.pyz"), "run", "--", "/bin/echo", "hello"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True, env=dict(os.environ, TZ="Asia/Tokyo"), cwd="/")
        expected = ("hello\n", "") if minor(python) == minor(PYTHON) else ("", "source\n")
        assert (done.stdout, done.stderr) == expected, python


def minor(python):
    """"3.12" of an interpreter."""
    return subprocess.run([python, "-I", "-S", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], check=True,
                          stdout=subprocess.PIPE, universal_newlines=True).stdout


def test_the_source_archive_is_the_whole_project(unpacked):
    for name in ("PKG-INFO", "LICENSE", "Makefile", ".ci/run", "tests/conftest.py", "docs/mrunc.1", "sandbox/init_x86_64.s"):
        assert (unpacked / name).is_file(), name
    assert "Version: %s\n" % shipped.version() in (unpacked / "PKG-INFO").read_text()
    for name in (".ci/run", "mrunc.py"):
        assert os.access(str(unpacked / name), os.X_OK), name
    assert not os.access(str(unpacked / "LICENSE"), os.X_OK)


# make vendor

def test_a_vendored_copy_is_what_runs_the_licence_and_a_line(tmp_path):
    place = tmp_path / "app" / "_vendor" / "jail"
    make("vendor", "DEST=%s" % place)
    held = sorted(os.path.relpath(os.path.join(folder, name), str(place)) for folder, _, files in os.walk(str(place))
                  for name in files)
    assert held == sorted(shipped.runtime_files() + ["LICENSE", "VERSION"])
    assert all((place / name).read_bytes() == shipped.read(name) for name in held if name != "VERSION")
    line, = (place / "VERSION").read_text().splitlines()
    assert line.split()[:2] == ["mrunc", shipped.version()]
    assert os.listdir(str(place.parent)) == ["jail"]


def test_an_older_copy_is_replaced_and_nothing_else_is(tmp_path):
    place = tmp_path / "mrunc"
    place.mkdir()
    make("vendor", "DEST=%s" % place)
    (place / "sandbox" / "long_gone.py").write_text("")
    make("vendor", "DEST=%s" % place)
    assert not (place / "sandbox" / "long_gone.py").exists() and (place / "mrunc.py").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious").write_text("mine")
    (tmp_path / "link").symlink_to(other)
    for target in ("other", "link", "other/precious"):
        with pytest.raises(AssertionError, match="remove it first"):
            make("vendor", "DEST=%s" % (tmp_path / target))
    with pytest.raises(AssertionError, match="where to"):
        make("vendor")
    assert (other / "precious").read_text() == "mine" and os.listdir(str(other)) == ["precious"]


def test_a_copy_that_cannot_be_written_is_one_line_with_a_remedy(tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file" / "mrunc", "/proc/mrunc"):  # neither of which root can write either
        with pytest.raises(AssertionError) as told:
            make("vendor", "DEST=%s" % place)
        line, last = str(told.value).splitlines()[:2]
        assert line.startswith("%s: can't be written: " % place) and "make vendor DEST=" in line
        assert last.strip().startswith("make:"), "nothing else but what make itself says"
    with pytest.raises(AssertionError, match="can't be written: File too large"):
        make("vendor", "DEST=%s" % (tmp_path / "draft"),
             preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (999, 999)))
    assert os.listdir(str(tmp_path)) == ["file"]


def test_a_file_that_no_git_knows_is_in_no_release_of_a_checkout(tmp_path):
    source = tmp_path / "source"
    for name in (".ci", "commands", "sandbox", "syscalls"):
        shutil.copytree(os.path.join(ROOT, name), str(source / name), ignore=shutil.ignore_patterns("__pycache__"))
    for words in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", "-C", str(source), *words], check=True)
    (source / "secret.txt").write_text("mine")
    done = subprocess.run([PYTHON, "-c", "import sys; sys.path.insert(0, sys.argv[1]); import dist; print(*dist.sources())",
                           str(source / ".ci")], stdout=subprocess.PIPE, universal_newlines=True, check=True)
    assert ".ci/dist.py" in done.stdout.split() and "secret.txt" not in done.stdout
