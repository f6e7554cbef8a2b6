package trees

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Boosting learns trees one after the other, each from what those before it got wrong (Friedman, "Greedy
// Function Approximation: A Gradient Boosting Machine", Annals of Statistics 29, 2001). A zero field means
// its default.
type Boosting struct {
	Rounds   int     // trees; default 300
	Leaves   int     // most leaves of a tree; those that gain most are divided first. Default 31
	MinLeaf  int     // least rows of a leaf, each counting its weight over the mean weight; default 20
	Rate     float64 // share of each tree's correction that is applied, 0 to 1; default 0.05
	Loss     Loss    // what to make small; default Squared
	Bins     int     // classes of each column's numbers, 2 to MaxBins, the default
	Features float64 // share of the columns that each tree may use, drawn at random; default 1, all
	Seed     uint64  // of the draw

	// Stopping early: the last rows, this share of all, are not learnt from, and when the loss on them has not
	// fallen for Patience rounds (default 10) the trees after its lowest point are dropped. 0 learns from all
	// rows and grows all trees.
	Held     float64
	Patience int
}

func (b Boosting) complete() (Boosting, error) {
	b.Rounds = cmp.Or(b.Rounds, 300)
	b.Leaves = cmp.Or(b.Leaves, 31)
	b.MinLeaf = cmp.Or(b.MinLeaf, 20)
	b.Rate = cmp.Or(b.Rate, 0.05)
	b.Bins = cmp.Or(b.Bins, MaxBins)
	b.Features = cmp.Or(b.Features, 1)
	b.Patience = cmp.Or(b.Patience, 10)
	switch {
	case b.Rounds < 0 || b.Leaves < 2 || b.MinLeaf < 1 || b.Patience < 1:
		return b, fmt.Errorf("boosting cannot have %d rounds of %d leaves with %d rows and a patience of %d: "+
			"give 2 leaves or more and 1 or more of the others", b.Rounds, b.Leaves, b.MinLeaf, b.Patience)
	case b.Bins < 2 || b.Bins > MaxBins:
		return b, fmt.Errorf("boosting cannot have %d bins: give 2 to %d", b.Bins, MaxBins)
	case !(b.Rate > 0 && b.Rate <= 1) || !(b.Features > 0 && b.Features <= 1) || !(b.Held >= 0 && b.Held < 1):
		return b, fmt.Errorf("boosting cannot have a rate of %v, a share of features of %v and one of held rows of "+
			"%v: give 0 to 1", b.Rate, b.Features, b.Held)
	case !(b.Loss >= 0 && b.Loss < 1):
		return b, fmt.Errorf("there is no quantile %v: give one between 0 and 1", float64(b.Loss))
	}
	return b, nil
}

// Fit learns from a table, the target of each row and, unless nil, the weight of each row. A row of weight 0
// is left out. It returns the context's error soon after that is done.
func (b Boosting) Fit(ctx context.Context, x Matrix, y, weights []float32) (*Ensemble, error) {
	b, err := b.complete()
	if err != nil {
		return nil, err
	}
	e, err := collect(x, y, weights)
	if err != nil {
		return nil, err
	}
	held := e.rows[len(e.rows)-int(b.Held*float64(len(e.rows))):]
	e.rows = e.rows[:len(e.rows)-len(held)]
	c := &course{Boosting: b, examples: e, x: x, held: held}
	return c.run(ctx)
}

// FitSpread learns how large the target is, and from what is left how far targets lie from that, with the options of widths; with
// absolute errors both are medians. It overwrites y.
func (b Boosting) FitSpread(ctx context.Context, x Matrix, y []float32, widths Boosting) (middle, width *Ensemble, err error) {
	if middle, err = b.Fit(ctx, x, y, nil); err != nil {
		return nil, nil, err
	}
	for i := range y {
		y[i] = float32(math.Abs(float64(y[i] - middle.Predict(x.Row(i)))))
	}
	width, err = widths.Fit(ctx, x, y, nil)
	return middle, width, err
}

// course is one run of Boosting.
type course struct {
	Boosting
	*examples
	x          Matrix
	held       []uint32  // rows that are not learnt from
	predicted  []float64 // of every row, by the trees so far
	correction []weighted
	ensemble   *Ensemble
}

func (c *course) run(ctx context.Context) (*Ensemble, error) {
	grower := &bestFirst{
		grower: grower{
			table:   cut(c.x, c.rows, c.Bins),
			samples: make([]sum, len(c.targets)),
			minimum: float64(c.MinLeaf) - slack,
		},
		random:   rand.New(rand.NewPCG(c.Seed, 0)),
		features: max(1, int(math.Round(c.Features*float64(c.x.Columns)))),
	}
	c.predicted = make([]float64, len(c.targets))
	base := c.value(c.rows)
	for i := range c.predicted {
		c.predicted[i] = base
	}
	c.ensemble = &Ensemble{columns: c.x.Columns, base: base, scale: 1}
	lowest, best := c.heldLoss(), 0
	for round := 1; round <= c.Rounds && (len(c.held) == 0 || round-best <= c.Patience); round++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c.round(grower)
		if loss := c.heldLoss(); loss < lowest {
			lowest, best = loss, round
		}
	}
	if len(c.held) > 0 && best < len(c.ensemble.roots) {
		c.ensemble.nodes = c.ensemble.nodes[:c.ensemble.roots[best]]
		c.ensemble.roots = c.ensemble.roots[:best]
	}
	c.ensemble.nodes = slices.Clip(c.ensemble.nodes)
	return c.ensemble, nil
}

// round grows one tree along the gradient. Its leaves then get the value that makes the loss of their rows
// least.
func (c *course) round(g *bestFirst) {
	for _, row := range c.rows {
		weight := c.weights[row]
		gradient := c.Loss.gradient(float64(c.targets[row]) - c.predicted[row])
		g.samples[row] = sum{gradient * weight, weight}
	}
	root := uint32(len(g.nodes))
	for _, l := range g.grow(c.rows, c.Leaves) {
		value := float32(c.Rate * c.value(l.rows))
		g.nodes[l.node].Threshold = value
		for _, row := range l.rows {
			c.predicted[row] += float64(value)
		}
	}
	c.ensemble.roots = append(c.ensemble.roots, root)
	c.ensemble.nodes = g.nodes
	for _, row := range c.held {
		c.predicted[row] += float64(c.ensemble.leaf(root, c.x.Row(int(row))).Threshold)
	}
}

// value returns what to add to the predictions of these rows to make their loss least.
func (c *course) value(rows []uint32) float64 {
	c.correction = c.correction[:0]
	for _, row := range rows {
		residual := float32(float64(c.targets[row]) - c.predicted[row])
		c.correction = append(c.correction, weighted{residual, float32(c.weights[row])})
	}
	return c.Loss.centre(c.correction)
}

func (c *course) heldLoss() float64 {
	var loss float64
	for _, row := range c.held {
		loss += c.weights[row] * c.Loss.of(float64(c.targets[row])-c.predicted[row])
	}
	return loss
}

// bestFirst grows trees leaf by leaf, always dividing the one that gains most.
type bestFirst struct {
	grower
	random   *rand.Rand
	features int // columns that a tree may use
	columns  []int
	spare    [][]histogram
}

// branch is a leaf with the histograms of its columns.
type branch struct {
	leaf
	histograms []histogram // nil when it is too small to be divided
}

func (g *bestFirst) grow(rows []uint32, most int) []branch {
	g.draw()
	branches := append(make([]branch, 0, most), branch{leaf: g.plant(rows)})
	g.count(&branches[0])
	g.search(&branches[0])
	for len(branches) < most {
		best := 0
		for i := range branches {
			if branches[i].split.gain > branches[best].split.gain {
				best = i
			}
		}
		if branches[best].split.gain == 0 {
			break
		}
		left, right := g.divide(&branches[best])
		branches[best] = left
		branches = append(branches, right)
	}
	for i := range branches {
		g.release(&branches[i])
	}
	return branches
}

// draw chooses the columns of the next tree.
func (g *bestFirst) draw() {
	if len(g.columns) != g.features || g.features < len(g.table.columns) {
		g.columns = g.random.Perm(len(g.table.columns))[:g.features]
		slices.Sort(g.columns)
	}
}

// divide makes two branches of one. Only the smaller one's rows are counted: the rest of the histograms is
// the other's.
func (g *bestFirst) divide(b *branch) (left, right branch) {
	left.leaf, right.leaf = g.grower.divide(&b.leaf)
	small, large := &left, &right
	if len(left.rows) > len(right.rows) {
		small, large = large, small
	}
	if large.total.weight >= 2*g.minimum || small.total.weight >= 2*g.minimum {
		g.count(small)
		large.histograms, b.histograms = b.histograms, nil
		for i := range large.histograms {
			large.histograms[i].subtract(&small.histograms[i])
		}
		g.search(small)
		g.search(large)
	}
	g.release(b)
	return left, right
}

func (g *bestFirst) count(b *branch) {
	if last := len(g.spare) - 1; last >= 0 {
		b.histograms, g.spare = g.spare[last], g.spare[:last]
	} else {
		b.histograms = make([]histogram, g.features)
	}
	samples := g.order(b.rows)
	for i, column := range g.columns {
		b.histograms[i] = histogram{}
		b.histograms[i].add(g.table.columns[column].classes, b.rows, samples)
	}
}

// search finds the best split of a branch.
func (g *bestFirst) search(b *branch) {
	for i, column := range g.columns {
		classes := len(g.table.columns[column].edges) + 1
		b.split.search(&b.histograms[i], column, classes, b.total, g.minimum)
	}
}

func (g *bestFirst) release(b *branch) {
	if b.histograms != nil {
		g.spare = append(g.spare, b.histograms)
		b.histograms = nil
	}
}
