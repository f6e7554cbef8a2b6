package traffic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicelb/sluice/test/lab"
)

// testHost makes a host of its own, so that ports can be fixed.
func testHost(t *testing.T) *lab.Host {
	t.Helper()
	h, err := lab.ForTest(t).Host("host")
	must(t, err)
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serve starts the backend b1 on a host: HTTP on port 80, TCP on 7, UDP on 53.
func serve(t *testing.T, h *lab.Host) *Server {
	t.Helper()
	s, err := Serve(h, "b1", Endpoints{HTTP: "[::]:80", TCP: "[::]:7", UDP: "[::]:53"})
	must(t, err)
	t.Cleanup(s.Close)
	return s
}

func TestEveryExchangeInBothFamilies(t *testing.T) {
	h := testHost(t)
	serve(t, h)
	for _, address := range []string{"127.0.0.1", "[::1]"} {
		for name, exchange := range map[string]Exchange{
			"http":       HTTP(h, address+":80", 1000),
			"keep-alive": KeepAlive(h, address+":80", 100_000),
			"transfer":   Transfer(h, address+":7", 3_000_000),
			"empty":      Transfer(h, address+":7", 0),
			"datagram":   Datagram(h, address+":53", 1200),
		} {
			t.Run(name+" "+address, func(t *testing.T) {
				report := Load{Exchange: exchange, Workers: 4, Count: 20}.Run(t.Context())
				must(t, report.Err())
				if report.Requests != 20 || report.Backends["b1"] != 20 {
					t.Errorf("reported %+v", report)
				}
			})
		}
	}
}

func TestKeepAliveUsesConnectionsAgain(t *testing.T) {
	h := testHost(t)
	serve(t, h)
	counter := &countingDialer{Dialer: h}
	must(t, Load{Exchange: KeepAlive(counter, "[::1]:80", 10), Count: 50}.Run(t.Context()).Err())
	if counter.dials != 1 {
		t.Errorf("%d connections for 50 requests of one worker", counter.dials)
	}
}

type countingDialer struct {
	Dialer
	dials int
}

func (d *countingDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	d.dials++
	return d.Dialer.DialContext(ctx, network, address)
}

// answerAll answers every datagram on port 53.
func answerAll(t *testing.T, h *lab.Host, answer func(payload string) string) {
	t.Helper()
	conn, err := h.ListenPacket("udp", "[::]:53")
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	go func() {
		buffer := make([]byte, 2000)
		for n, from, err := conn.ReadFrom(buffer); err == nil; n, from, err = conn.ReadFrom(buffer) {
			_, _ = conn.WriteTo([]byte(answer(string(buffer[:n]))), from)
		}
	}()
}

// answerOnce accepts one connection on port 7, says a text and hangs up after the first byte.
func answerOnce(t *testing.T, h *lab.Host, text string) {
	t.Helper()
	listener, err := h.Listen("tcp", "[::]:7")
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Write([]byte(text))
		_, _ = conn.Read(make([]byte, 1))
	}()
}

func TestCorruptionIsNoticed(t *testing.T) {
	h := testHost(t)
	answerAll(t, h, func(string) string { return "b1\nsomething" })
	answerOnce(t, h, "b1\nanother payload")
	for name, exchange := range map[string]Exchange{
		"datagram": Datagram(h, "127.0.0.1:53", 10),
		"transfer": Transfer(h, "127.0.0.1:7", 1),
	} {
		report := Load{Exchange: exchange, Count: 1}.Run(t.Context())
		if report.Failed != 1 || !errors.Is(report.Err(), ErrCorrupt) {
			t.Errorf("%s reported %v", name, report.Err())
		}
	}
}

func TestLoadKeepsPaceAndStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second+time.Millisecond)
		defer cancel()
		var results []Result
		report := Load{
			Exchange: func(context.Context) (string, error) { time.Sleep(time.Second); return "b1", nil },
			Workers:  8,
			Rate:     4,
			Observe:  func(r Result) { results = append(results, r) },
		}.Run(ctx)
		if report.Requests != 40 || report.Failed != 0 || len(results) != 40 {
			t.Errorf("10 s at 4/s reported %+v and %d results", report, len(results))
		}
		for _, r := range results {
			if r.End.Sub(r.Start) != time.Second || r.Backend != "b1" {
				t.Errorf("observed %+v", r)
			}
		}
	})
}

func TestLoadCountsFailuresAndTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		report := Load{
			Exchange: func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() },
			Count:    20,
			Workers:  20,
			Timeout:  time.Minute,
		}.Run(t.Context())
		if report.Failed != 20 || len(report.Errors) != 10 || !errors.Is(report.Err(), context.DeadlineExceeded) {
			t.Errorf("reported %+v", report)
		}
	})
}

func TestFlows(t *testing.T) {
	h := testHost(t)
	serve(t, h)
	for _, to := range []struct{ network, address string }{
		{"tcp", "127.0.0.1:7"}, {"tcp", "[::1]:7"}, {"http", "127.0.0.1:80"}, {"http", "[::1]:80"},
		{"udp", "127.0.0.1:53"}, {"udp", "[::1]:53"},
	} {
		f, err := OpenFlow(t.Context(), h, to.network, to.address, time.Millisecond)
		must(t, err)
		eventually(t, "ten echoes", func() bool { return f.Echoes() >= 10 })
		if f.Backend() != "b1" || time.Since(f.Last()) > time.Second || f.Err() != nil {
			t.Errorf("%s: %s, last %v, %v", to.network, f.Backend(), f.Last(), f.Err())
		}
		must(t, f.Close())
	}
}

func TestFlowBreaksWithItsServer(t *testing.T) {
	h := testHost(t)
	s := serve(t, h)
	f, err := OpenFlow(t.Context(), h, "tcp", "[::1]:7", time.Millisecond)
	must(t, err)
	s.Close()
	<-f.Done()
	if f.Err() == nil {
		t.Error("the flow did not notice")
	}
}

func TestFlowNoticesMove(t *testing.T) {
	h := testHost(t)
	answerAll(t, h, func(payload string) string {
		return fmt.Sprintf("b%d\n%s", len(strings.TrimLeft(payload, "0123")), payload) // b1 from number 4 on
	})
	f, err := OpenFlow(t.Context(), h, "udp", "[::1]:53", time.Millisecond)
	must(t, err)
	<-f.Done()
	if !errors.Is(f.Err(), ErrMoved) || f.Echoes() != 4 {
		t.Errorf("after %d echoes: %v", f.Echoes(), f.Err())
	}
}

func TestDatagramsAreSentAgain(t *testing.T) {
	h := testHost(t)
	asked := 0
	answerAll(t, h, func(payload string) string {
		if asked++; asked == 3 { // the first datagram with number 2
			return "b1\n1" // an old answer
		}
		return "b1\n" + payload
	})
	f, err := OpenFlow(t.Context(), h, "udp", "[::1]:53", time.Millisecond)
	must(t, err)
	eventually(t, "the flow to go on", func() bool { return f.Echoes() > 3 })
	if f.Retries() != 1 {
		t.Errorf("%d datagrams were sent again", f.Retries())
	}
	must(t, f.Close())
}

func TestEndOfContextEndsFlow(t *testing.T) {
	h := testHost(t)
	serve(t, h)
	for _, to := range []struct{ network, address string }{{"tcp", "[::1]:7"}, {"udp", "[::1]:53"}} {
		ctx, cancel := context.WithCancel(t.Context())
		f, err := OpenFlow(ctx, h, to.network, to.address, time.Millisecond)
		cancel()
		must(t, err)
		<-f.Done()
	}
}

func TestServerFreesItsAddresses(t *testing.T) {
	h := testHost(t)
	for range 3 {
		s := serve(t, h)
		must(t, Load{Exchange: HTTP(h, "127.0.0.1:80", 1), Count: 1}.Run(t.Context()).Err())
		s.Close()
	}
	serve(t, h)
	if _, err := Serve(h, "b2", Endpoints{TCP: "[::]:7"}); err == nil {
		t.Error("two backends on one address")
	}
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no sign of", what, "within 5 s")
		}
	}
}

func BenchmarkNewConnection(b *testing.B) {
	h, err := lab.ForTest(b).Host("host")
	if err != nil {
		b.Fatal(err)
	}
	s, err := Serve(h, "b1", Endpoints{TCP: "[::]:7"})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	if err := (Load{Exchange: Transfer(h, "[::1]:7", 1000), Workers: 32, Count: b.N}).Run(b.Context()).Err(); err != nil {
		b.Fatal(err)
	}
}
