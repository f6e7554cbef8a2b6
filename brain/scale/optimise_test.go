package scale

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// bruteForce tries every mix.
func bruteForce(types []Type, outcomes []Outcome, violation, risk float64) (best float64) {
	best = math.Inf(1)
	highest := 0.0
	for _, o := range outcomes {
		highest = max(highest, o.Load)
	}
	count := make([]int, len(types))
	var try func(int)
	try = func(i int) {
		if i == len(types) {
			if m := measure(types, count, outcomes, violation); m.Risk <= risk+1e-9 {
				best = min(best, m.Cost)
			}
			return
		}
		most := int(highest/types[i].Capacity) + 1
		if types[i].Most > 0 {
			most = min(most, types[i].Most)
		}
		for n := range most + 1 {
			count[i] = n
			try(i + 1)
		}
		count[i] = 0
	}
	try(0)
	return best
}

// TestOptimise compares with every mix there is, in 1,000 random cases.
func TestOptimise(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 1))
	impossible := 0
	for i := range 1000 {
		var types []Type
		for range 1 + random.IntN(3) {
			types = append(types, Type{Capacity: float64(5 + random.IntN(40)), Price: float64(random.IntN(20)) / 4, Most: random.IntN(3) * random.IntN(6)})
		}
		var outcomes []Outcome
		count := 1 + random.IntN(6)
		for range count {
			outcomes = append(outcomes, Outcome{float64(random.IntN(150)), 1 / float64(count)})
		}
		violation, risk := float64(random.IntN(30)), []float64{0.01, 0.2, 0.5, 1}[random.IntN(4)]
		want := bruteForce(types, outcomes, violation, risk)
		got, err := Optimise(types, outcomes, violation, risk)
		switch {
		case math.IsInf(want, 1):
			impossible++
			if err == nil {
				t.Fatalf("case %d: no mix is enough, and it is %+v", i, got)
			}
		case err != nil || math.Abs(got.Cost-want) > 1e-9:
			t.Fatalf("case %d: %+v (%v) for %+v, %+v, violation %g, risk %g; the least cost is %g", i, got, err, types, outcomes, violation, risk, want)
		}
		if err == nil {
			if again := measure(types, got.Count, outcomes, violation); again.Cost != got.Cost || again.Capacity != got.Capacity || got.Risk > risk+1e-9 {
				t.Fatalf("case %d: the mix %+v is in truth %+v", i, got, again)
			}
		}
	}
	if impossible == 0 || impossible > 500 {
		t.Errorf("%d of 1000 cases are impossible: the cases say little", impossible)
	}
}

func TestOptimiseWrong(t *testing.T) {
	demand := []Outcome{{100, 1}}
	for want, types := range map[string][]Type{
		"no type":     nil,
		`type "a"`:    {{Name: "a", Price: 1}},
		"no mix":      {{Name: "a", Capacity: 10, Price: 1, Most: 9}},
		"capacity of": {{Name: "a", Capacity: math.NaN(), Price: 1}},
	} {
		if m, err := Optimise(types, demand, 0, 0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %+v, %v; not %q", types, m, err, want)
		}
	}
}

// BenchmarkOptimise has one service with three types of instances and a hundred outcomes, of some and of thousands of instances.
func BenchmarkOptimise(b *testing.B) {
	shape := make([]float32, 20_000)
	random := rand.New(rand.NewPCG(12, 1))
	for i := range shape {
		shape[i] = float32(random.NormFloat64())
	}
	d := &Demand{scores: shape}
	d.sort()
	for _, load := range []float64{1e3, 1e5, 1e6} {
		b.Run(fmt.Sprint(load), func(b *testing.B) {
			types := []Type{{"small", 190, 0.05, 0}, {"middle", 395, 0.096, 0}, {"large", 820, 0.21, 0}}
			ahead := Distribution{math.Log(60 * load), 0.2, d.shape}
			for b.Loop() {
				if _, err := Optimise(types, ahead.Outcomes(100, time.Minute), 50, 0.01); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
