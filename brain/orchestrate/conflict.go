package orchestrate

import (
	"cmp"
	"fmt"
	"slices"
)

// Actions that conflicts are known of.
const (
	ScaleUp   = "scale-up"
	ScaleDown = "scale-down"
	Reweigh   = "reweigh" // changes weights
	Warm      = "warm"    // fills a cache
	Drain     = "drain"   // has backends finish what they have
)

// Policy says which of two recommendations is carried out that get in each other's way.
type Policy struct {
	// Priority are the patterns, the most important first; those that are not named come last, in the order of their names.
	Priority []Pattern
}

// conflict says why two recommendations get in each other's way; "" when they do not.
func conflict(a, b *Recommendation) string {
	if a.Target != b.Target {
		return ""
	}
	both := func(x, y string) bool { return a.Action == x && b.Action == y || a.Action == y && b.Action == x }
	switch {
	case both(ScaleUp, ScaleDown):
		return "instances would start and end at the same time"
	case both(ScaleDown, Warm):
		return "a cache that is warming needs the instances that would end"
	case both(ScaleUp, Reweigh):
		return "weights would change while instances boot"
	case a.Pattern != b.Pattern && !slices.Contains(a.Needs, b.ID) && !slices.Contains(b.Needs, a.ID) && !both(ScaleUp, Warm):
		return "two patterns would change the service at once"
	case a.Pattern == b.Pattern && a.Action == b.Action:
		return "it is recommended twice"
	}
	return ""
}

// resolve returns what is carried out, in the order of importance, and what is not. What needs something that is not carried out is not
// either.
func (p Policy) resolve(all []Recommendation) (kept []Recommendation, dropped []Dropped) {
	rank := func(r *Recommendation) int {
		if i := slices.Index(p.Priority, r.Pattern); i >= 0 {
			return i
		}
		return len(p.Priority)
	}
	order := slices.Clone(all)
	slices.SortStableFunc(order, func(a, b Recommendation) int {
		return cmp.Or(cmp.Compare(rank(&a), rank(&b)), cmp.Compare(b.Confidence, a.Confidence), cmp.Compare(a.Pattern, b.Pattern), cmp.Compare(a.ID, b.ID))
	})
	for _, r := range order {
		why := ""
		for i := range kept {
			if reason := conflict(&r, &kept[i]); reason != "" {
				why = fmt.Sprintf("%s (with %s of %s, which goes before)", reason, kept[i].Action, kept[i].Pattern)
				break
			}
		}
		if why == "" {
			kept = append(kept, r)
		} else {
			dropped = append(dropped, Dropped{r, why})
		}
	}
	for again := true; again; {
		again = false
		kept = slices.DeleteFunc(kept, func(r Recommendation) bool {
			for _, need := range r.Needs {
				if slices.ContainsFunc(dropped, func(d Dropped) bool { return d.ID == need }) {
					dropped = append(dropped, Dropped{r, fmt.Sprintf("it needs %s, which is not carried out", need)})
					again = true
					return true
				}
			}
			return false
		})
	}
	return kept, dropped
}
