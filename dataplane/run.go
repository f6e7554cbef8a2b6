package dataplane

import "github.com/cilium/ebpf"

// XDP actions (include/uapi/linux/bpf.h).
const (
	xdpDrop     = 1
	xdpPass     = 2
	xdpTX       = 3
	xdpRedirect = 4
)

var actionNames = map[uint32]string{xdpDrop: "drop", xdpPass: "pass", xdpTX: "tx", xdpRedirect: "redirect"}

// xdpContext is struct xdp_md.
type xdpContext struct {
	Data, DataEnd, DataMeta, IngressIfindex, RxQueueIndex, EgressIfindex uint32
}

// growth is more than any packet can grow.
const growth = 256

// runProgram gives a frame to a program as if it had come in by an interface of this namespace
// (BPF_PROG_TEST_RUN). Nothing is sent.
func runProgram(program *ebpf.Program, ifindex int, frame []byte) (action uint32, out []byte, err error) {
	options := ebpf.RunOptions{
		Data:    frame,
		DataOut: make([]byte, len(frame)+growth),
		Context: xdpContext{DataEnd: uint32(len(frame)), IngressIfindex: uint32(ifindex)},
	}
	action, err = program.Run(&options)
	return action, options.DataOut, err
}
