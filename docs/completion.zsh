#compdef mrunc mrunc.py mrunc.pyz
# SPDX-License-Identifier: Apache-2.0
# Made by mrunc --completion zsh.
_mrunc_seccomp() { _alternative 'names:name:(default strict process process-nosignal debug)' 'files:file:_files' }
_mrunc() {
    local curcontext=$curcontext state line ret=1
    local -a verbs
    typeset -A opt_args
    verbs=(
        'run:run a program in a sandbox'
        'shell:an interactive shell in a sandbox (run --tty -- sh -l)'
        'doctor:which tier would run here, and what to do about the rest'
        'selftest:try to get out of a sandbox on this host, and say what holds'
        'policy:the system call policies\: show, explain, export, diff, learn'
        'rootfs:root file systems for run --rootfs\: build, check'
        'report:a result (run --report FILE) as text or as one page of HTML'
    )
    _arguments -C '(- *)--help[help]' '(- *)--version[what it is and from where it runs]' \
        '(- *)--man=[a manual page]:page:(mrunc mrunc-policy)' '(- *)--completion=[this script]:shell:(bash zsh)' \
        '1:verb:->verb' '*::argument:->rest' && ret=0
    case $state in
    verb) _describe -t verbs verb verbs && ret=0 ;;
    rest)
        case $words[1] in
        run) _arguments -S '*--ro=[show a host file or directory, read-only; DST defaults to SRC, a colon in a path is written \\\:]:SRC\[\:DST\]:_files' \
            '*--ro-bind=[show a host file or directory, read-only; DST defaults to SRC, a colon in a path is written \\\:]:SRC\[\:DST\]:_files' \
            '*--rw=[the same, writable; never of host root'\''s]:SRC\[\:DST\]:_files' \
            '*--bind=[the same, writable; never of host root'\''s]:SRC\[\:DST\]:_files' \
            '*--copy=[copy a file in, executable, by default to /box/NAME\: the way for a sample]:SRC\[\:DST\]:_files' \
            '--here[the current directory, read-only, as /box]' \
            '--follow-links[follow every symbolic link on the way to a source or a file to write; without it only those that root alone can have made]' \
            '*--tmpfs=[an empty writable directory, 1G unless said]:DST\[=SIZE\]: ' \
            '--rootfs=[run on this root file system, read-only, instead of the host'\''s programs\: see mrunc rootfs --help]:DIR:_files -/' \
            '--harden[everything read-only but what --writable names, nothing written may be executed, a stricter system call policy]' \
            '*--writable=[with --harden\: an empty writable directory there (a path inside), 1G unless said; what is written there may not be executed]:PATH\[=SIZE\]: ' \
            '*--overlay=-[let the program change the tree, or what is shown at PATH (--ro), as on a real system; nothing reaches the host]::PATH: ' \
            '--changes=[write as JSON what the program added, modified and deleted; - is stderr]:FILE:_files' \
            '--export=[bring out the files that it added or modified, to an empty or new directory or a .tar]:DIR|TAR:_files' \
            '(--chdir -w)--chdir=[start there (default /box)]:DIR: ' \
            '(--chdir -w)-w[start there (default /box)]:DIR: ' \
            '*--env=[set a variable, or pass the caller'\''s in]:NAME\[=VALUE\]: ' \
            '*-e[set a variable, or pass the caller'\''s in]:NAME\[=VALUE\]: ' \
            '--hostname=[host name inside (default mrunc)]:NAME: ' \
            '(--user -u)--user=[identity inside (default 0\:0); outside it stays an unprivileged one]:UID\[\:GID\]: ' \
            '(--user -u)-u[identity inside (default 0\:0); outside it stays an unprivileged one]:UID\[\:GID\]: ' \
            '*--cap-add=[give one capability, good for the sandbox'\''s own namespaces only]:CAP: ' \
            '--seccomp=[system call policy\: default, strict, process, process-nosignal, debug, or a file (docker and podman JSON, minijail, raw BPF)]:FILE|NAME:_mrunc_seccomp' \
            '*--seccomp-add=[allow one call more\: clone3, or '\''ioctl\: arg1 == 0x5413'\''; says why it is refused by default]:RULE: ' \
            '--seccomp-action=[what calls of high risk get\: errno (default), or the end of the sandbox, which --harden brings]:errno|kill:(errno kill)' \
            '--proc=[full\: for ps and free, masked; none\: no /proc at all]:full|none:(full none)' \
            '--tier=[full (default), rootns, process\: a weaker sandbox where the host can'\''t do more; of several the first that runs]:NAME\[,NAME\]:(full rootns process)' \
            '(--tty -t)--tty[a terminal of its own, with job control]' \
            '(--tty -t)-t[a terminal of its own, with job control]' \
            '--timeout=[end it after this time (1.5s, 2m), exit status 124]:TIME: ' \
            '--cpu-time=[the same for the processor time of all its processes together]:TIME: ' \
            '--grace=[from SIGTERM to SIGKILL at a deadline (default 0.5s)]:TIME: ' \
            '--memory=[memory of all its processes together, files in tmpfs included; nothing is swapped]:SIZE: ' \
            '--cpus=[processors'\'' worth of time\: 0.5 is half of one]:N: ' \
            '(--pids --pids-limit)--pids=[processes and threads, pid 1 of the sandbox included]:N: ' \
            '(--pids --pids-limit)--pids-limit=[processes and threads, pid 1 of the sandbox included]:N: ' \
            '*--io-read=[bytes per second from a disk; without DEV, those below --ro, --rw, --rootfs]:\[DEV\:\]BPS: ' \
            '*--io-write=[the same to a disk]:\[DEV\:\]BPS: ' \
            '*--best-effort=[run without these controls where this host can'\''t have them\: limits.io]:NAMES:(timens limits.core limits.memory limits.cpu limits.pids limits.io landlock landlock-signals)' \
            '*--require=[run only with these controls in force\: landlock]:NAMES:(userns mountns pidns ipcns utsns netns cgroupns timens uidmap groups userns-limit userns-nested propagation mounts root-ro proc dev hostname session parent-death sweep limits.core limits.nofile limits.nproc limits.rlimit limits.oom limits.memory limits.cpu limits.pids limits.io landlock landlock-signals securebits caps nnp seccomp ledger trace setid-filter fds cwd)' \
            '*--rlimit=[a resource limit\: nofile=256, as=1G, nproc=64]:NAME=VALUE:(cpu= fsize= data= stack= rss= nproc= nofile= memlock= as= locks= sigpending= msgqueue= nice= rtprio= rttime=)' \
            '*--ulimit=[a resource limit\: nofile=256, as=1G, nproc=64]:NAME=VALUE:(cpu= fsize= data= stack= rss= nproc= nofile= memlock= as= locks= sigpending= msgqueue= nice= rtprio= rttime=)' \
            '--max-output=[end it when it has written more than this, stdout and stderr together]:SIZE: ' \
            '--report=[write the result as JSON, with the system calls that were refused; - is stderr]:FILE:_files' \
            '--ledger=[write each refused system call as a line of JSON, while the program runs; - is stderr]:FILE:_files' \
            '--trace=[record each program that is executed, with arguments, times, and SHA-256 where it could be written inside\: evidence, which a hostile program can blur]:exec:(exec)' \
            '(--print-plan --dry-run)--print-plan[show what would be done, do nothing]' \
            '(--print-plan --dry-run)--dry-run[show what would be done, do nothing]' \
            '--json[with --print-plan\: as JSON]' \
            '(-q --quiet)-q[no messages but errors]' \
            '(-q --quiet)--quiet[no messages but errors]' \
            '(-v --verbose)-v[sum up at the end what ended it, what it tried, changed and used]' \
            '(-v --verbose)--verbose[sum up at the end what ended it, what it tried, changed and used]' \
            '(-h --help)-h[this text]' \
            '(-h --help)--help[this text]' \
            '*--unsafe-without=[leave controls out (never for hostile code)]:NAMES:(ipcns utsns netns cgroupns timens userns-limit userns-nested root-ro proc hostname session parent-death sweep limits.core limits.nofile limits.nproc limits.oom limits.memory limits.cpu limits.pids limits.io landlock landlock-signals securebits caps nnp seccomp ledger trace setid-filter fds)' \
            '(-)1:command:_command_names -e' \
            '*::argument:_normal' && ret=0 ;;
        shell) _arguments -S '*--ro=[show a host file or directory, read-only; DST defaults to SRC, a colon in a path is written \\\:]:SRC\[\:DST\]:_files' \
            '*--ro-bind=[show a host file or directory, read-only; DST defaults to SRC, a colon in a path is written \\\:]:SRC\[\:DST\]:_files' \
            '*--rw=[the same, writable; never of host root'\''s]:SRC\[\:DST\]:_files' \
            '*--bind=[the same, writable; never of host root'\''s]:SRC\[\:DST\]:_files' \
            '*--copy=[copy a file in, executable, by default to /box/NAME\: the way for a sample]:SRC\[\:DST\]:_files' \
            '--here[the current directory, read-only, as /box]' \
            '--follow-links[follow every symbolic link on the way to a source or a file to write; without it only those that root alone can have made]' \
            '*--tmpfs=[an empty writable directory, 1G unless said]:DST\[=SIZE\]: ' \
            '--rootfs=[run on this root file system, read-only, instead of the host'\''s programs\: see mrunc rootfs --help]:DIR:_files -/' \
            '--harden[everything read-only but what --writable names, nothing written may be executed, a stricter system call policy]' \
            '*--writable=[with --harden\: an empty writable directory there (a path inside), 1G unless said; what is written there may not be executed]:PATH\[=SIZE\]: ' \
            '*--overlay=-[let the program change the tree, or what is shown at PATH (--ro), as on a real system; nothing reaches the host]::PATH: ' \
            '--changes=[write as JSON what the program added, modified and deleted; - is stderr]:FILE:_files' \
            '--export=[bring out the files that it added or modified, to an empty or new directory or a .tar]:DIR|TAR:_files' \
            '(--chdir -w)--chdir=[start there (default /box)]:DIR: ' \
            '(--chdir -w)-w[start there (default /box)]:DIR: ' \
            '*--env=[set a variable, or pass the caller'\''s in]:NAME\[=VALUE\]: ' \
            '*-e[set a variable, or pass the caller'\''s in]:NAME\[=VALUE\]: ' \
            '--hostname=[host name inside (default mrunc)]:NAME: ' \
            '(--user -u)--user=[identity inside (default 0\:0); outside it stays an unprivileged one]:UID\[\:GID\]: ' \
            '(--user -u)-u[identity inside (default 0\:0); outside it stays an unprivileged one]:UID\[\:GID\]: ' \
            '*--cap-add=[give one capability, good for the sandbox'\''s own namespaces only]:CAP: ' \
            '--seccomp=[system call policy\: default, strict, process, process-nosignal, debug, or a file (docker and podman JSON, minijail, raw BPF)]:FILE|NAME:_mrunc_seccomp' \
            '*--seccomp-add=[allow one call more\: clone3, or '\''ioctl\: arg1 == 0x5413'\''; says why it is refused by default]:RULE: ' \
            '--seccomp-action=[what calls of high risk get\: errno (default), or the end of the sandbox, which --harden brings]:errno|kill:(errno kill)' \
            '--proc=[full\: for ps and free, masked; none\: no /proc at all]:full|none:(full none)' \
            '--tier=[full (default), rootns, process\: a weaker sandbox where the host can'\''t do more; of several the first that runs]:NAME\[,NAME\]:(full rootns process)' \
            '(--tty -t)--tty[a terminal of its own, with job control]' \
            '(--tty -t)-t[a terminal of its own, with job control]' \
            '--timeout=[end it after this time (1.5s, 2m), exit status 124]:TIME: ' \
            '--cpu-time=[the same for the processor time of all its processes together]:TIME: ' \
            '--grace=[from SIGTERM to SIGKILL at a deadline (default 0.5s)]:TIME: ' \
            '--memory=[memory of all its processes together, files in tmpfs included; nothing is swapped]:SIZE: ' \
            '--cpus=[processors'\'' worth of time\: 0.5 is half of one]:N: ' \
            '(--pids --pids-limit)--pids=[processes and threads, pid 1 of the sandbox included]:N: ' \
            '(--pids --pids-limit)--pids-limit=[processes and threads, pid 1 of the sandbox included]:N: ' \
            '*--io-read=[bytes per second from a disk; without DEV, those below --ro, --rw, --rootfs]:\[DEV\:\]BPS: ' \
            '*--io-write=[the same to a disk]:\[DEV\:\]BPS: ' \
            '*--best-effort=[run without these controls where this host can'\''t have them\: limits.io]:NAMES:(timens limits.core limits.memory limits.cpu limits.pids limits.io landlock landlock-signals)' \
            '*--require=[run only with these controls in force\: landlock]:NAMES:(userns mountns pidns ipcns utsns netns cgroupns timens uidmap groups userns-limit userns-nested propagation mounts root-ro proc dev hostname session parent-death sweep limits.core limits.nofile limits.nproc limits.rlimit limits.oom limits.memory limits.cpu limits.pids limits.io landlock landlock-signals securebits caps nnp seccomp ledger trace setid-filter fds cwd)' \
            '*--rlimit=[a resource limit\: nofile=256, as=1G, nproc=64]:NAME=VALUE:(cpu= fsize= data= stack= rss= nproc= nofile= memlock= as= locks= sigpending= msgqueue= nice= rtprio= rttime=)' \
            '*--ulimit=[a resource limit\: nofile=256, as=1G, nproc=64]:NAME=VALUE:(cpu= fsize= data= stack= rss= nproc= nofile= memlock= as= locks= sigpending= msgqueue= nice= rtprio= rttime=)' \
            '--max-output=[end it when it has written more than this, stdout and stderr together]:SIZE: ' \
            '--report=[write the result as JSON, with the system calls that were refused; - is stderr]:FILE:_files' \
            '--ledger=[write each refused system call as a line of JSON, while the program runs; - is stderr]:FILE:_files' \
            '--trace=[record each program that is executed, with arguments, times, and SHA-256 where it could be written inside\: evidence, which a hostile program can blur]:exec:(exec)' \
            '(--print-plan --dry-run)--print-plan[show what would be done, do nothing]' \
            '(--print-plan --dry-run)--dry-run[show what would be done, do nothing]' \
            '--json[with --print-plan\: as JSON]' \
            '(-q --quiet)-q[no messages but errors]' \
            '(-q --quiet)--quiet[no messages but errors]' \
            '(-v --verbose)-v[sum up at the end what ended it, what it tried, changed and used]' \
            '(-v --verbose)--verbose[sum up at the end what ended it, what it tried, changed and used]' \
            '(-h --help)-h[this text]' \
            '(-h --help)--help[this text]' \
            '*--unsafe-without=[leave controls out (never for hostile code)]:NAMES:(ipcns utsns netns cgroupns timens userns-limit userns-nested root-ro proc hostname session parent-death sweep limits.core limits.nofile limits.nproc limits.oom limits.memory limits.cpu limits.pids limits.io landlock landlock-signals securebits caps nnp seccomp ledger trace setid-filter fds)' && ret=0 ;;
        doctor) _arguments -S '(-v --verbose)-v[also the evidence of what is well]' \
            '(-v --verbose)--verbose[also the evidence of what is well]' \
            '--json[JSON]' \
            '(-h --help)-h[this text]' \
            '(-h --help)--help[this text]' && ret=0 ;;
        selftest) _arguments -S '--current[no sandbox\: run the probes where you are (am I contained?)]' \
            '*--only=[a group, a danger or a probe by its name; limits are tried only so]:GROUP: ' \
            '--tier=[the tier to test, as for run]:NAME:(full rootns process)' \
            '--harden[test under --harden, as for run]' \
            '--list[print the probes, do nothing]' \
            '--junit=[write a JUnit report]:FILE:_files' \
            '--json[JSON]' \
            '(-h --help)-h[this text]' \
            '(-h --help)--help[this text]' && ret=0 ;;
        policy) _arguments -S '--arch=[x86_64 or aarch64; this machine'\''s unless said (diff\: both)]:ARCH:(x86_64 aarch64)' \
            '--bpf[show\: the program, one instruction a line]' \
            '--policy=[explain\: which policy'\''s decision comes first (default\: default)]:NAME:(default strict process process-nosignal debug)' \
            '--format=[export\: bpf, a struct sock_filter array as bwrap --seccomp FD takes it, or oci, JSON for runc, crun and docker --security-opt seccomp=; learn\: oci (of a FILE in .json) or text]:bpf|oci|text:(bpf oci text)' \
            '(-o --output)-o[export\: write there instead of to standard output; learn\: instead of to stderr]:FILE:_files' \
            '(-o --output)--output=[export\: write there instead of to standard output; learn\: instead of to stderr]:FILE:_files' \
            '--merge[learn\: add to what the FILE of -o holds from earlier runs]' \
            '--verify=[learn\: run the program behind this policy, list each call that it refused, exit status 1 if there is one]:FILE:_files' \
            '--against=[diff\: compare with other sandboxes, call by call\: all, or some of docker, podman, snapd, systemd, flatpak, firejail, bubblewrap, nsjail, minijail, chromium, gvisor]:PEERS: ' \
            '--markdown[diff --against\: as Markdown]' \
            '--json[JSON]' \
            '(-h --help)-h[this text]' \
            '(-h --help)--help[this text]' \
            '1:action:(show explain export diff learn)' \
            '*:file:_files' && ret=0 ;;
        rootfs) _arguments -S '*--from=[build\: a directory, a tar (plain, gzip, xz) or an OCI image layout; several are laid over one another in order]:SOURCE:_files' \
            '*--from-host=[build\: packages of this host with all that they depend on (python3,bash), or programs that belong to no package, with their libraries]:NAMES: ' \
            '--follow-links[build\: follow every symbolic link on the way to a source; without it only those that root alone can have made]' \
            '--image=[build\: which image of an OCI layout that holds several]:NAME: ' \
            '--max-size=[build\: content of all files together (default 16G)]:SIZE: ' \
            '--max-files=[build\: entries of all sources together (default 500000)]:COUNT: ' \
            '--manifest=[build\: write what is in the tree and what was dropped, as JSON]:FILE:_files' \
            '--json[JSON\: the manifest, or the findings]' \
            '(-q --quiet)-q[no messages but errors]' \
            '(-q --quiet)--quiet[no messages but errors]' \
            '(-h --help)-h[this text]' \
            '(-h --help)--help[this text]' \
            '1:action:(build check)' \
            '*:file:_files' && ret=0 ;;
        report) _arguments -S '--html=[write one page that needs nothing else\: no script, no address outside; - is stdout]:FILE:_files' \
            '--json[the result as JSON, with the techniques that its rows may stand for]' \
            '(-h --help)-h[this text]' \
            '(-h --help)--help[this text]' \
            '1:result:_files' && ret=0 ;;
        esac ;;
    esac
    return ret
}
if [ "$funcstack[1]" = _mrunc ]; then _mrunc "$@"; else compdef _mrunc mrunc mrunc.py mrunc.pyz; fi
