#!/bin/sh
# Makes the Debian image's root directory: setup.sh ROOT SUITE MIRROR.
# Runs in a mount namespace of its own, so that no mount outlives it.
set -eu
root=$1 suite=$2 mirror=$3

# Before any package: the kernel's initramfs is then made once, and made right.
mkdir -p "$root/etc/initramfs-tools/conf.d" "$root/etc/initramfs-tools/hooks" "$root/etc/iscsi"
cat >"$root/etc/initramfs-tools/conf.d/lab" <<'END'
MODULES=list
COMPRESS=lz4
END
cat >"$root/etc/initramfs-tools/hooks/lab" <<'END'
#!/bin/sh
[ "$1" = prereqs ] && exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules e1000 virtio_net virtio_pci iscsi_ibft iscsi_tcp sd_mod ext4 crc32c_generic
END
chmod +x "$root/etc/initramfs-tools/hooks/lab"
echo ISCSI_AUTO=true >"$root/etc/iscsi/iscsi.initramfs"

debootstrap --variant=minbase \
	--include=systemd-sysv,udev,kmod,linux-image-amd64,initramfs-tools,lz4,busybox,open-iscsi,udhcpc,iproute2,e2fsprogs \
	"$suite" "$root" "$mirror"

cp -L "$root"/boot/vmlinuz-* "$root/boot/vmlinuz"
cp -L "$root"/boot/initrd.img-* "$root/boot/initramfs"
rm -f "$root"/boot/*-amd64 "$root"/vmlinuz* "$root"/initrd.img*

# What no client here has; keeps imports and the cache small.
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* \
	"$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/*
for modules in "$root"/lib/modules/*; do
	for unused in sound drivers/gpu drivers/media drivers/infiniband drivers/staging drivers/iio \
		drivers/net/wireless drivers/net/ethernet/mellanox drivers/isdn drivers/hid fs/xfs fs/btrfs; do
		rm -rf "$modules/kernel/$unused"
	done
	depmod -b "$root" "${modules##*/}"
done

echo pc >"$root/etc/hostname"
printf '127.0.0.1 localhost pc\n' >"$root/etc/hosts"
printf 'LABEL=debroot / ext4 defaults 0 1\nLABEL=data /data ext4 noauto 0 0\n' >"$root/etc/fstab"
mkdir -p "$root/data" "$root/var/lib/lab" "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=volatile\n' >"$root/etc/systemd/journald.conf.d/lab.conf"
# A fixed identity: no first-boot work on every volatile boot.
echo 5e55d15c000040008000000000000077 >"$root/etc/machine-id"

# No login prompts on the serial line (their vhangup would cut the agent off), and no work that
# only costs emulated time.
for unit in getty@tty1.service serial-getty@ttyS0.service getty.target \
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
	e2scrub_reap.service fstrim.timer systemd-pstore.service systemd-update-utmp.service \
	systemd-update-utmp-runlevel.service dev-hugepages.mount dev-mqueue.mount \
	sys-kernel-debug.mount sys-kernel-tracing.mount modprobe@drm.service modprobe@fuse.service \
	modprobe@configfs.service sys-fs-fuse-connections.mount sys-kernel-config.mount \
	systemd-binfmt.service systemd-hwdb-update.service; do
	ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

# The initiator's name is the PC's, not the golden image's: iscsid takes it from the firmware.
mkdir -p "$root/etc/systemd/system/iscsid.service.d"
cat >"$root/etc/systemd/system/iscsid.service.d/lab.conf" <<'END'
[Service]
ExecStartPre=/bin/sh -c 'printf "InitiatorName=%%s\n" "$(cat /sys/firmware/ibft/initiator/initiator-name)" >/etc/iscsi/initiatorname.iscsi'
END
cat >"$root/etc/systemd/system/lab-agent.service" <<'END'
[Unit]
Description=Commands over the serial line
After=multi-user.target iscsid.service
[Service]
ExecStart=/usr/local/sbin/lab-agent
Restart=always
[Install]
WantedBy=multi-user.target
END
ln -sf ../lab-agent.service "$root/etc/systemd/system/multi-user.target.wants/lab-agent.service"

cat >"$root/usr/local/sbin/lab-agent" <<'END'
#!/bin/sh
# Counts the boot, asks DHCP once as an operating system would, says that the system is up, then
# runs commands from the serial line.
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo -onlcr
cd /root
ibft=/sys/firmware/ibft
if [ ! -e /run/lab-counted ]; then
	boots=$(($(cat /var/lib/lab/boots 2>/dev/null || echo 0) + 1))
	echo $boots >/var/lib/lab/boots
	sync
	touch /run/lab-counted
	for card in /sys/class/net/*; do
		[ "$(cat "$card/address")" = "$(cat $ibft/ethernet0/mac)" ] && nic=${card##*/}
	done
	# One exchange on the running card; the address that the firmware brought stays.
	udhcpc -i "$nic" -n -q -t 8 -T 2 -s /bin/true >/run/lab-udhcpc.log 2>&1 || echo DESS-DEBIAN-NO-DHCP
	echo "DESS-DEBIAN-UP boots=$boots ip=$(cat $ibft/ethernet0/ip-addr) initiator=$(cat $ibft/initiator/initiator-name)"
fi
while read -r id script; do
	echo "DESS-BEGIN $id"
	(eval "$script") </dev/null 2>&1
	status=$?
	echo
	echo "DESS-END $id $status"
done
END

cat >"$root/usr/local/bin/lab-write" <<'END'
#!/usr/bin/perl
# lab-write FILE COUNT: writes numbered 512-byte records, each with fsync; only then says so.
use strict; use warnings; use IO::Handle;
my ($path, $count) = @ARGV;
open(my $file, '>', $path) or die "$path: $!";
STDOUT->autoflush(1);
for my $number (1 .. $count) {
	syswrite($file, sprintf("%-511d\n", $number)) == 512 or die "write $number: $!";
	$file->sync or die "fsync $number: $!";
	print "DESS-ACK $number.\n";
}
END
cat >"$root/usr/local/bin/lab-verify" <<'END'
#!/usr/bin/perl
# lab-verify FILE COUNT: fails unless the first COUNT records of lab-write are there and whole.
use strict; use warnings;
my ($path, $count) = @ARGV;
open(my $file, '<', $path) or die "$path: $!";
for my $number (1 .. $count) {
	my $len = read($file, my $record, 512);
	defined $len && $len == 512 && $record eq sprintf("%-511d\n", $number)
		or die "record $number of $count is not there\n";
}
print "$count records\n";
END
chmod +x "$root"/usr/local/sbin/lab-agent "$root"/usr/local/bin/lab-write "$root"/usr/local/bin/lab-verify
# Nothing in /usr is newer than what the boot-time update jobs have seen.
touch "$root/etc/.updated" "$root/var/.updated"
