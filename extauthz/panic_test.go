package extauthz

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"portcullis/cache"
	"portcullis/internal/decisionlog"
	"portcullis/internal/identity"
	"portcullis/policy"
)

// A panic anywhere in the core is the denial `internal`, is counted, and leaves
// the core working.
func TestPanicsAreDenials(t *testing.T) {
	var log bytes.Buffer
	g := newGate(t, func(cfg *Config) { cfg.Logger = slog.New(slog.NewJSONHandler(&log, nil)) })
	r := request{path: "/posts/1", headers: bearer(g.token("bob"))}
	panics := func(want float64) {
		t.Helper()
		if got := testutil.ToFloat64(g.core.metrics.panics); got != want {
			t.Errorf("%v panics counted, want %v", got, want)
		}
	}

	sound := g.core.parser
	g.core.parser = nil
	g.expect("internal", r)
	g.core.parser = sound
	panics(1)
	g.expect("ok", r)

	responder := g.core.responder
	g.core.responder = nil
	g.expect("internal", r)
	g.core.responder = responder
	panics(2)
	g.expect("ok", r)

	if text := log.String(); !strings.Contains(text, "panic in a check") || strings.Contains(text, g.token("bob")[:20]) {
		t.Errorf("the log says %s", text)
	}
}

type panickyVerifier struct{ cache.Verifier }

func (panickyVerifier) Verify(string) (*identity.Token, policy.Reason) { panic("no verdict") }

// What the check had found out by the time it panicked is not told.
func TestPanicLeavesABareDenial(t *testing.T) {
	g := bareGate(t, nil, func(cfg *cache.Config) { cfg.Verifier = panickyVerifier{cfg.Verifier} })
	g.run()
	response := g.ask(request{path: "/posts/1", headers: bearer(g.token("bob"))})
	if got := g.verdictOf(response); got != "internal" {
		t.Error(got)
	}
	for name := range response.GetDynamicMetadata().GetFields() {
		if name != "reason" && name != "decision_id" {
			t.Errorf("metadata has %s", name)
		}
	}
}

type panickyLog struct{}

func (panickyLog) Wants(policy.Effect) bool { return true }
func (panickyLog) Log(*decisionlog.Record)  { panic("the log is full") }

func TestPanicInTheLogChangesNoVerdict(t *testing.T) {
	g := newGate(t, func(cfg *Config) { cfg.Log = panickyLog{} })
	g.expect("ok", request{path: "/healthz"})
	g.expect("missing_credential", request{path: "/me"})
	if got := testutil.ToFloat64(g.core.metrics.panics); got != 2 {
		t.Errorf("%v panics counted", got)
	}
}

func TestPlantedPanic(t *testing.T) {
	g := newGate(t, nil)
	want := "ok"
	if plantPanic {
		want = "internal"
	}
	g.expect(want, request{path: "/healthz", headers: with(nil, "x-plant-panic", "1")})
	g.expect("ok", request{path: "/healthz"})
}
