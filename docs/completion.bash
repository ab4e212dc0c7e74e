# SPDX-License-Identifier: Apache-2.0
# Made by mrunc --completion bash.
_mrunc() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]}
    local i command=0
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W "run shell doctor selftest policy rootfs report --help --version --man --completion" -- "$word"))
        return
    fi
    # bash splits --name=value into three words.
    if [[ $word == = ]]; then word=
    elif [[ $before == = ]]; then before=${COMP_WORDS[COMP_CWORD-2]}; fi
    case $verb in
    run|shell)
        # The words after the command are its own.
        for ((i = 2; i < COMP_CWORD; i++)); do
            case ${COMP_WORDS[i]} in
            --) command=$((i + 1)); break ;;
            --ro|--ro-bind|--rw|--bind|--copy|--tmpfs|--rootfs|--writable|--changes|--export|--chdir|-w|--env|-e|--hostname|--user|-u|--cap-add|--seccomp|--seccomp-add|--seccomp-action|--proc|--tier|--timeout|--cpu-time|--grace|--memory|--cpus|--pids|--pids-limit|--io-read|--io-write|--best-effort|--require|--rlimit|--ulimit|--max-output|--report|--ledger|--trace|--unsafe-without)
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
            --ro|--ro-bind) COMPREPLY=($(compgen -f -- "$word")) ;;
            --rw|--bind) COMPREPLY=($(compgen -f -- "$word")) ;;
            --copy) COMPREPLY=($(compgen -f -- "$word")) ;;
            --tmpfs) : ;;
            --rootfs) COMPREPLY=($(compgen -d -- "$word")) ;;
            --writable) : ;;
            --changes) COMPREPLY=($(compgen -f -- "$word")) ;;
            --export) COMPREPLY=($(compgen -f -- "$word")) ;;
            --chdir|-w) : ;;
            --env|-e) : ;;
            --hostname) : ;;
            --user|-u) : ;;
            --cap-add) : ;;
            --seccomp) COMPREPLY=($(compgen -f -W "default strict process process-nosignal debug" -- "$word")) ;;
            --seccomp-add) : ;;
            --seccomp-action) COMPREPLY=($(compgen -W "errno kill" -- "$word")) ;;
            --proc) COMPREPLY=($(compgen -W "full none" -- "$word")) ;;
            --tier) COMPREPLY=($(compgen -W "full rootns process" -- "$word")) ;;
            --timeout) : ;;
            --cpu-time) : ;;
            --grace) : ;;
            --memory) : ;;
            --cpus) : ;;
            --pids|--pids-limit) : ;;
            --io-read) : ;;
            --io-write) : ;;
            --best-effort) COMPREPLY=($(compgen -W "timens limits.core limits.memory limits.cpu limits.pids limits.io landlock landlock-signals" -- "$word")) ;;
            --require) COMPREPLY=($(compgen -W "userns mountns pidns ipcns utsns netns cgroupns timens uidmap groups userns-limit userns-nested propagation mounts root-ro proc dev hostname session parent-death sweep limits.core limits.nofile limits.nproc limits.rlimit limits.oom limits.memory limits.cpu limits.pids limits.io landlock landlock-signals securebits caps nnp seccomp ledger trace setid-filter fds cwd" -- "$word")) ;;
            --rlimit|--ulimit) COMPREPLY=($(compgen -W "cpu= fsize= data= stack= rss= nproc= nofile= memlock= as= locks= sigpending= msgqueue= nice= rtprio= rttime=" -- "$word")) ;;
            --max-output) : ;;
            --report) COMPREPLY=($(compgen -f -- "$word")) ;;
            --ledger) COMPREPLY=($(compgen -f -- "$word")) ;;
            --trace) COMPREPLY=($(compgen -W "exec" -- "$word")) ;;
            --unsafe-without) COMPREPLY=($(compgen -W "ipcns utsns netns cgroupns timens userns-limit userns-nested root-ro proc hostname session parent-death sweep limits.core limits.nofile limits.nproc limits.oom limits.memory limits.cpu limits.pids limits.io landlock landlock-signals securebits caps nnp seccomp ledger trace setid-filter fds" -- "$word")) ;;
            *) COMPREPLY=($(compgen -W "--ro --ro-bind --rw --bind --copy --here --follow-links --tmpfs --rootfs --harden --writable --overlay --changes --export --chdir -w --env -e --hostname --user -u --cap-add --seccomp --seccomp-add --seccomp-action --proc --tier --tty -t --timeout --cpu-time --grace --memory --cpus --pids --pids-limit --io-read --io-write --best-effort --require --rlimit --ulimit --max-output --report --ledger --trace --print-plan --dry-run --json -q --quiet -v --verbose -h --help --unsafe-without" -- "$word")) ;;
            esac
        fi ;;
    doctor)
        case $before in
        *) COMPREPLY=($(compgen -W "-v --verbose --json -h --help" -- "$word")) ;;
        esac ;;
    selftest)
        case $before in
        --only) : ;;
        --tier) COMPREPLY=($(compgen -W "full rootns process" -- "$word")) ;;
        --junit) COMPREPLY=($(compgen -f -- "$word")) ;;
        *) COMPREPLY=($(compgen -W "--current --only --tier --harden --list --junit --json -h --help" -- "$word")) ;;
        esac ;;
    policy)
        case $before in
        --arch) COMPREPLY=($(compgen -W "x86_64 aarch64" -- "$word")) ;;
        --policy) COMPREPLY=($(compgen -W "default strict process process-nosignal debug" -- "$word")) ;;
        --format) COMPREPLY=($(compgen -W "bpf oci text" -- "$word")) ;;
        -o|--output) COMPREPLY=($(compgen -f -- "$word")) ;;
        --verify) COMPREPLY=($(compgen -f -- "$word")) ;;
        --against) : ;;
        *) COMPREPLY=($(compgen -f -W "show explain export diff learn --arch --bpf --policy --format -o --output --merge --verify --against --markdown --json -h --help" -- "$word")) ;;
        esac ;;
    rootfs)
        case $before in
        --from) COMPREPLY=($(compgen -f -- "$word")) ;;
        --from-host) : ;;
        --image) : ;;
        --max-size) : ;;
        --max-files) : ;;
        --manifest) COMPREPLY=($(compgen -f -- "$word")) ;;
        *) COMPREPLY=($(compgen -f -W "build check --from --from-host --follow-links --image --max-size --max-files --manifest --json -q --quiet -h --help" -- "$word")) ;;
        esac ;;
    report)
        case $before in
        --html) COMPREPLY=($(compgen -f -- "$word")) ;;
        *) COMPREPLY=($(compgen -f -W "--html --json -h --help" -- "$word")) ;;
        esac ;;
    esac
}
complete -o filenames -F _mrunc mrunc mrunc.py mrunc.pyz
