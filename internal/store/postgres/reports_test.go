package postgres

import (
	"testing"
	"time"

	"portcullis/internal/store"
)

// Ids are handed out before their rows can be seen: a report may turn up after a
// later one of the same sidecar has been folded in. It must not be the last word.
func TestAReportThatTurnsUpLate(t *testing.T) {
	url := migrated(t)
	st := openTest(t, url)
	report := store.Report{Sidecar: "s", Kind: store.ReportApplied, At: time.Now(), Applied: 9, Staleness: time.Minute}
	if err := st.Report(t.Context(), []store.Report{report}); err != nil {
		t.Fatal(err)
	}
	if err := st.FoldReports(t.Context()); err != nil {
		t.Fatal(err)
	}
	applied := func(want int64) {
		t.Helper()
		list, err := st.Sidecars(t.Context())
		if err != nil || len(list) != 1 || list[0].Applied != want || list[0].Stopped {
			t.Errorf("sidecars %+v, error %v; want one, at %d", list, err, want)
		}
	}
	execSQL(t, url, `INSERT INTO portcullis.sidecar_reports (id, sidecar, kind, reported_at, applied, staleness, policy_digest, use_digests, use_times)
		OVERRIDING SYSTEM VALUE VALUES (0, 's', 4, 1, 3, 1, '', '{}', '{}')`)
	applied(9)
	if err := st.FoldReports(t.Context()); err != nil {
		t.Fatal(err)
	}
	applied(9)
	report.Applied = 2 // a restored backup
	if err := st.Report(t.Context(), []store.Report{report}); err != nil {
		t.Fatal(err)
	}
	applied(2)
}
