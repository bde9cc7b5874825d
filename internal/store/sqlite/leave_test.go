package sqlite

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

// sealedStore is a sealed store with one row in each sealed table: alice is editor,
// who may write, and has an API key.
func sealedStore(t *testing.T) (*Store, store.UserKey) {
	t.Helper()
	s := openWith(t, Config{Path: filepath.Join(t.TempDir(), "store.db"), Masters: mastersOf(t, sealing.NewMaster())})
	rotate(t, s, store.RotateEnable)
	text := "May edit"
	r, err := s.PutRole(t.Context(), cli, 1, "editor", &text)
	done(t, r, err)
	r, err = s.AddPermission(t.Context(), cli, 1, "editor", "write")
	done(t, r, err)
	r, err = s.AddMember(t.Context(), cli, 1, policy.KindUser, "alice", "editor", time.Time{})
	done(t, r, err)
	key, r, err := s.CreateUserKey(t.Context(), cli, store.NewUserKey{
		Tenant: 1, User: "alice", Digest: sha256.Sum256([]byte("hers")), Prefix: "rak_prefix12", Label: "laptop",
	})
	done(t, r, err)
	return s, key
}

// tamper edits the file past the store.
func tamper(t *testing.T, s *Store, statement string, want int64) {
	t.Helper()
	result, err := past(t, s).Exec(statement)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	if n, err := result.RowsAffected(); err != nil || n != want {
		t.Fatalf("%s: %d rows, %v; want %d", statement, n, err, want)
	}
}

func begin(t *testing.T, s *Store, kind store.RotationKind) {
	t.Helper()
	r, err := s.BeginRotation(t.Context(), cli, kind)
	done(t, r, err)
	r, err = s.BeginTenant(t.Context(), cli, 1)
	done(t, r, err)
}

// reseal seals tenant 1's rows anew. It must stop at the row that the error names,
// unless it may leave it.
func reseal(t *testing.T, s *Store, named string) {
	t.Helper()
	ctx := t.Context()
	_, n, _, err := s.Reseal(ctx, 1, store.ResealCursor{}, 1000, nil)
	if !errors.Is(err, store.ErrUnreadable) || !strings.Contains(err.Error(), named) || n != 0 {
		t.Fatalf("%d rows, %v; want an error that names %s, and nothing written", n, err, named)
	}
	var left []error
	_, _, ended, err := s.Reseal(ctx, 1, store.ResealCursor{}, 1000, func(err error) { left = append(left, err) })
	if err != nil || !ended || len(left) != 1 || !errors.Is(left[0], store.ErrUnreadable) || !strings.Contains(left[0].Error(), named) {
		t.Fatalf("left %v, ended %v, %v; want %s left", left, ended, err, named)
	}
	r, err := s.FinishTenant(ctx, cli, 1)
	done(t, r, err)
	rotateTenants(t, s, nil)
	r, err = s.FinishRotation(ctx, cli)
	done(t, r, err)
}

func wantUnreadable(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, store.ErrUnreadable) {
		t.Errorf("%s: %v, want one that does not open", what, err)
	}
}

// A row whose value opens and whose index is another's is no row to go on with:
// sealed anew, it would be given the index of what it holds, and so an editor of the
// file could choose who holds it.
func TestRowWithAForgedIndexIsLeft(t *testing.T) {
	for _, kind := range []store.RotationKind{store.RotateDeep, store.RotateDisable} {
		for table, statement := range map[string]string{
			"memberships.principal_id": `UPDATE memberships SET principal_index = randomblob(16)`,
			"permissions.name":         `UPDATE permissions SET name_index = randomblob(16)`,
			"user_keys.user_id":        `UPDATE user_keys SET principal_index = randomblob(16)`,
		} {
			t.Run(kind.String()+" "+table, func(t *testing.T) {
				s, key := sealedStore(t)
				tamper(t, s, statement, 1)
				begin(t, s, kind)
				reseal(t, s, table+" of row 1 does not open: its index")
				ctx := t.Context()
				switch table {
				case "memberships.principal_id":
					_, err := s.MemberList(ctx, 1, "editor")
					wantUnreadable(t, "the members", err)
					if row, err := s.Grant(ctx, 1, policy.KindUser, "alice"); err != nil || len(row.Grant) > 0 {
						t.Errorf("her grant: %v, %v; want none", row.Grant, err)
					}
				case "permissions.name":
					_, err := s.PermissionList(ctx, 1, "editor")
					wantUnreadable(t, "the permissions", err)
					if roles, err := s.Roles(ctx, 1); err != nil || len(roles.Roles) != 1 || len(roles.Roles[0].Permissions) > 0 {
						t.Errorf("the role table: %+v, %v; want the role without a permission", roles, err)
					}
				case "user_keys.user_id":
					_, err := s.UserKey(ctx, key.Digest)
					wantUnreadable(t, "the key", err)
				}
			})
		}
	}
}

// A row that was taken away and put back by other hands, while its tenant has two
// keys, is in the place of the row that came after it.
func TestRowThatWasPutBackIsLeft(t *testing.T) {
	for _, kind := range []store.RotationKind{store.RotateDeep, store.RotateDisable} {
		for _, c := range []struct{ table, named string }{
			{"memberships", "memberships.principal_id of row 1 does not open: another row"},
			{"permissions", "permissions.name of row 1 does not open: another row"},
		} {
			t.Run(kind.String()+" "+c.table, func(t *testing.T) {
				s, _ := sealedStore(t)
				ctx := t.Context()
				again := func(act func() (store.Result, error)) {
					t.Helper()
					r, err := act()
					done(t, r, err)
				}
				begin(t, s, kind)
				db := past(t, s)
				if _, err := db.Exec(`CREATE TABLE kept AS SELECT * FROM ` + c.table); err != nil {
					t.Fatal(err)
				}
				if c.table == "memberships" {
					again(func() (store.Result, error) {
						return s.RemoveMember(ctx, cli, 1, policy.KindUser, "alice", "editor")
					})
					again(func() (store.Result, error) {
						return s.AddMember(ctx, cli, 1, policy.KindUser, "alice", "editor", time.Time{})
					})
				} else {
					again(func() (store.Result, error) { return s.RemovePermission(ctx, cli, 1, "editor", "write") })
					again(func() (store.Result, error) { return s.AddPermission(ctx, cli, 1, "editor", "write") })
				}
				tamper(t, s, `INSERT INTO `+c.table+` SELECT * FROM kept`, 1)
				if _, err := db.Exec(`DROP TABLE kept`); err != nil {
					t.Fatal(err)
				}
				reseal(t, s, c.named)
				// What was given by us holds, and the other one is no second one of it.
				if row, err := s.Grant(ctx, 1, policy.KindUser, "alice"); err != nil || len(row.Grant) != 1 {
					t.Errorf("her grant: %v, %v; want the one membership", row.Grant, err)
				}
				roles, err := s.Roles(ctx, 1)
				if err != nil || len(roles.Roles) != 1 || len(roles.Roles[0].Permissions) != 1 {
					t.Errorf("the role table: %+v, %v; want the role with its permission", roles, err)
				}
				r, err := s.DeleteRole(ctx, cli, 1, "editor")
				done(t, r, err)
				var n int
				if err := db.QueryRow(`SELECT count(*) FROM ` + c.table).Scan(&n); err != nil || n > 0 {
					t.Errorf("the role is deleted, and %d rows of %s are left, %v", n, c.table, err)
				}
			})
		}
	}
}

// What did not open when everything was written in clear is no text, not then and
// not when the database is sealed again; and it can be taken away.
func TestLeftInClearIsNoText(t *testing.T) {
	s, key := sealedStore(t)
	ctx := t.Context()
	db := past(t, s)
	columns := map[string]string{"memberships": "principal_id", "permissions": "name", "roles": "description", "user_keys": "user_id", "audit": "sealed"}
	for table, column := range columns {
		where := ""
		if table == "audit" {
			where = ` WHERE id = (SELECT max(id) FROM audit WHERE tenant_id = 1)`
		}
		tamper(t, s, fmt.Sprintf(`UPDATE %[1]s SET %[2]s = substr(%[2]s, 1, length(%[2]s) - 4)%[3]s`, table, column, where), 1)
	}
	begin(t, s, store.RotateDisable)
	left := 0
	rotateTenants(t, s, func(error) { left++ })
	r, err := s.FinishRotation(ctx, cli)
	done(t, r, err)
	if left != len(columns) {
		t.Errorf("%d rows were left, want %d", left, len(columns))
	}
	check := func(when string, s *Store) {
		t.Helper()
		_, err := s.MemberList(ctx, 1, "editor")
		wantUnreadable(t, when+": the members", err)
		_, err = s.PermissionList(ctx, 1, "editor")
		wantUnreadable(t, when+": the permissions", err)
		_, err = s.RoleList(ctx, 1)
		wantUnreadable(t, when+": the roles", err)
		_, err = s.UserKey(ctx, key.Digest)
		wantUnreadable(t, when+": the key", err)
		_, _, err = s.Audit(ctx, store.AuditQuery{Tenant: 1, Limit: 500})
		wantUnreadable(t, when+": the audit", err)
		if row, err := s.Grant(ctx, 1, policy.KindUser, "alice"); err != nil || len(row.Grant) > 0 || row.KeyBackedUntil != 0 {
			t.Errorf("%s: her grant: %+v, %v; want none, and no key behind it", when, row, err)
		}
		if roles, err := s.Roles(ctx, 1); err != nil || len(roles.Roles) != 1 || len(roles.Roles[0].Permissions) > 0 {
			t.Errorf("%s: the role table: %+v, %v; want the role without a permission", when, roles, err)
		}
	}
	check("in clear", s)
	check("in clear, for a program without a master", openWith(t, Config{Path: s.cfg.Path}))
	rotate(t, s, store.RotateEnable)
	rotate(t, s, store.RotateDeep)
	check("sealed again", s)

	text := "May edit again"
	r, err = s.PutRole(ctx, cli, 1, "editor", &text)
	done(t, r, err)
	if _, err := s.RoleList(ctx, 1); err != nil {
		t.Errorf("described anew, the role does not open: %v", err)
	}
	r, err = s.RevokeUserKey(ctx, cli, 1, "alice", key.ID)
	done(t, r, err)
	r, err = s.DeleteRole(ctx, cli, 1, "editor")
	done(t, r, err)
	var n int
	if err := db.QueryRow(`SELECT (SELECT count(*) FROM memberships) + (SELECT count(*) FROM permissions) + (SELECT count(*) FROM user_keys WHERE revoked_at IS NULL)`).Scan(&n); err != nil || n > 0 {
		t.Errorf("%d rows are left, %v", n, err)
	}
}
