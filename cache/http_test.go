package cache

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluicelb/sluice/cache/record"
)

// An unchanged value is not sent twice, and a changed one is.
func TestHTTP(t *testing.T) {
	var value atomic.Value
	var sent, unchanged atomic.Int64
	value.Store("one")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.EscapedPath() != "/names/192.0.2.0%2F24" {
			http.NotFound(w, r)
			return
		}
		tag := fmt.Sprintf("%q", value.Load())
		w.Header().Set("ETag", tag)
		w.Header().Set("Cache-Control", "private, max-age=30")
		if r.Header.Get("If-None-Match") == tag {
			unchanged.Add(1)
			w.WriteHeader(http.StatusNotModified)
			return
		}
		sent.Add(1)
		io.WriteString(w, value.Load().(string))
	}))
	defer server.Close()
	decode := func(b []byte) (string, error) { return string(b), nil }
	f := newFixture(t, Options[string]{TTL: time.Hour, Loader: &HTTP[string]{URL: server.URL + "/names/", Decode: decode}})
	const key = "192.0.2.0/24"
	f.expect(key, "one")
	f.advance(30*time.Second - 1)
	f.expect(key, "one")
	if sent.Load() != 1 || unchanged.Load() != 0 {
		t.Fatalf("sent %d times, unchanged %d times", sent.Load(), unchanged.Load())
	}
	for i := range int64(2) {
		f.advance(time.Minute)
		f.expect(key, "one")
		if sent.Load() != 1 || unchanged.Load() != i+1 {
			t.Fatalf("sent %d times, unchanged %d times", sent.Load(), unchanged.Load())
		}
	}
	value.Store("two")
	f.advance(time.Minute)
	f.expect(key, "two")
	f.expectError("192.0.2.1", ErrNotFound)
	server.Close()
	f.advance(time.Minute)
	if r, err := f.Lookup(t.Context(), key); r.Value != "two" || !errors.As(err, new(*StaleError)) {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestHTTPWrong(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/broken":
			w.WriteHeader(http.StatusBadGateway)
		case "/cut":
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "cut")
		case "/large":
			io.WriteString(w, strings.Repeat("x", record.MaxPayload+1))
		case "/nonsense":
			io.WriteString(w, "nonsense")
		}
	}))
	defer server.Close()
	loader := &HTTP[string]{URL: server.URL + "/", Decode: func([]byte) (string, error) { return "", errors.New("not understood") }}
	for _, key := range []string{"broken", "cut", "large", "nonsense"} {
		loaded, err := loader.Load(t.Context(), key, "")
		if err == nil || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), key) || loaded.Value != "" {
			t.Errorf("%s: %v", key, err)
		}
	}
	loader.URL = "::"
	if _, err := loader.Load(t.Context(), "a", ""); err == nil {
		t.Error("a URL that is none was asked")
	}
}

func TestMaxAge(t *testing.T) {
	for control, want := range map[string]time.Duration{
		"": 0, "private": 0, "max-age=60": time.Minute, `public, Max-Age="5"`: 5 * time.Second, "max-age=0": 1, "no-cache, max-age=60": 1,
		"max-age=60, no-store": 1, "max-age=-1": 0, "max-age=99999999999999999999": 0, "s-maxage=60": 0,
	} {
		if got := maxAge(control); got != want {
			t.Errorf("%q: %s, not %s", control, got, want)
		}
	}
}
