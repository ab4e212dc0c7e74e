# SPDX-License-Identifier: Apache-2.0
"""The library in every kind of host program: what it promises one, and that it leaves nothing behind.

Each test is a program of its own (tests/hosting.py has what it begins with), as root and as an ordinary user.
"""
import os
import shutil
import signal
import subprocess
import time

import pytest

from conftest import PYTHON, USER, become
from hosting import HEAD, OWN_MOUNTS, OWN_USERS


def test_a_host_of_many_threads(host):
    host("""
import threading
got = []
def work(number):
    for turn in range(4):
        done = mrunc.run(["sh", "-c", "cat; exit %d" % number], input=b"%d" % number, capture_output=True)
        got.append((number, done.returncode, done.stdout))
threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert sorted(got) == [(number, number, b"%d" % number) for number in range(12) for _ in range(4)]
assert len(launchers()) == 1
""")


def test_a_host_with_an_event_loop(host):
    host("""
import asyncio
async def main():
    box = mrunc.Sandbox(hostname="box")
    ticks = []
    async def tick():
        while True:
            ticks.append(1)
            await asyncio.sleep(0.001)
    ticking = asyncio.ensure_future(tick())
    done = await asyncio.gather(*[box.run_async(["sh", "-c", "cat; sleep 0.1; exit %d" % number], input=b"%d" % number,
                                                capture_output=True) for number in range(8)])
    assert [(one.returncode, one.stdout) for one in done] == [(number, b"%d" % number) for number in range(8)]
    assert len(ticks) > 10
    task = asyncio.ensure_future(box.run_async(["sleep", "1000"]))
    await asyncio.sleep(0.05)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    else:
        raise AssertionError
    ticking.cancel()
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
until(lambda: not sandboxes())
""")


WORKER = """
import sys
sys.path.insert(0, %r)
import mrunc

def work(number):
    result = mrunc.run(["sh", "-c", "echo out; exit %%d" %% number], capture_output=True)
    return result  # pickled on its way

def refused(number):
    mrunc.run(["nope"])
"""


def test_an_event_loop_is_told_nothing_of_a_launcher_that_died_when_its_run_was_cancelled(host):
    host("""
import asyncio, gc, signal
told = []
async def main(cancelled):
    asyncio.get_event_loop().set_exception_handler(lambda loop, context: told.append(context))
    read, write = os.pipe()
    task = asyncio.ensure_future(mrunc.Sandbox().run_async(["sh", "-c", "echo up; sleep 1000"], stdout=write))
    await asyncio.sleep(0)  # it begins
    os.close(write)
    await asyncio.get_event_loop().run_in_executor(None, os.read, read, 3)
    for pid in launchers():
        os.kill(pid, signal.SIGKILL)
    if cancelled:
        task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        assert cancelled
    except mrunc.SandboxError as error:
        assert error.stage == "launcher" and not cancelled
    else:
        raise AssertionError
    os.close(read)
for cancelled in (True, False):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main(cancelled))
    gc.collect()
    loop.close()
    until(lambda: not launchers())
assert not told, told
""")


def test_hosts_of_multiprocessing_by_fork_and_spawn_and_what_is_pickled_on_the_way(inside, host):
    with open(os.path.join(inside.scratch, "worker.py"), "w") as out:
        out.write(WORKER % os.path.dirname(inside.tool))
    host("""
import multiprocessing
sys.path.insert(0, os.getcwd())
import worker
assert mrunc.run(["true"]).returncode == 0  # the parent has a launcher of its own, which a fork inherits a socket of
for method in ("fork", "spawn"):
    with multiprocessing.get_context(method).Pool(2) as pool:
        done = pool.map(worker.work, range(6))
        assert [(one.returncode, one.stdout, one.in_force("seccomp")) for one in done] == [(n, b"out\\n", True) for n in range(6)]
        try:
            pool.map(worker.refused, [1])
        except mrunc.SandboxError as error:
            assert error.status == 127 and "not found" in str(error)
        else:
            raise AssertionError
        pool.close()
        pool.join()
until(lambda: len(launchers()) == 1)
try:
    mrunc.run(["false"], check=True)
except mrunc.CalledProcessError as error:
    copy = pickle.loads(pickle.dumps(error))
    assert copy.returncode == 1 and copy.result.reason == "exited"
""")


def test_a_host_like_a_notebooks_kernel(host):
    """The code runs in a thread beside one with a running loop; sys.stdout is no file."""
    assert host("""
import asyncio, io, threading
class Stream(io.TextIOBase):
    def write(self, text):
        written.append(text)
        return len(text)
    def fileno(self):
        raise io.UnsupportedOperation("fileno")
written, real = [], sys.stdout
sys.stdout = sys.stderr = Stream()
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
async def cell():
    plain = mrunc.run(["echo", "to descriptor 1"])             # in the loop's own thread, while it runs
    waited = await mrunc.Sandbox().run_async(["echo", "captured"], capture_output=True, text=True)
    print(plain.returncode, waited.stdout, end="")
asyncio.run_coroutine_threadsafe(cell(), loop).result()
try:
    mrunc.run(["true"], stdout=sys.stdout)
except mrunc.SandboxError as error:
    assert error.status == 2 and "no descriptor" in str(error)
else:
    raise AssertionError
sys.stdout = real
assert "".join(written) == "0 captured\\n", written
""") == "to descriptor 1\n"


def test_a_host_that_has_closed_or_redirected_its_0_1_and_2(host):
    assert host("""
kept = os.dup(1)
for closed in ((0,), (1,), (2,), (0, 1, 2)):
    before = [os.dup(number) for number in range(3)]
    for number in closed:
        os.close(number)
    done = mrunc.run(["sh", "-c", "cat; echo out; echo err >&2; ls /proc/self/fd | wc -l"], input=b"in ", capture_output=True)
    assert (done.stdout, done.stderr) == (b"in out\\n4\\n", b"err\\n"), done
    assert mrunc.run(["sh", "-c", "cat; echo nowhere"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).returncode == 0
    with mrunc.Pool(1) as pool:
        assert pool.run(["echo", "x"], capture_output=True).stdout == b"x\\n"
    for number in range(3):
        os.dup2(before[number], number)
        os.close(before[number])
with open("file", "w+b") as out:
    os.dup2(out.fileno(), 1)
    assert mrunc.run(["echo", "to the file"]).returncode == 0
    os.dup2(kept, 1)
    out.seek(0)
    assert out.read() == b"to the file\\n"
""") == ""


def test_a_host_that_handles_or_ignores_signals(host):
    """Its own children are its own; it sees no child of ours but the start of the launcher, which it waits for."""
    host("""
import signal
seen = []
for action in (signal.SIG_IGN, lambda number, frame: seen.append(number)):
    signal.signal(signal.SIGCHLD, action)
    done = mrunc.run(["sh", "-c", "sleep 0.05; exit 3"])
    assert (done.returncode, done.usage["user_s"] is not None) == (3, True)
    seen.clear()
    assert mrunc.run(["sh", "-c", "exit 4"]).returncode == 4 and not seen  # by the launcher that runs
    if action is not signal.SIG_IGN:
        assert subprocess.run(["sh", "-c", "exit 5"]).returncode == 5 and seen
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    pass
else:
    raise AssertionError
ticks = []
signal.signal(signal.SIGALRM, lambda number, frame: ticks.append(number))
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
for number in range(5):
    assert mrunc.run(["sh", "-c", "sleep 0.03; cat; exit %d" % number], input=b"x" * 100000, capture_output=True).stdout == b"x" * 100000
signal.setitimer(signal.ITIMER_REAL, 0)
assert ticks
for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
done = mrunc.run(["grep", "SigIgn", "/proc/self/status"], capture_output=True, proc="full")
assert done.stdout.split()[1].strip(b"0") == b"", done.stdout
""")


def test_a_vendored_copy_under_another_name(inside, host):
    shutil.copytree(os.path.dirname(inside.tool), os.path.join(inside.scratch, "tool", "contained"))
    host("""
sys.path.insert(0, os.path.join(os.getcwd(), "tool"))
import contained
with contained.Pool(1) as pool:
    assert contained.run(["sh", "-c", "exit 3"]).returncode == pool.run(["sh", "-c", "exit 3"]).returncode == 3
assert mrunc.run(["true"]).returncode == 0  # both in one process
assert contained.SandboxError is not mrunc.SandboxError
""")


def test_a_host_without_sys_executable(host):
    """python3 of PATH, or what `python` names."""
    host("""
real, sys.executable = sys.executable, ""
os.environ["PATH"] = os.path.dirname(real) + ":/usr/bin:/bin"
assert mrunc.run(["sh", "-c", "exit 3"]).returncode == 3
os.environ["PATH"] = "/nowhere"
assert mrunc.run(["sh", "-c", "exit 4"], python=real).returncode == 4
sys.executable = None
with mrunc.Pool(1, python=real) as pool:
    assert pool.run(["sh", "-c", "exit 5"]).returncode == 5
try:
    mrunc.run(["true"], python="/nowhere/python3")
except mrunc.SandboxError as error:
    assert error.stage == "launcher" and error.errno == 2
else:
    raise AssertionError
""")


def test_an_interpreter_that_is_none_is_told_with_what_was_started_and_how_it_ended(host):
    out = host("""
for python, how in (("sh", "exit status 2"), (b"/bin/true", "exit status 0"), ("/nowhere/python3", "No such file or directory")):
    for make in (lambda: mrunc.run(["true"], python=python), lambda: mrunc.Pool(1, python=python), lambda: mrunc.doctor(python)):
        try:
            make()
        except mrunc.SandboxError as error:
            assert error.what.startswith(os.fsdecode(python)) and error.reason == how, error
            assert error.remedy.startswith("python= must name an interpreter, Python 3.6 or newer"), error
            print(error.status)
""")
    assert out.split() == ["125"] * 9


def test_kill_9_of_the_host_leaves_nothing(inside, head):
    code = head + """
import threading
pool = mrunc.Pool(3)
threading.Thread(target=pool.run, args=(["sleep", "1000"],), daemon=True).start()
process = mrunc.Sandbox().popen(["sh", "-c", "trap '' TERM HUP INT; sleep 1000 & wait"])
until(lambda: len(sandboxes()) >= 5)
print(*launchers() + sandboxes() + [pid for one in sandboxes() for pid in below(one)], flush=True)
mrunc.run(["sleep", "1000"])
"""
    command = inside.command()[:1] + ["-I", "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=inside.scratch, preexec_fn=become(inside.who)) as process:
        pids = list(map(int, process.stdout.readline().split()))
        assert len(pids) >= 6 and all(alive(pid) for pid in pids)
        process.send_signal(signal.SIGKILL)
        # Whoever is left holds the pipe: the sandboxes' 1, or is the launcher, which is asked for by its number.
        assert process.stdout.read() == b""
        process.wait()
    while any(alive(pid) for pid in pids):
        os.sched_yield()


def test_a_launcher_ends_with_its_host_though_a_fork_holds_its_socket(inside, head):
    code = head + """
mrunc.run(["true"])
child = os.fork()
if not child:
    time.sleep(60)
    os._exit(0)
print(child, *launchers(), flush=True)
sys.stdin.read()
"""
    command = inside.command()[:1] + ["-I", "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=inside.scratch,
                          preexec_fn=become(inside.who)) as process:
        child, launcher = map(int, process.stdout.readline().split())
        try:
            process.kill()
            process.wait()
            until = time.monotonic() + 30
            while alive(launcher):
                assert time.monotonic() < until and alive(child)
                time.sleep(0.01)
        finally:
            os.kill(child, signal.SIGKILL)


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_neither_descriptors_nor_memory_grow_over_hundreds_of_runs(host):
    host("""
def resident(pid):
    with open("/proc/%s/status" % pid) as stream:
        return [int(line.split()[1]) for line in stream if line.startswith("VmRSS:")][0]
def held():
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/%d/fd" % launcher))
for _ in range(60):
    mrunc.run(["echo", "x"], capture_output=True)
mrunc.run(["sleep", "9"], timeout=0.01)
launcher, = launchers()
until(lambda: not sandboxes())
before, memory = held(), (resident("self"), resident(launcher))
for _ in range(250):
    mrunc.run(["echo", "x"], capture_output=True)
for _ in range(60):
    assert mrunc.run(["sleep", "9"], timeout=0.01).reason == "timeout-wall"
until(lambda: max(late - early for early, late in zip(before, held())) <= 0)  # some are closed after the answer
grown = [late - early for early, late in zip(memory, (resident("self"), resident(launcher)))]
assert max(grown) < 256, grown  # KiB, of 310 runs: less than 1 for each
""")


def test_a_launcher_keeps_no_descriptor_of_a_source(host):
    """Root's sources need a user namespace each, held only while the sandbox is made."""
    host("""
os.mkdir("shown")
os.chmod("shown", 0o755)
def held():
    return len(os.listdir("/proc/%d/fd" % launchers()[0]))
def run():
    assert mrunc.run(["true"], ro=[("shown", "/x")], capture_output=True).returncode == 0
    until(lambda: not sandboxes())
run()
before = held()
for _ in range(8):
    run()
until(lambda: held() <= before)
""", timeout=60)


def test_an_end_is_told_as_it_was_and_not_as_it_was_predicted(host):
    """While the program runs the host hears what an end with 0 will look like; another end is told whole."""
    host("""
from mrunc.sandbox.library import client
calls, Call = [], client.Call
class Kept(Call):
    def __init__(self, *given):
        Call.__init__(self, *given)
        calls.append(self)
client.Call = Kept
def ended(what):
    process = box.popen(["sh", "-c", "read number; exit $number"], stdin=subprocess.PIPE)
    until(lambda: process.poll() is None and calls[-1].predicted)
    predicted = calls[-1].predicted
    assert (predicted.reason, predicted.returncode, predicted.usage, predicted.argv[0]) == ("exited", 0, None, "sh")
    assert predicted.controls
    what(process)
    process.wait()
    result = process.result
    assert (result is predicted) == (result.exit_code == 0)
    assert result.usage["wall_s"] > 0 and result.usage["user_s"] + result.usage["system_s"] > 0, result.usage
    assert [row["name"] for row in result.controls] == [row["name"] for row in predicted.controls]
    return result.reason, result.returncode, bool(result.evidence)
def says(number):
    def write(process):
        process.stdin.write(b"%d\\n" % number)
        process.stdin.close()
    return write
box = mrunc.Sandbox(timeout=60, grace=0)
for _ in range(2):
    assert ended(says(0)) == ("exited", 0, True)
    assert ended(says(3)) == ("exited", 3, True)
    assert ended(says(139)) == ("exited", 139, True)
    assert ended(lambda process: process.kill()) == ("killed-by-caller", 137, True)
    assert ended(lambda process: process.send_signal(15)) == ("signal", 143, True)
box = mrunc.Sandbox(timeout=0.5, grace=0)
assert ended(lambda process: None) == ("timeout-wall", 124, True)
""")


def test_an_interrupt_at_any_time_loses_nothing_of_what_a_program_is_waited_for(host):
    """Whoever has handled it waits again."""
    host("""
def interrupted(number, what):
    left = [number]
    def in_line(frame, event, argument):
        left[0] -= event == "line"
        if not left[0]:
            raise KeyboardInterrupt
        return in_line
    def in_call(frame, event, argument):
        return in_line if frame.f_code.co_filename.endswith("client.py") else None
    sys.settrace(in_call)
    try:
        what()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False
box = mrunc.Sandbox()
for words, way in (([], "communicate"), (["x" * 70000], "wait")):
    number, again = 1, True
    while again:
        process = box.popen(["sh", "-c", "exit 0"] + words)
        again = interrupted(number, getattr(process, way))
        assert process.wait() == 0, (way, number)
        assert process.result.usage["wall_s"] > 0 and len(process.result.argv) == 3 + len(words), (way, number)
        number += 1
    assert number > 20, number
""")


def test_output_without_end_holds_up_neither_the_host_nor_its_deadline(host):
    """There is more of it whenever one looks."""
    host("""
import resource
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
process = mrunc.Sandbox().popen(["sleep", "100"], stdout=subprocess.DEVNULL)
process._streams.adopt(1, os.open("/dev/zero", os.O_RDONLY))
process._streams.pull(1)
try:
    process.communicate(timeout=0)
except subprocess.TimeoutExpired:
    process.kill()
else:
    raise AssertionError("ended")
""")


def test_several_threads_may_wait_for_one_program(host):
    host("""
import threading
box, wrong = mrunc.Sandbox(), []
def tried(way):
    try:
        way()
    except BaseException as error:
        wrong.append(error)
for turn in range(20):
    process = box.popen(["sh", "-c", "head -c 300000 /dev/zero"] + ["x" * 70000] * (turn % 2), stdout=subprocess.PIPE)
    def polls():
        while process.poll() is None:
            time.sleep(0)
    threads = [threading.Thread(target=tried, args=(way,), daemon=True) for way in (
        lambda: wrong.extend([1] * (len(process.communicate()[0]) != 300000)), polls, process.wait)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not wrong and process.result and process.result.reason == "exited", (turn, wrong, process.result)
    assert not any(thread.is_alive() for thread in threads), turn
""")


def test_what_a_run_held_that_could_not_be_executed_is_freed_at_once(host):
    """Not when somebody collects garbage."""
    host("""
import gc, weakref
from mrunc.sandbox.service import jobs
class Launcher:
    jobs = set()
    class loop:
        remove = staticmethod(lambda member: None)
class Channel:
    sent = []
    send = sent.append
    close = staticmethod(lambda: None)
class Run:
    def conclude(self, outcome):
        raise mrunc.SandboxError("exec", "no format that is known", 8)
    def close_late(self):
        pass
gc.disable()
held = jobs.Job(Launcher, Channel, (), {"alone": False, "tell": False})
held.run, left = Run(), weakref.ref(held)
held._conclude()
del held
assert left() is None and b"no format" in Channel.sent[0]
""")


def test_a_forked_hosts_end_is_not_the_end_of_its_parents_sandbox(host):
    host("""
def fork(leave):
    pid = os.fork()
    if not pid:
        leave()
    assert os.waitpid(pid, 0)[1] == 0
with mrunc.Sandbox().popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
    fork(sys.exit)
    def within():
        with process:
            sys.exit()
    fork(within)
    assert process.communicate(b"still here")[0] == b"still here"
assert process.returncode == 0
""")


def test_a_launcher_serves_no_one_who_may_have_given_up_rights(inside_as_root):
    """A server's worker, say, which is forked with the server's socket and becomes somebody else, or gives up capabilities."""
    code = HEAD % os.path.dirname(inside_as_root.tool) + """
from mrunc.sandbox.library import client; from mrunc.sandbox.library import request as library
def asked(wanted):
    read, write = os.pipe()
    call = client.submit({"argv": ["cat", "/x"], "environ": library.environ({}), "tell": False,
                          "options": {"ro": [os.path.abspath("secret") + ":/x"]}}, (0, write, write), link=link)
    answer = None
    while answer is None:
        answer = call.take()
    os.close(write)
    assert os.read(read, 100) == wanted, answer
    return answer
def told(*ids):
    pid = os.fork()
    if not pid:
        os.setgroups([])
        os.setresgid(*ids)
        os.setresuid(*ids)
        sender = os.getpid(), ids[0], ids[0]
        assert asked(b"")["error"]["reason"] == "made by somebody else: pid, uid and gid %%d %%d %%d" %% sender
        for packet, fds in ((b"\\0 no marshal", [0]), (client.LONG, [0, 1]), (b"no descriptors", []), (b"x", [os.open("/", os.O_PATH)])):
            link.send(packet, fds)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
with open("secret", "w") as stream:
    stream.write("secret")
os.chown("secret", 5, 5)
os.chmod("secret", 0o600)
mrunc.run(["true"])
link, = client.host().links.values()
assert "result" in asked(b"secret")
told(%d, %d, %d)
told(0, 0, 0)
assert "result" in asked(b"secret")  # it is there for its own host
os.setresuid(%d, 0, 0)  # another one in part has a launcher of that kind
assert mrunc.run(["echo", "ran"], capture_output=True).stdout == b"ran\\n" and len(client.host().links) == 2
assert asked(b"")["error"]["stage"] == "launcher"
print("the end")
""" % ((USER,) * 4)
    done = inside_as_root.outside(["/usr/bin/python3", "-I", "-c", code])
    assert (done.returncode, done.stdout) == (0, "the end\n"), done


def test_a_host_that_has_given_up_rights_has_no_launcher_with_them(host):
    host("""
import resource
from mrunc.sandbox.library import client
from mrunc.syscalls import process, seccomp
def written():
    done = mrunc.run(["python3", "-c", "open('/tmp/x', 'w').write('x' * 8192)"], capture_output=True)
    return done.returncode == 0, len(client.host().links)
assert written() == written() == (True, 1)
process.set_no_new_privs()
assert written() == written() == (True, 2)
seccomp.attach(seccomp.prepare(bytes.fromhex("060000000000ff7f")))
assert written() == (True, 3)
before = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
assert written() == (False, 4)
resource.setrlimit(resource.RLIMIT_FSIZE, before)
assert written() == (True, 4)
""")


def test_a_host_whose_rights_count_in_another_user_namespace_has_no_launcher_of_the_one_before(host):
    """The same ids and the same capabilities, but of less."""
    host("""
from mrunc.sandbox.library import client; from mrunc.sandbox.library import surroundings
from mrunc.syscalls import process
uid, gid, rights = os.geteuid(), os.getegid(), set()
for wanted in (1, 2, 3):
    assert mrunc.run(["true"], capture_output=True).reason == "exited"
    assert len(client.host().links) == wanted
    rights.add(surroundings.restrictions(os.open("/proc/thread-self", os.O_PATH)))
    process.unshare(process.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", "%d %d 1" % (uid, uid)), ("gid_map", "%d %d 1" % (gid, gid))):
        with open("/proc/self/" + name, "w") as stream:
            stream.write(text)
assert len(rights) <= 2
""")


def test_a_host_that_has_left_a_network_shares_its_own_one_and_not_the_one_before(host):
    """With a sandbox that has none for itself."""
    host(OWN_USERS + """
def seen(names, **options):
    done = mrunc.run(["readlink"] + ["/proc/self/ns/" + name for name in names], capture_output=True, text=True, **options)
    assert done.returncode == 0, (done, done.stderr)
    return done.stdout.split()
ways = [(("net",), {"unsafe_without": ["netns"]}), (("ipc",), {"unsafe_without": ["ipcns"]}),
        (("net", "ipc", "uts"), {"tier": "process"})]
for _ in range(2):
    for names, options in ways:
        assert seen(names, **options) == [os.readlink("/proc/self/ns/" + name) for name in names], options
    process.unshare(process.CLONE_NEWNET | process.CLONE_NEWIPC | process.CLONE_NEWUTS)
""")


def test_a_thread_that_has_mounts_of_its_own_has_a_launcher_that_sees_them(host):
    host(OWN_USERS + """
import threading
from mrunc.syscalls import mount
def shown():
    return mrunc.run(["ls", "/usr/share"], capture_output=True).stdout
before, seen = shown(), []
assert before
def other():
    process.unshare(process.CLONE_NEWNS)
    mount.make_private(b"/")
    mount.move_mount(mount.new_filesystem(b"tmpfs", 0, [(b"mode", b"0755")]), -100, b"/usr/share")
    open("/usr/share/new", "w").close()
    seen.append(shown())
thread = threading.Thread(target=other)
thread.start()
thread.join()
assert seen == [b"new\\n"] and shown() == before, seen
""")


@pytest.mark.needs("landlock")
def test_a_host_that_has_entered_a_landlock_domain_has_no_launcher_outside_of_it(host):
    """Which nothing in /proc tells of it."""
    host("""
from mrunc.sandbox.library import client
from mrunc.syscalls import landlock, process
def ran(**options):
    try:
        return mrunc.run(["echo", "ran"], capture_output=True, **options).stdout
    except mrunc.SandboxError as error:
        return error
process.set_no_new_privs()
assert ran() == ran(tier="process") == b"ran\\n"
with mrunc.Sandbox().popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
    before, key = set(launchers()), client._key(None, None)
    assert len(before) == 2
    landlock.restrict_self(landlock.create_ruleset(1, landlock.MAKE_CHAR))
    assert client._key(None, None) == key
    assert isinstance(ran(), mrunc.SandboxError)  # who is in a domain can't mount anything
    assert ran(tier="process") == b"ran\\n"
    assert running.communicate(b"still here")[0] == b"still here"
after = set(launchers()) - before
assert len(after) == 2
assert isinstance(ran(), mrunc.SandboxError) and ran(tier="process") == b"ran\\n"
assert set(launchers()) - before == after
""")


def test_a_host_whose_limits_are_others_before_each_run_has_not_as_many_launchers(host):
    """And none that is in use is ended for it."""
    host("""
import resource
from mrunc.sandbox.library import client
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
with mrunc.Sandbox().popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process, mrunc.Pool(1) as pool:
    for options in ({}, {"changes": True}):
        for number in range(client.MOST_KEYS + 3):
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30 | number, hard))
            assert mrunc.run(["true"], capture_output=True, **options).reason == "exited"
    assert pool.run(["true"]).returncode == 0
    assert process.communicate(b"still here")[0] == b"still here"
del process, pool
until(lambda: len(launchers()) == 2 * client.MOST_KEYS)
assert mrunc.run(["true"]).returncode == 0
assert len(launchers()) == 2 * client.MOST_KEYS
""")


def test_a_host_that_was_moved_to_another_control_group_has_its_sandboxes_there(inside_as_root):
    code = HEAD % os.path.dirname(inside_as_root.tool) + """
from mrunc.sandbox.library import client
from mrunc.syscalls import mount, process
process.unshare(process.CLONE_NEWNS)
mount.make_private(b"/")
os.mkdir("groups")
mount.move_mount(mount.new_filesystem(b"cgroup2", 0, []), -100, b"groups")
group = os.path.abspath("groups/mrunc-test-%d" % os.getpid())
def move(place):
    with open(place + "/cgroup.procs", "w") as stream:
        stream.write(str(os.getpid()))
def members(group):
    with open(group + "/cgroup.procs") as stream:
        return [int(line) for line in stream]
def where():
    with mrunc.Sandbox().popen(["cat"], stdin=subprocess.PIPE) as running:
        return running.pid in members(group)
os.mkdir(group)
try:
    for _ in range(3):  # the last of them could have been a spare's
        mrunc.run(["true"], capture_output=True)
    assert not where() and not members(group)
    first, = launchers()
    move(group)
    assert where()
    second, = set(launchers()) - {first}
    assert mrunc.run(["true"], capture_output=True).reason == "exited"
    assert members(group) == [os.getpid(), second]
    move("groups")
    assert not where() and set(launchers()) == {first, second}
    assert members(group) == [second]
finally:
    move("groups")
    client.host().forget()
    until(lambda: not members(group))
    os.rmdir(group)
print("the end")
"""
    done = inside_as_root.outside(["/usr/bin/python3", "-I", "-c", code])
    assert (done.returncode, done.stdout) == (0, "the end\n"), done


def test_a_launcher_without_descriptors_refuses_and_serves_on(host):
    host("""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
running, refused = [], None
while refused is None and len(running) < 64:
    try:
        running.append(mrunc.Sandbox().popen(["cat"], stdin=subprocess.PIPE))
    except mrunc.SandboxError as error:
        refused = error
assert len(running) > 4 and refused.errno == 24, (len(running), refused)
for _ in range(3):
    try:
        mrunc.run(["true"])
    except mrunc.SandboxError as error:
        assert error.errno == 24, error
    else:
        raise AssertionError
for process in running:
    process.stdin.close()
assert [process.wait() for process in running] == [0] * len(running)
assert mrunc.run(["true"]).returncode == 0
""")


def test_a_mistake_in_a_call_is_told_with_what_there_is(host):
    host("""
def told(function, *words):
    try:
        function()
    except (mrunc.SandboxError, KeyError) as error:
        assert getattr(error, "status", 2) == 2 and all(word in str(error) for word in words), error
    else:
        raise AssertionError(words)
told(lambda: mrunc.Sandbox(timeuot=3), "timeuot", "(did you mean timeout?)")
told(lambda: mrunc.Pool(1, memry="1G"), "memry", "(did you mean memory?)")
told(lambda: mrunc.run(["true"], learn=True), "unknown option learn")
told(lambda: mrunc.run(None), "must be a list of arguments", "not None")
told(lambda: mrunc.run([7]), "7: not text")
result = mrunc.run(["true"])
assert result.in_force("seccomp") is True
told(lambda: result.in_force("secomp"), "(did you mean seccomp?)", "landlock", "uidmap")
with mrunc.Pool(1) as pool:
    told(lambda: pool.run(["true"], memory="1G"), "memory: is the pool's")
    told(lambda: pool.run(["true"], nope=1), "unknown option nope")
    assert pool.run(["true"]).returncode == 0
assert set(mrunc.__all__) <= set(dir(mrunc))
""")


def test_a_program_is_told_of_options_as_it_writes_them(host):
    """And not as a command line has them."""
    host("""
def told(what, remedy, **options):
    try:
        mrunc.run(["true"], **options)
    except mrunc.SandboxError as error:
        assert error.what == what and error.remedy == remedy, (error.line(), error.remedy)
    else:
        raise AssertionError(what)
os.mkdir("d")
told("ro='missing'", None, ro="missing")
told("ro='relative'", None, ro=[("d", "relative")])
told("env 1", None, env={"A": 1})
told("trace=True", None, trace=True)
told("tmpfs ('/x',)", None, tmpfs=[("/x",)])
told("env=1", None, env=1)
told("tier=1", None, tier=1)
told("landlock_create_ruleset", "allow it more files with rlimit='nofile=N'", rlimit={"nofile": 10})
told("true: Resource temporarily unavailable", "allow it more processes with rlimit='nproc=N'", rlimit={"nproc": 1})
if os.geteuid():
    told("the rootns tier needs root", "tier='process' runs without namespaces", tier="rootns")
with open("script", "w") as out:
    out.write("true")
os.chmod("script", 0o755)
for words, remedy in ((["no-such-program"], "copy brings a file of the host in, as /box/NAME; ro a directory with what it "
                       "needs, at its own place"),
                      (["./script"], "a script without that line is given to its interpreter: ['sh', FILE]")):
    try:
        mrunc.run(words, copy="script")
    except mrunc.SandboxError as error:
        assert error.remedy == remedy and str(error).endswith("; remedy: " + remedy), error
    else:
        raise AssertionError(words)
told("copy='d'", "to show a directory: ro='d:/box/d'", copy=["d"])
told("tmpfs='/x=5q'", None, tmpfs=["/x=5q"])
told("chdir='/not/there'", "tmpfs='/not/there' makes a directory", chdir="/not/there")
told("env='MRUNC_NOT_SET'", "to set it: env='MRUNC_NOT_SET=VALUE'", env=["MRUNC_NOT_SET"])
told("user='root'", None, user="root")
told("cap_add='sys_admin'", None, cap_add="sys_admin")
told("rlimit='nofile=9:3'", None, rlimit={"nofile": "9:3"})
told("unsafe_without='utsns'", "leave them out too: unsafe_without='utsns,hostname'", unsafe_without="utsns")
told("overlay='/x'", "name the destination of ro", overlay="/x")
told("rootfs='missing'", None, rootfs="missing")
told("writable", "without it: tmpfs='PATH[=SIZE]'", writable="/x")
told("proc='full' in the process tier", None, proc="full", tier="process")
told("rw in the process tier", "bring files in with copy", rw=["d"], tier="process")
told("unsafe_without='caps' in the process tier", None, unsafe_without="caps", tier="process")
told("seccomp_add='clon3'", None, seccomp_add="clon3")
with open("policy", "w") as out:
    out.write("@denylist\\nrecvmsg: return EPERM\\nwrite: return EPERM\\nprctl: return EPERM\\n")
told("./policy", "the file can stay as it is; mrunc allows these calls, to the program too, with: "
     "seccomp_add=['write', 'recvmsg', 'prctl: arg0 == 4']", seccomp="policy")
for code, advice, options in (("sleep 100", "allow more with timeout", {"timeout": 0.1, "grace": 0}),
                              ("yes", "allow more with max_output", {"max_output": 1000, "stdout": subprocess.PIPE}),
                              ("exit 3", "see whether a refused call is behind it: ledger=True lists them", {}),
                              ("exit 127", "bring in with copy or ro what it did not find: a shell ends so for a missing command",
                               {}), ("kill -9 $$", "see whether it did so itself, or the host's memory ran out (dmesg): memory "
                                     "bounds it", {})):
    done = mrunc.run(["sh", "-c", code], **options)
    assert done.advice == advice, done.advice
""")


def test_a_directory_is_no_stdin_and_no_output(host):
    """A program would go up from it to all of the host's files, and change their modes and times, which Landlock lets it."""
    host("""
import asyncio
walk = "print 'ran'; print 'reached' if chmod(0777, '/proc/self/fd/%%d/../victim')"
os.mkdir("folder")
open("victim", "w").close()
os.chmod("victim", 0o600)
with mrunc.Pool(1) as pool:
    for flags in (os.O_RDONLY, os.O_PATH):
        fd = os.open("folder", flags)
        for place, name in enumerate(("stdin", "stdout", "stderr")):
            words = ["perl", "-e", walk %% place]
            for call in (mrunc.run, pool.run, mrunc.Sandbox().popen, lambda *words, **more: asyncio.new_event_loop()
                         .run_until_complete(mrunc.Sandbox().run_async(*words, **more))):
                try:
                    done = call(words, **{name: fd})
                except mrunc.SandboxError as error:
                    assert (error.status, "is a directory" in str(error)) == (2, True), error
                else:
                    raise AssertionError((name, done))
        own = os.dup(0)
        os.dup2(fd, 0)  # what is taken where nothing is said
        try:
            mrunc.run(["perl", "-e", walk %% 0])
        except mrunc.SandboxError as error:
            assert error.status == 2
        else:
            raise AssertionError
        os.dup2(own, 0)
assert os.stat("victim").st_mode & 0o777 == 0o600
""".replace("%%", "%"))


def test_signals_that_come_too_late_do_not_cost_the_result(host):
    """The launcher takes one word at a time; those that it leaves unread when it closes stand before its answer."""
    host("""
import select, signal
for options in ({}, {"changes": True}):
    up, told = os.pipe()
    process = mrunc.Sandbox(**options).popen(["sh", "-c", "trap '' USR1; echo up; sleep 0.2; exit 7"], stdout=told)
    assert os.read(up, 3) == b"up\\n"
    launcher = parent(process.pid)
    os.kill(launcher, signal.SIGSTOP)
    for _ in range(50):
        process.send_signal(signal.SIGUSR1)
    until(lambda: not below(process.pid))
    os.kill(launcher, signal.SIGCONT)
    closed = select.poll()
    closed.register(process._call.channel, 0)
    closed.poll()
    assert process.wait() == 7
""")


def test_root_that_has_only_lent_itself_a_users_ids_is_told_so(inside_as_root):
    """Its launcher could not read back what is in force, nor write the id maps."""
    from hosting import HEAD
    done = inside_as_root.outside([PYTHON, "-I", "-c", HEAD % os.path.dirname(inside_as_root.tool) + """
def told(**options):
    try:
        mrunc.run(["true"], **options)
    except mrunc.SandboxError as error:
        assert error.status == 125 and "effective ids are not its real ones" in error.remedy, (error.line(), error.remedy)
    else:
        raise AssertionError
os.setegid(%d)
os.seteuid(%d)
for options in ({}, {"tier": "process"}):
    told(**options)
os.seteuid(0)
os.setegid(0)
assert mrunc.run(["true"]).returncode == 0
child = os.fork()
if not child:
    try:
        os.setresgid(*[%d] * 3)
        os.setresuid(*[%d] * 3)
        os._exit(mrunc.run(["true"]).returncode)
    finally:
        os._exit(99)
assert os.waitpid(child, 0)[1] == 0
print("the end")
""" % ((USER,) * 4)])
    assert (done.returncode, done.stdout) == (0, "the end\n"), done


def test_what_communicate_has_read_to_the_end_or_given_up_on_is_closed(host):
    host("""
def held():
    return len(os.listdir("/proc/self/fd"))
for options in ({}, {"changes": True}, {"tier": "process"}):
    box, before = mrunc.Sandbox(**options), None
    for turn in range(6):
        process = box.popen(["sh", "-c", "cat; kill -9 $$"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.communicate(b"x") == (b"x", None)
        process = box.popen(["sh", "-c", "cat; sleep 100"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            process.communicate(b"x" * 300000, timeout=0)
        except subprocess.TimeoutExpired:  # however much of it was served meanwhile
            pass
        else:
            raise AssertionError("ended")
        del process  # it has given up on it
        before = before or held()
    assert held() <= before, (options, before, held())
""")


def test_a_host_that_moves_to_another_view_of_the_files_shows_that_one(host):
    host("""
import ctypes, shutil, tempfile
libc, uid, gid = ctypes.CDLL(None, use_errno=True), os.geteuid(), os.getegid()
place = tempfile.mkdtemp()
os.chmod(place, 0o755)
with open(place + "/before", "w"):
    pass
def shown():
    return mrunc.run(["ls", place], ro=[place], capture_output=True).stdout
assert shown() == b"before\\n"
def do(result):
    assert result == 0, os.strerror(ctypes.get_errno())
do(libc.unshare(0x20000 if uid == 0 else 0x10020000))
if uid:
    for name, text in (("setgroups", "deny"), ("uid_map", "%d %d 1" % (uid, uid)), ("gid_map", "%d %d 1" % (gid, gid))):
        with open("/proc/self/" + name, "w") as stream:
            stream.write(text)
do(libc.mount(None, b"/", None, 0x44000, None))  # MS_REC | MS_PRIVATE
do(libc.mount(b"none", place.encode(), b"tmpfs", 0, None))
os.chmod(place, 0o755)
with open(place + "/after", "w"):
    pass
assert shown() == b"after\\n", shown()
do(libc.umount2(place.encode(), 2))
shutil.rmtree(place)
""")


def test_a_host_that_changes_its_root_has_another_launcher(host):
    """Also where the new root is the same directory: other mounts may lie below it."""
    host(OWN_MOUNTS + """
from mrunc.sandbox.library import client
place = os.path.abspath("bound").encode()
os.mkdir(place)
def root():
    found = os.stat("/")
    return client._key(None, None), (found.st_dev, found.st_ino)
before, first = root()
assert root()[0] == before
mount.mount_bind(b"/", True, place)
os.chroot(place)
os.chdir("/")
bound, second = root()
assert first == second and bound != before
os.chroot("/usr")
os.chdir("/")
assert root()[0] not in (before, bound)
""")


def test_a_host_without_descriptors_is_told_so(host):
    host("""
import resource
assert mrunc.run(["true"]).returncode == 0
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held, told = [], 0
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
stages = set()
for free in range(12):
    try:
        assert mrunc.run(["true"], capture_output=True, stdin=subprocess.DEVNULL).returncode == 0
    except mrunc.SandboxError as error:
        assert (error.errno, error.status) == (24, 125) and "RLIMIT_NOFILE" in error.remedy, (error, error.remedy)
        stages.add(error.stage)
        told += 1
    os.close(held.pop())
assert 0 < told < 12 and stages == {"streams", "launcher"}, (told, stages)
""")
