package admin

import (
	"context"
	"net/http"
	"sync"
	"time"

	"portcullis/internal/store"
)

// healthAge is how long one look at the database answers /health: the path is
// public, and a flood of it must not become a flood of queries.
const (
	healthAge     = 500 * time.Millisecond
	healthTimeout = 2 * time.Second
)

func (a *API) ping(*call) (reply, error) {
	return reply{value: map[string]string{"message": "PONG"}}, nil
}

func (a *API) healthy(c *call) (reply, error) {
	if err := a.health.check(c.Context()); err != nil {
		a.cfg.Logger.Warn("unhealthy", "request_id", c.id, "error", err)
		return reply{status: http.StatusServiceUnavailable, value: map[string]string{"status": "unhealthy"}}, nil
	}
	return reply{value: map[string]string{"status": "healthy"}}, nil
}

// health remembers the last look at the database. It is safe for concurrent use.
type health struct {
	store store.Store

	mu   sync.Mutex // guards what follows, and is held while the database is asked
	at   time.Time
	last error
}

// check is nil if the database answered within healthAge, or does now.
func (h *health) check(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.at.IsZero() && time.Since(h.at) < healthAge {
		return h.last
	}
	// Not the caller's ctx alone: one that hangs up must not make it unhealthy.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthTimeout)
	defer cancel()
	_, h.last = h.store.Head(ctx)
	h.at = time.Now()
	return h.last
}
