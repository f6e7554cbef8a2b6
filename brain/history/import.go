package history

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Imported says what an Import takes over.
type Imported struct {
	Columns []string  `json:"columns" nullable:"false"`
	Step    float64   `json:"step-seconds" doc:"From row to row"`
	Minutes int       `json:"minutes" doc:"That are known then"`
	From    time.Time `json:"from" doc:"The first of them"`
	To      time.Time `json:"to" doc:"The last of them"`
	Outside int       `json:"outside" doc:"Rows that are left out, since they are older than 90 days or in the future"`
}

// Import is what was read of a file.
type Import struct {
	Imported
	minutes []int64 // in order
	rows    map[int64]*Row
}

// Parse reads CSV or an answer of Prometheus, see ReadCSV, to be imported. The named column becomes the new flows. Without a
// name those columns are taken that are called as they are here, such as what CSV wrote, and if there are none the
// first one as new flows.
//
// The rows' own step is the median of their distances. Where that is longer than a minute counts are spread evenly over its
// minutes, and levels are the same in all of them. Where it is shorter counts add up and levels are averaged; of a minute
// with less than half of its rows nothing is known, and what is missing of others is made up for.
func (h *History) Parse(r io.Reader, column string, now time.Time) (*Import, error) {
	t, err := readTable(r)
	if err != nil {
		return nil, err
	}
	chosen, err := t.chosen(column)
	if err != nil {
		return nil, err
	}
	if len(t.times) == 0 {
		return nil, errors.New("there are no rows")
	}
	step := t.step(h.step)
	i := &Import{Imported: Imported{Step: step.Seconds()}, rows: make(map[int64]*Row)}
	for _, c := range chosen {
		i.Columns = append(i.Columns, c.to.String())
		h.spread(t, c, step, i.rows)
	}
	earliest, latest := h.minute(now.Add(-Retention)), h.minute(now)
	i.Outside = t.outside(h.start(earliest), h.start(latest+1))
	for minute, row := range i.rows {
		if minute < earliest || minute > latest || !row.Known() {
			delete(i.rows, minute)
		}
	}
	i.minutes = slices.Sorted(maps.Keys(i.rows))
	i.Minutes = len(i.minutes)
	if i.Minutes == 0 {
		return nil, fmt.Errorf("no row is of the last %d days, which are all that is kept", int(Retention.Hours()/24))
	}
	i.From, i.To = h.start(i.minutes[0]), h.start(i.minutes[i.Minutes-1])
	return i, nil
}

// Import replaces what is known of a service by what was read, minute by minute and column by column, all or nothing.
func (h *History) Import(service string, i *Import) error {
	return h.update(func(bucket *bolt.Bucket) error {
		for minutes := i.minutes; len(minutes) > 0; {
			first, run := minutes[0], []Row(nil)
			hour, _ := split(first)
			for ; len(minutes) > 0 && minutes[0] < (hour+1)*blockMinutes; minutes = minutes[1:] {
				for int64(len(run)) < minutes[0]-first {
					run = append(run, absent)
				}
				run = append(run, *i.rows[minutes[0]])
			}
			if err := h.put(bucket, service, first, run, replacing); err != nil {
				return err
			}
		}
		return nil
	})
}

// choice is a column of a table and what it becomes.
type choice struct {
	from int
	to   Column
}

func (t *table) chosen(name string) ([]choice, error) {
	var all []choice
	for c := range Column(Columns) {
		if i := slices.Index(t.names, c.String()); i >= 0 {
			all = append(all, choice{i, c})
		}
	}
	if name == "" && len(all) > 0 {
		return all, nil
	}
	i, err := t.pick(name)
	return []choice{{i, NewFlows}}, err
}

// step is the median distance of the rows, in whole minutes where it is longer than one.
func (t *table) step(minute time.Duration) time.Duration {
	if len(t.times) < 2 {
		return minute
	}
	distances := make([]time.Duration, len(t.times)-1)
	for i := range distances {
		distances[i] = t.times[i+1].Sub(t.times[i])
	}
	slices.Sort(distances)
	step := distances[len(distances)/2]
	if step > minute {
		step = step.Round(minute)
	}
	return step
}

// outside counts the rows that are not within from and to.
func (t *table) outside(from, to time.Time) (rows int) {
	first, _ := slices.BinarySearchFunc(t.times, from, time.Time.Compare)
	end, _ := slices.BinarySearchFunc(t.times, to, time.Time.Compare)
	return len(t.times) - (end - first)
}

// spread fills a column of minutes.
func (h *History) spread(t *table, c choice, step time.Duration, rows map[int64]*Row) {
	times, values := t.known(c.from)
	put := func(minute int64, value float64) {
		if rows[minute] == nil {
			row := absent
			rows[minute] = &row
		}
		rows[minute][c.to] = float32(value)
	}
	if step < h.step {
		h.gather(times, values, float64(h.step)/float64(step), c.to.adds(), put)
		return
	}
	share := 1.0
	if c.to.adds() {
		share = float64(h.step) / float64(step)
	}
	for i, at := range times {
		for n := range int64(step / h.step) {
			put(h.minute(at)+n, share*values[i])
		}
	}
}

// gather puts minutes together of rows, of which a minute should have full.
func (h *History) gather(times []time.Time, values []float64, full float64, adds bool, put func(int64, float64)) {
	for i := 0; i < len(times); {
		minute, sum, count := h.minute(times[i]), 0.0, 0.0
		for ; i < len(times) && h.minute(times[i]) == minute; i++ {
			sum += values[i]
			count++
		}
		switch {
		case count < full/2:
		case !adds:
			put(minute, sum/count)
		case math.Abs(count-full) < 0.5:
			put(minute, sum)
		default:
			put(minute, sum*full/count)
		}
	}
}
