package control

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"runtime"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/sluicelb/sluice/brain/orchestrate"
)

// maxBody holds a manifest with 65,535 backends several times.
const maxBody = 64 << 20

// answer is a response with a body.
type answer[T any] struct{ Body T }

func reply[T any](value T, err error) (*answer[T], error) {
	if err != nil {
		return nil, statusError(err)
	}
	return &answer[T]{Body: value}, nil
}

// statusError turns an error into the RFC 9457 problem document that a Client turns back.
func statusError(err error) error {
	switch {
	case errors.Is(err, ErrNotFound):
		return huma.Error404NotFound(err.Error())
	case errors.Is(err, ErrConflict):
		return huma.Error409Conflict(err.Error())
	case errors.Is(err, ErrInvalid):
		return huma.Error422UnprocessableEntity(err.Error())
	}
	return huma.Error500InternalServerError(err.Error())
}

// The inputs of calls. huma sets the fields of the struct itself, not of those embedded in it.
type (
	serviceRef struct {
		Service string `path:"service" doc:"Name or address, such as web, 10.0.0.1, 10.0.0.1:80 or 10.0.0.1:80/tcp"`
	}
	backendRef struct {
		Service string `path:"service"`
		Backend string `path:"backend" doc:"Name or address, such as web-1, 10.1.0.1 or 10.1.0.1:8080"`
	}
	serviceChange struct {
		Service string `path:"service"`
		Body    ServicePatch
	}
	backendAddition struct {
		Service string `path:"service"`
		Body    Backend
	}
	backendChange struct {
		Service string `path:"service"`
		Backend string `path:"backend"`
		Body    BackendPatch
	}
)

// handler serves the API. Its OpenAPI 3.1 document is at /openapi.json and /openapi.yaml.
func (d *Daemon) handler() http.Handler {
	mux := http.NewServeMux()
	config := huma.DefaultConfig("Sluice", d.version)
	config.Info.Description = "Services, backends and the state of one Sluice daemon."
	config.OpenAPIPath = ""  // see serveDocument
	config.DocsPath = ""     // the page would load scripts from elsewhere
	config.CreateHooks = nil // no $schema members in answers
	config.SchemasPath = ""  // the document holds them
	config.Components = &huma.Components{Schemas: huma.NewMapRegistry("#/components/schemas/", schemaName)}
	config.Servers = []*huma.Server{{URL: "http://sluice", Description: "the daemon's Unix socket"}}
	api := humago.New(mux, config)
	d.registerServices(api)
	d.registerBackends(api)
	d.registerState(api)
	d.registerTraces(api)
	d.registerEvents(api)
	d.registerHistory(api)
	d.registerForecast(api)
	d.registerPlannedEvents(api)
	d.registerScale(api)
	serveDocument(mux, "/openapi.json", "application/openapi+json", api.OpenAPI().MarshalJSON)
	serveDocument(mux, "/openapi.yaml", "application/openapi+yaml", api.OpenAPI().YAML)
	return mux
}

// schemaName names a type in the document; what plans consist of has names of its own.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.PkgPath() == reflect.TypeFor[orchestrate.Plan]().PkgPath() && (name == "Step" || name == "State") {
		return "Plan" + name
	}
	return name
}

// serveDocument serves a text that is made once, at the first request. (huma's own handlers do that too, but
// not safely for two requests at a time.)
func serveDocument(mux *http.ServeMux, path, contentType string, make func() ([]byte, error)) {
	text := sync.OnceValues(make)
	mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
		document, err := text()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", contentType)
		w.Write(document)
	})
}

// operation describes one call.
func operation(id, method, path, summary string, failures ...int) huma.Operation {
	o := huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Errors: failures, MaxBodyBytes: maxBody}
	return o
}

// creation describes a call that creates something.
func creation(id, path, summary string, failures ...int) huma.Operation {
	o := operation(id, http.MethodPost, path, summary, failures...)
	o.DefaultStatus = http.StatusCreated
	return o
}

const (
	services = "/v1/services"
	service  = services + "/{service}"
	backends = service + "/backends"
	backend  = backends + "/{backend}"
)

func (d *Daemon) registerServices(api huma.API) {
	huma.Register(api, operation("list-services", http.MethodGet, services, "List the services"),
		func(context.Context, *struct{}) (*answer[[]Service], error) {
			return reply(append([]Service{}, d.store.Manifest().Services...), nil)
		})
	huma.Register(api, creation("create-service", services, "Create a service with its backends", 409, 422),
		func(ctx context.Context, in *struct{ Body Service }) (*answer[Service], error) {
			return reply(change(ctx, d, func(m *Manifest) (Service, error) { return d.rules.create(m, in.Body) }))
		})
	huma.Register(api, operation("get-service", http.MethodGet, service, "Get a service", 404),
		func(_ context.Context, in *serviceRef) (*answer[Service], error) {
			m := d.store.Manifest()
			i, err := m.find(in.Service)
			if err != nil {
				return nil, statusError(err)
			}
			return reply(m.Services[i], nil)
		})
	huma.Register(api, operation("update-service", http.MethodPatch, service, "Change a service", 404, 409, 422),
		func(ctx context.Context, in *serviceChange) (*answer[Service], error) {
			return reply(change(ctx, d, func(m *Manifest) (Service, error) { return d.rules.update(m, in.Service, in.Body) }))
		})
	huma.Register(api, operation("remove-service", http.MethodDelete, service, "Remove a service and its backends", 404),
		func(ctx context.Context, in *serviceRef) (*struct{}, error) {
			return nil, remove(ctx, d, func(m *Manifest) error { return d.rules.remove(m, in.Service) })
		})
	huma.Register(api, operation("apply", http.MethodPost, "/v1/apply", "Make services what is listed, all or nothing", 409, 422),
		func(ctx context.Context, in *struct{ Body ApplyRequest }) (*answer[ApplyResult], error) {
			return reply(d.apply(ctx, in.Body))
		})
}

func (d *Daemon) registerBackends(api huma.API) {
	huma.Register(api, creation("add-backend", backends, "Add a backend to a service", 404, 409, 422),
		func(ctx context.Context, in *backendAddition) (*answer[Backend], error) {
			return reply(change(ctx, d, func(m *Manifest) (Backend, error) { return d.rules.addBackend(m, in.Service, in.Body) }))
		})
	huma.Register(api, operation("update-backend", http.MethodPatch, backend, "Change a backend", 404, 409, 422),
		func(ctx context.Context, in *backendChange) (*answer[Backend], error) {
			return reply(change(ctx, d, func(m *Manifest) (Backend, error) {
				return d.rules.updateBackend(m, in.Service, in.Backend, in.Body)
			}))
		})
	huma.Register(api, operation("live-flows", http.MethodGet, backend+"/flows", "Count the flows that a draining backend still serves", 404, 409, 422),
		func(_ context.Context, in *flowsRequest) (*answer[LiveFlows], error) { return reply(d.liveFlows(*in)) })
	huma.Register(api, operation("remove-backend", http.MethodDelete, backend, "Remove a backend", 404),
		func(ctx context.Context, in *backendRef) (*struct{}, error) {
			return nil, remove(ctx, d, func(m *Manifest) error { return d.rules.removeBackend(m, in.Service, in.Backend) })
		})
}

func (d *Daemon) registerState(api huma.API) {
	huma.Register(api, operation("status", http.MethodGet, "/v1/status", "What the daemon does now"),
		func(context.Context, *struct{}) (*answer[Status], error) { return reply(d.status(), nil) })
	huma.Register(api, operation("version", http.MethodGet, "/v1/version", "Which program answers"),
		func(context.Context, *struct{}) (*answer[VersionInfo], error) {
			return reply(NewVersionInfo(d.version), nil)
		})
	huma.Register(api, operation("get-log-level", http.MethodGet, "/v1/log-level", "Get the log level"),
		func(context.Context, *struct{}) (*answer[logLevel], error) { return reply(d.logLevel(), nil) })
	huma.Register(api, operation("set-log-level", http.MethodPut, "/v1/log-level", "Set the log level until the daemon ends", 422),
		func(_ context.Context, in *struct{ Body logLevel }) (*answer[logLevel], error) {
			var level Level
			if err := level.UnmarshalText([]byte(in.Body.Level)); err != nil {
				return nil, huma.Error422UnprocessableEntity(err.Error())
			}
			d.level.Set(level.slog())
			return reply(d.logLevel(), nil)
		})
}

func (d *Daemon) registerTraces(api huma.API) {
	huma.Register(api, operation("trace", http.MethodPost, "/v1/trace", "Say what would become of packets, without sending them", 422),
		func(_ context.Context, in *struct{ Body TraceRequest }) (*answer[[]TracedPacket], error) {
			return reply(d.trace(in.Body))
		})
	huma.Register(api, operation("explain", http.MethodPost, "/v1/explain", "Say where a client's packet goes, and why", 404, 422),
		func(_ context.Context, in *struct{ Body ExplainRequest }) (*answer[Explanation], error) {
			return reply(d.explain(in.Body))
		})
	huma.Register(api, operation("capture", http.MethodGet, "/v1/capture", "Show packets as they come and leave, as JSON objects one after the other", 404, 409, 422), d.capture)
}

func (d *Daemon) logLevel() logLevel {
	text, _ := Level(d.level.Level()).MarshalText()
	return logLevel{Level: string(text)}
}

// NewVersionInfo describes this program.
func NewVersionInfo(version string) VersionInfo {
	return VersionInfo{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
}

// change makes one change of the desired state, and waits until the kernel follows it.
func change[T any](ctx context.Context, d *Daemon, edit func(*Manifest) (T, error)) (T, error) {
	var result T
	err := d.store.Update(func(m *Manifest) (err error) {
		result, err = edit(m)
		return err
	}, d.reconciler.want)
	if err == nil {
		d.reconciler.settled(ctx)
	}
	return result, err
}

func remove(ctx context.Context, d *Daemon, edit func(*Manifest) error) error {
	_, err := change(ctx, d, func(m *Manifest) (struct{}, error) { return struct{}{}, edit(m) })
	if err != nil {
		return statusError(err)
	}
	return nil
}

// errDryRun ends an update that is not meant.
var errDryRun = errors.New("dry run")

func (d *Daemon) apply(ctx context.Context, request ApplyRequest) (ApplyResult, error) {
	var result ApplyResult
	_, err := change(ctx, d, func(m *Manifest) (struct{}, error) {
		var err error
		result, err = d.rules.apply(m, request)
		if err == nil && request.DryRun {
			err = errDryRun
		}
		return struct{}{}, err
	})
	if errors.Is(err, errDryRun) {
		err = nil
	}
	return result, err
}
