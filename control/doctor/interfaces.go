package doctor

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/sluicelb/sluice/dataplane"
)

// checkInterfaces wants every interface to be there, up, and attached to.
func checkInterfaces(p *patient) ([]Finding, error) {
	names, err := p.interfaces()
	if err != nil {
		return nil, err
	}
	var findings []Finding
	for _, name := range names {
		f := Finding{Severity: Error, Object: "interface " + name}
		link, err := netlink.LinkByName(name)
		switch {
		case errors.As(err, new(netlink.LinkNotFoundError)):
			f.Problem, f.Command = "there is no such interface", "ip link"
		case err != nil:
			return findings, err
		case link.Attrs().RawFlags&unix.IFF_UP == 0:
			f.Problem, f.Command = "it is down", fmt.Sprintf("ip link set dev %s up", name)
		case link.Attrs().RawFlags&unix.IFF_RUNNING == 0:
			f.Problem, f.Command = "it is up and has no carrier: its cable or its far end is down", "ethtool "+name
		case p.status != nil && !slices.ContainsFunc(p.status.Interfaces, func(i dataplane.Interface) bool { return i.Name == name && i.Index != 0 }):
			f.Problem, f.Command = "the daemon is not attached to it", "systemctl restart sluice"
		default:
			continue
		}
		findings = append(findings, f)
	}
	return findings, nil
}

// checkXDPMode wants the program in the driver.
func checkXDPMode(p *patient) ([]Finding, error) {
	var findings []Finding
	for _, i := range p.status.Interfaces {
		if i.Mode != dataplane.XDPGeneric {
			continue
		}
		f := Finding{
			Severity: Warning, Object: "interface " + i.Name, Command: "ethtool -i " + i.Name,
			Problem: fmt.Sprintf("XDP is generic, which is several times slower: %s", i.Reason),
		}
		if actions, err := xdpActions(i.Index); err == nil && actions&actBasic != 0 {
			f.Problem += "; the driver has native XDP (set xdp-mode: native)"
			f.Command = "sluice unload && systemctl restart sluice"
		}
		findings = append(findings, f)
	}
	return findings, nil
}

// checkXDPTransmit wants interfaces with native XDP to take frames from that of others. A veth end does so
// only while its far end polls: with an XDP program there, or with GRO.
func checkXDPTransmit(p *patient) ([]Finding, error) {
	var findings []Finding
	for _, i := range p.status.Interfaces {
		link, err := netlink.LinkByIndex(i.Index)
		if i.Mode != dataplane.XDPNative || err != nil {
			continue // one that is gone is another check's finding
		}
		if len(p.status.Interfaces) == 1 && link.Type() != "veth" {
			continue // what only sends back needs it on veth alone
		}
		actions, err := xdpActions(i.Index)
		if err != nil {
			return findings, err
		}
		if actions&actTransmit != 0 {
			continue
		}
		f := Finding{
			Severity: Error, Object: "interface " + i.Name, Command: "ethtool -i " + i.Name,
			Problem: "it takes no frames from XDP, so what is forwarded to it is lost",
		}
		if link.Type() == "veth" {
			f.Problem += ": the far end of this veth has neither GRO nor an XDP program"
			f.Command, f.On = "ethtool -K INTERFACE gro on", "the far end of "+i.Name
		}
		findings = append(findings, f)
	}
	return findings, nil
}

// What an interface can do for XDP (enum netdev_xdp_act in include/uapi/linux/netdev.h).
const (
	actBasic    = 1 << 0 // native programs that drop, pass and send back
	actTransmit = 1 << 2 // takes redirected frames
)

// xdpActions asks the kernel for them, by the netlink family "netdev" (Linux 6.3).
func xdpActions(index int) (uint64, error) {
	family, err := netlink.GenlFamilyGet("netdev")
	if err != nil {
		return 0, fmt.Errorf("this kernel does not tell what interfaces can do for XDP: %w", err)
	}
	// Numbers of the same header: NETDEV_CMD_DEV_GET, NETDEV_A_DEV_IFINDEX, NETDEV_A_DEV_XDP_FEATURES.
	const deviceGet, attributeIndex, attributeFeatures = 1, 1, 3
	request := nl.NewNetlinkRequest(int(family.ID), 0)
	// nl.Genlmsg leaves chance values in the header's reserved bytes, which this family refuses.
	header := []byte{deviceGet, 1, 0, 0}
	request.AddRawData(append(header, nl.NewRtAttr(attributeIndex, nl.Uint32Attr(uint32(index))).Serialize()...))
	messages, err := request.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return 0, err
	}
	for _, message := range messages {
		attributes, err := nl.ParseRouteAttr(message[nl.SizeofGenlmsg:])
		if err != nil {
			return 0, err
		}
		for _, a := range attributes {
			if a.Attr.Type == attributeFeatures && len(a.Value) == 8 {
				return nl.NativeEndian().Uint64(a.Value), nil
			}
		}
	}
	return 0, errors.New("this kernel does not tell what interfaces can do for XDP")
}
