_mrunc() {
    local word=${COMP_WORDS[COMP_CWORD]}
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "run shell doctor selftest policy rootfs --help --version" -- "$word"))
    elif [[ ${COMP_WORDS[1]} == doctor && $word == -* ]]; then
        COMPREPLY=($(compgen -W "-v --verbose --json -h --help" -- "$word"))
    elif [[ ${COMP_WORDS[1]} == selftest && $word == -* ]]; then
        COMPREPLY=($(compgen -W "--current --only --tier --harden --list --junit --json -h --help" -- "$word"))
    elif [[ ${COMP_WORDS[1]} == policy && $COMP_CWORD -eq 2 ]]; then
        COMPREPLY=($(compgen -W "show explain export diff" -- "$word"))
    elif [[ ${COMP_WORDS[1]} == policy && $word == -* ]]; then
        COMPREPLY=($(compgen -W "--arch --bpf --policy --format -o --output --against --markdown --json -h --help" -- "$word"))
    elif [[ ${COMP_WORDS[1]} == rootfs && $COMP_CWORD -eq 2 ]]; then
        COMPREPLY=($(compgen -W "build check" -- "$word"))
    elif [[ ${COMP_WORDS[1]} == rootfs && $word == -* ]]; then
        COMPREPLY=($(compgen -W "--from --from-host --image --max-size --max-files --manifest --json -q --quiet -h --help" -- "$word"))
    elif [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "--ro --ro-bind --rw --bind --copy --here --tmpfs --rootfs --harden --writable --overlay --changes --export --chdir -w --env -e --hostname --user -u --cap-add --seccomp --seccomp-add --proc --tier --tty -t --timeout --cpu-time --grace --memory --cpus --pids --pids-limit --io-read --io-write --best-effort --require --rlimit --ulimit --max-output --report --print-plan --dry-run --json -q --quiet -v --verbose -h --help --unsafe-without" -- "$word"))
    else
        COMPREPLY=($(compgen -f -- "$word"))
    fi
}
complete -o filenames -F _mrunc mrunc
