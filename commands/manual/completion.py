# SPDX-License-Identifier: Apache-2.0
"""Makes the completion scripts for bash and zsh from the option tables."""
from ...sandbox.controls import BEST_EFFORT, CONTROLS, having
from ...sandbox.seccomp.shipped import ARCHES, NAMES
from ...sandbox.plan.values import RLIMITS
from ...sandbox import tiers
from ..help import VERBS
from ..options import OPTIONS
from .man import OTHERS

PROGRAMS = ("mrunc", "mrunc.py", "mrunc.pyz")
#: dest -> possible values; `files` stands for the host's files.
WORDS = {"tier": tiers.NAMES, "seccomp": NAMES + ("files",), "policy": NAMES, "arch": ARCHES,
         "require": tuple(CONTROLS),
         "best_effort": BEST_EFFORT, "unsafe_without": having("removable"),
         "rlimit": tuple(name + "=" for name in RLIMITS if name != "core"), "chdir": ()}


def words(option):
    """Returns the possible values of an option as a tuple of words, empty if anything goes.

    `files` and `directories` stand for those of the host.
    """
    if option.dest in WORDS:
        return WORDS[option.dest]
    metavar = option.metavar.strip("[]=")
    if metavar.replace("|", "").islower():
        return tuple(metavar.split("|"))
    if metavar == "DIR":
        return ("directories",)
    parts = set(metavar.replace(":", "|").replace("[", "|").split("|"))
    return ("files",) if parts & {"FILE", "SRC", "SOURCE", "DIR"} else ()


def shown(table):
    """Returns the options of a table that have a help text."""
    return [option for option in table if option.text]


def _names(options):
    return " ".join(name for option in options for name in option.names)


def _valued(table):
    return [option for option in table if option.metavar and not option.optional]


def actions(module):
    """Returns the names of a verb's actions."""
    return list(dict.fromkeys(action.split()[0] for action, _ in module.ACTIONS))


# bash

_BASH = """# SPDX-License-Identifier: Apache-2.0
# Made by mrunc --completion bash.
_mrunc() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]}
    local i command=0
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W "%(verbs)s --help --version --man --completion" -- "$word"))
        return
    fi
    # bash splits --name=value into three words.
    if [[ $word == = ]]; then word=
    elif [[ $before == = ]]; then before=${COMP_WORDS[COMP_CWORD-2]}; fi
    case $verb in
%(cases)s    esac
}
complete -o filenames -F _mrunc %(programs)s
"""
_BASH_RUN = """    run|shell)
        # The words after the command are its own.
        for ((i = 2; i < COMP_CWORD; i++)); do
            case ${COMP_WORDS[i]} in
            --) command=$((i + 1)); break ;;
            %(valued)s)
                [[ ${COMP_WORDS[i+1]} == = ]] && ((i++))
                ((i++)) ;;
            -*) [[ ${COMP_WORDS[i+1]} == = ]] && ((i += 2)) ;;
            *) command=$i; break ;;
            esac
        done
        if ((command && command < COMP_CWORD)); then
            COMPREPLY=($(compgen -f -- "$word"))
        elif ((command || i == COMP_CWORD)) && [[ $word != -* ]]; then
            COMPREPLY=($(compgen -c -- "$word"))
        elif ((command == 0)); then
            case $before in
%(values)s            *) COMPREPLY=($(compgen -W "%(names)s" -- "$word")) ;;
            esac
        fi ;;
"""
_BASH_OTHER = """    %(verb)s)
        case $before in
%(values)s        *) COMPREPLY=($(compgen %(more)s-W "%(names)s" -- "$word")) ;;
        esac ;;
"""


def _bash_values(table, indent):
    out = ""
    for option in _valued(table):
        given = words(option)
        how = {"files": "-f ", "directories": "-d "}
        flags = "".join(how.get(word, "") for word in given)
        plain = " ".join(word for word in given if word not in how)
        does = 'COMPREPLY=($(compgen %s%s-- "$word"))' % (flags, '-W "%s" ' % plain
                                                          if plain else "") if given else ":"
        out += "%s%s) %s ;;\n" % (" " * indent, "|".join(option.names), does)
    return out


def bash():
    """Returns a completion script for bash."""
    table = shown(OPTIONS)
    cases = _BASH_RUN % {"valued": "|".join(_names(_valued(table)).split()),
                         "values": _bash_values(table, 12),
                         "names": _names(table)}
    for verb, module in OTHERS.items():
        cases += _BASH_OTHER % {"verb": verb, "values": _bash_values(module.OPTIONS, 8),
                                "more": "-f " if module.ACTIONS or verb == "report" else "",
                                "names": " ".join(actions(module) + [_names(module.OPTIONS)])}
    return _BASH % {"verbs": " ".join(VERBS), "cases": cases, "programs": " ".join(PROGRAMS)}


# zsh

_ZSH = """#compdef %(programs)s
# SPDX-License-Identifier: Apache-2.0
# Made by mrunc --completion zsh.
%(both)s_mrunc() {
    local curcontext=$curcontext state line ret=1
    local -a verbs
    typeset -A opt_args
    verbs=(
%(verbs)s    )
    _arguments -C '(- *)--help[show the help]' '(- *)--version[show version, place and Python]' \\
        '(- *)--man=[show a manual page]:page:(mrunc mrunc-policy)' \\
        '(- *)--completion=[show this script]:shell:(bash zsh)' \\
        '1:verb:->verb' '*::argument:->rest' && ret=0
    case $state in
    verb) _describe -t verbs verb verbs && ret=0 ;;
    rest)
        case $words[1] in
%(cases)s        esac ;;
    esac
    return ret
}
if [ "$funcstack[1]" = _mrunc ]; then _mrunc "$@"; else compdef _mrunc %(programs)s; fi
"""


def _quoted(text, special="[]:\\"):
    for char in "\\" + special.replace("\\", ""):
        text = text.replace(char, "\\" + char)
    return text.replace("'", "'\\''")


def _zsh_spec(option, name):
    """Returns one specification of _arguments: (excluded)--name=[text]:message:action."""
    head = "*" if option.many else "(%s)" % " ".join(option.names) if len(option.names) > 1 else ""
    text = "[%s]" % _quoted(option.text)
    if option.metavar is None:
        return "'%s%s%s'" % (head, name, text)
    given = words(option)
    how = {"files": "_files", "directories": "_files -/"}
    plain = " ".join(word for word in given if word not in how)
    action = how.get(given[0], "") if given and not plain else "(%s)" % plain if plain else " "
    if plain and "files" in given:
        action = "_mrunc_" + option.dest
    sign = "=-" if option.optional else "=" if name.startswith("--") else ""
    return "'%s%s%s%s%s:%s:%s'" % (head, name, sign, text, ":" if option.optional else "",
                                  _quoted(option.metavar.strip("[]=") if option.optional
                                          else option.metavar), action)


def _zsh_case(pattern, table, more):
    specs = [_zsh_spec(option, name) for option in shown(table) for name in option.names] + more
    return "        %s) _arguments -S %s && ret=0 ;;\n" % (pattern, " \\\n            ".join(specs))


def zsh():
    """Returns a completion script for zsh: a file _mrunc in $fpath, or sourced after compinit."""
    verbs = "".join("        '%s:%s'\n" % (verb, _quoted(VERBS[verb], ":\\")) for verb in VERBS)
    cases = _zsh_case("run", OPTIONS, ["'(-)1:command:_command_names -e'", "'*::argument:_normal'"])
    cases += _zsh_case("shell", OPTIONS, [])
    for verb, module in OTHERS.items():
        more = ["'1:action:(%s)'" % " ".join(actions(module)),
                "'*:file:_files'"] if module.ACTIONS else []
        more += ["'1:result:_files'"] if verb == "report" else []
        cases += _zsh_case(verb, module.OPTIONS, more)
    both = "".join("_mrunc_%s() { _alternative 'names:name:(%s)' 'files:file:_files' }\n" % (
        option.dest, " ".join(word for word in words(option) if word != "files"))
        for option in OPTIONS if option.metavar and "files" in words(option)[1:])
    return _ZSH % {"programs": " ".join(PROGRAMS), "verbs": verbs, "cases": cases, "both": both}
