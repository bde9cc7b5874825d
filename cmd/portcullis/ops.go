package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"portcullis/internal/config"
)

// opsServer serves /metrics, /healthz and /readyz. It asks for no credential and
// tells none. In debug mode it serves profiles too, to this machine.
type opsServer struct {
	http      *http.Server
	listeners []net.Listener
}

func newOpsServer(addrs []config.Listen, registry *prometheus.Registry, ready *readiness, log *slog.Logger, debug bool) (*opsServer, error) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelError), Registry: registry,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprintln(w, "ok") // the process lives
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { serveReady(w, r, ready.state()) })
	handler := http.Handler(mux)
	if debug {
		handler = withProfiles(mux)
	}
	s := &opsServer{http: &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelInfo),
	}}
	for _, addr := range addrs {
		l, err := listenLocal(addr)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("AUTH_METRICS_LISTEN: listen on %s: %w", addr, err), s.close())
		}
		s.listeners = append(s.listeners, l)
	}
	return s, nil
}

// listenLocal listens on an address. A socket file that a killed process left
// behind, on which nobody answers, is replaced.
func listenLocal(addr config.Listen) (net.Listener, error) {
	l, err := net.Listen(addr.Network, addr.Address)
	if addr.Network != "unix" || !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	conn, dial := net.DialTimeout("unix", addr.Address, time.Second)
	if dial == nil {
		return nil, errors.Join(errors.New("another process answers there"), conn.Close())
	}
	if !errors.Is(dial, syscall.ECONNREFUSED) {
		return nil, err
	}
	if err := os.Remove(addr.Address); err != nil {
		return nil, err
	}
	return net.Listen(addr.Network, addr.Address)
}

// serveReady answers 200 or 503, in JSON for those who ask for it.
func serveReady(w http.ResponseWriter, r *http.Request, s readinessJSON) {
	status := http.StatusOK
	if !s.Ready {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Cache-Control", "no-store")
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(s) // an error means that the caller went away
		return
	}
	w.WriteHeader(status)
	text := "ready"
	if !s.Ready {
		text = "not ready: " + s.Reason
	}
	fmt.Fprintf(w, "%s (revision %d, policy %s)\n", text, s.Revision, visible(s.Policy))
}

// Run serves until ctx ends.
func (s *opsServer) Run(ctx context.Context) error {
	var g errgroup.Group
	for _, l := range s.listeners {
		g.Go(func() error {
			if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	ended := make(chan error, 1)
	go func() { ended <- g.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if s.http.Shutdown(grace) != nil {
		s.http.Close()
	}
	return <-ended
}

func (s *opsServer) addrs() []net.Addr {
	out := make([]net.Addr, len(s.listeners))
	for i, l := range s.listeners {
		out[i] = l.Addr()
	}
	return out
}

func (s *opsServer) close() error {
	var errs []error
	for _, l := range s.listeners {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
