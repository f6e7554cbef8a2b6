#!/usr/bin/env bash
# Makes a machine of the Vagrantfile what its name says: provision.sh NAME [SOURCE]
#
# SOURCE has the project, with sluice and pktgen built. It may be run again, and is run at every boot.
set -euo pipefail

name=$1 source=${2:-/vagrant}
network=192.168.56.0/24
balancer=192.168.56.10
vip=203.0.113.10 # on no network: the client has a route for it to the balancer

# The private network's interface; its name depends on the hypervisor.
interface=$(ip -o -4 address show to "$network" | awk '{print $2; exit}')
[ -n "$interface" ] || { echo "$name has no address of $network" >&2; exit 1; }

# need PROGRAM PACKAGE installs what is not there.
need() {
	command -v "$1" > /dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$2"; }
}

client() {
	need curl curl
	install -m 755 "$source/pktgen" /usr/local/bin/pktgen
	modprobe pktgen
	ip route replace "$vip/32" via "$balancer"
}

balancer() {
	need ethtool ethtool
	# Where XDP is generic, packets that were joined fit no MTU. A driver that cannot join has nothing to switch off.
	ethtool -K "$interface" gro off lro off || true
	install -m 755 "$source/sluice" /usr/bin/sluice
	install -d /etc/sluice
	printf 'interfaces: [%s]\nmetrics: {address: "%s:9433"}\n' "$interface" "$balancer" > /etc/sluice/sluice.yaml
	install -m 644 "$source/deploy/sluice.service" /etc/systemd/system/sluice.service
	systemctl daemon-reload
	systemctl enable -q sluice
	systemctl restart sluice # as after an upgrade: packets keep flowing
	sluice apply -f "$source/test/vagrant/services.yaml"
}

# The service's address is the backend's own too, which says nothing of it by ARP.
backend() {
	need busybox busybox
	sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
	ip address replace "$vip/32" dev lo
	install -m 755 "$source/sluice" /usr/bin/sluice
	sluice decap attach --interface "$interface" # for services of mode ipip and gue
	install -d /srv/www
	echo "$name" > /srv/www/index.html
	install -m 644 "$source/test/vagrant/web.service" /etc/systemd/system/web.service
	systemctl daemon-reload
	systemctl enable -q --now web
}

case $name in
client | balancer) "$name" ;;
backend*) backend ;;
*)
	echo "$name is no name of a machine" >&2
	exit 1
	;;
esac
