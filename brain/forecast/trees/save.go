package trees

import (
	"errors"
	"fmt"
	"math"

	"github.com/sluicelb/sluice/brain/forecast/saved"
)

const (
	kind    = "tree"
	version = 1
)

// header is what a saved ensemble has once.
type header struct {
	Columns     uint32
	Base, Scale float64
}

// MarshalBinary returns 11 bytes a node, and those of what the leaves remember.
func (e *Ensemble) MarshalBinary() ([]byte, error) {
	return saved.Encode(kind, version, header{uint32(e.columns), e.base, e.scale},
		e.roots, e.nodes, e.ends, e.targets, e.weights)
}

// UnmarshalBinary reads what MarshalBinary wrote, and refuses what could not come from it. The ensemble is
// unchanged when it returns an error.
func (e *Ensemble) UnmarshalBinary(data []byte) error {
	var h header
	var read Ensemble
	err := saved.Decode(kind, version, data, &h, &read.roots, &read.nodes, &read.ends, &read.targets, &read.weights)
	if err != nil {
		return err
	}
	read.columns, read.base, read.scale = int(h.Columns), h.Base, h.Scale
	if err := read.check(); err != nil {
		return fmt.Errorf("the saved trees are damaged (%w): fit them anew", err)
	}
	*e = read
	return nil
}

// check makes sure that every prediction ends, and is a finite number.
func (e *Ensemble) check() error {
	if e.columns < 1 || e.columns >= none || !finite(e.base) || !finite(e.scale) {
		return errors.New("impossible header")
	}
	for i, root := range e.roots {
		end := uint32(len(e.nodes))
		if i+1 < len(e.roots) {
			end = e.roots[i+1]
		}
		if root >= end || end > uint32(len(e.nodes)) {
			return fmt.Errorf("tree %d is out of place", i)
		}
		for k := root; k < end; k++ {
			if err := e.checkNode(k, end); err != nil {
				return err
			}
		}
	}
	return e.checkTargets()
}

// checkNode checks one node of the tree that ends before end. Children come after their parents, so a row
// gets to a leaf.
func (e *Ensemble) checkNode(k, end uint32) error {
	switch n := e.nodes[k]; {
	case n.Column != none && (n.Left <= k || n.Left >= end-1 || int(n.Column) >= e.columns):
		return fmt.Errorf("node %d leads nowhere", k)
	case n.Column == none && !finite(float64(n.Threshold)):
		return fmt.Errorf("leaf %d has no value", k)
	case n.Column == none && len(e.ends) > 0 && n.Left >= uint32(len(e.ends)):
		return fmt.Errorf("leaf %d remembers nothing", k)
	}
	return nil
}

func (e *Ensemble) checkTargets() error {
	begin := uint32(0)
	for i, end := range e.ends {
		if end <= begin {
			return fmt.Errorf("leaf %d remembers nothing", i)
		}
		begin = end
	}
	if int(begin) != len(e.targets) || len(e.weights) > 0 && len(e.weights) != len(e.targets) {
		return errors.New("leaves and targets do not match")
	}
	for i, target := range e.targets {
		if !finite(float64(target)) || len(e.weights) > 0 && !(e.weights[i] > 0 && finite(float64(e.weights[i]))) {
			return fmt.Errorf("target %d is none", i)
		}
	}
	return nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
