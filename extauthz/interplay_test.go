package extauthz

import (
	"context"
	"testing"
	"time"

	"portcullis/cache"
	"portcullis/internal/decisionlog"
	"portcullis/internal/identity"
	"portcullis/internal/store"
	"portcullis/policy"
)

// An outside issuer's user is held to what every other user is: the strict tenant, one
// person beside every key, and conditions that see the token's roles.
func TestOutsideUsersBesideTheRest(t *testing.T) {
	p := newIDProvider(t)
	log := &recorder{}
	var verifiers *identity.Verifiers
	rules, err := policy.Compile([]byte(conditionPolicy + `
  - {name: mtls, path: /mtls, allow: authenticated, mtls: true, when: "'editor' in principal.roles"}
workloads:
  - {spiffe: "spiffe://example.org/ns/shop/sa/cart", id: cart}
`))
	if err != nil {
		t.Fatal(err)
	}
	g := bareGate(t, func(cfg *Config) { cfg.Log = log }, func(cfg *cache.Config) {
		own, err := identity.NewVerifier(identity.VerifierConfig{Secret: secret})
		if err != nil {
			t.Fatal(err)
		}
		if verifiers, err = identity.NewVerifiers(identity.VerifiersConfig{Own: own}); err != nil {
			t.Fatal(err)
		}
		verifiers.Apply([]policy.Issuer{p.entry()})
		cfg.Verifier, cfg.Policy = verifiers, rules
	})
	g.run()
	roles := func(path string, headers map[string]string) request { return request{path: path, headers: headers} }
	editor := p.token(t, "eve", "editor")
	for range 3 {
		g.expect("ok", roles("/roles", bearer(editor)))
		g.expect("ok", request{path: "/mtls", headers: bearer(editor), peer: cart})
		g.expect("condition_false", roles("/roles", bearer(p.token(t, "eve"))))
		g.expect("condition_false", roles("/roles", bearer(g.token("eve"))))
		g.expect("condition_false", roles("/roles", clientKey(g.keys["default/ci"])))
		g.expect("condition_false", roles("/roles", apiKey(g.apiKey["default/bob"])))
		g.expect("condition_false", request{path: "/mtls", peer: cart})
	}
	// A shadow rule sees the same caller with the same roles, and the next one its own.
	for _, try := range []struct{ token, shadow string }{
		{p.token(t, "bob", "editor"), "ok"}, {p.token(t, "bob"), "missing_permission"}, {g.token("bob"), "missing_permission"},
	} {
		log.records = nil
		g.expect("ok", roles("/posts/1", bearer(try.token)))
		if got := log.records[0].ShadowReason.String(); got != try.shadow {
			t.Errorf("the shadow says %s, want %s", got, try.shadow)
		}
	}
	// A key beside it is the same user's, or the same tenant's.
	ann, bob := p.token(t, "ann"), p.token(t, "bob")
	g.expect("ok", roles("/roles", with(bearer(ann), "x-api-key", g.apiKey["default/ann"])))
	g.expect("conflicting_credentials", roles("/roles", with(bearer(bob), "x-api-key", g.apiKey["default/ann"])))
	g.expect("conflicting_credentials", roles("/roles", with(bearer(ann), "x-api-key", g.apiKey["globex/ann"])))
	g.expect("ok", roles("/roles", with(bearer(ann), "x-client-key", g.keys["default/ci"])))
	g.expect("conflicting_credentials", roles("/roles", with(bearer(ann), "x-client-key", g.keys["globex/ci"])))
	g.expect("invalid_token", roles("/roles", with(bearer(ann+"x"), "x-api-key", g.apiKey["default/ann"])))

	g.strict("default", true)
	g.expect("ok", roles("/roles", bearer(ann)))
	g.expect("not_key_backed", roles("/roles", bearer(editor)))
	g.expect("condition_false", request{path: "/mtls", peer: cart})
	g.expect("condition_false", roles("/roles", clientKey(g.keys["default/ci"])))
	g.strict("default", false)

	// A reload that maps the roles otherwise, and one that drops the issuer, hold for
	// tokens that are in memory.
	g.warm("ok", roles("/roles", bearer(editor)))
	entry := p.entry()
	entry.RolesMap = map[string]string{"editor": "viewer"}
	verifiers.Apply([]policy.Issuer{entry})
	g.expect("condition_false", roles("/roles", bearer(editor)))
	verifiers.Apply(nil)
	g.expect("invalid_token", roles("/roles", bearer(editor)))
	verifiers.Apply([]policy.Issuer{p.entry()})
	g.await(func() bool { return g.verdict(roles("/roles", bearer(editor))) == "ok" })
}

// A check that takes the snapshot again, and finds the rule anonymous there, has asked
// nobody: its record names no proof.
func TestNoProofOfAFormerAttempt(t *testing.T) {
	log := &recorder{}
	g := newGate(t, func(cfg *Config) { cfg.Log = log })
	g.warm("ok", request{path: "/posts/1", headers: bearer(g.token("ann"))})
	open, err := policy.Compile([]byte("version: 1\nrules:\n  - {name: open, path: '/posts/{id}', allow: anonymous}\n"))
	g.must(err)
	g.store.deaf.Store(true)
	defer g.store.deaf.Store(false)
	def := g.tenant("default")
	write := func() {
		g.cache.SetPolicy(open)
		_, err := g.store.AddMember(context.Background(), store.Actor{Name: "test"}, def.ID, policy.KindUser, "eve", "viewer", time.Time{})
		g.must(err)
	}
	g.store.beforeGrant.Store(&write)
	log.records = nil
	g.expect("ok", request{path: "/posts/1", headers: bearer(g.token("eve"))})
	if rec := log.records[0]; rec.Rule != "open" || rec.Proof != decisionlog.ProofNone || rec.Issuer != "" {
		t.Errorf("got %+v", rec)
	}
}
