// Package control is the daemon: it keeps the desired state, serves the API through which people change it,
// and has the dataplane follow it and the health of the backends.
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluicelb/sluice/brain/forecast"
	"github.com/sluicelb/sluice/brain/forecast/live"
	"github.com/sluicelb/sluice/brain/health"
	"github.com/sluicelb/sluice/brain/history"
	"github.com/sluicelb/sluice/dataplane"
)

// Daemon is one running daemon.
type Daemon struct {
	config     Config
	version    string
	started    time.Time
	log        *slog.Logger
	level      *slog.LevelVar
	rules      rules
	store      *Store
	dataplane  *dataplane.Dataplane
	reconciler *reconciler
	history    *history.History
	forecasts  *live.Forecasts
	scaler     *scaler
	clock      clock
	calendar   forecast.Calendar // its days
	sampler    *sampler
}

// Options are what is not configured.
type Options struct {
	Version string
	Minute  time.Duration // of the history; 0 is a minute, and everything else for tests

	Calendar Calendar
}

// Run is the daemon. It returns nil after ctx has ended, and leaves the kernel forwarding as it was then.
func Run(ctx context.Context, config Config, o Options) error {
	d := &Daemon{config: config, version: o.Version, started: time.Now(), level: new(slog.LevelVar), clock: newClock(o.Calendar)}
	d.level.Set(config.Log.Level.slog())
	d.log = config.Log.logger(d.level)
	d.rules = rules{defaults: config.Defaults, limits: config.Limits, exec: config.Probes.Exec, scaleBy: config.Scale.Exec}

	var err error
	// Before the socket, and given back after it: a daemon that ends must not remove its successor's.
	if d.store, err = OpenStore(config.Store); err != nil {
		return err
	}
	defer d.store.Close()
	if d.history, err = history.Open(d.store.db, history.Options{Step: o.Minute, Logger: d.log}); err != nil {
		return err
	}
	listener, err := config.API.listen()
	if err != nil {
		return err
	}
	defer config.API.close(listener)
	metrics, err := config.Metrics.listen()
	if err != nil {
		return err
	}
	if metrics != nil {
		defer metrics.Close()
	}
	if err := d.openDataplane(); err != nil {
		return err
	}
	defer d.dataplane.Close()
	d.reconciler = newReconciler(d.dataplane, config, d.log, health.Options[target]{})
	d.reconciler.want(d.store.Manifest())
	if err := d.openForecasts(); err != nil {
		return err
	}
	lease, renew, err := d.openLease()
	if err != nil {
		return err
	}
	if d.scaler, err = d.newScaler(lease); err != nil {
		return err
	}
	keda, err := config.Scale.listenKEDA()
	if err != nil {
		return err
	}
	d.sampler = d.newSampler()
	return d.serve(ctx, listeners{listener, metrics, keda}, renew)
}

// openDataplane opens the dataplane and attaches it to the interfaces. Those that are attached and not
// configured any more are let go.
func (d *Daemon) openDataplane() error {
	for _, name := range d.config.Interfaces {
		if _, err := net.InterfaceByName(name); err != nil {
			return fmt.Errorf("interfaces: %s: %w (`ip link` lists the ones there are)", name, err)
		}
	}
	dp, err := dataplane.Open(dataplane.Options{
		PinPath:   d.config.PinPath,
		Limits:    d.config.Limits,
		NATPorts:  d.config.NAT.Ports,
		HashSeed:  d.config.HashSeed,
		Share:     d.config.XDPShare,
		Priority:  d.config.XDPPriority,
		ProbePath: d.config.ProbePath,
		Logger:    d.log,
	})
	if err != nil {
		return err
	}
	d.dataplane = dp
	if err := d.attachAll(); err != nil {
		return errors.Join(err, dp.Close())
	}
	return nil
}

// attachAll attaches to every configured interface, or to none that it was not attached to before.
func (d *Daemon) attachAll() error {
	before := d.dataplane.Interfaces()
	named := func(name string) func(dataplane.Interface) bool {
		return func(i dataplane.Interface) bool { return i.Name == name }
	}
	for n, name := range d.config.Interfaces {
		err := d.attach(name)
		if err == nil {
			continue
		}
		for _, done := range d.config.Interfaces[:n] {
			if !slices.ContainsFunc(before, named(done)) {
				err = errors.Join(err, d.dataplane.Detach(done))
			}
		}
		return err
	}
	for _, i := range before {
		if !slices.Contains(d.config.Interfaces, i.Name) {
			if err := d.dataplane.Detach(i.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Daemon) attach(name string) error {
	i, err := d.dataplane.Attach(name, d.config.XDPMode)
	if err == nil {
		d.log.Info("attached", "interface", name, "mode", i.Mode, "reason", i.Reason)
	}
	return err
}

// listeners are where the daemon answers; all but the first may be nil.
type listeners struct{ api, metrics, keda net.Listener }

// serve does everything at once until ctx ends or one part fails.
func (d *Daemon) serve(ctx context.Context, on listeners, renew func(context.Context)) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { d.reconciler.run(ctx); return nil })
	group.Go(func() error { d.sampler.run(ctx); return nil })
	group.Go(func() error { d.forecasts.Run(ctx); return nil })
	group.Go(func() error { return d.dataplane.Signals(ctx, d.signal) })
	group.Go(func() error { d.keepAttached(ctx); return nil })
	group.Go(func() error { renew(ctx); return nil })
	group.Go(func() error { d.scaler.run(ctx); return nil })
	group.Go(func() error { d.scaler.learn(ctx); return nil })
	group.Go(func() error { return serveHTTP(ctx, on.api, d.handler()) })
	if on.metrics != nil {
		group.Go(func() error { return serveHTTP(ctx, on.metrics, d.metricsHandler()) })
	}
	if on.keda != nil {
		group.Go(func() error { return serveKEDA(ctx, on.keda, d.scaler.keda) })
	}
	if d.reconciler.settled(ctx); ctx.Err() == nil {
		d.log.Info("ready", "version", d.version, "socket", d.config.API.Socket, "services", len(d.store.Manifest().Services))
		if err := notifyReady(); err != nil {
			d.log.Warn("cannot tell the service manager that the daemon is ready", "error", err)
		}
	}
	err := group.Wait()
	d.log.Info("stopped; packets keep flowing as they did (`sluice unload` ends that)")
	return err
}

// signal takes what the kernel saw of a connection.
func (d *Daemon) signal(s dataplane.Signal) {
	d.reconciler.passive(s)
	d.sampler.signal(s)
}

// drainTime is how long calls may take to end when the daemon stops.
const drainTime = 2 * time.Second

func serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		ending, cancel := context.WithTimeout(context.Background(), drainTime)
		defer cancel()
		if server.Shutdown(ending) != nil {
			server.Close()
		}
	})
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-ended // Serve returns before the calls that are under way
	return nil
}

// reattachInterval is how often interfaces that lost the program are looked for.
const reattachInterval = time.Second

// keepAttached attaches again to interfaces that were removed and made anew, and where another tool took the
// balancer off.
func (d *Daemon) keepAttached(ctx context.Context) {
	failures := make(map[string]string)
	ticker := time.NewTicker(reattachInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		attached := make(map[string]dataplane.Interface)
		for _, i := range d.dataplane.Interfaces() {
			attached[i.Name] = i
		}
		for _, name := range d.config.Interfaces {
			now, err := net.InterfaceByName(name)
			if err != nil || now.Index == attached[name].Index {
				continue
			}
			err = d.attach(name)
			switch {
			case err == nil:
				d.log.Warn("attached again", "interface", name, "reason", attached[name].Reason)
				delete(failures, name)
			case failures[name] != err.Error():
				d.log.Error("cannot attach again; trying every second", "interface", name, "reason", attached[name].Reason, "error", err)
				failures[name] = err.Error()
			}
		}
	}
}

// notifyReady tells systemd that the daemon serves (sd_notify(3)), when that is what started it.
func notifyReady() error {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	conn, err := net.Dial("unixgram", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte("READY=1"))
	return err
}

func (l Level) slog() slog.Level { return slog.Level(l) }

// logger logs to standard error.
func (c LogConfig) logger(level *slog.LevelVar) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options))
}
