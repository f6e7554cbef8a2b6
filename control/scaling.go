package control

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sluicelb/sluice/brain/scale"
)

// Scaling is how many backends a service has, and who starts and ends them. The zero value is off: they are as desired. A zero field
// means its default.
type Scaling struct {
	Executor  string `json:"executor,omitempty" enum:"none,exec,webhook,kubernetes,keda" doc:"Who starts and ends backends. Default: none, which only recommends"`
	Command   string `json:"command,omitempty" doc:"Of executor exec: run by /bin/sh, it gets the order as JSON and may print the backends it started"`
	URL       string `json:"url,omitempty" doc:"Of executor webhook"`
	Workload  string `json:"workload,omitempty" doc:"Of executor kubernetes: deployments/NAME, statefulsets/NAME or replicasets/NAME"`
	Namespace string `json:"namespace,omitempty" doc:"Of executor kubernetes. Default: the service account's"`
	Act       string `json:"act,omitempty" enum:"yes,dry-run" doc:"Whether what is decided is done. Default: yes"`

	ServiceRate float64  `json:"service-rate,omitempty" minimum:"0" doc:"New flows per second that one backend serves. Default: learnt from the load that backends report"`
	Workers     int      `json:"workers,omitempty" minimum:"0" maximum:"100000" doc:"How many a backend serves at a time. Default: backends are reckoned with as one queue"`
	Objective   Duration `json:"objective,omitzero" doc:"Mean response time that is to be kept. Default: 100ms"`
	Risk        Percent  `json:"risk,omitzero" doc:"Share of the time in which it may be missed. Default: 1%"`
	Confidence  Percent  `json:"confidence,omitzero" doc:"How often plans must have sufficed lately to be acted on. Default: 80%"`
	Boot        Duration `json:"boot,omitzero" doc:"From the order of a backend until it serves. Default: 3m"`

	Min          int     `json:"min,omitempty" minimum:"0" maximum:"65535" doc:"The fewest backends. Default: 1"`
	Max          int     `json:"max,omitempty" minimum:"0" maximum:"65535" doc:"The most backends; needed but for executor none"`
	StepUp       int     `json:"step-up,omitempty" minimum:"0" maximum:"65535" doc:"The most that are added at once. Default: any number"`
	StepDown     int     `json:"step-down,omitempty" minimum:"0" maximum:"65535" doc:"The most that are removed at once. Default: any number"`
	CooldownUp   Pause   `json:"cooldown-up,omitzero" doc:"How long nothing is added after a change. Default: off"`
	CooldownDown Pause   `json:"cooldown-down,omitzero" doc:"How long nothing is removed after a change, at least as long as a backend is billed for. Default: 10m"`
	Drain        Pause   `json:"drain,omitzero" doc:"How long a backend that is removed may finish its flows. Default: 5m"`
	Tolerance    Percent `json:"tolerance,omitzero" doc:"Part of the backends that fewer must be to be removed. Default: 0%"`

	Price      float64 `json:"price,omitempty" minimum:"0" doc:"Of a backend for an hour, in the unit of the budgets"`
	HourBudget float64 `json:"hour-budget,omitempty" minimum:"0" doc:"What backends may cost in an hour. Default: no limit"`
	DayBudget  float64 `json:"day-budget,omitempty" minimum:"0" doc:"What they may cost in a day (UTC). Default: no limit"`

	Survive  string `json:"survive,omitempty" doc:"In which events the objective is kept, with their probability in a month: instance, largest, rack, zone, slow=FACTOR, such as zone:1%,slow=1.5:5%"`
	Consider string `json:"consider,omitempty" doc:"Events that the resilience is reckoned of too, but that need not be survived"`
	Freeze   string `json:"freeze,omitempty" doc:"Times in which nothing is removed, nor added after the word all: all fri 16:00/mon 06:00; 2026-12-24T00:00:00Z/2026-12-27T00:00:00Z"`
}

// The executors.
const (
	executorNone       = "none"
	executorExec       = "exec"
	executorWebhook    = "webhook"
	executorKubernetes = "kubernetes"
	executorKEDA       = "keda"
)

// Whether decisions are acted on.
const (
	actYes    = "yes"
	actDryRun = "dry-run"
)

// builtinScaling holds where nothing else is said.
var builtinScaling = Scaling{
	Executor: executorNone, Act: actYes, Objective: Duration(100 * time.Millisecond), Risk: 1, Confidence: 80, Boot: Duration(3 * time.Minute), Min: 1,
	CooldownUp: off, CooldownDown: Pause(10 * time.Minute), Drain: Pause(5 * time.Minute), Tolerance: off,
}

// on says that the service scales.
func (s Scaling) on() bool { return s != Scaling{} }

// filled returns s with every field filled in that has a default.
func (s Scaling) filled() Scaling {
	f := builtinScaling
	merge(&f, s)
	return f
}

// longestScaling bounds durations.
const longestScaling = 24 * time.Hour

// check looks at the scaling of a service; reports says that its backends report their load.
func (s Scaling) check(reports bool) *FieldError {
	if !s.on() {
		return nil
	}
	f := s.filled()
	if err := f.checkExecutor(); err != nil {
		return err
	}
	switch {
	case f.ServiceRate == 0 && !reports:
		return invalid("service-rate", "is missing; give it, or have backends report their load (`load`) so that it is learnt")
	case f.ServiceRate < 0:
		return invalid("service-rate", "%g is negative", f.ServiceRate)
	case f.Risk <= 0 || f.Risk >= 100:
		return invalid("risk", "%s is not above 0%% and below 100%%", f.Risk)
	case f.Min < 1:
		return invalid("min", "%d is not 1 or more", f.Min)
	case f.Max == 0 && f.Executor != executorNone:
		return invalid("max", "is missing; say how many backends there are at most")
	case f.Max != 0 && f.Max < f.Min:
		return invalid("max", "%d is less than the min of %d", f.Max, f.Min)
	case f.StepUp < 0 || f.StepDown < 0 || f.Workers < 0 || f.Max < 0:
		return invalid("step-up", "steps, workers and max are not negative")
	case f.Price < 0 || f.HourBudget < 0 || f.DayBudget < 0:
		return invalid("price", "price and budgets are not negative")
	case f.Price == 0 && f.HourBudget+f.DayBudget > 0:
		return invalid("price", "is missing; budgets are reckoned by it")
	case f.Tolerance > 50:
		return invalid("tolerance", "%s is more than 50%%", f.Tolerance)
	}
	for name, d := range map[string]time.Duration{
		"boot": time.Duration(f.Boot), "cooldown-up": f.CooldownUp.duration(), "cooldown-down": f.CooldownDown.duration(), "drain": f.Drain.duration(),
	} {
		if d < 0 || d > longestScaling {
			return invalid(name, "%s is not within 0s..24h", d)
		}
	}
	if f.ServiceRate > 0 {
		if err := f.checkObjective(); err != nil {
			return err
		}
	}
	if _, err := f.scenarios(); err != nil {
		return err
	}
	if _, err := parseFreezes(f.Freeze); err != nil {
		return invalid("freeze", "%v", err)
	}
	return nil
}

// checkObjective needs the service rate.
func (s Scaling) checkObjective() *FieldError {
	o := s.options(s.ServiceRate, 1)
	o.Step = time.Minute
	if err := o.Check(); err != nil {
		return invalid("objective", "%v", err)
	}
	return nil
}

func (s Scaling) checkExecutor() *FieldError {
	for _, field := range []struct{ executor, key, value string }{
		{executorExec, "command", s.Command}, {executorWebhook, "url", s.URL}, {executorKubernetes, "workload", s.Workload},
	} {
		switch {
		case s.Executor == field.executor && strings.TrimSpace(field.value) == "":
			return invalid(field.key, "is missing; executor %s needs it", field.executor)
		case s.Executor != field.executor && field.value != "":
			return invalid(field.key, "belongs to executor %s, not %s", field.executor, s.Executor)
		}
	}
	if s.Act != actYes && s.Act != actDryRun {
		return invalid("act", "%q is not yes or dry-run", s.Act)
	}
	switch s.Executor {
	case executorNone, executorExec, executorKEDA:
	case executorWebhook:
		if u, err := url.Parse(s.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return invalid("url", "is no address such as https://scaler.example/orders")
		}
	case executorKubernetes:
		if kind, name, _ := strings.Cut(s.Workload, "/"); !validName(name) || kind != "deployments" && kind != "statefulsets" && kind != "replicasets" {
			return invalid("workload", "%q is not deployments/NAME, statefulsets/NAME or replicasets/NAME", s.Workload)
		}
	default:
		return invalid("executor", "%q is no executor (known: none, exec, webhook, kubernetes, keda)", s.Executor)
	}
	if s.Namespace != "" && (s.Executor != executorKubernetes || !validName(s.Namespace)) {
		return invalid("namespace", "%q is no namespace of executor kubernetes", s.Namespace)
	}
	return nil
}

// options are what a decider decides by, in the calendar's time: of a calendar that runs faster, requests are fewer in a second.
func (s Scaling) options(rate, speed float64) scale.Options {
	q := scale.NewQueue(rate / speed)
	q.Workers = s.Workers
	times := func(d Duration) time.Duration { return time.Duration(speed * float64(d)) }
	return scale.Options{
		Queue: q, Objective: times(s.Objective), Risk: s.Risk.fraction(), Boot: times(s.Boot), Confidence: s.Confidence.fraction(),
	}
}

// limits are what no decision goes beyond, in the calendar's time.
func (s Scaling) limits(speed float64) scale.Limits {
	times := func(p Pause) time.Duration { return time.Duration(speed * float64(p.duration())) }
	return scale.Limits{
		Min: s.Min, Max: s.Max, StepUp: s.StepUp, StepDown: s.StepDown, CooldownUp: times(s.CooldownUp), CooldownDown: times(s.CooldownDown),
		Tolerance: s.Tolerance.fraction(), HourBudget: s.HourBudget, DayBudget: s.DayBudget, Price: s.Price,
	}
}

// scenarios reads the events that are thought of.
func (s Scaling) scenarios() (all []scale.Scenario, problem *FieldError) {
	for _, list := range []struct {
		key, text string
		survive   bool
	}{{"survive", s.Survive, true}, {"consider", s.Consider, false}} {
		for text := range strings.SplitSeq(list.text, ",") {
			if text = strings.TrimSpace(text); text == "" {
				continue
			}
			scenario, err := parseScenario(text)
			if err != nil {
				return nil, invalid(list.key, "%v", err)
			}
			scenario.Survive = list.survive
			all = append(all, scenario)
		}
	}
	return all, nil
}

// usualProbability is that of a scenario whose probability is not said.
const usualProbability = 0.01

// parseScenario reads for example "zone", "zone:1%" or "slow=1.5:5%".
func parseScenario(text string) (scale.Scenario, error) {
	name, probability, given := strings.Cut(text, ":")
	s := scale.Scenario{Probability: usualProbability}
	if given {
		var share Percent
		if err := share.UnmarshalText([]byte(probability)); err != nil {
			return s, fmt.Errorf("%q: %w", text, err)
		}
		s.Probability = share.fraction()
	}
	name, factor, given := strings.Cut(name, "=")
	s.Event = scale.Event(name)
	if given {
		var err error
		if s.Factor, err = strconv.ParseFloat(factor, 64); err != nil || s.Event != scale.Slow {
			return s, fmt.Errorf("%q is no event such as slow=1.5", text)
		}
	}
	_, err := scale.MarginOf(nil, 0, []scale.Scenario{s})
	return s, err
}

// freeze is a time in which capacity stays: once, or each week.
type freeze struct {
	from, to         time.Time     // once
	begins, duration time.Duration // each week, from the beginning of Sunday on
	all              bool
	text             string
}

const week = 7 * 24 * time.Hour

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// parseFreezes reads times that are separated by semicolons, such as "all fri 16:00/mon 06:00".
func parseFreezes(text string) (all []freeze, err error) {
	for part := range strings.SplitSeq(text, ";") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		f := freeze{text: part}
		rest, isAll := strings.CutPrefix(part, "all ")
		f.all = isAll
		from, to, found := strings.Cut(rest, "/")
		if !found {
			return nil, fmt.Errorf("%q is no time such as fri 16:00/mon 06:00 or 2026-12-24T00:00:00Z/2026-12-27T00:00:00Z", part)
		}
		if f.from, err = time.Parse(time.RFC3339, from); err == nil {
			if f.to, err = time.Parse(time.RFC3339, to); err != nil || !f.from.Before(f.to) {
				return nil, fmt.Errorf("%q does not end with a later time such as 2026-12-27T00:00:00Z", part)
			}
			all = append(all, f)
			continue
		}
		begins, err1 := parseWeekly(from)
		ends, err2 := parseWeekly(to)
		if err1 != nil || err2 != nil || begins == ends {
			return nil, fmt.Errorf("%q is no time such as fri 16:00/mon 06:00 or 2026-12-24T00:00:00Z/2026-12-27T00:00:00Z", part)
		}
		f.begins, f.duration = begins, (ends-begins+week)%week
		all = append(all, f)
	}
	return all, nil
}

// parseWeekly reads for example "fri 16:00".
func parseWeekly(text string) (time.Duration, error) {
	day, clock, _ := strings.Cut(strings.TrimSpace(text), " ")
	at, err := time.Parse("15:04", strings.TrimSpace(clock))
	if err != nil {
		return 0, err
	}
	for i, name := range weekdays {
		if strings.EqualFold(day, name) {
			return time.Duration(24*i+at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute, nil
		}
	}
	return 0, fmt.Errorf("%q is no day", day)
}

// around returns the freeze's time that a moment lies in or that is the last to have begun before; weekly ones go by the clocks of a place.
func (f freeze) around(now time.Time, zone *time.Location) scale.Freeze {
	if !f.from.IsZero() {
		return scale.Freeze{From: f.from, To: f.to, All: f.all, Why: f.text}
	}
	local := now.In(zone)
	sunday := time.Date(local.Year(), local.Month(), local.Day()-int(local.Weekday()), 0, 0, 0, 0, zone)
	at := func(weeks int, d time.Duration) time.Time {
		return time.Date(sunday.Year(), sunday.Month(), sunday.Day()+7*weeks, int(d.Hours()), int(d.Minutes())%60, 0, 0, zone)
	}
	from := at(0, f.begins)
	weeks := 0
	if from.After(now) {
		weeks, from = -1, at(-1, f.begins)
	}
	return scale.Freeze{From: from, To: at(weeks, f.begins+f.duration), All: f.all, Why: f.text}
}
