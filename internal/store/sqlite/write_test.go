package sqlite

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

// halfDone makes a role, and then goes wrong.
func halfDone(s *Store, wrong func() (*store.Written, error)) error {
	_, err := s.write(context.Background(), "half", store.Actor{Name: "cli"}, func(tx *writeTx) (*store.Written, error) {
		if _, err := tx.exec(tx.ctx, sqlInsertRole, nil, 1, "half", "", 0, 0); err != nil {
			return nil, err
		}
		return wrong()
	})
	return err
}

func TestAWriteThatFailsLeavesNothing(t *testing.T) {
	boom := errors.New("boom")
	s := openTest(t, filepath.Join(t.TempDir(), "store.db"))
	before := s.state(t)
	check := func(t *testing.T) {
		t.Helper()
		if after := s.state(t); after != before {
			t.Errorf("%s, was %s", after, before)
		}
	}
	t.Run("its work fails", func(t *testing.T) {
		if err := halfDone(s, func() (*store.Written, error) { return nil, boom }); !errors.Is(err, boom) {
			t.Errorf("error %v", err)
		}
		check(t)
	})
	t.Run("its audit row cannot be built", func(t *testing.T) {
		err := halfDone(s, func() (*store.Written, error) {
			return &store.Written{Outcome: store.OutcomeDone, After: func() {}}, nil
		})
		if err == nil {
			t.Error("no error")
		}
		check(t)
	})
	t.Run("it panics", func(t *testing.T) {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			_ = halfDone(s, func() (*store.Written, error) { panic("boom") })
		}()
		check(t)
	})
	putRole(t, s, "after")
	if want := "revision 2, log 2, changes 1, roles 1, audit 1"; s.state(t) != want {
		t.Errorf("%s, want %s", s.state(t), want)
	}
}

// TestAWriteThatCannotBeAuditedDoesNotHappen, and neither does one that cannot
// be logged for the sidecars.
func TestAWriteThatCannotBeAuditedDoesNotHappen(t *testing.T) {
	for _, table := range []string{"audit", "audit_chains", "change_log", "revision_log"} {
		t.Run(table, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store.db")
			keys, err := sealing.ParseMasters(sealing.NewMaster())
			if err != nil {
				t.Fatal(err)
			}
			s := openWith(t, Config{Path: path, AuditKeys: keys})
			if _, err := s.StartChain(t.Context(), store.Actor{Name: "system"}); err != nil {
				t.Fatal(err)
			}
			before := s.state(t)
			runOn(t, path, `CREATE TRIGGER refuse BEFORE INSERT ON `+table+` BEGIN SELECT RAISE(ABORT, 'refused here'); END`)
			_, err = s.PutRole(context.Background(), store.Actor{Name: "cli"}, 1, "editor", nil)
			if err == nil || !strings.Contains(err.Error(), "refused here") {
				t.Errorf("error %v", err)
			}
			if after := s.state(t); after != before {
				t.Errorf("%s, was %s", after, before)
			}
			runOn(t, path, `DROP TRIGGER refuse`)
			putRole(t, s, "editor")
		})
	}
}

// TestAnOrphanIsAnError: links of a role that is not there are never taken for
// another's.
func TestAnOrphanIsAnError(t *testing.T) {
	for _, orphan := range []string{
		`INSERT INTO permissions (tenant_id, role_id, name) VALUES (1, 99, 'write')`,
		`INSERT INTO role_parents (tenant_id, role_id, parent_id) VALUES (1, 99, 1)`,
	} {
		path := filepath.Join(t.TempDir(), "store.db")
		s := openTest(t, path)
		putRole(t, s, "viewer")
		runOn(t, path, orphan) // foreign keys are off on a plain connection
		if table, err := s.Roles(context.Background(), 1); err == nil || !strings.Contains(err.Error(), "role 99 has") {
			t.Errorf("after %s: %+v, error %v", orphan, table, err)
		}
	}
}
