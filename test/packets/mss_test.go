package packets

import (
	"encoding/binary"
	"fmt"
)

// mss is the option of TCP.
func mss(n int) []byte { return binary.BigEndian.AppendUint16([]byte{2, 4}, uint16(n)) }

// after puts an option behind others.
func after(option []byte, others ...byte) []byte { return append(others, option...) }

// segmentSizes is SYNs whose largest segment is too big for the way to the backend.
func segmentSizes() *group {
	var services []service
	var titles []string
	var limits []int
	for _, family := range []int{4, 6} {
		headers := map[int]int{4: 40, 6: 60}[family]
		for i, w := range allWays {
			automatic, fixed := w.service("tcp", family, 2*i+1, 1), w.service("tcp", family, 2*i+2, 1)
			automatic.extra, fixed.extra = []string{"clamp-mss: auto"}, []string{"clamp-mss: 1200"}
			services = append(services, automatic, fixed)
			titles = append(titles, fmt.Sprintf("%s, IPv%d, auto: ", w, family), fmt.Sprintf("%s, IPv%d, 1200: ", w, family))
			limits = append(limits, largest(w)-headers, 1200)
		}
	}
	off := plainWays[1].service("tcp", 4, 20, 1)
	g := newGroup("mss", append(services, off)...)
	for i, s := range services {
		g.clamped(titles[i], s, limits[i])
		g.unclamped(titles[i], s, limits[i])
		if s.mode == "nat" {
			g.clampedReplies(titles[i], s, limits[i])
		}
	}
	g.forwards("off", off.request().with(func(p *packet) { p.tcpOptions = mss(65535) }), off)
	return g
}

// clamped adds SYNs that are changed, with the option in various places.
func (g *group) clamped(title string, s service, limit int) {
	for i, c := range []struct {
		name    string
		options func(n int) []byte
		value   int
	}{
		{"one too many", mss, limit + 1},
		{"jumbo frames", mss, 8960},
		{"highest", mss, 65535},
		{"at an odd offset", func(n int) []byte { return append(after(mss(n), 1), 1, 1, 0) }, 8960},
		{"behind two bytes", func(n int) []byte { return after(mss(n), 1, 1, 1, 1) }, 8960},
		{"behind other options", func(n int) []byte {
			return after(mss(n), 4, 2, 1, 3, 3, 7, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0)
		}, 8960},
		{"before other options", func(n int) []byte {
			return append(mss(n), 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7)
		}, 8960},
	} {
		in := s.request().fromPort(uint16(40000 + i)).with(func(p *packet) { p.tcpOptions = c.options(c.value) })
		g.forwardsAs(title+c.name, in, in.with(func(p *packet) { p.tcpOptions = c.options(limit) }), s)
	}
	tagged := s.request().fromPort(40101).with(withOptions).with(func(p *packet) { p.tags, p.tcpOptions = []tag{provider, vlan7}, mss(9000) })
	g.forwardsAs(title+"behind options or extension headers", tagged, tagged.with(func(p *packet) { p.tcpOptions = mss(limit) }), s)
	in := s.request().fromPort(40100).with(func(p *packet) { p.flags, p.tcpOptions = "SEC", mss(9000) }).carrying(101)
	g.forwardsAs(title+"with data and ECN", in, in.with(func(p *packet) { p.tcpOptions = mss(limit) }), s)
}

// unclamped adds packets that stay as they are.
func (g *group) unclamped(title string, s service, limit int) {
	for i, c := range []struct {
		name      string
		flags     string
		options   []byte
		malformed bool
	}{
		{"just right", "S", mss(limit), false},
		{"one less", "S", mss(limit - 1), false},
		{"lowest", "S", mss(536), false},
		{"none", "S", nil, false},
		{"other options alone", "S", []byte{4, 2, 1, 1, 1, 3, 3, 7}, false},
		{"not a SYN", "A", mss(8960), false},
		{"RST", "R", mss(8960), false},
		{"behind the end of the options", "S", after(mss(8960), 0, 0, 0, 0), true},
		{"option of 3 bytes", "S", []byte{2, 3, 35, 0, 0, 0, 0, 0}, true},
		{"option of 0 bytes", "S", []byte{99, 0, 2, 4, 35, 0, 0, 0}, true},
		{"option that ends behind the header", "S", []byte{1, 1, 2, 4}, true},
		{"kind alone at the end", "S", []byte{1, 1, 1, 2}, true},
	} {
		p := s.request().fromPort(uint16(40200 + i)).with(func(p *packet) { p.flags, p.tcpOptions = c.flags, c.options })
		g.forwards(title+c.name, p, s).Malformed = c.malformed
	}
}

// clampedReplies adds what backends answer to SYNs.
func (g *group) clampedReplies(title string, s service, limit int) {
	request := s.request().fromPort(40300)
	opened := title + "SYN"
	g.forwards(opened, request, s)
	announcing := func(flags string, n int) func(*packet) {
		return func(p *packet) { p.flags, p.tcpOptions, p.payload = flags, mss(n), nil }
	}
	b := s.servers[0]
	reply, answer := s.reply(b, request), s.answer(b, request)
	for _, c := range []struct {
		name      string
		flags     string
		from, put int
	}{
		{"SYN and ACK of jumbo frames", "SA", 8960, limit}, {"SYN and ACK just right", "SA", limit, limit},
		{"SYN and ACK of less", "SA", 536, 536}, {"ACK of the backend", "A", 8960, 8960},
	} {
		g.replies(title+c.name, opened, s, b, reply.with(announcing(c.flags, c.from)), answer.with(announcing(c.flags, c.put)))
	}
}
