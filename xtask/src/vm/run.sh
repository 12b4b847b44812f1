# The rest of the first process, in the guest's root: the command, its exit code, and the end of the machine.
busybox=/run/guest/busybox
modprobe=@MODPROBE@
$busybox mkdir -p /dev/pts /dev/shm /run/lock
$busybox mount -t devpts devpts /dev/pts
$busybox mount -t tmpfs tmpfs /dev/shm
$busybox mount -t bpf bpf /sys/fs/bpf
$busybox mount -t securityfs securityfs /sys/kernel/security
$busybox mount -t tracefs tracefs /sys/kernel/tracing
$busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
$busybox ln -sf /proc/self/fd /dev/fd
# The kernel loads modules by this program.
echo "$modprobe" >/proc/sys/kernel/modprobe
# Device files that load their module when opened, such as /dev/net/tun: "tun net/tun c10:200".
while read -r module node number; do
	case $module in '#'*) continue ;; esac
	case $node in */*) $busybox mkdir -p "/dev/${node%/*}" ;; esac
	major=${number%:*}
	[ -e "/dev/$node" ] || $busybox mknod "/dev/$node" "${number%%[0-9]*}" "${major#?}" "${number#*:}"
done <"/lib/modules/$($busybox uname -r)/modules.devname"
# Network cards, and the port through which QEMU unplugs their cables: the guest has no udev to load their modules.
aliases=
for class in /sys/bus/pci/devices/*/class; do
	read -r number <"$class"
	case $number in 0x02*) aliases="$aliases $($busybox cat "${class%class}modalias")" ;; esac
done
[ -z "$aliases" ] || "$modprobe" -aq $aliases $($busybox cat /sys/bus/virtio/devices/*/modalias)
$busybox ip link set lo up
$busybox stty -F /dev/ttyS0 -opost
# Through a pipe: on a terminal, programs would print colours.
{
	/bin/sh /run/guest/command.sh </dev/null
	echo $? >/run/guest/code
} 2>&1 | $busybox cat >/dev/ttyS0
$busybox cat /run/guest/code >/dev/ttyS1
# Closing waited until all was sent; a reset, with -no-reboot, ends QEMU. The kernel's last messages do not belong to the output.
echo 0 >/proc/sys/kernel/printk
$busybox reboot -f
