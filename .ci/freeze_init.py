#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Assembles sandbox/init_*.s and freezes the bytes in sandbox/init.py.

    .ci/freeze_init.py            rewrite
    .ci/freeze_init.py --check    compare only; exit code 1 where they differ
"""
import os
import shutil
import subprocess
import sys
import tempfile

PACKAGES = "apt-get install binutils-x86-64-linux-gnu binutils-aarch64-linux-gnu"
SANDBOX = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "sandbox")
MACHINES = ("x86_64", "aarch64")
HEAD, TAIL = "IMAGE = {\n", "}\n"


def assemble(machine):
    """The flat image of one listing."""
    tools = [machine + "-linux-gnu-" + tool for tool in ("as", "objcopy")]
    if not all(map(shutil.which, tools)):
        raise SystemExit("%s or %s is missing: %s" % (tools[0], tools[1], PACKAGES))
    with tempfile.TemporaryDirectory() as folder:
        listing = os.path.join(SANDBOX, "init_%s.s" % machine)
        linked, flat = os.path.join(folder, "object"), os.path.join(folder, "flat")
        subprocess.check_call([tools[0], "--fatal-warnings", listing, "-o", linked])
        subprocess.check_call([tools[1], "-O", "binary", "-j", ".text", linked, flat])
        with open(flat, "rb") as file:
            return file.read()


def literal():
    """The source text of IMAGE, from its first line to its last."""
    lines = [HEAD]
    for machine in MACHINES:
        digits = assemble(machine).hex()
        lines.append('    "%s": bytes.fromhex(\n' % machine)
        lines += ['        "%s"\n' % digits[i:i + 88] for i in range(0, len(digits), 88)]
        lines.append("    ),\n")
    return "".join(lines + [TAIL])


def main():
    path = os.path.join(SANDBOX, "init.py")
    with open(path) as file:
        before = file.read()
    start = before.index(HEAD)
    end = before.index("\n" + TAIL, start) + 1 + len(TAIL)
    after = before[:start] + literal() + before[end:]
    if after == before:
        return
    if sys.argv[1:] == ["--check"]:
        raise SystemExit("sandbox/init.py is not what its listings give: run .ci/freeze_init.py")
    with open(path, "w") as file:
        file.write(after)


if __name__ == "__main__":
    main()
