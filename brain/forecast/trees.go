package forecast

import (
	"context"

	"github.com/sluicelb/sluice/brain/forecast/trees"
)

// boosted is gradient boosting on the features: trees with the least absolute error, and for either end of the interval
// others with the loss of its quantile.
type boosted struct {
	Middle, Low, High *trees.Ensemble

	leaves int
	seed   uint64
}

// learn grows the trees. The ends of the interval are calibrated later, so fewer trees will do.
func (b *boosted) learn(ctx context.Context, s samples) (err error) {
	middle := trees.Boosting{Rounds: 300, Leaves: b.leaves, MinLeaf: 20, Rate: 0.05, Loss: trees.Absolute, Seed: b.seed}
	if b.Middle, err = middle.Fit(ctx, s.matrix(), s.y, nil); err != nil {
		return err
	}
	end := trees.Boosting{Rounds: 60, Leaves: 8, MinLeaf: 40, Rate: 0.1, Seed: b.seed}
	end.Loss = trees.Quantile(tail)
	if b.Low, err = end.Fit(ctx, s.matrix(), s.y, nil); err != nil {
		return err
	}
	end.Loss = trees.Quantile(1 - tail)
	b.High, err = end.Fit(ctx, s.matrix(), s.y, nil)
	return err
}

func (b *boosted) say(row []float32) [3]float64 {
	return [3]float64{float64(b.Low.Predict(row)), float64(b.Middle.Predict(row)), float64(b.High.Predict(row))}
}

// forest is extremely randomised trees on the features; the ends of the interval are quantiles of what the leaves
// remember (Meinshausen, "Quantile Regression Forests", 2006).
type forest struct {
	Trees *trees.Ensemble

	seed uint64
}

const (
	// leaves is about how many each tree has of much data: more would cost much memory, and tell noise.
	leaves = 1500
	// remembered is how many values each leaf keeps.
	remembered = 4
)

func (f *forest) learn(ctx context.Context, s samples) (err error) {
	grower := trees.Forest{Trees: 100, MinLeaf: max(4, s.count()/leaves), Features: 0.5, Extra: true, Seed: f.seed, Keep: remembered}
	f.Trees, err = grower.Fit(ctx, s.matrix(), s.y, nil)
	return err
}

func (f *forest) say(row []float32) [3]float64 {
	var ends [2]float32
	f.Trees.Quantiles(row, []float64{tail, 1 - tail}, ends[:])
	return [3]float64{float64(ends[0]), float64(f.Trees.Predict(row)), float64(ends[1])}
}

// matrix returns the rows as trees take them.
func (s samples) matrix() trees.Matrix { return trees.Matrix{Columns: FeatureCount, Data: s.x} }
