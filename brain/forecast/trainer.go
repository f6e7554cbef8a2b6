package forecast

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Lesson is what a forecaster's models are fitted with apart from it, so that it can go on meanwhile.
type Lesson struct {
	data    *Data
	members []*member
}

// Lesson returns copies of the models, and the data as they are now. It may be trained while the forecaster is used.
func (f *Forecaster) Lesson() (*Lesson, error) {
	l := &Lesson{data: f.data.snapshot(), members: f.options.models()}
	for i, m := range l.members {
		if f.members[i].Fitted == 0 {
			continue
		}
		state, err := f.members[i].Model.MarshalBinary()
		if err != nil {
			return nil, fmt.Errorf("model %s: %w", m.Name, err)
		}
		if err := m.Model.UnmarshalBinary(state); err != nil {
			return nil, fmt.Errorf("model %s: %w", m.Name, err)
		}
	}
	return l, nil
}

// Adopt has the forecaster use the models of a lesson, as far as they were fitted.
func (f *Forecaster) Adopt(l *Lesson) {
	for i, m := range l.members {
		old := f.members[i]
		old.Problem, old.FitTime = m.Problem, m.FitTime
		if m.Fitted > 0 {
			old.Model, old.Fitted = m.Model, m.Fitted
		}
	}
}

// Trainer trains lessons in the background. The zero value is ready for use, by one goroutine at a time.
type Trainer struct {
	Share float64 // of one processor that training may take on average, above 0 to 1; 0 is 0.05
}

// lowest is the nice value of training, the one that yields to all others (setpriority(2)).
const lowest = 19

// Train fits the lesson's models one after the other, and after each does nothing for as long as its share wants. It
// returns the errors of models, which are then as they were before; or that of ctx, soon after it is done.
func (t *Trainer) Train(ctx context.Context, l *Lesson) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and its priority with it
		done <- t.train(ctx, l)
	}()
	return <-done
}

func (t *Trainer) train(ctx context.Context, l *Lesson) error {
	if err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), lowest); err != nil {
		return fmt.Errorf("lowering the priority of training: %w", err)
	}
	share := t.Share
	if share == 0 {
		share = 0.05
	}
	var problems []error
	for _, m := range l.members {
		before, err := processorTime()
		if err != nil {
			return err
		}
		if err := m.fit(ctx, l.data); err != nil {
			problems = append(problems, err)
		}
		after, err := processorTime()
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(float64(after-before) * (1/share - 1))):
		}
	}
	return errors.Join(problems...)
}

// processorTime returns what this thread has used of a processor.
func processorTime() (time.Duration, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		return 0, fmt.Errorf("reading the thread's processor time: %w", err)
	}
	return time.Duration(now.Nano()), nil
}
