package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority signs certificates for one test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: dir}
	a.key = a.newKey()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.write(name+".pem", "CERTIFICATE", der)
	return a
}

func (a *authority) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

func (a *authority) write(name, kind string, der []byte) {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(filepath.Join(a.dir, name), text, 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// issue writes NAME.pem and NAME.key, good for 127.0.0.1.
func (a *authority) issue(name string) {
	key := a.newKey()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(name+".pem", "CERTIFICATE", der)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(name+".key", "PRIVATE KEY", raw)
}

// TestMutualTLS: a gate that asks for client certificates answers those that its
// authority has signed, and nobody else.
func TestMutualTLS(t *testing.T) {
	p := newPlace(t)
	ours, theirs := newAuthority(t, p.dir, "ours"), newAuthority(t, p.dir, "theirs")
	ours.issue("gate")
	ours.issue("envoy")
	theirs.issue("stranger")
	file := func(name string) string { return filepath.Join(p.dir, name) }

	p.set("AUTH_EXTAUTHZ_LISTEN", "127.0.0.1:0")
	p.set("AUTH_EXTAUTHZ_TLS_CERT", file("gate.pem"))
	p.set("AUTH_EXTAUTHZ_TLS_KEY", file("gate.key"))
	p.set("AUTH_EXTAUTHZ_TLS_CLIENT_CA", file("ours.pem"))
	s := p.start("serve", "--policy-file", p.write("policy.yaml", drainPolicy))
	addr := s.addr("extauthz")

	base := []string{"check", "--path", "/healthz", "--addr", addr, "--timeout", "5s"}
	for _, c := range []struct {
		what  string
		flags []string
		code  int
		text  string
	}{
		{"a certificate of ours", []string{"--tls-ca", file("ours.pem"), "--tls-cert", file("envoy.pem"), "--tls-key", file("envoy.key")}, 0, "ALLOW"},
		{"none", []string{"--tls-ca", file("ours.pem")}, 3, "does not answer"},
		{"a stranger's", []string{"--tls-ca", file("ours.pem"), "--tls-cert", file("stranger.pem"), "--tls-key", file("stranger.key")}, 3, "does not answer"},
		{"a gate that we do not trust", []string{"--tls-ca", file("theirs.pem"), "--tls-cert", file("envoy.pem"), "--tls-key", file("envoy.key")}, 3, "certificate"},
		{"a gate of another name", []string{"--tls-ca", file("ours.pem"), "--tls-server-name", "other.example", "--tls-cert", file("envoy.pem"), "--tls-key", file("envoy.key")}, 3, "other.example"},
		{"plain text", nil, 3, "does not answer"},
		{"half a pair", []string{"--tls-ca", file("ours.pem"), "--tls-cert", file("envoy.pem")}, 2, "--tls-cert and --tls-key go together"},
		{"no authority", []string{"--tls-cert", file("envoy.pem"), "--tls-key", file("envoy.key")}, 2, "--tls-ca is missing"},
		{"no certificate in the file", []string{"--tls-ca", file("envoy.key")}, 2, "holds no certificate in PEM"},
	} {
		code, stdout, stderr := p.try(append(base, c.flags...)...)
		if code != c.code || !strings.Contains(stdout+stderr, c.text) {
			t.Errorf("%s: exit code %d, want %d with %q\n%s%s", c.what, code, c.code, c.text, stdout, stderr)
		}
	}

	// A unix socket is guarded by its mode, and needs no TLS even where TCP has it.
	p.set("AUTH_EXTAUTHZ_LISTEN", addr)
	if code, _, stderr := p.try("check", "--path", "/healthz"); code != 2 || !strings.Contains(stderr, "--tls-ca is missing") {
		t.Errorf("check without an authority: exit code %d, %s", code, stderr)
	}
	socket := "unix://" + file("authz.sock")
	p.set("AUTH_EXTAUTHZ_LISTEN", "127.0.0.1:0,"+socket)
	p.set("AUTH_METRICS_LISTEN", "127.0.0.1:0")
	second := p.begin("serve", "--policy-file", file("policy.yaml"))
	second.eventually("an answer on the socket", func() bool { code, _, _ := p.try("check", "--path", "/healthz", "--addr", socket); return code == 0 })
	p.set("AUTH_EXTAUTHZ_LISTEN", addr+","+socket)
	if out := p.run("check", "--path", "/healthz"); !strings.Contains(out, "ALLOW") {
		t.Errorf("check prefers the socket: %s", out)
	}
	if out := p.run("envoy", "config", "--fragment"); !strings.Contains(out, file("authz.sock")) {
		t.Errorf("envoy config prefers the socket:\n%s", out)
	}

	// Envoy is told the same: without an authority there would be nothing to verify.
	code, _, stderr := p.try("envoy", "config", "--fragment", "--gate", addr)
	if code != 2 || !strings.Contains(stderr, "--gate-tls-ca is missing") {
		t.Errorf("envoy config: exit code %d, %s", code, stderr)
	}
	if out := p.run("envoy", "config", "--fragment", "--gate", addr, "--gate-tls-ca", "/etc/envoy/ca.pem"); !strings.Contains(out, "/etc/envoy/ca.pem") {
		t.Errorf("envoy config:\n%s", out)
	}
}
