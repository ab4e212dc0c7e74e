# SPDX-License-Identifier: Apache-2.0
"""Reads and writes sizes and times as people write them."""
from .errors import usage
from .caller import option

SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
TIMES = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST = 10 * 365 * 86400.0


def _wrong(name, value, reason):
    return usage(option(name, value), reason)


def _number(text):
    digits = text.strip()
    end = len(digits)
    while end and digits[end - 1] not in "0123456789.":
        end -= 1
    number, unit = digits[:end], digits[end:].strip().lower()
    if not number.strip(".") or number.strip("0123456789.") or number.count(".") > 1:
        raise ValueError(text)
    return number, unit


def size(value, name, key=None):
    """Returns a size in bytes, an int.

    value: int, or str such as `256M`, `1.5GiB`, `4096`.
    name: of the option in Python, for the message.
    key: the text before the value in a message, as in `fsize=1M`.

    Raises SandboxError (exit 2) for 0, for anything that is no size, and from 2^63 bytes on.
    """
    shown = value if key is None else "%s=%s" % (key, value)
    if isinstance(value, int) and not isinstance(value, bool):
        result = value
    else:
        try:
            number, unit = _number(value)
            if unit.endswith("ib"):
                unit = unit[:-2]
            elif len(unit) == 2 and unit[1] == "b":
                unit = unit[0]
            whole, _, fraction = number.partition(".")
            scale = SIZES[unit]
            result = int(whole or "0") * scale + (int(fraction) * scale // 10 ** len(fraction)
                                                  if fraction else 0)
        except (ValueError, KeyError, AttributeError, TypeError):
            raise _wrong(name, shown, "not a size; write it like 256M or 1.5G")
    if result <= 0:
        raise _wrong(name, shown, "a size must be more than 0")
    if result >= 1 << 63:
        raise _wrong(name, shown, "too large; the largest size is 2^63-1 bytes")
    return result


def duration(value, name, zero=False):
    """Returns a time in seconds, a float.

    value: number of seconds, or str such as `1.5s`, `200ms`, `2m`.
    name: of the option in Python, for the message.
    zero: whether 0 is allowed.

    Raises SandboxError (exit 2) for 0, for anything that is no time, and above ten years.
    """
    try:
        if isinstance(value, bool):
            raise ValueError(value)
        if isinstance(value, (int, float)):
            result = float(value)
        else:
            number, unit = _number(value)
            result = float(number) * TIMES[unit]
    except (ValueError, KeyError, AttributeError, TypeError, OverflowError):
        raise _wrong(name, value, "not a time; write it like 1.5s, with ms, s, m, h or d")
    if result < 0 or result == 0 and not zero or result != result:
        raise _wrong(name, value,
                     "a time can't be less than 0" if zero else "a time must be more than 0")
    if result > LONGEST:
        raise _wrong(name, value, "too long; the longest time is ten years")
    return result


def human(count):
    """Returns a size for people: `1G`, `256M`, `1000`."""
    for unit in ("T", "G", "M", "K"):
        scale = SIZES[unit.lower()]
        if count >= scale and count % scale == 0:
            return "%d%s" % (count // scale, unit)
    return "%d" % count
