package scale

import (
	"math"
	"math/big"
	"strings"
	"testing"
	"time"
)

// exactC is ErlangC by its definition, in numbers of 400 bits: a^c/c! c/(c-a) / (sum of a^k/k! for k < c, and that term).
func exactC(c int, a float64) float64 {
	number := func(v float64) *big.Float { return new(big.Float).SetPrec(400).SetFloat64(v) }
	term, sum, load := number(1), number(0), number(a)
	for k := range c {
		sum.Add(sum, term)
		term.Mul(term, load)
		term.Quo(term, number(float64(k+1)))
	}
	term.Mul(term, number(float64(c)))
	term.Quo(term, new(big.Float).SetPrec(400).Sub(number(float64(c)), load))
	c64, _ := new(big.Float).SetPrec(400).Quo(term, new(big.Float).SetPrec(400).Add(sum, term)).Float64()
	return c64
}

// TestErlangC compares with the definition in exact arithmetic, up to 10,000 instances and loads near 1.
func TestErlangC(t *testing.T) {
	for _, c := range []int{1, 2, 3, 5, 10, 30, 100, 300, 1000, 10_000} {
		for _, use := range []float64{1e-6, 0.1, 0.5, 0.8, 0.9, 0.99, 0.9999, 1 - 1e-9} {
			a := use * float64(c)
			if want, got := exactC(c, a), ErlangC(c, a); math.Abs(got-want) > 1e-9*want {
				t.Errorf("%d instances, load %g: %.12g, not %.12g", c, a, got, want)
			}
		}
	}
}

// TestErlangCTable has values that are printed in tables of Erlang's formula to three or four digits.
func TestErlangCTable(t *testing.T) {
	for _, v := range []struct {
		c    int
		a, p float64
	}{{1, 0.5, 0.5}, {2, 1, 0.3333}, {3, 2, 0.4444}, {5, 4, 0.5541}, {10, 8, 0.4092}, {20, 16, 0.2561}, {11, 10, 0.6821}} {
		if got := ErlangC(v.c, v.a); math.Abs(got-v.p) > 5e-5 {
			t.Errorf("C(%d, %g) is %.5f, in tables %.4f", v.c, v.a, got, v.p)
		}
	}
	if ErlangC(3, 3) != 1 || ErlangC(3, 5) != 1 || ErlangC(3, 0) != 0 || ErlangC(0, 1) != 1 {
		t.Error("the ends of the range are wrong")
	}
}

// TestResponse has M/M/1, whose mean is 1/(rate - load) and whose times are exponential, and Allen-Cunneen's correction of it, which
// for one instance with constant service (M/D/1) is Pollaczek and Khinchine's exact mean.
func TestResponse(t *testing.T) {
	q := NewQueue(10)
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-9*want {
			t.Errorf("%s is %g, not %g", what, got, want)
		}
	}
	near("the mean of M/M/1", q.Response(1, 8), 0.5)
	near("the median of M/M/1", q.Percentile(1, 8, 0.5), 0.5*math.Ln2)
	near("99 % of M/M/1", q.Percentile(1, 8, 0.99), 0.5*math.Log(100))
	near("99 % without load", q.Percentile(5, 0, 0.99), 0.1*math.Log(100))
	near("the mean of M/D/1", Queue{10, 1, 0, 0}.Response(1, 8), 0.1+0.8/(2*10*(1-0.8)))
	if !math.IsInf(q.Response(2, 20), 1) || !math.IsInf(q.Percentile(2, 21, 0.5), 1) {
		t.Error("too much load is answered in a finite time")
	}
	// c-1-a = 0 is a limit.
	near("a limit", q.Percentile(3, 20, 0.9), (q.Percentile(3, 20-1e-6, 0.9)+q.Percentile(3, 20+1e-6, 0.9))/2)
}

// TestInstances: what Instances says is enough, one less is not, and Capacity is its inverse.
func TestInstances(t *testing.T) {
	q := NewQueue(200)
	for _, objective := range []float64{0.0051, 0.006, 0.01, 0.1, 1} {
		for _, load := range []float64{0.1, 1, 150, 199, 200, 1234.5, 50_000, 1_000_000} {
			c := q.Instances(load, objective)
			if q.Response(c, load) > objective || c > 1 && q.Response(c-1, load) <= objective {
				t.Errorf("%g requests per second in %g s: %d instances take %g, %d %g", load, objective, c, q.Response(c, load), c-1, q.Response(c-1, load))
			}
			if q.Capacity(c, objective) < load || q.Capacity(c-1, objective) >= load {
				t.Errorf("%d instances have a capacity of %g, %d of %g, for %g", c, q.Capacity(c, objective), c-1, q.Capacity(c-1, objective), load)
			}
		}
	}
	if q.Instances(0, 1) != 0 || q.Instances(100, 0.004) != -1 || q.Capacity(100, 0.004) != 0 {
		t.Error("no load, or an objective that nothing reaches")
	}
}

// TestWorkers has instances that are sent requests by hash: each is a queue by itself, whose workers share its rate.
func TestWorkers(t *testing.T) {
	q := NewQueue(80)
	q.Workers = 4
	one := NewQueue(20)
	for _, load := range []float64{10, 100, 300, 470} {
		for name, pair := range map[string][2]float64{
			"mean":       {q.Response(6, load), one.Response(4, load/6)},
			"share":      {q.Longer(6, load, 0.1), one.Longer(4, load/6, 0.1)},
			"percentile": {q.Percentile(6, load, 0.95), one.Percentile(4, load/6, 0.95)},
		} {
			if pair[0] != pair[1] {
				t.Errorf("at %g per second the %s is %g, of one instance by itself %g", load, name, pair[0], pair[1])
			}
		}
	}
	if !math.IsInf(q.Response(6, 480), 1) || q.Response(6, 470) < NewQueue(80).Response(6, 470) {
		t.Error("queues of their own are not slower than one for all")
	}
	if got, want := q.Capacity(6, 0.15), 6*one.Capacity(4, 0.15); got != want {
		t.Errorf("six take %g, six times one takes %g", got, want)
	}
	if c := q.Instances(400, 0.15); q.Response(c, 400) > 0.15 || q.Response(c-1, 400) <= 0.15 {
		t.Errorf("%d instances for 400 per second", c)
	}
	if q.Instances(400, 0.049) != -1 {
		t.Error("an objective shorter than a request alone can be kept")
	}
	o := Options{Queue: q, Objective: 45 * time.Millisecond, Risk: 0.01, Step: time.Minute}
	if err := o.Check(); err == nil || !strings.Contains(err.Error(), "50ms") {
		t.Errorf("an objective below the 50 ms of a request: %v", err)
	}
}
