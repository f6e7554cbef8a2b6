package probe

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckNamesTheField(t *testing.T) {
	for _, c := range []struct {
		spec  Spec
		field string
	}{
		{Spec{Kind: "smtp"}, "kind"},
		{Spec{Path: "/"}, "path"},
		{Spec{Kind: HTTP, Method: "GE T"}, "method"},
		{Spec{Kind: HTTP, Method: "CONNECT"}, "method"},
		{Spec{Kind: HTTP, Path: "healthz"}, "path"},
		{Spec{Kind: HTTP, Path: "http://elsewhere/"}, "path"},
		{Spec{Kind: HTTP, Path: "/a b\r\nX: y"}, "path"},
		{Spec{Kind: HTTP, Host: "a b"}, "host"},
		{Spec{Kind: HTTP, Host: "a/b"}, "host"},
		{Spec{Kind: HTTP, Host: ":80"}, "host"},
		{Spec{Kind: HTTP, Host: "a\r\nX: y"}, "host"},
		{Spec{Kind: HTTP, Status: "2xx"}, "status"},
		{Spec{Kind: HTTP, Status: "299-200"}, "status"},
		{Spec{Kind: HTTP, Status: "200,"}, "status"},
		{Spec{Kind: HTTP, Status: "99"}, "status"},
		{Spec{Kind: HTTP, Status: "1000"}, "status"},
		{Spec{Kind: HTTP, Body: "("}, "body"},
		{Spec{Kind: HTTP, Method: "HEAD", Body: "x"}, "body"},
		{Spec{Kind: HTTP, Insecure: true}, "insecure"},
		{Spec{Kind: HTTPS, TLS: true}, "tls"},
		{Spec{Kind: HTTPS, Insecure: true, CA: "/ca"}, "ca"},
		{Spec{Kind: GRPC, CA: "/ca"}, "ca"},
		{Spec{Kind: GRPC, Insecure: true}, "insecure"},
		{Spec{Kind: GRPC, ServerName: "a"}, "server-name"},
		{Spec{Kind: GRPC, Host: "a b"}, "host"},
		{Spec{Kind: TLS, Host: "a"}, "host"},
		{Spec{Kind: DNS, Query: "a..b"}, "query"},
		{Spec{Kind: DNS, Query: strings.Repeat("a", 64)}, "query"},
		{Spec{Kind: DNS, Query: strings.Repeat("a.", 128)}, "query"},
		{Spec{Kind: DNS, Record: "AXFR"}, "record"},
		{Spec{Kind: DNS, Expect: "["}, "expect"},
		{Spec{Kind: DNS, Send: "x"}, "send"},
		{Spec{Kind: UDP}, "send"},
		{Spec{Kind: UDP, Send: `\q`}, "send"},
		{Spec{Kind: UDP, Send: `x`, Expect: "("}, "expect"},
		{Spec{Kind: ICMP, Expect: "x"}, "expect"},
		{Spec{Service: "x"}, "service"},
		{Spec{Command: "true"}, "command"},
		{Spec{Kind: Exec, Command: " "}, "command"},
		{Spec{Kind: Exec, Command: "a\x00b"}, "command"},
	} {
		var invalid *FieldError
		if err := c.spec.Check(); !errors.As(err, &invalid) || invalid.Field != c.field || !strings.HasPrefix(err.Error(), c.field+": ") {
			t.Errorf("Check of %+v returned %v, want an error of %s", c.spec, err, c.field)
		}
		if _, err := New(c.spec, netip.MustParseAddrPort("127.0.0.1:1"), Dialer{}); !errors.As(err, &invalid) {
			t.Errorf("New with %+v returned %v", c.spec, err)
		}
	}
}

func TestCheckAcceptsWhatCanBeSaid(t *testing.T) {
	for _, spec := range []Spec{
		{}, {Kind: TCP, Send: `QUIT\r\n`, Expect: "^221"}, {Kind: HTTP}, {Kind: ICMP}, {Kind: GRPC}, {Kind: DNS},
		{Kind: HTTPS, Method: "HEAD", Path: "/healthz?full=1", Host: "[2001:db8::1]:8443", Status: "200-299, 301", CA: "/no/such"},
		{Kind: TLS, ServerName: "a.test"}, {Kind: GRPC, TLS: true, Insecure: true, Service: "a.b.C"},
		{Kind: DNS, Query: "www.example.com", Record: "aaaa", Expect: "^2001:"}, {Kind: UDP, Send: `\x00\xff`},
		{Kind: Exec, Command: "true"},
	} {
		if err := spec.Check(); err != nil {
			t.Errorf("Check of %+v returned %v", spec, err)
		}
	}
}

func TestCAFileThatIsNone(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{empty, empty + ".missing"} {
		_, err := New(Spec{Kind: TLS, CA: file}, netip.MustParseAddrPort("127.0.0.1:1"), Dialer{})
		if err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("New returned %v, want an error that names %s", err, file)
		}
	}
}

func TestPayload(t *testing.T) {
	for text, want := range map[string]string{
		`PING\r\n`: "PING\r\n", `\x00\xff\\`: "\x00\xff\\", "grüße": "grüße", `\u00fc`: "ü", `say "hi"`: `say "hi"`, "": "",
	} {
		if got, err := Payload(text); err != nil || string(got) != want {
			t.Errorf("Payload(%q) returned %q and %v, want %q", text, got, err, want)
		}
	}
}
