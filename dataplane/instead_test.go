package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
)

// fullHost is a host whose service has all backends and all records that there are.
func fullHost(t *testing.T) (*testHost, Service) {
	options := testOptions(t)
	options.Limits.Services, options.Limits.Backends = 2, 2
	h := newTestHost(t, options)
	s := choosy()
	h.set(t, s)
	h.wantChoosy(t)
	return h, s
}

// At the limits everything of a service can be replaced all the same, and leaves nothing behind.
func TestReplacedAtTheLimits(t *testing.T) {
	h, s := fullHost(t)
	for name, test := range map[string]struct {
		change func(*Service)
		want   map[string]int // servers of clients
	}{
		"backends": {
			func(s *Service) {
				s.Backends[0].Address, s.Backends[1].Address = addr("198.51.100.13"), addr("198.51.100.14")
			},
			map[string]int{"192.0.2.9": 13, "192.0.2.70": 14, "192.0.2.98": 0},
		},
		"one backend": {
			func(s *Service) { s.Backends[1].Address = addr("198.51.100.15") },
			map[string]int{"192.0.2.9": 11, "192.0.2.70": 15, "192.0.2.98": 0},
		},
		"a set": {
			func(s *Service) { s.Backends[1].Set, s.Sources[0].Set = "other", "other" },
			map[string]int{"192.0.2.9": 11, "192.0.2.70": 12, "192.0.2.98": 0},
		},
		"the mode": {
			func(s *Service) { s.Mode = ModeIPIP },
			map[string]int{"192.0.2.98": 0},
		},
		"server IDs": {
			func(s *Service) { s.Backends[0].ServerID, s.Backends[1].ServerID = "\xca\xfe", "\x00\x01" },
			map[string]int{"192.0.2.9": 11, "192.0.2.70": 12},
		},
		"server IDs again": {
			func(s *Service) { s.Backends[0].ServerID, s.Backends[1].ServerID = "\x00\x02", "\x00\x03" },
			map[string]int{"192.0.2.9": 11, "192.0.2.70": 12},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.here(t)
			other := s
			other.Backends = append([]Backend(nil), s.Backends...)
			other.Sources = append([]SourceRule(nil), s.Sources...)
			test.change(&other)
			h.set(t, other)
			for client, server := range test.want {
				h.wantChosen(t, client, "payload", server)
			}
			h.set(t, s)
			h.wantChoosy(t)
			h.wantHeld(t, 3, 1, 2, 2)
		})
	}
}

// Where a service does not fit at all nothing has changed: neither backends nor the mode are taken out for what
// cannot take their place.
func TestTooLargeInstead(t *testing.T) {
	h, s := fullHost(t)
	for name, change := range map[string]func(*Service){
		"three other backends": func(s *Service) {
			s.Backends = nil
			for n := range 3 {
				s.Backends = append(s.Backends, Backend{Address: addr(fmt.Sprint("198.51.100.", 20+n)), Port: 80, Weight: 1})
			}
		},
		"another set, in another mode": func(s *Service) {
			s.Mode = ModeIPIP
			s.Sources = append(s.Sources[:3:3], SourceRule{Prefix: netip.MustParsePrefix("192.0.2.1/32"), Set: "more"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.here(t)
			other := s
			change(&other)
			if err := h.SetService(other); !errors.Is(err, ErrFull) {
				t.Fatalf("error is %v, want one of ErrFull", err)
			}
			h.wantChoosy(t)
			h.wantHeld(t, 3, 1, 2, 2)
		})
	}
}

// A verdict on a backend comes through also when its service is at the limits.
func TestHealthAtTheLimits(t *testing.T) {
	h, s := fullHost(t)
	s.Backends = append([]Backend(nil), s.Backends...)
	s.Backends[0] = Backend{Address: addr("198.51.100.13"), Port: 80, Weight: 100}
	s.Backends[1].Down = true
	h.set(t, s)
	h.wantChosen(t, "192.0.2.9", "payload", 13)
	h.wantChosen(t, "192.0.2.70", "payload", 0)
}
