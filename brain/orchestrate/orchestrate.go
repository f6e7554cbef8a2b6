// Package orchestrate makes plans of what the parts of the brain recommend, and carries them out.
//
// Scaling, balancing and cache each recommend by themselves. Where two recommendations get in each other's way one is left out (conflict.go). The
// others become a plan: phases by what depends on what (plan.go). A plan is carried out step by step, each recorded before it begins and
// after it has ended, so that a plan whose process died goes on or is rolled back (run.go, store.go).
package orchestrate

import (
	"fmt"
	"time"
)

// Pattern is the part of the brain that recommends.
type Pattern string

// The patterns.
const (
	Scaling   Pattern = "scaling"
	Balancing Pattern = "balancing"
	Caching   Pattern = "caching"
)

// Recommendation is what a part of the brain would do.
type Recommendation struct {
	ID         string            `json:"id"` // unique among those that are planned together
	Pattern    Pattern           `json:"pattern"`
	Action     string            `json:"action"` // which Actor does it, such as "scale-up"
	Target     string            `json:"target"` // the service
	Params     map[string]string `json:"params,omitempty"`
	Confidence float64           `json:"confidence"`       // 0 to 1
	Cost       float64           `json:"cost"`             // what it costs more for an hour; below 0 it saves
	Impact     string            `json:"impact,omitempty"` // on users, a sentence
	Duration   time.Duration     `json:"duration"`         // that is expected
	Timeout    time.Duration     `json:"timeout"`          // after which it has failed
	Needs      []string          `json:"needs,omitempty"`  // IDs of those that must be done before
	Critical   bool              `json:"critical"`         // when it fails the plan is rolled back
	Reasons    []string          `json:"reasons"`          // sentences
}

// State is how far a step or a plan is.
type State string

// The states. A plan is never Undone alone: it is RolledBack.
const (
	Pending     State = "pending"
	Running     State = "running"
	Done        State = "done"
	Failed      State = "failed"
	Undoing     State = "undoing"
	Undone      State = "undone"
	UndoFailed  State = "undo-failed" // somebody must look at it
	Skipped     State = "skipped"     // the plan was given up before
	RollingBack State = "rolling-back"
	RolledBack  State = "rolled-back"
)

// Step is a recommendation in a plan.
type Step struct {
	Recommendation
	Key     string    `json:"key"` // the same for every attempt, of any process
	State   State     `json:"state"`
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	Error   string    `json:"error,omitempty"`
}

// Dropped is a recommendation that is not carried out, and why.
type Dropped struct {
	Recommendation
	Why string `json:"why"`
}

// Plan is what is carried out: the steps of a phase after those of the phases before it.
type Plan struct {
	Number  uint64    `json:"number"`
	Created time.Time `json:"created"`
	Token   uint64    `json:"token"` // of the lease that it was made under
	State   State     `json:"state"`
	Why     string    `json:"why"`
	Aborted string    `json:"aborted,omitempty"` // why it was given up, when no step failed
	Phases  [][]Step  `json:"phases"`
	Dropped []Dropped `json:"dropped,omitempty"`
}

// Cause says why the plan did not end well; "" when it did, or goes on.
func (p *Plan) Cause() string {
	if p.State != RollingBack && p.State != RolledBack && p.State != Failed {
		return ""
	}
	return cause(p)
}

// Ended says that nothing is left to be done about the plan.
func (p *Plan) Ended() bool { return p.State == Done || p.State == RolledBack || p.State == Failed }

// Target is the service of the first step, "" without any.
func (p *Plan) Target() (target string) {
	p.steps(func(s *Step) bool { target = s.Target; return false })
	return target
}

// Has says that the plan has a step of an action.
func (p *Plan) Has(action string) (has bool) {
	p.steps(func(s *Step) bool { has = s.Action == action; return !has })
	return has
}

// steps calls do with each step in order, until it returns false.
func (p *Plan) steps(do func(*Step) bool) {
	for i := range p.Phases {
		for k := range p.Phases[i] {
			if !do(&p.Phases[i][k]) {
				return
			}
		}
	}
}

// String returns for example "plan 7: done, 2 phases, 3 steps".
func (p *Plan) String() string {
	count := 0
	p.steps(func(*Step) bool { count++; return true })
	return fmt.Sprintf("plan %d: %s, %d phases, %d steps", p.Number, p.State, len(p.Phases), count)
}
