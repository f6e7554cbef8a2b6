package orchestrate

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// defaultTimeout is that of a step that does not say.
const defaultTimeout = 5 * time.Minute

// Make returns a plan of recommendations, without its number. It fails when one is named twice, needs one that is not there, or needs itself by
// way of others.
func (p Policy) Make(now time.Time, token uint64, why string, all []Recommendation) (*Plan, error) {
	ids := make(map[string]bool, len(all))
	for i := range all {
		r := &all[i]
		if r.ID == "" || ids[r.ID] {
			return nil, fmt.Errorf("the recommendation %q of %s for %s has no name of its own", r.ID, r.Action, r.Target)
		}
		ids[r.ID] = true
	}
	for i := range all {
		for _, need := range all[i].Needs {
			if !ids[need] {
				return nil, fmt.Errorf("the recommendation %s needs %s, which is not there", all[i].ID, need)
			}
		}
	}
	plan := &Plan{Created: now, Token: token, State: Pending, Why: why}
	var kept []Recommendation
	kept, plan.Dropped = p.resolve(all)
	placed := make(map[string]bool)
	for len(kept) > 0 {
		var phase []Step
		var later []Recommendation
		for _, r := range kept {
			if slices.ContainsFunc(r.Needs, func(need string) bool { return !placed[need] }) {
				later = append(later, r)
				continue
			}
			if r.Timeout == 0 {
				r.Timeout = defaultTimeout
			}
			phase = append(phase, Step{Recommendation: r, State: Pending})
		}
		if len(phase) == 0 {
			return nil, fmt.Errorf("these need each other: %s", strings.Join(circle(later), " -> "))
		}
		for _, s := range phase {
			placed[s.ID] = true
		}
		plan.Phases = append(plan.Phases, phase)
		kept = later
	}
	return plan, nil
}

// circle returns a way from one of the recommendations by what it needs back to itself; all of them need another one of them.
func circle(all []Recommendation) []string {
	needs := make(map[string]string)
	for _, r := range all {
		for _, need := range r.Needs {
			if slices.ContainsFunc(all, func(o Recommendation) bool { return o.ID == need }) {
				needs[r.ID] = need
			}
		}
	}
	var way []string
	for at := all[0].ID; ; at = needs[at] {
		if i := slices.Index(way, at); i >= 0 {
			return append(way[i:], at)
		}
		way = append(way, at)
	}
}
