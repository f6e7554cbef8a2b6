package executor

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"net/netip"
)

func order() Order {
	return Order{Service: "web", Instances: 3, Was: 2, Remove: []string{"a", "b"}, Reasons: []string{"more is coming"}, Key: "web-17", Token: 9, Time: time.Unix(1_790_000_000, 0).UTC()}
}

func isPermanent(err error) bool {
	var p permanent
	return errors.As(err, &p)
}

// script makes a program that can be run.
func script(t *testing.T, text string) string {
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestExec(t *testing.T) {
	file := filepath.Join(t.TempDir(), "seen")
	program := script(t, `cat > "$1"; echo "$SLUICE_SERVICE $SLUICE_INSTANCES $SLUICE_WAS $SLUICE_REMOVE $SLUICE_KEY $SLUICE_TOKEN" >> "$1"
echo '{"backends": [{"name": "c", "address": "2001:db8::3", "port": 8080}]}'`)
	result, err := Exec{[]string{program, file}}.Execute(t.Context(), order())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Result{[]Backend{{Name: "c", Address: netip.MustParseAddr("2001:db8::3"), Port: 8080}}}, result, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
	seen, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text, environment, _ := strings.Cut(string(seen), "}")
	var got Order
	if err := json.Unmarshal([]byte(text+"}"), &got); err != nil || !cmp.Equal(got, order()) {
		t.Errorf("the command got %s (%v)", text, err)
	}
	if want := "web 3 2 a b web-17 9\n"; environment != want {
		t.Errorf("its environment said %q, not %q", environment, want)
	}
}

func TestExecFailures(t *testing.T) {
	for name, c := range map[string]struct {
		command   []string
		permanent bool
		want      string
	}{
		"none":          {nil, true, "no command"},
		"not there":     {[]string{"/does/not/exist"}, true, "/does/not/exist"},
		"exit code":     {[]string{script(t, "echo quota exceeded >&2; exit 1")}, false, "exit status 1: quota exceeded"},
		"used wrongly":  {[]string{script(t, "exit 64")}, true, "exit status 64"},
		"no JSON":       {[]string{script(t, "echo started")}, true, `"started"`},
		"no address":    {[]string{script(t, `echo '{"backends": [{"name": "c"}]}'`)}, true, "backends[0]"},
		"talks forever": {[]string{script(t, "head -c 3000000 /dev/zero")}, true, "more than 1048576 bytes"},
	} {
		_, err := Exec{c.command}.Execute(t.Context(), order())
		if err == nil || !strings.Contains(err.Error(), c.want) || isPermanent(err) != c.permanent {
			t.Errorf("%s: %v (permanent: %v), not %q", name, err, isPermanent(err), c.want)
		}
	}
}

// A command that does not end is killed with its children.
func TestExecTimeout(t *testing.T) {
	file := filepath.Join(t.TempDir(), "child")
	program := script(t, `sleep 1000 & echo $! > "$1"; wait`)
	began := time.Now()
	_, err := Retry{Executor: Exec{[]string{program, file}}, Attempts: 1, Timeout: 300 * time.Millisecond}.Execute(t.Context(), order())
	if err == nil || !strings.Contains(err.Error(), "no answer within 300ms") {
		t.Errorf("%v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var child int
	fmt.Sscan(string(text), &child)
	for wait := 0; syscall.Kill(child, 0) == nil && !isZombie(child); wait++ {
		if wait > 500 {
			t.Fatalf("the child %d lives", child)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func isZombie(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(status), ") Z ")
}

// failing fails some times, and counts.
type failing struct {
	err   error
	times int
	calls int
	keys  map[string]bool
}

func (f *failing) Execute(_ context.Context, o Order) (Result, error) {
	f.calls++
	f.keys[o.Key] = true
	if f.calls <= f.times {
		return Result{}, f.err
	}
	return Result{}, nil
}

func TestRetry(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		times int
		calls int
		fails bool
	}{
		"at once":            {nil, 0, 1, false},
		"in the end":         {errors.New("busy"), 3, 4, false},
		"too often":          {errors.New("busy"), 4, 4, true},
		"permanent":          {Permanent(errors.New("forbidden")), 4, 1, true},
		"permanent, wrapped": {fmt.Errorf("calling: %w", Permanent(errors.New("forbidden"))), 4, 1, true},
	} {
		f := &failing{err: c.err, times: c.times, keys: map[string]bool{}}
		_, err := Retry{Executor: f, Pause: time.Millisecond}.Execute(t.Context(), order())
		if f.calls != c.calls || (err != nil) != c.fails || len(f.keys) != 1 {
			t.Errorf("%s: %d calls with %d keys, %v", name, f.calls, len(f.keys), err)
		}
		if err != nil && (!strings.Contains(err.Error(), "web-17") || !strings.Contains(err.Error(), "service web")) {
			t.Errorf("%s: the error does not name the order: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	f := &failing{err: errors.New("busy"), times: 100, keys: map[string]bool{}}
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := (Retry{Executor: f, Attempts: 100, Pause: time.Hour}).Execute(ctx, order()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled in a pause: %v", err)
	}
}

func TestWebhook(t *testing.T) {
	secret := []byte("s3cret")
	var status int
	var says string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var got Order
		if err := json.Unmarshal(body, &got); err != nil || !cmp.Equal(got, order()) || r.Header.Get("Idempotency-Key") != "web-17" {
			t.Errorf("the webhook got %s (%v), key %q", body, err, r.Header.Get("Idempotency-Key"))
		}
		signature := r.Header.Get("Sluice-Signature")
		if !Verify(secret, signature, body, time.Now(), time.Minute) {
			t.Errorf("the signature %q is wrong", signature)
		}
		if Verify([]byte("other"), signature, body, time.Now(), time.Minute) || Verify(secret, signature, append(body, ' '), time.Now(), time.Minute) ||
			Verify(secret, signature, body, time.Now().Add(time.Hour), time.Minute) || Verify(secret, "", body, time.Now(), time.Minute) {
			t.Error("a wrong signature is right")
		}
		w.WriteHeader(status)
		io.WriteString(w, says)
	}))
	defer server.Close()
	hook := Webhook{URL: strings.Replace(server.URL, "http://", "http://user:hunter2@", 1), Secret: secret}
	status, says = 202, `{"backends": [{"address": "192.0.2.9"}]}`
	if result, err := hook.Execute(t.Context(), order()); err != nil || len(result.Backends) != 1 {
		t.Errorf("%+v, %v", result, err)
	}
	for code, permanent := range map[int]bool{500: false, 503: false, 429: false, 409: false, 400: true, 401: true, 404: true} {
		status, says = code, "because"
		_, err := hook.Execute(t.Context(), order())
		if err == nil || isPermanent(err) != permanent || !strings.Contains(err.Error(), "because") {
			t.Errorf("status %d: %v (permanent: %v)", code, err, isPermanent(err))
		}
	}
	server.Close()
	_, err := hook.Execute(t.Context(), order())
	if err == nil || isPermanent(err) || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("nobody answers: %v", err)
	}
}

// cluster is an API server with one deployment's scale.
type cluster struct {
	t        *testing.T
	mu       sync.Mutex
	replicas int
	version  int
	writes   int
	before   func() // runs before a write is looked at
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer token-1" {
		http.Error(w, `{"kind":"Status","status":"Failure","reason":"Unauthorized","code":401}`, http.StatusUnauthorized)
		return
	}
	if r.URL.Path != "/apis/apps/v1/namespaces/shop/deployments/web/scale" {
		http.Error(w, `{"kind":"Status","status":"Failure","reason":"NotFound","code":404}`, 404)
		return
	}
	if r.Method == http.MethodPut && c.before != nil {
		c.before()
		c.before = nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Method == http.MethodPut {
		var scale struct {
			Kind     string
			Metadata struct{ Name, UID, ResourceVersion string }
			Spec     struct{ Replicas int }
		}
		if err := json.NewDecoder(r.Body).Decode(&scale); err != nil || scale.Kind != "Scale" || scale.Metadata.Name != "web" || scale.Metadata.UID != "u-1" {
			c.t.Errorf("written was %+v (%v)", scale, err)
		}
		if scale.Metadata.ResourceVersion != fmt.Sprint(c.version) {
			http.Error(w, `{"kind":"Status","status":"Failure","reason":"Conflict","code":409}`, http.StatusConflict)
			return
		}
		c.replicas, c.version, c.writes = scale.Spec.Replicas, c.version+1, c.writes+1
	}
	spec := ""
	if c.replicas > 0 {
		spec = fmt.Sprintf(`"replicas":%d`, c.replicas)
	}
	fmt.Fprintf(w, `{"kind":"Scale","apiVersion":"autoscaling/v1","metadata":{"name":"web","namespace":"shop","uid":"u-1","resourceVersion":"%d"},"spec":{%s},"status":{"replicas":%d,"selector":"app=web"}}`,
		c.version, spec, c.replicas)
}

// account is the folder that a pod finds, for a server.
func account(t *testing.T, server *httptest.Server) string {
	folder := t.TempDir()
	for name, text := range map[string]string{
		"token": "token-1\n", "namespace": "shop", "ca.crt": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func TestKubernetes(t *testing.T) {
	api := &cluster{t: t, replicas: 0, version: 5}
	server := httptest.NewTLSServer(api)
	defer server.Close()
	k := Kubernetes{Kind: "deployments", Name: "web", Server: server.URL, Account: account(t, server)}
	for range 2 { // the second time there is nothing to do
		if _, err := k.Execute(t.Context(), order()); err != nil {
			t.Fatal(err)
		}
	}
	if api.replicas != 3 || api.writes != 1 {
		t.Errorf("%d replicas after %d writes", api.replicas, api.writes)
	}
	// Another one writes in between: once more, on what is there then.
	api.before = func() { api.mu.Lock(); api.replicas, api.version = 7, 99; api.mu.Unlock() }
	o := order()
	o.Instances = 5
	if _, err := k.Execute(t.Context(), o); err == nil || isPermanent(err) || !strings.Contains(err.Error(), "deployment shop/web") {
		t.Errorf("a conflict: %v", err)
	}
	if _, err := (Retry{Executor: k, Pause: time.Millisecond}).Execute(t.Context(), o); err != nil || api.replicas != 5 {
		t.Errorf("%d replicas, %v", api.replicas, err)
	}
	// Down to none, and a token that is renewed.
	o.Instances = 0
	if _, err := k.Execute(t.Context(), o); err != nil || api.replicas != 0 {
		t.Errorf("%d replicas, %v", api.replicas, err)
	}
	if err := os.WriteFile(filepath.Join(k.Account, "token"), []byte("token-2"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Execute(t.Context(), order()); err == nil || !isPermanent(err) || strings.Contains(err.Error(), "token-2") {
		t.Errorf("a token that is refused: %v", err)
	}
	for want, wrong := range map[string]Kubernetes{
		"workload":                {Kind: "pods", Name: "web"},
		"KUBERNETES_SERVICE_HOST": {Kind: "deployments", Name: "web"},
		"namespace":               {Kind: "deployments", Name: "web", Server: server.URL, Account: t.TempDir()},
	} {
		if _, err := wrong.Execute(t.Context(), order()); err == nil || !isPermanent(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
}
