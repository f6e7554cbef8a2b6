package forecast

import (
	"context"
	"testing"
	"time"
)

// TestDetector has a quarter of the traffic, four times, and three times as much from some moment on, each with the
// boosted model and by the last values alone.
func TestDetector(t *testing.T) {
	for name, fitted := range map[string]bool{"boosted": true, "robust z-score": false} {
		for want, factors := range map[AnomalyKind][]float64{Surge: {4, 1}, Drop: {0.25, 1}, LevelShift: {3, 3}} {
			t.Run(name+"/"+string(want), func(t *testing.T) {
				series := noisyDays(10, 0.05, 9)
				begin := len(series.Values) - 200
				data := NewData(Series{series.Start, series.Step, series.Values[:begin:begin]})
				d := Detector{Seed: 1}
				if fitted {
					if err := d.Fit(context.Background(), data); err != nil {
						t.Fatal(err)
					}
				}
				for _, v := range series.Values[begin : begin+10] {
					data.Append(v)
					if a, found := d.Look(data); found {
						t.Fatalf("usual traffic is an anomaly: %+v", a)
					}
				}
				var last Anomaly
				for i, factor := range factors {
					data.Append(series.Values[begin+10+i] * factor)
					a, found := d.Look(data)
					if found != (factor != 1) {
						t.Fatalf("value %d, %g times what is usual: found %v, %+v", i+1, factor, found, a)
					}
					if found {
						last = a
						if data.lesson(len(data.Values)-1) >= 0 {
							t.Error("it is learnt from")
						}
					}
				}
				data.Include(begin + 10)
				if !(data.lesson(begin+10) >= 0) {
					t.Error("it is not learnt from when it is confirmed")
				}
				if last.Kind != want {
					t.Errorf("it is taken for a %s: %+v", last.Kind, last)
				}
			})
		}
	}
}

// TestDetectorIsQuiet counts false alarms in traffic as it always is.
func TestDetectorIsQuiet(t *testing.T) {
	series := noisyDays(20, 0.1, 11)
	begin := 10 * 288
	data := NewData(Series{series.Start, series.Step, series.Values[:begin:begin]})
	d := Detector{Seed: 1}
	if err := d.Fit(context.Background(), data); err != nil {
		t.Fatal(err)
	}
	alarms := 0
	for _, v := range series.Values[begin:] {
		data.Append(v)
		if _, found := d.Look(data); found {
			alarms++
		}
	}
	if alarms > 3 {
		t.Errorf("%d alarms in %d usual values", alarms, len(series.Values)-begin)
	}
}

// TestPlannedIsNoAnomaly doubles traffic when an event says that it will: that is expected, and the same without the event is not.
func TestPlannedIsNoAnomaly(t *testing.T) {
	for _, planned := range []bool{true, false} {
		data := NewData(noisyDays(10, 0.03, 41))
		var detector Detector
		if err := detector.Fit(t.Context(), data); err != nil {
			t.Fatal(err)
		}
		if planned {
			data.Events = []Event{{"sale", data.Time(len(data.Values)), time.Hour, 2}}
		}
		wave := noisyDays(1, 0.03, 42).Values
		found := false
		for _, v := range wave[:6] {
			data.Append(2 * v)
			_, anomaly := detector.Look(data)
			found = found || anomaly
		}
		if found == planned {
			t.Errorf("traffic doubled, planned: %v, an anomaly: %v", planned, found)
		}
	}
}
