package trees

// sum adds up rows: their gradients times their weights, and their weights. For a mean the gradient is the
// distance of the target from what is predicted so far.
type sum struct{ gradient, weight float64 }

func (s sum) plus(o sum) sum  { return sum{s.gradient + o.gradient, s.weight + o.weight} }
func (s sum) minus(o sum) sum { return sum{s.gradient - o.gradient, s.weight - o.weight} }

// score is by how much the squared error of the rows falls when they have a prediction of their own.
func (s sum) score() float64 { return s.gradient * s.gradient / s.weight }

// histogram holds the sums of the rows of a leaf by class, of one column. missing is the last class.
type histogram [MaxBins + 1]sum

// add counts rows. samples are theirs, in the same order.
func (h *histogram) add(classes []uint8, rows []uint32, samples []sum) {
	samples = samples[:len(rows)]
	for i, row := range rows {
		s := &h[classes[row]]
		s.gradient += samples[i].gradient
		s.weight += samples[i].weight
	}
}

func (h *histogram) subtract(o *histogram) {
	for i := range h {
		h[i] = h[i].minus(o[i])
	}
}

// split is a way to divide the rows of a leaf. The zero value is none.
type split struct {
	gain        float64 // by how much the squared error falls
	column      int
	class       int // the last one that goes left
	missingLeft bool
	left        sum
}

// slack is how far rounding may move a sum of weights, whose mean is 1: a leaf of just enough rows is one.
const slack = 1e-9

// noise is the share of a score below which a gain may come from rounding alone: sums of some ten thousand
// float64.
const noise = 1e-11

// offer takes a division if it is better than the best one so far. minimum is the least weight of a side.
func (s *split) offer(o split, total sum, minimum float64) {
	right := total.minus(o.left)
	if o.left.weight < minimum || right.weight < minimum {
		return
	}
	score := o.left.score() + right.score()
	o.gain = score - total.score()
	if o.gain > s.gain && o.gain > noise*score {
		*s = o
	}
}

// search offers the best division of a histogram.
func (s *split) search(h *histogram, column, classes int, total sum, minimum float64) {
	s.scan(h, split{column: column}, classes, total, minimum)
	if absent := h[missing]; absent.weight > slack {
		s.scan(h, split{column: column, missingLeft: true, left: absent}, classes, total, minimum)
	}
}

// scan offers the best division behind one of the classes. o says what is left before the first one.
func (s *split) scan(h *histogram, o split, classes int, total sum, minimum float64) {
	left, best := o.left, 0.0
	for class := range classes {
		left = left.plus(h[class])
		right := total.minus(left)
		if left.weight < minimum {
			continue
		}
		if right.weight < minimum {
			break
		}
		if score := left.score() + right.score(); score > best {
			best, o.class, o.left = score, class, left
		}
	}
	if best > 0 {
		s.offer(o, total, minimum)
	}
}
