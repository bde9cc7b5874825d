package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"portcullis/internal/certfiles"
	"portcullis/internal/clientaddr"
)

const (
	defaultGrace = 30 * time.Second
	// maxHeader bounds a request's header, in bytes; net/http adds 4 KiB.
	maxHeader = 64 << 10
	// maxStreams bounds the requests that one HTTP/2 connection may have in hand.
	maxStreams = 100
)

// ServerConfig is where and how the API is served.
type ServerConfig struct {
	Handler http.Handler // required
	Addr    string       // host:port, required; port 0 picks one
	Logger  *slog.Logger // required

	// TLSCert and TLSKey are PEM files. Both or neither: without them the API is
	// served in the clear. TLS 1.2 is the least. Changed files are taken while the
	// server runs.
	TLSCert, TLSKey string
	// ClientCA is a PEM file of authorities. Where it is set, only a client with a
	// certificate of theirs is served. It needs TLSCert.
	ClientCA string
	// CertificatesEvery is how often the files are looked at; 0 is 2 s.
	CertificatesEvery time.Duration

	// Timeouts bound every phase of a connection.
	Timeouts Timeouts
	// MaxConns bounds the connections that stand at once, MaxConnsPerPeer those from
	// one address that is not one of Proxies. 0 is 1024 and 256.
	MaxConns, MaxConnsPerPeer int
	// Proxies are the trusted proxies before the server.
	Proxies clientaddr.Proxies

	Registerer prometheus.Registerer // nil registers no metrics

	// Grace is how long requests in flight may take to finish once Run's ctx has
	// ended. 0 is 30 s.
	Grace time.Duration
}

// Server serves the admin API on one address.
type Server struct {
	cfg      ServerConfig
	http     *http.Server
	listener net.Listener
	conns    *connections
	files    *certfiles.Files // nil without TLS
}

// NewServer reads the certificate and binds the address, so that what is wrong
// with either stops the start. Run must follow.
func NewServer(cfg ServerConfig) (*Server, error) {
	switch {
	case cfg.Handler == nil:
		return nil, errors.New("admin: ServerConfig.Handler is nil")
	case cfg.Logger == nil:
		return nil, errors.New("admin: ServerConfig.Logger is nil")
	case (cfg.TLSCert == "") != (cfg.TLSKey == ""):
		return nil, errors.New("admin: ServerConfig.TLSCert and TLSKey go together: set both or neither")
	case cfg.ClientCA != "" && cfg.TLSCert == "":
		return nil, errors.New("admin: ServerConfig.ClientCA needs TLSCert and TLSKey")
	case cfg.Grace < 0:
		return nil, errors.New("admin: ServerConfig.Grace is negative")
	case cfg.Timeouts.negative():
		return nil, errors.New("admin: ServerConfig.Timeouts has a negative field")
	case cfg.MaxConns < 0 || cfg.MaxConnsPerPeer < 0:
		return nil, errors.New("admin: ServerConfig.MaxConns or MaxConnsPerPeer is negative")
	}
	cfg.setDefaults()
	s := &Server{cfg: cfg}
	var err error
	if s.conns, err = newConnections(cfg); err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	s.http = &http.Server{
		Handler:           s.conns.watch(timeWrites(cfg.Handler, cfg.Timeouts.Write)),
		ConnContext:       s.conns.remember,
		ReadHeaderTimeout: cfg.Timeouts.Header,
		ReadTimeout:       cfg.Timeouts.Request,
		// From the header on: the body, the handler's work with the longest ?wait=all,
		// and the answer.
		WriteTimeout:   cfg.Timeouts.Request + maxWait + 2*cfg.Timeouts.Write,
		IdleTimeout:    cfg.Timeouts.Idle,
		MaxHeaderBytes: maxHeader,
		HTTP2:          &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ErrorLog:       slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelInfo),
		// OPTIONS * too is answered by the handler, with the headers of every
		// response.
		DisableGeneralOptionsHandler: true,
	}
	if cfg.TLSCert != "" {
		if s.files, err = certfiles.Open(certfiles.Config{
			Cert: cfg.TLSCert, Key: cfg.TLSKey, ClientCA: cfg.ClientCA, NextProtos: []string{"h2", "http/1.1"},
			Listener: "admin", Every: cfg.CertificatesEvery, Logger: cfg.Logger, Registerer: cfg.Registerer,
		}); err != nil {
			return nil, fmt.Errorf("admin: %w", err)
		}
		s.http.TLSConfig = s.files.TLS()
	}
	listener, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("admin: listen on %s: %w", cfg.Addr, err)
	}
	s.listener = listener
	return s, nil
}

func (cfg *ServerConfig) setDefaults() {
	cfg.Timeouts.setDefaults()
	if cfg.Grace == 0 {
		cfg.Grace = defaultGrace
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = defaultMaxConns
	}
	if cfg.MaxConnsPerPeer == 0 {
		cfg.MaxConnsPerPeer = defaultMaxConnsPerPeer
	}
}

// Addr is the bound address.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run serves until ctx ends, then takes no more connections, lets requests in
// flight finish for at most Grace, and returns nil. Run it once.
func (s *Server) Run(ctx context.Context) error {
	bound := boundListener{s.listener, s.conns}
	ended := make(chan error, 1)
	go func() {
		if s.files != nil {
			ended <- s.http.ServeTLS(bound, "", "")
			return
		}
		ended <- s.http.Serve(plainListener{bound})
	}()
	if s.files != nil {
		looking, stop := context.WithCancel(ctx)
		var looked sync.WaitGroup
		looked.Go(func() { s.files.Run(looking) }) // it never fails
		defer looked.Wait()
		defer stop()
	}
	select {
	case err := <-ended:
		return fmt.Errorf("admin: serve on %s: %w", s.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Grace)
	defer cancel()
	err := s.http.Shutdown(grace)
	if err != nil {
		s.cfg.Logger.Warn("admin requests were cut off", "grace", s.cfg.Grace, "error", err)
		s.http.Close()
	}
	<-ended
	return nil
}
