# SPDX-License-Identifier: Apache-2.0
"""When the library is imported, and what a fork meets meanwhile."""


def test_a_fork_during_another_threads_first_run_leaves_a_child_that_can_run(host):
    """The fork comes while `library.api` is imported: its lock would be held for ever in the child."""
    host("""
import signal, threading
importing, forked, statuses = threading.Event(), threading.Event(), []
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.endswith(".library.api") and not importing.is_set():
            importing.set()
            forked.wait(0.5)  # the time in which nothing but our lock keeps the other thread from forking
        return None
sys.meta_path.insert(0, Finder)
def first():
    statuses.append(mrunc.run(["true"]).returncode)
thread = threading.Thread(target=first)
thread.start()
assert importing.wait(60)
child = os.fork()
if not child:
    signal.alarm(20)
    status = 1
    try:
        status = mrunc.run(["sh", "-c", "exit 7"], capture_output=True).returncode
    finally:
        os._exit(status)
forked.set()
thread.join()
status = os.waitpid(child, 0)[1]
assert (statuses, status) == ([0], 7 << 8), (statuses, status)
""")


def test_no_run_imports_anything(host):
    """All of it is there since `mrunc.run` was looked up."""
    host("""
import asyncio
loop = asyncio.new_event_loop()
loop.run_until_complete(asyncio.sleep(0))
run, box, pool = mrunc.run, mrunc.Sandbox(memory="64M", best_effort=["limits.memory"]), mrunc.Pool
before = set(sys.modules)
result = run(["cat"], input="x", capture_output=True, text=True)
assert result.stdout == "x"
assert run(["true"], env={"LONG": "x" * 100000}, stdin=subprocess.DEVNULL).returncode == 0
assert box.run(["true"]).returncode == 0
with box.popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
    assert process.communicate(b"y")[0] == b"y"
with pool(1) as pool:
    assert pool.run(["true"], capture_output=True).returncode == 0
    assert loop.run_until_complete(pool.run_async(["true"])).returncode == 0
assert loop.run_until_complete(box.run_async(["true"], capture_output=True)).returncode == 0
assert run(["true"], changes=True).changes == []
changes = run(["touch", "made"], changes=True).changes
assert [row["path"] for row in changes] == ["/box/made"], changes
try:
    run(["no-such-program"])
except mrunc.SandboxError as error:
    assert error.status == 127
loop.close()
assert set(sys.modules) == before, sorted(set(sys.modules) - before)
""")


def test_a_long_request_leaves_no_file_on_a_disk(host):
    host("""
import tempfile
place = tempfile.mkdtemp()
os.environ["TMPDIR"], tempfile.tempdir = place, None
os.rmdir(place)  # nothing could be made there
if hasattr(os, "memfd_create"):  # Python 3.8
    done = mrunc.run(["sh", "-c", "echo ${#LONG}"], env={"LONG": "x" * 100000}, capture_output=True)
    assert done.stdout == b"100000\\n", done
""")
