package control

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicelb/sluice/brain/health"
)

// selfSigned returns a certificate in PEM.
func selfSigned(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// A backend that cannot be watched is up, it is told which and why, and it is tried again.
func TestUnwatchedIsTriedAgain(t *testing.T) {
	authorities := filepath.Join(t.TempDir(), "ca.pem")
	m := apply(t, testRules(), Manifest{}, parse(t, `{services: [{name: web, address: "192.0.2.1:443", probe: {type: tls, interval: 1h, ca: `+authorities+`}, backends: [{address: 198.51.100.1}]}]}`), false)
	synctest.Test(t, func(t *testing.T) {
		r := newReconciler(&recorder{}, DefaultConfig(), slog.New(slog.DiscardHandler), health.Options[target]{})
		defer r.monitor.Close()
		r.want(m)
		problems := r.problems()
		if len(problems) != 1 || !strings.Contains(problems[0], "198.51.100.1:443 of 192.0.2.1:443/tcp: ") || !strings.Contains(problems[0], authorities) {
			t.Errorf("the problems are %q", problems)
		}
		s := &m.Services[0]
		r.judge(s, time.Now())
		if e := r.evaluate(s); e.service.Backends[0].Weight == 0 {
			t.Errorf("it is %+v", e.backends[0])
		}
		if err := os.WriteFile(authorities, selfSigned(t), 0o600); err != nil {
			t.Fatal(err)
		}
		r.spend()
		if problems := r.problems(); len(problems) != 0 {
			t.Errorf("with the file the problems are %q", problems)
		}
	})
}
