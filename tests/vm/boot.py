# SPDX-License-Identifier: Apache-2.0
"""One virtual machine from its start to its end: the checkout goes in as a tar on a raw disk, results come back on another.

That works with every kernel; none needs a file-sharing driver, and the guest has no network.  Nothing that the guest wrote is
trusted: of its results, regular files with plain names are taken.
"""
import ctypes
import io
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import threading
import time

from image import USERS
from report import Failure, say

HERE = os.path.dirname(os.path.abspath(__file__))
RESULTS = 64 << 20
SHOWN = 25
PROBE_SECONDS = 20
PR_SET_PDEATHSIG = 1
TIMED_OUT = 124


class Machine:
    """arch; kernel: folder of kernel.provide; image: path; accel: tcg or kvm; lsm: the kernel's lsm= list or ""; memory: in
    MiB; cpus: how many processors."""

    def __init__(self, arch, kernel, image, accel="tcg", lsm="", memory=1024, cpus=2, verbose=False):
        self.arch, self.kernel, self.image, self.accel = arch, kernel, image, accel
        self.lsm, self.memory, self.cpus, self.verbose = lsm, memory, cpus, verbose
        with open(os.path.join(kernel, "release")) as stream:
            self.release = stream.read()

    def command(self, place, disks=(), shell=False, probe=False):
        """QEMU's command line.  place: folder for the console's log; disks: [(path, options)]."""
        console = "ttyAMA0" if self.arch == "aarch64" else "ttyS0"
        line = ["console=" + console, "quiet", "loglevel=4", "panic=-1", "random.trust_cpu=on"]
        line += ["lsm=" + self.lsm] if self.lsm else []
        # An emulated processor does not speculate; what kernels do against that would be emulated, too, at each call.
        line += ["mitigations=off"] if self.accel == "tcg" else []
        line += ["vm.probe"] if probe else []
        if self.arch == "aarch64":
            # Signed pointers and wide vectors would be emulated at every return and every copy; nothing here is about them.
            words = ["qemu-system-aarch64", "-M", "virt,gic-version=3", "-cpu",
                     "host" if self.accel == "kvm" else "max,pauth=off,sve=off,sme=off"]
        else:
            words = ["qemu-system-x86_64", "-M", "q35", "-cpu", "host" if self.accel == "kvm" else "max"]
            line += ["tsc=unstable"] if self.accel == "tcg" else []
        words += ["-accel", "tcg,thread=multi,tb-size=512" if self.accel == "tcg" else "kvm", "-smp", str(self.cpus),
                  "-m", str(self.memory), "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
                  "-kernel", self.kernel + "/vmlinuz", "-initrd", self.kernel + "/initrd.gz",
                  "-serial", "file:%s/console.log" % place, "-device", "virtio-rng-pci"]
        for number, (path, options) in enumerate(disks):
            words += ["-drive", "if=none,id=disk%d,format=raw,file=%s,werror=report,rerror=report%s"
                      % (number, path.replace(",", ",,"), options), "-device", "virtio-blk-pci,drive=disk%d" % number]
        if not probe:
            port = "virtconsole,chardev=output" if shell else "virtserialport,chardev=output,name=output"
            words += ["-device", "virtio-serial-pci", "-chardev", "stdio,id=output,signal=off", "-device", port]
        return words + ["-append", " ".join(line)]

    def run(self, place, task, write=False):
        """Boots, runs the task, and returns an Ended.  write: what is written to the image stays.  Raises Failure when the
        machine ends without a status."""
        with open(os.path.join(place, "in.tar"), "wb") as stream:
            task.write(stream)
        results = os.path.join(place, "out.tar")
        with open(results, "wb") as stream:
            stream.truncate(RESULTS)
        words = self.command(place, shell=task.shell, disks=[
            (self.image, ",cache=unsafe" + ("" if write else ",snapshot=on")),
            (os.path.join(place, "in.tar"), ",readonly=on"), (results, ",cache=unsafe")])
        if self.verbose:
            say(" ".join(map(shlex.quote, words)))
        say("booting %s %s (%s), for %s" % (self.arch, self.release, self.accel, task.user))
        begun = time.monotonic()
        late = self._wait(words, place, task)
        ended = Ended(results, time.monotonic() - begun)
        if ended.status is None:
            say("time ran out after %d s; the console's last lines:" % task.timeout if late else
                "the machine ended without a result; the console's last lines:")
            print("\n".join(self._console(place)), file=sys.stderr)
            if late:
                ended.status = TIMED_OUT
                return ended
            raise Failure("no result from %s %s" % (self.arch, self.release))
        if ended.status == "setup":
            raise Failure("--setup failed in the guest")
        ended.status = int(ended.status)
        say("%s %s: booted after %.1f s, ran for %.1f s (the guest's clock); %.1f s in all; status %d"
            % (self.arch, self.release, ended.started, ended.ended - ended.started, ended.wall, ended.status))
        return ended

    def _wait(self, words, place, task):
        """Waits for QEMU; returns whether time ran out.  However this ends, QEMU has ended too."""
        # Its own session: the terminal's Ctrl-C is ours to answer.  Snapshots lie where TMPDIR says.  Output goes through us:
        # QEMU would make the caller's stdout non-blocking.  Its stdin stays open: at an end of file the port disconnects.
        channel = None if task.shell else subprocess.PIPE
        process = subprocess.Popen(words, stdin=channel, stdout=channel, start_new_session=not task.shell,
                                   preexec_fn=die_with_parent, env=dict(os.environ, TMPDIR=place))
        copier = None if task.shell else threading.Thread(target=_copy, daemon=True, args=(
            process.stdout, task.output or sys.stdout.buffer))
        try:
            if copier:
                copier.start()
            process.wait(task.timeout)
            return False
        except subprocess.TimeoutExpired:
            return True
        finally:
            process.kill()
            process.wait()
            if copier:
                copier.join()
                process.stdout.close()
                process.stdin.close()

    def _console(self, place):
        try:
            with open(os.path.join(place, "console.log"), errors="replace") as stream:
                return stream.read().splitlines()[-SHOWN:]
        except FileNotFoundError:
            return []

    def boots(self, place):
        """Whether a kernel really boots with this accelerator: a nested host may have a /dev/kvm that does not."""
        try:
            subprocess.run(self.command(place, probe=True), timeout=PROBE_SECONDS, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
        except subprocess.TimeoutExpired:
            return False
        return any("VM-PROBE-OK" in line for line in self._console(place))


class Task:
    """What the guest does.  argv: list; user: root, tester or other; environ: {name: value}; setup: shell text that runs as
    root before; cgroup: v2, hybrid, v1 or none; checkout: folder or None; timeout: s; output: binary stream, else stdout."""

    def __init__(self, argv, user="root", environ=None, setup="", cgroup="v2", checkout=None, timeout=900, shell=False,
                 output=None):
        self.argv, self.user, self.environ, self.setup = argv, user, dict(environ or {}), setup
        self.cgroup, self.checkout, self.timeout, self.shell, self.output = cgroup, checkout, timeout, shell, output

    def write(self, stream):
        """Writes the input disk: init, env, cmd, setup, src/."""
        owner = USERS[self.user]
        environ = dict(self.environ, MRUNC_VM_USER=self.user, MRUNC_VM_CGROUP=self.cgroup)
        if self.shell:
            environ["MRUNC_VM_SHELL"] = "1"
        texts = {"env": "".join("export %s=%s\n" % (name, shlex.quote(value)) for name, value in environ.items()),
                 "cmd": "exec %s\n" % " ".join(map(shlex.quote, self.argv))}
        if self.setup:
            texts["setup"] = self.setup + "\n"
        with open(os.path.join(HERE, "guest.sh")) as script:
            texts["init"] = script.read()

        def ours(member):
            member.uid = member.gid = owner
            member.uname = member.gname = ""
            return member

        with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for name, text in texts.items():
                member = tarfile.TarInfo(name)
                content = text.encode()
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            folders = {"src"}
            names = files_of(self.checkout) if self.checkout else []
            for name in names:
                parts = name.split("/")[:-1]
                folders.update("/".join(["src"] + parts[:count]) for count in range(len(parts) + 1))
            for name in sorted(folders):
                member = tarfile.TarInfo(name)
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(ours(member))
            for name in names:
                tar.add(os.path.join(self.checkout, name), "src/" + name, recursive=False, filter=ours)


class Ended:
    """status: int, "setup", or None; started, ended: s of the guest's clock; wall: s; files: {name: bytes}."""

    def __init__(self, path, wall):
        self.status, self.started, self.ended, self.wall, self.files = None, 0.0, 0.0, wall, {}
        try:
            with tarfile.open(path, "r:") as tar:  # or an empty one is read to its end, as one that is compressed
                for member in tar:
                    name = member.name[2:] if member.name.startswith("./") else member.name
                    if member.isreg() and "/" not in name:
                        self.files[name] = tar.extractfile(member).read()
        except tarfile.TarError:
            pass  # it never came to writing them
        words = self.files.pop(".status", b"").decode(errors="replace").split()
        if len(words) == 3:
            self.status, self.started, self.ended = words[0], float(words[1]), float(words[2])


def files_of(checkout):
    """[name] of what belongs to a checkout: tracked and new files, or all of a copy that is no repository."""
    done = subprocess.run(["git", "-C", checkout, "ls-files", "-zco", "--exclude-standard"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if done.returncode == 0 and os.path.exists(os.path.join(checkout, ".git")):
        names = os.fsdecode(done.stdout).split("\0")
    else:
        names = []
        for folder, folders, found in os.walk(checkout):
            folders[:] = [name for name in folders if name not in (".git", "__pycache__", ".pytest_cache", "dist", "build")]
            names += [os.path.relpath(os.path.join(folder, name), checkout) for name in found]
    return sorted(name for name in names if name and os.path.lexists(os.path.join(checkout, name)))


def die_with_parent():
    """For preexec_fn: whatever happens to the harness, no QEMU stays.  prctl(2)"""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _copy(source, target):
    while True:
        block = os.read(source.fileno(), 65536)
        if not block:
            return
        try:
            target.write(block)
            target.flush()
        except (OSError, ValueError):
            pass  # whoever read us has gone; QEMU must not wait
