package main

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestMetrics: a whole process registers its metrics without a collision, and
// Prometheus's linter has nothing against their names.
func TestMetrics(t *testing.T) {
	p := newPlace(t)
	policyFile := p.write("policy.yaml", drainPolicy)
	proc := newProcess(strings.NewReader(""), &lockedBuffer{}, &lockedBuffer{}, p.env)
	root := newRootCommand(proc)
	serve, _, err := root.Find([]string{"serve"})
	if err != nil {
		t.Fatal(err)
	}
	if err := serve.ParseFlags([]string{"--policy-file", policyFile}); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := proc.settingsOf[serve].load(proc)
	if err != nil {
		t.Fatal(err)
	}
	a, err := openApp(t.Context(), proc, cfg, slog.New(slog.DiscardHandler), halves{gate: true, admin: true})
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	problems, err := testutil.GatherAndLint(a.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
	families, err := a.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, f := range families {
		have[f.GetName()] = true
	}
	for _, name := range []string{
		"portcullis_build_info", "portcullis_decisions_total", "portcullis_check_duration_seconds", "portcullis_cache_lookups_total",
		"portcullis_applied_revision", "portcullis_store_word_age_seconds", "portcullis_policy_reloads_total", "portcullis_policy_rules",
		"portcullis_policy_last_reload_ok", "portcullis_check_panics_total", "portcullis_store_pool_connections",
		"portcullis_decision_log_dropped_total", "go_goroutines", "process_resident_memory_bytes",
	} {
		if !have[name] {
			t.Errorf("no metric %s", name)
		}
	}
}
