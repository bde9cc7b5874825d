package extauthz

import (
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"portcullis/cache"
	"portcullis/policy"
)

// conditionPolicy has rules with conditions, one without, and shadow rules.
const conditionPolicy = `
version: 1
rules:
  - {name: plain, path: "/posts/{id}", require: view_content}
  - {name: bare, methods: [PUT], path: "/bare/{user}/posts/{id}", require: edit_content}
  - {name: open, path: /open, allow: anonymous}
  - {name: own, methods: [PUT], path: "/users/{user}/posts/{id}", require: edit_content, when: "principal.kind == 'user' && path.user == principal.id"}
  - {name: dept, path: /dept, allow: authenticated, when: "request.headers['x-dept'] == 'news'"}
  - {name: claims, path: /claims, allow: authenticated, when: "has(claims.iss) == false && claims.sub == principal.id"}
  - {name: zone, path: /zone, allow: authenticated, when: "context.zone == 'eu'"}
  - {name: page, path: /page, allow: authenticated, when: "query.page == '2' && request.query == 'page=2'"}
  - {name: roles, path: /roles, allow: authenticated, when: "'editor' in principal.roles"}
  - {name: closed, path: /closed, require: edit_content}
  - {name: try-posts, path: "/posts/{id}", require: edit_content, mode: shadow}
  - {name: try-open, path: /open, require: view_content, mode: shadow}
  - {name: try-new, path: /new, allow: anonymous, mode: shadow}
  - {name: try-when, path: /closed, require: view_content, when: "principal.id == 'bob'", mode: shadow}
`

func conditionGate(tb testing.TB, change func(*Config)) *gate {
	tb.Helper()
	g := bareGate(tb, change, func(cfg *cache.Config) {
		rules, err := policy.Compile([]byte(conditionPolicy))
		if err != nil {
			tb.Fatal(err)
		}
		cfg.Policy = rules
	})
	g.run()
	return g
}

func TestConditionsAtTheGate(t *testing.T) {
	g := conditionGate(t, nil)
	ann, bob := bearer(g.token("ann")), bearer(g.token("bob"))
	raw := func(r request, more ...[2]string) request {
		r.raw = []*corev3.HeaderValue{{Key: ":method", RawValue: []byte("GET")}, {Key: ":path", RawValue: []byte(r.path)}, {Key: "authorization", RawValue: []byte(bob["authorization"])}}
		for _, h := range more {
			r.raw = append(r.raw, &corev3.HeaderValue{Key: h[0], RawValue: []byte(h[1])})
		}
		return r
	}
	for _, try := range []struct {
		want string
		r    request
	}{
		{"ok", request{method: "PUT", path: "/users/ann/posts/1", headers: ann}},
		{"ok", request{method: "PUT", path: "/users/%61nn/posts/1", headers: ann}},
		{"condition_false", request{method: "PUT", path: "/users/bob/posts/1", headers: ann}},
		{"condition_false", request{method: "PUT", path: "/users/Ann/posts/1", headers: ann}},
		{"ambiguous_request", request{method: "PUT", path: "/users/%2561nn/posts/1", headers: ann}},
		{"no_rule", request{method: "PUT", path: "/users//ann/posts/1", headers: ann}},
		// The role comes first: bob is told nothing of the condition.
		{"missing_permission", request{method: "PUT", path: "/users/bob/posts/1", headers: bob}},
		{"missing_credential", request{method: "PUT", path: "/users/bob/posts/1"}},

		{"ok", request{path: "/dept", headers: with(bob, "x-dept", "news")}},
		{"ok", request{path: "/dept", headers: with(bob, "X-Dept", "news")}},
		{"condition_false", request{path: "/dept", headers: with(bob, "x-dept", "press")}},
		{"condition_error", request{path: "/dept", headers: bob}},
		{"condition_error", request{path: "/dept", headers: with(bob, "x-dept", "news,news")}},
		{"ok", raw(request{path: "/dept"}, [2]string{"x-dept", "news"})},
		{"condition_error", raw(request{path: "/dept"}, [2]string{"x-dept", "news"}, [2]string{"X-DEPT", "news"})},
		{"condition_error", raw(request{path: "/dept"})},

		{"ok", request{path: "/claims", headers: bob}},
		{"condition_error", request{path: "/claims", headers: clientKey(g.keys["default/ci"])}},
		{"ok", request{path: "/zone", headers: bob, extensions: map[string]string{"zone": "eu"}}},
		{"condition_false", request{path: "/zone", headers: bob, extensions: map[string]string{"zone": "us"}}},
		{"condition_error", request{path: "/zone", headers: with(bob, "zone", "eu")}},
		{"ok", request{path: "/page?page=2", headers: bob}},
		{"condition_error", request{path: "/page?page=2&page=2", headers: bob}},
		{"ok", request{path: "/roles", headers: ann}},
		{"condition_false", request{path: "/roles", headers: bob}},
		{"wrong_tenant", request{path: "/roles", headers: bearer(g.token("globex/gil"))}},
	} {
		g.expect(try.want, try.r)
	}
}

// What a shadow rule would decide is counted and logged, and changes nothing.
func TestShadowRules(t *testing.T) {
	log := &recorder{}
	g := conditionGate(t, func(cfg *Config) { cfg.Log = log })
	for _, try := range []struct {
		want, rule, shadow string
		r                  request
	}{
		{"ok", "try-posts", "missing_permission", request{path: "/posts/1", headers: bearer(g.token("bob"))}},
		{"ok", "try-posts", "ok", request{path: "/posts/1", headers: bearer(g.token("ann"))}},
		{"missing_credential", "try-posts", "missing_credential", request{path: "/posts/1"}},
		{"ok", "try-open", "missing_credential", request{path: "/open"}},
		{"ok", "try-open", "ok", request{path: "/open", headers: bearer(g.token("bob"))}},
		{"ok", "try-open", "ok", request{path: "/open", headers: clientKey(g.keys["default/ci"])}},
		{"no_rule", "try-new", "ok", request{path: "/new"}},
		{"missing_permission", "try-when", "ok", request{path: "/closed", headers: bearer(g.token("bob"))}},
		{"ok", "try-when", "condition_false", request{path: "/closed", headers: bearer(g.token("ann"))}},
		{"ambiguous_request", "", "internal", request{path: "/posts/../1", headers: bearer(g.token("ann"))}},
		{"ok", "", "internal", request{path: "/zone", headers: bearer(g.token("ann")), extensions: map[string]string{"zone": "eu"}}},
		// A shadow rule has no name that a route could call.
		{"no_rule", "try-posts", "no_rule", request{path: "/posts/1", headers: bearer(g.token("ann")), extensions: map[string]string{"rule": "try-new"}}},
	} {
		log.records = nil
		response := g.ask(try.r)
		if got := g.verdictOf(response); got != try.want {
			t.Errorf("%s: got %s, want %s", try.r.path, got, try.want)
		}
		if rec := log.records[0]; rec.ShadowRule != try.rule || rec.ShadowReason.String() != try.shadow {
			t.Errorf("%s: the shadow rule is %q with %s, want %q with %s", try.r.path, rec.ShadowRule, rec.ShadowReason, try.rule, try.shadow)
		}
		if rec := log.records[0]; rec.Rule == rec.ShadowRule && rec.Rule != "" {
			t.Errorf("%s: the shadow rule decided", try.r.path)
		}
	}
	// An anonymous answer asserts nothing, though its shadow knows who is calling.
	if got := asserted(g.ask(request{path: "/open", headers: bearer(g.token("bob"))})); len(got) != 0 {
		t.Errorf("asserted %v", got)
	}
	if n := testutil.ToFloat64(g.core.metrics.shadows.WithLabelValues("try-posts", "deny", "missing_permission")); n != 1 {
		t.Errorf("counted %v", n)
	}
}

// A store that answers nothing costs a shadow rule its verdict, and the check no
// more than its budget.
func TestShadowRulesDoNotWaitForTheStore(t *testing.T) {
	log := &recorder{}
	g := conditionGate(t, func(cfg *Config) { cfg.Log = log })
	g.store.hangs.Store(true)
	defer g.store.hangs.Store(false)
	log.records = nil
	began := g.cache.Now().Mono
	g.expect("ok", request{path: "/open", headers: bearer(g.token("bob"))})
	if rec := log.records[0]; rec.ShadowReason != policy.ReasonStoreUnavailable || rec.Effect != policy.Allow {
		t.Errorf("got %+v", rec)
	}
	if took := g.cache.Now().Mono - began; took > 2e9 {
		t.Errorf("the answer took %d ns", took)
	}
}

// A fault has no shadow: nothing is known then, and nothing more is asked.
func TestFaultsHaveNoShadow(t *testing.T) {
	log := &recorder{}
	g := conditionGate(t, func(cfg *Config) { cfg.Log = log })
	g.store.away.Store(true)
	g.expect("fault: store_unavailable", request{path: "/posts/1", headers: bearer(g.token("bob"))})
	if rec := log.records[0]; rec.ShadowRule != "" {
		t.Errorf("got %+v", rec)
	}
}

// Where a route's names stand in for path rules, shadow rules have no place either.
func TestReplacedPathRulesHaveNoShadow(t *testing.T) {
	log := &recorder{}
	g := conditionGate(t, func(cfg *Config) { cfg.Log, cfg.ContextExtensions = log, ContextExtensionsReplace })
	ann := bearer(g.token("ann"))
	g.expect("ok", request{path: "/posts/1", headers: ann, extensions: map[string]string{"permission": "view_content"}})
	g.expect("ok", request{path: "/posts/1", headers: ann})
	if log.records[0].ShadowRule != "" || log.records[1].ShadowRule != "try-posts" {
		t.Errorf("got %+v", log.records)
	}
}

// denialsOnly wants denials.
type denialsOnly struct{ recorder }

func (*denialsOnly) Wants(e policy.Effect) bool { return e == policy.Deny }

// A log of denials has the lines of those that a shadow rule would deny.
func TestShadowDenialsAreLogged(t *testing.T) {
	log := &denialsOnly{}
	g := conditionGate(t, func(cfg *Config) { cfg.Log = log })
	g.expect("ok", request{path: "/posts/1", headers: bearer(g.token("ann"))})
	g.expect("ok", request{path: "/posts/1", headers: bearer(g.token("bob"))})
	if len(log.records) != 1 || log.records[0].ShadowReason != policy.ReasonMissingPermission {
		t.Errorf("got %+v", log.records)
	}
}

// A rule without a condition pays nothing for those of its neighbours.
func TestRulesBesideConditionsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector allocates; the verdict alone is checked")
	}
	g := conditionGate(t, nil)
	rules, err := policy.Compile([]byte(`
version: 1
rules:
  - {name: plain, path: "/posts/{id}", require: view_content}
  - {name: own, path: "/users/{user}", require: edit_content, when: "path.user == principal.id"}
  - {name: try, path: /elsewhere, allow: anonymous, mode: shadow}
`))
	g.must(err)
	g.cache.SetPolicy(rules)
	req := marshal(t, request{path: "/posts/17", headers: bearer(g.token("ann"))}.message())
	least := 1.0
	for range 50 {
		if got := g.verdictOf(g.askBytes(req)); got != "ok" {
			t.Fatal(got)
		}
		if !raceEnabled {
			least = min(least, g.allocations(req))
		}
	}
	if least > 0 && !raceEnabled {
		t.Errorf("%v allocations", least)
	}
}

// The price of a condition as a ratio: the same check with an ownership condition
// and without any, turn by turn. One iteration is one of each.
func BenchmarkConditionRatio(b *testing.B) {
	g := conditionGate(b, nil)
	without := marshal(b, request{method: "PUT", path: "/bare/ann/posts/1", headers: bearer(g.token("ann"))}.message())
	owned := marshal(b, request{method: "PUT", path: "/users/ann/posts/1", headers: bearer(g.token("ann"))}.message())
	dst := make([]byte, 0, 8<<10)
	var took [2]time.Duration
	for range 100 {
		g.allocations(without)
	}
	for b.Loop() {
		for i, req := range [][]byte{without, owned} {
			began := time.Now()
			if _, err := g.core.Check(dst, req); err != nil {
				b.Fatal(err)
			}
			took[i] += time.Since(began)
		}
	}
	b.ReportMetric(float64(took[1])/float64(took[0]), "times")
	b.ReportMetric(float64(took[0].Nanoseconds())/float64(b.N), "ns/without")
	b.ReportMetric(float64(took[1].Nanoseconds())/float64(b.N), "ns/with")
}

// The price of a condition: compare the lines.
func BenchmarkConditions(b *testing.B) {
	g := conditionGate(b, nil)
	for name, r := range map[string]request{
		"without":   {method: "PUT", path: "/bare/ann/posts/1", headers: bearer(g.token("ann"))},
		"ownership": {method: "PUT", path: "/users/ann/posts/1", headers: bearer(g.token("ann"))},
		"claims":    {path: "/claims", headers: bearer(g.token("ann"))},
	} {
		b.Run(name, func(b *testing.B) {
			req := marshal(b, r.message())
			dst := make([]byte, 0, 8<<10)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.core.Check(dst, req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
