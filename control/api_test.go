package control

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/goccy/go-yaml"
)

// document fetches the OpenAPI document, at the same time as others do.
func openAPI(t *testing.T, path string) []byte {
	handler := (&Daemon{version: "1.2.3"}).handler()
	var texts [4][]byte
	var group sync.WaitGroup
	for i := range texts {
		group.Go(func() {
			response := httptest.NewRecorder()
			handler.ServeHTTP(response, httptest.NewRequest(http.MethodGet, path, nil))
			texts[i] = response.Body.Bytes()
		})
	}
	group.Wait()
	for _, text := range texts {
		if len(text) == 0 || string(text) != string(texts[0]) {
			t.Fatalf("%s is not the same for everybody", path)
		}
	}
	return texts[0]
}

// The API describes itself in OpenAPI 3.1, completely: every reference leads somewhere, every call has a
// name of its own, a summary, and problem documents for its errors.
func TestOpenAPIDocument(t *testing.T) {
	text := openAPI(t, "/openapi.json")
	var document struct {
		OpenAPI string
		Info    struct{ Title, Version string }
		Paths   map[string]map[string]struct {
			OperationID string
			Summary     string
			Responses   map[string]struct{ Content map[string]any }
		}
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(document.OpenAPI, "3.1.") || document.Info.Title != "Sluice" || document.Info.Version != "1.2.3" {
		t.Errorf("it is %s of %+v", document.OpenAPI, document.Info)
	}
	references := regexp.MustCompile(`"\$ref":"([^"]*)"`).FindAllStringSubmatch(string(text), -1)
	if len(references) == 0 {
		t.Error("there is no reference")
	}
	for _, reference := range references {
		name, _ := strings.CutPrefix(reference[1], "#/components/schemas/")
		if document.Components.Schemas[name] == nil {
			t.Errorf("%s leads nowhere", reference[1])
		}
	}
	seen := map[string]bool{}
	for path, methods := range document.Paths {
		for method, operation := range methods {
			if operation.OperationID == "" || seen[operation.OperationID] || operation.Summary == "" {
				t.Errorf("%s %s has the name %q and the summary %q", method, path, operation.OperationID, operation.Summary)
			}
			seen[operation.OperationID] = true
			for status, response := range operation.Responses {
				if status >= "4" && response.Content["application/problem+json"] == nil {
					t.Errorf("%s %s answers %s without a problem document", method, path, status)
				}
			}
		}
	}
	var same struct{ Openapi string }
	if err := yaml.Unmarshal(openAPI(t, "/openapi.yaml"), &same); err != nil || same.Openapi != document.OpenAPI {
		t.Errorf("/openapi.yaml is %q, %v", same.Openapi, err)
	}
}

// serveTo serves a handler on a Unix socket and returns a client of it.
func serveTo(t *testing.T, handler http.Handler) *Client {
	config := APIConfig{Socket: filepath.Join(t.TempDir(), "s.sock"), Mode: 0o600}
	listener, err := config.listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- serveHTTP(ctx, listener, handler) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		config.close(listener)
	})
	return NewClient(config.Socket)
}

// Wrong requests are answered with what is wrong and where; nothing gets as far as the store.
func TestRequestErrors(t *testing.T) {
	store, err := OpenStore(filepath.Join(t.TempDir(), "s.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	d := &Daemon{version: "1.2.3", store: store, rules: testRules()}
	client := serveTo(t, d.handler())
	for name, test := range map[string]struct {
		method, path string
		body         any
		want         error
		text         string
	}{
		"unknown field":  {http.MethodPost, "/v1/services", map[string]any{"address": "10.0.0.1", "adress": 1}, ErrInvalid, "adress"},
		"no address":     {http.MethodPost, "/v1/services", map[string]any{"name": "web"}, ErrInvalid, "address"},
		"bad address":    {http.MethodPost, "/v1/services", map[string]any{"address": "10.0.0.256"}, ErrInvalid, "address"},
		"wrong type":     {http.MethodPost, "/v1/services", map[string]any{"address": "10.0.0.1", "port": "eighty"}, ErrInvalid, "port"},
		"port too large": {http.MethodPost, "/v1/services", map[string]any{"address": "10.0.0.1", "port": 65536}, ErrInvalid, "port"},
		"weight": {http.MethodPost, "/v1/apply", map[string]any{"services": []any{map[string]any{
			"address": "10.0.0.1", "backends": []any{map[string]any{"address": "10.1.0.1", "weight": 1200}},
		}}}, ErrInvalid, "services[0].backends[0].weight"},
		"our own rule": {http.MethodPost, "/v1/apply", map[string]any{"services": []any{map[string]any{
			"name": "web", "address": "10.0.0.1", "backends": []any{map[string]any{"address": "2001:db8::1"}},
		}}}, ErrInvalid, `services[0] "web": backends[0]: address: `},
		"no JSON":     {http.MethodPost, "/v1/services", json.RawMessage("[]"), ErrInvalid, "object"},
		"no service":  {http.MethodGet, "/v1/services/10.0.0.1:80%2Ftcp", nil, ErrNotFound, `"10.0.0.1:80/tcp"`},
		"no backend":  {http.MethodDelete, "/v1/services/web/backends/b", nil, ErrNotFound, `"web"`},
		"bad level":   {http.MethodPut, "/v1/log-level", map[string]any{"level": "loud"}, ErrInvalid, "level"},
		"no such URL": {http.MethodGet, "/v2/services", nil, ErrNotFound, "404"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := call[any](t.Context(), client, test.method, test.path, test.body)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("error is %v, want %v with %q", err, test.want, test.text)
			}
		})
	}
	if left := store.Manifest(); len(left.Services) != 0 {
		t.Errorf("the store holds %+v", left)
	}
}
