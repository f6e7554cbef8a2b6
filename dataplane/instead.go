package dataplane

import "slices"

// fitsInstead tells whether s fits when st is gone. Its tables must fit beside those of st all the same. d.mu
// must be held.
func (d *Dataplane) fitsInstead(st *serviceState, s Service) bool {
	if d.reclaim() != nil { // what is retired counts as used
		return false
	}
	groups := bySet(s)
	backends := d.freeIndex.backends.used - len(st.backends) + len(s.Backends)
	records := d.freeIndex.services.used - len(st.sets) + len(groups)
	if backends > int(d.options.Limits.Backends) || records > int(d.options.Limits.Services) {
		return false
	}
	free := regions{free: slices.Clone(d.regions.free)}
	for _, group := range groups {
		if _, ok := free.take(uint32(d.tableSize(group))); !ok {
			return false
		}
	}
	return true
}

// setInstead makes the kernel match s in two steps: first it takes out what s does not have, in the order
// that keeps every packet whole, then it adds what is new. d.mu must be held.
func (d *Dataplane) setInstead(st *serviceState, s Service) error {
	if err := d.change(st, common(st, s)); err != nil {
		return err
	}
	// No packet that still knows what was taken out may see another mode.
	if err := d.reclaim(); err != nil {
		return err
	}
	st.mode = s.Mode
	return d.change(st, s)
}

// common is what s has in common with st. Sources of sets that are not there yet are denied.
func common(st *serviceState, s Service) Service {
	sameMode := st.mode == s.Mode
	s.Mode = st.mode
	s.Backends = slices.DeleteFunc(slices.Clone(s.Backends), func(b Backend) bool {
		return !sameMode || st.backends[b.endpoint()] == nil
	})
	s.Sources = slices.Clone(s.Sources)
	for i, rule := range s.Sources {
		s.Sources[i].Deny = rule.Deny || st.sets[rule.Set] == nil
	}
	return s
}
