package postgres

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/store"
)

// partitions are the audit's, each with its number of rows.
func partitions(t *testing.T, url string) map[string]int {
	t.Helper()
	conn := connect(t, url)
	rows, err := conn.Query(t.Context(), `SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'portcullis.audit'::regclass`)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]int)
	for _, name := range names {
		var n int
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM `+pgx.Identifier{"portcullis", name}.Sanitize()).Scan(&n); err != nil {
			t.Fatal(err)
		}
		out[name] = n
	}
	return out
}

func monthName(t time.Time) string { return "audit_" + t.UTC().Format("2006_01") }

// month is the first moment of the month that lies n months from t's, in UTC.
func month(t time.Time, n int) time.Time {
	return time.Date(t.UTC().Year(), t.UTC().Month()+time.Month(n), 1, 0, 0, 0, 0, time.UTC)
}

func TestAuditPartitionsAreMadeAhead(t *testing.T) {
	url := migrated(t)
	now := time.Now()
	made := partitions(t, url)
	for n := range auditMonths {
		if _, ok := made[monthName(month(now, n))]; !ok {
			t.Errorf("after Migrate there is no partition %s: %v", monthName(month(now, n)), made)
		}
	}
	if _, ok := made["audit_default"]; !ok || len(made) != auditMonths+1 {
		t.Errorf("partitions %v, want %d months and audit_default", made, auditMonths)
	}

	st := openAt(t, url, func() time.Time { return now })
	putRole(t, st, "editor")
	if got := partitions(t, url); got[monthName(now)] != 1 || got["audit_default"] != 0 {
		t.Errorf("a row of this month is in %v", got)
	}
	if n, err := st.EnsureAuditPartitions(t.Context()); n != 0 || err != nil {
		t.Errorf("made %d more, error %v; want none", n, err)
	}
}

func TestARowOfAMonthWithoutPartitionIsKeptAndMoved(t *testing.T) {
	url := migrated(t)
	now := month(time.Now(), auditMonths+9).Add(36 * time.Hour)
	clock := func() time.Time { return now }
	st := openAt(t, url, clock)
	tenant := tenantID(t, st)
	putRole(t, st, "editor")
	// The edges of the month belong to it and to the next, to the microsecond.
	edges := []store.AuditEntry{
		{Tenant: tenant, Action: "EDGE", Time: month(now, 1).Add(-time.Microsecond)},
		{Tenant: tenant, Action: "EDGE", Time: month(now, 1)},
		{Tenant: tenant, Action: "EDGE", Time: time.Date(1999, 5, 5, 5, 5, 5, 0, time.UTC)},
	}
	if err := st.RecordAudit(t.Context(), edges); err != nil {
		t.Fatal(err)
	}
	if got := partitions(t, url); got["audit_default"] != 4 {
		t.Fatalf("rows of months without partition are in %v", got)
	}
	before, _, err := st.Audit(t.Context(), store.AuditQuery{Tenant: tenant, Limit: 500})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := st.EnsureAuditPartitions(t.Context()); n != auditMonths || err != nil {
		t.Errorf("made %d, error %v; want %d", n, err, auditMonths)
	}
	got := partitions(t, url)
	if got[monthName(now)] != 2 || got[monthName(month(now, 1))] != 1 || got["audit_default"] != 1 {
		t.Errorf("afterwards the rows are in %v", got)
	}
	after, total, err := st.Audit(t.Context(), store.AuditQuery{Tenant: tenant, Limit: 500})
	if err != nil || total != 4 || !slices.Equal(before, after) {
		t.Errorf("moving changed the audit from\n%+v to\n%+v, error %v", before, after, err)
	}
}

// The boundaries are UTC's whatever the session's time zone is.
func TestAuditPartitionsAreInUTC(t *testing.T) {
	url := migrated(t)
	first := month(time.Now(), 40)
	execSQL(t, url, `SET TimeZone = 'Pacific/Kiritimati'`,
		fmt.Sprintf(`SELECT set_config('TimeZone', 'Pacific/Kiritimati', false), portcullis.ensure_audit_partitions('%s', 1)`, first.Format("2006-01-02")))
	st := openAt(t, url, time.Now)
	if err := st.RecordAudit(t.Context(), []store.AuditEntry{{Action: "EDGE", Time: first}, {Action: "EDGE", Time: first.Add(-time.Microsecond)}}); err != nil {
		t.Fatal(err)
	}
	if got := partitions(t, url); got[monthName(first)] != 1 || got["audit_default"] != 1 {
		t.Errorf("the first moment of the month and the one before it are in %v", got)
	}
}

func TestPartitionsAreMadeWhileOthersWriteAndMake(t *testing.T) {
	url := migrated(t)
	now := month(time.Now(), auditMonths+20).Add(time.Hour)
	st := openAt(t, url, func() time.Time { return now })
	other := openAt(t, url, func() time.Time { return now })
	const writes = 60
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			for n := range writes {
				if _, err := st.PutRole(t.Context(), by, tenantID(t, st), fmt.Sprintf("role-%d-%d", i, n), nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, s := range []*Store{st, other, other} {
		wg.Go(func() {
			if _, err := s.EnsureAuditPartitions(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := partitions(t, url); got[monthName(now)] != 3*writes || got["audit_default"] != 0 {
		t.Errorf("the rows are in %v, want all %d in %s", got, 3*writes, monthName(now))
	}
}

func TestPartitionsByAnAdminWhoOwnsNothing(t *testing.T) {
	url := migrated(t)
	conn := connect(t, url)
	for _, sql := range []string{
		`CREATE ROLE partition_maker`,
		`GRANT USAGE ON SCHEMA portcullis TO partition_maker`,
		`SET ROLE partition_maker`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		for _, sql := range []string{`RESET ROLE`, `DROP OWNED BY partition_maker`, `DROP ROLE partition_maker`} {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Error(err)
			}
		}
	}()
	later := month(time.Now(), 60)
	if _, err := conn.Exec(t.Context(), sqlEnsurePartitions, later, 1); err == nil {
		t.Error("everybody may make partitions, want only those who were granted it")
	}
	for _, sql := range []string{`RESET ROLE`, `GRANT EXECUTE ON FUNCTION portcullis.ensure_audit_partitions(date, integer) TO partition_maker`, `SET ROLE partition_maker`} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	var made int
	if err := conn.QueryRow(t.Context(), sqlEnsurePartitions, later, 1).Scan(&made); err != nil || made != 1 {
		t.Errorf("with the grant: made %d, error %v", made, err)
	}
	if _, err := conn.Exec(t.Context(), sqlEnsurePartitions, later, 121); err == nil {
		t.Error("121 months at once, want a refusal")
	}
}

func openAt(t *testing.T, url string, now func() time.Time) *Store {
	t.Helper()
	st, err := Open(t.Context(), Config{URL: url, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() }) // its error is nil, always
	return st
}
