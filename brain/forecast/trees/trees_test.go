package trees

import (
	"context"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

var nan = float32(math.NaN())

// table makes a matrix of rows.
func table(rows ...[]float32) Matrix {
	return Matrix{Columns: len(rows[0]), Data: slices.Concat(rows...)}
}

// noisy makes a table of uniform numbers, and targets that depend on the first two columns, with noise of
// deviation 1 + the second column. A tenth of the numbers of the first column is missing.
func noisy(rows, columns int, seed uint64) (Matrix, []float32) {
	random := rand.New(rand.NewPCG(seed, 7))
	x := Matrix{Columns: columns, Data: make([]float32, rows*columns)}
	y := make([]float32, rows)
	for i := range rows {
		row := x.Row(i)
		for k := range row {
			row[k] = random.Float32()
		}
		y[i] = 10*float32(math.Sin(6*float64(row[0]))) + (1+row[1])*float32(random.NormFloat64())
		if random.IntN(10) == 0 {
			row[0] = nan
		}
	}
	return x, y
}

func fit(t *testing.T, x Matrix, y []float32, learner interface {
	Fit(context.Context, Matrix, []float32, []float32) (*Ensemble, error)
}) *Ensemble {
	t.Helper()
	e, err := learner.Fit(t.Context(), x, y, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// One tree of two leaves at full rate, worked out by hand.
func TestBoostingByHand(t *testing.T) {
	x := table([]float32{1}, []float32{2}, []float32{3}, []float32{4}, []float32{5})
	y := []float32{1, 2, 3, 10, 16}
	for _, test := range []struct {
		loss      Loss
		low, high float32 // predictions of the leaves
	}{
		// {1, 2, 3} and {10, 16} leave squared errors of 2 and 18; {1, 2, 3, 10} alone has 50.
		{Squared, 2, 13},
		// The median is 3, and the signs of what is left -, -, + (for 0), +, +.
		{Absolute, 1.5, 10},
		// The 0.9-quantile of five lies in the middle of the last, 16: signs -, -, -, -, +. Of four, it
		// lies past that middle: 10.
		{Quantile(0.9), 10, 16},
	} {
		e := fit(t, x, y, Boosting{Rounds: 1, Leaves: 2, MinLeaf: 1, Rate: 1, Loss: test.loss})
		low, high := e.Predict([]float32{1}), e.Predict([]float32{6})
		if math.Abs(float64(low-test.low)) > 1e-5 || math.Abs(float64(high-test.high)) > 1e-5 {
			t.Errorf("loss %v: %v and %v, want %v and %v", test.loss, low, high, test.low, test.high)
		}
	}
}

func TestMissingNumbersGoWhereTheyFit(t *testing.T) {
	x := table([]float32{1}, []float32{2}, []float32{nan}, []float32{3}, []float32{4}, []float32{nan})
	for _, test := range []struct {
		y    []float32
		want float32
	}{
		{[]float32{0, 0, 0, 9, 9, 0}, 0},
		{[]float32{0, 0, 9, 9, 9, 9}, 9},
		{[]float32{9, 9, 0, 9, 9, 0}, 0}, // being missing is all that matters
	} {
		for name, e := range map[string]*Ensemble{
			"boosting": fit(t, x, test.y, Boosting{Rounds: 1, Leaves: 2, MinLeaf: 1, Rate: 1}),
			"extra":    fit(t, x, test.y, Forest{Trees: 20, MinLeaf: 1, Features: 1, Extra: true}),
		} {
			if got := e.Predict([]float32{nan}); math.Abs(float64(got-test.want)) > 1e-5 {
				t.Errorf("%s of %v: a missing number makes %v, want %v", name, test.y, got, test.want)
			}
		}
	}
}

// A number that was never missing in training goes with the majority when it is.
func TestUnexpectedlyMissing(t *testing.T) {
	x := table([]float32{1}, []float32{2}, []float32{3}, []float32{4}, []float32{5})
	for want, y := range map[float32][]float32{
		2: {2, 2, 2, 7, 7},
		7: {2, 2, 7, 7, 7},
	} {
		e := fit(t, x, y, Boosting{Rounds: 1, Leaves: 2, MinLeaf: 1, Rate: 1})
		if got := e.Predict([]float32{nan}); math.Abs(float64(got-want)) > 1e-6 {
			t.Errorf("%v, want %v", got, want)
		}
	}
}

func TestBoostingAgreesWithScikitLearn(t *testing.T) {
	data, err := os.ReadFile("testdata/boosting.json")
	if err != nil {
		t.Fatal(err)
	}
	var known struct {
		X                             [][]*float32
		Y                             []float32
		Squared, Absolute, Quantile90 []float32
	}
	if err := json.Unmarshal(data, &known); err != nil {
		t.Fatal(err)
	}
	x := Matrix{Columns: len(known.X[0])}
	for _, row := range known.X {
		for _, value := range row {
			if value == nil {
				value = &nan
			}
			x.Data = append(x.Data, *value)
		}
	}
	for loss, want := range map[Loss][]float32{Squared: known.Squared, Absolute: known.Absolute} {
		e := fit(t, x, known.Y, Boosting{Rounds: 30, Leaves: 8, MinLeaf: 10, Rate: 0.1, Loss: loss})
		for i := range want {
			if got := e.Predict(x.Row(i)); math.Abs(float64(got-want[i])) > 1e-4 {
				t.Fatalf("loss %v, row %d: %v, scikit-learn has %v", loss, i, got, want[i])
			}
		}
	}
	// It interpolates quantiles in another way, which leads to other trees, but no better ones.
	loss := Quantile(0.9)
	e := fit(t, x, known.Y, Boosting{Rounds: 30, Leaves: 8, MinLeaf: 10, Rate: 0.1, Loss: loss})
	var ours, theirs float64
	for i, y := range known.Y {
		ours += loss.of(float64(y - e.Predict(x.Row(i))))
		theirs += loss.of(float64(y - known.Quantile90[i]))
	}
	if ours > theirs*1.02 {
		t.Errorf("the pinball loss is %v, scikit-learn's %v", ours, theirs)
	}
	t.Logf("pinball loss %.1f, scikit-learn's %.1f", ours, theirs)
}

func TestMoreRoundsMakeLessLoss(t *testing.T) {
	x, y := noisy(1000, 3, 1)
	for _, loss := range []Loss{Squared, Absolute, Quantile(0.1)} {
		last := math.Inf(1)
		for _, rounds := range []int{1, 3, 10, 30, 100} {
			e := fit(t, x, y, Boosting{Rounds: rounds, Loss: loss, Rate: 0.1})
			var total float64
			for i := range y {
				total += loss.of(float64(y[i] - e.Predict(x.Row(i))))
			}
			if total >= last {
				t.Errorf("loss %v: %v after %d rounds, %v before", loss, total, rounds, last)
			}
			last = total
		}
	}
}

// Of fresh rows, the share that a quantile promises lies below it.
func TestQuantilesCover(t *testing.T) {
	x, y := noisy(4000, 3, 1)
	fresh, outcomes := noisy(2000, 3, 2)
	qs := []float64{0.1, 0.5, 0.9}
	forest := fit(t, x, y, Forest{Trees: 50, MinLeaf: 20, Features: 1})
	extra := fit(t, x, y, Forest{Trees: 50, MinLeaf: 20, Features: 1, Extra: true})
	below := make(map[string][]float64)
	for _, name := range []string{"boosting", "forest", "extra"} {
		below[name] = make([]float64, len(qs))
	}
	count := func(name string, i int, outcome, quantile float32) {
		if outcome < quantile {
			below[name][i] += 1 / float64(len(outcomes))
		}
	}
	for i, q := range qs {
		boosting := fit(t, x, y, Boosting{Rounds: 100, Leaves: 8, Loss: Quantile(q)})
		for row, outcome := range outcomes {
			count("boosting", i, outcome, boosting.Predict(fresh.Row(row)))
		}
	}
	out := make([]float32, len(qs))
	for row, outcome := range outcomes {
		for name, e := range map[string]*Ensemble{"forest": forest, "extra": extra} {
			e.Quantiles(fresh.Row(row), qs, out)
			for i := range qs {
				count(name, i, outcome, out[i])
			}
		}
	}
	for name, shares := range below {
		for i, q := range qs {
			if math.Abs(shares[i]-q) > 0.03 {
				t.Errorf("%s: %.3f lie below the quantile %v", name, shares[i], q)
			}
		}
	}
}

func TestForestsLearn(t *testing.T) {
	x, y := noisy(3000, 4, 1)
	fresh, _ := noisy(1000, 4, 2)
	low, high := slices.Min(y), slices.Max(y)
	for name, forest := range map[string]Forest{"forest": {Trees: 30}, "extra": {Trees: 30, Extra: true}} {
		e := fit(t, x, y, forest)
		var wrong float64
		known := 0
		for i := range fresh.Rows() {
			row := fresh.Row(i)
			got := e.Predict(row)
			if got < low || got > high {
				t.Fatalf("%s predicts %v, all targets lie between %v and %v", name, got, low, high)
			}
			if row[0] == row[0] {
				wrong += math.Abs(float64(got) - 10*math.Sin(6*float64(row[0])))
				known++
			}
		}
		if wrong /= float64(known); wrong > 1 { // the mean target is about 6 away from 0
			t.Errorf("%s: predictions are off by %v in the mean", name, wrong)
		}
	}
}

// A weight of two is the same row twice, and none is no row.
func TestWeightsCountRows(t *testing.T) {
	x, y := noisy(400, 3, 1)
	weights := make([]float32, len(y))
	var twice Matrix
	var targets []float32
	twice.Columns = x.Columns
	for i := range y {
		weights[i] = float32(i % 3)
		for range i % 3 {
			twice.Data = append(twice.Data, x.Row(i)...)
			targets = append(targets, y[i])
		}
		if i%3 == 0 {
			y[i] = nan // must not matter
		}
	}
	// Few distinct numbers, so that both have the same bins.
	for _, m := range []Matrix{x, twice} {
		for i := range m.Data {
			m.Data[i] = float32(math.Round(float64(m.Data[i]) * 50))
		}
	}
	// MinLeaf counts weights over their mean: 1 row of weight 2 counts 4/3.
	weighted, err := Boosting{Rounds: 20, MinLeaf: 2}.Fit(t.Context(), x, y, weights)
	if err != nil {
		t.Fatal(err)
	}
	doubled := fit(t, twice, targets, Boosting{Rounds: 20, MinLeaf: 3})
	for i := range y {
		if weights[i] == 0 {
			continue // it may lie between classes, where rounding decides
		}
		if a, b := weighted.Predict(x.Row(i)), doubled.Predict(x.Row(i)); math.Abs(float64(a-b)) > 1e-3 {
			t.Fatalf("row %d: %v by weights, %v by repetition", i, a, b)
		}
	}
}

// Stopping early keeps as many trees as have the least loss on the rows held out, and learns nothing from
// those.
func TestStopsEarly(t *testing.T) {
	x, y := noisy(600, 3, 1)
	first := Matrix{Columns: 3, Data: x.Data[:420*3]}
	heldLoss := func(trees int) (loss float64) {
		e := fit(t, first, y[:420], Boosting{Rounds: trees, Rate: 0.3})
		for i := 420; i < 600; i++ {
			loss += Squared.of(float64(y[i] - e.Predict(x.Row(i))))
		}
		return loss
	}
	stopped := fit(t, x, y, Boosting{Rounds: 500, Rate: 0.3, Held: 0.3, Patience: 5})
	trees := stopped.Trees()
	if trees < 2 || trees > 100 {
		t.Fatalf("%d trees; a few fit all that can be learnt", trees)
	}
	if string(bytes(stopped)) != string(bytes(fit(t, first, y[:420], Boosting{Rounds: trees, Rate: 0.3}))) {
		t.Error("the trees differ from those learnt without the rows held out")
	}
	for other := trees - 1; other <= trees+5; other++ {
		if heldLoss(other) < heldLoss(trees) {
			t.Errorf("stopped at %d trees, but %d are better", trees, other)
		}
	}
}

func TestSameSeedSameTrees(t *testing.T) {
	x, y := noisy(500, 6, 1)
	for name, make := range map[string]func(seed uint64) *Ensemble{
		"boosting": func(seed uint64) *Ensemble { return fit(t, x, y, Boosting{Rounds: 10, Features: 0.5, Seed: seed}) },
		"forest":   func(seed uint64) *Ensemble { return fit(t, x, y, Forest{Trees: 10, Seed: seed, Keep: 2}) },
		"extra":    func(seed uint64) *Ensemble { return fit(t, x, y, Forest{Trees: 10, Seed: seed, Extra: true}) },
	} {
		first, again, other := string(bytes(make(1))), string(bytes(make(1))), string(bytes(make(2)))
		if first != again {
			t.Errorf("%s: the same seed made other trees", name)
		}
		if first == other {
			t.Errorf("%s: another seed made the same trees", name)
		}
	}
}

func TestConstantsMakeOneLeaf(t *testing.T) {
	x := table([]float32{1, nan}, []float32{1, nan}, []float32{1, nan}, []float32{1, nan})
	y := []float32{0.1, 0.1, 0.1, 0.7}
	for name, e := range map[string]*Ensemble{
		"boosting": fit(t, x, y, Boosting{MinLeaf: 1, Rounds: 3, Rate: 1}),
		"forest":   fit(t, x, y, Forest{MinLeaf: 1, Trees: 3}),
		"extra":    fit(t, x, y, Forest{MinLeaf: 1, Trees: 3, Extra: true}),
	} {
		if len(e.nodes) != 3 {
			t.Errorf("%s: %d nodes in 3 trees", name, len(e.nodes))
		}
	}
}

func TestRefusesWhatMakesNoTable(t *testing.T) {
	good := table([]float32{1}, []float32{2})
	for _, test := range []struct {
		x          Matrix
		y, weights []float32
		want       string
	}{
		{Matrix{Columns: 2, Data: []float32{1, 2, 3}}, []float32{1}, nil, "full rows"},
		{Matrix{}, nil, nil, "columns"},
		{good, []float32{1}, nil, "1 targets for 2 rows"},
		{good, []float32{1, nan}, nil, "target of row 1 is NaN"},
		{good, []float32{1, 2}, []float32{1}, "1 weights for 2 rows"},
		{good, []float32{1, 2}, []float32{1, -1}, "weight of row 1 is -1"},
		{good, []float32{1, 2}, []float32{0, 0}, "none of 2 rows has weight"},
	} {
		_, err := Boosting{}.Fit(t.Context(), test.x, test.y, test.weights)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v, want an error with %q", err, test.want)
		}
	}
	for _, options := range []Boosting{{Leaves: 1}, {Rounds: -1}, {Bins: 256}, {Rate: 2}, {Loss: 1}, {Held: 1}} {
		if _, err := options.Fit(t.Context(), good, []float32{1, 2}, nil); err == nil {
			t.Errorf("%+v is accepted", options)
		}
	}
	for _, options := range []Forest{{MinLeaf: -1}, {Trees: -1}, {Bins: 1}, {Features: 1.5}} {
		if _, err := options.Fit(t.Context(), good, []float32{1, 2}, nil); err == nil {
			t.Errorf("%+v is accepted", options)
		}
	}
}

func TestFitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	x, y := noisy(100, 2, 1)
	if _, err := (Boosting{}).Fit(ctx, x, y, nil); err != context.Canceled {
		t.Errorf("boosting: %v", err)
	}
	if _, err := (Forest{}).Fit(ctx, x, y, nil); err != context.Canceled {
		t.Errorf("forest: %v", err)
	}
}

func TestFarNumbersStayInOrder(t *testing.T) {
	infinity := float32(math.Inf(1))
	x := table([]float32{-infinity}, []float32{-1}, []float32{1}, []float32{infinity})
	e := fit(t, x, []float32{0, 0, 5, 5}, Boosting{Rounds: 1, Leaves: 2, MinLeaf: 1, Rate: 1})
	for number, want := range map[float32]float32{-infinity: 0, -9: 0, 9: 5, infinity: 5} {
		if got := e.Predict([]float32{number}); got != want {
			t.Errorf("%v makes %v, want %v", number, got, want)
		}
	}
}

// Where float32 has nothing between two numbers, they are told apart all the same.
func TestNeighboursAreTwoClasses(t *testing.T) {
	next := math.Nextafter32(1, 2)
	e := fit(t, table([]float32{1}, []float32{next}), []float32{0, 5}, Boosting{Rounds: 1, MinLeaf: 1, Rate: 1})
	if low, high := e.Predict([]float32{1}), e.Predict([]float32{next}); low != 0 || high != 5 {
		t.Errorf("%v and %v, want 0 and 5", low, high)
	}
}
