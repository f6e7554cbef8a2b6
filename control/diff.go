package control

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/sluicelb/sluice/dataplane"
)

// pair is an object before and after a change; one of both may be nil.
type pair[T any] struct{ before, after *T }

// match pairs the objects that are the same by the first identity that says so, and gives what is left
// alone: first the pairs with an after, in its order, then those that are gone.
func match[T any](before, after []T, identities ...func(*T) any) []pair[T] {
	result := make([]pair[T], len(after))
	for i := range after {
		result[i].after = &after[i]
	}
	left := make([]*T, len(before))
	for i := range before {
		left[i] = &before[i]
	}
	for _, identity := range identities {
		at := make(map[any]int, len(left))
		for i, object := range left {
			if object != nil {
				at[identity(object)] = i
			}
		}
		for i := range result {
			if j, known := at[identity(result[i].after)]; known && result[i].before == nil {
				result[i].before, left[j] = left[j], nil
				delete(at, identity(result[i].after))
			}
		}
	}
	for _, object := range left {
		if object != nil {
			result = append(result, pair[T]{before: object})
		}
	}
	return result
}

// pairs matches services by name, then by key: a service that only has another name is the same.
func pairs(before, after []Service) []pair[Service] {
	return match(before, after,
		func(s *Service) any { return s.Name },
		func(s *Service) any { return s.Key() })
}

// difference says what turns one desired state into another, in the order of the names.
func difference(before, after []Service) []Change {
	var changes []Change
	services := pairs(before, after)
	slices.SortStableFunc(services, func(a, b pair[Service]) int {
		return cmp.Compare(cmp.Or(a.after, a.before).Name, cmp.Or(b.after, b.before).Name)
	})
	for _, p := range services {
		switch {
		case p.before == nil:
			changes = append(changes, Change{ActionCreate, KindService, p.after.Name, p.after.summary()})
		case p.after == nil:
			changes = append(changes, Change{ActionRemove, KindService, p.before.Name, p.before.summary()})
		case !p.before.equal(p.after):
			if detail := p.after.changesSince(p.before); detail != "" {
				changes = append(changes, Change{ActionUpdate, KindService, p.after.Name, detail})
			}
			changes = append(changes, backendChanges(p.before, p.after)...)
		}
	}
	return changes
}

// backendChanges matches by place, then by name: a backend that moves to another address keeps its name.
func backendChanges(before, after *Service) []Change {
	var changes []Change
	for _, p := range match(before.Backends, after.Backends,
		func(b *Backend) any { return b.place() },
		func(b *Backend) any { return b.Name }) {
		name := after.Name + "/" + cmp.Or(p.after, p.before).Name
		switch {
		case p.before == nil:
			changes = append(changes, Change{ActionCreate, KindBackend, name, p.after.summary()})
		case p.after == nil:
			changes = append(changes, Change{ActionRemove, KindBackend, name, p.before.summary()})
		default:
			if detail := p.after.changesSince(p.before); detail != "" {
				changes = append(changes, Change{ActionUpdate, KindBackend, name, detail})
			}
		}
	}
	return changes
}

func (s *Service) summary() string {
	plural := "s"
	if len(s.Backends) == 1 {
		plural = ""
	}
	return fmt.Sprintf("%s %s, %d backend%s", s.Key(), s.Mode, len(s.Backends), plural)
}

func (b *Backend) summary() string {
	text := fmt.Sprintf("%s weight %d", b.defaultName(true), *b.Weight)
	if b.State != StateUp {
		text += " state " + string(b.State)
	}
	return text
}

func (s *Service) changesSince(before *Service) string {
	var d details
	d.add("name", before.Name, s.Name)
	d.add("address", before.Key(), s.Key())
	d.add("mode", *before.Mode, *s.Mode)
	d.probe(before.Probe, s.Probe)
	d.fields("health", before.Health, s.Health)
	d.fields("load", before.Load, s.Load)
	d.fields("scaling", before.Scaling, s.Scaling)
	d.add("hash", before.Hash, s.Hash)
	d.add("clamp-mss", before.ClampMSS, s.ClampMSS)
	d.add("quic", orOff(before.QUIC), orOff(s.QUIC))
	d.add("limit", orOff(before.Limit), orOff(s.Limit))
	d.add("policy", before.Policy, s.Policy)
	d.add("tracking", before.Tracking, s.Tracking)
	d.sources(before.Sources, s.Sources)
	return strings.Join(d, ", ")
}

func (b *Backend) changesSince(before *Backend) string {
	var d details
	d.add("name", before.Name, b.Name)
	d.add("address", before.defaultName(true), b.defaultName(true))
	d.add("weight", *before.Weight, *b.Weight)
	d.add("state", before.State, b.State)
	d.probe(before.Probe, b.Probe)
	d.add("set", orDefault(before.Set), orDefault(b.Set))
	d.add("server-id", orOff(before.ServerID), orOff(b.ServerID))
	d.add("mac", orOff(before.MAC), orOff(b.MAC))
	d.add("zone", orOff(before.Zone), orOff(b.Zone))
	d.add("rack", orOff(before.Rack), orOff(b.Rack))
	d.add("order", orOff(before.Order), orOff(b.Order))
	return strings.Join(d, ", ")
}

// details collects texts such as "weight 100 -> 50".
type details []string

func (d *details) add(field string, before, after any) {
	if before != after {
		*d = append(*d, fmt.Sprintf("%s %v -> %v", field, before, after))
	}
}

// probe adds what differs between two probes, which may be nil.
func (d *details) probe(before, after *Probe) {
	d.fields("probe", *cmp.Or(before, new(Probe)), *cmp.Or(after, new(Probe)))
}

// fields adds what differs between two structs of the same type, such as "probe.fall default -> 5".
func (d *details) fields(name string, before, after any) {
	was, is := reflect.ValueOf(before), reflect.ValueOf(after)
	text := func(v reflect.Value) any {
		if v.IsZero() {
			return "default"
		}
		return fmt.Sprint(v.Interface())
	}
	for _, field := range fields(was.Type()) {
		d.add(name+"."+keyOf(field), text(was.FieldByIndex(field.Index)), text(is.FieldByIndex(field.Index)))
	}
}

// sources says which rules come and go; one that changes does both.
func (d *details) sources(before, after []dataplane.SourceRule) {
	for _, rule := range before {
		if !slices.Contains(after, rule) {
			*d = append(*d, "source "+rule.String()+" removed")
		}
	}
	for _, rule := range after {
		if !slices.Contains(before, rule) {
			*d = append(*d, "source "+rule.String()+" added")
		}
	}
}

// orOff is for what is off when it is zero.
func orOff[T comparable](value T) any {
	var zero T
	if value == zero {
		return "off"
	}
	return value
}

func orDefault[T comparable](value T) any {
	var zero T
	if value == zero {
		return "default"
	}
	return value
}
