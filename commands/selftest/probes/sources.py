# SPDX-License-Identifier: Apache-2.0
"""Looks for traps that an earlier sandbox may leave in a directory of a later one.

They run outside, beside the sandboxes that they start: mrunc itself is tested. `facts["tool"]` is
the command line before the options. If it is empty, the program runs without a sandbox and reaches
everything: the positive control.
"""
import errno
import os
import signal
import socket
import struct
import time

from ..attempt import ERROR, Outcome, blocked, call, invisible, reached
from .namespaces import NEWNS, NEWUSER
from ..probe import HOST, INFO, Probe

GROUP = "sources"
NOBODY = 65534
WORD = "planted-%d"
RENAME_EXCHANGE, AT_FDCWD, MS_REC, MS_PRIVATE = 2, -100, 0x4000, 0x40000
#: The race: most starts, and seconds after which none begins.
STARTS, LONGEST = 3, 10.0
#: Seconds. The link must outlive the two calls that find and read it, and should be rare.
LINK_TIME, DIRECTORY_TIME = 2e-5, 2e-4
LINKS = "a link is followed only where root alone can write"
#: Programs that try a FIFO ($0) or a socket, and print the word ($1) if it opens.
READS = '(exec 3<"$0") 2>/dev/null && echo "$1" || echo shut'
CONNECTS = """
import socket, sys
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[1])
    print(sys.argv[2])
except OSError as error:
    print("shut", error)
"""


def word():
    """Returns a text that nothing else prints."""
    return WORD % os.getpid()


def starts(facts, options, argv, plain=None, **settings):
    """Runs a program in a sandbox; without one runs `plain`, or the program itself.

    Returns (exit status, stdout, stderr).
    """
    import subprocess
    command = facts["tool"] + options + ["--"] + argv if facts["tool"] else plain or argv
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, universal_newlines=True, **settings)
    out, said = process.communicate()
    return process.returncode, out, said


def folder(facts, *names):
    """Makes a directory with others in it, below the scratch directory; returns its path."""
    place = "%s/%d" % (facts["scratch"], os.getpid())
    os.chmod(facts["scratch"], 0o755)
    os.mkdir(place, 0o755)
    for name in names:
        os.makedirs("%s/%s" % (place, name), 0o755)
    return place


def hand_over(place):
    """Gives a directory and all below it to a user if we are root, whose files are trusted."""
    if os.geteuid() == 0:
        for path, directories, files in os.walk(place):
            for name in [path] + [os.path.join(path, name) for name in directories + files]:
                os.chown(name, NOBODY, NOBODY, follow_symlinks=False)


def judged(result, path, what):
    """Returns the Outcome of a start: reached if the word was printed, else blocked.

    A refusal must name this path, or an option that the tier does not have; otherwise it is an
    error.
    """
    status, out, said = result
    if word() in out:
        return reached(what)
    if out.startswith("shut"):
        return blocked("it does not open: " + out.strip())
    refused = [line for line in said.splitlines() if line.startswith("mrunc: options: ") or
               line.startswith("mrunc: ") and path in line]
    if status in (2, 125) and refused:
        return blocked("refused: " + refused[0][len("mrunc: "):])
    return Outcome(ERROR, "status %d, %s: %s" % (status, path, (said or out)[-200:]))


def linked(option):
    """Returns an action with a source that is a link which somebody else planted."""
    def action(facts):
        place = folder(facts, "work", "secret/usr")
        link, target = place + "/work/data", place + "/secret"
        with open(target + "/word", "w") as stream:
            stream.write(word())
        os.symlink("../secret" + ("/word" if option == "--copy" else ""), link)
        shown = ["cat", link + "/word"]
        options, argv, plain, settings = [option, link], shown, shown, {}
        if option == "--copy":
            argv, plain, settings = ["cat", "data"], ["cat", "data"], {"cwd": place + "/work"}
        elif option == "--rootfs":
            for name in ("bin", "lib", "lib64"):
                os.symlink("usr/" + name, target + "/" + name)
            options, argv = [option, link, "--ro", "/usr"], ["cat", "/word"]
        elif option == "--overlay":
            options = ["--ro", link, "--overlay=" + link]
        hand_over(place)
        return judged(starts(facts, options, argv, plain, **settings), link,
                      "%s followed a planted link" % option)
    return action


def linked_parent(facts):
    """Tries a source below such a link."""
    place = folder(facts, "work", "secret/deep")
    with open(place + "/secret/deep/word", "w") as stream:
        stream.write(word())
    os.symlink("../secret", place + "/work/data")
    hand_over(place)
    path = place + "/work/data/deep"
    return judged(starts(facts, ["--ro", path], ["cat", path + "/word"]), path,
                  "--ro went through a planted link")


def exchanged(facts):
    """Makes a directory above a source a link while the sandbox starts.

    The program would then write outside of its source.
    """
    place = folder(facts, "out/a/b", "secret/b", "x")
    inner, link = place + "/out/a", place + "/out/other"
    os.symlink("../secret", link)
    hand_over(place)
    script, hit = '[ -L "$0" ] || echo > "$0"/hit', place + "/secret/hit"
    plain = ["sh", "-c", 'until [ -e "$1" ]; do %s; done' % script, inner, hit]
    swapper = _swaps(inner.encode(), link.encode())
    ran, count, end = 0, 0, time.monotonic() + LONGEST
    try:
        while count < STARTS and time.monotonic() < end and not os.path.exists(hit):
            status = starts(facts, ["--rw", place + "/out", "--ro", place + "/x:" + inner + "/b"],
                            ["sh", "-c", script, inner], plain)[0]
            count, ran = count + 1, ran + (status not in (2, 125))
    finally:
        os.kill(swapper, signal.SIGKILL)
        os.waitpid(swapper, 0)
    if os.path.exists(hit):
        return reached("start %d wrote outside of its source" % count)
    return blocked("%d starts, %d of them ran" % (count, ran))


def _swaps(one, other):
    """Returns the pid of a child that exchanges two names until it is killed."""
    pid = os.fork()
    if pid:
        return pid
    try:
        while True:
            for pause in (LINK_TIME, DIRECTORY_TIME):
                call("renameat2", AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE)
                end = time.monotonic() + pause
                while time.monotonic() < end:
                    pass
    finally:
        os._exit(1)


def door(kind, path):
    """Makes a FIFO or a socket; returns what serves it, and the program that tries it."""
    if kind == "FIFO":
        os.mkfifo(path)
        os.chmod(path, 0o777)
        held = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        return held, ["sh", "-c", READS, path, word()]
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(1)
    os.chmod(path, 0o777)
    return server, ["python3", "-I", "-S", "-c", CONNECTS, path, word()]


def special(kind):
    """Returns an action with a FIFO or a socket of the host below a shown directory."""
    def action(facts):
        place = folder(facts, "work/deep")
        path = place + "/work/deep/door"
        served, argv = door(kind, path)
        hand_over(place)
        return judged(starts(facts, ["--ro", place + "/work"], argv), path,
                      "a %s of the host's opens" % kind)
    return action


def in_store(kind):
    """Returns an action with a FIFO or a socket below /opt, which is shown if PATH names it.

    It is made in an own mount namespace.
    """
    def action(facts):
        try:
            _own_mounts()
            call("mount", b"none", b"/opt", b"tmpfs", 0, None)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return invisible("this host has no /opt")
            raise
        os.makedirs("/opt/mrunc-selftest/bin")
        path = "/opt/mrunc-selftest/door"
        served, argv = door(kind, path)
        search = "/opt/mrunc-selftest/bin:" + os.environ.get("PATH", "/usr/bin:/bin")
        environ = dict(os.environ, PATH=search)
        return judged(starts(facts, [], argv, env=environ), path, "a %s of a store opens" % kind)
    return action


def _own_mounts():
    """Enters a new mount namespace, within a user namespace if needed."""
    uid, gid = os.geteuid(), os.getegid()
    call("unshare", NEWNS if uid == 0 else NEWNS | NEWUSER)
    if uid:
        maps = {"uid_map": "%d %d 1" % (uid, uid), "gid_map": "%d %d 1" % (gid, gid)}
        for name, text in [("setgroups", "deny")] + list(maps.items()):
            with open("/proc/self/" + name, "w") as stream:
                stream.write(text)
    call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)


def evidence(option, name, *more):
    """Returns an action that looks for mrunc's output files in a directory that is shown."""
    def action(facts):
        place = folder(facts, "work")
        if not facts["tool"]:
            open("%s/work/%s.%d.tmp" % (place, name, os.getpid()), "w").close()  # a careless tool's
        hand_over(place)
        options = [text.replace("WORK", place + "/work") for text in more]
        options += [option, place + "/work/" + name]
        script = 'for name in "$0"/* "$0"/.*; do case $name in */%s*|*/.%s*) echo %s;; esac; done; '
        script = script % (name, name, word()) + "echo end"
        shown = "." if "--here" in more else place + "/work"
        status, out, said = starts(facts, options, ["sh", "-c", script, shown], cwd=place + "/work")
        if status == 0 and out == "end\n":
            return invisible("nothing of it is to be seen")
        return judged((status, out, said), name, "the program sees what mrunc writes")
    return action


FLOOD = """
import array, resource, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
sent, kept = 0, []
try:
    while sent < 9000:
        kept += socket.socketpair()
        kept[-2].setblocking(False)
        try:
            while sent < 9000:
                rights = array.array("i", [0] * 253)
                kept[-2].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
                sent += 253
        except BlockingIOError:
            pass
except OSError:
    pass
print("sent", sent, flush=True)
sys.stdin.read()
"""


def in_flight(facts):
    """Sends descriptors through local sockets until no more may be sent.

    The kernel counts them per user and compares with the sender's limit of open files.
    """
    import resource
    import subprocess
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1024), hard))  # the usual limit
    argv = ["python3", "-I", "-S", "-c", FLOOD]
    process = subprocess.Popen(facts["tool"] + ["--"] + argv if facts["tool"] else argv,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, universal_newlines=True)
    said = process.stdout.readline()
    ours, theirs = socket.socketpair()
    try:
        ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("=i", 0))])
        refused = None
    except OSError as error:
        refused = error
    process.stdin.close()
    process.wait()
    if refused:
        return reached("with %s in flight there, none may be passed here: %s"
                       % (said.strip(), refused.strerror))
    if not said.startswith("sent "):
        return Outcome(ERROR, "status %d: %s" % (process.returncode, process.stderr.read()[-200:]))
    return blocked("with %s in flight there, others are passed here" % said.strip())


def _probe(number, title, action, layers, danger=HOST, deadline=180.0):
    return Probe("O%02d" % number, title, danger, "T1611" if danger == HOST else "", layers, action,
                 needs=("tool",), bare=False, deadline=deadline)


PROBES = (
    _probe(1, "--ro of a link that an earlier sandbox planted", linked("--ro"), LINKS),
    _probe(2, "--rw of such a link", linked("--rw"), LINKS),
    _probe(3, "--copy of such a link", linked("--copy"), LINKS),
    _probe(4, "--rootfs of such a link", linked("--rootfs"), LINKS),
    _probe(5, "--overlay over such a link", linked("--overlay"), LINKS),
    _probe(6, "--ro below such a link", linked_parent, LINKS),
    _probe(10, "a directory becomes a link while the sandbox starts", exchanged,
           "each source is opened once"),
    _probe(20, "a FIFO of the host below a source", special("FIFO"), "refused before the start"),
    _probe(21, "a socket of the host below a source", special("socket"),
           "refused before the start"),
    _probe(22, "a FIFO of the host below /opt", in_store("FIFO"), "refused before the start"),
    _probe(23, "a socket of the host below /opt", in_store("socket"), "refused before the start"),
    _probe(30, "the report while it is made, below --here",
           evidence("--report", "r.json", "--here"), "no draft has a name", INFO),
    _probe(31, "the ledger while it is made, below --here",
           evidence("--ledger", "l.json", "--here"), "refused before the start", INFO),
    _probe(32, "the report while it is made, below --ro",
           evidence("--report", "r.json", "--ro", "WORK"), "no draft has a name", INFO),
    _probe(40, "no other program of the user may pass descriptors on", in_flight,
           "the hard limit of open files"),
)
