package probe

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func TestHTTPRequestIsAsSpecified(t *testing.T) {
	onLoopbacks(t, func(t *testing.T, address string) {
		requests := make(chan string, 1)
		to := serveHTTP(t, address, nil, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			requests <- fmt.Sprint(r.Method, " ", r.RequestURI, " ", r.Host, " ", r.UserAgent(), " ", r.Header["Connection"])
		}))
		for spec, want := range map[Spec]string{
			{Kind: HTTP}: "GET / " + to.String() + " sluice [close]",
			{Kind: HTTP, Method: "HEAD", Path: "/a%20b?c=d", Host: "x.test:81"}: "HEAD /a%20b?c=d x.test:81 sluice [close]",
		} {
			succeeds(t, spec, to)
			if got := <-requests; got != want {
				t.Errorf("the server saw %s, want %s", got, want)
			}
		}
	})
}

func TestHTTPStatus(t *testing.T) {
	to := serveHTTP(t, loopbacks[0], nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var status int
		fmt.Sscanf(r.URL.Path, "/%d", &status)
		w.Header().Set("Location", "/500")
		w.WriteHeader(status)
	}))
	for _, c := range []struct {
		status  int
		set     string
		failure string
	}{
		{200, "", ""},
		{204, "", ""},
		{302, "", ""}, // and is not followed to a 500
		{404, "", "status 404 is not within 200-399"},
		{503, "", "status 503 is not within 200-399"},
		{301, "200-299,301", ""},
		{302, "200-299, 301", "status 302 is not within 200-299,301"},
		{503, "503", ""},
		{200, "503", "status 200 is not within 503"},
	} {
		spec := Spec{Kind: HTTP, Path: fmt.Sprintf("/%d", c.status), Status: c.set}
		if c.failure == "" {
			succeeds(t, spec, to)
		} else {
			fails(t, spec, to, c.failure)
		}
	}
}

func TestHTTPBody(t *testing.T) {
	to := serveHTTP(t, loopbacks[0], nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := strings.Repeat("x", bodyLimit-4) + "well"
		if r.URL.Path == "/late" {
			body = "x" + body
		}
		_, _ = io.WriteString(w, body)
	}))
	succeeds(t, Spec{Kind: HTTP, Body: "xwell$"}, to)
	fails(t, Spec{Kind: HTTP, Body: "^well"}, to, `the body does not match "^well"`)
	fails(t, Spec{Kind: HTTP, Path: "/late", Body: "well"}, to, "does not match")
}

func TestHTTPHeaderDecidesUnlessABodyIsWanted(t *testing.T) {
	to := listen(t, loopbacks[0], func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot all of it")
		_, _ = io.Copy(io.Discard, c)
	})
	succeeds(t, Spec{Kind: HTTP}, to)
	timesOut(t, Spec{Kind: HTTP, Body: "all"}, to, "body: no answer")
}

func TestHTTPInterimResponsesDecideNothing(t *testing.T) {
	to := listen(t, loopbacks[0], func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")
		_, _ = io.Copy(io.Discard, c)
	})
	fails(t, Spec{Kind: HTTP, Status: "100-399"}, to, "status 500")
}

func TestHTTPBadResponses(t *testing.T) {
	for response, failure := range map[string]string{
		"":                               "response: connection closed",
		"SSH-2.0-x\r\n":                  "response: malformed HTTP",
		"HTTP/1.1 200 OK\r\nContent-Len": "response: malformed MIME header",
		"HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 100_000): "response: connection closed", // the header is cut off
	} {
		to := listen(t, loopbacks[0], func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, response)
		})
		fails(t, Spec{Kind: HTTP}, to, failure)
	}
}

func TestCertificatesAreVerified(t *testing.T) {
	onLoopbacks(t, func(t *testing.T, address string) {
		ca, certificate := certify(t, "backend.test", "127.0.0.1", "::1")
		other, _ := certify(t, "backend.test")
		to := serveHTTP(t, address, &tls.Config{Certificates: []tls.Certificate{certificate}}, http.HandlerFunc(wellHTTP))
		for _, kind := range []Kind{HTTPS, TLS} {
			succeeds(t, Spec{Kind: kind, CA: ca}, to) // by the target's address
			succeeds(t, Spec{Kind: kind, CA: ca, ServerName: "backend.test"}, to)
			succeeds(t, Spec{Kind: kind, Insecure: true, ServerName: "wrong.test"}, to)
			fails(t, Spec{Kind: kind}, to, "TLS handshake: tls: failed to verify certificate: x509: certificate signed by unknown authority")
			fails(t, Spec{Kind: kind, CA: other}, to, "TLS handshake: tls: failed to verify certificate: x509:")
			fails(t, Spec{Kind: kind, CA: ca, ServerName: "wrong.test"}, to, "not wrong.test")
		}
		succeeds(t, Spec{Kind: HTTPS, CA: ca, Host: "backend.test:8443", Body: "well"}, to)
		succeeds(t, Spec{Kind: HTTPS, CA: ca, Host: "192.0.2.1"}, to) // no name, so the target's address
		fails(t, Spec{Kind: HTTPS, CA: ca, Host: "wrong.test"}, to, "not wrong.test")
	})
}

func TestServerNameIsSentAsSNI(t *testing.T) {
	_, certificate := certify(t, "backend.test")
	names := make(chan string, 1)
	to := serveHTTP(t, loopbacks[0], &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		names <- hello.ServerName
		return &certificate, nil
	}}, http.HandlerFunc(wellHTTP))
	for spec, want := range map[Spec]string{
		{Kind: TLS, Insecure: true}:                                         "",
		{Kind: TLS, Insecure: true, ServerName: "a.test"}:                   "a.test",
		{Kind: HTTPS, Insecure: true, Host: "b.test:1"}:                     "b.test",
		{Kind: HTTPS, Insecure: true, Host: "b.test", ServerName: "a.test"}: "a.test",
	} {
		succeeds(t, spec, to)
		if got := <-names; got != want {
			t.Errorf("%+v sent the name %q, want %q", spec, got, want)
		}
	}
}

func TestPlainServerIsNoTLS(t *testing.T) {
	to := serveHTTP(t, loopbacks[0], nil, http.HandlerFunc(wellHTTP))
	fails(t, Spec{Kind: TLS}, to, "TLS handshake: tls: first record does not look like a TLS handshake")
	_, certificate := certify(t, "backend.test")
	to = serveHTTP(t, loopbacks[0], &tls.Config{Certificates: []tls.Certificate{certificate}}, http.HandlerFunc(wellHTTP))
	fails(t, Spec{Kind: HTTP}, to, "status 400")
}

// A probe must notice that a server takes no new connections any more, whatever the old ones do.
func TestEveryProbeConnectsAnew(t *testing.T) {
	connections := make(chan struct{}, 10)
	to := listen(t, loopbacks[0], func(c net.Conn) {
		connections <- struct{}{}
		for {
			if _, err := c.Read(make([]byte, 4096)); err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	p, err := New(Spec{Kind: HTTP}, netip.AddrPort(to), Dialer{})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := p.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-connections
	}
}
