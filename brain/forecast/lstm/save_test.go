package lstm

import (
	"reflect"
	"testing"

	"github.com/sluicelb/sluice/brain/forecast/saved"
)

func TestSavedNetworkForecastsTheSame(t *testing.T) {
	data, _ := daily(5*day, 3, 1)
	n := fit(t, Options{Hidden: 9, Epochs: 1}, data, nil)
	var read Network
	if err := read.UnmarshalBinary(bytes(n)); err != nil {
		t.Fatal(err)
	}
	was, is := n.NewState(), read.NewState()
	for i := range data.steps() {
		n.Step(was, data.input(i))
		read.Step(is, data.input(i))
		if a, b := n.Forecast(was), read.Forecast(is); !reflect.DeepEqual(a, b) {
			t.Fatalf("step %d: %v, %v before it was saved", i, b, a)
		}
	}
}

func TestDamagedNetworkIsRefused(t *testing.T) {
	data, _ := daily(day, 1, 1)
	good := bytes(fit(t, Options{Hidden: 2, Epochs: 1}, data, nil))
	for i := range good {
		damaged := append([]byte(nil), good...)
		damaged[i] ^= 0x10
		if new(Network).UnmarshalBinary(damaged) == nil {
			t.Errorf("byte %d may change", i)
		}
		if new(Network).UnmarshalBinary(good[:i]) == nil {
			t.Errorf("%d bytes are enough", i)
		}
	}
}

// Whatever is read with a right checksum forecasts without a panic.
func FuzzUnmarshal(f *testing.F) {
	data, _ := daily(day, 2, 1)
	good := bytes(fit(f, Options{Hidden: 2, Epochs: 1}, data, nil))
	f.Add(good[:len(good)-4])
	f.Fuzz(func(t *testing.T, data []byte) {
		var n Network
		if n.UnmarshalBinary(saved.Seal(data)) != nil {
			return
		}
		state := n.NewState()
		n.Step(state, make([]float32, n.Shape().Features))
		n.Forecast(state)
	})
}
