# SPDX-License-Identifier: Apache-2.0
"""The other sandboxes, each set up as close to mrunc's default as it can be, and the place where they run.

What leaves something on the host (firejail's mounts below /run, runc's state and control groups) is started by a helper in a
mount namespace that is thrown away: /run is empty there, and /sys/fs/cgroup holds version 2 alone, which crun insists on. It
has fewer mounts than the host, which makes most tools faster, so bwrap runs there too, as the row to compare with.
"""
import json
import os
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import measure  # noqa: E402
from measure import DOOR, PYTHON  # noqa: E402

#: name -> how it is installed.
INSTALL = {
    "bwrap": "apt-get install bubblewrap", "firejail": "apt-get install firejail", "crun": "apt-get install crun",
    "runc": "apt-get install runc", "runsc": "apt-get install runsc",
    "systemd-nspawn": "apt-get install systemd-container", "nsjail": "no package in Debian 13: build it from its source",
    "minijail0": "no package in Debian 13: build it from its source"}
#: They have no --version.
SILENT = ("minijail0", "nsjail")
APART = r"""
mount -t tmpfs -o mode=755 none /run
umount -R -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup
exec "$@"
"""


class Rival:
    """One way to run a command.  name; tool: the program that must be installed; argv: function of the command's words ->
    list (`FD:PATH` is a descriptor of PATH, `NEW-ID` a name never used before); apart: whether it wants the throw-away
    mount namespace; note: what it lacks or has more than mrunc's default."""

    def __init__(self, name, tool, argv, note="", apart=False, root=False):
        self.name, self.tool, self.argv, self.note, self.apart, self.root = name, tool, argv, note, apart, root or apart

    def missing(self):
        """Why it can't run here, or None."""
        if self.tool and find(self.tool) is None:
            return "not installed: " + INSTALL[self.tool]
        if self.root and os.getuid() != 0:
            return "runs for root only"
        return None


def find(tool):
    """The path of a program, or None."""
    return shutil.which(tool, path=measure.ENVIRONMENT["PATH"])


def version(tool):
    """What a tool says of itself, shortly; "" where it says nothing."""
    if find(tool) is None or tool in SILENT:
        return ""
    command = [find(tool), "--version"]
    done = subprocess.run(apart(command) if os.getuid() == 0 else command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          universal_newlines=True)
    words = [word.strip("()") for word in done.stdout.split() if word[:1].isdigit()]
    return words[0] if words else ""


def docker_filter(place):
    """The path of docker's default profile as our compiler makes it: one architecture, others are killed."""
    import bpf
    from mrunc import seccomp_bpf
    from mrunc.sandbox.seccomp import policy
    arch = os.uname().machine
    return _written(place, "docker.bpf", seccomp_bpf.compile_policy(
        bpf.profile("docker", arch), bpf.weights(policy.numbers(arch).NR)))


def own_filter(place):
    """The path of mrunc's default filter."""
    from mrunc.sandbox.seccomp import shipped
    return _written(place, "default.bpf", shipped.program("default", os.uname().machine))


def linear_filter(place):
    """The path of docker's profile as libseccomp makes it by default, or None without python3-seccomp."""
    import bpf
    arch = os.uname().machine
    program = bpf.libseccomp(bpf.profile("docker", arch), arch, 1)
    return None if program is None else _written(place, "libseccomp.bpf", program)


def _written(place, name, data):
    path = os.path.join(place, name)
    with open(path, "wb") as out:
        out.write(data)
    return path


def same_set_up(place):
    """bwrap's options for what mrunc's default plan has on this host: the same namespaces, mounts, files and environment.
    It has no Landlock, no resource limits, no id but the caller's outside, and it reads nothing back."""
    from mrunc.sandbox.launch import run
    from mrunc.commands.run import plan_text
    from mrunc.sandbox.plan import spec
    plan = plan_text.as_dict(run.prepare(spec.Spec(["/bin/true"])))
    files = {}
    operations = run.prepare(spec.Spec(["/bin/true"])).operations
    for number, operation in enumerate(op for op in operations if op.kind == "file"):
        files[os.fsdecode(operation.dst)] = _written(place, "file-%d" % number, operation.content)
    bound = {op["dst"] for op in plan["operations"] if op["kind"] in ("bind", "device")}
    out = ["--unshare-all", "--unshare-user", "--disable-userns", "--uid", "0", "--gid", "0", "--hostname", plan["hostname"],
           "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv", "--dev", "/dev"]
    for name, value in plan["env"].items():
        out += ["--setenv", name, value]
    for op in plan["operations"]:
        kind, target = op["kind"], op["dst"]
        if target == "/" or target.startswith("/dev/") and target != "/dev/shm" or target in ("/dev", "/proc"):
            continue  # bwrap's own root, and its --dev and --proc
        if kind == "directory" and target not in bound:
            out += ["--dir", target]
        elif kind == "symlink":
            out += ["--symlink", op["src"], target]
        elif kind == "file" and target not in bound:
            out += ["--file", "FD:" + files[target], target]
        elif kind == "bind":
            out += ["--ro-bind", op["src"], target]
        elif kind == "tmpfs":
            out += ["--size", str(op["size"]), "--tmpfs", target]
    return out + ["--proc", "/proc", "--remount-ro", "/", "--chdir", plan["cwd"]]


def few_mounts():
    """bwrap's options as careful people type them: /usr, /proc, /dev, /tmp, everything unshared, no capability."""
    out = ["--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv",
           "--hostname", "box", "--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
           "--chdir", "/"]
    for name in ("bin", "lib", "lib64", "sbin"):
        if os.path.islink("/" + name):
            out += ["--symlink", os.readlink("/" + name), "/" + name]
    return out


def _bundles(place, bound):
    """{profile?: function of a command -> directory of a new bundle}; the command's own bundle is made once."""
    import containment
    made = {}

    def bundle(words, profile, inside=True):
        key = (tuple(words), profile)
        if key not in made:
            folder = os.path.join(place, "bundle-%d" % len(made))
            os.mkdir(folder)
            containment.bundle(list(words), folder, containment.docker_profile() if profile else None)
            path = folder + "/config.json"
            with open(path) as stream:
                config = json.load(stream)
            config["process"]["noNewPrivileges"] = True
            if not profile:
                del config["linux"]["seccomp"]
            config["mounts"] += [{"destination": each, "type": "bind", "source": each, "options": ["rbind", "ro"]}
                                 for each in bound]
            with open(path, "w") as out:
                json.dump(config, out)
            made[key] = folder
        return made[key]
    return bundle


def _nspawn_root(place):
    root = os.path.join(place, "nspawn")
    for name in ("usr", "etc", "var/tmp"):
        os.makedirs(os.path.join(root, name))
    for name in ("bin", "lib", "lib64", "sbin"):
        if os.path.islink("/" + name):
            os.symlink(os.readlink("/" + name), os.path.join(root, name))
    return root


def rivals(place, shown=()):
    """[Rival] of everything that is compared.  shown: host directories that the commands need besides /usr."""
    docker, own, linear = docker_filter(place), own_filter(place), linear_filter(place)
    same, few = same_set_up(place), few_mounts()
    bundle = _bundles(place, shown)
    nspawn = _nspawn_root(place)
    binds = [word for path in shown for word in ("--ro-bind", path, path)]
    bwrap = find("bwrap") or "bwrap"
    # bwrap mounts in the order of its options: before its root is made read-only
    at = same.index("--remount-ro")
    same = same[:at] + binds + same[at:]
    few = few + binds

    def mrunc(*options):
        show = [word for path in shown for word in ("--ro", path)]
        return lambda words: [PYTHON, DOOR, "run", *options, *show, "--", *words]

    def oci(tool, profile, apart_state):
        state = os.path.join(place, apart_state)
        return lambda words: [find(tool) or tool, "--root", state, "run", "--bundle", bundle(words, profile), "NEW-ID"]

    out = [
        Rival("mrunc run", None, mrunc(), "`python3 mrunc.py run`: everything, read back"),
        Rival("bwrap", "bwrap", lambda words: [bwrap, *same, *words], "mrunc's set-up; no filter, no Landlock, no limits"),
        Rival("bwrap + filter", "bwrap", lambda words: [bwrap, *same, "--seccomp", "FD:" + docker, *words],
              "the same, docker's profile by our compiler (installed twice: pid 1 and program)"),
        Rival("bwrap + mrunc's filter", "bwrap", lambda words: [bwrap, *same, "--seccomp", "FD:" + own, *words],
              "the same, mrunc's own filter"),
        Rival("bwrap --as-pid-1 + filter", "bwrap", lambda words: [
            bwrap, "--as-pid-1", *same, "--seccomp", "FD:" + docker, *words], "the same without a pid 1 of its own"),
        Rival("bwrap, few mounts", "bwrap", lambda words: [bwrap, *few, *words], "/usr, /proc, /dev, /tmp"),
        Rival("bwrap, few mounts + filter", "bwrap", lambda words: [bwrap, *few, "--seccomp", "FD:" + docker, *words],
              "the same, docker's profile by our compiler"),
    ]
    if linear:
        out.append(Rival("bwrap, few mounts + libseccomp", "bwrap", lambda words: [
            bwrap, *few, "--seccomp", "FD:" + linear, *words], "the same, docker's profile by libseccomp, one architecture"))
    out += [
        Rival("bwrap + filter (apart)", "bwrap", lambda words: [bwrap, *same, "--seccomp", "FD:" + docker, *words],
              "the row to compare with where fewer mounts are", apart=True),
        Rival("crun + docker", "crun", oci("crun", True, "crun-state"), "docker's capabilities and profile, no user namespace",
              apart=True),
        Rival("runc + docker", "runc", oci("runc", True, "runc-state"), "docker's capabilities and profile, no user namespace",
              apart=True),
        Rival("firejail", "firejail", lambda words: [
            find("firejail") or "firejail", "--quiet", "--noprofile", "--net=none", "--private-dev",
            *([] if shown else ["--private-tmp"]), "--caps.drop=all", "--nonewprivs", "--seccomp", "--ipc-namespace",
            "--nodbus", "--x11=none", *words],
            "no user namespace, the host's files are visible, its own filters", apart=True),
        Rival("systemd-nspawn", "systemd-nspawn", lambda words: [
            find("systemd-nspawn") or "systemd-nspawn", "--quiet", "--directory", nspawn, "--register=no", "--keep-unit",
            "--as-pid2", "--pipe", "--private-network", "--private-users=65536:65536", "--no-new-privileges=yes",
            "--bind-ro=/usr", "--link-journal=no", "--timezone=off", "--resolv-conf=off",
            *["--bind-ro=" + path for path in shown], *words], "its own filter; no systemd runs here", apart=True),
        Rival("runsc", "runsc", lambda words: [
            find("runsc") or "runsc", "--network=none", "--root", os.path.join(place, "runsc-state"), "--ignore-cgroups", "do",
            "--", *words], "gVisor: a kernel of its own in user space", apart=True),
        Rival("nsjail", "nsjail", lambda words: [
            find("nsjail") or "nsjail", "-Mo", "--quiet", "--chroot", "/", "-N", "--", *words], "no filter"),
        Rival("minijail0", "minijail0", lambda words: [
            find("minijail0") or "minijail0", "-v", "-p", "-e", "-l", "-N", "--uts", "-n", "-c", "0", "--", *words],
            "no filter, the host's files are visible", root=True),
    ]
    return out


class Helper:
    """A process in the throw-away mount namespace that starts and times commands; one JSON line asks, one answers."""

    def __init__(self):
        self.process = subprocess.Popen(
            apart([PYTHON, "-S", os.path.abspath(__file__), "--serve"]), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            universal_newlines=True)

    def ask(self, **request):
        """The answer to one request: {"do": "once" | "start" | "mounts", "argv"}."""
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the helper in the mount namespace has gone")
        return json.loads(line)

    def once(self, argv):
        """As measure.once."""
        answer = self.ask(do="once", argv=argv)
        return answer["ns"], answer["status"]

    def close(self):
        """Ends the helper, and with its namespace everything mounted there."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def fresh(argv):
    """The command line with a name for its sandbox that was never used."""
    return ["mrunc-bench-%d-%d" % (os.getpid(), time.monotonic_ns()) if word == "NEW-ID" else word for word in argv]


def apart(argv):
    """The command line that runs another in a mount namespace of its own, made as the helper's."""
    return [find("unshare"), "-m", "--propagation", "private", "sh", "-ec", APART, "sh", *fresh(argv)]


def serve():
    """The helper's side."""
    for line in sys.stdin:
        request = json.loads(line)
        answer = {}
        try:
            if request["do"] == "once":
                answer["ns"], answer["status"] = measure.once(fresh(request["argv"]))
            elif request["do"] == "start":
                answer["pid"] = measure.start(fresh(request["argv"]))
            elif request["do"] == "reap":
                answer["status"] = os.waitpid(request["pid"], 0)[1]
            elif request["do"] == "mounts":
                with open("/proc/self/mountinfo") as stream:
                    answer["mounts"] = len(stream.readlines())
        except (OSError, subprocess.SubprocessError) as error:
            answer = {"ns": 0, "status": -1, "error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__" and sys.argv[1:] == ["--serve"]:
    serve()
