#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# PID 1 of the initramfs: loads the modules, mounts the root disk, goes there.
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
for module in $($B cat /modules); do
    $B insmod "/lib/$module.ko" 2>/dev/null || $B echo "insmod $module failed"
done
case " $($B cat /proc/cmdline) " in
*" vm.probe "*) $B echo VM-PROBE-OK; $B poweroff -f ;;
esac
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 200 ]; do
    $B usleep 50000
    tries=$((tries + 1))
done
if $B mount -t ext4 -o noatime /dev/vda /newroot; then
    for folder in proc sys dev; do
        $B mount --move /$folder /newroot/$folder
    done
    exec $B switch_root /newroot /vm/init
fi
$B echo "no root disk"
$B poweroff -f
