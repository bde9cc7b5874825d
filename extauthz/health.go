package extauthz

import (
	"context"
	"sync"

	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// healthService is grpc.health.v1 for the whole server and for Authorization. It
// starts as NOT_SERVING. Its watches can be ended, so that a drain need not wait
// for clients that watch for ever.
type healthService struct {
	*health.Server
	ended chan struct{}
	once  sync.Once
}

func newHealthService() *healthService {
	h := &healthService{Server: health.NewServer(), ended: make(chan struct{})}
	h.set(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	return h
}

func (h *healthService) set(status grpc_health_v1.HealthCheckResponse_ServingStatus) {
	h.SetServingStatus("", status)
	h.SetServingStatus(ServiceName, status)
}

func (h *healthService) serving() { h.set(grpc_health_v1.HealthCheckResponse_SERVING) }

// drain says NOT_SERVING, for good.
func (h *healthService) drain() { h.Shutdown() }

// endWatches ends all watches.
func (h *healthService) endWatches() { h.once.Do(func() { close(h.ended) }) }

// Watch is that of grpc.health.v1, ended by endWatches.
func (h *healthService) Watch(in *grpc_health_v1.HealthCheckRequest, stream grpc_health_v1.Health_WatchServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	go func() {
		select {
		case <-h.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	return h.Server.Watch(in, &watchStream{stream, ctx})
}

type watchStream struct {
	grpc_health_v1.Health_WatchServer
	ctx context.Context
}

// Context ends with the watch.
func (s *watchStream) Context() context.Context { return s.ctx }
