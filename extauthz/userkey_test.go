package extauthz

import (
	"context"
	"slices"
	"testing"
	"time"

	"portcullis/cache"
	"portcullis/internal/store"
	"portcullis/policy"
)

func apiKey(key string) map[string]string { return map[string]string{"x-api-key": key} }

func (g *gate) tenant(name string) store.Tenant {
	g.Helper()
	t, err := g.store.TenantByName(context.Background(), name)
	g.must(err)
	return t
}

// strict sets whether a tenant's users need an API key, and waits for the gate.
func (g *gate) strict(tenant string, on bool) {
	g.Helper()
	r, err := g.store.SetStrictUsers(context.Background(), store.Actor{Name: "test"}, g.tenant(tenant).ID, on)
	g.must(err)
	g.applied(r)
}

func (g *gate) revokeAPIKey(key store.UserKey) {
	g.Helper()
	r, err := g.store.RevokeUserKey(context.Background(), store.Actor{Name: "test"}, key.Tenant, key.User, key.ID)
	g.must(err)
	g.applied(r)
}

func TestAPIKeyIsItsUser(t *testing.T) {
	g := newGate(t, nil)
	for name, headers := range map[string]map[string]string{
		"x-api-key":           apiKey(g.apiKey["default/ann"]),
		"Bearer":              bearer(g.apiKey["default/ann"]),
		"beside a client key": with(apiKey(g.apiKey["default/ann"]), "x-client-key", g.keys["default/idle"]),
	} {
		got := asserted(g.ask(request{path: "/posts/1", method: "PUT", headers: headers}))
		if got["x-auth-subject"] != "ann" || got["x-auth-kind"] != "user" || got["x-auth-tenant"] != "default" || got["x-auth-roles"] != "editor,viewer" {
			t.Errorf("%s: got %v", name, got)
		}
	}
	g.expect("missing_permission", request{path: "/posts/1", method: "PUT", headers: apiKey(g.apiKey["default/bob"])})
	g.expect("ok", request{path: "/everyone", headers: apiKey(g.apiKey["globex/gil"])})
}

// An API key stays behind on every allow, in whichever header it came and
// whatever the rule forwards.
func TestAPIKeyNeverGoesUpstream(t *testing.T) {
	g := newGate(t, nil)
	for _, path := range []string{"/posts/1", "/files/a", "/me", "/healthz", "/legacy/login"} {
		for _, headers := range []map[string]string{apiKey(g.apiKey["default/ann"]), bearer(g.apiKey["default/ann"])} {
			removed := g.ask(request{path: path, headers: headers}).GetOkResponse().GetHeadersToRemove()
			for name := range headers {
				if !slices.Contains(removed, name) {
					t.Errorf("%s: %s is left on the request: removed are %v", path, name, removed)
				}
			}
		}
	}
}

func TestAPIKeyIsRevokedAndExpires(t *testing.T) {
	g := newGate(t, nil)
	def := g.tenant("default")
	hers, made := g.newAPIKey(def.ID, "ann", time.Time{})
	r := request{path: "/posts/1", headers: apiKey(hers)}
	g.warm("ok", r)
	g.revokeAPIKey(made)
	g.expect("bad_key", r)
	g.expect("ok", request{path: "/posts/1", headers: apiKey(g.apiKey["default/ann"])})

	hers, _ = g.newAPIKey(def.ID, "ann", time.Now().Add(40*time.Second))
	r = request{path: "/posts/1", headers: apiKey(hers)}
	g.warm("ok", r)
	g.clock.ahead.Store(int64(41 * time.Second))
	g.expect("expired", r)
}

func TestJunkAPIKeysCostNoLoad(t *testing.T) {
	g := newGate(t, nil)
	g.expect("ok", request{path: "/posts/1", headers: apiKey(g.apiKey["default/ann"])})
	before := g.store.loads.Load()
	for c := byte('0'); c <= '9'; c++ {
		g.expect("bad_key", request{path: "/posts/1", headers: apiKey("rak_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef" + string(c))})
	}
	if n := g.store.loads.Load() - before; n > 0 {
		t.Errorf("ten junk keys cost %d loads", n)
	}
	g.store.away.Store(true)
	g.expect("bad_key", request{path: "/posts/1", headers: apiKey("rak_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg")})
	g.expect("fault: store_unavailable", request{path: "/posts/1", headers: apiKey(g.apiKey["default/bob"])})
}

func TestAPIKeyOfATenantThatIsNotServed(t *testing.T) {
	g := bareGate(t, nil, func(cfg *cache.Config) { cfg.Tenants = []string{"default"} })
	g.run()
	g.expect("wrong_tenant", request{path: "/everyone", headers: apiKey(g.apiKey["globex/gil"])})
	g.expect("conflicting_credentials", request{path: "/everyone", headers: with(bearer(g.token("ann")), "x-api-key", g.apiKey["globex/gil"])})
	g.expect("conflicting_credentials", request{path: "/everyone", headers: with(apiKey(g.apiKey["default/ann"]), "x-client-key", g.keys["globex/ci"])})
	g.expect("ok", request{path: "/everyone", headers: apiKey(g.apiKey["default/ann"])})
}

// A strict tenant's users do nothing without an active API key, whatever proves
// who they are and whatever the rule asks for.
func TestStrictTenant(t *testing.T) {
	g := newGate(t, nil)
	g.must(func() error {
		_, err := g.store.AddMember(context.Background(), store.Actor{Name: "test"}, g.tenant("default").ID, policy.KindUser, "kay", "viewer", time.Time{})
		return err
	}())
	kay, me := request{path: "/posts/1", headers: bearer(g.token("kay"))}, request{path: "/me", headers: bearer(g.token("kay"))}
	g.await(func() bool { return g.verdict(kay) == "ok" })
	g.expect("ok", me)

	g.strict("default", true)
	g.expect("not_key_backed", kay)
	g.expect("not_key_backed", me)
	g.expect("not_key_backed", request{path: "/me", headers: bearer(g.token("nobody"))})
	g.expect("ok", request{path: "/healthz", headers: kay.headers})
	g.expect("wrong_tenant", request{path: "/posts/1", headers: bearer(g.token("globex/gil"))})
	g.expect("ok", request{path: "/partner/x", headers: bearer(g.token("globex/gil"))}) // the other tenant is not strict
	g.expect("ok", request{path: "/posts/1", headers: bearer(g.token("ann"))})
	g.expect("ok", request{path: "/posts/1", headers: clientKey(g.keys["default/ci"])})
	g.expect("missing_permission", request{path: "/posts/1", headers: clientKey(g.keys["default/idle"])})

	// A key backs its user at once, in whatever the user comes with; only its own.
	def := g.tenant("default").ID
	_, other := g.newAPIKey(g.tenant("globex").ID, "kay", time.Time{})
	g.expect("not_key_backed", kay)
	hers, made := g.newAPIKey(def, "kay", time.Time{})
	g.warm("ok", kay)
	g.expect("ok", me)
	g.expect("ok", request{path: "/posts/1", headers: apiKey(hers)})
	g.revokeAPIKey(other)
	g.expect("ok", kay)
	g.revokeAPIKey(made)
	g.expect("not_key_backed", kay)
	g.expect("not_key_backed", me)
	g.expect("bad_key", request{path: "/posts/1", headers: apiKey(hers)})

	// Until the last of them expires, checked on every hit.
	g.newAPIKey(def, "kay", time.Now().Add(30*time.Second))
	g.newAPIKey(def, "kay", time.Now().Add(50*time.Second))
	g.warm("ok", kay)
	g.clock.ahead.Store(int64(40 * time.Second))
	g.expect("ok", kay)
	g.clock.ahead.Store(int64(51 * time.Second))
	g.expect("not_key_backed", kay)

	g.strict("default", false)
	g.expect("ok", kay)
}

// Where the store is away, a strict tenant's user is not waved through under a
// rule that asks for no role; others are.
func TestStrictTenantWithoutTheStore(t *testing.T) {
	g := newGate(t, nil)
	g.strict("globex", true)
	g.expect("ok", request{path: "/everyone", headers: clientKey(g.keys["globex/ci"])}) // its key and its roles are in memory
	g.store.away.Store(true)
	g.expect("fault: store_unavailable", request{path: "/everyone", headers: bearer(g.token("globex/gil"))})
	g.expect("ok", request{path: "/everyone", headers: bearer(g.token("bob"))})
	g.warm("ok", request{path: "/everyone", headers: clientKey(g.keys["globex/ci"])})
}
