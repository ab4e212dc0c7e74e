# SPDX-License-Identifier: Apache-2.0
"""What the harness says, and how it fails: one line each, on stderr."""
import shlex
import subprocess
import sys

TAIL = 2000


class Failure(Exception):
    """The harness could not do its work: exit status 125 and this text."""


def say(*words):
    """One line of progress."""
    print("[vm]", *words, file=sys.stderr, flush=True)


def run(command, **settings):
    """Runs a command (list) and returns its stdout (str).  Raises Failure with the last lines of what it said."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              universal_newlines=True, errors="replace", **settings)
    except FileNotFoundError:
        raise Failure("%s is not installed here: .ci/vm installs what is needed (as root, on Debian)" % command[0])
    if done.returncode:
        raise Failure("%s failed (%d):\n%s" % (" ".join(shlex.quote(str(word)) for word in command), done.returncode,
                                              (done.stdout[-TAIL:] + done.stderr[-TAIL:]).strip()))
    return done.stdout
