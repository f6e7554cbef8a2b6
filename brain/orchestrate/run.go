package orchestrate

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Actor carries out steps of some actions. Both methods may be called again with the same key, also by another process, after one that died
// while it called, and then must do nothing twice. They return soon after ctx is done.
type Actor interface {
	Do(ctx context.Context, s Step, token uint64) error
	// Undo takes back what Do did, in whole or in part.
	Undo(ctx context.Context, s Step, token uint64) error
}

// Runner carries out plans.
type Runner struct {
	Store  *Store
	Actors map[string]Actor // by action
	// Token returns the fencing token of the lease that is held now, and an error when none is. What is carried out carries it.
	Token func() (uint64, error)
	Clock func() time.Time // nil is time.Now
}

// ErrRolledBack is returned for a plan that failed and was taken back.
var ErrRolledBack = errors.New("the plan was rolled back")

// Run carries out a plan that is in the store, from where it is. It returns nil when all steps are done, except those that failed and were not
// critical; ErrRolledBack, with the cause, when what was done was taken back; or another error, such as of ctx or the store, when the plan is to be run
// again. A plan that has ended is left alone.
func (r *Runner) Run(ctx context.Context, p *Plan) error {
	for _, action := range r.missing(p) {
		return fmt.Errorf("plan %d: nobody carries out %q", p.Number, action)
	}
	if p.State == Pending {
		p.State = Running
		if err := r.Store.Put(p); err != nil {
			return err
		}
	}
	if p.State == Running {
		if err := r.forward(ctx, p); err != nil {
			return err
		}
	}
	if p.State == RollingBack {
		if err := r.back(ctx, p); err != nil {
			return err
		}
	}
	if p.State == RolledBack || p.State == Failed {
		return fmt.Errorf("plan %d: %w: %s", p.Number, ErrRolledBack, cause(p))
	}
	return nil
}

// Abort takes back a plan that runs no more, since the context of Run was cancelled, for a reason that is recorded. One that has ended is left alone.
// It returns ErrRolledBack with the reason, or another error when it is to be called again.
func (r *Runner) Abort(ctx context.Context, p *Plan, why string) error {
	if p.State == Running || p.State == Pending {
		p.steps(func(s *Step) bool {
			if s.State == Running {
				s.State, s.Error, s.Ended = Failed, "aborted: "+why, r.now()
			}
			return true
		})
		p.State, p.Aborted = RollingBack, why
		skipRest(p)
		if err := r.Store.Put(p); err != nil {
			return err
		}
	}
	return r.Run(ctx, p)
}

// missing returns the actions that nobody carries out.
func (r *Runner) missing(p *Plan) (actions []string) {
	p.steps(func(s *Step) bool {
		if r.Actors[s.Action] == nil {
			actions = append(actions, s.Action)
		}
		return true
	})
	return actions
}

func (r *Runner) now() time.Time {
	if r.Clock != nil {
		return r.Clock()
	}
	return time.Now().UTC()
}

// forward does the steps that are not done yet. A critical one that fails has the plan rolled back.
func (r *Runner) forward(ctx context.Context, p *Plan) (err error) {
	p.steps(func(s *Step) bool {
		if s.State == Pending || s.State == Running {
			_, err = r.step(ctx, p, s, Running, Done, Failed, r.Actors[s.Action].Do)
		}
		if err == nil && s.State == Failed && s.Critical { // just now, or before the process died
			p.State = RollingBack
			skipRest(p)
			err = r.Store.Put(p)
		}
		return err == nil && p.State == Running
	})
	if err == nil && p.State == Running {
		p.State = Done
		err = r.Store.Put(p)
	}
	return err
}

func skipRest(p *Plan) {
	p.steps(func(s *Step) bool {
		if s.State == Pending {
			s.State = Skipped
		}
		return true
	})
}

// back undoes what was done, the last first, and what failed, which may have been done in part.
func (r *Runner) back(ctx context.Context, p *Plan) error {
	var done []*Step
	p.steps(func(s *Step) bool {
		if s.State == Done || s.State == Failed || s.State == Undoing {
			done = append(done, s)
		}
		return true
	})
	clean := true
	for i := len(done) - 1; i >= 0; i-- {
		s := done[i]
		why := s.Error
		failed, err := r.step(ctx, p, s, Undoing, Undone, UndoFailed, r.Actors[s.Action].Undo)
		if err != nil {
			return err
		}
		switch {
		case failed != nil && why != "":
			s.Error = why + "; and undoing: " + s.Error
		case why != "":
			s.Error = why
		}
		clean = clean && failed == nil
	}
	p.State = RolledBack
	p.steps(func(s *Step) bool {
		if s.State == UndoFailed {
			p.State = Failed
		}
		return true
	})
	return r.Store.Put(p)
}

// step records that something begins, does it, and records how it ended. The first error is that of what was done, the second one ends the run.
func (r *Runner) step(ctx context.Context, p *Plan, s *Step, during, good, bad State, do func(context.Context, Step, uint64) error) (failed, err error) {
	token, err := r.Token()
	if err != nil {
		return nil, fmt.Errorf("plan %d, step %s: %w", p.Number, s.ID, err)
	}
	s.State = during
	if s.Started.IsZero() {
		s.Started = r.now()
	}
	if err := r.Store.Put(p); err != nil {
		return nil, err
	}
	within, cancel := context.WithTimeout(ctx, s.Timeout)
	failed = do(within, *s, token)
	late := errors.Is(within.Err(), context.DeadlineExceeded)
	cancel()
	if ctx.Err() != nil && failed != nil {
		return nil, fmt.Errorf("plan %d, step %s: %w", p.Number, s.ID, ctx.Err()) // it is done again
	}
	s.Ended = r.now()
	switch {
	case failed == nil:
		s.State = good
	case late:
		s.State, s.Error = bad, fmt.Sprintf("not within %v: %v", s.Timeout, failed)
	default:
		s.State, s.Error = bad, failed.Error()
	}
	return failed, r.Store.Put(p)
}

// cause is why the plan was given up: the error of the critical step that failed, if nobody did.
func cause(p *Plan) (text string) {
	if p.Aborted != "" {
		return p.Aborted
	}
	p.steps(func(s *Step) bool {
		if s.Critical && s.Error != "" {
			text = fmt.Sprintf("step %s: %s", s.ID, s.Error)
		}
		return text == ""
	})
	return text
}

// Resume runs the plans that have not ended, the oldest first, after a start. It returns the errors of all that do not end well.
func (r *Runner) Resume(ctx context.Context) error {
	plans, err := r.Store.List()
	if err != nil {
		return err
	}
	var problems []error
	for _, p := range plans {
		if p.Ended() {
			continue
		}
		if err := r.Run(ctx, p); err != nil {
			problems = append(problems, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(problems...)
}
