package lstm

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// Of 90 days of 5 minutes, with 47 features and 15 targets.
func benchData() Data {
	random := rand.New(rand.NewPCG(1, 1))
	data := Data{Features: 47, Horizon: 15, Inputs: make([]float32, 25_920*47), Targets: make([]float32, 25_920*15)}
	for _, numbers := range [][]float32{data.Inputs, data.Targets} {
		for i := range numbers {
			numbers[i] = float32(random.NormFloat64())
		}
	}
	return data
}

func BenchmarkFit(b *testing.B) {
	data := benchData()
	for _, hidden := range []int{64, 128} {
		b.Run(fmt.Sprint(hidden), func(b *testing.B) {
			for b.Loop() {
				fit(b, Options{Hidden: hidden}, data, nil)
			}
		})
	}
}

func BenchmarkForecast(b *testing.B) {
	data := benchData()
	for _, hidden := range []int{64, 128} {
		n := newNetwork(Shape{data.Features, hidden, data.Horizon}, 1)
		n.features, n.targets = scales(data.Inputs, data.Features), scales(data.Targets, data.Horizon)
		state, step := n.NewState(), 0
		b.Run(fmt.Sprintf("step-%d", hidden), func(b *testing.B) {
			for b.Loop() {
				n.Step(state, data.input(step%data.steps()))
				step++
			}
		})
		b.Run(fmt.Sprintf("forecast-%d", hidden), func(b *testing.B) {
			for b.Loop() {
				n.Forecast(state)
			}
		})
	}
}
