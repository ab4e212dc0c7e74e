# SPDX-License-Identifier: Apache-2.0
"""Debian packages without root: apt with a private state per architecture and suite.  Indexes and packages are verified by
apt against the archive's keys; mirror and key are the ones that this machine is configured with."""
import glob
import os
import re
import shutil
import subprocess
import tarfile
import time

from report import Failure, run, say

DEBIAN = {"x86_64": "amd64", "aarch64": "arm64"}
#: It has the old suites' keys as well; what sources name may not.
KEYRINGS = ("/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp")
FRESH = 86400.0
CONFIGURATION = """Dir::State "{0}"; Dir::State::lists "{0}/lists"; Dir::State::status "{0}/status";
Dir::Cache "{0}/cache"; Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";
Dir::Etc::sourcelist "{0}/sources.list"; Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null"; Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "{1}"; APT::Architectures "{1}"; APT::Install-Recommends "false"; APT::Sandbox::User "root";
APT::Update::Error-Mode "any"; Acquire::GzipIndexes "true"; Acquire::Languages "none";
Acquire::Check-Valid-Until "false"; Acquire::Retries "3"; Acquire::http::Timeout "30"; Acquire::https::Timeout "30";
"""


def configured_mirror(folder="/etc/apt"):
    """(address, keyring or "") of the first Debian archive in apt's sources.  Raises Failure."""
    texts = {}
    for path in sorted(glob.glob(folder + "/sources.list.d/*.sources") + glob.glob(folder + "/sources.list.d/*.list")) + \
            [folder + "/sources.list"]:
        try:
            with open(path, errors="replace") as stream:
                texts[path] = stream.read()
        except OSError:
            continue
    found = []
    for path, text in texts.items():
        if path.endswith(".sources"):
            for paragraph in re.split(r"\n\s*\n", text):
                field = {key.lower(): value.strip() for key, value in
                         re.findall(r"^([\w-]+):[ \t]*(.*)$", paragraph, re.M)}
                found += [(address, field.get("suites", ""), field.get("signed-by", ""))
                          for address in field.get("uris", "").split()]
        else:
            for options, address, suite in re.findall(r"^deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)", text, re.M):
                key = re.search(r"signed-by=(\S+)", options)
                found.append((address, suite, key.group(1) if key else ""))
    for address, suites, key in found:
        if address.startswith(("http:", "https:")) and "security" not in suites:
            return address, key
    raise Failure("no Debian archive is configured in %s: --mirror URL names one" % folder)


class Archive:
    """One suite's main section, for one architecture.  folder: where its state lies; mirror: an address, or None for the
    machine's own; source: whether its sources can be fetched too."""

    def __init__(self, folder, arch, suite, mirror=None, source=False):
        self.suite, self.folder = suite, folder
        self.configuration = os.path.join(folder, "apt.conf")
        self.environ = dict(os.environ, APT_CONFIG=self.configuration, LC_ALL="C.UTF-8", DEBIAN_FRONTEND="noninteractive")
        self.mark = os.path.join(folder, "fresh")
        try:
            age = time.time() - os.stat(self.mark).st_mtime
        except FileNotFoundError:
            age = FRESH
        if age < FRESH and not mirror:
            return
        shutil.rmtree(folder, ignore_errors=True)
        for name in ("lists/partial", "cache/archives/partial"):
            os.makedirs(os.path.join(folder, name))
        address, key = (mirror, "") if mirror else configured_mirror()
        keyring = next((path for path in KEYRINGS if os.path.exists(path)), key)
        signed = " signed-by=" + keyring if keyring.startswith("/") else ""
        files = {"sources.list": "".join("%s [arch=%s%s] %s %s main\n" % (kind, DEBIAN[arch], signed, address, suite)
                                         for kind in ("deb", "deb-src")[:1 + source]),
                 "apt.conf": CONFIGURATION.format(folder, DEBIAN[arch]), "status": ""}
        for name, text in files.items():
            with open(os.path.join(folder, name), "w") as stream:
                stream.write(text)
        say("fetching the index of %s for %s from %s" % (suite, DEBIAN[arch], address))
        run(["apt-get", "-q", "update"], env=self.environ)
        with open(self.mark, "w"):
            pass

    def depends(self, package):
        """[name] of the linux-* packages that a package depends on; none for an unknown one."""
        done = subprocess.run(["apt-cache", "show", "--no-all-versions", package], env=self.environ, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, universal_newlines=True)
        line = re.search(r"^Depends: (.*)$", done.stdout, re.M)
        return re.findall(r"linux-[a-z]+-\d[^\s,|]*", line.group(1)) if line else []

    def fetch(self, names, place):
        """[path] of exactly these packages, in the folder `place`.  Raises Failure."""
        self._get(["download"] + list(names), cwd=place)
        return [_one(os.path.join(glob.escape(place), "%s_*.deb" % name)) for name in names]

    def fetch_source(self, name, place):
        """Leaves the archives of a source package, not unpacked, in the folder `place`.  Raises Failure."""
        self._get(["--download-only", "source", name], cwd=place)

    def fetch_all(self, names):
        """[path] of these packages and all they depend on, in the order in which they would be installed."""
        self._get(["-y", "--download-only", "install"] + list(names))
        order = run(["apt-get", "-q", "-s", "install"] + list(names), env=self.environ)
        archives = os.path.join(glob.escape(self.folder), "cache/archives")
        return [_one("%s/%s_%s_*.deb" % (archives, name, version.replace(":", "%3a")))
                for name, version in re.findall(r"^Inst (\S+) \((\S+)", order, re.M)]

    def _get(self, words, **settings):
        try:
            run(["apt-get", "-q"] + words, env=self.environ, **settings)
        except Failure as failure:
            if "404" in str(failure):
                os.unlink(self.mark)  # the archive has moved on since the index was fetched
            raise

    def drop_packages(self):
        """They are needed only while something is built."""
        for path in glob.glob(os.path.join(glob.escape(self.folder), "cache/archives/*.deb")):
            os.unlink(path)


def _one(pattern):
    found = glob.glob(pattern)
    if len(found) != 1:
        raise Failure("apt left %d files %s" % (len(found), pattern))
    return found[0]


def members(path):
    """Yields (tar, member) of a package's files.  Raises Failure for a broken package."""
    reader = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        with tarfile.open(fileobj=reader.stdout, mode="r|") as tar:
            for member in tar:
                yield tar, member
        reader.stdout.read()
    except (tarfile.TarError, EOFError) as error:
        raise Failure("%s: not a readable package: %s" % (path, error))
    finally:
        reader.stdout.close()
        said = reader.stderr.read().decode(errors="replace").strip()
        reader.stderr.close()
        status = reader.wait()
    if status:
        raise Failure("%s: not a readable package: %s" % (path, said))
