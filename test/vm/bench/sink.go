package main

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/sluicelb/sluice/test/lab"
)

// sink counts the IPv4 packets that arrive at an interface, by their protocol, and drops them. It costs next to
// nothing, and the same for every contender.
type sink struct {
	counts   *ebpf.Map // by protocol, a number for each CPU
	attached link.Link // held until the process ends
}

// newSink attaches to an interface of a host.
func newSink(h *lab.Host, device string) (*sink, error) {
	counts, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: 256})
	if err != nil {
		return nil, err
	}
	const protocol = 14 + 9 // in the frame (RFC 791, section 3.1)
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "MIT", Instructions: asm.Instructions{
		asm.LoadMem(asm.R6, asm.R1, 0, asm.Word), // struct xdp_md: data, data_end
		asm.LoadMem(asm.R7, asm.R1, 4, asm.Word),
		asm.Mov.Reg(asm.R2, asm.R6), asm.Add.Imm(asm.R2, protocol+1), asm.JGT.Reg(asm.R2, asm.R7, "pass"),
		asm.LoadMem(asm.R2, asm.R6, 12, asm.Half), asm.JNE.Imm(asm.R2, 0x0008 /* IPv4 in network order */, "pass"),
		asm.LoadMem(asm.R2, asm.R6, protocol, asm.Byte),
		asm.StoreMem(asm.R10, -4, asm.R2, asm.Word),
		asm.LoadMapPtr(asm.R1, counts.FD()), asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord), asm.Add.Imm(asm.R1, 1), asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 1 /* XDP_DROP */), asm.Return(),
		asm.Mov.Imm(asm.R0, 2 /* XDP_PASS */).WithSymbol("pass"), asm.Return(), // ARP
	}})
	if err != nil {
		return nil, fmt.Errorf("loading the program that counts: %w", err)
	}
	defer program.Close()
	s := &sink{counts: counts}
	return s, h.Do(func() error {
		l, err := h.Netlink().LinkByName(device)
		if err != nil {
			return err
		}
		s.attached, err = link.AttachXDP(link.XDPOptions{Program: program, Interface: l.Attrs().Index, Flags: link.XDPDriverMode})
		return err
	})
}

// read returns the packets until now, by protocol.
func (s *sink) read() (counts [256]uint64, err error) {
	for protocol := range counts {
		var perCPU []uint64
		if err := s.counts.Lookup(uint32(protocol), &perCPU); err != nil {
			return counts, err
		}
		for _, n := range perCPU {
			counts[protocol] += n
		}
	}
	return counts, nil
}
