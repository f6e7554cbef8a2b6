package p2c

import (
	"testing"
	"time"
)

func TestAlarm(t *testing.T) {
	a, err := newAlarm()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []time.Duration{-time.Second, 0, 100 * time.Microsecond, 5 * time.Millisecond} {
		began := time.Now()
		if err := a.sleep(d); err != nil || time.Since(began) < d {
			t.Errorf("a sleep of %v took %v (%v)", d, time.Since(began), err)
		}
	}
	woken := make(chan error)
	go func() { woken <- a.sleep(time.Hour) }()
	a.Close()
	if err := <-woken; err == nil {
		t.Error("a sleep whose alarm is closed ends well")
	}
}
