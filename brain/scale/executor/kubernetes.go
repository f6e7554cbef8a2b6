package executor

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// Kubernetes sets the replicas of a workload by its scale subresource (autoscaling/v1, Scale).
type Kubernetes struct {
	// Kind is "deployments", "statefulsets" or "replicasets", of the API group apps/v1.
	Kind, Name string
	Namespace  string       // "" is that of the service account
	Server     string       // address of the API, such as https://10.0.0.1:6443; "" is what pods are told
	Account    string       // folder of token, ca.crt and namespace; "" is where pods have it
	Client     *http.Client // nil trusts the account's ca.crt
}

// serviceAccount is where pods find theirs (Kubernetes' documentation, "Accessing the Kubernetes API from a Pod").
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// kinds are the workloads that have a scale.
var kinds = map[string]bool{"deployments": true, "statefulsets": true, "replicasets": true}

// Execute has the workload have as many replicas as the order says; when it has, nothing is written. Of two who write at the same time one
// is told of the conflict, which is no permanent error.
func (k Kubernetes) Execute(ctx context.Context, o Order) (Result, error) {
	k, err := k.complete()
	if err != nil {
		return Result{}, Permanent(err)
	}
	what := fmt.Sprintf("the scale of %s %s/%s", strings.TrimSuffix(k.Kind, "s"), k.Namespace, k.Name)
	path := "/apis/apps/v1/namespaces/" + url.PathEscape(k.Namespace) + "/" + k.Kind + "/" + url.PathEscape(k.Name) + "/scale"
	// What is not known of the object goes back as it came.
	var scale map[string]any
	if err := k.call(ctx, http.MethodGet, path, nil, &scale); err != nil {
		return Result{}, fmt.Errorf("reading %s: %w", what, err)
	}
	spec, ok := scale["spec"].(map[string]any)
	if scale["kind"] != "Scale" || !ok && scale["spec"] != nil {
		return Result{}, Permanent(fmt.Errorf("reading %s: the answer is no Scale", what))
	}
	if spec == nil { // zero replicas may be left out
		spec = map[string]any{}
	}
	if replicas, _ := spec["replicas"].(float64); int(replicas) == o.Instances {
		return Result{}, nil
	}
	spec["replicas"] = o.Instances
	scale["spec"] = spec
	if err := k.call(ctx, http.MethodPut, path, scale, &scale); err != nil {
		return Result{}, fmt.Errorf("writing %s: %w", what, err)
	}
	return Result{}, nil
}

// complete fills in what a pod is told.
func (k Kubernetes) complete() (Kubernetes, error) {
	if !kinds[k.Kind] || k.Name == "" {
		return k, fmt.Errorf("%q %q is no workload that can be scaled: give one of deployments, statefulsets, replicasets, and its name", k.Kind, k.Name)
	}
	if k.Account == "" {
		k.Account = serviceAccount
	}
	if k.Server == "" {
		host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
		if host == "" || port == "" {
			return k, errors.New("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: run in a pod, or give the server's address")
		}
		k.Server = "https://" + net.JoinHostPort(host, port)
	}
	if k.Namespace == "" {
		name, err := os.ReadFile(filepath.Join(k.Account, "namespace"))
		if err != nil {
			return k, fmt.Errorf("which namespace? %w", err)
		}
		k.Namespace = strings.TrimSpace(string(name))
	}
	if k.Client == nil {
		authority, err := os.ReadFile(filepath.Join(k.Account, "ca.crt"))
		if err != nil {
			return k, fmt.Errorf("whom to trust? %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(authority) {
			return k, fmt.Errorf("%s has no certificate", filepath.Join(k.Account, "ca.crt"))
		}
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
		transport.DisableKeepAlives = true // the next order is minutes away
		k.Client = &http.Client{Transport: transport}
	}
	return k, nil
}

// call makes a request with the account's token, which is read each time since it is renewed.
func (k Kubernetes) call(ctx context.Context, method, path string, body, result any) error {
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return Permanent(err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(k.Server, "/")+path, bytes.NewReader(content))
	if err != nil {
		return Permanent(withoutURL(err))
	}
	token, err := os.ReadFile(filepath.Join(k.Account, "token"))
	if err != nil {
		return fmt.Errorf("the service account's token: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	output, err := answer(k.Client, request)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(output.data, result); err != nil {
		return fmt.Errorf("the answer is no JSON: %w", err)
	}
	return nil
}
