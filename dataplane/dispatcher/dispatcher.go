// Package dispatcher shares interfaces with the XDP programs of other tools, after the protocol of libxdp
// (lib/libxdp/protocol.org in xdp-tools, versions 2 and 3). The kernel takes one XDP program per interface: here
// a dispatcher, which calls those that share it in the order of their priorities. A change means a new dispatcher
// that takes the place of the old one between two packets. All of it lives in the kernel and in a folder that
// everybody pins programs in, so it outlives whoever made it.
package dispatcher

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// DefaultPriority is what libxdp gives to programs that ask for none.
const DefaultPriority = 50

// MaxPrograms is how many programs can share an interface.
const MaxPrograms = len(objectDispatcherConfig{}.Priorities)

var (
	// ErrOther means that the interface has an XDP program which cannot be shared with.
	ErrOther = errors.New("cannot be shared with")
	// ErrFull means that MaxPrograms share the interface.
	ErrFull = errors.New("too many programs share the interface")

	errChanged = errors.New("somebody else keeps changing the programs of the interface")
)

// What the protocol fixes.
const (
	magic        = 236
	mainFunction = "xdp_dispatcher"
	nothing      = 31 // what a stub returns
	fragsFlag    = 1 << 5
	oldest       = 2 // version
	newest       = 3
	lengthOf3    = 128 // bytes of the configuration in version 3, the last four of which say what it is bound to
)

// Program is one of those that share an interface.
type Program struct {
	Name     string // of its function, at most 15 bytes
	Priority uint32 // the lowest runs first; those with the same one in the order of their names
	Continue uint32 // bits: the actions (enum xdp_action) after which the next one runs
	Frags    bool   // takes packets in fragments (BPF_F_XDP_HAS_FRAGS)
	Program  *ebpf.Program
}

// Shared is what shares an interface, in the order in which it runs.
type Shared struct {
	Programs []Program
	Generic  bool // XDP mode

	version    uint8
	dispatcher *ebpf.Program
	id         ebpf.ProgramID
}

// Close lets go of the programs. They stay attached.
func (s *Shared) Close() {
	s.dispatcher.Close() // of nil too
	for _, p := range s.Programs {
		p.Program.Close()
	}
}

// Load loads a program of spec in the form that Change wants. Others of spec are left out.
func Load(spec *ebpf.CollectionSpec, name string, options ebpf.CollectionOptions) (*ebpf.Program, error) {
	target, err := newDispatcher(objectDispatcherConfig{Version: oldest, Programs: 1})
	if err != nil {
		return nil, err
	}
	defer target.Close()
	program := spec.Programs[name].Copy()
	program.Type, program.AttachType = ebpf.Extension, ebpf.AttachNone
	program.AttachTarget, program.AttachTo = target, mainFunction
	spec = spec.Copy()
	spec.Programs = map[string]*ebpf.ProgramSpec{name: program}
	collection, err := ebpf.NewCollectionWithOptions(spec, options)
	if err != nil {
		return nil, err
	}
	defer collection.Close()
	return collection.DetachProgram(name), nil
}

// tries and pause bound how long Change goes on when others change the same interface.
const (
	tries = 10
	pause = time.Millisecond
)

// Change replaces the programs on an interface of this network namespace by those that change makes of them,
// from one packet to the next. It runs again when another process was quicker. generic says where a first
// program is attached; where there is one the mode stays as it is.
//
// Returns ErrOther where there is another XDP program, and ErrFull.
func Change(index int, generic bool, change func([]Program) []Program) error {
	for try := range tries {
		err := changeOnce(index, generic, change)
		if !errors.Is(err, errChanged) {
			return err
		}
		time.Sleep(pause << try)
	}
	return errChanged
}

func changeOnce(index int, generic bool, change func([]Program) []Program) error {
	old, err := Read(index)
	if err != nil {
		return err
	}
	defer old.Close()
	if old.dispatcher != nil {
		generic = old.Generic
	}
	programs := change(slices.Clone(old.Programs))
	if len(programs) > MaxPrograms {
		return fmt.Errorf("%w: at most %d", ErrFull, MaxPrograms)
	}
	if len(programs) == 0 && old.dispatcher == nil {
		return nil
	}
	slices.SortStableFunc(programs, func(a, b Program) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Name, b.Name))
	})
	if len(programs) == 0 {
		if err := attach(index, generic, nil, old.dispatcher); err != nil {
			return err
		}
		return removeFolder(index, old.id)
	}
	if err := put(index, generic, cmp.Or(old.version, installed()), programs, old.dispatcher); err != nil {
		return err
	}
	if old.dispatcher == nil {
		return nil
	}
	return removeFolder(index, old.id)
}

// put makes a dispatcher and has it take the place of another, or of nothing.
func put(index int, generic bool, version uint8, programs []Program, old *ebpf.Program) error {
	d, err := newDispatcher(configure(version, programs))
	if err != nil {
		return err
	}
	defer d.Close()
	info, err := d.Info()
	if err != nil {
		return err
	}
	id, _ := info.ID()
	links, err := connect(d, programs)
	defer func() {
		for _, l := range links {
			l.Close()
		}
	}()
	if err != nil {
		return err
	}
	if err := pin(index, id, programs, links); err != nil {
		return err
	}
	if err := attach(index, generic, d, old); err != nil {
		return errors.Join(err, removeFolder(index, id))
	}
	return nil
}

func configure(version uint8, programs []Program) objectDispatcherConfig {
	c := objectDispatcherConfig{Magic: magic, Version: version, Programs: uint8(len(programs)), Frags: 1}
	for i, p := range programs {
		c.Priorities[i] = p.Priority
		c.Continues[i] = p.Continue | 1<<nothing
		if p.Frags {
			c.ProgramFlags[i] = fragsFlag
		} else {
			c.Frags = 0
		}
	}
	return c
}

// newDispatcher loads a dispatcher. Nothing is on its stubs.
func newDispatcher(c objectDispatcherConfig) (*ebpf.Program, error) {
	spec, err := loadObject()
	if err != nil {
		return nil, err
	}
	if err := spec.Variables["config"].Set(c); err != nil {
		return nil, err
	}
	if c.Version == newest {
		data := spec.Maps[".rodata"]
		data.ValueSize, data.Key, data.Value = lengthOf3, nil, nil
		data.Contents[0].Value = append(data.Contents[0].Value.([]byte), make([]byte, lengthOf3-binary.Size(c))...)
	}
	if c.Frags != 0 {
		spec.Programs[mainFunction].Flags |= fragsFlag
	}
	var objects objectPrograms
	if err := spec.LoadAndAssign(&objects, nil); err != nil {
		return nil, fmt.Errorf("loading the dispatcher: %w", err)
	}
	return objects.XdpDispatcher, nil
}

// connect puts the programs in the place of the stubs. A single one takes the place of the dispatcher itself.
func connect(dispatcher *ebpf.Program, programs []Program) (links []link.Link, err error) {
	for i, p := range programs {
		function := stub(i)
		if len(programs) == 1 {
			function = mainFunction
		}
		l, err := link.AttachFreplace(dispatcher, function, p.Program)
		if err != nil {
			return links, fmt.Errorf("having program %s share the interface: %w", p.Name, err)
		}
		links = append(links, l)
	}
	return links, nil
}

func stub(number int) string { return fmt.Sprint("prog", number) }

// Read finds out what shares an interface of this network namespace: nothing where there is no XDP program.
//
// Returns ErrOther where that is another one.
func Read(index int) (*Shared, error) {
	for try := range tries {
		s, err := readOnce(index)
		if !errors.Is(err, errChanged) {
			return s, err
		}
		time.Sleep(pause << try)
	}
	return nil, errChanged
}

func readOnce(index int) (*Shared, error) {
	id, generic, err := attached(index)
	if err != nil || id == 0 {
		return &Shared{}, err
	}
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return nil, errors.Join(errChanged, err)
	}
	s := &Shared{Generic: generic, dispatcher: p, id: id}
	if err := s.read(index); err != nil {
		s.Close()
		if now, _, again := attached(index); again == nil && now != id {
			return nil, errChanged
		}
		return nil, err
	}
	return s, nil
}

func (s *Shared) read(index int) error {
	info, err := s.dispatcher.Info()
	if err != nil {
		return err
	}
	c, err := readConfig(info)
	if err != nil {
		return fmt.Errorf("%w program %q (ID %d): %w", ErrOther, info.Name, s.id, err)
	}
	s.version = c.Version
	unlock, err := lock()
	if err != nil {
		return err
	}
	defer unlock()
	for i := range int(c.Programs) {
		p, err := pinned(index, s.id, i)
		if err != nil {
			return fmt.Errorf("%w what runs there: %w (LIBXDP_BPFFS says where other tools pin it)", ErrOther, err)
		}
		s.Programs = append(s.Programs, Program{
			Priority: c.Priorities[i], Continue: c.Continues[i] &^ (1 << nothing), Frags: c.ProgramFlags[i]&fragsFlag != 0, Program: p,
		})
		info, err := p.Info()
		if err != nil {
			return err
		}
		s.Programs[i].Name = info.Name
	}
	return nil
}

// readConfig returns an error when the program is no dispatcher of a version that is known here.
func readConfig(info *ebpf.ProgramInfo) (c objectDispatcherConfig, err error) {
	maps, _ := info.MapIDs()
	if info.Name != mainFunction || len(maps) != 1 {
		return c, errors.New("it is no dispatcher of libxdp")
	}
	m, err := ebpf.NewMapFromID(maps[0])
	if err != nil {
		return c, err
	}
	defer m.Close()
	data, err := m.LookupBytes(uint32(0))
	if err != nil {
		return c, err
	}
	data = append(data, make([]byte, lengthOf3)...) // it may be of another version, or anything
	if err := binary.Read(bytes.NewReader(data), binary.NativeEndian, &c); err != nil {
		return c, err
	}
	switch {
	case c.Magic != magic || c.Version < oldest || c.Version > newest || int(c.Programs) > MaxPrograms:
		return c, fmt.Errorf("its version of libxdp's protocol is not known here (known: %d..%d)", oldest, newest)
	case data[binary.Size(c)] != 0:
		return c, errors.New("it is bound to the device")
	}
	return c, nil
}
