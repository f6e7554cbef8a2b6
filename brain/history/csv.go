package history

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// readCSV reads all columns of a CSV file (RFC 4180) with a header.
func readCSV(r io.Reader) (*table, error) {
	rows := csv.NewReader(r)
	rows.TrimLeadingSpace = true
	rows.ReuseRecord = true
	header, err := rows.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("it is empty: the first line must name the columns, such as timestamp,requests")
	}
	if err != nil {
		return nil, csvError(err)
	}
	if _, err := parseTime(header[0]); err == nil {
		return nil, errors.New("line 1: the names of the columns are missing, such as timestamp,requests")
	}
	t := &table{columns: make([][]float64, len(header)-1)}
	for _, name := range header[1:] {
		t.names = append(t.names, strings.TrimSpace(name))
	}
	values := make([]float64, len(t.names))
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return nil, csvError(err)
		}
		if err := t.addText(row, values); err != nil {
			line, _ := rows.FieldPos(0)
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
	}
}

// addText adds a row of texts; values is room for its numbers.
func (t *table) addText(row []string, values []float64) error {
	at, err := parseTime(strings.TrimSpace(row[0]))
	if err != nil {
		return err
	}
	for i, name := range t.names {
		if values[i], err = parseValue(strings.TrimSpace(row[1+i])); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return t.add(at, values)
}

// csvError has the form of the other errors about a line.
func csvError(err error) error {
	var syntax *csv.ParseError
	switch {
	case !errors.As(err, &syntax):
		return fmt.Errorf("reading CSV: %w", err)
	case errors.Is(err, csv.ErrFieldCount):
		return fmt.Errorf("line %d: it has another number of fields than the header", syntax.Line)
	}
	return fmt.Errorf("line %d: %w", syntax.Line, syntax.Err)
}
