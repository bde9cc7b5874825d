package sqlite

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

// A row that does not open is named in the log once a minute, and counted each time.
func TestWhatDoesNotOpenIsLoggedAndCounted(t *testing.T) {
	masters, err := sealing.ParseMasters(sealing.NewMaster())
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	now := time.Now()
	s := openWith(t, Config{
		Path: filepath.Join(t.TempDir(), "store.db"), Masters: masters,
		Logger: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return now },
	})
	ctx, by := t.Context(), store.Actor{Name: "cli"}
	if _, err := s.BeginRotation(ctx, by, store.RotateEnable); err != nil {
		t.Fatal(err)
	}
	if _, err := s.BeginTenant(ctx, by, 1); err != nil {
		t.Fatal(err)
	}
	putRole(t, s, "editor")
	if _, err := s.AddMember(ctx, by, 1, policy.KindUser, "alice", "editor", time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := past(t, s).Exec(`UPDATE memberships SET principal_id = substr(principal_id, 1, length(principal_id) - 4)`); err != nil {
		t.Fatal(err)
	}
	ask := func(times int) {
		t.Helper()
		for range times {
			if _, err := s.Grant(ctx, 1, policy.KindUser, "alice"); err == nil {
				t.Fatal("the grant was loaded")
			}
		}
	}
	lines := func() int { return strings.Count(log.String(), "a sealed value does not open") }
	ask(5)
	if !strings.Contains(log.String(), "table=memberships column=principal_id row=1 ") || strings.Contains(log.String(), "alice") || lines() != 1 {
		t.Errorf("the log, once: %s", log.String())
	}
	now = now.Add(time.Minute)
	ask(1)
	if lines() != 2 {
		t.Errorf("a minute later: %s", log.String())
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(s.Collector())
	const metric = "portcullis_store_unreadable_total"
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var counted float64
	for _, f := range families {
		if f.GetName() == metric {
			for _, m := range f.GetMetric() {
				counted += m.GetCounter().GetValue()
			}
		}
	}
	if counted != 6 {
		t.Errorf("%v were counted, want 6", counted)
	}
	if problems, err := testutil.GatherAndLint(registry, metric); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}
