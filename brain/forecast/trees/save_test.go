package trees

import (
	"slices"
	"strings"
	"testing"

	"github.com/sluicelb/sluice/brain/forecast/saved"
)

func bytes(e *Ensemble) []byte {
	data, err := e.MarshalBinary()
	if err != nil {
		panic(err)
	}
	return data
}

// small returns an ensemble of each kind, and a row for it.
func small(t testing.TB) map[string]*Ensemble {
	x, y := noisy(60, 2, 1)
	weights := slices.Repeat([]float32{1, 2}, 30)
	boosting, err := Boosting{Rounds: 3, Leaves: 3}.Fit(t.Context(), x, y, nil)
	if err != nil {
		t.Fatal(err)
	}
	forest, err := Forest{Trees: 3, MinLeaf: 10}.Fit(t.Context(), x, y, weights)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*Ensemble{"boosting": boosting, "forest": forest}
}

func TestSavedTreesPredictTheSame(t *testing.T) {
	x, _ := noisy(100, 2, 3)
	for name, e := range small(t) {
		var read Ensemble
		if err := read.UnmarshalBinary(bytes(e)); err != nil {
			t.Fatal(err)
		}
		var was, is [2]float32
		for i := range x.Rows() {
			if e.HasQuantiles() {
				e.Quantiles(x.Row(i), []float64{0.1, 0.9}, was[:])
				read.Quantiles(x.Row(i), []float64{0.1, 0.9}, is[:])
			}
			if e.Predict(x.Row(i)) != read.Predict(x.Row(i)) || was != is {
				t.Fatalf("%s: row %d is predicted otherwise", name, i)
			}
		}
	}
}

func TestDamagedTreesAreRefused(t *testing.T) {
	for name, e := range small(t) {
		data := bytes(e)
		for i := range data {
			damaged := slices.Clone(data)
			damaged[i] ^= 0x10
			if new(Ensemble).UnmarshalBinary(damaged) == nil {
				t.Errorf("%s: byte %d may change", name, i)
			}
			if new(Ensemble).UnmarshalBinary(data[:i]) == nil {
				t.Errorf("%s: %d bytes are enough", name, i)
			}
		}
		newer := slices.Clone(data[:len(data)-4])
		newer[4]++
		err := new(Ensemble).UnmarshalBinary(saved.Seal(newer))
		if err == nil || !strings.Contains(err.Error(), "version 2") {
			t.Errorf("%s of the next version: %v", name, err)
		}
	}
}

// Whatever is read with a right checksum predicts without a panic.
func FuzzUnmarshal(f *testing.F) {
	for _, e := range small(f) {
		data := bytes(e)
		f.Add(data[:len(data)-4])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var e Ensemble
		if e.UnmarshalBinary(saved.Seal(data)) != nil {
			return
		}
		row := make([]float32, e.Columns())
		e.Predict(row)
		if e.HasQuantiles() && e.Trees() > 0 {
			e.Quantiles(row, []float64{0.5}, make([]float32, 1))
		}
	})
}
