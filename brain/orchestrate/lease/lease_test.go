package lease

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"
	bolt "go.etcd.io/bbolt"
)

func openDB(t *testing.T, path string) *bolt.DB {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 10 * time.Millisecond, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// Each start of a host has a greater token, and two at a time are impossible; a fence remembers.
func TestLocal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	var last uint64
	for range 3 {
		db := openDB(t, path)
		l, err := NewLocal(db)
		if err != nil {
			t.Fatal(err)
		}
		token, err := l.Token()
		if err != nil || token <= last {
			t.Errorf("after %d the token is %d (%v)", last, token, err)
		}
		if other, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 10 * time.Millisecond}); err == nil {
			other.Close()
			t.Error("two have the store open")
		}
		fence, err := NewFence(db)
		if err != nil {
			t.Fatal(err)
		}
		if err := fence.Admit("web", token); err != nil || fence.Admit("web", token) != nil {
			t.Errorf("the holder is refused: %v", err)
		}
		if last > 0 {
			if err := fence.Admit("web", last); !errors.Is(err, ErrLost) {
				t.Errorf("the holder before is let through: %v", err)
			}
			if err := fence.Admit("news", last); err != nil {
				t.Errorf("another target: %v", err)
			}
		}
		last = token
		db.Close()
	}
}

// redisServer is a real one, on a Unix socket.
type redisServer struct {
	t      *testing.T
	socket string
	cmd    *exec.Cmd
}

func startRedis(t *testing.T) *redisServer {
	s := &redisServer{t: t, socket: filepath.Join(t.TempDir(), "redis.sock")}
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *redisServer) start() {
	s.cmd = exec.Command("redis-server", "--port", "0", "--unixsocket", s.socket, "--save", "", "--appendonly", "no", "--daemonize", "no")
	if err := s.cmd.Start(); err != nil {
		s.t.Fatalf("%v: apt-get install redis-server", err)
	}
	for range 500 {
		if conn, err := net.Dial("unix", s.socket); err == nil {
			conn.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Fatal("redis-server does not listen")
}

// stop kills it, with all it knows.
func (s *redisServer) stop() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// way is the network between one brain and Redis: it can be cut, and then swallows everything both ways.
type way struct {
	mu   sync.Mutex
	cut  bool
	cond *sync.Cond
}

func newWay() *way {
	w := new(way)
	w.cond = sync.NewCond(&w.mu)
	return w
}

func (w *way) set(cut bool) {
	w.mu.Lock()
	w.cut = cut
	w.mu.Unlock()
	w.cond.Broadcast()
}

// Read and Write of a connection on the way wait while it is cut.
type wayConn struct {
	net.Conn
	way *way
}

func (c wayConn) wait() {
	c.way.mu.Lock()
	for c.way.cut {
		c.way.cond.Wait()
	}
	c.way.mu.Unlock()
}

func (c wayConn) Write(p []byte) (int, error) { c.wait(); return c.Conn.Write(p) }

func (c wayConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.wait() // what has arrived meanwhile is late
	return n, err
}

func (s *redisServer) client(w *way) rueidis.Client {
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{s.socket}, DisableCache: true, ForceSingleClient: true, Dialer: net.Dialer{Timeout: 200 * time.Millisecond}, ConnWriteTimeout: 300 * time.Millisecond,
		DialCtxFn: func(ctx context.Context, address string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
			conn, err := d.DialContext(ctx, "unix", address)
			if err != nil {
				return nil, err
			}
			return wayConn{conn, w}, nil
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(client.Close)
	return client
}

// decision is one that was carried out.
type decision struct {
	brain string
	token uint64
}

// brain decides every few milliseconds, as long as it thinks that it may: it asks for its token, dawdles at times, and has the decision
// carried out by a receiver with a fence.
func brain(ctx context.Context, name string, lease Lease, receive func(decision)) {
	random := rand.New(rand.NewPCG(uint64(len(name)), uint64(time.Now().UnixNano())))
	for ctx.Err() == nil {
		if token, err := lease.Token(); err == nil {
			if random.IntN(20) == 0 {
				time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond) // as a collector or a hypervisor has it stand still
			}
			receive(decision{name, token})
		}
		time.Sleep(time.Duration(random.IntN(5)) * time.Millisecond)
	}
}

// TestPartition has two brains, one lease, and a network between them and Redis that is cut and heals at random, and a Redis that is killed and comes back
// empty: of the decisions that are carried out none has a smaller token than one before it, and no token is two brains'. The lease moves, and is held
// most of the time.
func TestPartition(t *testing.T) {
	redis := startRedis(t)
	fence, err := NewFence(openDB(t, filepath.Join(t.TempDir(), "store")))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var carried []decision
	refused := 0
	receive := func(d decision) {
		mu.Lock()
		defer mu.Unlock()
		if fence.Admit("web", d.token) != nil {
			refused++
			return
		}
		carried = append(carried, d)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var group sync.WaitGroup
	ways := map[string]*way{"a": newWay(), "bb": newWay()}
	for name, w := range ways {
		lease := NewRedis(redis.client(w), "scale", name, time.Second, slog.New(slog.DiscardHandler))
		group.Go(func() { lease.Run(ctx) })
		group.Go(func() { brain(ctx, name, lease, receive) })
	}
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	for i := 0; ctx.Err() == nil; i++ {
		time.Sleep(time.Duration(500+random.IntN(1500)) * time.Millisecond)
		ways["a"].set(random.IntN(2) == 0)
		ways["bb"].set(random.IntN(3) == 0)
		if i%4 == 3 {
			redis.stop()
			redis.start()
		}
	}
	for _, w := range ways {
		w.set(false)
	}
	group.Wait()
	owner := map[uint64]string{}
	holders := map[string]int{}
	for i, d := range carried {
		if i > 0 && d.token < carried[i-1].token {
			t.Fatalf("decision %d has the token %d after %d", i, d.token, carried[i-1].token)
		}
		if other := owner[d.token]; other != "" && other != d.brain {
			t.Fatalf("the token %d is %s's and %s's", d.token, other, d.brain)
		}
		owner[d.token] = d.brain
		holders[d.brain]++
	}
	if len(carried) < 200 || len(owner) < 3 || len(holders) < 2 {
		t.Errorf("%d decisions with %d tokens of %v: the test says little", len(carried), len(owner), holders)
	}
	t.Logf("%d decisions with %d tokens of %v, %d refused", len(carried), len(owner), holders, refused)
}

// Who has the lease is told, and it is free at once when it is given back.
func TestRedis(t *testing.T) {
	redis := startRedis(t)
	log := slog.New(slog.DiscardHandler)
	first := NewRedis(redis.client(newWay()), "scale", "first", time.Minute, log)
	second := NewRedis(redis.client(newWay()), "scale", "second", time.Minute, log)
	if _, err := first.Token(); !errors.Is(err, ErrLost) {
		t.Errorf("before it is taken: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { first.Run(ctx); close(ended) }()
	var token uint64
	for token == 0 {
		token, _ = first.Token()
		time.Sleep(time.Millisecond)
	}
	second.renew(t.Context())
	if _, err := second.Token(); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "first/") {
		t.Errorf("the other one: %v", err)
	}
	cancel()
	<-ended
	second.renew(t.Context())
	if next, err := second.Token(); err != nil || next <= token {
		t.Errorf("after it was given back: %d (%v), before %d", next, err, token)
	}
	redis.stop()
	second.until = time.Time{}
	second.renew(t.Context())
	if _, err := second.Token(); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "Redis does not answer") {
		t.Errorf("without Redis: %v", err)
	}
}

// A lease whose Redis is not there yet is not held, says so, and is once it is.
func TestDialRedis(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "redis.sock")
	lease := DialRedis(rueidis.ClientOption{
		InitAddress: []string{socket}, DisableCache: true, ForceSingleClient: true,
		DialCtxFn: func(ctx context.Context, address string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
			return d.DialContext(ctx, "unix", address)
		},
	}, "scale", "first", time.Second, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { lease.Run(ctx); close(ended) }()
	defer func() { cancel(); <-ended }()
	await := func(what string, is func(error) bool) {
		t.Helper()
		for range 1000 {
			if _, err := lease.Token(); is(err) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		_, err := lease.Token()
		t.Fatalf("%s: %v", what, err)
	}
	await("without Redis", func(err error) bool { return err != nil && strings.Contains(err.Error(), "Redis does not answer") })
	redis := &redisServer{t: t, socket: socket}
	redis.start()
	defer redis.stop()
	await("with Redis", func(err error) bool { return err == nil })
}
