package history

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ReadCSV reads a column of numbers over time from CSV, which may be compressed with gzip. The first line names the
// columns, the first column holds the times, as RFC 3339 or as Unix time in seconds or milliseconds, which must
// rise. An empty column name means the first column after the times. Rows that have no value in the column ("" or
// NaN) are left out. A bad row is an error that names its line, and nothing is returned.
func ReadCSV(r io.Reader, column string) (times []time.Time, values []float64, err error) {
	text, err := uncompressed(r)
	if err != nil {
		return nil, nil, err
	}
	t, err := readCSV(text)
	if err != nil {
		return nil, nil, err
	}
	i, err := t.pick(column)
	if err != nil {
		return nil, nil, err
	}
	times, values = t.known(i)
	return times, values, nil
}

// table is numbers over time.
type table struct {
	names   []string
	equals  bool        // none of the columns is the first by right
	times   []time.Time // rising
	columns [][]float64 // as many as names, each as long as times; NaN is absent
}

func readTable(r io.Reader) (*table, error) {
	text, err := uncompressed(r)
	if err != nil {
		return nil, err
	}
	if begin, _ := text.Peek(1); len(begin) == 1 && begin[0] == '{' {
		return readPrometheus(text)
	}
	return readCSV(text)
}

// uncompressed tells gzip by its first two bytes (RFC 1952, section 2.3.1), and leaves out the byte order mark that
// spreadsheets write.
func uncompressed(r io.Reader) (*bufio.Reader, error) {
	text := bufio.NewReader(r)
	if magic, _ := text.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		unpacked, err := gzip.NewReader(text)
		if err != nil {
			return nil, fmt.Errorf("unpacking gzip: %w", err)
		}
		text = bufio.NewReader(unpacked)
	}
	if mark, _ := text.Peek(3); string(mark) == "\ufeff" {
		_, _ = text.Discard(len(mark)) // they have just been seen
	}
	return text, nil
}

// pick returns the index of a column; without a name the first one, but of Prometheus' series the only one.
func (t *table) pick(name string) (int, error) {
	i := slices.Index(t.names, name)
	switch {
	case i >= 0:
		return i, nil
	case name != "":
		return 0, fmt.Errorf("there is no column %q: there are %s", name, strings.Join(t.names, ", "))
	case len(t.names) == 0:
		return 0, errors.New("there are no values: a second column is missing")
	case t.equals && len(t.names) > 1:
		return 0, fmt.Errorf("there are several series: name one of %s, or ask for their sum", strings.Join(t.names, ", "))
	}
	return 0, nil
}

// known returns the rows in which a column has a value.
func (t *table) known(column int) (times []time.Time, values []float64) {
	for i, v := range t.columns[column] {
		if !math.IsNaN(v) {
			times, values = append(times, t.times[i]), append(values, v)
		}
	}
	return times, values
}

// add adds a row, which must be later than the one before it.
func (t *table) add(at time.Time, values []float64) error {
	if n := len(t.times); n > 0 && !at.After(t.times[n-1]) {
		return fmt.Errorf("%s is not later than the row before it (%s): sort the rows, each time once", at.Format(time.RFC3339), t.times[n-1].Format(time.RFC3339))
	}
	t.times = append(t.times, at)
	for i, v := range values {
		t.columns[i] = append(t.columns[i], v)
	}
	return nil
}

// millisecondsFrom is what Unix times are milliseconds from: as milliseconds it is in 1973, as seconds in the year 5138.
const millisecondsFrom = 1e11

// parseTime accepts RFC 3339, also with a blank in place of the T and without an offset, which is UTC then, and Unix time in
// seconds or milliseconds.
func parseTime(text string) (time.Time, error) {
	if unix, err := strconv.ParseFloat(text, 64); err == nil && math.Abs(unix) < 1000*millisecondsFrom {
		if math.Abs(unix) >= millisecondsFrom {
			return time.UnixMilli(int64(unix)).UTC(), nil
		}
		return time.UnixMilli(int64(math.Round(1000 * unix))).UTC(), nil
	}
	normal := strings.Replace(text, " ", "T", 1)
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05"} {
		if at, err := time.Parse(layout, normal); err == nil {
			return at.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time such as 2026-01-31T09:00:00Z, or Unix time in seconds or milliseconds", text)
}

// parseValue returns NaN for what is absent.
func parseValue(text string) (float64, error) {
	if text == "" {
		return math.NaN(), nil
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil || value < 0 || math.IsInf(value, 0) {
		return 0, fmt.Errorf("%q is no number of 0 or more", text)
	}
	return value, nil
}
