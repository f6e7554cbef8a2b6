package probe

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// servers are one of each kind, which are well.
type servers struct {
	ca                                                string // file with what signed the certificate
	tcp, http, https, dns, udp, grpc, grpcTLS, silent netip.AddrPort
}

func newServers(t *testing.T) *servers {
	ca, certificate := certify(t, "backend.test")
	config := &tls.Config{Certificates: []tls.Certificate{certificate}}
	silent, err := net.Listen("tcp", loopbacks[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	s := &servers{
		ca:     ca,
		tcp:    listen(t, loopbacks[0], greet),
		http:   serveHTTP(t, loopbacks[0], nil, http.HandlerFunc(wellHTTP)),
		https:  serveHTTP(t, loopbacks[0], config, http.HandlerFunc(wellHTTP)),
		dns:    listenPacket(t, loopbacks[0], answerDNS),
		udp:    listenPacket(t, loopbacks[0], func(datagram []byte) []byte { return append([]byte("echo "), datagram...) }),
		silent: addressOf(silent.Addr()),
	}
	s.grpc, _ = serveGRPC(t, loopbacks[0])
	s.grpcTLS, _ = serveGRPC(t, loopbacks[0], grpc.Creds(credentials.NewTLS(config)))
	return s
}

// address returns the server for a probe.
func (s *servers) address(spec Spec) netip.AddrPort {
	if spec.TLS {
		return s.grpcTLS
	}
	return map[Kind]netip.AddrPort{
		"": s.tcp, HTTP: s.http, HTTPS: s.https, TLS: s.https, DNS: s.dns, UDP: s.udp, ICMP: s.tcp, GRPC: s.grpc, Exec: s.tcp,
	}[spec.Kind]
}

// greet is a server like those of SMTP: it speaks first, and in two pieces.
func greet(c net.Conn) {
	_, _ = io.WriteString(c, "22")
	_, _ = io.WriteString(c, "0 ready\r\n")
	_, _ = io.Copy(io.Discard, c)
}

func wellHTTP(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "all is well\n") }

func serveHTTP(t *testing.T, address string, config *tls.Config, handler http.Handler) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	to := addressOf(listener.Addr())
	if config != nil {
		listener = tls.NewListener(listener, config)
	}
	server := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return to
}

func serveGRPC(t *testing.T, address string, options ...grpc.ServerOption) (netip.AddrPort, *health.Server) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server, service := grpc.NewServer(options...), health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, service)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	return addressOf(listener.Addr()), service
}

// certify makes an authority, and a certificate of it for names and addresses.
func certify(t *testing.T, names ...string) (ca string, certificate tls.Certificate) {
	t.Helper()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "backend"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			server.IPAddresses = append(server.IPAddresses, ip)
		} else {
			server.DNSNames = append(server.DNSNames, name)
		}
	}
	authorityKey, serverKey := newKey(t), newKey(t)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sign(t, authority, authority, authorityKey, authorityKey)})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return ca, tls.Certificate{Certificate: [][]byte{sign(t, server, authority, serverKey, authorityKey)}, PrivateKey: serverKey}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, certificate, authority *x509.Certificate, key, authorityKey *ecdsa.PrivateKey) []byte {
	t.Helper()
	signed, err := x509.CreateCertificate(rand.Reader, certificate, authority, &key.PublicKey, authorityKey)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}
