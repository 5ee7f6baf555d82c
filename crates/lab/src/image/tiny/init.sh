#!/bin/busybox sh
# First program of the tiny image: mounts the root from the iSCSI disk that the iBFT names, asks
# DHCP once as an operating system would, says so on the serial line, then runs commands from it.
/bin/busybox mkdir -p /proc /sys /dev /run /root /tmp
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo -onlcr

stop() {
	echo "DESS-TINY-FAILED $*"
	dmesg | tail -n 20
	poweroff -f
}

# Waits for a condition, at most $1 tenths of a second.
await() {
	tenths=$1
	shift
	until eval "$*"; do
		tenths=$((tenths - 1))
		[ "$tenths" -gt 0 ] || return 1
		usleep 100000
	done
}

if grep -q dess.trial /proc/cmdline; then
	echo DESS-TRIAL-UP
	poweroff -f
fi

while read -r module; do
	# Some are for CPU features that this machine may not have.
	insmod "/modules/$module" 2>/dev/null
done </modules/order

ibft=/sys/firmware/ibft
[ -e $ibft/ethernet0/mac ] || stop "no iBFT: the firmware did not boot from iSCSI"
mac=$(cat $ibft/ethernet0/mac)
for card in /sys/class/net/*; do
	[ "$(cat "$card/address")" = "$mac" ] && nic=${card##*/}
done
[ -n "$nic" ] || stop "no card has the iBFT's address $mac"
ip link set lo up
ip link set "$nic" up
ip addr add "$(cat $ibft/ethernet0/ip-addr)/24" dev "$nic"
await 100 "[ \"\$(cat /sys/class/net/$nic/carrier)\" = 1 ]" || stop "no link on $nic"

echo "DESS-TINY-LOGIN target=$(cat $ibft/target0/target-name)"
iscsistart -b >/tmp/iscsistart.log 2>&1 || { cat /tmp/iscsistart.log; stop "iSCSI login failed"; }
await 300 "[ -b /dev/sda3 ]" || stop "the iSCSI disk did not appear"
mount -t ext4 /dev/sda3 /root || stop "the root cannot be mounted"

boots=$(($(cat /root/boots 2>/dev/null || echo 0) + 1))
echo $boots >/root/boots
sync

# One exchange on the running card; the address that the firmware brought stays.
printf '#!/bin/sh\n[ "$1" = bound ] && echo "DESS-TINY-DHCP ip=$ip router=$router"\nexit 0\n' >/tmp/udhcpc
chmod +x /tmp/udhcpc
udhcpc -i "$nic" -n -q -t 8 -T 2 -s /tmp/udhcpc >/tmp/udhcpc.log 2>&1 || echo "DESS-TINY-NO-DHCP"
grep DESS-TINY-DHCP /tmp/udhcpc.log

echo "DESS-TINY-UP boots=$boots ip=$(cat $ibft/ethernet0/ip-addr) initiator=$(cat $ibft/initiator/initiator-name)"
cd /root || stop "no root"
while :; do
	while read -r id script; do
		echo "DESS-BEGIN $id"
		(eval "$script") </dev/null 2>&1
		status=$?
		echo
		echo "DESS-END $id $status"
	done
done
