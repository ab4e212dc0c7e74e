# SPDX-License-Identifier: Apache-2.0
"""Reads policies of other tools: OCI (docker, podman) JSON, minijail text, raw BPF.

Makes the model of seccomp_bpf and the program. What can't be expressed is refused, never
approximated. Every refusal names file, line, column and what was expected. Only loaded for a policy
that is not a shipped one, or has rules added.

Two things hold for every file. Another architecture's calls are killed: mrunc runs no 32-bit
programs. If the default action lets calls pass, x32 numbers get ENOSYS: they would be a way around
a denylist. Conditions are as rules.py says.
"""
import os

from . import minijail, policy, shipped
from .rules import Text, forms, load, version
from ..errors import SandboxError, usage
from ... import seccomp_bpf as bpf

def read(source, arch, caps=frozenset(), kernel=None):
    """Returns (name, program bytes, seccomp_bpf.Policy or None for raw BPF) of a policy.

    source: one of policy.NAMES or a path.
    arch: "x86_64" or "aarch64".
    caps: names ("CAP_CHOWN") of the capabilities that the process will hold.
    kernel: (major, minor), the running one unless given.

    Raises SandboxError (exit 2); KeyError for an unknown architecture.
    """
    name = os.fsdecode(source)
    if name in policy.NAMES:
        return name, shipped.program(name, arch), policy.policy(name, arch)
    data = load(name)
    shown = name if "/" in name else "./" + name  # never the name of a shipped one
    try:
        if b"\0" in data:  # the opcode of an instruction is 16 bits, of which 8 are used
            return shown, raw(name, data), None
        return _read_text(name, shown, data, arch, caps, kernel)
    except RecursionError:
        raise usage(name, "nested too deeply", remedy=forms(), stage="policy")
    except SandboxError as error:
        error.remedy = error.remedy or forms()
        raise


def _read_text(name, shown, data, arch, caps, kernel):
    try:
        text = Text(name, data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise usage(name, "byte %d is not UTF-8: neither text nor a BPF program" % error.start,
                    stage="policy")
    if text.text.lstrip()[:1] in ("{", "[") and not _minijail_braces(text.text):
        from . import oci  # only what is read is loaded: json
        model = oci.parse(text, arch, caps, running_kernel() if kernel is None else kernel)
    else:
        model = minijail.parse(text, arch)
    return shown, compiled(name, model), model


def _minijail_braces(text):
    """Returns whether it starts with minijail's `{ read, write }: 1`, and not with JSON."""
    head = text.lstrip()[1:].lstrip()[:1]
    return text.lstrip()[0] == "{" and (head.isalpha() or head == "_")


def raw(name, data):
    """Checks a finished program and returns its bytes.  Raises SandboxError.

    name: for messages.
    """
    try:
        bpf.verify(data)
        for pc, (op, _, _, k) in enumerate(bpf.decode(data)):
            if op == 0x16:  # BPF_RET | BPF_A: an action that can't be checked beforehand
                raise bpf.FilterError("instruction %d: returns what it has computed" % pc)
            if op == bpf.RET and k & 0xFFFF0000 == bpf.ERRNO:
                try:
                    bpf.errno(k & 0xFFFF)
                except bpf.FilterError as error:
                    raise bpf.FilterError("instruction %d: returns %s" % (pc, error))
    except bpf.FilterError as error:
        raise usage(name, "%sBPF program: %s" %
                    ("" if len(data) % 8 == 0 else "it holds NUL bytes, so it must be a ", error),
                    stage="policy")
    return bytes(data)


def compiled(name, model):
    """Returns the program of a model.  Raises SandboxError.

    name: for messages.
    """
    try:
        return bpf.compile_policy(model)
    except bpf.FilterError as error:
        raise usage(name, str(error), stage="policy")


def running_kernel():
    """Returns (major, minor) of this kernel."""
    return version(os.uname().release) or (0, 0)
