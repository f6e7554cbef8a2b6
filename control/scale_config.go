package control

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/redis/rueidis"
	"google.golang.org/grpc"

	"github.com/sluicelb/sluice/brain/orchestrate/lease"
	"github.com/sluicelb/sluice/brain/scale/executor"
	"github.com/sluicelb/sluice/brain/scale/keda"
)

// ScaleConfig is how the scaling of all services acts.
type ScaleConfig struct {
	Exec       bool             `json:"exec"`        // services may have programs run, with the daemon's rights
	SecretFile string           `json:"secret-file"` // whose content signs webhooks; "" does not
	Kubernetes KubernetesConfig `json:"kubernetes"`
	KEDA       string           `json:"keda"`  // host:port where KEDA is answered (gRPC), "" is nowhere
	Lease      string           `json:"lease"` // URL of a Redis by which the hosts of a fleet decide one at a time; "" is this host alone
	Fleet      string           `json:"fleet"` // name of the lease
}

// KubernetesConfig says where Kubernetes is; in a pod nothing needs to be said.
type KubernetesConfig struct {
	Server  string `json:"server"`  // such as https://10.0.0.1:6443
	Account string `json:"account"` // folder with token, ca.crt and namespace
}

func (c *Config) checkScale() *FieldError {
	s := &c.Scale
	if s.KEDA != "" {
		if _, _, err := net.SplitHostPort(s.KEDA); err != nil {
			return invalid("scale.keda", "%q is no host:port such as 0.0.0.0:9434", s.KEDA)
		}
	}
	if s.Lease != "" {
		if _, err := rueidis.ParseURL(s.Lease); err != nil {
			return invalid("scale.lease", "is no URL such as redis://10.0.0.5:6379/0: %v", withoutPassword(err, s.Lease))
		}
	}
	if !validName(s.Fleet) {
		return invalid("scale.fleet", "%q is no name: lower-case letters, digits, '.' and '-', at most %d", s.Fleet, maxNameLength)
	}
	if s.SecretFile != "" {
		if _, err := s.secret(); err != nil {
			return invalid("scale.secret-file", "%v", err)
		}
	}
	return nil
}

// withoutPassword is an error about a URL, which may hold a password, without it.
func withoutPassword(err error, url string) string {
	return strings.ReplaceAll(err.Error(), url, "...")
}

func (s *ScaleConfig) secret() ([]byte, error) {
	if s.SecretFile == "" {
		return nil, nil
	}
	secret, err := os.ReadFile(s.SecretFile)
	if err == nil && len(strings.TrimSpace(string(secret))) == 0 {
		err = fmt.Errorf("%s is empty", s.SecretFile)
	}
	return []byte(strings.TrimSpace(string(secret))), err
}

// executor returns who carries out the orders for a service.
func (s *ScaleConfig) executor(p Scaling, k *keda.Scaler) (executor.Executor, error) {
	switch p.Executor {
	case executorExec:
		if !s.Exec {
			return nil, errNoScaleExec
		}
		return executor.Retry{Executor: executor.Exec{Command: []string{"/bin/sh", "-c", p.Command}}}, nil
	case executorWebhook:
		secret, err := s.secret()
		if err != nil {
			return nil, fmt.Errorf("scale.secret-file: %w", err)
		}
		return executor.Retry{Executor: executor.Webhook{URL: p.URL, Secret: secret, Client: &http.Client{CheckRedirect: noRedirects}}}, nil
	case executorKubernetes:
		kind, name, _ := strings.Cut(p.Workload, "/")
		return executor.Retry{Executor: executor.Kubernetes{
			Kind: kind, Name: name, Namespace: p.Namespace, Server: s.Kubernetes.Server, Account: s.Kubernetes.Account,
		}}, nil
	case executorKEDA:
		return toKEDA{k}, nil
	}
	return executor.None{}, nil
}

// noRedirects has an order go to nobody but who it was meant for.
func noRedirects(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// toKEDA has KEDA told how many instances there shall be.
type toKEDA struct{ *keda.Scaler }

func (k toKEDA) Execute(_ context.Context, o executor.Order) (executor.Result, error) {
	k.Want(o.Service, o.Instances)
	return executor.Result{}, nil
}

// listenKEDA opens the address that KEDA asks; nil when there is none.
func (s *ScaleConfig) listenKEDA() (net.Listener, error) {
	if s.KEDA == "" {
		return nil, nil
	}
	listener, err := net.Listen("tcp", s.KEDA)
	if err != nil {
		return nil, fmt.Errorf("scale.keda %s: %w", s.KEDA, err)
	}
	return listener, nil
}

// serveKEDA answers KEDA until ctx ends.
func serveKEDA(ctx context.Context, listener net.Listener, k *keda.Scaler) error {
	server := grpc.NewServer()
	k.Register(server)
	stop := context.AfterFunc(ctx, server.Stop) // streams never end by themselves
	defer stop()
	if err := server.Serve(listener); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serving KEDA: %w", err)
	}
	return nil
}

// leaseTTL is how long a fleet waits for the next one to decide when the one that does is gone.
const leaseTTL = 15 * time.Second

// openLease returns the lease by which one daemon at a time decides, and what renews it until ctx ends.
func (d *Daemon) openLease() (lease.Lease, func(context.Context), error) {
	s := d.config.Scale
	if s.Lease == "" {
		local, err := lease.NewLocal(d.store.db)
		return local, func(context.Context) {}, err
	}
	option, err := rueidis.ParseURL(s.Lease)
	if err != nil {
		return nil, nil, fmt.Errorf("scale.lease: %s", withoutPassword(err, s.Lease))
	}
	option.DisableCache = true
	option.Dialer.Timeout, option.ConnWriteTimeout = time.Second, time.Second
	host, err := os.Hostname()
	if err != nil {
		return nil, nil, err
	}
	l := lease.DialRedis(option, s.Fleet, host, leaseTTL, d.log)
	return l, l.Run, nil
}
