package doctor

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/sluicelb/sluice/dataplane"
)

// checkListeners looks for servers of this host that answer for a service: what XDP passes, such as
// fragments, would reach them.
func checkListeners(p *patient) ([]Finding, error) {
	own, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	local := make(map[netip.Addr]bool)
	for _, a := range own {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			local[prefix.Addr().Unmap()] = true
		}
	}
	var findings []Finding
	for i := range p.status.Services {
		s := &p.status.Services[i]
		if !local[s.Address] {
			continue
		}
		for _, l := range listening(s.Protocol) {
			if s.Port != l.Port() || l.Addr() != s.Address && !l.Addr().IsUnspecified() {
				continue
			}
			findings = append(findings, Finding{
				Severity: Warning, Object: "service " + s.Name, Command: fmt.Sprintf("ss -lnp 'sport = :%d'", s.Port),
				Problem: fmt.Sprintf("this host has its address too, and a server that listens on %s gets what XDP passes to the host", l),
			})
			break
		}
	}
	return findings, nil
}

// listening lists where this host listens, as of proc_pid_net(5).
func listening(protocol dataplane.Protocol) []netip.AddrPort {
	state := "0A" // TCP_LISTEN
	if protocol == dataplane.ProtocolUDP {
		state = "07" // unconnected
	}
	var all []netip.AddrPort
	for _, file := range []string{protocol.String(), protocol.String() + "6"} {
		text, _ := os.ReadFile("/proc/self/net/" + file) // not there without the protocol
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) < 4 || fields[3] != state {
				continue
			}
			if place, ok := parseSocketAddress(fields[1]); ok {
				all = append(all, place)
			}
		}
	}
	return all
}

// parseSocketAddress reads "0100007F:0050": words of the address in the host's byte order, and the port.
func parseSocketAddress(text string) (netip.AddrPort, bool) {
	address, port, _ := strings.Cut(text, ":")
	bytes, err1 := hex.DecodeString(address)
	number, err2 := strconv.ParseUint(port, 16, 16)
	if err1 != nil || err2 != nil || len(bytes)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for word := bytes; len(word) > 0; word = word[4:] {
		binary.NativeEndian.PutUint32(word, binary.BigEndian.Uint32(word))
	}
	a, ok := netip.AddrFromSlice(bytes)
	return netip.AddrPortFrom(a.Unmap(), uint16(number)), ok
}
