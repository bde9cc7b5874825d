package extauthz

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"portcullis/internal/decisionlog"
	"portcullis/internal/store"
	"portcullis/policy"
)

// warmCases are the requests that a busy gate answers all day.
func warmCases(g *gate) map[string]request {
	typical := func(r request) request {
		r.headers = with(with(with(r.headers, "accept", "text/html,application/xhtml+xml"), "accept-encoding", "gzip, deflate, br"),
			"x-request-id", "7f9c2ba4-e88f-4c5d-9d1b-6f3a0e1c2d3b")
		return r
	}
	return map[string]request{
		"ok":                              typical(request{path: "/posts/17", headers: bearer(g.token("ann"))}),
		"ok, client key":                  typical(request{path: "/posts/17", headers: clientKey(g.keys["default/ci"])}),
		"ok, user API key":                typical(request{path: "/posts/17", headers: apiKey(g.apiKey["default/ann"])}),
		"ok, API key as Bearer":           typical(request{path: "/posts/17", headers: bearer(g.apiKey["default/ann"])}),
		"ok, all three":                   typical(request{path: "/posts/17", headers: with(with(bearer(g.token("ann")), "x-api-key", g.apiKey["default/ann"]), "x-client-key", g.keys["default/ci"])}),
		"bad_key, user API key":           typical(request{path: "/posts/17", headers: apiKey("rak_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg")}),
		"ok, strict tenant":               typical(request{path: "/partner/x", headers: bearer(g.token("globex/gil"))}),
		"not_key_backed":                  typical(request{path: "/partner/x", headers: bearer(g.token("globex/gus"))}),
		"ok, anonymous":                   typical(request{path: "/healthz"}),
		"ok, authenticated":               typical(request{path: "/me", headers: bearer(g.token("bob"))}),
		"missing_permission":              typical(request{path: "/posts/17", method: "PUT", headers: bearer(g.token("bob"))}),
		"missing_credential":              typical(request{path: "/posts/17"}),
		"bad_key":                         typical(request{path: "/posts/17", headers: clientKey("12345678-1234-4123-8123-123456789abc")}),
		"no_rule":                         typical(request{path: "/nowhere", headers: bearer(g.token("ann"))}),
		"ambiguous_request":               typical(request{path: "/root/../x", headers: bearer(g.token("ann"))}),
		"wrong_tenant":                    typical(request{path: "/posts/17", headers: bearer(g.token("globex/gil"))}),
		"conflicting_credentials":         typical(request{path: "/posts/17", headers: with(bearer(g.token("ann")), "x-client-key", g.keys["globex/ci"])}),
		"ok, workload":                    typical(request{path: "/stock/17", peer: cart}),
		"ok, actor":                       typical(request{path: "/stock/17", peer: cart, headers: bearer(g.token("ann"))}),
		"missing_credential, certificate": typical(request{path: "/posts/17", peer: cart}),
		"missing_credential, unknown certificate": typical(request{path: "/stock/17", peer: "spiffe://example.org/ns/shop/sa/unknown"}),
		"missing_permission, workload":            typical(request{path: "/stock/17", method: "PUT", peer: cart}),
	}
}

// allocations of one check, on average over a hundred.
func (g *gate) allocations(req []byte) float64 {
	dst := make([]byte, 0, 8<<10)
	return testing.AllocsPerRun(100, func() {
		if _, err := g.core.Check(dst, req); err != nil {
			g.Fatal(err)
		}
	})
}

func verdictWord(name string) string {
	for i := range name {
		if name[i] == ',' {
			return name[:i]
		}
	}
	return name
}

func TestWarmChecksAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector allocates; the verdicts alone are checked")
	}
	g := newGate(t, nil)
	g.strict("globex", true)
	warmChecksAllocateNothing(g)
	g.rotate(store.RotateEnable, nil)
	t.Run("sealed", func(t *testing.T) { warmChecksAllocateNothing(g.in(t)) })
	g.rotate(store.RotateDeep, nil)
	t.Run("sealed anew", func(t *testing.T) { warmChecksAllocateNothing(g.in(t)) })
}

// in is the gate for a part of its test.
func (g *gate) in(t testing.TB) *gate {
	part := *g
	part.TB = t
	return &part
}

func warmChecksAllocateNothing(g *gate) {
	for name, r := range warmCases(g) {
		allocatesNothing(g, name, r)
	}
}

// allocatesNothing holds a request to the verdict that its name begins with, and to
// no allocation.
func allocatesNothing(g *gate, name string, r request) {
	g.Helper()
	req := marshal(g, r.message())
	for range 50 {
		if got := g.verdictOf(g.askBytes(req)); got != verdictWord(name) {
			g.Fatalf("%s: got %s", name, got)
		}
	}
	if raceEnabled {
		return
	}
	least := g.allocations(req)
	// A cache takes a moment to keep what it was given.
	for i := 0; i < 50 && least > 0; i++ {
		least = min(least, g.allocations(req))
	}
	if least > 0 {
		g.Errorf("%s: %v allocations", name, least)
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func TestLoggedChecksAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector allocates; the verdict alone is checked")
	}
	log, err := decisionlog.New(decisionlog.Config{Mode: decisionlog.All, Writer: discard{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- log.Run(ctx) }()
	defer func() { cancel(); <-done }()
	g := newGate(t, func(cfg *Config) { cfg.Log = log })
	for _, name := range []string{"ok", "ok, workload", "ok, actor"} {
		req := marshal(t, warmCases(g)[name].message())
		least := 1.0
		for range 50 {
			if got := g.verdictOf(g.askBytes(req)); got != "ok" {
				t.Fatalf("%s: %s", name, got)
			}
			if !raceEnabled {
				least = min(least, g.allocations(req))
			}
		}
		if least > 0 && !raceEnabled {
			t.Errorf("%s: %v allocations", name, least)
		}
	}
}

type recorder struct{ records []decisionlog.Record }

func (*recorder) Wants(policy.Effect) bool { return true }
func (r *recorder) Log(rec *decisionlog.Record) {
	kept := *rec
	kept.DecisionID, kept.Path = append([]byte{}, rec.DecisionID...), append([]byte{}, rec.Path...)
	r.records = append(r.records, kept)
}

func TestDecisionsAreLogged(t *testing.T) {
	log := &recorder{}
	g := newGate(t, func(cfg *Config) { cfg.Log = log })
	one := func(r request) decisionlog.Record {
		t.Helper()
		log.records = nil
		response := g.ask(r)
		if len(log.records) != 1 {
			t.Fatalf("%d records", len(log.records))
		}
		rec := log.records[0]
		if id := response.GetDynamicMetadata().GetFields()["decision_id"].GetStringValue(); id != string(rec.DecisionID) {
			t.Errorf("the response has decision %q, the log %q", id, rec.DecisionID)
		}
		return rec
	}
	ann := policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "ann"}
	rec := one(request{path: "/posts/1?q=x", headers: with(bearer(g.token("ann")), "x-client-key", g.keys["default/ci"])})
	if rec.Principal != ann || rec.Proof != decisionlog.ProofJWT || rec.KeyName != "ci" || rec.TokenID == "" || rec.Rule != "read-post" ||
		rec.Effect != policy.Allow || rec.Revision == 0 || rec.PolicyDigest == "" || len(rec.Roles) != 2 {
		t.Errorf("%+v", rec)
	}
	rec = one(request{path: "/posts/1", headers: clientKey(g.keys["default/ci"])})
	if rec.Proof != decisionlog.ProofClientKey || rec.Principal.Kind != policy.KindClient || rec.TokenID != "" {
		t.Errorf("%+v", rec)
	}
	rec = one(request{path: "/posts/1", headers: apiKey(g.apiKey["default/ann"])})
	if rec.Principal != ann || rec.Proof != decisionlog.ProofAPIKey || len(rec.APIKeyID) != 36 || rec.TokenID != "" || rec.KeyName != "" || len(rec.Roles) != 2 {
		t.Errorf("%+v", rec)
	}
	if text := fmt.Sprintf("%+v", rec); strings.Contains(text, g.apiKey["default/ann"][4:12]) {
		t.Errorf("the record holds a part of the secret: %s", text)
	}
	id := rec.APIKeyID
	rec = one(request{path: "/posts/1", headers: with(bearer(g.token("ann")), "x-api-key", g.apiKey["default/ann"])})
	if rec.Principal != ann || rec.Proof != decisionlog.ProofJWT || rec.APIKeyID != id || rec.TokenID == "" {
		t.Errorf("%+v", rec)
	}
	rec = one(request{path: "/posts/1"})
	if rec.Effect != policy.Deny || rec.Reason != policy.ReasonMissingCredential || rec.Proof != decisionlog.ProofNone || rec.Principal != (policy.Principal{}) || len(rec.Roles) != 0 {
		t.Errorf("%+v", rec)
	}
}

func BenchmarkCheck(b *testing.B) {
	g := newGate(b, nil)
	g.strict("globex", true)
	for name, r := range warmCases(g) {
		b.Run(name, func(b *testing.B) {
			req := marshal(b, r.message())
			dst := make([]byte, 0, 8<<10)
			for range 100 {
				if _, err := g.core.Check(dst, req); err != nil {
					b.Fatal(err)
				}
			}
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
