package cache

import (
	"context"
	"fmt"
	"time"
)

// Result is a value, and what is known of it.
type Result[V any] struct {
	Value   V
	Version uint64
	Age     time.Duration // since the source had it
	Stale   bool          // it is not fresh any more
}

// StaleError says that the source could not be asked, and that what is known is older than the stale bound allows.
type StaleError struct {
	Namespace, Key string
	Age            time.Duration // of what is known
	Cause          error         // why the source could not be asked
}

// Error names the key and the cause.
func (e *StaleError) Error() string {
	return fmt.Sprintf("%s %q is known only as it was %s ago, for its source fails: %v", e.Namespace, e.Key, e.Age.Round(time.Millisecond), e.Cause)
}

// Unwrap returns the cause.
func (e *StaleError) Unwrap() error { return e.Cause }

// Get returns the value of key: ErrNotFound when there is none, a *StaleError without the value when the source fails and
// what is known is too old, and otherwise what the loader or ctx says.
func (n *Namespace[V]) Get(ctx context.Context, key string) (V, error) {
	now := n.o.Now()
	if e, ok := n.l1.Get(key); ok && now.Sub(e.stored) < e.fresh {
		n.stats.hits.add()
		if e.absent {
			return e.value, ErrNotFound
		}
		return e.value, nil
	}
	r, err := n.Lookup(ctx, key)
	if err != nil {
		var none V
		return none, err
	}
	return r.Value, nil
}

// Lookup is like Get and says more of the value; with a *StaleError it returns the old value, too.
func (n *Namespace[V]) Lookup(ctx context.Context, key string) (Result[V], error) {
	e, ok := n.l1.Get(key)
	switch n.usable(e) {
	case fresh:
		n.stats.hits.add()
		return n.result(e)
	case stale:
		n.stats.stale.Add(1)
		if e.mayRetry(n.o.Now()) {
			n.load(key)
		}
		return n.result(e)
	}
	if ok {
		n.stats.expired.Add(1)
	} else {
		n.stats.misses.Add(1)
	}
	if ok && !e.mayRetry(n.o.Now()) {
		return n.answer(key, e, e.cause)
	}
	for asked := n.o.Now(); ; {
		select {
		case answer := <-n.load(key):
			loaded, _ := answer.Val.(*entry[V])
			if answer.Err == nil && n.usableAt(loaded, asked) == expired {
				continue // the load had begun long before; the next one begins after it
			}
			return n.answer(key, loaded, answer.Err)
		case <-ctx.Done():
			return Result[V]{}, ctx.Err()
		}
	}
}

// answer is what a reader gets of a load: e is the best that is known, or nil.
func (n *Namespace[V]) answer(key string, e *entry[V], err error) (Result[V], error) {
	if err == nil {
		return n.result(e)
	}
	if e == nil || e.absent {
		return Result[V]{}, err // that there was no such key is not worth being told late
	}
	r, _ := n.result(e)
	if n.usable(e) != expired {
		n.stats.stale.Add(1)
		return r, nil
	}
	n.stats.refused.Add(1)
	return r, &StaleError{Namespace: n.o.Name, Key: key, Age: r.Age, Cause: err}
}

func (n *Namespace[V]) result(e *entry[V]) (Result[V], error) {
	age := max(n.o.Now().Sub(e.stored), 0)
	if e.absent {
		return Result[V]{Version: e.version, Age: age}, ErrNotFound
	}
	return Result[V]{Value: e.value, Version: e.version, Age: age, Stale: age >= e.fresh}, nil
}

// usability is what may be done with an entry.
type usability int

const (
	expired usability = iota // not to be given out without a word
	stale                    // to be given out while it is renewed
	fresh
)

// usable says what may be done now with e, which may be nil. What was not found is never stale.
func (n *Namespace[V]) usable(e *entry[V]) usability { return n.usableAt(e, n.o.Now()) }

func (n *Namespace[V]) usableAt(e *entry[V], now time.Time) usability {
	if e == nil {
		return expired
	}
	switch age := now.Sub(e.stored); {
	case age < e.fresh:
		return fresh
	case age < e.fresh+n.o.StaleBound && !e.absent:
		return stale
	default:
		return expired
	}
}
