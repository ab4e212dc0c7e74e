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
        'shell:start an interactive shell in a sandbox (run --tty -- sh -l)'
        'doctor:find which tier runs here, what is missing, and the remedies'
        'selftest:try to break out of a sandbox on this host'
        'policy:show, explain, export, compare and learn system call policies'
        'rootfs:build and check root file systems for run --rootfs'
        'report:show a result (run --report FILE) as text or as one HTML page'
    )
    _arguments -C '(- *)--help[show the help]' '(- *)--version[show version, place and Python]' \
        '(- *)--man=[show a manual page]:page:(mrunc mrunc-policy)' \
        '(- *)--completion=[show this script]:shell:(bash zsh)' \
        '1:verb:->verb' '*::argument:->rest' && ret=0
    case $state in
    verb) _describe -t verbs verb verbs && ret=0 ;;
    rest)
        case $words[1] in
        run) _arguments -S '*--ro=[show a host file or directory read-only; DST defaults to SRC; write a colon in a path as \\\:]:SRC\[\:DST\]:_files' \
            '*--ro-bind=[show a host file or directory read-only; DST defaults to SRC; write a colon in a path as \\\:]:SRC\[\:DST\]:_files' \
            '*--rw=[same, but writable; anything owned by host root is refused]:SRC\[\:DST\]:_files' \
            '*--bind=[same, but writable; anything owned by host root is refused]:SRC\[\:DST\]:_files' \
            '*--copy=[copy a file in, executable, to /box/NAME by default; use it for samples]:SRC\[\:DST\]:_files' \
            '--here[show the current directory read-only as /box]' \
            '--follow-links[follow every symbolic link in the path of a source or an output file (default\: only links that only root can have made)]' \
            '*--tmpfs=[add an empty writable directory; default size 1G]:DST\[=SIZE\]: ' \
            '--rootfs=[use this root file system, read-only, instead of the host'\''s programs; see mrunc rootfs --help]:DIR:_files -/' \
            '--harden[make everything but the --writable paths read-only, forbid executing written files, use the stricter system call policy]' \
            '*--writable=[with --harden\: add an empty writable directory at this path inside; default size 1G; files written there can'\''t be executed]:PATH\[=SIZE\]: ' \
            '*--overlay=-[let the program modify the tree, or what --ro shows at PATH, as on a real system; nothing reaches the host]::PATH: ' \
            '--changes=[write as JSON what the program added, modified and deleted; - is stderr]:FILE:_files' \
            '--export=[copy the added and modified files to an empty or new directory or to a .tar]:DIR|TAR:_files' \
            '(--chdir -w)--chdir=[working directory inside (default /box)]:DIR: ' \
            '(--chdir -w)-w[working directory inside (default /box)]:DIR: ' \
            '*--env=[set a variable, or pass on the caller'\''s value]:NAME\[=VALUE\]: ' \
            '*-e[set a variable, or pass on the caller'\''s value]:NAME\[=VALUE\]: ' \
            '--hostname=[host name inside (default mrunc)]:NAME: ' \
            '(--user -u)--user=[identity inside (default 0\:0); outside it is always an unprivileged id]:UID\[\:GID\]: ' \
            '(--user -u)-u[identity inside (default 0\:0); outside it is always an unprivileged id]:UID\[\:GID\]: ' \
            '*--cap-add=[grant one capability, valid only in the sandbox'\''s own namespaces]:CAP: ' \
            '--seccomp=[system call policy\: default, strict, process, process-nosignal, debug, or a file (docker and podman JSON, minijail, raw BPF)]:FILE|NAME:_mrunc_seccomp' \
            '*--seccomp-add=[allow one more call\: clone3, or '\''ioctl\: arg1 == 0x5413'\''; prints why it is refused by default]:RULE: ' \
            '--seccomp-action=[response to high-risk calls\: errno (default) or kill (implied by --harden)]:errno|kill:(errno kill)' \
            '--proc=[full\: what ps and free need, masked; none\: no /proc]:full|none:(full none)' \
            '--tier=[full (default), rootns or process\: weaker sandboxes for hosts that can'\''t do more; of several, the first that runs]:NAME\[,NAME\]:(full rootns process)' \
            '(--tty -t)--tty[give the program its own terminal, with job control]' \
            '(--tty -t)-t[give the program its own terminal, with job control]' \
            '--timeout=[end the program after this time (1.5s, 2m) with exit status 124]:TIME: ' \
            '--cpu-time=[same for the processor time of all its processes together]:TIME: ' \
            '--grace=[time between SIGTERM and SIGKILL at a deadline (default 0.5s)]:TIME: ' \
            '--memory=[limit the memory of all its processes together, files in tmpfs included; nothing is swapped]:SIZE: ' \
            '--cpus=[limit processor time\: 0.5 is half of one processor]:N: ' \
            '(--pids --pids-limit)--pids=[limit processes and threads, the sandbox'\''s pid 1 included]:N: ' \
            '(--pids --pids-limit)--pids-limit=[limit processes and threads, the sandbox'\''s pid 1 included]:N: ' \
            '*--io-read=[limit reads from a disk in bytes per second; without DEV, from the disks of --ro, --rw and --rootfs]:\[DEV\:\]BPS: ' \
            '*--io-write=[same for writes to a disk]:\[DEV\:\]BPS: ' \
            '*--best-effort=[run without these controls where the host can'\''t provide them\: limits.io]:NAMES:(timens limits.core limits.memory limits.cpu limits.pids limits.io landlock landlock-signals)' \
            '*--require=[run only if these controls are in force\: landlock]:NAMES:(userns mountns pidns ipcns utsns netns cgroupns timens uidmap groups userns-limit userns-nested propagation mounts root-ro proc dev hostname session parent-death sweep limits.core limits.nofile limits.nproc limits.rlimit limits.oom limits.memory limits.cpu limits.pids limits.io landlock landlock-signals securebits caps nnp seccomp ledger trace setid-filter fds cwd)' \
            '*--rlimit=[set a resource limit\: nofile=256, as=1G, nproc=64]:NAME=VALUE:(cpu= fsize= data= stack= rss= nproc= nofile= memlock= as= locks= sigpending= msgqueue= nice= rtprio= rttime=)' \
            '*--ulimit=[set a resource limit\: nofile=256, as=1G, nproc=64]:NAME=VALUE:(cpu= fsize= data= stack= rss= nproc= nofile= memlock= as= locks= sigpending= msgqueue= nice= rtprio= rttime=)' \
            '--max-output=[end the program after this many bytes of stdout and stderr together]:SIZE: ' \
            '--report=[write the result as JSON, with the refused system calls; - is stderr]:FILE:_files' \
            '--ledger=[write each refused system call as a line of JSON while the program runs; - is stderr]:FILE:_files' \
            '--trace=[record each executed program with arguments and times, and the SHA-256 of files that can be written inside; a hostile program can blur this evidence]:exec:(exec)' \
            '(--print-plan --dry-run)--print-plan[show what would be done; start nothing]' \
            '(--print-plan --dry-run)--dry-run[show what would be done; start nothing]' \
            '--json[with --print-plan\: print JSON]' \
            '(-q --quiet)-q[print errors only]' \
            '(-q --quiet)--quiet[print errors only]' \
            '(-v --verbose)-v[summarise at the end what ended the program and what it tried, changed and used]' \
            '(-v --verbose)--verbose[summarise at the end what ended the program and what it tried, changed and used]' \
            '(-h --help)-h[show this text]' \
            '(-h --help)--help[show this text]' \
            '*--unsafe-without=[leave controls out; never for hostile code]:NAMES:(ipcns utsns netns cgroupns timens userns-limit userns-nested root-ro proc hostname session parent-death sweep limits.core limits.nofile limits.nproc limits.oom limits.memory limits.cpu limits.pids limits.io landlock landlock-signals securebits caps nnp seccomp ledger trace setid-filter fds)' \
            '(-)1:command:_command_names -e' \
            '*::argument:_normal' && ret=0 ;;
        shell) _arguments -S '*--ro=[show a host file or directory read-only; DST defaults to SRC; write a colon in a path as \\\:]:SRC\[\:DST\]:_files' \
            '*--ro-bind=[show a host file or directory read-only; DST defaults to SRC; write a colon in a path as \\\:]:SRC\[\:DST\]:_files' \
            '*--rw=[same, but writable; anything owned by host root is refused]:SRC\[\:DST\]:_files' \
            '*--bind=[same, but writable; anything owned by host root is refused]:SRC\[\:DST\]:_files' \
            '*--copy=[copy a file in, executable, to /box/NAME by default; use it for samples]:SRC\[\:DST\]:_files' \
            '--here[show the current directory read-only as /box]' \
            '--follow-links[follow every symbolic link in the path of a source or an output file (default\: only links that only root can have made)]' \
            '*--tmpfs=[add an empty writable directory; default size 1G]:DST\[=SIZE\]: ' \
            '--rootfs=[use this root file system, read-only, instead of the host'\''s programs; see mrunc rootfs --help]:DIR:_files -/' \
            '--harden[make everything but the --writable paths read-only, forbid executing written files, use the stricter system call policy]' \
            '*--writable=[with --harden\: add an empty writable directory at this path inside; default size 1G; files written there can'\''t be executed]:PATH\[=SIZE\]: ' \
            '*--overlay=-[let the program modify the tree, or what --ro shows at PATH, as on a real system; nothing reaches the host]::PATH: ' \
            '--changes=[write as JSON what the program added, modified and deleted; - is stderr]:FILE:_files' \
            '--export=[copy the added and modified files to an empty or new directory or to a .tar]:DIR|TAR:_files' \
            '(--chdir -w)--chdir=[working directory inside (default /box)]:DIR: ' \
            '(--chdir -w)-w[working directory inside (default /box)]:DIR: ' \
            '*--env=[set a variable, or pass on the caller'\''s value]:NAME\[=VALUE\]: ' \
            '*-e[set a variable, or pass on the caller'\''s value]:NAME\[=VALUE\]: ' \
            '--hostname=[host name inside (default mrunc)]:NAME: ' \
            '(--user -u)--user=[identity inside (default 0\:0); outside it is always an unprivileged id]:UID\[\:GID\]: ' \
            '(--user -u)-u[identity inside (default 0\:0); outside it is always an unprivileged id]:UID\[\:GID\]: ' \
            '*--cap-add=[grant one capability, valid only in the sandbox'\''s own namespaces]:CAP: ' \
            '--seccomp=[system call policy\: default, strict, process, process-nosignal, debug, or a file (docker and podman JSON, minijail, raw BPF)]:FILE|NAME:_mrunc_seccomp' \
            '*--seccomp-add=[allow one more call\: clone3, or '\''ioctl\: arg1 == 0x5413'\''; prints why it is refused by default]:RULE: ' \
            '--seccomp-action=[response to high-risk calls\: errno (default) or kill (implied by --harden)]:errno|kill:(errno kill)' \
            '--proc=[full\: what ps and free need, masked; none\: no /proc]:full|none:(full none)' \
            '--tier=[full (default), rootns or process\: weaker sandboxes for hosts that can'\''t do more; of several, the first that runs]:NAME\[,NAME\]:(full rootns process)' \
            '(--tty -t)--tty[give the program its own terminal, with job control]' \
            '(--tty -t)-t[give the program its own terminal, with job control]' \
            '--timeout=[end the program after this time (1.5s, 2m) with exit status 124]:TIME: ' \
            '--cpu-time=[same for the processor time of all its processes together]:TIME: ' \
            '--grace=[time between SIGTERM and SIGKILL at a deadline (default 0.5s)]:TIME: ' \
            '--memory=[limit the memory of all its processes together, files in tmpfs included; nothing is swapped]:SIZE: ' \
            '--cpus=[limit processor time\: 0.5 is half of one processor]:N: ' \
            '(--pids --pids-limit)--pids=[limit processes and threads, the sandbox'\''s pid 1 included]:N: ' \
            '(--pids --pids-limit)--pids-limit=[limit processes and threads, the sandbox'\''s pid 1 included]:N: ' \
            '*--io-read=[limit reads from a disk in bytes per second; without DEV, from the disks of --ro, --rw and --rootfs]:\[DEV\:\]BPS: ' \
            '*--io-write=[same for writes to a disk]:\[DEV\:\]BPS: ' \
            '*--best-effort=[run without these controls where the host can'\''t provide them\: limits.io]:NAMES:(timens limits.core limits.memory limits.cpu limits.pids limits.io landlock landlock-signals)' \
            '*--require=[run only if these controls are in force\: landlock]:NAMES:(userns mountns pidns ipcns utsns netns cgroupns timens uidmap groups userns-limit userns-nested propagation mounts root-ro proc dev hostname session parent-death sweep limits.core limits.nofile limits.nproc limits.rlimit limits.oom limits.memory limits.cpu limits.pids limits.io landlock landlock-signals securebits caps nnp seccomp ledger trace setid-filter fds cwd)' \
            '*--rlimit=[set a resource limit\: nofile=256, as=1G, nproc=64]:NAME=VALUE:(cpu= fsize= data= stack= rss= nproc= nofile= memlock= as= locks= sigpending= msgqueue= nice= rtprio= rttime=)' \
            '*--ulimit=[set a resource limit\: nofile=256, as=1G, nproc=64]:NAME=VALUE:(cpu= fsize= data= stack= rss= nproc= nofile= memlock= as= locks= sigpending= msgqueue= nice= rtprio= rttime=)' \
            '--max-output=[end the program after this many bytes of stdout and stderr together]:SIZE: ' \
            '--report=[write the result as JSON, with the refused system calls; - is stderr]:FILE:_files' \
            '--ledger=[write each refused system call as a line of JSON while the program runs; - is stderr]:FILE:_files' \
            '--trace=[record each executed program with arguments and times, and the SHA-256 of files that can be written inside; a hostile program can blur this evidence]:exec:(exec)' \
            '(--print-plan --dry-run)--print-plan[show what would be done; start nothing]' \
            '(--print-plan --dry-run)--dry-run[show what would be done; start nothing]' \
            '--json[with --print-plan\: print JSON]' \
            '(-q --quiet)-q[print errors only]' \
            '(-q --quiet)--quiet[print errors only]' \
            '(-v --verbose)-v[summarise at the end what ended the program and what it tried, changed and used]' \
            '(-v --verbose)--verbose[summarise at the end what ended the program and what it tried, changed and used]' \
            '(-h --help)-h[show this text]' \
            '(-h --help)--help[show this text]' \
            '*--unsafe-without=[leave controls out; never for hostile code]:NAMES:(ipcns utsns netns cgroupns timens userns-limit userns-nested root-ro proc hostname session parent-death sweep limits.core limits.nofile limits.nproc limits.oom limits.memory limits.cpu limits.pids limits.io landlock landlock-signals securebits caps nnp seccomp ledger trace setid-filter fds)' && ret=0 ;;
        doctor) _arguments -S '(-v --verbose)-v[show the evidence of what works, too]' \
            '(-v --verbose)--verbose[show the evidence of what works, too]' \
            '--json[print JSON]' \
            '(-h --help)-h[show this text]' \
            '(-h --help)--help[show this text]' && ret=0 ;;
        selftest) _arguments -S '--current[run the probes here, without a sandbox (am I contained?)]' \
            '*--only=[run a group, a danger or one probe; limits are only run if named]:GROUP: ' \
            '--tier=[test this tier, as for run]:NAME:(full rootns process)' \
            '--harden[test with --harden, as for run]' \
            '--list[print the probes, run nothing]' \
            '--junit=[write a JUnit report]:FILE:_files' \
            '--json[print JSON]' \
            '(-h --help)-h[show this text]' \
            '(-h --help)--help[show this text]' && ret=0 ;;
        policy) _arguments -S '--arch=[x86_64 or aarch64; default\: this machine'\''s (diff\: both)]:ARCH:(x86_64 aarch64)' \
            '--bpf[show\: print the program, one instruction a line]' \
            '--policy=[explain\: show this policy'\''s decision first (default\: default)]:NAME:(default strict process process-nosignal debug)' \
            '--format=[export\: bpf, a struct sock_filter array for bwrap --seccomp FD, or oci, JSON for runc, crun and docker --security-opt seccomp=; learn\: oci (default for a FILE in .json) or text]:bpf|oci|text:(bpf oci text)' \
            '(-o --output)-o[export\: write to FILE instead of stdout; learn\: write to FILE instead of stderr]:FILE:_files' \
            '(-o --output)--output=[export\: write to FILE instead of stdout; learn\: write to FILE instead of stderr]:FILE:_files' \
            '--merge[learn\: add to the rules in the FILE of -o]' \
            '--verify=[learn\: run the program behind this policy and list each refused call; exit status 1 if there is any]:FILE:_files' \
            '--against=[diff\: compare with other sandboxes, call by call\: all, or some of docker, podman, snapd, systemd, flatpak, firejail, bubblewrap, nsjail, minijail, chromium, gvisor]:PEERS: ' \
            '--markdown[diff --against\: print Markdown]' \
            '--json[print JSON]' \
            '(-h --help)-h[show this text]' \
            '(-h --help)--help[show this text]' \
            '1:action:(show explain export diff learn)' \
            '*:file:_files' && ret=0 ;;
        rootfs) _arguments -S '*--from=[build\: add a directory, a tar (plain, gzip, xz) or an OCI image layout; later sources replace files of earlier ones]:SOURCE:_files' \
            '*--from-host=[build\: add packages of this host with all their dependencies (python3,bash), or programs that belong to no package, with their libraries]:NAMES: ' \
            '--follow-links[build\: follow every symbolic link in the path of a source (default\: only links that only root can have made)]' \
            '--image=[build\: choose an image of an OCI layout with several]:NAME: ' \
            '--max-size=[build\: limit the content of all files together (default 16G)]:SIZE: ' \
            '--max-files=[build\: limit the entries of all sources together (default 500000)]:COUNT: ' \
            '--manifest=[build\: write the entries of the tree and what was dropped, as JSON]:FILE:_files' \
            '--json[print the manifest or the findings as JSON]' \
            '(-q --quiet)-q[print errors only]' \
            '(-q --quiet)--quiet[print errors only]' \
            '(-h --help)-h[show this text]' \
            '(-h --help)--help[show this text]' \
            '1:action:(build check)' \
            '*:file:_files' && ret=0 ;;
        report) _arguments -S '--html=[write one self-contained page, without scripts and links; - is stdout]:FILE:_files' \
            '--json[print the result as JSON, with the ATT&CK techniques that its rows fit]' \
            '(-h --help)-h[show this text]' \
            '(-h --help)--help[show this text]' \
            '1:result:_files' && ret=0 ;;
        esac ;;
    esac
    return ret
}
if [ "$funcstack[1]" = _mrunc ]; then _mrunc "$@"; else compdef _mrunc mrunc mrunc.py mrunc.pyz; fi
