package generator

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Sink counts the unicast frames that arrive at an interface, and drops all.
type Sink struct {
	link    link.Link
	objects struct {
		Sink     *ebpf.Program `ebpf:"sink"`
		Received *ebpf.Map     `ebpf:"received"`
	}
}

// AttachSink puts a sink on an interface, in the network namespace of the calling thread.
func AttachSink(index int) (*Sink, error) {
	s := new(Sink)
	err := load(&s.objects, objectPattern{})
	if err != nil {
		return nil, err
	}
	if s.link, err = attach(s.objects.Sink, index); err != nil {
		return nil, err
	}
	return s, nil
}

// Received returns how many frames have come.
func (s *Sink) Received() (sum uint64, err error) {
	var perCPU []uint64
	err = s.objects.Received.Lookup(uint32(0), &perCPU)
	for _, count := range perCPU {
		sum += count
	}
	return sum, err
}

// Close takes it off.
func (s *Sink) Close() error { return s.link.Close() }

// AttachEmpty puts a program on an interface that sends every frame back as it came.
func AttachEmpty(index int) (link.Link, error) {
	var objects struct {
		Program *ebpf.Program `ebpf:"empty"`
	}
	if err := load(&objects, objectPattern{}); err != nil {
		return nil, err
	}
	return attach(objects.Program, index)
}

// AttachEncapsulator puts a program on an interface that sends every frame back, always in the same IPv4 header. The
// frames hold IPv6 packets, or those of IPv4.
func AttachEncapsulator(index int, ipv6 bool) (link.Link, error) {
	var traffic objectPattern
	if ipv6 {
		traffic.Ipv6 = 1
	}
	var objects struct {
		Program *ebpf.Program `ebpf:"encapsulate"`
	}
	if err := load(&objects, traffic); err != nil {
		return nil, err
	}
	return attach(objects.Program, index)
}

// load loads one of the programs; objects is as for ebpf.CollectionSpec.LoadAndAssign.
func load(objects any, traffic objectPattern) error {
	spec, err := loadObject()
	if err == nil {
		err = spec.Variables[objectVarTraffic].Set(traffic)
	}
	if err == nil {
		err = spec.LoadAndAssign(objects, nil)
	}
	if err != nil {
		return fmt.Errorf("loading a program of the generator: %w", err)
	}
	return nil
}

// attach puts a program on an interface for as long as the link is open.
func attach(program *ebpf.Program, index int) (link.Link, error) {
	l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: index, Flags: link.XDPDriverMode})
	if err != nil {
		return nil, fmt.Errorf("attaching %s: %w", program, err)
	}
	return l, nil
}
