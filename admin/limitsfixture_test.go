package admin_test

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"portcullis/cache"
	"portcullis/internal/clientaddr"
	"portcullis/internal/ratelimit"
	"portcullis/internal/store"
)

// stillClock goes on only when a test says so.
type stillClock struct {
	mu  sync.Mutex
	now cache.Instant
}

// newStillClock is a second into the minute that it is.
func newStillClock() *stillClock {
	wall := time.Now().Truncate(time.Minute).Add(time.Second)
	return &stillClock{now: cache.Instant{Wall: wall.UnixNano(), Mono: int64(time.Hour)}}
}

func (c *stillClock) read() cache.Instant {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *stillClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now.Wall += int64(d)
	c.now.Mono += int64(d)
}

func perMinute(n int) ratelimit.Rate { return ratelimit.Rate{Count: n, Period: time.Minute} }

// ours trusts the peer of every test, so that X-Forwarded-For says who calls.
func ours(t testing.TB) clientaddr.Proxies {
	t.Helper()
	p, err := clientaddr.ParseProxies("127.0.0.0/8, 10.9.9.9")
	must(t, err)
	return p
}

func from(addr string) string { return "X-Forwarded-For: " + addr }

// storeVisits counts every call that a request without a live key could make.
type storeVisits struct {
	store.Store
	n atomic.Int64
}

func (s *storeVisits) Replay(ctx context.Context, id store.Digest) (store.TenantID, string, error) {
	s.n.Add(1)
	return s.Store.Replay(ctx, id)
}

func (s *storeVisits) Refresh(ctx context.Context, d store.Digest) (store.RefreshToken, error) {
	s.n.Add(1)
	return s.Store.Refresh(ctx, d)
}

func (s *storeVisits) Key(ctx context.Context, d store.Digest) (store.KeyRow, error) {
	s.n.Add(1)
	return s.Store.Key(ctx, d)
}

func (s *storeVisits) OpenTenant(ctx context.Context, by store.Actor, tenant store.NewTenant, key store.NewKey) (store.Tenant, store.Result, error) {
	s.n.Add(1)
	return s.Store.OpenTenant(ctx, by, tenant, key)
}

func (s *storeVisits) RecordAudit(ctx context.Context, entries []store.AuditEntry) error {
	s.n.Add(1)
	return s.Store.RecordAudit(ctx, entries)
}

// is429 checks a 429 and returns its Retry-After.
func is429(t *testing.T, what string, got answer, limit string) time.Duration {
	t.Helper()
	seconds, err := strconv.Atoi(got.header.Get("Retry-After"))
	if got.status != 429 || err != nil || seconds < 1 {
		t.Fatalf("%s: %d, Retry-After %q: %s", what, got.status, got.header.Get("Retry-After"), got.body)
	}
	reset, err := strconv.Atoi(got.header.Get("RateLimit-Reset"))
	if err != nil || reset < seconds || got.header.Get("RateLimit-Remaining") != "0" || got.header.Get("RateLimit-Limit") == "" {
		t.Errorf("%s: %v", what, got.header)
	}
	if !strings.HasPrefix(got.header.Get("RateLimit-Policy"), `"`+limit+`";q=`) || !strings.HasPrefix(got.header.Get("RateLimit"), `"`+limit+`";r=0;t=`) {
		t.Errorf("%s: policy %q, %q: want limit %s", what, got.header.Get("RateLimit-Policy"), got.header.Get("RateLimit"), limit)
	}
	if got.header.Get("WWW-Authenticate") != "" || got.header.Get("X-Frame-Options") != "DENY" {
		t.Errorf("%s: headers %v", what, got.header)
	}
	return time.Duration(seconds) * time.Second
}

func isErrorJ(t *testing.T, got answer) {
	t.Helper()
	var body map[string]any
	if err := json.Unmarshal([]byte(got.body), &body); err != nil || len(body) != 5 || body["success"] != false || body["code"] != float64(got.status) ||
		body["message"] == "" || body["timestamp"] == "" {
		t.Errorf("%q is not error J: %v", got.body, err)
	}
}

// counter reads a counter with one label.
func (h *house) counter(t *testing.T, name, label string) float64 {
	t.Helper()
	families, err := h.metrics.Gather()
	must(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && len(m.GetLabel()) == 1 && m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no %s{%s}", name, label)
	return 0
}

func (h *house) auditRows(t *testing.T, tenant string) int {
	t.Helper()
	_, total, err := h.store.Audit(t.Context(), store.AuditQuery{Tenant: h.tenants[tenant], Limit: 1})
	must(t, err)
	return total
}
