#!/bin/busybox sh
# The first process of the guest: the host's root read-only, a writable layer over it, and on with run.sh inside.
fail() {
	echo "guest: $1 failed" >/dev/console
	/bin/busybox reboot -f
}
busybox=/bin/busybox
$busybox mount -t proc proc /proc || fail "mounting /proc"
$busybox mount -t sysfs sysfs /sys || fail "mounting /sys"
$busybox mount -t devtmpfs devtmpfs /dev || fail "mounting /dev"
while read -r module; do
	$busybox insmod "/modules/$module" || fail "loading $module"
done </modules/order
shared="trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro"
$busybox mount -t 9p -o "$shared" host /host || fail "mounting the host's root"
# The writable layer: a disk that outlives this machine, or memory.
if [ -e /dev/vda ]; then
	$busybox mount -t ext4 /dev/vda /scratch || fail "mounting the disk"
else
	$busybox mount -t tmpfs -o size=75% tmpfs /scratch || fail "mounting the writable layer"
fi
$busybox mkdir -p /scratch/upper /scratch/work
lower=/host
if [ -d /system ]; then
	$busybox mount -t 9p -o "$shared" system /system || fail "mounting the system"
	lower=/system
fi
$busybox mount -t overlay -o lowerdir=$lower,upperdir=/scratch/upper,workdir=/scratch/work overlay /root ||
	fail "mounting the root"
version=$($busybox uname -r)
$busybox mkdir -p "/root/usr/lib/modules/$version"
$busybox mount -t 9p -o "$shared" modules "/root/usr/lib/modules/$version" || fail "mounting the modules"
for directory in proc sys dev; do
	$busybox mount --move "/$directory" "/root/$directory" || fail "moving /$directory"
done
# Sockets and namespaces of the host's run directory are not the guest's.
$busybox mount -t tmpfs -o mode=755 tmpfs /root/run || fail "mounting /run"
$busybox mkdir /root/run/guest
$busybox cp /bin/busybox /run.sh /command.sh /root/run/guest || fail "copying the command"
if [ -d /system ]; then
	$busybox mkdir -p /root/host
	$busybox mount --move /host /root/host || fail "moving the host's root"
	$busybox cp /guest.target /guest.service /root/etc/systemd/system || fail "copying the units"
	exec $busybox switch_root /root /lib/systemd/systemd
fi
exec $busybox switch_root /root /run/guest/busybox sh /run/guest/run.sh
