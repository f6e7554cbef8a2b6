package failover

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// impairers are programs that lose packets, at the backends' ends of their links. They run after XDP, so that
// they take nobody's place there; TCX is in Linux 6.6 and newer.
type impairers struct{ half, all *ebpf.Program }

func newImpairers() (impairers, error) {
	half, err := newImpairer(0.5)
	if err != nil {
		return impairers{}, err
	}
	all, err := newImpairer(1)
	return impairers{half, all}, err
}

// newImpairer returns a program that loses a part of the packets, 0..1, at random.
func newImpairer(part float64) (*ebpf.Program, error) {
	const drop, next = 2, -1 // TCX_DROP, TCX_NEXT of include/uapi/linux/bpf.h
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "impair",
		Type: ebpf.SchedCLS,
		Instructions: asm.Instructions{
			asm.FnGetPrandomU32.Call(),
			asm.Mov.Reg32(asm.R1, asm.R0),
			asm.Mov.Imm(asm.R0, drop),
			asm.JLE.Imm32(asm.R1, int32(uint32(part*math.MaxUint32)), "out"),
			asm.Mov.Imm(asm.R0, next),
			asm.Return().WithSymbol("out"),
		},
		License: "Dual MIT/GPL",
	})
	if err != nil {
		return nil, fmt.Errorf("loading the program that loses packets: %w", err)
	}
	return program, nil
}

// Close lets go of the programs.
func (i impairers) Close() error { return errors.Join(i.half.Close(), i.all.Close()) }

// impair has a program see what comes in and what goes out.
func (b *backend) impair(program *ebpf.Program) error {
	device, err := b.host.Netlink().LinkByName(uplink)
	if err != nil {
		return err
	}
	var both closers
	b.impairment = &both
	return b.host.Do(func() error {
		for _, direction := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			l, err := link.AttachTCX(link.TCXOptions{Interface: device.Attrs().Index, Program: program, Attach: direction})
			if err != nil {
				return fmt.Errorf("losing packets of %s, which takes Linux 6.6: %w", b.name, err)
			}
			both = append(both, l)
		}
		return nil
	})
}

// clear ends impair.
func (b *backend) clear() error {
	if b.impairment == nil {
		return nil
	}
	err := b.impairment.Close()
	b.impairment = nil
	return err
}

type closers []io.Closer

// Close closes all of them.
func (c *closers) Close() error {
	var errs []error
	for _, each := range *c {
		errs = append(errs, each.Close())
	}
	return errors.Join(errs...)
}
