package trees

import (
	"math"
	"slices"
	"sort"
)

// MaxBins is the most classes that a column's numbers are cut into: they are bytes, and one means missing.
const MaxBins = 255

// missing is the class of a NaN.
const missing = 255

// binned is a table with its numbers replaced by their classes, column by column.
type binned struct {
	columns []column
}

type column struct {
	classes  []uint8   // of each row
	edges    []float32 // ascending: class i holds the numbers above edges[i-1] that are not above edges[i]
	low, top float32   // the smallest and the largest number
}

// cut puts the numbers of each column into at most limit classes, made for the rows named.
func cut(x Matrix, rows []uint32, limit int) *binned {
	b := &binned{columns: make([]column, x.Columns)}
	numbers := make([]float32, 0, len(rows))
	for i := range b.columns {
		numbers = numbers[:0]
		for _, row := range rows {
			if value := x.Row(int(row))[i]; !math.IsNaN(float64(value)) && !math.IsInf(float64(value), 0) {
				numbers = append(numbers, value)
			}
		}
		slices.Sort(numbers)
		c := &b.columns[i]
		if len(numbers) > 0 {
			c.low, c.top = numbers[0], numbers[len(numbers)-1]
		}
		c.edges = edges(numbers, limit)
		c.classes = make([]uint8, x.Rows())
		for row := range c.classes {
			c.classes[row] = c.class(x.Row(row)[i])
		}
	}
	return b
}

// edges returns the borders between classes of sorted numbers: between each two when they are few, and at
// their quantiles otherwise, so that each class has about as many.
func edges(numbers []float32, limit int) []float32 {
	distinct := slices.Compact(slices.Clone(numbers))
	var found []float32
	if len(distinct) <= limit {
		for i := 1; i < len(distinct); i++ {
			found = append(found, between(distinct[i-1], distinct[i]))
		}
		return found
	}
	for i := 1; i < limit; i++ {
		position := float64(i) / float64(limit) * float64(len(numbers)-1)
		edge := between(numbers[int(position)], numbers[int(math.Ceil(position))])
		if edge < numbers[len(numbers)-1] && (len(found) == 0 || edge > found[len(found)-1]) {
			found = append(found, edge)
		}
	}
	return found
}

// between returns the middle of two numbers, and the lower one where rounding would make it the upper one.
func between(low, high float32) float32 {
	if middle := float32((float64(low) + float64(high)) / 2); middle < high {
		return middle
	}
	return low
}

func (c *column) class(value float32) uint8 {
	if value != value {
		return missing
	}
	return uint8(sort.Search(len(c.edges), func(i int) bool { return value <= c.edges[i] }))
}

// upper returns the largest number of a class: the threshold of a split behind it.
func (c *column) upper(class int) float32 {
	if class < len(c.edges) {
		return c.edges[class]
	}
	return float32(math.Inf(1)) // only missing numbers go right
}

// between returns the class of the number that lies the given share of the way from the low end of one class
// to the top of another, but not the last class: something must be right of it.
func (c *column) between(low, high uint8, share float64) uint8 {
	from, to := c.low, c.top
	if low > 0 {
		from = c.edges[low-1]
	}
	if int(high) < len(c.edges) {
		to = c.edges[high]
	}
	value := float64(from) + share*(float64(to)-float64(from))
	return min(max(c.class(float32(value)), low), high-1)
}
