package trees

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Forest learns trees that do not know of one another, and predicts their mean: a random forest (Breiman,
// "Random Forests", Machine Learning 45, 2001), or extremely randomised trees (Geurts, Ernst and Wehenkel,
// "Extremely Randomized Trees", Machine Learning 63, 2006). A zero field means its default.
type Forest struct {
	Trees    int     // default 100
	MinLeaf  int     // least rows of a leaf, each counting its weight over the mean weight; default 4
	Features float64 // share of the columns that are tried for a split, drawn anew for each; default 0.5
	Extra    bool    // try one random threshold of a column instead of all, and learn from all rows, not a bootstrap
	Bins     int     // classes of each column's numbers, 2 to MaxBins, the default
	Seed     uint64

	// Keep is how many targets each leaf remembers for Quantiles, drawn at random if it has more: all by
	// default, which costs 4 bytes a row and tree (8 with weights), and none when negative.
	Keep int
}

func (f Forest) complete() (Forest, error) {
	f.Trees = cmp.Or(f.Trees, 100)
	f.MinLeaf = cmp.Or(f.MinLeaf, 4)
	f.Features = cmp.Or(f.Features, 0.5)
	f.Bins = cmp.Or(f.Bins, MaxBins)
	f.Keep = cmp.Or(f.Keep, math.MaxInt)
	switch {
	case f.Trees < 0 || f.MinLeaf < 1:
		return f, fmt.Errorf("a forest cannot have %d trees with %d rows a leaf: give 1 or more", f.Trees, f.MinLeaf)
	case f.Bins < 2 || f.Bins > MaxBins:
		return f, fmt.Errorf("a forest cannot have %d bins: give 2 to %d", f.Bins, MaxBins)
	case !(f.Features > 0 && f.Features <= 1):
		return f, fmt.Errorf("a forest cannot try a share of %v of the features: give 0 to 1", f.Features)
	}
	return f, nil
}

// Fit learns from a table, the target of each row and, unless nil, the weight of each row. A row of weight 0
// is left out. It returns the context's error soon after that is done.
func (f Forest) Fit(ctx context.Context, x Matrix, y, weights []float32) (*Ensemble, error) {
	f, err := f.complete()
	if err != nil {
		return nil, err
	}
	e, err := collect(x, y, weights)
	if err != nil {
		return nil, err
	}
	g := &scattered{
		Forest:   f,
		examples: e,
		grower: grower{
			table:   cut(x, e.rows, f.Bins),
			samples: make([]sum, len(y)),
			minimum: float64(f.MinLeaf) - slack,
		},
		tries:   max(1, int(math.Round(f.Features*float64(x.Columns)))),
		columns: make([]int, x.Columns),
	}
	for i := range g.columns {
		g.columns[i] = i
	}
	g.ensemble = &Ensemble{columns: x.Columns, base: g.centre(), scale: 1 / float64(f.Trees)}
	for tree := range f.Trees {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		g.random = rand.New(rand.NewPCG(f.Seed, uint64(tree)))
		root := g.plant(g.draw())
		g.ensemble.roots = append(g.ensemble.roots, root.node)
		g.grow(&root)
	}
	g.ensemble.nodes = slices.Clip(g.nodes)
	return g.ensemble, nil
}

// scattered grows trees whose splits are left to chance.
type scattered struct {
	Forest
	*examples
	grower
	random    *rand.Rand
	tries     int // columns to try for a split
	columns   []int
	histogram histogram
	ensemble  *Ensemble
}

// centre makes the samples: the targets' distances from their mean, which it returns.
func (g *scattered) centre() float64 {
	var total sum
	for _, row := range g.examples.rows {
		total = total.plus(sum{float64(g.targets[row]) * g.weights[row], g.weights[row]})
	}
	mean := total.gradient / total.weight
	for _, row := range g.examples.rows {
		g.samples[row] = sum{(float64(g.targets[row]) - mean) * g.weights[row], g.weights[row]}
	}
	return mean
}

// draw returns the rows of the next tree: all, or as many drawn with replacement.
func (g *scattered) draw() []uint32 {
	if g.Extra {
		return g.examples.rows
	}
	drawn := make([]uint32, len(g.examples.rows))
	for i := range drawn {
		drawn[i] = g.examples.rows[g.random.IntN(len(drawn))]
	}
	slices.Sort(drawn)
	return drawn
}

// grow divides a leaf until nothing can be gained.
func (g *scattered) grow(l *leaf) {
	if l.total.weight >= 2*g.minimum {
		g.find(l)
	}
	if l.split.gain == 0 {
		g.finish(l)
		return
	}
	left, right := g.divide(l)
	g.grow(&left)
	g.grow(&right)
}

// find tries columns in random order, not counting those that are constant in the leaf.
func (g *scattered) find(l *leaf) {
	samples := g.order(l.rows)
	left := g.tries
	for i := range g.columns {
		j := i + g.random.IntN(len(g.columns)-i)
		g.columns[i], g.columns[j] = g.columns[j], g.columns[i]
		try := g.tryAll
		if g.Extra {
			try = g.tryOne
		}
		if try(l, g.columns[i], samples) {
			if left--; left == 0 {
				return
			}
		}
	}
}

// tryAll offers the best division of a column. It returns false when the column is constant.
func (g *scattered) tryAll(l *leaf, column int, samples []sum) bool {
	c := &g.table.columns[column]
	g.histogram = histogram{}
	g.histogram.add(c.classes, l.rows, samples)
	if g.histogram[c.classes[l.rows[0]]].weight > l.total.weight-slack {
		return false
	}
	l.split.search(&g.histogram, column, len(c.edges)+1, l.total, g.minimum)
	return true
}

// tryOne offers the division of a column at a random threshold between its smallest and its largest number,
// moved up to the next border of a class. It returns false when the column is constant.
func (g *scattered) tryOne(l *leaf, column int, samples []sum) bool {
	c := &g.table.columns[column]
	low, high := uint8(missing), uint8(0)
	var absent sum
	for i, row := range l.rows {
		if class := c.classes[row]; class == missing {
			absent = absent.plus(samples[i])
		} else {
			low, high = min(low, class), max(high, class)
		}
	}
	if low == missing || low == high && absent.weight == 0 {
		return false
	}
	class := low
	if low < high {
		class = c.between(low, high, g.random.Float64())
	}
	o := split{column: column, class: int(class)}
	for i, row := range l.rows {
		if c.classes[row] <= class {
			o.left = o.left.plus(samples[i])
		}
	}
	l.split.offer(o, l.total, g.minimum)
	if absent.weight != 0 {
		o.missingLeft, o.left = true, o.left.plus(absent)
		l.split.offer(o, l.total, g.minimum)
	}
	return true
}

// finish gives a leaf its value and lets it remember its targets.
func (g *scattered) finish(l *leaf) {
	e := g.ensemble
	g.nodes[l.node].Threshold = float32(l.total.gradient / l.total.weight)
	if g.Keep < 0 {
		return
	}
	g.nodes[l.node].Left = uint32(len(e.ends))
	if len(l.rows) > g.Keep {
		g.random.Shuffle(len(l.rows), func(i, j int) { l.rows[i], l.rows[j] = l.rows[j], l.rows[i] })
		l.rows = l.rows[:g.Keep]
	}
	for _, row := range l.rows {
		e.targets = append(e.targets, g.targets[row])
		if !g.single {
			e.weights = append(e.weights, float32(g.examples.weights[row]))
		}
	}
	e.ends = append(e.ends, uint32(len(e.targets)))
}

// HasQuantiles tells whether the leaves remember targets: they do in a forest, unless it was told to keep
// none.
func (e *Ensemble) HasQuantiles() bool { return len(e.ends) > 0 }

// Quantiles writes the quantiles qs, 0 to 1, of the target for a row to out: those of the targets in the
// leaves that the row ends up in, each leaf having the same say (Meinshausen, "Quantile Regression Forests",
// Journal of Machine Learning Research 7, 2006). Only for an ensemble that HasQuantiles.
func (e *Ensemble) Quantiles(row []float32, qs []float64, out []float32) {
	found := make([]weighted, 0, 16*len(e.roots))
	for _, root := range e.roots {
		found = e.remembered(found, e.leaf(root, row).Left)
	}
	slices.SortFunc(found, byValue)
	for i, q := range qs {
		out[i] = float32(quantile(found, q))
	}
}

// remembered appends the targets of a leaf, with weights of sum 1.
func (e *Ensemble) remembered(found []weighted, leaf uint32) []weighted {
	begin, end := uint32(0), e.ends[leaf]
	if leaf > 0 {
		begin = e.ends[leaf-1]
	}
	var total float32
	first := len(found)
	for i := begin; i < end; i++ {
		weight := float32(1)
		if len(e.weights) > 0 {
			weight = e.weights[i]
		}
		total += weight
		found = append(found, weighted{e.targets[i], weight})
	}
	for i := range found[first:] {
		found[first+i].weight /= total
	}
	return found
}
