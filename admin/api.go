package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"portcullis/cache"
	"portcullis/internal/clientaddr"
	"portcullis/internal/store"
)

// Config is what the API is made of.
type Config struct {
	Store      store.Store           // required; closed by its owner
	Cache      *cache.Cache          // required; run by its owner
	Registerer prometheus.Registerer // required
	Logger     *slog.Logger          // required

	// AuditChecks adds an audit row for every permission check, membership check,
	// listing and reading of the audit (AUTH_AUDIT_CHECKS). Such a request is
	// answered only once its row is in the store.
	AuditChecks bool

	// Tokens is what /oauth/token issues; without an Issuer the API has no OAuth
	// routes.
	Tokens Tokens

	// SealReply seals the reply of a key's rotation so that only who presents the same
	// secret for the same use opens it, with OpenReply. Required.
	SealReply, OpenReply func(presented, use, text string) (string, error)

	// Proxies are the networks whose X-Forwarded-For and -Proto count
	// (AUTH_TRUSTED_PROXIES); the zero Proxies trusts nobody.
	Proxies clientaddr.Proxies

	// CORS says which web pages may read the answers (AUTH_ALLOW_CORS,
	// AUTH_CORS_ORIGINS).
	CORS CORS

	// OpenTenancy makes a tenant of any UUID4 on its first use (AUTH_OPEN_TENANCY),
	// with strict users where StrictUsers says so (AUTH_STRICT_USERS_DEFAULT).
	OpenTenancy, StrictUsers bool

	// StrictInput refuses SQL keywords in names and labels (AUTH_STRICT_INPUT).
	StrictInput bool

	// Limits bound how often callers may ask; the zero Limits are none.
	Limits Limits

	// StoreTimeout bounds a request's work in the store, the wait for other
	// sidecars not counted. 0 is 10 s.
	StoreTimeout time.Duration
}

// API is the admin API. It is safe for concurrent use.
type API struct {
	cfg     Config
	router  *router
	metrics *metrics
	fleet   *fleet
	health  *health
	signing *signing
	limits  *limits
	failed  *failedAuths
	opening pace // of tenants
	replays pace // look-ups for keys that no longer open anything
}

// New makes the API. It fails if a required field is missing or the metrics are
// registered already.
func New(cfg Config) (*API, error) {
	switch {
	case cfg.Store == nil:
		return nil, errors.New("admin: Config.Store is nil")
	case cfg.Cache == nil:
		return nil, errors.New("admin: Config.Cache is nil")
	case cfg.Registerer == nil:
		return nil, errors.New("admin: Config.Registerer is nil")
	case cfg.Logger == nil:
		return nil, errors.New("admin: Config.Logger is nil")
	case cfg.SealReply == nil || cfg.OpenReply == nil:
		return nil, errors.New("admin: Config.SealReply or OpenReply is nil")
	case cfg.StoreTimeout < 0:
		return nil, errors.New("admin: Config.StoreTimeout is negative")
	}
	if err := cfg.Tokens.check(); err != nil {
		return nil, err
	}
	if err := cfg.CORS.check(); err != nil {
		return nil, err
	}
	if cfg.StoreTimeout == 0 {
		cfg.StoreTimeout = 10 * time.Second
	}
	a := &API{cfg: cfg, fleet: &fleet{store: cfg.Store, clock: cfg.Cache.Now}, health: &health{store: cfg.Store}}
	a.signing = &signing{store: cfg.Store, issuer: cfg.Tokens.Issuer}
	a.opening.most, a.replays.most = mostOpened, mostReplays
	a.limits = newLimits(cfg.Limits)
	table := a.allRoutes()
	var err error
	if a.router, err = newRouter(table); err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	if a.metrics, err = newMetrics(cfg.Registerer); err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	a.failed = &failedAuths{
		store: cfg.Store, cache: cfg.Cache, log: cfg.Logger, lost: a.metrics.failuresLost, audited: a.metrics.auditedMany,
	}
	return a, nil
}

// Run writes failed authentications to the audit, one row for each address, reason and
// minute. It returns nil once ctx has ended and the last of them are written. Run it
// once, and end it after the server.
func (a *API) Run(ctx context.Context) error { return a.failed.run(ctx) }

// Handler serves the whole API.
func (a *API) Handler() http.Handler { return http.HandlerFunc(a.serve) }
