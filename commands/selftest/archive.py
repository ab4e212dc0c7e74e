# SPDX-License-Identifier: Apache-2.0
"""Makes the probes a zip archive, for a place where mrunc's folder can't be seen."""
import ast
import functools
import importlib.util
import io
import zipfile

#: The package that mrunc was imported as.
PACKAGE = __package__.rpartition(".commands.")[0]
START = "commands.selftest.runner"
MAIN = "import sys\nfrom mrunc.%s import report\nsys.exit(report(sys.argv[1:]))\n" % START


@functools.lru_cache(maxsize=1)  # each probe of the limits needs one
def build():
    """Returns the archive: `python3 -I -S ARCHIVE REQUEST`, as runner.report takes it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:  # not compressed: not every Python has zlib
        archive.writestr("__main__.py", MAIN)
        archive.writestr("mrunc/__init__.py", "")
        for name, (is_package, source) in sorted(modules().items()):
            path = name.replace(".", "/") + ("/__init__.py" if is_package else ".py")
            archive.writestr("mrunc/" + path, source)
    return out.getvalue()


def modules():
    """Returns {name: (whether it is a package, source)} of START and what it imports of mrunc."""
    found, left = {}, [START]
    while left:
        name = left.pop()
        if name in found:
            continue
        spec = importlib.util.find_spec("%s.%s" % (PACKAGE, name))
        is_package = spec.submodule_search_locations is not None
        source = spec.loader.get_source(spec.name)
        found[name] = is_package, source
        steps = name.split(".")
        if len(steps) > 1:
            left.append(".".join(steps[:-1]))
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = steps[:len(steps) - node.level] + [node.module or ""]
                left += _named(".".join(base).rstrip("."), node.names)
    return found


def _named(base, aliases):
    """Returns the modules that `from base import ...` names: a package here is empty."""
    spec = importlib.util.find_spec("%s.%s" % (PACKAGE, base))
    if spec.submodule_search_locations is None:
        return [base]
    return ["%s.%s" % (base, alias.name) for alias in aliases]
