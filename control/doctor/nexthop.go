package doctor

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/sluicelb/sluice/dataplane"
)

// checkNextHops wants the daemon to know where to send the packets of every backend, and backends of l2
// services to be there.
func checkNextHops(p *patient) ([]Finding, error) {
	var findings []Finding
	for _, at := range p.places() {
		hop := at.backend.NextHop
		switch {
		case !hop.Resolved:
			findings = append(findings, Finding{
				Severity: Error, Object: at.String(), Command: at.wayOut(),
				Problem: cmp.Or(hop.Reason, "its next hop is not known yet"),
			})
		case at.farL2():
			findings = append(findings, Finding{
				Severity: Error, Object: at.String(), Command: fmt.Sprintf("sluice service set %s --mode ipip", at.service.Name),
				Problem: fmt.Sprintf("it is behind the router %s, which does not know whose packets these are: mode l2 needs a common link", hop.Gateway),
			})
		}
	}
	return findings, nil
}

// farL2 says whether packets for a backend of an l2 service would go to a router instead.
func (p place) farL2() bool {
	return p.service.Mode == dataplane.ModeL2 && p.backend.NextHop.Gateway.IsValid()
}

// wayOut is the command for an unresolved next hop. The reasons are those of package nexthop.
func (p place) wayOut() string {
	hop, address := p.backend.NextHop, p.backend.Address
	name, down := strings.CutSuffix(strings.TrimPrefix(hop.Reason, "interface "), " is down")
	switch {
	case down:
		return fmt.Sprintf("ip link set dev %s up", name)
	case strings.HasPrefix(hop.Reason, "no route to "):
		return fmt.Sprintf("ip route add %s/%d via ROUTER", address, address.BitLen())
	case strings.HasPrefix(hop.Reason, "no answer to "):
		if hop.Gateway.IsValid() {
			address = hop.Gateway
		}
		return fmt.Sprintf("ping -c 1 -I %s %s", hop.Interface, address)
	}
	return fmt.Sprintf("ip route get %s", address)
}
