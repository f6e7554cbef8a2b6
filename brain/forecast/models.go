package forecast

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// modelMakers are the models in the order of reports; the baselines first.
var modelMakers = []struct {
	name   string
	create func(Options) Model
}{
	{Naive, func(o Options) Model { return o.pointModel(&simple{lastValue}) }},
	{SeasonalNaive, func(o Options) Model { return o.pointModel(&simple{sameTimeYesterday}) }},
	{MovingAverage, func(o Options) Model { return o.pointModel(&simple{recentMean}) }},
	{HoltWinters, func(o Options) Model { return o.pointModel(new(holtWinters)) }},
	{ARIMA, func(o Options) Model { return o.pointModel(new(arima)) }},
	{Formula, func(o Options) Model { return o.pointModel(newFormula(o.Knots)) }},
	{Ridge, func(o Options) Model { return newDirect(o.Knots, func() *linear { return new(linear) }) }},
	{Boosting, func(o Options) Model {
		return newDirect(o.Knots, func() *boosted { return &boosted{leaves: 31, seed: o.Seed} })
	}},
	{BoostingSmall, func(o Options) Model {
		return newDirect(o.Knots, func() *boosted { return &boosted{leaves: 8, seed: o.Seed + 1} })
	}},
	{Forest, func(o Options) Model { return newDirect(o.Knots, func() *forest { return &forest{seed: o.Seed + 2} }) }},
	{LSTM, func(o Options) Model { return newRecurrent(o) }},
}

func (o Options) pointModel(p point) Model {
	return &pointModel{point: p, path: make([]float64, o.Horizon)}
}

// AllModels are the names of all models, the baselines first.
func AllModels() []string {
	names := make([]string, len(modelMakers))
	for i, m := range modelMakers {
		names[i] = m.name
	}
	return names
}

// Options say what is forecast, and with what.
type Options struct {
	Horizon int      // steps ahead
	Knots   []int    // the steps ahead that models on features learn and that are calibrated, rising; the last one is Horizon. nil is a few
	Models  []string // nil is all; the baselines are always among them
	Seed    uint64
	// Patience is how long a model may take for a forecast; one that takes longer three times in a row is not asked again
	// until it is fitted anew. 0 is as long as it likes: then equal data always gives equal forecasts.
	Patience time.Duration
}

// complete returns the options with defaults for what is absent.
func (o Options) complete() (Options, error) {
	if o.Horizon < 1 {
		return o, fmt.Errorf("a horizon of %d steps is none: forecast at least one step", o.Horizon)
	}
	if o.Knots == nil {
		o.Knots = knots(o.Horizon)
	}
	for _, name := range o.Models {
		if !slices.Contains(AllModels(), name) {
			return o, fmt.Errorf("model %q is not known (known: %s)", name, strings.Join(AllModels(), ", "))
		}
	}
	return o, nil
}

// models creates the models that the options name.
func (o Options) models() []*member {
	var members []*member
	for _, m := range modelMakers {
		if o.Models == nil || slices.Contains(o.Models, m.name) || slices.Contains(Baselines(), m.name) {
			members = append(members, &member{Name: m.name, Model: m.create(o)})
		}
	}
	return members
}
