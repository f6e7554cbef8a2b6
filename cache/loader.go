package cache

import (
	"context"
	"errors"
	"time"
)

// What Get and loaders return, wrapped or not.
var (
	// ErrNotFound says that the source has no such key. It is cached, too.
	ErrNotFound = errors.New("no such key")
	// ErrNotModified is a loader's answer when what the cache has is still what the source has.
	ErrNotModified = errors.New("not modified")
)

// Loaded is what a source has under a key.
type Loaded[V any] struct {
	Value V
	// Version grows with every change of the key in the source. 0: the source has none, and the time at which the load began
	// stands for it, Unix time in ns.
	Version uint64
	// Tag is the source's own name of the version, such as an ETag. It comes back with the next load of the key.
	Tag string
	// Fresh is for how long the value is fresh, when the source says so; 0: the namespace's TTL.
	Fresh time.Duration
}

// Loader reads from L3, the source of truth. It returns ErrNotFound when there is no such key, and ErrNotModified, only if a
// tag is given, when that still names what is there. It must be safe for concurrent use and heed ctx.
type Loader[V any] interface {
	Load(ctx context.Context, key, tag string) (Loaded[V], error)
}

// LoaderFunc is a function as a Loader.
type LoaderFunc[V any] func(ctx context.Context, key, tag string) (Loaded[V], error)

// Load calls f.
func (f LoaderFunc[V]) Load(ctx context.Context, key, tag string) (Loaded[V], error) {
	return f(ctx, key, tag)
}
