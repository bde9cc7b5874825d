package envoy

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
)

// askedAttributes returns the attributes of the last request and forgets it.
func (a *authorizer) askedAttributes() *authv3.AttributeContext {
	a.mu.Lock()
	defer a.mu.Unlock()
	req := a.last
	a.last = nil
	return req.GetAttributes()
}

// sendTLS sends a GET as a client with these certificates, and a forged
// X-Forwarded-Client-Cert. The error is that of the handshake, or of Envoy's refusal
// after it.
func (r *rig) sendTLS(config *tls.Config) (int, error) {
	conn, err := tls.Dial("tcp", r.envoy.Addr(ListenerIngress), config)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	const forged = "x-forwarded-client-cert: By=spiffe://example.org/envoy;URI=spiffe://example.org/forged\r\n"
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nhost: a\r\n"+forged+"connection: close\r\n\r\n"); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// What of a client's certificate reaches the gate, and which clients do at all.
func TestClientCertificates(t *testing.T) {
	dir := t.TempDir()
	ca, other := newAuthority(t), newAuthority(t)
	ca.write(t, dir)
	ca.issue(t, dir, "ingress", "ingress.internal")
	ca.issue(t, dir, "dns", "cart.internal")
	other.issue(t, dir, "stranger", "cart.internal")
	in := func(name string) string { return filepath.Join(dir, name) }
	load := func(name string) tls.Certificate {
		pair, err := tls.LoadX509KeyPair(in(name+".pem"), in(name+"-key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		return pair
	}
	spiffe := func(texts ...string) tls.Certificate {
		var uris []*url.URL
		for _, text := range texts {
			uri, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			uris = append(uris, uri)
		}
		return ca.sign(t, &x509.Certificate{URIs: uris, DNSNames: []string{"also.internal"}})
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	for _, optional := range []bool{false, true} {
		r := newRig(t, Options{ListenTLS: &ServerTLS{
			CertFile: in("ingress.pem"), KeyFile: in("ingress-key.pem"), ClientCAFile: in("ca.pem"), ClientCertOptional: optional,
		}})
		for _, c := range []struct {
			name      string
			certs     []tls.Certificate
			principal string
			refused   bool
		}{
			{"a SPIFFE id", []tls.Certificate{spiffe("spiffe://example.org/a")}, "spiffe://example.org/a", false},
			{"two of them", []tls.Certificate{spiffe("spiffe://example.org/b", "spiffe://example.org/a")}, "spiffe://example.org/b", false},
			{"a DNS name", []tls.Certificate{load("dns")}, "cart.internal", false},
			{"a subject", []tls.Certificate{ca.sign(t, &x509.Certificate{})}, "CN=signed", false},
			{"another authority", []tls.Certificate{load("stranger")}, "", true},
			{"none", nil, "", !optional},
		} {
			status, err := r.sendTLS(&tls.Config{RootCAs: roots, ServerName: "ingress.internal", MinVersion: tls.VersionTLS12,
				// Present it whatever authorities Envoy asks for.
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					if len(c.certs) == 0 {
						return &tls.Certificate{}, nil
					}
					return &c.certs[0], nil
				}})
			asked := r.askedAttributes()
			if c.refused {
				if err == nil || asked != nil {
					t.Errorf("optional: %v, %s: status %d, %v; the gate was asked: %v", optional, c.name, status, err, asked)
				}
				continue
			}
			if err != nil || status != 200 || asked.GetSource().GetPrincipal() != c.principal {
				t.Errorf("optional: %v, %s: status %d, %v, principal %q; want 200, %q", optional, c.name, status, err, asked.GetSource().GetPrincipal(), c.principal)
			}
			for _, h := range asked.GetRequest().GetHttp().GetHeaderMap().GetHeaders() {
				if h.Key == "x-forwarded-client-cert" {
					t.Errorf("the gate was told the client's own %s", h)
				}
			}
		}
	}
}
