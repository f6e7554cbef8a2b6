package packets

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/gopacket/gopacket/layers"
)

// group is one capture under one configuration.
type group struct {
	Name   string     `json:"-"`
	Config string     `json:"-"`
	Cases  []testCase `json:"cases"`
	Spread []spread   `json:"spread,omitempty"`
}

// spread asks that some cases do not all have the same backend.
type spread struct {
	Cases   []string `json:"cases"`
	AtLeast int      `json:"at-least"` // different backends
}

func newGroup(name string, services ...service) *group {
	g := &group{Name: name, Config: "services:\n"}
	for _, s := range services {
		g.Config += s.yaml()
	}
	return g
}

func (g *group) add(c testCase) *testCase {
	if slices.ContainsFunc(g.Cases, func(other testCase) bool { return other.Name == c.Name }) {
		panic(fmt.Sprintf("%s has two cases %q", g.Name, c.Name))
	}
	g.Cases = append(g.Cases, c)
	return &g.Cases[len(g.Cases)-1]
}

// passes expects that the host gets the frame as it is.
func (g *group) passes(name string, frame []byte, reasons ...string) *testCase {
	return g.add(testCase{Name: name, frame: frame, Action: "pass", Reason: reasons})
}

func (g *group) drops(name string, p packet, s service, reason string) *testCase {
	return g.add(testCase{Name: name, frame: p.frame(), Action: "drop", Reason: []string{reason}, Service: s.name, BadChecksum: p.badChecksum})
}

// answers expects that Sluice sends something itself.
func (g *group) answers(name string, p packet, reason string, out []byte) *testCase {
	return g.add(testCase{
		Name: name, frame: p.frame(), Action: "tx", Reason: []string{reason},
		Frames: map[string]string{"": hex.EncodeToString(out)}, BadChecksum: p.badChecksum,
	})
}

// forwards expects that the packet reaches one of the service's servers with these names, all when none is
// named, as the service's mode says.
func (g *group) forwards(name string, p packet, s service, servers ...string) *testCase {
	return g.forwardsAs(name, p, p, s, servers...)
}

// forwardsAs is forwards for a packet that is changed otherwise too: sent is what the mode then changes.
func (g *group) forwardsAs(name string, p, sent packet, s service, servers ...string) *testCase {
	c := testCase{
		Name: name, frame: p.frame(), Action: "tx", Reason: []string{forwarded}, Service: s.name,
		Frames: map[string]string{}, BadChecksum: p.badChecksum,
	}
	for _, b := range s.servers {
		if len(servers) == 0 || slices.Contains(servers, b.name) {
			out := s.towards(b, sent)
			c.Frames[b.name] = hex.EncodeToString(out.frame())
			c.Free = out.free(s.mode)
		}
	}
	return g.add(c)
}

// free are the fields of a packet to a backend that a hash decides.
func (p packet) free(mode string) []field {
	switch {
	case mode == "nat" && (p.part == nil || p.part.offset == 0):
		return []field{p.portField(0)}
	case p.outer == nil:
		return nil
	case p.outer.source.Is6() && p.outer.gue:
		return []field{{Kind: "flow-label", At: 14}, {Kind: "gue-port", At: 14 + 40}}
	case p.outer.source.Is6():
		return []field{{Kind: "flow-label", At: 14}}
	case p.outer.gue:
		return []field{{Kind: "gue-port", At: 14 + 20}}
	}
	return nil
}

// portField is the source port of an untagged or tagged frame, or at the offset 2 the destination port.
func (p packet) portField(offset int) field {
	l4 := 14 + 4*len(p.tags) + p.headerLength()
	f := field{Kind: "nat-port", At: l4 + offset}
	switch {
	case p.protocol == layers.IPProtocolTCP:
		f.Checksum = l4 + 16
	case !p.noChecksum:
		f.Checksum, f.UDP = l4+6, true
	}
	return f
}

// replies expects that what the backend answers to the request of an earlier case reaches the client.
func (g *group) replies(name, earlier string, s service, b server, in, out packet) *testCase {
	return g.add(testCase{
		Name: name, frame: in.frame(), Action: "tx", Reason: []string{toClient}, Service: s.name,
		Frames: map[string]string{b.name: hex.EncodeToString(out.frame())},
		Learn:  &learned{Case: earlier, Fields: []field{in.portField(2)}}, BadChecksum: in.badChecksum,
	})
}

// quote is the beginning of a packet, as routers quote it: headers and n bytes.
func (p packet) quote(n int) []byte {
	return p.ip()[:p.headerLength()+n]
}

// icmpError is an ICMP error from a router to an address about a packet, of which n bytes behind the IP header
// are quoted.
func (p packet) icmpError(to, router string, kind, code uint8, n int) packet {
	e := packet{
		from: routerMAC, to: hostMAC, source: addr(router), target: addr(to), ttl: 64, id: 9,
		protocol: layers.IPProtocolICMPv4, kind: kind, code: code,
	}
	if p.source.Is6() {
		e.protocol = layers.IPProtocolICMPv6
	}
	word := make([]byte, 4)
	if e.tellsMTU() {
		binary.BigEndian.PutUint32(word, 1400)
	}
	e.payload = append(word, p.quote(n)...)
	return e
}

func (p packet) tellsMTU() bool {
	return p.source.Is4() && p.kind == 3 && p.code == 4 || p.source.Is6() && p.kind == 2
}

// tooBig is what Sluice answers to a packet for which the MTU would have to be greater: the first 128 bytes.
func (p packet) tooBig(mtu int) []byte {
	e := packet{
		from: p.to, to: p.from, tags: p.tags, source: p.target, target: p.source, ttl: 64, mayFragment: true,
		protocol: layers.IPProtocolICMPv4, kind: 3, code: 4,
	}
	if p.source.Is6() {
		e.protocol, e.kind, e.code = layers.IPProtocolICMPv6, 2, 0
		e.edit = func(ip []byte) []byte {
			binary.BigEndian.PutUint32(ip, 6<<28) // no flow label
			return ip
		}
	}
	e.payload = append(binary.BigEndian.AppendUint32(nil, uint32(mtu)), p.ip()[:128]...)
	return e.frame()
}

// echoed is Sluice's answer to an echo request: only what must differ does.
func (p packet) echoed() []byte {
	p.from, p.to, p.source, p.target, p.ttl = p.to, p.from, p.target, p.source, 64
	if p.source.Is4() {
		p.kind = 0
	} else {
		p.kind = 129
	}
	return p.frame()
}

// family says what differs between a group's cases of IPv4 and of IPv6.
func family(s service) string {
	if s.address.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// names are the names of n cases that begin alike.
func names(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = number(prefix, i+1)
	}
	return all
}

// title joins the words that name a case.
func title(words ...string) string {
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " ")
}
