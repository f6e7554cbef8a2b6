// Package trees learns ensembles of regression trees: gradient boosting, random forests and extremely
// randomised trees. Numbers in, numbers out: it knows nothing of time or traffic.
//
// All of them work on bins: each column's numbers are cut into at most 255 classes at their quantiles, so a
// split is found by adding up a histogram instead of sorting (Ke et al., "LightGBM: A Highly Efficient
// Gradient Boosting Decision Tree", NIPS 2017). What is learnt is a function of the data, the options and the
// seed alone, bit for bit on one machine: a single goroutine adds everything up in one order.
package trees

import (
	"fmt"
	"math"
)

// Matrix is a table of numbers, row after row. A NaN is a missing number; it goes to the side of a split
// where such rows were better off in training.
type Matrix struct {
	Columns int
	Data    []float32 // rows x Columns
}

// Rows returns how many rows the table has.
func (m Matrix) Rows() int { return len(m.Data) / m.Columns }

// Row returns one row, not a copy.
func (m Matrix) Row(i int) []float32 { return m.Data[i*m.Columns : (i+1)*m.Columns] }

// node is an inner node, or a leaf. The children of an inner node lie side by side, after it.
type node struct {
	Threshold   float32 // a number not above it goes left; of a leaf: its value
	Left        uint32  // the left child, the right one follows it; of a leaf of a forest: its number
	Column      uint16  // whose number is compared; none for a leaf
	MissingLeft bool    // where a missing number goes
}

const none = math.MaxUint16

// Ensemble is what Boosting and Forest learn. Safe for concurrent use; unmarshalling is not.
type Ensemble struct {
	columns int
	base    float64  // prediction without any tree
	scale   float64  // of the trees' sum
	roots   []uint32 // the first node of each tree
	nodes   []node

	// Of forests: the training targets that ended up in each leaf, and their weights when there were any.
	// Leaf number i has those from ends[i-1] to ends[i].
	ends    []uint32
	targets []float32
	weights []float32
}

// Columns returns how many numbers a row must have.
func (e *Ensemble) Columns() int { return e.columns }

// Trees returns how many trees there are: fewer than asked for when boosting stopped early.
func (e *Ensemble) Trees() int { return len(e.roots) }

// Predict returns the prediction for a row of Columns numbers: an estimate of the mean (squared error,
// forests) or of the quantile that the loss asked for.
func (e *Ensemble) Predict(row []float32) float32 {
	var sum float64
	for _, root := range e.roots {
		sum += float64(e.leaf(root, row).Threshold)
	}
	return float32(e.base + e.scale*sum)
}

// leaf returns the one that a row ends up in.
func (e *Ensemble) leaf(root uint32, row []float32) *node {
	n := &e.nodes[root]
	for n.Column != none {
		next := n.Left
		if value := row[n.Column]; value > n.Threshold || value != value && !n.MissingLeft {
			next++
		}
		n = &e.nodes[next]
	}
	return n
}

// examples are the rows to learn from.
type examples struct {
	rows    []uint32  // those with weight, in order
	targets []float32 // of every row, those without weight too
	weights []float64 // of every row, scaled to a mean of 1 over those with weight
	single  bool      // all weights are 1
}

// collect checks what was given to a Fit.
func collect(x Matrix, y, weights []float32) (*examples, error) {
	switch {
	case x.Columns < 1 || x.Columns >= none || len(x.Data)%x.Columns != 0:
		return nil, fmt.Errorf("%d numbers make no table of %d columns: give 1 to %d columns and full rows",
			len(x.Data), x.Columns, none-1)
	case len(y) != x.Rows():
		return nil, fmt.Errorf("%d targets for %d rows: give one for each row", len(y), x.Rows())
	case weights != nil && len(weights) != x.Rows():
		return nil, fmt.Errorf("%d weights for %d rows: give one for each row, or nil", len(weights), x.Rows())
	}
	e := &examples{targets: y, weights: make([]float64, len(y)), single: weights == nil}
	var total float64
	for i, target := range y {
		weight := 1.0
		if weights != nil {
			weight = float64(weights[i])
		}
		if !(weight >= 0 && weight <= math.MaxFloat32) {
			return nil, fmt.Errorf("the weight of row %d is %v: give a finite one, 0 to leave the row out", i, weight)
		}
		if weight == 0 {
			continue
		}
		if value := float64(target); math.IsNaN(value) || math.IsInf(value, 0) {
			return nil, fmt.Errorf("the target of row %d is %v: leave such rows out, or give them no weight", i, target)
		}
		e.rows = append(e.rows, uint32(i))
		e.weights[i] = weight
		total += weight
	}
	if len(e.rows) == 0 {
		return nil, fmt.Errorf("none of %d rows has weight: there is nothing to learn from", len(y))
	}
	for i := range e.weights {
		e.weights[i] *= float64(len(e.rows)) / total
	}
	return e, nil
}
