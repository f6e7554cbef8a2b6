//go:build vm

package integration

import (
	"errors"
	"net"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/traffic"
)

// The tunnel devices of the kernel take off what Sluice puts around packets, in every pair of families.
func TestKernelTunnels(t *testing.T) {
	for _, w := range ways[4:] {
		t.Run(w.String(), func(t *testing.T) {
			s := newSite(t)
			for n, b := range s.backends {
				must(t, kernelTunnel(b, w, n))
			}
			s.serveWith(t, w, func(*testing.T, *lab.Host) {})
			s.apply(t, w.services(control.ProbeNone, all()...))
			request(t, traffic.HTTP(s.client, w.target(portHTTP), 1000), 100, backends)
			request(t, traffic.Datagram(s.client, w.target(portUDP), 1200), 100, backends)
			request(t, traffic.Transfer(s.client, w.target(portTCP), 1<<20), 4, 0)
			s.wantNoDrops(t)
		})
	}
}

// kernelTunnel prepares the devices of a backend: those that every namespace has for any sender, but for IPv6
// one that takes both families.
func kernelTunnel(b *lab.Host, w way, n int) error {
	device := map[string]string{"4 over 4": "tunl0", "6 over 4": "sit0"}[w.service+" over "+w.backend]
	errs := []error{
		b.Sysctl("net.ipv4.conf.all.rp_filter", "0"), b.Sysctl("net.ipv4.conf.default.rp_filter", "0"),
	}
	if device == "" {
		device = "tunnel"
		errs = append(errs, b.Netlink().LinkAdd(&netlink.Ip6tnl{
			LinkAttrs: netlink.LinkAttrs{Name: device}, Local: net.IP(backend6(n).AsSlice()), Remote: net.IPv6zero,
		}))
	}
	errs = append(errs, b.LinkUp(device), b.Sysctl("net.ipv4.conf."+device+".rp_filter", "0"))
	if w.mode == dataplane.ModeGUE {
		family := map[string]int{"4": unix.AF_INET, "6": unix.AF_INET6}[w.backend]
		errs = append(errs, b.Do(func() error { return listenGUE(family) }))
	}
	return errors.Join(errs...)
}

// listenGUE is `ip fou add port 6080 gue`. (The library's FouAdd names protocol 0, which the kernel refuses.)
func listenGUE(family int) error {
	fou, err := netlink.GenlFamilyGet(netlink.FOU_GENL_NAME)
	if err != nil {
		return err
	}
	request := nl.NewNetlinkRequest(int(fou.ID), unix.NLM_F_ACK)
	request.AddData(&nl.Genlmsg{Command: netlink.FOU_CMD_ADD, Version: 1})
	request.AddData(nl.NewRtAttr(netlink.FOU_ATTR_PORT, []byte{6080 >> 8, 6080 & 255}))
	request.AddData(nl.NewRtAttr(netlink.FOU_ATTR_TYPE, []byte{netlink.FOU_ENCAP_GUE}))
	request.AddData(nl.NewRtAttr(netlink.FOU_ATTR_AF, []byte{byte(family)}))
	_, err = request.Execute(unix.NETLINK_GENERIC, 0)
	return err
}
