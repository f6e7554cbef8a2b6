package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// importText imports as the API does.
func importText(h *History, service, text, column string) (Imported, error) {
	i, err := h.Parse(strings.NewReader(text), column, later)
	if err != nil {
		return Imported{}, err
	}
	return i.Imported, h.Import(service, i)
}

// later is the present of these tests.
var later = noon.Add(time.Hour)

// csvOf is CSV of the given distance from noon on.
func csvOf(header string, step time.Duration, rows ...string) string {
	text := header + "\n"
	for i, row := range rows {
		text += fmt.Sprintf("%s,%s\n", noon.Add(time.Duration(i)*step).Format(time.RFC3339), row)
	}
	return text
}

// Whatever the step of the rows is, counts keep their sum.
func TestImport(t *testing.T) {
	seconds := strings.Split(strings.Repeat("1 ", 14), " ")[:14] // 2 minutes and a third of one, of 10 s each
	seconds = append(seconds[:12:12], "1", "1")
	for name, c := range map[string]struct {
		text string
		want string
	}{
		"minutes":                  {csvOf("t,requests", time.Minute, "5", "6", "", "8"), "5 6 - 8 - -"},
		"coarse":                   {csvOf("t,requests", 2*time.Minute, "10", "20"), "5 5 10 10 - -"},
		"coarse, jittering":        {"t,v\n2026-03-01T12:00:01Z,10\n2026-03-01T12:02:03Z,20\n2026-03-01T12:04:02Z,30\n", "5 5 10 10 15 15"},
		"fine":                     {csvOf("t,requests", 10*time.Second, seconds...), "6 6 - - - -"},
		"fine, most of a minute":   {csvOf("t,requests", 20*time.Second, "3", "3", "3", "4", "4"), "9 12 - - - -"},
		"one row":                  {csvOf("t,requests", time.Minute, "5"), "5 - - - - -"},
		"columns of the same name": {csvOf("t,packets,new-flows", time.Minute, "50,5", "60,"), "5 NaN - - - -"},
	} {
		t.Run(name, func(t *testing.T) {
			h := testHistory(t)
			if _, err := importText(h, "web", c.text, ""); err != nil {
				t.Fatal(err)
			}
			expect(t, text(t, h, "web", noon, 6), c.want)
		})
	}
}

// What is imported takes the place of what was there, column by column; levels are the same in all minutes of a row.
func TestImportReplaces(t *testing.T) {
	h := testHistory(t)
	record(t, h, noon, 1, 2, 3)
	result, err := importText(h, "web", csvOf("t,backends,new-flows", 2*time.Minute, "3,20", ",8"), "")
	must(t, err)
	want := Imported{Columns: []string{"new-flows", "backends"}, Step: 120, Minutes: 4, From: noon, To: noon.Add(3 * time.Minute)}
	if diff := cmp.Diff(want, result); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	expect(t, text(t, h, "web", noon, 5), "10 10 4 4 -")
	rows, err := h.Read("web", noon, noon.Add(4*time.Minute))
	must(t, err)
	if rows[0][Backends] != 3 || rows[1][Backends] != 3 || rows[2][Backends] == rows[2][Backends] {
		t.Errorf("%v", rows)
	}
}

// What would never be kept is left out and said; nothing is imported of a bad file.
func TestImportRefuses(t *testing.T) {
	h := testHistory(t)
	old := noon.Add(-Retention - 2*time.Hour)
	mixed := fmt.Sprintf("t,v\n%d,1\n%d,2\n%d,3\n", old.Unix(), noon.Unix(), later.Add(time.Hour).Unix())
	result, err := importText(h, "web", mixed, "v")
	must(t, err)
	if result.Outside != 2 || text(t, h, "web", noon, 1) == "-" {
		t.Errorf("%+v", result)
	}
	for in, want := range map[string]string{
		fmt.Sprintf("t,v\n%d,1\n", old.Unix()): "no row is of the last 90 days",
		"t,v\n":                                "there are no rows",
		csvOf("t,v", time.Minute, "7", "8", "many"):                `line 4: v: "many" is no number`,
		csvOf("t,v", time.Minute, "7", "8") + noon.String() + ",1": "line 4: ",
	} {
		if _, err := importText(h, "dns", in, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
	}
	expect(t, text(t, h, "dns", noon, 2), "- -")
	if _, err := importText(h, "web", mixed, "w"); err == nil {
		t.Error("there is a column w")
	}
}

// What is exported is imported as it was, through CSV and through JSON.
func TestExport(t *testing.T) {
	h := testHistory(t)
	random := rand.New(rand.NewPCG(5, 6))
	var minutes []Minute
	for i := range 200 {
		r := busyRow(i)
		r[random.IntN(Columns)] = absent[0]
		minutes = append(minutes, Minute{noon.Add(time.Duration(i) * time.Minute), map[string]Row{"web": r}})
	}
	must(t, h.Record(append(minutes[:50:50], minutes[60:]...), time.Time{}))
	points, err := h.Points("web", noon, noon.Add(4*time.Hour))
	must(t, err)
	if len(points) != 190 {
		t.Fatalf("%d points", len(points))
	}
	var file bytes.Buffer
	out := bufio.NewWriter(&file)
	csv := NewCSV(out)
	for _, p := range points {
		data, err := json.Marshal(p)
		must(t, err)
		var again Point
		must(t, json.Unmarshal(data, &again))
		csv.Write(again)
	}
	must(t, out.Flush())
	i, err := h.Parse(&file, "", noon.Add(5*time.Hour))
	must(t, err)
	must(t, h.Import("copy", i))
	copied, err := h.Points("copy", noon, noon.Add(4*time.Hour))
	must(t, err)
	if diff := cmp.Diff(fmt.Sprint(points), fmt.Sprint(copied)); diff != "" {
		t.Error(diff)
	}
}
