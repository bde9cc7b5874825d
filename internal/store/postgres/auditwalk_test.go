package postgres

import (
	"fmt"
	"testing"

	"portcullis/internal/chain"
	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

// TestRowsThatShareAnIdAreAllWalked: the table's key is (id, at), so that another hand can
// write a row with the id of one that is there. At the end of a page that is read it must
// not be passed over.
func TestRowsThatShareAnIdAreAllWalked(t *testing.T) {
	masters, err := sealing.ParseMasters(sealing.NewMaster())
	if err != nil {
		t.Fatal(err)
	}
	url := migrated(t)
	st, err := Open(t.Context(), Config{URL: url, AuditKeys: masters})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, st)
	if _, err := st.StartChain(t.Context(), store.Actor{Name: "test"}); err != nil {
		t.Fatal(err)
	}
	const rows = 4100 // more than two pages
	entries := make([]store.AuditEntry, rows)
	for i := range entries {
		entries[i] = store.AuditEntry{Tenant: 1, Actor: "cli", Action: store.ActionGetAudit, Resource: "audit", Outcome: "done", Success: true}
	}
	if err := st.RecordAudit(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
	verify := func() store.Verified {
		t.Helper()
		done, err := store.VerifyAudit(t.Context(), st, store.Verification{Found: func(chain.Fault) {}})
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	if done := verify(); done.Faults != 0 || done.Rows != rows+1 {
		t.Fatalf("before: %+v", done)
	}
	// One beside each row but the first, in its own month and in another: pages of an even
	// size end between two that share an id.
	for n, when := range []string{"at + interval '1 second'", "at - interval '40 years'"} {
		pastExec(t, url, fmt.Sprintf(`INSERT INTO audit (id, at, tenant_id, actor, about, action, resource, before, after, details, outcome, success, address, user_agent, request_id, revision)
			SELECT id, %s, 1, 'cli', 'mallory', 'ADD_MEMBERSHIP', 'membership/admin', '', '', '', 'done', true, '', '', '', 1 FROM audit WHERE tenant_id = 1 AND chain_number %% 2 = %d AND chain_number > 1`, when, n))
	}
	if found := pastCount(t, url, `SELECT count(*) FROM audit WHERE tenant_id = 1 AND about = 'mallory'`); found != rows-1 {
		t.Fatalf("%d rows were inserted", found)
	}
	if done := verify(); done.Faults != rows-1 || done.Rows != 2*rows {
		t.Errorf("%d faults in %d rows, want one of each of %d rows that were inserted", done.Faults, done.Rows, rows-1)
	}
}
