package extauthz

import (
	"context"
	"strings"
	"testing"
	"time"

	"portcullis/internal/decisionlog"
	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	cart    = "spiffe://example.org/ns/shop/sa/cart"
	oldCart = "spiffe://old.example.org/cart" // the same caller
	idle    = "spiffe://example.org/ns/shop/sa/idle"
)

func TestWorkloadsByCertificate(t *testing.T) {
	g := patientGate(t, nil)
	for _, c := range []struct {
		want string
		r    request
	}{
		{"ok", request{path: "/stock/1", peer: cart}},
		{"ok", request{path: "/stock/1", peer: oldCart}},
		{"ok", request{path: "/who", peer: idle}},
		{"missing_permission", request{path: "/stock/1", peer: idle}},
		{"missing_permission", request{method: "PUT", path: "/stock/1", peer: cart}},
		{"wrong_tenant", request{path: "/stock/1", peer: "spiffe://example.org/ns/globex/sa/cart"}},
		{"ok", request{path: "/who", peer: "spiffe://example.org/ns/globex/sa/cart"}},
		{"wrong_tenant", request{path: "/who", peer: "spiffe://example.org/ns/lab/sa/new"}},
		{"wrong_tenant", request{path: "/who", peer: "spiffe://example.org/ns/lab/sa/gone"}},

		// Elsewhere a certificate is no credential.
		{"missing_credential", request{path: "/posts/1", peer: cart}},
		{"missing_credential", request{path: "/me", peer: cart}},
		{"ok", request{path: "/healthz", peer: cart}},
		{"no_rule", request{path: "/nowhere", peer: cart}},

		// Every rule must take it, and a permission narrows.
		{"missing_credential", request{path: "/stock/1", peer: cart, extensions: map[string]string{"rule": "read-post"}}},
		{"ok", request{path: "/stock/1", peer: cart, extensions: map[string]string{"rule": "who"}}},
		{"missing_permission", request{path: "/who", peer: cart, extensions: map[string]string{"rule": "restock"}}},
		{"missing_permission", request{path: "/stock/1", peer: cart, extensions: map[string]string{"permission": "edit_content"}}},
		{"missing_credential", request{path: "/healthz", peer: cart, extensions: map[string]string{"permission": "view_content"}}},
		{"ok", request{path: "/healthz", peer: cart, extensions: map[string]string{"rule": "stock"}}},
	} {
		g.expect(c.want, c.r)
	}
	// A workload is not the user or client of its name, nor they it.
	g.expect("missing_permission", request{path: "/stock/1", headers: bearer(g.token("cart"))})
	g.expect("missing_permission", request{path: "/stock/1", headers: clientKey(g.keys["default/idle"])})
}

func TestOnlyTheExactSPIFFEIDMatches(t *testing.T) {
	g := patientGate(t, nil)
	for _, peer := range []string{
		"", "cart", "cart.shop.example.org", "example.org/ns/shop/sa/cart", "CN=cart,O=shop", "CN=" + cart, "DNS:" + cart, "URI:" + cart,
		"spiffe://example.org/ns/shop/sa/unknown", "spiffe://example.com/ns/shop/sa/cart", "SPIFFE://example.org/ns/shop/sa/cart",
		"spiffe://EXAMPLE.org/ns/shop/sa/cart", "spiffe://example.org/ns/shop/sa/Cart", cart + "/", cart + "/x", cart[:len(cart)-1], " " + cart, cart + " ",
		cart + "?x=y", cart + "#x", cart + "," + cart, idle + "," + cart, "spiffe://example.org:443/ns/shop/sa/cart", "spiffe://example.org//ns/shop/sa/cart",
		"spiffe://example.org/ns/shop/sa/%63art", "https://example.org/ns/shop/sa/cart", cart + "\x00", strings.Repeat(cart, 100),
	} {
		g.expect("missing_credential", request{path: "/stock/1", peer: peer})
		g.expect("missing_credential", request{path: "/who", peer: peer})
	}
	// Nothing that a client sends stands in for the connection's certificate.
	for _, headers := range []map[string]string{
		{"x-forwarded-client-cert": "By=x;URI=" + cart}, {"x-forwarded-client-cert": "URI=" + cart, "x-auth-kind": "workload", "x-auth-subject": "cart"},
		{"x-envoy-downstream-service-cluster": cart}, {"x-spiffe-id": cart},
	} {
		g.expect("missing_credential", request{path: "/stock/1", headers: headers})
		g.expect("missing_credential", request{path: "/stock/1", headers: headers, peer: "cart.shop.example.org"})
		if got := asserted(g.ask(request{path: "/stock/1", headers: with(headers, "x-forwarded-client-cert", "URI="+idle), peer: cart})); got["x-auth-subject"] != "cart" {
			t.Errorf("%v: the upstream is told of %v", headers, got)
		}
	}
}

// Beside another credential, good or bad, the certificate decides nothing.
func TestCertificateBesideACredential(t *testing.T) {
	g := patientGate(t, nil)
	for _, peer := range []string{cart, idle, "cart.shop.example.org", "spiffe://example.org/ns/globex/sa/cart"} {
		for want, r := range map[string]request{
			"ok":                      {path: "/stock/1", headers: bearer(g.token("bob"))},
			"missing_permission":      {path: "/stock/1", headers: bearer(g.token("eve"))},
			"wrong_tenant":            {path: "/stock/1", headers: bearer(g.token("globex/gil"))},
			"invalid_token":           {path: "/stock/1", headers: bearer("a.b.c")},
			"bad_key":                 {path: "/stock/1", headers: clientKey("")},
			"conflicting_credentials": {path: "/stock/1", headers: bearer("a,b")},
		} {
			r.peer = peer
			g.expect(want, r)
		}
		g.expect("invalid_token", request{path: "/stock/1", peer: peer, headers: map[string]string{"authorization": ""}})
		g.expect("invalid_token", request{path: "/stock/1", peer: peer, headers: map[string]string{"authorization": "Basic YTpi"}})
		g.expect("bad_key", request{path: "/stock/1", peer: peer, headers: map[string]string{"x-api-key": ""}})
		g.expect("ok", request{path: "/posts/1", peer: peer, headers: clientKey(g.keys["default/ci"])})
		got := asserted(g.ask(request{path: "/stock/1", peer: peer, headers: bearer(g.token("bob"))}))
		if got["x-auth-subject"] != "bob" || got["x-auth-kind"] != "user" {
			t.Errorf("beside %s the user is %v", peer, got)
		}
	}
	// A token cannot speak for a workload, certificate or not.
	workload := g.tokenOf(policy.Principal{Tenant: "default", Kind: policy.KindWorkload, ID: "cart"}, time.Hour)
	g.expect("invalid_token", request{path: "/stock/1", peer: cart, headers: bearer(workload)})
}

func TestWorkloadIsAssertedAndRecorded(t *testing.T) {
	log := &recorder{}
	g := patientGate(t, func(cfg *Config) { cfg.Log = log })
	for _, c := range []struct {
		r                  request
		principal          policy.Principal
		proof              decisionlog.Proof
		spiffe, actor      string
		actorIsInMetadata  bool
		subjectIsInHeaders string
	}{
		{request{path: "/stock/1", peer: cart}, policy.Principal{Tenant: "default", Kind: policy.KindWorkload, ID: "cart"},
			decisionlog.ProofMTLS, cart, "", false, "cart"},
		{request{path: "/stock/1", peer: cart, headers: bearer(g.token("bob"))}, policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "bob"},
			decisionlog.ProofJWT, "", cart, true, "bob"},
		{request{path: "/stock/1", peer: "proxy.shop", headers: clientKey(g.keys["default/ci"])}, policy.Principal{Tenant: "default", Kind: policy.KindClient, ID: "ci"},
			decisionlog.ProofClientKey, "", "proxy.shop", true, "ci"},
		{request{path: "/posts/1", peer: cart}, policy.Principal{}, decisionlog.ProofNone, "", cart, true, ""},
		{request{path: "/stock/1", peer: "CN=x"}, policy.Principal{}, decisionlog.ProofNone, "", "CN=x", true, ""},
		{request{path: "/a/../b", peer: cart}, policy.Principal{}, decisionlog.ProofNone, "", cart, true, ""},
		// An anonymous rule asserts no identity; the log says who came all the same.
		{request{path: "/healthz", peer: cart}, policy.Principal{}, decisionlog.ProofNone, "", cart, false, ""},
		{request{path: "/posts/1", headers: bearer(g.token("bob"))}, policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "bob"},
			decisionlog.ProofJWT, "", "", false, "bob"},
	} {
		log.records = nil
		response := g.ask(c.r)
		rec := log.records[0]
		if rec.Principal != c.principal || rec.Proof != c.proof || rec.SPIFFE != c.spiffe || rec.Actor != c.actor {
			t.Errorf("%+v: logged as %+v", c.r, rec)
		}
		fields := response.GetDynamicMetadata().GetFields()
		want := ""
		if c.actorIsInMetadata {
			want = c.actor
		}
		if got := fields["actor"].GetStringValue(); got != want || (fields["actor"] != nil) != c.actorIsInMetadata {
			t.Errorf("%+v: the metadata's actor is %q, want %q", c.r, got, want)
		}
		if got := asserted(response); got["x-auth-subject"] != c.subjectIsInHeaders {
			t.Errorf("%+v: the upstream is told of %v", c.r, got)
		}
	}
	headers := asserted(g.ask(request{path: "/stock/1", peer: oldCart}))
	if headers["x-auth-kind"] != "workload" || headers["x-auth-tenant"] != "default" || headers["x-auth-roles"] != "viewer" {
		t.Errorf("a workload is asserted as %v", headers)
	}
}

func TestWorkloadLosesItsRole(t *testing.T) {
	g := patientGate(t, nil)
	ctx, by := context.Background(), store.Actor{Name: "test"}
	def, err := g.store.TenantByName(ctx, store.DefaultTenant)
	g.must(err)
	g.warm("ok", request{path: "/stock/1", peer: cart})
	done, err := g.store.RemoveMember(ctx, by, def.ID, policy.KindWorkload, "cart", "viewer")
	g.must(err)
	g.await(func() bool { return g.cache.Applied() >= done.Revision.Number })
	g.expect("missing_permission", request{path: "/stock/1", peer: cart})
	g.expect("ok", request{path: "/who", peer: cart})
}

// A workload goes with its entry in the file, and nobody inherits what it held.
func TestWorkloadLosesItsEntry(t *testing.T) {
	g := patientGate(t, nil)
	for _, peer := range []string{cart, oldCart} {
		g.warm("ok", request{path: "/stock/1", peer: peer})
	}
	fewer, err := policy.Compile([]byte(strings.Replace(gatePolicy, `  - {spiffe: "`+cart+`", id: cart}`, "", 1)))
	g.must(err)
	g.cache.SetPolicy(fewer)
	g.expect("missing_credential", request{path: "/who", peer: cart})
	g.expect("ok", request{path: "/stock/1", peer: oldCart})
	// The entry after them stands where one of theirs stood.
	g.expect("missing_permission", request{path: "/stock/1", peer: idle})
}

// A workload falls with the store as everybody does, and who is nobody is told so.
func TestWorkloadsOutOfTouch(t *testing.T) {
	g := patientGate(t, nil)
	g.warm("ok", request{path: "/stock/1", peer: cart})
	g.store.away.Store(true)
	g.expect("ok", request{path: "/stock/1", peer: cart})
	g.expect("fault: store_unavailable", request{path: "/stock/1", peer: idle})
	g.expect("missing_credential", request{path: "/stock/1", peer: "spiffe://example.org/ns/shop/sa/unknown"})
	g.store.mute.Store(true)
	g.clock.ahead.Store(int64(20 * time.Minute))
	g.expect("fault: stale", request{path: "/stock/1", peer: cart})
	g.expect("missing_credential", request{path: "/stock/1", peer: "spiffe://example.org/ns/shop/sa/unknown"})
	g.expect("missing_credential", request{path: "/posts/1", peer: cart})
}
