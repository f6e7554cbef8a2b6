package dataplane

import (
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sluicelb/sluice/dataplane/maglev"
)

// setState is what is in the kernel for a set of backends: a table of its own. The set "" is the service's
// own record, each other one has a record that only its table counts of.
type setState struct {
	index   uint32 // in services
	table   region
	adopted bool             // and its name is not known yet
	members []maglev.Backend // that the table was made of; nil after adoption: not known

	older   region   // the table of another size that came before, while flows wait in it
	since   []uint32 // tick at which each slot's transition began, 0 when it is stable; nil when all are
	version int      // of what programs see: another one after each change
}

// preparedTable is a table that no program can see yet.
type preparedTable struct {
	set     *setState
	table   region
	members []maglev.Backend
	begin   time.Time

	passage    passage
	keepsOlder bool     // the set's table becomes its older one
	since      []uint32 // as in setState
}

// bySet groups the backends of s by the sets that packets can be sent to, in the order of their endpoints.
func bySet(s Service) map[string][]Backend {
	groups := map[string][]Backend{"": nil}
	for _, rule := range s.Sources {
		if !rule.Deny {
			groups[rule.Set] = nil
		}
	}
	for _, b := range s.Backends {
		if group, wanted := groups[b.Set]; wanted {
			groups[b.Set] = append(group, b)
		}
	}
	for _, group := range groups {
		slices.SortFunc(group, func(a, b Backend) int { return a.endpoint().Compare(b.endpoint()) })
	}
	return groups
}

// prepareTables builds the tables that s asks for and that differ from the current ones. On an error it
// leaves nothing behind. d.mu must be held.
func (d *Dataplane) prepareTables(st *serviceState, s Service) ([]preparedTable, error) {
	var tables []preparedTable
	groups, passage := bySet(s), d.passage(st, s)
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		table, changed, err := d.prepareTable(st, name, groups[name], passage)
		if err != nil {
			for _, prepared := range tables {
				d.regions.release(prepared.table)
			}
			d.removeUnusedSets(st)
			return nil, err
		}
		if changed {
			tables = append(tables, table)
		}
	}
	return tables, nil
}

// removeUnusedSets removes the sets that no rule names. d.mu must be held.
func (d *Dataplane) removeUnusedSets(st *serviceState) {
	used := map[uint32]bool{st.index: true}
	for _, value := range st.rules {
		used[value] = true
	}
	for name, set := range st.sets {
		if !used[set.index] {
			d.removeSet(st, name)
		}
	}
}

func (d *Dataplane) prepareTable(st *serviceState, name string, backends []Backend, passage passage) (p preparedTable, changed bool, err error) {
	p.begin, p.passage = time.Now(), passage
	p.members = st.members(backends)
	p.set = st.sets[name]
	if p.set == nil {
		p.set = d.recognizeSet(st, name, backends, passage.kept)
	}
	size := d.sizeOf(p.set, backends, passage.kept)
	stays := p.set != nil && int(p.set.table.size) == size && !d.mustPass(p.set, passage)
	if stays && p.set.members != nil && slices.Equal(p.members, p.set.members) {
		return p, false, nil
	}
	built := d.build(p.members, size)
	if p.set == nil {
		if p.set, err = d.addSet(st, name); err != nil {
			return p, false, err
		}
	}
	if stays && p.set.members == nil && d.holds(p.set.table, built) {
		p.set.members = p.members
		return p, false, nil
	}
	p.keepsOlder = passage.kept != nil && passage.partial && size > 0 && int(p.set.table.size) != size && d.hasOwners(p.set.table, passage.kept)
	if p.table, err = d.takeRegion(uint32(size)); err != nil {
		return p, false, err
	}
	d.follow(&p, built)
	return p, true, nil
}

// recognizeSet finds an adopted set by its table, and gives it its name. Returns nil when none has the table.
func (d *Dataplane) recognizeSet(st *serviceState, name string, backends []Backend, k kept) *setState {
	members := st.members(backends)
	for old, set := range st.sets {
		if set.adopted && d.holds(set.table, d.build(members, d.sizeOf(set, backends, k))) {
			set.adopted = false
			delete(st.sets, old)
			st.sets[name] = set
			return set
		}
	}
	return nil
}

// addSet returns a new set of the service, with an empty table.
func (d *Dataplane) addSet(st *serviceState, name string) (*setState, error) {
	index, ok := d.takeIndex(d.freeIndex.services)
	if !ok {
		return nil, fmt.Errorf("%w: %d services and sets of backends (limits.services)", ErrFull, d.options.Limits.Services)
	}
	d.services.items[index], d.olders.items[index] = balancerService{}, balancerOlder{}
	st.sets[name] = &setState{index: index}
	return st.sets[name], nil
}

// switchTables has packets see the prepared tables, each at once. d.mu must be held.
func (d *Dataplane) switchTables(tables []preparedTable) {
	for i := range tables {
		d.replaceTable(&tables[i])
		d.noteRewrite(tables[i].begin)
	}
}

// removeSet gives back what a set holds that no new packet finds any more. d.mu must be held.
func (d *Dataplane) removeSet(st *serviceState, name string) {
	set := st.sets[name]
	delete(st.sets, name)
	set.version++
	d.dropOlder(set)
	d.retireRegion(set.table)
	d.retire(func() {
		atomic.StoreUint64(&d.services.items[set.index].Table, 0)
		d.freeIndex.services.release(set.index)
	})
}

// members lists what the table of backends of st is made of, in the same order.
func (st *serviceState) members(backends []Backend) []maglev.Backend {
	members := []maglev.Backend{} // never nil, see setState
	for _, b := range backends {
		if b.takesFlows() {
			members = append(members, maglev.Backend{
				Endpoint: b.endpoint(), Index: st.backends[b.endpoint()].index, Weight: uint32(b.Weight),
			})
		}
	}
	return members
}

// tableSize is the number of slots of the table of a set's backends.
func (d *Dataplane) tableSize(backends []Backend) int {
	if !slices.ContainsFunc(backends, Backend.takesFlows) {
		return 0
	}
	return maglev.Size(len(backends), int(d.options.Limits.TableSlots))
}

// build returns the indices of the backends, slot by slot, valid until the next call.
func (d *Dataplane) build(members []maglev.Backend, size int) []uint32 {
	d.scratch = slices.Grow(d.scratch[:0], size)[:size]
	if size > 0 {
		d.builder.Build(d.scratch, members)
	}
	return d.scratch
}

// holds tells whether a region has just these current backends.
func (d *Dataplane) holds(table region, built []uint32) bool {
	if int(table.size) != len(built) {
		return false
	}
	for i, slot := range d.slots.of(table) {
		if slot.current() != built[i] {
			return false
		}
	}
	return true
}

// takeRegion returns a region that no program can see. d.mu must be held.
func (d *Dataplane) takeRegion(size uint32) (region, error) {
	if size == 0 {
		return region{}, nil
	}
	for _, makeRoom := range []func(){func() {}, d.dropOlders} {
		if table, ok := d.regions.take(size); ok {
			return table, nil
		}
		makeRoom()
		if err := d.reclaim(); err != nil {
			return region{}, err
		}
	}
	if table, ok := d.regions.take(size); ok {
		return table, nil
	}
	return region{}, fmt.Errorf("%w: no %d slots in a row are free of %d (limits.slots)", ErrFull, size, d.options.Limits.Slots)
}

func (d *Dataplane) retireRegion(table region) {
	if table.size > 0 {
		d.retire(func() { d.regions.release(table) })
	}
}
