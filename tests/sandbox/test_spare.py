# SPDX-License-Identifier: Apache-2.0
"""The sandbox that a launcher has ready for the next run like the last two: the same as any other, used once, and given up
when anything has changed."""
from hosting import OWN_MOUNTS

#: A spare waits after this, and its pid is returned.  It may have waited too long already where the machine is slow.
READY = """
def ready(**options):
    until(lambda: not sandboxes())
    while True:
        for _ in range(2):
            assert mrunc.run(["true"], capture_output=True, **options).reason == "exited"
        late = time.monotonic() + 1
        while time.monotonic() < late:
            try:
                # A launcher looks at its mount table for its plans, and for a spare that waits.
                looks = [os.readlink("/proc/%d/fd/%s" % (launcher, number)).endswith("/mountinfo")
                         for launcher in launchers() for number in os.listdir("/proc/%d/fd" % launcher)]
                if sum(looks) == 2 and len(sandboxes()) == 1:
                    return sandboxes()[0]
            except (OSError, IndexError):
                pass
            time.sleep(0.002)
"""


def test_the_third_run_like_the_ones_before_finds_a_sandbox_that_nobody_has_used(host):
    host(READY + """
seen = set()
for number in range(10):
    spare = ready()
    assert spare not in seen
    seen.add(spare)
    done = mrunc.run(["sh", "-c", "echo $$; ls -A /tmp /box; touch /tmp/mark /box/mark; exit 3"], capture_output=True, text=True)
    assert done.stdout.split() == ["2", "/box:", "/tmp:"] and done.returncode == 3, done.stdout
    assert not alive(spare)
""")


def test_one_run_alone_leaves_nothing_and_a_spare_does_not_stay(host):
    host(READY + """
until(lambda: not launchers())  # those of another test
mrunc.run(["true"], capture_output=True)
mrunc.run(["true"], capture_output=True, hostname="another")
mrunc.run(["true"], capture_output=True)
assert not sandboxes()
spare = ready()
until(lambda: not sandboxes())
assert mrunc.run(["true"], capture_output=True).reason == "exited"
""")


def test_what_is_in_force_and_told_is_the_same_without_a_spare(host):
    host(READY + """
def told(result):
    return [(row["name"], row["asked"], row["in_force"]) for row in result.controls]
options = dict(hostname="warm", env={"A": "b"}, timeout=50, max_output=5000)
first = mrunc.run(["sh", "-c", "echo $A; uname -n; cat; exit 4"], capture_output=True, **options)
ready(**options)
second = mrunc.run(["sh", "-c", "echo $A; uname -n; cat; exit 4"], capture_output=True, **options)
assert first.stdout == second.stdout == b"b\\nwarm\\n"
assert told(first) == told(second)
one, other = first.as_dict(), second.as_dict()
for name in ("usage", "started", "controls"):
    del one[name], other[name]
assert one == other
ready(timeout=2, grace=0)
assert mrunc.run(["sleep", "100"], capture_output=True, timeout=2, grace=0).reason == "timeout-wall"
""")


def test_a_change_of_the_host_is_the_end_of_a_spare(host):
    host(READY + OWN_MOUNTS + """
look = ["sh", "-c", "ls /usr/share | head -n 2"]
spare = ready()
assert mrunc.run(look, capture_output=True).stdout != b""
spare = ready()
mount.move_mount(mount.new_filesystem(b"tmpfs", 0, [(b"mode", b"0755")]), -100, b"/usr/share")
open("/usr/share/new", "w").close()
assert mrunc.run(look, capture_output=True).stdout == b"new\\n"
until(lambda: not alive(spare))
spare = ready()
mount.umount(b"/usr/share")
until(lambda: not alive(spare))  # and with it what it holds of the mount
assert mrunc.run(look, capture_output=True).stdout not in (b"new\\n", b"")
""")


def test_a_spare_does_not_go_on_with_a_file_that_was_replaced(host):
    """As an update does it: no name in /etc and no mount changes."""
    host(READY + OWN_MOUNTS + """
mount.move_mount(mount.new_filesystem(b"tmpfs", 0, [(b"mode", b"0755")]), -100, b"/etc/ssl")
def put(name, text):
    with open("/etc/ssl/" + name, "w") as stream:
        stream.write(text)
os.mkdir("/etc/ssl/certs")
put("openssl.cnf", "first"), put("certs/first", "")
def shown():
    return mrunc.run(["sh", "-c", "cat /etc/ssl/openssl.cnf; echo; ls /etc/ssl/certs"], capture_output=True).stdout.split()
assert shown() == [b"first", b"first"]
ready()
put("new", "second")
os.rename("/etc/ssl/new", "/etc/ssl/openssl.cnf")
assert shown() == [b"second", b"first"]
ready()
os.rename("/etc/ssl/certs", "/etc/ssl/was")
os.mkdir("/etc/ssl/certs")
put("certs/second", "")
assert shown() == [b"second", b"second"]
""")


def test_a_spare_made_of_what_was_known_before_a_change_is_refused(host):
    host("""
from mrunc.sandbox.service import jobs, pools
class Known(tuple):
    pass
class Plans:
    known = Known()
    def key(self, request):
        return "key"
    def holds(self, key):
        return self.known
class Launcher:
    null, plans, jobs = os.open("/dev/null", os.O_RDWR), Plans(), set()
    class loop:
        ask = staticmethod(lambda member: None)
class Job:
    key, state, waiting, known, groups, used, gone = "key", jobs.WARM, None, Plans.known, jobs.control_groups(), 0, False
    class run:
        class plan:
            root = True
    def use(self, channel, stdio, request):
        self.used += 1
    def cancel(self):
        self.gone = True
def taken(change=lambda job, launcher: None, tell=False, stdio=None):
    launcher, job = Launcher(), Job()
    launcher.plans = Plans()
    spares = pools.Spares(launcher)
    spares.job = job
    change(job, launcher)
    request = {"tell": tell, "alone": False, "argv": ["true"]}
    got = spares.take(None, stdio or [launcher.null] * 3, request)
    assert got == (job.used == 1) and not (job.used and job.gone)
    assert spares.job is None if got or job.gone else spares.job is job
    return got, job.gone
assert taken() == (True, False)
def other(job, launcher): launcher.plans.known = Known()  # equal, and made anew
assert taken(other) == (False, True)
def nothing(job, launcher): launcher.plans.known = None
assert taken(nothing) == (False, True)
def group(job, launcher): job.groups = b"0::/elsewhere"
assert taken(group) == (False, True)
def key(job, launcher): job.key = "other"
assert taken(key) == (False, False)
assert taken(tell=True) == (False, False)
with open("file", "w+b") as file:
    assert taken(stdio=[Launcher.null, file.fileno(), Launcher.null]) == (True, False)
""")


def test_files_get_a_sandbox_that_knows_them(host):
    host(READY + """
with open("out", "w+b") as out:
    os.chmod("out", 0o666)
    spare = ready()
    mrunc.run(["sh", "-c", "echo again >> /dev/stdout"], stdout=out, stderr=subprocess.STDOUT)
    assert open("out").read() == "again\\n"
""")


def test_a_program_that_is_not_there_is_told_of_as_always(host):
    host(READY + """
def failing(argv):
    try:
        return mrunc.run(argv, capture_output=True)
    except mrunc.SandboxError as error:
        return error.line(), error.status, error.remedy, error.stage
for argv in (["nonesuch"], ["/etc/passwd"], ["/usr"], [""], ["a\\0b"]):
    said = failing(argv)
    spare = ready()
    assert failing(argv) == said and len(said) == 4, (argv, said)
    until(lambda: not alive(spare))
""")


def test_a_program_that_is_not_there_is_nobody_elses_end_when_the_host_does_not_read(host):
    """What the host was told before then waits for it beside the answer."""
    host(READY + """
from mrunc.sandbox.library import request as library
spare = ready()
with mrunc.Sandbox().popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as other:
    streams = mrunc.sandbox.library.streams.Streams(-3, -3, -3)
    call = library.ask(["/nonesuch"] + ["x" * 100000] * 10, streams, None, {})
    streams.close()
    until(lambda: not alive(spare))
    answer = None
    while answer is None:
        answer = call.take()
    assert answer["error"]["stage"] == "exec" and answer["error"]["status"] == 127, answer
    other.stdin.close()
assert other.returncode == 0
""")


def test_a_spare_that_was_killed_is_no_loss(host):
    host(READY + """
import signal
for _ in range(5):
    spare = ready()
    os.kill(spare, signal.SIGKILL)
    until(lambda: not alive(spare))
    assert mrunc.run(["echo", "still"], capture_output=True).stdout == b"still\\n"
until(lambda: not sandboxes())
""")


def test_what_the_host_wants_gone_while_a_spare_fails_it_does_not_begin(host):
    """Its word comes when the spare's end is awaited, before an ordinary run would begin."""
    host(READY + """
import signal
from mrunc.sandbox.library import request as library
spare, (launcher,) = ready(), launchers()
os.kill(launcher, signal.SIGSTOP)
try:
    until(lambda: state(launcher) == "T")
    os.kill(spare, signal.SIGKILL)
    until(lambda: not alive(spare))
    read, write = os.pipe()
    streams = type("Streams", (), {"theirs": [write] * 3, "own": []})
    call = library.ask(["echo", "begun"], streams, None, {})
    call.kill()
    os.close(write)
finally:
    os.kill(launcher, signal.SIGCONT)
try:
    library.finished(call.take())
except mrunc.SandboxError as error:
    assert (error.what, error.status) == ("killed by the caller", 137), error
else:
    raise AssertionError
assert os.read(read, 100) == b""
""")


def test_many_at_once_get_one_each(host):
    host("""
import threading
got, wrong = [], []
def work(number):
    for each in range(15):
        done = mrunc.run(["sh", "-c", "ls -A /tmp; touch /tmp/mark; echo %d.%d" % (number, each)], capture_output=True, text=True)
        (got if done.stdout == "%d.%d\\n" % (number, each) else wrong).append(done.stdout)
threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(got) == 45 and not wrong, wrong
until(lambda: not sandboxes())
""")


def test_it_goes_with_the_host(host, inside, head):
    host(READY + """
child = subprocess.Popen([sys.executable, "-I", "-c", %r], stdout=subprocess.PIPE)
launcher, spare = [int(word) for word in child.stdout.readline().split()]
assert alive(spare)
child.kill()
child.wait()
until(lambda: not alive(spare) and not alive(launcher))
""" % (head + READY + "spare = ready()\nprint(launchers()[0], spare, flush=True)\nimport threading\n"
       "while True: ready()\n"))
