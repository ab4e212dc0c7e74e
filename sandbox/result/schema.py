# SPDX-License-Identifier: Apache-2.0
"""The JSON Schemas (draft 2020-12) of a result and of a line of the ledger, and a checker.

One table: docs/*.schema.json are written from it, `mrunc report` reads by it, and the tests check
every result with it.  Keys are added, never renamed; a reader ignores those that it does not know.
"""
from ..tiers import NAMES as TIERS
from .reasons import REASONS
from .result import SCHEMA, USAGE

DRAFT = "https://json-schema.org/draft/2020-12/schema"
#: How deep a result may be nested: deepest is a structure in an argument of a call.
DEEPEST = 16


def _type(*names, **more):
    return dict({"type": names[0] if len(names) == 1 else list(names)}, **more)


def _object(properties, required=None, **more):
    return dict({"type": "object", "properties": properties,
                 "required": list(properties) if required is None else list(required)}, **more)


def _list(items, null=False, **more):
    return dict({"type": ["array", "null"] if null else "array", "items": items}, **more)


TEXT, SWITCH = _type("string"), _type("boolean")
COUNT = _type("integer", minimum=0)
TEXT_OR_NULL, INTEGER_OR_NULL = _type("string", "null"), _type("integer", "null")
COUNT_OR_NULL = _type("integer", "null", minimum=0)
NUMBER_OR_NULL = _type("number", "null", minimum=0)
SHA256 = _type("string", "null", description="64 hexadecimal digits")

CONTROL = _object({"name": TEXT, "asked": SWITCH, "in_force": SWITCH, "how": TEXT})
REFUSED = _object({
    "syscall": TEXT,
    "args": _type("object", description="C parameter name to value, in the call's order: a number, "
                                        "text (a path, constants by their C names), an object for "
                                        "a structure, {\"unreadable\": \"EPERM\"}"),
    "errno": _type("string", description="what the call was answered, by its C name"),
    "count": COUNT,
    "pid": _type("integer",
                 description="inside; 0 where the caller was gone before it was looked at"),
    "exe": TEXT_OR_NULL,
    "first_s": _type("number", description="seconds after `started`"), "last_s": _type("number"),
    "interrupted": _type("integer", "boolean", "null",
                         description="answers that came too late for a caller that a signal took "
                                     "away")})
PROCESS = _object({
    "pid": _type("integer", description="inside; 0: beyond the cap, counted by path"),
    "parent": INTEGER_OR_NULL,
    "path": _type("string", "null", description="what was asked for"), "exe": TEXT_OR_NULL,
    "argv": _list(TEXT, null=True), "cwd": TEXT_OR_NULL, "uid": INTEGER_OR_NULL,
    "started_s": _type("number", "null"), "ended_s": _type("number", "null"),
    "exit_code": INTEGER_OR_NULL, "signal": INTEGER_OR_NULL,
    "exit_missing": _type("string", "null",
                          description="why neither exit_code nor signal is known"),
    "sha256": _type("string", "null", description="of what was executed, a script's too, where it "
                                                  "could be written to inside"),
    "sha256_missing": _type("string", "null",
                            description="why it was not read, where it should have been"),
    "confirmed": _type("boolean", "null",
                       description="whether the new program was seen to run, not only asked for"),
    "count": _type("integer", "null")},
    required=["pid", "parent", "exe", "argv", "started_s", "ended_s"])
SAMPLE = _object({
    "t_s": _type("number", minimum=0, description="seconds after the program was let go"),
    "cpu_s": _type("number", "null", minimum=0,
                   description="processor time of the whole sandbox so far"),
    "memory_bytes": _type("integer", "null", minimum=0,
                          description="of the control group, else the resident sets added up: "
                                      "shared pages count several times"),
    "processes": _type("integer", "null", minimum=0,
                       description="of the control group: threads too")})
CHANGE = _object({
    "path": TEXT, "change": _type("string", enum=["added", "modified", "deleted"]), "kind": TEXT,
    "mode": TEXT, "size": COUNT, "blocks_bytes": COUNT, "sha256": SHA256,
    "sha256_missing": TEXT_OR_NULL, "magic": TEXT_OR_NULL, "links": COUNT, "target": TEXT_OR_NULL,
    "set_id": SWITCH,
    "was": _object({"kind": TEXT, "mode": TEXT, "size": COUNT, "sha256": SHA256},
                   required=["kind"])},
    required=["path", "change", "kind"])

FIELDS = {
    "schema": _type("integer", enum=[SCHEMA]),
    "version": _type("string", description="of mrunc"),
    "argv": _list(TEXT),
    "tier": _type("string", enum=list(TIERS)),
    "reason": _type("string", enum=list(REASONS)),
    "detail": TEXT, "advice": TEXT_OR_NULL,
    "evidence": _list(TEXT, description="what speaks for the reason, each with who saw it"),
    "returncode": _type("integer", minimum=0, maximum=255),
    "exit_code": INTEGER_OR_NULL, "signal": INTEGER_OR_NULL,
    "stage": TEXT_OR_NULL, "errno": INTEGER_OR_NULL,
    "started": _type("string", "null", description="RFC 3339, UTC, milliseconds"),
    "kernel": TEXT_OR_NULL, "machine": TEXT_OR_NULL,
    "policy": _object({"name": TEXT, "sha256": TEXT}, type=["object", "null"]),
    "usage": _object(dict((name, COUNT_OR_NULL if name.endswith(("_bytes", "_events", "_peak"))
                           else NUMBER_OR_NULL) for name in USAGE), required=["wall_s"]),
    "limits_hit": _type("object"),
    "controls": _list(CONTROL), "refused": _list(REFUSED, null=True),
    "processes": _list(PROCESS, null=True), "samples": _list(SAMPLE, null=True),
    "changes": _list(CHANGE, null=True),
    "changes_omitted": _object(
        {"count": COUNT, "added": COUNT, "modified": COUNT, "deleted": COUNT}, required=["count"],
        type=["object", "null"],
        description="how many changes there were beside those that are listed"),
    "notes": _list(TEXT)}
#: The fields of every result, whatever version wrote it.
ALWAYS = ("schema", "version", "argv", "tier", "reason", "detail", "returncode", "usage",
          "controls")
RESULT = _object(FIELDS, required=ALWAYS)

LEDGER_EVENTS = ("refused", "exec", "exit", "capped")
_LINE = {"schema": FIELDS["schema"], "event": _type("string", enum=list(LEDGER_EVENTS))}
LEDGER = {"type": "object", "properties": _LINE, "required": list(_LINE), "oneOf": [
    _object(dict({"event": {"const": "refused"}}, **REFUSED["properties"])),
    _object(dict({"event": {"const": "exec"}}, **PROCESS["properties"]),
            required=["event", "pid", "exe", "argv"]),
    _object({"event": {"const": "exit"}, "pid": _type("integer"), "ended_s": _type("number"),
             "exit_code": INTEGER_OR_NULL, "signal": INTEGER_OR_NULL,
             "exit_missing": TEXT_OR_NULL}, required=["event", "pid"]),
    _object({"event": {"const": "capped"}})]}


def result_schema():
    """Returns the published schema of a result."""
    return dict({"$schema": DRAFT, "$id": "urn:mrunc:result:%d" % SCHEMA,
                 "title": "The result of a run of mrunc"}, **RESULT)


def ledger_schema():
    """Returns the published schema of a line of `--ledger FILE`."""
    return dict({"$schema": DRAFT, "$id": "urn:mrunc:ledger:%d" % SCHEMA,
                 "title": "A line of mrunc's ledger"}, **LEDGER)


# The checker

def mistakes(value, schema, closed=True, where="", depth=0):
    """Yields (where, what is wrong) for each mistake in a value that json has read.

    closed: whether `enum` counts; a reader of newer versions' results lets other words pass.
    where, depth: of the value in the whole.
    The checker knows type, enum, const, minimum, maximum, properties, required, items and oneOf.
    """
    if depth > DEEPEST:
        yield where, "nested too deep"
        return
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds is not None and not any(_is(value, kind) for kind in kinds):
        yield where, "is no %s" % " or ".join(kinds)
        return
    if closed and "enum" in schema and value not in schema["enum"]:
        yield where, "is none of: %s" % ", ".join(str(word) for word in schema["enum"])
    if "const" in schema and value != schema["const"]:
        yield where, "is not %s" % schema["const"]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if value < schema.get("minimum", value):
            yield where, "is less than %s" % schema["minimum"]
        if value > schema.get("maximum", value):
            yield where, "is more than %s" % schema["maximum"]
    inner = []
    if isinstance(value, dict):
        for name in schema.get("required", ()):
            if name not in value:
                yield where, "has no %s" % name
        known = schema.get("properties", {})
        inner = ((item, known.get(name, {}), "%s.%s" % (where, name) if where else name)
                 for name, item in value.items())
    elif isinstance(value, list):
        inner = ((item, schema.get("items", {}), "%s[%d]" % (where, number))
                 for number, item in enumerate(value))
    for item, its, place in inner:
        for found in mistakes(item, its, closed, place, depth + 1):
            yield found
    if "oneOf" in schema:
        fitting = [choice for choice in schema["oneOf"]
                   if not any(True for _ in mistakes(value, choice, closed, where, depth))]
        if len(fitting) != 1:
            yield where, "fits %d of %d forms" % (len(fitting), len(schema["oneOf"]))


def _is(value, kind):
    if kind == "null":
        return value is None
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, {"string": str, "array": list, "object": dict}[kind])
