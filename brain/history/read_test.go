package history

import (
	"bytes"
	"compress/gzip"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return t
}

func compressed(t *testing.T, text string) io.Reader {
	t.Helper()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &packed
}

// Every form of time, compressed or not, with the columns that are asked for.
func TestReadCSV(t *testing.T) {
	two := []time.Time{at("2026-01-31T09:00:00Z"), at("2026-01-31T09:01:00Z")}
	for name, c := range map[string]struct {
		text, column string
		times        []time.Time
		values       []float64
	}{
		"RFC 3339":             {"timestamp,requests\n2026-01-31T09:00:00Z,42\n2026-01-31T10:01:00+01:00,0.5\n", "", two, []float64{42, 0.5}},
		"without an offset":    {"time,value\n2026-01-31 09:00:00,1\n2026-01-31T09:01:00,2\n", "value", two, []float64{1, 2}},
		"Unix seconds":         {"t,v\n1769850000,1\n1769850060.0,2", "", two, []float64{1, 2}},
		"Unix milliseconds":    {"t,v\n1769850000000,1\n1769850060000,2\n", "", two, []float64{1, 2}},
		"a column by its name": {"t,bytes,requests\n1769850000,9,1\n1769850060,9,2\n", "requests", two, []float64{1, 2}},
		"byte order mark, carriage returns, blanks": {"\ufefft, requests\r\n1769850000, 1\r\n1769850060 ,2 \r\n", "requests", two, []float64{1, 2}},
		"rows without a value":                      {"t,a,b\n1769850000,1,\n1769850060,2,7\n1769850120,NaN,8\n", "a", two, []float64{1, 2}},
		"no rows":                                   {"t,v\n", "", nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(c.text), compressed(t, c.text)} {
				times, values, err := ReadCSV(r, c.column)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff([]any{c.times, c.values}, []any{times, values}); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
}

// A bad row is named by its line, and nothing is read.
func TestReadCSVErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "it is empty: the first line must name the columns",
		"2026-01-31T09:00:00Z,1\n":          "line 1: the names of the columns are missing",
		"t\n1769850000\n":                   "there are no values: a second column is missing",
		"t,v\n1769850000,1\n\nsoon,1\n":     `line 4: "soon" is no time such as 2026-01-31T09:00:00Z`,
		"t,v\n1769850000,many\n":            `line 2: v: "many" is no number of 0 or more`,
		"t,v\n1769850000,-1\n":              `line 2: v: "-1" is no number of 0 or more`,
		"t,v\n1769850000,Inf\n":             `line 2: v: "Inf" is no number of 0 or more`,
		"t,v\n1769850000,1,2\n":             "line 2: it has another number of fields than the header",
		"t,v\n1769850000,1\"\n":             "line 2: ",
		"t,v\n1769850060,1\n1769850060,1\n": "line 3: 2026-01-31T09:01:00Z is not later than the row before it",
		"t,a,b\n1769850000,1,2\n":           `there is no column "v": there are a, b`,
		"t,v\nNaN,1\n":                      `line 2: "NaN" is no time`,
		"t,v\n1e300,1\n":                    `line 2: "1e300" is no time`,
	} {
		column := ""
		if strings.HasPrefix(want, "there is no column") {
			column = "v"
		}
		times, _, err := ReadCSV(strings.NewReader(text), column)
		if err == nil || !strings.Contains(err.Error(), want) || times != nil {
			t.Errorf("%q: %d rows, %v; want %q", text, len(times), err, want)
		}
	}
	truncated := compressed(t, strings.Repeat("1769850000,1\n", 1000)).(*bytes.Buffer)
	truncated.Truncate(truncated.Len() / 2)
	if _, _, err := ReadCSV(truncated, ""); err == nil {
		t.Error("half of a compressed file is read")
	}
}

const rangeJSON = `{"status":"success","data":{"resultType":"matrix","result":[
	{"metric":{"__name__":"requests","job":"a"},"values":[[1769850060,"2"],[1769850120.5,"NaN"]]},
	{"metric":{"job":"b","instance":"x"},"values":[[1769850000,"7"],[1769850060,"8e1"]]}]}}`

// Each series of Prometheus' answer is a column.
func TestReadPrometheus(t *testing.T) {
	table, err := readTable(compressed(t, rangeJSON))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`requests{job="a"}`, `{instance="x",job="b"}`}, table.names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if len(table.times) != 3 || !math.IsNaN(table.columns[0][0]) || table.columns[0][1] != 2 || !math.IsNaN(table.columns[1][2]) {
		t.Errorf("%v, %v", table.times, table.columns)
	}
	column, err := table.pick(`{instance="x",job="b"}`)
	if err != nil {
		t.Fatal(err)
	}
	times, values := table.known(column)
	want := []any{[]time.Time{at("2026-01-31T09:00:00Z"), at("2026-01-31T09:01:00Z")}, []float64{7, 80}}
	if diff := cmp.Diff(want, []any{times, values}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReadPrometheusErrors(t *testing.T) {
	for text, want := range map[string]string{
		`{"status":"error","error":"out of memory"}`:          `status "error" out of memory`,
		`{"status":"success","data":{"resultType":"vector"}}`: "query_range",
		`{"status":"success","data":{"resultType":"matrix"}}`: "there are no values",
		rangeJSON: `there are several series: name one of requests{job="a"}, {instance="x",job="b"}`,
		`{"status":"success","data":{"resultType":"matrix",`:   "reading Prometheus' answer",
		strings.Replace(rangeJSON, `"2"`, `"-2"`, 1):           `"-2" is no number of 0 or more`,
		strings.Replace(rangeJSON, `1769850060,"2"`, `"2"`, 1): `is no pair [time, value]`,
	} {
		table, err := readTable(strings.NewReader(text))
		if err == nil {
			_, err = table.pick("")
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
