package history

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// rangeAnswer is what Prometheus answers to /api/v1/query_range
// (https://prometheus.io/docs/prometheus/latest/querying/api/#range-queries).
type rangeAnswer struct {
	Status string `json:"status"`
	Error  string `json:"error"`
	Data   struct {
		Type   string        `json:"resultType"`
		Result []rangeSeries `json:"result"`
	} `json:"data"`
}

type rangeSeries struct {
	Labels map[string]string `json:"metric"`
	Values []sample          `json:"values"`
}

// sample is a pair [Unix seconds, "value"].
type sample struct {
	at    time.Time
	value float64
}

// UnmarshalJSON reads the pair.
func (s *sample) UnmarshalJSON(data []byte) error {
	var pair []json.RawMessage
	if err := json.Unmarshal(data, &pair); err != nil || len(pair) != 2 {
		return fmt.Errorf("%s is no pair [time, value]", data)
	}
	var err error
	if s.at, err = parseTime(string(pair[0])); err == nil {
		s.value, err = parseValue(strings.Trim(string(pair[1]), `"`))
	}
	return err
}

// readPrometheus reads a matrix. Each series is a column.
func readPrometheus(r io.Reader) (*table, error) {
	var answer rangeAnswer
	if err := json.NewDecoder(r).Decode(&answer); err != nil {
		return nil, fmt.Errorf("reading Prometheus' answer: %w", err)
	}
	switch {
	case answer.Status != "success":
		return nil, fmt.Errorf("it is no answer of Prometheus that succeeded: status %q %s", answer.Status, answer.Error)
	case answer.Data.Type != "matrix":
		return nil, fmt.Errorf("the result is a %q: query_range answers with the matrix that is asked for", answer.Data.Type)
	}
	t := &table{equals: true}
	rows := make(map[time.Time][]float64)
	for i, series := range answer.Data.Result {
		t.names = append(t.names, series.name())
		for _, s := range series.Values {
			if rows[s.at] == nil {
				rows[s.at] = slices.Repeat([]float64{math.NaN()}, len(answer.Data.Result))
			}
			rows[s.at][i] = s.value
		}
	}
	t.columns = make([][]float64, len(t.names))
	for at := range rows {
		t.times = append(t.times, at)
	}
	slices.SortFunc(t.times, time.Time.Compare)
	for _, at := range t.times {
		for i, v := range rows[at] {
			t.columns[i] = append(t.columns[i], v)
		}
	}
	return t, nil
}

// name is the series as Prometheus writes it, such as `up{job="lb"}`.
func (s *rangeSeries) name() string {
	var labels []string
	for key, value := range s.Labels {
		if key != "__name__" {
			labels = append(labels, key+"="+strconv.Quote(value))
		}
	}
	slices.Sort(labels)
	return s.Labels["__name__"] + "{" + strings.Join(labels, ",") + "}"
}
