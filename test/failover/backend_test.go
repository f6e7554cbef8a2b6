package failover

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/traffic"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serve starts a backend behind a switch, without its process: what would be in that runs here.
func serve(t *testing.T) (client *lab.Host, b *backend) {
	t.Helper()
	l := lab.ForTest(t)
	ethernet, err := l.Switch("switch")
	must(t, err)
	client, err = l.Host("client")
	must(t, err)
	b = &backend{name: "b1", address: "203.0.113.11", socket: filepath.Join(t.TempDir(), "b1.sock")}
	b.host, err = l.Host(b.name)
	must(t, err)
	must(t, errors.Join(
		ethernet.Join(client, uplink, lab.LinkOptions{}), client.Addr(uplink, "203.0.113.1/24"),
		ethernet.Join(b.host, uplink, lab.LinkOptions{}), b.host.Addr(uplink, b.address+"/24"),
	))
	b.impairer, err = attachImpairer(b.host, uplink)
	must(t, err)
	t.Cleanup(func() { must(t, b.impairer.Close()) })
	orders, err := net.Listen("unix", b.socket)
	must(t, err)
	ended := make(chan error)
	go func() { ended <- newServer(b.name, b.host).run(orders) }()
	t.Cleanup(func() {
		orders.Close()
		<-ended
	})
	must(t, b.tell(serveWell))
	return client, b
}

// connection opens one to the backend.
func connection(t *testing.T, client *lab.Host, b *backend) (net.Conn, *bufio.Reader) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	conn, err := client.DialContext(ctx, "tcp", b.address+":"+servicePort)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	return conn, bufio.NewReader(conn)
}

func TestBackendThatResets(t *testing.T) {
	client, b := serve(t)
	conn, answers := connection(t, client, b)
	name, err := traffic.Ask(conn, answers, "x", false)
	must(t, err)
	if name != b.name {
		t.Errorf("%q answered", name)
	}
	must(t, b.tell(resetPeers))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the connection ended with %v", err)
	}
	if _, err := client.DialContext(t.Context(), "tcp", b.address+":"+servicePort); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("another connection: %v", err)
	}
	must(t, b.tell(serveWell))
	conn, answers = connection(t, client, b)
	_, err = traffic.Ask(conn, answers, "x", true)
	must(t, err)
}

func TestBackendThatIsSlow(t *testing.T) {
	client, b := serve(t)
	conn, answers := connection(t, client, b)
	must(t, b.tell(serveSlow))
	begin := time.Now()
	_, err := traffic.Ask(conn, answers, "x", false)
	must(t, err)
	if took := time.Since(begin); took < slowDelay {
		t.Errorf("an answer came after %v", took)
	}
}

// A silent host says nothing and hears nothing; what it was sent arrives when it is back.
func TestBackendThatIsSilent(t *testing.T) {
	client, b := serve(t)
	conn, answers := connection(t, client, b)
	must(t, b.impairer.lose(1))
	_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: sluice\r\n\r\n")
	must(t, err)
	must(t, conn.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
	if _, err := answers.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a silent host: %v", err)
	}
	must(t, b.impairer.lose(0))
	must(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	if _, err := answers.ReadByte(); err != nil {
		t.Errorf("after the silence: %v", err)
	}
}

// 150 is more than 6 times the standard deviation of 2,000 losses with probability 1/2.
func TestImpairer(t *testing.T) {
	i := new(impairer)
	defer i.Close()
	must(t, i.load())
	for part, bounds := range map[float64][2]int{0: {0, 0}, 0.5: {850, 1150}, 1: {2000, 2000}} {
		must(t, i.lose(part))
		dropped := 0
		for range 2000 {
			verdict, _, err := i.program.Test(make([]byte, 64))
			must(t, err)
			if verdict == 2 { // TCX_DROP
				dropped++
			}
		}
		if dropped < bounds[0] || dropped > bounds[1] {
			t.Errorf("%d of 2000 packets are dropped, want %v", dropped, bounds)
		}
	}
}
