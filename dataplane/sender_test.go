package dataplane

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sender gives the balancer TCP packets for service4 of many clients: one frame of which client, port and flags
// change. It is runProgram without copies and allocations, for tests with millions of packets. Checksums are not kept
// right: mode l2 does not look at them.
type sender struct {
	call       runCall
	context    xdpContext
	frame, out []byte
}

// runCall is what union bpf_attr holds for BPF_PROG_TEST_RUN (include/uapi/linux/bpf.h). The addresses are of the
// sender's own fields: on the heap, where nothing is moved.
type runCall struct {
	program, result               uint32
	sizeIn, sizeOut               uint32
	in, out                       uint64
	repeat, duration              uint32
	contextSizeIn, contextSizeOut uint32
	contextIn, contextOut         uint64
	flags, cpu, batch, _          uint32
}

// Flags of TCP (RFC 9293, section 3.1).
const (
	flagsFIN = 0x11 // with ACK
	flagsSYN = 0x02
	flagsACK = 0x10
)

func newSender(t testing.TB, h *testHost) *sender {
	p := fromClient(ProtocolTCP, client4, service4)
	p.payload = ""
	s := &sender{frame: p.frame(t)}
	s.out = make([]byte, len(s.frame))
	s.context = xdpContext{DataEnd: uint32(len(s.frame)), IngressIfindex: uint32(h.clients)}
	s.call = runCall{
		program: uint32(h.objects.Balancer.FD()),
		sizeIn:  uint32(len(s.frame)), in: uint64(uintptr(unsafe.Pointer(&s.frame[0]))),
		out:           uint64(uintptr(unsafe.Pointer(&s.out[0]))),
		contextSizeIn: uint32(unsafe.Sizeof(s.context)), contextIn: uint64(uintptr(unsafe.Pointer(&s.context))),
	}
	return s
}

// send returns the number of the server that a packet of a client, 0..2^24-1, goes to; 0 when it is dropped.
func (s *sender) send(t testing.TB, client int, port uint16, flags byte) int {
	const source, sport, tcpFlags = 14 + 12, 14 + 20, 14 + 20 + 13
	s.frame[source], s.frame[source+1], s.frame[source+2], s.frame[source+3] = 10, byte(client>>16), byte(client>>8), byte(client)
	s.frame[sport], s.frame[sport+1], s.frame[tcpFlags] = byte(port>>8), byte(port), flags
	s.call.sizeOut = uint32(len(s.out))
	_, _, err := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_TEST_RUN, uintptr(unsafe.Pointer(&s.call)), unsafe.Sizeof(s.call))
	if err != 0 {
		t.Fatal("running the balancer:", err)
	}
	if s.call.result == xdpDrop {
		return 0
	}
	if s.call.result != xdpRedirect {
		t.Fatalf("the packet ends with %s", actionNames[s.call.result])
	}
	return int(s.out[5])
}
