package extauthz

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"portcullis/policy"
)

func TestDecisionsAreCounted(t *testing.T) {
	g := newGate(t, nil)
	bob := bearer(g.token("bob"))
	for range 3 {
		g.expect("ok", request{path: "/posts/1", headers: bob})
	}
	g.expect("missing_permission", request{path: "/posts/1", method: "PUT", headers: bob})
	g.expect("invalid_token", request{path: "/posts/1", headers: bearer("a.b.c")})
	g.expect("missing_credential", request{path: "/me"})
	g.expect("no_rule", request{path: "/secret-path", headers: bob})
	g.expect("ambiguous_request", request{path: "/a/../b"})
	if _, err := g.core.Check(nil, []byte{0x0f}); err == nil {
		t.Fatal("garbage was taken")
	}

	for _, c := range []struct {
		effect, reason, rule string
		want                 float64
	}{
		{"allow", "ok", "read-post", 3}, {"deny", "missing_permission", "edit-post", 1}, {"deny", "invalid_token", "read-post", 1},
		{"deny", "missing_credential", "whoami", 1}, {"deny", "no_rule", "", 1}, {"deny", "ambiguous_request", "", 1},
	} {
		if got := testutil.ToFloat64(g.core.metrics.decisions.WithLabelValues(c.effect, c.reason, c.rule)); got != c.want {
			t.Errorf("%+v: counted %v", c, got)
		}
	}
	for reason, want := range map[policy.Reason]float64{policy.ReasonInvalidToken: 1, policy.ReasonMissingCredential: 1, policy.ReasonBadKey: 0} {
		if got := testutil.ToFloat64(g.core.metrics.credentials[reason]); got != want {
			t.Errorf("credential failures %s: %v", reason, got)
		}
	}
	if got := testutil.ToFloat64(g.core.metrics.malformed); got != 1 {
		t.Errorf("malformed: %v", got)
	}
	families, err := g.reg.Gather()
	g.must(err)
	names := map[string]bool{}
	for _, family := range families {
		names[family.GetName()] = true
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if strings.Contains(label.GetValue(), "secret") || strings.Contains(label.GetValue(), "bob") {
					t.Errorf("%s has the label %v", family.GetName(), label)
				}
			}
			if h := metric.GetHistogram(); family.GetName() == "portcullis_check_duration_seconds" && h.GetSampleCount() != 8 {
				t.Errorf("%d durations, want 8", h.GetSampleCount())
			}
		}
	}
	for _, name := range []string{"portcullis_decisions_total", "portcullis_check_duration_seconds", "portcullis_credential_failures_total",
		"portcullis_check_panics_total", "portcullis_check_retakes_total", "portcullis_malformed_requests_total"} {
		if !names[name] {
			t.Errorf("%s is missing", name)
		}
	}
	if problems, err := testutil.GatherAndLint(g.reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

func TestCountersFollowAReloadedPolicy(t *testing.T) {
	g := newGate(t, nil)
	g.expect("ok", request{path: "/healthz"})
	// The same index is another rule now.
	next, err := policy.Compile([]byte("version: 1\nrules:\n  - {name: front, path: /, allow: anonymous}\n"))
	g.must(err)
	g.cache.SetPolicy(next)
	g.expect("ok", request{path: "/"})
	g.expect("no_rule", request{path: "/healthz"})
	count := func(rule string) float64 {
		return testutil.ToFloat64(g.core.metrics.decisions.WithLabelValues("allow", "ok", rule))
	}
	if count("health") != 1 || count("front") != 1 {
		t.Errorf("health %v, front %v", count("health"), count("front"))
	}
}

func TestConfigsThatAreRefused(t *testing.T) {
	g := newGate(t, nil)
	for want, cfg := range map[string]Config{
		"Cache":             {},
		"ContextExtensions": {Cache: g.cache, ContextExtensions: "widen"},
		"Faults":            {Cache: g.cache, Faults: "ignore"},
		"metrics":           {Cache: g.cache, Registerer: g.reg}, // registered already
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}
