package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// The server's limits on time. Writing may take as long as the longest
// ?wait=all, and the write before it.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = maxWait + 30*time.Second
	idleTimeout       = 2 * time.Minute
	defaultGrace      = 30 * time.Second
)

// ServerConfig is where and how the API is served.
type ServerConfig struct {
	Handler http.Handler // required
	Addr    string       // host:port, required; port 0 picks one
	Logger  *slog.Logger // required

	// TLSCert and TLSKey are PEM files. Both or neither: without them the API is
	// served in the clear. TLS 1.2 is the least.
	TLSCert, TLSKey string

	// Grace is how long requests in flight may take to finish once Run's ctx has
	// ended. 0 is 30 s.
	Grace time.Duration
}

// Server serves the admin API on one address.
type Server struct {
	cfg      ServerConfig
	http     *http.Server
	listener net.Listener
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
	case cfg.Grace < 0:
		return nil, errors.New("admin: ServerConfig.Grace is negative")
	}
	if cfg.Grace == 0 {
		cfg.Grace = defaultGrace
	}
	s := &Server{cfg: cfg, http: &http.Server{
		Handler:           cfg.Handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelInfo),
		// OPTIONS * too is answered by the handler, with the headers of every
		// response.
		DisableGeneralOptionsHandler: true,
	}}
	if cfg.TLSCert != "" {
		cert, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("admin: load the TLS certificate %s and key %s: %w", cfg.TLSCert, cfg.TLSKey, err)
		}
		s.http.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	}
	listener, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("admin: listen on %s: %w", cfg.Addr, err)
	}
	s.listener = listener
	return s, nil
}

// Addr is the bound address.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run serves until ctx ends, then takes no more connections, lets requests in
// flight finish for at most Grace, and returns nil. Run it once.
func (s *Server) Run(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() {
		if s.http.TLSConfig != nil {
			ended <- s.http.ServeTLS(s.listener, "", "")
			return
		}
		ended <- s.http.Serve(plainListener{s.listener})
	}()
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
