package certfiles_test

import (
	"bytes"
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
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"portcullis/internal/certfiles"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	must(t, err)
	a.cert, err = x509.ParseCertificate(der)
	must(t, err)
	a.pem = encode("CERTIFICATE", der)
	return a
}

// issue makes a certificate of that name for 127.0.0.1, and its key.
func (a *authority) issue(t *testing.T, name string) (cert, key string) {
	t.Helper()
	private := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}, a.cert, &private.PublicKey, a.key)
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", pkcs8)
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// place is the folder of a listener's files, and an echoing listener that uses them.
type place struct {
	t        *testing.T
	dir      string
	addr     string
	ca       *authority
	registry *prometheus.Registry
	log      *lockedBuffer
}

// listen serves NAME.pem, NAME.key and, where asked, ca.pem of dir, under the name
// tls in dir/live.
func (p *place) listen(clientCA bool) {
	p.t.Helper()
	cfg := certfiles.Config{
		Cert: filepath.Join(p.dir, "tls.crt"), Key: filepath.Join(p.dir, "tls.key"), Listener: "test", Every: 5 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(p.log, nil)), Registerer: p.registry,
	}
	if clientCA {
		cfg.ClientCA = filepath.Join(p.dir, "ca.crt")
	}
	files, err := certfiles.Open(cfg)
	must(p.t, err)
	l, err := tls.Listen("tcp", "127.0.0.1:0", files.TLS())
	must(p.t, err)
	p.addr = l.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { files.Run(ctx) })
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				io.Copy(conn, conn)
			})
		}
	})
	p.t.Cleanup(func() {
		stop()
		l.Close()
		running.Wait()
	})
}

func newPlace(t *testing.T) *place {
	t.Helper()
	return &place{t: t, dir: t.TempDir(), ca: newAuthority(t, "ours"), registry: prometheus.NewRegistry(), log: &lockedBuffer{}}
}

func (p *place) write(name, text string) {
	p.t.Helper()
	must(p.t, os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600))
}

// swap puts a file in place atomically.
func (p *place) swap(name, text string) {
	p.t.Helper()
	p.write(name+".new", text)
	must(p.t, os.Rename(filepath.Join(p.dir, name+".new"), filepath.Join(p.dir, name)))
}

// dial connects and says whose certificate the listener showed.
func (p *place) dial(cfg *tls.Config) (*tls.Conn, string, error) {
	cfg.RootCAs = x509.NewCertPool()
	cfg.RootCAs.AddCert(p.ca.cert)
	conn, err := tls.Dial("tcp", p.addr, cfg)
	if err != nil {
		return nil, "", err
	}
	if err := echo(conn); err != nil { // under TLS 1.3 a refusal comes after the handshake
		conn.Close()
		return nil, "", err
	}
	return conn, conn.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}

func echo(conn net.Conn) error {
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte("word")); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 4))
	return err
}

// shown is the name on the certificate that a new connection is shown.
func (p *place) shown() string {
	p.t.Helper()
	conn, name, err := p.dial(&tls.Config{})
	must(p.t, err)
	conn.Close()
	return name
}

func (p *place) metric(result string) float64 {
	p.t.Helper()
	families, err := p.registry.Gather()
	must(p.t, err)
	for _, f := range families {
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if f.GetName() == "portcullis_tls_reloads_total" && l.GetName() == "result" && l.GetValue() == result {
					return m.Counter.GetValue()
				}
			}
			if f.GetName() == "portcullis_tls_last_reload_ok" && result == "last" {
				return m.Gauge.GetValue()
			}
		}
	}
	p.t.Fatalf("no metric of %s", result)
	return 0
}

func TestANewPairIsTakenWithoutDroppingConnections(t *testing.T) {
	p := newPlace(t)
	cert, key := p.ca.issue(t, "first")
	p.write("tls.crt", cert)
	p.write("tls.key", key)
	p.listen(false)
	old, name, err := p.dial(&tls.Config{})
	must(t, err)
	defer old.Close()
	if name != "first" {
		t.Fatalf("the listener shows %s", name)
	}

	cert, key = p.ca.issue(t, "second")
	p.swap("tls.crt", cert)
	p.swap("tls.key", key)
	eventually(t, "the second pair is shown", func() bool { return p.shown() == "second" })
	if err := echo(old); err != nil {
		t.Errorf("the connection from before: %v", err)
	}
	if p.metric("ok") != 1 || p.metric("last") != 1 {
		t.Errorf("reloads ok %v, last %v", p.metric("ok"), p.metric("last"))
	}
}

// TestSymlinkSwap replaces the pair as Kubernetes does: tls.crt and tls.key lead
// through one link to a folder, and the link is renamed over.
func TestSymlinkSwap(t *testing.T) {
	p := newPlace(t)
	fill := func(folder, name string) {
		must(t, os.Mkdir(filepath.Join(p.dir, folder), 0o700))
		cert, key := p.ca.issue(t, name)
		p.write(folder+"/tls.crt", cert)
		p.write(folder+"/tls.key", key)
		must(t, os.Symlink(folder, filepath.Join(p.dir, "..data_tmp")))
		must(t, os.Rename(filepath.Join(p.dir, "..data_tmp"), filepath.Join(p.dir, "..data")))
	}
	fill("..1", "first")
	for _, name := range []string{"tls.crt", "tls.key"} {
		must(t, os.Symlink("..data/"+name, filepath.Join(p.dir, name)))
	}
	p.listen(false)
	for i, name := range []string{"second", "third", "fourth"} {
		fill("..new"+name, name)
		must(t, os.RemoveAll(filepath.Join(p.dir, []string{"..1", "..newsecond", "..newthird"}[i])))
		eventually(t, name+" is shown", func() bool { return p.shown() == name })
	}
	if failed := p.metric("failed"); failed != 0 {
		t.Errorf("%v swaps were refused\n%s", failed, p.log)
	}
}

func TestAHalfWrittenPairIsNotTaken(t *testing.T) {
	other := newAuthority(t, "other")
	cert2, key2 := other.issue(t, "second")
	for what, wrong := range map[string]func(p *place){
		"the certificate alone": func(p *place) { p.swap("tls.crt", cert2) },
		"the key alone":         func(p *place) { p.swap("tls.key", key2) },
		"an empty certificate":  func(p *place) { p.swap("tls.crt", "") },
		"an empty key":          func(p *place) { p.swap("tls.key", "") },
		"a certificate cut off": func(p *place) { p.swap("tls.crt", cert2[:len(cert2)/2]) },
		"no certificate":        func(p *place) { must(t, os.Remove(filepath.Join(p.dir, "tls.crt"))) },
		"no key":                func(p *place) { must(t, os.Remove(filepath.Join(p.dir, "tls.key"))) },
		"a folder": func(p *place) {
			must(t, os.Remove(filepath.Join(p.dir, "tls.key")))
			must(t, os.Mkdir(filepath.Join(p.dir, "tls.key"), 0o700))
		},
		"a file too large":             func(p *place) { p.swap("tls.crt", cert2+strings.Repeat("\n", 1<<20)) },
		"a chain whose end is cut off": func(p *place) { p.swap("tls.key", key2); p.swap("tls.crt", cert2+other.pem[:len(other.pem)/2]) },
		"a chain with a broken block": func(p *place) {
			p.swap("tls.key", key2)
			p.swap("tls.crt", cert2+strings.Replace(other.pem, "MII", "!!!", 1))
		},
		"a chain that is no certificate": func(p *place) {
			p.swap("tls.key", key2)
			p.swap("tls.crt", cert2+encode("CERTIFICATE", []byte("none")))
		},
	} {
		t.Run(what, func(t *testing.T) {
			p := newPlace(t)
			cert, key := p.ca.issue(t, "first")
			p.write("tls.crt", cert)
			p.write("tls.key", key)
			p.listen(false)
			wrong(p)
			eventually(t, "the refusal is counted", func() bool { return p.metric("failed") > 0 && p.metric("last") == 0 })
			if got := p.shown(); got != "first" {
				t.Errorf("the listener shows %s", got)
			}
			if log := p.log.String(); strings.Count(log, "level=ERROR") > 2 || !strings.Contains(log, "level=ERROR") || strings.Contains(log, "PRIVATE") {
				t.Errorf("log:\n%s", log)
			}
			// What was half there and is then whole is taken.
			os.Remove(filepath.Join(p.dir, "tls.key"))
			cert, key = p.ca.issue(t, "third")
			p.swap("tls.key", key)
			p.swap("tls.crt", cert)
			eventually(t, "the third pair is shown", func() bool { return p.shown() == "third" })
			if p.metric("last") != 1 {
				t.Error("the metric still says that the files were refused")
			}
		})
	}
}

// Under a stream of replacements every handshake meets a whole pair.
func TestHandshakesGoOnDuringReplacements(t *testing.T) {
	p := newPlace(t)
	cert, key := p.ca.issue(t, "pair")
	p.write("tls.crt", cert)
	p.write("tls.key", key)
	p.listen(false)
	done := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for range 40 {
			cert, key := p.ca.issue(t, "pair")
			p.swap("tls.crt", cert)
			p.swap("tls.key", key)
			time.Sleep(15 * time.Millisecond)
		}
		close(done)
	})
	handshakes := 0
	for going := true; going; handshakes++ {
		select {
		case <-done:
			going = false
		default:
		}
		conn, _, err := p.dial(&tls.Config{})
		if err != nil {
			t.Fatalf("handshake %d: %v", handshakes, err)
		}
		conn.Close()
	}
	writer.Wait()
	eventually(t, "new pairs were taken", func() bool { return p.metric("ok") > 0 })
	t.Logf("%d handshakes, %v pairs", handshakes, p.metric("ok"))
}

// An authority that is taken out lets nobody in any more, not by a resumed session
// either.
func TestClientAuthoritiesAreFollowed(t *testing.T) {
	p := newPlace(t)
	one, two := newAuthority(t, "one"), newAuthority(t, "two")
	cert, key := p.ca.issue(t, "server")
	p.write("tls.crt", cert)
	p.write("tls.key", key)
	p.write("ca.crt", one.pem)
	p.listen(true)
	client := func(a *authority) *tls.Config {
		cert, key := a.issue(t, "client")
		pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
		must(t, err)
		return &tls.Config{Certificates: []tls.Certificate{pair}, ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	}
	ofOne, ofTwo := client(one), client(two)
	admitted := func(cfg *tls.Config) bool {
		conn, _, err := p.dial(cfg)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		ofOne.MaxVersion = version
		if !admitted(ofOne) || admitted(ofTwo) || admitted(&tls.Config{}) {
			t.Fatal("the first authority is not the one that admits")
		}
	}
	p.swap("ca.crt", two.pem)
	eventually(t, "the second authority admits", func() bool { return admitted(ofTwo) })
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		ofOne.MaxVersion = version
		if admitted(ofOne) {
			t.Errorf("%s: a client of the former authority came back", tls.VersionName(version))
		}
	}
	p.swap("ca.crt", two.pem+one.pem[:len(one.pem)/2])
	eventually(t, "the refusal is counted", func() bool { return p.metric("failed") == 1 })
	if !admitted(ofTwo) || admitted(&tls.Config{}) {
		t.Error("half a file of authorities changed who is admitted")
	}
}

func TestOldVersionsOfTLSAreRefused(t *testing.T) {
	p := newPlace(t)
	cert, key := p.ca.issue(t, "server")
	p.write("tls.crt", cert)
	p.write("tls.key", key)
	p.listen(false)
	for version, served := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		conn, _, err := p.dial(&tls.Config{MinVersion: version, MaxVersion: version})
		if err == nil {
			conn.Close()
		}
		if (err == nil) != served {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
}

func TestWrongFilesStopTheStart(t *testing.T) {
	p := newPlace(t)
	cert, key := p.ca.issue(t, "server")
	p.write("tls.crt", cert)
	p.write("tls.key", key)
	p.write("cut.crt", cert+p.ca.pem[:len(p.ca.pem)/2])
	file := func(name string) string { return filepath.Join(p.dir, name) }
	good := certfiles.Config{Cert: file("tls.crt"), Key: file("tls.key"), Listener: "test", Logger: slog.New(slog.DiscardHandler)}
	for named, change := range map[string]func(*certfiles.Config){
		"/none.crt": func(c *certfiles.Config) { c.Cert = "/none.crt" },
		"/none.key": func(c *certfiles.Config) { c.Key = "/none.key" },
		"cut.crt":   func(c *certfiles.Config) { c.Cert = file("cut.crt") },
		"tls.key":   func(c *certfiles.Config) { c.ClientCA = file("tls.key") },
		"/none.ca":  func(c *certfiles.Config) { c.ClientCA = "/none.ca" },
		"Key are":   func(c *certfiles.Config) { c.Key = "" },
		"Listener":  func(c *certfiles.Config) { c.Listener = "" },
		"Logger":    func(c *certfiles.Config) { c.Logger = nil },
		"Every":     func(c *certfiles.Config) { c.Every = -1 },
	} {
		cfg := good
		change(&cfg)
		if _, err := certfiles.Open(cfg); err == nil || !strings.Contains(err.Error(), named) || strings.Contains(err.Error(), "BEGIN") {
			t.Errorf("error %v, want one that names %s", err, named)
		}
	}
	registry := prometheus.NewRegistry()
	good.Registerer = registry
	for _, listener := range []string{"admin", "extauthz"} { // several share a registry
		good.Listener = listener
		_, err := certfiles.Open(good)
		must(t, err)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came to be that %s", what)
		}
	}
}

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
