# SPDX-License-Identifier: Apache-2.0
# PID 1 of the guest: mounts what a host has, gives the command a cgroup, runs it, hands back what it left in /results.
# /vm/in: env, cmd, setup (maybe), src/.  Disk c takes the results, the port "output" the command's stdout and stderr.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
. /vm/in/env

try_mount() { mount -t "$@" 2>/dev/null; }

mkdir -p /dev/pts /dev/shm
try_mount devpts -o mode=620,gid=5,ptmxmode=666 devpts /dev/pts
try_mount tmpfs -o mode=1777 shm /dev/shm
ln -sf pts/ptmx /dev/ptmx 2>/dev/null
ln -sfn /proc/self/fd /dev/fd
ln -sfn fd/0 /dev/stdin
ln -sfn fd/1 /dev/stdout
ln -sfn fd/2 /dev/stderr
try_mount tmpfs -o mode=755 run /run
chmod 1777 /tmp
try_mount securityfs securityfs /sys/kernel/security
try_mount debugfs debugfs /sys/kernel/debug
mount --make-rshared /
hostname vm
ip link set lo up
mkdir -p /run/user/1000
chown 1000:1000 /run/user/1000
chmod 700 /run/user/1000
chown -R "$MRUNC_VM_USER" /results

# -- cgroups: what is mounted, and a group that belongs to the command's user, as systemd delegates one --
unified=
case $MRUNC_VM_CGROUP in
v2)
    unified=/sys/fs/cgroup
    try_mount cgroup2 -o nsdelegate cgroup2 $unified ;;
hybrid | v1)
    try_mount tmpfs -o mode=755 cgroup /sys/fs/cgroup
    for controller in cpu cpuacct cpuset memory devices freezer blkio pids; do
        mkdir /sys/fs/cgroup/$controller
        try_mount cgroup -o $controller cgroup /sys/fs/cgroup/$controller || rmdir /sys/fs/cgroup/$controller
    done
    if [ "$MRUNC_VM_CGROUP" = hybrid ]; then
        unified=/sys/fs/cgroup/unified
        mkdir $unified
        try_mount cgroup2 -o nsdelegate cgroup2 $unified
    fi ;;
esac
MRUNC_VM_DELEGATED=
if [ -n "$unified" ]; then
    MRUNC_VM_DELEGATED=$unified/delegated
    mkdir -p $MRUNC_VM_DELEGATED/command
    for group in $unified $MRUNC_VM_DELEGATED; do
        for controller in $(cat $group/cgroup.controllers); do
            echo "+$controller" > $group/cgroup.subtree_control
        done
    done
    for group in $MRUNC_VM_DELEGATED $MRUNC_VM_DELEGATED/command; do
        chown "$MRUNC_VM_USER" $group
        for file in $(cat /sys/kernel/cgroup/delegate); do
            [ ! -e $group/"$file" ] || chown "$MRUNC_VM_USER" $group/"$file"
        done
    done
fi
export MRUNC_VM_DELEGATED

# -- the command --
if [ -n "$MRUNC_VM_SHELL" ]; then
    exec 3<>/dev/hvc0
else
    for port in /sys/class/virtio-ports/*; do
        [ "$(cat "$port/name")" != output ] || exec 3<>"/dev/${port##*/}"
    done
fi
cat > /run/command <<'END'
[ -z "$MRUNC_VM_DELEGATED" ] || echo $$ > $MRUNC_VM_DELEGATED/command/cgroup.procs
cd /vm/in/src
if [ "$MRUNC_VM_USER" = root ]; then
    exec sh /vm/in/cmd
fi
export HOME=/home/$MRUNC_VM_USER USER=$MRUNC_VM_USER LOGNAME=$MRUNC_VM_USER XDG_RUNTIME_DIR=/run/user/1000
exec setpriv --reuid "$MRUNC_VM_USER" --regid "$MRUNC_VM_USER" --init-groups --inh-caps=-all sh /vm/in/cmd
END
read -r started rest < /proc/uptime
if [ -f /vm/in/setup ] && ! sh -e /vm/in/setup </dev/null >&3 2>&1; then
    status=setup
elif [ -n "$MRUNC_VM_SHELL" ]; then
    setsid -c sh /run/command <&3 >&3 2>&1
    status=$?
else
    setsid -w sh /run/command </dev/null >&3 2>&1 3>&-
    status=$?
fi
read -r ended rest < /proc/uptime
echo "$status $started $ended" > /results/.status
tar cf /dev/vdc -C /results .
sync
mount -o remount,ro / 2>/dev/null
busybox poweroff -f
