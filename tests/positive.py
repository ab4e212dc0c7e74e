# SPDX-License-Identifier: Apache-2.0
"""The positive controls: the probes where they must be reached.

A probe that is never reached anywhere proves nothing.  Each place is one command line that runs the archive of the probes
without a sandbox: in namespaces that are thrown away, with the privileges or the leaks that the probe looks for.
"""
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if HERE not in sys.path:
    sys.path.insert(0, HERE)

import mrunc  # noqa: E402,F401  registers the package
from mrunc.commands.selftest import archive, runner, selftest  # noqa: E402
from mrunc.commands.selftest.plants import Plants  # noqa: E402
from mrunc.commands.selftest.probe import INFO  # noqa: E402

NAMESPACES = ["--mount", "--pid", "--ipc", "--uts", "--net", "--cgroup", "--fork", "--mount-proc"]
#: A world full of leaks, in namespaces of its own.  Last: a current directory outside the root, and groups.
LEAKY = r"""
set -e
umask 022
python=$1
mount -t tmpfs none /run
mkdir /run/shared /run/hidden /run/dbus /run/x /run/l /run/u /run/m
mount -t tmpfs none /run/shared
mount --make-shared /run/shared
ip link set lo up
ip link add mrunc0 type dummy && ip link set mrunc0 up && ip addr add 192.0.2.1/24 dev mrunc0
for kind in debugfs:/sys/kernel/debug tracefs:/sys/kernel/tracing securityfs:/sys/kernel/security \
            binfmt_misc:/proc/sys/fs/binfmt_misc; do
    mount -t ${kind%:*} none ${kind#*:} 2>/dev/null || true
done
mount -t tmpfs none /home && mkdir /home/somebody
mount -t tmpfs none /boot && touch /boot/vmlinuz
mount -t tmpfs none /run/u && mkdir /run/u/u /run/u/w
mount -t overlay none -o lowerdir=/run/l,upperdir=/run/u/u,workdir=/run/u/w /run/m
"$python" -I -S -c 'import socket
for path in ("/run/docker.sock", "/run/dbus/system_bus_socket", "/run/x/wayland-0"):
    socket.socket(socket.AF_UNIX).bind(path)'
"$python" -I -S -c 'import os, time
kept = os.openpty(); os.chroot("/usr"); os.chdir("/"); time.sleep(600)' </dev/null >/dev/null 2>&1 &
(cd /run/hidden; exec sleep 600) </dev/null >/dev/null 2>&1 &
root=/run/root
mkdir $root && mount -t tmpfs none $root
for name in /*; do
    if [ -L $name ]; then cp -d $name $root; elif [ -d $name ]; then mkdir $root$name && mount --rbind $name $root$name; fi
done
export XDG_RUNTIME_DIR=/run/x USER=somebody
exec setpriv --groups 4,20 --inh-caps +chown --ambient-caps +chown "$python" -I -S -c 'import os, sys
os.chdir("/run/hidden"); os.chroot("/run/root"); os.execv(sys.argv[1], sys.argv[1:])' "$@"
"""


#: Room for everything, as a user: what the limits are tried on.
ROOMY = r"""
mount -t tmpfs -o size=2G,nr_inodes=0 none /tmp && mount -t tmpfs -o size=2G none /dev/shm || exit 1
exec "$@"
"""


def places():
    """{name: (command in front of the archive's own, who, groups, more facts)}, the harmless first.

    Those that this caller can have.
    """
    groups = ("namespaces", "neighbours")
    safe = [probe.id for probe in runner.corpus() if probe.needs or probe.danger == INFO or probe.group in groups]
    found = {"plain": ([], "user", safe),
             "unconfined": ([], "user", ("sources",), {"tool": []}),
             "user": (["unshare", "--user", "--map-root-user"] + NAMESPACES, "user", ())}
    if os.geteuid() == 0:
        found["root"] = (["unshare"] + NAMESPACES, "root", ())
        found["leaky"] = (["unshare"] + NAMESPACES + ["sh", "-c", LEAKY, "sh"], "root", ())
        found["roomy"] = (["unshare"] + NAMESPACES + ["sh", "-c", ROOMY, "sh"], "root", ("limits",))
    return found


def run(command, who, groups=(), facts=None, python="/usr/bin/python3", timeout=300):
    """{probe id: Outcome} of the archive run behind a command.

    command: words that stand before the archive's own, or a function(words, folder) -> the whole command line, where
    folder holds the archive and whatever else is put into it; who: root, or user for an ordinary one.
    facts: what the probes are told besides what is planted.
    """
    found = {}
    for terminal in (False, True):
        found.update(_run(command, who, groups, facts or {}, python, timeout, terminal))
    return found


def _run(command, who, groups, facts, python, timeout, terminal):
    from conftest import USER, become
    places = ["terminal"] if terminal else ["inside", "outside"]
    asked = [probe.id for probe in runner.corpus(groups) if probe.place() in places]
    if not asked:
        return {}
    with Plants(terminal) as plants, tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chmod(folder, 0o755)
        program = os.path.join(folder, "probes.zip")
        with open(program, "wb") as stream:
            stream.write(archive.build())
        if who == "user" and os.geteuid() == 0:
            plants.given.give_to(USER)
        plants.facts["supervisor"] = _neighbour(plants, who)
        plants.facts.update(facts)
        request = json.dumps({"nonce": "control", "groups": list(groups), "places": places,
                              "facts": plants.facts})
        words = [python, "-I", "-S", program, request]
        line = command(words, folder) if callable(command) else list(command) + words
        done = subprocess.run(line, stdout=subprocess.PIPE, env=plants.environ, timeout=timeout,
                              cwd="/", pass_fds=plants.descriptors, preexec_fn=become(who),
                              **plants.stdio())
        said = plants.said()
        # runsc writes what a program with a terminal says to descriptor 2.
        found = selftest.parse_lines(done.stdout or said.encode(), "control")
        plants.testify(found, asked)
    assert found, (done.returncode, said[-2000:], done.stdout[-2000:])
    return found


def _neighbour(plants, who):
    """The pid of a process of the same user, which the probes may ask whether they could signal it."""
    from conftest import become
    process = subprocess.Popen(["sleep", "600"], preexec_fn=become(who), stdin=subprocess.DEVNULL)
    plants.undo.append((process.wait, ()))
    plants.undo.append((process.kill, ()))
    return process.pid


def main():
    """Prints {probe id: the first place where it was reached}: tests/data/probes-seen.json.

    Arguments: PLACE=FILE, what `python3 -I -S ARCHIVE '{"nonce": "vm", "facts": {}}'` printed as root in a virtual machine
    (its kernel with the modules of the socket families, the device mapper, vhost, uinput and msr loaded)."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    seen = {}
    results = [(name, run(*place)) for name, place in places().items()]
    for word in sys.argv[1:]:
        name, _, path = word.partition("=")
        with open(path, "rb") as stream:
            results.append((name, selftest.parse_lines(stream.read(), "vm")))
    for name, found in results:
        for probe, outcome in found.items():
            if outcome.kind == "REACHED":
                seen.setdefault(probe, name)
    print(json.dumps(seen, indent=0, sort_keys=True))


if __name__ == "__main__":
    main()
