package control

import (
	"slices"

	"github.com/sluicelb/sluice/dataplane"
)

// queue holds the services that are to be looked at, each once. The zero value is empty.
type queue struct {
	keys   []dataplane.ServiceKey
	queued map[dataplane.ServiceKey]bool
}

// push appends a service, unless it waits already.
func (q *queue) push(key dataplane.ServiceKey) {
	if q.queued[key] {
		return
	}
	if q.queued == nil {
		q.queued = make(map[dataplane.ServiceKey]bool)
	}
	q.queued[key] = true
	q.keys = append(q.keys, key)
}

// pushFirst makes a service the next one.
func (q *queue) pushFirst(key dataplane.ServiceKey) {
	if !q.queued[key] {
		q.push(key)
	}
	i := slices.Index(q.keys, key)
	copy(q.keys[1:i+1], q.keys[:i])
	q.keys[0] = key
}

// pop takes the first service out.
func (q *queue) pop() (key dataplane.ServiceKey, ok bool) {
	if len(q.keys) == 0 {
		q.keys = nil // what was popped is freed
		return key, false
	}
	key, q.keys = q.keys[0], q.keys[1:]
	delete(q.queued, key)
	return key, true
}
