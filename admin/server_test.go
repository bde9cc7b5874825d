package admin_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"portcullis/admin"
	"portcullis/internal/sealing"
)

// certificate writes a self-signed certificate for 127.0.0.1 and its key.
func certificate(t *testing.T) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "admin"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	cert, key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
	roots = x509.NewCertPool()
	parsed, err := x509.ParseCertificate(der)
	must(t, err)
	roots.AddCert(parsed)
	return cert, key, roots
}

// run serves cfg until the test ends or stop is called; stopped yields Run's
// error.
func run(t *testing.T, cfg admin.ServerConfig) (addr string, stop context.CancelFunc, stopped <-chan error) {
	t.Helper()
	cfg.Addr, cfg.Logger = "127.0.0.1:0", slog.New(slog.DiscardHandler)
	s, err := admin.NewServer(cfg)
	must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(stop)
	return s.Addr().String(), stop, ended
}

func TestTLS(t *testing.T) {
	h := newHouse(t, options{})
	cert, key, roots := certificate(t)
	addr, stop, stopped := run(t, admin.ServerConfig{Handler: h.api.Handler(), TLSCert: cert, TLSKey: key})

	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
	for _, target := range []string{"/ping", "/api/roles", "/none"} {
		response, err := client.Get("https://" + addr + target)
		must(t, err)
		response.Body.Close()
		if got := response.Header.Get("Strict-Transport-Security"); got != "max-age=31536000; includeSubDomains" {
			t.Errorf("%s: Strict-Transport-Security: %q", target, got)
		}
		if got := response.Header.Get("X-Frame-Options"); got != "DENY" {
			t.Errorf("%s: X-Frame-Options: %q", target, got)
		}
	}
	client.CloseIdleConnections()

	for version, served := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots, MinVersion: version, MaxVersion: version})
		if err == nil {
			conn.Close()
		}
		if (err == nil) != served {
			t.Errorf("%s: %v, want it served: %t", tls.VersionName(version), err, served)
		}
	}
	stop()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestShutdownLetsRequestsFinish(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	addr, stop, stopped := run(t, admin.ServerConfig{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-leave
		io.WriteString(w, "finished")
	})})
	answered := make(chan string, 1)
	go func() {
		response, err := http.Get("http://" + addr)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		answered <- string(body)
	}()
	<-entered
	stop()
	eventually(t, "no more connections are taken", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	select {
	case err := <-stopped:
		t.Fatalf("Run returned %v with a request in flight", err)
	default:
	}
	close(leave)
	if got := <-answered; got != "finished" {
		t.Errorf("the request in flight got %q", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestShutdownEndsWithTheGrace(t *testing.T) {
	entered := make(chan struct{})
	addr, stop, stopped := run(t, admin.ServerConfig{Grace: 100 * time.Millisecond, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	})})
	go http.Get("http://" + addr)
	<-entered
	stop()
	select {
	case err := <-stopped:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Run waits for a request that does not end")
	}
}

// A caller that sends its headers a byte at a time does not hold a connection.
func TestSlowHeadersAreCutOff(t *testing.T) {
	h := newHouse(t, options{})
	conn, err := net.Dial("tcp", h.addr)
	must(t, err)
	defer conn.Close()
	began := time.Now()
	go func() {
		for _, b := range []byte("GET /ping HTTP/1.1\r\nHost: a\r\nX-Slow: " + strings.Repeat("a", 1000)) {
			if _, err := conn.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	must(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
	io.Copy(io.Discard, conn)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the connection was held for %s", took)
	}
}

func TestAWrongServerConfigStopsTheStart(t *testing.T) {
	cert, key, _ := certificate(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	good := admin.ServerConfig{Handler: http.NotFoundHandler(), Logger: slog.New(slog.DiscardHandler), Addr: "127.0.0.1:0"}
	for named, change := range map[string]func(*admin.ServerConfig){
		"Handler":                 func(c *admin.ServerConfig) { c.Handler = nil },
		"Logger":                  func(c *admin.ServerConfig) { c.Logger = nil },
		"TLSCert":                 func(c *admin.ServerConfig) { c.TLSKey = key },
		"TLSKey":                  func(c *admin.ServerConfig) { c.TLSCert = cert },
		"/none/cert.pem":          func(c *admin.ServerConfig) { c.TLSCert, c.TLSKey = "/none/cert.pem", key },
		key:                       func(c *admin.ServerConfig) { c.TLSCert, c.TLSKey = key, cert },
		taken.Addr().String():     func(c *admin.ServerConfig) { c.Addr = taken.Addr().String() },
		"Grace":                   func(c *admin.ServerConfig) { c.Grace = -1 },
		"no-such-host.invalid:80": func(c *admin.ServerConfig) { c.Addr = "no-such-host.invalid:80" },
	} {
		cfg := good
		change(&cfg)
		if _, err := admin.NewServer(cfg); err == nil || !strings.Contains(err.Error(), named) {
			t.Errorf("error %v, want one that names %s", err, named)
		}
	}
}

func TestAWrongConfigStopsTheStart(t *testing.T) {
	h := newHouse(t, options{})
	good := admin.Config{Store: h.store, Cache: h.cache, Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
		SealReply: sealing.SealReply, OpenReply: sealing.OpenReply}
	for named, change := range map[string]func(*admin.Config){
		"SealReply":       func(c *admin.Config) { c.SealReply = nil },
		"OpenReply":       func(c *admin.Config) { c.OpenReply = nil },
		"Lifetime":        func(c *admin.Config) { c.Tokens.Lifetime = admin.MaxAccessTokenLifetime + 1 },
		"RefreshLifetime": func(c *admin.Config) { c.Tokens.RefreshLifetime = -1 },
		"Store":           func(c *admin.Config) { c.Store = nil },
		"Cache":           func(c *admin.Config) { c.Cache = nil },
		"Registerer":      func(c *admin.Config) { c.Registerer = nil },
		"Logger":          func(c *admin.Config) { c.Logger = nil },
		"StoreTimeout":    func(c *admin.Config) { c.StoreTimeout = -1 },
		"metrics":         func(c *admin.Config) { c.Registerer = h.metrics },
	} {
		cfg := good
		change(&cfg)
		if _, err := admin.New(cfg); err == nil || !strings.Contains(err.Error(), named) {
			t.Errorf("error %v, want one that names %s", err, named)
		}
	}
}
