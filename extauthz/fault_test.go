package extauthz

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"portcullis/cache"
	"portcullis/internal/store"
	"portcullis/policy"
)

func TestBeforeTheFirstLoad(t *testing.T) {
	g := bareGate(t, nil, nil)
	g.expect("fault: no_snapshot", request{path: "/posts/1", headers: bearer(g.token("ann"))})
	g.expect("fault: no_snapshot", request{path: "/healthz"})
	// What the request is to blame for is denied all the same.
	g.expect("ambiguous_request", request{path: "/a/../b"})
	g.expect("too_large", request{path: "/healthz", headers: with(nil, "x", string(make([]byte, 1<<20)))})
}

func TestStoreAway(t *testing.T) {
	g := newGate(t, nil)
	bob := request{path: "/posts/1", headers: bearer(g.token("bob"))}
	g.warm("ok", bob)
	g.store.away.Store(true)
	g.expect("ok", bob)
	g.expect("missing_permission", request{path: "/posts/1", method: "PUT", headers: bob.headers})

	// Cold: only what needs the store faults.
	g.expect("fault: store_unavailable", request{path: "/posts/1", headers: bearer(g.token("ann"))})
	g.expect("fault: store_unavailable", request{path: "/posts/1", headers: clientKey(g.keys["default/ci"])})
	g.expect("fault: store_unavailable", request{path: "/me", headers: clientKey(g.keys["default/ci"])})
	g.expect("ok", request{path: "/healthz"})
	g.expect("ok", request{path: "/me", headers: bearer(g.token("ann"))})
	for want, r := range map[string]request{
		"missing_credential":      {path: "/posts/1"},
		"invalid_token":           {path: "/posts/1", headers: bearer("a.b.c")},
		"bad_key":                 {path: "/posts/1", headers: clientKey("12345678-1234-4123-8123-123456789abc")},
		"conflicting_credentials": {path: "/posts/1", headers: bearer("a,b")},
		"no_rule":                 {path: "/nowhere", headers: bearer(g.token("ann"))},
		"wrong_tenant":            {path: "/posts/1", headers: bearer(g.token("globex/gil"))},
	} {
		g.expect(want, r)
	}
	if headers := asserted(g.ask(request{path: "/me", headers: bearer(g.token("ann"))})); headers["x-auth-roles"] != "" || headers["x-auth-roles-omitted"] != "true" || headers["x-auth-subject"] != "ann" {
		t.Errorf("roles that could not be learned: %v", headers)
	}

	g.store.away.Store(false)
	g.expect("ok", request{path: "/posts/1", headers: bearer(g.token("ann"))})
}

func TestStoreThatHangsIsGivenUpInTime(t *testing.T) {
	g := newGate(t, nil)
	g.warm("ok", request{path: "/posts/1", headers: bearer(g.token("bob"))})
	g.store.hangs.Store(true)
	defer g.store.hangs.Store(false)
	for _, r := range []request{{path: "/posts/1", headers: bearer(g.token("ann"))}, {path: "/posts/1", headers: clientKey(g.keys["default/ci"])}} {
		began := time.Now()
		g.expect("fault: store_unavailable", r)
		// The budget is 150 ms and Envoy waits 250; the rest is for a slow machine.
		if took := time.Since(began); took > time.Second {
			t.Errorf("the verdict took %v", took)
		}
	}
}

func TestStale(t *testing.T) {
	g := newGate(t, nil)
	bob, key := bearer(g.token("bob")), clientKey(g.keys["default/ci"])
	g.warm("ok", request{path: "/posts/1", headers: bob})
	g.warm("ok", request{path: "/posts/1", headers: key})
	g.store.away.Store(true)
	g.clock.ahead.Store(int64(119 * time.Second))
	g.expect("ok", request{path: "/posts/1", headers: bob})
	g.clock.ahead.Store(int64(130 * time.Second))
	for _, headers := range []map[string]string{bob, key} {
		g.expect("fault: stale", request{path: "/posts/1", headers: headers})
		g.expect("fault: stale", request{path: "/me", headers: headers})
	}
	g.expect("ok", request{path: "/healthz", headers: bob})
	g.expect("missing_credential", request{path: "/posts/1"})
	g.expect("invalid_token", request{path: "/posts/1", headers: bearer("a.b.c")})
	g.expect("no_rule", request{path: "/nowhere", headers: bob})

	g.store.away.Store(false)
	g.await(func() bool { return g.verdict(request{path: "/posts/1", headers: bob}) == "ok" })
}

func TestFaultsAsGRPCErrors(t *testing.T) {
	g := newGate(t, func(cfg *Config) { cfg.Faults = FaultsUnavailable })
	g.store.away.Store(true)
	req := marshal(t, request{path: "/posts/1", headers: bearer(g.token("ann"))}.message())
	b, err := g.core.Check([]byte("kept"), req)
	var fault *FaultError
	if !errors.As(err, &fault) || fault.Reason != policy.ReasonStoreUnavailable || string(b) != "kept" {
		t.Errorf("got %q, %v", b, err)
	}
	g.expect("missing_credential", request{path: "/posts/1"})
	g.expect("ok", request{path: "/healthz"})
}

// No request may end in a fault while the gate is well: a fault is what
// failure_mode_allow turns into an allow.
func TestNoRequestCausesAFault(t *testing.T) {
	g := newGate(t, nil)
	for name, req := range crafted(t) {
		b, err := g.core.Check(nil, req)
		if err == ErrNotCheckRequest {
			continue
		}
		g.must(err)
		if response := read(t, b); response.GetErrorResponse() != nil {
			t.Errorf("%s: %v", name, response)
		}
	}
}

// A store that is ahead of the snapshot makes the check catch up and start over.
func TestCheckCatchesUpWithTheStore(t *testing.T) {
	g := bareGate(t, nil, func(cfg *cache.Config) { cfg.Poll = time.Hour })
	g.store.deaf.Store(true)
	g.run()
	ctx, by := context.Background(), store.Actor{Name: "test"}
	def, err := g.store.TenantByName(ctx, store.DefaultTenant)
	g.must(err)
	_, err = g.store.AddMember(ctx, by, def.ID, policy.KindUser, "eve", "viewer", time.Time{})
	g.must(err)
	if got, at := g.cache.Applied(), g.cache.Snapshot().Revision.Number; got != at {
		t.Fatalf("applied %d at revision %d", got, at)
	}
	before := g.cache.Applied()
	g.expect("ok", request{path: "/posts/1", headers: bearer(g.token("eve"))})
	if got := testutil.ToFloat64(g.core.metrics.retakes); got != 1 {
		t.Errorf("%v retakes", got)
	}
	if g.cache.Applied() <= before {
		t.Error("the cache did not catch up")
	}

	// So does one whose rule asks for no role: they are asserted all the same.
	_, err = g.store.AddMember(ctx, by, def.ID, policy.KindUser, "gus", "viewer", time.Time{})
	g.must(err)
	if headers := asserted(g.ask(request{path: "/me", headers: bearer(g.token("gus"))})); headers["x-auth-roles"] != "viewer" {
		t.Errorf("gus: %v", headers)
	}

	// Where it cannot catch up, that is a fault, once and in time.
	_, err = g.store.AddMember(ctx, by, def.ID, policy.KindUser, "fay", "viewer", time.Time{})
	g.must(err)
	g.store.mute.Store(true)
	g.expect("fault: store_unavailable", request{path: "/posts/1", headers: bearer(g.token("fay"))})
	g.expect("ok", request{path: "/me", headers: bearer(g.token("fay"))})
	g.store.mute.Store(false)
	g.expect("ok", request{path: "/posts/1", headers: bearer(g.token("fay"))})
}

// A stream of writes does not starve a check: what it loaded is good once it has
// caught up, unless the write was about its own caller.
func TestStoreThatIsAlwaysAhead(t *testing.T) {
	g := bareGate(t, nil, func(cfg *cache.Config) { cfg.Poll, cfg.Budget = time.Hour, 10*time.Second })
	g.store.deaf.Store(true)
	g.run()
	ctx, by := context.Background(), store.Actor{Name: "test"}
	def, err := g.store.TenantByName(ctx, store.DefaultTenant)
	g.must(err)
	loads, whose := 0, ""
	write := func() {
		loads++
		id := whose
		if id == "" {
			id = "someone" + itoa(int64(loads))
		}
		if _, err := g.store.AddMember(ctx, by, def.ID, policy.KindUser, id, "viewer", time.Time{}); err != nil {
			t.Error(err)
		}
	}
	g.store.beforeGrant.Store(&write)
	g.expect("ok", request{path: "/posts/1", headers: bearer(g.token("bob"))})
	if loads > 2 {
		t.Errorf("%d loads", loads)
	}
	loads, whose = 0, "ann"
	response := g.ask(request{path: "/me", headers: bearer(g.token("ann"))})
	if got := g.verdictOf(response); got != "ok" {
		t.Errorf("got %s, %v", got, asserted(response))
	}
	if loads > maxAttempts {
		t.Errorf("%d loads", loads)
	}
}
