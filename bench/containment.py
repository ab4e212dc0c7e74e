# SPDX-License-Identifier: Apache-2.0
"""How far the escape corpus gets inside other sandboxes.

    python3 bench/containment.py [NAME...] [--json]

Each tool is run with a careful command line: everything that it offers against hostile code and that a python3 survives.
The same probes, plants and outcomes as `mrunc selftest`; a number is what was reached of what was tried.  The misses of
each tool are its own choice of what to allow, not bugs.  Needs root (the tools that need none run as an ordinary user), and
the tools: bubblewrap, firejail, runc, systemd-nspawn (systemd-container), runsc.
"""
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(HERE, "tests"))

import positive  # noqa: E402
from mrunc.commands.selftest.declared import UNPROVEN  # noqa: E402
from mrunc.commands.selftest.probe import DANGERS  # noqa: E402
from mrunc.commands.selftest.runner import corpus  # noqa: E402

LINKS = [name for name in ("bin", "lib", "lib64", "sbin") if os.path.islink("/" + name)]
#: runc and nspawn want control groups, whatever this machine has of them: v2 alone, in a mount namespace that is thrown away.
OWN_CGROUP = ["unshare", "-m", "sh", "-c", 'umount -R -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && exec "$@"',
              "sh"]
DOCKER_CAPS = ["CAP_" + name for name in "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP "
               "NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE".split()]


def mrunc(words, folder, *options):
    """mrunc itself, from a copy that everybody can read."""
    from conftest import copy_tool
    copy_tool(folder)
    return ["/usr/bin/python3", "-I", "-S", folder + "/mrunc.py", "run", *options, "--copy", words[3] + ":/box/probes.zip",
            "--",
            *words[:3], "probes.zip", words[4]]


def bubblewrap(words, folder):
    """bwrap, everything unshared, no capability, a new session; it has no filter of its own."""
    out = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv", "--hostname",
           "box",
           "--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--chdir", "/",
           "--ro-bind", folder, folder]
    for name in LINKS:
        out += ["--symlink", os.readlink("/" + name), "/" + name]
    return out + words


def firejail(words, folder):
    """firejail without a profile, every restriction by option; it takes only users that passwd knows."""
    script = r'''
        cp /etc/passwd /etc/group "$0"
        echo box:x:61234:61234::/home/box:/bin/sh >> "$0"/passwd; echo box:x:61234: >> "$0"/group
        mount -t tmpfs none /run; mount -t tmpfs none /home; mkdir -p /home/box/in
        cp "$0"/probes.zip /home/box/in; chown -R 61234:61234 /home/box
        mount --bind "$0"/passwd /etc/passwd; mount --bind "$0"/group /etc/group
        exec "$@"'''
    return ["unshare", "-m", "sh", "-ec", script, folder, "setpriv", "--reuid=61234", "--regid=61234", "--clear-groups", "env",
            "HOME=/home/box", "firejail", "--quiet", "--noprofile", "--net=none", "--private=/home/box/in", "--private-dev",
            "--private-tmp", "--caps.drop=all", "--nonewprivs", "--seccomp", "--noroot", "--ipc-namespace", "--nodbus",
            "--disable-mnt", "--x11=none", "--restrict-namespaces", *words[:3], "/home/box/probes.zip", words[4]]


def bundle(words, folder, profile):
    """A bundle with the host's /usr and docker's capabilities, masks and filter."""
    root = folder + "/root"
    os.mkdir(root)
    for name in LINKS:
        os.symlink(os.readlink("/" + name), root + "/" + name)
    subprocess.run(["runc", "spec"], cwd=folder, check=True)
    with open(folder + "/config.json") as stream:
        config = json.load(stream)
    config["root"] = {"path": root, "readonly": False}
    config["process"].update(terminal=False, args=words, noNewPrivileges=False)
    config["process"]["capabilities"] = dict((kind, DOCKER_CAPS) for kind in ("bounding", "effective", "permitted"))
    config["linux"]["seccomp"] = profile
    config["linux"]["resources"].pop("pids", None)
    for path in ("/usr", folder):
        config["mounts"].append({"destination": path, "type": "bind", "source": path, "options": ["rbind", "ro"]})
    with open(folder + "/config.json", "w") as stream:
        json.dump(config, stream)


def docker_profile():
    """docker's default profile as an OCI object, from docs/peers."""
    with open(os.path.join(HERE, "docs", "peers", "docker.json")) as stream:
        calls = json.load(stream)[os.uname().machine]
    rows = [{"names": calls["allow"], "action": "SCMP_ACT_ALLOW"},
            {"names": calls["errno_ENOSYS"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]
    for name, alternatives in calls["conditional"].items():
        for tests in alternatives:
            arguments = []
            for test in tests:
                place, operator, value = test.split(" -> ")[0].split()
                arguments.append({"index": int(place[3:]), "op": "SCMP_CMP_" + operator, "value": int(value),
                                  "valueTwo": int(test.partition(" -> ")[2] or 0)})
            rows.append({"names": [name], "action": "SCMP_ACT_ALLOW", "args": arguments})
    return {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "syscalls": rows,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"] if os.uname().machine == "x86_64" else
            ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]}


def runc(words, folder):
    """runc as docker starts it by default: its capabilities, masks and seccomp profile, no user namespace."""
    bundle(words, folder, docker_profile())
    return OWN_CGROUP + ["runc", "--root", folder + "/state", "run", "--bundle", folder, os.path.basename(folder)]


def nspawn(words, folder):
    """systemd-nspawn with a network, user and everything namespace of its own and no_new_privs."""
    root = folder + "/root"
    for name in ("usr", "etc", "var/tmp"):
        os.makedirs(root + "/" + name)
    for name in LINKS:
        os.symlink(os.readlink("/" + name), root + "/" + name)
    return OWN_CGROUP + ["systemd-nspawn", "--quiet", "--directory", root, "--register=no", "--keep-unit", "--as-pid2",
                         "--pipe",
                         "--private-network", "--private-users=65536:65536", "--no-new-privileges=yes", "--bind-ro=/usr",
                         "--bind-ro=" + folder + "/probes.zip:/probes.zip", "--link-journal=no", "--timezone=off",
                         "--resolv-conf=off", *words[:3], "/probes.zip", words[4]]


def runsc(words, folder):
    """gVisor: a kernel of its own in user space, no network."""
    return ["runsc", "--network=none", "--root", folder + "/state", "--ignore-cgroups", "do", "--", *words]


#: name -> (function, who)
TOOLS = {
    "mrunc": (mrunc, "user"),
    "mrunc, as root": (mrunc, "root"),
    # As selftest: the first probe of a call of high risk would else end the sandbox of all others.
    "mrunc --harden": (lambda words, folder: mrunc(words, folder, "--harden", "--seccomp-action",
                                                   "errno"), "user"),
    "bubblewrap": (bubblewrap, "user"),
    "firejail": (firejail, "root"),
    "runc, as docker": (runc, "root"),
    "systemd-nspawn": (nspawn, "root"),
    "runsc (gVisor)": (runsc, "root"),
}


def reached(found):
    """{danger: [ids reached], "tried": {danger: number}}."""
    out = {"tried": {}}
    for probe in corpus():
        if probe.place() == "outside":
            continue  # it tries mrunc itself
        outcome = found.get(probe.id)
        if probe.id in UNPROVEN and (outcome is None or outcome.kind != "REACHED"):
            continue
        out["tried"][probe.danger] = out["tried"].get(probe.danger, 0) + 1
        if outcome is None or outcome.kind in ("REACHED", "error"):
            out.setdefault(probe.danger, []).append(probe.id + ("" if outcome and outcome.kind == "REACHED" else "?"))
    return out


def main():
    """Prints the table."""
    wanted = [word for word in sys.argv[1:] if not word.startswith("-")]
    rows = {}
    for name, (tool, who) in TOOLS.items():
        if not wanted or name in wanted:
            try:
                rows[name] = reached(positive.run(tool, who))
            except (AssertionError, subprocess.SubprocessError, OSError) as error:
                rows[name] = {"failed": str(error)[-400:]}
    if "--json" in sys.argv:
        print(json.dumps(rows, indent=1))
        return
    print("Linux %s, %s" % (os.uname().release, os.uname().machine))
    print("| sandbox | host integrity | kernel surface | information |\n|---|---|---|---|")
    for name, row in rows.items():
        cells = ["did not run"] * 3 if "failed" in row else [
            "%d of %d" % (len(row.get(danger, ())), row["tried"][danger]) for danger in DANGERS[:3]]
        print("| %s | %s |" % (name, " | ".join(cells)))
        if "failed" in row:
            print("<!-- %s -->" % row["failed"])


if __name__ == "__main__":
    main()
