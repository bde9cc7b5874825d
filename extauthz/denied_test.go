package extauthz

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"portcullis/cache"
	"portcullis/internal/identity"
	"portcullis/internal/store"
	"portcullis/policy"
)

// deny adds an entry to the deny-list and waits for the gate.
func (g *gate) deny(d store.NewDenial) store.Denial {
	g.Helper()
	if d.Expires.IsZero() {
		d.Expires = time.Now().Add(25 * time.Hour)
	}
	made, r, err := g.store.Deny(context.Background(), store.Actor{Name: "test"}, d)
	g.must(err)
	g.applied(r)
	return made
}

func (g *gate) allow(d store.Denial) {
	g.Helper()
	r, err := g.store.Allow(context.Background(), store.Actor{Name: "test"}, d.Tenant, d.ID)
	g.must(err)
	g.applied(r)
}

// ofUser is the entry for all tokens of a user that were issued until now.
func ofUser(tenant store.TenantID, user string) store.NewDenial {
	return store.NewDenial{Kind: store.DenySubject, Tenant: tenant, Value: user, Principal: policy.KindUser, Before: time.Now()}
}

// signed makes a token of these claims and of `exp` in an hour; nil leaves one out.
func (g *gate) signed(header, claims map[string]any) string {
	g.Helper()
	all := jwt.MapClaims{"sub": "ann", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix()}
	for name, value := range claims {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, all)
	for name, value := range header {
		token.Header[name] = value
	}
	text, err := token.SignedString(secret)
	g.must(err)
	return text
}

// Each way of denying refuses the token that it names on every rule that asks for a
// caller, though the token was in memory, and whatever else comes with it; and
// nothing besides. Taking the entry away lets it in again.
func TestDeniedTokens(t *testing.T) {
	g := newGate(t, nil)
	def, globex, began := g.tenant("default").ID, g.tenant("globex").ID, time.Now()
	annsUntilNow := ofUser(def, "ann")
	annsUntilNow.Before = began
	hers := g.signed(map[string]any{"kid": "k1"}, map[string]any{"jti": "j1", "iat": began.Unix()})
	others := map[string]request{
		"her other token":          {path: "/posts/1", headers: bearer(g.signed(map[string]any{"kid": "k2"}, map[string]any{"jti": "j2", "iat": began.Unix() + 20}))},
		"another user's":           {path: "/posts/1", headers: bearer(g.signed(nil, map[string]any{"sub": "bob", "jti": "j1x"}))},
		"that of another tenant":   {path: "/partner/x", headers: bearer(g.signed(nil, map[string]any{"sub": "gil", "tenant": "globex", "jti": "j1"}))},
		"a client of her name":     {path: "/me", headers: bearer(g.signed(nil, map[string]any{"kind": "client", "jti": "j3"}))},
		"her API key":              {path: "/posts/1", headers: apiKey(g.apiKey["default/ann"])},
		"a client key":             {path: "/posts/1", headers: clientKey(g.keys["default/ci"])},
		"a workload":               {path: "/stock/17", peer: cart},
		"an anonymous rule":        {path: "/healthz", headers: bearer(hers)},
		"a token without jti, kid": {path: "/me", headers: bearer(g.signed(nil, map[string]any{"sub": "bob"}))},
	}
	asks := map[string]request{
		"a permission":               {path: "/posts/1", headers: bearer(hers)},
		"an authenticated rule":      {path: "/me", headers: bearer(hers)},
		"any tenant":                 {path: "/everyone", headers: bearer(hers)},
		"beside a client key":        {path: "/posts/1", headers: with(bearer(hers), "x-client-key", g.keys["default/ci"])},
		"beside her API key":         {path: "/posts/1", headers: with(bearer(hers), "x-api-key", g.apiKey["default/ann"])},
		"beside a certificate":       {path: "/stock/17", headers: bearer(hers), peer: cart},
		"with an anonymous-to-be":    {path: "/who", headers: bearer(hers)},
		"on a rule that she may not": {path: "/partner/x", headers: bearer(hers), method: "GET"},
	}
	for name, d := range map[string]store.NewDenial{
		"jti":     {Kind: store.DenyToken, Tenant: def, Value: "j1"},
		"kid":     {Kind: store.DenyKey, Value: "k1"},
		"subject": annsUntilNow,
	} {
		for what, r := range asks {
			if got := g.verdict(r); got != "ok" {
				t.Fatalf("%s: %s: got %s before", name, what, got)
			}
		}
		made := g.deny(d)
		for what, r := range asks {
			response := g.ask(r)
			if got := g.verdictOf(response); got != "revoked" {
				t.Errorf("%s: %s: got %s, want revoked", name, what, got)
			}
			if denied := response.GetDeniedResponse(); denied.GetStatus().GetCode() != 401 || !strings.Contains(fmt.Sprint(denied.GetHeaders()), "invalid_token") {
				t.Errorf("%s: %s: %v", name, what, denied)
			}
			if p := response.GetDynamicMetadata().GetFields()["subject"].GetStringValue(); p != "" {
				t.Errorf("%s: %s: the denied token proved %q", name, what, p)
			}
		}
		for what, r := range others {
			if got := g.verdict(r); got != "ok" {
				t.Errorf("%s: %s: got %s, want ok", name, what, got)
			}
		}
		g.allow(made)
		for what, r := range asks {
			if got := g.verdict(r); got != "ok" {
				t.Errorf("%s: %s: got %s once it is allowed", name, what, got)
			}
		}
	}
	// Entries of a tenant, or of an issuer, touch no other's.
	g.deny(store.NewDenial{Kind: store.DenyToken, Tenant: globex, Value: "j1"})
	g.deny(store.NewDenial{Kind: store.DenyToken, Tenant: def, Issuer: "elsewhere", Value: "j1"})
	g.deny(store.NewDenial{Kind: store.DenyKey, Issuer: "elsewhere", Value: "k1"})
	g.deny(ofUser(globex, "ann"))
	elsewhere := ofUser(def, "ann")
	elsewhere.Issuer = "elsewhere"
	g.deny(elsewhere)
	g.expect("ok", asks["a permission"])
	g.expect("revoked", others["that of another tenant"])
}

// A key is denied for every tenant, one that is not served or not known too.
func TestADeniedKeyIsOfNoTenant(t *testing.T) {
	g := newGate(t, nil)
	for tenant, before := range map[string]string{"default": "ok", "globex": "ok", "t-new": "wrong_tenant", "nosuch": "wrong_tenant"} {
		r := request{path: "/everyone", headers: bearer(g.signed(map[string]any{"kid": "stolen"}, map[string]any{"tenant": tenant}))}
		g.expect(before, r)
		made := g.deny(store.NewDenial{Kind: store.DenyKey, Value: "stolen"})
		g.expect("revoked", r)
		g.allow(made)
		g.expect(before, r)
	}
}

// A tenant's name says nothing: where another tenant comes to have it, that one's
// entries count for a token that was in memory all along.
func TestDenialsWhereANameChangesHands(t *testing.T) {
	g := newGate(t, nil)
	ctx, by, old := context.Background(), store.Actor{Name: "test"}, g.tenant("globex").ID
	r := request{path: "/everyone", headers: bearer(g.signed(nil, map[string]any{"sub": "gil", "tenant": "globex", "jti": "j1"}))}
	made := g.deny(store.NewDenial{Kind: store.DenyToken, Tenant: old, Value: "j1"})
	g.expect("revoked", r)
	_, err := g.store.RenameTenant(ctx, by, old, "globex-old")
	g.must(err)
	next, result, err := g.store.CreateTenant(ctx, by, store.NewTenant{Name: "globex", Admitted: true})
	g.must(err)
	g.applied(result)
	g.expect("ok", r)
	g.deny(store.NewDenial{Kind: store.DenyToken, Tenant: next.ID, Value: "j1"})
	g.expect("revoked", r)
	g.allow(made)
	g.expect("revoked", r)
}

// A mark refuses what cannot be shown to be younger: the whole second of the moment,
// and what says nothing about its age.
func TestAMarkRefusesWhatIsNotYounger(t *testing.T) {
	g := newGate(t, nil)
	def, second := g.tenant("default").ID, time.Now().Add(-time.Minute).Truncate(time.Second)
	mark := ofUser(def, "ann")
	mark.Before = second.Add(300 * time.Millisecond)
	g.deny(mark)
	at := second.Unix()
	for _, c := range []struct {
		iat  any
		want string
	}{
		{nil, "revoked"}, {1e-12, "revoked"}, {at - 1, "revoked"}, {at, "revoked"}, {float64(at) + 0.2, "revoked"},
		{float64(at) + 0.5, "revoked"}, {at + 1, "ok"}, {at + 30, "ok"},
	} {
		if got := g.verdict(request{path: "/me", headers: bearer(g.signed(nil, map[string]any{"iat": c.iat}))}); got != c.want {
			t.Errorf("iat %v: got %s, want %s", c.iat, got, c.want)
		}
	}
	// The later moment counts.
	mark.Before = second.Add(10 * time.Second)
	g.deny(mark)
	g.expect("revoked", request{path: "/me", headers: bearer(g.signed(nil, map[string]any{"iat": at + 10}))})
	g.expect("ok", request{path: "/me", headers: bearer(g.signed(nil, map[string]any{"iat": at + 11}))})
}

// The tokens of a client are refused with its keys.
func TestTheTokensOfARevokedClient(t *testing.T) {
	g := newGate(t, nil)
	r := request{path: "/me", headers: bearer(g.signed(nil, map[string]any{"sub": "ci", "kind": "client"}))}
	g.warm("ok", r)
	_, result, err := g.store.RevokeKeys(context.Background(), store.Actor{Name: "test"}, g.tenant("default").ID, "ci")
	g.must(err)
	g.applied(result)
	g.expect("revoked", r)
	g.expect("ok", request{path: "/me", headers: bearer(g.signed(nil, map[string]any{"sub": "ci"}))})
	g.expect("ok", request{path: "/me", headers: bearer(g.signed(nil, map[string]any{"sub": "idle", "kind": "client"}))})
}

// A denial of a principal outlives every change of the tenant's encryption keys, for
// tokens that were in memory all along and for those that come later.
func TestDenialsAcrossRotations(t *testing.T) {
	// Cold checks go on while the store is written to: this is not about how fast.
	g := bareGate(t, nil, func(cfg *cache.Config) { cfg.Budget = 20 * time.Second })
	g.run()
	issued := time.Now().Unix()
	anns, bobs := request{path: "/me", headers: bearer(g.token("ann"))}, request{path: "/me", headers: bearer(g.token("bob"))}
	g.expect("ok", anns)
	g.deny(ofUser(g.tenant("default").ID, "ann"))
	n := 0
	for _, kind := range []store.RotationKind{store.RotateEnable, store.RotateDeep, store.RotateDeep, store.RotateDisable, store.RotateEnable} {
		g.rotate(kind, func() {
			n++
			g.expect("revoked", anns)
			g.expect("ok", bobs)
			g.expect("revoked", request{path: "/me", headers: bearer(g.signed(nil, map[string]any{"jti": fmt.Sprint("cold", n), "iat": issued}))})
			g.expect("ok", request{path: "/me", headers: bearer(g.signed(nil, map[string]any{"jti": fmt.Sprint("cold", n), "sub": "bob"}))})
		})
	}
}

// Where the caller's index cannot be had, nobody can say that the caller is not
// denied: a fault of the store's. What is denied in any case still is, since a fault may
// be let through. Only tenants with a mark are concerned.
func TestWhereTheIndexCannotBeHad(t *testing.T) {
	g := newGate(t, nil)
	def := g.tenant("default").ID
	warm := request{path: "/me", headers: bearer(g.token("bob"))}
	g.warm("ok", warm)
	cold := func(path string, claims map[string]any) request {
		return request{path: path, headers: bearer(g.signed(nil, claims))}
	}
	g.store.away.Store(true)
	g.expect("ok", cold("/me", map[string]any{"jti": "1"}))
	g.store.away.Store(false)
	made := g.deny(ofUser(def, "eve"))
	g.expect("ok", warm)
	g.store.away.Store(true)
	defer g.store.away.Store(false)
	g.expect("ok", warm)
	g.expect("fault: store_unavailable", cold("/me", map[string]any{"jti": "2"}))
	g.expect("fault: store_unavailable", cold("/posts/1", map[string]any{"jti": "3"}))
	g.expect("fault: store_unavailable", cold("/me", map[string]any{"jti": "4", "sub": "eve"}))
	g.expect("wrong_tenant", cold("/me", map[string]any{"jti": "5", "tenant": "globex"}))
	g.expect("ok", cold("/everyone", map[string]any{"jti": "6", "tenant": "globex"}))
	g.expect("invalid_token", request{path: "/me", headers: bearer("a.b.c")})
	g.store.away.Store(false)
	g.allow(made)
	g.store.away.Store(true)
	g.expect("ok", cold("/me", map[string]any{"jti": "7"}))
}

// A request that is denied in any case is denied, although its caller's index cannot be
// had.
func TestADenialComesBeforeTheIndexFault(t *testing.T) {
	g := newGate(t, nil)
	g.deny(ofUser(g.tenant("globex").ID, "eve"))
	g.store.away.Store(true)
	defer g.store.away.Store(false)
	gil := bearer(g.signed(nil, map[string]any{"sub": "gil", "tenant": "globex"}))
	g.expect("wrong_tenant", request{path: "/posts/1", headers: gil})
	g.expect("fault: store_unavailable", request{path: "/everyone", headers: gil})
}

// A shadow rule sees a denied token as every rule does, and changes nothing.
func TestShadowRulesAndDeniedTokens(t *testing.T) {
	log := &recorder{}
	rules, err := policy.Compile([]byte(conditionPolicy))
	if err != nil {
		t.Fatal(err)
	}
	g := bareGate(t, func(cfg *Config) { cfg.Log = log }, func(cfg *cache.Config) { cfg.Policy = rules })
	g.run()
	hers, shadows := bearer(g.signed(nil, map[string]any{"jti": "j1"})), 0
	for _, denied := range []bool{false, true} {
		if denied {
			g.deny(store.NewDenial{Kind: store.DenyToken, Tenant: g.tenant("default").ID, Value: "j1"})
		}
		for path, want := range map[string]string{"/posts/1": "ok", "/open": "ok"} {
			if denied && path == "/posts/1" {
				want = "revoked"
			}
			log.records = nil
			g.expect(want, request{path: path, headers: hers})
			rec := log.records[0]
			if rec.ShadowRule != "" {
				shadows++
			}
			if rec.ShadowRule != "" && denied != (rec.ShadowReason == policy.ReasonRevoked) {
				t.Errorf("%s, denied %v: the shadow says %s", path, denied, rec.ShadowReason)
			}
			if path == "/posts/1" && rec.TokenID != "j1" {
				t.Errorf("the log names token %q", rec.TokenID)
			}
		}
	}
	if shadows == 0 {
		t.Error("no shadow rule was asked")
	}
}

// The gate takes the signing keys from the store: a token counts from the publishing
// of its key to its withdrawal, in memory or not.
func TestSigningKeysOfTheStore(t *testing.T) {
	ctx, by := context.Background(), store.Actor{Name: "test"}
	keys := &identity.OwnKeys{}
	g := bareGate(t, nil, func(cfg *cache.Config) {
		verifier, err := identity.NewVerifier(identity.VerifierConfig{Secret: secret, Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Verifier, cfg.Keys = verifier, keys
	})
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	g.must(err)
	private, err := identity.NewPrivateKey(signer)
	g.must(err)
	issuer, err := identity.NewIssuer(identity.IssuerConfig{Algorithm: "ES256", Keys: []*identity.PrivateKey{private}})
	g.must(err)
	text, err := issuer.Issue(policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "ann"}, time.Hour)
	g.must(err)
	public := private.Public()
	key := store.SigningKey{KeyID: public.KeyID, Algorithm: public.Algorithm, JWK: string(public.JWK)}
	_, err = g.store.PublishSigningKey(ctx, by, key)
	g.must(err)
	g.run()
	r := request{path: "/posts/1", headers: bearer(text)}
	g.warm("ok", r) // known by the full load
	// A check that starts over does not go by a key that is gone meanwhile.
	g.store.deaf.Store(true)
	withdraw := func() {
		g.store.beforeGrant.Store(nil)
		_, err := g.store.WithdrawSigningKey(ctx, by, key.KeyID)
		g.must(err)
	}
	g.store.beforeGrant.Store(&withdraw)
	bobs, err := issuer.Issue(policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "bob"}, time.Hour)
	g.must(err)
	g.expect("invalid_token", request{path: "/posts/1", headers: bearer(bobs)})
	g.store.deaf.Store(false)
	result, err := g.store.PublishSigningKey(ctx, by, key)
	g.must(err)
	g.applied(result)
	for range 2 {
		before := g.cache.Snapshot().Signing()
		result, err := g.store.WithdrawSigningKey(ctx, by, key.KeyID)
		g.must(err)
		g.applied(result)
		g.expect("invalid_token", r)
		if g.cache.Snapshot().Signing() == before {
			t.Error("the snapshot says that the keys are the same")
		}
		result, err = g.store.PublishSigningKey(ctx, by, key)
		g.must(err)
		g.applied(result)
		g.expect("ok", r)
		g.expect("ok", request{path: "/posts/1", headers: bearer(g.token("ann"))})
	}
	g.deny(store.NewDenial{Kind: store.DenyKey, Value: key.KeyID})
	g.expect("revoked", r)
	g.expect("ok", request{path: "/posts/1", headers: bearer(g.token("ann"))})
}

// manyDenied are n marks of other tokens and principals of the tenant.
func manyDenied(tenant store.TenantID, n int) []store.DenyMark {
	marks := make([]store.DenyMark, n)
	for i := range marks {
		marks[i] = store.DenyMark{Expires: time.Now().Add(time.Hour).UnixNano()}
		binary.BigEndian.PutUint64(marks[i].Digest[:], uint64(i)*0x9e3779b97f4a7c15)
		if i%2 == 0 {
			marks[i].Before, marks[i].Tenant = time.Now().UnixNano(), tenant
		}
	}
	return marks
}

// withDenied is a gate whose deny-list has n entries, half of them of principals.
func withDenied(tb testing.TB, n int) *gate {
	tb.Helper()
	g := bareGate(tb, nil, nil)
	g.store.denied = manyDenied(g.tenant("default").ID, n)
	g.run()
	return g
}

// However long the deny-list is, a check allocates nothing, whether the token is denied
// or not.
func TestDeniedChecksAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector allocates; the verdicts alone are checked")
	}
	for _, n := range []int{0, 1, 100_000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			g := withDenied(t, n)
			g.strict("globex", true)
			if n > 0 {
				def := g.tenant("default").ID
				g.deny(store.NewDenial{Kind: store.DenyToken, Tenant: def, Value: "denied"})
				g.deny(store.NewDenial{Kind: store.DenyKey, Value: "denied"})
				g.deny(ofUser(def, "eve"))
				for name, headers := range map[string]map[string]string{
					"jti":     bearer(g.signed(nil, map[string]any{"jti": "denied"})),
					"kid":     bearer(g.signed(map[string]any{"kid": "denied"}, nil)),
					"subject": bearer(g.signed(nil, map[string]any{"sub": "eve", "iat": time.Now().Add(-time.Minute).Unix()})),
				} {
					allocatesNothing(g, "revoked, "+name, request{path: "/me", headers: headers})
				}
			}
			warmChecksAllocateNothing(g)
		})
	}
}

func BenchmarkDenyList(b *testing.B) {
	for _, n := range []int{0, 1, 100_000} {
		g := withDenied(b, n)
		for name, r := range map[string]request{
			"token":         {path: "/posts/17", headers: bearer(g.signed(map[string]any{"kid": "k"}, map[string]any{"jti": "j"}))},
			"authenticated": {path: "/me", headers: bearer(g.signed(map[string]any{"kid": "k"}, map[string]any{"jti": "j"}))},
		} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				req, dst := marshal(b, r.message()), make([]byte, 0, 8<<10)
				g.warm("ok", r)
				b.ReportAllocs()
				b.ResetTimer()
				for b.Loop() {
					if _, err := g.core.Check(dst, req); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
