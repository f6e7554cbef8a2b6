package trees

// leaf is one while its tree grows.
type leaf struct {
	rows  []uint32 // those in it; all leaves share one array
	node  uint32
	total sum
	split split // the best one
}

// grower holds what growing any tree needs. Its memory serves one tree after the other.
type grower struct {
	table   *binned
	samples []sum    // of every row of the table
	minimum float64  // least weight of a leaf
	rows    []uint32 // of the tree, leaf by leaf
	scratch []uint32
	ordered []sum  // samples of the rows of a leaf, in their order
	nodes   []node // of all trees so far
}

// plant begins a tree of these rows with a single leaf.
func (g *grower) plant(rows []uint32) leaf {
	g.rows = append(g.rows[:0], rows...)
	root := leaf{rows: g.rows, node: uint32(len(g.nodes))}
	for _, row := range rows {
		root.total = root.total.plus(g.samples[row])
	}
	g.nodes = append(g.nodes, node{Column: none})
	return root
}

// order fetches the samples of the rows of a leaf, so that each column's histogram reads them in a line.
func (g *grower) order(rows []uint32) []sum {
	g.ordered = g.ordered[:0]
	for _, row := range rows {
		g.ordered = append(g.ordered, g.samples[row])
	}
	return g.ordered
}

// divide makes an inner node of a leaf by its best split. The rows of either side stay in order.
func (g *grower) divide(l *leaf) (left, right leaf) {
	c := &g.table.columns[l.split.column]
	g.scratch = g.scratch[:0]
	kept, absent := 0, false
	for _, row := range l.rows {
		class := c.classes[row]
		goesLeft := int(class) <= l.split.class
		if class == missing {
			absent, goesLeft = true, l.split.missingLeft
		}
		if goesLeft {
			l.rows[kept] = row
			kept++
		} else {
			g.scratch = append(g.scratch, row)
		}
	}
	copy(l.rows[kept:], g.scratch)

	first := uint32(len(g.nodes))
	g.nodes[l.node] = node{
		Threshold: c.upper(l.split.class),
		Left:      first,
		Column:    uint16(l.split.column),
		// Where none was missing, a missing number goes with the greater weight.
		MissingLeft: absent && l.split.missingLeft || !absent && 2*l.split.left.weight > l.total.weight-slack,
	}
	g.nodes = append(g.nodes, node{Column: none}, node{Column: none})
	return leaf{rows: l.rows[:kept], node: first, total: l.split.left},
		leaf{rows: l.rows[kept:], node: first + 1, total: l.total.minus(l.split.left)}
}
