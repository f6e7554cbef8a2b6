#!/usr/bin/env bash
# Runs tests, or something else, under another kernel: run.sh KERNEL JOB
#
# KERNEL is a flavour of Debian's kernels: cloud (that of the release) or 6.12-cloud (backports). JOB is a folder
# that becomes /job in a virtual machine. Its file "tests" has a line for each test binary: a folder, the binary
# in it, and its arguments. Without it the file "command" is run, a script. Exits with 0 when all passed, 1 when one
# failed, 124 when the time was up (VM_SECONDS), 125 when the machine ended without a verdict. VM_ACCEL=tcg emulates
# where KVM would work.
set -euo pipefail

kernel=$1 job=$(realpath "$2")
seconds=${VM_SECONDS:-7200}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice-vm
tools="xdp-loader xdp-filter ipvsadm" objects=(libxdp1 xdp-tools)
modules="nfnetlink xfrm_user veth bridge tun 8021q ipip sit ip6_tunnel fou fou6 sch_ingress cls_bpf pktgen ip_vs ip_vs_mh"

say() { echo "vm: $*" >&2; }

# The kernel's package, unpacked and never installed. Its name has a number that grows, so the meta package is asked.
package=$(apt-cache depends "linux-image-$kernel-amd64" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -1)
[ -n "$package" ] || { say "apt knows no linux-image-$kernel-amd64: run apt-get update, or add the backports"; exit 2; }
version=${package#linux-image-}
root=$cache/$version
if [ ! -e "$root/complete" ]; then
	say "downloading $package"
	rm -rf "$root" && mkdir -p "$root"
	(cd "$root" && apt-get -qq -o APT::Sandbox::User=root download "$package" && dpkg -x ./*.deb . && rm -f ./*.deb)
	depmod -b "$root" "$version"
	touch "$root/complete"
fi

# The first file system: a static shell, the modules in the order in which they depend on one another, the job.
tree=$(mktemp -d) && trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree"/{bin,proc,sys,dev,run,tmp,modules}
cp "$(command -v busybox)" "$tree/bin/busybox"
for applet in sh mount ip insmod cat echo sed grep tail wc sync reboot sleep; do ln -s busybox "$tree/bin/$applet"; done
# Programs of Debian that tests run, with what they load, in the places where they look for it.
for tool in $tools; do
	cp -L --parents "$(command -v "$tool")" "$tree"
	ldd "$(command -v "$tool")" | grep -o '/[^ ]*' | xargs cp -L --parents -t "$tree"
done
dpkg -L "${objects[@]}" | grep '\.o$' | xargs cp --parents -t "$tree"
number=1000
for module in $modules; do
	modprobe -d "$root" -S "$version" --show-depends "$module" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
done | awk '!seen[$0]++' | while read -r file; do
	number=$((number + 1))
	case $file in
	*.xz) xz -dc "$file" > "$tree/modules/$number-$(basename "$file" .xz)" ;;
	*) cp "$file" "$tree/modules/$number-$(basename "$file")" ;;
	esac
done
cp -r "$job" "$tree/job"
cat > "$tree/init" <<'INIT'
#!/bin/sh
export PATH=/bin:/sbin:/usr/sbin:/usr/bin HOME=/tmp TMPDIR=/tmp SLUICE_BINARY=/job/sluice
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp; mount -t tmpfs run /run; mount -t bpf bpf /sys/fs/bpf
exec </dev/console >/dev/console 2>&1
for module in /modules/*; do
	case $module in
	*-ip_vs.ko) set -- conn_tab_bits=18 ;; # as many buckets as connections are compared with
	*) set -- ;;
	esac
	insmod "$module" "$@" || echo "vm: $module does not load"
done
ip link set lo up
ulimit -n 65536; ulimit -l unlimited
if [ ! -e /job/tests ]; then
	cd /job
	sh ./command
	echo "verdict $?" > /dev/ttyS1
	sync; reboot -f
fi
failed=0 passed=0
while read -r folder binary arguments; do
	cd "/job/$folder"
	if "./$binary" -test.v $arguments > /tmp/log 2>&1; then
		count=$(grep -c '^ *--- PASS' /tmp/log)
		passed=$((passed + count))
		echo "vm: ok $folder, $count tests"
	else
		failed=1
		echo "vm: FAILED $folder"
		grep -v '^=== \|^ *--- PASS' /tmp/log | tail -n 60
	fi
	grep '^ *--- SKIP' /tmp/log && failed=1
done < /job/tests
echo "vm: $passed tests passed on Linux $(sed 's/Linux version \([^ ]*\).*/\1/' /proc/version)"
echo "verdict $failed" > /dev/ttyS1
sync; reboot -f
INIT
chmod +x "$tree/init"
(cd "$tree" && find . | busybox cpio -o -H newc 2>/dev/null) | gzip -1 > "$tree.img"
trap 'rm -rf "$tree" "$tree".*' EXIT

# boot ACCELERATOR SECONDS IMAGE [MEMORY] prints the machine's console.
boot() {
	: > "$tree.verdict"
	timeout -k 10 "$2" qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot -M q35 \
		-accel "$1" -cpu max -smp 2 -m "${4:-3072}" -kernel "$root/boot/vmlinuz-$version" -initrd "$3" \
		-append "console=ttyS0 quiet panic=-1" -chardev stdio,id=console,signal=off -serial chardev:console \
		-serial "file:$tree.verdict" < /dev/null | sed -u 's/\r$//'
}

# A machine ends with exit code 0 even when its kernel panics, so only what the guest writes counts.
verdict() { sed -n 's/^verdict \([0-9]*\).*/\1/p' "$tree.verdict"; }

# That /dev/kvm opens proves nothing: KVM is used when a machine boots with it.
kvm_works() {
	[ -w /dev/kvm ] || return 1
	mkdir -p "$tree.probe"/{bin,dev} && cp "$tree/bin/busybox" "$tree.probe/bin"
	cat > "$tree.probe/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
echo "verdict 0" > /dev/ttyS1
/bin/busybox reboot -f
INIT
	chmod +x "$tree.probe/init"
	(cd "$tree.probe" && find . | busybox cpio -o -H newc 2>/dev/null) | gzip -1 > "$tree.probe.img"
	boot kvm 10 "$tree.probe.img" 512 > /dev/null 2>&1 || true
	[ "$(verdict)" = 0 ]
}

accelerator=${VM_ACCEL:-tcg}
[ -n "${VM_ACCEL:-}" ] || ! kvm_works || accelerator=kvm
say "booting Linux $version ($accelerator), at most $seconds s"
status=0
boot "$accelerator" "$seconds" "$tree.img" || status=$?
[ "$status" -ne 124 ] || { say "the time is up"; exit 124; }
verdict=$(verdict)
[ -n "$verdict" ] || { say "the machine ended without a verdict"; exit 125; }
exit "$verdict"
