package dataplane

import (
	"fmt"
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
	members []maglev.Backend // that the table was made of; nil after adoption: not known
}

// preparedTable is a table that no program can see yet.
type preparedTable struct {
	set     *setState
	table   region
	members []maglev.Backend
	begin   time.Time
}

// wantedSets lists the sets that packets of s can be sent to.
func wantedSets(s Service) []string {
	names := []string{""}
	for _, rule := range s.Sources {
		if !rule.Deny && !slices.Contains(names, rule.Set) {
			names = append(names, rule.Set)
		}
	}
	return names
}

// prepareTables builds the tables that s asks for and that differ from the current ones. On an error it
// leaves nothing behind. d.mu must be held.
func (d *Dataplane) prepareTables(st *serviceState, s Service) ([]preparedTable, error) {
	var tables []preparedTable
	for _, name := range wantedSets(s) {
		table, changed, err := d.prepareTable(st, s, name)
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

func (d *Dataplane) prepareTable(st *serviceState, s Service, name string) (p preparedTable, changed bool, err error) {
	p.begin = time.Now()
	if p.set, err = d.set(st, name); err != nil {
		return p, false, err
	}
	var configured int
	p.members, configured = d.members(st, s, name)
	size := 0
	if len(p.members) > 0 {
		size = maglev.Size(configured, int(d.options.Limits.TableSlots))
	}
	if p.set.members != nil && slices.Equal(p.members, p.set.members) && int(p.set.table.size) == size {
		return p, false, nil
	}
	built := d.build(p.members, size)
	if p.set.members == nil && d.holds(p.set.table, built) {
		p.set.members = p.members
		return p, false, nil
	}
	p.table, err = d.fill(built)
	return p, true, err
}

// set returns a set of the service, with an empty table when it is new.
func (d *Dataplane) set(st *serviceState, name string) (*setState, error) {
	if set := st.sets[name]; set != nil {
		return set, nil
	}
	index, ok := d.takeIndex(d.freeIndex.services)
	if !ok {
		return nil, fmt.Errorf("%w: %d services and sets of backends (limits.services)", ErrFull, d.options.Limits.Services)
	}
	d.services.items[index] = balancerService{}
	st.sets[name] = &setState{index: index}
	return st.sets[name], nil
}

// switchTables has packets see the prepared tables, each at once. d.mu must be held.
func (d *Dataplane) switchTables(tables []preparedTable) {
	for _, p := range tables {
		atomic.StoreUint64(&d.services.items[p.set.index].Table, p.table.word())
		d.retireRegion(p.set.table)
		p.set.table, p.set.members = p.table, p.members
		d.noteRewrite(p.begin)
	}
}

// removeSet gives back what a set holds that no new packet finds any more. d.mu must be held.
func (d *Dataplane) removeSet(st *serviceState, name string) {
	set := st.sets[name]
	delete(st.sets, name)
	d.retireRegion(set.table)
	d.retire(func() {
		atomic.StoreUint64(&d.services.items[set.index].Table, 0)
		d.freeIndex.services.release(set.index)
	})
}

// members lists what the table of a set of s is made of, in the order of their endpoints, and counts the
// set's backends.
func (d *Dataplane) members(st *serviceState, s Service, set string) (members []maglev.Backend, configured int) {
	members = make([]maglev.Backend, 0, len(s.Backends))
	for _, b := range s.Backends {
		if b.Set != set {
			continue
		}
		configured++
		if b.Weight > 0 && !b.Down {
			members = append(members, maglev.Backend{
				Endpoint: b.endpoint(), Index: st.backends[b.endpoint()].index, Weight: uint32(b.Weight),
			})
		}
	}
	slices.SortFunc(members, func(a, b maglev.Backend) int { return a.Endpoint.Compare(b.Endpoint) })
	return members, configured
}

// build returns the indices of the backends, slot by slot, valid until the next call.
func (d *Dataplane) build(members []maglev.Backend, size int) []uint16 {
	d.scratch = slices.Grow(d.scratch[:0], size)[:size]
	if size > 0 {
		d.builder.Build(d.scratch, members)
	}
	return d.scratch
}

// holds tells whether a region has just these contents, all slots stable.
func (d *Dataplane) holds(table region, built []uint16) bool {
	if int(table.size) != len(built) {
		return false
	}
	for i, slot := range d.slots.items[table.first:table.end()] {
		if slot != (balancerSlot{Current: built[i]}) {
			return false
		}
	}
	return true
}

// fill writes a table into a region that no program can see yet.
func (d *Dataplane) fill(built []uint16) (region, error) {
	size := uint32(len(built))
	if size == 0 {
		return region{}, nil
	}
	table, ok := d.regions.take(size)
	if !ok {
		if err := d.reclaim(); err != nil {
			return region{}, err
		}
		if table, ok = d.regions.take(size); !ok {
			return region{}, fmt.Errorf("%w: no %d slots in a row are free of %d (limits.slots)", ErrFull, size, d.options.Limits.Slots)
		}
	}
	slots := d.slots.items[table.first:table.end()]
	for i, index := range built {
		slots[i] = balancerSlot{Current: index}
	}
	return table, nil
}

func (d *Dataplane) retireRegion(table region) {
	if table.size > 0 {
		d.retire(func() { d.regions.release(table) })
	}
}
