package lstm

import (
	"errors"
	"fmt"
	"math"

	"github.com/sluicelb/sluice/brain/forecast/saved"
)

const (
	kind    = "lstm"
	version = 1
)

// most is more than any number of features, cells or targets: their products stay far below what overflows.
const most = 1 << 15

type header struct{ Features, Hidden, Horizon uint32 }

// MarshalBinary returns 4 bytes a weight: 400 KB for 47 features, 128 cells and 15 targets.
func (n *Network) MarshalBinary() ([]byte, error) {
	h := header{uint32(n.shape.Features), uint32(n.shape.Hidden), uint32(n.shape.Horizon)}
	return saved.Encode(kind, version, h, n.features, n.targets, n.parameters)
}

// UnmarshalBinary reads what MarshalBinary wrote, and refuses what could not come from it. The network is
// unchanged when it returns an error.
func (n *Network) UnmarshalBinary(data []byte) error {
	var h header
	var read Network
	if err := saved.Decode(kind, version, data, &h, &read.features, &read.targets, &read.parameters); err != nil {
		return err
	}
	read.shape = Shape{int(h.Features), int(h.Hidden), int(h.Horizon)}
	if err := read.check(); err != nil {
		return fmt.Errorf("the saved network is damaged (%w): fit it anew", err)
	}
	read.weights = read.shape.view(read.parameters)
	*n = read
	return nil
}

func (n *Network) check() error {
	s := n.shape
	if min(s.Features, s.Hidden, s.Horizon) < 1 || max(s.Features, s.Hidden, s.Horizon) > most {
		return errors.New("impossible size")
	}
	if len(n.features) != s.Features || len(n.targets) != s.Horizon || len(n.parameters) != s.parameters() {
		return errors.New("its weights do not match its size")
	}
	for _, scales := range [][]scale{n.features, n.targets} {
		for _, s := range scales {
			if !finite(float64(s.Mean)) || !(s.Deviation > 0 && s.Deviation <= math.MaxFloat32) {
				return errors.New("impossible scale")
			}
		}
	}
	for _, parameter := range n.parameters {
		if !finite(float64(parameter)) {
			return errors.New("a weight is no number")
		}
	}
	return nil
}
