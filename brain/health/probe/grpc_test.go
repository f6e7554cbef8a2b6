package probe

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func TestGRPC(t *testing.T) {
	onLoopbacks(t, func(t *testing.T, address string) {
		to, service := serveGRPC(t, address)
		service.SetServingStatus("a.Good", grpc_health_v1.HealthCheckResponse_SERVING)
		service.SetServingStatus("a.Bad", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
		service.SetServingStatus("a.Odd", grpc_health_v1.HealthCheckResponse_UNKNOWN)
		service.SetServingStatus("a.New", 17)
		succeeds(t, Spec{Kind: GRPC}, to)
		succeeds(t, Spec{Kind: GRPC, Service: "a.Good", Host: "backend.test"}, to)
		fails(t, Spec{Kind: GRPC, Service: "a.Bad"}, to, "the service is NOT_SERVING")
		fails(t, Spec{Kind: GRPC, Service: "a.Odd"}, to, "the service is UNKNOWN")
		fails(t, Spec{Kind: GRPC, Service: "a.New"}, to, "the service's status is 17")
		fails(t, Spec{Kind: GRPC, Service: "absent"}, to, "gRPC status 5: unknown service")
		service.Shutdown()
		fails(t, Spec{Kind: GRPC}, to, "the service is NOT_SERVING")
	})
}

func TestGRPCOverTLS(t *testing.T) {
	onLoopbacks(t, func(t *testing.T, address string) {
		ca, certificate := certify(t, "backend.test")
		config := &tls.Config{Certificates: []tls.Certificate{certificate}}
		to, _ := serveGRPC(t, address, grpc.Creds(credentials.NewTLS(config)))
		succeeds(t, Spec{Kind: GRPC, TLS: true, CA: ca, ServerName: "backend.test"}, to)
		succeeds(t, Spec{Kind: GRPC, TLS: true, CA: ca, Host: "backend.test"}, to)
		succeeds(t, Spec{Kind: GRPC, TLS: true, Insecure: true}, to)
		fails(t, Spec{Kind: GRPC, TLS: true, CA: ca}, to, "TLS handshake: tls: failed to verify certificate")
		fails(t, Spec{Kind: GRPC, TLS: true}, to, "TLS handshake: tls: failed to verify certificate")
	})
}

func TestGRPCServerWithoutHealthService(t *testing.T) {
	listener, err := net.Listen("tcp", loopbacks[0])
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	t.Cleanup(server.Stop)
	go func() { _ = server.Serve(listener) }()
	fails(t, Spec{Kind: GRPC}, addressOf(listener.Addr()), "gRPC status 12: unknown service grpc.health.v1.Health")
}

func TestGRPCServerThatIsNone(t *testing.T) {
	fails(t, Spec{Kind: GRPC}, serveHTTP(t, loopbacks[0], nil, http.HandlerFunc(wellHTTP)), "response: ")
	fails(t, Spec{Kind: GRPC}, listen(t, loopbacks[0], func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)) }), "response: ")
	_, certificate := certify(t, "backend.test")
	config := &tls.Config{Certificates: []tls.Certificate{certificate}}
	to := serveHTTP(t, loopbacks[0], config, http.HandlerFunc(wellHTTP))
	fails(t, Spec{Kind: GRPC, TLS: true, Insecure: true}, to, "HTTP/2: the server does not offer it")
}

// Servers that speak HTTP/2 and something like gRPC.
func TestGRPCBadAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		answer  func(http.ResponseWriter)
		failure string
	}{
		"status":       {func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }, "status 503 is no answer of gRPC"},
		"content type": {func(w http.ResponseWriter) { wellHTTP(w, nil) }, `content type "text/plain; charset=utf-8" is no answer of gRPC`},
		"no status":    {answerFrame(""), "gRPC status : "},
		"message":      {func(w http.ResponseWriter) { answerGRPC(w, "", "7", "no%20way %zz") }, "gRPC status 7: no%20way %zz"},
		"no frame":     {answerFrame("\x00\x00\x00"), "the answer is no HealthCheckResponse"},
		"compressed":   {answerFrame("\x01\x00\x00\x00\x02\x08\x01"), "the answer is no HealthCheckResponse"},
		"short":        {answerFrame("\x00\x00\x00\x00\x03\x08\x01"), "the answer is no HealthCheckResponse"},
		"no tag":       {answerFrame("\x00\x00\x00\x00\x01\xff"), "the answer is no HealthCheckResponse"},
		"no value":     {answerFrame("\x00\x00\x00\x00\x01\x08"), "the answer is no HealthCheckResponse"},
		"empty":        {answerFrame("\x00\x00\x00\x00\x00"), "the service is UNKNOWN"},
	} {
		t.Run(name, func(t *testing.T) {
			server := &http.Server{Protocols: new(http.Protocols)}
			server.Protocols.SetUnencryptedHTTP2(true)
			server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				c.answer(w)
			})
			listener, err := net.Listen("tcp", loopbacks[0])
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { server.Close() })
			go func() { _ = server.Serve(listener) }()
			fails(t, Spec{Kind: GRPC}, addressOf(listener.Addr()), c.failure)
		})
	}
}

// answerFrame answers with status 0, but for "".
func answerFrame(frame string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		if frame == "" {
			answerGRPC(w, "", "", "")
			return
		}
		answerGRPC(w, frame, "0", "")
	}
}

func answerGRPC(w http.ResponseWriter, frame, status, message string) {
	w.Header().Set("Content-Type", "application/grpc+proto")
	w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
	_, _ = io.WriteString(w, frame)
	if status != "" {
		w.Header().Set("Grpc-Status", status)
		w.Header().Set("Grpc-Message", message)
	}
}
