package scale

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/sluicelb/sluice/brain/forecast"
)

// waves returns days in steps of five minutes that have 50 and 150 requests per second every three hours in turn, with 3 % noise.
func waves(days int) *forecast.Data {
	random := rand.New(rand.NewPCG(1, 1))
	const perDay = 288
	data := forecast.NewData(forecast.Series{Start: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC), Step: 5 * time.Minute})
	for i := range days * perDay {
		data.Append(300 * wave(i, perDay) * (1 + 0.03*random.NormFloat64()))
	}
	return data
}

func wave(i, perDay int) float64 { return 50 + 100*float64(i*8/perDay%2) }

// TestPilot learns from twelve days, and orders ahead of every rise from the first one on; before it has learnt it only reacts. It
// goes on through a gap, and learns anew without forgetting whether it is to be trusted.
func TestPilot(t *testing.T) {
	o := Options{Queue: NewQueue(10), Objective: time.Second, Risk: 0.01, Boot: 10 * time.Minute, Step: 5 * time.Minute}
	data := waves(12)
	p := NewPilot(o, data, 1)
	before := p.Decide(data.Time(len(data.Values)), 50, 6, 6)
	if before.Predictive || p.Learns() {
		t.Errorf("it forecasts before it has learnt: %+v", before)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Learn(cancelled); !errors.Is(err, context.Canceled) || p.Learns() {
		t.Errorf("interrupted: %v", err)
	}
	if err := p.Learn(t.Context()); err != nil || !p.Learns() {
		t.Fatal(err)
	}
	observe := func(i int) time.Time {
		at := data.Start.Add(time.Duration(i) * o.Step)
		p.Observe(at.Add(o.Step/2), 300*wave(i, 288))
		p.Observe(at, 1e9) // is there already
		return at.Add(o.Step)
	}
	first := 12 * 288
	for i := range 60 {
		if i == 20 || i == 21 {
			continue // a gap
		}
		now := observe(first + i)
		d := p.Decide(now, wave(first+i, 288), 20, 20)
		load := wave(first+i+o.Lead(), 288) // that will be when what is ordered now is ready
		if need := float64(d.Instances) * 10; i > 25 && (!d.Predictive || need < load || load == 150 && need > 1.35*load) {
			t.Errorf("step %d: %d instances for %.0f per second (%v)", i, d.Instances, load, d.Reasons)
		}
	}
	if err := p.Learn(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := observe(first + 60)
	if d := p.Decide(now, wave(first+60, 288), 20, 20); !d.Predictive {
		t.Errorf("after it has learnt again it reacts: %v", d.Reasons)
	}
	if n := len(p.data.Values); !p.data.Time(n).Equal(now) {
		t.Errorf("the data end at %s, not %s", p.data.Time(n), now)
	}
}

// TestPilotShort has too little of the past, or none.
func TestPilotShort(t *testing.T) {
	o := Options{Queue: NewQueue(10), Objective: time.Second, Risk: 0.01, Step: 5 * time.Minute}
	for _, data := range []*forecast.Data{waves(1), waves(0), forecast.NewData(forecast.Series{Start: time.Unix(0, 0), Step: o.Step, Values: []float64{math.NaN(), math.NaN()}})} {
		p := NewPilot(o, data, 1)
		if err := p.Learn(t.Context()); !errors.Is(err, forecast.ErrTooShort) || p.Learns() {
			t.Errorf("%v", err)
		}
		p.Observe(data.Time(len(data.Values)+3), 3000)
		if d := p.Decide(time.Unix(1e9, 0), 35, 5, 5); d.Instances != 5 || !strings.Contains(d.Reasons[0], "no forecast") {
			t.Errorf("%+v", d)
		}
	}
}
