//go:build vm

package dispatcher

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Actions (include/uapi/linux/bpf.h).
const (
	aborted = 0
	drop    = 1
	pass    = 2
	tx      = 3
)

// newInterface makes one in a network namespace of its own, and a folder of its own.
func newInterface(t *testing.T) (index int) {
	t.Helper()
	path := fmt.Sprintf("/sys/fs/bpf/dispatcher-test-%d", os.Getpid())
	must(t, os.MkdirAll(path, 0o700))
	t.Cleanup(func() { must(t, os.RemoveAll(path)) })
	t.Setenv("LIBXDP_BPFFS", path)
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	ns, err := netns.New()
	must(t, err)
	t.Cleanup(func() { ns.Close() })
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "peer"}))
	l, err := netlink.LinkByName("eth0")
	must(t, err)
	return l.Attrs().Index
}

// program returns one that ends with an action.
func program(t *testing.T, name string, priority uint32, action int32, continues ...int) Program {
	t.Helper()
	dispatcher, err := loadObject()
	must(t, err)
	var context *btf.Struct
	must(t, dispatcher.Types.TypeByName("xdp_md", &context))
	integer := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	function := &btf.Func{Name: name, Linkage: btf.GlobalFunc, Type: &btf.FuncProto{
		Return: integer, Params: []btf.FuncParam{{Name: "ctx", Type: &btf.Pointer{Target: context}}},
	}}
	extension, err := Load(&ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{name: {
		Name: name, Type: ebpf.XDP, License: "MIT",
		Instructions: asm.Instructions{btf.WithFuncMetadata(asm.Mov.Imm(asm.R0, action).WithSymbol(name), function), asm.Return()},
	}}}, name, ebpf.CollectionOptions{})
	must(t, err)
	t.Cleanup(func() { extension.Close() })
	p := Program{Name: name, Priority: priority, Program: extension}
	for _, action := range continues {
		p.Continue |= 1 << action
	}
	return p
}

func set(programs ...Program) func([]Program) []Program {
	return func([]Program) []Program { return programs }
}

func add(p Program) func([]Program) []Program {
	return func(programs []Program) []Program { return append(programs, p) }
}

func remove(name string) func([]Program) []Program {
	return func(programs []Program) []Program {
		return slices.DeleteFunc(programs, func(p Program) bool { return p.Name == name })
	}
}

// wantResult gives a packet to what is on the interface.
func wantResult(t *testing.T, index int, want uint32) {
	t.Helper()
	s, err := Read(index)
	must(t, err)
	defer s.Close()
	got, err := s.dispatcher.Run(&ebpf.RunOptions{Data: make([]byte, 64)})
	must(t, err)
	if got != want {
		t.Errorf("the result is %d, want %d", got, want)
	}
}

func wantPrograms(t *testing.T, index int, want ...string) {
	t.Helper()
	s, err := Read(index)
	must(t, err)
	defer s.Close()
	var names []string
	for _, p := range s.Programs {
		names = append(names, p.Name)
	}
	if !slices.Equal(names, want) {
		t.Errorf("there are %v, want %v", names, want)
	}
	folders, err := os.ReadDir(root())
	must(t, err)
	if len(folders) != min(len(want), 1) {
		t.Errorf("kept are %v", folders)
	}
}

// The first result that is final is the packet's; priority decides who is asked first, then the name.
func TestOrder(t *testing.T) {
	index := newInterface(t)
	a, b := program(t, "a", 60, drop), program(t, "b", 50, tx, tx)
	c, d := program(t, "c", 50, aborted, drop, pass), program(t, "d", 70, pass, pass)
	must(t, Change(index, false, set(d)))
	wantPrograms(t, index, "d")
	wantResult(t, index, pass)
	must(t, Change(index, false, add(a)))
	wantPrograms(t, index, "a", "d")
	wantResult(t, index, drop)
	must(t, Change(index, false, add(c)))
	wantPrograms(t, index, "c", "a", "d")
	wantResult(t, index, aborted)
	must(t, Change(index, false, add(b)))
	wantPrograms(t, index, "b", "c", "a", "d")
	wantResult(t, index, aborted)
	must(t, Change(index, false, remove("c")))
	wantResult(t, index, drop) // b's is not final for b
	must(t, Change(index, false, set(b, d)))
	wantResult(t, index, pass) // none is final
	must(t, Change(index, false, set()))
	wantPrograms(t, index)
	must(t, Change(index, false, set()))
}

func TestFull(t *testing.T) {
	index := newInterface(t)
	var programs []Program
	var names []string
	for n := range MaxPrograms {
		names = append(names, fmt.Sprint("p", n))
		programs = append(programs, program(t, names[n], 50, pass, pass))
	}
	must(t, Change(index, true, set(programs...)))
	wantPrograms(t, index, names...)
	wantResult(t, index, pass)
	if err := Change(index, true, add(program(t, "more", 50, pass))); !errors.Is(err, ErrFull) {
		t.Errorf("error is %v", err)
	}
	must(t, Change(index, true, remove("p3")))
	must(t, Change(index, true, add(program(t, "x", 90, tx))))
	wantResult(t, index, tx)
	if s, err := Read(index); err != nil || !s.Generic {
		t.Errorf("shared in generic mode: %+v, %v", s, err)
	}
}

// Who changes an interface at the same time as others loses nothing of them.
func TestAtOnce(t *testing.T) {
	index := newInterface(t)
	here, err := netns.Get()
	must(t, err)
	defer here.Close()
	var all sync.WaitGroup
	for n := range 3 {
		p := program(t, fmt.Sprint("p", n), 50, pass, pass)
		all.Go(func() {
			runtime.LockOSThread()
			if err := netns.Set(here); err != nil {
				t.Error(err)
			}
			for range 5 {
				if err := errors.Join(Change(index, false, add(p)), Change(index, false, remove(p.Name)), Change(index, false, add(p))); err != nil {
					t.Error(err)
				}
				if err := Change(index, false, remove(p.Name)); err != nil {
					t.Error(err)
				}
			}
			if err := Change(index, false, add(p)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	wantPrograms(t, index, "p0", "p1", "p2")
}

// What a process left that was killed before it had attached, or after, is cleaned up; others' programs stay.
func TestClean(t *testing.T) {
	index := newInterface(t)
	mine, other := program(t, "mine", 50, pass, pass), program(t, "other", 60, drop)
	isMine := func(p *ebpf.Program) bool {
		info, err := p.Info()
		return err == nil && info.Name == "mine"
	}
	leave := func(index int, programs ...Program) (folder string) {
		d, err := newDispatcher(configure(oldest, programs))
		must(t, err)
		defer d.Close()
		info, err := d.Info()
		must(t, err)
		id, _ := info.ID()
		links, err := connect(d, programs)
		must(t, err)
		must(t, pin(index, id, programs, links))
		for _, l := range links {
			l.Close()
		}
		return fmt.Sprintf("dispatch-%d-%d", index, id)
	}
	left := leave(index, mine, other)
	leave(index, mine)
	leave(index+100, mine) // which was removed
	must(t, Change(index, false, set(mine, other)))
	newer := leave(index, mine)
	must(t, Clean(isMine))
	entries, err := os.ReadDir(root())
	must(t, err)
	kept := make(map[string]int)
	for _, entry := range entries {
		pins, err := os.ReadDir(filepath.Join(root(), entry.Name()))
		must(t, err)
		kept[entry.Name()] = len(pins)
	}
	if len(kept) != 3 || kept[left] != 2 || kept[newer] != 2 {
		t.Errorf("kept are %v, want the pins of other in %s, those of %s, which may be attached soon, and those of what is attached", kept, left, newer)
	}
	wantResult(t, index, drop)
}

// What is no dispatcher, and a dispatcher whose programs are out of reach, are somebody else's.
func TestOther(t *testing.T) {
	index := newInterface(t)
	p := program(t, "p", 50, pass)
	alone, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "alone", Type: ebpf.XDP, License: "MIT", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, pass), asm.Return()},
	})
	must(t, err)
	defer alone.Close()
	l, err := link.AttachXDP(link.XDPOptions{Program: alone, Interface: index})
	must(t, err)
	if err := Change(index, false, add(p)); !errors.Is(err, ErrOther) {
		t.Errorf("with another program there: error is %v", err)
	}
	must(t, l.Close())
	must(t, Change(index, false, add(p)))
	must(t, os.RemoveAll(filepath.Join(root())))
	if err := Change(index, false, add(p)); !errors.Is(err, ErrOther) {
		t.Errorf("without the pins: error is %v", err)
	}
	if _, err := Read(index + 100); !errors.As(err, new(netlink.LinkNotFoundError)) {
		t.Errorf("without the interface: error is %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
