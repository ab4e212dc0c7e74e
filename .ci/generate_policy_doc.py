# SPDX-License-Identifier: Apache-2.0
"""Puts the tables into docs/policy.md: ioctl requests, socket options, fcntl commands, and
`mrunc policy diff default --against all --markdown`.

    python3 .ci/generate_policy_doc.py [--check]
"""
import errno
import os
import subprocess
import sys

from file_ioctls import REQUESTS
from generated import HERE, project, settle

TARGET = os.path.join(HERE, "docs", "policy.md")
MARK = "<!-- %s: %s -->\n"


def answers(call, at, value):
    """What `default` answers with a value as argument `at`, in words, the same on both architectures."""
    bpf, policy, frozen = project("seccomp_bpf"), project("sandbox.seccomp.policy"), project("sandbox.seccomp.shipped")
    found = set()
    for arch in policy.ARCHES:
        for name in ("default", "strict"):
            table = policy.numbers(arch)
            args = [value if index == at else 0 for index in range(6)]
            action = bpf.run(frozen.program(name, arch), table.NR[call], table.AUDIT_ARCH, args)[0]
            found.add("allow" if action == bpf.ALLOW else errno.errorcode[action & 0xFFFF])
    assert len(found) == 1, (call, hex(value), found)
    return found.pop()


def file_ioctls():
    """The requests of regular files and directories, with what the frozen filters answer."""
    rows = ["| group | requests | effect | `default`, `strict` |", "|---|---|---|---|"]
    for group, deed, names in REQUESTS:
        said = set(answers("ioctl", 1, number) for number in names.values())
        assert len(said) == 1, (group, said)
        rows.append("| %s | %s | %s | %s |" % (group, " ".join("`%s`" % name for name in names), deed, said.pop()))
    return "\n".join(rows)


def lists():
    """What passes by argument."""
    data = project("sandbox.seccomp.tables")
    rows = ["| call | passes | why |", "|---|---|---|"]

    def row(call, names, why):
        rows.append("| `%s` | %s | %s |" % (call, " ".join("`%s`" % name for name in names), why))
    for reason, names in data.IOCTLS:
        row("ioctl", names.values(), reason)
    read_only = [name for option, name in sorted(data.GET_OPTIONS[1].items()) if option not in data.SET_OPTIONS[1]]
    row("setsockopt, getsockopt", [name for _, name in sorted(data.SET_OPTIONS[1].items())], "level `SOL_SOCKET`")
    row("getsockopt", read_only, "level `SOL_SOCKET`")
    row("fcntl", [name for _, name in sorted(data.FCNTL.items())], "descriptors, their flags, pipes, seals")
    row("fcntl", [name for _, name in sorted(data.FCNTL_LOCKS.items())], "locks; `strict` answers ENOLCK")
    row("fcntl", ["F_SETOWN"], "except to pid 1 and to all")
    rows += ["", "| refused | answer | why |", "|---|---|---|"]
    rows += ["| `fcntl`: %s | EINVAL | %s |" % pair for pair in data.FCNTL_REFUSED]
    rows += ["| `prctl`: %s | EINVAL | %s |" % (name, why) for _, name, why in data.PRCTL_REFUSED]
    rows.append("| `madvise`: MADV_MERGEABLE | EINVAL | as PR_SET_MEMORY_MERGE |")
    return "\n".join(rows)


def differences():
    """The comparison with other sandboxes."""
    return subprocess.check_output([sys.executable, "-I", "-S", os.path.join(HERE, "mrunc.py"), "policy", "diff", "default",
                                    "--against", "all", "--markdown"], universal_newlines=True)


def text():
    """The whole of docs/policy.md with fresh tables."""
    with open(TARGET, encoding="utf-8") as stream:
        page = stream.read()
    for name, made in (("arguments", lists), ("file ioctls", file_ioctls), ("table", differences)):
        before, rest = page.split(MARK % (name, "begin"))
        page = before + MARK % (name, "begin") + "\n" + made() + "\n\n"[:2 - (name == "table")] + MARK % (name, "end") + \
            rest.split(MARK % (name, "end"))[1]
    return page


if __name__ == "__main__":
    sys.exit(settle("docs/policy.md", text(), "make docs"))
