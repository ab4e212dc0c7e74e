# SPDX-License-Identifier: Apache-2.0
"""The probes as a zip archive that a Python runs where mrunc's folder is not to be seen."""
import importlib.util
import io
import zipfile

ROOM = __package__.rpartition(".commands.")[0]
MODULES = ("syscalls", "syscalls.libc", "syscalls.raw", "syscalls.nr_x86_64", "syscalls.nr_aarch64",
           "commands.selftest.attempt",
           "commands", "commands.selftest", "commands.selftest.probing",
           "commands.selftest.probes") + tuple("commands.selftest.probes." + name for name in (
               "devices", "filter", "given", "identity", "kernel", "leaks", "limits", "mounts",
               "namespaces", "neighbours", "network", "patterns", "proc", "requests", "sources",
               "tasks"))
MAIN = "import sys\nfrom mrunc.commands.selftest.probing import report\nsys.exit(report(sys.argv[1:]))\n"


def build():
    """The archive as bytes: `python3 -I -S ARCHIVE REQUEST`, the request as probing.report takes it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:  # not compressed: not every Python has zlib, neither here nor inside
        archive.writestr("__main__.py", MAIN)
        archive.writestr("mrunc/__init__.py", "")
        for name in MODULES:
            spec = importlib.util.find_spec("%s.%s" % (ROOM, name))
            path = name.replace(".", "/") + ("/__init__.py" if spec.submodule_search_locations is not None else ".py")
            archive.writestr("mrunc/" + path, spec.loader.get_source(spec.name))
    return out.getvalue()
