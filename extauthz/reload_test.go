package extauthz

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// TestANewCertificateDropsNoConnection: Envoy's connection goes on with the pair that
// it began with, and new ones get the new pair.
func TestANewCertificateDropsNoConnection(t *testing.T) {
	g := newGate(t, nil)
	ours := newAuthority(g, "ours")
	cert, key := ours.issue(g, "first")
	s := g.serve(ServerConfig{Listen: "127.0.0.1:0", TLS: TLS{CertFile: cert, KeyFile: key, Every: 5 * time.Millisecond}})
	target := s.Addrs()[0].String()
	roots := x509.NewCertPool()
	roots.AddCert(ours.cert)
	handshakes := 0
	conn := dial(t, target, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots,
		VerifyConnection: func(tls.ConnectionState) error { handshakes++; return nil }})))
	check := func() {
		t.Helper()
		if _, err := authv3.NewAuthorizationClient(conn).Check(deadline(t), request{path: "/healthz"}.message()); err != nil {
			t.Fatal(err)
		}
	}
	check()
	secondCert, secondKey := ours.issue(g, "second")
	g.must(os.Rename(secondCert, cert))
	g.must(os.Rename(secondKey, key))
	shown := func() string {
		c, err := tls.Dial("tcp", target, &tls.Config{RootCAs: roots, NextProtos: []string{"h2"}})
		g.must(err)
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	for end := time.Now().Add(20 * time.Second); shown() != "second"; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the new certificate is never shown")
		}
	}
	check()
	if handshakes != 1 {
		t.Errorf("%d handshakes: the connection was dropped", handshakes)
	}
}
