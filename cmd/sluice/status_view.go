package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
)

// statusView is a status as people see it.
type statusView struct {
	status  *control.Status
	reasons bool            // all of them, otherwise only a hint at drops
	rates   map[string]rate // by service; nil: without rates, empty: not known yet
}

func (v statusView) print(p *page) {
	s := v.status
	p.line("sluice %s, up %s, %s, %s; %s of %s slots in use", s.Version, age(time.Duration(s.Uptime)),
		plural(len(s.Services), "service"), v.backends(), number(float64(s.Tables.SlotsUsed)).text, number(float64(s.Tables.SlotsTotal)).text)
	v.printProblems(p)
	p.line("")
	v.printInterfaces(p)
	p.line("")
	v.printServices(p)
	v.printReasons(p)
}

// backends counts those of all services.
func (v statusView) backends() string {
	up, all := 0, 0
	for i := range v.status.Services {
		u, a := countUp(&v.status.Services[i])
		up, all = up+u, all+a
	}
	if up == all {
		return plural(all, "backend")
	}
	return number(float64(up)).text + " of " + plural(all, "backend") + " up"
}

func countUp(s *control.ServiceStatus) (up, all int) {
	for i := range s.Backends {
		if s.Backends[i].State == control.StateUp {
			up++
		}
	}
	return up, len(s.Backends)
}

// maxProblems are shown; a lost route can cause one for each of a thousand backends.
const maxProblems = 20

func (v statusView) printProblems(p *page) {
	problems := v.status.Problems
	for _, problem := range problems[:min(len(problems), maxProblems)] {
		p.line("%s %s", p.paint(red, "!"), problem)
	}
	if more := len(problems) - maxProblems; more > 0 {
		p.line("%s and %s more: `sluice status -o json` has them all", p.paint(red, "!"), plural(more, "problem"))
	}
}

func (v statusView) printInterfaces(p *page) {
	t := newTable("INTERFACE", "LINK", "XDP", "")
	for _, i := range v.status.Interfaces {
		link := cell{text: "up", style: green}
		if !i.Up {
			link = cell{text: "down", style: red}
		}
		t.add(i.Name, link, i.Mode, interfaceNotes(i))
	}
	p.table(t)
}

// interfaceNotes says why XDP is generic, and what shares the interface in which order.
func interfaceNotes(i dataplane.Interface) string {
	if len(i.Programs) == 0 {
		return i.Reason
	}
	var names []string
	for _, program := range i.Programs {
		names = append(names, fmt.Sprintf("%s (%d)", program.Name, program.Priority))
	}
	shared := "shared: " + strings.Join(names, ", ")
	if i.Reason == "" {
		return shared
	}
	return i.Reason + "; " + shared
}

func (v statusView) printServices(p *page) {
	if len(v.status.Services) == 0 {
		p.line(noServices)
		return
	}
	header := []string{"SERVICE", "ADDRESS", "MODE", "STATE", "UP", "NEW FLOWS", "PACKETS", "BYTES"}
	if v.rates != nil {
		header = append(header, "FLOWS/S", "PACKETS/S")
	}
	t := newTable(header...)
	for i := range v.status.Services {
		s := &v.status.Services[i]
		up, all := countUp(s)
		var flows, packets, bytes uint64
		for _, b := range s.Backends {
			flows, packets, bytes = flows+b.NewFlows, packets+b.Packets, bytes+b.Bytes
		}
		row := []any{
			s.Name, s.Key(), s.Mode, cell{text: string(s.State), style: stateStyle(s.State)},
			cell{text: number(float64(up)).text + "/" + number(float64(all)).text, right: true},
			number(float64(flows)), number(float64(packets)), number(float64(bytes)),
		}
		if v.rates != nil {
			row = append(row, v.rate(s.Name)...)
		}
		t.add(row...)
	}
	p.table(t)
}

func (v statusView) rate(service string) []any {
	rate, known := v.rates[service]
	if !known {
		return []any{cell{text: "-", right: true}, cell{text: "-", right: true}}
	}
	return []any{number(rate.newFlows), number(rate.packets)}
}

// dropPrefix is that of the names of reasons that mean a lost packet.
const dropPrefix = "drop_"

func (v statusView) printReasons(p *page) {
	drops := uint64(0)
	names := slices.SortedFunc(maps.Keys(v.status.Reasons), func(a, b string) int {
		return cmp.Or(cmp.Compare(v.status.Reasons[b], v.status.Reasons[a]), cmp.Compare(a, b))
	})
	t := newTable("REASON", "PACKETS")
	for _, name := range names {
		count := v.status.Reasons[name]
		how := plain
		if strings.HasPrefix(name, dropPrefix) && count > 0 {
			drops += count
			how = red
		}
		t.add(cell{text: name, style: how}, number(float64(count)))
	}
	switch {
	case v.reasons:
		p.line("")
		p.table(t)
	case drops > 0:
		p.line("")
		p.line("%s packets dropped: --reasons tells why", number(float64(drops)).text)
	}
}
