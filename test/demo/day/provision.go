package day

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"

	"github.com/sluicelb/sluice/brain/scale/executor"
)

// ProvisionCommand is the command of the sluice program that calls Provision with its argument: the executor's.
const ProvisionCommand = "demo-provision"

// answer is what the demo answers its executor.
type answer struct {
	executor.Result
	Error string `json:"error,omitempty"`
}

// Provision hands the order that it reads to the demo, which listens on a Unix socket, and writes which backends were started.
func Provision(socket string, order io.Reader, result io.Writer) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.Copy(conn, order); err != nil {
		return err
	}
	var a answer
	if err := json.NewDecoder(conn).Decode(&a); err != nil {
		return err
	}
	if a.Error != "" {
		return errors.New(a.Error)
	}
	return json.NewEncoder(result).Encode(a.Result)
}

// listen carries out orders until ctx ends.
func (s *site) listen(ctx context.Context) error {
	listener, err := net.Listen("unix", s.socket())
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.answer(ctx, conn)
		}
	}()
	return nil
}

// answer carries out one order, once however often it is given.
func (s *site) answer(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	var order executor.Order
	if err := json.NewDecoder(conn).Decode(&order); err != nil {
		_ = json.NewEncoder(conn).Encode(answer{Error: err.Error()})
		return
	}
	a, known := s.answers[order.Key]
	if !known {
		var err error
		if a.Result, err = s.provision(ctx, order); err != nil {
			a.Error = err.Error()
		}
		s.answers[order.Key] = a
	}
	_ = json.NewEncoder(conn).Encode(a)
}

// provision starts and ends backends.
func (s *site) provision(ctx context.Context, order executor.Order) (result executor.Result, err error) {
	for _, name := range order.Remove {
		s.mu.Lock()
		process := s.servers[name]
		s.mu.Unlock()
		if process != nil {
			process.Signal(syscall.SIGTERM)
		}
	}
	for range order.Instances - order.Was {
		b, err := s.network.AddBackend()
		if err == nil {
			err = s.serve(ctx, b, boots)
		}
		if err != nil {
			return result, err
		}
		result.Backends = append(result.Backends, executor.Backend{Name: b.Name(), Address: netip.MustParseAddr(b.Address)})
	}
	return result, nil
}
