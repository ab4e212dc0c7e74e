# SPDX-License-Identifier: Apache-2.0
"""The page of `mrunc report --html` in a real browser: what a program says stays text, nothing is executed and nothing is fetched.

To look at it oneself: `mrunc run --report r.json --ledger - --trace exec --changes c.json -- CMD`, `mrunc report r.json --html r.html`, and
`chromium --headless --no-sandbox --window-size=1280,3000 --screenshot=r.png r.html` (once more with 500, and --force-dark-mode).
"""
import http.server
import os
import subprocess
import threading

import pytest

from mrunc.commands.report import html, report
from test_report import Page

#: Each of these makes a browser fetch, or run, something where it is taken for markup.
DEEDS = ["<script>new Image().src='URL/script'</script>", "<img src=URL/image>", "<img src=x onerror=\"new Image().src='URL/event'\">",
         "<svg onload=\"new Image().src='URL/svg'\">", "<link rel=stylesheet href=URL/style>", "<iframe src=URL/frame></iframe>",
         "<style>@import 'URL/import';</style>", "<meta http-equiv=refresh content='0;url=URL/refresh'>"]
SAMPLE = r"""
evil=$(cat evil)
printf '%s\033[31m\342\200\256\007\n' "$evil"
printf x > "/tmp/$(printf '<b>bold<img src=x onerror=alert(1)>\033[2J\nx')"
cp /bin/true '/tmp/<i>italic'; '/tmp/<i>italic' "$evil" "$(printf '\033]0;title\007')"
python3 -c '
import ctypes, sys
ctypes.CDLL(None).mount(sys.argv[1].encode(), b"/\x1b[2J", b"<u>", 1, None)' "$evil"
exit 3
"""


@pytest.fixture
def watched():
    """(address, paths that were asked for) of a server on loopback."""
    paths = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            paths.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *words):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield "http://127.0.0.1:%d" % server.server_port, paths
    server.shutdown()
    thread.join()
    server.server_close()


def browse(page, profile):
    """The page's elements as the browser has made them, as text.  It has run what there is to run."""
    done = subprocess.run(["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                           "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
                           "--user-data-dir=%s" % profile, "--virtual-time-budget=2000", "--dump-dom", "file://%s" % page],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=110,
                          env=dict(os.environ, HOME=str(profile), XDG_CONFIG_HOME=str(profile), XDG_CACHE_HOME=str(profile)))
    assert done.returncode == 0 and done.stdout, done
    return done.stdout.decode()


def test_a_browser_runs_and_fetches_what_is_markup(watched, tmp_path):
    """The positive control: the same deeds in a page without care."""
    address, paths = watched
    page = tmp_path / "page.html"
    page.write_text("<!DOCTYPE html><title>x</title>%s" % "".join(DEEDS[:-1]).replace("URL", address))
    browse(page, tmp_path / "profile")
    assert {"/script", "/image", "/event", "/svg", "/style", "/import"} <= set(paths)


def test_a_hostile_sample_s_page_is_text_to_a_browser(inside, watched, tmp_path):
    address, paths = watched
    files = {name: os.path.join(inside.scratch, name) for name in ("evil", "sample", "r.json", "changes", "ledger", "page.html")}
    for name, text in (("evil", "".join(DEEDS).replace("URL", address)), ("sample", SAMPLE)):
        with open(files[name], "w") as stream:
            stream.write(text)
    done = inside.outside(inside.command("sh", "sample", "<script>alert(9)</script>", options=[
        "--copy", files["sample"], "--copy", files["evil"], "--report", files["r.json"], "--ledger", files["ledger"], "--changes", files["changes"],
        "--trace", "exec"]))
    assert done.returncode == 3 and address in done.stdout, done
    assert inside.outside(inside.command(verb="report", options=[files["r.json"], "--html", files["page.html"]])).returncode == 0
    seen = browse(files["page.html"], tmp_path / "profile")
    assert paths == [], "something was fetched"
    with open(files["page.html"], encoding="utf-8") as stream:
        written = stream.read()
    wanted, found = Page(written), Page(seen)
    assert found.tags == wanted.tags and sorted(found.attributes) == sorted(wanted.attributes)
    assert "".join(found.text).split() == "".join(wanted.text).split()
    for words in ("<script>alert(9)</script>", "/tmp/<b>bold<img src=x onerror=alert(1)>\\x1b[2J\\nx", "/tmp/<i>italic",
                  "\\x1b]0;title\\x07", "%s/script" % address, "Escape to Host", "exit status 3"):
        assert words in "".join(found.text), words
    assert html.page(report.read(files["r.json"])) == written
