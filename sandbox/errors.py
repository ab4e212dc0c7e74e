# SPDX-License-Identifier: Apache-2.0
"""Defines the one error type and the exit statuses, and how a message writes a name."""
from posix import strerror

USAGE = 2  # a mistake in the request, on any host
DEADLINE = 124
CANNOT_CONTAIN = 125  # this host or kernel can't do it; nothing ran
NOT_EXECUTABLE = 126
NOT_FOUND = 127
ENOSYS = 38


class SandboxError(Exception):
    """mrunc could not do what was asked.

    stage: the step that failed.
    what: what was being done.
    errno: int or None.
    reason: why; the errno's text unless given, "" for none.
    remedy: one line for the user, or None.
    control: name of the control that it belongs to, or None.
    status: the exit status.
    """

    def __init__(self, stage, what, errno=None, reason=None, remedy=None, control=None,
                 status=CANNOT_CONTAIN):
        self.stage, self.what, self.errno, self.remedy = stage, what, errno, remedy
        self.reason = reason if reason is not None else strerror(errno) if errno else None
        self.control, self.status = control, status
        Exception.__init__(self, self.line())

    def line(self):
        """Returns `STEP: what: why`."""
        return ": ".join(part for part in (self.stage, self.what, self.reason) if part)

    def __str__(self):
        """Returns the line and the remedy, for a program that does not catch it."""
        return self.line() + ("; remedy: %s" % self.remedy if self.remedy else "")

    def __reduce__(self):
        return (type(self), (self.stage, self.what, self.errno, self.reason, self.remedy,
                             self.control, self.status))


def usage(what, reason=None, remedy=None, stage="options"):
    """Returns a SandboxError for a mistake in the request (exit status 2)."""
    return SandboxError(stage, what, reason=reason, remedy=remedy, status=USAGE)


def show(name):
    """Returns a name (bytes or text) as text; a byte that is no UTF-8 becomes a lone surrogate."""
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name)


def raw(text):
    """Returns the bytes of a text of `show`, in any locale."""
    return text.encode("utf-8", "surrogateescape")


def nearest(word, names):
    """Returns " (did you mean x?)" for the nearest of the names, or ""."""
    import difflib
    close = difflib.get_close_matches(word, names, 1, 0.7)
    return " (did you mean %s?)" % close[0] if close else ""


def remedies():
    """Returns the module sandbox.remedies.  Only a failure needs it: its import takes 0.3 ms."""
    from . import remedies as module
    return module


class stage:
    """Turns an OSError in a `with` block into a SandboxError of one step of the supervisor.

    name: of the step.
    what: named if the error itself names neither a file nor a call.
    """

    __slots__ = ("name", "what")

    def __init__(self, name, what=None):
        self.name, self.what = name, what or name

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if not isinstance(error, OSError):
            return
        from os import fsdecode
        what = error.filename if isinstance(error.filename, (str, bytes)) else self.what
        remedy = None
        if error.errno == ENOSYS:
            remedy = remedies().line("kernel-old")
        raise SandboxError(self.name, fsdecode(what), error.errno, error.strerror, remedy)
