package extauthz

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"portcullis/cache"
	"portcullis/internal/decisionlog"
	"portcullis/policy"
)

// ContextExtensions says what Envoy's context_extensions, set by whoever writes
// Envoy's routes, may do to a decision. The zero value is invalid.
type ContextExtensions string

// What the keys `permission` and `rule` of context_extensions do.
const (
	ContextExtensionsNarrow  ContextExtensions = "narrow"  // the path rule and what they name must both allow
	ContextExtensionsReplace ContextExtensions = "replace" // what they name stands in for the path rule
	ContextExtensionsIgnore  ContextExtensions = "ignore"  // nothing
)

// Faults says how the gate answers when it could not decide. The zero value is
// invalid.
type Faults string

// The answers to a fault.
const (
	FaultsErrorResponse Faults = "error_response" // ext_authz's error_response, for Envoy 1.37 and later
	FaultsUnavailable   Faults = "unavailable"    // a gRPC error, for every Envoy
)

// DecisionLog takes decisions. *decisionlog.Log is one. Both methods must be quick
// and safe for concurrent use; Log must not keep the record.
type DecisionLog interface {
	Wants(policy.Effect) bool
	Log(*decisionlog.Record)
}

// Config is what a Core is made of.
type Config struct {
	Cache *cache.Cache // required

	ContextExtensions ContextExtensions // "" is narrow
	Faults            Faults            // "" is error_response

	Log        DecisionLog           // nil: decisions are not logged
	Registerer prometheus.Registerer // nil: metrics are kept but not exported
	Logger     *slog.Logger          // hears of panics; nil: discards
}

// Core is the gate without a transport: from the bytes of a CheckRequest to the
// bytes of a CheckResponse. All methods are safe for concurrent use.
type Core struct {
	cache      *cache.Cache
	extensions ContextExtensions
	faults     Faults
	log        DecisionLog
	logger     *slog.Logger

	parser    *parser
	responder *responder
	metrics   *metrics
	lastWord  []byte    // a denial that was written in advance, should writing panic
	checks    sync.Pool // of *check
}

// New makes a Core. An invalid Config is an error that names the field.
func New(cfg Config) (*Core, error) {
	if cfg.Cache == nil {
		return nil, errors.New("extauthz: Cache is required")
	}
	switch cfg.ContextExtensions {
	case "":
		cfg.ContextExtensions = ContextExtensionsNarrow
	case ContextExtensionsNarrow, ContextExtensionsReplace, ContextExtensionsIgnore:
	default:
		return nil, fmt.Errorf("extauthz: ContextExtensions is %q: want narrow, replace or ignore", cfg.ContextExtensions)
	}
	switch cfg.Faults {
	case "":
		cfg.Faults = FaultsErrorResponse
	case FaultsErrorResponse, FaultsUnavailable:
	default:
		return nil, fmt.Errorf("extauthz: Faults is %q: want error_response or unavailable", cfg.Faults)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	p, err := newParser()
	if err != nil {
		return nil, fmt.Errorf("extauthz: %w", err)
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("extauthz: %w", err)
	}
	c := &Core{
		cache: cfg.Cache, extensions: cfg.ContextExtensions, faults: cfg.Faults, log: cfg.Log, logger: cfg.Logger,
		parser: p, responder: newResponder(), metrics: m,
	}
	c.lastWord = c.responder.respond(nil, &answer{id: newDecisionID(), reason: policy.ReasonInternal})
	c.checks.New = func() any { return new(check) }
	return c, nil
}

// FaultError is a fault that is answered by a gRPC error, as FaultsUnavailable asks.
type FaultError struct {
	Reason policy.Reason
}

// Error says which fault it was.
func (e *FaultError) Error() string { return "the gate cannot decide: " + e.Reason.String() }

// Check decides one CheckRequest and appends the CheckResponse to dst. It returns
// within the cache's budget, and allocates nothing on a warm path when dst has
// room. req is neither changed nor kept.
//
// The error is ErrNotCheckRequest, or a *FaultError under FaultsUnavailable; dst
// then comes back as it was. Both must reach Envoy as gRPC errors. Everything
// else, a panic in the gate included, is an explicit verdict in the response.
func (c *Core) Check(dst, req []byte) ([]byte, error) {
	k := c.checks.Get().(*check)
	k.begin(c.cache.Now())
	sound := c.decide(k, req)
	resp, written := c.write(dst, k)
	sound = (!sound || c.shadow(k)) && sound
	sound = c.observe(k) && sound && written
	err := k.err
	if sound {
		k.release()
		c.checks.Put(k)
	}
	return resp, err
}

// decide fills the check's answer. It reports whether it went without a panic.
func (c *Core) decide(k *check, req []byte) (sound bool) {
	defer func() {
		if !sound {
			c.panicked("decide", recover())
			k.answer = answer{id: k.answer.id, reason: policy.ReasonInternal, grpc: k.received.grpc}
			k.err = nil
		}
	}()
	k.err = c.judge(k, req)
	if c.faults == FaultsUnavailable && k.answer.reason.Effect() == policy.Fault {
		k.err = &FaultError{Reason: k.answer.reason}
	}
	return true
}

// write appends the response. Where writing panics, it is a denial that was written
// in advance.
func (c *Core) write(dst []byte, k *check) (resp []byte, sound bool) {
	if k.err != nil {
		return dst, true
	}
	defer func() {
		if !sound {
			c.panicked("respond", recover())
			k.answer = answer{id: k.answer.id, reason: policy.ReasonInternal}
			resp = append(dst, c.lastWord...)
		}
	}()
	return c.responder.respond(dst, &k.answer), true
}

// observe counts and logs the decision. A panic here changes no verdict.
func (c *Core) observe(k *check) (sound bool) {
	defer func() {
		if !sound {
			c.panicked("observe", recover())
		}
	}()
	if k.err == ErrNotCheckRequest {
		c.metrics.malformed.Inc()
		return true
	}
	elapsed := c.cache.Now().Mono - k.now.Mono
	c.metrics.observe(k, elapsed)
	if c.log != nil && c.wantsLine(k) {
		c.log.Log(k.record(elapsed))
	}
	return true
}

// panicked counts and logs a panic. The stack names places in the program and
// holds no request data.
func (c *Core) panicked(where string, value any) {
	c.metrics.panics.Inc()
	c.logger.Error("panic in a check", "where", where, "panic", fmt.Sprint(value), "stack", string(debug.Stack()))
}
