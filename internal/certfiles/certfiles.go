// Package certfiles keeps a listener's certificate, key and client authorities as
// their files have them. A new certificate is taken while the listener goes on:
// connections that stand keep what they began with, new ones get the new pair.
package certfiles

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is what Files are made of.
type Config struct {
	// Cert and Key are PEM files: the chain, the leaf first, and the leaf's private
	// key. Required.
	Cert, Key string
	// ClientCA is a PEM file of authorities. Where it is set, only a client with a
	// certificate of theirs gets a connection.
	ClientCA string
	// NextProtos are the protocols of ALPN, the preferred one first; none is none.
	NextProtos []string

	// Listener names the listener in logs and metrics. Required.
	Listener string
	// Every is how often the files are looked at; 0 is 2 s. New contents are taken
	// at the second look that finds them, so a file that is being written has that
	// long to be finished.
	Every time.Duration

	Logger     *slog.Logger          // required
	Registerer prometheus.Registerer // nil registers nothing
}

// maxFile bounds each file, in bytes.
const maxFile = 1 << 20

// Files are the files of one listener. TLS is safe for concurrent use.
type Files struct {
	cfg     Config
	metrics *metrics
	current atomic.Pointer[tls.Config]

	// Of the goroutine that looks: digests of what is in force, of what the last look
	// found, and of what was refused.
	inForce, seen, refused [sha256.Size]byte
}

// Open reads the files. What is wrong with them is an error that names the file.
func Open(cfg Config) (*Files, error) {
	switch {
	case cfg.Cert == "" || cfg.Key == "":
		return nil, errors.New("certfiles: Config.Cert and Key are required")
	case cfg.Listener == "":
		return nil, errors.New("certfiles: Config.Listener is empty")
	case cfg.Logger == nil:
		return nil, errors.New("certfiles: Config.Logger is nil")
	case cfg.Every < 0:
		return nil, errors.New("certfiles: Config.Every is negative")
	}
	if cfg.Every == 0 {
		cfg.Every = 2 * time.Second
	}
	f := &Files{cfg: cfg}
	found := f.read()
	ready, err := f.build(found)
	if err != nil {
		return nil, err
	}
	if f.metrics, err = newMetrics(cfg); err != nil {
		return nil, err
	}
	f.take(ready, found)
	return f, nil
}

// TLS is a server's configuration that follows the files. TLS 1.2 is the least.
func (f *Files) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: f.cfg.NextProtos,
		// The whole configuration, not the certificate alone: authorities change too.
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return f.current.Load(), nil },
	}
}

// Run looks at the files until ctx ends. It returns nil. Run it once.
func (f *Files) Run(ctx context.Context) error {
	tick := time.NewTicker(f.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			f.look()
		}
	}
}

// look takes new contents once two looks in a row have found them. Between the two
// files of a pair, or within one, a look may come too early; that is no news.
func (f *Files) look() {
	found := f.read()
	before := f.seen
	f.seen = found.digest
	switch {
	case found.digest == f.inForce:
		f.metrics.current.Set(1)
		f.refused = [sha256.Size]byte{}
		return
	case found.digest != before, found.digest == f.refused:
		return
	}
	ready, err := f.build(found)
	if err != nil {
		f.refused = found.digest
		f.cfg.Logger.Error("the TLS files were not taken; what they held before stays in force", "listener", f.cfg.Listener, "error", err)
		f.metrics.current.Set(0)
		f.metrics.reloads.WithLabelValues("failed").Inc()
		return
	}
	f.take(ready, found)
	f.metrics.reloads.WithLabelValues("ok").Inc()
	f.cfg.Logger.Info("new TLS files are in force", "listener", f.cfg.Listener, "cert", f.cfg.Cert,
		"serial", ready.Certificates[0].Leaf.SerialNumber.Text(16), "not_after", ready.Certificates[0].Leaf.NotAfter)
}

func (f *Files) take(ready *tls.Config, found contents) {
	f.current.Store(ready)
	f.inForce, f.seen, f.refused = found.digest, found.digest, [sha256.Size]byte{}
	leaf := ready.Certificates[0].Leaf
	f.metrics.current.Set(1)
	f.metrics.notAfter.Set(float64(leaf.NotAfter.Unix()))
	if now := time.Now(); now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		f.cfg.Logger.Warn("the certificate is not valid at this time, so clients will refuse it", "listener", f.cfg.Listener,
			"cert", f.cfg.Cert, "not_before", leaf.NotBefore, "not_after", leaf.NotAfter)
	}
}

// contents are the files at one look.
type contents struct {
	cert, key, clientCA []byte
	err                 error
	digest              [sha256.Size]byte // of all of that
}

func (f *Files) read() contents {
	var c contents
	h := sha256.New()
	for _, file := range []struct {
		what, path string
		into       *[]byte
	}{
		{"the TLS certificate", f.cfg.Cert, &c.cert}, {"the TLS key", f.cfg.Key, &c.key},
		{"the client authorities", f.cfg.ClientCA, &c.clientCA},
	} {
		if file.path == "" {
			continue
		}
		text, err := readFile(file.path)
		if err != nil && c.err == nil {
			c.err = fmt.Errorf("read %s: %w", file.what, err)
		}
		*file.into = text
		fmt.Fprintf(h, "%d %v\n", len(text), err) // a Hash takes everything
		h.Write(text)
	}
	c.digest = [sha256.Size]byte(h.Sum(nil))
	return c
}

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s is larger than 1 MiB", path)
	}
	return text, nil
}
