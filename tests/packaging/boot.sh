#!/bin/sh
# Becomes the first process of a machine of its own in namespaces of its own.
#
# Nothing of this machine can be written from there: every file system is read-only, and what has to
# be written is in memory. No unit of this machine is started, as the targets that want them are empty:
# among others they would clean /tmp.
#
# Arguments: what has to be seen though it is below /root or /tmp.
set -eu
mount --make-rprivate /
mount -t proc proc /proc
mkdir -p /mnt
mount -t tmpfs -o mode=0755 tmpfs /mnt
mkdir /mnt/before
mount --rbind / /mnt/before
for folder in run root tmp var opt; do
    mount -t tmpfs -o mode=0755 tmpfs "/$folder"
done
chmod 1777 /tmp
mkdir -p /run/lock /run/etc /var/lib /var/cache /var/log /var/tmp
chmod 1777 /var/tmp
cp -a /etc/. /run/etc
mount --bind /run/etc /etc
for seen in "$@"; do
    mkdir -p "$seen"
    mount --bind "/mnt/before$seen" "$seen"
    mount -o remount,bind,ro "$seen"
done
umount -l /mnt/before
for mounted in / /dev/shm /proc/sys; do
    mountpoint -q "$mounted" || mount --bind "$mounted" "$mounted"
    mount -o remount,bind,ro "$mounted"
done
touch /usr/.written 2>/dev/null && exit 3
for wants in /usr/lib/systemd/system/*.wants; do
    mount -t tmpfs tmpfs "$wants"
done
rm -rf /etc/systemd/system
mkdir -p /etc/systemd/system
for target in alone sysinit basic network shutdown; do
    printf '[Unit]\nDefaultDependencies=no\n' > "/etc/systemd/system/$target.target"
done
# Among the namespaces of its own services only, as systemd has it: credentials come that way.
mount --make-rshared /
export container=other
exec /usr/lib/systemd/systemd --system --unit=alone.target --show-status=false
