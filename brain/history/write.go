package history

import (
	"bufio"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Point is one minute of a service.
type Point struct {
	Time time.Time // when it begins
	Row
}

// pointTime is the key of a Point's time in JSON.
const pointTime = "time"

// MarshalJSON returns an object with the time and what is known, by the columns' names.
func (p Point) MarshalJSON() ([]byte, error) {
	text := fmt.Appendf(nil, `{"%s":"%s"`, pointTime, p.Time.Format(time.RFC3339Nano))
	for c, v := range p.Row {
		if v == v {
			text = fmt.Appendf(text, `,"%s":`, Column(c))
			text = strconv.AppendFloat(text, float64(v), 'f', -1, 32)
		}
	}
	return append(text, '}'), nil
}

// UnmarshalJSON reads what MarshalJSON returns.
func (p *Point) UnmarshalJSON(data []byte) error {
	var object map[string]any
	if err := json.Unmarshal(data, &object); err != nil {
		return err
	}
	text, _ := object[pointTime].(string)
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return fmt.Errorf("a minute of the history has no time: %w", err)
	}
	*p = Point{at, absent}
	for c := range p.Row {
		if v, ok := object[Column(c).String()].(float64); ok {
			p.Row[c] = float32(v)
		}
	}
	return nil
}

// Points returns the minutes of a service of which something is known, as Read does.
func (h *History) Points(service string, from, to time.Time) ([]Point, error) {
	rows, err := h.Read(service, from, to)
	if err != nil {
		return nil, err
	}
	var points []Point
	for i, row := range rows {
		if row.Known() {
			points = append(points, Point{h.start(h.minute(from) + int64(i)), row})
		}
	}
	return points, nil
}

// CSV writes points as CSV, with a header, which ReadCSV and Import read. The writer's Flush tells of errors.
type CSV struct{ out *bufio.Writer }

// NewCSV writes the header.
func NewCSV(out *bufio.Writer) CSV {
	fmt.Fprintln(out, "timestamp,"+strings.Join(columnNames[:], ","))
	return CSV{out}
}

// Write writes one point; what is absent is empty.
func (c CSV) Write(p Point) {
	line := p.Time.AppendFormat(nil, time.RFC3339Nano)
	for _, v := range p.Row {
		line = append(line, ',')
		if v == v {
			line = strconv.AppendFloat(line, float64(v), 'f', -1, 32)
		}
	}
	_, _ = c.out.Write(append(line, '\n')) // its Flush tells
}
