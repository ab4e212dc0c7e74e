# SPDX-License-Identifier: Apache-2.0
"""Makes the parts of docs/ that follow from tables of the code.

    python3 .ci/docs.py [--check]

docs/policy.md: ioctl requests, socket options, fcntl commands, and the comparison of `default`
with other sandboxes. docs/tiers.md: what each weaker tier lacks. docs/result.md: the reasons;
docs/*.schema.json: the schemas. Manual pages and completions come from mrunc itself (`make docs`).
"""
import errno
import json
import os
import subprocess
import sys
import textwrap

from file_ioctls import REQUESTS
from generated import HERE, project, settle

MARK = "<!-- %s: %s -->\n"


def between(page, name, made):
    """A page with fresh text between the two marks of a name."""
    begin, end = MARK % (name, "begin"), MARK % (name, "end")
    before, rest = page.split(begin)
    return before + begin + made + end + rest.split(end)[1]


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


def policy_page():
    """The whole of docs/policy.md with fresh tables."""
    with open(os.path.join(HERE, "docs", "policy.md"), encoding="utf-8") as stream:
        page = stream.read()
    for name, made in (("arguments", lists), ("file ioctls", file_ioctls), ("table", differences)):
        page = between(page, name, "\n" + made() + "\n\n"[:2 - (name == "table")])
    return page


def chapters():
    """Lines of Markdown: a chapter for each weaker tier."""
    tiers, controls = project("sandbox.tiers"), project("sandbox.controls")
    for tier in list(tiers.TIERS.values())[1:]:
        yield "## What `%s` lacks" % tier.name
        yield ""
        for sentence in tier.not_held:
            yield textwrap.fill("- " + sentence, 100, subsequent_indent="  ", break_on_hyphens=False)
        yield ""
        yield "| missing control | what it does in the full tier | why it is missing |"
        yield "|---|---|---|"
        for lacks, where in ((tier.lacks, ""), (tier.lacks_without_scope, " (Landlock ABI below 6)"),
                             (tier.lacks_for_user, " (an ordinary user)")):
            for name, why in lacks.items():
                yield "| `%s`%s | %s | %s |" % (name, where, controls.CONTROLS[name].what, why)
        yield ""
        yield "| refused option | why | use instead |"
        yield "|---|---|---|"
        for option, _, reason, remedy in tier.refuses:
            remedy = "`%s`" % remedy if remedy and remedy.startswith("--") else remedy or ""
            yield "| `%s` | %s | %s |" % (option, reason, remedy)
        vital = ", ".join("`%s`" % name for name in sorted(tier.vital))
        yield "| `--unsafe-without` of %s | the other controls depend on it | |" % vital
        yield ""


def tiers_page():
    """The whole of docs/tiers.md with fresh chapters."""
    with open(os.path.join(HERE, "docs", "tiers.md"), encoding="utf-8") as stream:
        page = stream.read()
    return between(page, "tiers", "\n" + "\n".join(chapters()) + "\n")


def pages():
    """Yields (path, text) of each file that is made."""
    yield "docs/policy.md", policy_page()
    yield "docs/tiers.md", tiers_page()
    schema, reasons = project("sandbox.result.schema"), project("sandbox.result.reasons")
    yield "docs/result.schema.json", json.dumps(schema.result_schema(), indent=2) + "\n"
    yield "docs/ledger.schema.json", json.dumps(schema.ledger_schema(), indent=2) + "\n"
    with open(os.path.join(HERE, "docs", "result.md"), encoding="utf-8") as stream:
        page = stream.read()
    rows = "".join("| `%s` | %s |\n" % (name, words)
                   for name, (words, _) in reasons.REASONS.items())
    head = "| reason | why the run ended |\n|---|---|\n"
    yield "docs/result.md", between(page, "reasons", head + rows)


if __name__ == "__main__":
    sys.exit(max(settle(path, text, "make docs") for path, text in list(pages())))
