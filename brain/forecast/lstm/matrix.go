package lstm

import (
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
)

// matrix returns rows of so many columns.
func matrix(data []float32, columns int) blas32.General {
	return blas32.General{Rows: len(data) / columns, Cols: columns, Stride: columns, Data: data}
}

func newMatrix(rows, columns int) blas32.General {
	return matrix(make([]float32, rows*columns), columns)
}

// part returns a part of a matrix, not a copy.
func part(m blas32.General, row, rows, columns int) blas32.General {
	return blas32.General{Rows: rows, Cols: columns, Stride: m.Stride, Data: m.Data[row*m.Stride:]}
}

func row(m blas32.General, i int) []float32 { return m.Data[i*m.Stride : i*m.Stride+m.Cols] }

func vector(data []float32) blas32.Vector { return blas32.Vector{N: len(data), Inc: 1, Data: data} }

// gonum divides products of 4 or more blocks of 64 x 64 among goroutines (blas/gonum/gonum.go: minParBlock,
// blockSize). Panels of fewer stay on the caller's thread, which may have a low priority for its purpose.
const (
	panelRows    = 64
	panelColumns = 3 * 64
)

// multiply adds a x b, either transposed or not, to keep x c.
func multiply(transA, transB blas.Transpose, a, b blas32.General, keep float32, c blas32.General) {
	for i := 0; i < c.Rows; i += panelRows {
		for j := 0; j < c.Cols; j += panelColumns {
			rows, columns := min(panelRows, c.Rows-i), min(panelColumns, c.Cols-j)
			panel := part(c, i, rows, columns)
			panel.Data = panel.Data[j:]
			blas32.Gemm(transA, transB, 1, slice(transA == blas.NoTrans, a, i, rows),
				slice(transB != blas.NoTrans, b, j, columns), keep, panel)
		}
	}
}

// slice returns some rows of a matrix, or columns.
func slice(rows bool, m blas32.General, first, count int) blas32.General {
	if rows {
		return part(m, first, count, m.Cols)
	}
	sliced := part(m, 0, m.Rows, count)
	sliced.Data = sliced.Data[first:]
	return sliced
}

// norm returns the length of a vector.
func norm(v []float32) float64 { return float64(blas32.Nrm2(vector(v))) }
