package control

import (
	"slices"

	"github.com/sluicelb/sluice/dataplane"
)

// queue holds the services that are to be looked at, each once. Those that nobody waits for come last. The zero value is
// empty.
type queue struct {
	keys   []dataplane.ServiceKey
	last   []dataplane.ServiceKey // after keys; those of them that are not late wait in keys
	queued map[dataplane.ServiceKey]turn
}

// turn says where a service waits.
type turn uint8

const (
	soon turn = iota + 1 // in keys
	late                 // in last
)

// push appends a service, unless it waits already.
func (q *queue) push(key dataplane.ServiceKey) {
	if q.queued[key] == soon {
		return
	}
	q.set(key, soon)
	q.keys = append(q.keys, key)
}

// pushFirst makes a service the next one.
func (q *queue) pushFirst(key dataplane.ServiceKey) {
	q.push(key)
	i := slices.Index(q.keys, key)
	copy(q.keys[1:i+1], q.keys[:i])
	q.keys[0] = key
}

// pushLast has a service looked at after all others, unless it waits already.
func (q *queue) pushLast(key dataplane.ServiceKey) {
	if q.queued[key] == 0 {
		q.set(key, late)
		q.last = append(q.last, key)
	}
}

func (q *queue) set(key dataplane.ServiceKey, t turn) {
	if q.queued == nil {
		q.queued = make(map[dataplane.ServiceKey]turn)
	}
	q.queued[key] = t
}

// urgent says that services wait that are not the last.
func (q *queue) urgent() bool { return len(q.keys) > 0 }

// pop takes the first service out.
func (q *queue) pop() (key dataplane.ServiceKey, ok bool) {
	if len(q.keys) > 0 {
		key, q.keys = q.keys[0], q.keys[1:]
		delete(q.queued, key)
		return key, true
	}
	q.keys = nil // what was popped is freed
	for len(q.last) > 0 {
		key, q.last = q.last[0], q.last[1:]
		if q.queued[key] == late {
			delete(q.queued, key)
			return key, true
		}
	}
	q.last = nil
	return key, false
}
