package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// table is text in columns. Unlike text/tabwriter it aligns numbers on the right, and colours do not
// count as width.
type table struct {
	header []string
	rows   [][]cell
}

// cell is one entry of a table.
type cell struct {
	text  string
	style style
	right bool
}

func newTable(header ...string) *table { return &table{header: header} }

// add appends a row; a cell is given as a cell, or as anything else, of which numbers are aligned right.
func (t *table) add(values ...any) {
	row := make([]cell, len(values))
	for i, value := range values {
		switch v := value.(type) {
		case cell:
			row[i] = v
		case int, uint16, uint64:
			row[i] = cell{text: fmt.Sprint(v), right: true}
		default:
			row[i] = cell{text: fmt.Sprint(v)}
		}
	}
	t.rows = append(t.rows, row)
}

// table adds a table to the page. A column's heading is aligned as its first row.
func (p *page) table(t *table) {
	header := make([]cell, len(t.header))
	widths := make([]int, len(t.header))
	for i, text := range t.header {
		header[i] = cell{text: text, style: faint, right: len(t.rows) > 0 && t.rows[0][i].right}
		widths[i] = utf8.RuneCountInString(text)
	}
	for _, row := range t.rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	p.row(header, widths)
	for _, row := range t.rows {
		p.row(row, widths)
	}
}

func (p *page) row(cells []cell, widths []int) {
	var line strings.Builder
	for i, c := range cells {
		padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text))
		if i > 0 {
			line.WriteString("  ")
		}
		if c.right {
			line.WriteString(padding + p.paint(c.style, c.text))
		} else {
			line.WriteString(p.paint(c.style, c.text) + padding)
		}
	}
	p.line("%s", strings.TrimRight(line.String(), " "))
}

// number is a cell with a count, from 10,000 on with three digits and a decimal unit, such as 12.3M.
func number(n float64) cell {
	text := strconv.FormatFloat(n, 'f', 0, 64)
	if n >= 9999.5 {
		unit := -1
		for n >= 999.5 {
			n /= 1000
			unit++
		}
		digits := 2
		for limit := 9.995; n >= limit && digits > 0; limit *= 10 {
			digits--
		}
		text = strconv.FormatFloat(n, 'f', digits, 64) + "kMGTPE"[unit:unit+1]
	}
	return cell{text: text, right: true}
}

// percentOf is a part of 1 in percent.
func percentOf(v float64, digits int) cell {
	return cell{text: strconv.FormatFloat(100*v, 'f', digits, 64) + "%", right: true}
}

// plural returns for example "1 backend" or "2 backends".
func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// age returns a duration in its two largest units, such as "3d4h".
func age(d time.Duration) string {
	day := 24 * time.Hour
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
}
