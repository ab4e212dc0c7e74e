# SPDX-License-Identifier: Apache-2.0
"""Warm sandboxes: what a host gets from a Pool, and that nothing of one is left."""
import pytest


def test_a_run_is_as_one_of_mrunc_run(host):
    assert host("""
with mrunc.Pool(2, hostname="warm", env={"A": "pool", "B": "pool"}) as pool:
    done = pool.run(["sh", "-c", 'echo "$0 $A $B $(uname -n)"; cat; echo err >&2; exit 3', "argument"], env={"B": "run"},
                    input="in", capture_output=True, text=True)
    other = mrunc.run(["sh", "-c", "exit 3"], hostname="warm")
print([done.stdout, done.stderr, done.returncode, done.reason, done.argv[0]])
def told(result):
    return [(row["name"], row["asked"], row["in_force"]) for row in result.controls]
# A warm sandbox does not know what 1 will be: files of a user's are reckoned with.
assert [row for row in told(done) if row[0] != "setid-filter"] == [row for row in told(other) if row[0] != "setid-filter"]
assert set(done.as_dict()) == set(other.as_dict()) and done.usage["wall_s"] > 0
copy = pickle.loads(pickle.dumps(done))
assert copy.as_dict() == done.as_dict() and copy.stdout == done.stdout
""") == "['argument pool run warm\\nin', 'err\\n', 3, 'exited', 'sh']\n"


def test_each_sandbox_is_used_once_and_replaced(host):
    host("""
with mrunc.Pool(3) as pool:
    first = sandboxes()
    assert len(first) == 3
    for number in range(12):
        done = pool.run(["sh", "-c", "echo $$; ls -A /tmp /box; touch /tmp/mark /box/mark"], capture_output=True, text=True)
        assert done.stdout.split() == ["2", "/box:", "/tmp:"], done.stdout
        until(lambda: len(sandboxes()) == 3)
    assert not set(first) & set(sandboxes())
""")


def test_more_runs_at_once_than_sandboxes(host):
    host("""
import threading
got = []
with mrunc.Pool(2) as pool:
    def work(number):
        done = pool.run(["sh", "-c", "sleep 0.05; echo %d" % number], capture_output=True, text=True)
        got.append(int(done.stdout))
    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
assert sorted(got) == list(range(16))
""")


def test_stdin_stdout_and_stderr_are_the_callers_files_pipes_or_none(host):
    assert host("""
with mrunc.Pool(1) as pool:
    with open("out", "w+b") as out, open("in", "w+b") as data:
        data.write(b"from a file")
        data.seek(0)
        pool.run(["sh", "-c", "cat; echo also >&2"], stdin=data, stdout=out, stderr=subprocess.STDOUT)
        out.seek(0)
        assert out.read() == b"from a filealso\\n"
    read, write = os.pipe()
    os.write(write, b"from a pipe")
    os.close(write)
    assert pool.run(["cat"], stdin=read, capture_output=True).stdout == b"from a pipe"
    assert pool.run(["sh", "-c", "ls /proc/self/fd"], capture_output=True).stdout == b"0\\n1\\n2\\n3\\n"
    sys.stdout.flush()
    pool.run(["echo", "inherited"])
    big = os.urandom(1 << 20)
    assert pool.run(["cat"], input=big, capture_output=True).stdout == big
""") == "inherited\n"


def test_deadlines_and_limits_count_from_the_use(host):
    host("""
with mrunc.Pool(1, timeout=60, max_output=1000, grace=0) as pool:
    done = pool.run(["sleep", "100"], timeout=0.05)
    assert (done.reason, done.returncode) == ("timeout-wall", 124) and done.usage["wall_s"] < 30, done
    assert pool.run(["sh", "-c", "yes"], capture_output=True).reason == "output-limit"
    assert pool.run(["true"]).reason == "exited"
""")


def test_under_an_output_limit_stdout_and_stderr_are_two_streams_where_they_are_two(host):
    """As of a run: what is compared are the run's own descriptors, which a warm sandbox learns late."""
    host("""
code = ["sh", "-c", "echo out; echo err >&2"]
with mrunc.Pool(1, max_output=1000) as pool:
    for where in (mrunc.Sandbox(max_output=1000), pool):
        done = where.run(code, capture_output=True)
        assert (done.stdout, done.stderr) == (b"out\\n", b"err\\n"), done
        done = where.run(code, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        assert (done.stdout, done.stderr) == (None, b"err\\n"), done
        done = where.run(code, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert (done.stdout, done.stderr) == (b"out\\nerr\\n", None), done
""")


def test_a_program_that_cannot_be_executed_is_told_as_by_mrunc_run(host):
    host("""
def error(function, *words, **options):
    try:
        return function(words, **options).returncode
    except mrunc.SandboxError as error:
        return error.status, str(error), error.remedy
with open("foreign", "wb") as out:
    out.write(b"\\x7fELF\\2\\1\\1" + bytes(9) + b"\\2\\0\\x16\\0" + bytes(100))
with open("script", "w") as out:
    out.write("#!/nonexistent/interpreter\\n")
copies = ["foreign", "script"]
with mrunc.Pool(1, copy=copies) as pool:
    for words in (["nope"], ["/nope"], ["/etc/passwd"], ["/etc"], [""], [], ["./foreign"], ["/box/script"], ["a\\0b"],
                  ["echo"] + ["x" * 100000] * 30, ["echo"] + ["x" * 100000] * 90, ["echo", "x" * 200000]):
        assert error(pool.run, *words) == error(mrunc.run, *words, copy=copies), words[:2]
    for wrong in ({"env": {"A=": "b"}}, {"timeout": "never"}):
        assert error(pool.run, "true", **wrong) == error(mrunc.run, "true", **wrong)
    assert len(pool.run(["echo"] + ["x" * 100000] * 15, capture_output=True).stdout) == 1500015
""")


@pytest.mark.parametrize("path", ["PATH=/nowhere:/bin", "PATH=/box:/usr/bin"])
def test_programs_are_found_in_the_runs_own_path(host, path):
    host("""
env = dict([%r.split("=")])
with mrunc.Pool(1) as pool:
    assert pool.run(["true"], env=env).returncode == mrunc.run(["true"], env=env).returncode == 0
""" % path)


def test_options_mean_in_a_pool_what_they_mean_in_a_run(host):
    """A warm sandbox is used under a ledger, a trace, limits and a filter as any other."""
    host("""
code = ["sh", "-c", "id -u; mount -t tmpfs x /mnt; exit 4"]
for options in ({}, {"ledger": True, "trace": "exec"}, {"harden": True, "writable": ["/box"]}, {"seccomp_action": "kill"},
                {"samples": True}, {"cpu_time": 60}, {"user": 1000}, {"proc": "full"}, {"rlimit": {"nofile": 64}}):
    other = mrunc.run(code, capture_output=True, **options)
    with mrunc.Pool(1, **options) as pool:
        done = pool.run(code, capture_output=True)
    for name in ("reason", "detail", "returncode", "signal", "policy", "tier", "stdout", "limits_hit"):
        assert getattr(done, name) == getattr(other, name), (options, name, done, other)
    seen = [[(row["syscall"], row["count"]) for row in result.refused or ()] for result in (done, other)]
    assert seen[0] == seen[1]
    assert len(done.processes or ()) == len(other.processes or ())
""")


def test_a_policy_has_to_let_a_warm_sandbox_take_its_descriptors(host):
    host("""
with open("policy", "w") as out:
    out.write("@denylist\\ndup3: return EPERM\\n")
assert mrunc.run(["true"], seccomp="policy").returncode == 0
try:
    mrunc.Pool(1, seccomp="policy")
except mrunc.SandboxError as error:
    assert error.status == 2 and "refuses dup3" in str(error), error
else:
    raise AssertionError
assert mrunc.Pool(1, seccomp="policy", seccomp_add=["dup3"]).run(["true"]).returncode == 0
""")


def test_options_that_a_pool_cannot_have_are_refused(host):
    host("""
for size, options in ((0, {}), (True, {}), ("2", {}), (2, {"tty": True}), (2, {"changes": True}), (2, {"tier": "process"}),
                      (2, {"nope": 1}), (2, {"ro": ["/nonexistent"]}), (2, {"memory": "much"})):
    try:
        mrunc.Pool(size, **options)
    except mrunc.SandboxError as error:
        assert error.status == 2, error
    else:
        raise AssertionError(options)
until(lambda: not sandboxes())
pool = mrunc.Pool(1)
pool.close()
try:
    pool.run(["true"])
except mrunc.SandboxError as error:
    assert (error.status, "closed" in str(error)) == (2, True)
""")


@pytest.mark.parametrize("how", ["close", "exception", "forgotten"])
def test_nothing_is_alive_after_a_pool(host, how):
    host("""
how = %r
if how == "close":
    pool = mrunc.Pool(3)
    assert len(sandboxes()) == 3
    pool.close()
elif how == "exception":
    try:
        with mrunc.Pool(3) as pool:
            raise KeyError
    except KeyError:
        pass
else:
    pool = mrunc.Pool(3)
    del pool
until(lambda: not sandboxes())
assert len(launchers()) == 1
""" % how)


def test_a_closed_pools_sandboxes_have_gone_when_close_returns(host):
    """Those that wait, and one that is being made after a run."""
    host("""
for runs in range(3):
    with mrunc.Pool(3) as pool:
        for _ in range(runs):
            pool.run(["true"])
        waiting = sandboxes()
        assert waiting
    assert not [pid for pid in waiting if state(pid) is not None]
    assert not sandboxes()
""")


def test_a_run_goes_on_when_its_pool_is_closed(host):
    host("""
import threading
pool = mrunc.Pool(1)
read, write = os.pipe()
got = []
thread = threading.Thread(target=lambda: got.append(pool.run(["sh", "-c", "echo up; cat"], stdin=read, stdout=told[1])))
told = os.pipe()
thread.start()
assert os.read(told[0], 3) == b"up\\n"
pool.close()
os.close(write)
thread.join()
assert got[0].returncode == 0
until(lambda: not sandboxes())
""")


def test_a_sandbox_that_was_killed_while_it_waited_is_not_used(host):
    host("""
import signal
with mrunc.Pool(2) as pool:
    for pid in sandboxes():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not sandboxes())
    assert pool.run(["true"]).returncode == 0
    until(lambda: len(sandboxes()) == 2)
    ending = launchers() + sandboxes()
    for pid in launchers():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in ending))
    assert pool.run(["true"]).returncode == 0
""")


def test_a_forked_host_has_sandboxes_of_its_own(host):
    host("""
with mrunc.Pool(1) as pool:
    assert pool.run(["true"]).returncode == 0
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = pool.run(["sh", "-c", "exit 7"]).returncode
            pool.close()
        finally:
            os._exit(code)
    assert os.WEXITSTATUS(os.waitpid(pid, 0)[1]) == 7
    assert pool.run(["true"]).returncode == 0
until(lambda: not sandboxes() and len(launchers()) == 1)
""")


def test_in_an_event_loop_many_run_at_once_and_one_can_be_cancelled(host):
    host("""
import asyncio
async def main(pool):
    done = await asyncio.gather(*[pool.run_async(["sh", "-c", "cat; exit %d" % number], input=b"%d" % number, capture_output=True)
                                  for number in range(8)])
    assert [(one.returncode, one.stdout) for one in done] == [(number, b"%d" % number) for number in range(8)]
    task = asyncio.ensure_future(pool.run_async(["sleep", "1000"]))
    await asyncio.sleep(0.1)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    else:
        raise AssertionError
    try:
        await pool.run_async(["nope"])
    except mrunc.SandboxError as error:
        assert error.status == 127
with mrunc.Pool(2) as pool:
    asyncio.get_event_loop_policy().new_event_loop().run_until_complete(main(pool))
until(lambda: not sandboxes())
""")


@pytest.mark.once(who="root")
def test_no_descriptor_and_no_process_is_left_over_hundreds_of_runs(host):
    host("""
with mrunc.Pool(2) as pool:
    for _ in range(20):
        pool.run(["true"])
    launcher, = launchers()
    def held():
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/%d/fd" % launcher))
    def made():
        try:
            return [os.readlink("/proc/%d/exe" % pid) for pid in sandboxes()] == ["/memfd:init (deleted)"] * 2
        except OSError:
            return False
    def steady():
        seen = set()
        while len(seen) != 1:
            until(made)
            seen = set()
            for _ in range(20):
                seen.add(held())
                time.sleep(0.01)
        return seen.pop()
    before = steady()
    for _ in range(300):
        pool.run(["true"])
    after = steady()
    assert after == before, (before, after)
""")


def test_a_request_that_comes_late_meets_no_other_pools_sandbox(host):
    host("""
first = mrunc.Pool(1, env={"WHOSE": "first"})
opened = first._opened()
first.close()
until(lambda: not sandboxes())
with mrunc.Pool(1, env={"WHOSE": "second"}) as second:
    assert second.run(["sh", "-c", "echo $WHOSE"], capture_output=True).stdout == b"second\\n"
    first._opened = lambda: opened  # as a thread has it that another one's close has overtaken
    try:
        first.run(["true"])
    except mrunc.SandboxError as error:
        assert error.stage == "launcher"
    else:
        raise AssertionError
""")


def test_a_long_name_on_a_long_path_is_refused_before_its_paths_are_made(host):
    host("""
with mrunc.Pool(1) as pool:
    try:
        pool.run(["x" * 20000], env={"PATH": ":" * 100000})
    except mrunc.SandboxError as error:
        assert error.stage == "exec", error
    else:
        raise AssertionError
    with open("/proc/%d/status" % launchers()[0]) as stream:
        peak = [int(line.split()[1]) for line in stream if line.startswith("VmHWM")][0]
    assert peak < 300 << 10, peak
    assert pool.run(["true"]).returncode == 0
""")


def test_a_closed_pool_leaves_nothing_in_the_launcher(host):
    """Neither descriptors nor memory: what never ran is freed at once, not when somebody collects garbage."""
    host("""
def resident():
    with open("/proc/%d/status" % launcher) as stream:
        return [int(line.split()[1]) for line in stream if line.startswith("VmRSS:")][0]
def pools(number):
    for _ in range(number):
        with mrunc.Pool(4) as pool:
            pool.run(["true"])
    until(lambda: not sandboxes())
mrunc.run(["true"])
launcher, = launchers()
pools(10)
memory, descriptors = resident(), len(os.listdir("/proc/%d/fd" % launcher))
pools(30)
grown = resident() - memory
assert grown < 256, grown  # KiB, of 120 sandboxes that nobody used: less than 3 for each
until(lambda: len(os.listdir("/proc/%d/fd" % launcher)) <= descriptors)  # the last are being closed
""")


def test_a_pool_that_nobody_waits_for_any_more_leaves_nothing_of_its_sandboxes(host):
    """Its host was interrupted in the moment when the last of them was ready: that can't be told any more."""
    host("""
import signal, socket
from mrunc.sandbox.library import client; from mrunc.sandbox.library import request as library
mrunc.run(["true"])
launcher, = launchers()
def held():
    return len(os.listdir("/proc/%d/fd" % launcher))
def reaped():
    with open("/proc/%d/stat" % launcher) as stream:
        return stream.read().rpartition(")")[2].split()[8]  # page faults of children that were waited for
def opened():
    before = reaped()
    os.kill(launcher, signal.SIGSTOP)
    call = client.submit({"pool": 0, "size": 1, "options": {}, "tell": True, "environ": library.environ({})}, (0, 1, 2))
    call.channel.shutdown(socket.SHUT_RD)
    os.kill(launcher, signal.SIGCONT)
    until(lambda: reaped() != before)
    call.close()
opened()
before = held()
for _ in range(3):
    opened()
until(lambda: held() <= before)
""")


def test_a_pool_that_gets_no_descriptor_refuses_the_run_and_stays(host):
    """It is the launcher of others, too."""
    host("""
import resource
from mrunc.sandbox.service import pools
class Launcher:
    jobs, pools = set(), {}
    class loop:
        add = ask = remove = staticmethod(lambda member: None)
    next_pool = staticmethod(lambda: 1)
    plan = staticmethod(lambda request: os.open("/", os.O_PATH))
class Channel:
    def __init__(self):
        self.sent = []
        self.send = self.sent.append
    def close(self):
        pass
own, other = Channel(), Channel()
pool = pools.Pool(Launcher, own, os.open(".", os.O_PATH), {"pool": 0, "size": 1, "alone": False})
pool.full = True
before = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
pool.use(other, (), {"alone": False})
resource.setrlimit(resource.RLIMIT_NOFILE, before)
assert b"Too many open files" in other.sent[0] and not own.sent and pool.ending is None, (other.sent, own.sent)
assert not pool.coming and not Launcher.jobs
""")
