# SPDX-License-Identifier: Apache-2.0
"""Defence in depth, measured: the escape corpus with one control left out at a time.

    python3 bench/layers.py [--json | --markdown] [CONTROL...]

A probe that is reached as soon as one control is missing is stopped by that control alone: a single point.  SECURITY.md
lists those of host integrity.  Runs as who it is started as; a control that is not asked for there has no row.
"""
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if HERE not in sys.path:
    sys.path.insert(0, HERE)

import mrunc  # noqa: E402,F401
from mrunc.commands.selftest.probe import DANGERS, HOST  # noqa: E402
from mrunc.sandbox.controls import CONTROLS, having  # noqa: E402


def reached(*options):
    """{probe id: row} of what a run with these options of `run` reaches, or None and why where nothing ran."""
    done = subprocess.run([sys.executable, "-I", "-S", os.path.join(HERE, "mrunc.py"), "selftest", "--json", "--", *options],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=600)
    if not done.stdout:
        return None, done.stderr.strip().split("\n")[0]
    rows = json.loads(done.stdout)["probes"]
    return dict((row["id"], row) for row in rows if row["outcome"] in ("REACHED", "error")), ""


def measure(names):
    """{control: {danger: [ids]} or {"failed": why}} of what each missing control lets through beyond the default."""
    base, why = reached()
    if base is None:
        raise SystemExit(why)
    out = {}
    for name in names:
        left_out = (name,) + CONTROLS[name].needed_by
        found, why = reached("--unsafe-without", ",".join(left_out))
        if found is None:
            out[name] = {"failed": why}
            continue
        out[name] = dict((danger, [row["id"] for row in found.values() if row["danger"] == danger and row["id"] not in base])
                         for danger in DANGERS)
    return out


def main():
    """Prints the table."""
    names = [word for word in sys.argv[1:] if not word.startswith("-")] or having("removable")
    table = measure(names)
    if "--json" in sys.argv:
        print(json.dumps(table, indent=1))
        return
    print("Linux %s, %s, uid %d" % (os.uname().release, os.uname().machine, os.getuid()))
    print("| left out | host integrity | kernel surface | information | of host integrity |\n|---|---|---|---|---|")
    for name, row in table.items():
        if "failed" in row:
            print("| `%s` | %s | | | |" % (name, row["failed"]))
            continue
        print("| `%s` | %s | %s |" % (" ".join((name,) + CONTROLS[name].needed_by),
                                      " | ".join(str(len(row[danger]) or "-") for danger in DANGERS[:3]), " ".join(row[HOST])))


if __name__ == "__main__":
    main()
