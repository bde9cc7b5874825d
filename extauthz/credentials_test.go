package extauthz

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

func TestTenantsAreApart(t *testing.T) {
	g := newGate(t, nil)
	gil, ned, nobody := bearer(g.token("globex/gil")), bearer(g.token("t-new/ned")), bearer(g.token("nosuch/ann"))
	g.expect("ok", request{path: "/partner/x", headers: gil})
	g.expect("ok", request{path: "/everyone", headers: gil})
	// Its viewer role has a permission of the same name.
	g.expect("wrong_tenant", request{path: "/posts/1", headers: gil})
	g.expect("wrong_tenant", request{path: "/me", headers: gil})
	for _, headers := range []map[string]string{ned, nobody, clientKey(g.keys["t-new/ci"])} {
		g.expect("wrong_tenant", request{path: "/everyone", headers: headers})
		g.expect("wrong_tenant", request{path: "/posts/1", headers: headers})
	}
	g.expect("ok", request{path: "/healthz", headers: ned})
	// A user called like a client is not that client.
	g.expect("missing_permission", request{path: "/posts/1", headers: bearer(g.token("ci"))})
	g.expect("ok", request{path: "/posts/1", headers: clientKey(g.keys["default/ci"])})
}

func TestCredentials(t *testing.T) {
	g := newGate(t, nil)
	key, other, foreign := g.keys["default/ci"], g.keys["default/idle"], g.keys["globex/ci"]
	ann := "Bearer " + g.token("ann")
	old := g.tokenOf(policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "ann"}, time.Second)
	annsKey := g.apiKey["default/ann"]
	asClient := "Bearer " + g.tokenOf(policy.Principal{Tenant: "default", Kind: policy.KindClient, ID: "ci"}, time.Hour)
	workload := g.tokenOf(policy.Principal{Tenant: "default", Kind: policy.KindWorkload, ID: "ann"}, time.Hour)
	for _, c := range []struct {
		want    string
		headers map[string]string
	}{
		{"ok", map[string]string{"authorization": ann}},
		{"ok", map[string]string{"Authorization": ann}},
		{"ok", map[string]string{"authorization": "bearer " + ann[7:]}},
		{"ok", map[string]string{"x-client-key": key}},
		{"ok", map[string]string{"x-client-key": strings.ToUpper(key)}},
		{"ok", map[string]string{"authorization": ann, "x-client-key": key}},
		{"ok", map[string]string{"authorization": ann, "x-client-key": other}},
		{"missing_permission", map[string]string{"x-client-key": other}},
		{"conflicting_credentials", map[string]string{"authorization": ann, "x-client-key": foreign}},
		{"conflicting_credentials", map[string]string{"authorization": ann, "Authorization": ann}},
		{"conflicting_credentials", map[string]string{"authorization": ann + "," + ann}},
		{"conflicting_credentials", map[string]string{"authorization": ann + ", Basic YTpi"}},
		{"conflicting_credentials", map[string]string{"x-client-key": key + "," + key}},
		{"conflicting_credentials", map[string]string{"authorization": "Bearer rak_x", "x-api-key": "rak_y"}},
		{"bad_key", map[string]string{"x-client-key": "12345678-1234-4123-8123-123456789abc"}},
		{"bad_key", map[string]string{"x-client-key": "secret"}},
		{"bad_key", map[string]string{"x-client-key": ""}},
		{"bad_key", map[string]string{"authorization": ann, "x-client-key": "12345678-1234-4123-8123-123456789abc"}},
		{"bad_key", map[string]string{"x-api-key": "rak_0123456789"}},
		{"bad_key", map[string]string{"authorization": "Bearer rak_0123456789"}},
		{"bad_key", map[string]string{"authorization": ann, "x-api-key": "rak_0123456789"}},
		{"invalid_token", map[string]string{"authorization": "Bearer a.b.c"}},
		{"invalid_token", map[string]string{"authorization": ann + "x"}},
		{"invalid_token", map[string]string{"authorization": "Basic YTpi"}},
		{"invalid_token", map[string]string{"authorization": "Bearer"}},
		{"invalid_token", map[string]string{"authorization": ""}},
		{"invalid_token", map[string]string{"authorization": "Bearer a.b.c", "x-client-key": key}},
		{"invalid_token", map[string]string{"authorization": "Bearer " + workload}},
		{"ok", map[string]string{"x-api-key": annsKey}},
		{"ok", map[string]string{"X-API-Key": annsKey}},
		{"ok", map[string]string{"authorization": "Bearer " + annsKey}},
		{"ok", map[string]string{"authorization": "bearer " + annsKey}},
		{"ok", map[string]string{"authorization": ann, "x-api-key": annsKey}},
		{"ok", map[string]string{"x-client-key": key, "x-api-key": annsKey}},
		{"ok", map[string]string{"x-client-key": other, "authorization": "Bearer " + annsKey}},
		{"ok", map[string]string{"authorization": ann, "x-client-key": key, "x-api-key": annsKey}},
		{"missing_permission", map[string]string{"x-api-key": g.apiKey["default/ci"]}}, // a user called like a client
		{"wrong_tenant", map[string]string{"x-api-key": g.apiKey["globex/gil"]}},
		{"wrong_tenant", map[string]string{"x-api-key": g.apiKey["t-new/ned"]}},
		{"conflicting_credentials", map[string]string{"authorization": ann, "x-api-key": g.apiKey["default/bob"]}},
		{"conflicting_credentials", map[string]string{"authorization": ann, "x-api-key": g.apiKey["globex/ann"]}},
		{"conflicting_credentials", map[string]string{"authorization": asClient, "x-api-key": g.apiKey["default/ci"]}},
		{"conflicting_credentials", map[string]string{"x-client-key": foreign, "x-api-key": annsKey}},
		{"conflicting_credentials", map[string]string{"authorization": ann, "x-client-key": foreign, "x-api-key": annsKey}},
		{"conflicting_credentials", map[string]string{"authorization": "Bearer " + annsKey, "x-api-key": annsKey}},
		{"conflicting_credentials", map[string]string{"x-api-key": annsKey + "," + annsKey}},
		{"conflicting_credentials", map[string]string{"x-api-key": annsKey, "X-Api-Key": annsKey}},
		{"invalid_token", map[string]string{"authorization": "Bearer a.b.c", "x-api-key": annsKey}},
		{"invalid_token", map[string]string{"authorization": "Basic " + annsKey}},
		{"bad_key", map[string]string{"authorization": ann, "x-api-key": "rak_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg"}},
		{"bad_key", map[string]string{"x-api-key": annsKey + " "}},
		{"bad_key", map[string]string{"x-api-key": annsKey, "x-client-key": "12345678-1234-4123-8123-123456789abc"}},
		{"bad_key", map[string]string{"x-client-key": annsKey}},
		{"bad_key", map[string]string{"x-api-key": key}},
		{"missing_credential", map[string]string{"cookie": "authorization=" + ann}},
		{"missing_credential", map[string]string{"x_client_key": key}},
		{"missing_credential", map[string]string{"x-forwarded-client-cert": "URI=spiffe://example.org/a"}},
	} {
		if got := g.verdict(request{path: "/posts/1", headers: c.headers}); got != c.want {
			t.Errorf("%v: got %s, want %s", c.headers, got, c.want)
		}
	}
	g.expect("ok", request{path: "/posts/1", headers: bearer(old)})
	g.clock.ahead.Store(int64(32 * time.Second))
	g.expect("expired", request{path: "/posts/1", headers: bearer(old)})
	g.expect("ok", request{path: "/posts/1", headers: bearer(g.token("ann"))})
}

func TestTokensUserIsThePrincipalBesideAKey(t *testing.T) {
	g := newGate(t, nil)
	headers := asserted(g.ask(request{path: "/posts/1", headers: with(bearer(g.token("ann")), "x-client-key", g.keys["default/ci"])}))
	if headers["x-auth-subject"] != "ann" || headers["x-auth-kind"] != "user" {
		t.Errorf("got %v", headers)
	}
}

func TestForwardedCredentials(t *testing.T) {
	g := newGate(t, nil)
	removes := func(r request, name string) bool {
		return slices.Contains(g.ask(r).GetOkResponse().GetHeadersToRemove(), name)
	}
	ann := bearer(g.token("ann"))
	for _, c := range []struct {
		r       request
		removed bool
	}{
		{request{path: "/posts/1", headers: ann}, true},
		{request{path: "/files/a", headers: ann}, false},
		{request{path: "/healthz", headers: ann}, true},
		{request{path: "/legacy/login", headers: ann}, false},
		{request{path: "/legacy/login", headers: map[string]string{"authorization": "Basic YTpi"}}, false},
		{request{path: "/legacy/login", headers: map[string]string{"authorization": "Bearer rak_0123"}}, true},
		{request{path: "/legacy/login", headers: map[string]string{"authorization": "bearer  " + g.keys["default/ci"]}}, true},
		{request{path: "/legacy/login", headers: map[string]string{"authorization": "Basic YTpi", "Authorization": "Bearer rak_0123"}}, true},
		// Envoy joins two lines of Authorization with a comma.
		{request{path: "/legacy/login", headers: map[string]string{"authorization": "Basic YTpi,Bearer rak_0123"}}, true},
		{request{path: "/legacy/login", headers: map[string]string{"authorization": "Basic YTpi, \tbearer " + g.keys["default/ci"] + ",x"}}, true},
		{request{path: "/legacy/login", headers: map[string]string{"authorization": "Basic YTpi,Bearer a.b.c"}}, false},
	} {
		if got := removes(c.r, "authorization"); got != c.removed {
			t.Errorf("%s %v: authorization removed: %v, want %v", c.r.path, c.r.headers, got, c.removed)
		}
		if !removes(c.r, "x-client-key") || !removes(c.r, "x-api-key") || !removes(c.r, "x_client_key") {
			t.Errorf("%s: a key would reach the upstream", c.r.path)
		}
	}
}

func TestRevocationBites(t *testing.T) {
	g := newGate(t, nil)
	ctx, by := context.Background(), store.Actor{Name: "test"}
	def, err := g.store.TenantByName(ctx, store.DefaultTenant)
	g.must(err)
	applied := func(r store.Result, err error) {
		t.Helper()
		g.must(err)
		g.await(func() bool { return g.cache.Applied() >= r.Revision.Number })
	}
	bob := request{path: "/posts/1", headers: bearer(g.token("bob"))}
	g.expect("ok", bob)
	applied(g.store.RemoveMember(ctx, by, def.ID, policy.KindUser, "bob", "viewer"))
	g.expect("missing_permission", bob)
	applied(g.store.AddMember(ctx, by, def.ID, policy.KindUser, "bob", "viewer", time.Now().Add(time.Hour)))
	g.expect("ok", bob)
	applied(g.store.RemovePermission(ctx, by, def.ID, "viewer", "view_content"))
	g.expect("missing_permission", bob)

	key := request{path: "/me", headers: clientKey(g.keys["default/ci"])}
	g.expect("ok", key)
	_, result, err := g.store.RevokeKeys(ctx, by, def.ID, "ci")
	applied(result, err)
	g.expect("bad_key", key)
}

func TestMembershipExpires(t *testing.T) {
	g := newGate(t, nil)
	ctx, by := context.Background(), store.Actor{Name: "test"}
	def, err := g.store.TenantByName(ctx, store.DefaultTenant)
	g.must(err)
	_, err = g.store.AddMember(ctx, by, def.ID, policy.KindUser, "tim", "viewer", time.Now().Add(40*time.Second))
	g.must(err)
	tim := request{path: "/posts/1", headers: bearer(g.token("tim"))}
	g.await(func() bool { return g.verdict(tim) == "ok" })
	g.clock.ahead.Store(int64(41 * time.Second))
	g.expect("missing_permission", tim)
	if headers := asserted(g.ask(request{path: "/me", headers: tim.headers})); headers["x-auth-roles"] != "" {
		t.Errorf("an expired role is asserted: %v", headers)
	}
}
