# SPDX-License-Identifier: Apache-2.0
"""The rules from rows to ATT&CK techniques: each takes a row of its kind, and leaves its neighbour alone."""
import re

import pytest

import mrunc  # noqa: F401  registers the package
from mrunc.commands.report import techniques


def refused(syscall, **args):
    return "refused", {"syscall": syscall, "args": args}


def ran(exe, *argv, parent=2):
    return "processes", {"exe": exe, "argv": list(argv) or [exe], "parent": parent}


def changed(path, change="added", kind="file", **more):
    return "changes", dict({"path": path, "change": change, "kind": kind}, **more)


#: (what the first rule says, a row that it takes, one that no rule of this technique or name takes).
CASES = [
    ("T1055.008", refused("ptrace", request="PTRACE_ATTACH", pid=1), refused("ptrace", request="PTRACE_TRACEME")),
    ("T1622", refused("ptrace", request="PTRACE_TRACEME"), refused("ptrace", request="PTRACE_SEIZE")),
    ("T1055", refused("process_vm_writev", pid=3), refused("process_vm_readv", pid=3)),
    ("T1547.006", refused("finit_module", fd=3), refused("execve")),
    ("T1611", refused("mount", source="none"), refused("statmount")),
    ("T1611", refused("unshare", flags="CLONE_NEWNS"), refused("personality", persona=0)),
    ("T1611", refused("clone", flags="CLONE_NEWUSER|CLONE_VM"), refused("clone", flags="CLONE_VM|CLONE_THREAD")),
    ("T1611", refused("clone3", args={"flags": "CLONE_NEWPID"}), refused("clone3", args={"flags": "CLONE_VM"})),
    ("T1611", refused("open_by_handle_at", flags="O_RDONLY"), refused("name_to_handle_at", flags=0)),
    ("T1040", refused("socket", domain="AF_PACKET", type="SOCK_RAW"), refused("socket", domain="AF_INET", type="SOCK_STREAM")),
    ("T1095", refused("socket", domain="AF_INET", type="SOCK_RAW|SOCK_CLOEXEC"),
     refused("socket", domain="AF_NETLINK", type="SOCK_RAW")),
    ("Network", refused("socket", domain="AF_INET6", type="SOCK_STREAM"), refused("socket", domain="AF_UNIX", type="SOCK_STREAM")),
    ("Network", refused("connect", fd=3, addr={"family": "AF_INET", "address": "1.2.3.4", "port": 80}),
     refused("connect", fd=3, addr={"family": "AF_UNIX", "path": "/x"})),
    ("T1620", refused("memfd_create", name="x"), refused("memfd", name="x")),
    ("T1548.001", refused("fchmodat", mode="04755"), refused("fchmodat", mode="0755")),
    ("T1548.001", refused("chmod", mode=0o2755), refused("chmod", mode=0o1777)),
    ("T1529", refused("reboot"), refused("swapoff")),
    ("Another kernel", refused("kexec_load"), refused("uselib")),
    ("Programs in the kernel", refused("bpf", cmd="BPF_PROG_LOAD"), refused("seccomp")),
    ("The kernel's keys and logs", refused("keyctl"), refused("klogctl")),
    ("Calls that exploits use", refused("userfaultfd"), refused("eventfd2")),
    ("The host's clock", refused("clock_settime"), refused("clock_gettime")),
    ("T1059.004", ran("/usr/bin/dash"), ran("/usr/bin/dash", parent=1)),
    ("T1059.006", ran("/usr/bin/python3.13"), ran("/usr/bin/pythonx")),
    ("T1059.007", ran("/usr/bin/node"), ran("/usr/bin/nodemon")),
    ("T1105", ran("/usr/bin/curl"), ran("/usr/bin/cat")),
    ("T1053.003", ran("/usr/bin/crontab"), ran("/usr/sbin/cron")),
    ("T1053.002", ran("/usr/bin/at"), ran("/usr/bin/cat")),
    ("T1543.002", ran("/usr/bin/systemctl", "systemctl", "enable", "x"), ran("/usr/bin/systemctl", "systemctl", "status")),
    ("T1547.006", ran("/usr/sbin/modprobe"), ran("/usr/sbin/ldconfig")),
    ("T1548.003", ran("/usr/bin/sudo"), ran("/usr/bin/sudoku")),
    ("T1136.001", ran("/usr/sbin/useradd"), ran("/usr/sbin/usermod")),
    ("T1222.002", ran("/usr/bin/chmod"), ran("/usr/bin/touch")),
    ("T1033", ran("/usr/bin/whoami"), ran("/usr/bin/true")),
    ("T1082", ran("/usr/bin/uname"), ran("/usr/bin/true")),
    ("T1057", ran("/usr/bin/ps"), ran("/usr/bin/true")),
    ("T1016", ran("/usr/sbin/ip"), ran("/usr/bin/ipcs")),
    ("T1049", ran("/usr/bin/ss"), ran("/usr/bin/ssh")),
    ("T1140", ran("/usr/bin/base64", "base64", "-d"), ran("/usr/bin/base64", "base64")),
    ("T1027.004", ran("/usr/bin/gcc"), ran("/usr/bin/make")),
    ("T1560.001", ran("/usr/bin/tar"), ran("/usr/bin/cat")),
    ("T1564.011", ran("/usr/bin/nohup"), ran("/usr/bin/nice")),
    ("T1620", ran("/memfd:x", parent=1), ran("/box/memfd", parent=1)),
    ("T1564.001", ran("/tmp/.x/miner", parent=1), ran("/tmp/x.d/miner", parent=1)),
    ("T1036", ran("/box/x", "[kworker/0:0]", parent=1), ran("/box/[", "[", "-e", "x", "]", parent=1)),
    ("T1053.003", changed("/etc/cron.d/x"), changed("/etc/cron.d/x", "deleted")),
    ("T1053.006", changed("/etc/systemd/system/x.timer"), changed("/box/x.timer")),
    ("T1543.002", changed("/root/.config/systemd/user/x.service"), changed("/box/x.service")),
    ("T1546.004", changed("/root/.bashrc", "modified"), changed("/root/bashrc")),
    ("T1098.004", changed("/root/.ssh/authorized_keys"), changed("/root/.ssh/known_hosts")),
    ("T1574.006", changed("/etc/ld.so.preload"), changed("/etc/ld.so.cache")),
    ("T1037.004", changed("/etc/rc.local"), changed("/etc/rc.conf")),
    ("T1546.017", changed("/etc/udev/rules.d/99-x.rules"), changed("/etc/udev/udev.conf")),
    ("T1547.013", changed("/root/.config/autostart/x.desktop"), changed("/usr/share/applications/x.desktop")),
    ("T1547.006", changed("/lib/modules/6.1/x.ko"), changed("/box/x.kobold")),
    ("T1556.003", changed("/etc/pam.d/sshd", "modified"), changed("/etc/pamphlet")),
    ("T1098", changed("/etc/shadow", "modified"), changed("/etc/shadow-")),
    ("T1548.003", changed("/etc/sudoers.d/x"), changed("/etc/sudo.conf")),
    ("T1548.001", changed("/box/x", set_id=True), changed("/box/x")),
    ("T1564.001", changed("/box/.x"), changed("/box/x.y")),
]


@pytest.mark.parametrize("wanted, good, bad", CASES)
def test_a_rule_takes_its_row_and_leaves_its_neighbour(wanted, good, bad):
    source, row = good
    first = techniques.of(row, source)[0]
    assert wanted in (first.technique, first.name)
    source, row = bad
    assert wanted not in [word for rule in techniques.of(row, source) for word in (rule.technique, rule.name)]


def test_every_rule_has_a_case_and_a_reason():
    taken = {id(rule) for _, (source, row), _ in CASES for rule in techniques.of(row, source)}
    assert [rule.name for rule in techniques.RULES if id(rule) not in taken] == []
    for rule in techniques.RULES:
        assert rule.source in ("refused", "processes", "changes") and rule.name and rule.reason
        assert re.fullmatch(r"(T\d{4}(\.\d{3})?)?", rule.technique)
    names = {}
    for rule in techniques.RULES:
        if rule.technique:
            assert names.setdefault(rule.technique, rule.name) == rule.name, "one technique, one name"


@pytest.mark.parametrize("row", [{}, {"syscall": None, "args": None}, {"exe": None, "argv": [], "parent": 2},
                                 {"syscall": "ptrace", "args": {}}, {"syscall": "chmod", "args": {"mode": "rwx"}},
                                 {"path": "/x", "change": "added", "kind": None}, {"exe": "x", "argv": None, "parent": "y"}])
@pytest.mark.parametrize("source", ["refused", "processes", "changes"])
def test_a_row_of_any_shape_is_no_error(row, source):
    techniques.of(row, source)


def test_groups_hold_every_row_once_with_the_techniques_first():
    rows = [row for source, row in (good for _, good, _ in CASES) if source == "refused"] + [{"syscall": "nothing", "args": {}}]
    groups = techniques.grouped(rows, "refused")
    assert sorted(id(row) for _, _, found in groups for row, _ in found) == sorted(map(id, rows))
    assert [bool(identity) for identity, _, _ in groups] == sorted([bool(identity) for identity, _, _ in groups], reverse=True)
    assert groups[-1][:2] == ("", "") and groups[-1][2] == [(rows[-1], None)]
    counted = techniques.all_of({"refused": rows})
    assert counted["T1611", "Escape to Host"] == {"refused": 5} and not [key for key in counted if not key[0]]


@pytest.mark.parametrize("part", ["/.config/systemd/", "/.config/systemd/a", "/.ssh/", "/pam_", "/.ko", "/.", "/etc/rc.d/"])
def test_a_long_path_costs_no_more_than_its_length(part):
    row = changed((part * 200000)[:1000000])[1]
    techniques.of(row, "changes")  # with time that grows with the square it would not come back today


def test_a_line_break_hides_no_path():
    assert [rule.technique for rule in techniques.of(changed("/tmp/\n/x.ko")[1], "changes")] == ["T1547.006"]
