package controlplane

import (
	"cmp"
	"context"
	"math/rand/v2"
	"time"

	"github.com/sluicelb/sluice/control"
)

// Kind is a kind of change to one service.
type Kind string

// The kinds of changes.
const (
	Weight Kind = "weight" // of one backend
	Add    Kind = "add"    // a backend
	Remove Kind = "remove" // the same backend
)

// Kinds are all of them, in the order they are made.
var Kinds = []Kind{Weight, Add, Remove}

// latencies are those of changes of one kind, from the API call on.
type latencies struct {
	live   []time.Duration // until the kernel has the new table
	answer []time.Duration // until the API's answer
}

// The weights that a backend has by turns. The first is what every backend has.
const heavy, light = control.DefaultWeight, control.DefaultWeight / 2

// change changes services at random, one after the other.
func (s *site) change(ctx context.Context) (map[Kind]*latencies, error) {
	made := make(map[Kind]*latencies)
	for _, kind := range Kinds {
		made[kind] = new(latencies)
	}
	weights := make(map[int]int) // of the first backend of services that were changed
	for range s.options.Changes {
		i := rand.N(s.options.Services)
		weights[i] = heavy + light - cmp.Or(weights[i], heavy)
		for _, kind := range Kinds {
			if err := s.changeOnce(ctx, kind, i, weights[i], made[kind]); err != nil {
				return nil, err
			}
		}
	}
	return made, nil
}

// changeOnce makes one change and notes how long it took.
func (s *site) changeOnce(ctx context.Context, kind Kind, i, weight int, l *latencies) error {
	word, err := s.tables.of(i)
	if err != nil {
		return err
	}
	before, err := word.read()
	if err != nil {
		return err
	}
	watching, stop := context.WithTimeout(ctx, liveWithin)
	defer stop()
	live := make(chan time.Time, 1)
	go func() { live <- word.changed(watching, before) }()
	began := time.Now()
	if err := s.ask(ctx, kind, i, weight); err != nil {
		stop()
		<-live
		return err
	}
	answered := time.Now()
	at := <-live
	if at.IsZero() {
		return cmp.Or(ctx.Err(), errNotLive)
	}
	l.live, l.answer = append(l.live, at.Sub(began)), append(l.answer, answered.Sub(began))
	return nil
}

// ask has the daemon make a change that gives the service another table.
func (s *site) ask(ctx context.Context, kind Kind, i, weight int) error {
	var err error
	switch kind {
	case Weight:
		_, err = s.Client.UpdateBackend(ctx, serviceName(i), s.backendAddress(i, 0).String(), control.BackendPatch{Weight: &weight})
	case Add:
		_, err = s.Client.AddBackend(ctx, serviceName(i), control.Backend{Address: s.spare()})
	case Remove:
		err = s.Client.RemoveBackend(ctx, serviceName(i), s.spare().String())
	}
	return err
}
