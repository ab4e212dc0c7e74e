# SPDX-License-Identifier: Apache-2.0
"""Reads the command lines of verbs with several actions: policy and rootfs."""
from ..sandbox.caller import program_name
from .options import parse
from ..sandbox.errors import SandboxError, nearest, usage


def wrong(verb, what, reason=None, remedy=None):
    """Returns the SandboxError (exit status 2) for a mistake in a verb's command line."""
    return usage(what, reason, remedy or "%s %s --help" % (program_name(), verb), stage=verb)


def read(verb, argv, options, takes, place=None):
    """Returns (action, words, values), or (None, [], values) to show the help.

    verb: its name, for messages
    argv: list of str after the verb
    options: the verb's table of Option
    takes: {action: the dests of its options, separated by spaces}
    place: a function (values, words, word) that stores a word, or None

    Options may stand before, between and after the words; `--` ends them. Raises SandboxError (exit
    status 2).
    """
    end = argv.index("--") if "--" in argv else len(argv)
    values, words, rest = {}, [], argv[:end]
    while rest:
        try:
            more, rest = parse(rest, options)
        except SandboxError as error:
            error.remedy = "%s %s --help lists them" % (program_name(), verb)
            raise error
        for name, value in more.items():
            if isinstance(value, list):
                values.setdefault(name, []).extend(value)
            elif values.setdefault(name, value) != value:
                raise wrong(verb, "--%s is given twice" % name.replace("_", "-"))
        if rest:
            word, rest = rest[0], rest[1:]
            if place is None:
                words.append(word)
            else:
                place(values, words, word)
    words += argv[end + 1:]
    if values.get("help") or not words:
        return None, [], values
    action = words.pop(0)
    if action not in takes:
        raise wrong(verb, "unknown action %s%s" % (action, nearest(action, takes)))
    for option in options:
        if option.dest in values and option.dest not in takes[action].split():
            raise wrong(verb, "%s takes no %s" % (action, option.names[0]))
    return action, words, values
