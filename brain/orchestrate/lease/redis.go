package lease

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// Redis is the lease of a fleet: a key with a time to live that its holder renews (Redis' documentation, "Distributed Locks with Redis", for one
// instance).
type Redis struct {
	client rueidis.Client        // nil until it is connected; Run alone sets it
	option *rueidis.ClientOption // to connect by, nil when the client is the caller's
	key    string
	id     string
	ttl    time.Duration
	log    *slog.Logger

	mu    sync.Mutex
	token uint64
	until time.Time // by this host's steady clock: earlier than Redis gives the key up
	other string    // who has it
	why   error     // why it was not renewed
}

// take takes the key when it is free, or renews one's own, and returns the holder and the token. A token is greater than every one before it, and also
// than the time in milliseconds: so it is when Redis has lost what it knew.
var take = rueidis.NewLuaScript(`
local holder = redis.call('HGET', KEYS[1], 'holder')
if holder == false then
	local now = redis.call('TIME')
	local token = math.max(tonumber(redis.call('GET', KEYS[2]) or '0') + 1, now[1] * 1000 + math.floor(now[2] / 1000))
	redis.call('SET', KEYS[2], string.format('%.0f', token))
	redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'token', string.format('%.0f', token))
	holder = ARGV[1]
end
if holder == ARGV[1] then
	redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return {holder, redis.call('HGET', KEYS[1], 'token')}
`)

// give gives the key back.
var give = rueidis.NewLuaScript(`
if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] then
	return redis.call('DEL', KEYS[1])
end
return 0
`)

// NewRedis returns a lease by its name, which is not held before Run. name says who this is, for people; the time to live is at least a
// second. The client stays the caller's.
func NewRedis(client rueidis.Client, lease, name string, ttl time.Duration, log *slog.Logger) *Redis {
	tag := "{sluice:lease:" + lease + "}" // both keys are on one node of a cluster
	return &Redis{client: client, key: tag, id: name + "/" + rand.Text(), ttl: max(ttl, time.Second), log: log}
}

// DialRedis is NewRedis with a client of its own, which Run connects, now or when Redis is there.
func DialRedis(option rueidis.ClientOption, lease, name string, ttl time.Duration, log *slog.Logger) *Redis {
	r := NewRedis(nil, lease, name, ttl, log)
	r.option = &option
	return r
}

// connect has a client, unless there is one.
func (r *Redis) connect() (err error) {
	if r.client == nil {
		r.client, err = rueidis.NewClient(*r.option)
	}
	return err
}

// Run tries to have the lease, and keeps it, until ctx ends; then it gives it back.
func (r *Redis) Run(ctx context.Context) {
	ticker := time.NewTicker(r.ttl / 4)
	defer ticker.Stop()
	held := false
	for {
		r.renew(ctx)
		if token, err := r.Token(); (err == nil) != held && ctx.Err() == nil {
			held = !held
			r.log.Info("lease", "held", held, "token", token, "reason", err)
		}
		select {
		case <-ctx.Done():
			r.release()
			if r.option != nil && r.client != nil {
				r.client.Close()
			}
			return
		case <-ticker.C:
		}
	}
}

// renew asks Redis once. The time that counts is from before the question.
func (r *Redis) renew(ctx context.Context) {
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, r.ttl/4)
	defer cancel()
	if err := r.connect(); err != nil {
		r.mu.Lock()
		r.why = err
		r.mu.Unlock()
		return
	}
	answer, err := take.Exec(ctx, r.client, []string{r.key, r.key + ":token"}, []string{r.id, fmt.Sprint(r.ttl.Milliseconds())}).ToArray()
	var holder string
	var token int64
	if err == nil && len(answer) == 2 {
		if holder, err = answer[0].ToString(); err == nil {
			token, err = answer[1].AsInt64()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.why = err
		return
	}
	r.why = nil
	if holder != r.id {
		r.other, r.token, r.until = holder, 0, time.Time{}
		return
	}
	// A tenth less than Redis: clocks do not run alike.
	r.other, r.token, r.until = "", uint64(token), asked.Add(r.ttl-r.ttl/10)
}

// Token returns the token while the lease is surely held.
func (r *Redis) Token() (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case time.Now().Before(r.until):
		return r.token, nil
	case r.why != nil:
		return 0, fmt.Errorf("%w: Redis does not answer: %w", ErrLost, r.why)
	case r.other != "":
		return 0, fmt.Errorf("%w: %s has it", ErrLost, r.other)
	}
	return 0, ErrLost
}

// release gives the lease back, so that nobody has to wait for its time to live.
func (r *Redis) release() {
	r.mu.Lock()
	r.until = time.Time{}
	r.mu.Unlock()
	if r.client == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.ttl/4)
	defer cancel()
	if err := give.Exec(ctx, r.client, []string{r.key}, []string{r.id}).Error(); err != nil {
		r.log.Warn("the lease is not given back; it ends by itself", "after", r.ttl, "error", err)
	}
}
