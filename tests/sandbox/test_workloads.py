# SPDX-License-Identifier: Apache-2.0
"""Real programs under the default sandbox: one that breaks programs is switched off.

A row is a shell script (or a Python program) and what it must print.  Nothing is skipped: a program that is not there is a
failure that says how to get it.
"""
import hashlib
import os
import shutil

import pytest

import mrunc  # noqa: F401  registers the package
from conftest import listens
from mrunc.sandbox.seccomp import shipped

#: program -> Debian package
PACKAGES = {"awk": "gawk", "bash": "bash", "bc": "bc", "bzip2": "bzip2", "cc": "gcc", "diff": "diffutils", "file": "file",
            "find": "findutils", "flock": "util-linux", "gcc": "gcc", "git": "git", "go": "golang-go", "gzip": "gzip",
            "java": "default-jdk-headless", "javac": "default-jdk-headless", "jq": "jq", "make": "make", "node": "nodejs",
            "objdump": "binutils", "openssl": "openssl", "patch": "patch", "perl": "perl", "ps": "procps",
            "python3": "python3", "sqlite3": "sqlite3", "strace": "strace", "tar": "tar", "unzip": "unzip",
            "xz": "xz-utils", "zip": "zip", "zstd": "zstd"}

#: name, programs it needs, script for sh, standard output
SHELL = [
    ("sh pipelines and subshells", "", r"""
        (echo b; echo a; echo c) | sort | tr a-z A-Z | while read x; do printf '%s;' "$x"; done
        echo $(( 6 * 7 )); trap 'echo bye' EXIT; f() { return 3; }; f || echo "f: $?"
        """, "A;B;C;42\nf: 3\nbye\n"),
    ("sh jobs, wait and signals", "", r"""
        sleep 300 & kill -TERM $!; wait $!; echo $?
        (exit 7) & wait $!; echo $?
        """, "143\n7\n"),
    ("bash arrays, process substitution and coprocesses", "bash", r"""
        bash -ec 'a=(x y z); echo ${#a[@]} ${a[-1]^^}; diff <(printf "1\n2\n") <(printf "1\n3\n") | grep -c "^[<>]"
                  coproc C { read l; echo "got $l"; }; echo hi >&${C[1]}; read r <&${C[0]}; echo "$r"; cat <<< here'
        """, "3 Z\n2\ngot hi\nhere\n"),
    ("coreutils", "", r"""
        seq 1 100 | split -l 30 - part.; ls part.* | wc -l; cat part.* | md5sum | cut -c1-8; seq 5 | tac | paste -sd+
        printf 'a b\n' > f; cp -p f g; ln f h; ln -s f i; stat -c %h f; readlink i; cmp f g && echo same
        touch -d 2001-02-03 f; date -r f +%F; mkdir -p x/y; mv g x/y; du -s x >/dev/null; rm -r x; ls | wc -l
        timeout 60 true; nproc >/dev/null; id -u; printf abc | base64; shuf -i 1-9 -n 9 | sort | tr -d '\n'; echo
        """, "4\nd632eba7\n5+4+3+2+1\n2\nf\nsame\n2001-02-03\n7\n0\nYWJj\n123456789\n"),
    ("awk", "awk", r"""
        printf 'a 1\nb 2\na 3\n' | awk '{s[$1] += $2} END {n = asorti(s, k); for (i = 1; i <= n; i++) print k[i], s[k[i]]}'
        awk 'BEGIN {"echo piped" | getline x; print x; print 1 | "cat"; close("cat"); printf "%.3f\n", atan2(0, -1)}'
        """, "a 4\nb 2\npiped\n1\n3.142\n"),
    ("find, grep and sed", "find", r"""
        mkdir -p t/a t/b; echo needle 12 > t/a/one; echo hay > t/b/two
        find t -type f -name '[ot]*' -exec grep -l needle {} +; find t -type f -print0 | xargs -0 cat | sort
        grep -roE '[0-9]+' t; sed -i 's/needle \(..\)/\1 pins/' t/a/one; cat t/a/one; find t -delete; ls
        """, "t/a/one\nhay\nneedle 12\nt/a/one:12\n12 pins\n"),
    ("xargs in parallel", "", "seq 40 | xargs -P 8 -n 1 sh -c 'echo $(($1 * $1))' x | sort -n | tail -1", "1600\n"),
    ("sort with temporary files", "", r"""
        seq 200000 -1 1 > n; sort -n -S 64k --parallel=2 -T /tmp n | head -2; sort -R n | sort -n -c 2>/dev/null || echo mixed
        """, "1\n2\nmixed\n"),
    ("dd and sparse files", "", r"""
        dd if=/dev/zero of=f bs=64k count=16 2>/dev/null; stat -c %s f; dd if=/dev/urandom bs=1k count=3 2>/dev/null | wc -c
        truncate -s 1G s; stat -c '%s %b' s; echo x | dd of=f conv=notrunc,fsync bs=1 seek=10 2>/dev/null; stat -c %s f
        fallocate -l 1M r && stat -c %s r; dd if=/dev/full of=/dev/null count=1 2>/dev/null && echo x > /dev/full || echo full
        """, "1048576\n3072\n1073741824 0\n1048576\n1048576\nfull\n"),
    ("named pipes", "", "mkfifo p; (sort p > out) & printf '2\\n1\\n' > p; wait; cat out; stat -c %F p", "1\n2\nfifo\n"),
    ("locks", "flock", r"""
        for i in 1 2 3 4 5 6 7 8; do (flock 9; n=$(cat c 2>/dev/null || echo 0); echo $((n + 1)) > c) 9>lock & done; wait; cat c
        """, "8\n"),
    ("diff and patch", "diff patch", r"""
        seq 20 > a; sed 's/^7$/seven/' a > b; diff -u a b > d; patch -s a d; cmp a b && grep -c '' d
        """, "11\n"),
    ("tar with gzip, bzip2, xz and zstd", "tar bzip2 gzip xz zstd", r"""
        mkdir d; seq 5000 > d/n; ln -s n d/l; chmod 750 d/n
        for z in gz bz2 xz zst; do tar caf a.tar.$z d; mkdir x; tar xf a.tar.$z -C x; cmp d/n x/d/n && readlink x/d/l; rm -r x; done
        stat -c %a d/n; xz -T2 -k d/n; xz -t d/n.xz && echo sound; seq 5000 | gzip -9 | gzip -dc | tail -1
        """, "n\nn\nn\nn\n750\nsound\n5000\n"),
    ("zip", "zip unzip", "echo hello > f; zip -q a.zip f; rm f; unzip -q a.zip; cat f; unzip -l a.zip | tail -1 | awk '{print $2}'",
     "hello\n1\n"),
    ("perl", "perl", r"""
        perl -MList::Util=sum -MPOSIX=floor -MFile::Temp=tempfile -e '
            my ($h, $n) = tempfile(); print $h "x" x 10; close $h; print -s $n, " ", sum(1..10), " ", floor(2.7), "\n";
            my $p = fork // die $!; if (!$p) { exit 5 } waitpid $p, 0; print $? >> 8, "\n";
            open my $c, "-|", "echo", "from a child" or die; print <$c>; local $SIG{ALRM} = sub { print "alarm\n" };
            kill ALRM => $$; print join(",", map { sprintf "%s", $_ } sort grep { /^root/ } map { (getpwuid 0)[0] } 1), "\n"'
        """, "10 55 2\n5\nfrom a child\nalarm\nroot\n"),
    ("gcc compiles, links and runs", "gcc", r"""
        cat > m.c <<'E'
        #include <math.h>
        #include <pthread.h>
        #include <stdio.h>
        static void *f(void *p) { *(double *)p = sqrt(*(double *)p); return 0; }
        int main(void) { double d[4] = {1, 4, 9, 16}; pthread_t t[4]; int i;
            for (i = 0; i < 4; i++) if (pthread_create(&t[i], 0, f, &d[i])) return 1;
            for (i = 0; i < 4; i++) pthread_join(t[i], 0);
            printf("%g\n", d[0] + d[1] + d[2] + d[3]); return 0; }
E
        gcc -O2 -Wall -Werror -pthread m.c -o m -lm && ./m; gcc -O1 -static -pthread m.c -o s -lm && ./s; gcc -shared -fPIC m.c -o m.so
        nm m | grep -c ' T main'; strip m; ./m
        """, "10\n10\n1\n10\n"),
    ("make in parallel", "make gcc", r"""
        for i in 1 2 3 4; do echo "int f$i(void) { return $i; }" > f$i.c; done
        echo 'int f1(void), f2(void), f3(void), f4(void); int main(void) { return f1() + f2() + f3() + f4(); }' > main.c
        printf 'a.out: f1.o f2.o f3.o f4.o main.o\n\tcc -o $@ $^\n%%.o: %%.c\n\tcc -c -o $@ $<\n' > Makefile
        make -s -j2; ./a.out; echo $?; make -s -j2 -q && echo done
        """, "10\ndone\n"),
    ("binutils", "objdump gcc", r"""
        echo 'int answer(void) { return 42; }' | gcc -O1 -x c -c - -o a.o; objdump -d a.o | grep -c '<answer>:'; ar rc l.a a.o; ar t l.a
        readelf -h a.o | awk '/Type:/ {print $2}'; strings -n 3 a.o | grep -c answer
        """, "1\na.o\nREL\n1\n"),
    ("file", "file", "printf '#!/bin/sh\\n' > s; file -b s; head -c 4 /bin/sh > e; file -bL --mime-type /dev/null",
     "POSIX shell script, ASCII text executable\ninode/chardevice\n"),
    ("git", "git", r"""
        export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
        git init -q -b main r; cd r; for i in 1 2 3; do echo $i > f; git add f; git commit -q -m "number $i"; done
        git log --format=%s; git checkout -q -b other HEAD~1; git diff --stat main | tail -1; git merge -q --ff-only main
        git gc -q; git fsck --strict 2>/dev/null && git clone -q . ../c && git -C ../c log --oneline | wc -l
        """, "number 3\nnumber 2\nnumber 1\n 1 file changed, 1 insertion(+), 1 deletion(-)\n3\n"),
    ("node with a worker", "node", r"""
        cat > w.js <<'E'
        const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
        if (isMainThread) {
          const fs = require('fs'), crypto = require('crypto'), { execFileSync } = require('child_process');
          const w = new Worker(__filename, { workerData: 20 });
          w.on('message', (m) => console.log('worker', m));
          w.on('exit', () => {
            fs.writeFileSync('x', 'abc');
            console.log(fs.readFileSync('x', 'utf8'), crypto.createHash('sha1').update('abc').digest('hex').slice(0, 8));
            console.log(execFileSync('echo', ['child']).toString().trim());
            require('zlib').gzip('z'.repeat(1000), (e, b) => setTimeout(() => console.log(b.length < 100), 1));
          });
        } else { const f = (n) => n < 2 ? n : f(n - 1) + f(n - 2); parentPort.postMessage(f(workerData)); }
E
        node w.js
        """, "worker 6765\nabc a9993e36\nchild\ntrue\n"),
    ("java compiles and runs", "javac java", r"""
        cat > Main.java <<'E'
        import java.nio.file.*; import java.util.stream.*;
        public class Main { public static void main(String[] a) throws Exception {
            System.out.println(IntStream.rangeClosed(1, 1000).parallel().sum());
            Path p = Files.createTempFile("x", "y"); Files.write(p, "text".getBytes()); System.out.println(Files.size(p));
            Thread t = new Thread(() -> System.out.println("thread")); t.start(); t.join();
            System.out.println(new String(new ProcessBuilder("echo", "child").start().getInputStream().readAllBytes()).trim());
            System.gc(); System.exit(3); } }
E
        javac Main.java && java Main; echo $?
        """, "500500\n4\nthread\nchild\n3\n"),
    ("go builds and runs", "go", r"""
        cat > main.go <<'E'
package main
import ("fmt"; "os/exec"; "sync"; "time")
func main() {
	var wg sync.WaitGroup; c := make(chan int, 100)
	for i := 0; i < 100; i++ { wg.Add(1); go func(n int) { defer wg.Done(); time.Sleep(time.Microsecond); c <- n }(i) }
	wg.Wait(); close(c); s := 0
	for n := range c { s += n }
	out, err := exec.Command("echo", "child").Output()
	fmt.Println(s, string(out), err)
}
E
        go mod init example.org/m 2>/dev/null; go vet . && go build -o m . && ./m
        """, "4950 child\n <nil>\n"),
    ("sqlite3 with a write-ahead log", "sqlite3", r"""
        sqlite3 d.db 'pragma journal_mode=wal; create table t(a integer primary key, b text);
          with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000) insert into t select i, hex(i) from n;
          select count(*), max(b) from t; vacuum; pragma integrity_check;'
        """, "wal\n1000|393939\nok\n"),
    ("openssl", "openssl", r"""
        openssl version | cut -d' ' -f1; printf abc | openssl dgst -sha256 -r | cut -c1-16
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k -out c -subj /CN=inside -days 2 2>/dev/null
        openssl x509 -in c -noout -subject; openssl verify -CAfile c c; printf secret | openssl enc -aes-256-cbc -pbkdf2 -k p |
        openssl enc -d -aes-256-cbc -pbkdf2 -k p; echo
        """, "OpenSSL\nba7816bf8f01cfea\nsubject=CN=inside\nc: OK\nsecret\n"),
    ("jq and bc", "jq bc", "echo '{\"a\": [1, 2, {\"b\": 3}]}' | jq -c '[.a[2].b, (.a | length)]'; echo '2^100' | bc",
     "[3,3]\n1267650600228229401496703205376\n"),
    ("an executable of one's own in /tmp, /box and the home", "", r"""
        for d in /tmp /box "$HOME"; do cp /bin/echo $d/mine; $d/mine $d; done; printf '#!/bin/sh\necho script\n' > s; chmod +x s; ./s
        """, "/tmp\n/box\n/root\nscript\n"),
    ("locale, time zone and names", "", r"""
        locale charmap 2>/dev/null; printf '\303\244' | wc -m; TZ=Asia/Tokyo date -d @0 +%H; whoami; hostname; getent passwd root | cut -d: -f1,3
        """, "UTF-8\n1\n09\nroot\nmrunc\nroot:0\n"),
]

#: name, Python program, standard output
PYTHON = [
    ("python3 threads", r"""
import concurrent.futures, queue, threading
with concurrent.futures.ThreadPoolExecutor(16) as pool:
    print(sum(pool.map(lambda n: n * n, range(100))))
lock, q = threading.Lock(), queue.Queue()
t = threading.Thread(target=lambda: q.put(lock.acquire(timeout=60))); t.start(); print(q.get()); t.join()
""", "328350\nTrue\n"),
    ("python3 subprocess", r"""
import subprocess, sys
print(subprocess.run(["tr", "a-z", "A-Z"], input=b"text", stdout=subprocess.PIPE).stdout)
p = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True, close_fds=True)
p.kill(); print(p.wait())
print(subprocess.run("exit 9", shell=True, cwd="/", preexec_fn=lambda: None).returncode)
""", "b'TEXT'\n-9\n9\n"),
    ("python3 asyncio", r"""
import asyncio, os
async def serve(reader, writer):
    writer.write((await reader.readline()).upper()); writer.close()
async def main():
    server = await asyncio.start_unix_server(serve, "/tmp/socket")
    reader, writer = await asyncio.open_unix_connection("/tmp/socket")
    writer.write(b"line\n"); print(await reader.readline()); server.close()
    child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    print((await child.communicate(b"through cat"))[0], await asyncio.to_thread(os.getppid) > 0)
    print(await asyncio.gather(*(asyncio.sleep(0.001, n) for n in range(3))))
asyncio.run(main())
""", "b'LINE\\n'\nb'through cat' True\n[0, 1, 2]\n"),
    ("python3 multiprocessing", r"""
import multiprocessing as mp
from multiprocessing import shared_memory
def square(n): return n * n
def fill(name):
    block = shared_memory.SharedMemory(name); block.buf[0] = 42; block.close()
if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        with mp.get_context(method).Pool(2) as pool:
            print(method, pool.map(square, range(5)))
    block = shared_memory.SharedMemory(create=True, size=16)
    p = mp.Process(target=fill, args=(block.name,)); p.start(); p.join(); print(block.buf[0]); block.close(); block.unlink()
    with mp.Manager() as manager:
        print(manager.list([1, 2])[1])
""", "fork [0, 1, 4, 9, 16]\nspawn [0, 1, 4, 9, 16]\nforkserver [0, 1, 4, 9, 16]\n42\n2\n"),
    ("python3 sqlite3, zlib and lzma", r"""
import lzma, sqlite3, zlib
with sqlite3.connect("/tmp/x.db") as db:
    db.execute("create table t (a)"); db.executemany("insert into t values (?)", [(n,) for n in range(10)])
print(sqlite3.connect("/tmp/x.db").execute("select sum(a) from t").fetchone()[0])
print(len(zlib.decompress(zlib.compress(b"x" * 999))), len(lzma.decompress(lzma.compress(b"y" * 77))))
""", "45\n999 77\n"),
    ("python3 ssl and hashlib", r"""
import hashlib, ssl, secrets
context = ssl.create_default_context(); print(context.verify_mode == ssl.CERT_REQUIRED)
a, b, c, d = ssl.MemoryBIO(), ssl.MemoryBIO(), 0, 0
o = context.wrap_bio(a, b, server_hostname="example.org")
try: o.do_handshake()
except ssl.SSLWantReadError: print("hello" if b.pending else "")
print(hashlib.sha256(b"abc").hexdigest()[:8], len(secrets.token_bytes(32)))
""", "True\nhello\nba7816bf 32\n"),
    ("python3 files: mmap, inotify-free watching, temporary and locked ones", r"""
import fcntl, mmap, os, select, shutil, tempfile
with tempfile.TemporaryDirectory() as d:
    p = os.path.join(d, "f")
    with open(p, "w+b") as f:
        f.truncate(4096); m = mmap.mmap(f.fileno(), 4096); m[:3] = b"abc"; m.flush(); m.close()
        fcntl.lockf(f, fcntl.LOCK_EX); print(f.read(3)); os.posix_fallocate(f.fileno(), 0, 8192); print(os.fstat(f.fileno()).st_size)
    shutil.copy2(p, p + "2"); os.rename(p + "2", p + "3"); print(sorted(os.listdir(d)), shutil.disk_usage(d).total >> 20)
r, w = os.pipe(); e = select.epoll(); e.register(r, select.EPOLLIN); os.write(w, b"x"); print(e.poll(60) == [(r, 1)])
print(os.memfd_create("m") > 2, os.get_terminal_size is not None)
""", "b'abc'\n8192\n['f', 'f3'] 1024\nTrue\nTrue True\n"),
    ("python3 venv", r"""
import subprocess, venv
venv.create("/box/v", with_pip=False, symlinks=True)
print(subprocess.check_output(["/box/v/bin/python", "-c", "import sys; print(sys.prefix)"]))
""", "b'/box/v\\n'\n"),
]


def need(programs):
    for program in programs.split():
        assert shutil.which(program, path="/usr/bin:/bin:/usr/sbin:/sbin"), \
            "%s is missing: apt-get install %s (as root, .ci/test does it)" % (program, PACKAGES[program])


#: What virtual machines try of them, with the programs that their image has.
IN_VM_TOO = {"sh pipelines and subshells", "sh jobs, wait and signals", "bash arrays, process substitution and coprocesses", "coreutils",
             "find, grep and sed", "named pipes", "locks", "an executable of one's own in /tmp, /box and the home",
             "python3 threads", "python3 subprocess", "python3 asyncio"}
#: In root's virtual machine, one for the filter of a run without a report.
FOR_ROOT_TOO = "coreutils"
#: What compilers of everything anew take.
LONG = {"go builds and runs", "java compiles and runs"}


def rows(table):
    """The table's rows as parameters."""
    return [pytest.param(*row, id=row[0].replace(" ", "-"), marks=[
        *[pytest.mark.also_vm] * (row[0] in IN_VM_TOO), *[pytest.mark.whoever] * (row[0] != FOR_ROOT_TOO),
        *[pytest.mark.once] * (row[0] in LONG)]) for row in table]


@pytest.mark.parametrize("name, programs, script, expected", rows(SHELL))
def test_runs_as_outside(inside, name, programs, script, expected):
    need(programs)
    done = inside.run("sh", "-c", script, options=["--unsafe-without", "ledger"])  # the filter of a run without a report
    assert (done.out, done.rc) == (expected, 0), done.err
    assert done.result["reason"] == "exited"
    assert FROZEN in [row["how"] for row in done.result["controls"] if row["name"] == "seccomp"][0]


#: What the receipt must name: the default policy as it is frozen, not some other filter.
FROZEN = "default, sha256 " + hashlib.sha256(shipped.program("default", os.uname().machine)).hexdigest()[:16]


@pytest.mark.parametrize("name, code, expected", rows(PYTHON))
def test_runs_python_as_outside(inside, name, code, expected):
    # from a file, because spawned processes import their main module again
    path = os.path.join(inside.scratch, "program.py")
    with open(path, "w") as stream:
        stream.write(code)
    os.chmod(path, 0o644)
    done = inside.run("python3", "program.py", options=["--copy", path])
    assert (done.out, done.rc) == (expected, 0), done.err
    assert done.result["reason"] == "exited"
    asking = ", asking a listener" if listens() else ""
    assert "default" + asking + FROZEN[len("default"):] in [row["how"] for row in done.result["controls"] if row["name"] == "seccomp"][0]


def test_standard_input_passes_through(inside):
    done = inside.run("sh", "-c", "sort -r | head -2", input="1\n2\n3\n")
    assert (done.out, done.rc) == ("3\n2\n", 0), done.err


def test_a_big_output_passes_through_whole(inside):
    done = inside.run("sh", "-c", "yes abcdefg | head -c 8000000 | sha1sum; yes abcdefg | head -c 8000000")
    assert done.rc == 0 and len(done.out) == 8000000 + 44, done.err


def test_a_broken_pipe_ends_the_writer(inside):
    done = inside.run("sh", "-c", "yes | head -1; yes 2>/dev/null | true; echo end")
    assert (done.out, done.rc) == ("y\nend\n", 0), done.err


def test_the_exit_status_is_the_programs_own(inside):
    assert inside.run("sh", "-c", "exit 42").rc == 42
    killed = inside.run("sh", "-c", "kill -SEGV $$")
    assert (killed.rc, killed.result["signal"], killed.result["reason"]) == (139, 11, "signal")


def test_ps_and_free_work_with_the_full_proc(inside):
    need("ps")
    done = inside.run("sh", "-c", "ps -e -o comm= | sort -u | tr '\\n' ' '; free -m | head -1 | awk '{print $1}'; uptime -s | wc -c",
                      options=["--proc", "full"])
    assert done.rc == 0 and "sh" in done.out.split() and done.out.endswith("total\n20\n"), done


def test_no_proc_at_all_still_runs_a_shell(inside):
    done = inside.run("sh", "-c", "ls /proc | wc -l; seq 3 | sort -r | head -1", options=["--proc", "none"])
    assert (done.out, done.rc) == ("0\n3\n", 0), done.err


@pytest.mark.once
@pytest.mark.parametrize("place", ["/tmp", "/box", "/dev/shm"])
def test_writable_places_hold_a_hundred_thousand_names_and_no_more(inside, place):
    done = inside.run("sh", "-c", "cd %s && mkdir d && cd d && seq 110000 | xargs touch 2>&1 | grep -c 'No space'; "
                                  "test $(ls | wc -l) -gt 90000 && echo many" % place)
    lines = done.out.split()
    assert lines[-1] == "many" and int(lines[0]) > 0, done
