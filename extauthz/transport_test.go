package extauthz

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// authority signs certificates for a test.
type authority struct {
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string
}

func newAuthority(g *gate, name string) *authority {
	g.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	g.must(err)
	a := &authority{dir: g.TempDir(), key: key}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	g.must(err)
	a.cert, err = x509.ParseCertificate(der)
	g.must(err)
	a.file = a.write(g, name+".pem", "CERTIFICATE", der)
	return a
}

func (a *authority) write(g *gate, name, kind string, der []byte) string {
	g.Helper()
	path := filepath.Join(a.dir, name)
	g.must(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}

func (a *authority) issue(g *gate, name string) (cert, key string) {
	g.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	g.must(err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}, a.cert, &private.PublicKey, a.key)
	g.must(err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	g.must(err)
	return a.write(g, name+".pem", "CERTIFICATE", der), a.write(g, name+".key", "PRIVATE KEY", pkcs8)
}

func TestTLSAndMutualTLS(t *testing.T) {
	g := newGate(t, nil)
	ours, theirs := newAuthority(g, "ours"), newAuthority(g, "theirs")
	cert, key := ours.issue(g, "gate")
	socket := filepath.Join(t.TempDir(), "gate.sock")
	s := g.serve(ServerConfig{Listen: "127.0.0.1:0,unix://" + socket, TLS: TLS{CertFile: cert, KeyFile: key, ClientCAFile: ours.file}})
	target := s.Addrs()[0].String()
	roots := x509.NewCertPool()
	roots.AddCert(ours.cert)
	ask := func(cfg *tls.Config) error {
		cfg.RootCAs = roots
		conn := dial(t, target, grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
		_, err := authv3.NewAuthorizationClient(conn).Check(deadline(t), request{path: "/healthz"}.message())
		return err
	}
	client := func(a *authority) []tls.Certificate {
		pair, err := tls.LoadX509KeyPair(a.issue(g, "envoy"))
		g.must(err)
		return []tls.Certificate{pair}
	}
	if err := ask(&tls.Config{Certificates: client(ours)}); err != nil {
		t.Errorf("a client of ours: %v", err)
	}
	if err := ask(&tls.Config{}); err == nil {
		t.Error("a client without a certificate was served")
	}
	if err := ask(&tls.Config{Certificates: client(theirs)}); err == nil {
		t.Error("a client of another authority was served")
	}
	if err := ask(&tls.Config{Certificates: client(ours), MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.1 was served")
	}
	plain := dial(t, target)
	if _, err := authv3.NewAuthorizationClient(plain).Check(deadline(t), request{path: "/healthz"}.message()); err == nil {
		t.Error("plain text was served beside TLS")
	}
	// The unix socket is guarded by its mode.
	if got := g.checkOver(dial(t, "unix://"+socket), request{path: "/healthz"}); got != "ok" {
		t.Error(got)
	}
}
