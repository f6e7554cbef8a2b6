package health

import (
	"math"
	"testing"
	"time"
)

func TestAverageForgets(t *testing.T) {
	var a average
	now := time.Now()
	for range 100 {
		a.observe(1, now, time.Second)
		now = now.Add(100 * time.Millisecond)
	}
	if got := a.mean(0); math.Abs(got-1) > 1e-9 {
		t.Errorf("the mean of ones is %v", got)
	}
	for range 10 { // one span
		a.observe(0, now, time.Second)
		now = now.Add(100 * time.Millisecond)
	}
	if got := a.mean(0); math.Abs(got-1/math.E) > 0.01 {
		t.Errorf("after a span of zeros the mean is %v, want 1/e", got)
	}
}

func TestAverageCountsOneSampleAfterSilenceOnce(t *testing.T) {
	var a average
	now := time.Now()
	a.observe(0, now, time.Second)
	a.observe(1, now.Add(time.Hour), time.Second)
	if got := a.mean(priorHandshakes); got > 1/(1+priorHandshakes)+1e-9 {
		t.Errorf("one failure after a long silence makes %v", got)
	}
}

func TestEstimatorFollowsRFC6298(t *testing.T) {
	var e estimator
	timing, _ := ProfileDefault.Timing()
	if e.timeout(timing) != timing.Timeout {
		t.Error("without a sample the timeout is not the longest")
	}
	e.observe(8 * time.Millisecond)
	if e.mean != 8*time.Millisecond || e.deviation != 4*time.Millisecond || e.late() != 24*time.Millisecond {
		t.Errorf("first sample: %+v", e)
	}
	e.observe(16 * time.Millisecond) // |8-16| = 8: deviation 3/4*4 + 1/4*8 = 5; mean 7/8*8 + 1/8*16 = 9
	if e.mean != 9*time.Millisecond || e.deviation != 5*time.Millisecond {
		t.Errorf("second sample: %+v", e)
	}
}

// Samples that come in another order than they were taken in are not forgotten twice.
func TestAverageOfLateSamples(t *testing.T) {
	var a average
	now := time.Unix(1000, 0)
	a.observe(1, now, time.Second)
	a.observe(1, now.Add(-time.Second), time.Second)
	a.decay(now, time.Second)
	if a.weight != 2 {
		t.Errorf("two samples weigh %v", a.weight)
	}
}
