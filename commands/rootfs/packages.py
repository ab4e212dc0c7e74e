# SPDX-License-Identifier: Apache-2.0
"""Reads what dpkg, rpm or apk has installed: packages, their dependencies, their files.

All three become a Database of Packages, whose needs are lists of alternatives. It is read by the
package managers' own query commands; apk's database is a text file of a documented format and is
read directly.
"""
import os
import subprocess

from ...sandbox.errors import SandboxError

DPKG, RPM = b"/usr/bin/dpkg-query", b"/usr/bin/rpm"
APK_FILES = (b"/lib/apk/db/installed", b"/usr/lib/apk/db/installed")
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
               "LC_ALL": "C.UTF-8", "HOME": "/"}
#: Packages that one command is asked for.
AT_ONCE = 200


class Package:
    """Holds an installed package.

    key: its name for the manager's commands
    name: str
    arch: str
    version: str
    needs: [[(name, operator or "", version)]]; one alternative of each list is needed
    provides: [name]
    files: [bytes], or None if they are asked for later
    """

    __slots__ = ("key", "name", "arch", "version", "needs", "provides", "files")

    def __init__(self, key, name, arch="", version="", needs=(), provides=(), files=None):
        self.key, self.name, self.arch, self.version = key, name, arch, version
        self.needs, self.provides, self.files = list(needs), list(provides), files


class Database:
    """Holds the installed packages.

    packages: {key: Package}
    native: the architecture of a name without one
    """

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
        """Returns the Package of a name (`NAME` or `NAME:ARCH`), or None.

        A package of that name comes before one that provides it.
        """
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
        """Returns the Package that owns a path (bytes), or None."""
        return self.owners.get(path)

    def fits(self, package, operator, version):
        """Returns whether a version condition holds; it only matters for a choice of packages."""
        return True

    def closure(self, packages):
        """Returns [Package] with all that they need, in the order of their keys."""
        done, pending = {}, list(packages)
        while pending:
            package = pending.pop()
            if package.key in done:
                continue
            done[package.key] = package
            for alternatives in package.needs:
                found = [(self.find(name, package.arch), operator, version)
                         for name, operator, version in alternatives]
                found = [row for row in found if row[0] is not None]
                if len(found) > 1:
                    found = [row for row in found if not row[1] or self.fits(*row)] or found
                pending += [row[0] for row in found[:1]]
        return [done[key] for key in sorted(done)]

    def files(self, packages):
        """Returns the set of paths (bytes) of all files and directories of packages."""
        return set(path for package in packages for path in package.files or ())


class Dpkg(Database):
    """Is Debian's database. dpkg-query(1), deb-control(5)"""

    @classmethod
    def read(cls):
        """Returns the database of this host, or None."""
        if not os.access(DPKG, os.X_OK):
            return None
        form = "\\t".join((
            "${db:Status-Status}", "${binary:Package}", "${Package}", "${Architecture}",
            "${Version}", "${Pre-Depends}", "${Depends}", "${Provides}")) + "\\n"
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
        """Returns the owner by dpkg-query -S; tries both names if /usr is merged."""
        if path not in self.owners:
            names = [path] + ([path[4:]] if path.startswith(b"/usr/") else [])
            self.owners[path] = None
            for name in names:
                pattern = b"".join(b"\\" + name[i:i + 1] if name[i:i + 1] in b"*?[]\\"
                                   else name[i:i + 1] for i in range(len(name)))
                for line in _output([DPKG, "-S", pattern], missing=True).split(b"\n"):
                    owners, colon, listed = line.partition(b": ")
                    if listed == name and not line.startswith(b"diversion by "):
                        for key in owners.decode("utf-8", "replace").split(", "):
                            found = self.packages.get(key) or self.find(key)
                            self.owners[path] = self.owners[path] or found
        return self.owners[path]

    def fits(self, package, operator, version):
        """Returns the answer of dpkg --compare-versions."""
        return subprocess.call(
            ["/usr/bin/dpkg", "--compare-versions", package.version, operator, version],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=ENVIRONMENT) == 0

    def files(self, packages):
        """Returns the paths of dpkg-query -L; a diverted file is `diverted by PACKAGE to: PATH`."""
        out, keys = set(), [package.key for package in packages]
        for start in range(0, len(keys), AT_ONCE):
            for line in _output([DPKG, "-L"] + keys[start:start + AT_ONCE]).split(b"\n"):
                path = line if line.startswith(b"/") else line.partition(b" to: ")[2]
                if path.startswith(b"/") and path != b"/.":
                    out.add(path)
        return out


def _groups(field):
    """Returns [[(name, operator, version)]] of a relation field, `a (>= 1), b | c:any`.

    deb-control(5)
    """
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
    """Is Red Hat's and SUSE's database. rpm(8)"""

    @classmethod
    def read(cls):
        """Returns the database of this host, or None."""
        if not os.access(RPM, os.X_OK):
            return None
        form = "@%{NAME}\\t%{ARCH}\\t%{VERSION}-%{RELEASE}\\n[R%{REQUIRENAME}\\n]" \
               "[P%{PROVIDENAME}\\n][F%{FILENAMES}\\n]"
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
                package.needs.append([(word, "", "")
                                      for word in _rich(value.decode("utf-8", "replace"))])
        return cls(packages, os.uname().machine) if packages else None

    def find(self, name, arch=None):
        """Returns the Package of a name, of what provides it, or of its file; or None."""
        found = self.by_name.get(name) or self.by_provided.get(name)
        if found:
            same = [package for package in found if package.arch in (arch or self.native, "noarch")]
            return (same or found)[0]
        return self.owners.get(os.fsencode(name)) if name.startswith("/") else None


def _rich(name):
    """Returns the alternatives of a dependency; rich ones are `(a or b)`, `(a if b)`."""
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
    """Is Alpine's database: one record per package. apk-package(5), apk-v2(5)"""

    @classmethod
    def read(cls):
        """Returns the database of this host, or None."""
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
                package.needs += [[(name, "", "")] for name in _plain(value)
                                  if not name.startswith("!")]
            elif kind == b"p":
                package.provides += _plain(value)
            elif kind == b"F":
                folder = b"/" + value
                package.files.append(folder.rstrip(b"/") or b"/")
            elif kind == b"R":
                package.files.append(os.path.join(folder, value))
        return package

    def find(self, name, arch=None):
        """Returns the Package of a name, of what provides it, or of a path; None if there is none.
        """
        if name.startswith("/"):
            return self.owners.get(os.fsencode(name))
        return Database.find(self, name.replace(":", "\0"))

    def __init__(self, packages, native=""):
        # `so:libc.musl-x86_64.so.1` is a name without architecture
        for package in packages.values():
            package.provides = [name.replace(":", "\0") for name in package.provides]
        Database.__init__(self, packages, native)


def _plain(value):
    """Returns names without their version conditions."""
    out = []
    for word in value.decode("utf-8", "replace").split():
        for sign in "<>=~":
            word = word.split(sign)[0]
        if word:
            out.append(word)
    return out


def read():
    """Returns the Database of this host, an empty one if no package manager is known."""
    for kind in (Dpkg, Rpm, Apk):
        found = kind.read()
        if found is not None:
            return found
    return Database({})


def _output(command, missing=False):
    """Returns the output of a query command. Raises SandboxError.

    missing: whether it may fail because nothing has that name
    """
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=ENVIRONMENT)
    if done.returncode and not missing:
        reason = done.stderr.decode("utf-8", "replace").strip()[-300:]
        raise SandboxError("rootfs", os.fsdecode(command[0]),
                           reason=reason or "exit status %d" % done.returncode)
    return done.stdout
