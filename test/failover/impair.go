package failover

import (
	"errors"
	"fmt"
	"io"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/sluicelb/sluice/test/lab"
)

// impairer loses packets at one end of a link, in both directions, at random. Its program runs after XDP and takes
// nobody's place there; TCX is in Linux 6.6 and newer. It is attached all the time, because attaching takes the kernel
// tens of milliseconds, and a fault has to begin at a known moment.
type impairer struct {
	parts   *ebpf.Map // of all packets that are lost: one number of 2^32ths
	program *ebpf.Program
	links   []io.Closer
}

// attachImpairer attaches one that loses nothing yet.
func attachImpairer(h *lab.Host, device string) (_ *impairer, err error) {
	i := new(impairer)
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("preparing the loss of packets on %s, which takes Linux 6.6: %w", h.Name(), err), i.Close())
		}
	}()
	if err := i.load(); err != nil {
		return nil, err
	}
	netdev, err := h.Netlink().LinkByName(device)
	if err != nil {
		return nil, err
	}
	return i, h.Do(func() error {
		for _, direction := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			l, err := link.AttachTCX(link.TCXOptions{Interface: netdev.Attrs().Index, Program: i.program, Attach: direction})
			if err != nil {
				return err
			}
			i.links = append(i.links, l)
		}
		return nil
	})
}

func (i *impairer) load() (err error) {
	i.parts, err = ebpf.NewMap(&ebpf.MapSpec{Name: "parts", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return err
	}
	const drop, next = 2, -1 // TCX_DROP, TCX_NEXT of include/uapi/linux/bpf.h
	i.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "impair",
		Type: ebpf.SchedCLS,
		Instructions: asm.Instructions{
			asm.LoadMapValue(asm.R1, i.parts.FD(), 0),
			asm.LoadMem(asm.R6, asm.R1, 0, asm.DWord),
			asm.FnGetPrandomU32.Call(),
			asm.Mov.Reg32(asm.R1, asm.R0), // 0..2^32-1
			asm.Mov.Imm(asm.R0, drop),
			asm.JLT.Reg(asm.R1, asm.R6, "out"),
			asm.Mov.Imm(asm.R0, next),
			asm.Return().WithSymbol("out"),
		},
		License: "Dual MIT/GPL",
	})
	return err
}

// lose sets the part of all packets, 0..1, that is lost from now on.
func (i *impairer) lose(part float64) error {
	return i.parts.Put(uint32(0), uint64(part*(1<<32)))
}

// Close ends the losses.
func (i *impairer) Close() error {
	if i == nil {
		return nil
	}
	var errs []error
	for _, l := range i.links {
		errs = append(errs, l.Close())
	}
	return errors.Join(append(errs, i.program.Close(), i.parts.Close())...)
}
