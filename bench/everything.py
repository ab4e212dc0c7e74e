# SPDX-License-Identifier: Apache-2.0
"""Runs the measurements of time and memory one after the other and writes docs/benchmarks.md, .svg and .json.

    python3 bench/everything.py [--quick] [--from FILE] FOLDER

Each runs in a process of its own.  One that fails is named on the page, and makes the exit status 1.  --from: nothing is
measured, the page is made from that JSON file.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import chart  # noqa: E402
import page  # noqa: E402
from measure import PYTHON  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
BENCHES = [row[0] for row in page.SECTIONS]


def run(name, options):
    """The result of one measurement, or {"bench", "failed": why}."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "result.json")
        done = subprocess.run([PYTHON, os.path.join(HERE, name + ".py"), "--json", path, *options],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, universal_newlines=True)
        try:
            with open(path) as stream:
                return json.load(stream)
        except (OSError, ValueError):
            said = done.stderr.strip().split("\n")[-1]
            return {"bench": name, "failed": said or "exit status %d" % done.returncode}


def measured(options, quick):
    """What benchmarks.json has."""
    begun, results = time.monotonic(), {}
    for name in BENCHES:
        print("bench/%s.py" % name, end="", flush=True)
        at = time.monotonic()
        results[name] = run(name, options.get(name, []) + ["--quick"] * quick)
        print(": %d s%s" % (time.monotonic() - at, ", " + results[name]["failed"] if "failed" in results[name] else ""))
    return {"quick": quick, "seconds": round(time.monotonic() - begun), "results": results}


def files(data):
    """{name: text} of what is written."""
    out = {"benchmarks.md": page.markdown(data), "benchmarks.json": json.dumps(data, indent=1) + "\n"}
    if "failed" not in data["results"].get("startup", {"failed": ""}):
        out["benchmarks.svg"] = chart.svg(data["results"]["startup"])
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="some minutes less; the figures are rough")
    parser.add_argument("--from", dest="path", metavar="FILE", help="make the page from benchmarks.json")
    parser.add_argument("folder", help="where the files are written")
    asked = parser.parse_args()
    if asked.path:
        with open(asked.path) as stream:
            data = json.load(stream)
    else:
        data = measured({}, asked.quick)
    for name, text in files(data).items():
        with open(os.path.join(asked.folder, name), "w") as out:
            out.write(text)
    print(page.absent(data["results"]))
    return int(any("failed" in result for result in data["results"].values()))


if __name__ == "__main__":
    sys.exit(main())
