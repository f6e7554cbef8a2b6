package packets

import (
	"encoding/binary"

	"github.com/gopacket/gopacket/layers"
)

// linkHeaders is what comes before the IP header: VLAN tags, other EtherTypes, cut frames.
func linkHeaders() *group {
	l2, ipip, gue := plainWays[1], tunnelWays[0], tunnelWays[3]
	services := []service{l2.service("tcp", 4, 1, 1), l2.service("tcp", 6, 1, 1), ipip.service("tcp", 4, 2, 1), gue.service("tcp", 6, 2, 1)}
	g := newGroup("link", services...)
	for _, s := range services {
		for _, c := range []struct {
			name string
			tags []tag
		}{
			{"VLAN", []tag{vlan7}},
			{"VLAN with priority", []tag{{vlan7.kind, 7, 7}}},
			{"provider's VLAN", []tag{provider}},
			{"VLAN in provider's VLAN", []tag{provider, vlan7}},
			{"VLAN in VLAN", []tag{vlan8, vlan7}},
			{"priority tag", []tag{priority}},
			{"VLAN behind priority tag", []tag{priority, vlan7}},
		} {
			g.forwards(s.name+": "+c.name, s.request().with(func(p *packet) { p.tags = c.tags }), s)
		}
		g.forwards(s.name+": another MAC of this host", s.request().with(func(p *packet) { p.to = mac("02:00:00:00:00:03") }), s)
		for _, c := range []struct{ name, to string }{{"broadcast", "ff:ff:ff:ff:ff:ff"}, {"a multicast MAC", "01:00:5e:00:71:01"}} {
			p := s.request().with(func(p *packet) { p.to = mac(c.to) })
			g.passes(s.name+": to "+c.name, p.frame(), "pass_no_service")
			g.passes(s.name+": echo to "+c.name, s.echo(8).with(func(p *packet) { p.to = mac(c.to) }).frame(), "pass_no_service")
		}
		g.passes(s.name+": three VLANs", s.request().with(func(p *packet) { p.tags = []tag{provider, vlan8, vlan7} }).frame(), "pass_not_ip")
		g.cutLinks(s)
	}
	g.otherTypes(services[0])
	return g
}

// cutLinks adds frames that end in or after their link header.
func (g *group) cutLinks(s service) {
	tagged := s.request().with(func(p *packet) { p.tags = []tag{provider, vlan7} }).frame()
	plain := s.request().frame()
	g.passes(s.name+": Ethernet header alone", plain[:14], "pass_malformed").Malformed = true
	g.passes(s.name+": cut in the first tag", tagged[:16], "pass_malformed").Malformed = true
	g.passes(s.name+": cut in the second tag", tagged[:20], "pass_malformed").Malformed = true
	g.passes(s.name+": cut behind two tags", tagged[:22], "pass_malformed").Malformed = true
}

// otherTypes adds frames that are not IP.
func (g *group) otherTypes(s service) {
	arp := serialise(
		&layers.Ethernet{SrcMAC: routerMAC, DstMAC: mac("ff:ff:ff:ff:ff:ff"), EthernetType: layers.EthernetTypeARP},
		&layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, Operation: 1,
			SourceHwAddress: routerMAC, SourceProtAddress: addr(client4).AsSlice(),
			DstHwAddress: make([]byte, 6), DstProtAddress: s.address.AsSlice(),
		})
	g.passes("ARP request for the service", arp, "pass_not_ip")
	tagged := append(arp[:12:12], 0x81, 0, 0, 7)
	g.passes("ARP in a VLAN", append(tagged, arp[12:]...), "pass_not_ip")
	other := func(name string, kind uint16, payload []byte) {
		frame := binary.BigEndian.AppendUint16(s.request().frame()[:12], kind)
		g.passes(name, append(frame, payload...), "pass_not_ip").Malformed = true
	}
	ip := s.request().ip()
	other("LLDP", 0x88cc, []byte{2, 7, 4, 2, 0, 0, 0, 0, 1, 4, 2, 7, 'x', 6, 2, 0, 120, 0, 0})
	other("MPLS with IP inside", 0x8847, append([]byte{0, 1, 0x01, 64}, ip...))
	other("PPPoE with IP inside", 0x8864, append([]byte{0x11, 0, 0, 1, 0, byte(len(ip) + 2), 0, 0x21}, ip...))
	other("IEEE 802.3 length instead of a type", 40, append([]byte{0x42, 0x42, 3}, make([]byte, 37)...))
	other("experimental EtherType", 0x88b5, ip)
	other("old QinQ type 0x9100", 0x9100, append([]byte{0, 7, 8, 0}, ip...))
	other("EtherType 0", 0, ip)
}
