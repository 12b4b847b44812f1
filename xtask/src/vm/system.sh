# What guest.service runs in a guest with systemd: the command, its exit code, and the end of the machine.
busybox=/run/guest/busybox
$busybox stty -F /dev/ttyS0 -opost
# Through a pipe: on a terminal, programs would print colours.
{
	/bin/sh /run/guest/command.sh </dev/null
	echo $? >/run/guest/code
} 2>&1 | $busybox cat >/dev/ttyS0
$busybox cat /run/guest/code >/dev/ttyS1
# All services end in order; the reset, with -no-reboot, ends QEMU. Messages about that do not belong to the output.
echo 0 >/proc/sys/kernel/printk
systemctl log-level warning
systemctl reboot
