# SPDX-License-Identifier: Apache-2.0
"""What a program writes does not fill the memory of a process that captures it, nor its launcher's."""
import pytest

#: Bytes: a host that captures without a max_output stays below, whatever comes; its launcher too.
HOST, LAUNCHER = 250 * 10**6, 100 * 10**6
#: What is said where more came than is kept.
CHECKS = """
import resource
LIMIT = 64 << 20
def peak(pid):
    with open("/proc/%s/status" % pid) as stream:
        return int(stream.read().partition("VmHWM:")[2].split()[0]) * 1024
def check_limit(result, *outputs):
    assert (result.reason, result.returncode) == ("output-limit", 137), result
    assert "67108864 bytes" in result.detail and "max_output=" in result.advice, result
    assert result.limits_hit["max_output"] == LIMIT and result.signal == 9 and result.usage["wall_s"] > 0
    kept = sum(map(len, outputs))
    assert LIMIT / 4 - (2 << 20) <= kept <= LIMIT + 65536, kept
def check_memory():
    assert peak("self") < HOST, peak("self")
    pid, = launchers()
    assert peak(pid) < LAUNCHER, peak(pid)
""".replace("HOST", "%d" % HOST).replace("LAUNCHER", "%d" % LAUNCHER)
#: Programs that never stop writing.
FLOODS = {"stdout": "cat /dev/zero", "stderr": "exec cat /dev/zero >&2", "both": "cat /dev/zero & exec cat /dev/zero >&2"}
#: What is decoded to more memory than it was: one wide character makes all others as wide.
TEXTS = {"ascii": "yes 0123456789abcdef", "wide": "printf '\\360\\237\\230\\200'; exec yes 0123456789abcdef",
         "wide late": "head -c 40000000 /dev/zero; printf '\\360\\237\\230\\200'; exec cat /dev/zero",
         "invalid": "exec tr '\\0' '\\377' </dev/zero", "carriage returns": "yes \"$(printf 'x\\r')\""}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_captured_output_is_bounded(host, flood):
    host(CHECKS + """
argv = ["sh", "-c", %r]
result = mrunc.run(argv, capture_output=True)
check_limit(result, result.stdout, result.stderr)
del result
check_memory()
""" % FLOODS[flood])


@pytest.mark.parametrize("text", TEXTS)
def test_a_flood_of_captured_text_is_bounded(host, text):
    host(CHECKS + """
result = mrunc.run(["sh", "-c", %r], capture_output=True, text=True)
check_limit(result, result.stdout, result.stderr)
assert "as text" in result.detail and sys.getsizeof(result.stdout) <= LIMIT + 100
del result
check_memory()
""" % TEXTS[text])


#: Each leaves `result` and `outputs`.
WAYS = {
    "communicate": """
with mrunc.Sandbox().popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
    outputs = process.communicate()
result = process.result
""",
    "PIPE and STDOUT": """
result = mrunc.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
outputs = result.stdout,
""",
    "run_async": """
loop = asyncio.new_event_loop()
result = loop.run_until_complete(mrunc.Sandbox().run_async(argv, capture_output=True))
outputs = result.stdout, result.stderr
loop.close()
""",
    "Pool.run": """
with mrunc.Pool(1) as pool:
    result = pool.run(argv, capture_output=True)
outputs = result.stdout, result.stderr
""",
    "Pool.run_async": """
loop = asyncio.new_event_loop()
with mrunc.Pool(1) as pool:
    result = loop.run_until_complete(pool.run_async(argv, capture_output=True))
outputs = result.stdout, result.stderr
loop.close()
""",
    "check": """
try:
    mrunc.run(argv, capture_output=True, check=True)
except mrunc.CalledProcessError as error:
    assert "67108864 bytes" in str(error), error
    result, outputs = error.result, (error.stdout, error.stderr)
"""}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_capture_is_bounded(host, way):
    host(CHECKS + """
import asyncio
argv = ["sh", "-c", %r]
%s
check_limit(result, *outputs)
check_memory()
""" % (FLOODS["both"], WAYS[way]))


def test_a_library_call_tells_that_output_was_lost(host):
    """Not even after the host was told what the result will be."""
    host("""
with open("/dev/full", "wb", 0) as full, mrunc.Pool(1) as pool:
    for run in (mrunc.run, mrunc.run, mrunc.run, pool.run, pool.run):
        result = run(["/bin/echo", "x"], stdout=full)
        assert result.returncode == 125, result
        assert result.detail == "stdout could not be written: No space left on device", result
        assert result.controls and result.usage["wall_s"] > 0, result
""")


def test_communicate_says_once_that_it_was_too_much(host):
    host(CHECKS + """
process = mrunc.Sandbox().popen(["cat", "/dev/zero"], stdout=subprocess.PIPE)
outputs = process.communicate()
said = process.result.as_dict()
assert said["reason"] == "output-limit" and process.communicate() == outputs and process.result.as_dict() == said
""")


def test_max_output_takes_the_place_of_the_bound(host):
    host(CHECKS + """
argv = ["head", "-c", "%d" % (LIMIT + 1), "/dev/zero"]
result = mrunc.run(argv, capture_output=True)
assert result.reason == "output-limit" and len(result.stdout) == LIMIT, result
result = mrunc.run(argv[:2] + ["%d" % LIMIT] + argv[3:], capture_output=True)
assert result.reason == "exited" and len(result.stdout) == LIMIT, result
result = mrunc.run(argv, capture_output=True, max_output="65M")
assert result.reason == "exited" and len(result.stdout) == LIMIT + 1, result
result = mrunc.run(argv, capture_output=True, max_output=1000)
assert result.reason == "output-limit" and len(result.stdout) == 1000 and result.limits_hit["max_output"] == 1000, result
with open("out", "wb") as stream:
    result = mrunc.run(argv, stdout=stream)
assert result.reason == "exited" and os.path.getsize("out") == LIMIT + 1, result
""")


def test_captured_text_is_what_decoding_it_whole_gives(host):
    host("""
from mrunc.sandbox.library import streams
import random
pieces = [b"a\\r\\nb\\rc\\n", "\\u00e4\\u20ac\\U0001f600".encode(), b"\\xff\\xe2\\r\\n", b"\\xf0\\x9f", b"\\r", b"x" * 3000]
streams.BLOCK, chance = 64, random.Random(1)
for _ in range(200):
    data = b"".join(chance.choice(pieces) for _ in range(chance.randrange(40)))
    kept = streams.Kept(True)
    at = 0
    while at < len(data):
        step = chance.randrange(1, 100)
        assert kept.add(data[at:at + step], None)
        at += step
    expected = data.decode("utf-8", "replace").replace("\\r\\n", "\\n").replace("\\r", "\\n")
    assert kept.output(None) == (expected, True), (kept.output(None), expected)
    assert kept.size >= sys.getsizeof(expected) - 100
""")


def test_long_input_is_fed_in_time_that_grows_with_its_length(host):
    """Twice the length takes twice the time and not four times."""
    host("""
def seconds(size):
    data, best = bytes(size), None
    for _ in range(3):
        begun = os.times()
        assert mrunc.run(["wc", "-c"], input=data, capture_output=True).stdout.split() == [b"%d" % size]
        used = sum(os.times()[:2]) - sum(begun[:2])
        best = used if best is None else min(best, used)
    return best
short, long = seconds(16 << 20), seconds(128 << 20)
assert long < 24 * max(short, 0.01), (short, long)
""")


def test_an_answer_is_read_though_the_launcher_ends_between_two_looks(host):
    """It closes its end with a word of ours unread after the length of its answer was asked for."""
    host("""
import marshal, socket
from mrunc.sandbox.library import client
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
class Channel:
    fileno, close, looks = ours.fileno, ours.close, 0
    def recv_into(self, *arguments):
        got = ours.recv_into(*arguments)
        theirs.close()
        self.looks += 1
        return got
ours.send(b"k")
theirs.send(b"." + marshal.dumps({"error": "said"}, 2))
channel = Channel()
assert client.Call(channel, None, None).take() == {"error": "said"} and channel.looks == 2
""")
