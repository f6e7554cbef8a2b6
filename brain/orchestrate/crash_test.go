package orchestrate

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sluicelb/sluice/brain/scale/executor"
)

var kills = flag.Int("kills", 25, "`NUMBER` of times that TestCrash kills the brain")

// What the test's own program is when it is started again.
const (
	role     = "ORCHESTRATE_TEST_ROLE" // "brain" or "command"
	registry = "ORCHESTRATE_TEST_REGISTRY"
	storeEnv = "ORCHESTRATE_TEST_STORE"
)

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "brain":
		os.Exit(brain())
	case "command":
		os.Exit(command())
	}
	os.Exit(m.Run())
}

// instances is the cloud: it starts and stops instances, each key's at most once.
type instances struct {
	mu      sync.Mutex
	running map[string]bool
	starts  map[string]int // how often one was started in truth
	stopped map[string]bool
}

func (c *instances) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := r.FormValue("key")
	switch {
	case r.FormValue("fail") != "":
		http.Error(w, "out of stock", 500)
	case r.URL.Path == "/stop":
		delete(c.running, key)
		c.stopped[key] = true
	case !c.running[key] && !c.stopped[key]:
		c.running[key] = true
		c.starts[key]++
	}
}

// command is what the exec executor runs: it has the cloud start or stop an instance.
func command() int {
	path := "/start"
	if os.Getenv("SLUICE_INSTANCES") == "0" {
		path = "/stop"
	}
	fail := ""
	if os.Getenv("SLUICE_SERVICE") == "failing" && path == "/start" {
		fail = "&fail=yes"
	}
	response, err := http.Get(os.Getenv(registry) + path + "?key=" + os.Getenv("SLUICE_KEY") + fail)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer response.Body.Close()
	if response.StatusCode != 200 {
		io.Copy(os.Stderr, response.Body)
		return 64
	}
	return 0
}

// scaler carries out steps by the exec executor.
type scaler struct{ executor executor.Executor }

func (s scaler) Do(ctx context.Context, step Step, token uint64) error {
	_, err := s.executor.Execute(ctx, executor.Order{Service: step.Target, Instances: 1, Key: step.Key, Token: token})
	return err
}

func (s scaler) Undo(ctx context.Context, step Step, token uint64) error {
	_, err := s.executor.Execute(ctx, executor.Order{Service: step.Target, Instances: 0, Key: step.Key, Token: token})
	return err
}

// brain goes on with the plan in the store, or makes one.
func brain() int {
	db, err := bolt.Open(os.Getenv(storeEnv), 0o600, &bolt.Options{Timeout: 10 * time.Second})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	store, err := OpenStore(db)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Setenv(role, "command")
	act := scaler{executor.Retry{Executor: executor.Exec{Command: []string{os.Args[0]}}, Pause: time.Millisecond}}
	runner := &Runner{Store: store, Actors: map[string]Actor{"start": act}, Token: func() (uint64, error) { return 1, nil }}
	plans, err := store.List()
	if err == nil && len(plans) == 0 {
		var all []Recommendation
		for i, target := range []string{"web", "news", os.Getenv("ORCHESTRATE_TEST_LAST")} {
			r := Recommendation{ID: fmt.Sprint("s", i), Action: "start", Target: target, Critical: true}
			if i > 0 {
				r.Needs = []string{all[i-1].ID}
			}
			all = append(all, r)
		}
		var p *Plan
		if p, err = (Policy{}).Make(time.Now(), 1, "crash test", all); err == nil {
			err = store.Add(p)
		}
	}
	if err == nil {
		err = runner.Resume(context.Background())
	}
	if err != nil && !errors.Is(err, ErrRolledBack) {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// TestCrash kills the brain (SIGKILL) at random while it carries out plans, with the commands that it runs, and starts it again: in the end a plan is done
// and each of its instances was started once and runs, or it was rolled back and none runs.
func TestCrash(t *testing.T) {
	cloud := &instances{running: map[string]bool{}, starts: map[string]int{}, stopped: map[string]bool{}}
	server := httptest.NewServer(cloud)
	defer server.Close()
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	killed, plans := 0, 0
	within := 50 * time.Millisecond // a brain is killed: longer each time, until one ends by itself
	for killed < *kills {
		path := filepath.Join(t.TempDir(), "store")
		last := []string{"shop", "failing"}[plans%2]
		clear(cloud.running)
		clear(cloud.starts)
		clear(cloud.stopped)
		for ended := false; !ended; {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), role+"=brain", registry+"="+server.URL, storeEnv+"="+path, "ORCHESTRATE_TEST_LAST="+last)
			cmd.Stderr = os.Stderr
			began := time.Now()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			kill := time.AfterFunc(time.Duration(random.Float64()*float64(within)), func() { cmd.Process.Signal(syscall.SIGKILL) })
			err := cmd.Wait()
			kill.Stop()
			switch status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus); {
			case err == nil:
				ended = true
				within = time.Since(began)
			case status.Signaled() && status.Signal() == syscall.SIGKILL:
				killed++
				within += within / 8
			default:
				t.Fatalf("the brain ended by itself: %v", err)
			}
		}
		plans++
		check(t, cloud, path, last)
	}
	t.Logf("%d plans, %d kills", plans, killed)
}

// check compares the record with what there is.
func check(t *testing.T, cloud *instances, path, last string) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store, err := OpenStore(db)
	if err != nil {
		t.Fatal(err)
	}
	all, err := store.List()
	if err != nil || len(all) != 1 {
		t.Fatalf("the record has %d plans (%v)", len(all), err)
	}
	time.Sleep(5 * time.Millisecond) // for a command that outlived its brain
	cloud.mu.Lock()
	defer cloud.mu.Unlock()
	for key, n := range cloud.starts {
		if n != 1 {
			t.Errorf("instance %s was started %d times", key, n)
		}
	}
	want, running := "done done done: done", 3
	if last == "failing" {
		want, running = "undone undone undone: rolled-back", 0
	}
	if got := states(all[0]); got != want || len(cloud.running) != running {
		t.Errorf("%s, and %d instances run: %v", got, len(cloud.running), cloud.running)
	}
}
