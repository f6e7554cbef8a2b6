package day

import (
	"context"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/sluicelb/sluice/test/stage"
	"github.com/sluicelb/sluice/test/traffic"
)

// ServerCommand is the command of the sluice program that calls RunServer with its arguments.
const ServerCommand = "demo-server"

// RunServer is a backend in the network namespace that it is in, until ctx ends: it boots, then it does so many requests at a time, in the order that they
// come. What costs is a connection's first one, as where clients log on; those that follow are answered at once.
func RunServer(ctx context.Context, name string, boots time.Duration) error {
	if err := stage.Sleep(ctx, boots); err != nil {
		return nil
	}
	listener, err := traffic.Here{}.Listen("tcp", "[::]:"+stage.ServicePort)
	if err != nil {
		return err
	}
	server := http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // a connection that breaks is the client's to notice
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, sessionKey{}, new(session))
		},
		Handler: &worker{traffic.Handler(name), make(chan struct{}, workers)},
	}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// session is what is known of a connection. Its requests come one after the other.
type session struct{ began bool }

type sessionKey struct{}

// worker does what costs before a Handler answers.
type worker struct {
	answer http.Handler
	busy   chan struct{} // as full as requests are done at the time
}

func (w *worker) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	if s := r.Context().Value(sessionKey{}).(*session); !s.began {
		s.began = true
		w.busy <- struct{}{}
		time.Sleep(time.Duration(rand.ExpFloat64() * float64(takes)))
		<-w.busy
	}
	w.answer.ServeHTTP(out, r)
}
