package p2c

import (
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluicelb/sluice/test/traffic"
)

// The numbers are those of a Poisson process, within five standard deviations; the same seed gives the same ones.
func TestArrivals(t *testing.T) {
	const rate, seconds = 500, 40
	draw := func(seed uint64) []time.Duration {
		return arrivals(rate, seconds*time.Second, rand.New(rand.NewPCG(seed, 0)))
	}
	due := draw(1)
	within := func(what string, got int, mean, deviation float64) {
		if math.Abs(float64(got)-mean) > 5*deviation {
			t.Errorf("%s: %d, want %.0f +- %.0f", what, got, mean, 5*deviation)
		}
	}
	within("arrivals", len(due), rate*seconds, math.Sqrt(rate*seconds))
	if !slices.IsSorted(due) || due[0] < 0 || due[len(due)-1] >= seconds*time.Second {
		t.Errorf("they go from %v to %v, sorted: %v", due[0], due[len(due)-1], slices.IsSorted(due))
	}
	long := 0 // gaps that are longer than their mean, which are 1/e of an exponential distribution
	for i := range due[1:] {
		if due[i+1]-due[i] > time.Second/rate {
			long++
		}
	}
	gaps := float64(len(due) - 1)
	within("long gaps", long, gaps/math.E, math.Sqrt(gaps/math.E*(1-1/math.E)))
	// Those of a tenth of a second have a variance that is their mean.
	const tenths, mean = 10 * seconds, rate / 10
	var counts [tenths]float64
	for _, at := range due {
		counts[int(at.Seconds()*10)]++
	}
	variance := 0.0
	for _, n := range counts {
		variance += (n - mean) * (n - mean) / tenths
	}
	within("variance of a tenth's arrivals", int(variance), mean, mean*math.Sqrt(2.0/tenths))
	if !slices.Equal(due, draw(1)) || slices.Equal(due, draw(2)) {
		t.Error("arrivals do not follow from the seed")
	}
}

// listen returns a worker's listener on loopback.
func listen(t *testing.T, mean time.Duration) net.Listener {
	t.Helper()
	w := &worker{Listener: traffic.Here{}, mean: mean, random: rand.New(rand.NewPCG(1, 1))}
	l, err := w.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func connect(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func accept(t *testing.T, l net.Listener) *workerConn {
	t.Helper()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return conn.(*workerConn)
}

// A second connection waits in the kernel until the first is over.
func TestWorkerServesOneAtATime(t *testing.T) {
	l := listen(t, time.Millisecond)
	connect(t, l)
	connect(t, l)
	first := accept(t, l)
	var over atomic.Bool
	second := make(chan bool)
	go func() {
		conn, err := l.Accept()
		second <- err == nil && over.Load()
		if err == nil {
			conn.Close()
		}
	}()
	time.Sleep(20 * time.Millisecond) // in which the second could be taken, but must not
	over.Store(true)
	first.Close()
	first.Close() // which a server may do, and frees nobody else
	if !<-second {
		t.Error("the second connection was taken while the first was open")
	}
}

// Answers take an exponential time, whose mean and deviation are equal.
func TestWorkerTakesItsTime(t *testing.T) {
	const count, mean = 500, 4 * time.Millisecond
	l := listen(t, mean)
	sum, squares := 0.0, 0.0
	for range count {
		client := connect(t, l)
		conn := accept(t, l)
		x := float64(conn.takes) / float64(mean)
		sum, squares = sum+x/count, squares+x*x/count
		conn.Close()
		client.Close()
	}
	if math.Abs(sum-1) > 5/math.Sqrt(count) || math.Abs(squares-2) > 5*math.Sqrt(20.0/count) { // E x^2 = 2, Var x^2 = 24 - 4
		t.Errorf("the mean of the times is %.2f of what it should be, that of their squares %.2f (2)", sum, squares)
	}
	client := connect(t, l)
	conn := accept(t, l)
	conn.takes = 30 * time.Millisecond
	began := time.Now()
	if _, err := conn.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Read(make([]byte, 6)); err != nil || time.Since(began) < conn.takes {
		t.Errorf("an answer that takes %v came after %v (%v)", conn.takes, time.Since(began), err)
	}
	conn.Close()
}
