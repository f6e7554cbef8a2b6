package integration

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/sluicelb/sluice/brain/health/probe"
	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/test/traffic"
)

// connect opens a connection to the service that echoes, and returns which backend answers.
func (s *site) connect(t *testing.T, w way) (client netip.AddrPort, backend string) {
	t.Helper()
	conn, err := s.client.DialContext(t.Context(), "tcp", w.target(portTCP))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	name, err := bufio.NewReader(conn).ReadString('\n')
	must(t, err)
	return conn.LocalAddr().(*net.TCPAddr).AddrPort(), strings.TrimSpace(name)
}

// What trace says of a client is what becomes of his packets, before and after he connects; it leaves no mark.
func TestExplain(t *testing.T) {
	for _, w := range []way{ways[0], ways[3], ways[10]} {
		t.Run(w.String(), func(t *testing.T) {
			s := newSite(t)
			s.serve(t, w)
			s.apply(t, w.services(control.ProbeNone, all()...))
			cause := "flow"
			if w.mode.DirectReturn() {
				cause = "slot" // which is all that it takes
			}
			for range 3 {
				client, backend := s.connect(t, w)
				known, err := s.api.Explain(t.Context(), control.ExplainRequest{Client: client, Service: w.target(portTCP)})
				must(t, err)
				if known.Backend != backend || known.Cause.String() != cause || known.Reason != "to_backend" {
					t.Errorf("%s is answered by %s; explained as %+v", client, backend, known)
				}
				before, err := s.api.Status(t.Context())
				must(t, err)
				next := netip.AddrPortFrom(client.Addr(), client.Port()^1)
				fresh, err := s.api.Explain(t.Context(), control.ExplainRequest{Client: next, Service: "tcp-7"})
				must(t, err)
				again, err := s.api.Explain(t.Context(), control.ExplainRequest{Client: next, Service: "tcp-7"})
				must(t, err)
				if fresh.Cause.String() != "slot" || fresh.Slots == 0 || fresh.Slot >= fresh.Slots || fresh.Backend != again.Backend || fresh.NextHop.Interface != "servers" {
					t.Errorf("a new flow is explained as %+v, then as %+v", fresh, again)
				}
				after, err := s.api.Status(t.Context())
				must(t, err)
				if newFlows(before) != newFlows(after) {
					t.Error("explaining is counted")
				}
			}
		})
	}
}

func newFlows(s control.Status) (n uint64) {
	for i := range s.Services {
		for _, b := range s.Services[i].Backends {
			n += b.NewFlows
		}
	}
	return n
}

// What nobody can answer is told with its reason.
func TestExplainRefuses(t *testing.T) {
	s := newSite(t)
	w := ways[0]
	services := w.services(control.ProbeNone, all()...)
	everyPort := control.Service{Name: "every-port", Address: netip.MustParseAddr("203.0.113.9"), Mode: new(w.mode), Probe: &control.Probe{Spec: probe.Spec{Kind: control.ProbeNone}}, Backends: services[0].Backends}
	s.apply(t, append(services, everyPort))
	client := netip.MustParseAddrPort("192.0.2.2:4000")
	for name, test := range map[string]struct {
		request control.ExplainRequest
		want    string
	}{
		"unknown":        {control.ExplainRequest{Client: client, Service: "nowhere"}, `there is no service "nowhere"`},
		"another family": {control.ExplainRequest{Client: netip.MustParseAddrPort("[2001:db8::1]:4000"), Service: "tcp-7"}, "is not of the family"},
		"no port":        {control.ExplainRequest{Client: client, Service: "every-port"}, "say which one"},
		"another port":   {control.ExplainRequest{Client: client, Service: "tcp-7", Port: 8}, "has port 7, not 8"},
		"protocol":       {control.ExplainRequest{Client: client, Service: "tcp-7", Protocol: 17}, "has protocol tcp, not udp"},
		"interface":      {control.ExplainRequest{Client: client, Service: "tcp-7", Interface: "eth9"}, `"eth9" is none that the daemon is attached to`},
	} {
		_, err := s.api.Explain(t.Context(), test.request)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	e, err := s.api.Explain(t.Context(), control.ExplainRequest{Client: client, Service: "203.0.113.9:8443"})
	must(t, err)
	if e.Service != "every-port" || e.Destination.Port() != 8443 {
		t.Errorf("a port of a service that has every port is explained as %+v", e)
	}
}

// Frames that no interface delivers are answered as well, in their places.
func TestTraceOfOddFrames(t *testing.T) {
	s := newSite(t)
	traced, err := s.api.Trace(t.Context(), control.TraceRequest{Frames: [][]byte{{}, {1, 2, 3}, make([]byte, 60), make([]byte, 9000)}})
	must(t, err)
	for i, want := range []string{"pass_not_seen", "pass_not_seen", "pass_not_ip", "pass_not_seen"} {
		if i >= len(traced) || traced[i].Reason != want || traced[i].N != i+1 {
			t.Fatalf("traced as %+v", traced)
		}
	}
}

// capture runs the command while traffic passes, and returns the packets of its file.
func (s *site) capture(t *testing.T, pass func(), flags ...string) []gopacket.Packet {
	t.Helper()
	file := filepath.Join(t.TempDir(), "capture.pcap")
	socket := filepath.Join(filepath.Dir(s.config), "sluice.sock")
	command, err := s.balancer.Command(t.Context(), binary, append([]string{"capture", "--socket", socket, "-w", file}, flags...)...)
	must(t, err)
	eventually(t, "the beginning of the capture", func() bool {
		select {
		case <-command.Done():
			t.Fatalf("the capture ended: %v\n%s", command.Wait(), command.Output())
		default:
		}
		return strings.Contains(command.Output(), "capturing")
	})
	pass()
	select {
	case <-command.Done():
	case <-time.After(20 * time.Second):
		t.Fatalf("the capture does not end:\n%s", command.Output())
	}
	if err := command.Wait(); err != nil {
		t.Fatalf("capture: %v\n%s", err, command.Output())
	}
	return readCapture(t, file)
}

func readCapture(t *testing.T, file string) (packets []gopacket.Packet) {
	t.Helper()
	handle, err := os.Open(file)
	must(t, err)
	defer handle.Close()
	reader, err := pcapgo.NewReader(handle)
	must(t, err)
	for packet := range gopacket.NewPacketSource(reader, layers.LinkTypeEthernet).Packets() {
		packets = append(packets, packet)
	}
	return packets
}

// A capture shows packets as they came and as they left, only those asked for, while all of them pass.
func TestCapture(t *testing.T) {
	w := ways[4] // ipip
	s := newSite(t)
	s.serve(t, w)
	s.apply(t, w.services(control.ProbeNone, all()...))
	http := func() { request(t, traffic.HTTP(s.client, w.target(portHTTP), 1000), 50, 0) }

	packets := s.capture(t, func() {
		http()
		request(t, traffic.Datagram(s.client, w.target(portUDP), 100), 10, 0)
	}, "--service", "udp-9", "--count", "5")
	if len(packets) != 10 {
		t.Fatalf("%d packets, want 5 as they came and as they left", len(packets))
	}
	for i := 0; i < len(packets); i += 2 {
		before, after := packets[i], packets[i+1]
		udp, ok := before.TransportLayer().(*layers.UDP)
		if !ok || udp.DstPort != portUDP || before.NetworkLayer().NetworkFlow().Dst().String() != w.serviceAddress().String() {
			t.Errorf("packet %d came as %s", i/2+1, before)
		}
		outer, ok := after.NetworkLayer().(*layers.IPv4)
		if !ok || outer.Protocol != layers.IPProtocolIPv4 || !strings.HasPrefix(outer.DstIP.String(), "198.51.100.1") {
			t.Errorf("packet %d left as %s", i/2+1, after)
		}
		if string(after.Data()[14+20:]) != string(before.Data()[14:]) {
			t.Errorf("packet %d is another one behind its outer header", i/2+1)
		}
	}

	reasons := s.capture(t, func() {
		http()
		_, err := s.client.DialContext(t.Context(), "tcp", netip.AddrPortFrom(w.serviceAddress(), 81).String())
		if err == nil {
			t.Error("somebody answers on a port without service")
		}
	}, "--reason", "pass_no_service", "--for", "2s")
	if len(reasons) == 0 {
		t.Fatal("no packet without service was shown")
	}
	for i, packet := range reasons {
		if tcp, ok := packet.TransportLayer().(*layers.TCP); ok && (tcp.DstPort == portHTTP && packet.NetworkLayer().NetworkFlow().Dst().String() == w.serviceAddress().String()) {
			t.Errorf("packet %d is for a service: %s", i, packet)
		}
	}
	s.wantNoDrops(t)
}

// Only one capture runs at a time; when its client is gone the next one can begin, and when the daemon is killed
// meanwhile packets go on.
func TestCapturesEnd(t *testing.T) {
	w := ways[2]
	s := newSite(t)
	s.serve(t, w)
	s.apply(t, w.services(control.ProbeNone, all()...))
	http := func() { request(t, traffic.HTTP(s.client, w.target(portHTTP), 1000), 50, 0) }
	begin := func(ctx context.Context, reason string) (begun chan struct{}, ended chan error) {
		begun, ended = make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- s.api.Capture(ctx, control.CaptureRequest{Reason: reason}, func() error { close(begun); return nil }, func(control.CapturedPacket) bool { return true })
		}()
		return begun, ended
	}
	ctx, cancel := context.WithCancel(t.Context())
	begun, ended := begin(ctx, "drop_no_headroom") // which does not happen, so nothing wakes it but its end
	<-begun
	http()
	err := s.api.Capture(t.Context(), control.CaptureRequest{}, func() error { return nil }, func(control.CapturedPacket) bool { return false })
	if !errors.Is(err, control.ErrConflict) {
		t.Errorf("a second capture: %v, want a conflict", err)
	}
	err = s.api.Capture(t.Context(), control.CaptureRequest{Reason: "drop_nothing"}, func() error { return nil }, func(control.CapturedPacket) bool { return false })
	if err == nil {
		t.Error("a reason that there is not is taken")
	}
	cancel()
	must(t, <-ended)
	begun, ended = begin(t.Context(), "")
	select {
	case <-begun:
	case err := <-ended:
		t.Fatalf("the next capture: %v", err)
	}
	s.daemon.Kill()
	<-ended
	http()
	s.startDaemon(t)
	http()
	s.wantNoDrops(t)
}
