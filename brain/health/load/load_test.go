package load

import (
	"context"
	"errors"
	"math"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicelb/sluice/brain/health/probe"
)

// loopbacks are where the servers of tests listen.
var loopbacks = []string{"127.0.0.1:0", "[::1]:0"}

// patience bounds what is expected to end by itself.
const patience = 10 * time.Second

// listen serves connections until the test ends.
func listen(t *testing.T, address string, serve func(net.Conn)) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		listener.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for conn, err := listener.Accept(); err == nil; conn, err = listener.Accept() {
			wg.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	return netip.MustParseAddrPort(listener.Addr().String())
}

// readWithin asks once.
func readWithin(t *testing.T, timeout time.Duration, spec Spec, to netip.AddrPort) (Report, error) {
	t.Helper()
	r, err := New(spec, to, probe.Dialer{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	return r.Read(ctx)
}

// reports fails the test unless that is what is reported.
func reports(t *testing.T, spec Spec, to netip.AddrPort, want Report) {
	t.Helper()
	got, err := readWithin(t, patience, spec, to)
	if err != nil {
		t.Errorf("%+v: %v", spec, err)
	} else if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("%+v: %s", spec, difference)
	}
}

// fails fails the test unless asking ends with an error of that text and no report.
func fails(t *testing.T, spec Spec, to netip.AddrPort, text string) {
	t.Helper()
	got, err := readWithin(t, patience, spec, to)
	if err == nil || !strings.Contains(err.Error(), text) || got != (Report{}) {
		t.Errorf("%+v: got %+v and %v, want an error with %q", spec, got, err, text)
	}
}

func TestCheckNamesTheField(t *testing.T) {
	for _, c := range []struct {
		spec  Spec
		field string
	}{
		{Spec{Kind: "snmp"}, "kind"},
		{Spec{Send: `\q`}, "send"},
		{Spec{Kind: Agent, Path: "/"}, "path"},
		{Spec{Metric: "a"}, "metric"},
		{Spec{Full: 1}, "full"},
		{Spec{Kind: Prometheus, Metric: "a", Send: "x"}, "send"},
		{Spec{Kind: Prometheus, Metric: "a", Path: "metrics"}, "path"},
		{Spec{Kind: Prometheus, Metric: "a", Full: -1}, "full"},
		{Spec{Kind: Prometheus, Metric: "a", Full: math.NaN()}, "full"},
		{Spec{Kind: Prometheus, Metric: "a", Full: math.Inf(1)}, "full"},
		{Spec{Kind: Prometheus}, "metric"},
		{Spec{Kind: Prometheus, Metric: "a b"}, "metric"},
		{Spec{Kind: Prometheus, Metric: "a 5"}, "metric"},
		{Spec{Kind: Prometheus, Metric: "a{b}"}, "metric"},
		{Spec{Kind: Prometheus, Metric: `a{b="c"`}, "metric"},
		{Spec{Kind: Prometheus, Metric: `a{b!="c"}`}, "metric"},
		{Spec{Kind: Prometheus, Metric: "# a"}, "metric"},
		{Spec{Kind: Prometheus, Metric: "a 1\nb"}, "metric"},
		{Spec{Kind: Prometheus, Metric: "# TYPE a gauge\na"}, "metric"},
	} {
		var invalid *probe.FieldError
		if err := c.spec.Check(); !errors.As(err, &invalid) || invalid.Field != c.field {
			t.Errorf("Check of %+v returned %v, want an error of %s", c.spec, err, c.field)
		}
		if _, err := New(c.spec, netip.AddrPort{}, probe.Dialer{}); !errors.As(err, &invalid) {
			t.Errorf("New with %+v returned %v", c.spec, err)
		}
	}
	for _, spec := range []Spec{
		{}, {Kind: Agent, Send: `web\n`}, {Kind: Prometheus, Metric: "a"},
		{Kind: Prometheus, Metric: `a{b="c",d="e f"}`, Path: "/m?x=y", Full: 0.5}, {Kind: Prometheus, Metric: `{"a.b",c="d"}`},
	} {
		if err := spec.Check(); err != nil {
			t.Errorf("Check of %+v returned %v", spec, err)
		}
	}
}

func TestServersThatDoNotAnswer(t *testing.T) {
	for _, spec := range []Spec{{}, {Kind: Prometheus, Metric: "a"}} {
		gone, err := net.Listen("tcp", loopbacks[0])
		if err != nil {
			t.Fatal(err)
		}
		to := netip.MustParseAddrPort(gone.Addr().String())
		got, err := readWithin(t, 250*time.Millisecond, spec, to) // nobody accepts
		if err == nil || !strings.HasSuffix(err.Error(), ": no answer") || !errors.Is(err, os.ErrDeadlineExceeded) || got != (Report{}) {
			t.Errorf("%s: got %+v and %v", spec.Kind, got, err)
		}
		r, err := New(spec, to, probe.Dialer{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		if _, err := r.Read(ctx); err != context.Canceled {
			t.Errorf("%s: cancelled it ended with %v", spec.Kind, err)
		}
		gone.Close()
		_, err = readWithin(t, patience, spec, to)
		if err == nil || err.Error() != "connect: connection refused" || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: got %v", spec.Kind, err)
		}
	}
}

func TestSocketsAreTheDialers(t *testing.T) {
	for _, spec := range []Spec{{}, {Kind: Prometheus, Metric: "a"}} {
		r, err := New(spec, netip.MustParseAddrPort("127.0.0.1:1"), probe.Dialer{
			Control: func(string, string, syscall.RawConn) error { return syscall.EMFILE },
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(t.Context()); !errors.Is(err, syscall.EMFILE) {
			t.Errorf("%s: got %v", spec.Kind, err)
		}
	}
}

func TestWhatIsNotSaidStays(t *testing.T) {
	before := Report{Weight: new(0.5), Load: new(0.1), MaxConn: new(3), Health: Down, Admin: Drain, Description: "disk"}
	for _, c := range []struct {
		said Report
		want Report
	}{
		{Report{}, before},
		{Report{Weight: new(0.0)}, Report{Weight: new(0.0), Load: new(0.1), MaxConn: new(3), Health: Down, Admin: Drain, Description: "disk"}},
		{Report{Load: new(0.2)}, Report{Weight: new(0.5), Load: new(0.2), MaxConn: new(3), Health: Down, Admin: Drain, Description: "disk"}},
		{Report{MaxConn: new(0)}, Report{Weight: new(0.5), Load: new(0.1), MaxConn: new(0), Health: Down, Admin: Drain, Description: "disk"}},
		{Report{Admin: Ready}, Report{Weight: new(0.5), Load: new(0.1), MaxConn: new(3), Health: Down, Admin: Ready, Description: "disk"}},
		{Report{Health: Up}, Report{Weight: new(0.5), Load: new(0.1), MaxConn: new(3), Health: Up, Admin: Drain}},
	} {
		if difference := cmp.Diff(c.want, c.said.Over(before)); difference != "" {
			t.Errorf("%+v: %s", c.said, difference)
		}
	}
}
