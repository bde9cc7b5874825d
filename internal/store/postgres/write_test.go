package postgres

import (
	"context"
	"fmt"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

func TestADeadlockIsTriedAgain(t *testing.T) {
	url := migrated(t)
	st := openTest(t, url)
	tenant := tenantID(t, st)
	if _, _, err := st.CreateKey(t.Context(), by, store.NewKey{Tenant: tenant, Name: "ci", Digest: store.Digest{1}, Scopes: store.DefaultScopes()}); err != nil {
		t.Fatal(err)
	}
	other := connect(t, url)
	// Only who looks for a deadlock can become its victim.
	for _, sql := range []string{`SET deadlock_timeout = '1min'`, `BEGIN`, `SELECT 1 FROM portcullis.client_keys FOR UPDATE`} {
		if _, err := other.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() {
		n, _, err := st.RevokeKeys(t.Context(), by, tenant, "ci")
		if err == nil && n != 1 {
			err = fmt.Errorf("%d keys were revoked, want 1", n)
		}
		done <- err
	}()
	// It holds the revision and waits for the key; now the other way round.
	watch := connect(t, url)
	eventually(t, "the write waits for the key", func() bool {
		var waiting bool
		err := watch.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waiting)
		return err == nil && waiting
	})
	if _, err := other.Exec(t.Context(), sqlLockRevision); err != nil {
		t.Fatalf("the other one was to win: %v", err)
	}
	if _, err := other.Exec(t.Context(), `COMMIT`); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	var deadlocks int
	eventually(t, "the server counts a deadlock", func() bool {
		err := watch.QueryRow(t.Context(), `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`).Scan(&deadlocks)
		return err == nil && deadlocks > 0
	})
}

// What a write sets for its own transaction, whatever the database's defaults.
func TestSettingsOfAWrite(t *testing.T) {
	for _, c := range []struct{ configured, want string }{{"off", "on"}, {"local", "local"}, {"on", "on"}, {"remote_apply", "remote_apply"}} {
		t.Run("synchronous_commit="+c.configured, func(t *testing.T) {
			url := migrated(t)
			execSQL(t, url, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = `+c.configured+`', current_database()); END $$`)
			st := openTest(t, url)
			var commit, idle string
			_, err := st.write(t.Context(), "look", 0, by, func(tx *writeTx) (*store.Written, error) {
				err := tx.scan(`SELECT current_setting('synchronous_commit'), current_setting('idle_in_transaction_session_timeout')`, nil, &commit, &idle)
				return &store.Written{Outcome: store.OutcomeDone, Action: "LOOK"}, err
			})
			if err != nil || commit != c.want || idle != "10s" {
				t.Errorf("synchronous_commit is %s, want %s; the limit of an idle transaction is %s, want 10s; error %v", commit, c.want, idle, err)
			}
			if err := st.pool.QueryRow(t.Context(), `SELECT current_setting('synchronous_commit')`).Scan(&commit); err != nil || commit != c.configured {
				t.Errorf("afterwards the session is at %s, error %v; want %s", commit, err, c.configured)
			}
		})
	}
}

// Close ends a write that waits for another's lock.
func TestCloseEndsAWriteThatWaits(t *testing.T) {
	url := migrated(t)
	st := openTest(t, url)
	tenant := tenantID(t, st)
	other := connect(t, url)
	for _, sql := range []string{`BEGIN`, sqlLockRevision} {
		if _, err := other.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() {
		_, err := st.PutRole(context.Background(), by, tenant, "editor", nil)
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("the write did not wait: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-done:
		if err == nil {
			t.Error("the write was answered")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the write goes on")
	}
}

// Poolers that do not keep prepared statements need another mode of the driver
// (default_query_exec_mode in the URL): each does all that the store does.
func TestEveryModeOfTheDriver(t *testing.T) {
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			url := migrated(t) + "&default_query_exec_mode=" + mode
			st := openTest(t, url)
			tenant := tenantID(t, st)
			start, err := st.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			at := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
			for what, call := range map[string]func() error{
				"role": func() error { return second(st.PutRole(t.Context(), by, tenant, "editor", nil)) },
				"report": func() error {
					return st.Report(t.Context(), []store.Report{{Sidecar: "a", Kind: store.ReportUses, At: at, Uses: []store.KeyUse{{Digest: store.Digest{1}, At: at}}}})
				},
				"audit": func() error { return st.RecordAudit(t.Context(), []store.AuditEntry{{Tenant: tenant, Action: "X"}}) },
				"key": func() error {
					_, _, err := st.CreateKey(t.Context(), by, store.NewKey{Tenant: tenant, Name: "ci", Digest: store.Digest{1}, Scopes: store.DefaultScopes(), Expires: at})
					return err
				},
			} {
				if err := call(); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
			}
			for what, err := range map[string]error{
				"permission": second(st.AddPermission(t.Context(), by, tenant, "editor", "write")),
				"member":     second(st.AddMember(t.Context(), by, tenant, policy.KindUser, "alice", "editor", at)),
				"fold":       st.FoldReports(t.Context()),
				"prune":      st.PruneChanges(t.Context(), 100),
			} {
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
			}
			grant, err := st.Grant(t.Context(), tenant, policy.KindUser, "alice")
			if err != nil || len(grant.Grant) != 1 || grant.Grant[0].Expires != at.UnixNano() {
				t.Errorf("grant %+v, error %v", grant, err)
			}
			key, err := st.Key(t.Context(), store.Digest{1})
			if err != nil || key.Key == nil || !key.Key.LastUsed.Equal(at) || key.Key.Digest != (store.Digest{1}) {
				t.Errorf("key %+v, error %v", key.Key, err)
			}
			d, err := st.Delta(t.Context(), start.Revision, []store.TenantID{tenant})
			if err != nil || len(d.Changes) != 4 || len(d.Roles) != 1 || len(d.Roles[0].Roles) != 1 || len(d.Roles[0].Roles[0].Permissions) != 1 {
				t.Errorf("delta %+v, error %v", d, err)
			}
			keys := 0
			if _, err := st.Bootstrap(t.Context(), func(store.Digest) error { keys++; return nil }); err != nil || keys != 1 {
				t.Errorf("%d keys in the base, error %v", keys, err)
			}
			if _, total, err := st.Audit(t.Context(), store.AuditQuery{Tenant: tenant, Actions: []store.Action{"add_membership"}, Limit: 10}); err != nil || total != 1 {
				t.Errorf("%d audit rows, error %v", total, err)
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }
