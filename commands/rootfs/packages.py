# SPDX-License-Identifier: Apache-2.0
"""What is installed on this host, as dpkg, rpm or apk knows it: packages, their dependencies, their files.

One shape for all three: a Database of Packages whose needs are lists of alternatives.  Read-only, by the package managers' own
query commands (apk's data base is one text file of a documented format, and is read itself).
"""
import os
import subprocess

from ...sandbox.errors import SandboxError

DPKG, RPM = b"/usr/bin/dpkg-query", b"/usr/bin/rpm"
APK_FILES = (b"/lib/apk/db/installed", b"/usr/lib/apk/db/installed")
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/"}
AT_ONCE = 200


class Package:
    """key: what the manager's commands take; name; arch; version; needs: [[(name, operator or "", version)]], one alternative
    of each is needed; provides: names; files: [bytes], None where they are asked for later."""

    __slots__ = ("key", "name", "arch", "version", "needs", "provides", "files")

    def __init__(self, key, name, arch="", version="", needs=(), provides=(), files=None):
        self.key, self.name, self.arch, self.version = key, name, arch, version
        self.needs, self.provides, self.files = list(needs), list(provides), files


class Database:
    """packages: dict key -> Package; native: the architecture that a bare name means."""

    def __init__(self, packages, native=""):
        self.packages, self.native = packages, native
        self.by_name, self.by_provided, self.owners = {}, {}, {}
        for package in packages.values():
            self.by_name.setdefault(package.name, []).append(package)
            for name in package.provides:
                self.by_provided.setdefault(name, []).append(package)
            for path in package.files or ():
                self.owners[path] = package

    def find(self, name, arch=None):
        """The installed Package of a name (`NAME` or `NAME:ARCH`), a real one before one that provides it; None."""
        name, colon, wanted = name.partition(":")
        arch = arch if wanted in ("", "any", "native") else wanted
        for table in (self.by_name, self.by_provided):
            found = table.get(name, [])
            for fits in (arch, self.native, "all", "noarch"):
                for package in found:
                    if package.arch == fits:
                        return package
            if found:
                return found[0]
        return None

    def owner(self, path):
        """The Package that a path (bytes) belongs to, or None."""
        return self.owners.get(path)

    def fits(self, package, operator, version):
        """Whether a version condition of a dependency holds.  Everything here is installed already; only where there is a
        choice it matters."""
        return True

    def closure(self, packages):
        """[Package] with all that they need, in the order of their keys."""
        done, pending = {}, list(packages)
        while pending:
            package = pending.pop()
            if package.key in done:
                continue
            done[package.key] = package
            for alternatives in package.needs:
                found = [(self.find(name, package.arch), operator, version) for name, operator, version in alternatives]
                found = [row for row in found if row[0] is not None]
                if len(found) > 1:
                    found = [row for row in found if not row[1] or self.fits(*row)] or found
                pending += [row[0] for row in found[:1]]
        return [done[key] for key in sorted(done)]

    def files(self, packages):
        """{path (bytes)} of all files and directories of packages."""
        return set(path for package in packages for path in package.files or ())


class Dpkg(Database):
    """Debian's.  dpkg-query(1), deb-control(5)"""

    @classmethod
    def read(cls):
        """The data base of this host, or None."""
        if not os.access(DPKG, os.X_OK):
            return None
        form = "${db:Status-Status}\\t${binary:Package}\\t${Package}\\t${Architecture}\\t${Version}\\t" \
               "${Pre-Depends}\\t${Depends}\\t${Provides}\\n"
        packages = {}
        for line in _output([DPKG, "-W", "-f", form]).decode("utf-8", "replace").split("\n"):
            fields = line.split("\t")
            if len(fields) == 8 and fields[0] == "installed":
                _, key, name, arch, version, first, then, provides = fields
                needs = [group for field in (first, then) for group in _groups(field)]
                provided = [alternatives[0][0] for alternatives in _groups(provides)]
                packages[key] = Package(key, name, arch, version, needs, provided)
        own = packages.get("dpkg")
        return cls(packages, own.arch if own else "") if packages else None

    def owner(self, path):
        """dpkg-query -S, by both names where /usr is merged."""
        if path not in self.owners:
            names = [path] + ([path[4:]] if path.startswith(b"/usr/") else [])
            self.owners[path] = None
            for name in names:
                pattern = b"".join(b"\\" + name[i:i + 1] if name[i:i + 1] in b"*?[]\\" else name[i:i + 1]
                                   for i in range(len(name)))
                for line in _output([DPKG, "-S", pattern], missing=True).split(b"\n"):
                    owners, colon, found = line.partition(b": ")
                    if found == name and not line.startswith(b"diversion by "):
                        for key in owners.decode("utf-8", "replace").split(", "):
                            self.owners[path] = self.owners[path] or self.packages.get(key) or self.find(key)
        return self.owners[path]

    def fits(self, package, operator, version):
        """dpkg --compare-versions."""
        done = subprocess.run(["/usr/bin/dpkg", "--compare-versions", package.version, operator, version],
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
        return done.returncode == 0

    def files(self, packages):
        """dpkg-query -L.  A diverted file lies elsewhere: `diverted by PACKAGE to: PATH`."""
        out, keys = set(), [package.key for package in packages]
        for start in range(0, len(keys), AT_ONCE):
            for line in _output([DPKG, "-L"] + keys[start:start + AT_ONCE]).split(b"\n"):
                path = line if line.startswith(b"/") else line.partition(b" to: ")[2]
                if path.startswith(b"/") and path != b"/.":
                    out.add(path)
        return out


def _groups(field):
    """[[(name, operator, version)]] of a relation field: `a (>= 1), b | c:any`.  deb-control(5)"""
    out = []
    for group in field.split(","):
        alternatives = []
        for one in group.split("|"):
            name, bracket, condition = one.strip().partition("(")
            operator, blank, version = condition.rstrip(") ").strip().partition(" ")
            name = name.split("[")[0].strip()
            if name:
                alternatives.append((name, operator, version.strip()))
        if alternatives:
            out.append(alternatives)
    return out


class Rpm(Database):
    """Red Hat's and SUSE's.  rpm(8)"""

    @classmethod
    def read(cls):
        """The data base of this host, or None."""
        if not os.access(RPM, os.X_OK):
            return None
        form = "@%{NAME}\\t%{ARCH}\\t%{VERSION}-%{RELEASE}\\n[R%{REQUIRENAME}\\n][P%{PROVIDENAME}\\n][F%{FILENAMES}\\n]"
        packages, package = {}, None
        for line in _output([RPM, "-qa", "--qf", form], missing=True).split(b"\n"):
            kind, value = line[:1], line[1:]
            if kind == b"@" and value.count(b"\t") == 2:
                name, arch, version = value.decode("utf-8", "replace").split("\t")
                key = "%s-%s.%s" % (name, version, arch)
                package = packages[key] = Package(key, name, arch, version, files=[])
            elif package is None:
                continue
            elif kind == b"F" and value.startswith(b"/"):
                package.files.append(value)
            elif kind == b"P":
                package.provides.append(value.decode("utf-8", "replace"))
            elif kind == b"R" and not value.startswith(b"rpmlib("):
                package.needs.append([(word, "", "") for word in _rich(value.decode("utf-8", "replace"))])
        return cls(packages, os.uname().machine) if packages else None

    def find(self, name, arch=None):
        """A name, what provides it, or whose file it is: a dependency may be any of the three."""
        found = self.by_name.get(name) or self.by_provided.get(name)
        if found:
            same = [package for package in found if package.arch in (arch or self.native, "noarch")]
            return (same or found)[0]
        return self.owners.get(os.fsencode(name)) if name.startswith("/") else None


def _rich(name):
    """The alternatives of a dependency.  Rich ones, `(a or b)`, `(a if b)`: what is needed comes first."""
    if not name.startswith("("):
        return [name]
    words = name.replace("(", " ( ").replace(")", " ) ").split()
    out = []
    for word in words:
        if word in ("if", "unless", "without"):
            break
        if word not in ("(", ")", "and", "or", "with", "else"):
            out.append(word)
    return out


class Apk(Database):
    """Alpine's.  apk-package(5), apk-v2(5): one record per package, a letter and a colon per line."""

    @classmethod
    def read(cls):
        """The data base of this host, or None."""
        for path in APK_FILES:
            try:
                with open(path, "rb") as stream:
                    data = stream.read()
            except OSError:
                continue
            packages = {}
            for record in data.split(b"\n\n"):
                package = cls._package(record)
                if package is not None:
                    packages[package.key] = package
            return cls(packages) if packages else None
        return None

    @staticmethod
    def _package(record):
        package, folder = None, b""
        for line in record.split(b"\n"):
            kind, colon, value = line.partition(b":")
            if kind == b"P":
                name = value.decode("utf-8", "replace")
                package = Package(name, name, files=[])
            elif package is None:
                continue
            elif kind == b"D":
                package.needs += [[(name, "", "")] for name in _plain(value) if not name.startswith("!")]
            elif kind == b"p":
                package.provides += _plain(value)
            elif kind == b"F":
                folder = b"/" + value
                package.files.append(folder.rstrip(b"/") or b"/")
            elif kind == b"R":
                package.files.append(os.path.join(folder, value))
        return package

    def find(self, name, arch=None):
        """A name, or what provides it; a dependency on a path means who has it."""
        return Database.find(self, name.replace(":", "\0")) if not name.startswith("/") else self.owners.get(os.fsencode(name))

    def __init__(self, packages, native=""):
        for package in packages.values():  # `so:libc.musl-x86_64.so.1` is one name, not a name and an architecture
            package.provides = [name.replace(":", "\0") for name in package.provides]
        Database.__init__(self, packages, native)


def _plain(value):
    """Names without their version conditions."""
    out = []
    for word in value.decode("utf-8", "replace").split():
        for sign in "<>=~":
            word = word.split(sign)[0]
        if word:
            out.append(word)
    return out


def read():
    """The Database of this host; an empty one where no package manager is known."""
    for kind in (Dpkg, Rpm, Apk):
        found = kind.read()
        if found is not None:
            return found
    return Database({})


def _output(command, missing=False):
    """What a query command prints.  missing: whether it may fail, because there is nothing of that name."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
    if done.returncode and not missing:
        raise SandboxError("rootfs", os.fsdecode(command[0]), reason=done.stderr.decode("utf-8", "replace").strip()[-300:] or
                           "exit status %d" % done.returncode)
    return done.stdout
