package extauthz

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"portcullis/internal/certfiles"
)

// ServerConfig is what a Server is made of.
type ServerConfig struct {
	Core *Core // required

	Listen   string // host:port or unix:///path, several joined with commas; required
	TLS      TLS    // of the TCP listeners
	Insecure bool   // allow TCP beyond loopback without TLS

	// Ready says whether the gate can answer. The health service says NOT_SERVING
	// until it has been true once; after that, being out of touch with the store does
	// not change the health, since anonymous rules go on. nil is always ready.
	Ready func() bool

	// DrainDelay is how long to go on answering once the health service says
	// NOT_SERVING, so that clients notice; default 0.
	DrainDelay time.Duration
	// DrainTimeout is how long checks in flight may take to finish after that;
	// default 10 s.
	DrainTimeout time.Duration

	Registerer prometheus.Registerer // nil: no metrics
	Logger     *slog.Logger          // nil: discards
}

// Server carries a Core over gRPC, with grpc.health.v1 beside it.
type Server struct {
	cfg       ServerConfig
	listeners []net.Listener
	grpc      *grpc.Server
	files     *certfiles.Files // nil without TLS
	health    *healthService
}

// Limits and tuning of the gRPC server.
const (
	// maxMessage is above Envoy's largest header block and body together, so that a
	// request which is too large reaches the core and is denied there. A gRPC error
	// could be turned into an allow by failure_mode_allow.
	maxMessage = 64 << 20
	// streamWorkers are goroutines whose stacks have grown already; without them a
	// fifth of the time goes into copying stacks.
	streamWorkers = 64
	// ioBuffer is what one read or write on a connection takes at once.
	ioBuffer = 64 << 10
	// Fixed windows, large enough that Envoy never waits for an update, spare the
	// pings by which grpc-go would estimate them.
	streamWindow     = 1 << 20
	connectionWindow = 16 << 20
	// readyPoll is how often Ready is asked until it is true.
	readyPoll = 20 * time.Millisecond
)

// NewServer opens the listeners; nothing is answered before Run. On an error
// nothing stays open.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Core == nil {
		return nil, errors.New("extauthz: Core is required")
	}
	if cfg.Ready == nil {
		cfg.Ready = func() bool { return true }
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	endpoints, err := parseEndpoints(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("extauthz: %w", err)
	}
	files, err := cfg.TLS.open(cfg)
	if err != nil {
		return nil, fmt.Errorf("extauthz: %w", err)
	}
	var encryption *tls.Config
	if files != nil {
		encryption = files.TLS()
	}
	s := &Server{cfg: cfg, files: files, health: newHealthService()}
	for _, e := range endpoints {
		l, err := listen(e, encryption != nil, cfg.Insecure)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("extauthz: %w", err), s.closeListeners())
		}
		s.listeners = append(s.listeners, l)
	}
	carrier := newCarrier(cfg.Core)
	s.grpc = grpc.NewServer(
		grpc.Creds(newCredentials(encryption)),
		grpc.ForceServerCodecV2(carrier),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.ReadBufferSize(ioBuffer),
		grpc.WriteBufferSize(ioBuffer),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connectionWindow),
		// Envoy pings idle connections; under the default policy that is answered by
		// GOAWAY too_many_pings.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	)
	s.grpc.RegisterService(serviceDesc(), carrier)
	grpc_health_v1.RegisterHealthServer(s.grpc, s.health)
	return s, nil
}

// Addrs are the addresses that are listened on, in the order of Listen.
func (s *Server) Addrs() []net.Addr {
	out := make([]net.Addr, len(s.listeners))
	for i, l := range s.listeners {
		out[i] = l.Addr()
	}
	return out
}

// Run answers until ctx ends, then drains: the health service says NOT_SERVING,
// checks in flight finish, and what has not finished by then is cut off. It
// returns nil after a drain, or why it had to stop. Run it once.
func (s *Server) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var g errgroup.Group
	for _, l := range s.listeners {
		g.Go(func() error {
			defer stop()
			if err := s.grpc.Serve(coalescing{l}); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
				return fmt.Errorf("extauthz: serve on %s: %w", l.Addr(), err)
			}
			return nil
		})
	}
	if s.files != nil {
		g.Go(func() error { return s.files.Run(ctx) })
	}
	g.Go(func() error {
		s.awaitReady(ctx)
		<-ctx.Done()
		s.drain()
		return nil
	})
	return g.Wait()
}

// Close closes the listeners of a server that will not run.
func (s *Server) Close() error {
	s.grpc.Stop()
	return s.closeListeners()
}

func (s *Server) closeListeners() error {
	var errs []error
	for _, l := range s.listeners {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// awaitReady says SERVING once the gate can answer.
func (s *Server) awaitReady(ctx context.Context) {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for !s.cfg.Ready() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
	s.health.serving()
}

func (s *Server) drain() {
	s.health.drain()
	if s.cfg.DrainDelay > 0 {
		time.Sleep(s.cfg.DrainDelay)
	}
	s.health.endWatches()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.grpc.GracefulStop()
	}()
	bound := time.NewTimer(s.cfg.DrainTimeout)
	defer bound.Stop()
	select {
	case <-done:
	case <-bound.C:
		s.cfg.Logger.Warn("checks in flight did not finish in time and were cut off", "timeout", s.cfg.DrainTimeout)
		s.grpc.Stop()
		<-done
	}
}
