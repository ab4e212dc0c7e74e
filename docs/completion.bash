_mrunc() {
    local word=${COMP_WORDS[COMP_CWORD]}
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "run shell --help --version" -- "$word"))
    elif [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "--ro --ro-bind --rw --bind --copy --here --tmpfs --chdir -w --env -e --hostname --user -u --cap-add --seccomp --seccomp-add --proc --tty -t --timeout --grace --rlimit --ulimit --report --print-plan --dry-run --json -q --quiet -v --verbose -h --help --unsafe-without" -- "$word"))
    else
        COMPREPLY=($(compgen -f -- "$word"))
    fi
}
complete -o filenames -F _mrunc mrunc
